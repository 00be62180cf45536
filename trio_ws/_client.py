"""Opening connections as a client; knows nothing of servers.

The deadline ``connect_timeout`` covers TCP, TLS and the handshake together. Whatever goes wrong before the connection
is open is raised where it was asked for, at once, with its cause, and leaves nothing behind.
"""

from __future__ import annotations

import os
import ssl
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Unpack

import trio

from ._config import ClientConfig, ClientOptions
from ._connection import WebSocketConnection, bind, class_of, masks
from ._endpoint import tls_of
from ._errors import ConnectionRejected, ConnectionTimeout, DisconnectionTimeout, HandshakeError
from ._url import WebSocketURL, ascii_host, make_target, parse_url
from .protocol import ChosenMasks, ClientHandshake, HandshakeFailed, HeadersLike, Response, encode_headers
from .transport import dial_tcp, start_tls

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator


def open_websocket(
    host: str,
    port: int,
    resource: str,
    *,
    use_ssl: bool | ssl.SSLContext,
    **options: Unpack[ClientOptions],
) -> AbstractAsyncContextManager[WebSocketConnection]:
    """Open a connection for the length of an ``async with`` block, and close it at its end.

    Args:
        host: name or IP address.
        port: TCP port.
        resource: path and query, such as ``/chat?room=1``.
        use_ssl: True for TLS with the default context, False for none, or the `ssl.SSLContext` to use.
        options: see `ClientOptions`.

    Raises:
        TypeError: `use_ssl` is neither, or an option is unknown.
        ValueError: an option is out of range, or cannot be sent.

    Entering raises `HandshakeError` (`ConnectionTimeout`, `ConnectionRejected`, or itself with the cause), leaving
    raises `DisconnectionTimeout` if the peer did not answer the close frame. An exception of the block comes out as it
    is, never in a group.

    Cancellation: nothing is left open; a connection that is open is cut.
    """
    url = WebSocketURL(bool(use_ssl), ascii_host(host), port, make_target(resource))
    context = ssl_context(use_ssl)
    config = ClientConfig.of(options)
    return _opened(lambda nursery: _connect(nursery, url, context, config))


def open_websocket_url(
    url: object, ssl_context: ssl.SSLContext | None = None, **options: Unpack[ClientOptions]
) -> AbstractAsyncContextManager[WebSocketConnection]:
    """Open a connection to a URL for the length of an ``async with`` block, and close it at its end.

    Args:
        url: ``ws://`` or ``wss://``; anything whose `str` is one. A user and password in it are sent as HTTP Basic
            authentication.
        ssl_context: for ``wss``; by default certificates are verified against the system's store.
        options: see `ClientOptions`.

    Raises:
        TypeError: an option is unknown.
        ValueError: the URL is not one for WebSocket, has no use for the context, or an option is out of range.

    Entering and leaving raise what those of `open_websocket` raise.

    Cancellation: nothing is left open; a connection that is open is cut.
    """
    parsed, context = _parse(url, ssl_context)
    config = ClientConfig.of(options)
    return _opened(lambda nursery: _connect(nursery, parsed, context, config))


async def connect_websocket(
    nursery: trio.Nursery,
    host: str,
    port: int,
    resource: str,
    *,
    use_ssl: bool | ssl.SSLContext,
    **options: Unpack[ClientOptions],
) -> WebSocketConnection:
    """Open a connection that lives until it is closed, or until `nursery` is cancelled; the nursery waits for it.

    Args:
        nursery: what bounds the life of the connection.
        host: name or IP address.
        port: TCP port.
        resource: path and query, such as ``/chat?room=1``.
        use_ssl: True for TLS with the default context, False for none, or the `ssl.SSLContext` to use.
        options: see `ClientOptions`.

    Raises:
        HandshakeError: the connection could not be opened.
        OSError: the host could not be found or reached.
        TypeError: `use_ssl` is neither, or an option is unknown.
        ValueError: an option is out of range, or cannot be sent.

    Cancellation: nothing is left open.
    """
    url = WebSocketURL(bool(use_ssl), ascii_host(host), port, make_target(resource))
    return await _bound(nursery, url, ssl_context(use_ssl), ClientConfig.of(options))


async def connect_websocket_url(
    nursery: trio.Nursery,
    url: object,
    ssl_context: ssl.SSLContext | None = None,
    **options: Unpack[ClientOptions],
) -> WebSocketConnection:
    """Open a connection to a URL that lives until it is closed, or until `nursery` is cancelled.

    Args:
        nursery: what bounds the life of the connection.
        url: as for `open_websocket_url`.
        ssl_context: as for `open_websocket_url`.
        options: see `ClientOptions`.

    Raises:
        HandshakeError: the connection could not be opened.
        OSError: the host could not be found or reached.
        TypeError: an option is unknown.
        ValueError: the URL is not one for WebSocket, has no use for the context, or an option is out of range.

    Cancellation: nothing is left open.
    """
    parsed, context = _parse(url, ssl_context)
    return await _bound(nursery, parsed, context, ClientConfig.of(options))


