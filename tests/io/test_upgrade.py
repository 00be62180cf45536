"""Requests that somebody else has read: `upgrade`, and servers that are given their connections."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import h11
import pytest
import trio
import trio.testing

from tests.io.api_kit import Handler, echo, receive_all
from tests.io.link_kit import settle
from tests.io.test_cancellation import Canceller, cancel_everywhere
from tests.io.transport_kit import PATIENCE, open_pair
from trio_ws import (
    HandshakeError,
    Headers,
    Request,
    WebSocketRequest,
    WebSocketServer,
    open_websocket,
    serve_listeners,
    upgrade,
    wrap_client_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import MemoryListener, RawPeer, encode_raw_frame, handshake_request

pytestmark = pytest.mark.usefixtures("autojump_clock")

every_kind = pytest.mark.parametrize("kind", ["tcp", "unix", "memory", "lockstep", "tls", "polled"])

MASK = b"\1\2\3\4"


async def read_request(stream: trio.abc.Stream) -> tuple[Request, bytes]:
    """Read a request as any HTTP server does, and return it and what came behind it."""
    http = h11.Connection(h11.SERVER)
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(bytes(await stream.receive_some(4096)))
    assert isinstance(event, h11.Request)
    request = Request(
        event.method.decode(), event.target.decode(), event.headers, event.http_version.decode()
    )
    return request, http.trailing_data[0]


def a_request(start: str = "GET / HTTP/1.1", **changes: str | list[str] | None) -> Request:
    """Return a request for a WebSocket, valid or changed, as an HTTP server could have read it."""
    first, *lines = handshake_request(start, **changes).decode().split("\r\n")[:-2]
    method, target, version = first.split(" ")
    names_and_values = [line.split(": ", 1) for line in lines]
    return Request(method, target, [(name, value) for name, value in names_and_values], version[-3:])


@asynccontextmanager
async def both_ends(kind: str) -> AsyncGenerator[tuple[trio.abc.Stream, trio.abc.Stream]]:
    """Our end and the client's of a stream; both are closed in the end."""
    ours, peers = await open_pair(kind)
    try:
        with trio.fail_after(PATIENCE):
            yield ours, peers
    finally:
        await trio.aclose_forcefully(peers)
        await trio.aclose_forcefully(ours)


@asynccontextmanager
async def upgrading(
    kind: str, handler: Handler, **options: object
) -> AsyncGenerator[tuple[WebSocketServer, trio.abc.Stream, trio.Nursery]]:
    """A server without listeners, the client's end of a stream on which it is given a request, and that task's nursery."""
    server = WebSocketServer(handler, None, **options)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]  # ServerOptions
    async with both_ends(kind) as (ours, peers):

        async def serve() -> None:
            await server.upgrade(ours, *await read_request(ours))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield server, peers, nursery


# A request on a stream


@every_kind
async def test_a_request_that_was_read_elsewhere(kind: str) -> None:
    async with both_ends(kind) as (ours, peers), trio.open_nursery() as nursery:

        async def serve() -> None:
            given, leftover = await read_request(ours)
            given.context["user"] = "ann"
            request = await upgrade(nursery, ours, given, leftover, max_message_size=5)
            assert (request.path, request.request.context) == ("/room?x=1", {"user": "ann"})
            assert request.proposed_subprotocols == ("chat",)
            ws = await request.accept(subprotocol="chat")
            assert ws.request is not None
            assert ws.request.context is given.context
            await ws.send_message(await ws.get_message())
            assert (await receive_all(ws))[0] == []

        nursery.start_soon(serve)
        ws = await wrap_client_stream(nursery, peers, "localhost", "/room?x=1", subprotocols=["chat"])
        await ws.send_message("hello")
        assert await ws.get_message() == "hello"
        await ws.send_message("longer")
        _, closed = await receive_all(ws)
        assert closed.reason is not None
        assert closed.reason.code == 1009


