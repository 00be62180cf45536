"""Send a file of any size as one message, a piece at a time on both sides: `python pieces.py FILE COPY`."""

import math
import sys
from collections.abc import AsyncIterator
from functools import partial

import trio

from trio_ws import WebSocketRequest, WebSocketServer, open_websocket_url, serve_websocket


async def save(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async with await trio.open_file(sys.argv[2], "wb") as copy, ws.receive_stream() as pieces:
        async for piece in pieces:
            await copy.write(piece.encode() if isinstance(piece, str) else piece)
    await ws.send_message("saved")


async def read(path: str) -> AsyncIterator[bytes]:
    async with await trio.open_file(path, "rb") as file:
        while piece := await file.read(65536):
            yield piece


async def main() -> None:
    async with trio.open_nursery() as nursery:
        serve = partial(serve_websocket, max_message_size=math.inf)
        server: WebSocketServer = await nursery.start(serve, save, "127.0.0.1", 0, None)
        async with open_websocket_url(f"ws://127.0.0.1:{server.port}/") as ws:
            await ws.send_stream(read(sys.argv[1]))
            print(await ws.get_message())
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
