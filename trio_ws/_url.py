"""WebSocket URLs (RFC 6455 3) taken apart and checked; knows nothing of what is done with the parts."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

#: Scheme -> whether it means TLS, and its default port.
SCHEMES = {"ws": (False, 80), "wss": (True, 443)}

#: Characters that may stand in a target as they are (RFC 3986 3.3, 3.4); all else is percent-encoded.
_SAFE = "/?:@!$&'()*+,;=%-._~"

# urlsplit() silently drops some of these, which would connect to another place than the one written down
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class WebSocketURL:
    """The parts of a URL.

    Attributes:
        secure: whether TLS is asked for.
        host: a name in ASCII or an IP address, an IPv6 address without its brackets, perhaps with ``%`` and a zone.
        port: the TCP port.
        target: path and query, percent-encoded.
        authorization: the value of an ``Authorization`` header for the URL's user and password, or None.
    """

    secure: bool
    host: str
    port: int
    target: str
    authorization: str | None = None

    @property
    def authority(self) -> str:
        """The `Host` header: the port is left out where it is the scheme's own (RFC 6455 4.1)."""
        # a zone means something on this machine only, and is not sent (RFC 6874 4)
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == SCHEMES[self.scheme][1] else f"{host}:{self.port}"

    @property
    def scheme(self) -> str:
        """``ws`` or ``wss``."""
        return "wss" if self.secure else "ws"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def parse_url(url: str) -> WebSocketURL:
    """Take a URL apart.

    Raises:
        ValueError: it is not a WebSocket URL; the message says in what.
    """
    if _FORBIDDEN.search(url):
        raise ValueError(f"{url!r} is not a URL: percent-encode spaces and control characters")
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"the scheme of a WebSocket URL is ws or wss, not {parts.scheme!r} as in {url!r}")
    if parts.fragment or url.endswith("#"):
        raise ValueError(f"{url!r} has a fragment, which WebSocket URLs must not have (RFC 6455 3)")
    # browsers take a backslash for a slash, and so for the end of the host: two readings of one URL are one too many
    if not parts.hostname or "\\" in parts.netloc:
        raise ValueError(f"{url!r} has no valid host")
    secure, default = SCHEMES[parts.scheme]
    authorization = None
    if parts.username or parts.password:
        user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(user.encode()).decode()
    target = make_target(parts.path + (f"?{parts.query}" if parts.query else ""))
    port = default if parts.port is None else parts.port
    host = (
        parts.hostname.replace("%25", "%") if ":" in parts.hostname else parts.hostname
    )  # RFC 6874 2: %25 and a zone
    return WebSocketURL(secure, ascii_host(host), port, target, authorization)


def make_target(resource: str) -> str:
    """Return path and query as they go over the wire.

    Raises:
        ValueError: there is a fragment, a space or a control character in it.
    """
    if _FORBIDDEN.search(resource) or "#" in resource:
        raise ValueError(f"{resource!r} cannot be asked for: percent-encode it, and leave out the fragment")
    target = quote(resource, safe=_SAFE)
    return target if target.startswith("/") else "/" + target


def ascii_host(host: str) -> str:
    """Return a host name as DNS knows it (IDNA).

    Raises:
        ValueError: it cannot be a host name.
    """
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ValueError(f"{host!r} cannot be a host name") from error
