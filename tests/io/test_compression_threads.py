"""Large messages are compressed in threads: in order, within their number, and whatever is cancelled meanwhile.

The clock is the real one, for a test's clock does not wait for threads; nothing here waits for it.
"""

import random
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.io.link_kit import settle
from trio_ws import ConnectionClosed, PerMessageDeflate, WebSocketConnection
from trio_ws._contexts import THREAD_SIZE
from trio_ws.protocol import Deflater
from trio_ws.testing import ConnectionPair, open_connection_pair

FORGETFUL = PerMessageDeflate(server_no_context_takeover=True, client_no_context_takeover=True)
every_takeover = pytest.mark.parametrize(
    "options", [PerMessageDeflate(), FORGETFUL], ids=["takeover", "none"]
)

NOISE = random.Random(3).randbytes(THREAD_SIZE)
LARGE = NOISE[:1000] + bytes(THREAD_SIZE)


@asynccontextmanager
async def pair(options: PerMessageDeflate) -> AsyncGenerator[ConnectionPair]:
    with trio.fail_after(30):
        async with open_connection_pair(compression=options, max_message_size=2**24) as ends:
            yield ends


class Gate:
    """Where threads wait that have compressed something, until it is opened."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._entered = trio.open_memory_channel[None](100)
        self._token = trio.lowlevel.current_trio_token()
        self.inside = self.most = 0

    def guard(self, compress: Callable[[Deflater, bytes], bytes]) -> Callable[[Deflater, bytes], bytes]:
        """Return what compresses, and waits if it does so in a thread."""

        def guarded(deflater: Deflater, data: bytes) -> bytes:
            result = compress(deflater, data)
            if threading.current_thread() is not threading.main_thread():
                with self._lock:
                    self.inside += 1
                    self.most = max(self.most, self.inside)
                self._token.run_sync_soon(self._entered[0].send_nowait, None)
                self._open.wait(20)
                with self._lock:
                    self.inside -= 1
            return result

        return guarded

    async def wait_entered(self) -> None:
        """Wait until a thread has come."""
        await self._entered[1].receive()

    def open(self) -> None:
        """Let all go on, and nobody wait any more."""
        self._open.set()


@pytest.fixture
async def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Make every large message wait when it is compressed."""
    made = Gate()
    monkeypatch.setattr(Deflater, "compress", made.guard(Deflater.compress))
    return made


@pytest.fixture(autouse=True)
def threads_end() -> Iterator[None]:
    """See to it that no thread compresses once a test is over."""
    yield
    assert not [t for t in threading.enumerate() if "compress" in t.name]


async def exchange(ends: ConnectionPair) -> None:
    """Use both directions, of which neither may be disturbed."""
    for near, far in (ends, ends[::-1]):
        for message in ("a message " * 200, LARGE, NOISE[:3000]):
            await near.send_message(message)
            assert await far.get_message() == message


@every_takeover
async def test_large_messages_of_all_kinds(options: PerMessageDeflate) -> None:
    async with pair(options) as ends:
        for message in ("x" * THREAD_SIZE, "\N{EURO SIGN}" * 2**20, LARGE, NOISE * 20, bytes(2**24)):
            for near, far in (ends, ends[::-1]):
                for compress in (None, True, False):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(lambda: near.send_message(message, compress=compress))  # noqa: B023 - it ends here
                        assert await far.get_message() == message
        buffer = bytearray(LARGE)
        await ends.client.send_message(memoryview(buffer).cast("H"))
        buffer[:] = bytes(len(buffer))
        assert await ends.server.get_message() == LARGE
        await exchange(ends)


@every_takeover
async def test_up_to_64_kib_no_thread_is_used(options: PerMessageDeflate, gate: Gate) -> None:
    gate.open()
    async with pair(options) as ends:
        await ends.client.send_message(NOISE)
        assert await ends.server.get_message() == NOISE
        assert gate.most == 0
        await ends.client.send_message(NOISE + b"!")
        assert await ends.server.get_message() == NOISE + b"!"
        assert gate.most == 1


@every_takeover
async def test_messages_keep_their_order(options: PerMessageDeflate, gate: Gate) -> None:
    async with pair(options) as ends, trio.open_nursery() as nursery:
        client, server = ends
        sent: list[str | bytes] = [LARGE, "small", "middling " * 300, LARGE[::-1], "last"]
        for message in sent:
            nursery.start_soon(client.send_message, message)
            await settle()
        await gate.wait_entered()
        assert await client.ping() >= 0  # control frames pass
        assert gate.inside == 1
        gate.open()
        assert [await server.get_message() for _ in sent] == sent
        await exchange(ends)


