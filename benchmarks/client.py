"""Measure clients on trio_ws and on other libraries, side by side in one run, against the same fast server.

The server is picows on uvloop, in a process and on a processor of its own. All clients are measured in turn, round by
round, and the medians are compared. In brackets stands the ratio trio_ws / peer; more is better.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

# Last, so that an installed trio_ws is measured and not the sources beside this folder.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import install, machine
from benchmarks.harness.figures import Figures, Results
from benchmarks.harness.options import Options, make_parser
from benchmarks.harness.output import Output, Table
from benchmarks.harness.processes import Server
from benchmarks.harness.program import start
from benchmarks.harness.rounds import measure_in_turn, rows_of
from benchmarks.harness.subjects import CLIENTS, SERVERS, Subject
from benchmarks.harness.work import Work
from benchmarks.harness.workers import measure_worker

SUBJECTS = {subject.name: subject for subject in CLIENTS}
SERVER = next(subject for subject in SERVERS if subject.name == "picows")
WORK = {
    work.name: work
    for work in (
        Work("round-trips", "64 B, one after another", 1),
        Work("pipelined", "64 B, 64 in flight", 1, depth=64),
        Work("1-mib", "1 MiB, one after another", 1, 2**20),
    )
}


def measure(server: Server, cpu: int, seconds: float, work: Work, subject: Subject) -> Figures:
    """Measure one client once."""
    arguments: list[object] = [server.port, work.size, work.depth, seconds]
    return measure_worker("client_worker.py", subject, arguments, cpu=cpu)


def run(options: Options) -> int:
    """Do what one command line asks for."""
    results = Results()
    versions, missing = install.prepare([SERVER, *(SUBJECTS[name] for name in options.subjects)])
    if SERVER.name in missing:
        raise install.UnavailableError(f"the server: {missing[SERVER.name]}")
    results.skipped.update({SUBJECTS[name].title: reason for name, reason in missing.items()})
    subjects = [SUBJECTS[name] for name in options.subjects if name not in missing]
    works = [WORK[name] for name in options.works]
    cpu, server_cpu = machine.find_cpus()
    with tempfile.TemporaryDirectory(prefix="trio_ws-benchmarks-") as folder:
        server = Server.start(SERVER, server_cpu, Path(folder))
        try:
            once = partial(measure, server, cpu, options.seconds)
            measure_in_turn(works, subjects, options.rounds, once, results)
        finally:
            server.stop()
    Output("clients", options, subjects, versions, [Table("clients", rows_of(works))]).write(results)
    return 1 if results.failures else 0


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and do what it says; return the exit status."""
    parser = make_parser(__doc__ or "", SUBJECTS, WORK)
    return start(lambda options, _: run(options), parser, arguments, SUBJECTS, WORK)


if __name__ == "__main__":
    sys.exit(main())
