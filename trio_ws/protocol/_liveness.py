"""Whether the peer still lives: pings in flight, round-trip times and deadlines; reads no clock, time is an argument.

Two rules, each with a deadline that only progress can move:

* *Silence.* After `interval` seconds in which nothing was received, a ping is due. From then on the peer must be heard
  within `timeout` seconds, counted from the moment the kernel had taken the ping; before that, each step of the queue
  in front of it counts as progress, so a ping behind megabytes on a slow line condemns nobody.
* *Stall.* Bytes that wait to be taken by the kernel must move within `interval + timeout` seconds. The queue is looked
  at once an interval, so what began to wait in between has less, but never less than `timeout`. A peer that talks and
  never reads falls under this rule.

While this side does not read, because its application is slow, the first rule rests: what the peer said may well lie
in the kernel, unread.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from enum import Enum, auto

from ._latencies import Latencies


class Verdict(Enum):
    """What is to be done about the peer now."""

    NOTHING = auto()
    PING = auto()
    DEAD = auto()


class Liveness:
    """The two rules. `poll` is called at the time it returned before; earlier or later does no harm.

    Args:
        interval: seconds of silence before a ping; None switches both rules off.
        timeout: seconds without progress after it; None pings and condemns nobody.
        now: the present time, on the clock that all later times are on.
    """

    __slots__ = ("_accepted", "_due", "_interval", "_moved", "_ping_end", "_pinged", "_timeout")

    def __init__(self, interval: float | None, timeout: float | None, now: float) -> None:
        self._interval = math.inf if interval is None else interval
        self._timeout = math.inf if timeout is None else timeout
        self._accepted = 0
        self._moved = now  # when the queue of outgoing bytes was last seen empty, or seen to have moved
        self._pinged = math.inf  # when the ping was sent whose answer is awaited; inf when none is
        self._ping_end = 0  # what `accepted` must reach for that ping to have left
        self._due = math.inf  # when the peer must have been heard after it

    def poll(
        self, now: float, heard: float, reading: bool, accepted: int, buffered: int
    ) -> tuple[Verdict, float]:
        """Apply the rules and say what to do, and when to ask again; after `PING`, `pinged` says when.

        Args:
            now: the present time.
            heard: when bytes were last received, or reading was last resumed.
            reading: whether this side reads at present.
            accepted: outgoing bytes the kernel has taken so far.
            buffered: outgoing bytes that it has not taken yet.
        """
        if accepted != self._accepted or not buffered:
            if self._accepted < self._ping_end:
                self._due = now + self._timeout
            self._accepted, self._moved = accepted, now
        stalled = self._moved + self._interval + self._timeout
        if now >= stalled:
            return Verdict.DEAD, now
        if heard >= self._pinged:
            self._pinged = math.inf
        if not reading:
            return Verdict.NOTHING, min(now + self._interval, stalled)
        if self._pinged < math.inf:
            if now >= self._due:
                return Verdict.DEAD, now
            # an answer may come at any time, and the next silence is counted from it
            return Verdict.NOTHING, min(now + self._interval, self._due, stalled)
        silent = heard + self._interval
        return (Verdict.PING, now) if now >= silent else (Verdict.NOTHING, min(silent, stalled))

    def pinged(self, now: float, accepted: int, buffered: int) -> float:
        """Take note that a ping is now the last of what waits to be sent; return when to poll."""
        self._pinged = now
        self._accepted, self._ping_end = accepted, accepted + buffered
        self._due = now + self._timeout
        return min(now + self._interval, self._due, self._moved + self._interval + self._timeout)


class PingLedger:
    """Pings in flight, oldest first, and round-trip times. Holds what this side sent, never what a peer sends.

    Attributes:
        latencies: one for each pong that answers a ping; None before the first.
        latency: the last of them, in seconds.
    """

    __slots__ = ("_sent", "latencies", "latency")

    def __init__(self) -> None:
        self._sent: OrderedDict[bytes, float] = OrderedDict()  # a plain one is slow to find its first entry
        self.latencies: Latencies | None = None
        self.latency: float | None = None

    def __contains__(self, payload: bytes) -> bool:
        return payload in self._sent

    def __len__(self) -> int:
        return len(self._sent)

    def sent(self, payload: bytes, now: float) -> None:
        """Enter a ping as it is sent."""
        self._sent[payload] = now

    def forget(self, payload: bytes) -> None:
        """Take back a ping whose answer nobody waits for any more."""
        self._sent.pop(payload, None)
        self._shrink()

    def answered(self, payload: bytes, now: float) -> dict[bytes, float]:
        """Return the round-trip times that a pong settles: its own ping and all before it (RFC 6455 5.5.3).

        A pong nobody asked for settles nothing.
        """
        if payload not in self._sent:
            return {}
        settled: dict[bytes, float] = {}
        while payload not in settled:
            oldest, sent = self._sent.popitem(last=False)
            settled[oldest] = now - sent
        self.latency = settled[payload]
        self.latencies = self.latencies or Latencies()
        self.latencies.add(self.latency)
        self._shrink()
        return settled

    def _shrink(self) -> None:
        if not self._sent:
            self._sent = OrderedDict()  # one that held something keeps the room for it
