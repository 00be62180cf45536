"""A server that knows its visitors again by a cookie."""

import secrets
from collections import Counter

import trio

from trio_ws import WebSocketRequest, serve_websocket, set_cookie

visits: Counter[str] = Counter()


async def count(request: WebSocketRequest) -> None:
    visitor = request.request.cookies.get("visitor")
    if visitor in visits:
        ws = await request.accept()
    else:
        visitor = secrets.token_urlsafe()
        # without TLS, as here, browsers take a secure cookie from localhost alone
        cookie = set_cookie("visitor", visitor, max_age=86400, same_site="strict")
        ws = await request.accept(extra_headers=[cookie])
    visits[visitor] += 1
    await ws.send_message(f"visit {visits[visitor]}")


async def main() -> None:
    await serve_websocket(count, "127.0.0.1", 8765, None)


if __name__ == "__main__":
    trio.run(main)
