"""Servers that send each message to all, one for each process: python broadcast_servers.py NAME PORT.

Each is what the documentation of its library shows, with that library's defaults and without compression.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable

HOST = "127.0.0.1"


def run_trio_ws(port: int) -> None:
    import trio

    from trio_ws import WebSocketRequest, WebSocketServer, broadcast, serve_websocket

    async def main() -> None:
        async def handler(request: WebSocketRequest) -> None:
            ws = await request.accept()
            async for message in ws:
                await broadcast(server.connections, message)

        async with trio.open_nursery() as nursery:
            server: WebSocketServer = await nursery.start(serve_websocket, handler, HOST, port, None)

    trio.run(main)


def run_websockets_trio(port: int) -> None:
    import trio
    from websockets.trio.server import Server, ServerConnection, broadcast, serve

    async def main() -> None:
        async def handler(ws: ServerConnection) -> None:
            async for message in ws:
                await broadcast(server.connections, message)

        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(
                lambda **status: serve(handler, port, host=HOST, compression=None, **status)
            )

    trio.run(main)


def run_websockets(port: int) -> None:
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    async def main() -> None:
        async def handler(ws: ServerConnection) -> None:
            async for message in ws:
                broadcast(server.connections, message)

        async with serve(handler, HOST, port, compression=None) as server:
            await server.serve_forever()

    asyncio.run(main())


SERVERS: dict[str, Callable[[int], None]] = {
    "trio_ws": run_trio_ws,
    "websockets": run_websockets,
    "websockets_trio": run_websockets_trio,
}


def main(name: str, port: str, *_: str) -> None:
    """Serve until the process is ended."""
    logging.basicConfig(level=logging.WARNING)
    SERVERS[name](int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
