"""What runs the examples as their users do, each as a process, and npm's `ws` opposite to them; what they say to each other
is not known here.

A Node process takes commands as lines of JSON and tells what happens in others (readme_peer.js). One is started for each
test that wants one, and ends with its standard input.
"""

import itertools
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from tests.interop.interop_kit import LOG_TAIL, PATIENCE, Certificates
from tests.interop.test_proxies import free_port

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "examples"
#: The port that is written in the examples.
PORT = "8765"
#: Without it, what an example prints is kept back until there is more, as there is no terminal.
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}

Event = dict[str, Any]


# --- Processes ------------------------------------------------------------------------------------------------------


@dataclass
class Program:
    """A process, and what it prints."""

    process: trio.Process
    log: Path  # what it writes to its standard error
    _buffer: bytearray = field(default_factory=bytearray)

    async def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(data)

    async def end_input(self) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.aclose()

    async def line(self) -> str:
        """Wait for the next line that it prints."""
        assert self.process.stdout is not None
        while b"\n" not in self._buffer:
            data = await self.process.stdout.receive_some()
            assert data, f"it has ended:\n{self.errors()}"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def errors(self) -> str:
        """Return what it has written to its standard error."""
        return self.log.read_text(errors="replace")[-LOG_TAIL:]


@asynccontextmanager
async def running(
    command: Sequence[str | Path], environment: Mapping[str, str], log: Path
) -> AsyncGenerator[Program]:
    """Run a process as long as the block, unless it ends by itself."""
    with log.open("wb") as errors:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **environment},
        )
    assert process.stdin is not None
    assert process.stdout is not None
    program = Program(process, log)
    try:
        with trio.fail_after(PATIENCE):
            yield program
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdin.aclose()
            await process.stdout.aclose()


def script(name: str, port: int, folder: Path) -> Path:
    """Return an example's file, in which `port` stands for the one that it has."""
    path = folder / f"{name}.py"
    path.write_text((EXAMPLES / path.name).read_text("utf-8").replace(PORT, str(port)), "utf-8")
    return path


@asynccontextmanager
async def server(name: str, folder: Path, *arguments: str | Path) -> AsyncGenerator[tuple[int, Program]]:
    """Run an example that listens, and yield its port; it has nothing to complain about."""
    port = free_port()
    command = [sys.executable, script(name, port, folder), *arguments]
    async with running(command, UNBUFFERED, folder / f"{name}.log") as program:
        while True:  # the examples do not tell when they listen, as their users can see it themselves
            try:
                await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
                break
            except OSError:
                assert program.process.poll() is None, program.errors()
                await trio.sleep(0.01)
        yield port, program
        assert (program.process.poll(), program.errors()) == (None, "")


@asynccontextmanager
async def client(name: str, folder: Path, *arguments: str | Path, port: int = 0) -> AsyncGenerator[Program]:
    """Run an example for as long as the block, unless it ends by itself."""
    command = [sys.executable, script(name, port, folder), *arguments]
    async with running(command, UNBUFFERED, folder / f"{name}.log") as program:
        yield program


async def output(
    name: str,
    folder: Path,
    *arguments: str | Path,
    port: int = 0,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> bytes:
    """Run an example that comes to an end, and return what it prints."""
    with trio.fail_after(PATIENCE):
        done = await trio.run_process(
            [sys.executable, script(name, port, folder), *arguments],
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**os.environ, **(environment or {})},
        )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    return done.stdout


# --- npm's ws -------------------------------------------------------------------------------------------------------


@dataclass
class Node:
    """A process of Node.js."""

    program: Program
    _ids: Iterator[int] = field(default_factory=itertools.count)
    _events: dict[int, list[Event]] = field(default_factory=lambda: defaultdict(list))

    async def tell(self, command: dict[str, Any]) -> None:
        await self.program.write(json.dumps(command).encode() + b"\n")

    async def event(self, number: int) -> Event:
        """Wait for the next event of one client or server. One task at a time."""
        while not self._events[number]:
            event = json.loads(await self.program.line())
            self._events[event.pop("id")].append(event)
        return self._events[number].pop(0)

    async def dial(self, url: str, **options: object) -> "NodeEnd":
        """Open a client, with the options of `ws`."""
        end = NodeEnd(self, next(self._ids))
        await end.tell("connect", url=url, options=options)
        return end

    async def connect(self, url: str, **options: object) -> "NodeEnd":
        """Open a client, and wait until it is connected."""
        end = await self.dial(url, **options)
        end.extensions = (await end.event("open"))["extensions"]
        return end

    async def refusal(self, url: str, **options: object) -> tuple[int, str]:
        """Open a client, and return the status and the body with which it is refused."""
        event = await (await self.dial(url, **options)).event("refused")
        return event["status"], event["body"]

    async def serve(self, kind: str, *, tls: bool = False, **options: object) -> tuple["NodeEnd", int]:
        """Start a server of one of the kinds in readme_peer.js; return it and its port."""
        end = NodeEnd(self, next(self._ids))
        await end.tell("serve", kind=kind, tls=tls, options=options)
        return end, (await end.event("listening"))["port"]


@dataclass
class NodeEnd:
    """A client or a server in a process of Node.js."""

    node: Node
    number: int
    extensions: str = ""

    async def tell(self, command: str, **arguments: object) -> None:
        await self.node.tell({"id": self.number, "do": command, **arguments})

    async def event(self, kind: str) -> Event:
        """Wait for the next event, which is of this kind."""
        event = await self.node.event(self.number)
        assert event.pop("event") == kind, event
        return event

    async def send(self, message: str | bytes) -> None:
        await self.tell("send", **({"text": message} if isinstance(message, str) else {"hex": message.hex()}))

    async def receive(self) -> str | bytes:
        event = await self.event("message")
        return event["text"] if "text" in event else bytes.fromhex(event["hex"])

    async def close(self) -> tuple[int, str]:
        """Close a client; return code and reason."""
        await self.tell("close")
        return await self.closed()

    async def closed(self) -> tuple[int, str]:
        """Wait for the end of a connection; return code and reason."""
        event = await self.event("close")
        return event["code"], event["reason"]


@asynccontextmanager
async def running_node(
    found: tuple[Sequence[str], Mapping[str, str]], certificates: Certificates, folder: Path
) -> AsyncGenerator[Node]:
    """Run Node.js, where `ws` has been found."""
    (program, *_), environment = found
    config = {"authority": str(certificates.authority), "certificate": str(certificates.certificate)}
    command = [program, str(HERE / "readme_peer.js"), json.dumps(config)]
    async with running(command, environment, folder / "node.log") as process:
        yield Node(process)
