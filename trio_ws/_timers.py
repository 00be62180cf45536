"""Alarms: plain calls made when a time has come, by one task per Trio run; knows nothing of what they are for.

A connection has deadlines nearly all of its life and hardly ever meets one. A task or a cancel scope for each would
cost more memory than the rest of the connection; an alarm is an entry in a heap.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

import trio

from .transport import log_failure

_clockwork: trio.lowlevel.RunVar[_Clockwork] = trio.lowlevel.RunVar("trio_ws._timers")
_order = itertools.count()

#: Entries of alarms that were moved or stopped are swept out when the heap has this size, and later twice the size it
#: had after the last time: so sweeping costs a constant per entry, and such entries are never more than half and these.
SWEEP = 64

_Entry = tuple[float, int, "Alarm"]


class Alarm:
    """Calls `ring` once at the time it is set to. Setting it again moves it.

    `ring` is called from a task of its own, must not block, and may set the alarm again. An exception it raises is
    logged and goes no further.
    """

    __slots__ = ("_entry", "_ring", "when")

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._entry = -1
        self.when = math.inf

    def set(self, when: float) -> None:
        """Ring at `when`, on Trio's clock; at `math.inf` never."""
        if when == self.when:
            return
        self.when = when
        self._entry = next(_order)
        if when < math.inf:
            _current().add((when, self._entry, self))

    def stop(self) -> None:
        """Ring no more, and forget what was to be called."""
        self.set(math.inf)
        self._ring = _nothing

    def stands(self, entry: int) -> bool:
        """Say whether the entry is the one this alarm was last set to."""
        return entry == self._entry and self.when < math.inf

    def go_off(self) -> None:
        """Ring now."""
        self.when = math.inf
        try:
            self._ring()
        except Exception as exc:  # noqa: BLE001 - one connection's alarm must not end the others'
            log_failure("an alarm failed", exc)


def _nothing() -> None:
    """Stand in for a callback that is no longer wanted."""


class _Clockwork:
    """The heap of one Trio run and the task that waits for its first entry."""

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._sweep_at = SWEEP
        self._scope: trio.CancelScope | None = None

    def add(self, entry: _Entry) -> None:
        if len(self._heap) >= self._sweep_at:
            self._sweep()
        heapq.heappush(self._heap, entry)
        if self._scope is None:
            self._scope = trio.CancelScope()
            trio.lowlevel.spawn_system_task(self._run, name="trio_ws alarms")
        if entry[0] < self._scope.deadline:  # noqa: PLR1730 - to set it, even to what it is, takes 3 us
            self._scope.deadline = entry[0]

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].stands(entry[1])]
        heapq.heapify(self._heap)
        self._sweep_at = max(SWEEP, 2 * len(self._heap))

    async def _run(self) -> None:
        try:
            while self._ring_due():
                with trio.CancelScope(deadline=self._heap[0][0]) as self._scope:
                    await trio.sleep_forever()
        finally:
            self._scope = None

    def _ring_due(self) -> bool:
        """Ring what is due and return whether there is anything to wait for.

        What is set meanwhile waits for the next pass, in which others have run: it may set itself again and again.
        """
        begun = next(_order)
        while self._heap:
            when, number, alarm = self._heap[0]
            if alarm.stands(number):
                if number > begun or when > trio.current_time():
                    return True
                heapq.heappop(self._heap)
                alarm.go_off()
            else:
                heapq.heappop(self._heap)
        return False


def _current() -> _Clockwork:
    try:
        return _clockwork.get()
    except LookupError:
        _clockwork.set(clockwork := _Clockwork())
        return clockwork
