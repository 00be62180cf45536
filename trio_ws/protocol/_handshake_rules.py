"""What a request for a WebSocket must be (RFC 6455 4.2.1), as a table; knows nothing of how it came and how it is answered.

`RULES` stand in the order in which they are looked at, each with the answer to a request that breaks it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ._handshake import HOST, VERSIONS, Request
from ._headers import Headers, split_list

# RFC 9112 3.2: a GET asks for a path or for a whole URL, and fragments are not for servers (RFC 6455 3). With any other
# target this server and a proxy before it could be of two minds about what is asked for.
_TARGET = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.\-]*://[^/?#]+(?:[/?][^#]*)?|/[^#]*)")
_KEY = re.compile(r"[+/0-9A-Za-z]{22}==")  # 16 bytes in base64
_VERSION_VALUES = frozenset(map(str, VERSIONS))
_UPGRADE = ((b"upgrade", b"websocket"),)
_SUPPORTED = (*_UPGRADE, (b"sec-websocket-version", b", ".join(b"%d" % version for version in VERSIONS)))

#: The values of each header of a request, by its name.
Fields: TypeAlias = Mapping[bytes, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a request must be, and the answer to one that is not."""

    holds: Callable[[Request, Fields], bool]
    status: int
    sentence: str
    headers: Sequence[tuple[bytes, bytes]] = ()


def fields_of(headers: Headers) -> Fields:
    """Return the headers sorted by their names: a dozen looks at them is what a request takes."""
    fields: dict[bytes, list[str]] = {}
    for name, value in headers:
        fields.setdefault(name, []).append(value.decode("latin-1"))
    return fields


def _has_one_host(_: Request, fields: Fields) -> bool:
    hosts = fields.get(b"host", ())
    return len(hosts) == 1 and HOST.fullmatch(hosts[0]) is not None


def _has_no_body(_: Request, fields: Fields) -> bool:
    lengths = fields.get(b"content-length", ())
    return b"transfer-encoding" not in fields and all(set(length) == {"0"} for length in lengths)


def _lists(values: Sequence[str], token: str) -> bool:
    return token in (item.lower() for item in split_list(values))


def _has_one_key(_: Request, fields: Fields) -> bool:
    keys = fields.get(b"sec-websocket-key", ())
    return len(keys) == 1 and _KEY.fullmatch(keys[0]) is not None


def _has_one_version(_: Request, fields: Fields) -> bool:
    values = fields.get(b"sec-websocket-version", ())
    return len(values) == 1 and values[0] in _VERSION_VALUES


RULES = (
    Rule(
        lambda request, _: request.method == "GET",
        405,
        "A WebSocket handshake is a GET request.",
        ((b"allow", b"GET"),),
    ),
    Rule(lambda request, _: request.http_version < "2", 505, "A WebSocket handshake is an HTTP/1.1 request."),
    # RFC 9110 7.8: "A server MUST ignore an Upgrade header field that is received in an HTTP/1.0 request."
    Rule(
        lambda request, _: request.http_version >= "1.1",
        426,
        "A WebSocket handshake needs HTTP/1.1.",
        _UPGRADE,
    ),
    Rule(
        lambda request, _: _TARGET.fullmatch(request.target) is not None,
        400,
        "The target must be a path or a URL, without a fragment.",
    ),
    Rule(_has_one_host, 400, "There must be exactly one Host header, with a host in it."),
    Rule(_has_no_body, 400, "A WebSocket handshake has no body."),
    Rule(
        lambda _, fields: _lists(fields.get(b"upgrade", ()), "websocket"),
        426,
        "This address speaks WebSocket: ask for an upgrade.",
        _UPGRADE,
    ),
    Rule(
        lambda _, fields: _lists(fields.get(b"connection", ()), "upgrade"),
        426,
        "The Connection header must name the upgrade.",
        _UPGRADE,
    ),
    Rule(_has_one_key, 400, "There must be exactly one Sec-WebSocket-Key header, with 16 bytes in base64."),
    Rule(_has_one_version, 426, "The Sec-WebSocket-Version must be 13 or 8.", _SUPPORTED),
)


def persists(request: Request) -> bool:
    """Say whether another request may follow this one, once it was answered and nothing was switched (RFC 9112 9.3)."""
    fields = fields_of(request.headers)
    return (
        request.http_version == "1.1"
        and not _lists(fields.get(b"connection", ()), "close")
        and b"upgrade" not in fields
        and _has_no_body(request, fields)  # nobody reads it, so nobody would find where it ends
    )
