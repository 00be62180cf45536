"""Running the load generator against a server; knows nothing of whose server it is."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .figures import Figures, read_figures
from .frames import make_compressed_frames, make_cycle
from .install import UnavailableError
from .machine import pinned
from .processes import Server
from .work import Work

_PATIENCE = 60  # seconds, besides those of the measurement: 5000 handshakes take a slow server ten
_TOO_SLOW = "the server was too slow to be measured"


@dataclass(frozen=True, slots=True)
class Load:
    """The load generator.

    Attributes:
        program: the compiled program.
        cpu: the processor that it runs on.
        seconds: how long each measurement takes.
        folder: where it finds compressed messages.
    """

    program: Path
    cpu: int
    seconds: float
    folder: Path

    def measure(self, work: Work, server: Server, *, reads: bool) -> Figures:
        """Measure a server once.

        Args:
            work: what to ask of it.
            server: it listens.
            reads: whether it reads what it receives, so that its echoes can be compared with what was sent.

        Raises:
            UnavailableError: something went wrong; the message says what.
        """
        flags = self._flags(work, reads=reads)
        if work.task == "hold":
            return {"kib": self._weigh(work.connections, server, flags)}
        shape = {"echo": [work.size, work.depth], "broadcast": [work.size]}.get(work.task, [])
        arguments = [work.task, server.port, work.connections, *shape, self.seconds]
        command = [str(self.program), *map(str, arguments), *flags, f"pid={server.process.pid}"]
        try:
            with pinned(self.cpu):
                done = subprocess.run(
                    command, check=False, capture_output=True, text=True, timeout=self.seconds + _PATIENCE
                )
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(_TOO_SLOW) from error
        if done.returncode:
            raise UnavailableError(done.stderr.strip())
        return read_figures(json.loads(done.stdout))

    def _weigh(self, count: int, server: Server, flags: Sequence[str]) -> float:
        """Return the KiB that a connection takes; the first tenth comes before, for what a server allocates once."""
        with self._held(count // 10, server, flags):
            before = server.memory()
            with self._held(count, server, flags):
                return (server.memory() - before) / count

    @contextmanager
    def _held(self, count: int, server: Server, flags: Sequence[str]) -> Iterator[None]:
        command = [str(self.program), "hold", str(server.port), str(count), *flags]
        with (
            pinned(self.cpu),
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as process,
        ):
            assert process.stdout is not None
            assert process.stderr is not None
            if not process.stdout.readline():
                raise UnavailableError(process.stderr.read().strip() or _TOO_SLOW)
            yield
            # Leaving the block ends its standard input, and so the process.

    def _flags(self, work: Work, *, reads: bool) -> list[str]:
        flags = [*(["tls"] if work.tls else []), *([] if reads else ["lengths"])]
        if work.stalled:
            flags.append("stalled")
        if work.deflate:
            flags += [f"deflate={self._frames(work.size)}", *(["fresh"] if work.deflate == "fresh" else [])]
        return flags

    def _frames(self, size: int) -> Path:
        """Return the file of compressed messages of one size."""
        path = self.folder / f"{size}.frames"
        if not path.exists():
            path.write_bytes(make_compressed_frames(make_cycle(size)))
        return path
