"""Measuring servers: each is started, is asked for its works, and ends with the run; knows nothing of tables."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from . import install, machine
from .figures import Figures, Results
from .load import Load
from .options import Options
from .processes import Server
from .rounds import measure_in_turn
from .subjects import Subject
from .work import QUICK_CONNECTIONS, Work


@dataclass(slots=True)
class Servers:
    """The servers of one run: each is started when it is asked for the first time, and ends with the run."""

    cpu: int
    folder: Path
    certificate: Path | None
    stack: ExitStack
    running: dict[tuple[str, str, bool, bool, bool], Server] = field(default_factory=dict)

    def start(self, subject: Subject, work: Work) -> Server:
        """Start a server that nobody has used before."""
        certificate = self.certificate if work.tls else None
        return Server.start(
            subject, self.cpu, self.folder, certificate, kind=work.server, deflate=bool(work.deflate)
        )

    def get(self, subject: Subject, work: Work) -> Server:
        """Return the server of a subject."""
        # who has met a client that reads nothing may be busy with it for a time, or may have what it did not read
        key = subject.name, work.server, work.stalled, work.tls, bool(work.deflate)
        if key not in self.running:
            self.running[key] = self.start(subject, work)
            self.stack.callback(self.running[key].stop)
        return self.running[key]


@dataclass(slots=True)
class Run:
    """What came of measuring servers.

    Attributes:
        subjects: those that could be measured.
        versions: of everything that was.
        works: those that could be asked for.
        results: the measurements.
    """

    subjects: list[Subject]
    versions: dict[str, str]
    works: list[Work]
    results: Results


def measure(servers: Servers, load: Load, work: Work, subject: Subject) -> Figures:
    """Measure one server once. Memory is that of a new process: one that was busy has room left over."""
    if work.task != "hold":
        server = servers.get(subject, work)
        try:
            figures = load.measure(work, server, reads=subject.reads)
        except install.UnavailableError as error:
            if server.process.poll() is None:
                raise
            raise install.UnavailableError(f"the server ended: {server.last_words()}") from error
        server.wait_until_idle()
        return figures
    server = servers.start(subject, work)
    try:
        return load.measure(work, server, reads=subject.reads)
    finally:
        server.stop()


def choose_works(
    wanted: Sequence[Work], *, quick: bool, skipped: dict[str, str], tls: str | None
) -> list[Work]:
    """Return what is asked of the servers; why something is not goes into `skipped`."""
    limit = machine.allow_connections()
    works = [work for work in wanted if not quick or work.connections <= QUICK_CONNECTIONS]
    for work in works:
        if work.tls and tls:
            skipped[work.title] = tls
        elif work.most > limit - 100:
            skipped[work.title] = f"a process may open only {limit} files (ulimit -n)"
    return [work for work in works if work.title not in skipped]


def measure_servers(options: Options, known: Mapping[str, Subject], wanted: Sequence[Work]) -> Run:
    """Measure the servers that are asked for at the works that are wanted.

    Raises:
        UnavailableError: there is no load generator.
    """
    results = Results()
    versions, missing = install.prepare([known[name] for name in options.subjects])
    results.skipped.update({known[name].title: reason for name, reason in missing.items()})
    subjects = [known[name] for name in options.subjects if name not in missing]
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
        works = choose_works(wanted, quick=options.quick, skipped=results.skipped, tls=without_tls)
        servers = Servers(server_cpu, folder, certificate, stack)
        load = Load(program, load_cpu, options.seconds, folder)
        measure_in_turn(works, subjects, options.rounds, partial(measure, servers, load), results)
    return Run(subjects, versions, works, results)
