"""Several processes for one program: their start, their port, and every way in which they end; real ones, by real signals."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.io.transport_kit import PATIENCE
from trio_ws import CloseReason, ConnectionClosed, WorkerFailed, open_websocket_url, run_workers

pytestmark = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="without descriptors of processes their ends cannot be waited for"
)

#: What all programs begin with. `ready` tells the test about a worker, and `serve` sends each client the worker's index.
PROLOGUE = """
import errno, logging, os, signal, socket, sys, time
import trio
from trio_ws import WebSocketServer, WorkerFailed, run_workers

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def ready(index):
    say("ready", index, os.getpid())

async def serve(index):
    async def handler(request):
        ws = await request.accept()
        await ws.send_message(str(index))
        async for _ in ws:
            pass
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    await sock.bind(("127.0.0.1", int(sys.argv[1])))
    sock.listen()
    server = WebSocketServer(handler, [trio.SocketListener(sock)])
    ready(index)
    await server.run()

async def sleep(index):
    ready(index)
    await trio.sleep_forever()

async def ignore(index):
    ready(index)
    try:
        await trio.sleep_forever()
    finally:
        say("told", index)
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

"""


class Team:
    """A program that runs workers, as a process of its own group.

    Attributes:
        process: the parent.
        workers: the processes of the workers that have said that they are ready, by index.
        lines: what was said besides.
        err: what was written to standard error so far.
    """

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.workers: dict[int, int] = {}
        self.lines: list[str] = []
        self.err = ""
        self._out = b""

    async def ready(self, count: int) -> None:
        """Wait until as many workers are ready."""
        while len(self.workers) < count:
            assert await self._read(), f"the program has ended: {self.err}"

    async def said(self, count: int) -> list[str]:
        """Wait until as many other lines were said, and return them in order."""
        while len(self.lines) < count:
            assert await self._read(), f"the program has ended: {self.err}"
        return sorted(self.lines)

    def group_kill(self, number: int) -> None:
        """Send a signal to all its processes, as a terminal does."""
        os.killpg(self.process.pid, number)

    async def end(self) -> int:
        """Wait until it has ended, with all that it says, and return its exit code."""
        while await self._read():
            pass
        return await self.process.wait()

    async def collect_errors(self) -> None:
        assert self.process.stderr is not None
        async for data in self.process.stderr:
            self.err += data.decode()

    async def _read(self) -> bool:
        assert self.process.stdout is not None
        data = await self.process.stdout.receive_some()
        self._out += data
        *lines, self._out = self._out.split(b"\n")
        for line in lines:
            match line.decode().split():
                case ["ready", index, number]:
                    self.workers[int(index)] = int(number)
                case _:
                    self.lines.append(line.decode())
        return bool(data)


async def has_ended(descriptor: int) -> None:
    """Wait until a process has ended, whoever its parent is."""
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)


def open_process(number: int) -> int | None:
    with suppress(ProcessLookupError):
        return os.pidfd_open(number)
    return None


async def all_have_ended(processes: Iterator[int]) -> None:
    async with trio.open_nursery() as nursery:
        for number in processes:
            if (descriptor := open_process(number)) is not None:
                nursery.start_soon(has_ended, descriptor)


@pytest.fixture
def port() -> Iterator[int]:
    """Return a port of the loopback that nobody else can take meanwhile: it is bound here, and not listened on."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        number: int = sock.getsockname()[1]
        yield number


@asynccontextmanager
async def running(program: str, tmp_path: Path, port: int = 0) -> AsyncGenerator[Team]:
    """Run a program. When the block ends its workers must have ended, or do because their parent is killed."""
    script = tmp_path / "program.py"
    script.write_text(PROLOGUE + program)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            start = partial(
                trio.run_process,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                check=False,
                start_new_session=True,
            )
            process: trio.Process = await nursery.start(start, [sys.executable, script, str(port)])
            team = Team(process)
            nursery.start_soon(team.collect_errors)
            try:
                yield team
            finally:
                process.kill()
                with trio.move_on_after(10, shield=True) as scope:
                    await all_have_ended(iter(team.workers.values()))
                if scope.cancelled_caught:
                    os.killpg(process.pid, signal.SIGKILL)
            assert not scope.cancelled_caught, "workers were left"


async def index_of(port: int) -> int:
    """Return the index of a worker that serves a new client."""
    async with open_websocket_url(f"ws://127.0.0.1:{port}") as ws:
        return int(await ws.get_message())


