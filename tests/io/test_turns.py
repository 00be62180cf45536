"""What one peer can have done in one turn is bounded in frames, others come first, and nothing of the rest is lost."""

import logging

import pytest
import trio
import trio.testing

from tests.io.link_kit import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    against,
    close_payload,
    every_kind,
    joined,
    settle,
)
from trio_ws import ConnectionClosed, ConnectionEnded, WebSocketConnection
from trio_ws._turns import ask_for_turn
from trio_ws.protocol._codec import FRAME_LIMIT
from trio_ws.testing import RawPeer

pytestmark = pytest.mark.usefixtures("autojump_clock")

#: Frames of a flood: less than one read of 64 KiB, and many turns.
FLOOD = 8000


async def first_turn(connection: WebSocketConnection) -> None:
    """Wait until the first frames were decoded."""
    while not connection.statistics().frames_received:
        await trio.lowlevel.checkpoint()


class FramesOfAPass(trio.abc.Instrument):
    """Notes how many frames of one connection were decoded in each pass of the scheduler."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection
        self._seen = connection.statistics().frames_received
        self.numbers: list[int] = []

    def before_io_wait(self, timeout: float) -> None:
        seen = self._connection.statistics().frames_received
        self.numbers.append(seen - self._seen)
        self._seen = seen


def flood_of(peer: RawPeer, what: str) -> bytes:
    """Return a flood in one piece, all of it before a message "last"."""
    match what:
        case "pings":
            flood = peer.encode_frame(PING, b"") * FLOOD
        case "pongs":
            flood = peer.encode_frame(PONG, b"") * FLOOD
        case "fragments":
            flood = peer.encode_frame(TEXT, b"", fin=False) + peer.encode_frame(CONT, b"", fin=False) * FLOOD
            flood += peer.encode_frame(CONT, b"")
        case _:
            flood = peer.encode_frame(BINARY, b"") * FLOOD
    return flood + peer.encode_frame(TEXT, b"last")


@every_kind
@pytest.mark.parametrize("what", ["pings", "pongs", "fragments", "messages"])
async def test_no_flood_is_decoded_in_one_turn(kind: str, what: str) -> None:
    queue = 2 * FLOOD  # more than there are: it is not the queue that bounds them
    async with against(kind, message_queue_size=queue) as (connection, peer):
        frames = FramesOfAPass(connection)
        trio.lowlevel.add_instrument(frames)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send, flood_of(peer, what))
            while await connection.get_message() != "last":
                pass
            nursery.cancel_scope.cancel()  # a peer that is answered in lockstep reads none of it
        trio.lowlevel.remove_instrument(frames)
        assert sum(frames.numbers) >= FLOOD
        assert max(frames.numbers) == FRAME_LIMIT


@pytest.mark.parametrize("what", ["pings", "pongs", "fragments"])
async def test_who_sends_little_does_not_wait_for_who_sends_much(what: str) -> None:
    async with against("tcp") as (flooded, flooder), against("tcp") as (connection, peer):
        await flooder.send(flood_of(flooder, what))
        before = flooded.statistics().frames_received
        await peer.send_frame(TEXT, b"hello")
        assert await connection.get_message() == "hello"
        done = flooded.statistics().frames_received - before
        assert done < FLOOD / 2
        assert await flooded.get_message() == ("" if what == "fragments" else "last")


@every_kind
@pytest.mark.parametrize("end", ["close frame", "end of bytes"])
async def test_what_waits_for_its_turn_comes_before_the_end(kind: str, end: str) -> None:
    async with against(kind) as (connection, peer):
        frames = [(TEXT, b"first"), *[(PONG, b"")] * FLOOD, (TEXT, b"last")]
        if end == "close frame":
            frames.append((CLOSE, close_payload(1000)))
        await peer.send(joined(peer, frames))
        if end == "end of bytes":
            assert isinstance(peer.stream, trio.abc.HalfCloseableStream)
            await peer.stream.send_eof()
        assert [await connection.get_message() for _ in range(2)] == ["first", "last"]
        with pytest.raises(ConnectionEnded if end == "close frame" else ConnectionClosed):
            await connection.get_message()


@every_kind
async def test_what_waits_for_its_turn_survives_the_loss_of_the_connection(kind: str) -> None:
    async with against(kind) as (connection, peer):
        await peer.send(joined(peer, [*[(PONG, b"")] * FLOOD, (TEXT, b"last")]))
        await first_turn(connection)
        assert connection.statistics().frames_received < FLOOD
        connection.terminate()
        assert await connection.get_message() == "last"
        with pytest.raises(ConnectionClosed):
            await connection.get_message()


@every_kind
async def test_reading_goes_on_when_the_rest_has_had_its_turns(kind: str) -> None:
    async with against(kind) as (connection, peer):
        for number in range(3):
            await peer.send(joined(peer, [*[(PONG, b"")] * FLOOD, (TEXT, b"%d" % number)]))
            assert await connection.get_message() == str(number)
        assert connection.statistics().pauses == 0  # of which the application would be the reason


@every_kind
async def test_no_more_is_read_while_the_rest_waits_for_its_turn(kind: str) -> None:
    undecoded: list[int] = []

    def look(_: bytes) -> None:
        counts = connection.statistics()
        undecoded.append(counts.wire_bytes_received - len(frame) * counts.frames_received)

    async with against(kind, on_pong=look) as (connection, peer), trio.open_nursery() as nursery:
        frame = peer.encode_frame(PONG, b"")
        nursery.start_soon(peer.send, frame * 10 * FLOOD + peer.encode_frame(TEXT, b"last"))
        assert await connection.get_message() == "last"
        assert max(undecoded) <= 2 * 65536  # one read, and one that was under way


@every_kind
async def test_closing_does_not_wait_for_the_rest_for_ever(kind: str) -> None:
    async with against(kind) as (connection, peer):
        await peer.send(joined(peer, [*[(PONG, b"")] * FLOOD, (CLOSE, close_payload(1000))]))
        await first_turn(connection)
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.aclose)
            await peer.expect_close(1000)
            await peer.stream.aclose()
        assert trio.current_time() - begun < 1
        assert connection.statistics().frames_received == FLOOD + 1


@every_kind
async def test_a_peer_is_not_blamed_while_what_it_has_sent_waits_for_its_turn(
    kind: str, autojump_clock: trio.testing.MockClock
) -> None:
    def take_long(_: bytes) -> None:
        if connection.statistics().frames_received < FLOOD / 2:
            autojump_clock.jump(0.2)  # a turn takes more than `ping_interval` and `ping_timeout` together

    async with against(kind, on_pong=take_long, ping_interval=20, ping_timeout=20) as (connection, peer):
        begun = trio.current_time()
        await peer.send(joined(peer, [*[(PONG, b"")] * FLOOD, (TEXT, b"last")]))
        assert await connection.get_message() == "last"
        assert trio.current_time() - begun > 700
        await peer.send_frame(PING, b"first")
        await peer.expect(PONG, b"first")  # no ping was sent: nobody has been silent


class Busy:
    """Asks for a number of turns, one after the other."""

    def __init__(self, name: str, turns: int, log: list[str]) -> None:
        self._name = name
        self._turns = turns
        self._log = log
        self.cause: Exception | None = None
        ask_for_turn(self)

    def take_turn(self) -> None:
        self._log.append(self._name)
        self._turns -= 1
        if self._turns < 0:
            raise ZeroDivisionError
        if self._turns:
            ask_for_turn(self)

    def abort(self, cause: Exception | None) -> None:
        self.cause = cause


async def test_turns_go_round() -> None:
    log: list[str] = []
    for name in "abc":
        Busy(name, 3, log)
    assert log == []
    await settle()
    assert "".join(log) == "abc" * 3
    Busy("d", 1, log)
    await settle()
    assert log[9:] == ["d"]


async def test_who_fails_in_its_turn_is_aborted_alone(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []
    failing, other = Busy("failing", 0, log), Busy("other", 2, log)
    with caplog.at_level(logging.ERROR, "trio_ws"):
        await settle()
    assert log == ["failing", "other", "other"]
    assert isinstance(failing.cause, ZeroDivisionError)
    assert other.cause is None
    assert len(caplog.records) == 1


async def test_no_task_is_left_while_nobody_asks_for_a_turn() -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    Busy("a", 2, [])
    assert trio.lowlevel.current_statistics().tasks_living == before + 1
    await settle()
    assert trio.lowlevel.current_statistics().tasks_living == before
