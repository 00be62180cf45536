"""Cookies in headers (RFC 6265): reading those that came, writing new ones; knows no jar, so nothing of their later life.

Reading takes pairs apart at semicolons and does nothing else. `http.cookies` also undoes the quoting of RFC 2109, in which
a value may have semicolons: there one cookie can swallow those that follow it, and one that is malformed loses all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

from ._headers import is_token

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Cookies read from one request, the others being ignored: browsers keep at most 180 for one site, and 50 are what
#: RFC 6265 6.1 asks of them.
MAX_COOKIES: Final = 256

#: Bytes of name and value together, above which a browser drops a cookie without a word (RFC 6265 6.1).
_MAX_SIZE: Final = 4096

_IS_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]*")  # RFC 6265 4.1.1: cookie-octet
_IS_PATH = re.compile(r"/[ -:<-~]*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?"
_IS_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_SAME_SITE: Final = {"strict": "Strict", "lax": "Lax", "none": "None"}


def parse_cookies(values: Iterable[str]) -> dict[str, str]:
    """Return the cookies in the values of `Cookie` headers.

    Names and values are as they came, quotes included. What has no name is left out. Of several cookies with one name
    the first counts: a client sends the one with the longest path first (RFC 6265 5.4).
    """
    found: dict[str, str] = {}
    for pair in "; ".join(values).split(";", MAX_COOKIES)[:MAX_COOKIES]:
        name, value = _pair(pair)
        if name:
            found.setdefault(name, value)
    return found


def parse_set_cookies(values: Iterable[str]) -> dict[str, str]:
    """Return the cookies that the values of `Set-Cookie` headers set, without their attributes; the last one counts."""
    pairs = (_pair(value.partition(";")[0]) for value in values)
    return {name: value for name, value in pairs if name}


def _pair(text: str) -> tuple[str, str]:
    """Return name and value; the name is empty where there is none.

    Only spaces and tabs around them are no part of them (RFC 6265 5.2): with all that Unicode takes for space, a cookie
    that any page may set could pass for another one.
    """
    name, equals, value = text.partition("=")
    return (name.strip(" \t"), value.strip(" \t")) if equals else ("", "")


def set_cookie(
    name: str,
    value: str,
    *,
    max_age: int | None = None,
    path: str | None = "/",
    domain: str | None = None,
    secure: bool = True,
    http_only: bool = True,
    same_site: Literal["strict", "lax", "none"] | None = "lax",
) -> tuple[bytes, bytes]:
    """Return the header that sets a cookie, for the headers of a `Response` or ``extra_headers``.

    The defaults are the safe ones: the cookie is sent back over TLS alone, to all of this host, not for requests of
    other sites, and scripts do not see it.

    Args:
        name: a token.
        value: what RFC 6265 4.1.1 allows: visible ASCII without quotes, commas, semicolons and backslashes. Encode all
            else, such as with `urllib.parse.quote`.
        max_age: seconds that the client keeps it, 0 to have it deleted; by default as long as its session.
        path: the paths that it is sent to, this one and all below; None: those beside the one that was asked for.
        domain: also sent to hosts below this one; by default to this host alone.
        secure: send it over TLS alone. Without TLS browsers drop such a cookie, unless the host is localhost.
        http_only: hide it from scripts.
        same_site: whether requests that other sites cause carry it: ``"strict"`` never, ``"lax"`` when the user follows a
            link, ``"none"`` always, which takes `secure`. None leaves it to the browser.

    Raises:
        ValueError: a browser would refuse this cookie, or take it for something else.
    """
    _check_pair(name, value)
    _check_prefix(name, secure=secure, is_host_only=domain is None and path == "/")
    parts = [f"{name}={value}"]
    if max_age is not None:
        if max_age < 0:
            raise ValueError(f"max_age is at least 0, not {max_age}")
        parts.append(f"Max-Age={max_age:d}")
    if path is not None:
        if not _IS_PATH.fullmatch(path):
            raise ValueError(
                f"path begins with a slash and has no semicolons or control characters: {path!r}"
            )
        parts.append(f"Path={path}")
    if domain is not None:
        if not _IS_DOMAIN.fullmatch(domain):
            raise ValueError(f"domain is the name of a host, not {domain!r}")
        parts.append(f"Domain={domain}")
    if secure:
        parts.append("Secure")
    if http_only:
        parts.append("HttpOnly")
    if same_site is not None:
        parts.append(f"SameSite={_same_site(same_site, secure=secure)}")
    return b"set-cookie", "; ".join(parts).encode("ascii")


def _check_pair(name: str, value: str) -> None:
    if not is_token(name):
        raise ValueError(f"{name!r} cannot be the name of a cookie")
    if not _IS_VALUE.fullmatch(value):  # not repeated, for it may be a secret
        raise ValueError(
            f"the value of the cookie {name} has characters that a cookie cannot have: encode it"
        )
    if len(name) + len(value) > _MAX_SIZE:
        raise ValueError(f"the cookie {name} is longer than {_MAX_SIZE} bytes, which browsers do not keep")


def _check_prefix(name: str, *, secure: bool, is_host_only: bool) -> None:
    """Hold names to what their prefix promises (RFC 6265bis 4.1.3); browsers drop those that break it."""
    prefix = name.lower()
    if prefix.startswith(("__secure-", "__host-")) and not secure:
        raise ValueError(f"the name {name} promises secure=True")
    if prefix.startswith("__host-") and not is_host_only:
        raise ValueError(f"the name {name} promises the path / and no domain")


def _same_site(value: str, *, secure: bool) -> str:
    if value not in _SAME_SITE:
        raise ValueError(f"same_site is 'strict', 'lax', 'none' or None, not {value!r}")
    if value == "none" and not secure:
        raise ValueError("browsers drop a cookie with same_site='none' unless it is secure")
    return _SAME_SITE[value]