# Their work


async def test_all_workers_share_the_port(tmp_path: Path, port: int) -> None:
    async with running("run_workers(serve, 3)", tmp_path, port) as team:
        await team.ready(3)
        served: set[int] = set()
        while served != {0, 1, 2}:  # the kernel draws lots
            served.add(await index_of(port))
        assert len({team.process.pid, *team.workers.values()}) == 4
        team.process.terminate()
        assert await team.end() == 0
        assert team.err == ""


async def test_as_many_as_there_are_processors(tmp_path: Path) -> None:
    program = """
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
async def main(index):
    say(index)
run_workers(main)
"""
    async with running(program, tmp_path) as team:
        assert await team.end() == 0
        assert team.lines == ["0"]
    async with running("run_workers(sleep)", tmp_path) as team:
        await team.ready(len(os.sched_getaffinity(0)))
        team.process.terminate()
        await team.end()
        assert len(team.workers) == len(os.sched_getaffinity(0))


async def test_it_returns_when_the_last_has_returned(tmp_path: Path) -> None:
    program = """
async def main(index):
    if index:
        await sleep(index)
assert run_workers(main, 3) is None
say("done")
"""
    async with running(program, tmp_path) as team:
        await team.ready(2)
        os.kill(team.workers[1], signal.SIGTERM)
        await all_have_ended(iter([team.workers[1]]))
        assert team.lines == []
        os.kill(team.workers[2], signal.SIGTERM)
        assert await team.end() == 0
        assert (team.lines, team.err) == (["done"], "")


async def test_what_is_buffered_is_written_once(tmp_path: Path) -> None:
    program = """
async def main(index):
    print("worker", index)
sys.stdout = open(1, "w", buffering=8192, closefd=False)  # whatever PYTHONUNBUFFERED says
print("before")
run_workers(main, 2)
"""
    async with running(program, tmp_path) as team:
        assert await team.end() == 0
        assert sorted(team.lines) == ["before", "worker 0", "worker 1"]


async def test_again_and_again(tmp_path: Path) -> None:
    """It leaves the process as it was: signals, their mask and descriptors."""
    program = """
def state():
    signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    return signals, signal.pthread_sigmask(signal.SIG_BLOCK, ()), sorted(os.listdir("/proc/self/fd"))
async def main(index):
    say(index)
before = state()
run_workers(main, 1)
run_workers(main, 2)
assert state() == before
"""
    async with running(program, tmp_path) as team:
        assert (await team.end(), team.err) == (0, "")
        assert sorted(team.lines) == ["0", "0", "1"]


# Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("to_group", [False, True])
async def test_a_signal_ends_all_in_order(number: int, to_group: bool, tmp_path: Path, port: int) -> None:
    """Also if everybody gets it, as from a terminal or from systemd: nobody leaves a traceback."""
    async with running("run_workers(serve, 2)\nsay('done')", tmp_path, port) as team:
        await team.ready(2)
        async with open_websocket_url(f"ws://127.0.0.1:{port}") as ws:
            await ws.get_message()
            if to_group:
                team.group_kill(number)
            else:
                team.process.send_signal(number)
            with pytest.raises(ConnectionClosed) as caught:
                await ws.get_message()
            assert caught.value.reason == CloseReason(1001)
        assert (await team.end(), team.err, team.lines) == (0, "", ["done"])


async def test_a_signal_that_comes_before_all_have_started(tmp_path: Path) -> None:
    """It waits until it can be acted on, and then nothing is left."""
    program = """
fork = os.fork
def fork_after_a_signal():
    os.kill(os.getpid(), signal.SIGTERM)
    return fork()
os.fork = fork_after_a_signal
run_workers(sleep, 3)
say("done")
"""
    async with running(program, tmp_path) as team:
        assert (await team.end(), team.err, team.lines) == (0, "", ["done"])


async def test_a_signal_to_a_worker_stops_it_alone(tmp_path: Path, port: int) -> None:
    async with running("run_workers(serve, 2)", tmp_path, port) as team:
        await team.ready(2)
        os.kill(team.workers[0], signal.SIGTERM)
        await all_have_ended(iter([team.workers[0]]))
        assert {await index_of(port) for _ in range(8)} == {1}
        team.process.terminate()
        assert (await team.end(), team.err) == (0, "")


