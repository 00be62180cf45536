"""The poller of one Trio run: one epoll or kqueue set for all its sockets; it must not know what they carry.

All sockets that are ready are served in one turn, so that a connection costs no task and a message no scheduler pass of
its own. That happens between two passes of Trio's scheduler, in an instrument's `after_io_wait`: a task that waits for
what has just arrived runs in the pass that follows. Served by a task, it would run one pass later, which made the round
trip of a single client a third longer. The price is one look at the set in each pass, of 0.7 us.

One system task waits for the set, so that Trio wakes up. A second one, the flusher, sleeps until something is due at the
next turn: corked writes, and news for a receiver that came up inside one of the receiver's own calls.
"""

from __future__ import annotations

import select
import socket
import sys
from collections import deque
from time import perf_counter
from typing import Final, Protocol

import trio

from ._base import log_failure

assert sys.platform != "win32", "Windows has neither epoll nor kqueue"

# Sockets in one turn, and seconds after which other tasks run.
_MAX_EVENTS: Final = 256
_SLICE: Final = 0.001

# The kernel's own numbers for epoll, so that on Linux nothing is translated.
READ, WRITE, ERROR, HANGUP = 1, 4, 8, 16

if sys.platform == "linux":

    class ReadySet:
        """An epoll set. It reports ERROR and HANGUP for every descriptor in it, also for one watched for nothing."""

        __slots__ = ("_epoll",)

        def __init__(self) -> None:
            self._epoll = select.epoll()

        def fileno(self) -> int:
            return self._epoll.fileno()

        def watch(self, fd: int, old: int | None, new: int | None) -> None:
            """Change what *fd* is watched for from *old* to *new*; None: it is not in the set."""
            if old is None:
                self._epoll.register(fd, new or 0)
            elif new is None:
                self._epoll.unregister(fd)
            else:
                self._epoll.modify(fd, new)

        def poll(self, limit: int) -> list[tuple[int, int]]:
            """The descriptors ready now, *limit* at most, with their flags. The kernel sees to it that all get a turn."""
            return self._epoll.poll(0, limit)

        def close(self) -> None:
            self._epoll.close()

else:
    _FILTERS = ((READ, select.KQ_FILTER_READ), (WRITE, select.KQ_FILTER_WRITE))
    _FLAGS = {kind: flag for flag, kind in _FILTERS}

    class ReadySet:
        """A kqueue. A lost connection shows as readable or writable; for one watched for nothing it does not show."""

        __slots__ = ("_kqueue",)

        def __init__(self) -> None:
            self._kqueue = select.kqueue()

        def fileno(self) -> int:
            return self._kqueue.fileno()

        def watch(self, fd: int, old: int | None, new: int | None) -> None:
            """Change what *fd* is watched for from *old* to *new*; None: it is not in the set."""
            before, after = old or 0, new or 0
            changes = [
                select.kevent(fd, kind, select.KQ_EV_ADD if after & flag else select.KQ_EV_DELETE)
                for flag, kind in _FILTERS
                if (before ^ after) & flag
            ]
            if changes:
                self._kqueue.control(changes, 0)

        def poll(self, limit: int) -> list[tuple[int, int]]:
            """The descriptors ready now, *limit* at most, with their flags; one may come twice, once for each flag."""
            return [(event.ident, _FLAGS[event.filter]) for event in self._kqueue.control(None, limit, 0)]

        def close(self) -> None:
            self._kqueue.close()


class Served(Protocol):
    """What the poller serves."""

    due: bool
    """In the list for the next turn."""
    since: int
    """The turn in which it was added."""

    def serve(self, events: int) -> None:
        """Do what *events* call for (0: none), and what is due. An exception ends in `lose`."""

    def lose(self, exc: Exception | None) -> None:
        """Give up and tell the receiver. Never raises."""


def take_socket(stream: trio.SocketStream) -> socket.socket:
    """Move the socket out of *stream*, which counts as closed from then on."""
    taken = stream.socket
    trio.lowlevel.notify_closing(taken)  # what Trio's own set remembers of it would cost at every packet
    sock = socket.socket(taken.family, taken.type, taken.proto, taken.detach())
    sock.setblocking(False)
    return sock


_running: trio.lowlevel.RunVar[Poller | None] = trio.lowlevel.RunVar("trio_ws poller", default=None)


