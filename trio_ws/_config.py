"""The options of a connection: their meaning, their defaults and their checks; knows nothing of who keeps them."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypedDict

import trio

from ._credentials import caller_headers
from .protocol import (
    SAME_ORIGIN,
    ExtensionFactory,
    HeadersLike,
    Limits,
    OriginPolicy,
    PerMessageDeflate,
    Request,
    Response,
)

if TYPE_CHECKING:
    import ssl

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What `math.inf` stands for where a number of bytes is compared: more than any machine holds.
UNLIMITED = 2**62

#: What clients offer by default, and what True stands for; one object for all of them.
DEFAULT_OFFER = PerMessageDeflate()


class SizeOptions(TypedDict, total=False):
    """Options about sizes that every connection takes.

    Attributes:
        message_queue_size: messages kept for the application before reading pauses; 16 by default. `math.inf` leaves
            the bound to the bytes alone, 0 counts as 1.
        max_message_size: bytes of payload allowed in one message, 1 MiB by default; `math.inf` allows all.
        receive_buffer_size: bytes read at once; None, the default, is 64 KiB.
    """

    message_queue_size: float
    max_message_size: float
    receive_buffer_size: int | None


class ConductOptions(TypedDict, total=False):
    """The other options that every connection takes.

    Attributes:
        message_queue_bytes: memory in bytes that messages, complete or not, may take before reading pauses; 1 MiB by
            default.
        max_fragments: fragments allowed in one message; 131072 by default.
        disconnect_timeout: seconds that closing may take in all, 10 by default.
        ping_interval: seconds of silence after which a ping is sent; 20 by default, None sends none and terminates
            nobody.
        ping_timeout: seconds without progress after such a ping until the connection is terminated; 20 by default,
            None terminates nobody.
        compression: on what terms messages are compressed if the peer agrees (permessage-deflate, RFC 7692): True stands
            for `PerMessageDeflate()`, False and None do without. True is a client's default. A server declines by
            default, as compression takes memory of each connection, and must not be used for secrets beside what
            others can choose.
        auto_pong: whether pings are answered, which the protocol asks for; True by default, False is for test rigs.
        on_ping: called with the payload of each ping, after it was answered; None by default. A plain function, which
            must not block; what it raises is logged, and touches nothing else.
        on_pong: the same for each pong, whoever asked for it.
        text_as_bytes: whether text messages are received as `TextBytes`, UTF-8 that was checked, instead of `str`; False
            by default.
        extensions: extensions besides permessage-deflate that may be agreed on; none by default. They take part in the
            handshake alone: the reserved bits of frames belong to permessage-deflate.
        websocket_class: the subclass of `WebSocketConnection` that connections are to be of.
    """

    message_queue_bytes: float
    max_fragments: int
    disconnect_timeout: float
    ping_interval: float | None
    ping_timeout: float | None
    compression: PerMessageDeflate | bool | None
    auto_pong: bool
    on_ping: Callable[[bytes], object] | None
    on_pong: Callable[[bytes], object] | None
    text_as_bytes: bool
    extensions: Sequence[ExtensionFactory]
    websocket_class: type[trio.abc.Channel[str | bytes]] | None


class ConnectionOptions(SizeOptions, ConductOptions, total=False):
    """Options that every connection takes, as keyword arguments of whatever opens or accepts it."""


class HandshakeOptions(ConnectionOptions, total=False):
    """Options of a client's opening handshake, besides those of every connection.

    Attributes:
        subprotocols: subprotocols to offer, best first; none by default.
        extra_headers: header fields to send besides those of the handshake: pairs, or a mapping, of `str` or `bytes`.
        auth: user and password for HTTP Basic authentication. They are sent in place of those in the URL; an
            `Authorization` among `extra_headers` is sent in place of either.
        cookies: names and values to send as the one `Cookie` header.
        origin: the `Origin` to send; none by default, as is right for whatever is not a browser.
        protocol_version: 13 by default; 8 for servers from before RFC 6455.
        prepare_request: called with each request when all is ready for it to be sent, so also with those that follow a
            redirect, whose `Host` says where they go. The headers it returns are sent too, in the place of any given
            otherwise under the same name. So a token that is valid for a moment can be made in that moment.
        connect_timeout: seconds that TCP, TLS and the handshake may take together, those of all redirects included; 10
            by default.
        generate_mask: returns four bytes, the mask of one frame. None, the default, is the system's generator; anything
            else is for tests, for masks that can be foretold protect no proxy on the way (RFC 6455 10.3).
    """

    subprotocols: Iterable[str] | None
    extra_headers: HeadersLike | None
    auth: tuple[str, str] | None
    cookies: Mapping[str, str] | None
    origin: str | None
    protocol_version: int
    prepare_request: Callable[[Request], Awaitable[HeadersLike | None]] | None
    connect_timeout: float
    generate_mask: Callable[[], bytes] | None


class ClientOptions(HandshakeOptions, total=False):
    """Options of a client that finds its way to the server, besides those of the handshake.

    Attributes:
        max_redirects: how many redirects (301, 302, 303, 307, 308) are followed; none by default. To another origin,
            which another port or a subdomain is too, none of what `extra_headers`, `auth`, `cookies` and the URL's user
            say goes along. No redirect is followed from ``wss`` to ``ws``, or to or from a Unix socket.
        redirect_headers: names of such headers that go along all the same; none by default.
        on_redirect: called with the URL and the response before a redirect is followed; what it raises is raised to
            whoever opens the connection.
        connect: called with host and port instead of connecting over TCP, returns a connected stream, which belongs to
            the connection then. For ``wss`` TLS is spoken on it.
        stream: a connected stream to use instead of connecting; for ``wss`` TLS is spoken on it. It belongs to the
            connection from when it is being opened, and is closed if there will be none. No redirect is followed then.
        server_hostname: the name that the server's certificate must be for, if it is not the host of the URL. It is for
            the origin of the URL alone, and not for others where redirects lead.
        local_address: the address of this machine to connect from; by default the system chooses.
        proxy: through which proxy to connect. True, the default, takes the one that the environment names
            (``HTTPS_PROXY`` and its kin), if it does; None and False take none; a string is the URL of one.
        proxy_ssl_context: for TLS to an ``https`` proxy itself; by default certificates are verified against the
            system's store.
    """

    max_redirects: int
    redirect_headers: Iterable[str]
    on_redirect: Callable[[str, Response], object] | None
    connect: Callable[[str, int], Awaitable[trio.abc.Stream]] | None
    stream: trio.abc.Stream | None
    server_hostname: str | None
    local_address: str | None
    proxy: str | bool | None
    proxy_ssl_context: ssl.SSLContext | None


class AcceptOptions(ConductOptions, total=False):
    """Options of a connection on the server's side, besides those about sizes.

    Attributes:
        connect_timeout: seconds that TLS and the client's request may take together, 10 by default.
        origins: which pages may connect. By default an `Origin` header must match `Host`; None accepts all; else the
            origins that are accepted, None among them standing for requests without one.
        process_request: called with each request before it is held to the rules of WebSocket; a `Response` it returns
            is the answer, and None goes on. So a server can answer plain HTTP on the same port.
        trusted_proxies: the addresses and networks, such as ``10.0.0.0/8``, whose word on who the client is counts, for
            `WebSocketRequest.client`; ``"unix"`` stands for all Unix sockets. None by default.
        forwarded_header: where they write it: ``"x-forwarded-for"``, the default, or ``"forwarded"`` (RFC 7239). The
            other one is not looked at: a proxy that writes one passes on the other as the client wrote it.
        proxy_protocol: whether trusted proxies begin each connection with a header of the PROXY protocol, version 1 or 2,
            for `WebSocketRequest.remote`. A connection of theirs without it is cut; one of anybody else has none. If
            there are no `trusted_proxies`, everybody is one. False by default.
    """

    connect_timeout: float
    origins: Collection[str | None] | Literal[OriginPolicy.SAME_ORIGIN] | None
    process_request: Callable[[Request], Awaitable[Response | None]] | None
    trusted_proxies: Collection[str]
    forwarded_header: Literal["x-forwarded-for", "forwarded"]
    proxy_protocol: bool


class UpgradeOptions(SizeOptions, AcceptOptions, total=False):
    """Options of a connection on a stream that exists."""


class ServerOptions(UpgradeOptions, total=False):
    """Options of a server, besides those of its connections.

    Attributes:
        drain: seconds that connections get to end when the server is cancelled, 5 by default.
        handler_errors: what an exception of the handler does. ``"log"``, the default, logs it with its traceback and
            closes its connection with 1011; ``"raise"`` also lets it out of the server.
    """

    drain: float
    handler_errors: Literal["log", "raise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """`ConnectionOptions` with every default filled in and every value checked."""

    message_queue_size: float = 16
    message_queue_bytes: float = 2**20
    max_message_size: float = 2**20
    max_fragments: int = 131072
    receive_buffer_size: int | None = None
    disconnect_timeout: float = 10.0
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0
    compression: PerMessageDeflate | bool | None = None
    auto_pong: bool = True
    on_ping: Callable[[bytes], object] | None = None
    on_pong: Callable[[bytes], object] | None = None
    text_as_bytes: bool = False
    extensions: Sequence[ExtensionFactory] = ()
    websocket_class: type[trio.abc.Channel[str | bytes]] | None = None
    #: The terms that `compression` stands for.
    deflate: PerMessageDeflate | None = field(init=False)
    #: What the protocol core is to allow the peer.
    limits: Limits = field(init=False)

    def __post_init__(self) -> None:
        for name in ("message_queue_size", "max_message_size", "max_fragments", "disconnect_timeout"):
            _check(name, getattr(self, name), 0, at_least=True)
        for name in ("message_queue_bytes", "receive_buffer_size", "ping_interval", "ping_timeout"):
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), 0, at_least=False)
        object.__setattr__(self, "deflate", _deflate(self.compression))
        _check_extensions(self.extensions)
        _check_class(self.websocket_class)
        _check_callable("on_ping", self.on_ping)
        _check_callable("on_pong", self.on_pong)
        size = int(min(self.max_message_size, UNLIMITED))
        object.__setattr__(self, "limits", Limits(max_message_size=size, max_fragments=self.max_fragments))

    @property
    def negotiable(self) -> tuple[ExtensionFactory, ...]:
        """What may be agreed on with the peer, best first."""
        return (*(() if self.deflate is None else (self.deflate,)), *self.extensions)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Check `options` and fill in the defaults.

        Raises:
            TypeError: an option is unknown, or is not a number.
            ValueError: an option is out of range.
        """
        known = {each.name for each in fields(cls) if each.init}
        if unknown := sorted(set(options) - known):
            raise TypeError(f"unknown option {unknown[0]!r}: the options are {', '.join(sorted(known))}")
        return cls(**options)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig(Config):
    """`ClientOptions` with every default filled in and every value checked."""

    compression: PerMessageDeflate | bool | None = DEFAULT_OFFER
    subprotocols: Iterable[str] | None = None
    extra_headers: HeadersLike | None = None
    auth: tuple[str, str] | None = None
    cookies: Mapping[str, str] | None = None
    origin: str | None = None
    protocol_version: int = 13
    prepare_request: Callable[[Request], Awaitable[HeadersLike | None]] | None = None
    connect_timeout: float = 10.0
    generate_mask: Callable[[], bytes] | None = None
    max_redirects: int = 0
    redirect_headers: Iterable[str] = ()
    on_redirect: Callable[[str, Response], object] | None = None
    connect: Callable[[str, int], Awaitable[trio.abc.Stream]] | None = None
    stream: trio.abc.Stream | None = None
    server_hostname: str | None = None
    local_address: str | None = None
    proxy: str | bool | None = field(default=True, repr=False)  # there may be a password in it
    proxy_ssl_context: ssl.SSLContext | None = None
    #: The same as `subprotocols`, to be gone through more than once.
    offers: tuple[str, ...] = field(init=False)
    #: All headers that the caller gives, in whatever form.
    headers: tuple[tuple[bytes, bytes], ...] = field(init=False)
    #: The names of those that go along to other origins, in lower case.
    portable: frozenset[bytes] = field(init=False)

    def __post_init__(self) -> None:
        Config.__post_init__(self)
        for name in ("connect_timeout", "max_redirects"):
            _check(name, getattr(self, name), 0, at_least=True)
        for name in ("subprotocols", "redirect_headers"):
            if isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a list of strings: put the one string into a list")
        if len(self.ways) > 1:
            raise ValueError(
                f"{' and '.join(self.ways)} exclude each other: each says how to get to the server"
            )
        _check_callable("generate_mask", self.generate_mask)
        _check_proxy(self.proxy)
        _check_auth(self.auth)
        headers = caller_headers(self.extra_headers or (), self.auth, self.cookies or {})
        object.__setattr__(self, "offers", tuple(self.subprotocols or ()))
        object.__setattr__(self, "headers", headers)
        object.__setattr__(
            self, "portable", frozenset(name.lower().encode() for name in self.redirect_headers)
        )

    @property
    def ways(self) -> list[str]:
        """The names of the options by which the caller says how to get to the server."""
        given = [name for name in ("connect", "stream", "local_address") if getattr(self, name) is not None]
        return [*given, "proxy"] if isinstance(self.proxy, str) else given


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig(Config):
    """`ServerOptions` with every default filled in and every value checked."""

    connect_timeout: float = 10.0
    drain: float = 5.0
    handler_errors: str = "log"
    origins: Collection[str | None] | Literal[OriginPolicy.SAME_ORIGIN] | None = SAME_ORIGIN
    process_request: Callable[[Request], Awaitable[Response | None]] | None = None
    trusted_proxies: Collection[str] = ()
    forwarded_header: str = "x-forwarded-for"
    proxy_protocol: bool = False
    #: What of `trusted_proxies` is an address.
    trusted_networks: tuple[_Network, ...] = field(init=False)

    def __post_init__(self) -> None:
        Config.__post_init__(self)
        _check("connect_timeout", self.connect_timeout, 0, at_least=True)
        _check("drain", self.drain, 0, at_least=True)
        if isinstance(self.origins, str):
            raise TypeError("origins is a collection of strings: put the one string into a list")
        if self.handler_errors not in ("log", "raise"):
            raise ValueError(f"handler_errors is 'log' or 'raise', not {self.handler_errors!r}")
        if self.forwarded_header not in ("x-forwarded-for", "forwarded"):
            raise ValueError(
                f"forwarded_header is 'x-forwarded-for' or 'forwarded', not {self.forwarded_header!r}"
            )
        object.__setattr__(self, "trusted_networks", _networks(self.trusted_proxies))


