"""The life of a client's connections: deadlines, cancellation, and what comes out of their blocks and nurseries."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

import trio_ws
from tests.io.api_kit import client_and_peer, echo, scripted_port, serving
from tests.io.transport_kit import PATIENCE
from trio_ws import (
    CloseReason,
    ConnectionClosed,
    ConnectionTimeout,
    DisconnectionTimeout,
    State,
    WebSocketConnection,
    WebSocketRequest,
    connect_websocket,
    connect_websocket_url,
    open_websocket,
    wrap_client_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import FaultyStream, RawPeer, cancelling

# Deadlines

ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


async def say_nothing(peer: RawPeer) -> None:
    await peer.receive_head()
    await trio.sleep_forever()


async def not_even_read(peer: RawPeer) -> None:
    await trio.sleep_forever()


async def drip(peer: RawPeer) -> None:
    await peer.receive_head()
    while True:
        for byte in ANSWER:
            await peer.send(bytes([byte]))
            await trio.sleep(1)


async def drip_headers(peer: RawPeer) -> None:
    await peer.receive_head()
    await peer.send(ANSWER)
    while True:
        await peer.send(b"X: y\r\n")
        await trio.sleep(1)


async def leave_out_the_last_line_end(peer: RawPeer) -> None:
    await peer.receive_head()
    await peer.send(ANSWER)
    await trio.sleep_forever()


async def drip_a_body(peer: RawPeer) -> None:
    await peer.receive_head()
    await peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100000\r\n\r\n")
    while True:
        await peer.send(b"x")
        await trio.sleep(1)


SLOW = [say_nothing, not_even_read, drip, drip_headers, leave_out_the_last_line_end, drip_a_body]


@pytest.mark.parametrize("script", SLOW)
async def test_connect_timeout(
    script: Callable[[RawPeer], Awaitable[None]], autojump_clock: trio.testing.MockClock
) -> None:
    async with scripted_port(script) as port:
        start = trio.current_time()
        with pytest.raises(ConnectionTimeout, match="within 3 seconds"):
            async with open_websocket("127.0.0.1", port, "/", use_ssl=False, connect_timeout=3):
                pass
        assert trio.current_time() - start == pytest.approx(3)


async def test_connect_timeout_is_ten_seconds_by_default(autojump_clock: trio.testing.MockClock) -> None:
    async def open_it(port: int, _: trio.Nursery) -> None:
        await open_websocket("127.0.0.1", port, "/", use_ssl=False).__aenter__()

    async def connect(port: int, nursery: trio.Nursery) -> None:
        await connect_websocket(nursery, "127.0.0.1", port, "/", use_ssl=False)

    async def wrap(port: int, nursery: trio.Nursery) -> None:
        await wrap_client_stream(nursery, await trio.open_tcp_stream("127.0.0.1", port), "localhost", "/")

    async with scripted_port(say_nothing, 60) as port, trio.open_nursery() as nursery:
        for opening in (open_it, connect, wrap):
            start = trio.current_time()
            with pytest.raises(ConnectionTimeout):
                await opening(port, nursery)
            assert trio.current_time() - start == pytest.approx(10)


async def test_connect_timeout_covers_tls(autojump_clock: trio.testing.MockClock) -> None:
    async with scripted_port(not_even_read) as port:
        start = trio.current_time()
        with pytest.raises(ConnectionTimeout):
            async with open_websocket("127.0.0.1", port, "/", use_ssl=True):
                pass
        assert trio.current_time() - start == pytest.approx(10)


async def test_infinite_timeouts(autojump_clock: trio.testing.MockClock) -> None:
    async def script(peer: RawPeer) -> None:
        await trio.sleep(10_000)
        await peer.handshake()
        await peer.receive_frame()
        await trio.sleep(10_000)
        await peer.send_close()

    never = float("inf")
    async with (
        scripted_port(script, 30_000) as port,
        open_websocket(
            "127.0.0.1", port, "/", use_ssl=False, connect_timeout=never, disconnect_timeout=never
        ) as ws,
    ):
        assert trio.current_time() >= 10_000
    assert ws.closed == CloseReason(1000)
    assert trio.current_time() >= 20_000


# Leaving


async def run_block(port: int, block: Callable[[WebSocketConnection], Awaitable[object]]) -> None:
    """Have an ``async with`` block around a function, so that what comes out of it can be looked at."""
    async with open_websocket("127.0.0.1", port, "/", use_ssl=False) as ws:
        await block(ws)


async def answer_nothing(peer: RawPeer) -> None:
    await peer.handshake()
    await peer.receive_rest()


async def test_a_peer_that_does_not_answer_the_close_frame(autojump_clock: trio.testing.MockClock) -> None:
    async with scripted_port(answer_nothing) as port:
        start = trio.current_time()
        with pytest.raises(DisconnectionTimeout, match="close frame"):
            async with open_websocket("127.0.0.1", port, "/", use_ssl=False, disconnect_timeout=4):
                pass
        assert trio.current_time() - start == pytest.approx(4)


async def test_an_exception_of_the_block_comes_before_one_of_leaving(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def block(_: WebSocketConnection) -> None:
        raise ZeroDivisionError

    async with scripted_port(answer_nothing) as port:
        with pytest.raises(ZeroDivisionError):
            await run_block(port, block)


async def test_a_connection_that_was_closed_inside_the_block() -> None:
    async with serving(echo) as server:
        async with open_websocket("127.0.0.1", server.port, "/", use_ssl=False) as ws:
            await ws.aclose(4000)
        assert ws.closed == CloseReason(4000)


async def test_the_block_closes_with_1000() -> None:
    seen: list[CloseReason | None] = []

    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        try:
            await ws.get_message()
        except ConnectionClosed as exc:
            seen.append(exc.received)

    async with serving(handler) as server, open_websocket("127.0.0.1", server.port, "/", use_ssl=False):
        pass
    assert seen == [CloseReason(1000)]


# Exceptions of the block


class Custom(BaseException):
    """No `Exception`."""


ERRORS = [
    ValueError("mine"),
    OSError("mine"),
    trio.TooSlowError(),
    trio.EndOfChannel(),
    Custom("mine"),
    KeyboardInterrupt(),
    SystemExit(3),
    ExceptionGroup("mine", [ValueError("one"), KeyError("two")]),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
async def test_an_exception_of_the_block_comes_out_as_it_is(error: BaseException) -> None:
    async def block(ws: WebSocketConnection) -> None:
        await ws.send_message("x")
        raise error

    async with serving(echo) as server:
        with pytest.raises(type(error)) as raised:
            await run_block(server.port, block)
        assert raised.value is error
        assert error.__cause__ is None
        assert error.__context__ is None


async def test_an_exception_comes_out_bare_from_a_block_that_is_cancelled_at_the_same_time() -> None:
    scope = trio.CancelScope()

    async def block(_: WebSocketConnection) -> None:
        scope.cancel()
        raise ZeroDivisionError

    async with serving(echo) as server:
        with scope, pytest.raises(ZeroDivisionError):
            await run_block(server.port, block)
        assert not scope.cancelled_caught


async def test_cancelling_the_block() -> None:
    scope = trio.CancelScope()
    connections: list[WebSocketConnection] = []

    async def block(ws: WebSocketConnection) -> None:
        connections.append(ws)
        scope.cancel()
        await ws.get_message()

    async with serving(echo) as server:
        with scope:
            await run_block(server.port, block)
        assert scope.cancelled_caught
        assert connections[0].state is State.CLOSED


async def test_what_ends_the_connection_is_told_to_who_asks_and_nobody_else() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        await peer.send(b"\xff\xff\xff\xff")
        await peer.receive_rest()

    async with scripted_port(script) as port:
        async with open_websocket("127.0.0.1", port, "/", use_ssl=False) as ws:
            await ws.wait_closed()
        async with open_websocket("127.0.0.1", port, "/", use_ssl=False) as ws:
            with pytest.raises(ConnectionClosed) as closed:
                await ws.get_message()
            assert isinstance(closed.value.__cause__, trio_ws.RemoteProtocolError)
            assert closed.value.__cause__.close_code == 1002


# Cancelling while it opens


@pytest.mark.parametrize("script", SLOW[:2])
async def test_cancelling_leaves_nothing_open(
    script: Callable[[RawPeer], Awaitable[None]], autojump_clock: trio.testing.MockClock
) -> None:
    async with scripted_port(script) as port:
        for use_ssl in (False, True):
            with trio.move_on_after(1) as scope:
                async with open_websocket("127.0.0.1", port, "/", use_ssl=use_ssl):
                    pass
            assert scope.cancelled_caught


@pytest.mark.parametrize("after", [0, 1, 50, 10_000])
async def test_cancelling_while_the_request_goes_out(after: int) -> None:
    near, far = trio.testing.memory_stream_pair()
    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        faulty = FaultyStream(
            near, send=[after, cancelling(scope)] if after < 1000 else [], receive=[cancelling(scope)]
        )
        with scope:
            await wrap_client_stream(nursery, faulty, "localhost", "/")
        assert scope.cancelled_caught
        assert nursery.child_tasks == frozenset()
        assert len(await RawPeer(far, Role.SERVER).receive_rest()) == min(after, faulty.sent)
        with pytest.raises(trio.ClosedResourceError):
            await faulty.send_all(b"x")


# The life of connections that belong to a nursery


async def test_the_nursery_waits_for_its_connections() -> None:
    async with serving(echo) as server:
        async with trio.open_nursery() as nursery:
            url = f"ws://127.0.0.1:{server.port}/"
            connections = [await connect_websocket_url(nursery, url) for _ in range(3)]

            async def close_all() -> None:
                for ws in connections:
                    await ws.send_message("x")
                    assert await ws.get_message() == "x"
                    await ws.aclose()

            nursery.start_soon(close_all)
        assert [ws.state for ws in connections] == [State.CLOSED] * 3


async def test_cancelling_the_nursery_cuts_its_connections() -> None:
    async with client_and_peer() as (ws, _):
        pass
    async with serving(echo) as server:
        async with trio.open_nursery() as nursery:
            ws = await connect_websocket(nursery, "127.0.0.1", server.port, "/", use_ssl=False)
            nursery.cancel_scope.cancel()
        assert ws.state is State.CLOSED
        assert ws.closed == CloseReason(1006)


async def test_a_nursery_that_is_closed_takes_no_connection() -> None:
    async with serving(echo) as server:
        async with trio.open_nursery() as nursery:
            pass
        with pytest.raises(RuntimeError, match="closed"):
            await connect_websocket(nursery, "127.0.0.1", server.port, "/", use_ssl=False)
        while server.connections:
            await trio.testing.wait_all_tasks_blocked(0.01)


# The shape of Selenium's client for the Chrome DevTools Protocol


class CdpConnectionClosed(ConnectionClosed):
    """Replaces the exception by one of its own, whose constructor sets nothing but the reason."""

    def __init__(
        self, reason: CloseReason | None
    ) -> None:  # does not call super().__init__, as it does not there
        self.reason = reason


async def test_a_client_with_a_reader_task_in_the_same_nursery() -> None:
    received: list[str | bytes] = []
    errors: list[CdpConnectionClosed] = []

    async def get_message(ws: WebSocketConnection) -> str | bytes:
        try:
            return await ws.get_message()
        except ConnectionClosed as exc:
            raise CdpConnectionClosed(exc.reason) from None

    async def read(ws: WebSocketConnection) -> None:
        while True:
            try:
                received.append(await get_message(ws))
            except CdpConnectionClosed as exc:
                errors.append(exc)
                break

    async with serving(echo, max_message_size=2**24) as server:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                url = f"ws://127.0.0.1:{server.port}/devtools/browser/1"
                ws = await connect_websocket_url(nursery, url, max_message_size=2**24)
                nursery.start_soon(read, ws)
                await ws.send_message("{}")
                await ws.send_message("x" * 2**23)
                while len(received) < 2:
                    await trio.testing.wait_all_tasks_blocked(0.01)
                await ws.aclose()
    assert list(map(len, received)) == [2, 2**23]
    (error,) = errors
    assert repr(error) == f"CdpConnectionClosed<{CloseReason(1000)!r}>"
    assert str(error)
