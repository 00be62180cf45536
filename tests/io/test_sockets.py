"""What only SocketTransport does: the shared poller, its turns, corked writes, and descriptors."""

import errno
import logging
import os
import socket
import tracemalloc
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from statistics import median
from time import perf_counter

import pytest
import trio
import trio.testing

from tests.io.transport_kit import (
    MUCH,
    PATIENCE,
    SOCKETS,
    Recorder,
    no_free_descriptor,
    open_pair,
    pattern,
    receive_exactly,
    reset,
    tcp_pair,
    wired,
)
from trio_ws.transport import Transport, make_transport
from trio_ws.transport._ready import ReadySet

every_socket = pytest.mark.parametrize("kind", SOCKETS)


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks, so that what happens in one and the same step can be told."""

    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


@contextmanager
def counted_steps() -> Generator[Steps]:
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    yield steps
    trio.lowlevel.remove_instrument(steps)


def plain_pair() -> tuple[trio.SocketStream, socket.socket]:
    """Return our end as a stream, and the peer's as a socket that can be used without giving up the turn."""
    left, right = socket.socketpair()
    right.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(left)), right


def started(stream: trio.SocketStream, recorder: Recorder, nursery: trio.Nursery) -> Transport:
    transport = make_transport(stream)
    transport.start(recorder, nursery)
    return transport


def poll_sets() -> int:
    """How many epoll sets this process has open; without a /proc, that cannot be told apart from none."""
    folder = "/proc/self/fd"
    return sum("eventpoll" in os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder) if _is_open(int(fd)))


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def test_the_first_write_of_a_turn_leaves_at_once_and_those_behind_it_together() -> None:
    ours, peer = plain_pair()
    recorder = Recorder()
    async with trio.open_nursery() as nursery:
        transport = started(ours, recorder, nursery)
        for _ in range(3):
            transport.write((b"a", b"b"))
            assert peer.recv(100) == b"ab"
            transport.write((b"c",))
            transport.write((b"d",))
            assert transport.buffered == 2
            with pytest.raises(BlockingIOError):
                peer.recv(100)
            await trio.testing.wait_all_tasks_blocked()
            assert peer.recv(100) == b"cd"
            assert transport.buffered == 0
        transport.abort()
        peer.close()


async def test_each_pass_of_the_scheduler_is_a_turn_also_when_no_socket_is_ready() -> None:
    ours, peer = plain_pair()
    async with trio.open_nursery() as nursery:
        transport = started(ours, Recorder(), nursery)
        for number in range(10):
            transport.write((b"%d" % number,))
            assert transport.buffered == 0
            assert peer.recv(100) == b"%d" % number
            await trio.lowlevel.checkpoint()
        transport.abort()
        peer.close()


async def test_what_more_will_follow_waits_for_it() -> None:
    ours, peer = plain_pair()
    async with trio.open_nursery() as nursery:
        transport = started(ours, Recorder(), nursery)
        transport.flush()  # there is nothing, which is no mistake
        for end in ("flush", "turn"):
            transport.write((b"a",), more=True)
            transport.write((b"b",), more=True)
            transport.write((b"c",))
            assert transport.buffered == 3
            with pytest.raises(BlockingIOError):
                peer.recv(100)
            if end == "flush":
                transport.flush()
                assert transport.buffered == 0
            else:
                await trio.testing.wait_all_tasks_blocked()
            assert peer.recv(100) == b"abc"
        transport.abort()
        peer.close()


class Passes(trio.abc.Instrument):
    """Counts the passes of the scheduler."""

    count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


async def test_who_waits_for_data_runs_in_the_pass_in_which_it_comes() -> None:
    ours, peer = plain_pair()
    recorder, passes = Recorder(), Passes()
    async with trio.open_nursery() as nursery:
        transport = started(ours, recorder, nursery)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(passes)
        for size in range(1, 10):
            before = passes.count
            peer.send(b"x")
            await recorder.until_received(size)
            assert passes.count == before + 1
        trio.lowlevel.remove_instrument(passes)
        transport.abort()
    peer.close()


