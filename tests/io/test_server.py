"""Listening and requests: what a server listens on, what a handler learns of a request, and how requests are answered."""

import logging
import ssl
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.io.api_kit import dialling, echo, raw_client, serving, serving_in_memory
from tests.io.transport_kit import open_pair, tls_pair
from trio_ws import (
    SAME_ORIGIN,
    AcceptOptions,
    CloseReason,
    ConnectionRejected,
    ConnectionTimeout,
    Endpoint,
    HandshakeError,
    Headers,
    Request,
    Response,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    open_websocket,
    serve_websocket,
    wrap_client_stream,
    wrap_server_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import FaultyStream, MemoryListener, RawPeer, fail, handshake_request, stall
from trio_ws.transport import open_unix_listener

# Listening


async def test_port_and_listeners() -> None:
    async with serving(echo) as server:
        (listener,) = server.listeners
        assert isinstance(listener, Endpoint)
        assert server.port == listener.port > 0
        assert listener.url == f"ws://127.0.0.1:{server.port}"


async def test_several_listeners_have_no_single_port() -> None:
    listeners = [
        *await trio.open_tcp_listeners(0, host="127.0.0.1"),
        *await trio.open_tcp_listeners(0, host="::1"),
    ]
    server = WebSocketServer(echo, listeners)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        with pytest.raises(RuntimeError, match="more than 1 listeners"):
            _ = server.port
        for listener in server.listeners:
            assert isinstance(listener, Endpoint)
            async with open_websocket(str(listener.address), listener.port, "/", use_ssl=False) as ws:
                await ws.send_message("hello")
                assert await ws.get_message() == "hello"
        await server.aclose()


@pytest.mark.skipif(sys.platform == "win32", reason="Python has no Unix sockets there")
async def test_a_unix_listener_has_no_port(tmp_path: Path) -> None:
    async with await open_unix_listener(tmp_path / "socket") as listener:
        server = WebSocketServer(echo, [listener])
        assert server.listeners == [str(tmp_path / "socket")]
        with pytest.raises(RuntimeError, match="does not have a port"):
            _ = server.port


async def test_other_listeners_are_shown_by_their_repr() -> None:
    listener = MemoryListener()
    server = WebSocketServer(echo, [listener])
    assert server.listeners == [repr(listener)]
    with pytest.raises(RuntimeError, match="does not have a port"):
        _ = server.port


def test_a_server_needs_a_listener() -> None:
    with pytest.raises(ValueError, match="at least one"):
        WebSocketServer(echo, [])


async def test_serve_websocket_in_every_form() -> None:
    contexts: list[ssl.SSLContext | None] = [None]
    async with trio.open_nursery() as nursery, trio.open_nursery() as handlers:

        async def run(host: str | bytes, task_status: trio.TaskStatus[WebSocketServer]) -> None:
            await serve_websocket(
                handler=echo,
                host=host,
                port=0,
                ssl_context=contexts[0],
                handler_nursery=handlers,
                message_queue_size=1,
                max_message_size=100,
                receive_buffer_size=4096,
                connect_timeout=60,
                disconnect_timeout=60,
                task_status=task_status,
            )

        for host in ("127.0.0.1", b"localhost"):
            server: WebSocketServer = await nursery.start(run, host)
            listener = server.listeners[0]
            assert isinstance(listener, Endpoint)
            async with open_websocket(str(listener.address), listener.port, "/", use_ssl=False) as ws:
                await trio.testing.wait_all_tasks_blocked(0.01)
                (served,) = server.connections
                statistics = served.messages.statistics()
                assert (served.is_server, statistics.max_messages) == (True, 1)
                await ws.send_message(bytes(101))
                with pytest.raises(Exception, match="MESSAGE_TOO_BIG"):
                    await ws.get_message()
            await server.aclose()


async def test_wrong_options_are_told_before_anything_is_opened() -> None:
    for options in ({"no_such_option": 1}, {"origins": "https://a.example"}, {"connect_timeout": None}):
        with pytest.raises(TypeError, match=next(iter(options))):
            await serve_websocket(echo, "127.0.0.1", 0, None, **options)  # pyright: ignore[reportArgumentType]  # wrong on purpose
    for options in ({"drain": -1}, {"handler_errors": "ignore"}, {"connect_timeout": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            await serve_websocket(echo, "127.0.0.1", 0, None, **options)  # pyright: ignore[reportArgumentType]  # wrong on purpose


async def test_a_port_that_is_taken() -> None:
    async with serving(echo) as server:
        with pytest.raises(OSError, match="in use"):
            await serve_websocket(echo, "127.0.0.1", server.port, None)


async def test_handlers_run_in_the_nursery_they_are_given() -> None:
    nurseries: list[trio.Nursery | None] = []

    async def handler(request: WebSocketRequest) -> None:
        nurseries.append(trio.lowlevel.current_task().parent_nursery)
        await request.accept()

    listener = MemoryListener()
    async with trio.open_nursery() as nursery, trio.open_nursery() as handlers:
        server = WebSocketServer(handler, [listener], handler_nursery=handlers)
        assert await nursery.start(server.run) is server
        async with dialling(listener) as ws:
            await ws.wait_closed()
        assert nurseries == [handlers]
        await server.aclose()


async def test_connections_are_those_that_can_be_sent_to() -> None:
    async with serving_in_memory(echo) as (server, listener):
        assert server.connections == set()
        async with dialling(listener) as first, dialling(listener) as second:
            await trio.testing.wait_all_tasks_blocked()
            for connection in server.connections:
                await connection.send_message("to all")
            assert await first.get_message() == await second.get_message() == "to all"
            server.connections.clear()
            assert len(server.connections) == 2
            await first.aclose()
            assert len(server.connections) == 1
        await trio.testing.wait_all_tasks_blocked()
        assert server.connections == set()


# What a handler learns


async def test_request() -> None:
    requests: list[WebSocketRequest] = []

    async def handler(request: WebSocketRequest) -> None:
        requests.append(request)
        ws = await request.accept(subprotocol="b")
        assert ws.request is request.request
        assert (ws.local, ws.remote, ws.path) == (request.local, request.remote, request.path)

    async with (
        serving(handler) as server,
        open_websocket(
            "127.0.0.1",
            server.port,
            "/a%20b?c=d",
            use_ssl=False,
            subprotocols=["a", "b"],
            extra_headers=[(b"X-Name", b"Value")],
        ) as ws,
    ):
        assert ws.subprotocol == "b"
    (request,) = requests
    assert request.path == "/a%20b?c=d"
    assert (request.request.path, request.request.query) == ("/a%20b", "c=d")
    assert request.proposed_subprotocols == ("a", "b")
    assert sorted(name for name, _ in request.headers) == [
        b"connection",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"upgrade",
        b"x-name",
    ]
    assert (b"x-name", b"Value") in request.headers
    assert isinstance(request.headers, list)
    assert request.request.headers.get("host") == f"127.0.0.1:{server.port}"
    assert isinstance(request.local, Endpoint)
    assert isinstance(request.remote, Endpoint)
    assert request.local == server.listeners[0]
    assert (request.remote.address, request.remote.is_ssl) == (request.local.address, False)


async def test_request_in_memory() -> None:
    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(near, Role.CLIENT)
    await peer.send(handshake_request())
    async with trio.open_nursery() as nursery:
        request = await wrap_server_stream(nursery, far)
        assert request.local == request.remote == repr(far)
        assert request.proposed_subprotocols == ()
        assert request.path == "/"
        await near.send_eof()
        await request.reject(400)


async def test_wrap_server_stream_in_every_form() -> None:
    async def wrapped(*args: float, **options: float) -> WebSocketConnection:
        near, far = trio.testing.memory_stream_pair()
        await near.send_all(handshake_request())
        request = await wrap_server_stream(nursery, far, *args, **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # as users call it
        return await request.accept()

    async with trio.open_nursery() as nursery:
        for ws in (
            await wrapped(3, 100, 4096),
            await wrapped(message_queue_size=3, max_message_size=100, receive_buffer_size=4096),
            await wrapped(3, max_message_size=100),
        ):
            assert ws.messages.statistics().max_messages == 3
        assert (await wrapped()).messages.statistics().max_messages == 16
        nursery.cancel_scope.cancel()


async def test_the_nursery_cuts_a_wrapped_connection_when_it_is_cancelled() -> None:
    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(near, Role.CLIENT)
    await peer.send(handshake_request())
    async with trio.open_nursery() as nursery:
        ws = await (await wrap_server_stream(nursery, far)).accept()
        await peer.receive_head()
        nursery.cancel_scope.cancel()
    assert ws.closed == CloseReason(1006)
    await peer.expect_end()


# Answers


async def test_accepting_with_headers() -> None:
    async def handler(request: WebSocketRequest) -> None:
        await request.accept(subprotocol=None, extra_headers=[(b"Set-Cookie", b"a=b"), ("X-Text", "c")])

    async with serving_in_memory(handler) as (_, listener), dialling(listener) as ws:
        assert ws.handshake_headers == [(b"set-cookie", b"a=b"), (b"x-text", b"c")]


async def test_rejecting() -> None:
    async def handler(request: WebSocketRequest) -> None:
        await request.reject(
            status_code=401, extra_headers=[(b"WWW-Authenticate", b"Basic")], body=b"who are you?"
        )

    async with serving_in_memory(handler) as (_, listener):
        peer = raw_client(listener)
        await peer.send(handshake_request())
        head = await peer.receive_head()
        assert head.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
        assert b"\r\nWww-Authenticate: Basic\r\n" in head
        assert b"\r\nConnection: close\r\n" in head
        assert b"\r\nContent-Length: 12\r\n" in head
        assert await peer.receive_rest() == b"who are you?"
        await peer.aclose()


async def test_what_cannot_be_answered_is_refused_and_something_else_can_be() -> None:
    async def handler(request: WebSocketRequest) -> None:
        with pytest.raises(ValueError, match="cannot be the name of a subprotocol"):
            await request.accept(subprotocol="a b")
        with pytest.raises(ValueError, match="control characters"):
            await request.accept(extra_headers=[("A", "b\r\nc")])
        with pytest.raises(ValueError, match="set by the handshake"):
            await request.accept(extra_headers={"Upgrade": "x"})
        with pytest.raises(ValueError, match="control characters"):
            await request.reject(400, extra_headers=[("A", "b\r\nc")])
        for status in (101, 199, 600):
            with pytest.raises(ValueError, match=str(status)):
                await request.reject(status)
        ws = await request.accept()
        with pytest.raises(RuntimeError, match="answered already"):
            await request.accept()
        with pytest.raises(RuntimeError, match="answered already"):
            await request.reject(400)
        await ws.send_message("accepted in the end")

    async with serving_in_memory(handler) as (_, listener), dialling(listener) as ws:
        assert await ws.get_message() == "accepted in the end"


async def test_a_handler_that_answers_nothing() -> None:
    async def handler(_: WebSocketRequest) -> None:
        pass

    async with serving(handler) as server:
        with pytest.raises(ConnectionRejected) as rejected:
            async with open_websocket("127.0.0.1", server.port, "/", use_ssl=False):
                pass
        assert rejected.value.status_code == 500


async def test_a_handler_that_fails_before_it_answers(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(_: WebSocketRequest) -> None:
        raise ValueError("no idea")

    async with serving_in_memory(handler) as (_, listener), trio.open_nursery() as nursery:
        with pytest.raises(ConnectionRejected) as rejected:
            await wrap_client_stream(nursery, listener.connect(), "localhost", "/")
        assert rejected.value.status_code == 500
        assert rejected.value.body is None
        (record,) = caplog.records
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], ValueError)


async def test_a_rejected_client_that_goes_on_sending_gets_its_answer_and_is_cut(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def handler(request: WebSocketRequest) -> None:
        await request.reject(403)

    async with serving(handler) as server:
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        peer = RawPeer(stream, Role.CLIENT)
        await peer.send(handshake_request() + bytes(100_000))
        head = await peer.receive_head()
        assert head.startswith(b"HTTP/1.1 403 ")
        start = trio.current_time()
        with suppress(trio.BrokenResourceError):
            while trio.current_time() - start < 60:
                await peer.send(bytes(10_000))
                await trio.sleep(0.1)
        assert trio.current_time() - start < 2
        await peer.aclose()


async def test_a_rejected_client_that_sends_much_is_cut_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(near, Role.CLIENT)
    await peer.send(handshake_request() + bytes(2**23))
    async with trio.open_nursery() as nursery:
        await (await wrap_server_stream(nursery, far)).reject(403)
    assert trio.current_time() == 0
    assert (await peer.receive_head()).startswith(b"HTTP/1.1 403 ")


async def test_a_client_that_has_gone_before_the_answer() -> None:
    errors: list[HandshakeError] = []

    async def handler(request: WebSocketRequest) -> None:
        for answer in (request.accept, lambda: request.reject(404)):
            try:
                await answer()
            except HandshakeError as exc:
                errors.append(exc)
                raise

    near, far = trio.testing.memory_stream_pair()
    listener = MemoryListener(lambda: (near, FaultyStream(far, send=[5, fail])))
    async with trio.open_nursery() as nursery:
        server = await nursery.start(WebSocketServer(handler, [listener]).run)
        peer = raw_client(listener)
        await peer.send(handshake_request())
        assert await peer.receive_rest() == b"HTTP/"
        await trio.testing.wait_all_tasks_blocked()
        await server.aclose()
    (error,) = errors
    assert isinstance(error.__cause__, trio.BrokenResourceError)


@pytest.mark.parametrize("answer", ["accept", "reject", "refuse", "hook"])
async def test_a_client_that_does_not_take_its_answer(
    answer: str, autojump_clock: trio.testing.MockClock
) -> None:
    async def hook(_: Request) -> Response | None:
        return Response(200, Headers(), b"hello") if answer == "hook" else None

    async def answer_it(nursery: trio.Nursery, stream: trio.abc.Stream) -> None:
        request = await wrap_server_stream(nursery, stream, connect_timeout=3, process_request=hook)
        await (request.accept() if answer == "accept" else request.reject(404, body=b"x"))

    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(near, Role.CLIENT)
    await peer.send(handshake_request(upgrade=None if answer == "refuse" else "websocket"))
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        with pytest.raises(ConnectionTimeout, match="did not take its answer within 3 seconds"):
            await answer_it(nursery, FaultyStream(far, send=[5, stall]))
    assert trio.current_time() - start == pytest.approx(3)
    assert await peer.receive_rest() == b"HTTP/"


async def test_an_answer_that_is_cancelled_cuts_the_client() -> None:
    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(near, Role.CLIENT)
    await peer.send(handshake_request())
    async with trio.open_nursery() as nursery:
        request = await wrap_server_stream(nursery, FaultyStream(far, send=[5, stall]))
        with trio.CancelScope() as scope:
            scope.cancel()
            await request.accept()
        assert scope.cancelled_caught
        with pytest.raises(RuntimeError, match="answered already"):
            await request.reject(503)
    await peer.expect_end()


@pytest.mark.parametrize("kind", ["memory", "tcp"])
async def test_a_connection_that_no_nursery_takes_is_cut(kind: str) -> None:
    near, far = await open_pair(kind)
    peer = RawPeer(near, Role.CLIENT)
    await peer.send(handshake_request())
    async with trio.open_nursery() as nursery:
        request = await wrap_server_stream(nursery, far)
    with pytest.raises(RuntimeError):
        await request.accept()
    assert (await peer.receive_rest()).startswith(b"HTTP/1.1 101 ")
    await peer.aclose()


async def test_a_stream_that_somebody_else_has_closed() -> None:
    near, far = trio.testing.memory_stream_pair()
    await near.send_all(handshake_request())
    async with trio.open_nursery() as nursery:
        request = await wrap_server_stream(nursery, far)
        await far.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await request.accept()


async def test_rejecting_over_tls() -> None:
    near, far = await tls_pair()

    async def reject(nursery: trio.Nursery) -> None:
        await (await wrap_server_stream(nursery, far)).reject(403, body=b"no")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reject, nursery)
        with pytest.raises(ConnectionRejected) as rejected:
            await wrap_client_stream(nursery, near, "localhost", "/")
        assert (rejected.value.status_code, rejected.value.body) == (403, b"no")


# Requests that are none


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"426"),
        (handshake_request("POST / HTTP/1.1"), b"405"),
        (handshake_request(Sec_WebSocket_Version="12"), b"426"),
        (handshake_request(Sec_WebSocket_Key="short"), b"400"),
        (handshake_request("GET / HTTP/1.0"), b"426"),
        (handshake_request(Origin="https://elsewhere.example"), b"403"),
        (handshake_request(Name="x" * 10_000), b"431"),
        (handshake_request("GET /" + "x" * 10_000 + " HTTP/1.1"), b"414"),
    ],
    ids=lambda value: value[:30],
)
async def test_bad_requests_are_answered_and_the_server_lives(sent: bytes, status: bytes) -> None:
    async with serving_in_memory(echo) as (_, listener):
        peer = raw_client(listener)
        await peer.send(sent)
        assert (await peer.receive_head()).split()[1] == status
        await peer.receive_rest()
        await peer.aclose()
        async with dialling(listener) as ws:
            await ws.send_message("still there")
            assert await ws.get_message() == "still there"


