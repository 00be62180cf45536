"""Pings in flight and the tasks that wait for their pongs; knows nothing of how a ping is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .protocol import PingLedger

if TYPE_CHECKING:
    from collections.abc import Callable


class PingWaiter:
    """A task that waits for a pong: `event` is set when it has come, with `rtt`, or when it never will."""

    __slots__ = ("event", "rtt")

    def __init__(self) -> None:
        self.event = trio.Event()
        self.rtt: float | None = None


class Pings:
    """What was asked, and who wants to know.

    Args:
        token: returns four unpredictable bytes, for pings whose payload nobody chose.
    """

    __slots__ = ("_keepalive", "_ledger", "_waiters", "token")

    def __init__(self, token: Callable[[], bytes]) -> None:
        self.token = token
        self._ledger = PingLedger()
        self._waiters: dict[bytes, PingWaiter] = {}
        self._keepalive = b""

    def __contains__(self, payload: bytes) -> bool:
        return payload in self._ledger

    @property
    def latency(self) -> float | None:
        """The last round-trip time in seconds."""
        return self._ledger.latency

    @property
    def awaited(self) -> bool:
        """Whether a task waits for a pong."""
        return bool(self._waiters)

    def wait(self, payload: bytes, now: float) -> PingWaiter:
        """Enter a ping that a task is going to wait for."""
        waiter = self._waiters[payload] = PingWaiter()
        self._ledger.sent(payload, now)
        return waiter

    def keepalive(self, now: float) -> bytes:
        """Enter a ping of our own accord and return its payload; the one before is given up, so one at most is kept."""
        self._ledger.forget(self._keepalive)
        self._keepalive = self.token()
        self._ledger.sent(self._keepalive, now)
        return self._keepalive

    def forget(self, payload: bytes) -> None:
        """Wait no more for the pong to a ping."""
        self._waiters.pop(payload, None)
        self._ledger.forget(payload)

    def answered(self, payload: bytes, now: float) -> None:
        """Wake those whose ping a pong settles."""
        for settled, rtt in self._ledger.answered(payload, now).items():
            if waiter := self._waiters.pop(settled, None):
                waiter.rtt = rtt
                waiter.event.set()

    def end(self) -> None:
        """Wake everyone: no pong will come any more."""
        for waiter in self._waiters.values():
            waiter.event.set()
        self._waiters.clear()
