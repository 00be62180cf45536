"""Server and client over a Unix socket: `python unix_socket.py PATH`."""

import sys

import trio

from trio_ws import WebSocketRequest, WebSocketServer, serve_unix_websocket, wrap_client_stream


async def echo(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


async def main() -> None:
    path = sys.argv[1]
    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(serve_unix_websocket, echo, path)
        stream = await trio.open_unix_socket(path)
        async with await wrap_client_stream(nursery, stream, "localhost", "/") as ws:
            await ws.send_message("hello")
            print(await ws.get_message())
        await server.aclose()


if __name__ == "__main__":
    trio.run(main)
