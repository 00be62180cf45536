"""Measure echo servers that compress (permessage-deflate): trio_ws and other libraries, side by side in one run.

Messages are of JSON, text, and those of the client are compressed too. Each server has its library's defaults. In
brackets stands the ratio trio_ws / peer: of messages per second more is better, of bytes and KiB less.
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
from benchmarks.harness.subjects import DEFLATING
from benchmarks.harness.work import QUICK_CONNECTIONS, WIRE, Work

SUBJECTS = {subject.name: subject for subject in DEFLATING}
SIZES = {400: "0.4 KiB", 4096: "4 KiB", 65536: "64 KiB"}
CONNECTIONS = 1, 100, 1000
WORK = {
    work.name: work
    for work in (
        *(
            Work(
                f"{size}-{count}",
                f"{count} {'client' if count == 1 else 'clients'}, {title}",
                count,
                size,
                deflate="takeover",
            )
            for size, title in SIZES.items()
            for count in CONNECTIONS
        ),
        *(
            Work(f"fresh-{size}", f"no takeover: 100 clients, {title}", 100, size, deflate="fresh")
            for size, title in SIZES.items()
        ),
        *(
            Work(
                f"memory-{count}",
                f"memory of each of {count} idle",
                count,
                4096,
                task="hold",
                deflate="takeover",
            )
            for count in CONNECTIONS[1:]
        ),
        *(
            Work(
                f"memory-fresh-{count}",
                f"no takeover: memory of each of {count} idle",
                count,
                4096,
                task="hold",
                deflate="fresh",
            )
            for count in CONNECTIONS[1:]
        ),
    )
}


def run(options: Options) -> int:
    """Do what one command line asks for."""
    done = measure_servers(options, SUBJECTS, [WORK[name] for name in options.works])
    echoes = [work for work in done.works if work.task == "echo"]
    tables = [
        Table("servers that compress", rows_of(echoes)),
        Table(
            "bytes of an answer",
            [Row(work.name, work.title, WIRE) for work in echoes if work.connections == QUICK_CONNECTIONS],
        ),
        Table(
            "memory after one message of 4 KiB", rows_of([work for work in done.works if work.task == "hold"])
        ),
    ]
    Output("compressed", options, done.subjects, done.versions, tables).write(done.results)
    return 1 if done.results.failures else 0


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and do what it says; return the exit status."""
    parser = make_parser(__doc__ or "", SUBJECTS, WORK)
    return start(lambda options, _: run(options), parser, arguments, SUBJECTS, WORK)


if __name__ == "__main__":
    sys.exit(main())
