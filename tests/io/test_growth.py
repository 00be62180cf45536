"""Nothing grows faster than what comes: calls, system calls, scheduler passes and bytes are counted, never time."""

import gc
import socket
import sys
import tracemalloc
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import FrameType

import pytest
import trio

from tests.io.link_kit import (
    BINARY,
    TEXT,
    against,
    both_ends,
    bounded_kind,
    drain,
    every_role,
    settle,
)
from trio_ws import WebSocketRequest, open_websocket, serve_websocket
from trio_ws.protocol import Role
from trio_ws.testing import ConnectionPair, RawPeer

#: How many times its size a message may take, the message that the application has included.
SHARE = 2.2

READ = 65536


@dataclass(eq=False)
class Work(trio.abc.Instrument):
    """What was done: calls by name, of Python or C, and the steps of tasks."""

    calls: Counter[str] = field(default_factory=Counter[str])
    steps: int = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1

    def note(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            self.calls[frame.f_code.co_name] += 1
        elif event == "c_call":
            self.calls[getattr(argument, "__name__", "")] += 1


@contextmanager
def watched() -> Generator[Work]:
    """Count what is done in this block, by all tasks."""
    work = Work()
    before = sys.getprofile()
    trio.lowlevel.add_instrument(work)
    sys.setprofile(work.note)
    try:
        yield work
    finally:
        sys.setprofile(before)
        trio.lowlevel.remove_instrument(work)


async def check_growth(do: Callable[[int], Awaitable[Work]], some: int) -> None:
    """Assert that ten times as many cost ten times as much; what is done once before is not counted.

    Were the cost of each to grow with their number, it would be a hundred times. How often a task is made to let others
    run depends on the machine too.
    """
    await do(some)
    check_costs(await do(some), await do(10 * some), calls=15, steps=25)


def check_costs(few: Work, many: Work, *, calls: float, steps: float) -> None:
    """Assert that the second work costs at most so many times the calls, and the steps, of the first."""
    found = many.calls.total() / few.calls.total(), many.steps / few.steps
    assert found[0] <= calls, f"above all {(many.calls - few.calls).most_common(3)}"
    assert found[1] <= steps


# Many messages on one connection


@pytest.mark.parametrize("number", [10_000, 100_000])
async def test_messages_that_come_together_are_read_together(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def recv(sock: socket.socket, size: int) -> bytes:
        data = super(socket.socket, sock).recv(size)
        sizes.append(len(data))
        return data

    async with against("tcp") as (connection, peer), trio.open_nursery() as nursery:
        data = peer.encode_frame(BINARY, b"xy") * number
        nursery.start_soon(peer.send, data)
        monkeypatch.setattr(socket.socket, "recv", recv)
        with watched() as work:
            for _ in range(number):
                await connection.get_message()
    # at times the kernel has less than a whole read, but much more than a message
    reads = 16 + 8 * len(data) // READ
    assert sum(sizes) == len(data)
    assert len(sizes) <= reads
    # who always finds a message lets others run after 64, and after a millisecond
    assert work.steps <= 100 + number / 4


@pytest.mark.parametrize("number", [1_000, 10_000])
@every_role
async def test_messages_that_are_sent_together_leave_together(
    role: Role, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def send(sock: socket.socket, data: bytes) -> int:
        sizes.append(super(socket.socket, sock).send(data))
        return sizes[-1]

    async with against("tcp", role) as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(drain, peer.stream)
        monkeypatch.setattr(socket.socket, "send", send)
        with watched() as work:
            for _ in range(number):
                await connection.send_message(b"xy")
            await settle()
        assert connection.buffered_amount == 0
        connection.terminate()
    assert sum(sizes) == number * (4 if role is Role.SERVER else 8)  # all of them, headers and masks included
    assert len(sizes) <= 10 + number / 8
    assert work.steps <= 100 + number / 4


@bounded_kind
async def test_each_piece_of_a_message_costs_the_same(kind: str) -> None:
    async def receive(number: int) -> Work:
        async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
            frame = peer.encode_frame(BINARY, bytes(number))
            nursery.start_soon(connection.get_message)
            with watched() as work:
                for at in range(len(frame)):
                    await peer.send(frame[at : at + 1])
                    await settle()
        return work

    await check_growth(receive, 100)


@bounded_kind
@every_role
async def test_each_piece_that_is_handed_on_costs_the_same(kind: str, role: Role) -> None:
    async def send(number: int) -> Work:
        async with both_ends(kind) as pair, trio.open_nursery() as nursery:
            near, far = (pair.client, pair.server) if role is Role.CLIENT else (pair.server, pair.client)
            with watched() as work:
                nursery.start_soon(near.send_stream, [b"x"] * number)
                async with far.receive_stream() as pieces:
                    assert sum([len(piece) async for piece in pieces]) == number
        return work

    await check_growth(send, 200)


# Many who wait


async def run_all(tasks: list[Callable[[], Awaitable[object]]]) -> Work:
    with watched() as work:
        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(task)
    return work


@bounded_kind
async def test_each_who_waits_to_send_costs_the_same(kind: str) -> None:
    async def send(number: int) -> Work:
        async with against(kind) as (connection, peer):
            size = len(peers_frame(Role.CLIENT, BINARY, READ))
            sending = partial(connection.send_message, bytes(READ))
            return await run_all([*[sending] * number, partial(peer.receive_exactly, number * size)])

    await check_growth(send, 20)


@bounded_kind
async def test_each_who_waits_for_a_message_costs_the_same(kind: str) -> None:
    async def receive(number: int) -> Work:
        async with against(kind) as (connection, peer):
            frames = peer.encode_frame(BINARY, b"xy") * number
            return await run_all([*[connection.get_message] * number, partial(peer.send, frames)])

    await check_growth(receive, 100)


@bounded_kind
async def test_each_who_waits_for_a_pong_costs_the_same(kind: str) -> None:
    async def ping(number: int) -> Work:
        async with both_ends(kind) as (client, _):
            return await run_all([client.ping] * number)

    await check_growth(ping, 100)


# Many connections


@asynccontextmanager
async def pairs(number: int) -> AsyncGenerator[list[ConnectionPair]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(both_ends("tcp")) for _ in range(number)]


async def test_a_message_costs_the_same_however_many_connections_are_open() -> None:
    async def talk(number: int) -> Work:
        async with pairs(number) as (pair, *_):
            with watched() as work:
                for _ in range(100):
                    await pair.client.send_message("x")
                    await pair.server.send_message(await pair.server.get_message())
                    await pair.client.get_message()
        return work

    check_costs(await talk(10), await talk(100), calls=1.05, steps=1.2)


async def test_each_connection_costs_the_same_while_all_talk() -> None:
    async def talk(number: int) -> Work:
        async with pairs(number) as ends:

            async def echo(pair: ConnectionPair) -> None:
                for _ in range(5):
                    await pair.client.send_message("x")
                    await pair.server.send_message(await pair.server.get_message())
                    await pair.client.get_message()

            return await run_all([partial(echo, pair) for pair in ends])

    await check_growth(talk, 10)


@pytest.mark.parametrize("number", [10, 100])
async def test_messages_set_no_alarms(number: int) -> None:
    async with both_ends("tcp") as pair:
        with watched() as work:
            for _ in range(number):
                await pair.client.send_message("x")
                await pair.server.send_message(await pair.server.get_message())
                await pair.client.get_message()
                await pair.client.ping()
    # the first alarm of all may have been set before this block, and be entered by its task inside
    assert work.calls["heappush"] <= 2


async def test_a_connection_that_comes_and_goes_costs_the_same_however_many_are_open() -> None:
    check_costs(await come_and_go(10), await come_and_go(100), calls=1.05, steps=1.2)


async def come_and_go(number: int) -> Work:
    """Open and close a few connections while so many are open."""

    async def handler(request: WebSocketRequest) -> None:
        async for message in await request.accept():
            raise AssertionError(message)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, handler, "127.0.0.1", 0, None)
        opened = partial(open_websocket, "127.0.0.1", server.port, "/", use_ssl=False)
        async with AsyncExitStack() as stack:
            for _ in range(number):
                await stack.enter_async_context(opened())
            await settle()
            with watched() as work:
                for _ in range(20):
                    async with opened():
                        pass
                    await settle()
        nursery.cancel_scope.cancel()
    return work


# Memory of one large message


@contextmanager
def tracing() -> Generator[Callable[[], int]]:
    """Follow the memory that Python takes in this block; yields what returns its peak."""
    gc.collect()
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def peers_frame(role: Role, opcode: int, size: int) -> memoryview:
    """Return a frame as it comes from the peer of a connection in this role, with a mask of zeros from a client."""
    masked = role is Role.SERVER
    header = bytes((0x80 | opcode, 0x80 * masked | 127)) + size.to_bytes(8, "big") + bytes(4 * masked)
    return memoryview(header + b"x" * size)


every_opcode = pytest.mark.parametrize("opcode", [BINARY, TEXT], ids=["binary", "text"])
every_size = pytest.mark.parametrize("size", [2**22, 2**24], ids=["4 MiB", "16 MiB"])


@bounded_kind
@every_role
@every_opcode
@every_size
async def test_a_message_that_is_received_takes_little_more_than_twice_its_size(
    kind: str, role: Role, opcode: int, size: int
) -> None:
    frame = peers_frame(role, opcode, size)
    async with (
        against(kind, role, max_message_size=size) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        with tracing() as peak:
            nursery.start_soon(send_in_pieces, peer, frame)
            message = await connection.get_message()
            found = peak()
    assert len(message) == size
    assert found <= SHARE * size + 2**20, f"{found / size:.2f} times its size"


async def send_in_pieces(peer: RawPeer, data: memoryview) -> None:
    for at in range(0, len(data), READ):
        await peer.stream.send_all(data[at : at + READ])


@bounded_kind
@every_role
@every_opcode
@every_size
async def test_a_message_that_is_sent_takes_little_more_than_twice_its_size(
    kind: str, role: Role, opcode: int, size: int
) -> None:
    async with against(kind, role) as (connection, peer), trio.open_nursery() as nursery:
        with tracing() as peak:
            nursery.start_soon(drain, peer.stream)
            message = "x" * size if opcode == TEXT else b"x" * size
            await connection.send_message(message)
            while connection.buffered_amount:
                await trio.lowlevel.checkpoint()
            found = peak()
        connection.terminate()
    assert found <= SHARE * size + 2**20, f"{found / size:.2f} times its size"


@bounded_kind
@every_role
@every_opcode
@every_size
async def test_a_message_in_pieces_takes_the_same_memory_whatever_its_size(
    kind: str, role: Role, opcode: int, size: int
) -> None:
    frame = peers_frame(role, opcode, size)
    async with (
        against(kind, role, max_message_size=size) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        with tracing() as peak:
            nursery.start_soon(send_in_pieces, peer, frame)
            async with connection.receive_stream() as pieces:
                received = sum([len(piece) async for piece in pieces])
            assert received == size
            nursery.start_soon(drain, peer.stream)
            piece = "x" * READ if opcode == TEXT else bytes(READ)
            await connection.send_stream(piece for _ in range(size // READ))
            assert peak() <= 2**21
        connection.terminate()
