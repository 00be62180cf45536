"""A server with rooms, each at a path of its own, and pages for load balancers and for the administrator."""

from collections import defaultdict

import trio

from trio_ws import (
    Headers,
    Request,
    Response,
    Router,
    WebSocketConnection,
    WebSocketRequest,
    basic_auth,
    serve_websocket,
)

router = Router()
admin = Router(process_request=basic_auth("administration", {"ann": "correct horse battery staple"}))
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


@admin.http("/rooms")
async def list_rooms(_request: Request) -> Response:
    listing = "".join(f"{room}: {len(members)}\n" for room, members in rooms.items())
    return Response(200, Headers([(b"content-type", b"text/plain; charset=utf-8")]), listing.encode())


router.include("/admin", admin)


async def main() -> None:
    await serve_websocket(router.handle, "127.0.0.1", 8765, None, process_request=router.process_request)


if __name__ == "__main__":
    trio.run(main)
