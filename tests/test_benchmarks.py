"""The benchmark programs work: what they compute is right, and a short run measures something. No figure is judged."""

import argparse
import io
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

import trio_ws.protocol
from benchmarks import codec_worker, peak_worker
from benchmarks.broadcast import WORK as BROADCASTS
from benchmarks.codec import PIECES, TOGETHER
from benchmarks.compressed import WORK as COMPRESSED
from benchmarks.harness import install, machine
from benchmarks.harness.figures import Results, read_figures
from benchmarks.harness.frames import CYCLE, make_compressed_frames, make_cycle
from benchmarks.harness.install import UnavailableError
from benchmarks.harness.options import Options, make_parser, parse_options
from benchmarks.harness.progress import Progress, format_duration
from benchmarks.harness.report import Row, list_notes, make_table
from benchmarks.harness.rounds import measure_in_turn
from benchmarks.harness.servers import choose_works
from benchmarks.harness.subjects import PROJECT, PURE, SERVERS, Subject
from benchmarks.harness.work import COST, GROWTH, IDLE, MEMORY, MESSAGES, WORK, Work
from trio_ws import PerMessageDeflate

PROGRAMS = Path(__file__).parent.parent / "benchmarks"
QUICK = WORK["ping-pong"], WORK["100-clients"]
PEER = Subject("peer", "a peer")


# --- Figures --------------------------------------------------------------------------------------------------------


def results_of(**rounds: list[float]) -> Results:
    results = Results()
    for subject, values in rounds.items():
        for value in values:
            results.add("ping-pong", subject, {"messages_s": value})
    return results


def test_the_median_counts_and_not_the_mean() -> None:
    results = results_of(trio_ws=[10, 1000, 30])
    assert results.median("ping-pong", "trio_ws", "messages_s") == 30


def test_a_ratio_is_the_project_by_the_peer() -> None:
    results = results_of(trio_ws=[30, 30, 30], peer=[20, 10, 10])
    assert results.ratio("ping-pong", "peer", "messages_s", "trio_ws") == 3


def test_without_a_figure_there_is_no_ratio() -> None:
    results = results_of(peer=[20])
    assert results.ratio("ping-pong", "peer", "messages_s", "trio_ws") is None
    assert results.median("1-mib", "peer", "messages_s") is None


def test_who_failed_in_one_round_has_no_figure() -> None:
    results = results_of(peer=[20])
    results.fail("ping-pong", "peer", "it fell over")
    assert results.median("ping-pong", "peer", "messages_s") is None


def test_spread_is_that_of_the_rounds_of_one_cell() -> None:
    assert results_of(trio_ws=[75, 125, 100], peer=[2, 2, 3]).spread("messages_s") == 0.5
    assert results_of(trio_ws=[90]).spread("messages_s") is None


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_figure_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="messages_s"):
        read_figures({"p50_us": 1, "messages_s": value})


# --- Report ---------------------------------------------------------------------------------------------------------


def test_a_table_shows_medians_and_ratios() -> None:
    results = results_of(trio_ws=[1000], peer=[500], other=[4])
    results.add("memory-100", "trio_ws", {"kib": 4.04})
    results.fail("ping-pong", "other", "it fell over")
    rows = [Row("ping-pong", "1 client", MESSAGES), Row("memory-100", "memory", MEMORY)]
    columns = {"trio_ws": "trio_ws", "peer": "a peer", "other": "another"}
    assert make_table(results, rows, columns, "trio_ws", "servers").splitlines() == [
        "| servers               | trio_ws |      a peer | another |",
        "| --------------------- | ------: | ----------: | ------: |",
        "| 1 client [messages/s] |   1,000 | 500 (2.00x) |  failed |",
        "| memory [KiB]          |     4.0 |           - |       - |",
    ]


