"""Back-pressure in both directions: who sends waits for the peer, who does not read makes the peer wait."""

import itertools

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


@bounded_kind
@pytest.mark.parametrize("way", ["close frame", "violation", "end", "terminate", "aclose"])
async def test_a_send_that_waits_when_the_connection_ends(kind: str, way: str) -> None:
    async with against(kind, disconnect_timeout=4) as (connection, peer), trio.open_nursery() as nursery:
        await fill(connection)
        raised: list[ConnectionClosed] = []

        async def send() -> None:
            with pytest.raises(ConnectionClosed) as caught:
                await connection.send_message(b"never")
            raised.append(caught.value)

        for _ in range(3):
            nursery.start_soon(send)
        await settle()
        match way:
            case "close frame":
                await peer.send_close(1000)
            case "violation":
                await peer.send_frame(3)
            case "end":
                await peer.stream.send_eof()  # type: ignore[attr-defined]  # these streams half-close
            case "terminate":
                connection.terminate()
            case _:
                nursery.start_soon(connection.aclose)
        await settle_until(lambda: len(raised) == 3)
        kinds = {"close frame": ConnectionEnded, "aclose": ConnectionEnded}
        assert {type(error) for error in raised} == {kinds.get(way, ConnectionLost)}
        begun = trio.current_time()
        await connection.wait_closed()
        assert trio.current_time() - begun < 4.01
        await settle()
        assert connection.buffered_amount == 0


@bounded_kind
@every_role
async def test_closing_with_a_stuck_peer_takes_no_longer_than_allowed(kind: str, role: Role) -> None:
    async with against(kind, role, disconnect_timeout=4) as (connection, _):
        await fill(connection)
        begun = trio.current_time()
        await connection.aclose()
        assert trio.current_time() - begun == pytest.approx(4)
        assert connection.timed_out
        with pytest.raises(ConnectionLost) as caught:
            await connection.send_message(b"")
        assert isinstance(caught.value.__cause__, TimeoutError)


@bounded_kind
async def test_both_ends_send_and_read_at_once(kind: str) -> None:
    messages = [bytes([number]) * 300_000 for number in range(40)]

    async def send(connection: WebSocketConnection) -> None:
        for message in messages:
            await connection.send_message(message)

    async def receive(connection: WebSocketConnection) -> None:
        for message in messages:
            assert await connection.get_message() == message

    async def ping(connection: WebSocketConnection) -> None:
        for _ in range(5):
            await connection.ping()

    async with both_ends(kind) as pair, trio.open_nursery() as nursery:
        for connection in pair:
            for job in (send, receive, ping):
                nursery.start_soon(job, connection)


@bounded_kind
async def test_an_echo_whose_client_reads_only_after_it_has_sent_all(kind: str) -> None:
    """The reader is never stopped by what it has to write: control frames and the end still get through."""
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:

        async def echo() -> None:
            async for message in connection:
                await connection.send_message(message)

        async def send() -> None:
            for number in range(200):
                await peer.send_frame(BINARY, bytes([number]) * 65000)

        nursery.start_soon(echo)
        nursery.start_soon(send)
        await settle()
        for number in range(200):
            await peer.expect(BINARY, bytes([number]) * 65000)
        await peer.send_close()
        await peer.expect_close()


@bounded_kind
@every_role
async def test_a_buffer_may_change_when_send_has_returned(kind: str, role: Role) -> None:
    async with against(kind, role) as (connection, peer):
        sent = await fill(connection)
        with trio.fail_after(1):
            while connection.buffered_amount > HIGH_WATER / 2:  # so that there is room for the next two
                await peer.expect(BINARY, bytes(50000))
                sent -= 1
                await settle()
        data = bytearray(b"as it was" * 3000)
        before = bytes(data)
        await connection.send_message(data)
        data[:] = bytes(len(data))
        await connection.send_message(memoryview(before)[9:])
        for _ in range(sent):
            await peer.expect(BINARY, bytes(50000))
        await peer.expect(BINARY, before)
        await peer.expect(BINARY, before[9:])


