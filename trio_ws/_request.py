"""A client's request as a handler sees it: to be accepted or rejected; knows nothing of listening."""

from __future__ import annotations

from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio

from ._connection import WebSocketConnection, announce, bind, class_of, masks
from ._endpoint import Endpoint, endpoints, tls_of
from ._farewell import deliver, part, refusal_by, turn_away
from ._forwarded import client_of
from ._interrupts import uninterrupted
from .protocol import Headers, Response, accepted_response, change_accepted, encode_headers

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._config import ServerConfig
    from .protocol import HeadersLike, Meter, Protocol, Request, ServerHandshake


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
    meter: Meter | None


@uninterrupted
class WebSocketRequest:
    """A valid request for a WebSocket, waiting to be accepted or rejected.

    Attributes:
        request: the request with all its headers.
        proposed_subprotocols: the subprotocols that the client offers, best first.
        client: who is behind `remote`, if that is one of ``trusted_proxies`` that tells: an `Endpoint`, whose port is 0 if
            it does not tell that, or an identifier that begins with an underscore and says no address (RFC 7239 6.3).
            Else the same as `remote`.
        refusal: in one word why there is no connection, as long as there is none.
    """

    __slots__ = (
        "_addresses",
        "_asking",
        "answer",
        "client",
        "connection",
        "proposed_subprotocols",
        "refusal",
        "request",
    )

    def __init__(
        self,
        nursery: trio.Nursery,
        stream: trio.abc.Stream,
        handshake: ServerHandshake,
        config: ServerConfig,
        on_gone: Callable[[], None] | None,
        remote: Endpoint | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.request: Request = handshake.request
        self.proposed_subprotocols: tuple[str, ...] = handshake.proposed_subprotocols
        self.answer = Answer.NONE
        self.connection: WebSocketConnection | None = None
        self.refusal = "unanswered"
        self._asking: _Asking | None = _Asking(nursery, stream, handshake, config, on_gone, meter)
        self._addresses = endpoints(stream)
        if remote is not None:
            self._addresses = self._addresses[0], remote
        self.client = self._addresses[1]
        if config.trusted_proxies:
            self.client = client_of(stream, self.client, self.request.headers, config)

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
        """The client's end, in the same forms as `local`, or what a proxy says with ``proxy_protocol``."""
        return self._addresses[1]

    async def accept(
        self, *, subprotocol: str | None = None, extra_headers: HeadersLike | None = None
    ) -> WebSocketConnection:
        """Accept the request and return the open connection.

        Args:
            subprotocol: the one to speak, out of `proposed_subprotocols`; by default the options choose, see
                `AcceptOptions`.
            extra_headers: header fields of the answer besides those of the handshake and of the options.

        Raises:
            Exception: whatever ``process_response`` raises; the client got a 500. And whatever ``select_subprotocol``
                raises; the request can still be answered.
            HandshakeError: the client has gone, or did not take the answer within ``connect_timeout``.
            RuntimeError: the request was answered before.
            ValueError: the subprotocol or a header cannot be sent; the request can still be answered.

        Cancellation: the client is cut off.
        """
        asking = self._require_unanswered()
        config = asking.config
        if subprotocol is None and self.proposed_subprotocols:
            subprotocol = config.choose_subprotocol(self.request, self.proposed_subprotocols)
        extra = extra_headers or ()
        if config.extra:
            extra = [*config.extra, *encode_headers(extra)]
        head, protocol, leftover = asking.handshake.accept(
            masks=masks, subprotocol=subprotocol, extra_headers=extra
        )
        protocol.meter = asking.meter
        if config.process_response is not None:
            response = accepted_response(head)
            head = await self._process(asking, response, partial(change_accepted, head))
        await self._send(asking, head)
        try:
            connection = self._connect(asking, protocol, leftover)
        except BaseException:  # there is no descriptor left, or the nursery is closed
            self.refusal = "failed"
            await trio.aclose_forcefully(asking.stream)
            raise
        self.connection, self.answer = connection, Answer.ACCEPTED
        announce(connection)
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
            Exception: whatever ``process_response`` raises; the client got a 500.
            HandshakeError: the client has gone, or did not take the answer within ``connect_timeout``.
            RuntimeError: the request was answered before.
            ValueError: the status or a header cannot be sent; the request can still be answered.

        Cancellation: the client is cut off.
        """
        asking = self._require_unanswered()
        headers = Headers(encode_headers(extra_headers or ()))
        response = Response(status_code, headers, body or b"")
        data = asking.handshake.respond(response)
        self.refusal = "rejected"
        if asking.config.process_response is not None:
            data = await self._process(asking, response, asking.handshake.respond)
        await self._send(asking, data)
        self.answer = Answer.REJECTED
        await part(asking.stream)

    def _require_unanswered(self) -> _Asking:
        if self._asking is None:
            raise RuntimeError("this request has been answered already")
        return self._asking

    async def _process(
        self, asking: _Asking, response: Response, encode: Callable[[Response], bytes]
    ) -> bytes:
        """Return the answer as ``process_response`` wants it; a client whose answer fails there is turned away."""
        self.answer, self._asking = Answer.BEGUN, None
        try:
            return encode(await process_response(asking.config, self.request, response))
        except BaseException as exc:
            self.refusal = refusal_by(exc)
            await turn_away(asking.stream, asking.handshake, 500 if isinstance(exc, Exception) else 503)
            raise

    async def _send(self, asking: _Asking, data: bytes) -> None:
        self.answer, self._asking = Answer.BEGUN, None
        try:
            await deliver(asking.stream, data, asking.config.connect_timeout)
        except BaseException as exc:
            self.refusal = refusal_by(exc)
            raise


async def process_response(config: ServerConfig, request: Request, response: Response) -> Response:
    """Return what is to be answered in place of `response`, if the options say so, or the same."""
    if config.process_response is None:
        return response
    return await config.process_response(request, response) or response


_NEGOTIATED = frozenset({b"host", b"sec-websocket-protocol", b"sec-websocket-extensions"})
