"""The promises of `trio_ws.transport`, kept by every kind of transport alike."""

import itertools
import logging
import tracemalloc
from contextlib import suppress

import pytest
import trio
import trio.testing

from tests.io.transport_kit import (
    BOUNDED,
    KINDS,
    MUCH,
    PATIENCE,
    RESETTABLE,
    TLS,
    Recorder,
    Wired,
    open_pair,
    pattern,
    receive_exactly,
    reset,
    socket_of,
    wired,
    wrap,
)
from trio_ws.transport import HIGH_WATER, LOW_WATER, Chunk, make_transport

every_kind = pytest.mark.parametrize("kind", KINDS)
bounded_kind = pytest.mark.parametrize("kind", BOUNDED)

SIZES = [0, 1, 2, 16383, 16384, 65535, 65536, 65537, 2**20]


@every_kind
async def test_chunks_leave_whole_and_in_order(kind: str) -> None:
    chunks = [pattern(size, seed) for seed, size in enumerate([*SIZES, *reversed(SIZES)])]
    async with wired(kind) as w:
        for chunk in chunks:
            w.transport.write((chunk,))
        expected = b"".join(chunks)
        assert await receive_exactly(w.peer, len(expected)) == expected


@every_kind
@pytest.mark.parametrize("size", SIZES)
async def test_one_write_of_several_chunks(kind: str, size: int) -> None:
    chunks: tuple[Chunk, ...] = (
        b"head",
        pattern(size),
        b"",
        memoryview(pattern(size, 1))[size // 2 :],
        b"tail",
    )
    async with wired(kind) as w:
        w.transport.write(chunks)
        w.transport.write(chunks)
        expected = b"".join(chunks) * 2
        assert await receive_exactly(w.peer, len(expected)) == expected


@every_kind
async def test_thousands_of_tiny_writes(kind: str) -> None:
    tiny = [pattern(9, seed)[8 - seed % 8 :] for seed in range(5000)]
    async with wired(kind) as w:
        for chunk in tiny:
            w.transport.write((chunk,))
        w.transport.write((*tiny,))
        expected = b"".join(tiny) * 2
        assert await receive_exactly(w.peer, len(expected)) == expected


@every_kind
async def test_a_write_of_more_chunks_than_a_kernel_takes(kind: str) -> None:
    chunks = (pattern(17000), *(pattern(5, seed) for seed in range(3000)))
    async with wired(kind) as w:
        w.transport.write(chunks)
        expected = b"".join(chunks)
        assert await receive_exactly(w.peer, len(expected)) == expected


@every_kind
async def test_writes_over_many_turns_stay_in_order(kind: str) -> None:
    chunks = [pattern(size % 40000, size) for size in range(1, 400000, 7919)]
    async with wired(kind) as w:

        async def write() -> None:
            for chunk in chunks:
                w.transport.write((chunk[:3], chunk[3:]))
                await trio.lowlevel.checkpoint()

        w.nursery.start_soon(write)
        expected = b"".join(chunks)
        assert await receive_exactly(w.peer, len(expected)) == expected


@every_kind
async def test_data_arrives_in_order(kind: str) -> None:
    chunks = [pattern(size, seed) for seed, size in enumerate(SIZES)]
    async with wired(kind) as w:
        for chunk in chunks:
            await w.peer.send_all(chunk)
        expected = b"".join(chunks)
        await w.recorder.until_received(len(expected))
        assert w.recorder.received == expected
        assert min(w.recorder.sizes) > 0
        assert max(w.recorder.sizes) <= 65536


@every_kind
async def test_read_size(kind: str) -> None:
    async with wired(kind, read_size=100) as w:
        await w.peer.send_all(bytes(1000))
        await w.recorder.until_received(1000)
        assert max(w.recorder.sizes) <= 100


def test_read_size_must_be_a_size() -> None:
    left, _ = trio.testing.memory_stream_pair()
    with pytest.raises(ValueError, match="read_size must be at least 1 byte, not 0"):
        make_transport(left, read_size=0)


@bounded_kind
async def test_small_chunks_that_wait_take_little_more_than_what_is_in_them(kind: str) -> None:
    async with wired(kind) as w:
        size = 0
        while not w.transport.buffered:
            w.transport.write((bytes(9999),))
            size += 9999
            await trio.testing.wait_all_tasks_blocked()
        tiny = [pattern(9, seed)[-3:] for seed in range(HIGH_WATER // 3)]
        expected = b"".join(tiny)
        tracemalloc.start()
        try:
            for chunk in tiny:
                w.transport.write((bytes(bytearray(chunk)),))
            took = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert took < 3 * HIGH_WATER, "each takes 39 bytes and its place"
        assert w.transport.buffered > HIGH_WATER
        assert await receive_exactly(w.peer, size + len(expected)) == bytes(size) + expected


@bounded_kind
async def test_what_the_kernel_has_and_what_not(kind: str) -> None:
    data = pattern(MUCH)
    async with wired(kind) as w:
        w.transport.write((data,))
        assert w.transport.buffered + w.transport.accepted == MUCH
        await trio.testing.wait_all_tasks_blocked()
        assert w.transport.buffered > HIGH_WATER
        accepted = w.transport.accepted
        assert w.transport.buffered + accepted == MUCH

        half = await receive_exactly(w.peer, MUCH // 2)
        await trio.testing.wait_all_tasks_blocked()
        # Progress within one chunk shows: that is how a slow peer is told from a dead one.
        assert MUCH // 2 - 65536 <= w.transport.accepted < MUCH
        assert w.transport.buffered + w.transport.accepted == MUCH

        assert half + await receive_exactly(w.peer, MUCH - len(half)) == data
        await trio.testing.wait_all_tasks_blocked()
        assert w.transport.buffered == 0
        assert w.transport.accepted == MUCH


@bounded_kind
@pytest.mark.parametrize("chunk", [1000, MUCH])
async def test_drained_comes_once_for_each_time_above(kind: str, chunk: int) -> None:
    async with wired(kind) as w:
        seen: list[int] = []
        w.recorder.on["drained"] = lambda: seen.append(w.transport.buffered)
        for rounds in (1, 2):
            for _ in range(0, MUCH, chunk):
                w.transport.write((bytes(chunk),))
            await trio.testing.wait_all_tasks_blocked()
            assert w.transport.buffered > LOW_WATER
            assert len(seen) == rounds - 1
            size = MUCH + (-MUCH) % chunk
            assert len(await receive_exactly(w.peer, size)) == size
            await w.recorder.until(lambda: len(seen) == rounds)  # noqa: B023 - is awaited here
            assert seen[-1] <= LOW_WATER


@every_kind
async def test_drained_is_not_called_for_what_was_never_above(kind: str) -> None:
    async with wired(kind) as w:
        for _ in range(20):
            for _ in range(4):
                w.transport.write((bytes(LOW_WATER // 4),))
            await receive_exactly(w.peer, LOW_WATER)
            await trio.testing.wait_all_tasks_blocked()
        assert w.recorder.events == []


@every_kind
async def test_drained_also_when_a_write_itself_brought_it_down(kind: str) -> None:
    """Many writes at once flush in between; the one that did must not be the one that calls back."""
    async with wired(kind) as w:
        w.transport.write((b"first",))
        for _ in range(5):
            w.transport.write((bytes(15000),))
        assert w.recorder.events == []
        assert len(await receive_exactly(w.peer, 75005)) == 75005
        await w.recorder.until_seen("drained")
        assert w.recorder.events == ["drained"]


@every_kind
async def test_drained_may_write(kind: str) -> None:
    async with wired(kind) as w:
        left = [pattern(100000, seed) for seed in range(20)]
        w.recorder.on["drained"] = lambda: w.transport.write((left.pop(),)) if left else None
        expected = b"".join(reversed(left))
        w.transport.write((left.pop(),))
        w.transport.write((b"",))
        if kind in {"tcp", "unix"}:  # the kernel may have taken it at once: then nothing was ever above
            w.transport.write((left.pop(),))
        received = bytearray()
        while len(received) < len(expected):
            data = await w.peer.receive_some(65536)
            received += data
            if not w.transport.buffered and left and kind in {"tcp", "unix"}:
                w.transport.write((left.pop(),))
        assert received == expected


@bounded_kind
async def test_pausing_stops_the_peer(kind: str) -> None:
    data = pattern(MUCH)
    async with wired(kind) as w:
        await w.peer.send_all(b"x")
        await w.recorder.until_received(1)
        w.transport.pause_reading()
        w.transport.pause_reading()
        w.nursery.start_soon(w.peer.send_all, data)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(w.recorder.sizes) <= 2  # one read was under way
        assert len(w.recorder.received) <= 1 + 65536

        w.transport.resume_reading()
        w.transport.resume_reading()
        await w.recorder.until_received(1 + MUCH)
        assert w.recorder.received == b"x" + data


@every_kind
async def test_resuming_inside_data_received(kind: str) -> None:
    data = pattern(2**20)
    async with wired(kind) as w:

        def stumble() -> None:
            w.transport.pause_reading()
            w.transport.resume_reading()

        w.recorder.on["data"] = stumble
        w.nursery.start_soon(w.peer.send_all, data)
        await w.recorder.until_received(len(data))
        assert w.recorder.received == data


@every_kind
async def test_pausing_inside_data_received(kind: str) -> None:
    data = pattern(300000)
    async with wired(kind, read_size=1000) as w:
        w.recorder.on["data"] = w.transport.pause_reading
        w.nursery.start_soon(w.peer.send_all, data)
        reads = 0
        while len(w.recorder.received) < len(data):
            reads += 1
            await w.recorder.until(lambda: len(w.recorder.sizes) >= reads)  # noqa: B023 - is awaited here
            if reads % 50 == 0:
                await trio.testing.wait_all_tasks_blocked()
            assert len(w.recorder.sizes) == reads
            w.transport.resume_reading()
        assert w.recorder.received == data


@every_kind
async def test_the_peers_end_comes_behind_its_data_and_closes_nothing(kind: str) -> None:
    async with wired(kind) as w:
        await w.peer.send_all(b"last words")
        if isinstance(w.peer, trio.abc.HalfCloseableStream):
            await w.peer.send_eof()
        else:
            await w.peer.aclose()
        await w.recorder.until_seen("eof")
        assert w.recorder.received == b"last words"
        assert w.recorder.events[-1] == "eof"
        # All tasks come to rest, which they could not if the end were reported for ever; nor does resuming repeat it.
        await trio.testing.wait_all_tasks_blocked(0.01)
        w.transport.pause_reading()
        w.transport.resume_reading()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert w.recorder.events[-1] == "eof"
        if isinstance(w.peer, trio.abc.HalfCloseableStream):
            w.transport.write((b"answer",))
            assert await receive_exactly(w.peer, 6) == b"answer"


@every_kind
async def test_end_flushes_and_reading_goes_on(kind: str) -> None:
    data = pattern(2**20)
    async with wired(kind) as w:
        w.transport.write((data,))
        w.transport.end()
        w.transport.end()
        w.transport.write((b"too late",))
        assert await receive_exactly(w.peer, len(data)) == data
        assert w.transport.can_end is (kind not in TLS)
        if w.transport.can_end:
            assert await w.peer.receive_some() == b""
        await w.peer.send_all(b"still heard")
        await w.recorder.until_received(11)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert "lost" not in w.recorder.events


@every_kind
async def test_end_with_nothing_queued(kind: str) -> None:
    async with wired(kind) as w:
        w.transport.end()
        if w.transport.can_end:
            assert await w.peer.receive_some() == b""
        w.transport.close()
        await w.recorder.until_seen("lost")
        assert w.recorder.reasons == [None]


@every_kind
async def test_close_flushes(kind: str) -> None:
    data = pattern(2**20)
    async with wired(kind) as w:
        w.transport.write((data,))
        w.transport.close()
        w.transport.write((b"too late",))
        assert await receive_exactly(w.peer, len(data) + 1) == data
        await w.recorder.until_seen("lost")
        assert w.recorder.events == ["lost"]
        assert w.recorder.reasons == [None]
        assert w.transport.accepted == len(data)


@bounded_kind
async def test_close_waits_for_a_slow_peer_and_abort_does_not(kind: str) -> None:
    async with wired(kind) as w:
        w.transport.write((bytes(MUCH),))
        w.transport.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert w.recorder.events == []
        w.transport.abort()
        await w.recorder.until_seen("lost")
        assert w.recorder.reasons == [None]


@bounded_kind
async def test_abort_drops_what_is_queued(kind: str) -> None:
    async with wired(kind) as w:
        w.transport.write((bytes(MUCH),))
        w.transport.abort()
        w.transport.write((bytes(MUCH),))
        await w.recorder.until_seen("lost")
        assert w.recorder.events == ["lost"]
        assert w.recorder.reasons == [None]
        received = bytearray()
        with pytest.raises(trio.BrokenResourceError) if kind in TLS else trio.CancelScope():
            while data := await w.peer.receive_some(65536):
                received += data
        assert len(received) < MUCH


@every_kind
async def test_after_close_nothing_is_heard(kind: str) -> None:
    async with wired(kind) as w:
        w.recorder.on["data"] = w.transport.close
        w.nursery.start_soon(_send_regardless, w.peer, bytes(200000))
        await w.recorder.until_seen("lost")
        assert w.recorder.events == ["data", "lost"]
        assert w.recorder.reasons == [None]


async def _send_regardless(stream: trio.abc.SendStream, data: bytes) -> None:
    with suppress(trio.BrokenResourceError):
        await stream.send_all(data)


@bounded_kind
async def test_nothing_is_heard_while_close_still_flushes(kind: str) -> None:
    async with wired(kind) as w:
        w.transport.write((bytes(MUCH),))
        w.transport.close()
        if kind != "lockstep":  # which takes a write only when it is read
            await w.peer.send_all(b"too late")
        await trio.testing.wait_all_tasks_blocked(0.01)
        w.transport.resume_reading()
        await receive_exactly(w.peer, MUCH // 2)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert w.recorder.events == []


METHODS = ["end", "close", "abort", "pause_reading", "resume_reading", "write"]


def _apply(w: Wired, method: str) -> None:
    before = list(w.recorder.events)
    if method == "write":
        w.transport.write((bytes(70000), b"x"))
    else:
        getattr(w.transport, method)()
    assert w.recorder.events == before, "a call was answered from within"


@every_kind
@pytest.mark.parametrize("peer_first", [False, True], ids=["open", "peer closed"])
async def test_lost_once_whatever_the_order_of_calls(kind: str, peer_first: bool) -> None:
    for methods in itertools.permutations(METHODS, 3):
        async with wired(kind) as w:
            if peer_first:
                await trio.aclose_forcefully(w.peer)
            for method in methods:
                _apply(w, method)
            if "abort" in methods:
                await w.recorder.until_seen("lost")
                assert set(w.recorder.events) <= {"eof", "lost"}


@every_kind
@pytest.mark.parametrize("event", ["data", "eof"])
@pytest.mark.parametrize("method", METHODS)
async def test_every_call_is_allowed_inside_a_callback(kind: str, event: str, method: str) -> None:
    async with wired(kind) as w:
        w.recorder.on[event] = lambda: _apply(w, method)
        await w.peer.send_all(b"data")
        await w.peer.aclose()
        if method in {"close", "abort"}:
            await w.recorder.until_seen("lost")
        else:
            if method == "pause_reading" and event == "data":
                await w.recorder.until_seen("data")
                w.transport.resume_reading()
            await w.recorder.until(lambda: not {"eof", "lost"}.isdisjoint(w.recorder.events))


@pytest.mark.parametrize("kind", RESETTABLE)
@pytest.mark.parametrize("paused", [False, True])
async def test_a_reset(kind: str, paused: bool) -> None:
    async with wired(kind) as w:
        await w.peer.send_all(b"hello")
        await w.recorder.until_received(5)
        if paused:
            w.transport.pause_reading()
            await trio.testing.wait_all_tasks_blocked()
        reset(w.peer)
        if paused and kind != "tcp":
            w.transport.write((b"x",))
        await w.recorder.until_seen("lost")
        [reason] = w.recorder.reasons
        assert isinstance(reason, ConnectionError if kind == "tcp" else trio.BrokenResourceError)
        # A kernel reports a reset once. If that goes to a write, a reader that is another task sees an end instead.
        assert kind == "stream" or "eof" not in w.recorder.events


@pytest.mark.parametrize("kind", RESETTABLE)
@pytest.mark.parametrize("paused", [False, True])
async def test_a_reset_does_not_destroy_what_came_before(kind: str, paused: bool) -> None:
    data = pattern(32000)
    async with wired(kind) as w:
        w.transport.write((bytes(MUCH),))
        await trio.testing.wait_all_tasks_blocked()
        if paused:
            w.transport.pause_reading()
            await trio.testing.wait_all_tasks_blocked()
        await w.peer.send_all(data)
        reset(w.peer)
        await w.recorder.until_seen("lost")
        # One read is one record of 16 KiB with TLS, and `trio.SSLStream` refuses to read on after a failed write.
        whole = kind == "tcp" or (kind == "stream" and not paused)
        assert w.recorder.received == data if whole else data.startswith(w.recorder.received)
        assert len(w.recorder.received) >= 16000
        assert isinstance(w.recorder.reasons[0], OSError if kind == "tcp" else trio.BrokenResourceError)


@every_kind
@pytest.mark.parametrize("event", ["data", "eof", "drained", "lost"])
async def test_a_receiver_that_raises_ends_its_own_connection_alone(
    kind: str, event: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError(f"failed in {event}")

    async with wired(kind) as other, wired(kind) as w:
        w.recorder.on[event] = fail
        await w.peer.send_all(b"data")
        await w.recorder.until(lambda: bool(w.recorder.events))
        if event == "drained":
            w.transport.write((b"-",))
            for _ in range(5):
                w.transport.write((bytes(15000),))
            with suppress(trio.BrokenResourceError):  # TLS is cut short by the abort
                await receive_exactly(w.peer, 75001)
        elif event == "lost":
            w.transport.close()
        elif event == "eof":
            await w.peer.aclose()
        await w.recorder.until_seen("lost")
        [reason] = w.recorder.reasons
        assert str(reason) == str(None if event == "lost" else f"failed in {event}")
        [record] = caplog.records
        assert (record.name, record.levelno) == ("trio_ws", logging.ERROR)
        assert record.exc_info is not None
        assert str(record.exc_info[1]) == f"failed in {event}"

        await other.peer.send_all(b"well")
        await other.recorder.until_received(4)
        other.transport.write((b"and good",))
        assert await receive_exactly(other.peer, 8) == b"and good"


@every_kind
async def test_a_log_handler_that_raises_changes_nothing(kind: str) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("the disk is full")

    def fail() -> None:
        raise RuntimeError("a bug")

    handler = Broken()
    logging.getLogger("trio_ws").addHandler(handler)
    try:
        async with wired(kind) as w:
            w.recorder.on["data"] = fail
            await w.peer.send_all(b"data")
            await w.recorder.until_seen("lost")
            assert [str(reason) for reason in w.recorder.reasons] == ["a bug"]
    finally:
        logging.getLogger("trio_ws").removeHandler(handler)


@every_kind
async def test_before_the_start_the_stream_is_the_callers(kind: str) -> None:
    ours, peer = await open_pair(kind)
    transport = wrap(kind, ours)
    for method in ("end", "close", "abort", "pause_reading", "resume_reading"):
        getattr(transport, method)()
    transport.write((b"nobody takes this",))
    assert transport.buffered == transport.accepted == 0
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.send_all, b"mine")
            assert await receive_exactly(peer, 4) == b"mine"
    await trio.aclose_forcefully(ours)
    await trio.aclose_forcefully(peer)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_starting_on_a_closed_stream(kind: str) -> None:
    ours, peer = await open_pair(kind)
    await ours.aclose()
    async with peer, trio.open_nursery() as nursery:
        with pytest.raises(trio.ClosedResourceError):
            wrap(kind, ours).start(Recorder(), nursery)


async def test_starting_in_a_nursery_that_is_over() -> None:
    ours, peer = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        make_transport(ours).start(Recorder(), nursery)
    await ours.send_all(b"still mine")
    assert await peer.receive_some() == b"still mine"


@pytest.mark.parametrize("kind", ["tcp", *TLS])
async def test_small_writes_do_not_wait_for_more(kind: str) -> None:
    ours, peer = await open_pair(kind)
    assert socket_of(ours).getsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY)
    await trio.aclose_forcefully(ours)
    await trio.aclose_forcefully(peer)
