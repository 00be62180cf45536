"""The options of connections, clients and servers as their users spell them; knows nothing of what is done with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

import trio

from ._observer import Observer
from ._overload import RateLimit
from .protocol import (
    ExtensionFactory,
    HandshakeFailed,
    HeadersLike,
    OriginPolicy,
    PerMessageDeflate,
    Request,
    Response,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence


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
        observer: an `Observer`, who is told that connections come and go; None by default.
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
    observer: Observer | None


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
        trusted_proxies: the addresses and networks, such as ``10.0.0.0/8``, whose word on who the client is counts, for
            `WebSocketRequest.client`; ``"unix"`` stands for all Unix sockets. None by default.
        forwarded_header: where they write it: ``"x-forwarded-for"``, the default, or ``"forwarded"`` (RFC 7239). The
            other one is not looked at: a proxy that writes one passes on the other as the client wrote it.
        proxy_protocol: whether trusted proxies begin each connection with a header of the PROXY protocol, version 1 or 2,
            for `WebSocketRequest.remote`. A connection of theirs without it is cut; one of anybody else has none. If
            there are no `trusted_proxies`, everybody is one. False by default.
    """

    connect_timeout: float
    path: str | None
    subprotocols: Iterable[str] | None
    select_subprotocol: Callable[[Request, tuple[str, ...]], str | None] | None
    extra_headers: HeadersLike | None
    origins: Collection[str | None] | Literal[OriginPolicy.SAME_ORIGIN] | None
    process_request: Callable[[Request], Awaitable[Response | None]] | None
    trusted_proxies: Collection[str]
    forwarded_header: Literal["x-forwarded-for", "forwarded"]
    proxy_protocol: bool
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
        max_connections: how many connections there may be at a time, from when one was accepted, so with its handshake, to
            when its handler has ended. Whoever comes when there are as many gets a 503 with `Retry-After`, before
            `process_request` is asked, or over TLS perhaps only the end of the stream; but a client that has not sent its
            request for a second gives way. None, the default, is for no limit.
        max_connections_per_peer: how many of them may be of one peer: of an IPv4 address, or of the /64 network of an
            IPv6 address. Behind ``trusted_proxies`` it is the address that they tell; Unix sockets and other streams
            without an address have no limit. More of them get a 503, too. None, the default, is for no limit.
        message_rate: how many messages and control frames one peer may send, on all its connections together, as a
            `RateLimit`. The connection that sends more is closed with 1008, behind what was within the limit. A fragment
            is no message: `byte_rate` is what bounds fragments. None, the default, is for no limit.
        byte_rate: the same for bytes as they come behind the handshake, with the headers of frames and before they are
            inflated, but after TLS. A message that is larger than the burst comes through only if it is sent slowly.
    """

    drain: float
    handler_errors: Literal["log", "raise"]
    max_connections: int | None
    max_connections_per_peer: int | None
    message_rate: RateLimit | None
    byte_rate: RateLimit | None
