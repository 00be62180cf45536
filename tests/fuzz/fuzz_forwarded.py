"""Whatever a client writes before what a trusted proxy appends, the proxy's word counts; and no header raises anything.

The first byte chooses the header and whether the peer is trusted; the rest are the values of its lines.
"""

from __future__ import annotations

import ipaddress

from tests.fuzz.fuzz_kit import Choices, Pieces
from trio_ws import Endpoint
from trio_ws._config import ServerConfig
from trio_ws._forwarded import client_of
from trio_ws.protocol import Headers

CHOICES = 1
_PROXY = Endpoint(ipaddress.ip_address("10.0.0.1"), 50000, False)
_STRANGER = Endpoint(ipaddress.ip_address("192.0.2.1"), 50000, True)
_CLIENT = Endpoint(ipaddress.ip_address("203.0.113.7"), 0, False)
#: What a proxy appends, by the name of the header: a client, or that of another proxy before it.
_APPENDED = {
    "x-forwarded-for": ("203.0.113.7", "203.0.113.7, 10.0.0.2", "203.0.113.7,[2001:db8:1::1]:80"),
    "forwarded": (
        "for=203.0.113.7",
        "for=203.0.113.7;proto=https, For=10.0.0.2",
        'for=203.0.113.7, for="[2001:db8:1::1]"',
    ),
}
_CONFIGS = {
    name: ServerConfig.of({"trusted_proxies": ["10.0.0.0/8", "2001:db8:1::/48"], "forwarded_header": name})
    for name in _APPENDED
}


def check(data: bytes) -> None:
    choices = Choices(data, CHOICES)
    is_forwarded, is_stranger = choices.flags(2)
    name = "forwarded" if is_forwarded else "x-forwarded-for"
    lines = choices.rest.decode("latin-1").split("\n")

    def client(values: list[str]) -> Endpoint | str:
        headers = Headers((name.encode(), value.encode("latin-1")) for value in values)
        return client_of(Pieces([]), _STRANGER if is_stranger else _PROXY, headers, _CONFIGS[name])

    found = client(lines)
    if is_stranger:
        assert found == _STRANGER
        return
    if isinstance(found, str):
        assert found.startswith("_")
        assert any(found in line for line in lines)
    else:
        assert 0 <= found.port <= 0xFFFF
        assert found.is_ssl is _PROXY.is_ssl
    for appended in _APPENDED[name]:
        assert client([*lines, appended]) == _CLIENT
        assert client([*lines[:-1], f"{lines[-1]}, {appended}"]) == _CLIENT


def seeds() -> dict[str, bytes]:
    plain = {
        "none": "",
        "address": "192.0.2.1",
        "with_port": "192.0.2.1:80",
        "ipv6": "2001:db8::1",
        "ipv6_with_port": "[2001:db8::1]:443",
        "zone": "fe80::1%eth0",
        "mapped": "::ffff:10.0.0.2",
        "chain": "192.0.2.1, 10.0.0.2, 10.0.0.3",
        "lines": "192.0.2.1\n10.0.0.2",
        "large_port": "192.0.2.1:65536",
        "octal": "010.0.0.1",
        "short": "10.1",
        "unknown": "unknown",
        "open_quote": '"192.0.2.1',
        "commas": ",,, ,",
        "digits": "1" * 60,
        "other_digits": "\xb2.0.0.1",
    }
    pairs = {
        "pair": "for=192.0.2.1",
        "ipv6": 'For="[2001:db8:cafe::17]:4711"',
        "all": 'for=192.0.2.60;proto=http;by=203.0.113.43;host="a, b"',
        "obfuscated": "for=_hidden, for=_SEVKISEK",
        "obfuscated_port": 'for="10.0.0.2:_port"',
        "unknown": "for=unknown",
        "escaped": 'for="\\1\\9\\2.0.2.1"',
        "open_quote": 'for="192.0.2.1',
        "backslash": 'for="\\',
        "backslashes": 'for="' + "\\" * 50 + '"',
        "two": "for=192.0.2.1;for=192.0.2.2",
        "no_value": "for=",
        "no_pair": "192.0.2.1",
        "semicolons": ";;for=192.0.2.1;",
        "newline_escaped": 'for="\\\x0b"',
    }
    found = {f"x_{name}": b"\x00" + text.encode("latin-1") for name, text in plain.items()}
    found |= {f"forwarded_{name}": b"\x01" + text.encode("latin-1") for name, text in pairs.items()}
    found["x_stranger"], found["forwarded_stranger"] = b"\x02192.0.2.9", b"\x03for=192.0.2.9"
    return found
