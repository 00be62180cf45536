"""Memory that was given back goes back to the system, where the allocator would keep it; knows nothing of who had it.

glibc gives back the end of its heap alone. What lies between blocks that are still in use stays with the process: after
400 connections that had compressed, 22 to 34 MiB of 36, and after 450 that had sent some messages of 1 MiB, 126 of 127.
``malloc_trim`` returned all but 3 MiB of the one and 1 of the other, in 1 to 17 ms.
"""

from __future__ import annotations

import ctypes
import sys
from time import thread_time
from typing import TYPE_CHECKING, cast

import trio

from ._timers import Alarm

if TYPE_CHECKING:
    from collections.abc import Callable

#: From so many bytes on it is worth it: 64 connections that compressed, or one that moved four messages of 1 MiB.
WORTH = 2**22

#: Seconds from then until it is done, once for all that is given back meanwhile, and so never more often.
PATIENCE = 1.0

#: The same as a multiple of the processor's time that it took before: with a large heap it takes longer, and no more than
#: a hundredth of all time is to go into it, however often peers come and go.
COST = 100

_tally: trio.lowlevel.RunVar[_Tally] = trio.lowlevel.RunVar("trio_ws._heap")


class _Tally:
    """What was given back since the heap was last trimmed."""

    def __init__(self) -> None:
        self._size = 0
        self._patience = PATIENCE
        self._alarm = Alarm(self._ring)

    def add(self, size: int) -> None:
        self._size += size
        if self._size >= WORTH > self._size - size:
            self._alarm.set(trio.current_time() + self._patience)

    def _ring(self) -> None:
        self._size = 0
        begun = thread_time()
        trim()
        self._patience = max(PATIENCE, COST * (thread_time() - begun))


def give_back(size: int) -> None:
    """Take note that so many bytes, at most, are free from now on."""
    try:
        tally = _tally.get()
    except LookupError:
        _tally.set(tally := _Tally())
    tally.add(size)


def trim() -> bool:
    """Have the allocator give to the system what is free; return whether it can, as glibc's does."""
    if sys.platform != "linux":
        return False
    malloc_trim = cast("Callable[[int], int] | None", getattr(ctypes.CDLL(None), "malloc_trim", None))
    if malloc_trim is None:
        return False
    malloc_trim(0)
    return True
