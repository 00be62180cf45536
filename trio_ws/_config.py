"""The options of a connection: their meaning, their defaults and their checks; knows nothing of who keeps them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self, TypedDict

from .protocol import (
    SAME_ORIGIN,
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
        connect_timeout: seconds that TCP, TLS and the handshake may take together, 10 by default.
    """

    subprotocols: Iterable[str] | None
    extra_headers: HeadersLike | None
    origin: str | None
    protocol_version: int
    connect_timeout: float


class AcceptOptions(ConductOptions, total=False):
    """Options of a connection on the server's side, besides those about sizes.

    Attributes:
        connect_timeout: seconds that TLS and the client's request may take together, 10 by default; also how long the
            client may keep a connection on which a request was answered by `process_request` before the next one.
        path: the only path that is served, compared to what the client asks for up to the ``?`` as it came; another one
            gets a 404. By default all are.
        subprotocols: subprotocols that are spoken, best first: where `WebSocketRequest.accept` names none, the first of
            these that the client offers is chosen. By default none is.
        select_subprotocol: called instead with the request and what the client offers, if it offers any; it returns one
            of these, or None for none.
        extra_headers: header fields of every 101 besides those of the handshake: pairs, or a mapping, of `str` or
            `bytes`.
        origins: which pages may connect. By default an `Origin` header must match `Host`; None accepts all; else the
            origins that are accepted, None among them standing for requests without one.
        process_request: called with each request before it is held to the rules of WebSocket; a `Response` it returns
            is the answer, and None goes on. So a server can answer plain HTTP on the same port: the connection stays
            open for more requests if the client wants that, up to 100.
        process_response: called with each request that could be read and the answer to it, the 101 too, before it is
            sent; a `Response` it returns is sent instead. Of a 101 only headers can be changed, and none of the
            handshake. Who is turned away because the server ends gets a 503 without this.
        on_handshake_error: called with what is wrong with a request, whose ``response`` is the answer to be sent, and
            the request, None if it could not be read; a `Response` it returns is sent instead. It may be asynchronous.
    """

    connect_timeout: float
    path: str | None
    subprotocols: Iterable[str] | None
    select_subprotocol: Callable[[Request, tuple[str, ...]], str | None] | None
    extra_headers: HeadersLike | None
    origins: Collection[str | None] | Literal[OriginPolicy.SAME_ORIGIN] | None
    process_request: Callable[[Request], Awaitable[Response | None]] | None
    process_response: Callable[[Request, Response], Awaitable[Response | None]] | None
    on_handshake_error: (
        Callable[[HandshakeFailed, Request | None], Awaitable[Response | None] | Response | None] | None
    )


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

    def __post_init__(self) -> None:
        Config.__post_init__(self)
        _check("connect_timeout", self.connect_timeout, 0, at_least=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig(Config):
    """`ServerOptions` with every default filled in and every value checked."""

    connect_timeout: float = 10.0
    drain: float = 5.0
    handler_errors: str = "log"
    origins: Collection[str | None] | Literal[OriginPolicy.SAME_ORIGIN] | None = SAME_ORIGIN
    path: str | None = None
    subprotocols: Iterable[str] | None = None
    select_subprotocol: Callable[[Request, tuple[str, ...]], str | None] | None = None
    extra_headers: HeadersLike | None = None
    process_request: Callable[[Request], Awaitable[Response | None]] | None = None
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
        if isinstance(self.origins, str):
            raise TypeError("origins is a collection of strings: put the one string into a list")
        if self.handler_errors not in ("log", "raise"):
            raise ValueError(f"handler_errors is 'log' or 'raise', not {self.handler_errors!r}")

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


def _check_compression(value: object) -> None:
    if not isinstance(value, PerMessageDeflate | None):
        raise TypeError(f"compression is a PerMessageDeflate or None, not {value!r}")


def _check(name: str, value: Any, least: float, *, at_least: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number, not {value!r}")
    if math.isnan(value) or value < least or (value == least and not at_least):
        raise ValueError(f"{name} is {'at least' if at_least else 'more than'} {least}, not {value!r}")
