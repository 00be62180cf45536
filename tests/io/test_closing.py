"""The closing handshake and the order of ends: what came before an end is delivered and answered before it."""

import itertools
from contextlib import suppress

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
    close_payload,
    every_kind,
    every_role,
    joined,
    open_streams,
    settle,
    settle_until,
    shake_hands,
)
from tests.io.transport_kit import reset
from trio_ws import (
    CloseReason,
    ConnectionClosed,
    ConnectionEnded,
    ConnectionLost,
    RemoteProtocolError,
    State,
    WebSocketConnection,
)
from trio_ws.protocol import Role
from trio_ws.testing import FaultyStream, Frame, RawPeer

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def echo(connection: WebSocketConnection) -> None:
    """Answer every message, as a handler does, until the end."""
    try:
        while True:
            await connection.send_message(await connection.get_message())
    except ConnectionClosed:
        pass


def frames_in(peer: RawPeer) -> list[Frame]:
    """Take apart all whole frames that have come."""
    frames: list[Frame] = []
    data = bytes(peer.received)
    while data:
        size, start = data[1] & 127, 2
        assert size < 126
        mask = data[start : start + 4] if data[1] & 128 else None
        start += 4 if mask else 0
        payload = data[start : start + size]
        if mask:
            payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        frames.append(Frame(data[0] & 15, payload))
        data = data[start + size :]
    peer.received.clear()
    return frames


# Order


@every_kind
@every_role
@pytest.mark.parametrize("messages", [1, 2, 40])
async def test_message_then_violation(kind: str, role: Role, messages: int) -> None:
    async with against(kind, role) as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(echo, connection)
        await settle()
        frames = [(TEXT, str(number).encode()) for number in range(messages)]
        begun = trio.current_time()
        await peer.send(joined(peer, [*frames, (3, b"")]))
        for number in range(messages):
            await peer.expect(TEXT, str(number).encode())
        await peer.expect_close(1002)
        assert trio.current_time() == begun
        await peer.aclose()
        await connection.wait_closed()
        assert trio.current_time() == begun


@every_kind
@every_role
@pytest.mark.parametrize("messages", [1, 2, 40])
async def test_message_then_close(kind: str, role: Role, messages: int) -> None:
    async with against(kind, role) as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(echo, connection)
        await settle()
        frames = [(TEXT, str(number).encode()) for number in range(messages)]
        begun = trio.current_time()
        await peer.send(joined(peer, [*frames, (CLOSE, close_payload(4321, "bye"))]))
        for number in range(messages):
            await peer.expect(TEXT, str(number).encode())
        await peer.expect_close(4321, "bye")
        assert trio.current_time() == begun


@every_kind
@every_role
async def test_message_then_end_of_bytes(kind: str, role: Role) -> None:
    async with against(kind, role) as (connection, peer):
        begun = trio.current_time()
        await peer.send(joined(peer, [(TEXT, b"last"), (TEXT, b"words")]))
        await peer.stream.send_eof()  # type: ignore[attr-defined]  # these streams half-close
        await settle()
        await echo(connection)
        await peer.expect(TEXT, b"last")
        await peer.expect(TEXT, b"words")
        await peer.expect_end()
        await connection.wait_closed()
        assert trio.current_time() == begun
        assert connection.closed == CloseReason(1006)


@every_kind
@every_role
@pytest.mark.parametrize("ending", ["close", "violation"])
async def test_an_application_that_never_comes_back(kind: str, role: Role, ending: str) -> None:
    async with against(kind, role, disconnect_timeout=10) as (connection, peer):
        begun = trio.current_time()
        last = (CLOSE, close_payload(1000)) if ending == "close" else (3, b"")
        await peer.send(joined(peer, [(TEXT, b"x"), last]))
        await peer.expect_close(1000 if ending == "close" else 1002)
        assert trio.current_time() - begun == pytest.approx(5)
        await connection.wait_closed()
        assert trio.current_time() - begun <= 10.001
        assert await connection.get_message() == "x"
        with pytest.raises(ConnectionClosed):
            await connection.get_message()


@every_kind
async def test_an_end_with_nothing_unanswered_is_answered_at_once(kind: str) -> None:
    async with against(kind) as (_, peer):
        begun = trio.current_time()
        await peer.send_close(1001, "tab closed")
        await peer.expect_close(1001, "tab closed")
        assert trio.current_time() == begun


