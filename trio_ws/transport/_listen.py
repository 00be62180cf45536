"""Listening: opening TCP and Unix listeners, and an accept loop that survives; it must not know what is served."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from ._accepted import AcceptedStream
from ._base import log_failure

if sys.platform != "win32":  # there is neither epoll nor kqueue
    from ._polled import PolledStream
    from ._polling import current_poller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

# Seconds between two tries while accepting fails: short enough to be back soon after descriptors are free again, long
# enough that failing costs nothing.
_FIRST_BACK_OFF: Final = 0.1
_LAST_BACK_OFF: Final = 1.0

# The most a kernel takes; it cuts it down to its own limit. A longer queue costs next to nothing, a full one costs
# connections.
_BACKLOG: Final = 0xFFFF

# Connections accepted in one go. What the first steps of their tasks take, 2 ms in all, is how long others wait.
_TOGETHER: Final = 16


@trio.lowlevel.enable_ki_protection
async def accept_forever(
    listener: trio.abc.Listener[trio.abc.Stream],
    handler: Callable[[trio.abc.Stream], Awaitable[object]],
    nursery: trio.Nursery,
) -> None:
    """Start ``handler(stream)`` in *nursery* for each connection, until *listener* is closed.

    A handler owns its stream and has to close it; an exception of its own would end *nursery*. No `OSError` ends the
    loop: being out of descriptors or memory passes, and so does what happened to a single connection. The first error
    of its kind in a row is logged, and the next try waits, 0.1 s at first and up to 1 s later.

    Cancellation: no connection is lost that was not accepted yet.
    """
    back_off = _FIRST_BACK_OFF
    logged: int | None = None
    with _accepting(listener) as accept:
        while True:
            try:
                streams = await accept()
            except trio.ClosedResourceError:
                return
            except OSError as exc:
                if exc.errno != logged:
                    log_failure("accepting connections fails; retrying until it works again", exc)
                    logged = exc.errno
                await trio.sleep(back_off)
                back_off = min(2 * back_off, _LAST_BACK_OFF)
            else:
                back_off, logged = _FIRST_BACK_OFF, None
                for stream in streams:
                    nursery.start_soon(handler, stream)


@contextmanager
def _accepting(
    listener: trio.abc.Listener[trio.abc.Stream],
) -> Generator[Callable[[], Awaitable[Sequence[trio.abc.Stream]]]]:
    """Return what waits for the next connections of *listener*: several at once if it is a socket."""
    if not isinstance(listener, trio.SocketListener | UnixListener) or listener.socket.fileno() == -1:

        async def accept() -> Sequence[trio.abc.Stream]:
            return [await listener.accept()]

        yield accept
        return
    sock = listener.socket
    # the same descriptor, to be accepted from without waiting, which Trio's sockets do not offer
    twin = socket.socket(sock.family, sock.type, sock.proto, sock.fileno())
    try:
        twin.setblocking(False)
        with _poller_held():
            yield partial(_accept_together, listener, twin)
    finally:
        twin.detach()


async def _accept_together(
    listener: trio.SocketListener | UnixListener, twin: socket.socket
) -> Sequence[trio.abc.Stream]:
    """Wait for connections and accept those that are there."""
    if listener.socket.fileno() == -1:
        raise trio.ClosedResourceError("the listener was closed")
    await trio.lowlevel.wait_readable(listener.socket)
    streams: list[trio.abc.Stream] = []
    try:
        while len(streams) < _TOGETHER and listener.socket.fileno() != -1:
            streams.append(AcceptedStream(*twin.accept()))
    except BlockingIOError:
        pass
    except OSError:
        if not streams:  # Trio knows which errors pass with their connection; the others it raises
            streams.append(await listener.accept())
    return streams


@contextmanager
def _poller_held() -> Generator[None]:
    """Let the poller go on between the connections."""
    if sys.platform == "win32":
        yield
        return
    poller = current_poller()
    poller.hold()
    try:
        yield
    finally:
        poller.release()


async def open_tcp_listeners(
    port: int, *, host: str | bytes | None = None, backlog: int | None = None, reuse_port: bool = False
) -> list[trio.SocketListener]:
    """Listen on *port* of every address that *host* stands for.

    Args:
        port: TCP port; 0 lets the kernel choose, another one for each address.
        host: a name or an address of this machine; None: all of them, IPv4 and IPv6.
        backlog: how many connections may wait to be accepted; by default as many as the kernel allows.
        reuse_port: set SO_REUSEPORT, so that several processes share the port and the kernel spreads the connections.

    Raises:
        OSError: no address was found, or one of them cannot be listened on.
        ValueError: *reuse_port* where the platform does not have it.

    Cancellation: nothing stays open.
    """
    if reuse_port and sys.platform == "win32":
        raise ValueError("this platform cannot share a port between processes; leave reuse_port off")
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[trio.SocketListener] = []
    unsupported: OSError | None = None
    try:
        for family, _, proto, _, address in found:
            try:
                sock = trio.socket.socket(family, socket.SOCK_STREAM, proto)
            except OSError as exc:
                if exc.errno != errno.EAFNOSUPPORT:
                    raise
                unsupported = exc  # names resolve to IPv6 addresses also where the kernel has no IPv6
                continue
            listeners.append(await _listen_on(sock, address, backlog, reuse_port=reuse_port))
        if unsupported is not None and not listeners:
            raise unsupported
    except BaseException:
        for listener in listeners:
            listener.socket.close()
        raise
    return listeners


async def _listen_on(
    sock: trio.socket.SocketType, address: object, backlog: int | None, *, reuse_port: bool
) -> trio.SocketListener:
    try:
        if sys.platform != "win32":  # on Windows it would let others take the port away
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port and sys.platform != "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sock.family == socket.AF_INET6:  # else it would take the IPv4 port too, which has its own socket
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        await sock.bind(address)
        sock.listen(_BACKLOG if backlog is None else backlog)
        return trio.SocketListener(sock)
    except BaseException:
        sock.close()
        raise


class PolledListener(trio.abc.Listener[trio.abc.Stream]):
    """A listener whose streams wait through the shared poller, where there is one: put it under a `trio.SSLListener`.

    Attributes:
        listener: what accepts; it belongs to this one.
    """

    def __init__(self, listener: trio.abc.Listener[trio.SocketStream]) -> None:
        self.listener = listener

    async def accept(self) -> trio.abc.Stream:
        """Wait for a connection.

        Raises:
            OSError: as the listener's own, or no descriptor was left for the poller.

        Cancellation: no connection is lost.
        """
        stream = await self.listener.accept()
        if sys.platform == "win32":
            return stream
        try:
            return PolledStream(stream)
        except OSError:
            stream.socket.close()
            raise

    async def aclose(self) -> None:
        """Stop listening.

        Cancellation: it is done all the same.
        """
        await self.listener.aclose()


class UnixListener(trio.abc.Listener[trio.SocketStream]):
    """A listener whose socket file goes with it, unless the path is somebody else's by then.

    Attributes:
        socket: the listening socket.
        path: where it listens.
    """

    def __init__(self, sock: trio.socket.SocketType, path: str) -> None:
        self.socket = sock
        self.path = path
        self._listener = trio.SocketListener(sock)
        self._identity = _identity(path)

    async def accept(self) -> trio.SocketStream:
        """Wait for a connection.

        Cancellation: no connection is lost.
        """
        return await self._listener.accept()

    async def aclose(self) -> None:
        """Stop listening and remove the socket file. Idempotent.

        Cancellation: it is done all the same.
        """
        if self._identity is not None and _identity(self.path) == self._identity:
            with suppress(OSError):  # its folder may be gone, or not ours to write to any more
                os.unlink(self.path)
        self._identity = None
        await self._listener.aclose()


async def open_unix_listener(
    path: str | os.PathLike[str], *, mode: int | None = None, backlog: int | None = None
) -> UnixListener:
    """Listen on a Unix socket at *path*.

    A socket file left behind by a process that is gone is replaced. One on which somebody listens, and any other file,
    is left alone.

    Args:
        path: where to create the socket file.
        mode: its permissions, as for `os.chmod`; by default what the umask leaves. They are set before the first
            connection is possible.
        backlog: how many connections may wait to be accepted; by default as many as the kernel allows.

    Raises:
        OSError: the file cannot be created; EADDRINUSE if there is one already.
        RuntimeError: this platform has no Unix sockets.

    Cancellation: nothing stays open, and no file stays behind.
    """
    if sys.platform == "win32":
        raise RuntimeError("Python has no Unix sockets on this platform; listen on TCP instead")
    path = os.fspath(path)
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            await sock.bind(path)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or not _is_stale(path):
                raise
            os.unlink(path)
            await sock.bind(path)
        try:
            if mode is not None:
                os.chmod(path, mode)
            sock.listen(_BACKLOG if backlog is None else backlog)
            return UnixListener(sock, path)
        except BaseException:
            os.unlink(path)
            raise
    except BaseException:
        sock.close()
        raise


def _is_stale(path: str) -> bool:
    """Whether *path* is a socket file on which nobody listens."""
    assert sys.platform != "win32"
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a listener with a full queue is a listener
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _identity(path: str) -> tuple[int, int] | None:
    """What tells one file from another that has come to the same path; None: there is no file."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
