import os
import sys

import trio

from trio_ws import WebSocketStream, open_websocket_url


async def send_input(stream: WebSocketStream) -> None:
    while data := await trio.to_thread.run_sync(os.read, 0, 65536, abandon_on_cancel=True):
        await stream.send_all(data)
    await stream.send_eof()


async def main() -> None:
    async with open_websocket_url(sys.argv[1]) as ws, trio.open_nursery() as nursery:
        stream = WebSocketStream(ws)
        nursery.start_soon(send_input, stream)
        async for data in stream:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