@every_kind
async def test_an_end_when_all_is_answered_is_answered_at_once(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(echo, connection)
        await peer.send_frame(TEXT, b"question")
        await peer.expect(TEXT, b"question")
        await settle()
        begun = trio.current_time()
        await peer.send_close(1001)
        await peer.expect_close(1001)
        assert trio.current_time() == begun


@every_kind
async def test_messages_can_be_sent_until_the_end_is_answered(kind: str) -> None:
    async with against(kind) as (connection, peer):
        await peer.send(joined(peer, [(TEXT, b"question"), (CLOSE, close_payload(1000))]))
        assert await connection.get_message() == "question"
        assert connection.state is State.OPEN
        assert connection.closed is None
        assert "peer has ended its side" in repr(connection)
        await connection.send_message("answer")
        with pytest.raises(ConnectionEnded):
            await connection.get_message()
        with pytest.raises(ConnectionEnded):
            await connection.send_message("too late")
        await peer.expect(TEXT, b"answer")
        await peer.expect_close(1000)


@every_kind
async def test_two_consumers_and_the_first_that_finds_nothing_more(kind: str) -> None:
    """Whose answer a task still works on is not known here: the first to come back for more ends the conversation."""
    ended: list[str | bytes] = []

    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:

        async def work(seconds: float) -> None:
            message = ""
            with pytest.raises(ConnectionEnded):
                while True:
                    message = str(await connection.get_message())
                    await trio.sleep(seconds)
                    await connection.send_message(f"{message} took {seconds}")
            ended.append(message)

        nursery.start_soon(work, 0.5)
        nursery.start_soon(work, 1.5)
        await settle()
        await peer.send(joined(peer, [(TEXT, b"job"), (TEXT, b"job"), (CLOSE, close_payload(1000))]))
        await peer.expect(TEXT, b"job took 0.5")
        await peer.expect_close(1000)
    assert ended == ["job", "job"]


@every_kind
async def test_nothing_is_lost_when_the_nursery_waits_for_the_connection(kind: str) -> None:
    """The task that keeps a nursery waiting must not tidy away what was received."""
    async with against(kind, Role.CLIENT) as (connection, peer):
        await peer.send(joined(peer, [(TEXT, b"1"), (TEXT, b"2")]))
        await settle()
        await peer.aclose()
        await connection.wait_closed()
        await settle()
        assert [await connection.get_message() for _ in range(2)] == ["1", "2"]
        with pytest.raises(ConnectionLost):
            await connection.get_message()


async def test_a_reset_behind_unread_messages() -> None:
    async with against("tcp", message_queue_size=2) as (connection, peer):
        await peer.send(joined(peer, [(TEXT, b"x")] * 1000))
        await settle()
        reset(peer.stream)
        await settle_until(lambda: connection.state is State.CLOSED)
        for _ in range(1000):
            assert await connection.get_message() == "x"
        with pytest.raises(ConnectionLost) as caught:
            await connection.get_message()
        assert isinstance(caught.value.__cause__, OSError)


@every_kind
async def test_a_close_frame_behind_thousands_of_messages_when_the_peer_is_gone(kind: str) -> None:
    async with against(kind) as (connection, peer):
        await peer.send(joined(peer, [(TEXT, b"x")] * 9000 + [(CLOSE, close_payload(1000))]))
        await peer.aclose()
        for _ in range(9000):
            assert await connection.get_message() == "x"
        with pytest.raises(ConnectionEnded):
            await connection.get_message()


# Closing of our own accord


@every_kind
@every_role
async def test_close_from_here(kind: str, role: Role) -> None:
    async with against(kind, role) as (connection, peer), trio.open_nursery() as nursery:
        begun = trio.current_time()
        nursery.start_soon(connection.aclose, 3000, "enough")
        await peer.expect_close(3000, "enough")
        assert connection.state is State.CLOSING
        assert connection.closed == CloseReason(3000, "enough")
        await peer.send_close(3000)
        if role is Role.SERVER:
            await peer.expect_end()  # RFC 6455 7.1.1: the server ends first
            assert connection.state is State.CLOSING
        await peer.aclose()
        await connection.wait_closed()
        assert trio.current_time() == begun
        assert connection.closed == CloseReason(3000)
        assert not connection.timed_out


@every_kind
@every_role
@pytest.mark.parametrize("unread", [100, 5000, 20000])
async def test_closing_with_unread_messages(kind: str, role: Role, unread: int) -> None:
    """Whatever is left of a large read is looked at: the peer's answer may be in it already."""
    async with against(kind, role) as (connection, peer):
        begun = trio.current_time()
        await peer.send(joined(peer, [(BINARY, b"")] * unread + [(CLOSE, close_payload(4000))]))
        await settle()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.aclose)
            frame = await peer.receive_frame()
            assert frame.opcode == CLOSE
            await peer.aclose()
        assert trio.current_time() == begun
        assert connection.closed == CloseReason(4000)
        with pytest.raises(ConnectionLost):
            await connection.get_message()  # what was unread is dropped


