"""What each call raises after each kind of end, and how the connection describes itself on the way there."""

import pickle
from collections.abc import Awaitable, Callable

import pytest
import trio

from tests.io.link_kit import (
    BINARY,
    CLOSE,
    TEXT,
    against,
    close_payload,
    every_kind,
    every_role,
    joined,
    settle,
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
from trio_ws.testing import RawPeer

pytestmark = pytest.mark.usefixtures("autojump_clock")

Call = Callable[[WebSocketConnection], Awaitable[object]]


async def receive_in_pieces(connection: WebSocketConnection) -> None:
    async with connection.receive_stream() as pieces:
        async for _ in pieces:
            pass


async def receive_nowait(connection: WebSocketConnection) -> None:
    connection.messages.receive_nowait()


CALLS: dict[str, Call] = {
    "get_message": lambda connection: connection.get_message(),
    "receive": lambda connection: connection.receive(),
    "messages.receive": lambda connection: connection.messages.receive(),
    "messages.receive_nowait": receive_nowait,
    "receive_stream": receive_in_pieces,
    "send_message": lambda connection: connection.send_message("x"),
    "send": lambda connection: connection.send(b"x"),
    "send_stream": lambda connection: connection.send_stream(["x"]),
    "ping": lambda connection: connection.ping(),
    "pong": lambda connection: connection.pong(),
}

#: How it ended -> class, reason, received, sent, class of the cause, part of the text.
ENDS: dict[str, tuple[type[ConnectionClosed], int, int | None, int | None, type[Exception] | None, str]] = {
    "1000": (ConnectionEnded, 1000, 1000, 1000, None, "received 1000 NORMAL_CLOSURE"),
    "1001": (ConnectionEnded, 1001, 1001, 1001, None, "received 1001 GOING_AWAY"),
    "no code": (ConnectionEnded, 1005, 1005, 1005, None, "received 1005 NO_STATUS_RCVD"),
    "1011": (ConnectionLost, 1011, 1011, 1011, None, "received 1011 INTERNAL_ERROR"),
    "4000 why": (ConnectionLost, 4000, 4000, 4000, None, "received 4000 PRIVATE_RESERVED 'why'"),
    "violation": (ConnectionLost, 1006, None, 1002, RemoteProtocolError, "invalid opcode (3)"),
    "bad text": (ConnectionLost, 1006, None, 1007, RemoteProtocolError, "invalid UTF-8"),
    "too big": (ConnectionLost, 1006, None, 1009, RemoteProtocolError, "max_message_size"),
    "end": (ConnectionLost, 1006, None, None, None, "without close frames"),
    "reset": (ConnectionLost, 1006, None, None, OSError, "reset"),
    "closed here": (ConnectionEnded, 1000, 1000, 1000, None, "received 1000"),
    "closed here with 4000": (ConnectionLost, 1000, 1000, 4000, None, "sent 4000"),
    "unanswered": (ConnectionLost, 1006, None, 1000, TimeoutError, "did not answer the close frame"),
    "silent": (ConnectionLost, 1006, None, None, TimeoutError, "no progress"),
    "terminated": (ConnectionLost, 1006, None, None, None, "without close frames"),
    "violation after our close": (ConnectionLost, 1006, None, 1000, RemoteProtocolError, "invalid opcode"),
}


async def end_by(  # noqa: C901 - one case for each end
    way: str, connection: WebSocketConnection, peer: RawPeer
) -> None:
    """Bring the connection to this end."""
    match way:
        case "1000" | "1001" | "1011":
            await peer.send_close(int(way))
        case "no code":
            await peer.send_close(None)
        case "4000 why":
            await peer.send_close(4000, "why")
        case "violation":
            await peer.send_frame(3)
        case "bad text":
            await peer.send_frame(TEXT, b"\xff")
        case "too big":
            await peer.send_frame(BINARY, bytes(2**20 + 1), fin=False)
        case "end":
            await peer.aclose()
        case "reset":
            reset(peer.stream)
        case "unanswered":
            await connection.aclose()
        case "silent":
            await trio.sleep(60)
        case "terminated":
            connection.terminate()
        case _:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.aclose, 4000 if way.endswith("4000") else 1000)
                await settle()
                await (peer.send_frame(3) if way.startswith("violation") else peer.send_close())
                await settle()
                await peer.aclose()
    await settle()
    await peer.aclose()
    await connection.wait_closed()


