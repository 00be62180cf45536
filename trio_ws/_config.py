"""The options of a connection: their meaning, their defaults and their checks; knows nothing of who keeps them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict

from .protocol import SAME_ORIGIN, HeadersLike, Limits, OriginPolicy, PerMessageDeflate, Request, Response

if TYPE_CHECKING:
    import ssl

#: What `math.inf` stands for where a number of bytes is compared: more than any machine holds.
UNLIMITED = 2**62

#: What clients offer by default; one object for all of them.
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
        compression: on what terms messages are compressed if the peer agrees (permessage-deflate, RFC 7692); None does
            without. A client offers `PerMessageDeflate()` by default; a server declines by default, as compression
            takes memory of each connection, and must not be used for secrets beside what others can choose.
        auto_pong: whether pings are answered, which the protocol asks for; True by default, False is for test rigs.
    """

    message_queue_bytes: float
    max_fragments: int
    disconnect_timeout: float
    ping_interval: float | None
    ping_timeout: float | None
    compression: PerMessageDeflate | None
    auto_pong: bool


class ConnectionOptions(SizeOptions, ConductOptions, total=False):
    """Options that every connection takes, as keyword arguments of whatever opens or accepts it."""


class ClientOptions(ConnectionOptions, total=False):
    """Options of a client's connection, besides those of every connection.

    Attributes:
        subprotocols: subprotocols to offer, best first; none by default.
        extra_headers: header fields to send besides those of the handshake: pairs, or a mapping, of `str` or `bytes`.
        origin: the `Origin` to send; none by default, as is right for whatever is not a browser.
        protocol_version: 13 by default; 8 for servers from before RFC 6455.
        connect_timeout: seconds that TCP, TLS and the handshake may take together, a proxy included, 10 by default.
        proxy: through which proxy to connect. True, the default, takes the one that the environment names
            (``HTTPS_PROXY`` and its kin), if it does; None and False take none; a string is the URL of one.
        proxy_ssl_context: for TLS to an ``https`` proxy itself; by default certificates are verified against the
            system's store.
    """

    subprotocols: Iterable[str] | None
    extra_headers: HeadersLike | None
    origin: str | None
    protocol_version: int
    connect_timeout: float
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
    """

    connect_timeout: float
    origins: Collection[str | None] | Literal[OriginPolicy.SAME_ORIGIN] | None
    process_request: Callable[[Request], Awaitable[Response | None]] | None


class ServerOptions(SizeOptions, AcceptOptions, total=False):
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
    compression: PerMessageDeflate | None = None
    auto_pong: bool = True
    #: What the protocol core is to allow the peer.
    limits: Limits = field(init=False)

    def __post_init__(self) -> None:
        for name in ("message_queue_size", "max_message_size", "max_fragments", "disconnect_timeout"):
            _check(name, getattr(self, name), 0, at_least=True)
        for name in ("message_queue_bytes", "receive_buffer_size", "ping_interval", "ping_timeout"):
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), 0, at_least=False)
        _check_compression(self.compression)
        size = int(min(self.max_message_size, UNLIMITED))
        object.__setattr__(self, "limits", Limits(max_message_size=size, max_fragments=self.max_fragments))

    @property
    def extensions(self) -> tuple[PerMessageDeflate, ...]:
        """What may be agreed on with the peer."""
        return () if self.compression is None else (self.compression,)

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

    compression: PerMessageDeflate | None = DEFAULT_OFFER
    subprotocols: Iterable[str] | None = None
    extra_headers: HeadersLike | None = None
    origin: str | None = None
    protocol_version: int = 13
    connect_timeout: float = 10.0
    proxy: str | bool | None = field(default=True, repr=False)  # there may be a password in it
    proxy_ssl_context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        Config.__post_init__(self)
        _check("connect_timeout", self.connect_timeout, 0, at_least=True)
        _check_proxy(self.proxy)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig(Config):
    """`ServerOptions` with every default filled in and every value checked."""

    connect_timeout: float = 10.0
    drain: float = 5.0
    handler_errors: str = "log"
    origins: Collection[str | None] | Literal[OriginPolicy.SAME_ORIGIN] | None = SAME_ORIGIN
    process_request: Callable[[Request], Awaitable[Response | None]] | None = None

    def __post_init__(self) -> None:
        Config.__post_init__(self)
        _check("connect_timeout", self.connect_timeout, 0, at_least=True)
        _check("drain", self.drain, 0, at_least=True)
        if isinstance(self.origins, str):
            raise TypeError("origins is a collection of strings: put the one string into a list")
        if self.handler_errors not in ("log", "raise"):
            raise ValueError(f"handler_errors is 'log' or 'raise', not {self.handler_errors!r}")


def _check_compression(value: object) -> None:
    if not isinstance(value, PerMessageDeflate | None):
        raise TypeError(f"compression is a PerMessageDeflate or None, not {value!r}")


def _check_proxy(value: object) -> None:
    if not isinstance(value, str | bool | None):
        raise TypeError("proxy is a URL, True for the environment's, or None for none")


def _check(name: str, value: Any, least: float, *, at_least: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number, not {value!r}")
    if math.isnan(value) or value < least or (value == least and not at_least):
        raise ValueError(f"{name} is {'at least' if at_least else 'more than'} {least}, not {value!r}")
