"""From a stream to a request: receiving it, judging it and answering what is none; knows nothing of listening."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias, Unpack
from weakref import WeakValueDictionary

import trio

from ._config import ServerConfig
from ._endpoint import endpoints, tls_of
from ._errors import ConnectionTimeout, HandshakeError
from ._farewell import READ_SIZE, deliver, part, refusal_by, turn_away
from ._forwarded import client_of, receive_remote
from ._options import AcceptOptions, UpgradeOptions
from ._overload import Refused, peer_of, unavailable
from ._request import WebSocketRequest, process_response
from .protocol import HandshakeFailed, Response, ServerHandshake
from .transport import AcceptedStream, ProxyProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._endpoint import Endpoint
    from ._overload import Place
    from .protocol import Request

#: Requests that a client may make on one connection before the one for a WebSocket: then it has to come again.
MAX_REQUESTS = 100

#: A request that somebody else has read, and the bytes that they have read behind it.
Given: TypeAlias = "tuple[Request, bytes]"

#: The streams that were given with their requests, by their identity: each is given once.
_upgraded: WeakValueDictionary[int, trio.abc.Stream] = WeakValueDictionary()


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


async def upgrade(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    request: Request,
    leftover: bytes = b"",
    **options: Unpack[UpgradeOptions],
) -> WebSocketRequest:
    """Go on where an HTTP server has read a request for a WebSocket.

    Args:
        nursery: what bounds the life of the connection.
        stream: where the request came from, with nothing answered yet. It belongs to the request from now on, and is
            closed if that is no valid one.
        request: as the server has read it, valid or not: it is held to the same rules as any other.
        leftover: what the server has read behind the request's head.
        options: see `UpgradeOptions`.

    Raises:
        HandshakeError: the request is not valid; the client was told in what.
        RuntimeError: this stream was given before; it is left as it was.
        TypeError: an option is unknown; the stream is left as it was.
        ValueError: an option is out of range; the stream is left as it was.

    Cancellation: the client is told 503 if that can be said at once, and the stream is closed.
    """
    config = ServerConfig.of(options)
    take_over(stream)
    return await receive_request(nursery, stream, config, given=(request, leftover))


def take_over(stream: trio.abc.Stream) -> None:
    """Take note that a stream was given with its request.

    Raises:
        RuntimeError: it was given before: a second answer would stand amid the frames of the first connection.
    """
    if _upgraded.get(id(stream)) is stream:
        raise RuntimeError("this stream was given before: it belongs to the connection that was made of it")
    with suppress(TypeError):  # a class with __slots__ may have left out the one for weak references
        _upgraded[id(stream)] = stream


async def receive_request(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    config: ServerConfig,
    on_gone: Callable[[], None] | None = None,
    given: Given | None = None,
    place: Place | None = None,
) -> WebSocketRequest:
    """Receive a client's request, or answer what is none.

    Args:
        nursery: what bounds the life of the connection.
        stream: it belongs to the request from now on.
        config: the options.
        on_gone: called when the connection is over; without it, the connection is cut when the nursery is cancelled,
            and the nursery waits for it.
        given: the request, if somebody else has received it.
        place: what the client has of the server, where that is limited.

    Raises:
        HandshakeError: there was no valid request; the client was told in what.

    Cancellation: the client is told 503 if that can be said at once, and the stream is closed.
    """
    rest = b""  # what came behind the last request
    left = MAX_REQUESTS
    remote, seconds = None, config.connect_timeout
    answered: HandshakeFailed | None = None  # the end of the request before on this connection
    while True:
        handshake = ServerHandshake(
            limits=config.limits, origins=config.origins, extensions=config.negotiable
        )
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            if config.proxy_protocol and given is None and left == MAX_REQUESTS:
                began = trio.current_time()
                remote = await receive_remote(stream, config)
                seconds -= trio.current_time() - began
            if given is None:
                unread = await _read_head(stream, handshake, seconds, rest)
            else:
                unread = _take(handshake, given)
            full = unread is None and place is not None and _keep(place, stream, remote, handshake, config)
            failure = unread or full or await _judge(handshake, config)
            if failure is None:
                meter = None if place is None else place.meter
                return WebSocketRequest(nursery, stream, handshake, config, on_gone, remote, meter)
            left -= 1
            response = await _respond(failure, None if unread else handshake.request, config)
            may_persist = isinstance(failure, _Answered) and left > 0 and given is None
            persist = may_persist and response is not None and handshake.may_persist(response)
            answer = handshake.respond(response, persist=persist) if response else b""
        except BaseException as exc:
            # cancelled, or a hook has failed; to a client that has gone nothing can be said any more
            if left == MAX_REQUESTS or handshake.begun:
                await turn_away(stream, handshake, 500 if isinstance(exc, Exception) else 503)
            else:  # it has asked for nothing, so nothing could be the answer
                await trio.aclose_forcefully(stream)
                if isinstance(exc, HandshakeError):
                    exc.__cause__ = answered  # it has got what it came for
            raise
        await deliver(stream, answer, config.connect_timeout)
        if not persist:
            break
        rest, seconds, answered = handshake.rest, config.connect_timeout, failure
        if place is not None:
            place.wait()
    await part(stream)
    raise HandshakeError(str(failure)) from (failure if handshake.begun else answered or failure)


class _Answered(HandshakeFailed):
    """There is no handshake, for ``process_request`` has answered."""

    reason = "answered"


class _Full(HandshakeFailed):
    """There is no place for the client that a proxy has told.

    Attributes:
        reason: the option that says so.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("there is no place for another connection", unavailable()[0])
        self.reason = reason