def test_a_last_line_shows_by_what_factor_a_figure_grows() -> None:
    results = Results()
    for work, mine, peers in (("ping-pong", 3, 2), ("10-clients", 2, 8), ("100-clients", 5, 6)):
        results.add(work, "trio_ws", {"server_us": mine})
        results.add(work, "peer", {"server_us": peers})
    results.fail("10-clients", "peer", "it fell over")
    rows = [Row(work.name, work.title, COST) for work in GROWTH[:3]]
    columns = {"trio_ws": "trio_ws", "peer": "a peer"}
    *_, last = make_table(results, rows, columns, "trio_ws", "servers", factor=True).splitlines()
    assert last == "| largest / smallest     |    2.50 |           - |"


def test_notes_say_what_is_missing_and_why() -> None:
    results = Results(skipped={"ws": "it needs Node.js and npm"})
    results.fail("1-mib", "peer", "it fell over")
    assert list_notes(results, {"peer": "a peer"}).splitlines() == [
        "- Not measured: ws: it needs Node.js and npm",
        "- Failed: a peer, 1-mib: it fell over",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3540, "59 min"), (3900, "1 h 05 min")]
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_progress_tells_how_long_the_rest_will_take() -> None:
    out = io.StringIO()
    times = iter([100.0, 102.0, 106.0])
    progress = Progress(10, out=out, clock=lambda: next(times))
    progress.tell("ping-pong", "trio_ws", "1 messages/s")
    progress.tell("ping-pong", "a peer", "2 messages/s")
    first, second = out.getvalue().splitlines()
    assert first.startswith("[ 1/10] ping-pong")
    assert first.endswith("eta 18 s")
    assert second.endswith("eta 24 s")


# --- What is measured, and in which order ---------------------------------------------------------------------------


def test_all_are_measured_in_turn_round_by_round(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[str, str]] = []

    def measure(work: Work, subject: Subject) -> dict[str, float]:
        asked.append((work.name, subject.name))
        if subject is PEER and work is QUICK[1]:
            raise UnavailableError("a long story\nit fell over")
        return {"messages_s": 1.0}

    results = Results()
    measure_in_turn(QUICK, [PROJECT, PEER], 2, measure, results)
    assert asked == [
        *[("ping-pong", "trio_ws"), ("ping-pong", "peer")] * 2,
        *[("100-clients", "trio_ws"), ("100-clients", "peer"), ("100-clients", "trio_ws")],
    ]
    assert results.failures == {"100-clients": {"peer": "it fell over"}}
    assert [len(rounds) for row in results.rounds.values() for rounds in row.values()] == [2, 2, 2]
    assert "[8/8]" in capsys.readouterr().err


def test_growth_is_in_nothing_but_connections() -> None:
    assert [work.connections for work in GROWTH] == [1, 10, 100, 1000, 5000]
    assert {(work.size, work.depth, work.tls, work.task) for work in GROWTH} == {(64, 1, False, "echo")}
    assert [work.connections for work in IDLE] == [100, 500, 1000, 2000, 5000]
    assert {work.task for work in IDLE} == {"hold"}
    assert [(case.count, case.read) for case in PIECES] == [(1, 1)] * 3
    assert len({(case.size, case.read) for case in TOGETHER}) == 1


def test_who_asks_for_more_connections_than_there_can_be_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "allow_connections", lambda: 2250)
    skipped: dict[str, str] = {}
    works = choose_works(list(WORK.values()), quick=False, skipped=skipped, tls="no OpenSSL")
    # memory is that of connections which come after a tenth as many others
    assert [work.connections for work in works if work.task == "hold"] == [100, 500, 1000]
    assert max(work.connections for work in works if work.task == "echo") == 1000
    assert not any(work.tls for work in works)
    assert set(skipped) == {work.title for work in WORK.values()} - {work.title for work in works}


def test_what_takes_long_is_left_out_of_a_quick_run() -> None:
    works = choose_works(list(WORK.values()), quick=True, skipped={}, tls=None)
    assert {work.connections for work in works} == {1, 10, 32, 100}
    assert [work for work in works if work.task == "hold"] == [WORK["memory-100"]]


