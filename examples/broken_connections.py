"""A server and a client that find out when the other side is gone.

`python broken_connections.py` serves, `python broken_connections.py URL` connects. Two numbers behind it are seconds: of
silence until a ping is sent, and without a sign of life after it.
"""

import sys

import trio

from trio_ws import ConnectionLost, WebSocketConnection, WebSocketRequest, open_websocket_url, serve_websocket


async def receive(ws: WebSocketConnection) -> None:
    try:
        async for message in ws:
            print(message)
    except ConnectionLost as exc:
        print(f"{ws} has lost its peer: {exc.__cause__}")


async def handler(request: WebSocketRequest) -> None:
    await receive(await request.accept())


async def serve(ping_interval: float = 10, ping_timeout: float = 5) -> None:
    await serve_websocket(
        handler, "127.0.0.1", 8765, None, ping_interval=ping_interval, ping_timeout=ping_timeout
    )


async def connect(url: str, ping_interval: float = 10, ping_timeout: float = 5) -> None:
    async with open_websocket_url(url, ping_interval=ping_interval, ping_timeout=ping_timeout) as ws:
        await receive(ws)


async def main(*arguments: str) -> None:
    if arguments and "://" in arguments[0]:
        await connect(arguments[0], *map(float, arguments[1:]))
    else:
        await serve(*map(float, arguments))


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
