"""Back-pressure in both directions: who sends waits for the peer, who does not read makes the peer wait."""

import pytest
import trio

from tests.io.link_kit import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    against,
    both_ends,
    bounded_kind,
    close_payload,
    drain,
    every_kind,
    every_role,
    joined,
    settle,
    settle_until,
)
from trio_ws import ConnectionClosed, ConnectionEnded, ConnectionLost, WebSocketConnection
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer
from trio_ws.transport import HIGH_WATER

pytestmark = pytest.mark.usefixtures("autojump_clock")

#: More than all the buffers between two ends of a TCP connection.
MUCH = 16 * 2**20


async def fill(connection: WebSocketConnection, message: bytes = bytes(50000)) -> int:
    """Send until a send has to wait, cancel that one, and return how many were sent."""
    sent = 0
    while True:
        with trio.move_on_after(0.1):
            await connection.send_message(message)
            sent += 1
            continue
        return sent


# Sending


@every_kind
@every_role
async def test_messages_of_fifty_tasks_arrive_whole(kind: str, role: Role) -> None:
    async def send(connection: WebSocketConnection, number: int) -> None:
        for size in (0, 1, 125, 126, 5000, 65535, 65536, 70000):
            await connection.send_message(bytes([number]) * size)

    async with both_ends(kind) as pair, trio.open_nursery() as nursery:
        near, far = (pair.client, pair.server) if role is Role.CLIENT else (pair.server, pair.client)
        for number in range(1, 51):
            nursery.start_soon(send, near, number)
        sizes: dict[int, list[int]] = {number: [] for number in range(51)}
        for _ in range(50 * 8):
            message = await far.get_message()
            assert isinstance(message, bytes)
            assert len(set(message)) <= 1
            sizes[message[0] if message else 0].append(len(message))
    assert sizes.pop(0) == [0] * 50
    assert all(found == [1, 125, 126, 5000, 65535, 65536, 70000] for found in sizes.values())


@bounded_kind
async def test_a_peer_that_does_not_read_makes_senders_wait(kind: str) -> None:
    message = bytes(50000)
    async with against(kind) as (connection, _):
        await fill(connection, message)
        assert HIGH_WATER < connection.buffered_amount <= HIGH_WATER + len(message) + 4
        with trio.move_on_after(5) as waiting:
            await connection.send_message(b"too much")
        assert waiting.cancelled_caught
        assert connection.closed is None
        assert connection.buffered_amount <= HIGH_WATER + len(message) + 4


@bounded_kind
async def test_waiting_senders_are_released_in_order(kind: str) -> None:
    done: list[int] = []

    async def send(connection: WebSocketConnection, number: int) -> None:
        await connection.send_message(bytes([number]) * 70000)
        done.append(number)

    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        sent = await fill(connection)
        for number in range(1, 21):
            nursery.start_soon(send, connection, number)
            await settle()
        assert done == []
        for _ in range(sent):
            await peer.expect(BINARY, bytes(50000))
        for number in range(1, 21):
            await peer.expect(BINARY, bytes([number]) * 70000)
        await settle_until(lambda: len(done) == 20)
        assert done == list(range(1, 21))


# over TCP there is room in the kernel for some, who then need not wait
async def test_a_newcomer_does_not_overtake_those_who_wait() -> None:
    async def send(connection: WebSocketConnection, number: int) -> None:
        for _ in range(10):
            await connection.send_message(bytes([number]) * 70000)

    async with against("lockstep") as (connection, peer), trio.open_nursery() as nursery:
        sent = await fill(connection)
        nursery.start_soon(send, connection, 1)
        nursery.start_soon(send, connection, 2)
        for _ in range(sent):
            await peer.expect(BINARY, bytes(50000))
        order = [(await peer.receive_frame()).payload[0] for _ in range(20)]
    assert all(order[start : start + 2] in ([1, 2], [2, 1]) for start in range(0, 20, 2)), str(order)


@bounded_kind
async def test_a_cancelled_send_lets_the_next_one_go(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        sent = await fill(connection)
        scopes = [trio.CancelScope() for _ in range(10)]

        async def send(number: int) -> None:
            with scopes[number]:
                await connection.send_message(bytes([number]))

        for number in range(10):
            nursery.start_soon(send, number)
            await settle()
        for number in (0, 1, 2, 5, 9):
            scopes[number].cancel()
        await settle()
        for _ in range(sent):
            await peer.expect(BINARY, bytes(50000))
        for number in (3, 4, 6, 7, 8):
            await peer.expect(BINARY, bytes([number]))