@every_takeover
async def test_a_message_that_was_being_compressed_goes_out_though_it_is_cancelled(
    options: PerMessageDeflate, gate: Gate
) -> None:
    async with pair(options) as ends:
        scope = trio.CancelScope()
        done: list[WebSocketConnection] = []

        async def send() -> None:
            with scope:
                await ends.client.send_message(LARGE)
                done.append(ends.client)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await gate.wait_entered()
            scope.cancel()
            await settle()
            gate.open()
            assert await ends.server.get_message() == LARGE
        assert done
        assert not scope.cancelled_caught
        await exchange(ends)


@every_takeover
async def test_a_message_that_waits_for_a_thread_is_not_sent_if_cancelled(
    options: PerMessageDeflate, gate: Gate
) -> None:
    bounded = PerMessageDeflate(
        concurrency_limit=1,
        server_no_context_takeover=options.server_no_context_takeover,
        client_no_context_takeover=options.client_no_context_takeover,
    )
    async with pair(bounded) as busy, pair(bounded) as ends, trio.open_nursery() as nursery:
        nursery.start_soon(busy.client.send_message, LARGE)
        await gate.wait_entered()
        with trio.CancelScope() as scope:
            nursery.start_soon(settled, scope.cancel)
            await ends.client.send_message(NOISE + b"never sent")
        assert scope.cancelled_caught
        nursery.start_soon(ends.client.send_message, "what was sent instead " * 100)
        assert await ends.server.get_message() == "what was sent instead " * 100
        gate.open()
        assert await busy.server.get_message() == LARGE
        await exchange(ends)
        await exchange(busy)


async def settled(call: Callable[[], None]) -> None:
    await settle()
    call()


async def test_no_more_threads_than_allowed(gate: Gate) -> None:
    options = PerMessageDeflate(concurrency_limit=2)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:

            async def converse() -> None:
                async with pair(options) as ends, trio.open_nursery() as both:
                    both.start_soon(ends.client.send_message, LARGE)
                    both.start_soon(ends.server.send_message, LARGE)
                    assert await ends.server.get_message() == LARGE
                    assert await ends.client.get_message() == LARGE

            for _ in range(4):
                nursery.start_soon(converse)
            await gate.wait_entered()
            await gate.wait_entered()
            await settle()
            assert gate.inside == 2
            gate.open()
    assert gate.most == 2


@every_takeover
async def test_a_connection_that_ends_meanwhile_is_told_of(options: PerMessageDeflate, gate: Gate) -> None:
    async with pair(options) as ends, trio.open_nursery() as nursery:

        async def send() -> None:
            with pytest.raises(ConnectionClosed):
                await ends.client.send_message(LARGE)

        nursery.start_soon(send)
        await gate.wait_entered()
        nursery.start_soon(ends.client.aclose)
        with pytest.raises(ConnectionClosed):
            await ends.server.get_message()
        gate.open()


@pytest.mark.parametrize("options", [PerMessageDeflate(threshold=2**20), None], ids=["threshold", "off"])
async def test_no_threads_where_nothing_is_compressed(options: PerMessageDeflate | None, gate: Gate) -> None:
    with trio.fail_after(30):
        async with open_connection_pair(compression=options) as ends:
            await ends.client.send_message(LARGE)
            assert await ends.server.get_message() == LARGE
    assert gate.most == 0


@every_takeover
@pytest.mark.parametrize(
    "piece", [bytes(20 * THREAD_SIZE + 1), "\N{EURO SIGN}" * (20 * THREAD_SIZE + 1)], ids=type
)
async def test_a_large_piece_of_a_message_holds_up_nobody(
    options: PerMessageDeflate, piece: str | bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    compressed: list[tuple[int, int]] = []
    compress_fragment = Deflater.compress_fragment

    def recorded(deflater: Deflater, data: bytes, first: bool, final: bool) -> bytes:
        compressed.append((steps, len(data)))
        return compress_fragment(deflater, data, first, final)

    monkeypatch.setattr(Deflater, "compress_fragment", recorded)
    async with pair(options) as ends, trio.open_nursery() as nursery:
        nursery.start_soon(ends.client.send_stream, [piece, piece[:1]])
        message: list[str | bytes] = []

        async def receive() -> None:
            message.append(await ends.server.get_message())

        nursery.start_soon(receive)
        while not message:
            steps += 1
            await trio.lowlevel.checkpoint()
        assert message == [piece + piece[:1]]  # type: ignore[operator]  # both are of one kind
    large = [(step, size) for step, size in compressed if size > 3]
    assert len(large) == 20
    # one in each pass of the scheduler, in which it may come before or behind the counting task
    assert max(Counter(step for step, _ in large).values()) <= 2
    assert {size for _, size in large} == {
        len(piece[:THREAD_SIZE].encode() if isinstance(piece, str) else piece[:THREAD_SIZE])
    }
