"""Opening connections as a client; knows nothing of servers.

The deadline ``connect_timeout`` covers TCP, TLS, the handshake and all redirects together. Whatever goes wrong before the connection
is open is raised where it was asked for, at once, with its cause, and leaves nothing behind.
"""

from __future__ import annotations

import ssl
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Unpack

import trio

from ._config import ClientConfig
from ._connection import WebSocketConnection, bind
from ._endpoint import tls_of
from ._errors import ConnectionTimeout, DisconnectionTimeout, HandshakeError, connection_rejected
from ._opening import Opening
from ._options import ClientOptions, HandshakeOptions
from ._proxies import choose_proxy, dial_by_proxy
from ._redirects import Route
from ._url import WebSocketURL, make_target, make_url, parse_url
from .protocol import Response
from .transport import dial_tcp, dial_unix, start_tls

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator


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
        InvalidURL: host, port or resource is not possible.
        TypeError: `use_ssl` is neither, or an option is unknown.
        ValueError: an option is out of range, is of no use here, or cannot be sent.

    Entering raises `HandshakeError` (`ConnectionTimeout`, `ConnectionRejected`, `RedirectError`, or itself with the
    cause), or what a callable among the options raises, but for an `OSError`, which is such a cause. Leaving
    raises `DisconnectionTimeout` if the peer did not answer the close frame. An exception of the block comes out as it
    is, never in a group.

    Cancellation: nothing is left open; a connection that is open is cut.
    """
    context = ssl_context(use_ssl)
    start = _Start(make_url(context is not None, host, port, resource), context, options)
    return _opened(start)


def open_websocket_url(
    url: object, ssl_context: ssl.SSLContext | None = None, **options: Unpack[ClientOptions]
) -> AbstractAsyncContextManager[WebSocketConnection]:
    """Open a connection to a URL for the length of an ``async with`` block, and close it at its end.

    Args:
        url: ``ws://``, ``wss://``, ``http://`` and ``https://`` standing for these, or ``ws+unix:/run/socket:/resource``
            for a Unix socket; anything whose `str` is one, such as a `yarl.URL`. A user and password in it are sent as
            HTTP Basic authentication.
        ssl_context: for ``wss``; by default TLS is 1.2 or newer, certificates are verified against the system's store,
            and HTTP/1.1 is asked for (ALPN), the only version that the handshake speaks. A context that is given is used
            as it is.
        options: see `ClientOptions`.

    Raises:
        InvalidURL: the URL is not one for WebSocket.
        TypeError: an option is unknown.
        ValueError: the URL has no use for the context or an option, or an option is out of range, or cannot be sent.

    Entering and leaving raise what those of `open_websocket` raise.

    Cancellation: nothing is left open; a connection that is open is cut.
    """
    return _opened(_Start(*_parse(url, ssl_context), options))


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
        InvalidURL: host, port or resource is not possible.
        OSError: the host could not be found or reached.
        TypeError: `use_ssl` is neither, or an option is unknown.
        ValueError: an option is out of range, is of no use here, or cannot be sent.

    Cancellation: nothing is left open.
    """
    context = ssl_context(use_ssl)
    start = _Start(make_url(context is not None, host, port, resource), context, options)
    return await _bound(nursery, start)


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
        InvalidURL: the URL is not one for WebSocket.
        OSError: the host could not be found or reached.
        TypeError: an option is unknown.
        ValueError: the URL has no use for the context or an option, or an option is out of range, or cannot be sent.

    Cancellation: nothing is left open.
    """
    return await _bound(nursery, _Start(*_parse(url, ssl_context), options))


async def wrap_client_stream(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    host: str,
    resource: str,
    **options: Unpack[HandshakeOptions],
) -> WebSocketConnection:
    """Open a connection over a stream that exists: a Unix socket, a tunnel, memory.

    Args:
        nursery: what bounds the life of the connection.
        stream: it belongs to the connection from now on, and is closed if there will be none.
        host: what to put into the `Host` header.
        resource: path and query, such as ``/chat?room=1``.
        options: see `HandshakeOptions`.

    Raises:
        HandshakeError: the connection could not be opened.
        TypeError: an option is unknown; the stream is left as it was.
        ValueError: an option is out of range, or cannot be sent; the stream is left as it was.

    Cancellation: the stream is closed.
    """
    if useless := sorted(
        options.keys() & (ClientOptions.__optional_keys__ - HandshakeOptions.__optional_keys__)
    ):
        raise TypeError(f"{useless[0]} is of no use here: the stream leads to the server")
    config = ClientConfig.of(options)
    scheme = "wss" if tls_of(stream) else "ws"
    target = make_target(resource)
    opening = Opening(host, target, config.headers, config)
    with _deadline(config.connect_timeout):
        result = await opening.shake_hands(nursery, stream, f"{scheme}://{host}{target}")
    if isinstance(result, Response):
        raise connection_rejected(result)
    bind(nursery, result)
    return result


def ssl_context(use_ssl: object) -> ssl.SSLContext | None:
    """Return the context for a `use_ssl` argument; None is for none.

    Raises:
        TypeError: it is neither a truth value nor a context.
    """
    if isinstance(use_ssl, ssl.SSLContext):
        return use_ssl
    if not isinstance(use_ssl, bool):
        raise TypeError("`use_ssl` argument must be bool or ssl.SSLContext")
    return default_context() if use_ssl else None


def default_context() -> ssl.SSLContext:
    """Return a context that verifies certificates against the system's store."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])  # WebSocket over HTTP/2 is another handshake (RFC 8441)
    return context