async def wrap_client_stream(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    host: str,
    resource: str,
    **options: Unpack[ClientOptions],
) -> WebSocketConnection:
    """Open a connection over a stream that exists: a Unix socket, a tunnel, memory.

    Args:
        nursery: what bounds the life of the connection.
        stream: it belongs to the connection from now on, and is closed if there will be none.
        host: what to put into the `Host` header.
        resource: path and query, such as ``/chat?room=1``.
        options: see `ClientOptions`.

    Raises:
        HandshakeError: the connection could not be opened.
        TypeError: an option is unknown; the stream is left as it was.
        ValueError: an option is out of range, or cannot be sent; the stream is left as it was.

    Cancellation: the stream is closed.
    """
    config = ClientConfig.of(options)
    scheme = "wss" if tls_of(stream) else "ws"
    target = make_target(resource)
    handshake = _prepare(host, target, config)
    url = f"{scheme}://{host}{target}"
    with _deadline(config.connect_timeout):
        connection = await _shake_hands(nursery, stream, handshake, config, url, target)
    bind(nursery, connection)
    return connection


def ssl_context(use_ssl: object) -> ssl.SSLContext | None:
    """Return the context for a `use_ssl` argument; None is for none.

    Raises:
        TypeError: it is neither a truth value nor a context.
    """
    if isinstance(use_ssl, ssl.SSLContext):
        return use_ssl
    if not isinstance(use_ssl, bool):
        raise TypeError("`use_ssl` argument must be bool or ssl.SSLContext")
    if not use_ssl:
        return None
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])  # WebSocket over HTTP/2 is another handshake (RFC 8441)
    return context


def _parse(url: object, context: ssl.SSLContext | None) -> tuple[WebSocketURL, ssl.SSLContext | None]:
    parsed = parse_url(str(url))
    if context is not None and not parsed.secure:
        raise ValueError(f"an SSL context is of no use for {parsed}: use a wss URL")
    return parsed, context or ssl_context(parsed.secure)


@asynccontextmanager
async def _opened(
    connect: Callable[[trio.Nursery], Awaitable[WebSocketConnection]],
) -> AsyncGenerator[WebSocketConnection]:
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                try:
                    connection = await connect(nursery)
                except OSError as exc:
                    raise HandshakeError(f"the connection could not be opened: {exc}") from exc
                try:
                    yield connection
                except BaseException as exc:  # noqa: BLE001 - raised below; closing must not put another in its place
                    error = exc
                await connection.aclose()
                if connection.timed_out:
                    raise DisconnectionTimeout("the peer did not answer the close frame in time")
            except BaseException as exc:  # noqa: BLE001 - kept from the nursery, which would put it into a group
                error = error or exc
    except BaseExceptionGroup as group:
        # the nursery's own tasks raise nothing: this is a cancellation or a KeyboardInterrupt that found it waiting
        error = error or group.exceptions[0]
    if error is not None:
        raise error


async def _bound(
    nursery: trio.Nursery, url: WebSocketURL, context: ssl.SSLContext | None, config: ClientConfig
) -> WebSocketConnection:
    connection = await _connect(nursery, url, context, config)
    bind(nursery, connection)
    return connection


async def _connect(
    nursery: trio.Nursery, url: WebSocketURL, context: ssl.SSLContext | None, config: ClientConfig
) -> WebSocketConnection:
    handshake = _prepare(url.authority, url.target, config, url.authorization)
    with _deadline(config.connect_timeout):
        stream: trio.abc.Stream = await dial_tcp(url.host, url.port)
        if context is not None:
            try:
                stream = await start_tls(stream, context, url.host)
            except trio.BrokenResourceError as exc:
                cause = exc.__cause__ or exc
                raise HandshakeError(f"TLS could not be started: {cause}") from cause
        return await _shake_hands(nursery, stream, handshake, config, str(url), url.target)


def _prepare(
    host: str, target: str, config: ClientConfig, authorization: str | None = None
) -> ClientHandshake:
    """Return the handshake to be done; what is wrong with it is told before anything is opened."""
    return ClientHandshake(
        host=host,
        target=target,
        key=os.urandom(16),
        version=config.protocol_version,
        origin=config.origin,
        subprotocols=config.subprotocols or (),
        extra_headers=_with_authorization(config.extra_headers or (), authorization),
        extensions=config.negotiable,
        limits=config.limits,
    )


async def _shake_hands(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    handshake: ClientHandshake,
    config: ClientConfig,
    url: str,
    target: str,
) -> WebSocketConnection:
    """Take over `stream`, do the opening handshake on it and return the connection."""
    try:
        response = await _exchange(stream, handshake)
        if response.status != 101:
            raise ConnectionRejected(response.status, response.headers, response.body or None)
        generate = config.generate_mask
        pool = masks if generate is None else ChosenMasks(generate)
        protocol, leftover = handshake.upgrade(masks=pool)
        return class_of(config)(
            nursery, stream, protocol, config, url=url, path=target, leftover=leftover, response=response
        )
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


async def _exchange(stream: trio.abc.Stream, handshake: ClientHandshake) -> Response:
    try:
        await stream.send_all(handshake.request_bytes())
        while True:
            data = await stream.receive_some(65536)
            if response := handshake.receive_data(bytes(data)):
                return response
    except HandshakeFailed as exc:
        raise HandshakeError(str(exc)) from exc
    except trio.BrokenResourceError as exc:
        raise HandshakeError("the connection broke before the handshake was complete") from exc


def _with_authorization(headers: HeadersLike, authorization: str | None) -> HeadersLike:
    """Add what the URL says, unless the caller says otherwise."""
    pairs = encode_headers(headers)
    if authorization is None or any(name.lower() == b"authorization" for name, _ in pairs):
        return pairs
    return [*pairs, (b"Authorization", authorization.encode())]


@contextmanager
def _deadline(seconds: float) -> Generator[None]:
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError as exc:
        raise ConnectionTimeout(f"the connection could not be opened within {seconds} seconds") from exc
