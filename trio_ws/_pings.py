"""Pings: those that tasks wait for, and those that find out whether the peer lives; knows nothing of the link's state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .protocol import Liveness, PingLedger, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._config import Config
    from .protocol import Latencies, Protocol
    from .transport import Transport

#: Seconds between two looks at a peer for which bytes wait in the transport, as a ping itself may for a moment.
GLANCE = 1.0


class PingWaiter:
    """A task that waits for a pong: `event` is set when it has come, with `rtt`, or when it never will."""

    __slots__ = ("event", "rtt")

    def __init__(self) -> None:
        self.event = trio.Event()
        self.rtt: float | None = None


class Pings:
    """What was asked, who wants to know, and since when the peer can be heard.

    Args:
        config: `ping_interval` and `ping_timeout` are kept here.
        token: returns four unpredictable bytes, for pings whose payload nobody chose.
    """

    __slots__ = ("_keepalive", "_ledger", "_liveness", "_waiters", "resumed", "token")

    def __init__(self, config: Config, token: Callable[[], bytes]) -> None:
        self.token = token
        self.resumed = trio.current_time()
        self._ledger = PingLedger()
        self._liveness = Liveness(config.ping_interval, config.ping_timeout, self.resumed)
        self._waiters: dict[bytes, PingWaiter] = {}
        self._keepalive = b""

    def __contains__(self, payload: bytes) -> bool:
        return payload in self._ledger

    @property
    def latency(self) -> float | None:
        """The last round-trip time in seconds."""
        return self._ledger.latency

    @property
    def latencies(self) -> Latencies | None:
        """All of them, or None before the first."""
        return self._ledger.latencies

    @property
    def awaited(self) -> bool:
        """Whether a task waits for a pong."""
        return bool(self._waiters)

    def wait(self, payload: bytes) -> PingWaiter:
        """Enter a ping that a task is going to wait for."""
        waiter = self._waiters[payload] = PingWaiter()
        self._ledger.sent(payload, trio.current_time())
        return waiter

    def watch(self, protocol: Protocol, transport: Transport, reading: bool) -> float | None:
        """Apply the rules of liveness, sending a ping if one is due; return when to watch again, None for a dead peer."""
        now = trio.current_time()
        heard = max(transport.heard, self.resumed)
        verdict, when = self._liveness.poll(now, heard, reading, transport.accepted, transport.buffered)
        if verdict is Verdict.DEAD:
            return None
        if verdict is Verdict.PING:
            self._ledger.forget(self._keepalive)  # one of our own accord is kept at most
            self._keepalive = self.token()
            self._ledger.sent(self._keepalive, now)
            transport.write(protocol.send_ping(self._keepalive))
            when = self._liveness.pinged(now, transport.accepted, transport.buffered)
        # progress is dated when it is seen: while bytes wait, looking often keeps the verdict from coming late
        return min(when, now + GLANCE) if transport.buffered else when

    def forget(self, payload: bytes, waiter: PingWaiter) -> None:
        """Wait no more for the pong to a ping; another ping with its payload may be on its way by now."""
        if self._waiters.get(payload) is waiter:
            del self._waiters[payload]
            self._ledger.forget(payload)

    def answered(self, payload: bytes) -> None:
        """Wake those whose ping a pong settles."""
        for settled, rtt in self._ledger.answered(payload, trio.current_time()).items():
            if waiter := self._waiters.pop(settled, None):
                waiter.rtt = rtt
                waiter.event.set()

    def end(self) -> None:
        """Wake everyone: no pong will come any more."""
        for waiter in self._waiters.values():
            waiter.event.set()
        self._waiters.clear()
