"""WebSocket URLs (RFC 6455 3) taken apart and checked; knows nothing of what is done with the parts."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import SplitResult, quote, unquote, unquote_to_bytes, urljoin, urlsplit

import idna

from ._credentials import basic_authorization
from ._errors import InvalidURL

#: Scheme -> whether it means TLS, and its default port. The ones of HTTP are those of WebSocket by another name.
SCHEMES = {"ws": (False, 80), "wss": (True, 443), "http": (False, 80), "https": (True, 443)}

#: The schemes of Unix sockets, and whether they mean TLS.
UNIX_SCHEMES = {"ws+unix": False, "wss+unix": True}

# Characters that may stand in a target as they are (RFC 3986 3.3, 3.4); all else is percent-encoded.
_SAFE = "/?:@!$&'()*+,;=%-._~"

# urlsplit() silently drops some of these, which would connect to another place than the one written down
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")

# RFC 3986 3.2: user, host and port. Whatever is around a bracketed address must not be lost on the way.
_AUTHORITY = re.compile(
    r"(?:(?P<user>.*)@)?(?P<host>\[[^\[\]]*\]|[^\[\]:@]+)(?::(?P<port>[0-9]{0,9}))?", re.DOTALL
)

# RFC 3986 3.2.2: a name; percent-encoding is left out, as DNS has no use for it and programs differ about it.
_NAME = re.compile(r"[a-z0-9\-._~!$&'()*+,;=]+")
_ZONE = re.compile(r"[A-Za-z0-9\-._~]+")  # RFC 6874 2

_USER = re.compile(r"(?<=//)[^/?#]*@")


@dataclass(frozen=True, slots=True)
class WebSocketURL:
    """The parts of a URL.

    Attributes:
        secure: whether TLS is asked for.
        host: a name in ASCII or an IP address, an IPv6 address without its brackets, perhaps with ``%`` and a zone.
        port: the TCP port.
        target: path and query, percent-encoded.
        authorization: the value of an ``Authorization`` header for the URL's user and password, or None.
        socket: the path of a Unix socket, which takes the place of host and port; else None.
    """

    secure: bool
    host: str
    port: int
    target: str
    authorization: str | None = None
    socket: str | None = None

    @property
    def authority(self) -> str:
        """The `Host` header: the port is left out where it is the scheme's own (RFC 6455 4.1)."""
        # a zone means something on this machine only, and is not sent (RFC 6874 4)
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == SCHEMES[self.scheme][1] else f"{host}:{self.port}"

    @property
    def tls_name(self) -> str:
        """What the server's certificate must be for: the host without a zone, and without a dot behind it (RFC 6066 3)."""
        return self.host.partition("%")[0].removesuffix(".")

    @property
    def scheme(self) -> str:
        """``ws`` or ``wss``."""
        return "wss" if self.secure else "ws"

    @property
    def origin(self) -> tuple[bool, str, int, str | None]:
        """What two URLs must have in common to be of one origin (RFC 6454 4)."""
        return self.secure, self.host, self.port, self.socket

    def __str__(self) -> str:
        if self.socket is not None:
            # behind two slashes a host would begin
            path = quote(self.socket[:2]).replace("//", "/%2F") + quote(self.socket[2:])
            return f"{self.scheme}+unix:{path}:{self.target}"
        return f"{self.scheme}://{self.authority}{self.target}"


def parse_url(url: str) -> WebSocketURL:
    """Take a URL apart.

    Raises:
        InvalidURL: it is not a WebSocket URL; the message says in what, and does not tell user and password.
    """
    shown = repr(_USER.sub("***@", url))
    if _FORBIDDEN.search(url):
        raise InvalidURL(f"{shown} is not a URL: percent-encode spaces and control characters")
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets around no address, or look-alikes of the characters that divide a URL
        raise InvalidURL(f"{shown} has no valid host") from None
    if parts.fragment or url.endswith("#"):
        raise InvalidURL(f"{shown} has a fragment, which WebSocket URLs must not have (RFC 6455 3)")
    if parts.scheme in UNIX_SCHEMES:
        return _parse_unix(parts, shown)
    if parts.scheme not in SCHEMES:
        raise InvalidURL(f"the scheme of a WebSocket URL is ws or wss, not {parts.scheme!r} as in {shown}")
    # browsers take a backslash for a slash, and so for the end of the host: two readings of one URL are one too many
    authority = None if "\\" in parts.netloc else _AUTHORITY.fullmatch(parts.netloc)
    if authority is None:
        raise InvalidURL(f"{shown} has no valid host, or its port is no number")
    user, name, port = authority.groups()
    secure, default = SCHEMES[parts.scheme]
    # RFC 6874 2: %25 and a zone
    host = _address(name[1:-1].replace("%25", "%", 1)) if name.startswith("[") else ascii_host(name)
    number = _checked_port(int(port)) if port else default
    return WebSocketURL(secure, host, number, make_target(_resource(parts)), _authorization(user))


