"""A server that doubles numbers, and a client that asks for it: `python binary.py`, then `python binary.py URL`."""

import sys
from array import array

import trio

from trio_ws import WebSocketRequest, open_websocket_url, serve_websocket


async def scale(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        numbers = array("f", message if isinstance(message, bytes) else b"")
        await ws.send_message(array("f", [2 * number for number in numbers]))


async def ask(url: str) -> None:
    async with open_websocket_url(url) as ws:
        await ws.send_message(array("f", [1.5, 2.5]))
        answer = await ws.get_message()
        assert isinstance(answer, bytes)
        print(array("f", answer).tolist())


async def main(*urls: str) -> None:
    if urls:
        await ask(*urls)
    else:
        await serve_websocket(scale, "127.0.0.1", 8765, None)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