@every_kind
@every_role
@pytest.mark.parametrize("way", list(ENDS))
async def test_what_every_call_raises_after(kind: str, role: Role, way: str) -> None:
    if way == "reset" and kind == "memory":
        pytest.skip("memory streams cannot be reset")
    expected, reason, received, sent, cause, text = ENDS[way]
    async with against(kind, role) as (connection, peer):
        await end_by(way, connection, peer)
        for name, call in CALLS.items():
            with pytest.raises(ConnectionClosed) as caught:
                await call(connection)
            error = caught.value
            assert type(error) is expected, name
            assert error.reason is not None
            assert error.reason.code == reason
            assert (error.received.code if error.received else None) == received
            assert (error.sent.code if error.sent else None) == sent
            assert (cause is None and error.__cause__ is None) or (
                cause is not None and isinstance(error.__cause__, cause)
            )
            assert text in str(error)
            assert str(error.reason) in str(error)
        assert connection.state is State.CLOSED
        assert connection.closed == CloseReason(reason, "why" if way == "4000 why" else None)
        assert connection.timed_out == (way == "unanswered")


@every_kind
@pytest.mark.parametrize("way", ["1000", "1001", "no code", "closed here"])
async def test_iteration_stops_quietly_after_a_clean_end(kind: str, way: str) -> None:
    async with against(kind) as (connection, peer):
        await end_by(way, connection, peer)
        for source in (connection, connection.messages):
            assert [message async for message in source] == []


@every_kind
@pytest.mark.parametrize(
    "way", ["1011", "4000 why", "violation", "end", "terminated", "silent", "unanswered"]
)
async def test_iteration_raises_after_any_other_end(kind: str, way: str) -> None:
    async with against(kind) as (connection, peer):
        await end_by(way, connection, peer)
        for source in (connection, connection.messages):
            with pytest.raises(ConnectionLost):
                async for _ in source:
                    pass


@every_kind
async def test_iteration_delivers_what_came_before_the_end(kind: str) -> None:
    async with against(kind) as (connection, peer):
        await peer.send(joined(peer, [(TEXT, b"1"), (TEXT, b"2"), (CLOSE, close_payload(1001))]))
        assert [message async for message in connection] == ["1", "2"]
        await peer.expect_close(1001)


async def test_the_exceptions_of_trios_channels() -> None:
    async with against() as (connection, peer):
        await peer.send_close(1000)
        with pytest.raises(trio.EndOfChannel):
            await connection.receive()
        with pytest.raises(trio.EndOfChannel):
            await connection.send("x")
    async with against() as (connection, peer):
        await peer.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await connection.receive()
        with pytest.raises(trio.BrokenResourceError):
            await connection.send("x")


@every_kind
async def test_who_waits_when_the_connection_is_closed_here(kind: str) -> None:
    async with against(kind) as (connection, peer), trio.open_nursery() as nursery:
        raised: list[ConnectionClosed] = []

        async def wait(call: Call) -> None:
            with pytest.raises(ConnectionClosed) as caught:
                await call(connection)
            raised.append(caught.value)

        nursery.start_soon(wait, CALLS["get_message"])
        nursery.start_soon(wait, CALLS["ping"])
        await settle()
        nursery.start_soon(connection.aclose, 1000, "done here")
        await settle()
        assert connection.state is State.CLOSING
        assert [type(error) for error in raised] == [ConnectionEnded] * 2
        for error in raised:
            assert error.reason == error.sent == CloseReason(1000, "done here")
            assert error.received is None
        await peer.aclose()


@every_kind
async def test_each_task_gets_an_error_of_its_own(kind: str) -> None:
    """An exception that is raised twice grows a traceback that belongs to nobody."""
    async with against(kind) as (connection, peer):
        await peer.aclose()
        errors: list[ConnectionClosed] = []
        for _ in range(2):
            with pytest.raises(ConnectionClosed) as caught:
                await connection.get_message()
            errors.append(caught.value)
        assert errors[0] is not errors[1]