@every_kind
async def test_what_was_read_behind_the_request_is_received(kind: str) -> None:
    frames = encode_raw_frame(1, b"one", mask=MASK) + encode_raw_frame(1, b"two", mask=MASK)
    async with both_ends(kind) as (ours, peers), trio.open_nursery() as nursery:
        peer = RawPeer(peers, Role.CLIENT)
        request = await upgrade(nursery, ours, a_request(), frames[:7])
        async with trio.open_nursery() as both:
            both.start_soon(request.accept)
            head = await peer.receive_head()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert request.connection is not None
        await peer.send(frames[7:])
        assert [await request.connection.get_message() for _ in range(2)] == ["one", "two"]
        request.connection.terminate()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (a_request("POST / HTTP/1.1"), b"405"),
        (a_request("GET / HTTP/2.0"), b"505"),
        (a_request("GET / HTTP/1.0"), b"426"),
        (a_request(Host=None), b"400"),
        (a_request(Upgrade="h2c"), b"426"),
        (a_request(Content_Length="2"), b"400"),
        (a_request(Content_Length=["0", "2"]), b"400"),
        (a_request(Content_Length="x"), b"400"),
        (a_request(Sec_WebSocket_Key="short"), b"400"),
        (a_request(Sec_WebSocket_Version="7"), b"426"),
        (a_request(Sec_WebSocket_Protocol="a, a"), b"400"),
        (a_request(Origin="https://elsewhere.example"), b"403"),
        (Request("GET", "/", Headers([(b"a\r\nb", b"c")])), b"400"),
        (Request("GET", "/", Headers([(b"a", b"b\r\nc: d")])), b"400"),
    ],
)
async def test_an_invalid_request_is_answered_as_any_other(request_: Request, status: bytes) -> None:
    ours, peers = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        with pytest.raises(HandshakeError):
            await upgrade(nursery, ours, request_)
        answer = await RawPeer(peers, Role.CLIENT).receive_rest()
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"\r\nConnection: close" in answer


@pytest.mark.parametrize(
    "headers",
    [
        [(name.title(), value) for name, value in a_request().headers],
        Headers((name.title(), value) for name, value in a_request().headers),
        {name.decode().upper(): value.decode() for name, value in a_request().headers},
    ],
)
async def test_headers_in_any_form(headers: Headers) -> None:
    ours, _ = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        request = await upgrade(nursery, ours, Request("GET", "/", headers))
        assert request.request.headers == a_request().headers
        nursery.start_soon(request.reject, 404)


async def test_a_stream_is_given_once() -> None:
    """A second answer would stand amid the frames of the first connection."""
    for kind in ("tcp", "memory", "tls"):
        async with both_ends(kind) as (ours, peers):
            peer = RawPeer(peers, Role.CLIENT)
            async with trio.open_nursery() as nursery:
                request = await upgrade(nursery, ours, a_request())
                for _ in ("pending", "open"):
                    with pytest.raises(RuntimeError, match="given before"):
                        await upgrade(nursery, ours, a_request())
                    with pytest.raises(RuntimeError, match="given before"):
                        await WebSocketServer(echo, None).upgrade(ours, a_request())
                    if request.connection is None:
                        await request.accept()
                        await peer.receive_head()
                assert request.connection is not None
                await request.connection.send_message("hello")
                frame = await peer.receive_frame()
                assert frame.payload == b"hello"
                request.connection.terminate()


async def test_wrong_options_leave_the_stream_alone() -> None:
    ours, peers = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="connect_timeout"):
            await upgrade(nursery, ours, a_request(), connect_timeout=-1)
        with pytest.raises(TypeError, match="no_such"):
            await upgrade(nursery, ours, a_request(), no_such=1)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]  # wrong on purpose
        request = await upgrade(nursery, ours, a_request())
        nursery.start_soon(request.reject, 404)
        assert (await RawPeer(peers, Role.CLIENT).receive_rest()).startswith(b"HTTP/1.1 404 ")


# A server without listeners


async def test_it_has_no_port_and_nothing_to_run() -> None:
    server = WebSocketServer(echo, None)
    assert server.listeners == []
    with pytest.raises(RuntimeError, match="no listeners"):
        _ = server.port
    with pytest.raises(RuntimeError, match="no listeners"):
        await server.run()