@pytest.mark.parametrize(
    ("text", "cpus"), [("0", {0}), ("0-3,8\n", {0, 1, 2, 3, 8}), ("2,4-5", {2, 4, 5}), ("", set[int]())]
)
def test_lists_of_processors_are_read(text: str, cpus: set[int]) -> None:
    assert machine.parse_cpu_list(text) == cpus


def test_load_and_server_do_not_share_a_core_if_they_need_not() -> None:
    pairs = {0: {0, 1}, 1: {0, 1}, 2: {2, 3}, 3: {2, 3}}
    assert machine.choose_cpus({0, 1, 2, 3}, pairs) == (0, 2)
    assert machine.choose_cpus({0, 1}, pairs) == (0, 1)
    assert machine.choose_cpus({5}, {}) == (5, 5)


def test_the_pinning_ends_with_its_block() -> None:
    before = os.sched_getaffinity(0)
    cpu = max(before)
    with machine.pinned(cpu):
        assert os.sched_getaffinity(0) == {cpu}
    assert os.sched_getaffinity(0) == before


# --- The command line -----------------------------------------------------------------------------------------------

SUBJECTS = {subject.name: subject for subject in SERVERS}


def parse(*arguments: str) -> tuple[Options, argparse.Namespace]:
    return parse_options(make_parser("", SUBJECTS, WORK), arguments, SUBJECTS, WORK)


def test_by_default_everything_is_measured_but_what_is_behind_a_flag() -> None:
    options, _ = parse()
    assert options.subjects == tuple(name for name in SUBJECTS if name != PURE.name)
    assert options.works == tuple(WORK)
    assert (options.rounds, options.seconds) == (3, 1.5)