async def test_whom_the_time_did_not_suffice_for_comes_first_in_the_next_turn() -> None:
    """The kernel reports who is ready in the same order again: who always has something would be all that is served."""
    pairs = [plain_pair() for _ in range(6)]
    order: list[int] = []
    async with trio.open_nursery() as nursery:
        transports: list[Transport] = []
        for number, (ours, peer) in enumerate(pairs):

            def served(number: int = number, peer: socket.socket = peer) -> None:
                order.append(number)
                if len(order) < 50:
                    peer.send(b"x")
                busy = perf_counter() + 0.0006  # there is time for two in a turn
                while perf_counter() < busy:
                    pass

            recorder = Recorder()
            recorder.on["data"] = served
            transports.append(started(ours, recorder, nursery))
        await trio.testing.wait_all_tasks_blocked()
        for _, peer in pairs:
            peer.send(b"x")
        while len(order) < 50:
            await trio.lowlevel.checkpoint()
        for transport in transports:
            transport.abort()
    assert {order.count(number) for number in range(6)} <= {8, 9}
    for _, peer in pairs:
        peer.close()


async def test_corked_writes_leave_early_when_they_fill_a_batch() -> None:
    ours, peer = plain_pair()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
    async with trio.open_nursery() as nursery:
        transport = started(ours, Recorder(), nursery)
        transport.write((b"x",))
        for _ in range(65):
            transport.write((bytes(1000),))
        assert transport.accepted == 1
        for _ in range(3):
            transport.write((bytes(1000),))
        assert transport.accepted == 1 + 66 * 1000
        assert transport.buffered == 2000
        transport.abort()
        peer.close()


async def test_writes_of_a_receiver_are_corked_too_and_leave_without_another_event() -> None:
    ours, peer = plain_pair()
    recorder = Recorder()
    async with trio.open_nursery() as nursery:
        transport = started(ours, recorder, nursery)

        accepted: list[int] = []

        def answer() -> None:
            for _ in range(100):
                transport.write((b"pong",))
            accepted.append(transport.accepted)

        recorder.on["data"] = answer
        peer.send(b"ping")
        await recorder.until_received(4)
        assert accepted == [4]
        await trio.testing.wait_all_tasks_blocked()
        assert peer.recv(1000) == b"pong" * 100
        transport.abort()
        peer.close()


def burn(seconds: float) -> None:
    """Keep the processor for a while."""
    until = perf_counter() + seconds
    while perf_counter() < until:
        pass


@pytest.mark.parametrize(
    ("busy", "least", "most"),
    [
        pytest.param(0, 1, 30, id="slices of 1 ms"),
        pytest.param(0.005, 40, 150, id="as much time as tasks take"),
    ],
)
async def test_three_hundred_ready_at_once_and_tasks_take_turns(busy: float, least: int, most: int) -> None:
    pairs = [plain_pair() for _ in range(300)]
    with trio.fail_after(PATIENCE), counted_steps() as steps:
        async with trio.open_nursery() as nursery:
            recorders = [Recorder() for _ in pairs]
            transports = [
                started(ours, recorder, nursery) for (ours, _), recorder in zip(pairs, recorders, strict=True)
            ]
            await trio.testing.wait_all_tasks_blocked()
            served: list[int] = []  # in which step

            async def tick() -> None:
                while True:
                    burn(busy)
                    await trio.lowlevel.checkpoint()

            def work() -> None:
                burn(0.00005)
                served.append(steps.count)

            for recorder in recorders:
                recorder.on["data"] = work
            nursery.start_soon(tick)
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            for _, peer in pairs:
                peer.send(b"x")
            for recorder in recorders:
                await recorder.until_received(1)
            nursery.cancel_scope.cancel()
            for transport in transports:
                transport.abort()
    for _, peer in pairs:
        peer.close()
    # 300 times 50 us are 15 ms of work; one step may be longer, where the machine has let another process run
    assert least <= median(map(served.count, set(served))) <= most
    await trio.testing.wait_all_tasks_blocked()


async def test_one_read_a_turn_for_each() -> None:
    """A connection that always has more to read does not keep the others from theirs."""
    flood, peer_of_flood = plain_pair()
    quiet, peer_of_quiet = plain_pair()
    order: list[str] = []
    async with trio.open_nursery() as nursery:
        recorder, quiet_recorder = Recorder(), Recorder()
        recorder.on["data"] = lambda: order.append("flood")
        quiet_recorder.on["data"] = lambda: order.append("quiet")
        transports = [started(flood, recorder, nursery), started(quiet, quiet_recorder, nursery)]
        peer_of_flood.send(bytes(200000))
        peer_of_quiet.send(b"x")
        await quiet_recorder.until_received(1)
        assert order.index("quiet") <= 1
        for transport in transports:
            transport.abort()
    peer_of_flood.close()
    peer_of_quiet.close()


