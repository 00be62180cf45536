"""What the library raises to its users; knows nothing of how it comes to that.

The tree is trio-websocket's, so that handlers written for it go on working. The two ways in which a connection can be
over are also what Trio's channels raise for them, so that code written for `trio.abc.Channel` works as well.
"""

from __future__ import annotations

import trio

from .protocol import Close, CloseReason, Headers, Response


class InvalidURL(ValueError):
    """A URL is none for WebSocket, or a part of it is not possible."""


class HandshakeError(Exception):
    """The connection could not be opened. The cause, such as an `OSError`, is its ``__cause__``."""


class ConnectionTimeout(HandshakeError):
    """Opening the connection (TCP, TLS and handshake together) took longer than ``connect_timeout``."""


class DisconnectionTimeout(HandshakeError):
    """The peer did not answer the close frame within ``disconnect_timeout``; the connection was cut."""


class ConnectionRejected(HandshakeError):
    """The server answered the handshake with another status than 101.

    Attributes:
        status_code: the HTTP status.
        headers: the response's headers, names in lower case.
        body: the response's body, cut at 64 KiB, or None where there was none.
    """

    def __init__(self, status_code: int, headers: Headers, body: bytes | None) -> None:
        super().__init__(status_code, headers, body)
        self.status_code = status_code
        self.headers = headers
        self.body = body

    def __str__(self) -> str:
        return f"the server answered the handshake with status {self.status_code}"


class RedirectError(ConnectionRejected):
    """The server redirects to where the client does not go: what the `Location` says is invalid or not allowed.

    Attributes:
        response: the server's answer.
        detail: why it was not followed.
    """

    def __init__(self, response: Response, detail: str) -> None:
        super().__init__(response.status, response.headers, response.body or None)
        self.args = (response, detail)
        self.response = response
        self.detail = detail

    def __str__(self) -> str:
        return f"{ConnectionRejected.__str__(self)}, a redirect that is not followed: {self.detail}"


class TooManyRedirects(RedirectError):
    """The server redirects once more than ``max_redirects`` allows, or to where the client has been already."""


class ProxyError(HandshakeError):
    """The proxy could not be reached, refused to connect to the server, or did not speak its protocol.

    Attributes:
        status_code: the HTTP status with which it refused, 407 where it wants other credentials; None if there is none.
        headers: those of its answer, names in lower case.
        body: the answer's body, cut at 64 KiB, or None where there was none.
    """

    def __init__(
        self,
        message: str,
        status_code: int | None = None,
        headers: Headers | None = None,
        body: bytes | None = None,
    ) -> None:
        super().__init__(message, status_code, headers, body)
        self.status_code = status_code
        self.headers = Headers() if headers is None else headers
        self.body = body

    def __str__(self) -> str:
        return str(self.args[0])


class ConnectionClosed(Exception):
    """The connection is over. `ConnectionEnded` and `ConnectionLost` say in which way.

    Attributes:
        reason: code and text of the end: the peer's where it sent a close frame, else 1006.
        received: the peer's close frame as it came, or None.
        sent: our close frame as it was sent, or None.
    """

    # class attributes, so that subclasses whose __init__ sets nothing but `reason` can still be printed
    reason: CloseReason | None = None
    received: CloseReason | None = None
    sent: CloseReason | None = None

    def __init__(
        self, reason: CloseReason | None, received: CloseReason | None = None, sent: CloseReason | None = None
    ) -> None:
        super().__init__(reason, received, sent)
        self.reason = reason
        self.received = received
        self.sent = sent

    def __repr__(self) -> str:
        return f"{type(self).__name__}<{self.reason!r}>"

    def __str__(self) -> str:
        story = "without close frames"
        if self.received or self.sent:
            story = f"received {_told(self.received)}, sent {_told(self.sent)}"
        if self.__cause__ is not None:
            story += f"; {self.__cause__}"
        return f"{self.reason!r}: {story}"


class ConnectionEnded(ConnectionClosed, trio.EndOfChannel):
    """The connection was closed as it should be, with 1000, 1001 or no code: ``async for`` simply ends."""


class ConnectionLost(ConnectionClosed, trio.BrokenResourceError):
    """The connection broke, was cut, or was closed with a code that tells of an error.

    The cause, such as a `trio_ws.protocol.RemoteProtocolError` or an `OSError`, is its ``__cause__``.
    """


def connection_rejected(response: Response) -> ConnectionRejected:
    """Return what to raise for an answer other than 101."""
    return ConnectionRejected(response.status, response.headers, response.body or None)


class WorkerFailed(Exception):
    """A process of `run_workers` ended otherwise than it should; the others were stopped.

    Attributes:
        worker: its index.
        exit_code: its exit code, or minus the number of the signal that ended it.
    """

    def __init__(self, worker: int, exit_code: int) -> None:
        super().__init__(worker, exit_code)
        self.worker = worker
        self.exit_code = exit_code

    def __str__(self) -> str:
        if self.exit_code < 0:
            return f"worker {self.worker} was ended by signal {-self.exit_code}"
        return f"worker {self.worker} ended with exit code {self.exit_code}"


#: Codes that end a conversation in peace: done, going away, none given.
PEACEFUL = frozenset({1000, 1001, 1005})


def connection_closed(
    received: Close | None, sent: Close | None, cause: Exception | None
) -> ConnectionClosed:
    """Return what to raise for a connection that is over, with its cause attached."""
    told = CloseReason(received.code, received.reason or None) if received else None
    said = CloseReason(sent.code, sent.reason or None) if sent else None
    reason = told or CloseReason(1006)
    clean = reason.code in PEACEFUL and (said is None or said.code in PEACEFUL)
    error = (ConnectionEnded if clean else ConnectionLost)(reason, told, said)
    error.__cause__ = cause
    return error


def connection_closing(sent: Close) -> ConnectionClosed:
    """Return what to raise while our close frame is out and unanswered."""
    said = CloseReason(sent.code, sent.reason or None)
    return (ConnectionEnded if sent.code in PEACEFUL else ConnectionLost)(said, None, said)


def _told(reason: CloseReason | None) -> str:
    if reason is None:
        return "no close frame"
    return f"{reason.code} {reason.name}" + (f" {reason.reason!r}" if reason.reason else "")
