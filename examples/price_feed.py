"""A price feed: whoever is slow gets the latest price of each share, and none of those before it."""

import json
import random

import trio

from trio_ws import Latest, WebSocketRequest, WebSocketServer, broadcast, serve_websocket


async def listen(request: WebSocketRequest) -> None:
    ws = await request.accept()
    await ws.wait_closed()


async def main() -> None:
    prices = {"ACME": 100.0, "INIT": 50.0}
    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(serve_websocket, listen, "127.0.0.1", 8765, None)
        while True:
            for name, price in prices.items():
                prices[name] = price + random.uniform(-1, 1)
                message = json.dumps({"name": name, "price": prices[name]})
                await broadcast(server.connections, message, policy=Latest(name))
            await trio.sleep(1)


if __name__ == "__main__":
    trio.run(main)
