"""Dialling through a proxy, HTTP CONNECT or SOCKS, over a dialler; it must not know who chose the proxy, or for what.

A caller gives deadlines by cancelling. Whatever fails or is cancelled here leaves nothing open, and all that a proxy may
make this side hold is bounded.
"""

from __future__ import annotations

import base64
import math
import re
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

import h11
import trio

from ._dial import dial_tcp, start_tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from python_socks.async_.trio import Proxy as SocksClient

    Dialer: TypeAlias = Callable[[str, int], Awaitable[trio.abc.Stream]]
    SocketDialer: TypeAlias = Callable[[str, int], Awaitable[trio.SocketStream]]

_Stream = TypeVar("_Stream", bound=trio.abc.Stream)

#: Scheme of a proxy -> its usual port. ``socks4`` and ``socks5`` find the address of the target here, the others have
#: the proxy do it.
PROXY_PORTS: Final = {
    "http": 80,
    "https": 443,
    "socks4": 1080,
    "socks4a": 1080,
    "socks5": 1080,
    "socks5h": 1080,
}

# The head and the body of an answer, as much as a server's answer to the opening handshake may have.
_MAX_HEAD: Final = 32768
_MAX_BODY: Final = 65536
_MAX_INFORMATIONAL: Final = 8
_READ_SIZE: Final = 16384