async def test_events_of_a_closed_descriptor_are_not_served_to_its_next_owner() -> None:
    first, first_peer = plain_pair()
    second, second_peer = plain_pair()
    number = second.socket.fileno()
    heard: list[tuple[str, int]] = []
    recorders = [Recorder(), Recorder(), Recorder()]
    with counted_steps() as steps:
        async with trio.open_nursery() as nursery:

            def replace() -> None:
                """Close the second, which is ready in the same turn, and open a third on its descriptor."""
                heard.append(("first", steps.count))
                second_transport.abort()
                assert not _is_open(number)
                left, third_peer = socket.socketpair()
                assert left.fileno() == number
                transports.append(
                    started(trio.SocketStream(trio.socket.from_stdlib_socket(left)), recorders[2], nursery)
                )
                third_peer.send(b"for the third")
                third_peer.close()

            recorders[0].on["data"] = replace
            recorders[2].on["data"] = lambda: heard.append(("third", steps.count))
            transports = [started(first, recorders[0], nursery)]
            second_transport = started(second, recorders[1], nursery)
            await trio.testing.wait_all_tasks_blocked()
            first_peer.send(b"x")
            second_peer.send(b"for nobody")
            await recorders[2].until_seen("eof")
            for transport in transports:
                transport.abort()
    assert recorders[1].events == ["lost"]
    assert recorders[2].received == b"for the third"
    [(_, served_first), (_, served_third)] = heard
    assert served_third > served_first, "the third was served by an event of the second"
    first_peer.close()
    second_peer.close()


@every_socket
async def test_no_descriptor_and_no_task_stays(kind: str) -> None:
    tasks_before, sets_before = tasks(), poll_sets()
    for _ in range(3):
        ours, peer = await open_pair(kind)
        recorder = Recorder()
        async with trio.open_nursery() as nursery:
            transport = make_transport(ours)
            transport.start(recorder, nursery)
            assert poll_sets() == sets_before + 1
            await peer.aclose()
            await recorder.until_seen("eof")
            transport.close()
            await recorder.until_seen("lost")
        await trio.testing.wait_all_tasks_blocked()
        assert poll_sets() == sets_before
        assert tasks() == tasks_before


async def test_one_poller_for_all() -> None:
    sets_before, tasks_before = poll_sets(), tasks()
    pairs = [plain_pair() for _ in range(20)]
    async with trio.open_nursery() as nursery:
        recorders = [Recorder() for _ in pairs]
        transports = [
            started(ours, recorder, nursery) for (ours, _), recorder in zip(pairs, recorders, strict=True)
        ]
        assert poll_sets() == sets_before + 1
        assert tasks() == tasks_before + 2
        for transport in transports:
            transport.abort()
    for recorder in recorders:
        await recorder.until_seen("lost")
    for _, peer in pairs:
        peer.close()
    await trio.testing.wait_all_tasks_blocked()
    assert poll_sets() == sets_before


async def test_a_new_socket_in_the_moment_the_last_one_goes() -> None:
    for _ in range(20):  # which of the poller's two tasks is first in a turn is drawn by lot
        ours, peer = plain_pair()
        recorder, next_recorder = Recorder(), Recorder()
        next_ours, next_peer = plain_pair()
        transports: list[Transport] = []
        async with trio.open_nursery() as nursery:
            recorder.on["lost"] = lambda: transports.append(  # noqa: B023 - called within this round
                started(next_ours, next_recorder, nursery)  # noqa: B023
            )
            started(ours, recorder, nursery).abort()
            next_peer.send(b"x")
            await next_recorder.until_received(1)
            transports[0].abort()
        peer.close()
        next_peer.close()


def test_the_end_of_the_run_ends_the_connections() -> None:
    recorder, aborted = Recorder(), Recorder()
    peers: list[socket.socket] = []

    async def main() -> None:
        ours, peer = plain_pair()
        other, other_peer = plain_pair()
        peers.extend([peer, other_peer])
        async with trio.open_nursery() as nursery:
            transport = started(ours, recorder, nursery)
            transport.write((b"sent",))
            transport.write((b"corked",))
            started(other, aborted, nursery).abort()

    trio.run(main)
    assert recorder.events == ["lost"]
    assert [str(reason) for reason in recorder.reasons] == ["the Trio run is ending"]
    assert isinstance(recorder.reasons[0], trio.BrokenResourceError)
    assert aborted.reasons == [None]
    for peer in peers:
        peer.close()