#: Why a client is refused, by the status that it is answered with.
_REFUSALS = {
    400: "bad_request",
    403: "origin",
    404: "path",
    405: "not_websocket",
    414: "bad_request",
    426: "not_websocket",
    431: "bad_request",
    505: "bad_request",
}


def refusal_of(exc: BaseException) -> str:
    """Return in one word why there is no request, by what receiving one has raised."""
    match exc.__cause__:
        case _Answered(reason=reason) | _Full(reason=reason):
            return reason
        case HandshakeFailed(response=Response(status=status)):
            return _REFUSALS[status]
        case ProxyProtocolError():
            return "proxy_protocol"
        case trio.BrokenResourceError(__cause__=ssl.SSLError() as error) if not isinstance(
            error, ssl.SSLEOFError
        ):
            return "tls_failed"
        case _:
            return refusal_by(exc)


def _take(handshake: ServerHandshake, given: Given) -> HandshakeFailed | None:
    try:
        handshake.receive_request(*given)
    except HandshakeFailed as failure:
        return failure
    return None


async def _read_head(
    stream: trio.abc.Stream, handshake: ServerHandshake, seconds: float, rest: bytes
) -> HandshakeFailed | None:
    """Receive the head of the request, and return what is wrong with it, if anything is."""
    try:
        # what is there already, mostly all, needs neither a deadline nor a wait
        data = rest or (stream.try_receive(READ_SIZE) if isinstance(stream, AcceptedStream) else None)
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


def _keep(
    place: Place,
    stream: trio.abc.Stream,
    remote: Endpoint | None,
    handshake: ServerHandshake,
    config: ServerConfig,
) -> HandshakeFailed | None:
    """Let a client keep its place now that it has sent its request; a proxy's only if its peer may have one more."""
    place.answered()
    if place.is_proxied:
        client = remote or endpoints(stream)[1]
        if config.trusted_proxies:
            client = client_of(stream, client, handshake.request.headers, config)
        try:
            place.belongs_to(peer_of(client))
        except Refused as refused:
            return _Full(refused.reason)
    return None


async def _judge(handshake: ServerHandshake, config: ServerConfig) -> HandshakeFailed | None:
    if config.process_request is not None:
        response = await config.process_request(handshake.request)
        if response is not None:
            return _Answered(f"answered with status {response.status} by process_request", response)
    if config.path is not None and handshake.request.path != config.path:
        response = Response(404, body="There is nothing at this path.\n")
        return HandshakeFailed(f"nothing is served at {handshake.request.path}", response)
    try:
        handshake.check()
    except HandshakeFailed as failure:
        return failure
    return None


async def _respond(
    failure: HandshakeFailed, request: Request | None, config: ServerConfig
) -> Response | None:
    """Return the answer to a request that is none, as the hooks want it; None: there is nothing to be answered."""
    response = failure.response
    if response is None or isinstance(failure, _Full):  # what is too much is not asked of the hooks either
        return response
    if config.on_handshake_error is not None and not isinstance(failure, _Answered):
        result = config.on_handshake_error(failure, request)
        response = (await result if isinstance(result, Awaitable) else result) or response
    return response if request is None else await process_response(config, request, response)
