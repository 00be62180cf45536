"""What a run leaves behind: the table on standard output, and Markdown, JSON and plots in a folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import machine
from .figures import Results
from .options import Options
from .report import Row, list_notes, make_table
from .subjects import PROJECT, Subject

#: Draws a plot into a file; False if there is nothing to draw.
Draw = Callable[[Path], bool]


@dataclass(slots=True)
class Table:
    """One table of a run.

    Attributes:
        corner: title of the first column.
        rows: its lines; a table without any is not shown.
        growth: whether the lines differ in one number alone, so that a last one shows by what factor they grow.
    """

    corner: str
    rows: Sequence[Row]
    growth: bool = False


@dataclass(slots=True)
class Output:
    """What is told of a run.

    Attributes:
        name: the stem of the files.
        options: what was asked for.
        subjects: what was measured.
        versions: of everything that was.
        tables: what to show of the results.
        plots: what to draw, by stem of the file and alternative text.
    """

    name: str
    options: Options
    subjects: Sequence[Subject]
    versions: Mapping[str, str]
    tables: Sequence[Table]
    plots: Mapping[tuple[str, str], Draw] = field(default_factory=dict)

    def write(self, results: Results) -> None:
        """Print the tables, and write the files that were asked for."""
        about = machine.describe()
        body = "\n\n".join(self._parts(results))
        print(body)
        document = {
            "measured": about,
            "versions": self.versions,
            "options": {"rounds": self.options.rounds, "seconds": self.options.seconds},
            **results.as_document(),
        }
        text = json.dumps(document, indent=1) + "\n"
        if self.options.json is not None:
            self.options.json.write_text(text)
        if (out := self.options.out) is not None:
            (out / f"{self.name}.json").write_text(text)
            figures = self._draw(out)
            page = [self._origin(results, about), body, *figures]
            (out / f"{self.name}.md").write_text("\n\n".join(page) + "\n")

    def _parts(self, results: Results) -> list[str]:
        columns = {subject.name: subject.title for subject in self.subjects}
        parts = [
            make_table(
                results,
                table.rows,
                columns,
                PROJECT.name,
                table.corner,
                factor=table.growth and len(table.rows) > 1,
            )
            for table in self.tables
            if table.rows
        ]
        notes = list_notes(results, columns)
        return [*parts, notes] if notes else parts

    def _origin(self, results: Results, about: Mapping[str, str]) -> str:
        metric = self.tables[0].rows[0].metric.key if self.tables[0].rows else ""
        spread = results.spread(metric)
        seconds = f"{self.options.seconds:g} s"
        count = self.options.rounds
        rounds = f"Medians of {count} rounds of {seconds} each" if count > 1 else f"One round of {seconds}"
        differed = "" if spread is None else f"; in the middle, rounds differed by {spread:.0%}"
        versions = ", ".join(f"{name} {version}" for name, version in sorted(self.versions.items()))
        where = f"{about['processor']}; {about['system']}; {about['Python']}"
        return f"Measured {about['date']} on {where}. {rounds}{differed}. Versions: {versions}."

    def _draw(self, out: Path) -> list[str]:
        figures: list[str] = []
        for (stem, text), draw in self.plots.items():
            path = out / f"{self.name}-{stem}.svg"
            try:
                drawn = draw(path)
            except ModuleNotFoundError as error:
                print(f"no plots: {error}; they need trio_ws[bench]", file=sys.stderr)
                return figures
            if drawn:
                figures.append(f"![{text}]({path.name})")
        return figures
