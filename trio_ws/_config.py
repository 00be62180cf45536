"""The options of a connection with their defaults and their checks; knows nothing of who keeps them."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import trio

from ._credentials import caller_headers
from ._observer import Observer, check_observer
from ._overload import RateLimit
from .protocol import (
    SAME_ORIGIN,
    ExtensionFactory,
    HandshakeFailed,
    HeadersLike,
    Limits,
    OriginPolicy,
    PerMessageDeflate,
    Request,
    Response,
    check_subprotocols,
    encode_extra_headers,
)

if TYPE_CHECKING:
    import ssl

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What `math.inf` stands for where a number of bytes is compared: more than any machine holds.
UNLIMITED = 2**62

#: What clients offer by default, and what True stands for; one object for all of them.
DEFAULT_OFFER = PerMessageDeflate()


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
    observer: Observer | None = None
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
        check_observer(self.observer)
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
    max_connections: int | None = None
    max_connections_per_peer: int | None = None
    message_rate: RateLimit | None = None
    byte_rate: RateLimit | None = None
    origins: Collection[str | None] | Literal[OriginPolicy.SAME_ORIGIN] | None = SAME_ORIGIN
    path: str | None = None
    subprotocols: Iterable[str] | None = None
    select_subprotocol: Callable[[Request, tuple[str, ...]], str | None] | None = None
    extra_headers: HeadersLike | None = None
    process_request: Callable[[Request], Awaitable[Response | None]] | None = None
    trusted_proxies: Collection[str] = ()
    forwarded_header: str = "x-forwarded-for"
    proxy_protocol: bool = False
    #: What of `trusted_proxies` is an address.
    trusted_networks: tuple[_Network, ...] = field(init=False)
    process_response: Callable[[Request, Response], Awaitable[Response | None]] | None = None
    on_handshake_error: (
        Callable[[HandshakeFailed, Request | None], Awaitable[Response | None] | Response | None] | None
    ) = None
    #: `extra_headers` as they go on the wire.
    extra: tuple[tuple[bytes, bytes], ...] = field(init=False)

    def __post_init__(self) -> None:
        Config.__post_init__(self)
        _check("connect_timeout", self.connect_timeout, 0, at_least=True)
        _check("drain", self.drain, 0, at_least=True)
        self._check_answers()
        self._check_overload()
        if isinstance(self.origins, str):
            raise TypeError("origins is a collection of strings: put the one string into a list")
        if self.handler_errors not in ("log", "raise"):
            raise ValueError(f"handler_errors is 'log' or 'raise', not {self.handler_errors!r}")
        if self.forwarded_header not in ("x-forwarded-for", "forwarded"):
            raise ValueError(
                f"forwarded_header is 'x-forwarded-for' or 'forwarded', not {self.forwarded_header!r}"
            )
        object.__setattr__(self, "trusted_networks", _networks(self.trusted_proxies))

    @property
    def is_limited(self) -> bool:
        """Whether clients are refused, or bounded in time, to keep the server from too much."""
        limits = (self.max_connections, self.max_connections_per_peer, self.message_rate, self.byte_rate)
        return any(limit is not None for limit in limits)

    def _check_overload(self) -> None:
        for name in ("max_connections", "max_connections_per_peer"):
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), 1, at_least=True)
        for name in ("message_rate", "byte_rate"):
            if not isinstance(getattr(self, name), RateLimit | None):
                raise TypeError(f"{name} is a RateLimit, not {getattr(self, name)!r}")

    def _check_answers(self) -> None:
        if self.path is not None and not self.path.startswith("/"):
            raise ValueError(f"path begins with a slash, unlike {self.path!r}")
        if self.subprotocols is not None:
            if self.select_subprotocol is not None:
                raise ValueError("give either subprotocols or select_subprotocol")
            if isinstance(self.subprotocols, str):
                raise TypeError("subprotocols is a collection of strings: put the one string into a list")
            object.__setattr__(self, "subprotocols", check_subprotocols(self.subprotocols))
        object.__setattr__(self, "extra", tuple(encode_extra_headers(self.extra_headers or ())))

    def choose_subprotocol(self, request: Request, offered: tuple[str, ...]) -> str | None:
        """Return the subprotocol to speak with a client that offers some.

        Raises:
            Exception: whatever `select_subprotocol` raises.
            ValueError: it has returned what was not offered.
        """
        if self.select_subprotocol is None:
            return next((name for name in self.subprotocols or () if name in offered), None)
        chosen = self.select_subprotocol(request, offered)
        if chosen is not None and chosen not in offered:
            raise ValueError(f"select_subprotocol returned {chosen!r}, which the client does not offer")
        return chosen


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


def _deflate(compression: object) -> PerMessageDeflate | None:
    if compression is None or isinstance(compression, bool):
        return DEFAULT_OFFER if compression else None
    if isinstance(compression, PerMessageDeflate):
        return compression
    raise TypeError(f"compression is a PerMessageDeflate, True or False, not {compression!r}")


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
