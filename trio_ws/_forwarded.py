"""Who the client is behind proxies: what is believed of what they tell; knows nothing else of requests.

Anybody can write any header, so one tells only as much as trusted proxies have written. They append to what is there:
what the last one wrote is at the right. Reading starts there and ends at the first address that is no trusted proxy's. It
is the client's as far as can be known here.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import sys
from typing import TYPE_CHECKING, TypeAlias

import trio

from ._endpoint import Endpoint, endpoints, tls_of
from ._errors import ConnectionTimeout, HandshakeError
from .transport import AcceptedStream, ProxyProtocolError, read_proxy_header, socket_below

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._config import ServerConfig
    from .protocol import Headers

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 7239 6: an address with or without a port, which may be obfuscated. Bare IPv6 is for X-Forwarded-For alone, but
# nothing else looks like it. Whether it is an address is for `ipaddress` to say.
_PORT = r"(?::([0-9]{1,5}|_[A-Za-z0-9._\-]+))?"
_IPV4 = re.compile(rf"([0-9.]+){_PORT}")
_IPV6 = re.compile(rf"\[([0-9A-Fa-f:.]+)\]{_PORT}|([0-9A-Fa-f:.]+)")
_OBFUSCATED = re.compile(rf"(_[A-Za-z0-9._\-]+){_PORT}")

# RFC 7239 4; an address may lack the quotes that its colon and its brackets ask for, as some write it.
_TOKEN_CHARACTERS = r"!#$%&'*+\-.^_`|~0-9A-Za-z"
_PAIR = re.compile(
    rf"[ \t]*+([{_TOKEN_CHARACTERS}]++)=(?:([{_TOKEN_CHARACTERS}:\[\]]++)"
    r'|"((?:[^"\\]|\\.)*+)")[ \t]*+(?:;|\Z)'
)
_QUOTED_PAIR = re.compile(r"\\(.)")


def client_of(
    stream: trio.abc.Stream, remote: Endpoint | str, headers: Headers, config: ServerConfig
) -> Endpoint | str:
    """Return the client of a request that came from `remote`: itself, unless it is a trusted proxy.

    What is malformed or unknown ends the reading, as does the end of the header; the last address before it counts.
    """
    client = remote
    if _is_trusted(stream, remote, config):
        is_ssl = isinstance(remote, Endpoint) and remote.is_ssl
        for node in _nodes(headers, config.forwarded_header):
            if node is None:
                break
            if isinstance(node, str):
                return node
            client = Endpoint(*node, is_ssl)
            if not _is_among(client.address, config):
                break
    return client


def direct_client(stream: trio.abc.Stream, config: ServerConfig) -> Endpoint | str | None:
    """Return the client of a stream that speaks for itself; None where a proxy will tell who it is."""
    remote = endpoints(stream)[1]
    is_told = config.proxy_protocol and not config.trusted_proxies
    return None if is_told or _is_trusted(stream, remote, config) else remote


async def receive_remote(stream: trio.abc.Stream, config: ServerConfig) -> Endpoint | None:
    """Receive the header of the PROXY protocol if the peer has to send one; return the client if it names one.

    Raises:
        ConnectionTimeout: it did not come within ``connect_timeout``; the stream is closed.
        HandshakeError: something else came, or nothing will; the stream is closed.

    Cancellation: the stream is left open, and some of the header has been received.
    """
    if config.trusted_proxies and not _is_trusted(stream, endpoints(stream)[1], config):
        return None
    tls = tls_of(stream)
    try:
        with trio.move_on_after(config.connect_timeout):
            told = await read_proxy_header(stream if tls is None else tls.transport_stream)
            return None if told is None else Endpoint(*told, tls is not None)
    except (ProxyProtocolError, trio.BrokenResourceError) as exc:
        await trio.aclose_forcefully(stream)
        raise HandshakeError(f"there was no header of the PROXY protocol: {exc}") from exc
    await trio.aclose_forcefully(stream)
    raise ConnectionTimeout(f"no header of the PROXY protocol came within {config.connect_timeout} seconds")


def _is_trusted(stream: trio.abc.Stream, remote: Endpoint | str, config: ServerConfig) -> bool:
    if isinstance(remote, Endpoint):
        return _is_among(remote.address, config)
    return "unix" in config.trusted_proxies and _is_unix(stream)


def _is_among(address: _Address, config: ServerConfig) -> bool:
    """Say whether an address is a trusted proxy's, also one of IPv4 that a socket for both versions gives as IPv6."""
    forms = [address]
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        forms.append(address.ipv4_mapped)
    return any(form in network for network in config.trusted_networks for form in forms)


def _is_unix(stream: trio.abc.Stream) -> bool:
    tls = tls_of(stream)
    inner = stream if tls is None else tls.transport_stream
    sock = inner.socket if isinstance(inner, AcceptedStream) else socket_below(inner)
    return sys.platform != "win32" and sock is not None and sock.family == socket.AF_UNIX


def _nodes(headers: Headers, name: str) -> Iterator[tuple[_Address, int] | str | None]:
    """Yield what the headers say of each node, from the right; None: it is malformed, or unknown.

    A comma inside quotes is taken for one that separates, and makes what is around it malformed. To look for pairs of
    quotes would be worse: one that a client has left open could take in what a proxy has appended.
    """
    read = _read_forwarded if name == "forwarded" else _read_address
    for value in reversed(headers.get_all(name)):
        for item in reversed(value.split(",")):
            yield read(item.strip(" \t"))


def _read_forwarded(element: str) -> tuple[_Address, int] | str | None:
    """Return the node of an element of `Forwarded`, which may be an identifier that says no address (RFC 7239 6.3)."""
    nodes: list[str] = []
    position = 0
    while position < len(element):
        pair = _PAIR.match(element, position)
        if pair is None:
            return None
        if pair[1].lower() == "for":
            nodes.append(pair[2] or _QUOTED_PAIR.sub(r"\1", pair[3]))
        position = pair.end()
    if len(nodes) != 1:
        return None
    obfuscated = _OBFUSCATED.fullmatch(nodes[0])
    return obfuscated[1] if obfuscated else _read_address(nodes[0])


def _read_address(text: str) -> tuple[_Address, int] | None:
    """Return address and port, which is 0 where it is not told."""
    try:
        if found := _IPV4.fullmatch(text):
            address: _Address = ipaddress.IPv4Address(found[1])
        elif found := _IPV6.fullmatch(text):
            address = ipaddress.IPv6Address(found[1] or found[3])
        else:
            return None
    except ValueError:
        return None
    port = int(found[2]) if found[2] and found[2].isdigit() else 0
    return (address, port) if port <= 0xFFFF else None
