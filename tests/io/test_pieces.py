"""Messages in pieces, received and sent: bounded memory, no half message that goes unnoticed, and room for pings."""

from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from tests.io.link_kit import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    against,
    both_ends,
    bounded_kind,
    close_payload,
    every_kind,
    every_role,
    joined,
    settle,
    settle_until,
)
from trio_ws import CloseReason, ConnectionClosed, ConnectionEnded, ConnectionLost, WebSocketConnection
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer
from trio_ws.transport import HIGH_WATER

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def collect(connection: WebSocketConnection) -> list[str | bytes]:
    async with connection.receive_stream() as pieces:
        return [piece async for piece in pieces]


def fragments(peer: RawPeer, opcode: int, payloads: list[bytes]) -> list[bytes]:
    """Return the frames of one message."""
    last = len(payloads) - 1
    return [
        peer.encode_frame(CONT if index else opcode, payload, fin=index == last)
        for index, payload in enumerate(payloads)
    ]


# Receiving


@every_kind
@every_role
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_pieces_follow_the_network(kind: str, role: Role, opcode: int) -> None:
    async with against(kind, role) as (connection, peer), trio.open_nursery() as nursery:
        received: list[str | bytes] = []

        async def receive() -> None:
            async with connection.receive_stream() as pieces:
                async for piece in pieces:
                    received.append(piece)  # noqa: PERF401 - each when it comes
            received.append(await connection.get_message())

        nursery.start_soon(receive)
        for frame in fragments(peer, opcode, [b"one ", b"two ", b"", b"three"]):
            await peer.send(frame)
            await settle()
        await peer.send_frame(TEXT, b"next")
        await settle()
        expected: list[str | bytes] = [b"one ", b"two ", b"three"]
        if opcode == TEXT:
            expected = ["one ", "two ", "three"]
        assert received == [*expected, "next"]


@every_kind
async def test_a_text_is_cut_between_characters(kind: str) -> None:
    text = "aé€\N{GRINNING FACE}" * 3
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:

        async def send() -> None:
            for byte in peer.encode_frame(TEXT, text.encode()):
                await peer.send(bytes([byte]))
                await settle()

        nursery.start_soon(send)
        pieces = await collect(connection)
        assert pieces == list(text)


