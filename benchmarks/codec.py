"""Measure the codecs of trio_ws and of other libraries on the same bytes, side by side in one run, without any I/O.

Decoding takes what a client sent, masked and in reads of 64 KiB, to whole messages; encoding takes binary messages to
frames. All codecs are measured in turn, round by round, and the medians are compared. In brackets stands the ratio
trio_ws / peer; more is better.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# Last, so that an installed trio_ws is measured and not the sources beside this folder.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import install, machine
from benchmarks.harness.figures import Figures, Results
from benchmarks.harness.options import Options, make_parser, parse_options
from benchmarks.harness.output import Output, Table
from benchmarks.harness.rounds import measure_in_turn, rows_of
from benchmarks.harness.subjects import CODECS, Subject
from benchmarks.harness.work import MESSAGES, Metric
from benchmarks.harness.workers import measure_worker


@dataclass(frozen=True, slots=True)
class Case:
    """What a codec does: one of the cases of codec_worker.py, with messages of one size."""

    name: str
    title: str
    case: str
    size: int
    metric: Metric = MESSAGES


SUBJECTS = {subject.name: subject for subject in CODECS}
WORK = {
    case.name: case
    for case in (
        Case("decode-64", "decode 64 B", "decode", 64),
        Case("decode-text-64", "decode text, 64 B", "decode-text", 64),
        Case("decode-16-kib", "decode 16 KiB", "decode", 16384),
        Case("decode-1-mib", "decode 1 MiB", "decode", 2**20),
        Case("encode-64", "encode 64 B", "encode", 64),
        Case("encode-masked-64", "encode 64 B, masked", "encode-masked", 64),
        Case("encode-masked-16-kib", "encode 16 KiB, masked", "encode-masked", 16384),
        Case("encode-masked-1-mib", "encode 1 MiB, masked", "encode-masked", 2**20),
    )
}


def measure(cpu: int, seconds: float, case: Case, subject: Subject) -> Figures:
    """Measure one codec once."""
    return measure_worker("codec_worker.py", subject, [case.case, case.size], cpu=cpu, seconds=seconds)


def run(options: Options) -> int:
    """Do what one command line asks for."""
    results = Results()
    versions, missing = install.prepare(SUBJECTS[name] for name in options.subjects)
    results.skipped.update({SUBJECTS[name].title: reason for name, reason in missing.items()})
    subjects = [SUBJECTS[name] for name in options.subjects if name not in missing]
    works = [WORK[name] for name in options.works]
    cpu, _ = machine.find_cpus()
    measure_in_turn(works, subjects, options.rounds, partial(measure, cpu, options.seconds), results)
    Output("codecs", options, subjects, versions, [Table("codecs", rows_of(works))]).write(results)
    return 1 if results.failures else 0


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and do what it says; return the exit status."""
    options, _ = parse_options(make_parser(__doc__ or "", SUBJECTS, WORK), arguments, SUBJECTS, WORK)
    try:
        return run(options)
    except install.UnavailableError as error:
        print(f"cannot measure: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