async def test_bad_requests_are_told_to_who_wraps_the_stream() -> None:
    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(near, Role.CLIENT)
    await peer.send(handshake_request("POST / HTTP/1.1"))
    await near.send_eof()
    async with trio.open_nursery() as nursery:
        with pytest.raises(HandshakeError, match="is a GET request"):
            await wrap_server_stream(nursery, far)
    assert b"HTTP/1.1 405 " in await peer.receive_rest()


@pytest.mark.parametrize("said", [b"", b"GET / HT"])
@pytest.mark.parametrize("kind", ["memory", "tcp"])
async def test_clients_that_leave(said: bytes, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    near, far = await open_pair(kind)
    await near.send_all(said)
    await near.aclose()
    async with trio.open_nursery() as nursery:
        with pytest.raises(HandshakeError):
            await wrap_server_stream(nursery, far)
    assert caplog.records == []


async def test_a_client_that_breaks_off() -> None:
    near, far = trio.testing.memory_stream_pair()
    await near.send_all(handshake_request())
    async with trio.open_nursery() as nursery:
        with pytest.raises(HandshakeError, match="gone before its request was complete"):
            await wrap_server_stream(nursery, FaultyStream(far, receive=[20, fail]))


@pytest.mark.parametrize("byte_by_byte", [True, False])
@pytest.mark.parametrize(("options", "seconds"), [({}, 10), ({"connect_timeout": 2.5}, 2.5)])
async def test_connect_timeout(
    byte_by_byte: bool, options: AcceptOptions, seconds: float, autojump_clock: trio.testing.MockClock
) -> None:
    near, far = trio.testing.memory_stream_pair()

    async def drip() -> None:
        with suppress(trio.BrokenResourceError):
            for byte in handshake_request() if byte_by_byte else b"":
                await near.send_all(bytes([byte]))
                await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        with pytest.raises(ConnectionTimeout, match="no request came within"):
            await wrap_server_stream(nursery, far, **options)
        assert trio.current_time() == pytest.approx(seconds)
        nursery.cancel_scope.cancel()


async def test_tls_that_never_begins_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    async with trio.open_nursery() as nursery:
        with pytest.raises(ConnectionTimeout):
            await wrap_server_stream(nursery, trio.SSLStream(far, context, server_side=True))
    assert await RawPeer(near, Role.CLIENT).receive_rest() == b""


async def test_plain_http_on_a_tls_port_is_no_request() -> None:
    near, far = trio.testing.memory_stream_pair()
    await near.send_all(handshake_request())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    async with trio.open_nursery() as nursery:
        with pytest.raises(HandshakeError):
            await wrap_server_stream(nursery, trio.SSLStream(far, context, server_side=True))


# Origins


@pytest.mark.parametrize(
    ("origins", "origin", "passes"),
    [
        (SAME_ORIGIN, None, True),
        (SAME_ORIGIN, "http://localhost", True),
        (SAME_ORIGIN, "http://localhost.evil.example", False),
        (SAME_ORIGIN, "null", False),
        (None, "https://anywhere.example", True),
        (["https://a.example"], "https://a.example", True),
        (["https://a.example"], "https://a.example.evil.example", False),
        (["https://a.example"], None, False),
        (["https://a.example", None], None, True),
        (frozenset[str](), "https://a.example", False),
    ],
)
async def test_origins(origins: list[str | None] | None, origin: str | None, passes: bool) -> None:
    async with serving_in_memory(echo, origins=origins) as (_, listener):
        peer = raw_client(listener)
        await peer.send(handshake_request(Origin=origin))
        assert (await peer.receive_head()).split()[1] == (b"101" if passes else b"403")
        await peer.aclose()


async def test_any_origin_may_not_connect_by_default() -> None:
    async with serving_in_memory(echo) as (_, listener):
        peer = raw_client(listener)
        await peer.send(handshake_request(Origin="https://evil.example"))
        assert (await peer.receive_head()).split()[1] == b"403"
        await peer.aclose()


# process_request


@asynccontextmanager
async def hooked(
    answer: Response | Exception | None,
) -> AsyncGenerator[tuple[list[Request], MemoryListener], None]:
    seen: list[Request] = []

    async def hook(request: Request) -> Response | None:
        await trio.lowlevel.checkpoint()
        seen.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with serving_in_memory(echo, process_request=hook) as (_, listener):
        yield seen, listener


async def test_plain_http_on_the_same_port() -> None:
    async with hooked(Response(200, Headers([(b"content-type", b"text/plain")]), b"healthy")) as (
        seen,
        listener,
    ):
        peer = raw_client(listener)
        await peer.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await peer.receive_head()).startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n")
        assert await peer.receive_rest() == b"healthy"
        await peer.aclose()
        assert [(request.method, request.path) for request in seen] == [("GET", "/health")]


