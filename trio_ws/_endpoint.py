"""Addresses of the two ends of a connection; knows nothing of WebSocket but its URL schemes."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import trio

from .transport import AcceptedStream, socket_below


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a TCP connection, or where a server listens.

    Attributes:
        address: the IP address.
        port: the TCP port.
        is_ssl: whether TLS is spoken there.
    """

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int
    is_ssl: bool

    @property
    def url(self) -> str:
        """The URL of this end, without a path: ``ws://192.0.2.1:8080``, the scheme's own port left out."""
        scheme, default = ("wss", 443) if self.is_ssl else ("ws", 80)
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{scheme}://{host}" if self.port == default else f"{scheme}://{host}:{self.port}"


def tls_of(stream: trio.abc.Stream) -> trio.SSLStream[trio.abc.Stream] | None:
    """Return the stream as one of TLS if it is one."""
    return cast("trio.SSLStream[trio.abc.Stream]", stream) if isinstance(stream, trio.SSLStream) else None


# Thousands of connections have few addresses at this end, and often at the other one; objects for each take 200 bytes.
_parse_address = lru_cache(maxsize=1024)(ipaddress.ip_address)


def endpoint_of(family: int, name: object, is_ssl: bool) -> Endpoint | str:
    """Return the endpoint for a name as the socket module gives it; a path, or '' for one without a name, stays text."""
    if family in (socket.AF_INET, socket.AF_INET6):
        # a scoped IPv6 address carries its interface behind a percent sign, which ipaddress understands
        address, port = cast("tuple[str, int]", name)[:2]
        return Endpoint(_parse_address(address), port, is_ssl)
    return name if isinstance(name, str) else ""


def _asked(family: int, ask: Callable[[], object], is_ssl: bool) -> Endpoint | str:
    """Return an end of a socket; '' if the peer is gone already: Linux forgets its name then, others both."""
    try:
        return endpoint_of(family, ask(), is_ssl)
    except OSError:
        return ""


def endpoints(stream: trio.abc.Stream) -> tuple[Endpoint | str, Endpoint | str]:
    """Return the local and the remote end of a stream: endpoints for TCP, paths for Unix sockets, else its repr."""
    if isinstance(stream, AcceptedStream):
        accepted = stream.socket
        family = accepted.family
        return _asked(family, accepted.getsockname, False), endpoint_of(family, stream.peer, False)
    inner, is_ssl = stream, False
    while tls := tls_of(inner):  # one in another where TLS is also spoken to a proxy
        inner, is_ssl = tls.transport_stream, True
    sock = socket_below(inner)
    if sock is None:
        return repr(stream), repr(stream)
    return _asked(sock.family, sock.getsockname, is_ssl), _asked(sock.family, sock.getpeername, is_ssl)
