"""Dialling: TCP, Unix sockets, and TLS on top of any stream; it must not know URLs, proxies or deadlines.

A caller gives deadlines by cancelling. Whatever fails or is cancelled here leaves nothing open.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import trio

if sys.platform != "win32":  # there is neither epoll nor kqueue
    from ._polled import PolledStream

if TYPE_CHECKING:
    import os
    import ssl


async def dial_tcp(host: str, port: int, *, local_address: str | None = None) -> trio.SocketStream:
    """Connect to the first address of *host* that answers (happy eyeballs, RFC 8305).

    Args:
        host: name or address, without the brackets that a URL puts around an IPv6 address.
        port: TCP port.
        local_address: the address of this machine to connect from; by default the system chooses.

    Raises:
        OSError: no address could be found or connected to; several failures are its cause.

    Cancellation: nothing stays open.
    """
    return await trio.open_tcp_stream(host, port, local_address=local_address)


async def dial_unix(path: str | os.PathLike[str]) -> trio.SocketStream:
    """Connect to the Unix socket at *path*.

    Raises:
        OSError: it does not exist, or nobody listens.
        RuntimeError: this platform has no Unix sockets.

    Cancellation: nothing stays open.
    """
    return await trio.open_unix_socket(path)


async def start_tls(
    stream: trio.abc.Stream, context: ssl.SSLContext, server_hostname: str | None
) -> trio.SSLStream[trio.abc.Stream]:
    """Do the client's TLS handshake on *stream*, which belongs to the result from here on.

    An end of the stream without close_notify is an error on the result, never a clean end: whoever can cut the wire
    must not be able to end a conversation in order.

    Args:
        stream: connected, with nothing sent or received yet.
        context: what to trust and to offer.
        server_hostname: the name the certificate must be for, also sent as SNI. None only for a context that checks
            no names.

    Raises:
        OSError: no descriptor was left for the poller.
        trio.BrokenResourceError: the handshake failed; the `ssl.SSLError` is its cause.
        ValueError: *server_hostname* is no valid name, or is missing.

    Cancellation: *stream* is closed.
    """
    try:
        if sys.platform != "win32" and isinstance(stream, trio.SocketStream):
            stream = PolledStream(stream)
        if context.check_hostname and server_hostname is None:  # OpenSSL would check no name at all then
            raise ValueError("the TLS context checks host names, so server_hostname must say which one")
        tls = trio.SSLStream(stream, context, server_hostname=server_hostname)
        await tls.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return tls
