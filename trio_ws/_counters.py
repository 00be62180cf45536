"""What a server counts, who gets no connection and what went over those that are over; knows nothing of listeners."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ._facts import link_of
from ._observer import Observer, tell
from ._statistics import ServerStatistics, Sums

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._connection import WebSocketConnection

#: Why handshakes come to nothing, each in one word.
REFUSALS = {
    "answered": "`process_request` has answered",
    "bad_request": "the request is not valid HTTP, or none for a WebSocket that can be read: 400, 414, 431 or 505",
    "client_gone": "the client has gone before it was answered",
    "failed": "the connection could not be made, for want of descriptors or as its nursery takes no more",
    "handler_failed": "the handler raised an exception before it had answered: 500",
    "hook_failed": "`process_request`, `process_response` or `on_handshake_error` raised an exception: 500",
    "max_connections": "there were as many, or the client was slow to ask and had to make room for another: 503",
    "max_connections_per_peer": "its peer had as many: 503",
    "not_websocket": "the request asks for no WebSocket, or for a version that is not spoken: 405 or 426",
    "origin": "pages of that origin may not connect: 403",
    "path": "another path is served: 404",
    "proxy_protocol": "there was no header of the PROXY protocol",
    "rejected": "the handler has rejected the request",
    "shutdown": "the server was ending: 503",
    "timeout": "the request did not come, or its answer was not taken, within `connect_timeout`",
    "tls_failed": "TLS could not be started",
    "unanswered": "the handler returned without an answer: 500",
}


class Counters(Observer):
    """The counts of one server, which observes its own connections, and tells its user's observer.

    Args:
        observer: the user's.

    Attributes:
        handler_failures: handlers that raised an exception.
    """

    def __init__(self, observer: Observer | None) -> None:
        self.handler_failures = 0
        self._observer = observer or Observer()
        self._accepted = 0
        self._refusals: Counter[str] = Counter()
        self._closes: Counter[int] = Counter()
        self._rate_closes: Counter[str] = Counter()
        self._over = Sums()  # of connections that are over

    def connection_opened(self, connection: WebSocketConnection) -> None:
        """Count it."""
        self._accepted += 1
        tell(self._observer.connection_opened, connection)

    def connection_closed(self, connection: WebSocketConnection) -> None:
        """Count its end, and what went over it."""
        link = link_of(connection)
        self._closes[link.code] += 1
        self._over.add(link)
        tell(self._observer.connection_closed, connection)

    def refuse(self, reason: str) -> None:
        """Count a client that gets no connection."""
        self._refusals[reason] += 1
        tell(self._observer.handshake_refused, reason)

    def close_for_rate(self, limit: str) -> None:
        """Count a connection that fails because its peer has passed a limit; its end is counted besides."""
        self._rate_closes[limit] += 1

    def statistics(self, connections: Iterable[WebSocketConnection], handshakes: int) -> ServerStatistics:
        """Return all figures.

        Args:
            connections: those that are not over.
            handshakes: clients that have neither a connection nor a refusal yet.
        """
        sums = self._over.copy()
        for connection in connections:
            sums.add(link_of(connection))
        return ServerStatistics(
            **sums.figures(),
            connections=self._accepted - self._closes.total(),
            accepted=self._accepted,
            handshakes=handshakes,
            refusals=dict(self._refusals),
            closes=dict(self._closes),
            rate_closes=dict(self._rate_closes),
            handler_failures=self.handler_failures,
        )
