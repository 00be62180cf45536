"""What comes of handlers: how they end their connection, and what their exceptions do to it, to others and to the log."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from tests.io.api_kit import (
    closed_error,
    dialling,
    echo,
    raw_client,
    scripted_port,
    serving,
    serving_in_memory,
)
from tests.io.transport_kit import PATIENCE, reset
from trio_ws import (
    CloseReason,
    ConnectionClosed,
    ConnectionEnded,
    ConnectionLost,
    Request,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    open_websocket,
)
from trio_ws.protocol import Role
from trio_ws.testing import MemoryListener, RawPeer

LOGGER = "trio_ws"


def failing(error: BaseException) -> Callable[[WebSocketRequest], Awaitable[None]]:
    """Return a handler that echoes to ``/echo``, and elsewhere fails after one message."""

    async def handler(request: WebSocketRequest) -> None:
        if request.path == "/echo":
            await echo(request)
            return
        ws = await request.accept()
        await ws.get_message()
        raise error

    return handler


def logged_errors(caplog: pytest.LogCaptureFixture) -> list[BaseException]:
    """Return the exceptions that were logged; nothing else must have been."""
    errors: list[BaseException] = []
    for record in caplog.records:
        assert (record.name, record.levelno) == (LOGGER, logging.ERROR)
        assert record.exc_info is not None
        assert record.exc_info[1] is not None
        errors.append(record.exc_info[1])
    return errors


async def test_a_handler_that_returns_closes_with_1000() -> None:
    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        await ws.send_message("all I have to say")

    async with serving_in_memory(handler) as (_, listener), dialling(listener) as ws:
        assert [message async for message in ws] == ["all I have to say"]
        assert ws.closed == CloseReason(1000)


async def test_a_handler_may_close_by_itself() -> None:
    async def handler(request: WebSocketRequest) -> None:
        await (await request.accept()).aclose(4000, "enough")

    async with serving_in_memory(handler) as (_, listener), dialling(listener) as ws:
        assert (await closed_error(ws)).reason == CloseReason(4000, "enough")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("oops"),
        OSError(5, "oops"),
        trio.TooSlowError(),
        trio.BrokenResourceError(),
        ExceptionGroup("oops", [ValueError("one"), ConnectionClosed(CloseReason(1000))]),
    ],
    ids=repr,
)
async def test_a_failing_handler_is_logged_once_and_told_the_peer_alone(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving_in_memory(failing(error)) as (_, listener), dialling(listener, "/echo") as other:
        async with dialling(listener) as ws:
            await ws.send_message("fail!")
            assert (await closed_error(ws)).reason == CloseReason(1011)
        assert logged_errors(caplog) == [error]
        assert "test_server_handlers.py" in caplog.text  # the traceback
        await other.send_message("not my business")
        assert await other.get_message() == "not my business"


async def test_the_log_does_not_wait_for_the_peer(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving_in_memory(failing(error := ValueError("oops"))) as (_, listener):
        peer = raw_client(listener)
        await peer.handshake()
        await peer.send_frame(1, b"fail!")
        await peer.expect_close(1011)  # which stays without an answer
        await trio.testing.wait_all_tasks_blocked()
        assert logged_errors(caplog) == [error]
        await peer.expect_end()
        await peer.aclose()
    assert len(caplog.records) == 1


async def test_a_handler_that_fails_when_its_peer_has_reset_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    go = trio.Event()

    async def handler(request: WebSocketRequest) -> None:
        if request.path == "/echo":
            await echo(request)
            return
        await request.accept()
        await go.wait()
        raise error

    error = ValueError("oops")
    async with (
        serving(handler) as server,
        open_websocket("127.0.0.1", server.port, "/echo", use_ssl=False) as other,
    ):
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        await RawPeer(stream, Role.CLIENT).handshake()
        reset(stream)
        while len(server.connections) > 1:
            await trio.testing.wait_all_tasks_blocked(0.01)
        go.set()
        await other.send_message("not my business")
        assert await other.get_message() == "not my business"
        assert logged_errors(caplog) == [error]


@pytest.mark.parametrize("in_a_nursery", [False, True])
@pytest.mark.parametrize("code", [1000, 4000, None])
async def test_a_handler_that_lets_out_the_end_of_its_connection_has_not_failed(
    code: int | None, in_a_nursery: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        if in_a_nursery:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ws.get_message)
                nursery.start_soon(ws.get_message)
        else:
            await ws.get_message()

    async with serving_in_memory(handler) as (_, listener):
        async with dialling(listener) as ws:
            await ws.aclose(code)
        async with dialling(listener) as ws:
            ws.terminate()
        await trio.testing.wait_all_tasks_blocked()
    assert caplog.records == []


async def test_the_end_of_another_connection_is_a_failure_of_the_handler(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def upstream(peer: RawPeer) -> None:
        await peer.handshake()
        await peer.send_close(1000)
        await peer.expect_close(1000)

    async def refusing(peer: RawPeer) -> None:
        await peer.receive_head()
        await peer.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

    async def proxy(request: WebSocketRequest) -> None:
        ws = await request.accept()
        port = int(request.path.removeprefix("/"))
        async with open_websocket("127.0.0.1", port, "/", use_ssl=False) as other:
            await ws.send_message(await other.get_message())

    async with scripted_port(upstream) as first, scripted_port(refusing) as second:
        for port in (first, second):
            async with serving_in_memory(proxy) as (_, listener), dialling(listener, f"/{port}") as ws:
                assert (await closed_error(ws)).reason == CloseReason(1011)
    assert [type(error).__name__ for error in logged_errors(caplog)] == [
        "ConnectionEnded",
        "ConnectionRejected",
    ]


async def test_errors_of_handlers_can_end_the_server(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("oops")
    listener = MemoryListener()
    server = WebSocketServer(failing(error), [listener], handler_errors="raise")
    with trio.fail_after(PATIENCE), pytest.RaisesGroup(pytest.RaisesGroup(ValueError)):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            async with dialling(listener, "/echo") as other, dialling(listener) as ws:
                await ws.send_message("fail!")
                assert (await closed_error(ws)).reason == CloseReason(1011)
                assert (await closed_error(other)).reason == CloseReason(1001)
    assert logged_errors(caplog) == [error]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
async def test_what_is_meant_for_the_program_ends_the_server_politely(error: BaseException) -> None:
    listener = MemoryListener()
    server = WebSocketServer(failing(error), [listener])
    with trio.fail_after(PATIENCE), pytest.RaisesGroup(pytest.RaisesGroup(type(error))):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            async with dialling(listener, "/echo") as other, dialling(listener) as ws:
                await ws.send_message("fail!")
                assert (await closed_error(ws)).reason == CloseReason(1001)
                assert (await closed_error(other)).reason == CloseReason(1001)


async def leaked_cancellation() -> BaseException:
    """Return what has ended a scope of its own, as it may come out of an async generator elsewhere."""
    leaked: BaseException | None = None
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as exc:
            leaked = exc
    assert leaked is not None
    return leaked


async def base_exception(kind: str) -> BaseException:
    """Return what is no `Exception` and yet meant for nobody outside of the handler."""
    match kind:
        case "leaked":
            return await leaked_cancellation()
        case "asyncio":
            return asyncio.CancelledError()
        case "generator":
            return GeneratorExit()
        case _:
            return BaseExceptionGroup("several", [await leaked_cancellation(), ValueError("and this")])


@pytest.mark.parametrize("kind", ["leaked", "asyncio", "generator", "group"])
async def test_what_is_no_exception_ends_its_own_connection_alone_unless_it_is_meant_for_the_program(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = await base_exception(kind)
    async with serving_in_memory(failing(error)) as (_, listener), dialling(listener, "/echo") as other:
        for _ in range(2):
            async with dialling(listener) as ws:
                await ws.send_message("fail!")
                assert (await closed_error(ws)).reason == CloseReason(1011)
        await other.send_message("not my business")
        assert await other.get_message() == "not my business"
    assert logged_errors(caplog) == [error] * 2


@pytest.mark.parametrize("kind", ["leaked", "asyncio", "generator", "group"])
async def test_what_a_hook_raises_ends_its_own_connection_alone_unless_it_is_meant_for_the_program(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = await base_exception(kind)

    async def hook(request: Request) -> None:
        if request.path != "/echo":
            raise error

    async with serving_in_memory(echo, process_request=hook) as (_, listener):
        for _ in range(2):
            peer = raw_client(listener)
            with pytest.raises(AssertionError, match="50"):
                await peer.handshake()
            await peer.aclose()
        async with dialling(listener, "/echo") as other:
            await other.send_message("not my business")
            assert await other.get_message() == "not my business"
    assert logged_errors(caplog) == [error] * 2


async def test_log_handlers_that_fail_change_nothing() -> None:
    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("no space left on device")

    log_handler = Failing()
    logger = logging.getLogger(LOGGER)
    logger.addHandler(log_handler)
    try:
        async with serving_in_memory(failing(ValueError("oops"))) as (_, listener):
            for _ in range(2):
                async with dialling(listener) as ws:
                    await ws.send_message("fail!")
                    assert (await closed_error(ws)).reason == CloseReason(1011)
    finally:
        logger.removeHandler(log_handler)


# Handlers and peers that are gone


class Stuck:
    """A handler that waits for something other than its peer."""

    def __init__(self) -> None:
        self.connections: list[WebSocketConnection] = []
        self.cancelled_after: list[float] = []

    async def __call__(self, request: WebSocketRequest) -> None:
        ws = await request.accept()
        self.connections.append(ws)
        await ws.wait_closed()
        start = trio.current_time()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled_after.append(trio.current_time() - start)


@pytest.mark.parametrize("politely", [True, False])
async def test_a_handler_is_cancelled_when_its_peer_has_long_been_gone(
    politely: bool, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = Stuck()
    async with serving_in_memory(stuck, disconnect_timeout=3) as (server, listener):
        async with dialling(listener) as ws:
            if politely:
                await ws.aclose()
        await trio.sleep(100)
        assert stuck.cancelled_after == [pytest.approx(3)]
        assert server.connections == set()
    assert caplog.records == []


async def test_messages_of_a_peer_that_is_gone_can_be_worked_off(
    autojump_clock: trio.testing.MockClock,
) -> None:
    done: list[str | bytes] = []

    async def slow(request: WebSocketRequest) -> None:
        ws = await request.accept()
        async for message in ws:
            await trio.sleep(1)
            done.append(message)

    async with serving_in_memory(slow) as (_, listener):
        async with dialling(listener) as ws:
            for number in range(5):
                await ws.send_message(str(number))
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(100)
    assert done == ["0", "1", "2", "3", "4"]


async def test_a_peer_that_has_vanished_does_not_shorten_the_end_of_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stuck = Stuck()
    async with trio.open_nursery() as nursery:
        async with serving_in_memory(stuck, drain=2) as (_, listener):
            async with dialling(listener):
                pass
            peer = raw_client(listener)
            await peer.handshake()
            await trio.sleep(15)
            assert stuck.cancelled_after == [pytest.approx(10)]
            nursery.start_soon(_answer_after_a_second, peer)
            start = trio.current_time()
        assert trio.current_time() - start == pytest.approx(1)


async def _answer_after_a_second(peer: RawPeer) -> None:
    await peer.expect_close(1001)
    await trio.sleep(1)
    await peer.send_close(1001)
    await peer.expect_end()
    await peer.aclose()


async def test_a_peer_that_stays_silent_is_seen_as_dead(autojump_clock: trio.testing.MockClock) -> None:
    ended: list[float] = []

    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        with pytest.raises(ConnectionLost, match="dead"):
            await ws.get_message()
        ended.append(trio.current_time())

    async with serving(handler, 60) as server, await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        peer = RawPeer(stream, Role.CLIENT)
        await peer.handshake()
        assert (await peer.receive_frame()).opcode == 9
        await peer.expect_end()
    assert ended == [pytest.approx(40)]  # 20 s of silence, and 20 s without an answer to the ping


async def test_iteration_in_a_handler_ends_with_the_peer() -> None:
    ends: list[object] = []

    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        try:
            ends.append([message async for message in ws])
            ends.append(ws.closed)
        except ConnectionEnded as exc:
            ends.append(exc)

    async with serving_in_memory(handler) as (_, listener), dialling(listener) as ws:
        await ws.send_message("one")
        await ws.aclose(1001)
        await trio.testing.wait_all_tasks_blocked()
    assert ends == [["one"], CloseReason(1001)]
