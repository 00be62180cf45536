"""The end of a server: by `aclose` and by cancellation, what its clients see of it, and that it is bounded in time."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import pytest
import trio
import trio.testing

from tests.io.api_kit import closed_error, dialling, echo, raw_client, serving, serving_in_memory
from tests.io.transport_kit import PATIENCE
from trio_ws import (
    CloseReason,
    ConnectionRejected,
    HandshakeError,
    State,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    open_websocket,
    wrap_client_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import FaultyStream, MemoryListener, RawPeer, handshake_request, stall

# aclose


async def answers_nothing(_: WebSocketRequest) -> None:
    await trio.sleep_forever()


async def test_aclose_tells_all_clients_and_stops_listening() -> None:
    async with serving(echo) as server:
        port = server.port
        async with (
            trio.open_nursery() as nursery,
            open_websocket("127.0.0.1", port, "/", use_ssl=False) as first,
            open_websocket("127.0.0.1", port, "/", use_ssl=False) as second,
        ):
            nursery.start_soon(server.aclose)
            assert [(await closed_error(ws)).reason for ws in (first, second)] == [CloseReason(1001)] * 2
        with pytest.raises(HandshakeError) as refused:
            async with open_websocket("127.0.0.1", port, "/", use_ssl=False):
                pass
        assert isinstance(refused.value.__cause__, OSError)
        assert server.port == port  # can still be told
        await server.aclose()


async def test_aclose_with_a_code_of_its_own() -> None:
    async with (
        serving_in_memory(echo) as (server, listener),
        trio.open_nursery() as nursery,
        dialling(listener) as ws,
    ):
        for code, reason in ((1005, ""), (1000, "x" * 124)):
            with pytest.raises(ValueError, match="close"):
                await server.aclose(10, code, reason)
        assert ws.closed is None
        nursery.start_soon(partial(server.aclose, drain=5, code=1012, reason="restarting"))
        assert (await closed_error(ws)).reason == CloseReason(1012, "restarting")


async def test_run_returns_after_aclose() -> None:
    listener = MemoryListener()
    server = WebSocketServer(echo, [listener])
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            await server.aclose()
        with pytest.raises(trio.BrokenResourceError):
            listener.connect()


async def test_a_server_that_is_closed_before_it_runs_accepts_nobody() -> None:
    listener = MemoryListener()
    server = WebSocketServer(echo, [listener])
    await server.aclose()
    waiting = listener.connect()
    with trio.fail_after(PATIENCE):
        await server.run()
    assert await waiting.receive_some() == b""


async def test_handlers_may_finish_while_the_server_closes(autojump_clock: trio.testing.MockClock) -> None:
    finished: list[float] = []

    async def handler(request: WebSocketRequest) -> None:
        async for _ in await request.accept():
            pass
        await trio.sleep(7)  # to put things in order
        finished.append(trio.current_time())

    async with serving_in_memory(handler) as (server, listener), dialling(listener):
        await server.aclose()
        assert finished == [pytest.approx(7)]
        assert trio.current_time() == pytest.approx(7)


async def test_a_stuck_handler_gets_no_longer_than_drain(autojump_clock: trio.testing.MockClock) -> None:
    cancelled: list[float] = []

    async def handler(request: WebSocketRequest) -> None:
        await request.accept()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append(trio.current_time())

    async with serving_in_memory(handler) as (server, listener), dialling(listener) as ws:
        await server.aclose(drain=4)
        assert cancelled == [pytest.approx(4)]
        assert ws.closed == CloseReason(1001)


@pytest.mark.parametrize("drain", [0.5, 4])
async def test_a_stuck_peer_gets_no_longer_than_drain(
    drain: float, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving_in_memory(echo) as (server, listener):
        peer = raw_client(listener)
        await peer.handshake()
        await server.aclose(drain)
        assert trio.current_time() == pytest.approx(drain)
        await peer.expect_close(1001)
        await peer.expect_end()
        await peer.aclose()


async def test_without_drain_clients_are_still_told_where_the_kernel_takes_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving(echo) as server, await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        peer = RawPeer(stream, Role.CLIENT)
        await peer.handshake()
        await trio.testing.wait_all_tasks_blocked()
        await server.aclose(0)
        assert trio.current_time() == 0
        await peer.expect_close(1001)
        await peer.expect_end()


@pytest.mark.parametrize("drain", [0, 2])
async def test_a_connection_whose_handler_has_just_accepted_it(
    drain: float, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(echo) as server, await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        peer = RawPeer(stream, Role.CLIENT)
        await peer.handshake()  # the server's task has not run yet since its answer left
        await server.aclose(drain)
        assert trio.current_time() == pytest.approx(drain)
        await peer.expect_close(1001)
        await peer.expect_end()


def listener_of_a_deaf_client() -> tuple[MemoryListener, RawPeer]:
    """Return a listener, and a client of it that has sent its request and takes 5 bytes of an answer."""
    near, far = trio.testing.memory_stream_pair()
    listener = MemoryListener(lambda: (near, FaultyStream(far, send=[5, stall])))
    return listener, raw_client(listener)


@pytest.mark.parametrize("drain", [0, 2, 8])
async def test_a_client_that_takes_no_503_gets_no_longer_than_drain(
    drain: float, autojump_clock: trio.testing.MockClock
) -> None:
    listener, peer = listener_of_a_deaf_client()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(WebSocketServer(answers_nothing, [listener]).run)
        await peer.send(handshake_request())
        await trio.testing.wait_all_tasks_blocked()
        await server.aclose(drain)
    assert trio.current_time() == pytest.approx(drain)
    await peer.aclose()


async def test_cancelling_aclose_cuts_short_what_a_cancelled_handler_has_left_to_say(
    autojump_clock: trio.testing.MockClock,
) -> None:
    listener, peer = listener_of_a_deaf_client()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(WebSocketServer(answers_nothing, [listener]).run)
        await peer.send(handshake_request())
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(2):
            await server.aclose(1000)
    assert trio.current_time() == pytest.approx(2)
    await peer.aclose()


async def test_the_default_drain_is_ten_seconds(autojump_clock: trio.testing.MockClock) -> None:
    async with serving_in_memory(echo, disconnect_timeout=1000) as (server, listener):
        peer = raw_client(listener)
        await peer.handshake()
        await server.aclose()
        assert trio.current_time() == pytest.approx(10)
        await peer.aclose()


async def test_cancelling_aclose_cuts_what_is_left(autojump_clock: trio.testing.MockClock) -> None:
    async with serving_in_memory(echo) as (server, listener):
        peer = raw_client(listener)
        await peer.handshake()
        with trio.move_on_after(2) as scope:
            await server.aclose(1000)
        assert scope.cancelled_caught
        await peer.expect_close(1001)
        await peer.expect_end()
        assert trio.current_time() == pytest.approx(2)
        await peer.aclose()


async def test_a_handler_may_close_its_server(autojump_clock: trio.testing.MockClock) -> None:
    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        if await ws.get_message() == "close!":
            await servers[0].aclose(drain=3)

    servers: list[WebSocketServer] = []
    listener = MemoryListener()
    async with trio.open_nursery() as nursery:
        servers.append(await nursery.start(WebSocketServer(handler, [listener]).run))
        async with dialling(listener) as other, dialling(listener) as ws:
            await ws.send_message("close!")
            for each in (ws, other):
                assert (await closed_error(each)).reason == CloseReason(1001)
    assert trio.current_time() == pytest.approx(3)


# Whom the end finds half-way


def _half_a_request(peer: RawPeer) -> Awaitable[None]:
    return peer.send(handshake_request()[:-2])


def _nothing(peer: RawPeer) -> Awaitable[None]:
    return peer.send(b"")


def _a_request(peer: RawPeer) -> Awaitable[None]:
    return peer.send(handshake_request())


End: TypeAlias = Callable[[WebSocketServer, trio.Nursery], Awaitable[None]]


async def _close(server: WebSocketServer, _: trio.Nursery) -> None:
    await server.aclose()


async def _cancel(_: WebSocketServer, nursery: trio.Nursery) -> None:
    nursery.cancel_scope.cancel()


async def answers_nothing_in_a_nursery(_: WebSocketRequest) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(trio.sleep_forever)


@pytest.mark.parametrize("end", [_close, _cancel])
@pytest.mark.parametrize("said", [_nothing, _half_a_request, _a_request])
@pytest.mark.parametrize("handler", [answers_nothing, answers_nothing_in_a_nursery])
async def test_requests_that_are_not_answered_yet_get_a_503(
    handler: Callable[[WebSocketRequest], Awaitable[None]],
    said: Callable[[RawPeer], Awaitable[None]],
    end: End,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    listener = MemoryListener()
    peer = raw_client(listener)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(WebSocketServer(handler, [listener]).run)
        await said(peer)
        await trio.testing.wait_all_tasks_blocked()
        await end(server, nursery)
    assert (await peer.receive_head()).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    await peer.expect_end()
    assert trio.current_time() <= 1
    assert caplog.records == []
    await peer.aclose()


async def test_a_client_sees_the_503() -> None:
    async with serving(answers_nothing) as server, trio.open_nursery() as nursery:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)

        async def close() -> None:
            await trio.testing.wait_all_tasks_blocked(0.01)
            await server.aclose()

        nursery.start_soon(close)
        with pytest.raises(ConnectionRejected) as rejected:
            await wrap_client_stream(nursery, stream, "127.0.0.1", "/")
        assert rejected.value.status_code == 503


class ClosingListener(MemoryListener):
    """Has somebody else close the server in the moment in which it accepts."""

    def __init__(self) -> None:
        super().__init__()
        self.accepting = trio.Event()

    async def accept(self) -> trio.abc.Stream:
        stream = await super().accept()
        self.accepting.set()
        return stream


async def test_a_connection_accepted_just_before_the_end(autojump_clock: trio.testing.MockClock) -> None:
    for _ in range(30):  # which task is first, the server's end or the connection's, is up to chance
        listener = ClosingListener()
        peer = raw_client(listener)
        async with trio.open_nursery() as nursery:
            server = await nursery.start(WebSocketServer(echo, [listener]).run)
            await listener.accepting.wait()
            await server.aclose()
        assert trio.current_time() == 0
        assert (await peer.receive_head()).startswith(b"HTTP/1.1 503 ")
        await peer.expect_end()


async def test_a_client_that_takes_no_503_to_half_a_request_delays_the_end_by_a_second_at_most(
    autojump_clock: trio.testing.MockClock,
) -> None:
    listener, peer = listener_of_a_deaf_client()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(WebSocketServer(echo, [listener]).run)
        await trio.testing.wait_all_tasks_blocked()
        await server.aclose()
    assert trio.current_time() <= 1
    assert await peer.receive_rest() == b"HTTP/"


# Cancellation


async def test_cancelling_the_server_tells_all_clients() -> None:
    ends: list[CloseReason | None] = []

    async def client(listener: MemoryListener, task_status: trio.TaskStatus[None]) -> None:
        async with dialling(listener) as ws:
            await ws.ping()
            task_status.started()
            ends.append((await closed_error(ws)).received)

    listener = MemoryListener()
    async with trio.open_nursery() as clients, trio.open_nursery() as nursery:
        await nursery.start(WebSocketServer(echo, [listener]).run)
        for _ in range(3):
            await clients.start(client, listener)
        nursery.cancel_scope.cancel()
    assert ends == [CloseReason(1001)] * 3


async def in_a_nursery(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ws.get_message)
        nursery.start_soon(trio.sleep_forever)


async def in_an_iteration(request: WebSocketRequest) -> None:
    async for _ in await request.accept():
        pass


async def failing_when_cancelled(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ws.get_message)
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while it was cancelled")


@pytest.mark.parametrize(
    ("handler", "failures"), [(in_a_nursery, 0), (in_an_iteration, 0), (failing_when_cancelled, 1)]
)
async def test_handlers_of_every_shape_are_ended_with_1001(
    handler: Callable[[WebSocketRequest], Awaitable[None]], failures: int, caplog: pytest.LogCaptureFixture
) -> None:
    listener = MemoryListener()
    peer = raw_client(listener)
    async with trio.open_nursery() as nursery:
        await nursery.start(WebSocketServer(handler, [listener]).run)
        await peer.handshake()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await peer.expect_close(1001)
            await peer.send_close(1001)
            await peer.expect_end()
            await peer.aclose()
    assert len(caplog.records) == failures


@pytest.mark.parametrize("drain", [3, None])
async def test_cancelling_is_bounded_by_drain(
    drain: float | None, autojump_clock: trio.testing.MockClock
) -> None:
    listener = MemoryListener()
    peers = [raw_client(listener) for _ in range(3)]
    async with trio.open_nursery() as nursery:
        server = (
            WebSocketServer(echo, [listener])
            if drain is None
            else WebSocketServer(echo, [listener], drain=drain)
        )
        await nursery.start(server.run)
        for peer in peers:
            await peer.handshake()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == pytest.approx(5 if drain is None else drain)
    for peer in peers:
        await peer.expect_close(1001)
        await peer.expect_end()
        await peer.aclose()


async def test_cancelling_with_a_peer_that_does_not_read(autojump_clock: trio.testing.MockClock) -> None:
    async def flood(request: WebSocketRequest) -> None:
        ws = await request.accept()
        while True:
            await ws.send_message(bytes(10_000))

    near, far = trio.testing.memory_stream_pair()
    listener = MemoryListener(lambda: (near, FaultyStream(far, send=[1000, stall])))
    peer = raw_client(listener)
    async with trio.open_nursery() as nursery:
        await nursery.start(WebSocketServer(flood, [listener], drain=3).run)
        await peer.handshake()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert trio.current_time() == pytest.approx(4)
    await peer.aclose()


async def test_handlers_in_a_nursery_of_their_own_outlive_a_cancelled_server() -> None:
    listener = MemoryListener()
    async with trio.open_nursery() as handlers:
        async with trio.open_nursery() as nursery:
            await nursery.start(WebSocketServer(echo, [listener], handler_nursery=handlers).run)
            peer = RawPeer(listener.connect(), Role.CLIENT)
            await peer.handshake()
            nursery.cancel_scope.cancel()
        await peer.send_frame(1, b"still there?")
        await peer.expect(1, b"still there?")
        with pytest.raises(trio.BrokenResourceError):
            listener.connect()
        await peer.send_close()
        await peer.expect_close()
        await peer.aclose()


async def test_connections_are_over_when_the_server_is() -> None:
    connections: list[WebSocketConnection] = []

    async def handler(request: WebSocketRequest) -> None:
        connections.append(await request.accept())
        await echo_on(connections[-1])

    async def echo_on(ws: WebSocketConnection) -> None:
        async for message in ws:
            await ws.send_message(message)

    async with serving_in_memory(handler) as (_, listener), dialling(listener) as ws:
        await ws.ping()
    assert [connection.state for connection in connections] == [State.CLOSED]


async def test_a_connection_that_has_ended_its_talk_does_not_outlive_the_server() -> None:
    connections: list[WebSocketConnection] = []

    async def handler(request: WebSocketRequest) -> None:
        connections.append(await request.accept())
        async for _ in connections[-1]:
            pass
        await trio.sleep_forever()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        server = await nursery.start(WebSocketServer(handler, listeners).run)
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        peer = RawPeer(stream, Role.CLIENT)
        await peer.handshake()
        await peer.send_close()
        await peer.expect_close()
        await peer.expect_end()  # of what the server says; this side stays open
        assert connections[0].state is State.CLOSING
        nursery.cancel_scope.cancel()
    assert [connection.state.name for connection in connections] == ["CLOSED"]
    await peer.aclose()
