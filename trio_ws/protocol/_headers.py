"""Headers of a handshake and the lists inside them (RFC 9110 5, RFC 6455 9.1); knows nothing of requests or responses.

Text is latin-1 in both directions: every byte a peer can send decodes, and what does not encode cannot be sent.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias, cast, overload

#: What callers may give as headers: a mapping, or pairs where a name occurs more than once.
HeadersLike: TypeAlias = (
    Mapping[str, str]
    | Mapping[bytes, bytes]
    | Mapping[str, str | bytes]
    | Iterable[tuple[str | bytes, str | bytes]]
)
#: The parameters of an extension, in order; None where one has no value.
Params: TypeAlias = Sequence[tuple[str, str | None]]

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # RFC 9110 5.6.2
_IS_TOKEN = re.compile(_TOKEN)
_IS_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 5.5: no control character but the tab

# Each of these moves through its input without ever stepping back (`++`, `*+`), so that no value takes more than
# linear time.
_GAP = re.compile(r"[ \t,]*+")
_PARAM = re.compile(rf'[ \t]*+;[ \t]*+({_TOKEN})(?:=(?:({_TOKEN})|"((?:[^"\\]|\\.)*+)"))?', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


class Extension(typing.Protocol):
    """An extension that both sides have agreed on."""

    @property
    def name(self) -> str:
        """Its registered name."""
        ...

    @property
    def params(self) -> Params:
        """What was agreed on."""
        ...


class ExtensionFactory(typing.Protocol):
    """One side's readiness to use an extension, and the terms on which it does."""

    @property
    def name(self) -> str:
        """The registered name of the extension."""
        ...

    def offer(self) -> Params:
        """Return what a client asks for."""
        ...

    def accept_response(self, params: Params) -> Extension:
        """Return the extension on the terms that the server chose.

        Raises:
            RemoteProtocolError: the offer does not permit them.
        """
        ...

    def accept_offer(self, params: Params) -> tuple[Params, Extension] | None:
        """Return what a server answers to a client's offer, and the extension on these terms; None declines."""
        ...


@lru_cache(maxsize=128)
def _as_stored(name: str) -> bytes:
    """Return a name as `Headers` has it; programs ask for few, and for each connection for the same ones."""
    return name.lower().encode()


class Headers(list[tuple[bytes, bytes]]):
    """Headers as they stood on the wire: pairs in order, names in lower case."""

    @classmethod
    def of(cls, headers: HeadersLike) -> Headers:
        """Return what is given in any form as `Headers`.

        Raises:
            ValueError: a name or a value cannot stand in a header.
        """
        return cls((name.lower(), value) for name, value in encode_headers(headers))

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: str) -> str: ...

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of `name` in any case, else `default`."""
        wanted = _as_stored(name)
        for key, value in self:
            if key == wanted:
                return value.decode("latin-1")
        return default

    def get_all(self, name: str) -> list[str]:
        """Return every value of `name` in any case, in order."""
        wanted = _as_stored(name)
        return [value.decode("latin-1") for key, value in self if key == wanted]


def is_token(text: str) -> bool:
    """Say whether `text` is a token: what names of headers, subprotocols and extensions consist of."""
    return _IS_TOKEN.fullmatch(text) is not None


def encode_headers(headers: HeadersLike) -> list[tuple[bytes, bytes]]:
    """Return `headers` as they go on the wire, names in the caller's case.

    Raises:
        ValueError: a name is no token, or a value has characters that would end the header or are not latin-1. The
            value itself is not told, for it may be a secret.
    """
    pairs: Iterable[tuple[str | bytes, str | bytes]]
    pairs = cast("Mapping[str, str | bytes]", headers).items() if isinstance(headers, Mapping) else headers
    return [_encode_header(name, value) for name, value in pairs]


def _encode_header(name: str | bytes, value: str | bytes) -> tuple[bytes, bytes]:
    text = name if isinstance(name, str) else name.decode("latin-1")
    if not is_token(text):
        raise ValueError(f"{text!r} cannot be the name of a header")
    try:
        octets = value.encode("latin-1") if isinstance(value, str) else value
    except UnicodeEncodeError:
        raise ValueError(f"the value of the header {text} must be latin-1") from None
    if not _IS_VALUE.fullmatch(octets):
        raise ValueError(
            f"the value of the header {text} must not contain control characters such as CR, LF or NUL"
        )
    return text.encode(), octets.strip(b" \t")


def split_list(values: Iterable[str]) -> list[str]:
    """Return the elements of a comma-separated list over one or more headers; empty ones do not count (RFC 9110 5.6.1)."""
    return [item for value in values for part in value.split(",") if (item := part.strip(" \t"))]


def check_subprotocols(names: Iterable[str]) -> tuple[str, ...]:
    """Return `names` if they can be offered.

    Raises:
        ValueError: one is not a token, or is there twice (RFC 6455 4.1).
    """
    seen: dict[str, None] = {}
    for name in names:
        if not is_token(name):
            raise ValueError(f"{name!r} cannot be the name of a subprotocol")
        if name in seen:
            raise ValueError(f"the subprotocol {name!r} is offered twice")
        seen[name] = None
    return tuple(seen)


def parse_subprotocols(values: Sequence[str]) -> list[str]:
    """Return the subprotocols in the values of `Sec-WebSocket-Protocol` headers, in order.

    Raises:
        ValueError: there is a header without a name in it, a name is not a token, or is there twice.
    """
    names = check_subprotocols(split_list(values))
    if values and not names:
        raise ValueError("the header names no subprotocol")
    return list(names)


def parse_extensions(value: str) -> list[tuple[str, list[tuple[str, str | None]]]]:
    """Return the extensions in `value`, several headers being joined by commas, each with its parameters in order.

    Raises:
        ValueError: `value` is not an extension list (RFC 6455 9.1); the position is told.
    """
    found: list[tuple[str, list[tuple[str, str | None]]]] = []
    position, separated = _skip_gap(value, 0)
    while position < len(value):
        name = _IS_TOKEN.match(value, position)
        if name is None or (found and not separated):
            raise ValueError(f"unexpected {value[position]!r} at position {position}")
        params: list[tuple[str, str | None]] = []
        position = name.end()
        while param := _PARAM.match(value, position):
            params.append((param[1], _param_value(param)))
            position = param.end()
        found.append((name[0], params))
        position, separated = _skip_gap(value, position)
    if not found:
        raise ValueError("the header names no extension")
    return found


def _skip_gap(value: str, position: int) -> tuple[int, bool]:
    """Return where the next element begins, and whether a comma stands before it."""
    end = cast("re.Match[str]", _GAP.match(value, position)).end()
    return end, "," in value[position:end]


def _param_value(param: re.Match[str]) -> str | None:
    """Return the value of a parameter; a quoted one is a token too, once unquoted (RFC 6455 9.1)."""
    if param[3] is None:
        return param[2]
    unquoted = _QUOTED_PAIR.sub(r"\1", param[3])
    if not is_token(unquoted):
        raise ValueError(f"the quoted value at position {param.start(3)} is not a token")
    return unquoted


def format_extensions(extensions: Iterable[tuple[str, Params]]) -> str:
    """Return the header value that `parse_extensions` reads as `extensions`."""
    return ", ".join("; ".join([name, *map(_format_param, params)]) for name, params in extensions)


def _format_param(param: tuple[str, str | None]) -> str:
    name, value = param
    return name if value is None else f"{name}={value}"
