"""The order of measuring: works one after another, and in each of them all subjects in turn, round by round.

So a machine that is slower for a while is so for everybody. Knows nothing of how one measurement is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from .figures import Figures, Results
from .install import UnavailableError
from .progress import Progress
from .report import Row
from .subjects import Subject
from .work import Metric


class Task(Protocol):
    """What every kind of work has."""

    @property
    def name(self) -> str:
        """For the command line."""

    @property
    def title(self) -> str:
        """For people."""

    @property
    def metric(self) -> Metric:
        """The figure that is compared."""


T = TypeVar("T", bound=Task)


def measure_in_turn(
    works: Sequence[T],
    subjects: Sequence[Subject],
    rounds: int,
    measure: Callable[[T, Subject], Figures],
    results: Results,
) -> None:
    """Measure everything and put it into `results`. Whoever fails at a work is not asked for it again."""
    progress = Progress(len(works) * len(subjects) * rounds)
    for work in works:
        for _ in range(rounds):
            for subject in subjects:
                if subject.name in results.failures.get(work.name, {}):
                    outcome = "failed before"
                else:
                    outcome = _measure_once(work, subject, measure, results)
                progress.tell(work.title, subject.title, outcome)


def _measure_once(
    work: T, subject: Subject, measure: Callable[[T, Subject], Figures], results: Results
) -> str:
    try:
        figures = measure(work, subject)
    except UnavailableError as error:
        reason = str(error).splitlines()[-1]
        results.fail(work.name, subject.name, reason)
        return f"failed: {reason}"
    results.add(work.name, subject.name, figures)
    metric = work.metric
    return f"{figures[metric.key]:,.{metric.decimals}f} {metric.unit}"


def rows_of(works: Sequence[Task]) -> list[Row]:
    """Return a line of a table for each work."""
    return [Row(work.name, work.title, work.metric) for work in works]
