"""How bytes move between streams and us: the facade of this package, which must not know anything of WebSocket."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

import trio

from ._accel import Transport
from ._accepted import AcceptedStream
from ._base import BATCH, HIGH_WATER, LOW_WATER, Chunk, Receiver, log_failure
from ._dial import dial_tcp, dial_unix, start_tls
from ._listen import PolledListener, UnixListener, accept_forever, open_tcp_listeners, open_unix_listener
from ._proxy import PROXY_PORTS, Proxy, TunnelError, dial_http_proxy, dial_socks_proxy
from ._proxy_protocol import ProxyProtocolError, read_proxy_header
from ._stream import StreamTransport

if sys.platform != "win32":  # there is neither epoll nor kqueue
    from ._accel import SocketTransport
    from ._polled import PolledStream
    from ._polling import current_poller

if TYPE_CHECKING:
    import socket


def socket_below(stream: trio.abc.Stream) -> trio.socket.SocketType | socket.socket | None:
    """Return the socket of a stream that is nothing but a socket, for its addresses; None: it is something else."""
    if isinstance(stream, trio.SocketStream):
        return stream.socket
    if sys.platform != "win32" and isinstance(stream, PolledStream):
        return stream.socket
    return None


def make_transport(stream: trio.abc.Stream, *, read_size: int = BATCH) -> Transport:
    """The transport for *stream*: one served by the shared poller for a plain socket, one with two tasks for all else.

    *read_size* is how many bytes one read takes at most; 64 KiB by default, as a larger read gains nothing and a
    smaller one costs calls.

    Raises:
        ValueError: *read_size* is less than 1.
    """
    if read_size < 1:
        raise ValueError(f"read_size must be at least 1 byte, not {read_size}")
    if sys.platform != "win32":
        if isinstance(stream, trio.SocketStream | AcceptedStream):
            return SocketTransport(stream, current_poller, read_size)
        if isinstance(stream, trio.SSLStream):
            tls = cast("trio.SSLStream[trio.abc.Stream]", stream)
            inner = tls.transport_stream
            return StreamTransport(tls, read_size, inner if isinstance(inner, PolledStream) else None)
    return StreamTransport(stream, read_size)


__all__ = [
    "HIGH_WATER",
    "LOW_WATER",
    "PROXY_PORTS",
    "AcceptedStream",
    "Chunk",
    "PolledListener",
    "Proxy",
    "ProxyProtocolError",
    "Receiver",
    "Transport",
    "TunnelError",
    "UnixListener",
    "accept_forever",
    "dial_http_proxy",
    "dial_socks_proxy",
    "dial_tcp",
    "dial_unix",
    "log_failure",
    "make_transport",
    "open_tcp_listeners",
    "open_unix_listener",
    "read_proxy_header",
    "socket_below",
    "start_tls",
]