def test_what_is_asked_for_is_measured() -> None:
    options, _ = parse(
        "--only", "trio_ws, floor,floor", "--pure", "--work", "1-mib", "--quick", "--rounds", "7"
    )
    assert options.subjects == ("trio_ws", "floor", PURE.name)
    assert options.works == ("1-mib",)
    assert (options.rounds, options.seconds) == (7, 0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "trio_ws,twisted"), "unknown: twisted"),
        (("--work", "2-mib"), "unknown: 2-mib"),
        (("--work", ","), "nothing to measure"),
        (("--rounds", "-1"), "at least one round"),
        (("--seconds", "16"), "at most 15"),
        (("--out", "/dev/null/x"), "Not a directory"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(*arguments)
    assert message in capsys.readouterr().err


# --- The codecs' bytes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_frames_of_the_codec_benchmark_are_those_of_the_library(size: int) -> None:
    payload = os.urandom(size)
    masks = trio_ws.protocol.MaskPool(lambda count: (codec_worker.MASK * count)[:count])
    client = trio_ws.protocol.Protocol(trio_ws.protocol.Role.CLIENT, masks=masks)
    frame = codec_worker.make_frame(payload, codec_worker.OP_BINARY, codec_worker.MASK)
    assert frame == b"".join(client.send_message(payload))


def test_a_codec_that_is_wrong_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(codec_worker.ENCODERS, "wrong", lambda masked: list)
    monkeypatch.setitem(codec_worker.DECODERS, "wrong", lambda: lambda reads, count: [b""] * count)
    with pytest.raises(RuntimeError, match="other frames"):
        codec_worker.prepare_encoding("wrong", "encode", 64, 3)
    with pytest.raises(RuntimeError, match="other messages"):
        codec_worker.prepare_decoding("wrong", "decode", 64, 3, 65536)


@pytest.mark.parametrize(("size", "count", "read"), [(200, 1, 1), (2, 200, 2**30), (64, 20, 100)])
def test_a_codec_is_given_reads_of_the_size_that_was_asked_for(
    size: int, count: int, read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[int]] = []

    def decoder() -> codec_worker.Decode:
        decode = codec_worker.decode_trio_ws()

        def watched(reads: Sequence[bytes], count: int) -> Sequence[object]:
            given.append([len(data) for data in reads])
            return decode(reads, count)

        return watched

    monkeypatch.setitem(codec_worker.DECODERS, "watched", decoder)
    codec_worker.prepare_decoding("watched", "decode", size, count, read)()
    *whole, last = given[0]
    assert set(whole) <= {read}
    assert 0 < last <= read
    assert size * count < sum(given[0]) <= (size + 8) * count  # headers and masks besides
    assert given == [given[0]] * 3


# --- The peer of whoever sends or receives a large message ----------------------------------------------------------

BLOCK = len(peak_worker.BLOCK)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("spoilt", [None, 0, 9, 20, BLOCK])
def test_only_the_message_that_was_sent_is_taken_for_it(masked: bool, spoilt: int | None) -> None:
    near, far = socket.socketpair()
    with near, far:
        peak_worker.send_large(near, peak_worker.OP_BINARY, BLOCK, masked=masked)
        near.shutdown(socket.SHUT_WR)
        frame = bytearray(far.recv(2 * BLOCK, socket.MSG_WAITALL))
    if spoilt is not None:
        frame[spoilt] ^= 1
    near, far = socket.socketpair()
    with near, far:
        near.sendall(frame)
        if spoilt is None:
            # the one who receives from a client is the one who does not mask
            peak_worker.receive_large(far, peak_worker.OP_BINARY, BLOCK, masked=not masked)
            return
        with pytest.raises(RuntimeError, match=r"came than w(as|ere) sent"):
            peak_worker.receive_large(far, peak_worker.OP_BINARY, BLOCK, masked=not masked)


# --- The load generator ---------------------------------------------------------------------------------------------

needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None, reason="the load generator needs a C compiler"
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which nothing has been fetched or built before."""
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="module")
def load(environment: dict[str, str]) -> Path:
    """The load generator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])
        return install.build_load()[0]


ANSWERS: dict[str, tuple[Callable[[bytes], Sequence[str | bytes]], str]] = {
    "what was sent": (lambda message: [message], ""),
    "other bytes": (
        lambda message: [message[:-1] + bytes([message[-1] ^ 1])],
        "other bytes came back than were sent",
    ),
    "too few bytes": (lambda message: [message[:-1]], "199 bytes came back of 200"),
    "too many bytes": (lambda message: [message + b"x"], "more than 200 bytes came back"),
    "everything twice": (lambda message: [message, message], "other bytes came back than were sent"),
    "text": (lambda message: ["x" * len(message)], "opcode 1 came back"),
    "nothing, and the end": (lambda message: [], "the server closed the connection"),
}


@asynccontextmanager
async def answering(
    answer: Callable[[bytes], Sequence[str | bytes]], compression: PerMessageDeflate | None = None
) -> AsyncGenerator[int]:
    """Serve, and answer each message; the port."""

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        ws = await request.accept()
        async for message in ws:
            answers = answer(message if isinstance(message, bytes) else message.encode())
            for each in answers:
                await ws.send_message(each)
            if not answers:
                return

    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(
            partial(trio_ws.serve_websocket, compression=compression), handler, "127.0.0.1", 0, None
        )
        yield server.port
        nursery.cancel_scope.cancel()


@needs_compiler
@pytest.mark.parametrize(("answer", "complaint"), ANSWERS.values(), ids=ANSWERS)
async def test_only_an_echo_is_counted(
    answer: Callable[[bytes], Sequence[str | bytes]], complaint: str, load: Path
) -> None:
    async with answering(answer) as port:
        command = [str(load), "echo", str(port), "2", "200", "3", "0.05", f"pid={os.getpid()}"]
        done = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
    assert done.stderr.decode().strip() == complaint
    assert done.returncode == (1 if complaint else 0)
    if not complaint:
        figures = read_figures(json.loads(done.stdout))
        assert set(figures) == {"messages_s", "p50_us", "p99_us", "p999_us", "server_us"}