def _parse(url: object, context: ssl.SSLContext | None) -> tuple[WebSocketURL, ssl.SSLContext | None]:
    parsed = parse_url(str(url))
    if context is not None and not parsed.secure:
        raise ValueError(f"an SSL context is of no use for {parsed}: use a wss URL")
    return parsed, context or ssl_context(parsed.secure)


class _Start:
    """A connection that is to be opened: all that can be wrong with it is told before anything is."""

    def __init__(self, url: WebSocketURL, context: ssl.SSLContext | None, options: ClientOptions) -> None:
        self.context = context
        self.config = ClientConfig.of(options)
        self.route = Route(url, self.config)
        self.opening = Opening(url.authority, url.target, self.route.headers, self.config)


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def _opened(
    start: _Start,
) -> AsyncGenerator[WebSocketConnection]:
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                try:
                    connection = await _connect(nursery, start)
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


@trio.lowlevel.enable_ki_protection
async def _bound(nursery: trio.Nursery, start: _Start) -> WebSocketConnection:
    connection = await _connect(nursery, start)
    bind(nursery, connection)
    return connection


async def _connect(nursery: trio.Nursery, start: _Start) -> WebSocketConnection:
    """Go the whole way, through all redirects."""
    route, opening, config = start.route, start.opening, start.config
    with _deadline(config.connect_timeout):
        while True:
            stream = await _dial(route.url, config)
            if route.url.secure:
                stream = await _encrypt(stream, start.context, route.tls_name)
            result = await opening.shake_hands(nursery, stream, str(route.url))
            if isinstance(result, WebSocketConnection):
                return result
            route.follow(result)
            opening = Opening(route.url.authority, route.url.target, route.headers, config)


async def _dial(url: WebSocketURL, config: ClientConfig) -> trio.abc.Stream:
    """Return a stream to where `url` leads, without TLS: the one place that decides how to get there."""
    if config.stream is not None:
        return config.stream
    if url.socket is not None:
        return await dial_unix(url.socket)
    if config.connect is not None:
        return await config.connect(url.host, url.port)
    if proxy := await choose_proxy(url, config):
        return await dial_by_proxy(proxy, url, config.proxy_ssl_context)
    return await dial_tcp(url.host, url.port, local_address=config.local_address)


async def _encrypt(
    stream: trio.abc.Stream, context: ssl.SSLContext | None, name: str
) -> trio.SSLStream[trio.abc.Stream]:
    try:
        # a redirect may be the first to lead to TLS
        return await start_tls(stream, context or default_context(), name)
    except trio.BrokenResourceError as exc:
        cause = exc.__cause__ or exc
        raise HandshakeError(f"TLS could not be started: {cause}") from cause


@contextmanager
def _deadline(seconds: float) -> Generator[None]:
    with trio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise ConnectionTimeout(f"the connection could not be opened within {seconds} seconds")