def _networks(proxies: Collection[str]) -> tuple[_Network, ...]:
    if isinstance(proxies, str):
        raise TypeError("trusted_proxies is a collection of strings: put the one string into a list")
    try:
        return tuple(ipaddress.ip_network(each) for each in proxies if each != "unix")
    except ValueError as exc:
        raise ValueError(f"trusted_proxies has addresses, networks and 'unix': {exc}") from exc


def _check_auth(value: object) -> None:
    match value:
        case None | (str(), str()):
            pass
        case _:
            raise TypeError("auth is a pair of strings, user and password")


def _deflate(compression: PerMessageDeflate | bool | None) -> PerMessageDeflate | None:
    if not isinstance(compression, PerMessageDeflate | bool | None):
        raise TypeError(f"compression is a PerMessageDeflate, True or False, not {compression!r}")
    if isinstance(compression, bool):
        return DEFAULT_OFFER if compression else None
    return compression


def _check_proxy(value: object) -> None:
    if not isinstance(value, str | bool | None):
        raise TypeError("proxy is a URL, True for the environment's, or None for none")


def _check_extensions(factories: Sequence[ExtensionFactory]) -> None:
    names = [factory.name for factory in factories]
    if DEFAULT_OFFER.name in names:
        raise ValueError(f"{DEFAULT_OFFER.name} is what compression is for")
    if len(set(names)) < len(names):
        raise ValueError(f"each extension may be there once: {', '.join(names)}")


def _check_class(value: object) -> None:
    if value is not None and not (isinstance(value, type) and issubclass(value, trio.abc.Channel)):
        raise TypeError(f"websocket_class is a subclass of WebSocketConnection, not {value!r}")


def _check_callable(name: str, value: object) -> None:
    if value is not None and not callable(value):
        raise TypeError(f"{name} is a function, not {value!r}")


def _check(name: str, value: Any, least: float, *, at_least: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number, not {value!r}")
    if math.isnan(value) or value < least or (value == least and not at_least):
        raise ValueError(f"{name} is {'at least' if at_least else 'more than'} {least}, not {value!r}")
