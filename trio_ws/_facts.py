"""What can be asked of a connection: whom it joins, what was agreed on, how it stands; knows nothing of messages."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from ._endpoint import Endpoint
from ._statistics import statistics_of
from .protocol import CloseReason, Headers, Phase, Request, Response, Role, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._link import Link
    from ._statistics import ConnectionStatistics
    from .protocol import Extension


class ConnectionFacts:
    """The facts about a connection, all of which can be asked at any time, also when it is over."""

    __slots__ = ("_addresses", "_link", "path", "request", "response", "url")

    #: The path and query that was asked for, such as ``/chat?room=1``.
    path: str
    #: The URL that was connected to; on a server the one that was asked for.
    url: str
    #: The client's request; on the server only.
    request: Request | None
    #: The server's answer to it; on the client only.
    response: Response | None

    _addresses: tuple[Endpoint | str, Endpoint | str]
    _link: Link

    @property
    def state(self) -> State:
        """`State.OPEN`, `State.CLOSING` or `State.CLOSED`, numbered as a browser's ``readyState``."""
        return self._link.protocol.state

    @property
    def closed(self) -> CloseReason | None:
        """None while messages can be sent, else why not: the peer's close frame, ours, or 1006 for a broken connection."""
        return self._link.closed

    @property
    def close_code(self) -> int | None:
        """The code of `closed`: the peer's, ours while it is unanswered, 1006 for a broken connection; None while open."""
        reason = self._link.closed
        return None if reason is None else reason.code

    @property
    def close_reason(self) -> str | None:
        """The text that came with `close_code`, empty where there was none; None while the connection is open."""
        reason = self._link.closed
        return None if reason is None else reason.reason or ""

    @property
    def close_was_clean(self) -> bool:
        """Whether both sides have sent their close frames, whatever they say: a browser's ``wasClean``."""
        protocol = self._link.protocol
        return protocol.close_received is not None and protocol.close_sent is not None

    @property
    def timed_out(self) -> bool:
        """Whether the connection was cut because the peer left our close frame unanswered."""
        return self._link.timed_out

    @property
    def is_client(self) -> bool:
        """Whether this is the client's side."""
        return self._link.protocol.role is Role.CLIENT

    @property
    def is_server(self) -> bool:
        """Whether this is the server's side."""
        return self._link.protocol.role is Role.SERVER

    @property
    def local(self) -> Endpoint | str:
        """This end: an `Endpoint`, the path of a Unix socket, or the `repr` of a stream that is neither."""
        return self._addresses[0]

    @property
    def remote(self) -> Endpoint | str:
        """The peer's end, in the same forms as `local`; empty for a peer without a name.

        Behind a proxy it is the proxy's.
        """
        return self._addresses[1]

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol agreed on, or None."""
        return self._link.protocol.subprotocol

    @property
    def extensions(self) -> tuple[Extension, ...]:
        """The extensions agreed on."""
        return self._link.protocol.extensions

    @property
    def handshake_headers(self) -> Headers:
        """The peer's handshake headers, without those that every handshake has."""
        message = self.request or self.response
        headers = message.headers if message else ()
        return Headers(pair for pair in headers if pair[0] not in HANDSHAKE_HEADERS)

    @property
    def latency(self) -> float | None:
        """The last round-trip time in seconds, measured by a ping, or None before the first pong."""
        return self._link.pings.latency

    @property
    def buffered_amount(self) -> int:
        """Bytes sent, frame headers included, that the kernel has not accepted yet."""
        return self._link.transport.buffered

    def statistics(self) -> ConnectionStatistics:
        """Return what went over the connection so far, or in all."""
        return statistics_of(self._link)

    def __str__(self) -> str:
        return str(self._link)

    def __repr__(self) -> str:
        link = self._link
        parts = [str(self), self.url, self.state.name]
        if link.protocol.phase is Phase.ANSWERING:
            parts.append("peer has ended its side")
        if self.closed is not None:
            parts.append(repr(self.closed))
        if self.subprotocol is not None:
            parts.append(f"subprotocol={self.subprotocol}")
        parts.append(f"remote={self.remote.url if isinstance(self.remote, Endpoint) else self.remote}")
        parts.append(f"queued={link.inbox.messages} buffered={self.buffered_amount}")
        if self.latency is not None:
            parts.append(f"latency={self.latency * 1000:.1f}ms")
        return f"<{type(self).__name__} {' '.join(parts)}>"


#: What goes past the connection's face; this is quicker than any method, and a broadcast does it thousands of times.
link_of: Callable[[ConnectionFacts], Link] = attrgetter("_link")

#: Header fields that are part of every handshake, and so say nothing about this one.
HANDSHAKE_HEADERS = frozenset(
    {b"connection", b"upgrade", b"host"}
    | {b"sec-websocket-" + name for name in (b"accept", b"extensions", b"key", b"protocol", b"version")}
)
