"""The poller of one Trio run: one epoll or kqueue set for all its sockets; it must not know what they carry.

All sockets that are ready are served in one turn, so that a connection costs no task and a message no scheduler pass of
its own. Nothing here waits: what keeps it going in a Trio run is in _polling.py.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import reschedule

from ._base import log_failure

if TYPE_CHECKING:
    from typing import Protocol

    from ._ready import ReadySet

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


# Sockets in one turn, and seconds after which other tasks run.
_MAX_EVENTS: Final = 256
_SLICE: Final = 0.001


class Poller:
    """The sockets of one Trio run, and what is to be done for them.

    Args:
        ready: the kernel's set.

    Attributes:
        again: whether a socket had as much as one read takes, so that more of it is likely to be there already.
        due: who is to be served at the next turn.
        flusher: the task that serves them, while it sleeps.
        held: how many expect more sockets.
        now: when the turn began, on Trio's clock: cheaper than to ask for each socket.
        sockets: the transport of each descriptor in the set.
        turn: advances in each pass of the scheduler, and each time sockets are served; starts above 0, where no transport
            has written yet.
    """

    __slots__ = (
        "_due_since",
        "_events",
        "_polled",
        "_ready",
        "_tasks_since",
        "_tasks_took",
        "again",
        "due",
        "flusher",
        "held",
        "now",
        "sockets",
        "turn",
    )

    def __init__(self, ready: ReadySet) -> None:
        self._ready = ready
        self._events: list[tuple[int, int]] = []  # ready and not served yet, the last one first
        self._polled = 0  # the turn in which they were reported
        self._tasks_since = self._tasks_took = (
            0.0  # when they began to run, and the seconds for which they last did
        )
        self.sockets: dict[int, Served] = {}
        self.held = 0
        self.due: deque[Served] = deque()
        self._due_since = 0.0  # when serving those was last over, or the first of them came
        self.flusher: trio.lowlevel.Task | None = None
        self.again = False
        self.turn = 1
        self.now = 0.0

    def add(self, fd: int, transport: Served) -> None:
        """Serve a transport from now on."""
        self.sockets[fd] = transport

    def remove(self, fd: int) -> None:
        """Serve it no more."""
        del self.sockets[fd]

    def hold(self) -> None:
        """Go on without a socket: more are to come, and beginning again costs as much as a fifth of a handshake."""
        self.held += 1

    def release(self) -> None:
        """End with the last socket again."""
        self.held -= 1
        self.wake_flusher()

    def watch(self, fd: int, old: int | None, new: int | None) -> None:
        """Change what *fd* is watched for from *old* to *new*; None: it is not in the set."""
        self._ready.watch(fd, old, new)

    def call_soon(self, transport: Served) -> None:
        """Have the flusher serve *transport* at the next turn."""
        self.due.append(transport)
        self.wake_flusher()

    def wake_flusher(self) -> None:
        """Have the flusher look at what is due."""
        if self.flusher is not None:
            task, self.flusher = self.flusher, None
            self._due_since = time.perf_counter()
            reschedule(task)

    def tasks_over(self) -> None:
        """Take note that all tasks have had their turn."""
        self._tasks_took = time.perf_counter() - self._tasks_since

    def serve_ready(self) -> None:
        """Serve what is ready; what does not fit into this turn comes first in the next.

        There is as much time for what was reported as tasks took in the last pass, or a slice if that is more: else
        tasks that are busy would keep all waiting who have not been read. To look again there is a slice.

        The tasks of the pass that follows have a turn of their own, also when nothing is ready.
        """
        self.turn += 1
        begun = time.perf_counter()
        deadline = begun + max(_SLICE, self._tasks_took)
        self.again = True
        while self._events or (self.again and time.perf_counter() < begun + _SLICE):
            if not self._events:
                self._events = self._ready.poll(_MAX_EVENTS)
                self._events.reverse()
                self._polled = self.turn + 1
                self.again = False
            if not self._events:
                break
            self.begin_turn()
            if not self._serve(deadline):
                break
        self._tasks_since = time.perf_counter()

    def serve_due(self, count: int) -> int:
        """Serve *count* of those that are due, as far as there is time, in a turn of their own; return how many are left.

        There is as much time as all tasks took since the last time, or a slice if that is more: a crowd is not kept
        waiting by tasks that are busy, as they are not by the crowd.
        """
        self.begin_turn()
        begun = time.perf_counter()
        deadline = begun + max(_SLICE, begun - self._due_since)
        while count > 0:
            transport = self.due.popleft()
            transport.due = False
            self._serve_one(transport, 0)
            count -= 1
            if time.perf_counter() >= deadline:
                break
        self._due_since = time.perf_counter()
        return count

    def begin_turn(self) -> None:
        """Begin a turn: each socket may write at once again."""
        self.turn += 1
        self.now = trio.current_time()

    def lose_all(self) -> None:
        """Tell everyone that it is over: the Trio run is ending (or nothing is left to do)."""
        exc = trio.BrokenResourceError("the Trio run is ending")
        for transport in (*self.sockets.values(), *self.due):
            transport.lose(exc)
        self.due.clear()

    def _serve(self, deadline: float) -> bool:
        """Serve the sockets that were reported as ready, and return whether the time was enough for all."""
        while self._events:
            fd, flags = self._events.pop()
            # A transport served since then may have closed another one, and a new one may have got its descriptor.
            # Events of before it was added are not its own.
            transport = self.sockets.get(fd)
            if transport is not None and transport.since < self._polled:
                self._serve_one(transport, flags)
                if time.perf_counter() >= deadline:
                    return False
        return True

    def _serve_one(self, transport: Served, flags: int) -> None:
        try:
            transport.serve(flags)
        except Exception as exc:  # noqa: BLE001 - a receiver's failure ends its own connection only
            log_failure(f"{transport} failed; its connection is aborted", exc)
            transport.lose(exc)
