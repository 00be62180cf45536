"""What only StreamTransport does: two tasks over a stream that may fail, block, or be cut off at any point."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing

from tests.io.transport_kit import (
    PATIENCE,
    STREAMS,
    TLS,
    Recorder,
    open_pair,
    pattern,
    receive_exactly,
    socket_of,
    wired,
    wrap,
)
from trio_ws.transport import Transport, make_transport
from trio_ws.transport._stream import StreamTransport

every_stream = pytest.mark.parametrize("kind", STREAMS)


class Scripted(trio.abc.HalfCloseableStream):
    """A stream in memory, of which one method after the other can be replaced."""

    def __init__(self) -> None:
        self.inner, self.peer = trio.testing.memory_stream_pair()
        self.instead: dict[str, Callable[[], object]] = {}
        self.closed = 0

    async def _do(self, name: str) -> None:
        if name in self.instead:
            await trio.lowlevel.checkpoint()
            self.instead[name]()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        await self._do("receive_some")
        return await self.inner.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._do("send_all")
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def send_eof(self) -> None:
        await self._do("send_eof")
        await self.inner.send_eof()

    async def aclose(self) -> None:
        self.closed += 1
        try:
            await self.inner.aclose()
        finally:  # also when it is cancelled, as `trio.aclose_forcefully` does
            if "aclose" in self.instead:
                self.instead["aclose"]()


class BreakageError(Exception):
    """What no stream is supposed to raise."""


def breaks() -> None:
    raise BreakageError


@asynccontextmanager
async def started(stream: trio.abc.Stream) -> AsyncGenerator[tuple[Transport, Recorder]]:
    transport, recorder = make_transport(stream), Recorder()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            transport.start(recorder, nursery)
            try:
                yield transport, recorder
            finally:  # no cancellation ends a transport, so a failing test would hang
                transport.abort()
    assert recorder.events.count("lost") == 1
    assert recorder.events[-1] == "lost"


@pytest.mark.parametrize("method", ["receive_some", "send_all", "send_eof", "aclose"])
async def test_whatever_a_stream_raises_is_the_reason_of_the_loss(method: str) -> None:
    stream = Scripted()
    stream.instead[method] = breaks
    async with started(stream) as (transport, recorder):
        transport.write((b"x",))
        transport.end()
        if method == "aclose":
            transport.close()
        await recorder.until_seen("lost")
    assert [type(reason) for reason in recorder.reasons] == [BreakageError]
    assert stream.closed
    assert transport.buffered == 0


async def test_a_stream_that_fails_while_it_is_aborted() -> None:
    stream = Scripted()
    stream.instead["aclose"] = breaks
    async with started(stream) as (transport, recorder):
        transport.abort()
        await recorder.until_seen("lost")
    assert recorder.reasons == [None]
    assert stream.closed == 1


@pytest.mark.parametrize("paused", [False, True])
async def test_a_failed_write_lets_the_reader_hand_over_what_came_before(paused: bool) -> None:
    stream = Scripted()
    stream.instead["send_all"] = breaks
    async with started(stream) as (transport, recorder):
        if paused:
            await trio.testing.wait_all_tasks_blocked()
            transport.pause_reading()
            await stream.peer.send_all(b"one read was under way, ")
            await trio.testing.wait_all_tasks_blocked()
            await stream.peer.send_all(b"last words")
            await trio.testing.wait_all_tasks_blocked()
            assert recorder.received == b"one read was under way, "
            transport.write((b"fails",))
        else:
            transport.write((b"fails",))
            await stream.peer.send_all(b"last words")
        await recorder.until_seen("lost")
    assert recorder.received.endswith(b"last words")
    assert recorder.events[-2:] == ["data", "lost"]
    assert isinstance(recorder.reasons[0], BreakageError)


async def test_a_failed_write_waits_for_no_reader() -> None:
    class Deaf(Scripted):
        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            return await trio.sleep_forever()

    stream = Deaf()
    stream.instead["send_all"] = breaks
    async with started(stream) as (transport, recorder):
        transport.write((b"fails",))
        await recorder.until_seen("lost")
    assert recorder.events == ["lost"]


async def test_a_failed_write_after_close_reads_nothing_more() -> None:
    stream = Scripted()
    stream.instead["send_all"] = breaks
    async with started(stream) as (transport, recorder):
        transport.write((b"fails",))
        transport.close()
        await stream.peer.send_all(b"not heard")
        await recorder.until_seen("lost")
    assert recorder.events == ["lost"]
    assert isinstance(recorder.reasons[0], BreakageError)


@pytest.mark.parametrize("method", ["close", "abort"])
async def test_what_a_read_still_brings_after_the_end_is_not_heard(method: str) -> None:
    class Late(Scripted):
        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            data: bytes | bytearray = b""
            with trio.CancelScope(shield=True):
                data = await super().receive_some(max_bytes)
            return data  # noqa: RET504 - both type checkers want it outside: a cancel scope may swallow a return

    stream = Late()
    async with started(stream) as (transport, recorder):
        await trio.testing.wait_all_tasks_blocked()
        stream.inner.receive_stream.put_data(b"too late")
        getattr(transport, method)()
        await recorder.until_seen("lost")
    assert recorder.events == ["lost"]


async def test_what_a_stream_makes_of_its_cancellation_is_no_reason() -> None:
    class Indirect(Scripted):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            try:
                await trio.sleep_forever()
            except trio.Cancelled as exc:
                raise BreakageError from exc

    async with started(Indirect()) as (transport, recorder):
        transport.write((b"x",))
        await trio.testing.wait_all_tasks_blocked()
        transport.abort()
        await recorder.until_seen("lost")
    assert recorder.reasons == [None]


async def test_abort_ends_a_stream_that_blocks_while_closing() -> None:
    class Blocking(Scripted):
        async def aclose(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                await super().aclose()

    stream = Blocking()
    async with started(stream) as (transport, recorder):
        transport.close()
        await trio.testing.wait_all_tasks_blocked()
        assert recorder.events == []
        transport.abort()
        await recorder.until_seen("lost")
    assert recorder.reasons == [None]
    assert stream.closed


@every_stream
async def test_abort_at_every_checkpoint(kind: str) -> None:
    """However far it had come: one end is reported, the stream is closed, and what left is a beginning of what should."""
    data = pattern(100000)
    for passes in range(30):
        ours, peer = await open_pair(kind)
        recorder = Recorder()
        received = bytearray()
        ended: list[str] = []

        async def read(peer: trio.abc.Stream, received: bytearray, ended: list[str]) -> None:
            try:
                while chunk := await peer.receive_some(10000):
                    received += chunk
                ended.append("end")
            except trio.BrokenResourceError:
                ended.append("broken")

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                transport = wrap(kind, ours)
                transport.start(recorder, nursery)
                nursery.start_soon(read, peer, received, ended)
                transport.write((data[:50000],))
                transport.write((data[50000:],))
                for _ in range(passes):
                    await trio.lowlevel.checkpoint()
                transport.abort()
        assert [event for event in recorder.events if event != "drained"] == ["lost"]
        assert recorder.reasons == [None]
        assert data.startswith(received)
        assert len(ended) == 1
        await trio.aclose_forcefully(peer)
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()


@every_stream
async def test_a_cancelled_nursery_leaves_the_end_to_the_owner(kind: str) -> None:
    ours, peer = await open_pair(kind)
    recorder = Recorder()
    got: list[bytes] = []
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
            transport = wrap(kind, ours)
            transport.start(recorder, nursery)
            nursery.cancel_scope.cancel()

            async def last_word() -> None:
                await trio.testing.wait_all_tasks_blocked()
                assert recorder.events == []
                await peer.send_all(b"still heard")
                await recorder.until_received(11)
                transport.write((b"we are going",))
                transport.close()
                got.append(await receive_exactly(peer, 12))

            outer.start_soon(last_word)
    assert got == [b"we are going"]
    assert recorder.reasons == [None]
    await trio.aclose_forcefully(peer)


async def test_progress_shows_within_one_large_chunk() -> None:
    async with wired("lockstep") as w:
        w.transport.write((bytes(2**20),))
        seen: set[int] = set()
        for _ in range(64):
            await receive_exactly(w.peer, 2**14)
            await trio.testing.wait_all_tasks_blocked()
            seen.add(w.transport.accepted)
        assert seen == {65536 * batch for batch in range(17)}


async def test_small_chunks_are_joined() -> None:
    sizes: list[int] = []

    class Counting(Scripted):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            sizes.append(len(data))
            await super().send_all(data)

    stream = Counting()
    async with started(stream) as (transport, _):
        for _ in range(300):
            transport.write((b"head", bytes(996)))
        await trio.testing.wait_all_tasks_blocked()
        transport.abort()
    assert sizes == [65536, 65536, 65536, 65536, 300000 - 4 * 65536]


class Batches(Scripted):
    """Gives one read after the other, and says when there is none left."""

    def __init__(self, *batches: list[bytes]) -> None:
        super().__init__()
        self.batches = list(batches)
        self.on_idle: Callable[[], None] | None = None
        self.go_on = trio.Semaphore(0)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        await self._do("receive_some")
        await trio.lowlevel.checkpoint()
        if not self.batches[0]:
            assert self.on_idle is not None
            self.on_idle()
            await self.go_on.acquire()
            del self.batches[0]
        assert max_bytes is not None
        data = self.batches[0].pop(0)
        if len(data) > max_bytes:
            self.batches[0].insert(0, data[max_bytes:])
        return data[:max_bytes]


@asynccontextmanager
async def gathering(stream: Batches, read_size: int = 65536) -> AsyncGenerator[tuple[Transport, Recorder]]:
    transport, recorder = StreamTransport(stream, read_size, stream), Recorder()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            transport.start(recorder, nursery)
            try:
                yield transport, recorder
            finally:
                transport.abort()
    assert recorder.events.count("lost") == 1
    assert recorder.events[-1] == "lost"
    assert stream.on_idle is None  # else the two would keep each other


async def test_what_has_arrived_together_is_handed_over_together() -> None:
    stream = Batches([b"one ", b"two ", b"three "], [b"four "], [b"five ", b"six"])
    async with gathering(stream) as (_, recorder):
        await recorder.until_seen("data")
        assert recorder.received == b"one two three "
        stream.go_on.release()
        await recorder.until_received(19)
        stream.go_on.release()
        await recorder.until_received(27)
    assert recorder.received == b"one two three four five six"
    assert recorder.sizes == [14, 5, 8]


async def test_reads_are_gathered_up_to_the_size_of_one() -> None:
    stream = Batches([b"a" * 4, b"b" * 4, b"c" * 4, b"d" * 25])
    async with gathering(stream, 10) as (_, recorder):
        await recorder.until_received(37)
    assert recorder.received == b"aaaabbbbcccc" + b"d" * 25
    assert recorder.sizes == [10, 10, 10, 7]


@pytest.mark.parametrize("failure", [None, breaks])
async def test_the_end_comes_behind_what_was_gathered(failure: Callable[[], object] | None) -> None:
    stream = Batches([b"last ", b"words", b""])

    def fail_in_the_end() -> None:
        if failure is not None and len(stream.batches[0]) == 1:
            failure()

    stream.instead["receive_some"] = fail_in_the_end
    async with gathering(stream) as (_, recorder):
        await recorder.until_seen("lost" if failure else "eof")
    assert recorder.received == b"last words"
    assert recorder.events == (["data", "lost"] if failure else ["data", "eof", "lost"])


async def test_a_failed_write_hands_over_what_was_gathered_by_then() -> None:
    stream = Batches([b"x"] * 1000)
    stream.instead["send_all"] = breaks
    async with gathering(stream) as (transport, recorder):
        transport.write((b"fails",))
        await recorder.until_seen("lost")
    assert recorder.events == ["data", "lost"]
    assert 0 < len(recorder.received) < 1000
    assert isinstance(recorder.reasons[0], BreakageError)


async def test_closing_drops_what_was_gathered() -> None:
    stream = Batches([b"x"] * 1000)
    async with gathering(stream) as (transport, recorder):
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        transport.close()
        await recorder.until_seen("lost")
    assert recorder.events == ["lost"]


async def test_nothing_is_handed_over_after_closing_by_a_stream_that_fails_when_it_is_cancelled() -> None:
    class Rude(Batches):
        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            try:
                return await super().receive_some(max_bytes)
            except trio.Cancelled:
                raise BreakageError from None

    async with gathering(Rude([b"x"] * 1000)) as (transport, recorder):
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        transport.close()
        await recorder.until_seen("lost")
    assert recorder.events == ["lost"]


async def test_reading_is_resumed_after_the_paused_reader_has_gone() -> None:
    ours, peer = await open_pair("lockstep")
    async with started(ours) as (transport, recorder):
        transport.pause_reading()
        await trio.testing.wait_all_tasks_blocked()
        transport.write((b"still to be written",))
        transport.close()
        await trio.testing.wait_all_tasks_blocked()
        transport.resume_reading()
        assert await receive_exactly(peer, 19) == b"still to be written"
        await recorder.until_seen("lost")
    assert recorder.reasons == [None]
    await trio.aclose_forcefully(peer)


@pytest.mark.parametrize(("kind", "sizes"), [("polled", [40000]), ("tls", [16384, 16384, 7232])])
async def test_records_that_arrived_together(kind: str, sizes: list[int]) -> None:
    ours, peer = await open_pair(kind)
    data = pattern(40000)
    await peer.send_all(data)
    async with started(ours) as (_, recorder):
        await recorder.until_received(len(data))
    assert recorder.received == data
    assert recorder.sizes == sizes
    await trio.aclose_forcefully(peer)


@pytest.mark.parametrize("kind", TLS)
async def test_tls_cut_off_is_no_clean_end(kind: str) -> None:
    ours, peer = await open_pair(kind)
    async with started(ours) as (_, recorder):
        await peer.send_all(b"half a conversation")
        socket_of(peer).shutdown(trio.socket.SHUT_WR)
        await recorder.until_seen("lost")
    assert recorder.received == b"half a conversation"
    assert recorder.events == ["data", "lost"]
    assert isinstance(recorder.reasons[0], trio.BrokenResourceError)
    await trio.aclose_forcefully(peer)


@pytest.mark.parametrize("kind", TLS)
async def test_tls_closed_in_order_by_both(kind: str) -> None:
    ours, peer = await open_pair(kind)
    async with started(ours) as (transport, recorder):
        transport.write((b"bye",))
        transport.close()
        assert await receive_exactly(peer, 3) == b"bye"
        assert await peer.receive_some() == b""
        await recorder.until_seen("lost")
    with suppress(trio.BrokenResourceError):
        await peer.aclose()
    assert recorder.reasons == [None]
