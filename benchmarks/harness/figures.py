"""Measurements and what follows from them: medians, ratios, spread; knows nothing of how they were made or are shown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

#: What one measurement found, by the keys of its metrics.
Figures: TypeAlias = Mapping[str, float]


def read_figures(document: Mapping[str, Any]) -> dict[str, float]:
    """Check that a measurement says nothing but positive numbers.

    Raises:
        ValueError: it does.
    """
    figures = {key: float(value) for key, value in document.items()}
    if wrong := [key for key, value in figures.items() if not value > 0]:
        raise ValueError(f"a measurement without a figure for {', '.join(wrong)}: {document}")
    return figures


@dataclass(slots=True)
class Results:
    """All measurements of one run.

    Attributes:
        rounds: for each work, for each subject, what was measured in each round.
        failures: for each work, for each subject, why there is nothing.
        skipped: what was not measured, and why.
    """

    rounds: dict[str, dict[str, list[Figures]]] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, work: str, subject: str, figures: Figures) -> None:
        """Keep what one round measured."""
        self.rounds.setdefault(work, {}).setdefault(subject, []).append(figures)

    def fail(self, work: str, subject: str, reason: str) -> None:
        """Keep why a round measured nothing. A subject that failed once has no figure for that work."""
        self.failures.setdefault(work, {})[subject] = reason

    def median(self, work: str, subject: str, key: str) -> float | None:
        """Return the median of the rounds; None if there is none."""
        rounds = self.rounds.get(work, {}).get(subject, [])
        if not rounds or subject in self.failures.get(work, {}):
            return None
        return statistics.median(figures[key] for figures in rounds)

    def ratio(self, work: str, subject: str, key: str, project: str) -> float | None:
        """Return the project's median divided by the subject's; None if one of them has none."""
        mine, other = self.median(work, project, key), self.median(work, subject, key)
        return None if mine is None or other is None else mine / other

    def spread(self, key: str) -> float | None:
        """Return by how much rounds differed: (largest - smallest) / median, in the middle of all cells."""
        spreads = [
            _spread([figures[key] for figures in rounds])
            for row in self.rounds.values()
            for rounds in row.values()
            if len(rounds) > 1 and key in rounds[0]
        ]
        return statistics.median(spreads) if spreads else None

    def as_document(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return {"rounds": self.rounds, "failures": self.failures, "skipped": self.skipped}


def _spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values)
