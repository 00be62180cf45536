"""A client that sends a numpy array, and makes one of the answer without a copy: `python numpy_client.py URL`."""

import sys

import numpy
import trio

from trio_ws import open_websocket_url


async def main() -> None:
    async with open_websocket_url(sys.argv[1]) as ws:
        await ws.send_message(numpy.arange(5, dtype="<f4") / 2)
        answer = await ws.get_message()
        assert isinstance(answer, bytes)
        print(numpy.frombuffer(answer, "<f4"))


if __name__ == "__main__":
    trio.run(main)
