"""Measure echo servers on trio_ws, on Trio's own streams and on other libraries, side by side in one run.

Each server runs alone on one processor and the load on another. Works come one after another; in each of them all
servers are measured in turn, round by round, and the medians are compared. In brackets stands the ratio trio_ws / peer:
of messages and connections per second more is better, of CPU time and KiB less.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

# Last, so that an installed trio_ws is measured and not the sources beside this folder.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import install, machine, plots
from benchmarks.harness.figures import Figures, Results
from benchmarks.harness.load import Load
from benchmarks.harness.options import Options, make_parser
from benchmarks.harness.output import Output, Table
from benchmarks.harness.processes import Server
from benchmarks.harness.program import start
from benchmarks.harness.report import Row
from benchmarks.harness.rounds import measure_in_turn, rows_of
from benchmarks.harness.subjects import SERVERS, Subject
from benchmarks.harness.work import COST, GROWTH, IDLE, QUICK_CONNECTIONS, TYPICAL, USUAL, WORK, Work

SUBJECTS = {subject.name: subject for subject in SERVERS}


@dataclass(slots=True)
class Servers:
    """The servers of one run: each is started when it is asked for the first time, and ends with the run."""

    cpu: int
    folder: Path
    certificate: Path | None
    stack: ExitStack
    running: dict[tuple[str, bool], Server] = field(default_factory=dict)

    def start(self, subject: Subject, *, tls: bool) -> Server:
        """Start a server that nobody has used before."""
        return Server.start(subject, self.cpu, self.folder, self.certificate if tls else None)

    def get(self, subject: Subject, *, tls: bool) -> Server:
        """Return the server of a subject."""
        key = subject.name, tls
        if key not in self.running:
            self.running[key] = self.start(subject, tls=tls)
            self.stack.callback(self.running[key].stop)
        return self.running[key]


def measure(servers: Servers, load: Load, work: Work, subject: Subject) -> Figures:
    """Measure one server once. Memory is that of a new process: one that was busy has room left over."""
    if work.task != "hold":
        server = servers.get(subject, tls=work.tls)
        try:
            figures = load.measure(work, server, reads=subject.reads)
        except install.UnavailableError as error:
            if server.process.poll() is None:
                raise
            raise install.UnavailableError(f"the server ended: {server.last_words()}") from error
        server.wait_until_idle()
        return figures
    server = servers.start(subject, tls=work.tls)
    try:
        return load.measure(work, server, reads=subject.reads)
    finally:
        server.stop()


def choose_works(options: Options, *, memory: bool, skipped: dict[str, str], tls: str | None) -> list[Work]:
    """Return what is asked of the servers; why something is not goes into `skipped`."""
    limit = machine.allow_connections()
    works = [WORK[name] for name in options.works if memory or WORK[name] not in IDLE]
    if options.quick:
        works = [work for work in works if work.connections <= QUICK_CONNECTIONS]
    for work in works:
        if work.tls and tls:
            skipped[work.title] = tls
        elif work.most > limit - 100:
            skipped[work.title] = f"a process may open only {limit} files (ulimit -n)"
    return [work for work in works if work.title not in skipped]


def run(options: Options, *, memory: bool) -> int:
    """Do what one command line asks for."""
    results = Results()
    versions, missing = install.prepare([SUBJECTS[name] for name in options.subjects])
    results.skipped.update({SUBJECTS[name].title: reason for name, reason in missing.items()})
    subjects = [SUBJECTS[name] for name in options.subjects if name not in missing]
    server_cpu, load_cpu = machine.find_cpus()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trio_ws-benchmarks-")))
        program, without_tls = install.build_load()
        certificate = None
        if without_tls is None:
            try:
                certificate = install.make_certificate(folder)
            except install.UnavailableError as error:
                without_tls = str(error)
        works = choose_works(options, memory=memory, skipped=results.skipped, tls=without_tls)
        servers = Servers(server_cpu, folder, certificate, stack)
        load = Load(program, load_cpu, options.seconds)
        measure_in_turn(works, subjects, options.rounds, partial(measure, servers, load), results)
    make_output(options, subjects, versions, works, results).write(results)
    return 1 if results.failures else 0


def make_output(
    options: Options, subjects: list[Subject], versions: dict[str, str], works: list[Work], results: Results
) -> Output:
    """Return what is told of the results."""
    titles = {subject.name: subject.title for subject in subjects}
    return Output(
        "servers",
        options,
        subjects,
        versions,
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
