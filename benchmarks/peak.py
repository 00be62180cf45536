"""Measure the memory that one large message takes at its peak, in the process that sends it or receives it.

Each figure comes from a process of its own, whose peer is another one that never holds more than 64 KiB. It is by how
much the resident memory grew at most, as a multiple of the message's size, with all that the application holds: the
message itself, which it has made before it sends it, and which it is given when it has received it, so that less than 1
is not possible. In brackets stands the ratio trio_ws / peer; less is better.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

# Last, so that an installed trio_ws is measured and not the sources beside this folder.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import install, machine
from benchmarks.harness.figures import Figures, Results
from benchmarks.harness.options import Options, make_parser
from benchmarks.harness.output import Output, Table
from benchmarks.harness.program import start
from benchmarks.harness.rounds import measure_in_turn, rows_of
from benchmarks.harness.subjects import PROJECT, PURE, Subject
from benchmarks.harness.work import Metric
from benchmarks.harness.workers import measure_worker

SIZE = 2**26
MULTIPLE = Metric("multiple", "x its size", 2)


@dataclass(frozen=True, slots=True)
class Case:
    """Which side does what with a message of 64 MiB."""

    role: Literal["server", "client"]
    action: Literal["receive", "send"]
    kind: Literal["binary", "text"]
    metric: Metric = MULTIPLE

    @property
    def name(self) -> str:
        """For the command line."""
        return f"{self.role}-{self.action}-{self.kind}"

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.role} {self.action}s {SIZE >> 20} MiB, {self.kind}"


SUBJECTS = {subject.name: subject for subject in (PROJECT, PURE)}
WORK = {
    case.name: case
    for case in (
        Case("server", "receive", "binary"),
        Case("server", "receive", "text"),
        Case("client", "receive", "binary"),
        Case("client", "receive", "text"),
        Case("server", "send", "binary"),
        Case("server", "send", "text"),
        Case("client", "send", "binary"),
        Case("client", "send", "text"),
    )
}


def measure(cpu: int, case: Case, subject: Subject) -> Figures:
    """Measure one peak."""
    return measure_worker("peak_worker.py", subject, [case.role, case.action, case.kind, SIZE], cpu=cpu)


def run(options: Options) -> int:
    """Do what one command line asks for."""
    results = Results()
    subjects = [SUBJECTS[name] for name in options.subjects]
    versions, _ = install.prepare(subjects)
    works = [WORK[name] for name in options.works]
    cpu, _ = machine.find_cpus()
    measure_in_turn(works, subjects, options.rounds, partial(measure, cpu), results)
    Output("peaks", options, subjects, versions, [Table("peak of memory", rows_of(works))]).write(results)
    return 1 if results.failures else 0


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and do what it says; return the exit status."""
    parser = make_parser(__doc__ or "", SUBJECTS, WORK)
    return start(lambda options, _: run(options), parser, arguments, SUBJECTS, WORK)


if __name__ == "__main__":
    sys.exit(main())
