"""How a client says who it is: `Authorization` (RFC 7617) and `Cookie` (RFC 6265) headers; knows nothing of connections."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .protocol import encode_headers, is_token

if TYPE_CHECKING:
    from .protocol import HeadersLike

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# RFC 6265 4.1.1: what a cookie may consist of. With a semicolon it would be two cookies, and servers are at odds about
# spaces, commas, quotes and backslashes.
_COOKIE_VALUE = re.compile(r'(?P<quote>"?)[!#-+\--:<-\[\]-~]*(?P=quote)')


def basic_authorization(user: str, password: str) -> str:
    """Return the value of an `Authorization` header that says who a user is.

    Raises:
        ValueError: there is a colon in the user's name, or a control character in either (RFC 7617 2).
    """
    if ":" in user:
        raise ValueError("the name of a user cannot have a colon in it, which is where the password begins")
    if _CONTROL.search(user + password):
        raise ValueError("neither a user's name nor a password can have control characters in it")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def cookie_header(cookies: Mapping[str, str]) -> str:
    """Return the value of one `Cookie` header.

    Raises:
        ValueError: a name or a value cannot be sent. The value itself is not told, for it may be a secret.
    """
    if not isinstance(cookies, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may not check types
        raise TypeError("cookies are a mapping of names to values")
    for name, value in cookies.items():
        if not is_token(name):
            raise ValueError(f"{name!r} cannot be the name of a cookie")
        if not _COOKIE_VALUE.fullmatch(value):
            raise ValueError(f"the value of the cookie {name} cannot be sent as it is: percent-encode it")
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


def caller_headers(
    extra_headers: HeadersLike, auth: tuple[str, str] | None, cookies: Mapping[str, str]
) -> tuple[tuple[bytes, bytes], ...]:
    """Return all headers that a caller gave, in whatever form. An explicit `Authorization` wins over `auth`.

    Raises:
        ValueError: one of them cannot be sent, or there are two `Cookie` headers (RFC 6265 5.4 allows one).
    """
    pairs = encode_headers(extra_headers)
    if auth is not None:
        pairs = with_authorization(pairs, basic_authorization(*auth))
    if cookies:
        if has(pairs, b"cookie"):
            raise ValueError("cookies are given twice: use cookies or the header Cookie")
        pairs.append((b"Cookie", cookie_header(cookies).encode()))
    return tuple(pairs)


def with_authorization(headers: list[tuple[bytes, bytes]], value: str | None) -> list[tuple[bytes, bytes]]:
    """Return `headers` with this `Authorization`, unless there is one already."""
    if value is None or has(headers, b"authorization"):
        return headers
    return [*headers, (b"Authorization", value.encode())]


def has(headers: list[tuple[bytes, bytes]], name: bytes) -> bool:
    """Say whether there is a header of this name, which is in lower case."""
    return any(each.lower() == name for each, _ in headers)
