"""A long run of one server among honest and mischievous clients; what is lost, doubled, held or delayed is reported.

Honest clients send numbered messages of all sizes and compare the echoes; they close and come back all the time.
Beside them others do, at random, whatever a client should not: see soak_mischief.py. Server, honest clients and
the others are a process each. The server's memory is looked at all the time. At the end, when everybody has gone, it
must be as it was: no connection, no task, no descriptor more. The exit status is 1 if a message of an honest client was
lost, doubled, changed or out of order, if one of their connections broke, or if something was left over.

    $ python benchmarks/soak.py                          # two minutes, 1200 clients
    $ python benchmarks/soak.py --seconds 14400 --honest 2000 --mischief 400
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Last, so that an installed trio_ws is measured and not the sources beside this folder.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from benchmarks.harness.machine import allow_connections, describe

HERE = Path(__file__).parent
_PATIENCE = 60.0  # seconds that the server has at the end to see that all have gone
_KEPT = 0.25  # of the memory in the first half: growth up to this is fragmentation


@dataclass(slots=True)
class Watch:
    """What was seen of the server from outside, over the time."""

    pid: int
    memory: list[int] = field(default_factory=list[int])  # KiB, once a second
    descriptors: list[int] = field(default_factory=list[int])

    def look(self) -> None:
        """Look once."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        self.memory.append(int(status.partition("VmRSS:")[2].split()[0]))
        self.descriptors.append(len(os.listdir(f"/proc/{self.pid}/fd")))


class Worker:
    """A process of the run that answers in lines of JSON."""

    def __init__(self, program: str, options: dict[str, Any]) -> None:
        command = [sys.executable, "-P", str(HERE / program), json.dumps(options)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self) -> dict[str, Any]:
        """Wait for the next line.

        Raises:
            RuntimeError: the process has ended without one.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} has ended early: status {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self) -> dict[str, Any]:
        """Have it answer."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.read()

    def end(self) -> None:
        """Have it end."""
        self.process.communicate()


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Do one run and return what it was like."""
    allow_connections()
    server = Worker("soak_server.py", {"compression": options.compression})
    workers: list[Worker] = [server]
    try:
        port = server.read()["port"]
        watch = Watch(server.process.pid)
        before = server.ask()
        watch.look()
        shared = {"port": port, "seconds": options.seconds, "seed": options.seed}
        honest = Worker("soak_honest.py", {**shared, "clients": options.honest, "rate": options.rate})
        others = Worker("soak_mischief.py", {**shared, "clients": options.mischief})
        workers += [honest, others]
        while honest.process.poll() is None or others.process.poll() is None:
            watch.look()
            time.sleep(1)
        report = {"machine": describe(), **vars(options), **honest.read(), **others.read()}
        after = _wait_until_empty(server)
        watch.look()
        return report | _server_report(watch, before, after)
    finally:
        for worker in reversed(workers):
            worker.end()


def _wait_until_empty(server: Worker) -> dict[str, Any]:
    deadline = time.monotonic() + _PATIENCE
    while (answer := server.ask())["connections"] and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


def _server_report(watch: Watch, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    half = watch.memory[: max(len(watch.memory) // 2, 1)]
    return {
        "memory_start_kib": watch.memory[0],
        "memory_half_kib": max(half),
        "memory_peak_kib": max(watch.memory),
        "memory_end_kib": watch.memory[-1],
        "descriptors_peak": max(watch.descriptors),
        "descriptors_left": watch.descriptors[-1] - watch.descriptors[0],
        "connections_left": after["connections"],
        "tasks_left": after["tasks"] - before["tasks"],
        "errors_logged": after["errors"],
    }


#: What makes a run a failure: what is said, and when.
FAULTS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "nothing was delivered": lambda report: not report["delivered"],
    "messages were lost": lambda report: report["lost"] > 0,
    "messages came twice": lambda report: report["duplicated"] > 0,
    "messages were changed": lambda report: report["changed"] > 0,
    "honest connections broke": lambda report: report["broken"] > 0,
    "connections were left over": lambda report: report["connections_left"] > 0,
    # the services of a Trio run begin with its first connection, and stay
    "tasks were left over": lambda report: report["tasks_left"] > 4,
    "descriptors were left over": lambda report: report["descriptors_left"] > 4,
    "the server logged errors": lambda report: report["errors_logged"] > 0,
    "memory grew without end": lambda report: (
        report["memory_peak_kib"] > (1 + _KEPT) * report["memory_half_kib"] + 32 * 1024
    ),
}


def judge(report: dict[str, Any]) -> list[str]:
    """Return what was wrong, in words."""
    return [words for words, is_so in FAULTS.items() if is_so(report)]


def format_report(report: dict[str, Any]) -> str:
    """Return the report for people."""
    lines = [f"{key.replace('_', ' '):24} {value}" for key, value in report.items() if key != "mischief_done"]
    lines += [f"  {kind:22} {count}" for kind, count in sorted(report["mischief_done"].items())]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120, help="how long (default: 120)")
    parser.add_argument("--honest", type=int, default=1000, help="honest clients (default: 1000)")
    parser.add_argument("--mischief", type=int, default=200, help="the others (default: 200)")
    parser.add_argument(
        "--rate", type=float, default=0.1, help="messages a second of an honest one (default: 0.1)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of all that is random")
    parser.add_argument("--compression", action="store_true", help="let the server compress")
    parser.add_argument("--json", type=Path, help="write the report to this file too")
    options = parser.parse_args(arguments)
    report = run(options)
    del report["json"]
    faults = judge(report)
    sys.stdout.write(f"{format_report(report)}\n")
    if options.json:
        options.json.write_text(json.dumps(report | {"faults": faults}, indent=2) + "\n")
    sys.stdout.write(f"{'; '.join(faults) or 'all is well'}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
