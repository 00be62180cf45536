"""Control frames: pings are answered under any load and cost no memory, and a ping wakes when its pong or the end comes."""

import pytest
import trio

from tests.io.link_kit import (
    BINARY,
    CONT,
    PING,
    PONG,
    TEXT,
    against,
    both_ends,
    bounded_kind,
    every_kind,
    every_role,
    joined,
    settle,
    settle_until,
)
from trio_ws import ConnectionClosed, ConnectionEnded
from trio_ws._config import Config
from trio_ws._pings import Pings
from trio_ws.protocol import Role
from trio_ws.transport import HIGH_WATER

pytestmark = pytest.mark.usefixtures("autojump_clock")


@every_kind
@every_role
@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(125))])
async def test_a_ping_is_answered_at_once(kind: str, role: Role, payload: bytes) -> None:
    async with against(kind, role) as (_, peer):
        begun = trio.current_time()
        await peer.send_frame(PING, payload)
        await peer.expect(PONG, payload)
        assert trio.current_time() == begun


@every_kind
async def test_a_ping_between_fragments_and_behind_a_message(kind: str) -> None:
    async with against(kind) as (connection, peer):
        parts = [
            peer.encode_frame(TEXT, b"be", fin=False),
            peer.encode_frame(PING, b"1"),
            peer.encode_frame(CONT, b"gin"),
            peer.encode_frame(PING, b"2"),
        ]
        await peer.send(b"".join(parts))
        await peer.expect(PONG, b"1")
        await peer.expect(PONG, b"2")
        assert await connection.get_message() == "begin"


@every_kind
async def test_pings_are_answered_while_nobody_reads_messages(kind: str) -> None:
    async with against(kind, message_queue_size=10) as (_, peer):
        await peer.send(joined(peer, [(TEXT, b"x")] * 8))
        for number in range(100):
            await peer.send_frame(PING, str(number).encode())
            await peer.expect(PONG, str(number).encode())


