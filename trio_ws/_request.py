"""A client's request as a handler sees it: to be accepted or rejected; knows nothing of listening."""

from __future__ import annotations

from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple, Unpack

import trio

from ._config import AcceptOptions, ServerConfig
from ._connection import WebSocketConnection, bind, class_of, masks
from ._endpoint import Endpoint, endpoints, tls_of
from ._errors import ConnectionTimeout, HandshakeError
from .protocol import HandshakeFailed, Headers, Response, ServerHandshake, encode_headers
from .transport import AcceptedStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from .protocol import HeadersLike, Protocol, Request

#: Bytes asked of a stream at once while the request comes; a request is smaller than this, hardly ever larger.
READ_SIZE = 4096

#: After an answer that is not 101 the client gets this many seconds to read it, and to send this many bytes that nobody
#: wants, before the connection is closed under it: unread data would make the kernel destroy the answer.
FAREWELL_SECONDS = 1.0
FAREWELL_SIZE = 2**18


class Answer(Enum):
    """How far the answer to a request has come."""

    NONE = auto()
    BEGUN = auto()
    ACCEPTED = auto()
    REJECTED = auto()


class _Asking(NamedTuple):
    """What a request is answered with; let go of once it is, for it is larger than the connection that follows."""

    nursery: trio.Nursery
    stream: trio.abc.Stream
    handshake: ServerHandshake
    config: ServerConfig
    on_gone: Callable[[], None] | None


class WebSocketRequest:
    """A valid request for a WebSocket, waiting to be accepted or rejected.

    Attributes:
        request: the request with all its headers.
        proposed_subprotocols: the subprotocols that the client offers, best first.
    """

    __slots__ = ("_addresses", "_asking", "answer", "connection", "proposed_subprotocols", "request")

    def __init__(
        self,
        nursery: trio.Nursery,
        stream: trio.abc.Stream,
        handshake: ServerHandshake,
        config: ServerConfig,
        on_gone: Callable[[], None] | None,
    ) -> None:
        self.request: Request = handshake.request
        self.proposed_subprotocols: tuple[str, ...] = handshake.proposed_subprotocols
        self.answer = Answer.NONE
        self.connection: WebSocketConnection | None = None
        self._asking: _Asking | None = _Asking(nursery, stream, handshake, config, on_gone)
        self._addresses = endpoints(stream)

    @property
    def headers(self) -> Headers:
        """The request's headers, names in lower case, without `Host` and those that are negotiated."""
        return Headers(pair for pair in self.request.headers if pair[0] not in _NEGOTIATED)

    @property
    def path(self) -> str:
        """The path and query that is asked for, such as ``/chat?room=1``, percent-encoded as it came."""
        return self.request.target

    @property
    def local(self) -> Endpoint | str:
        """This end: an `Endpoint`, the path of a Unix socket, or the `repr` of a stream that is neither."""
        return self._addresses[0]

    @property
    def remote(self) -> Endpoint | str:
        """The client's end, in the same forms as `local`."""
        return self._addresses[1]

    async def accept(
        self, *, subprotocol: str | None = None, extra_headers: HeadersLike | None = None
    ) -> WebSocketConnection:
        """Accept the request and return the open connection.

        Args:
            subprotocol: the one to speak, out of `proposed_subprotocols`.
            extra_headers: header fields of the answer besides those of the handshake.

        Raises:
            HandshakeError: the client has gone, or did not take the answer within ``connect_timeout``.
            RuntimeError: the request was answered before.
            ValueError: the subprotocol or a header cannot be sent; the request can still be answered.

        Cancellation: the client is cut off.
        """
        asking = self._require_unanswered()
        head, protocol, leftover = asking.handshake.accept(
            masks=masks, subprotocol=subprotocol, extra_headers=extra_headers or ()
        )
        await self._send(asking, head)
        try:
            connection = self._connect(asking, protocol, leftover)
        except BaseException:  # there is no descriptor left, or the nursery is closed
            await trio.aclose_forcefully(asking.stream)
            raise
        self.connection, self.answer = connection, Answer.ACCEPTED
        if asking.on_gone is None:
            bind(asking.nursery, connection)
        return connection

    def _connect(self, asking: _Asking, protocol: Protocol, leftover: bytes) -> WebSocketConnection:
        scheme = "wss" if tls_of(asking.stream) else "ws"
        host = self.request.headers.get("host", "")
        return class_of(asking.config)(
            asking.nursery,
            asking.stream,
            protocol,
            asking.config,
            url=f"{scheme}://{host}{self.path}",
            path=self.path,
            leftover=leftover,
            addresses=self._addresses,
            request=self.request,
            on_gone=asking.on_gone,
        )

    async def reject(
        self, status_code: int, *, extra_headers: HeadersLike | None = None, body: bytes | None = None
    ) -> None:
        """Reject the request with an HTTP response, and close the connection.

        Args:
            status_code: 200 to 599, such as 401 or 404.
            extra_headers: header fields of the response.
            body: what to send with it.

        Raises:
            HandshakeError: the client has gone, or did not take the answer within ``connect_timeout``.
            RuntimeError: the request was answered before.
            ValueError: the status or a header cannot be sent; the request can still be answered.

        Cancellation: the client is cut off.
        """
        asking = self._require_unanswered()
        headers = Headers(encode_headers(extra_headers or ()))
        data = asking.handshake.respond(Response(status_code, headers, body or b""))
        await self._send(asking, data)
        self.answer = Answer.REJECTED
        await part(asking.stream)

    def _require_unanswered(self) -> _Asking:
        if self._asking is None:
            raise RuntimeError("this request has been answered already")
        return self._asking

    async def _send(self, asking: _Asking, data: bytes) -> None:
        self.answer, self._asking = Answer.BEGUN, None
        await deliver(asking.stream, data, asking.config.connect_timeout)