async def test_a_hook_that_lets_requests_pass() -> None:
    async with hooked(None) as (seen, listener):
        async with dialling(listener, "/a") as ws:
            await ws.send_message("hello")
            assert await ws.get_message() == "hello"
        assert [request.target for request in seen] == ["/a"]
        peer = raw_client(listener)
        await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await peer.receive_head()).startswith(b"HTTP/1.1 426 ")
        await peer.aclose()


@pytest.mark.parametrize(
    "error", [ValueError("oops"), trio.TooSlowError("mine"), trio.BrokenResourceError("mine")], ids=repr
)
async def test_a_hook_that_fails_is_logged_and_answered_with_500(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with hooked(error) as (_, listener):
        peer = raw_client(listener)
        await peer.send(handshake_request())
        assert (await peer.receive_head()).startswith(b"HTTP/1.1 500 ")
        await peer.expect_end()
        await trio.testing.wait_all_tasks_blocked()
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.exc_info is not None
        assert record.exc_info[1] is error
        await peer.aclose()


async def test_a_hook_with_an_answer_that_cannot_be_sent(caplog: pytest.LogCaptureFixture) -> None:
    async with hooked(Response(200, Headers([(b"a", b"b\r\nc")]))) as (_, listener):
        peer = raw_client(listener)
        await peer.send(handshake_request())
        assert (await peer.receive_head()).startswith(b"HTTP/1.1 500 ")
        await peer.expect_end()
        await trio.testing.wait_all_tasks_blocked()
        assert len(caplog.records) == 1
        await peer.aclose()


async def test_a_hook_that_fails_can_end_the_server() -> None:
    async def hook(_: Request) -> Response | None:
        raise error

    error = ValueError("oops")
    listener = MemoryListener()
    peer = raw_client(listener)
    with pytest.RaisesGroup(pytest.RaisesGroup(ValueError)):
        async with trio.open_nursery() as nursery:
            await nursery.start(
                WebSocketServer(echo, [listener], process_request=hook, handler_errors="raise").run
            )
            await peer.send(handshake_request())
    assert (await peer.receive_head()).startswith(b"HTTP/1.1 500 ")
    await peer.aclose()