# Names and addresses. What else a name may hold could end a line, or mean something else to the proxy.
_HOST: Final = re.compile(r"[-A-Za-z0-9._]{1,255}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a proxy is, and how to speak to it.

    Attributes:
        scheme: one of `PROXY_PORTS`; with ``https`` TLS is spoken to the proxy itself.
        host: name or address, an IPv6 address without brackets.
        port: TCP port.
        username: for the proxy alone; None where it asks for nobody's name.
        password: the same.
    """

    scheme: str
    host: str
    port: int
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """The proxy's URL, without the credentials."""
        return f"{self.scheme}://{_authority(self.host, self.port)}"


class TunnelError(OSError):
    """A proxy could not be reached, or there is no way through it.

    Attributes:
        status: the HTTP status with which it refused, or None.
        headers: those of its answer.
        body: what came with it, cut at 64 KiB.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        body: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body = body


async def dial_http_proxy(
    proxy: Proxy,
    host: str,
    port: int,
    *,
    context: ssl.SSLContext | None = None,
    dial: Dialer = dial_tcp,
) -> trio.abc.Stream:
    """Have an HTTP proxy connect to a host, and return the tunnel to it (CONNECT, RFC 9110 9.3.6).

    Args:
        proxy: an ``http`` or ``https`` one.
        host: name or address, which the proxy looks up.
        port: TCP port.
        context: for TLS to the proxy; None speaks none.
        dial: how to reach the proxy.

    Raises:
        TunnelError: the proxy could not be reached, refused, or did not speak HTTP.
        ValueError: *host* or *port* is none.

    Cancellation: nothing stays open.
    """
    host = _check_target(host, port)
    stream = await _reach(proxy, dial)
    if context is not None:
        try:
            stream = await start_tls(stream, context, proxy.host)
        except trio.BrokenResourceError as exc:
            cause = exc.__cause__ or exc
            raise TunnelError(f"TLS could not be started with the proxy {proxy}: {cause}") from cause
    try:
        await _open_tunnel(proxy, stream, _authority(host, port))
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def dial_socks_proxy(
    proxy: Proxy, host: str, port: int, *, dial: SocketDialer = dial_tcp
) -> trio.SocketStream:
    """Have a SOCKS proxy connect to a host, and return the tunnel to it (SOCKS 4, 4a; RFC 1928, RFC 1929).

    Args:
        proxy: a ``socks4``, ``socks4a``, ``socks5`` or ``socks5h`` one. SOCKS4 takes a username, SOCKS5 a username and
            a password, all of them ASCII.
        host: name or address.
        port: TCP port.
        dial: how to reach the proxy.

    Raises:
        ImportError: python-socks is not installed.
        OSError: the address of *host* could not be found, with ``socks4`` and ``socks5``.
        TunnelError: the proxy could not be reached, refused, or did not speak SOCKS.
        ValueError: *host* or *port* is none.

    Cancellation: nothing stays open.
    """
    host = _check_target(host, port)
    is_socks4 = proxy.scheme in ("socks4", "socks4a")
    if is_socks4 and ":" in host:
        raise TunnelError(f"the proxy {proxy} cannot reach {host}: SOCKS4 knows no IPv6")
    try:
        import python_socks  # noqa: PLC0415  # an optional dependency
        from python_socks.async_ import trio as socks  # noqa: PLC0415  # the same
    except ImportError as exc:
        raise ImportError("SOCKS proxies need python-socks: pip install 'trio_ws[socks]'") from exc
    client = socks.Proxy(
        python_socks.ProxyType.SOCKS4 if is_socks4 else python_socks.ProxyType.SOCKS5,
        proxy.host,
        proxy.port,
        proxy.username,
        proxy.password,
        rdns=proxy.scheme in ("socks4a", "socks5h"),
        forward=cast("SocksClient", _Reached(proxy, dial)),
    )
    try:
        return trio.SocketStream(await client.connect(host, port, timeout=math.inf))
    except (TunnelError, socket.gaierror):  # the latter of the target: the proxy's is the cause of the former
        raise
    except (python_socks.ProxyError, UnicodeDecodeError) as exc:  # the latter of a name that nobody reads
        raise TunnelError(f"the proxy {proxy} did not open a tunnel: {exc}") from exc
    except OSError as exc:
        raise TunnelError(f"the connection to the proxy {proxy} broke before it answered") from exc


class _Reached:
    """Stands where python-socks takes another proxy to go through first, so that we dial: all addresses, not just one."""

    def __init__(self, proxy: Proxy, dial: SocketDialer) -> None:
        self._proxy = proxy
        self._dial = dial

    async def connect(self, **_: Any) -> trio.socket.SocketType:
        return (await _reach(self._proxy, self._dial)).socket


async def _reach(proxy: Proxy, dial: Callable[[str, int], Awaitable[_Stream]]) -> _Stream:
    try:
        return await dial(proxy.host, proxy.port)
    except OSError as exc:
        raise TunnelError(f"the proxy {proxy} could not be reached: {exc}") from exc


def _check_target(host: str, port: int) -> str:
    """Return the host as a proxy is to be told of it: a zone means something on this machine only (RFC 6874 4)."""
    host = host.partition("%")[0]
    if not _HOST.fullmatch(host) or not 0 < port < 65536:
        raise ValueError(f"no proxy can be asked for {host!r} and port {port}")
    return host


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _open_tunnel(proxy: Proxy, stream: trio.abc.Stream, target: str) -> None:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
    headers = [("Host", target)]
    if proxy.username is not None or proxy.password is not None:
        credentials = f"{proxy.username or ''}:{proxy.password or ''}".encode()
        headers.append(("Proxy-Authorization", "Basic " + base64.b64encode(credentials).decode()))
    request = connection.send(h11.Request(method="CONNECT", target=target, headers=headers))
    try:
        await stream.send_all(request + connection.send(h11.EndOfMessage()))
        answer = await _receive_head(proxy, stream, connection)
    except trio.BrokenResourceError as exc:
        raise TunnelError(f"the connection to the proxy {proxy} broke before it answered") from exc
    except h11.RemoteProtocolError as exc:
        # without the traceback, in which h11 has the exception itself: a cycle
        raise TunnelError(f"the proxy {proxy} did not answer with valid HTTP: {exc}") from exc.with_traceback(
            None
        )
    if not 200 <= answer.status_code < 300:
        raise _refusal(proxy, answer, await _receive_body(stream, connection))
    if connection.trailing_data[0]:
        # TLS and WebSocket begin with the client: nobody behind the proxy has had anything to answer
        raise TunnelError(f"the proxy {proxy} sent more than its answer before anything was sent through it")


async def _receive_head(proxy: Proxy, stream: trio.abc.Stream, connection: h11.Connection) -> h11.Response:
    informational = 0
    while informational <= _MAX_INFORMATIONAL:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = await stream.receive_some(_READ_SIZE)
            if not data:
                raise TunnelError(f"the proxy {proxy} closed the connection before it answered")
            connection.receive_data(bytes(data))
        elif isinstance(event, h11.Response):
            return event
        else:
            informational += 1
    raise TunnelError(f"the proxy {proxy} sends informational responses without end")


async def _receive_body(stream: trio.abc.Stream, connection: h11.Connection) -> bytes:
    """Return what there is of the body of a refusal. It is for people and logs: where it breaks off it just ends."""
    body = bytearray()
    with suppress(h11.RemoteProtocolError, trio.BrokenResourceError):
        while len(body) < _MAX_BODY:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(_READ_SIZE)))
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                break
    return bytes(body[:_MAX_BODY])


def _refusal(proxy: Proxy, answer: h11.Response, body: bytes) -> TunnelError:
    message = f"the proxy {proxy} answered with status {answer.status_code}"
    if schemes := [
        value.decode("latin-1") for name, value in answer.headers if name == b"proxy-authenticate"
    ]:
        message += f" and asks for {', '.join(map(ascii, schemes))}"
    return TunnelError(message, answer.status_code, tuple(answer.headers), body)
