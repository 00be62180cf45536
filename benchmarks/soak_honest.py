"""The honest clients of a long run: python soak_honest.py OPTIONS; they keep account of every message and its echo."""

from __future__ import annotations

import json
import math
import os
import random
import sys
import time
from collections import deque
from dataclasses import dataclass, field

import trio

from trio_ws import ConnectionClosed, HandshakeError, WebSocketConnection, open_websocket

#: Bytes of a message, by logarithm; one in a hundred is as large as a message may be by default.
SMALLEST, LARGEST, ALLOWED = 16, 65536, 2**20

#: Messages that a client sends before it waits for echoes, and on one connection.
DEPTH, LIFE = 8, 200

#: Seconds after which an echo that does not come counts as lost.
PATIENCE = 60.0


@dataclass(slots=True)
class Ledger:
    """The account of all messages."""

    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    changed: int = 0
    broken: int = 0
    connections: int = 0
    latencies: list[float] = field(default_factory=list[float])

    def check(self, sent: deque[tuple[str | bytes, float]], seen: set[bytes], echo: str | bytes) -> None:
        """Compare an echo with what was sent first and has none yet.

        Args:
            sent: messages without echo, with their times.
            seen: the heads of those that have one.
            echo: what came.
        """
        message, when = sent[0] if sent else (b"", 0.0)
        head = head_of(echo)
        if sent and echo == message:
            sent.popleft()
            seen.add(head)
            self.delivered += 1
            self.latencies.append(time.perf_counter() - when)
        elif head in seen:
            self.duplicated += 1
        else:
            self.changed += 1

    def report(self) -> dict[str, float]:
        """Return the account; latencies in milliseconds."""
        ranked = sorted(self.latencies) or [math.nan]
        shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}
        found = {
            f"latency_{name}_ms": round(ranked[min(int(share * len(ranked)), len(ranked) - 1)] * 1e3, 2)
            for name, share in shares.items()
        }
        names = ("connections", "delivered", "lost", "duplicated", "changed", "broken")
        return {f"{name}": getattr(self, name) for name in names} | found


def head_of(message: str | bytes) -> bytes:
    """Return what there is only once of a message."""
    return (message.encode() if isinstance(message, str) else message)[:SMALLEST]


class Client:
    """One honest client."""

    def __init__(self, ledger: Ledger, chance: random.Random, rate: float) -> None:
        self._ledger = ledger
        self._chance = chance
        self._rate = rate
        self._number = 0

    def make_message(self) -> str | bytes:
        """Return a message that there is only once."""
        chance = self._chance
        size = int(SMALLEST * (LARGEST / SMALLEST) ** chance.random())
        if chance.random() < 0.01:
            size = ALLOWED
        self._number += 1
        head = f"{id(self) % 2**24:06x}{self._number:010x}"
        if chance.random() < 0.5:
            return head.encode() + os.urandom(size - SMALLEST)
        return head + "tell me, " * ((size - SMALLEST) // 9)

    async def converse(self, port: int, until: float) -> None:
        """Open a connection, use it for a while, and close it in order."""
        sent: deque[tuple[str | bytes, float]] = deque()
        try:
            async with open_websocket("127.0.0.1", port, "/", use_ssl=False, connect_timeout=30) as ws:
                self._ledger.connections += 1
                await self._exchange(ws, sent, until)
        except* (ConnectionClosed, HandshakeError, OSError) as group:
            self._ledger.broken += 1
            sys.stderr.write(f"an honest connection broke: {group.exceptions}\n")
        self._ledger.lost += len(sent)

    async def _exchange(
        self, ws: WebSocketConnection, sent: deque[tuple[str | bytes, float]], until: float
    ) -> None:
        seen: set[bytes] = set()
        for _ in range(self._chance.randrange(1, LIFE)):
            number = self._chance.randrange(1, DEPTH)
            async with trio.open_nursery() as nursery:
                # both at once: who sends megabytes before it reads has the other side wait for it
                nursery.start_soon(self._send, ws, sent, number)
                with trio.move_on_after(PATIENCE):
                    for _ in range(number):
                        self._ledger.check(sent, seen, await ws.get_message())
                nursery.cancel_scope.cancel()
            with trio.move_on_at(until):
                await trio.sleep(self._chance.expovariate(self._rate / DEPTH))
            if sent or trio.current_time() >= until:
                return

    async def _send(
        self, ws: WebSocketConnection, sent: deque[tuple[str | bytes, float]], number: int
    ) -> None:
        for _ in range(number):
            message = self.make_message()
            sent.append((message, time.perf_counter()))
            await ws.send_message(message)

    async def live(self, port: int, until: float) -> None:
        """Come and go until the time is over."""
        await trio.sleep(self._chance.random())  # not all at once
        while trio.current_time() < until:
            await self.converse(port, until)


async def main() -> None:
    """Run all clients, and print their account."""
    options = json.loads(sys.argv[1])
    ledger = Ledger()
    until = trio.current_time() + options["seconds"]
    async with trio.open_nursery() as nursery:
        for number in range(options["clients"]):
            client = Client(ledger, random.Random(f"{options['seed']}-{number}"), options["rate"])
            nursery.start_soon(client.live, options["port"], until)
    sys.stdout.write(f"{json.dumps(ledger.report())}\n")


if __name__ == "__main__":
    trio.run(main)