def test_a_run_that_takes_no_more_tasks() -> None:
    failures: list[str] = []

    async def leftover() -> AsyncGenerator[None]:
        try:
            yield
        finally:
            ours, peer = plain_pair()
            try:
                make_transport(ours).start(Recorder(), nurseries[0])
            except RuntimeError as exc:
                failures.append(str(exc))
            ours.socket.close()
            peer.close()

    nurseries: list[trio.Nursery] = []
    generators: list[AsyncGenerator[None]] = []  # kept alive, for the run to close

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nurseries.append(nursery)
        generators.append(leftover())
        await generators[0].__anext__()

    trio.run(main)
    assert failures == ["Nursery is closed to new arrivals"]


async def test_out_of_descriptors_the_stream_stays_the_callers() -> None:
    ours, peer = plain_pair()
    recorder = Recorder()
    async with trio.open_nursery() as nursery:
        with no_free_descriptor(), pytest.raises(OSError, match="Too many open files"):
            started(ours, recorder, nursery)
        assert recorder.events == []
        await ours.send_all(b"still mine")
        assert peer.recv(100) == b"still mine"
        started(ours, recorder, nursery).abort()
        await recorder.until_seen("lost")
    peer.close()


async def test_a_failed_write_is_told_at_the_next_turn_behind_what_came_before() -> None:
    ours, peer = await tcp_pair()
    recorder = Recorder()
    async with trio.open_nursery() as nursery:
        transport = started(ours, recorder, nursery)
        transport.pause_reading()
        await trio.testing.wait_all_tasks_blocked()
        await peer.send_all(pattern(20000))
        reset(peer)
        transport.write((b"into the void",))  # the kernel knows of the reset already and refuses
        transport.write((b"behind it",))
        assert recorder.events == []
        assert transport.accepted == 0
        await recorder.until_seen("lost")
    assert recorder.received == pattern(20000)
    assert recorder.events == ["data", "lost"]
    assert isinstance(recorder.reasons[0], ConnectionError)
    assert transport.buffered == 0


@pytest.mark.parametrize("method", ["abort", "close", "write", "end"])
async def test_nothing_changes_the_end_during_the_last_read(method: str) -> None:
    ours, peer = await tcp_pair()
    recorder = Recorder()
    async with trio.open_nursery() as nursery:
        transport = started(ours, recorder, nursery)
        call = getattr(transport, method)
        recorder.on["data"] = lambda: call((b"x",)) if method == "write" else call()
        transport.pause_reading()
        await peer.send_all(b"last words")
        reset(peer)
        transport.write((b"fails",))
        await recorder.until_seen("lost")
        await trio.testing.wait_all_tasks_blocked()
    assert recorder.events == ["data", "lost"]
    assert isinstance(recorder.reasons[0], ConnectionError)


