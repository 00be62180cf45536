"""How bytes move between streams and us: the facade of this package, which must not know anything of WebSocket."""

from __future__ import annotations

import sys

import trio

from ._accel import Transport
from ._accepted import AcceptedStream
from ._base import BATCH, HIGH_WATER, LOW_WATER, Chunk, Receiver, log_failure
from ._dial import dial_tcp, dial_unix, start_tls
from ._listen import UnixListener, accept_forever, open_tcp_listeners, open_unix_listener
from ._stream import StreamTransport

if sys.platform != "win32":  # there is neither epoll nor kqueue
    from ._accel import SocketTransport
    from ._polling import current_poller


def make_transport(stream: trio.abc.Stream, *, read_size: int = BATCH) -> Transport:
    """The transport for *stream*: one served by the shared poller for a plain socket, one with two tasks for all else.

    *read_size* is how many bytes one read takes at most; 64 KiB by default, as a larger read gains nothing and a
    smaller one costs calls.

    Raises:
        ValueError: *read_size* is less than 1.
    """
    if read_size < 1:
        raise ValueError(f"read_size must be at least 1 byte, not {read_size}")
    if sys.platform != "win32" and isinstance(stream, trio.SocketStream | AcceptedStream):
        return SocketTransport(stream, current_poller, read_size)
    return StreamTransport(stream, read_size)


__all__ = [
    "HIGH_WATER",
    "LOW_WATER",
    "AcceptedStream",
    "Chunk",
    "Receiver",
    "Transport",
    "UnixListener",
    "accept_forever",
    "dial_tcp",
    "dial_unix",
    "log_failure",
    "make_transport",
    "open_tcp_listeners",
    "open_unix_listener",
    "start_tls",
]
