"""Which proxy a URL is reached through, by the caller's word or the environment's; knows nothing of how proxies are spoken to."""

from __future__ import annotations

import ipaddress
import re
import ssl
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, getproxies_environment, proxy_bypass

import trio

from ._errors import ProxyError
from ._url import WebSocketURL, ascii_host
from .protocol import Headers
from .transport import PROXY_PORTS, Proxy, TunnelError, dial_http_proxy, dial_socks_proxy

if TYPE_CHECKING:
    from ._config import ClientConfig

# urlsplit() drops some of these without a word
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")

# One item of NO_PROXY that is not a bare IPv6 address: a name, an address or a network, and perhaps a port.
_EXCEPTION = re.compile(r"(\[[^\]]*\](?:/\d+)?|[^:]*)(?::(\d{1,5}))?")


async def choose_proxy(url: WebSocketURL, config: ClientConfig) -> Proxy | None:
    """Return the proxy for a URL, or None for none.

    Raises:
        ValueError: what is configured is not the URL of a proxy.

    Cancellation: nothing has happened.
    """
    if isinstance(config.proxy, str):
        proxy = parse_proxy(config.proxy)
        if config.proxy_ssl_context is not None and proxy.scheme != "https":
            raise ValueError(f"proxy_ssl_context is of no use for the proxy {proxy}: use https")
        return proxy
    return await _environment_proxy(url) if config.proxy else None


async def dial_by_proxy(
    proxy: Proxy, url: WebSocketURL, proxy_ssl_context: ssl.SSLContext | None
) -> trio.abc.Stream:
    """Return a stream to where the URL leads.

    Raises:
        ImportError: this is a SOCKS proxy, and python-socks is not installed.
        OSError: the address of the URL's host could not be found, with a SOCKS proxy that does not do it.
        ProxyError: there is no way through the proxy.
        ValueError: a proxy cannot be told of this host.

    Cancellation: nothing stays open.
    """
    try:
        if proxy.scheme == "http":
            return await dial_http_proxy(proxy, url.host, url.port)
        if proxy.scheme == "https":
            context = proxy_ssl_context or ssl.create_default_context()
            return await dial_http_proxy(proxy, url.host, url.port, context=context)
        return await dial_socks_proxy(proxy, url.host, url.port)
    except TunnelError as exc:
        raise ProxyError(str(exc), exc.status, Headers(exc.headers), exc.body or None) from exc.__cause__


def parse_proxy(url: str) -> Proxy:
    """Take the URL of a proxy apart; without a scheme it is an HTTP one, as for curl.

    Raises:
        ValueError: it is none. The message shows nothing of it that may be a password.
    """
    if "://" not in url:
        url = f"http://{url}"
    scheme, authority = url.split("://", 1)
    scheme = {"socks": "socks5h"}.get(scheme.lower(), scheme.lower())
    if scheme not in PROXY_PORTS:
        raise ValueError(f"the scheme of a proxy is one of {', '.join(PROXY_PORTS)}, not {scheme!r}")
    try:
        parts = urlsplit(f"//{authority}")
        host, port = parts.hostname, parts.port
        # an empty one is none: nobody is called by it
        username = unquote(parts.username or "", errors="strict") or None
        password = unquote(parts.password or "", errors="strict") or None
    except ValueError:
        raise ValueError("the URL of the proxy has no valid host, port or credentials") from None
    if not host or port == 0 or _FORBIDDEN.search(url):
        raise ValueError(
            "the URL of the proxy has no valid host or port, or a character that needs percent-encoding"
        )
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(
            "the URL of a proxy ends with its port; percent-encode what is special in the credentials"
        )
    _check_credentials(scheme, username or "", password or "")
    host = host.replace("%25", "%") if ":" in host else host  # RFC 6874 2: %25 and a zone
    return Proxy(scheme, ascii_host(host), PROXY_PORTS[scheme] if port is None else port, username, password)


def _check_credentials(scheme: str, username: str, password: str) -> None:
    """Refuse what the protocol of the proxy cannot carry."""
    if scheme in ("http", "https"):
        if ":" in username:  # RFC 7617 2: it would end the name
            raise ValueError("the username for an HTTP proxy must not have a colon in it")
        return
    if not (username + password).isascii() or "\x00" in username + password:
        raise ValueError("credentials for a SOCKS proxy must be ASCII")
    if scheme in ("socks4", "socks4a"):
        if password:
            raise ValueError("SOCKS4 takes a username, but no password")
    elif bool(username) is not bool(password) or max(len(username), len(password)) > 255:
        raise ValueError("SOCKS5 takes both a username and a password, of up to 255 characters (RFC 1929)")


async def _environment_proxy(url: WebSocketURL) -> Proxy | None:
    host, address = _normal(url.host)
    if host == "localhost" or host.endswith(".localhost") or (address and address.is_loopback):
        return None  # no proxy elsewhere gets there
    # Variables in any case, lower case first. Of HTTP_PROXY it takes only that in lower case where REQUEST_METHOD is set,
    # as a CGI server puts the client's Proxy header into the other. Without any there are the settings of macOS and Windows.
    settings = getproxies()
    names = ("wss", "https", "socks", "all") if url.secure else ("ws", "http", "socks", "all")
    name = next((name for name in names if settings.get(name)), None)
    if name is None or _is_excepted(host, address, url.port, settings.get("no", "")):
        return None
    # looking at the system's own list of exceptions may look up names, and so take its time
    if not getproxies_environment() and await trio.to_thread.run_sync(proxy_bypass, url.host):
        return None
    found = settings[name]
    if name == "socks":  # macOS calls it http, and a variable need not say it again
        found = found.removeprefix("http://")
        found = found if "://" in found else f"socks://{found}"
    try:
        return parse_proxy(found)
    except ValueError as exc:
        raise ValueError(f"{name}_proxy in the environment: {exc}") from None


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _normal(host: str) -> tuple[str, _Address | None]:
    """Return the one form of a host that is compared, and its address if it is one."""
    host = host.partition("%")[0].rstrip(".").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host, None
    return host, (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _is_excepted(host: str, address: _Address | None, port: int, exceptions: str) -> bool:
    """Say whether NO_PROXY names a host: by curl's rules, and with ports."""
    return any(_is_named(item, host, address, port) for item in exceptions.replace(",", " ").split())


def _is_named(item: str, host: str, address: _Address | None, port: int) -> bool:
    found = _EXCEPTION.fullmatch(item)
    name, only_port = found.groups() if found else (item, None)
    if only_port is not None and int(only_port) != port:
        return False
    if name == "*":
        return True
    try:
        if address is not None:
            return address in ipaddress.ip_network(name.replace("[", "").replace("]", ""), strict=False)
        name = ascii_host(name.strip(".").lower())
    except ValueError:
        return False
    return bool(name) and (host == name or host.endswith(f".{name}"))