async def test_an_interrupt_to_a_worker_means_nothing(tmp_path: Path, port: int) -> None:
    """It is the parent that acts on it."""
    async with running("run_workers(serve, 1)", tmp_path, port) as team:
        await team.ready(1)
        os.kill(team.workers[0], signal.SIGINT)
        assert await index_of(port) == 0
        team.process.terminate()
        assert (await team.end(), team.err) == (0, "")


async def test_programs_that_a_worker_starts_can_be_interrupted(tmp_path: Path) -> None:
    program = """
async def main(index):
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    code += "; print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    await trio.run_process([sys.executable, "-c", code])
run_workers(main, 1)
"""
    async with running(program, tmp_path) as team:
        assert await team.end() == 0
        assert team.lines == ["True", "set()"]


async def test_what_does_not_stop_is_killed(tmp_path: Path) -> None:
    async with running("run_workers(ignore, 2, grace=0.1)\nsay('done')", tmp_path) as team:
        await team.ready(2)
        team.process.terminate()
        assert await team.end() == 0
        assert sorted(team.lines) == ["done", "told 0", "told 1"]
        assert sorted(team.err.splitlines()) == [
            f"worker {index} has not stopped yet, and is killed" for index in range(2)
        ]


async def test_a_second_signal_kills_at_once(tmp_path: Path) -> None:
    async with running("run_workers(ignore, 2, grace=1000)\nsay('done')", tmp_path) as team:
        await team.ready(2)
        team.process.terminate()
        await team.said(2)
        team.process.send_signal(signal.SIGINT)
        assert await team.end() == 0
        assert team.lines[-1] == "done"


async def test_workers_end_when_their_parent_is_killed(tmp_path: Path, port: int) -> None:
    async with running("run_workers(serve, 2)", tmp_path, port) as team:
        await team.ready(2)
        async with open_websocket_url(f"ws://127.0.0.1:{port}") as ws:
            await ws.get_message()
            team.process.kill()
            with pytest.raises(ConnectionClosed) as caught:
                await ws.get_message()
            assert caught.value.reason == CloseReason(1001)
        await all_have_ended(iter(team.workers.values()))
        assert await team.end() == -signal.SIGKILL


@pytest.mark.parametrize("main", ["ignore", "work"])
async def test_also_those_that_do_not_stop(main: str, tmp_path: Path) -> None:
    program = f"""
async def work(index):
    ready(index)
    while True:
        pass
run_workers({main}, 1, grace=0)
"""
    async with running(program, tmp_path) as team:
        await team.ready(1)
        team.process.kill()
        await all_have_ended(iter(team.workers.values()))


# Failing


async def test_an_exception_is_shown_and_stops_all(tmp_path: Path, port: int) -> None:
    program = """
async def main(index):
    if index == 1:
        with trio.open_signal_receiver(signal.SIGUSR1) as signals:
            ready(index)
            await anext(signals)
        raise KeyError("mine")
    await serve(index)
try:
    run_workers(main, 2)
except WorkerFailed as exc:
    say(exc.worker, exc.exit_code, exc)
    raise
"""
    async with running(program, tmp_path, port) as team:
        await team.ready(2)
        async with open_websocket_url(f"ws://127.0.0.1:{port}") as ws:
            assert await ws.get_message() == "0"
            os.kill(team.workers[1], signal.SIGUSR1)
            with pytest.raises(ConnectionClosed) as caught:
                await ws.get_message()
            assert caught.value.reason == CloseReason(1001)
        assert await team.end() == 1
        assert team.lines == ["1 1 worker 1 ended with exit code 1"]
        assert "worker 1 failed\nTraceback" in team.err
        assert "\nKeyError: 'mine'\n" in team.err
        assert team.err.endswith("WorkerFailed: worker 1 ended with exit code 1\n")


async def test_a_worker_that_is_killed_stops_all(tmp_path: Path) -> None:
    program = """
try:
    run_workers(sleep, 3)
except WorkerFailed as exc:
    say(exc.worker, exc.exit_code, exc)
"""
    async with running(program, tmp_path) as team:
        await team.ready(3)
        os.kill(team.workers[2], signal.SIGKILL)
        assert (await team.end(), team.err) == (0, "")
        assert team.lines == ["2 -9 worker 2 was ended by signal 9"]


