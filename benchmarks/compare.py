"""Measure echo servers on trio_ws, on Trio's own streams and on other libraries, side by side in one run.

Each server runs alone on one processor and the load on another. Works come one after another; in each of them all
servers are measured in turn, round by round, and the medians are compared. In brackets stands the ratio trio_ws / peer:
of messages and connections per second more is better, of CPU time and KiB less.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

# Last, so that an installed trio_ws is measured and not the sources beside this folder.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import plots
from benchmarks.harness.options import Options, make_parser
from benchmarks.harness.output import Output, Table
from benchmarks.harness.program import start
from benchmarks.harness.report import Row
from benchmarks.harness.rounds import rows_of
from benchmarks.harness.servers import Run, measure_servers
from benchmarks.harness.subjects import SERVERS
from benchmarks.harness.work import COST, GROWTH, IDLE, TYPICAL, USUAL, WORK

SUBJECTS = {subject.name: subject for subject in SERVERS}


def run(options: Options, *, memory: bool) -> int:
    """Do what one command line asks for."""
    works = [WORK[name] for name in options.works if memory or WORK[name] not in IDLE]
    done = measure_servers(options, SUBJECTS, works)
    make_output(options, done).write(done.results)
    return 1 if done.results.failures else 0


def make_output(options: Options, run: Run) -> Output:
    """Return what is told of the results."""
    works, results = run.works, run.results
    titles = {subject.name: subject.title for subject in run.subjects}
    return Output(
        "servers",
        options,
        run.subjects,
        run.versions,
        [
            Table("servers", rows_of([work for work in works if work not in IDLE])),
            Table(
                "CPU time of a message",
                [Row(work.name, work.title, COST) for work in GROWTH if work in works],
                growth=True,
            ),
            Table("memory", rows_of([work for work in IDLE if work in works]), growth=True),
        ],
        {
            ("throughput", "Messages per second over the number of connections"): partial(
                plots.draw_throughput, results, GROWTH, titles
            ),
            ("latency", "Percentiles of latency"): partial(plots.draw_latencies, results, TYPICAL, titles),
            ("memory", "Memory of an idle connection"): partial(plots.draw_memory, results, USUAL, titles),
        },
    )


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and do what it says; return the exit status."""
    parser = make_parser(__doc__ or "", SUBJECTS, WORK)
    parser.add_argument("--memory", action="store_true", help="also measure the memory of idle connections")
    return start(
        lambda options, given: run(options, memory=given.memory or given.work is not None),
        parser,
        arguments,
        SUBJECTS,
        WORK,
    )


if __name__ == "__main__":
    sys.exit(main())