def join_url(base: WebSocketURL, reference: str) -> WebSocketURL:
    """Return where a reference leads that stands at `base` (RFC 3986 5).

    Raises:
        InvalidURL: it leads to nothing that is a WebSocket URL.
    """
    try:
        parts = urlsplit(reference)
    except ValueError:
        raise InvalidURL(f"{reference!r} is not a URL") from None
    if parts.scheme or _FORBIDDEN.search(reference):
        return parse_url(reference)
    if reference.replace("\\", "/").startswith("//"):  # a host, or what browsers take for one
        return parse_url(f"{base.scheme}:{reference}")
    place = "ws://localhost"
    return replace(base, target=make_target(urljoin(place + base.target, reference).removeprefix(place)))


def make_url(secure: bool, host: str, port: int, resource: str) -> WebSocketURL:
    """Return the URL with these parts, the resource being path and query.

    Raises:
        InvalidURL: one of them cannot be in a URL.
    """
    return WebSocketURL(secure, ascii_host(host), _checked_port(port), make_target(resource))


def make_target(resource: str) -> str:
    """Return path and query as they go over the wire.

    Raises:
        InvalidURL: there is a fragment, a space or a control character in it.
    """
    if _FORBIDDEN.search(resource) or "#" in resource:
        raise InvalidURL(f"{resource!r} cannot be asked for: percent-encode it, and leave out the fragment")
    try:
        target = quote(resource, safe=_SAFE)
    except UnicodeEncodeError as exc:  # half a character
        raise InvalidURL(f"{resource!r} cannot be asked for: it is not Unicode") from exc
    return target if target.startswith("/") else "/" + target


def ascii_host(host: str) -> str:
    """Return a host name as DNS knows it, an IP address as it is.

    Names in other alphabets go through IDNA 2008 (RFC 5891) as browsers do it (UTS 46). The standard library has IDNA
    2003, which takes straße for strasse: another name, which may be somebody else's.

    Raises:
        InvalidURL: it cannot be a host name.
    """
    if ":" in host:
        return _address(host)
    try:
        name = host.lower() if host.isascii() or len(host) > 254 else idna.encode(host, uts46=True).decode()
    except idna.IDNAError as exc:
        raise InvalidURL(f"{host!r} cannot be a host name: {exc}") from exc
    # RFC 1035 2.3.4; a dot behind the last label says that nothing is to be added to it
    labels = name.removesuffix(".").split(".")
    if not _NAME.fullmatch(name) or not all(0 < len(label) < 64 for label in labels) or len(name) > 254:
        raise InvalidURL(f"{host!r} cannot be a host name")
    return name


def _address(host: str) -> str:
    address, percent, zone = host.partition("%")
    try:
        IPv6Address(address)
    except AddressValueError as exc:
        raise InvalidURL(f"{host!r} is not an IPv6 address") from exc
    if percent and not _ZONE.fullmatch(zone):
        raise InvalidURL(f"{host!r} has no valid zone")
    return address.lower() + percent + zone


def _checked_port(port: int) -> int:
    if not 0 < port < 65536:
        raise InvalidURL(f"the port {port} is out of range (1-65535)")
    return port


def _authorization(user: str | None) -> str | None:
    """Return what user and password in a URL are sent as."""
    name, _, password = (user or "").partition(":")
    if not name and not password:
        return None
    try:
        return basic_authorization(unquote(name, errors="strict"), unquote(password, errors="strict"))
    except ValueError:  # which may tell the password
        raise InvalidURL("the user or the password in the URL cannot be sent (RFC 7617 2)") from None


def _resource(parts: SplitResult) -> str:
    return parts.path + (f"?{parts.query}" if parts.query else "")


def _parse_unix(parts: SplitResult, shown: str) -> WebSocketURL:
    """Take apart what stands for a Unix socket: its path, and behind a colon the resource to ask for."""
    path, _, resource = parts.path.partition(":")
    try:
        socket = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        socket = ""
    if parts.netloc or not socket.startswith("/") or "\x00" in socket:
        raise InvalidURL(f"{shown} has no path of a Unix socket, as in {parts.scheme}:/run/socket:/resource")
    target = make_target(_resource(parts._replace(path=resource)))
    secure = UNIX_SCHEMES[parts.scheme]
    return WebSocketURL(secure, "localhost", SCHEMES["wss" if secure else "ws"][1], target, socket=socket)
