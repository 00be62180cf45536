"""PolledStream: a plain socket as a `trio.abc.Stream` that waits through the shared poller; it must not know what runs on it.

It is what TLS runs on. `trio.SSLStream` makes a scheduler pass of its own for each call, so here one is made only where
there is something to wait for: a `trio.SocketStream` makes one more for each send, and for each wait an attempt in vain
and a change of Trio's set.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from operator import index
from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import checkpoint_if_cancelled, current_task, reschedule, wait_task_rescheduled

from ._accepted import detach
from ._base import BATCH
from ._polling import current_poller
from ._ready import READ, WRITE

assert sys.platform != "win32", "Windows has neither epoll nor kqueue"

if TYPE_CHECKING:
    from collections.abc import Callable

# Calls in a row that may return at once; the next one lets other tasks run.
_CALLS: Final = 64


class PolledStream(trio.abc.Stream):
    """A connected stream socket, taken over from a `trio.SocketStream`, which counts as closed from then on.

    What arrives while nobody waits for it is read once, up to 64 KiB, and kept for the next who asks.

    Attributes:
        socket: the socket, for its addresses.
        on_idle: called when `receive_some` is about to wait, if it is not None; must not raise.

    Raises:
        OSError: no descriptor was left for the poller. *stream* is as it was.
        trio.ClosedResourceError: *stream* is closed already.
    """

    __slots__ = (
        "_calls",
        "_closed",
        "_data",
        "_error",
        "_fd",
        "_over",
        "_poller",
        "_reader",
        "_sending",
        "_want",
        "_writer",
        "due",
        "on_idle",
        "since",
        "socket",
    )

    def __init__(self, stream: trio.SocketStream) -> None:
        if stream.socket.fileno() == -1:
            raise trio.ClosedResourceError("the stream is closed already")
        self._poller = current_poller()
        self.socket = detach(stream)
        self._fd = self.socket.fileno()
        self._want = 0  # what the set watches for; 0: it is not in it
        self._data = b""  # read, and wanted by nobody yet
        self._over = False  # nothing more comes: the peer has ended its side, or it is lost, or closed
        self._error: OSError | None = None  # why it is lost
        self._closed = False
        self._reader: trio.lowlevel.Task | None = None  # these wait
        self._writer: trio.lowlevel.Task | None = None
        self._sending = False
        self._calls = _CALLS
        self.on_idle: Callable[[], None] | None = None
        self.due = False  # in the poller's list for the next turn
        self.since = self._poller.turn  # the turn in which it was added
        self._poller.add(self._fd, self)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return bytes that have arrived, waiting for some if need be; none at the peer's end.

        Args:
            max_bytes: how many at most; by default all that were read at once, 64 KiB at most.

        Raises:
            trio.BrokenResourceError: the connection is lost.
            trio.BusyResourceError: another task is waiting for some.
            trio.ClosedResourceError: the stream is closed.
            ValueError: *max_bytes* is less than 1.

        Cancellation: no byte is lost.
        """
        if max_bytes is not None and index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._data or self._over:
            await self._pass()
        while not (self._data or self._over):
            if self._reader is not None:
                raise trio.BusyResourceError("another task is receiving on this stream")
            if self.on_idle is not None:
                self.on_idle()
            if not self._want & READ:
                self._watch(self._want | READ)
            self._reader = current_task()
            await wait_task_rescheduled(self._leave_reader)
            self._calls = _CALLS
        self._require_open()
        data = self._data
        if self._error is not None and not data:
            raise trio.BrokenResourceError(f"the connection is lost: {self._error}") from self._error
        if max_bytes is None:
            self._data = b""
            return data
        self._data = data[max_bytes:]
        return data[:max_bytes]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of *data*, waiting for room if need be.

        Raises:
            trio.BrokenResourceError: the connection is lost.
            trio.BusyResourceError: another task is waiting for room.
            trio.ClosedResourceError: the stream is closed.

        Cancellation: any part of it may have been sent.
        """
        await self._pass()
        self._require_idle()
        sent = self._send(data)
        if sent < len(data):
            self._sending = True
            try:
                with memoryview(data) as view:
                    while sent < len(view):
                        await self._wait_writable()
                        sent += self._send(view[sent:])
            finally:
                self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room.

        Raises:
            trio.BusyResourceError: another task is waiting for room.
            trio.ClosedResourceError: the stream is closed.

        Cancellation: nothing was done.
        """
        await checkpoint_if_cancelled()
        self._require_idle()
        self._sending = True
        try:
            await self._wait_writable()
        finally:
            self._sending = False

    async def aclose(self) -> None:
        """Close the socket; whoever waits for it gets a `trio.ClosedResourceError`. Idempotent.

        Cancellation: it is closed all the same.
        """
        if not self._closed:
            self._close()
            self._call_soon()
        await trio.lowlevel.checkpoint()

    # Called by the poller

    def serve(self, events: int) -> None:
        """Read what has arrived, and let those go on who wait."""
        if events & ~WRITE:
            self._input()
        if events & ~READ and self._writer is not None:
            task, self._writer = self._writer, None
            reschedule(task)

    def lose(self, exc: Exception | None) -> None:
        """Give up, as the Trio run is ending."""
        if not self._closed:
            self._close()

    # Waiting

    async def _pass(self) -> None:
        """Be a cancellation point, and now and then a schedule point."""
        self._calls -= 1
        if self._calls > 0:
            await checkpoint_if_cancelled()
        else:
            self._calls = _CALLS
            await trio.lowlevel.checkpoint()

    async def _wait_writable(self) -> None:
        self._watch(self._want | WRITE)
        self._writer = current_task()
        try:
            await wait_task_rescheduled(self._leave_writer)
        finally:
            self._watch(self._want & ~WRITE)
        self._calls = _CALLS
        self._require_open()

    def _leave_reader(self, _: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _leave_writer(self, _: object) -> trio.lowlevel.Abort:
        self._writer = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _require_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream is closed")

    def _require_idle(self) -> None:
        self._require_open()
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")

    # The socket

    def _send(self, data: bytes | bytearray | memoryview) -> int:
        """Offer *data* to the kernel once, and return how much of it was taken."""
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise trio.BrokenResourceError(f"the connection is lost: {exc}") from exc

    def _input(self) -> None:
        if self._data or self._over:
            # Nobody wants more for now, and the kernel is not to repeat it for ever. What cannot be masked is not told of
            # a descriptor that is not in the set, and wakes who waits for room in one that is.
            self._watch(self._want & ~READ)
            return
        try:
            self._data = self.socket.recv(BATCH)
            self._over = not self._data
        except BlockingIOError:
            return
        except OSError as exc:
            self._error, self._over = exc, True
        self._wake_reader()

    def _wake_reader(self) -> None:
        if self._reader is not None:
            task, self._reader = self._reader, None
            reschedule(task)

    def _watch(self, want: int) -> None:
        """Watch for *want*, if that is something else than before.

        Raises:
            trio.BrokenResourceError: the kernel is out of memory, or of watches.
        """
        old = self._want
        if old == want or self._closed:
            return
        try:
            self._poller.watch(self._fd, old or None, want or None)
        except OSError as exc:
            raise trio.BrokenResourceError(f"the connection cannot be waited for: {exc}") from exc
        self._want = want

    def _call_soon(self) -> None:
        """Have the poller look whether this was its last socket."""
        self.due = True
        self._poller.call_soon(self)

    def _close(self) -> None:
        # In this order: a descriptor that is closed may be another's the next moment.
        with suppress(trio.BrokenResourceError):
            self._watch(0)
        self._closed = True
        self._poller.remove(self._fd)
        with suppress(OSError):
            self.socket.close()
        self._over = True
        self._wake_reader()
        if self._writer is not None:
            task, self._writer = self._writer, None
            reschedule(task)
