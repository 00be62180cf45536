"""Serving on a port, on a Unix socket or on listeners that exist, in one call; knows nothing of what a server does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import trio

from ._config import ServerConfig
from ._options import ServerOptions
from ._server import Handler, WebSocketServer
from .transport import PolledListener, UnixListener, open_tcp_listeners, open_unix_listener

if TYPE_CHECKING:
    import os
    import ssl


async def serve_websocket(
    handler: Handler,
    host: str | bytes | None,
    port: int,
    ssl_context: ssl.SSLContext | None,
    *,
    backlog: int | None = None,
    reuse_port: bool = False,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[WebSocketServer] = trio.TASK_STATUS_IGNORED,
    **options: Unpack[ServerOptions],
) -> None:
    """Serve WebSocket on a TCP port, until cancelled or closed.

    Args:
        handler: called with a `WebSocketRequest` for each client, in a task of its own. When it returns, the
            connection is closed with 1000.
        host: where to listen: a name, an address, or None for all interfaces.
        port: TCP port; 0 lets the system choose, and `WebSocketServer.port` says which.
        ssl_context: for TLS; None is for none. It is used as it is: one of `ssl.create_default_context` for
            `ssl.Purpose.CLIENT_AUTH` speaks TLS 1.2 and newer.
        backlog: how many connections may wait to be accepted; by default as many as the kernel allows.
        reuse_port: share the port with other processes that do the same, so that the kernel spreads the connections.
        handler_nursery: where the connections' tasks run; by default in the server's own nursery.
        task_status: ``await nursery.start(serve_websocket, ...)`` returns the `WebSocketServer` once it listens.
        options: see `ServerOptions`.

    Raises:
        OSError: the port cannot be listened on.
        TypeError: an option is unknown.
        ValueError: an option is out of range, or the platform cannot share ports.

    Cancellation: as for `WebSocketServer.run`.
    """
    ServerConfig.of(options)  # what is wrong with them is told before anything is opened
    tcp = await open_tcp_listeners(port, host=host, backlog=backlog, reuse_port=reuse_port)
    listeners = _over_tls(tcp, ssl_context)
    await serve_listeners(
        handler, listeners, handler_nursery=handler_nursery, task_status=task_status, **options
    )


async def serve_unix_websocket(
    handler: Handler,
    path: str | os.PathLike[str],
    /,  # the options have a path too
    ssl_context: ssl.SSLContext | None = None,
    *,
    mode: int = 0o600,
    backlog: int | None = None,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[WebSocketServer] = trio.TASK_STATUS_IGNORED,
    **options: Unpack[ServerOptions],
) -> None:
    """Serve WebSocket on a Unix socket, until cancelled or closed; the socket file goes with the server.

    Args:
        handler: called with a `WebSocketRequest` for each client, in a task of its own.
        path: where to create the socket file. One that a process has left behind is replaced.
        ssl_context: for TLS; None is for none.
        mode: permissions of the socket file: by default its owner alone may connect.
        backlog: how many connections may wait to be accepted; by default as many as the kernel allows.
        handler_nursery: where the connections' tasks run; by default in the server's own nursery.
        task_status: ``await nursery.start(serve_unix_websocket, ...)`` returns the `WebSocketServer` once it listens.
        options: see `ServerOptions`.

    Raises:
        OSError: the file cannot be created; EADDRINUSE if there is one already.
        RuntimeError: this platform has no Unix sockets.
        TypeError: an option is unknown.
        ValueError: an option is out of range.

    Cancellation: as for `WebSocketServer.run`.
    """
    ServerConfig.of(options)
    listeners = _over_tls([await open_unix_listener(path, mode=mode, backlog=backlog)], ssl_context)
    await serve_listeners(
        handler, listeners, handler_nursery=handler_nursery, task_status=task_status, **options
    )


async def serve_listeners(
    handler: Handler,
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
    *,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[WebSocketServer] = trio.TASK_STATUS_IGNORED,
    **options: Unpack[ServerOptions],
) -> None:
    """Serve WebSocket on listeners that exist, until cancelled or closed.

    Args:
        handler: called with a `WebSocketRequest` for each client, in a task of its own.
        listeners: `trio.abc.Listener` of any streams; they belong to the server, and are closed in the end.
        handler_nursery: where the connections' tasks run; by default in the server's own nursery.
        task_status: ``await nursery.start(serve_listeners, ...)`` returns the `WebSocketServer` once it accepts.
        options: see `ServerOptions`.

    Raises:
        TypeError: an option is unknown; the listeners are left as they were.
        ValueError: there are no listeners, or an option is out of range; the listeners are left as they were.

    Cancellation: as for `WebSocketServer.run`.
    """
    server = WebSocketServer(handler, listeners, handler_nursery=handler_nursery, **options)
    await server.run(task_status=task_status)


def _over_tls(
    listeners: Sequence[trio.SocketListener | UnixListener], context: ssl.SSLContext | None
) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
    if context is None:
        return listeners
    return [trio.SSLListener(PolledListener(listener), context) for listener in listeners]
