"""A chat: what one says, all hear, and the others hear who has come. Whoever does not listen is sent away."""

from functools import partial

import trio

from trio_ws import PerMessageDeflate, WebSocketRequest, WebSocketServer, broadcast, serve_websocket


async def main() -> None:
    async def chat(request: WebSocketRequest) -> None:
        ws = await request.accept()
        await broadcast(server.connections - {ws}, f"{ws.path} has come", policy="close")
        async for message in ws:
            await broadcast(server.connections, message, policy="close")

    serve = partial(serve_websocket, compression=PerMessageDeflate())
    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(serve, chat, "127.0.0.1", 8765, None)


if __name__ == "__main__":
    trio.run(main)
