"""What attacks need: a victim in a process of its own, ways to it, and a look at what it holds; knows no attack itself."""

import json
import os
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import trio
import trustme

from trio_ws import open_websocket
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer

KIBI = 2**10
MEBI = 2**20

#: What may come on top of what a limit says: pages that the allocator keeps, and the interpreter's own moods.
SLACK = 24 * MEBI

#: What an offer of compression looks like that takes everything.
DEFLATE = "permessage-deflate; client_max_window_bits"

_VICTIM = Path(__file__).with_name("victim.py")


class Victim:
    """A server in a process of its own, with the options of `victim.py`."""

    def __init__(self, **options: Any) -> None:
        # a pipe that nobody reads would make the victim wait; a file that is not appended to has one place for both
        self._log = tempfile.TemporaryFile("a+")  # noqa: SIM115 - closed in `kill`
        self._process = subprocess.Popen(
            [sys.executable, str(_VICTIM), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.pid = self._process.pid
        self.port: int = self._read()["port"]
        self._status = Path(f"/proc/{self.pid}/status")
        self.report()  # by now it accepts, and has the descriptors that it needs for itself

    def stop(self) -> str:
        """End it, in order, and return what it has logged."""
        self._process.communicate(timeout=20)
        log = self.log()
        assert self._process.returncode == 0, log
        return log

    def kill(self) -> None:
        """End it if it still runs."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def log(self) -> str:
        """Return what it has logged so far."""
        self._log.seek(0)
        return self._log.read()

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def report(self) -> dict[str, int]:
        """Ask for the number of tasks, objects and connections, after a garbage collection."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return self._status_of("VmRSS")

    @property
    def peak(self) -> int:
        """The most resident bytes since `forget_peak`."""
        return self._status_of("VmHWM")

    def forget_peak(self) -> None:
        """Have `peak` begin anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    @property
    def cpu(self) -> float:
        """Seconds of CPU time taken so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def descriptors(self) -> int:
        """The number of open descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @property
    def sockets(self) -> list[str]:
        """The states of the server's own ends of TCP connections, as the kernel numbers them ("01" established)."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        own = f"0100007F:{self.port:04X}"
        return [
            row[3] for row in rows if row[1] == own and row[3] not in ("0A", "06")
        ]  # listening, TIME_WAIT

    @property
    def held(self) -> int:
        """The number of TCP connections that the process itself still has, whatever the kernel remembers of others."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        own = f"0100007F:{self.port:04X}"
        return sum(row[1] == own and row[3] != "0A" and row[9] != "0" for row in rows)  # "0A" listens

    @contextmanager
    def bounded(self, size: int = SLACK) -> Generator[None]:
        """Fail if it grows, at any moment in this block, by `size` bytes or more."""
        before = self.memory
        self.forget_peak()
        yield
        grown = self.peak - before
        assert grown < size, f"grew by {grown / MEBI:.1f} MiB"

    @asynccontextmanager
    async def dialled(self) -> AsyncGenerator[RawPeer]:
        """A TCP connection on which nothing was said yet; it is closed in the end."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        peer = RawPeer(stream, Role.CLIENT)
        try:
            yield peer
        finally:
            await trio.aclose_forcefully(stream)

    @asynccontextmanager
    async def encrypted(self, context: ssl.SSLContext) -> AsyncGenerator[RawPeer]:
        """The same over TLS, as far as the TLS handshake; who is cut off knows it by the end alone."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        tls = trio.SSLStream(stream, context, server_hostname="localhost", https_compatible=True)
        try:
            await tls.do_handshake()
            yield RawPeer(tls, Role.CLIENT)
        finally:
            await trio.aclose_forcefully(stream)

    @asynccontextmanager
    async def attacked(self, extensions: str | None = None) -> AsyncGenerator[RawPeer]:
        """A peer that has done its opening handshake, offering these extensions; what it does next is its own."""
        async with self.dialled() as peer:
            await peer.handshake(Sec_WebSocket_Extensions=extensions)
            yield peer

    async def serves(self, patience: float = 5.0) -> None:
        """Fail if an honest client does not get its echo in so many seconds."""
        with trio.fail_after(patience):
            async with open_websocket("127.0.0.1", self.port, "/", use_ssl=False) as ws:
                await ws.send_message("still there?")
                assert await ws.get_message() == "still there?"

    async def idle(self, patience: float = 5.0) -> None:
        """Wait until no connection is left, and fail if one is after so many seconds."""
        with trio.move_on_after(patience):
            while self.sockets or self.report()["connections"]:  # noqa: ASYNC110 - another process sets no event
                await trio.sleep(0.02)
            return
        raise AssertionError(f"left over: {self.sockets}, {self.report()}")

    async def released(self, descriptors: int, patience: float = 5.0) -> None:
        """Wait until it has no more than so many descriptors, and fail if it has after so many seconds.

        A socket that it has closed may stay with the kernel for as long as the peer keeps its end.
        """
        with trio.move_on_after(patience):
            while self.descriptors > descriptors:  # noqa: ASYNC110 - another process sets no event
                await trio.sleep(0.02)
            return
        raise AssertionError(f"there are {self.descriptors - descriptors} descriptors too many")

    async def dropped(self, patience: float = 5.0) -> None:
        """Wait until it has dropped all connections, also of peers that have not; fail if it has not in so many seconds."""
        with trio.move_on_after(patience):
            while self.held or self.report()["connections"]:  # noqa: ASYNC110 - another process sets no event
                await trio.sleep(0.02)
            return
        raise AssertionError(f"not dropped: {self.sockets}, {self.report()}")

    async def shrunk(self, size: int, patience: float = 20.0) -> None:
        """Wait until all connections are gone and it takes so many bytes at most; fail if not in so many seconds."""
        await self.idle(patience)
        with trio.move_on_after(patience):
            while self.memory > size:  # noqa: ASYNC110 - another process sets no event
                await trio.sleep(0.02)
            return
        raise AssertionError(f"{(self.memory - size) / MEBI:.1f} MiB were not given back")

    def _read(self) -> dict[str, int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the server is gone: {self.log()}")
        report: dict[str, int] = json.loads(line)
        return report

    def _status_of(self, name: str) -> int:
        for line in self._status.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * KIBI
        raise AssertionError(f"no {name}: the server is gone")


def certificate_for(folder: Path) -> tuple[str, ssl.SSLContext]:
    """Write a certificate for localhost with its key, and return where it is and what trusts it."""
    authority = trustme.CA()
    path = folder / "certificate.pem"
    # trustme's annotations name an optional dependency, which makes them partly unknown here
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    context = ssl.create_default_context()
    authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]
    return str(path), context


@contextmanager
def victim_of(**options: Any) -> Generator[Victim]:
    """A victim that is ended in order; with a traceback in its log the test fails."""
    victim = Victim(**options)
    try:
        yield victim
        log = victim.stop()
    finally:
        victim.kill()
    assert "Traceback" not in log, log
