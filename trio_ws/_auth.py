"""HTTP Basic authentication of requests (RFC 7617), as a hook for ``process_request``; knows no connection and no server."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias, cast

from .protocol import Headers, Request, Response

#: What says whether a password is a user's.
Check: TypeAlias = Callable[[str, str], Awaitable[bool]]

_CREDENTIALS = re.compile(r"(?i:basic) +([A-Za-z0-9+/]+=*)")
_IS_REALM = re.compile(r"[ -~]*")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # RFC 7617 2: neither part contains any


def basic_auth(
    realm: str, credentials: Mapping[str, str] | Check
) -> Callable[[Request], Awaitable[Response | None]]:
    """Return a hook for ``process_request`` that lets pass who proves by a password to be a known user.

    All others get a 401 that asks for one, also those whose `Authorization` header is malformed. The user's name is in
    ``request.context["user"]`` afterwards. A password in every request is only as safe as the TLS around it.

    Args:
        realm: what the password is for, shown by browsers: printable ASCII.
        credentials: the password of each user, looked up for each request, in a time that tells nothing of who is known
            and how much of the password is right; or an async function of name and password that says whether they
            belong together, and takes care of that itself.

    Raises:
        TypeError: `credentials` is neither.
        ValueError: the realm cannot be sent.

    Cancellation: the hook has let nobody in.
    """
    if not _IS_REALM.fullmatch(realm):
        raise ValueError(f"a realm is printable ASCII, not {realm!r}")
    check = _check_of(credentials)
    quoted = re.sub(r'(["\\])', r"\\\1", realm)
    challenge = f'Basic realm="{quoted}", charset="UTF-8"'.encode()

    async def authenticate(request: Request) -> Response | None:
        claimed = _claimed(request)
        if claimed is not None and await check(*claimed):
            request.context["user"] = claimed[0]
            return None
        headers = Headers([(b"www-authenticate", challenge), (b"content-type", b"text/plain; charset=utf-8")])
        return Response(401, headers, b"This needs a user name and a password.\n")

    return authenticate


def _check_of(credentials: object) -> Check:
    if isinstance(credentials, Mapping):
        return _checking(cast("Mapping[str, str]", credentials))
    if not callable(credentials):
        raise TypeError(f"credentials are a mapping or an async function, not {type(credentials).__name__}")
    return cast("Check", credentials)


def _claimed(request: Request) -> tuple[str, str] | None:
    """Return the name and the password that the request claims; None: it has none, or what it has is malformed."""
    values = request.headers.get_all("authorization")
    found = _CREDENTIALS.fullmatch(values[0]) if len(values) == 1 else None
    if found is None:
        return None
    try:
        text = base64.b64decode(found[1], validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    user, colon, password = text.partition(":")
    return (user, password) if colon and not _CONTROLS.search(text) else None


def _checking(passwords: Mapping[str, str]) -> Check:
    """Return what checks passwords against those of a mapping.

    What is compared are digests, under a key that nobody knows: they are equally long, and how far two of them agree says
    nothing. For an unknown user the same is done with a password that nobody has.
    """
    key = os.urandom(32)
    nobodys = os.urandom(32)

    async def check(user: str, password: str) -> bool:
        known = passwords.get(user)
        expected = nobodys if known is None else known.encode()
        digests = (hmac.digest(key, octets, "sha256") for octets in (expected, password.encode()))
        return hmac.compare_digest(*digests)

    return check
