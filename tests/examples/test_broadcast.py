"""The examples of broadcasting that stand in the guide to it."""

import json
import socket

import trio.testing

from tests.examples.test_examples import serving
from trio_ws import open_websocket_url


async def test_price_feed(autojump_clock: trio.testing.MockClock) -> None:
    autojump_clock.autojump_threshold = 0.05  # what the kernel moves takes real time
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    async with serving("price_feed", port), open_websocket_url(f"ws://127.0.0.1:{port}/") as ws:
        prices: dict[str, list[float]] = {"ACME": [], "INIT": []}
        for _ in range(4):
            update = json.loads(await ws.get_message())
            prices[update["name"]].append(update["price"])
        for first, second in prices.values():
            assert 0 < abs(first - second) <= 1
