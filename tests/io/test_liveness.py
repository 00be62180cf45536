"""Whether the peer lives: who is silent is asked, who makes no progress is cut, and nobody pays for our own slowness."""

import math

import pytest
import trio

from tests.io.link_kit import (
    BINARY,
    PING,
    PONG,
    TEXT,
    against,
    both_ends,
    bounded_kind,
    drain,
    every_kind,
    every_role,
    settle,
)
from trio_ws import ConnectionLost, State, WebSocketConnection
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer

pytestmark = pytest.mark.usefixtures("autojump_clock")

HOUR = 3600.0


async def end_of(connection: WebSocketConnection) -> float:
    """Wait for the end and return how long that took."""
    begun = trio.current_time()
    await connection.wait_closed()
    return trio.current_time() - begun


async def answer_pings(peer: RawPeer, delay: float = 0.0) -> None:
    """Answer every ping after a while."""
    while True:
        frame = await peer.receive_frame()
        await trio.sleep(delay)
        if frame.opcode == PING:
            await peer.send_frame(PONG, frame.payload)


@every_kind
@every_role
async def test_a_silent_peer_is_pinged_and_then_cut(kind: str, role: Role) -> None:
    async with against(kind, role) as (connection, peer):
        begun = trio.current_time()
        frame = await peer.receive_frame()
        assert (frame.opcode, len(frame.payload)) == (PING, 4)
        assert trio.current_time() - begun == 20
        assert await end_of(connection) == 20
        assert connection.state is State.CLOSED
        with pytest.raises(ConnectionLost, match="made no progress in time") as caught:
            await connection.get_message()
        assert isinstance(caught.value.__cause__, TimeoutError)
        await peer.expect_end()


@every_kind
async def test_who_waits_is_told(kind: str) -> None:
    async with against(kind) as (connection, _), trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(ConnectionLost, match="no progress"):
                await connection.get_message()
            assert trio.current_time() == 40

        nursery.start_soon(wait)
        nursery.start_soon(wait)


@every_kind
@every_role
@pytest.mark.parametrize("delay", [0.0, 19.0])
async def test_a_peer_that_answers_lives_for_hours(kind: str, role: Role, delay: float) -> None:
    async with against(kind, role) as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(answer_pings, peer, delay)
        with trio.move_on_after(HOUR - 1):
            await connection.wait_closed()
        assert connection.state is State.OPEN
        assert connection.latency == pytest.approx(delay)
        nursery.cancel_scope.cancel()


@every_kind
async def test_two_idle_ends_keep_each_other_alive(kind: str) -> None:
    async with both_ends(kind) as (client, server):
        await trio.sleep(HOUR - 1)
        assert client.state is server.state is State.OPEN
        assert client.latency is not None or server.latency is not None


@every_kind
@every_role
async def test_a_large_message_on_a_slow_line_is_a_sign_of_life(kind: str, role: Role) -> None:
    """Its peer cannot answer a ping in the middle of it, and need not."""
    async with against(kind, role) as (connection, peer), trio.open_nursery() as nursery:

        async def read() -> None:
            assert await connection.get_message() == bytes(2**20)

        nursery.start_soon(read)
        frame = peer.encode_frame(BINARY, bytes(2**20))
        for at in range(0, len(frame), 4500):
            await peer.send(frame[at : at + 4500])
            await trio.sleep(15)
        assert trio.current_time() > HOUR - 200
        assert connection.state is State.OPEN
        with trio.move_on_after(0) as scope:
            await peer.receive_frame()
        assert scope.cancelled_caught  # none was asked for


@every_kind
@every_role
@pytest.mark.parametrize("by_piece", [False, True])
async def test_a_peer_that_drips_a_message_and_answers_nothing_is_cut(
    kind: str, role: Role, by_piece: bool
) -> None:
    """Also where somebody takes each byte as it comes; what came before the message prolongs nothing."""
    async with against(kind, role) as (connection, peer), trio.open_nursery() as nursery:
        taken = 0

        async def take() -> None:
            nonlocal taken
            with pytest.raises(ConnectionLost):
                async with connection.receive_stream() as stream:
                    async for piece in stream:
                        taken += len(piece)

        async def drip() -> None:
            await peer.send(frame[:-1000])
            while True:
                await trio.sleep(1)
                await peer.send(b"x")

        await peer.send_frame(TEXT, b"first of all")
        assert await connection.get_message() == "first of all"
        if by_piece:
            nursery.start_soon(take)
        frame = peer.encode_frame(BINARY, bytes(10_000))
        await trio.sleep(15)
        nursery.start_soon(drip)
        assert await end_of(connection) == 40
        assert (taken > 9000) == by_piece
        nursery.cancel_scope.cancel()


