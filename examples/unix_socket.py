"""Server and client over a Unix socket: `python unix_socket.py PATH`."""

import sys

import trio

from trio_ws import WebSocketRequest, WebSocketServer, wrap_client_stream
from trio_ws.transport import open_unix_listener


async def echo(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


async def main() -> None:
    path = sys.argv[1]
    server = WebSocketServer(echo, [await open_unix_listener(path, mode=0o600)])
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        stream = await trio.open_unix_socket(path)
        async with await wrap_client_stream(nursery, stream, "localhost", "/") as ws:
            await ws.send_message("hello")
            print(await ws.get_message())
        await server.aclose()


if __name__ == "__main__":
    trio.run(main)