@every_kind
async def test_the_calling_task_serves_the_connection(kind: str) -> None:
    tasks: list[trio.lowlevel.Task] = []

    async def handler(request: WebSocketRequest) -> None:
        tasks.append(trio.lowlevel.current_task())
        await echo(request)

    server = WebSocketServer(handler, None)
    async with both_ends(kind) as (ours, peers):

        async def serve() -> None:
            await server.upgrade(ours, *await read_request(ours))
            assert tasks == [trio.lowlevel.current_task()]
            assert server.connections == set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            ws = await wrap_client_stream(nursery, peers, "localhost", "/")
            await ws.send_message("hello")
            assert await ws.get_message() == "hello"
            assert len(server.connections) == 1
            await ws.aclose()


async def test_a_server_with_listeners_takes_connections_too() -> None:
    listener = MemoryListener()
    ours, peers = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(serve_listeners, echo, [listener])
        nursery.start_soon(server.upgrade, ours, a_request(), encode_raw_frame(1, b"hello", mask=MASK))
        own = await wrap_client_stream(nursery, listener.connect(), "localhost", "/")
        await settle()
        assert len(server.connections) == 2
        peer = RawPeer(peers, Role.CLIENT)
        await peer.receive_head()
        assert (await peer.receive_frame()).payload == b"hello"
        nursery.start_soon(server.aclose)
        assert (await peer.receive_frame()).payload[:2] == (1001).to_bytes(2, "big")
        await peer.send(encode_raw_frame(8, (1001).to_bytes(2, "big"), mask=MASK))
        await peer.aclose()
        _, closed = await receive_all(own)
        assert closed.reason is not None
        assert closed.reason.code == 1001


@every_kind
async def test_a_failing_handler_ends_its_connection_alone(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: WebSocketRequest) -> None:
        await request.accept()
        raise LookupError("a bug")

    async with upgrading(kind, handler) as (_, stream, nursery):
        ws = await wrap_client_stream(nursery, stream, "localhost", "/")
        _, closed = await receive_all(ws)
        assert closed.reason is not None
        assert closed.reason.code == 1011
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@every_kind
async def test_a_handlers_exception_comes_out_bare_if_asked_for(kind: str) -> None:
    async def handler(request: WebSocketRequest) -> None:
        await request.accept()
        raise LookupError("a bug")

    server = WebSocketServer(handler, None, handler_errors="raise")
    async with both_ends(kind) as (ours, peers), trio.open_nursery() as nursery:

        async def serve() -> None:
            with pytest.raises(LookupError, match="a bug"):
                await server.upgrade(ours, *await read_request(ours))

        nursery.start_soon(serve)
        ws = await wrap_client_stream(nursery, peers, "localhost", "/")
        await receive_all(ws)


async def test_an_invalid_request_is_answered_and_no_error() -> None:
    ours, peers = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(WebSocketServer(echo, None).upgrade, ours, a_request(Upgrade="h2c"))
        assert (await RawPeer(peers, Role.CLIENT).receive_rest()).startswith(b"HTTP/1.1 426 ")


async def test_a_server_that_was_closed_answers_503() -> None:
    async def stop_by_closing(server: WebSocketServer) -> None:
        await server.aclose()

    async def stop_by_cancelling(server: WebSocketServer) -> None:
        with trio.move_on_after(0):
            await server.run()

    for stop in (stop_by_closing, stop_by_cancelling):
        server = WebSocketServer(echo, [MemoryListener()])
        await stop(server)
        ours, peers = trio.testing.memory_stream_pair()
        await server.upgrade(ours, a_request())
        assert (await RawPeer(peers, Role.CLIENT).receive_rest()).startswith(b"HTTP/1.1 503 ")


@every_kind
async def test_closing_the_server_closes_what_it_was_given(kind: str) -> None:
    async with upgrading(kind, echo) as (server, stream, nursery):
        ws = await wrap_client_stream(nursery, stream, "localhost", "/")
        await ws.send_message("hello")
        assert await ws.get_message() == "hello"
        nursery.start_soon(server.aclose)
        _, closed = await receive_all(ws)
        assert closed.reason is not None
        assert closed.reason.code == 1001