async def test_a_failure_while_stopping_is_a_failure(tmp_path: Path) -> None:
    program = """
async def main(index):
    try:
        await sleep(index)
    finally:
        raise KeyError(index)
try:
    run_workers(main, 2)
except WorkerFailed as exc:
    say("failed")
"""
    async with running(program, tmp_path) as team:
        await team.ready(2)
        team.process.terminate()
        assert (await team.end(), team.lines) == (0, ["failed"])
        assert "\nKeyError: 0\n" in team.err
        assert "\nKeyError: 1\n" in team.err
        assert team.err.count("ended with exit code 1\n") == 1  # that of the second is in the log


async def test_the_first_signal_after_a_failure_does_not_kill(tmp_path: Path) -> None:
    program = """
async def main(index):
    if index == 0:
        await sleep(index)
    ready(index)
    try:
        await trio.sleep_forever()
    finally:
        say("told")
        with trio.CancelScope(shield=True), trio.open_signal_receiver(signal.SIGTERM, signal.SIGUSR1) as signals:
            say("waits")
            while await anext(signals) != signal.SIGUSR1:
                pass
        say("finished")
logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
try:
    run_workers(main, 2, grace=1000)
except WorkerFailed as exc:
    say(exc.worker)
"""
    async with running(program, tmp_path) as team:
        await team.ready(2)
        os.kill(team.workers[0], signal.SIGKILL)
        await team.said(2)
        team.process.terminate()
        await team.said(3)
        os.kill(team.workers[1], signal.SIGUSR1)
        assert (await team.end(), team.err) == (0, "")
        received = "stopping the workers: received SIGTERM"
        assert team.lines == ["told", "waits", received, "finished", "0"]


@pytest.mark.parametrize(
    ("argument", "exit_code", "err"),
    [
        ("", None, ""),
        ("0", None, ""),
        ("3", 3, ""),
        ("'the port is taken'", 1, "SystemExit: the port is taken\n"),
    ],
)
async def test_sys_exit(argument: str, exit_code: int | None, err: str, tmp_path: Path) -> None:
    program = f"""
async def main(index):
    sys.exit({argument})
try:
    run_workers(main, 1)
except WorkerFailed as exc:
    say(exc.exit_code)
"""
    async with running(program, tmp_path) as team:
        assert await team.end() == 0
        assert team.lines == ([] if exit_code is None else [str(exit_code)])
        assert team.err.endswith(err) if err else team.err == ""


async def test_a_process_too_many(tmp_path: Path) -> None:
    program = """
fork, forked = os.fork, []
def fork_twice():
    if len(forked) == 2:
        raise BlockingIOError(errno.EAGAIN, "no more")
    forked.append(fork())
    return forked[-1]
os.fork = fork_twice
try:
    run_workers(sleep, 3)
except OSError as exc:
    say(exc)
for process in forked:
    try:
        os.waitpid(process, 0)
    except ChildProcessError:
        say("waited for")
"""
    async with running(program, tmp_path) as team:
        assert (await team.end(), team.err) == (0, "")
        assert team.lines == ["[Errno 11] no more", "waited for", "waited for"]


# Where it cannot be


async def main_not_run(index: int) -> None:
    pytest.fail(f"worker {index} runs")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 0}, "workers is at least 1"),
        ({"workers": -1}, "workers is at least 1"),
        ({"grace": -1}, "grace is at least 0"),
        ({"grace": float("inf")}, "grace is at least 0"),
        ({"grace": float("nan")}, "grace is at least 0"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_workers(main_not_run, **arguments)


async def test_not_inside_of_trio() -> None:
    with pytest.raises(RuntimeError, match=r"outside of trio\.run"):
        run_workers(main_not_run)


def in_a_thread(function: Callable[[], None]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_not_in_a_thread() -> None:
    errors: list[str] = []

    def call() -> None:
        try:
            run_workers(main_not_run)
        except RuntimeError as exc:
            errors.append(str(exc))

    in_a_thread(call)
    assert errors == ["run_workers receives signals: call it in the main thread"]


def test_not_beside_threads() -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="before any is started"):
            run_workers(main_not_run)
    finally:
        end.set()
        thread.join()


def test_not_where_processes_cannot_be_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    with pytest.raises(RuntimeError, match="cannot fork"):
        run_workers(main_not_run)


def test_what_a_failure_says() -> None:
    assert str(WorkerFailed(2, 3)) == "worker 2 ended with exit code 3"
    assert str(WorkerFailed(0, -15)) == "worker 0 was ended by signal 15"