def to_all(message: bytes, server: trio_ws.WebSocketServer) -> Awaitable[object]:
    return trio_ws.broadcast(server.connections, message)


def to_all_twice(message: bytes, server: trio_ws.WebSocketServer) -> Awaitable[object]:
    return trio_ws.broadcast([*server.connections] * 2, message)


def to_all_something_else(message: bytes, server: trio_ws.WebSocketServer) -> Awaitable[object]:
    return trio_ws.broadcast(server.connections, message[:-1] + b"?")


CHANGED = "other bytes came back than were sent"
# A second copy of what fills the buffers may come with the first, before the next is sent whole, or after the last.
COPIED = {CHANGED, "the answer was there before the question", "more than 200 bytes came back"}


@needs_compiler
@pytest.mark.parametrize(
    ("answer", "flags", "complaints"),
    [
        (to_all, [], {""}),
        (to_all, ["stalled"], {""}),
        (to_all_twice, [], {CHANGED}),
        (to_all_twice, ["stalled"], COPIED),
        (to_all_something_else, [], {CHANGED}),
        (to_all_something_else, ["stalled"], {CHANGED}),
    ],
)
async def test_only_what_comes_to_all_is_counted(
    answer: Callable[[bytes, trio_ws.WebSocketServer], Awaitable[object]],
    flags: list[str],
    complaints: set[str],
    load: Path,
) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        ws = await request.accept()
        async for message in ws:
            assert isinstance(message, bytes)
            await answer(message, server)

    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(
            trio_ws.serve_websocket, handler, "127.0.0.1", 0, None
        )
        command = [str(load), "broadcast", str(server.port), "3", "200", "0.05", *flags, f"pid={os.getpid()}"]
        done = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
        nursery.cancel_scope.cancel()
    complaint = done.stderr.decode().strip()
    assert complaint in complaints
    assert done.returncode == (1 if complaint else 0)
    if not complaint:
        assert set(read_figures(json.loads(done.stdout))) == {
            "deliveries_s", "p50_us", "p99_us", "p999_us", "server_us",
        }  # fmt: skip


async def run_compressed(
    load: Path,
    folder: Path,
    answer: Callable[[bytes], Sequence[str | bytes]],
    *flags: str,
    compression: PerMessageDeflate | None,
) -> subprocess.CompletedProcess[bytes]:
    """Have compressed messages of 4 KiB sent on two connections."""
    frames = folder / "frames"
    frames.write_bytes(make_compressed_frames(make_cycle(4096)))
    async with answering(answer, compression) as port:
        command = [str(load), "echo", str(port), "2", "0", "1", "0.05", f"deflate={frames}", *flags]
        return await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)


@needs_compiler
@pytest.mark.parametrize("flags", [(), ("fresh",)])
async def test_compressed_messages_are_valid_on_all_terms(
    flags: tuple[str, ...], load: Path, tmp_path: Path
) -> None:
    received: list[bytes] = []

    def answer(message: bytes) -> Sequence[str]:
        received.append(message)
        return [message.decode()]

    done = await run_compressed(load, tmp_path, answer, *flags, compression=PerMessageDeflate())
    assert done.stderr == b""
    cycle = make_cycle(4096)
    assert set(received) == set(cycle)
    figures = read_figures(json.loads(done.stdout))
    # every message resembles the others, and an answer cannot be smaller than what of it is chance
    assert 400 < figures["wire_bytes"] < 4096 / 4
    assert (figures["wire_bytes"] > 850) == bool(flags)  # what the server may refer to makes a difference


