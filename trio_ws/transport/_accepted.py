"""AcceptedStream: a socket that was just accepted, as a stream; it must not know what is said on it.

Most connections begin with a request that is there already and an answer that the kernel takes at once. Both are a
system call here, without the scheduler passes and the second pair of objects that they cost on a `trio.SocketStream`:
a fifth of a handshake.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final, TypeAlias

import trio

from ._base import BATCH, LOW_WATER

_GONE: Final = "the peer has gone"

_Socket: TypeAlias = socket.socket  # where `socket` is another's name


class AcceptedStream(trio.abc.HalfCloseableStream):
    """A stream over *sock*, which it owns from now on. *peer* is the address that `accept` has told.

    Nothing is tried twice and nothing is queued, so its users must take turns, as on every stream.
    """

    __slots__ = ("_sock", "_stream", "_waited", "peer")

    def __init__(self, sock: _Socket, peer: object) -> None:
        sock.setblocking(False)
        with suppress(OSError):  # a Unix socket has neither
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(
                socket, "TCP_NOTSENT_LOWAT"
            ):  # what the kernel holds of what was not sent yet, as in Trio
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, LOW_WATER)
        self.peer = peer
        self._sock: _Socket | None = sock
        # Made when something has to be waited for that is not data.
        self._stream: trio.SocketStream | None = None
        self._waited = False  # so that Trio's own set of sockets may know this one

    @property
    def socket(self) -> _Socket:
        """The socket.

        Raises:
            trio.ClosedResourceError: the stream was closed, or the socket taken out of it.
        """
        if self._sock is None:
            raise trio.ClosedResourceError("this stream was closed")
        return self._sock

    def detach(self) -> _Socket:
        """Take the socket out; the stream counts as closed from then on.

        Raises:
            trio.ClosedResourceError: it was closed already.
        """
        sock = self.socket
        if self._waited:
            trio.lowlevel.notify_closing(sock)
        self._sock = self._stream = None
        return sock

    def try_receive(self, max_bytes: int) -> bytes | None:
        """Receive what is there; None: there is nothing.

        Raises:
            trio.BrokenResourceError: the connection is broken.
            trio.ClosedResourceError: the stream was closed.
        """
        try:
            return self.socket.recv(max_bytes)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise trio.BrokenResourceError(_GONE) from exc

    def try_send(self, data: bytes) -> int:
        """Send what the kernel takes now, and return how many bytes that is.

        Raises:
            trio.BrokenResourceError: the connection is broken.
            trio.ClosedResourceError: the stream was closed.
        """
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise trio.BrokenResourceError(_GONE) from exc

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what is there, waiting for it if there is nothing.

        Cancellation: nothing was received.
        """
        size = BATCH if max_bytes is None else max_bytes
        if size < 1:
            raise ValueError(f"max_bytes must be at least 1, not {size}")
        await trio.lowlevel.checkpoint_if_cancelled()
        data = self.try_receive(size)
        if data is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()
        while data is None:
            self._waited = True
            await trio.lowlevel.wait_readable(self.socket)
            data = self.try_receive(size)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of *data*.

        Cancellation: a part of it may have been sent.
        """
        await self._as_trios().send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room.

        Cancellation: does nothing.
        """
        await self._as_trios().wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End this side.

        Cancellation: it is ended all the same, or not at all.
        """
        await self._as_trios().send_eof()

    async def aclose(self) -> None:
        """Close the stream. Idempotent.

        Cancellation: it is closed all the same.
        """
        if self._sock is not None:
            self.detach().close()
        await trio.lowlevel.checkpoint()

    def _as_trios(self) -> trio.SocketStream:
        if self._stream is None:
            self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(self.socket))
            self._waited = True
        return self._stream


def detach(stream: trio.SocketStream | AcceptedStream) -> _Socket:
    """Take the socket out of a stream, which counts as closed from then on; it does not block."""
    if isinstance(stream, AcceptedStream):
        return stream.detach()
    taken = stream.socket
    trio.lowlevel.notify_closing(taken)  # what Trio's own set remembers of it would cost at every packet
    sock = socket.socket(taken.family, taken.type, taken.proto, taken.detach())
    sock.setblocking(False)
    return sock
