"""Turns of those who have more at hand than others should wait for; knows nothing of what they do in them.

Who has done what may be done at once asks for another turn, and gets it when all others have had theirs: tasks, and
sockets that are ready. There is as much time in a pass of the scheduler for those who wait here as all others took, or
a slice if that is more. So a crowd of them takes half of the processor at most, and who does little waits for none of
them.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

import trio

from .transport import log_failure

if TYPE_CHECKING:
    from typing import Protocol

    class Busy(Protocol):
        """Who asks for turns."""

        def take_turn(self) -> None:
            """Do what may be done in one turn; may ask for another. An exception ends in `abort`."""

        def abort(self, cause: Exception | None) -> None:
            """Give up. Never raises."""


# Seconds of a pass in which those who wait here are served, if others took less.
_SLICE: Final = 0.001

_queue: trio.lowlevel.RunVar[_Queue] = trio.lowlevel.RunVar("trio_ws._turns")


def ask_for_turn(busy: Busy) -> None:
    """Have `take_turn` called once, behind all who have asked before, in a later pass of the scheduler."""
    try:
        queue = _queue.get()
    except LookupError:
        _queue.set(queue := _Queue())
    queue.add(busy)


class _Queue:
    """Those who wait, in one Trio run, and the task that serves them. There is none while nobody waits."""

    def __init__(self) -> None:
        self._waiting: deque[Busy] = deque()
        self._runs = False

    def add(self, busy: Busy) -> None:
        self._waiting.append(busy)
        if not self._runs:
            self._runs = True
            trio.lowlevel.spawn_system_task(self._run, name="trio_ws turns")

    async def _run(self) -> None:
        try:
            while self._waiting:
                begun = time.perf_counter()
                await trio.lowlevel.checkpoint()
                self._serve(max(_SLICE, time.perf_counter() - begun))
        finally:
            self._runs = False

    def _serve(self, seconds: float) -> None:
        """Serve those who wait by now, as far as there is time."""
        deadline = time.perf_counter() + seconds
        for _ in range(len(self._waiting)):
            busy = self._waiting.popleft()
            try:
                busy.take_turn()
            except Exception as exc:  # noqa: BLE001 - the failure of one must not end the others' turns
                log_failure(f"{busy} failed; its connection is aborted", exc)
                busy.abort(exc)
            if time.perf_counter() >= deadline:
                return