@needs_compiler
async def test_bytes_of_answers_are_those_on_the_wire(load: Path, tmp_path: Path) -> None:
    options = PerMessageDeflate(threshold=10**6)
    done = await run_compressed(load, tmp_path, lambda message: [message.decode()], compression=options)
    assert json.loads(done.stdout)["wire_bytes"] == 4 + 4096


@needs_compiler
@pytest.mark.parametrize(
    ("options", "complaint"),
    [(None, b"the server does not compress"), (PerMessageDeflate(), b"opcode 2 came back")],
)
async def test_a_server_that_does_not_compress_or_answers_in_binary_is_not_measured(
    options: PerMessageDeflate | None, complaint: bytes, load: Path, tmp_path: Path
) -> None:
    done = await run_compressed(load, tmp_path, lambda message: [message], compression=options)
    assert (done.returncode, done.stderr.strip()) == (1, complaint)


@pytest.mark.parametrize("size", sorted({work.size for work in COMPRESSED.values()}))
def test_no_message_comes_again_within_a_window(size: int) -> None:
    cycle = make_cycle(size)
    assert len(set(cycle)) == len(cycle)
    assert sum(map(len, cycle)) > CYCLE - size
    assert CYCLE >= 2 * 2**15


async def run_client(answer: Callable[[bytes], Sequence[str | bytes]]) -> subprocess.CompletedProcess[bytes]:
    async with answering(answer) as port:
        worker = str(PROGRAMS / "client_worker.py")
        command = [sys.executable, "-P", worker, "trio_ws", str(port), "64", "3", "0.05"]
        return await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)


async def test_a_client_is_measured() -> None:
    done = await run_client(lambda message: [message])
    assert set(read_figures(json.loads(done.stdout))) == {"messages_s", "p50_us", "p99_us"}


async def test_a_client_that_receives_something_else_is_not_measured() -> None:
    done = await run_client(lambda message: [message[::-1]])
    assert done.returncode == 1
    assert b"other messages came back than were sent" in done.stderr


# --- The programs ---------------------------------------------------------------------------------------------------


SIDES = ("server", "client"), ("receive", "send"), ("binary", "text")
needs_memory_figures = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of memory is read from Linux's /proc"
)


def run_program(
    name: str, *arguments: str | Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROGRAMS / name, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )


@needs_compiler
def test_a_quick_comparison_measures_servers(tmp_path: Path, environment: dict[str, str]) -> None:
    out, record = tmp_path / "out", tmp_path / "record.json"
    done = run_program(
        "compare.py",
        "--quick",
        "--only",
        "trio_ws,floor",
        "--json",
        record,
        "--out",
        out,
        environment=environment,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(record.read_text())
    left_out = {"1000-clients", "5000-clients"} | {work.name for work in IDLE}
    left_out |= {name for name, work in WORK.items() if work.title in document["skipped"]}
    assert set(document["rounds"]) == set(WORK) - left_out
    for row in document["rounds"].values():
        assert list(row) == ["trio_ws", "floor"]
        assert all(value > 0 for rounds in row.values() for figures in rounds for value in figures.values())
    assert all("TLS" in title for title in document["skipped"])
    assert document["failures"] == {}
    assert re.search(r"^\| 1 client, 64 B \[messages/s\] .*\d \(\d+\.\d\dx\) \|$", done.stdout, re.MULTILINE)
    assert re.search(r"^\| 1 client, 64 B \[µs\] .*\d \(\d+\.\d\dx\) \|$", done.stdout, re.MULTILINE)
    assert re.search(r"^\| largest / smallest +\| +\d+\.\d\d \| +\d+\.\d\d \|$", done.stdout, re.MULTILINE)
    assert document["versions"]["trio_ws"].endswith(("(compiled)", "(not compiled)"))
    assert done.stdout.strip() in (out / "servers.md").read_text()
    assert re.search(r"^\[(\d+)/\1\] .* eta 0 s$", done.stderr, re.MULTILINE)


@needs_compiler
def test_a_quick_comparison_measures_servers_that_compress(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    done = run_program(
        "compressed.py", "--quick", "--only", "trio_ws", "--out", tmp_path, environment=environment
    )
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "compressed.json").read_text())
    assert document["failures"] == document["skipped"] == {}
    assert set(document["rounds"]) == {name for name, work in COMPRESSED.items() if work.connections <= 100}
    echoes = {name for name, work in COMPRESSED.items() if work.task == "echo"} & set(document["rounds"])
    assert all("wire_bytes" in document["rounds"][name]["trio_ws"][0] for name in echoes)
    for line in (
        r"100 clients, 4 KiB \[messages/s\]",
        r"100 clients, 4 KiB \[B\]",
        r"memory of each .*\[KiB\]",
    ):
        assert re.search(rf"^\| {line} +\| +[\d,.]+ \|$", done.stdout, re.MULTILINE)


