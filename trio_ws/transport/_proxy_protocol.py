"""The header in which a proxy tells whose connection it passes on (PROXY protocol 1 and 2); it must not know what follows.

The header comes before all else, before TLS too, and nothing but itself says where it ends. So no byte is asked for that
may not belong to it: each read asks for as many as it has left at least.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final, TypeAlias

from ._accepted import AcceptedStream

if TYPE_CHECKING:
    import trio

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Bytes of a line of version 1, its end included (2.1).
MAX_LINE: Final = 107

#: Bytes of version 2 behind its fixed part. Addresses take 216 at most (2.2); the rest is for what may come with them, of
#: which a client's certificate is the largest.
MAX_REST: Final = 4096

# How a line begins, and the fewest bytes that it has then: addresses cannot be shorter than 0.0.0.0 and ::.
_LINES: Final = ((b"PROXY TCP4 ", 32), (b"PROXY TCP6 ", 22), (b"PROXY UNKNOWN", 15))
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_BEGINNINGS: Final = (_SIGNATURE, *(begin for begin, _ in _LINES))
_FIXED: Final = 16  # bytes of version 2 that say how many there are

_PORT = rb"(0|[1-9][0-9]{0,4})"
_TCP_LINE = re.compile(rb"PROXY TCP([46]) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) %b %b\r\n" % (_PORT, _PORT))
_UNKNOWN_LINE = re.compile(rb"PROXY UNKNOWN(?: .*)?\r\n", re.DOTALL)

# Of version 2: TCP over either version of IP by its number, and the sizes of an address and of all of them.
_FAMILIES: Final = {0x11: (4, 12), 0x21: (16, 36)}


class ProxyProtocolError(Exception):
    """What came first is no header of the PROXY protocol."""


async def read_proxy_header(stream: trio.abc.Stream) -> tuple[_Address, int] | None:
    """Read the header at the beginning of *stream*, and not a byte more.

    Returns the client's address and port. None: the connection is the proxy's own, or it does not tell, or tells of
    something else than TCP.

    Raises:
        ProxyProtocolError: it is malformed or too long, or the stream has ended within it.
        trio.BrokenResourceError: the connection is broken.

    Cancellation: some of it may have been read.
    """
    header = b""
    while size := missing(header):
        data = stream.try_receive(size) if isinstance(stream, AcceptedStream) else None
        if data is None:
            data = bytes(await stream.receive_some(size))
        if not data:
            raise ProxyProtocolError("the connection has ended within its header")
        header += data
    return _parse_version_2(header) if header[:1] == b"\r" else _parse_version_1(header)


def missing(header: bytes) -> int:
    """Return how many bytes are still to come at least of a header that begins with these; 0: it is complete.

    Raises:
        ProxyProtocolError: no header begins so.
    """
    if not any(header[: len(begin)] == begin[: len(header)] for begin in _BEGINNINGS):
        raise ProxyProtocolError("no header of either version begins so")
    if len(header) < len(_SIGNATURE):  # any line is longer too
        return len(_SIGNATURE) - len(header)
    if header[:1] != b"\r":
        return _missing_in_line(header)
    if len(header) < _FIXED:
        return _FIXED - len(header)
    rest = int.from_bytes(header[14:16], "big")
    if rest > MAX_REST:
        raise ProxyProtocolError(f"the header has {rest} bytes behind its beginning, more than {MAX_REST}")
    return _FIXED + rest - len(header)


def _missing_in_line(header: bytes) -> int:
    if header[-2:] == b"\r\n":
        return 0
    end = 1 if header[-1:] == b"\r" else 2
    if b"\n" in header or len(header) + end > MAX_LINE:
        raise ProxyProtocolError("the line is malformed or too long")
    least = next(least for begin, least in _LINES if header.startswith(begin[: len(header)]))
    return max(least - len(header), end)


def _parse_version_1(header: bytes) -> tuple[_Address, int] | None:
    if _UNKNOWN_LINE.fullmatch(header):
        return None
    found = _TCP_LINE.fullmatch(header)
    if found is None:
        raise ProxyProtocolError("the line is malformed")
    parse = ipaddress.IPv4Address if found[1] == b"4" else ipaddress.IPv6Address
    try:
        source, _ = parse(found[2].decode()), parse(found[3].decode())
    except ValueError as exc:
        raise ProxyProtocolError(f"the line is malformed: {exc}") from exc
    if max(int(found[4]), int(found[5])) > 0xFFFF:
        raise ProxyProtocolError("the line has a port that is too large")
    return source, int(found[4])


def _parse_version_2(header: bytes) -> tuple[_Address, int] | None:
    version, command = divmod(header[12], 16)
    family, protocol = divmod(header[13], 16)
    if version != 2 or command > 1 or family > 3 or protocol > 2:
        raise ProxyProtocolError(f"the header is of an unknown kind: {header[12:14].hex()}")
    if command == 0 or header[13] not in _FAMILIES:
        return None
    size, total = _FAMILIES[header[13]]
    if len(header) < _FIXED + total:
        raise ProxyProtocolError("the header ends within its addresses")
    port = int.from_bytes(header[_FIXED + 2 * size :][:2], "big")
    return ipaddress.ip_address(header[_FIXED : _FIXED + size]), port
