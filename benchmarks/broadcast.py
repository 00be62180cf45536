"""Measure servers that send one message to many clients: trio_ws and other libraries, side by side in one run.

One client sends a message, which the server sends to all, and the next one when all have it. In brackets stands the ratio
trio_ws / peer of deliveries per second: more is better.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Last, so that an installed trio_ws is measured and not the sources beside this folder.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from benchmarks.harness.options import Options, make_parser
from benchmarks.harness.output import Output, Table
from benchmarks.harness.program import start
from benchmarks.harness.report import Row
from benchmarks.harness.rounds import rows_of
from benchmarks.harness.servers import measure_servers
from benchmarks.harness.subjects import BROADCASTING
from benchmarks.harness.work import COST, Work

SUBJECTS = {subject.name: subject for subject in BROADCASTING}
SIZES = {64: "64 B", 4096: "4 KiB"}
CONNECTIONS = 100, 1000, 5000
WORK = {
    work.name: work
    for work in (
        *(
            Work(f"{size}-{count}", f"{count} clients, {title}", count, size, task="broadcast")
            for size, title in SIZES.items()
            for count in CONNECTIONS
        ),
        *(
            Work(
                f"stalled-{size}-{count}",
                f"{count} clients, {title}, one more reads nothing",
                count,
                size,
                task="broadcast",
                stalled=True,
            )
            for size, title in SIZES.items()
            for count in CONNECTIONS[:2]
        ),
    )
}


def run(options: Options) -> int:
    """Do what one command line asks for."""
    done = measure_servers(options, SUBJECTS, [WORK[name] for name in options.works])
    costs = [Row(work.name, work.title, COST) for work in done.works if not work.stalled]
    tables = [Table("servers that broadcast", rows_of(done.works)), Table("CPU time of a delivery", costs)]
    Output("broadcasts", options, done.subjects, done.versions, tables).write(done.results)
    return 1 if done.results.failures else 0


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and do what it says; return the exit status."""
    parser = make_parser(__doc__ or "", SUBJECTS, WORK)
    return start(lambda options, _: run(options), parser, arguments, SUBJECTS, WORK)


if __name__ == "__main__":
    sys.exit(main())