@needs_compiler
def test_a_quick_comparison_measures_servers_that_broadcast(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    done = run_program(
        "broadcast.py", "--quick", "--only", "trio_ws", "--out", tmp_path, environment=environment
    )
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "broadcasts.json").read_text())
    assert document["failures"] == document["skipped"] == {}
    assert set(document["rounds"]) == {name for name, work in BROADCASTS.items() if work.connections <= 100}
    for line in (r"4 KiB, one more reads nothing \[deliveries/s\]", r"4 KiB \[µs\]"):
        assert re.search(rf"^\| 100 clients, {line} +\| +[\d,.]+ \|$", done.stdout, re.MULTILINE)


@needs_compiler
def test_a_server_that_cannot_run_is_named_with_its_reason(environment: dict[str, str]) -> None:
    # Without a PATH there is no Node.js; the C compiler is named by its full path.
    compiler = shutil.which("cc") or "cc"
    bare = {**environment, "PATH": "", "CC": compiler}
    done = run_program("compare.py", "--quick", "--only", "ws", "--work", "ping-pong", environment=bare)
    assert "- Not measured: ws: it needs Node.js and npm" in done.stdout


def test_without_a_compiler_servers_cannot_be_measured(tmp_path: Path) -> None:
    bare = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "CC": "no-such-compiler"}
    done = run_program("compare.py", "--quick", "--only", "trio_ws", environment=bare)
    assert done.returncode == 1
    assert "cannot measure: no-such-compiler: No such file or directory" in done.stderr


def test_a_quick_run_measures_codecs(environment: dict[str, str]) -> None:
    done = run_program(
        "codec.py", "--quick", "--seconds", "0.01", "--only", "trio_ws", environment=environment
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^\| (?:de|en)code.*\| +[\d,]+ \|$", done.stdout, re.MULTILINE)) == 8
    pieces = re.findall(r"^\| [\d,]+ pieces of 1 B: a byte \[ns\] +\| +[\d,]+ \|$", done.stdout, re.MULTILINE)
    together = re.findall(
        r"^\| [\d,]+ messages of 2 B: a message \[ns\] +\| +[\d,]+ \|$", done.stdout, re.MULTILINE
    )
    assert (len(pieces), len(together)) == (1, 3)
    assert re.search(r"^\| largest / smallest +\| +\d+\.\d\d \|$", done.stdout, re.MULTILINE)


@needs_memory_figures
def test_a_quick_run_measures_peaks_of_memory(tmp_path: Path, environment: dict[str, str]) -> None:
    works = [f"{role}-{action}-{kind}" for role, action, kind in itertools.product(*SIDES)]
    done = run_program("peak.py", "--quick", "--only", "trio_ws", "--out", tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "peaks.json").read_text())
    assert set(document["rounds"]) == set(works)
    # the application has the message itself, and it is in memory
    assert all(row["trio_ws"][0]["multiple"] > 0.99 for row in document["rounds"].values())
    assert done.stdout.strip() in (tmp_path / "peaks.md").read_text()
