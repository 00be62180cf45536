"""A server with rooms, each at a path of its own, and a page for load balancers on the same port."""

from collections import defaultdict

import trio

from trio_ws import (
    Headers,
    Request,
    Response,
    Router,
    WebSocketConnection,
    WebSocketRequest,
    serve_websocket,
)

router = Router()
rooms: dict[str, set[WebSocketConnection]] = defaultdict(set)


@router.websocket("/chat/{room}")
async def chat(request: WebSocketRequest, room: str) -> None:
    ws = await request.accept()
    rooms[room].add(ws)
    try:
        async for message in ws:
            for member in rooms[room].copy():
                await member.send_message(message)
    finally:
        rooms[room].discard(ws)


@router.http("/health")
async def health(_request: Request) -> Response:
    return Response(200, Headers([(b"content-type", b"text/plain")]), b"fine\n")


async def main() -> None:
    await serve_websocket(router.handle, "127.0.0.1", 8765, None, process_request=router.process_request)


if __name__ == "__main__":
    trio.run(main)
