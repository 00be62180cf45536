"""The figures of a connection, and the sums of those of many; knows nothing of who asks for them, and when."""

from __future__ import annotations

from dataclasses import dataclass
from operator import add
from typing import TYPE_CHECKING, Any

from .protocol import Latencies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._link import Link


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyStatistics:
    """Round-trip times, each measured by a pong that answers a ping of this side, in seconds.

    Attributes:
        count: how many were measured.
        total: their sum.
        smallest: the smallest; None, as are all that follow, if none was measured.
        largest: the largest.
        p50: what half of them do not exceed. This one and those below are off by 4.5 % at most.
        p90: what nine in ten do not exceed.
        p99: what 99 in a hundred do not exceed.
    """

    count: int
    total: float
    smallest: float | None
    largest: float | None
    p50: float | None
    p90: float | None
    p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficStatistics:
    """What went over one connection, or over many: then the sums, and of the attributes that begin with ``most`` the largest.

    All is counted from the end of the opening handshake. Sent is what was taken over from the application: more may wait
    to leave than `wire_bytes_sent` tells of. Received is what came, whether or not the application took it.

    Attributes:
        messages_sent: whole messages.
        messages_received: the same.
        bytes_sent: bytes of the messages' payload before they are compressed, text in UTF-8; also of messages that are not
            whole yet.
        bytes_received: the same, inflated.
        frames_sent: frames of all kinds: messages, fragments, pings, pongs and close frames.
        frames_received: the same; of a data frame the header has come.
        pings_sent: pings, also those that look whether the peer lives.
        pings_received: the same.
        pongs_sent: pongs.
        pongs_received: the same, whether or not a ping was waiting for them.
        wire_bytes_sent: bytes that the kernel, or the stream, has taken: frames with their headers, without what TLS and
            TCP add.
        wire_bytes_received: bytes that came.
        pauses: how often reading has paused as the queue of messages was full.
        paused_seconds: how long it has paused in all.
        most_queued_messages: the most messages that have waited in the queue for the application.
        most_queued_bytes: the most memory in bytes that the queue has taken.
        most_buffered: the most bytes that have waited to leave, when a message was sent.
        latency: round-trip times.
    """

    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int
    frames_sent: int
    frames_received: int
    pings_sent: int
    pings_received: int
    pongs_sent: int
    pongs_received: int
    wire_bytes_sent: int
    wire_bytes_received: int
    pauses: int
    paused_seconds: float
    most_queued_messages: int
    most_queued_bytes: int
    most_buffered: int
    latency: LatencyStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionStatistics(TrafficStatistics):
    """What went over a connection so far, or in all if it is over: see `TrafficStatistics`.

    Attributes:
        seconds: how long it has been open, or was.
        last_latency: the round-trip time that was measured last, in seconds, or None before the first pong.
    """

    seconds: float
    last_latency: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatistics(TrafficStatistics):
    """What a server has done: see `TrafficStatistics` for the sums over all its connections, open or over.

    Attributes:
        connections: connections that are open now, or closing.
        accepted: connections that were accepted in all.
        handshakes: clients that have no connection and no refusal yet.
        refusals: clients that got no connection, by reason, of which `statistics <../howto/statistics.html>`_ has a table.
        closes: connections that are over, by code: that of the error where the peer broke the protocol, else the peer's,
            else 1006 for a connection that broke or was cut.
        rate_closes: connections that were closed with 1008 as their peer had passed one of its rates, by the option:
            ``"message_rate"`` or ``"byte_rate"``.
        handler_failures: handlers that raised an exception.
    """

    connections: int
    accepted: int
    handshakes: int
    refusals: Mapping[str, int]
    closes: Mapping[int, int]
    rate_closes: Mapping[str, int]
    handler_failures: int


#: The figures of `TrafficStatistics` in their order: first those that are summed, then those of which the largest counts.
_SUMMED = (
    *("messages_sent", "messages_received", "bytes_sent", "bytes_received", "frames_sent", "frames_received"),
    *("pings_sent", "pings_received", "pongs_sent", "pongs_received"),
    *("wire_bytes_sent", "wire_bytes_received", "pauses", "paused_seconds"),
)
_LARGEST = ("most_queued_messages", "most_queued_bytes", "most_buffered")


class Sums:
    """The figures of any number of connections, added up."""

    __slots__ = ("_largest", "_latencies", "_summed")

    def __init__(self) -> None:
        self._summed: Sequence[float] = (0,) * len(_SUMMED)
        self._largest: Sequence[int] = (0,) * len(_LARGEST)
        self._latencies = Latencies()

    def add(self, link: Link) -> None:
        """Add a connection's, as they are now."""
        transport, inbox = link.transport, link.inbox
        summed = (
            *link.protocol.counts(),
            *(transport.accepted, link.received, link.pauses, link.paused_seconds),
        )
        largest = (inbox.most_messages, inbox.most_bytes, transport.most_buffered)
        self._add(summed, largest, link.pings.latencies)

    def copy(self) -> Sums:
        """Return the same, to be added to."""
        sums = Sums()
        sums._add(self._summed, self._largest, self._latencies)
        return sums

    def _add(self, summed: Sequence[float], largest: Sequence[int], latencies: Latencies | None) -> None:
        self._summed = tuple(map(add, self._summed, summed))
        self._largest = tuple(map(max, self._largest, largest))
        if latencies is not None:
            self._latencies.add_all(latencies)

    def figures(self) -> dict[str, Any]:
        """Return them by the names that they have in `TrafficStatistics`."""
        return {
            **dict(zip(_SUMMED, self._summed, strict=True)),
            **dict(zip(_LARGEST, self._largest, strict=True)),
            "latency": _latency(self._latencies),
        }


def statistics_of(link: Link) -> ConnectionStatistics:
    """Return the figures of one connection."""
    sums = Sums()
    sums.add(link)
    return ConnectionStatistics(**sums.figures(), seconds=link.seconds, last_latency=link.pings.latency)


def _latency(latencies: Latencies) -> LatencyStatistics:
    return LatencyStatistics(
        count=latencies.count,
        total=latencies.total,
        smallest=latencies.smallest if latencies.count else None,
        largest=latencies.largest if latencies.count else None,
        p50=latencies.quantile(0.5),
        p90=latencies.quantile(0.9),
        p99=latencies.quantile(0.99),
    )
