"""Whether the peer still lives: pings in flight, round-trip times and deadlines; reads no clock, time is an argument.

Two rules, each with a deadline that only progress can move:

* *Silence.* After `interval` seconds in which nothing was received, a ping is due. From then on the peer must be heard
  within `timeout` seconds, counted from the moment the kernel had taken the ping; before that, each step of the queue
  in front of it counts as progress, so a ping behind megabytes on a slow line condemns nobody.
* *Stall.* Bytes that wait to be taken by the kernel must move within `interval + timeout` seconds. A peer that talks and
  never reads falls under this rule.

While this side does not read, because its application is slow, the first rule rests: what the peer said may well lie
in the kernel, unread.

Heard is who completes something: a message, a control frame. The parts of a message that is not complete count too, so
that a large one may come over a slow line, which leaves no way for a pong; but only if they come at `TRICKLE` bytes a
second. Who sends a byte now and then holds a connection and lets nobody know whether anything lives behind it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from enum import Enum, auto
from typing import Protocol

from ._latencies import Latencies

#: Bytes a second that make parts of an incomplete message a sign of life. Kestrel asks for 240 of a request's body,
#: Apache's mod_reqtimeout for 500; a line that carries less carries no pong in time either.
TRICKLE = 256


class Verdict(Enum):
    """What is to be done about the peer now."""

    NOTHING = auto()
    PING = auto()
    DEAD = auto()


class Outgoing(Protocol):
    """What is known of the bytes that this side sends.

    Attributes:
        accepted: those that the kernel has taken so far.
        buffered: those that it has not taken yet.
        moved: when it has last taken some of those that wait, or they began to wait.
    """

    accepted: int
    buffered: int
    moved: float


class Liveness:
    """The two rules. `poll` is called at the time it returned before; earlier or later does no harm.

    Args:
        interval: seconds of silence before a ping; None switches both rules off.
        timeout: seconds without progress after it; None pings and condemns nobody.
    """

    __slots__ = (
        "_accepted",
        "_due",
        "_interval",
        "_partial",
        "_ping_end",
        "_pinged",
        "_timeout",
        "since",
    )

    def __init__(self, interval: float | None, timeout: float | None) -> None:
        self._interval = math.inf if interval is None else interval
        self._timeout = math.inf if timeout is None else timeout
        self._accepted = 0
        self._pinged = math.inf  # when the ping was sent whose answer is awaited; inf when none is
        self._ping_end = 0  # what `accepted` must reach for that ping to have left
        self._due = math.inf  # when the peer must have been heard after it
        #: While nothing but parts of a message comes: since when they have been too few to be a sign of life.
        self.since = math.inf
        self._partial = 0  # their bytes since then

    def part(self, now: float, size: int, resumed: float) -> None:
        """Take note of bytes that have completed nothing; `resumed` is when this side has last begun to read."""
        self._partial += size
        if self.since == math.inf or self._partial >= TRICKLE * (now - max(self.since, resumed)):
            self.since, self._partial = now, 0

    def whole(self) -> None:
        """Take note that something is complete: all that was heard counts."""
        self.since, self._partial = math.inf, 0

    def poll(self, now: float, heard: float, reading: bool, out: Outgoing) -> tuple[Verdict, float]:
        """Apply the rules and say what to do, and when to ask again; after `PING`, `pinged` says when.

        Args:
            now: the present time.
            heard: when the peer has last shown that it lives, or reading was last resumed.
            reading: whether this side reads at present.
            out: how sending goes.
        """
        if out.accepted != self._accepted:
            if self._accepted < self._ping_end:
                self._due = out.moved + self._timeout
            self._accepted = out.accepted
        stalled = self._stalled(out)
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
        return (Verdict.NOTHING, min(silent, stalled)) if now < silent else self._ask(now, out)

    def _ask(self, now: float, out: Outgoing) -> tuple[Verdict, float]:
        """Have a ping sent, unless one waits to be sent already."""
        if out.accepted < self._ping_end:
            # the last one has not left yet and will do: who reads a byte now and then gathers no queue of them
            self._pinged, self._due = now, now + self._timeout
            return Verdict.NOTHING, min(now + self._interval, self._due, self._stalled(out))
        return Verdict.PING, now

    def pinged(self, now: float, out: Outgoing) -> float:
        """Take note that a ping is now the last of what waits to be sent; return when to poll."""
        self._pinged = now
        self._accepted, self._ping_end = out.accepted, out.accepted + out.buffered
        self._due = now + self._timeout
        return min(now + self._interval, self._due, self._stalled(out))

    def _stalled(self, out: Outgoing) -> float:
        """Return when what waits will have waited for too long."""
        return out.moved + self._interval + self._timeout if out.buffered else math.inf


class PingLedger:
    """Pings in flight, oldest first, and round-trip times. Holds what this side sent, never what a peer sends.

    Attributes:
        latencies: one for each pong that answers a ping; None before the first.
    """

    __slots__ = ("_sent", "latencies")

    def __init__(self) -> None:
        self._sent: OrderedDict[bytes, float] = OrderedDict()  # a plain one is slow to find its first entry
        self.latencies: Latencies | None = None

    @property
    def latency(self) -> float | None:
        """The last round-trip time in seconds."""
        return None if self.latencies is None else self.latencies.last

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
        self.latencies = self.latencies or Latencies()
        self.latencies.add(settled[payload])
        self._shrink()
        return settled

    def _shrink(self) -> None:
        if not self._sent:
            self._sent = OrderedDict()  # one that held something keeps the room for it
