"""One line for each measurement, with the time that the rest will take; knows nothing of what is measured."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO


def format_duration(seconds: float) -> str:
    """Return a duration as people say it: ``45 s``, ``12 min``, ``1 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


class Progress:
    """Counts measurements, and says how far they are.

    Args:
        total: how many there will be.
        out: where the lines go; standard error by default, for standard output has the result.
        clock: seconds, from anywhere on.
    """

    def __init__(
        self, total: int, *, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total = total
        self._out = out or sys.stderr
        self._clock = clock
        self._start = clock()
        self._done = 0

    def tell(self, work: str, subject: str, outcome: str) -> None:
        """Say what one measurement found."""
        self._done += 1
        left = (self._clock() - self._start) / self._done * (self._total - self._done)
        count = f"[{self._done:>{len(str(self._total))}}/{self._total}]"
        line = f"{count} {work:<36} {subject:<20} {outcome:<24} eta {format_duration(left)}"
        print(line, file=self._out, flush=True)
