"""Processes that are measured: starting them on their processor, their memory, and their end; knows nothing of figures."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from . import install
from .machine import pinned
from .subjects import Subject

HERE = Path(__file__).parent.parent
_START_TIMEOUT = 30  # seconds; a Python that imports aiohttp takes one, on a machine that is busy a few
_END_TIMEOUT = 5
_IDLE_TIMEOUT = 20
_IDLE = 0.05  # seconds without work after which a process counts as idle: some ticks
_TAIL = 400


def python_of(subject: Subject) -> str:
    """Return the Python that runs a subject."""
    return sys.executable if subject.home == "project" else str(install.peers_python())


def environment_of(subject: Subject) -> dict[str, str]:
    """Return the environment that a subject runs in."""
    return {**os.environ, "NODE_PATH": str(install.node_modules()), **dict(subject.environment)}


def _server_command(subject: Subject, kind: str, arguments: list[str]) -> list[str]:
    if subject.home == "node":
        return [shutil.which("node") or "node", str(HERE / f"{kind}.js"), *arguments]
    # -P: the programs of this folder have names of their own and are not to be imported as somebody else's.
    program = [python_of(subject), "-P", str(HERE / f"{kind}_servers.py")]
    return [*program, subject.program or subject.name, *arguments]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass(slots=True)
class Server:
    """A server in a process of its own."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @classmethod
    def start(
        cls,
        subject: Subject,
        cpu: int,
        folder: Path,
        certificate: Path | None = None,
        *,
        kind: str = "echo",
        deflate: bool = False,
    ) -> Server:
        """Start a server and wait until it listens.

        Args:
            subject: which.
            cpu: the processor that it runs on.
            folder: where its log goes.
            certificate: for TLS; None is for none.
            kind: what it does with a message: "echo", or "broadcast".
            deflate: whether it compresses what it sends to whoever asks for it.

        Raises:
            UnavailableError: it did not start.
        """
        port = _free_port()
        command = _server_command(
            subject, kind, [str(port), str(certificate or ""), *(["deflate"] if deflate else [])]
        )
        log = folder / f"{subject.name}-{port}.log"
        with log.open("wb") as output, pinned(cpu):
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env=environment_of(subject),
            )
        server = cls(process, port, log)
        try:
            server.wait_until_it_listens()
        except BaseException:
            server.stop()
            raise
        return server

    def wait_until_it_listens(self) -> None:
        """Return once connections are accepted.

        Raises:
            UnavailableError: the process ended, or it takes too long.
        """
        deadline = time.monotonic() + _START_TIMEOUT
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), _START_TIMEOUT).close()
            except ConnectionRefusedError:
                time.sleep(0.05)
            else:
                return
        raise install.UnavailableError(f"it did not start: {self.last_words() or 'no reason given'}")

    def last_words(self) -> str:
        """Return the end of the log."""
        return self.log.read_text(errors="replace").strip()[-_TAIL:]

    def memory(self) -> float:
        """Return the resident memory in KiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return float(status.partition("VmRSS:")[2].split()[0])

    def processor_time(self) -> int:
        """Return the time that the process has worked, in ticks of the kernel's clock."""
        numbers = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(numbers[11]) + int(numbers[12])

    def wait_until_idle(self) -> None:
        """Return once the process does nothing.

        A server that has lost a thousand clients is busy with that for a time, at the cost of whoever is next.

        Raises:
            UnavailableError: it never comes to rest.
        """
        deadline = time.monotonic() + _IDLE_TIMEOUT
        before = -1
        while (now := self.processor_time()) != before:
            if time.monotonic() > deadline:
                raise install.UnavailableError("it stays busy when its clients have gone")
            before = now
            time.sleep(_IDLE)

    def stop(self) -> None:
        """End the process, by force if it takes long."""
        self.process.terminate()
        try:
            self.process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
