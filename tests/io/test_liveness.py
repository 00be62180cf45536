"""Liveness of a connection: silence is answered by a ping, and a peer that makes no progress is taken for dead."""

import pytest
import trio

from tests.io.link_kit import PING, PONG, TEXT, against, every_kind, every_role, settle
from trio_ws import ConnectionLost, State
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer

pytestmark = pytest.mark.usefixtures("autojump_clock")

#: Seconds: most of an hour, in which a connection that has nothing to say must neither die nor be given up.
LONG = 3000.0


async def answer_pings(peer: RawPeer, seconds: float = LONG) -> int:
    """Be a peer that says nothing but pongs; return how many."""
    answered = 0
    with trio.move_on_after(seconds):
        while True:
            frame = await peer.receive_frame()
            assert frame.opcode == PING
            await peer.send_frame(PONG, frame.payload)
            answered += 1
    return answered


@every_role
async def test_a_silent_peer_is_pinged_and_then_taken_for_dead(role: Role) -> None:
    async with against("memory", role) as (connection, peer):
        start = trio.current_time()
        assert (await peer.receive_frame()).opcode == PING
        assert trio.current_time() - start == pytest.approx(20)
        with pytest.raises(ConnectionLost) as caught:
            await connection.get_message()
        assert trio.current_time() - start == pytest.approx(40, abs=1)
        assert isinstance(caught.value.__cause__, TimeoutError)
        assert "no progress" in str(caught.value)
        assert connection.closed is not None
        assert connection.closed.code == 1006
        assert connection.state is State.CLOSED
        await peer.expect_end()


async def test_the_times_are_options() -> None:
    async with against(ping_interval=3, ping_timeout=4) as (connection, peer):
        start = trio.current_time()
        assert (await peer.receive_frame()).opcode == PING
        assert trio.current_time() - start == pytest.approx(3)
        await connection.wait_closed()
        assert trio.current_time() - start == pytest.approx(7, abs=1)


@every_role
async def test_a_peer_that_answers_lives_and_is_measured(role: Role) -> None:
    async with against("memory", role) as (connection, peer):
        assert connection.latency is None
        assert await answer_pings(peer) in range(140, 151)  # one every twenty seconds
        assert connection.state is State.OPEN
        assert connection.latency == pytest.approx(0)
        await peer.send_frame(TEXT, b"still there")
        assert await connection.get_message() == "still there"


async def test_a_late_answer_is_an_answer_and_its_time_is_the_latency() -> None:
    async with against() as (connection, peer):
        frame = await peer.receive_frame()
        await trio.sleep(19)
        await peer.send_frame(PONG, frame.payload)
        await settle()
        assert connection.latency == pytest.approx(19)
        await answer_pings(peer, 100)
        assert connection.state is State.OPEN


async def test_whoever_talks_is_not_pinged() -> None:
    async with against(message_queue_size=1000) as (connection, peer):
        for _ in range(100):
            await trio.sleep(19)
            await peer.send_frame(TEXT, b"x")
        await settle()
        assert not peer.received
        assert connection.state is State.OPEN


async def test_any_bytes_are_a_sign_of_life_also_without_a_pong() -> None:
    async with against(message_queue_size=1000) as (connection, peer):
        for _ in range(20):
            assert (await peer.receive_frame()).opcode == PING
            await peer.send_frame(TEXT, b"x")
        assert connection.state is State.OPEN


@every_kind
async def test_a_slow_application_never_costs_a_healthy_peer_its_life(kind: str) -> None:
    async with against(kind, message_queue_size=4) as (connection, peer):
        for number in range(6):
            await peer.send_frame(TEXT, b"%d" % number)
        await settle()
        await trio.sleep(LONG)  # nobody takes a message, so reading rests; the peer is not to blame
        assert connection.state is State.OPEN
        assert [await connection.get_message() for _ in range(6)] == list("012345")


async def test_a_peer_that_never_reads_is_taken_for_dead_though_it_talks() -> None:
    async with against("lockstep", message_queue_size=1000) as (connection, peer):
        start = trio.current_time()

        async def talk() -> None:
            with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
                while True:
                    await peer.send_frame(TEXT, b"x")
                    await trio.sleep(5)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            with pytest.raises(ConnectionLost, match="no progress"):
                while True:
                    await connection.send_message(b"x" * 65536)
            # interval and timeout together, after the last look that saw the queue move
            assert 40 <= trio.current_time() - start <= 61


async def test_without_an_interval_nobody_is_pinged_or_given_up() -> None:
    async with against(ping_interval=None) as (connection, peer):
        await trio.sleep(LONG)
        assert not peer.received
        assert connection.state is State.OPEN


async def test_without_a_timeout_there_are_pings_and_no_verdict() -> None:
    async with against(ping_timeout=None) as (connection, peer):
        await trio.sleep(LONG)
        assert (await peer.receive_frame()).opcode == PING
        assert connection.state is State.OPEN


async def test_a_ping_of_our_own_accord_that_is_never_answered_is_forgotten_with_the_next() -> None:
    async with against(ping_timeout=None, message_queue_size=1000) as (connection, peer):
        payloads: list[bytes] = []
        for _ in range(5):
            payloads.append((await peer.receive_frame()).payload)
            await peer.send_frame(TEXT, b"x")
        assert len(set(payloads)) == 5
        await peer.send_frame(PONG, payloads[0])
        await settle()
        assert connection.latency is None
        await peer.send_frame(PONG, payloads[-1])
        await settle()
        assert connection.latency == pytest.approx(0)


async def test_the_rules_rest_while_the_connection_is_closing() -> None:
    closing = against("memory", Role.CLIENT, disconnect_timeout=100, ping_interval=1, ping_timeout=1)
    async with closing as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(connection.aclose)
        await peer.expect_close()
        await trio.sleep(50)
        assert connection.state is State.CLOSING
        assert not peer.received
        await peer.send_close()
        await peer.aclose()


async def test_a_waiting_ping_wakes_when_the_peer_is_taken_for_dead() -> None:
    async with against() as (connection, _):
        with pytest.raises(ConnectionLost, match="no progress"):
            await connection.ping(b"anybody there?")
