"""Results as Markdown; knows nothing of how they were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .figures import Results
from .work import Metric


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: a work, by the name that results know, and the figure to show of it."""

    work: str
    title: str
    metric: Metric


def format_cell(results: Results, row: Row, subject: str, project: str) -> str:
    """Return a median, and in brackets the ratio project / subject."""
    if subject in results.failures.get(row.work, {}):
        return "failed"
    value = results.median(row.work, subject, row.metric.key)
    if value is None:
        return "-"
    cell = f"{value:,.{row.metric.decimals}f}"
    ratio = results.ratio(row.work, subject, row.metric.key, project)
    return cell if ratio is None or subject == project else f"{cell} ({ratio:.2f}x)"


def format_factor(results: Results, rows: Sequence[Row], subject: str) -> str:
    """Return the largest of the medians in several rows divided by the smallest."""
    medians = [results.median(row.work, subject, row.metric.key) for row in rows]
    known = [value for value in medians if value is not None]
    return f"{max(known) / min(known):.2f}" if len(known) == len(rows) else "-"


def make_table(
    results: Results,
    rows: Sequence[Row],
    columns: Mapping[str, str],
    project: str,
    corner: str,
    *,
    factor: bool = False,
) -> str:
    """Return a Markdown table whose columns are as wide as their cells.

    Args:
        results: the medians to show.
        rows: one for each line.
        columns: titles by the names of the subjects.
        project: the subject that the others are compared with.
        corner: title of the first column.
        factor: whether a last line shows by what factor the rows of each column differ.
    """
    lines = [[corner, *columns.values()]]
    for row in rows:
        cells = [format_cell(results, row, subject, project) for subject in columns]
        lines.append([f"{row.title} [{row.metric.unit}]", *cells])
    if factor:
        lines.append(["largest / smallest", *(format_factor(results, rows, subject) for subject in columns)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_join(line, widths) for line in [lines[0], rule, *lines[1:]])


def _join(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]) + " |"


def list_notes(results: Results, titles: Mapping[str, str]) -> str:
    """Return a Markdown list of what is missing from the results and why; nothing if nothing is."""
    notes = [f"- Not measured: {what}: {reason}" for what, reason in results.skipped.items()]
    for work, failures in results.failures.items():
        notes += [
            f"- Failed: {titles.get(subject, subject)}, {work}: {reason}"
            for subject, reason in failures.items()
        ]
    return "\n".join(notes)
