"""The kernel's set of sockets that are ready, epoll or kqueue, in one form; it must not know who waits for them."""

from __future__ import annotations

import select
import sys

assert sys.platform != "win32", "Windows has neither epoll nor kqueue"

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