@every_kind
async def test_closing_inside_a_message_larger_than_the_queue(kind: str) -> None:
    async with against(kind, message_queue_bytes=1000) as (connection, peer):
        begun = trio.current_time()
        parts = [peer.encode_frame(BINARY, bytes(2000), fin=False), joined(peer, [(PONG, b"")] * 8500)]
        await peer.send(b"".join(parts) + peer.encode_frame(CLOSE))
        await settle()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.aclose)
            await peer.expect_close(1000)
            await peer.aclose()
        assert trio.current_time() == begun
        assert connection.closed == CloseReason(1005)


@every_kind
@every_role
async def test_a_peer_that_leaves_our_close_frame_unanswered(kind: str, role: Role) -> None:
    async with against(kind, role, disconnect_timeout=7) as (connection, peer):
        begun = trio.current_time()
        await connection.aclose()
        assert trio.current_time() - begun == pytest.approx(7)
        assert connection.timed_out
        assert connection.closed == CloseReason(1006)
        with pytest.raises(ConnectionLost, match="did not answer the close frame"):
            await connection.get_message()
        await peer.expect_close(1000)


@every_kind
@every_role
async def test_a_peer_that_keeps_talking_does_not_prolong_closing(kind: str, role: Role) -> None:
    async with (
        against(kind, role, disconnect_timeout=7) as (connection, peer),
        trio.open_nursery() as nursery,
    ):

        async def talk() -> None:
            for _ in range(100):
                await trio.sleep(0.2)
                await peer.send(joined(peer, [(PING, b"hello"), (TEXT, b"x"), (PONG, b"")]))

        nursery.start_soon(talk)
        begun = trio.current_time()
        await connection.aclose()
        assert trio.current_time() - begun == pytest.approx(7)
        nursery.cancel_scope.cancel()


