"""A server that asks who a client is before it becomes a WebSocket: `process_request` may wait, as for a database."""

import trio

from trio_ws import Request, Response, WebSocketRequest, serve_websocket

USERS = {"Bearer 5eed": "ann", "Bearer f00d": "bob"}  # in earnest: a database, or another service


async def look_up(token: str | None) -> str | None:
    await trio.sleep(0.01)
    return USERS.get(token or "")


async def authenticate(request: Request) -> Response | None:
    user = await look_up(request.headers.get("authorization"))
    if user is None:
        return Response(401, {"WWW-Authenticate": "Bearer"}, "Who are you?\n")
    request.context["user"] = user
    return None


async def greet(request: WebSocketRequest) -> None:
    ws = await request.accept()
    await ws.send_message(f"hello {request.request.context['user']}")


async def main() -> None:
    await serve_websocket(greet, "127.0.0.1", 8765, None, process_request=authenticate)


if __name__ == "__main__":
    trio.run(main)