@every_kind
async def test_a_character_over_two_fragments(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        euro = "€".encode()

        async def send() -> None:
            for frame in fragments(peer, TEXT, [euro[:1], euro[1:2], b"", euro[2:]]):
                await peer.send(frame)
                await settle()

        nursery.start_soon(send)
        assert await collect(connection) == ["€"]


@every_kind
async def test_a_message_that_is_at_hand(kind: str) -> None:
    async with against(kind) as (connection, peer):
        await peer.send(joined(peer, [(TEXT, b"one"), (BINARY, b""), (BINARY, b"three"), (TEXT, b"four")]))
        await settle()
        assert await collect(connection) == ["one"]
        assert await collect(connection) == []
        assert await connection.get_message() == b"three"
        assert await collect(connection) == ["four"]


@every_kind
async def test_a_message_that_has_begun(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        first, second = fragments(peer, BINARY, [b"first half", b"second half"])
        await peer.send(first)
        await settle()

        async def finish() -> None:
            await settle()
            await peer.send(second)

        nursery.start_soon(finish)
        assert await collect(connection) == [b"first half", b"second half"]


@every_kind
async def test_messages_in_pieces_one_after_another(kind: str) -> None:
    async with against(kind) as (connection, peer):
        for number in range(20):
            parts = [bytes([number]) * size for size in (1, 0, 70_000, 5)]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(peer.send, b"".join(fragments(peer, BINARY, parts)))
                assert b"".join(map(bytes, await collect_bytes(connection))) == b"".join(parts)


async def collect_bytes(connection: WebSocketConnection) -> list[bytes]:
    pieces = await collect(connection)
    return [piece for piece in pieces if isinstance(piece, bytes)]


async def test_memory_is_bounded() -> None:
    """A message of any size passes through the bounds of the queue, at the reader's own pace."""
    size = 900_000
    async with (
        against("lockstep", message_queue_bytes=100_000, message_queue_size=2) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(peer.send_frame, BINARY, bytes(size))
        received = 0
        async with connection.receive_stream() as pieces:
            async for piece in pieces:
                received += len(piece)
                await settle()
                assert connection.messages.statistics().bytes <= 100_000 + 65_600
                await trio.sleep(0.1)
        assert received == size
        assert connection.messages.statistics().bytes == 0


async def test_fragments_of_a_slow_reader_are_bounded() -> None:
    async with (
        against("lockstep", message_queue_bytes=10_000) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        pushed = 0

        async def send() -> None:
            nonlocal pushed
            await peer.send_frame(BINARY, b"begin", fin=False)
            for _ in range(500):
                await peer.send_frame(CONT, bytes(1000), fin=False)
                pushed += 1
            await peer.send_frame(CONT, b"", fin=True)

        nursery.start_soon(send)
        async with connection.receive_stream() as pieces:
            assert await anext(pieces) == b"begin"
            await settle()
            assert pushed <= 11
            total = 0
            async for piece in pieces:
                total += len(piece)
        assert total == 500_000


@every_kind
async def test_leaving_early_drops_the_rest(kind: str) -> None:
    async with against(kind, message_queue_bytes=1000) as (connection, peer), trio.open_nursery() as nursery:
        begin, middle, end = fragments(peer, BINARY, [bytes(5000), bytes(50_000), bytes(5000)])
        await peer.send(begin)
        async with connection.receive_stream() as pieces:
            await anext(pieces)
        assert connection.messages.statistics().bytes == 0
        nursery.start_soon(peer.send, middle + end + peer.encode_frame(TEXT, b"next"))
        assert await connection.get_message() == "next"


@every_kind
async def test_leaving_early_and_asking_for_pieces_again(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        begin, middle, end = fragments(peer, BINARY, [b"1", b"2", b"3"])
        await peer.send(begin)
        async with connection.receive_stream() as pieces:
            assert await anext(pieces) == b"1"

        async def finish() -> None:
            await settle()
            await peer.send(middle)
            await settle()
            await peer.send(end + peer.encode_frame(TEXT, b"next"))

        nursery.start_soon(finish)
        assert await collect(connection) == ["next"]


@every_kind
async def test_leaving_before_anything_came_leaves_the_message(kind: str) -> None:
    async with against(kind) as (connection, peer):
        with trio.move_on_after(1) as scope:
            await collect(connection)
        assert scope.cancelled_caught
        for frame in fragments(peer, BINARY, [b"who", b"le"]):
            await peer.send(frame)
        assert await connection.get_message() == b"whole"


@every_kind
async def test_one_receiver_in_pieces_at_a_time(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(connection.get_message)
        await settle()
        with pytest.raises(trio.BusyResourceError):
            await collect(connection)
        await peer.send_frame(TEXT, b"for the first")
        await settle()
        first, second = fragments(peer, BINARY, [b"1", b"2"])
        async with connection.receive_stream() as pieces:
            with pytest.raises(trio.BusyResourceError):
                await collect(connection)
            await peer.send(first)
            assert await anext(pieces) == b"1"
            with pytest.raises(trio.BusyResourceError):
                await collect(connection)
            received: list[str | bytes] = []

            async def receive() -> None:
                received.append(await connection.get_message())

            nursery.start_soon(receive)
            await settle()
            await peer.send(second + peer.encode_frame(TEXT, b"behind"))
            assert [piece async for piece in pieces] == [b"2"]
            await settle_until(lambda: received == ["behind"])


@every_kind
@every_role
@pytest.mark.parametrize("way", ["close", "violation", "end", "aclose", "terminate"])
async def test_the_connection_ends_inside(kind: str, role: Role, way: str) -> None:
    async with against(kind, role) as (connection, peer), trio.open_nursery() as nursery:
        [begin, _] = fragments(peer, TEXT, [b"begin", b"never"])
        await peer.send(begin)
        async with connection.receive_stream() as pieces:
            assert await anext(pieces) == "begin"
            match way:
                case "close":
                    await peer.send_close()
                case "violation":
                    await peer.send_frame(CONT, b"\xff")
                case "end":
                    await peer.aclose()
                case "aclose":
                    nursery.start_soon(connection.aclose)
                case _:
                    connection.terminate()
            await settle()
            for _ in range(2):
                with pytest.raises(ConnectionClosed) as caught:
                    await anext(pieces)
                assert isinstance(
                    caught.value, ConnectionEnded if way in ("close", "aclose") else ConnectionLost
                )
        with pytest.raises(ConnectionClosed):
            await connection.get_message()
        with pytest.raises(ConnectionClosed):
            await collect(connection)


@every_kind
async def test_pieces_that_come_behind_our_close_frame(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        begin, middle, end = fragments(peer, TEXT, [b"begin", b"middle", b"end"])
        await peer.send(begin)
        async with connection.receive_stream() as pieces:
            assert await anext(pieces) == "begin"
            nursery.start_soon(connection.aclose)
            await peer.expect_close()
            await peer.send(middle + end)
            await settle()
            with pytest.raises(ConnectionEnded):
                await anext(pieces)
            await peer.send_close(4000)
            await peer.aclose()
            await connection.wait_closed()
        assert connection.closed == CloseReason(4000)


@every_kind
async def test_pieces_and_the_end_in_one_read(kind: str) -> None:
    async with against(kind) as (connection, peer):
        data = b"".join(fragments(peer, TEXT, [b"be", b"gin"])) + peer.encode_frame(
            CLOSE, close_payload(1000)
        )
        async with connection.receive_stream() as pieces:
            await peer.send(data)
            assert [piece async for piece in pieces] == ["be", "gin"]
        await connection.send_message("answer")
        with pytest.raises(ConnectionEnded):
            await collect(connection)
        await peer.expect(TEXT, b"answer")
        await peer.expect_close()


@every_kind
async def test_end_of_bytes_inside_a_message_that_has_begun(kind: str) -> None:
    async with against(kind) as (connection, peer):
        await peer.send(fragments(peer, BINARY, [b"first half", b"never"])[0])
        await peer.aclose()
        await settle()
        with pytest.raises(ConnectionLost):
            await collect(connection)


@every_kind
async def test_end_of_the_connection_while_the_rest_is_being_dropped(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        await peer.send(fragments(peer, BINARY, [b"first half", b"never"])[0])
        async with connection.receive_stream() as pieces:
            await anext(pieces)

        async def end() -> None:
            await settle()
            await peer.aclose()

        nursery.start_soon(end)
        with pytest.raises(ConnectionLost):
            await collect(connection)


@every_kind
async def test_cancelled_at_any_time_no_message_is_mixed_up(kind: str) -> None:
    """However far the reader of one message got, the next one is whole."""
    for patience in range(12):
        async with against(kind) as (connection, peer), trio.open_nursery() as nursery:

            async def send() -> None:
                for frame in fragments(peer, TEXT, [b"a", b"b", b"c"]):
                    await trio.sleep(1)
                    await peer.send(frame)
                await peer.send_frame(TEXT, b"next")

            nursery.start_soon(send)
            with trio.move_on_after(patience / 3):
                await collect(connection)
            expected = "abc" if patience / 3 <= 1 else "next"
            assert await connection.get_message() == expected


@every_kind
async def test_pings_are_answered_while_pieces_wait(kind: str) -> None:
    async with against(kind) as (connection, peer):
        first, second = fragments(peer, BINARY, [b"1", b"2"])
        async with connection.receive_stream() as pieces:
            await peer.send(first + peer.encode_frame(PING, b"inside"))
            await peer.expect(PONG, b"inside")
            await peer.send(second)
            assert [piece async for piece in pieces] == [b"1", b"2"]


# Sending


async def each(*pieces: str | bytes) -> AsyncIterator[str | bytes]:
    for piece in pieces:
        await trio.lowlevel.checkpoint()
        yield piece


@every_kind
@every_role
@pytest.mark.parametrize(
    "pieces",
    [["one"], ["one", "two"], ["", "a", ""], [b"one", bytearray(b"two"), memoryview(b"three")], [b""]],
)
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_goes_out(kind: str, role: Role, pieces: list[str | bytes], asynchronous: bool) -> None:
    async with against(kind, role) as (connection, peer):
        await connection.send_stream(each(*pieces) if asynchronous else pieces)
        await connection.send_message("next")
        frames = [await peer.receive_frame() for _ in range(len(pieces) + 1)]
        payloads = [piece.encode() if isinstance(piece, str) else bytes(piece) for piece in pieces]
        assert [frame.payload for frame in frames] == [*payloads, b""]
        opcode = TEXT if isinstance(pieces[0], str) else BINARY
        assert [frame.opcode for frame in frames] == [opcode] + [CONT] * len(pieces)
        assert [frame.fin for frame in frames] == [False] * len(pieces) + [True]
        await peer.expect(TEXT, b"next")


@every_kind
async def test_no_pieces_are_an_empty_binary_message(kind: str) -> None:
    async with against(kind) as (connection, peer):
        await connection.send_stream([])
        await connection.send_stream(each())
        await peer.expect(BINARY, b"")
        await peer.expect(BINARY, b"")


@bounded_kind
async def test_streams_of_many_tasks_do_not_mix(kind: str) -> None:
    async with both_ends(kind) as (client, server), trio.open_nursery() as nursery:

        async def stream(number: int) -> None:
            await client.send_stream(each(*[bytes([number]) * 5000] * 20))

        async def plain(number: int) -> None:
            for _ in range(5):
                await client.send_message(bytes([number]) * 100)

        for number in range(20):
            nursery.start_soon(stream, number)
            nursery.start_soon(plain, number + 100)
        sizes = {number: [100] * 5 for number in range(100, 120)} | {
            number: [100_000] for number in range(20)
        }
        for _ in range(120):
            message = await server.get_message()
            assert isinstance(message, bytes)
            assert len(set(message)) == 1
            sizes[message[0]].remove(len(message))
        assert not any(sizes.values())


@every_kind
async def test_messages_wait_for_its_end_and_pings_do_not(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        go_on = trio.Event()

        async def pieces() -> AsyncIterator[str]:
            yield "first"
            await go_on.wait()
            yield "second"

        nursery.start_soon(connection.send_stream, pieces())
        await settle()
        nursery.start_soon(connection.send_message, "behind")
        await settle()
        nursery.start_soon(connection.send_stream, ["also behind"])
        nursery.start_soon(connection.ping, b"in between")
        await connection.pong(b"and another")
        await peer.send_frame(PING, b"question")
        frame = await peer.receive_frame()
        assert (frame.opcode, frame.payload, frame.fin) == (TEXT, b"first", False)
        controls = [await peer.receive_frame() for _ in range(3)]
        assert {(frame.opcode, frame.payload) for frame in controls} == {
            (PING, b"in between"),
            (PONG, b"and another"),
            (PONG, b"question"),
        }
        await settle()
        go_on.set()
        rest = [await peer.receive_frame() for _ in range(5)]
        assert [frame.payload for frame in rest] == [b"second", b"", b"behind", b"also behind", b""]
        await peer.send_frame(PONG, b"in between")


@bounded_kind
async def test_one_piece_at_a_time_is_in_memory(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        taken = 0

        def pieces() -> Iterator[bytes]:
            nonlocal taken
            for _ in range(1000):
                taken += 1
                yield bytes(20_000)

        nursery.start_soon(connection.send_stream, pieces())
        await settle()
        assert connection.buffered_amount <= HIGH_WATER + 20_000 + 8
        assert taken < 900
        total = 0
        while True:
            frame = await peer.receive_frame()
            total += len(frame.payload)
            if frame.fin:
                break
        assert total == 20_000_000


@every_kind
@pytest.mark.parametrize("pieces", [["text", b"binary"], [b"binary", "text"]])
async def test_pieces_of_both_kinds(kind: str, pieces: list[str | bytes]) -> None:
    async with against(kind) as (connection, peer):
        with pytest.raises(TypeError, match="all pieces of a message"):
            await connection.send_stream(pieces)
        await peer.receive_frame()
        await peer.expect_close(1011, "a message could not be finished")
        with pytest.raises(ConnectionLost):
            await connection.send_message("next")


@every_kind
@pytest.mark.parametrize("piece", [1, None, object(), "\ud800"])
async def test_a_first_piece_that_is_no_piece_does_no_harm(kind: str, piece: str) -> None:
    async with against(kind) as (connection, peer):
        with pytest.raises((TypeError, ValueError)):
            await connection.send_stream([piece])
        await connection.send_message("next")
        await peer.expect(TEXT, b"next")


@every_kind
@pytest.mark.parametrize("after", [0, 1, 2])
async def test_an_iterable_that_raises(kind: str, after: int) -> None:
    async def pieces() -> AsyncIterator[str]:
        for number in range(after):
            yield str(number)
        raise LookupError("no more")

    async with against(kind) as (connection, peer):
        with pytest.raises(LookupError, match="no more"):
            await connection.send_stream(pieces())
        for number in range(after):
            assert (await peer.receive_frame()).payload == str(number).encode()
        if after:
            await peer.expect_close(1011, "a message could not be finished")
        else:
            await connection.send_message("next")
            await peer.expect(TEXT, b"next")


@every_kind
@pytest.mark.parametrize("after", [0, 1, 2])
async def test_cancelled_in_the_middle(kind: str, after: int) -> None:
    closed = False

    async def pieces() -> AsyncIterator[str]:
        nonlocal closed
        try:
            for number in range(after):
                yield str(number)
            await trio.sleep_forever()
        finally:
            closed = True

    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def stream() -> None:
            with scope:
                await connection.send_stream(pieces())

        nursery.start_soon(stream)
        await settle()
        waiting = [0]

        async def wait() -> None:
            try:
                await connection.send_message("next")
            except ConnectionClosed:
                waiting[0] += 1

        nursery.start_soon(wait)
        await settle()
        scope.cancel()
        await settle()
        assert scope.cancelled_caught
        assert closed
        for number in range(after):
            assert (await peer.receive_frame()).payload == str(number).encode()
        if after:
            await peer.expect_close(1011, "a message could not be finished")
            assert waiting == [1]
        else:
            await peer.expect(TEXT, b"next")
            assert waiting == [0]


@bounded_kind
async def test_a_generator_that_is_left_while_waiting_for_room_is_closed(kind: str) -> None:
    closed = False

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            while True:
                yield bytes(100_000)
        finally:
            closed = True

    async with against(kind) as (connection, _):
        with trio.move_on_after(1):
            await connection.send_stream(pieces())
        assert closed
        assert connection.closed == CloseReason(1011, "a message could not be finished")


@every_kind
async def test_the_connection_ends_while_streaming(kind: str) -> None:
    closed = trio.Event()

    async def pieces() -> AsyncIterator[str]:
        try:
            while True:
                yield "piece"
                await trio.sleep(0.1)
        finally:
            closed.set()

    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:

        async def stream() -> None:
            with pytest.raises(ConnectionEnded):
                await connection.send_stream(pieces())

        nursery.start_soon(stream)
        await peer.receive_frame()
        await peer.send_close(1000)
        await closed.wait()


async def test_a_message_dropped_by_an_end_does_not_keep_the_next_reader_waiting() -> None:
    async with against() as (connection, peer):
        async with connection.receive_stream() as pieces:
            await peer.send_frame(TEXT, b"a", fin=False)
            assert await anext(pieces) == "a"
        await peer.aclose()
        with pytest.raises(ConnectionLost):
            async with connection.receive_stream():
                pass