@every_kind
@every_role
async def test_a_peer_that_answers_and_keeps_talking(kind: str, role: Role) -> None:
    async with (
        against(kind, role, disconnect_timeout=7) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(connection.aclose)
        await settle()
        begun = trio.current_time()
        await peer.send_close()
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await trio.sleep(0.1)
                await peer.send(joined(peer, [(TEXT, b"x")]))
        assert trio.current_time() - begun <= 7.2


@every_kind
@every_role
async def test_a_peer_that_floods_after_the_end_is_cut(kind: str, role: Role) -> None:
    async with against(kind, role, disconnect_timeout=7) as (connection, peer):
        begun = trio.current_time()
        await peer.send_close()
        await peer.expect_close()
        with pytest.raises(trio.BrokenResourceError):
            for _ in range(100):
                await peer.send(bytes(65536))
                await settle()
        await connection.wait_closed()
        assert trio.current_time() == begun
        assert connection.closed == CloseReason(1000)


async def test_unread_data_does_not_destroy_our_close_frame() -> None:
    """A kernel answers unread data with a reset, which can overtake the close frame in flight (RFC 6455 7.1.1)."""
    async with (
        against("tcp", message_queue_size=1, disconnect_timeout=5) as (connection, peer),
        trio.open_nursery() as nursery,
    ):

        async def talk() -> None:
            with trio.CancelScope() as scope:
                for _ in range(100):
                    await peer.send_frame(BINARY, bytes(60000))
                    if scope.cancel_called:
                        break

        nursery.start_soon(talk)
        await settle()
        nursery.start_soon(connection.aclose, 1001)
        await peer.expect_close(1001)
        nursery.cancel_scope.cancel()


@every_kind
@every_role
async def test_reading_resumes_for_the_end(kind: str, role: Role) -> None:
    async with (
        against(kind, role, message_queue_size=1) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        begun = trio.current_time()
        for _ in range(5):
            await peer.send_frame(TEXT, b"x")
            await settle()
        nursery.start_soon(connection.aclose)
        await peer.expect_close()
        await peer.send_close()
        await peer.aclose()
        await connection.wait_closed()
        assert trio.current_time() == begun
        assert connection.closed == CloseReason(1000)


@every_kind
async def test_closing_while_the_peers_end_is_unanswered(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        await peer.send(joined(peer, [(TEXT, b"x"), (CLOSE, close_payload(4000, "theirs"))]))
        await settle()
        nursery.start_soon(connection.aclose, 4001, "ours")
        await peer.expect_close(4000, "theirs")
        await peer.expect_end()


@every_kind
async def test_both_ends_close_at_once(kind: str) -> None:
    async with both_ends(kind) as (client, server):
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose, 4000)
            nursery.start_soon(server.aclose, 4001)
        assert trio.current_time() == begun
        assert client.closed == CloseReason(4001)
        assert server.closed == CloseReason(4000)


@every_kind
async def test_many_tasks_close_at_once(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        for code in range(4000, 4010):
            nursery.start_soon(connection.aclose, code)
        frame = await peer.receive_frame()
        assert frame.opcode == CLOSE
        await peer.send(peer.encode_frame(CLOSE, frame.payload))
        await peer.expect_end()
        await peer.aclose()


@every_kind
async def test_closing_what_is_over_does_nothing(kind: str) -> None:
    async with against(kind) as (connection, peer):
        await peer.aclose()
        await connection.wait_closed()
        begun = trio.current_time()
        await connection.aclose(4000, "too late")
        connection.terminate()
        assert trio.current_time() == begun
        assert connection.closed == CloseReason(1006)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(999, None), (1004, None), (1016, None), (2999, None), (5000, None), (1000, "x" * 124), (None, "why")],
)
async def test_a_code_or_reason_that_cannot_be_sent(code: int | None, reason: str | None) -> None:
    async with against() as (connection, peer):
        with pytest.raises(ValueError, match="close"):
            await connection.aclose(code, reason)
        assert connection.closed is None
        await connection.send_message("goes on")
        await peer.expect(TEXT, b"goes on")


@pytest.mark.parametrize("code", [1005, 1006, 1015])
async def test_codes_that_never_go_out(code: int) -> None:
    async with against() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(connection.aclose, code)
        await peer.expect_close(1000)
        await peer.aclose()


async def test_a_close_frame_without_a_code() -> None:
    async with against() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(connection.aclose, None)
        await peer.expect_close(None)
        await peer.send_close(None)
        await peer.aclose()
        await connection.wait_closed()
        assert connection.closed == CloseReason(1005)


# The peer's close frame is answered exactly once, whatever else happens at the same time.

_EVENTS = ["message", "ping", "close", "violation", "end", "aclose", "take", "wait"]


@every_role
@pytest.mark.parametrize("first", _EVENTS)
async def test_one_close_frame_in_every_interleaving(first: str, role: Role) -> None:
    for rest in itertools.product(_EVENTS, repeat=2):
        for glued in (False, True):
            await _interleave((first, *rest), role, glued=glued)


async def _interleave(  # noqa: C901 - a script: one case for each kind of line
    events: tuple[str, ...], role: Role, *, glued: bool
) -> None:
    async with (
        against("memory", role, disconnect_timeout=10) as (connection, peer),
        trio.open_nursery() as nursery,
    ):
        peer_ended = False
        data: list[bytes] = []
        for event in (*events, "close"):
            match event:
                case "message" | "ping" | "close" | "violation":
                    opcode = {"message": TEXT, "ping": PING, "close": CLOSE, "violation": 3}[event]
                    data.append(peer.encode_frame(opcode, close_payload(1000) if event == "close" else b"m"))
                case "end":
                    peer_ended = True
                case "aclose":
                    nursery.start_soon(connection.aclose, 4000)
                    await settle()
                case "take":
                    nursery.start_soon(_take, connection)
                    await settle()
                case _:
                    await trio.sleep(1)
            if not glued and data and not peer_ended:
                await peer.send(data.pop())
                await settle()
            if peer_ended:
                break
        if data:
            await peer.send(b"".join(data))
        if peer_ended:
            await peer.stream.send_eof()  # type: ignore[attr-defined]  # these streams half-close
        with trio.fail_after(11):
            await _collect(peer)
            if role is Role.CLIENT or not peer_ended:
                await peer.aclose()
            await connection.wait_closed()
        nursery.cancel_scope.cancel()
    closes = [frame for frame in frames_in(peer) if frame.opcode == CLOSE]
    bare_end = peer_ended and not {"close", "violation", "aclose"} & set(events[: events.index("end")])
    assert len(closes) == (0 if bare_end else 1), events


async def _collect(peer: RawPeer) -> None:
    """Read until the close frame, or the end."""
    while not peer.received.startswith(b"\x88") and not any(
        frame.opcode == CLOSE for frame in frames_in_copy(peer)
    ):
        data = await peer.stream.receive_some()
        if not data:
            return
        peer.received += data
    await settle()


def frames_in_copy(peer: RawPeer) -> list[Frame]:
    before = bytes(peer.received)
    frames = frames_in(peer)
    peer.received += before
    return frames


async def _take(connection: WebSocketConnection) -> None:
    with suppress(ConnectionClosed):
        await connection.get_message()


@every_kind
async def test_close_inside_a_fragmented_message(kind: str) -> None:
    async with against(kind) as (connection, peer):
        await peer.send(
            peer.encode_frame(TEXT, b"half", fin=False) + peer.encode_frame(CLOSE, close_payload(1000))
        )
        await peer.expect_close(1000)
        with pytest.raises(ConnectionEnded):
            await connection.get_message()


@every_kind
async def test_end_of_bytes_inside_a_message(kind: str) -> None:
    async with against(kind) as (connection, peer):
        await peer.send(peer.encode_frame(TEXT, b"half of it")[:-3])
        await peer.aclose()
        with pytest.raises(ConnectionLost):
            await connection.get_message()


@every_kind
async def test_violation_inside_a_fragmented_message(kind: str) -> None:
    async with against(kind) as (connection, peer):
        await peer.send(peer.encode_frame(TEXT, b"\xff half", fin=False))
        await peer.expect_close(1007)
        with pytest.raises(ConnectionLost) as caught:
            await connection.get_message()
        assert isinstance(caught.value.__cause__, RemoteProtocolError)
        assert caught.value.sent == CloseReason(1007)
        assert caught.value.received is None


@every_kind
@every_role
async def test_no_time_for_closing_at_all(kind: str, role: Role) -> None:
    async with against(kind, role, disconnect_timeout=0) as (connection, peer):
        begun = trio.current_time()
        await connection.aclose()
        await peer.receive_rest()  # a close frame, if there was time for it
        assert trio.current_time() == begun
        assert connection.timed_out
    async with against(kind, role, disconnect_timeout=0) as (connection, peer):
        await peer.send(joined(peer, [(TEXT, b"x"), (CLOSE, close_payload(1000))]))
        await connection.wait_closed()
        assert trio.current_time() == begun
        assert await connection.get_message() == "x"


@every_role
@pytest.mark.parametrize("kind", ["memory", "lockstep"])
async def test_a_conversation_byte_by_byte(kind: str, role: Role) -> None:
    """FI06: how the bytes are cut makes no difference."""
    ours, theirs = await open_streams(kind)
    slow = FaultyStream(ours, receive=itertools.repeat(1), send=itertools.repeat(1))
    async with trio.open_nursery() as nursery:
        connection, peer = await shake_hands(nursery, slow, theirs, role)
        nursery.start_soon(echo, connection)
        frames = [(TEXT, "aé€".encode()), (BINARY, b""), (PING, b"now"), (BINARY, bytes(300))]
        nursery.start_soon(peer.send, joined(peer, [*frames, (CLOSE, close_payload(1001, "bye"))]))
        for opcode, payload in frames:
            await peer.expect(PONG if opcode == PING else opcode, payload)
        await peer.expect_close(1001, "bye")
        await peer.aclose()
    assert connection.closed == CloseReason(1001, "bye")
