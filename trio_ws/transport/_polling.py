"""What keeps a poller going in a Trio run; it must not know what its sockets carry.

Sockets are served between two passes of Trio's scheduler, in an instrument's `after_io_wait`: a task that waits for what
has just arrived runs in the pass that follows. Served by a task, it would run one pass later, which made the round trip
of a single client a third longer. The price is one look at the set in each pass, of 0.7 us.

One system task waits for the set, so that Trio wakes up. A second one, the flusher, sleeps until something is due at the
next turn: corked writes, and news for a receiver that came up inside one of the receiver's own calls.
"""

from __future__ import annotations

import sys

import trio

from ._accel import Poller
from ._ready import ReadySet

assert sys.platform != "win32", "Windows has neither epoll nor kqueue"

_running: trio.lowlevel.RunVar[Poll | None] = trio.lowlevel.RunVar("trio_ws poller", default=None)


def current_poller() -> Poller:
    """Return the poller of this Trio run; started if there is none. It begins with the first socket, ends with the last."""
    poll = _running.get()
    if poll is None:
        poll = Poll()
        try:
            trio.lowlevel.spawn_system_task(poll.wake_trio, name="trio_ws poller")
            trio.lowlevel.spawn_system_task(poll.flush, name="trio_ws flusher")
        except BaseException:
            poll.ready.close()
            raise
        _running.set(poll)
        trio.lowlevel.add_instrument(poll)
    return poll.poller


class Poll(trio.abc.Instrument):
    """The poller of a Trio run, its set, and its tasks."""

    __slots__ = ("poller", "ready")

    def __init__(self) -> None:
        self.ready = ReadySet()
        self.poller = Poller(self.ready)

    def before_io_wait(self, timeout: float) -> None:
        """Take the time that tasks had."""
        self.poller.tasks_over()

    def after_io_wait(self, timeout: float) -> None:
        """Serve what is ready before tasks run."""
        self.poller.serve_ready()

    async def wake_trio(self) -> None:
        """Have Trio wake up when a socket is ready. By the time this task runs, they have been served."""
        try:
            while not self._retired():
                try:
                    await trio.lowlevel.wait_readable(self.ready.fileno())
                except trio.ClosedResourceError:  # the flusher saw the last socket go
                    return
        finally:
            self._lose_all()

    async def flush(self) -> None:
        """Serve what is due, a turn later than it came up."""
        poller = self.poller
        try:
            while not self._retired():
                if poller.due:
                    await trio.lowlevel.checkpoint()
                else:
                    await self._sleep()
                left = len(poller.due)  # what becomes due meanwhile waits for the next turn
                while left := poller.serve_due(left):
                    await trio.lowlevel.checkpoint()
        finally:
            self._lose_all()

    async def _sleep(self) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self.poller.flusher = None
            return trio.lowlevel.Abort.SUCCEEDED

        self.poller.flusher = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _retired(self) -> bool:
        """Whether this poller is over, as it is once no socket is left and nobody waits for one, or to be told so."""
        if self.poller.sockets or self.poller.due or self.poller.held:
            return False
        if _running.get() is self:
            _running.set(None)
            trio.lowlevel.remove_instrument(self)
            trio.lowlevel.notify_closing(self.ready.fileno())
            self.ready.close()
            self.poller.wake_flusher()
        return True

    def _lose_all(self) -> None:
        self.poller.lose_all()
        self._retired()