_NEGOTIATED = frozenset({b"host", b"sec-websocket-protocol", b"sec-websocket-extensions"})


async def wrap_server_stream(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    message_queue_size: float = 16,
    max_message_size: float = 2**20,
    receive_buffer_size: int | None = None,
    **options: Unpack[AcceptOptions],
) -> WebSocketRequest:
    """Receive a client's request on a stream that exists.

    Args:
        nursery: what bounds the life of the connection.
        stream: it belongs to the request from now on, and is closed if there is none.
        message_queue_size: see `ServerOptions`, as for all the others.
        max_message_size: bytes allowed in one message.
        receive_buffer_size: bytes read at once.
        options: see `AcceptOptions`.

    Raises:
        HandshakeError: there was no valid request; the client was told in what.
        TypeError: an option is unknown; the stream is left as it was.
        ValueError: an option is out of range; the stream is left as it was.

    Cancellation: the client is told 503 if that can be said at once, and the stream is closed.
    """
    config = ServerConfig.of(
        {
            "message_queue_size": message_queue_size,
            "max_message_size": max_message_size,
            "receive_buffer_size": receive_buffer_size,
            **options,
        }
    )
    return await receive_request(nursery, stream, config)


async def receive_request(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    config: ServerConfig,
    on_gone: Callable[[], None] | None = None,
) -> WebSocketRequest:
    """Receive a client's request, or answer what is none.

    Args:
        nursery: what bounds the life of the connection.
        stream: it belongs to the request from now on.
        config: the options.
        on_gone: called when the connection is over; without it, the connection is cut when the nursery is cancelled,
            and the nursery waits for it.

    Raises:
        HandshakeError: there was no valid request; the client was told in what.

    Cancellation: the client is told 503 if that can be said at once, and the stream is closed.
    """
    handshake = ServerHandshake(limits=config.limits, origins=config.origins, extensions=config.negotiable)
    try:
        await trio.lowlevel.checkpoint_if_cancelled()
        failure = await _read_head(stream, handshake, config.connect_timeout)
        failure = failure or await _judge(handshake, config)
        answer = handshake.respond(failure.response) if failure and failure.response else b""
    except BaseException as exc:
        # cancelled, or process_request has failed; to a client that has gone nothing can be said any more
        await turn_away(stream, handshake, 500 if isinstance(exc, Exception) else 503)
        raise
    if failure is None:
        return WebSocketRequest(nursery, stream, handshake, config, on_gone)
    await deliver(stream, answer, config.connect_timeout)
    await part(stream)
    raise HandshakeError(str(failure)) from failure