class Poller(trio.abc.Instrument):
    """The sockets of one Trio run and what serves them; begins with the first, ends with the last."""

    __slots__ = ("_due", "_events", "_flusher", "_polled", "_ready", "_sockets", "again", "now", "turn")

    @staticmethod
    def current() -> Poller:
        """The poller of this Trio run; started if there is none."""
        poller = _running.get()
        if poller is None:
            poller = Poller()
            try:
                trio.lowlevel.spawn_system_task(poller._wake_trio, name="trio_ws poller")
                trio.lowlevel.spawn_system_task(poller._flush, name="trio_ws flusher")
            except BaseException:
                poller._ready.close()
                raise
            _running.set(poller)
            trio.lowlevel.add_instrument(poller)
        return poller

    def __init__(self) -> None:
        self._ready = ReadySet()
        self._sockets: dict[int, Served] = {}
        self._due: deque[Served] = deque()
        self._flusher: trio.lowlevel.Task | None = None  # set while it sleeps
        self._events: list[tuple[int, int]] = []  # ready and not served yet, the last one first
        self._polled = 0  # the turn in which they were reported
        # Whether a socket had as much as one read takes, so that more of it is likely to be there already.
        self.again = False
        # Advances each time sockets are served. Starts above 0, where no transport has written yet.
        self.turn = 1
        self.now = 0.0  # when that was: cheaper than to ask Trio for each socket

    def add(self, fd: int, transport: Served) -> None:
        self._sockets[fd] = transport

    def remove(self, fd: int) -> None:
        del self._sockets[fd]

    def watch(self, fd: int, old: int | None, new: int | None) -> None:
        self._ready.watch(fd, old, new)

    def call_soon(self, transport: Served) -> None:
        """Have the flusher serve *transport* at the next turn."""
        self._due.append(transport)
        self._wake_flusher()

    async def _wake_trio(self) -> None:
        """Have Trio wake up when a socket is ready. By the time this task runs, they have been served."""
        try:
            while not self._retired():
                try:
                    await trio.lowlevel.wait_readable(self._ready.fileno())
                except trio.ClosedResourceError:  # the flusher saw the last socket go
                    return
        finally:
            self._lose_all()

    def after_io_wait(self, timeout: float) -> None:
        """Serve what is ready before tasks run; what does not fit into this turn comes first in the next."""
        deadline = perf_counter() + _SLICE
        self.again = True
        while self._events or (self.again and perf_counter() < deadline):
            if not self._events:
                self._events = self._ready.poll(_MAX_EVENTS)
                self._events.reverse()
                self._polled = self.turn + 1
                self.again = False
            if not self._events:
                return
            self._begin_turn()
            if not self._serve(deadline):
                return

    def _serve(self, deadline: float) -> bool:
        """Serve the sockets that were reported as ready, and return whether the time was enough for all."""
        while self._events:
            fd, flags = self._events.pop()
            # A transport served since then may have closed another one, and a new one may have got its descriptor.
            # Events of before it was added are not its own.
            transport = self._sockets.get(fd)
            if transport is None or transport.since >= self._polled:
                continue
            try:
                transport.serve(flags)
            except Exception as exc:  # noqa: BLE001 - a receiver's failure ends its own connection only
                self._contain(transport, exc)
            if perf_counter() >= deadline:
                return False
        return True

    async def _flush(self) -> None:
        try:
            while not self._retired():
                if self._due:
                    await trio.lowlevel.checkpoint()
                else:
                    await self._sleep()
                await self._serve_due()
        finally:
            self._lose_all()

    async def _serve_due(self) -> None:
        self._begin_turn()
        deadline = perf_counter() + _SLICE
        for _ in range(len(self._due)):  # what becomes due meanwhile waits for the next turn
            transport = self._due.popleft()
            transport.due = False
            try:
                transport.serve(0)
            except Exception as exc:  # noqa: BLE001 - as above
                self._contain(transport, exc)
            if perf_counter() >= deadline:
                await trio.lowlevel.checkpoint()
                self._begin_turn()
                deadline = perf_counter() + _SLICE

    def _begin_turn(self) -> None:
        self.turn += 1
        self.now = trio.current_time()

    def _contain(self, transport: Served, exc: Exception) -> None:
        """A failure stays with the one in which it happened."""
        log_failure("a receiver failed; its connection is aborted", exc)
        transport.lose(exc)

    async def _sleep(self) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._flusher = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._flusher = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _wake_flusher(self) -> None:
        if self._flusher is not None:
            task, self._flusher = self._flusher, None
            trio.lowlevel.reschedule(task)

    def _retired(self) -> bool:
        """Whether this poller is over, as it is once no socket is left and nobody waits to be told so."""
        if self._sockets or self._due:
            return False
        if _running.get() is self:
            _running.set(None)
            trio.lowlevel.remove_instrument(self)
            trio.lowlevel.notify_closing(self._ready.fileno())
            self._ready.close()
            self._wake_flusher()
        return True

    def _lose_all(self) -> None:
        """The Trio run is ending (or, after `_retired`, nothing is left to do)."""
        exc = trio.BrokenResourceError("the Trio run is ending")
        for transport in (*self._sockets.values(), *self._due):
            transport.lose(exc)
        self._due.clear()
        self._retired()
