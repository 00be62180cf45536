"""Clients to be measured, one for each process: python client_worker.py NAME PORT SIZE DEPTH SECONDS.

A client sends a burst of DEPTH binary messages of SIZE bytes, receives their echoes, compares them with what was sent,
and does so again. It prints messages per second and the latencies of bursts as JSON; the first fifth of the time does
not count. Each library keeps its defaults, except that compression is off.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine

Send = Callable[[bytes], Awaitable[object]]
Receive = Callable[[], Awaitable[object]]


class Meter:
    """Repeats bursts until the time is over."""

    def __init__(self, size: int, depth: int, seconds: float) -> None:
        self._messages = [os.urandom(size) for _ in range(depth)]
        self._seconds = seconds
        self._latencies: list[float] = []
        self._counted = 0.0

    async def repeat(self, send: Send, receive: Receive) -> None:
        """Send and receive bursts until the time is over, and at least one after the warm-up."""
        start = time.perf_counter()
        await self._repeat_until(start + self._seconds / 5, send, receive)
        self._latencies.clear()
        begin = time.perf_counter()
        self._counted = await self._repeat_until(start + self._seconds, send, receive) - begin

    async def _repeat_until(self, end: float, send: Send, receive: Receive) -> float:
        before = time.perf_counter()
        while True:
            for message in self._messages:
                await send(message)
            if [await receive() for _ in self._messages] != self._messages:
                raise RuntimeError("other messages came back than were sent")
            now = time.perf_counter()
            self._latencies.append(now - before)
            before = now
            if now >= end:
                return now

    def report(self) -> str:
        """Return what was measured, as JSON."""
        ranked = sorted(self._latencies)
        shares = {"p50_us": 0.5, "p99_us": 0.99}
        latencies = {
            key: ranked[min(int(share * len(ranked)), len(ranked) - 1)] * 1e6 for key, share in shares.items()
        }
        rate = len(ranked) * len(self._messages) / self._counted
        return json.dumps({"messages_s": rate, **latencies})


async def run_trio_ws(url: str, meter: Meter) -> None:
    from trio_ws import open_websocket_url

    async with open_websocket_url(url, compression=None) as ws:
        await meter.repeat(ws.send_message, ws.get_message)


async def run_websockets_trio(url: str, meter: Meter) -> None:
    from websockets.trio.client import connect

    async with connect(url, compression=None, proxy=None) as ws:
        await meter.repeat(ws.send, ws.recv)


async def run_trio_websocket(url: str, meter: Meter) -> None:
    from trio_websocket import open_websocket_url

    async with open_websocket_url(url) as ws:
        await meter.repeat(ws.send_message, ws.get_message)


async def run_websockets_sync(url: str, meter: Meter) -> None:
    from websockets.sync.client import connect

    with connect(url, compression=None, proxy=None) as ws:

        async def send(message: bytes) -> None:
            ws.send(message)

        async def receive() -> object:
            return ws.recv()

        await meter.repeat(send, receive)  # nothing else is on this loop that it could hold up


async def run_websockets(url: str, meter: Meter) -> None:
    from websockets.asyncio.client import connect

    async with connect(url, compression=None, proxy=None) as ws:
        await meter.repeat(ws.send, ws.recv)


async def run_aiohttp(url: str, meter: Meter) -> None:
    from aiohttp import ClientSession

    async with ClientSession() as session, session.ws_connect(url) as ws:
        await meter.repeat(ws.send_bytes, ws.receive_bytes)


Run = Callable[[str, Meter], Coroutine[object, object, None]]
ON_TRIO: dict[str, Run] = {
    "trio_websocket": run_trio_websocket,
    "trio_ws": run_trio_ws,
    "websockets_trio": run_websockets_trio,
}
ON_ASYNCIO: dict[str, Run] = {"websockets": run_websockets, "websockets_sync": run_websockets_sync}


def main(name: str, port: str, size: str, depth: str, seconds: str) -> None:
    """Measure one client once."""
    url = f"ws://127.0.0.1:{port}/"
    meter = Meter(int(size), int(depth), float(seconds))
    if name in ON_TRIO:
        import trio

        trio.run(ON_TRIO[name], url, meter)
    elif name == "aiohttp":
        import uvloop

        uvloop.run(run_aiohttp(url, meter))
    else:
        asyncio.run(ON_ASYNCIO[name](url, meter))
    print(meter.report())


if __name__ == "__main__":
    main(*sys.argv[1:])