@every_kind
@pytest.mark.parametrize("size", [0, 1])
async def test_a_peer_that_drips_fragments_lives_as_long_as_it_answers(kind: str, size: int) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        answering = trio.CancelScope()

        async def answer() -> None:
            with answering:
                await answer_pings(peer)

        async def drip() -> None:
            await peer.send_frame(BINARY, bytes(size), fin=False)
            while True:
                await trio.sleep(1)
                await peer.send_frame(0, bytes(size), fin=False)

        nursery.start_soon(answer)
        nursery.start_soon(drip)
        await trio.sleep(1000)
        assert connection.state is State.OPEN
        answering.cancel()
        assert 20 <= await end_of(connection) <= 41
        nursery.cancel_scope.cancel()


@every_kind
async def test_time_in_which_we_do_not_read_is_no_dripping(kind: str) -> None:
    """A slow line gets the time back that our own application has taken."""
    async with against(kind, message_queue_bytes=1000) as (connection, peer), trio.open_nursery() as nursery:
        received: list[str | bytes] = []

        async def read() -> None:
            received.extend([await connection.get_message(), await connection.get_message()])

        frame = peer.encode_frame(BINARY, bytes(100_000))
        await peer.send_frame(TEXT, b"x")
        await settle()
        await peer.send(frame[:2000])
        await trio.sleep(1000)
        nursery.start_soon(read)
        for at in range(2000, len(frame), 6000):
            await peer.send(frame[at : at + 6000])
            await trio.sleep(15)
        assert received == ["x", bytes(100_000)]