@pytest.mark.parametrize("kind", ["tcp", "memory", "tls"])
async def test_a_cancelled_task_gives_the_client_its_time(kind: str) -> None:
    async with upgrading(kind, echo, drain=3) as (server, stream, nursery):
        peer = RawPeer(stream, Role.CLIENT)
        await peer.handshake()
        await settle()
        begun = trio.current_time()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            frame = await peer.receive_frame()
            assert (frame.opcode, frame.payload[:2]) == (8, (1001).to_bytes(2, "big"))
            await peer.receive_rest()
        assert trio.current_time() == begun + 3
    assert server.connections == set()


# Cancellation at every moment


@pytest.mark.parametrize("kind", ["tcp", "memory", "tls"])
@pytest.mark.parametrize("valid", [True, False])
async def test_cancelling_upgrade(kind: str, valid: bool) -> None:
    """The client gets a whole answer or none, and its stream ends unless there is a request to be answered."""
    given = a_request() if valid else a_request(Upgrade="h2c")

    async def attempt(canceller: Canceller) -> None:
        answer = b""
        requests: list[WebSocketRequest] = []
        async with both_ends(kind) as (ours, peers), trio.open_nursery() as nursery:
            peer = RawPeer(peers, Role.CLIENT)

            async def operate() -> None:
                try:
                    requests.append(await upgrade(nursery, ours, given))
                except HandshakeError:
                    assert not valid

            async def listen() -> None:
                nonlocal answer
                answer = await peer.receive_rest()

            nursery.start_soon(listen)
            await canceller.run(operate)
            for request in requests:
                await request.reject(404)
        expected = (
            (b"", b"HTTP/1.1 503 ", b"HTTP/1.1 404 ") if valid else (b"", b"HTTP/1.1 503 ", b"HTTP/1.1 426 ")
        )
        assert answer[:13] in expected
        assert bool(requests) == (valid and not canceller.cancelled)

    await cancel_everywhere(attempt)


@pytest.mark.parametrize("kind", ["tcp", "memory", "tls"])
async def test_cancelling_the_upgrade_of_a_server(kind: str) -> None:
    """The client sees an answer or the end, and a close frame behind the answer."""
    endings: set[bytes] = set()

    async def attempt(canceller: Canceller) -> None:
        server = WebSocketServer(echo, None, drain=1)
        async with both_ends(kind) as (ours, peers), trio.open_nursery() as nursery:
            peer = RawPeer(peers, Role.CLIENT)

            async def visit() -> None:
                head = b""
                with suppress(trio.BrokenResourceError):  # TLS that ends without a goodbye
                    head = bytes(await peer.stream.receive_some())
                endings.add(head[9:12])
                if head.startswith(b"HTTP/1.1 101 "):
                    peer.received += head.partition(b"\r\n\r\n")[2]
                    await peer.send(encode_raw_frame(8, (1000).to_bytes(2, "big"), mask=MASK))
                    rest = await peer.receive_rest()
                    assert rest[:1] in (b"", b"\x88")
                await trio.aclose_forcefully(peer.stream)

            nursery.start_soon(visit)
            await canceller.run(lambda: server.upgrade(ours, a_request()))
        assert server.connections == set()

    await cancel_everywhere(attempt)
    assert endings >= {b"101", b"503"}


async def test_serve_listeners() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery, trio.open_nursery() as handlers:
            nurseries: list[trio.Nursery | None] = []

            async def handler(request: WebSocketRequest) -> None:
                nurseries.append(trio.lowlevel.current_task().parent_nursery)
                await echo(request)

            async def run(task_status: trio.TaskStatus[WebSocketServer]) -> None:
                await serve_listeners(
                    handler, listeners, handler_nursery=handlers, task_status=task_status, max_message_size=7
                )

            server: WebSocketServer = await nursery.start(run)
            async with open_websocket("127.0.0.1", server.port, "/", use_ssl=False) as ws:
                await ws.send_message("hello")
                assert await ws.get_message() == "hello"
                await ws.send_message("too long")
                _, closed = await receive_all(ws)
                assert closed.reason is not None
                assert closed.reason.code == 1009
            assert nurseries == [handlers]
            await server.aclose()
    assert listeners[0].socket.fileno() == -1