async def test_a_receiver_that_raises_in_the_last_read(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise OSError("a receiver's own")

    ours, peer = await tcp_pair()
    recorder = Recorder()
    recorder.on["data"] = fail
    async with trio.open_nursery() as nursery:
        transport = started(ours, recorder, nursery)
        transport.pause_reading()
        await peer.send_all(b"last words")
        reset(peer)
        transport.write((b"fails",))
        await recorder.until_seen("lost")
    assert [str(reason) for reason in recorder.reasons] == ["a receiver's own"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_receivers_own_oserror_is_not_taken_for_the_sockets(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise BlockingIOError("a receiver's own")

    async with wired("tcp") as w:
        w.recorder.on["data"] = fail
        await w.peer.send_all(b"x")
        await w.recorder.until_seen("lost")
        assert [str(reason) for reason in w.recorder.reasons] == ["a receiver's own"]
        assert len(caplog.records) == 1


async def test_whoever_still_waits_on_the_stream_is_told_that_it_is_taken() -> None:
    ours, peer = plain_pair()
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await ours.receive_some()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        transport = started(ours, Recorder(), nursery)
        await trio.testing.wait_all_tasks_blocked()
        transport.abort()
    peer.close()


async def test_an_end_of_both_sides_while_reading_is_paused_neither_spins_nor_loses_anything() -> None:
    """A Unix peer that closes hangs up both ways. What it sent before is more than one read, and still arrives."""
    data = pattern(150000)
    ours, peer = plain_pair()
    recorder = Recorder()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            transport = started(ours, recorder, nursery)
            transport.pause_reading()
            assert peer.send(data) == len(data)
            peer.close()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert recorder.events == []
            transport.resume_reading()
            await recorder.until_seen("eof")
            assert recorder.received == data
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert recorder.events[-1] == "eof"
            transport.abort()
            await recorder.until_seen("lost")
    assert recorder.reasons == [None]


async def test_both_sides_of_tcp_end_while_reading_is_paused() -> None:
    async with wired("tcp") as w:
        w.transport.pause_reading()
        w.transport.end()
        await w.peer.send_all(b"last words")
        await w.peer.aclose()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert w.recorder.events == []
        w.transport.resume_reading()
        await w.recorder.until_seen("eof")
        assert w.recorder.received == b"last words"
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert w.recorder.events == ["data", "eof"]


async def test_a_write_after_a_hang_up_is_told() -> None:
    ours, peer = plain_pair()
    recorder = Recorder()
    async with trio.open_nursery() as nursery:
        transport = started(ours, recorder, nursery)
        transport.pause_reading()
        peer.send(b"last words")
        peer.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        transport.write((b"x",))
        await recorder.until_seen("lost")
    assert recorder.events == ["data", "lost"]
    assert isinstance(recorder.reasons[0], BrokenPipeError)


async def test_a_unix_peer_that_closes_without_reading_resets() -> None:
    async with wired("unix") as w:
        w.transport.write((b"never read",))
        await w.peer.aclose()
        await w.recorder.until_seen("lost")
        assert isinstance(w.recorder.reasons[0], ConnectionResetError)


async def test_ending_a_connection_that_was_reset() -> None:
    ours, peer = await tcp_pair()
    recorder = Recorder()
    async with trio.open_nursery() as nursery:
        transport = started(ours, recorder, nursery)
        transport.pause_reading()
        reset(peer)
        transport.end()
        await recorder.until_seen("lost")
    assert isinstance(recorder.reasons[0], OSError)


@pytest.mark.parametrize("corked", [False, True])
async def test_a_large_chunk_is_not_copied(corked: bool) -> None:
    payload = bytes(MUCH)
    async with wired("tcp") as w:
        if corked:
            w.transport.write((b"first",))
            w.transport.write((b"second",))
        await trio.testing.wait_all_tasks_blocked()
        tracemalloc.start()
        try:
            w.transport.write((b"header", payload))
            await trio.testing.wait_all_tasks_blocked()
            assert w.transport.buffered > 0
            assert tracemalloc.get_traced_memory()[1] < 2**20
        finally:
            tracemalloc.stop()
        expected = b"firstsecond" * corked + b"header" + payload
        assert await receive_exactly(w.peer, len(expected)) == expected


async def test_readiness_that_turns_out_to_be_none() -> None:
    """What is ready when the turn begins may have been read by somebody else when it is served."""
    first, first_peer = plain_pair()
    second, second_peer = plain_pair()
    thief = socket.socket(fileno=os.dup(second.socket.fileno()))
    recorders = [Recorder(), Recorder()]
    async with trio.open_nursery() as nursery:
        transports = [started(first, recorders[0], nursery), started(second, recorders[1], nursery)]
        recorders[0].on["data"] = lambda: thief.recv(100)
        first_peer.send(b"x")
        second_peer.send(b"stolen")
        await recorders[0].until_received(1)
        await trio.testing.wait_all_tasks_blocked()
        assert recorders[1].events == []
        second_peer.send(b"kept")
        await recorders[1].until_received(4)
        assert recorders[1].received == b"kept"
        for transport in transports:
            transport.abort()
    for sock in (first_peer, second_peer, thief):
        sock.close()


async def test_a_kernel_that_has_no_room_to_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be brought to that here, so its refusal is a stand-in."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    ours, peer = plain_pair()
    recorder = Recorder()
    async with trio.open_nursery() as nursery:
        with monkeypatch.context() as patch:
            patch.setattr(ReadySet, "watch", refuse)
            started(ours, recorder, nursery)
        assert recorder.events == []
        await recorder.until_seen("lost")
    assert recorder.events == ["lost"]
    assert isinstance(recorder.reasons[0], OSError)
    assert recorder.reasons[0].errno == errno.ENOSPC
    peer.close()