@every_kind
async def test_a_peer_that_talks_is_not_pinged(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:

        async def read() -> None:
            async for _ in connection:
                pass

        nursery.start_soon(read)
        for _ in range(100):
            await trio.sleep(19.5)
            await peer.send_frame(TEXT, b"x")
        with trio.move_on_after(0) as scope:
            await peer.receive_frame()
        assert scope.cancelled_caught
        await connection.pong(b"first of all")
        await peer.expect(PONG, b"first of all")
        nursery.cancel_scope.cancel()


@bounded_kind
async def test_a_slow_application_costs_a_healthy_peer_nothing(kind: str) -> None:
    """Time in which this side does not read because its queue is full does not count against the peer."""
    async with against(kind, message_queue_size=2) as (connection, peer), trio.open_nursery() as nursery:

        async def send() -> None:
            for number in range(20_000):
                await peer.send_frame(BINARY, number.to_bytes(4, "big") * 500)

        async def read() -> None:
            await drain(peer.stream)  # whatever pings come are not answered: the peer is busy sending

        nursery.start_soon(send)
        nursery.start_soon(read)
        await trio.sleep(1000)
        assert connection.state is State.OPEN
        for number in range(8):
            assert await connection.get_message() == number.to_bytes(4, "big") * 500
            await trio.sleep(150)
        assert connection.state is State.OPEN
        nursery.cancel_scope.cancel()


@every_kind
async def test_a_peer_that_dies_while_we_do_not_read_is_found_when_we_read_again(kind: str) -> None:
    async with against(kind, message_queue_size=2) as (connection, peer):
        for _ in range(3):
            await peer.send_frame(TEXT, b"x")
            await settle()
        await trio.sleep(505)
        assert connection.state is State.OPEN
        for _ in range(3):
            await connection.get_message()
        # it has all its time from the moment on in which it could be heard again
        assert await end_of(connection) == 40


@bounded_kind
@every_role
async def test_a_peer_that_never_reads_is_cut(kind: str, role: Role) -> None:
    async with against(kind, role) as (connection, peer), trio.open_nursery() as nursery:

        async def talk() -> None:
            while True:
                await peer.send_frame(PONG, b"")
                await trio.sleep(1)

        async def send() -> None:
            with pytest.raises(ConnectionLost, match="no progress"):
                while True:
                    await connection.send_message(bytes(100_000))

        nursery.start_soon(send)
        await settle()
        nursery.start_soon(talk)
        assert await end_of(connection) == 40
        nursery.cancel_scope.cancel()


async def test_a_peer_that_reads_slowly_lives() -> None:
    """As long as what waits moves on, a ping behind it condemns nobody."""
    async with against("lockstep") as (connection, peer), trio.open_nursery() as nursery:

        async def send() -> None:
            while True:
                await connection.send_message(bytes(300_000))

        async def read() -> None:
            while True:
                frame = await peer.receive_frame()
                if frame.opcode == PING:
                    await peer.send_frame(PONG, frame.payload)
                else:
                    await trio.sleep(15)

        nursery.start_soon(send)
        nursery.start_soon(read)
        with trio.move_on_after(HOUR - 1):
            await connection.wait_closed()
        assert connection.state is State.OPEN
        nursery.cancel_scope.cancel()


@every_kind
async def test_without_an_interval_nobody_is_asked_or_cut(kind: str) -> None:
    async with against(kind, ping_interval=None) as (connection, peer):
        await trio.sleep(HOUR - 1)
        assert connection.state is State.OPEN
        assert connection.latency is None
        await connection.send_message("first of all")
        await peer.expect(TEXT, b"first of all")


@every_kind
async def test_without_a_timeout_pings_are_sent_and_nobody_is_cut(kind: str) -> None:
    async with (
        against(kind, ping_interval=60, ping_timeout=None) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        frame = await peer.receive_frame()
        assert (frame.opcode, trio.current_time()) == (PING, 60)
        await peer.send_frame(PONG, frame.payload)
        nursery.start_soon(answer_pings, peer, 1000)
        await trio.sleep(HOUR - 100)
        assert connection.state is State.OPEN
        nursery.cancel_scope.cancel()


@every_kind
@pytest.mark.parametrize(("interval", "patience"), [(1.0, 0.5), (0.2, 0.2), (100.0, 3.0)])
async def test_other_times(kind: str, interval: float, patience: float) -> None:
    async with against(kind, ping_interval=interval, ping_timeout=patience) as (connection, _):
        assert await end_of(connection) == interval + patience


@every_kind
async def test_the_latency_is_measured_by_liveness(kind: str) -> None:
    async with against(kind) as (connection, peer):
        assert connection.latency is None
        frame = await peer.receive_frame()
        await trio.sleep(0.125)
        await peer.send_frame(PONG, frame.payload)
        await settle()
        assert connection.latency == 0.125


@every_kind
async def test_the_rules_rest_during_the_closing_handshake(kind: str) -> None:
    async with against(kind, disconnect_timeout=100) as (connection, peer):
        await trio.sleep(15)
        begun = trio.current_time()
        await connection.aclose()
        assert trio.current_time() - begun == 100
        await peer.expect_close()
        await peer.expect_end()


@every_kind
async def test_a_ping_that_is_given_up_is_forgotten_with_the_next(kind: str) -> None:
    """Whoever talks and never answers pings grows no list of them."""
    async with against(kind, ping_timeout=None) as (connection, peer):
        payloads = [(await peer.receive_frame()).payload]
        await peer.send_frame(TEXT, b"alive, and no pong")
        payloads.append((await peer.receive_frame()).payload)
        await peer.send_frame(PONG, payloads[0])
        await settle()
        assert connection.latency is None
        await peer.send_frame(PONG, payloads[1])
        await settle()
        assert connection.latency == 0


@every_kind
async def test_a_ping_of_the_application_wakes_when_the_peer_is_cut(kind: str) -> None:
    async with against(kind) as (connection, _):
        with pytest.raises(ConnectionLost, match="no progress"):
            await connection.ping()
        assert trio.current_time() == 40


@every_kind
async def test_alarms_end_with_their_connections(kind: str) -> None:
    def tasks() -> list[str]:
        root = trio.lowlevel.current_root_task()
        assert root is not None
        names = [task.name for nursery in root.child_nurseries for task in nursery.child_tasks]
        return [name for name in names if name.startswith("trio_ws")]

    async with both_ends(kind, ping_interval=math.inf):
        pass
    async with both_ends(kind):
        await trio.sleep(30)
    await trio.sleep(HOUR)
    assert tasks() == []
