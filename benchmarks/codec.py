"""Measure the codecs of trio_ws and of other libraries on the same bytes, side by side in one run, without any I/O.

Decoding takes what a client sent, masked and in reads of 64 KiB, to whole messages; encoding takes binary messages to
frames. Two kinds of work grow: one message that comes byte by byte, and small messages that come in one read; if the time
for a byte or a message stays the same, they take as long as they are. All codecs are measured in turn, round by round,
and the medians are compared. In brackets stands the ratio trio_ws / peer: of messages per second more is better, of
nanoseconds less.
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
from benchmarks.harness.options import Options, make_parser
from benchmarks.harness.output import Output, Table
from benchmarks.harness.program import start
from benchmarks.harness.rounds import measure_in_turn, rows_of
from benchmarks.harness.subjects import CODECS, Subject
from benchmarks.harness.work import MESSAGES, Metric
from benchmarks.harness.workers import measure_worker


@dataclass(frozen=True, slots=True)
class Case:
    """What a codec does.

    Attributes:
        name: for the command line.
        title: for people.
        case: one of those of codec_worker.py.
        size: payload bytes of a message.
        count: messages in one pass; by default as many as make 1 MiB.
        read: bytes that a read brings.
        metric: the figure that is compared.
    """

    name: str
    title: str
    case: str
    size: int
    count: int = 0
    read: int = 65536
    metric: Metric = MESSAGES

    @property
    def arguments(self) -> list[object]:
        """What the worker is told."""
        return [self.case, self.size, self.count or max(2**20 // self.size, 1), self.read]


BYTE = Metric("byte_ns", "ns")
MESSAGE = Metric("message_ns", "ns")
PIECES = [
    Case(f"pieces-{size}", f"{size:,} pieces of 1 B: a byte", "decode", size, 1, 1, BYTE)
    for size in (100_000, 300_000, 1_000_000)
]
TOGETHER = [
    Case(f"together-{count}", f"{count:,} messages of 2 B: a message", "decode", 2, count, 2**30, MESSAGE)
    for count in (10_000, 30_000, 100_000)
]
#: Of ``--quick``: the slowest codec takes seconds for as many pieces.
QUICK_PIECES = 100_000

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
        *PIECES,
        *TOGETHER,
    )
}


def measure(cpu: int, seconds: float, case: Case, subject: Subject) -> Figures:
    """Measure one codec once."""
    return measure_worker("codec_worker.py", subject, [*case.arguments, seconds], cpu=cpu)


def run(options: Options) -> int:
    """Do what one command line asks for."""
    results = Results()
    versions, missing = install.prepare(SUBJECTS[name] for name in options.subjects)
    results.skipped.update({SUBJECTS[name].title: reason for name, reason in missing.items()})
    subjects = [SUBJECTS[name] for name in options.subjects if name not in missing]
    works = [WORK[name] for name in options.works]
    if options.quick:
        works = [work for work in works if work.size // work.read <= QUICK_PIECES]
    cpu, _ = machine.find_cpus()
    measure_in_turn(works, subjects, options.rounds, partial(measure, cpu, options.seconds), results)
    tables = [
        Table("codecs", rows_of([work for work in works if work.metric is MESSAGES])),
        Table("one message, byte by byte", rows_of([work for work in PIECES if work in works]), growth=True),
        Table("messages in one read", rows_of([work for work in TOGETHER if work in works]), growth=True),
    ]
    Output("codecs", options, subjects, versions, tables).write(results)
    return 1 if results.failures else 0


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and do what it says; return the exit status."""
    parser = make_parser(__doc__ or "", SUBJECTS, WORK)
    return start(lambda options, _: run(options), parser, arguments, SUBJECTS, WORK)


if __name__ == "__main__":
    sys.exit(main())
