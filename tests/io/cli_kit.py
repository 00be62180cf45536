"""What the tests of the command line share: it as a process, to its end, or while it runs."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from tests.io.transport_kit import PATIENCE

COMMAND = [sys.executable, "-m", "trio_ws"]


@dataclass(frozen=True)
class Outcome:
    """What became of a process."""

    status: int
    out: str
    err: str


async def run_cli(
    *arguments: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> Outcome:
    """Run the command line to its end, with changes to its environment."""
    with trio.fail_after(PATIENCE):
        done = await trio.run_process(
            [*COMMAND, *arguments],
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**os.environ, **(env or {})},
        )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


class Running:
    """A process whose output is read while it runs."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.out = b""
        self.err = b""

    async def read_line(self) -> str:
        """Return what it has written to standard output, once that is a whole line."""
        assert self.process.stdout is not None
        while not self.out.endswith(b"\n"):
            data = await self.process.stdout.receive_some()
            assert data, f"the process ended: {self.err.decode()}"
            self.out += data
        return self.out.decode()

    async def collect_errors(self) -> None:
        """Collect what it writes to standard error."""
        assert self.process.stderr is not None
        async for data in self.process.stderr:
            self.err += data

    async def end(self, signal_number: int) -> int:
        """Send a signal, wait for the end and return the status."""
        self.process.send_signal(signal_number)
        return await self.process.wait()


@asynccontextmanager
async def running(*arguments: str | Path) -> AsyncGenerator[Running]:
    """Run the command line while the block runs; it must have ended then, or is killed."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            start = partial(
                trio.run_process,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                check=False,
            )
            process: trio.Process = await nursery.start(start, [*COMMAND, *arguments])
            runner = Running(process)
            nursery.start_soon(runner.collect_errors)
            yield runner
            if process.returncode is None:
                process.kill()
                raise AssertionError("the process is still running")


@asynccontextmanager
async def server(*arguments: str | Path) -> AsyncGenerator[tuple[Running, str]]:
    """Run `serve`, and yield it and the URL that it prints; ended by SIGTERM if the block has not ended it."""
    async with running("serve", *arguments) as process:
        line = await process.read_line()
        assert line.startswith("listening on ")
        yield process, line.removeprefix("listening on ").rstrip("\n")
        if process.process.returncode is None:
            assert await process.end(signal.SIGTERM) == 0