async def _read_head(
    stream: trio.abc.Stream, handshake: ServerHandshake, seconds: float
) -> HandshakeFailed | None:
    """Receive the head of the request, and return what is wrong with it, if anything is."""
    try:
        # what is there already, mostly all, needs neither a deadline nor a wait
        data = stream.try_receive(READ_SIZE) if isinstance(stream, AcceptedStream) else None
        if data and handshake.receive_data(data) is not None:
            return None
        with trio.CancelScope(deadline=trio.current_time() + seconds):
            if tls := tls_of(stream):
                await tls.do_handshake()
            while True:
                before, data = data, bytes(await stream.receive_some(READ_SIZE))
                if not (before or data):
                    return HandshakeFailed("the client connected and left without a word")
                if handshake.receive_data(data) is not None:
                    return None
    except HandshakeFailed as failure:
        return failure
    except trio.BrokenResourceError as exc:
        await trio.aclose_forcefully(stream)
        raise HandshakeError("the client has gone before its request was complete") from exc
    await trio.aclose_forcefully(stream)
    raise ConnectionTimeout(f"no request came within {seconds} seconds")


async def _judge(handshake: ServerHandshake, config: ServerConfig) -> HandshakeFailed | None:
    if config.process_request is not None:
        response = await config.process_request(handshake.request)
        if response is not None:
            return HandshakeFailed(f"answered with status {response.status} by process_request", response)
    try:
        handshake.check()
    except HandshakeFailed as failure:
        return failure
    return None


async def deliver(stream: trio.abc.Stream, data: bytes, seconds: float) -> None:
    """Send an answer; a stream on which that fails is closed, for nothing may follow half an answer.

    Raises:
        HandshakeError: the client has gone, or did not take the answer in time.

    Cancellation: the stream is closed.
    """
    try:
        if isinstance(stream, AcceptedStream):
            await trio.lowlevel.checkpoint_if_cancelled()
            data = data[stream.try_send(data) :]
        if data:
            with trio.fail_after(seconds):
                await stream.send_all(data)
    except BaseException as exc:
        await trio.aclose_forcefully(stream)
        if isinstance(exc, trio.TooSlowError):
            raise ConnectionTimeout(f"the client did not take its answer within {seconds} seconds") from exc
        if isinstance(exc, trio.BrokenResourceError):
            raise HandshakeError("the client has gone before it was answered") from exc
        raise


async def turn_away(stream: trio.abc.Stream, handshake: ServerHandshake, status: int) -> None:
    """Answer with a bare status if the client takes it at once, and close; shielded, for whoever is being cancelled."""
    with (
        trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL_SECONDS),
        suppress(trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError),
    ):
        await stream.send_all(handshake.respond(Response(status, Headers())))
    await trio.aclose_forcefully(stream)


async def part(stream: trio.abc.Stream) -> None:
    """Close a stream on which an answer was just sent, so that the client can read it.

    Cancellation: the stream is closed at once.
    """
    try:
        with trio.move_on_after(FAREWELL_SECONDS), suppress(trio.BrokenResourceError):
            if isinstance(stream, trio.abc.HalfCloseableStream):
                await stream.send_eof()
                left = FAREWELL_SIZE
                while left > 0 and (data := await stream.receive_some(READ_SIZE)):
                    left -= len(data)
            await stream.aclose()
    finally:
        await trio.aclose_forcefully(stream)