@every_kind
async def test_a_task_that_never_has_to_wait_lets_others_run(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async def read() -> None:
            await drain(peer.stream)

        nursery.start_soon(read)
        nursery.start_soon(count)
        await trio.lowlevel.checkpoint()
        before = turns
        for _ in range(640):
            await connection.send_message("x")
        assert turns - before >= 9
        nursery.cancel_scope.cancel()


@every_kind
async def test_a_task_that_always_finds_a_message_lets_others_run(kind: str) -> None:
    async with (
        against(kind, message_queue_size=float("inf")) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        await peer.send(joined(peer, [(TEXT, b"x")] * 640))
        await settle_until(lambda: connection.messages.statistics().messages == 640)
        nursery.start_soon(count)
        await trio.lowlevel.checkpoint()
        before = turns
        for _ in range(640):
            assert await connection.get_message() == "x"
        assert turns - before >= 9
        nursery.cancel_scope.cancel()


# Receiving


async def flood(peer: RawPeer, frame: bytes, times: int, pushed: list[int]) -> None:
    """Send a frame many times over, noting how often it could be sent."""
    for _ in range(times):
        await peer.send(frame)
        pushed[0] += 1


async def test_a_peer_is_made_to_wait_when_nobody_reads_messages() -> None:
    async with (
        against("lockstep", message_queue_size=16) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        pushed = [0]
        nursery.start_soon(flood, peer, peer.encode_frame(TEXT, b"x"), 1000, pushed)
        await settle()
        assert connection.messages.statistics().messages == 16
        assert pushed[0] <= 17
        for _ in range(7):
            await connection.get_message()
        await settle()
        assert connection.messages.statistics().messages == 9  # above half: no reading for each message taken
        await connection.get_message()
        await settle()
        assert connection.messages.statistics().messages == 16
        for _ in range(1000 - 8):
            assert await connection.get_message() == "x"


async def test_a_peer_is_made_to_wait_when_nobody_reads_bytes() -> None:
    async with (
        against("lockstep", message_queue_size=float("inf"), message_queue_bytes=100_000) as (
            connection,
            peer,
        ),
        trio.open_nursery() as nursery,
    ):
        pushed = [0]
        nursery.start_soon(flood, peer, peer.encode_frame(BINARY, bytes(10_000)), 100, pushed)
        await settle()
        statistics = connection.messages.statistics()
        assert statistics.messages == 10
        assert 100_000 <= statistics.bytes <= 110_000
        assert pushed[0] <= 11
        for _ in range(100):
            assert await connection.get_message() == bytes(10_000)
        assert connection.messages.statistics().bytes == 0


async def test_how_much_a_peer_can_push_over_tcp() -> None:
    """The queue of bytes, one read, and what the two kernels hold: the flood stops by itself."""
    async with (
        against("tcp", message_queue_bytes=2**20) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        pushed = [0]
        nursery.start_soon(flood, peer, peer.encode_frame(BINARY, bytes(65000)), 1000, pushed)
        await settle()
        assert pushed[0] * 65000 < MUCH
        statistics = connection.messages.statistics()
        assert statistics.bytes <= 2**20 + 2 * 65536
        nursery.cancel_scope.cancel()


async def test_a_text_counts_with_the_memory_it_takes() -> None:
    async with (
        against("lockstep", message_queue_size=1000, message_queue_bytes=100_000) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        text = "\N{GRINNING FACE}" + "x" * 10_000  # one character makes all of them take four bytes
        nursery.start_soon(flood, peer, peer.encode_frame(TEXT, text.encode()), 100, [0])
        await settle()
        assert connection.messages.statistics().messages == 3
        nursery.cancel_scope.cancel()


@every_kind
async def test_an_incomplete_message_counts_too(kind: str) -> None:
    async with (
        against(kind, message_queue_bytes=100_000) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        fragment = peer.encode_frame(BINARY, bytes(70_000), fin=False)
        await peer.send(fragment)
        await settle()
        pushed = [0]
        nursery.start_soon(flood, peer, peer.encode_frame(0, bytes(50_000), fin=False), 3, pushed)
        await settle()
        await peer.send_frame(0, b"end") if kind == "memory" else nursery.start_soon(
            peer.send_frame, 0, b"end"
        )
        await settle()
        assert connection.messages.statistics().messages == 0  # the bound stands, until somebody waits
        assert await connection.get_message() == bytes(220_000) + b"end"


@every_kind
@every_role
async def test_a_message_larger_than_the_queue_arrives_when_somebody_waits(kind: str, role: Role) -> None:
    async with (
        against(kind, role, message_queue_bytes=1000, message_queue_size=1) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        for _ in range(3):
            nursery.start_soon(peer.send_frame, BINARY, bytes(900_000))
            assert await connection.get_message() == bytes(900_000)
        for _ in range(3):
            nursery.start_soon(peer.send_frame, BINARY, bytes(900_000))
            await settle()
            assert await connection.get_message() == bytes(900_000)


@every_kind
async def test_a_message_larger_than_the_queue_with_thousands_of_pings_inside(kind: str) -> None:
    """Reading goes on for who has asked, although what was read before he waits fills the bounds again."""
    async with (
        against(kind, message_queue_bytes=1000) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        parts = [peer.encode_frame(BINARY, bytes(2000), fin=False)]
        parts += [peer.encode_frame(PING) for _ in range(4500)]
        await peer.send(b"".join(parts))
        nursery.start_soon(drain, peer.stream)
        await settle()
        received: list[str | bytes] = []

        async def receive() -> None:
            received.append(await connection.get_message())
            nursery.cancel_scope.cancel()

        nursery.start_soon(receive)
        await settle()
        await peer.send_frame(0, b"end")
        await settle_until(lambda: bool(received))
        assert received == [bytes(2000) + b"end"]


@pytest.mark.parametrize("size", [0, 1])
async def test_a_queue_of_one_message(size: int) -> None:
    async with (
        against("lockstep", message_queue_size=size) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        pushed = [0]
        nursery.start_soon(flood, peer, peer.encode_frame(TEXT, b"x"), 10, pushed)
        await settle()
        assert connection.messages.statistics().messages == 1
        assert pushed[0] <= 2
        for _ in range(10):
            assert await connection.get_message() == "x"


async def test_a_queue_without_end() -> None:
    async with against("memory", message_queue_size=float("inf"), message_queue_bytes=float("inf")) as (
        connection,
        peer,
    ):
        for number in range(3000):
            await peer.send_frame(TEXT, str(number).encode())
        await settle()
        assert connection.messages.statistics().messages == 3000
        assert [await connection.get_message() for _ in range(3000)] == [
            str(number) for number in range(3000)
        ]


async def test_clones_share_the_work() -> None:
    async with against() as (connection, peer), trio.open_nursery() as nursery:
        received: list[list[str | bytes]] = [[], [], []]

        async def work(number: int) -> None:
            async with connection.messages.clone() as messages:
                async for message in messages:
                    received[number].append(message)
                    await trio.sleep((number + 1) / 100)

        for number in range(3):
            nursery.start_soon(work, number)
        for number in range(60):
            await peer.send_frame(TEXT, str(number).encode())
        await trio.sleep(1)
        await peer.send_close()
    assert sorted(itertools.chain.from_iterable(received), key=int) == [str(number) for number in range(60)]
    assert all(messages == sorted(messages, key=int) for messages in received)
    assert len(received[0]) > len(received[1]) > len(received[2]) > 5


async def test_a_closed_channel_is_closed_alone() -> None:
    async with against() as (connection, peer):
        messages, other = connection.messages, connection.messages.clone()
        await messages.aclose()
        for call in (messages.receive_nowait, messages.clone):
            with pytest.raises(trio.ClosedResourceError):
                call()
        with pytest.raises(trio.ClosedResourceError):
            await messages.receive()
        with pytest.raises(trio.WouldBlock):
            other.receive_nowait()
        await peer.send_frame(TEXT, b"x")
        assert await other.receive() == "x"
        assert connection.closed is None


@every_kind
async def test_thirty_thousand_empty_messages_in_one_segment(kind: str) -> None:
    async with against(kind, Role.CLIENT, receive_buffer_size=65536) as (connection, peer):
        frames = [(TEXT if number % 3 else BINARY, b"") for number in range(30_000)]
        await peer.send(joined(peer, frames))
        await settle()
        assert connection.messages.statistics().messages <= 2 * 256 + 16
        messages = [await connection.get_message() for _ in range(30_000)]
        assert messages == ["" if number % 3 else b"" for number in range(30_000)]
        with pytest.raises(trio.WouldBlock):
            connection.messages.receive_nowait()


@every_kind
@pytest.mark.parametrize("unread", [3, 100, 250])  # within one turn; what lies further back waits for room
async def test_what_stands_behind_unread_messages_in_one_read(kind: str, unread: int) -> None:
    async with against(kind, disconnect_timeout=10) as (connection, peer):
        frames = [(TEXT, b"x")] * unread
        await peer.send(joined(peer, [*frames, (PING, b"behind"), (CLOSE, close_payload(1000, "bye"))]))
        begun = trio.current_time()
        await peer.expect(PONG, b"behind")
        await peer.expect_close(1000, "bye")
        assert trio.current_time() - begun == pytest.approx(
            5
        )  # as long as the application may still answer what it has
        for _ in range(unread):
            assert await connection.get_message() == "x"
        with pytest.raises(ConnectionEnded):
            await connection.get_message()


@every_kind
async def test_own_ping_finds_its_pong_behind_a_full_queue(kind: str) -> None:
    async with against(kind, message_queue_size=2) as (connection, peer), trio.open_nursery() as nursery:

        async def answer() -> None:
            await peer.send(joined(peer, [(TEXT, b"x")] * 100))
            payload = (await peer.receive_frame()).payload
            await peer.send(joined(peer, [(TEXT, b"y")] * 100 + [(PONG, payload)]))

        nursery.start_soon(answer)
        await settle()
        with trio.fail_after(1):
            await connection.ping()
        messages = [await connection.get_message() for _ in range(200)]
        assert messages == ["x"] * 100 + ["y"] * 100


async def test_reading_ahead_for_a_pong_is_bounded() -> None:
    async with (
        against("lockstep", message_queue_size=2, message_queue_bytes=10_000) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        pushed = [0]
        nursery.start_soon(flood, peer, peer.encode_frame(BINARY, bytes(1000)), 1000, pushed)
        with trio.move_on_after(1):
            await connection.ping()
        assert pushed[0] < 25
        assert connection.messages.statistics().bytes < 22_000
        nursery.cancel_scope.cancel()
