"""Any bytes in any pieces are one header of the PROXY protocol, of which not a byte too many is read, or `ProxyProtocolError`.

A client that is told is told again by the same header, written as the specification says.

The first bytes choose where to cut; the rest is what a proxy sends.
"""

from __future__ import annotations

import ipaddress

from tests.fuzz.fuzz_kit import Choices, Pieces, result_of, same, ways_to_cut
from trio_ws.transport import ProxyProtocolError, read_proxy_header
from trio_ws.transport._proxy_protocol import MAX_LINE, MAX_REST

CHOICES = 2
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_LOCAL = ipaddress.ip_address("::1"), ipaddress.ip_address("127.0.0.1")


def check(data: bytes) -> None:
    choices = Choices(data, CHOICES)
    seed = choices.byte() + 256 * choices.byte()

    def outcome(pieces: list[bytes]) -> tuple[object, ...]:
        stream = Pieces(pieces)
        try:
            told = result_of(read_proxy_header(stream))
        except ProxyProtocolError:  # what it says may depend on how far was read
            assert stream.taken <= max(MAX_LINE, len(_SIGNATURE) + 4 + MAX_REST)
            return ()
        header = choices.rest[: stream.taken]
        if header.startswith(b"PROXY"):
            assert header.endswith(b"\r\n")
            assert len(header) <= MAX_LINE
        else:
            assert header.startswith(_SIGNATURE)
            assert len(header) <= 16 + MAX_REST
            assert len(header) == 16 + int.from_bytes(header[14:16], "big")
        if told is not None:
            _is_told_again(*told)
        return told, header

    same(outcome(pieces) for pieces in ways_to_cut(choices.rest, seed))


def _is_told_again(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    is_6 = address.version == 6
    local = _LOCAL[0 if is_6 else 1]
    line = f"PROXY TCP{address.version} {address} {local} {port} 80\r\n".encode()
    rest = address.packed + local.packed + port.to_bytes(2, "big") + b"\x00\x50"
    binary = _SIGNATURE + bytes([0x21, 0x21 if is_6 else 0x11]) + len(rest).to_bytes(2, "big") + rest
    for header in (line, binary):
        stream = Pieces([header + b"GET"])
        assert result_of(read_proxy_header(stream)) == (address, port)
        assert stream.taken == len(header)


def seeds() -> dict[str, bytes]:
    def binary(rest: bytes, command: int = 0x21, family: int = 0x11, size: int | None = None) -> bytes:
        size = len(rest) if size is None else size
        return _SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big") + rest

    four = bytes([192, 0, 2, 1, 10, 0, 0, 1, 0xDE, 0xAD, 0, 80])
    six = b"".join(ipaddress.ip_address(text).packed for text in ("2001:db8::1", "::1")) + b"\xbe\xef\x01\xbb"
    headers = {
        "line_4": b"PROXY TCP4 192.0.2.1 10.0.0.1 57005 80\r\n",
        "line_6": b"PROXY TCP6 2001:db8::1 ::1 57005 80\r\n",
        "line_shortest": b"PROXY TCP6 :: :: 0 0\r\n",
        "line_longest": b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n",
        "line_unknown": b"PROXY UNKNOWN\r\n",
        "line_unknown_more": b"PROXY UNKNOWN ffff::1 what ever\r\n",
        "line_too_long": b"PROXY UNKNOWN " + b"x" * 120 + b"\r\n",
        "line_zeros": b"PROXY TCP4 192.0.2.1 10.0.0.1 00080 80\r\n",
        "line_port": b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 80\r\n",
        "line_address": b"PROXY TCP4 256.0.2.1 10.0.0.1 1 80\r\n",
        "line_mixed": b"PROXY TCP4 ::1 10.0.0.1 1 80\r\n",
        "line_bare_newline": b"PROXY TCP4 192.0.2.1 10.0.0.1 57005 80\n",
        "line_cr_inside": b"PROXY TCP4 192.0.2.1\r 10.0.0.1 57005 80\r\n",
        "line_udp": b"PROXY UDP4 192.0.2.1 10.0.0.1 57005 80\r\n",
        "line_cut": b"PROXY TCP4 192.0",
        "binary_4": binary(four),
        "binary_6": binary(six, family=0x21),
        "binary_local": binary(b"", command=0x20, family=0),
        "binary_unix": binary(bytes(216), family=0x31),
        "binary_udp": binary(four, family=0x12),
        "binary_extra": binary(four + b"\x03\x00\x04\x00\x00\x00\x00"),
        "binary_short": binary(four[:-1]),
        "binary_too_long": binary(four + bytes(MAX_REST + 1 - len(four))),
        "binary_longest": binary(b"", size=MAX_REST),
        "binary_version": binary(four, command=0x31),
        "binary_command": binary(four, command=0x22),
        "binary_family": binary(four, family=0x41),
        "binary_cut": binary(four)[:14],
        "http": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        "blank_lines": b"\r\n\r\n\r\n",
        "nothing": b"",
    }
    return {name: bytes([9, 0]) + header + b"GET / HTTP/1.1\r\n" for name, header in headers.items()}
