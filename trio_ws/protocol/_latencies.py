"""Round-trip times, counted on a logarithmic scale in bounded memory; knows nothing of pings, and no clock."""

from __future__ import annotations

import math
from array import array

#: Steps of the scale to each doubling: one is 9 % wide, so what is read off its middle is off by 4.5 % at most.
STEPS = 8

#: Seconds that the scale begins and ends with: 30 doublings, so 240 numbers at most. What lies outside counts as these.
LEAST, MOST = 1e-6, 1024.0


class Latencies:
    """How often which round-trip time was measured.

    It holds the numbers between the smallest and the largest alone, 8 bytes for each step of the scale: 2 KiB at most,
    and some 200 bytes where all are alike.

    Attributes:
        count: how many were measured.
        largest: the largest, in seconds; 0 if there is none.
        smallest: the smallest, in seconds; infinite if there is none.
        total: the sum of all, in seconds.
    """

    __slots__ = ("_first", "_numbers", "count", "largest", "smallest", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.smallest = math.inf
        self.largest = 0.0
        self._first = 0  # the step that `_numbers` begin with
        self._numbers = array("Q")

    def add(self, seconds: float) -> None:
        """Enter one."""
        self.count += 1
        self.total += seconds
        self.smallest = min(self.smallest, seconds)
        self.largest = max(self.largest, seconds)
        self._enter(math.floor(math.log2(min(max(seconds, LEAST), MOST)) * STEPS), 1)

    def add_all(self, other: Latencies) -> None:
        """Enter all that others have."""
        self.count += other.count
        self.total += other.total
        self.smallest = min(self.smallest, other.smallest)
        self.largest = max(self.largest, other.largest)
        for step, number in enumerate(other._numbers, other._first):
            if number:
                self._enter(step, number)

    def quantile(self, share: float) -> float | None:
        """Return the time, in seconds, that this share of all does not exceed, or None if there is none.

        It is off by 4.5 % at most, between a microsecond and 1024 seconds.
        """
        left = math.ceil(share * self.count)
        for step, number in enumerate(self._numbers, self._first):
            left -= number
            if left <= 0:
                return min(max(2 ** ((step + 0.5) / STEPS), self.smallest), self.largest)
        return None

    def _enter(self, step: int, number: int) -> None:
        if not self._numbers:
            self._first = step
        if step < self._first:
            self._numbers = array("Q", bytes(8 * (self._first - step))) + self._numbers
            self._first = step
        missing = step + 1 - self._first - len(self._numbers)
        if missing > 0:
            self._numbers.frombytes(bytes(8 * missing))
        self._numbers[step - self._first] += number
