"""What a server counts beside the traffic of its connections; knows nothing of listeners, nor of what is counted where."""

from __future__ import annotations

from collections import Counter

#: Why handshakes come to nothing, each in one word.
REFUSALS = {
    "answered": "`process_request` has answered",
    "bad_request": "the request is not valid HTTP, or none for a WebSocket that can be read: 400, 414, 431 or 505",
    "byte_rate": "no handshake, but a connection that was closed with 1008, as its peer sent more than `byte_rate` allows",
    "client_gone": "the client has gone before it was answered",
    "failed": "the connection could not be made, for want of descriptors or as its nursery takes no more",
    "handler_failed": "the handler raised an exception before it had answered: 500",
    "hook_failed": "`process_request`, `process_response` or `on_handshake_error` raised an exception: 500",
    "max_connections": "there were `max_connections` already, or it had to make room for another without having sent its"
    " request: 503, or none",
    "max_connections_per_peer": "its peer had as many as `max_connections_per_peer` already: 503",
    "message_rate": "no handshake, but a connection that was closed with 1008, as its peer sent more than `message_rate`"
    " allows",
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


class Counters:
    """The counts of one server.

    Attributes:
        refusals: handshakes that came to nothing, by reason, of which `REFUSALS` has those of the server itself.
        closes: connections that are over, by the code they were closed with.
    """

    __slots__ = ("closes", "refusals")

    def __init__(self) -> None:
        self.refusals: Counter[str] = Counter()
        self.closes: Counter[int] = Counter()

    def refuse(self, reason: str) -> None:
        """Count a client that gets no connection."""
        self.refusals[reason] += 1
