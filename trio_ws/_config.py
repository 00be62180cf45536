"""The options of a connection: their meaning, their defaults and their checks; knows nothing of who keeps them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self, TypedDict

import trio

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
    compression: PerMessageDeflate | None
    auto_pong: bool
    on_ping: Callable[[bytes], object] | None
    on_pong: Callable[[bytes], object] | None
    text_as_bytes: bool
    extensions: Sequence[ExtensionFactory]
    websocket_class: type[trio.abc.Channel[str | bytes]] | None


class ConnectionOptions(SizeOptions, ConductOptions, total=False):
    """Options that every connection takes, as keyword arguments of whatever opens or accepts it."""


class ClientOptions(ConnectionOptions, total=False):
    """Options of a client's connection, besides those of every connection.

    Attributes:
        subprotocols: subprotocols to offer, best first; none by default.
        extra_headers: header fields to send besides those of the handshake: pairs, or a mapping, of `str` or `bytes`.
        origin: the `Origin` to send; none by default, as is right for whatever is not a browser.
        protocol_version: 13 by default; 8 for servers from before RFC 6455.
        connect_timeout: seconds that TCP, TLS and the handshake may take together, 10 by default.
        generate_mask: returns four bytes, the mask of one frame. None, the default, is the system's generator; anything
            else is for tests, for masks that can be foretold protect no proxy on the way (RFC 6455 10.3).
    """

    subprotocols: Iterable[str] | None
    extra_headers: HeadersLike | None
    origin: str | None
    protocol_version: int
    connect_timeout: float
    generate_mask: Callable[[], bytes] | None


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
    on_ping: Callable[[bytes], object] | None = None
    on_pong: Callable[[bytes], object] | None = None
    text_as_bytes: bool = False
    extensions: Sequence[ExtensionFactory] = ()
    websocket_class: type[trio.abc.Channel[str | bytes]] | None = None
    #: What the protocol core is to allow the peer.
    limits: Limits = field(init=False)

    def __post_init__(self) -> None:
        for name in ("message_queue_size", "max_message_size", "max_fragments", "disconnect_timeout"):
            _check(name, getattr(self, name), 0, at_least=True)
        for name in ("message_queue_bytes", "receive_buffer_size", "ping_interval", "ping_timeout"):
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), 0, at_least=False)
        _check_compression(self.compression)
        _check_extensions(self.extensions)
        _check_class(self.websocket_class)
        _check_callable("on_ping", self.on_ping)
        _check_callable("on_pong", self.on_pong)
        size = int(min(self.max_message_size, UNLIMITED))
        object.__setattr__(self, "limits", Limits(max_message_size=size, max_fragments=self.max_fragments))

    @property
    def negotiable(self) -> tuple[ExtensionFactory, ...]:
        """What may be agreed on with the peer, best first."""
        return (*(() if self.compression is None else (self.compression,)), *self.extensions)

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
    generate_mask: Callable[[], bytes] | None = None

    def __post_init__(self) -> None:
        Config.__post_init__(self)
        _check_callable("generate_mask", self.generate_mask)
        _check("connect_timeout", self.connect_timeout, 0, at_least=True)


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
