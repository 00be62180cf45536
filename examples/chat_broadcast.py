"""A chat: what one says, all hear, and whoever does not listen is cut off."""

from contextlib import suppress

import trio

from trio_ws import ConnectionClosed, WebSocketConnection, WebSocketRequest, WebSocketServer, serve_websocket


async def tell(ws: WebSocketConnection, message: str | bytes) -> None:
    with trio.move_on_after(5) as patience, suppress(ConnectionClosed):
        await ws.send_message(message)
    if patience.cancelled_caught:
        ws.terminate()


async def main() -> None:
    async def chat(request: WebSocketRequest) -> None:
        ws = await request.accept()
        async for message in ws:
            async with trio.open_nursery() as telling:
                for listener in server.connections:
                    telling.start_soon(tell, listener, message)

    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(serve_websocket, chat, "127.0.0.1", 8765, None)


if __name__ == "__main__":
    trio.run(main)