async def test_errors_can_be_pickled_and_printed() -> None:
    for error in (
        ConnectionEnded(CloseReason(1000), CloseReason(1000), CloseReason(1000)),
        ConnectionLost(CloseReason(1006), None, CloseReason(1002)),
        ConnectionClosed(None),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), repr(copy)) == (type(error), str(error), repr(error))


@every_kind
@every_role
async def test_state_and_repr_on_the_way(kind: str, role: Role) -> None:
    async with against(kind, role) as (connection, peer), trio.open_nursery() as nursery:
        number = str(connection).rpartition("-")[2]
        name = f"{role.value}-{number}"
        assert str(connection) == name
        assert connection.state is State.OPEN
        assert connection.closed is None
        description = repr(connection)
        assert description.startswith(f"<WebSocketConnection {name} ws://localhost/ OPEN remote=")
        assert description.endswith("queued=0 buffered=0>")
        nursery.start_soon(connection.ping, b"x")
        await peer.receive_frame()
        await trio.sleep(0.25)
        await peer.send(joined(peer, [(10, b"x"), (TEXT, b"1"), (TEXT, b"2")]))
        await settle()
        assert repr(connection).endswith("queued=2 buffered=0 latency=250.0ms>")
        await peer.send_close(1001, "bye")
        await settle()
        assert connection.state.name == "OPEN"
        assert connection.closed is None
        assert " OPEN peer has ended its side " in repr(connection)
        nursery.start_soon(connection.aclose)
        await settle()
        assert connection.state.name == "CLOSING"
        assert f" CLOSING {CloseReason(1001, 'bye')!r} " in repr(connection)
        await peer.aclose()
        await connection.wait_closed()
        assert connection.state.name == "CLOSED"
        assert f" CLOSED {CloseReason(1001, 'bye')!r} " in repr(connection)


async def test_states_are_numbered_as_in_browsers() -> None:
    assert [state.value for state in (State.CONNECTING, State.OPEN, State.CLOSING, State.CLOSED)] == [
        0,
        1,
        2,
        3,
    ]


@every_kind
async def test_terminate_at_any_time(kind: str) -> None:
    async with against(kind) as (connection, peer):
        await peer.send(joined(peer, [(TEXT, b"unread")] * 3))
        await settle()
        begun = trio.current_time()
        connection.terminate()
        connection.terminate()
        assert connection.state is State.CLOSED
        with pytest.raises(ConnectionLost):
            await connection.get_message()
        await connection.wait_closed()
        await connection.aclose()
        assert await peer.receive_rest() == b""
        assert trio.current_time() == begun


@every_kind
async def test_terminate_while_closing(kind: str) -> None:
    async with against(kind) as (connection, _), trio.open_nursery() as nursery:
        begun = trio.current_time()
        nursery.start_soon(connection.aclose)
        await settle()
        connection.terminate()
        await connection.wait_closed()
        assert trio.current_time() == begun
        assert connection.closed == CloseReason(1006)
        assert not connection.timed_out


@pytest.mark.parametrize("message", [None, 1, 1.5, object(), ["a"], memoryview(bytes(10))[::2], "\ud800"])
@every_kind
async def test_what_is_no_message(kind: str, message: str) -> None:
    async with against(kind) as (connection, peer):
        with pytest.raises(ValueError, match=r"message|surrogates"):
            await connection.send_message(message)
        await connection.send_message("next")
        await peer.expect(TEXT, b"next")


@every_kind
@pytest.mark.parametrize("payload", [bytes(126), "x" * 126, "é" * 63])
async def test_payloads_too_long_for_a_control_frame(kind: str, payload: bytes | str) -> None:
    async with against(kind) as (connection, peer):
        with pytest.raises(ValueError, match="at most 125 bytes"):
            await connection.ping(payload)
        with pytest.raises(ValueError, match="at most 125 bytes"):
            await connection.pong(payload)
        await connection.pong(bytes(125))
        await peer.expect(10, bytes(125))