@bounded_kind
async def test_a_flood_of_pings_without_reading_is_bounded_and_the_latest_wins(kind: str) -> None:
    count = 100_000
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        frames = [peer.encode_frame(PING, str(number).encode() * 10) for number in range(count)]
        for start in range(0, count, 1000):
            await peer.send(b"".join(frames[start : start + 1000]))
            await settle()
            assert connection.buffered_amount < HIGH_WATER
        answers: list[int] = []

        async def read() -> None:
            while True:
                frame = await peer.receive_frame()
                assert frame.opcode == PONG
                answers.append(int(frame.payload[: len(frame.payload) // 10]))

        nursery.start_soon(read)
        await settle_until(lambda: bool(answers) and answers[-1] == count - 1)
        assert answers == sorted(answers)
        assert len(answers) < count
        nursery.cancel_scope.cancel()


@every_kind
async def test_pongs_nobody_asked_for_are_ignored(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        await peer.send(joined(peer, [(PONG, str(number).encode()) for number in range(20_000)]))
        await settle()
        assert connection.latency is None
        nursery.start_soon(connection.ping, b"mine")
        await peer.expect(PING, b"mine")
        await peer.send(joined(peer, [(PONG, b"not mine"), (TEXT, b"x")]))
        assert await connection.get_message() == "x"
        assert connection.latency is None
        await peer.send_frame(PONG, b"mine")


@every_kind
@every_role
async def test_a_ping_returns_its_round_trip_time(kind: str, role: Role) -> None:
    async with against(kind, role) as (connection, peer), trio.open_nursery() as nursery:
        times: list[float] = []

        async def ping() -> None:
            times.append(await connection.ping())

        nursery.start_soon(ping)
        frame = await peer.receive_frame()
        assert (frame.opcode, len(frame.payload)) == (PING, 4)
        await trio.sleep(0.25)
        await peer.send_frame(PONG, frame.payload)
        await settle_until(lambda: bool(times))
        assert times == [0.25]
        assert connection.latency == 0.25
        await peer.send_frame(PONG, frame.payload)  # once more does no harm
        await settle()
        assert connection.closed is None


@every_kind
async def test_a_pong_answers_all_pings_before_it(kind: str) -> None:
    async with against(kind) as (connection, peer):
        done: list[bytes] = []

        async def ping(payload: bytes) -> None:
            await connection.ping(payload)
            done.append(payload)

        async with trio.open_nursery() as nursery:
            for payload in (b"1", b"2", b"3"):
                nursery.start_soon(ping, payload)
                await peer.expect(PING, payload)
            await peer.send_frame(PONG, b"2")
            await settle_until(lambda: sorted(done) == [b"1", b"2"])
            await peer.send_frame(PONG, b"3")


@every_kind
async def test_fifty_pings_at_once(kind: str) -> None:
    async with both_ends(kind) as pair, trio.open_nursery() as nursery:
        for connection in pair:
            for _ in range(50):
                nursery.start_soon(connection.ping)


@every_kind
async def test_the_same_payload_twice_at_a_time(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(connection.ping, "same")
        await peer.expect(PING, b"same")
        with pytest.raises(ValueError, match="waiting for its pong already"):
            await connection.ping(b"same")
        await peer.send_frame(PONG, b"same")
        await settle()
        nursery.start_soon(connection.ping, "same")
        await peer.expect(PING, b"same")
        await peer.send_frame(PONG, b"same")


async def test_a_task_that_tidies_up_leaves_the_next_ping_with_its_payload_alone() -> None:
    pings = Pings(Config(), lambda: b"1234")
    first = pings.wait(b"same")
    pings.answered(b"same")
    second = pings.wait(b"same")  # before the first task has come to run
    pings.forget(b"same", first)
    pings.answered(b"same")
    assert second.event.is_set()
    assert second.rtt == 0


@every_kind
async def test_a_cancelled_ping_leaves_nothing(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        with trio.move_on_after(1) as scope:
            await connection.ping(b"mine")
        assert scope.cancelled_caught
        await peer.expect(PING, b"mine")
        await peer.send_frame(PONG, b"mine")
        await settle()
        assert connection.latency is None
        nursery.start_soon(connection.ping, b"mine")
        await peer.expect(PING, b"mine")
        await peer.send_frame(PONG, b"mine")


@every_kind
@pytest.mark.parametrize("way", ["close", "end", "aclose", "terminate"])
async def test_a_ping_wakes_when_the_connection_ends(kind: str, way: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        begun = trio.current_time()
        raised: list[ConnectionClosed] = []

        async def ping() -> None:
            with pytest.raises(ConnectionClosed) as caught:
                await connection.ping()
            raised.append(caught.value)

        for _ in range(3):
            nursery.start_soon(ping)
        await settle()
        match way:
            case "close":
                await peer.send_close()
            case "end":
                await peer.aclose()
            case "aclose":
                nursery.start_soon(connection.aclose)
            case _:
                connection.terminate()
        await settle()
        assert len(raised) == 3
        assert {isinstance(error, ConnectionEnded) for error in raised} == {way in ("close", "aclose")}
        assert trio.current_time() == begun
        await peer.aclose()


@bounded_kind
async def test_a_ping_waits_for_room_and_can_be_cancelled_there(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        sent = 0
        while connection.buffered_amount <= HIGH_WATER:
            await connection.send_message(bytes(50_000))
            sent += 1
            await settle()
        with trio.move_on_after(1):
            await connection.ping(b"cancelled")
        nursery.start_soon(connection.ping, b"waits")
        for _ in range(sent):
            await peer.expect(BINARY, bytes(50_000))
        await peer.expect(PING, b"waits")
        await peer.send_frame(PONG, b"waits")


@every_kind
async def test_pongs_can_be_left_to_the_application(kind: str) -> None:
    async with against(kind, auto_pong=False) as (connection, peer):
        await peer.send_frame(PING, b"unanswered")
        await settle()
        await connection.pong(b"by hand")
        await connection.pong()
        await connection.pong("täxt")
        await peer.expect(PONG, b"by hand")
        await peer.expect(PONG, b"")
        await peer.expect(PONG, "täxt".encode())


@every_kind
async def test_no_pong_behind_the_close_frame(kind: str) -> None:
    """RFC 6455 5.5.1: nothing is sent after a close frame; an answer then is what crashed others."""
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(connection.aclose)
        await peer.expect_close()
        await peer.send(joined(peer, [(PING, b"late")] * 3))
        await settle()
        await peer.send_close()
        await settle()
        await peer.expect_end()
        await peer.aclose()


@every_kind
async def test_oversize_and_ping_in_one_segment(kind: str) -> None:
    async with against(kind, max_message_size=10) as (_, peer):
        await peer.send(joined(peer, [(PING, b"before"), (BINARY, bytes(11)), (PING, b"after")]))
        await peer.expect(PONG, b"before")
        await peer.expect_close(1009)
