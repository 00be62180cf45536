"""Whatever of the public API waits is cancelled at every moment by some test; here are those that no other file has."""

import ast
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import trio_ws
import trio_ws.testing
from tests.io.api_kit import receive_all
from tests.io.link_kit import settle, settle_until
from tests.io.test_cancellation import (
    Canceller,
    Messages,
    Scheme,
    both_ends,
    bury,
    cancel_everywhere,
    drive,
    echo,
    echoing,
    every_kind,
    every_scheme,
    without_room,
)
from tests.io.transport_kit import open_pair
from trio_ws import (
    ConnectionClosed,
    HandshakeError,
    PerMessageDeflate,
    PreparedMessage,
    Router,
    State,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    WebSocketStream,
    basic_auth,
    connect_websocket,
    open_websocket,
    serve_listeners,
    serve_unix_websocket,
    wrap_client_stream,
    wrap_server_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import FaultyStream, MemoryListener, RawPeer, handshake_request, open_connection_pair

TESTS = Path(__file__).parent.parent

#: What waits, and the test that cancels it at every moment.
CASES = {
    "Connections.__anext__": "io/test_reconnect.py::test_it_can_be_cancelled_at_any_moment",
    "Connections.aclose": "threats/test_faults_cancellation.py::test_closing_what_reconnects",
    "MessageChannel.aclose": "threats/test_faults_cancellation.py::test_closing_a_channel",
    "MessageChannel.receive": "io/test_cancellation.py::test_receiving_loses_doubles_and_reorders_nothing",
    "MessageStream.__aenter__": "io/test_cancellation.py::test_receiving_in_pieces",
    "MessageStream.__aexit__": "io/test_cancellation.py::test_receiving_in_pieces",
    "MessageStream.__anext__": "io/test_cancellation.py::test_receiving_in_pieces",
    "Router.handle": "threats/test_faults_cancellation.py::test_a_router_and_its_hooks",
    "Router.process_request": "threats/test_faults_cancellation.py::test_a_router_and_its_hooks",
    "WebSocketConnection.__anext__": "io/test_cancellation.py::test_receiving_loses_doubles_and_reorders_nothing",
    "WebSocketConnection.aclose": "io/test_cancellation.py::test_aclose",
    "WebSocketConnection.end_sending": "threats/test_faults_cancellation.py::test_ending_ones_own_side",
    "WebSocketConnection.get_message": "io/test_cancellation.py::test_receiving_loses_doubles_and_reorders_nothing",
    "WebSocketConnection.ping": "io/test_cancellation.py::test_ping",
    "WebSocketConnection.pong": "threats/test_faults_cancellation.py::test_what_neither_sends_nor_takes_a_message",
    "WebSocketConnection.receive": "io/test_cancellation.py::test_receiving_loses_doubles_and_reorders_nothing",
    "WebSocketConnection.send": "threats/test_faults_cancellation.py::test_a_message_is_sent_whole_or_not_at_all",
    "WebSocketConnection.send_message": "threats/test_faults_cancellation.py::test_a_message_is_sent_whole_or_not_at_all",
    "WebSocketConnection.send_stream": "threats/test_faults_cancellation.py::test_a_message_in_pieces_is_whole_or_the_end",
    "WebSocketConnection.wait_closed": "threats/test_faults_cancellation.py::test_what_neither_sends_nor_takes_a_message",
    "WebSocketConnection.wait_send_might_not_block": (
        "threats/test_faults_cancellation.py::test_what_neither_sends_nor_takes_a_message"
    ),
    "WebSocketRequest.accept": "io/test_cancellation.py::test_accept",
    "WebSocketRequest.reject": "io/test_cancellation.py::test_reject",
    "WebSocketServer.aclose": "io/test_cancellation.py::test_closing_a_server",
    "WebSocketServer.run": "threats/test_faults_cancellation.py::test_serving_on_listeners",
    "WebSocketServer.upgrade": "io/test_upgrade.py::test_cancelling_the_upgrade_of_a_server",
    "WebSocketServer.wait_closed": "threats/test_faults_cancellation.py::test_waiting_for_a_server",
    "WebSocketStream.aclose": "threats/test_faults_cancellation.py::test_closing_a_stream_of_bytes",
    "WebSocketStream.receive_some": "threats/test_faults_cancellation.py::test_a_stream_of_bytes_loses_none",
    "WebSocketStream.send_all": "threats/test_faults_cancellation.py::test_a_stream_of_bytes_sends_a_beginning",
    "WebSocketStream.send_eof": "threats/test_faults_cancellation.py::test_ending_ones_own_side",
    "WebSocketStream.wait_send_all_might_not_block": (
        "threats/test_faults_cancellation.py::test_what_neither_sends_nor_takes_a_message"
    ),
    "basic_auth": "threats/test_faults_cancellation.py::test_a_router_and_its_hooks",
    "broadcast": "io/test_broadcast.py::test_a_broadcast_that_is_cancelled_was_made_to_all_or_to_none",
    "connect_websocket": "threats/test_faults_cancellation.py::test_opening_by_host_and_port",
    "connect_websocket_url": "io/test_cancellation.py::test_connect_websocket_url",
    "open_websocket": "threats/test_faults_cancellation.py::test_opening_by_host_and_port",
    "open_websocket_url": "io/test_cancellation.py::test_open_websocket_url",
    "reconnecting": "io/test_reconnect.py::test_it_can_be_cancelled_at_any_moment",
    "serve_listeners": "threats/test_faults_cancellation.py::test_serving_on_listeners",
    "serve_unix_websocket": "threats/test_faults_cancellation.py::test_serving_on_a_unix_socket",
    "serve_websocket": "io/test_cancellation.py::test_serve_websocket",
    "upgrade": "io/test_upgrade.py::test_cancelling_upgrade",
    "wrap_client_stream": "io/test_cancellation.py::test_wrap_client_stream",
    "wrap_server_stream": "io/test_cancellation.py::test_wrap_server_stream",
    "testing.FaultyStream.aclose": "threats/test_faults_cancellation.py::test_closing_a_faulty_stream",
    "testing.FaultyStream.receive_some": "threats/test_faults_cancellation.py::test_a_faulty_stream_counts_right",
    "testing.FaultyStream.send_all": "threats/test_faults_cancellation.py::test_a_faulty_stream_counts_right",
    "testing.MemoryListener.accept": "threats/test_faults_cancellation.py::test_a_listener_in_memory",
    "testing.MemoryListener.aclose": "threats/test_faults_cancellation.py::test_a_listener_in_memory",
    "testing.open_connection_pair": "threats/test_faults_cancellation.py::test_a_pair_of_connections",
}

_SCRIPT = "a step of a script: it waits in the stream's own calls"
_BY_HAND = "a peer by hand promises only that what came of it may be lost"
#: What waits and is not cancelled at every moment by a test of its own, and why.
REASONS = {
    **dict.fromkeys(("testing.cut", "testing.end", "testing.fail", "testing.stall"), _SCRIPT),
    **{f"testing.FaultyStream.{name}": _SCRIPT for name in ("cut", "end", "fail", "stall")},
    "testing.FaultyStream.send_eof": "the inner stream's own, unchanged",
    "testing.FaultyStream.wait_send_all_might_not_block": "the inner stream's own, unchanged",
    **{
        f"testing.RawPeer.{name}": _BY_HAND
        for name in (
            *("aclose", "expect", "expect_close", "expect_end", "handshake", "receive_exactly"),
            *("receive_frame", "receive_head", "receive_rest", "send", "send_close", "send_frame"),
        )
    },
}


def waits(function: Any) -> bool:
    """Whether a function is a coroutine function or an async generator, or says that it returns what is awaited."""
    plain = inspect.unwrap(function)
    returned = str(getattr(plain, "__annotations__", {}).get("return", ""))
    return (
        inspect.iscoroutinefunction(plain)
        or inspect.isasyncgenfunction(plain)
        or any(word in returned for word in ("Awaitable", "Coroutine", "AsyncContextManager"))
    )


def all_that_waits() -> Iterator[str]:
    """Yield the names of all that waits in the public API, without what Trio's base classes make of it."""
    for module, prefix in ((trio_ws, ""), (trio_ws.testing, "testing.")):
        for name in module.__all__:
            found = getattr(module, name)
            if not inspect.isclass(found):
                if callable(found) and waits(found):
                    yield prefix + name
                continue
            for key in dir(found):
                method = inspect.getattr_static(found, key)
                if (
                    inspect.isfunction(method)
                    and method.__module__.startswith("trio_ws")
                    and (key.startswith("__") or not key.startswith("_"))
                    and waits(method)
                ):
                    yield f"{prefix}{name}.{key}"


def test_everything_that_waits_is_cancelled_by_a_test() -> None:
    """`run_workers` is no coroutine: it runs Trio itself, in several processes."""
    assert sorted(all_that_waits()) == sorted([*CASES, *REASONS])


@pytest.mark.parametrize("name", CASES)
def test_that_test_exists_and_does_so(name: str) -> None:
    file, _, test = CASES[name].partition("::")
    source = (TESTS / file).read_text(encoding="utf-8")
    [function] = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and node.name == test
    ]
    first = min(node.lineno for node in (function, *function.decorator_list))
    text = "\n".join(source.splitlines()[first - 1 : function.end_lineno])
    assert "cancel_everywhere(" in text or "cancel_serving(" in text
    called = {
        "Connections.__anext__": "async for ws in connections",
        "MessageStream.__aenter__": "async with ws.receive_stream()",
        "MessageStream.__aexit__": "async with ws.receive_stream()",
        "MessageStream.__anext__": "async for piece in stream",
    }
    # several of one kind are in a table of the same file
    assert called.get(name, name.rpartition(".")[2].strip("_")) in (
        source if any(table in text for table in ("RECEIVERS[", "SENDERS[", "WAITERS[")) else text
    )


on_a_clock_that_jumps = pytest.mark.usefixtures("autojump_clock")

COMPRESSIONS: dict[str, PerMessageDeflate | bool] = {
    "plain": False,
    "deflate": PerMessageDeflate(threshold=1),
    "deflate without takeover": PerMessageDeflate(
        threshold=1, server_no_context_takeover=True, client_no_context_takeover=True
    ),
}
every_compression = pytest.mark.parametrize("compression", COMPRESSIONS)

Sender = Callable[[WebSocketConnection, str], Awaitable[object]]

SENDERS: dict[str, Sender] = {
    "send_message": lambda ws, message: ws.send_message(message),
    "send": lambda ws, message: ws.send(message),
    "prepared": lambda ws, message: ws.send_message(PreparedMessage(message)),
}


@on_a_clock_that_jumps
@every_kind
@every_compression
@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("sender", SENDERS)
async def test_a_message_is_sent_whole_or_not_at_all(
    kind: str, compression: str, role: Role, sender: str
) -> None:
    """Between others, whose compression must not depend on one that was not sent; by `send_message` or `send`."""
    messages = ["the same words, " * 20, "the same words, once more, " * 20, "and the same words, " * 20]

    async def attempt(canceller: Canceller) -> None:
        async with both_ends(kind, compression=COMPRESSIONS[compression]) as ends:
            ws, peer = ends if role is Role.CLIENT else reversed(ends)
            await ws.send_message(messages[0])
            cancelled = await canceller.run(lambda: SENDERS[sender](ws, messages[1]))
            await ws.send_message(messages[2])
            expected: Messages = [*messages]
            if cancelled:
                del expected[1]
            assert await drive(ws, peer) == ([], expected)

    await cancel_everywhere(attempt)


@every_compression
async def test_a_message_that_is_compressed_in_a_thread_is_sent_whole_or_not_at_all(compression: str) -> None:
    """The clock is the real one, for a test's clock does not wait for threads."""
    large = "a line of a large message\n" * 4000

    async def attempt(canceller: Canceller) -> None:
        async with both_ends("memory", compression=COMPRESSIONS[compression]) as (ws, peer):
            await ws.send_message("before")
            cancelled = await canceller.run(lambda: ws.send_message(large))
            await ws.send_message(large + "behind")
            assert await drive(ws, peer) == (
                [],
                ["before", *([] if cancelled else [large]), large + "behind"],
            )

    await cancel_everywhere(attempt)


@on_a_clock_that_jumps
@every_kind
@every_compression
@pytest.mark.parametrize("role", list(Role))
async def test_a_message_in_pieces_is_whole_or_the_end(kind: str, compression: str, role: Role) -> None:
    """No other message, and no second half, ever follows half of one, by `send_stream`."""
    ends_seen: set[bool] = set()

    async def pieces() -> AsyncGenerator[str]:
        for number in range(4):
            await trio.lowlevel.checkpoint()
            yield f"piece {number} of a message in pieces " * 5

    whole = "".join(f"piece {number} of a message in pieces " * 5 for number in range(4))

    async def attempt(canceller: Canceller) -> None:
        async with both_ends(kind, compression=COMPRESSIONS[compression]) as pair:
            ws, peer = pair if role is Role.CLIENT else reversed(pair)
            await ws.send_message("before")
            cancelled = await canceller.run(lambda: ws.send_stream(pieces()))
            ends_seen.add(ws.closed is not None)
            if ws.closed is None:
                await ws.send_message("behind")
                assert await drive(ws, peer) == ([], ["before", *([] if cancelled else [whole]), "behind"])
            else:
                assert cancelled
                assert await bury(ws, peer) == (["before"], 1011)

    await cancel_everywhere(attempt)
    assert ends_seen == {False, True}


WAITERS: dict[str, Callable[[WebSocketConnection], Awaitable[object]]] = {
    "pong": lambda ws: ws.pong(b"here"),
    "wait_closed": lambda ws: ws.wait_closed(),
    "wait_send_might_not_block": lambda ws: ws.wait_send_might_not_block(),
    "wait_send_all_might_not_block": lambda ws: WebSocketStream(ws).wait_send_all_might_not_block(),
}


@on_a_clock_that_jumps
@pytest.mark.parametrize("kind", ["tcp", "lockstep", "tls", "polled"])
@pytest.mark.parametrize(
    "waiter", ["pong", "wait_send_might_not_block", "wait_send_all_might_not_block", "wait_closed"]
)
async def test_what_neither_sends_nor_takes_a_message(kind: str, waiter: str) -> None:
    """Without room and with it, the connection works as before."""

    async def attempt(canceller: Canceller) -> None:
        async with without_room(kind) as ((ws, peer), read_on):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_on)
                if waiter != "wait_closed":
                    await canceller.run(lambda: WAITERS[waiter](ws))
            if waiter == "wait_closed":
                async with trio.open_nursery() as nursery:

                    async def end() -> None:
                        await settle()
                        assert await drive(ws, peer) == ([], [])
                        await peer.aclose(4000)

                    nursery.start_soon(end)
                    await canceller.run(lambda: WAITERS[waiter](ws))
                assert await bury(ws, peer) == ([], 4000)
            else:
                assert await drive(ws, peer) == ([], [])

    await cancel_everywhere(attempt)


@on_a_clock_that_jumps
@every_kind
@pytest.mark.parametrize("way", ["end_sending", "send_eof"])
async def test_ending_ones_own_side(kind: str, way: str) -> None:
    """Cancelled, nothing was done; else the peer sees the close frame behind what was sent."""
    begun: set[bool] = set()

    async def attempt(canceller: Canceller) -> None:
        async with both_ends(kind) as (ws, peer):
            await ws.send_message("before")
            stream = WebSocketStream(ws)
            cancelled = await canceller.run(
                lambda: ws.end_sending() if way == "end_sending" else stream.send_eof()
            )
            begun.add(ws.closed is not None)
            assert cancelled is (ws.closed is None)
            if cancelled:
                assert await drive(ws, peer) == ([], ["before"])
                return
            received, error = await receive_all(peer)
            assert received == ["before"]
            assert error.reason is not None
            assert error.reason.code == 1000

    await cancel_everywhere(attempt)
    assert begun == {False, True}


# A stream of bytes


@on_a_clock_that_jumps
@every_kind
async def test_a_stream_of_bytes_sends_a_beginning(kind: str) -> None:
    """Of what was cancelled in `send_all` a beginning was sent, in whole pieces."""
    data = bytes(range(256)) * 800

    async def attempt(canceller: Canceller) -> None:
        async with both_ends(kind) as (ws, peer):
            cancelled = await canceller.run(lambda: WebSocketStream(ws).send_all(data))
            nothing, left = await drive(ws, peer)
            assert nothing == []
            sent = b"".join(piece for piece in left if isinstance(piece, bytes))
            assert data.startswith(sent)
            assert cancelled or sent == data
            assert all(len(piece) == 65536 for piece in left[:-1])

    await cancel_everywhere(attempt)


@on_a_clock_that_jumps
@every_kind
async def test_a_stream_of_bytes_loses_none(kind: str) -> None:
    """Whenever a reader in `receive_some` is cancelled, the next one goes on where it was."""
    data = bytes(range(200))

    async def attempt(canceller: Canceller) -> None:
        received = bytearray()
        async with both_ends(kind) as (ws, peer):
            stream = WebSocketStream(ws)

            async def send() -> None:
                for start in range(0, len(data), 50):
                    await settle()
                    await peer.send_message(data[start : start + 50])

            async def receive() -> None:
                while len(received) < len(data):
                    received.extend(await stream.receive_some(30))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                await canceller.run(receive)
                await receive()
            assert received == data
            assert await drive(ws, peer) == ([], [])

    await cancel_everywhere(attempt)


@on_a_clock_that_jumps
@every_kind
async def test_closing_a_stream_of_bytes(kind: str) -> None:
    async def attempt(canceller: Canceller) -> None:
        async with both_ends(kind) as (ws, peer):
            stream = WebSocketStream(ws)
            if await canceller.run(stream.aclose):
                assert ws.state is State.CLOSED
            with pytest.raises(trio.ClosedResourceError):
                await stream.send_all(b"too late")
            received, _ = await receive_all(peer)
            assert received == []

    await cancel_everywhere(attempt)


@on_a_clock_that_jumps
async def test_closing_a_channel() -> None:
    """It is closed all the same, and the connection goes on."""

    async def attempt(canceller: Canceller) -> None:
        async with both_ends("memory") as (ws, peer):
            channel = ws.messages
            if await canceller.run(channel.aclose) or canceller.raised is None:
                with pytest.raises(trio.ClosedResourceError):
                    await channel.receive()
            assert await drive(ws, peer) == ([], [])

    await cancel_everywhere(attempt)


# Opening and serving


@on_a_clock_that_jumps
@every_scheme
@pytest.mark.parametrize("owner", ["block", "nursery"])
async def test_opening_by_host_and_port(scheme: Scheme, owner: str) -> None:
    """By `open_websocket(` and `connect_websocket(`: there is a connection that works, or nothing is left."""
    async with echoing(scheme) as (url, context, handlers), trio.open_nursery() as nursery:
        port = int(url.rpartition(":")[2])
        [*before] = nursery.child_tasks

        async def attempt(canceller: Canceller) -> None:
            opened: list[WebSocketConnection] = []

            async def use() -> None:
                secure = False if context is None else context
                if owner == "nursery":
                    opened.append(await connect_websocket(nursery, "127.0.0.1", port, "/", use_ssl=secure))
                    return
                async with open_websocket("127.0.0.1", port, "/", use_ssl=secure) as ws:
                    opened.append(ws)
                    await ws.send_message("over there")
                    assert await ws.get_message() == "over there"

            cancelled = await canceller.run(use)
            for ws in opened:
                if owner == "block":
                    assert ws.state is State.CLOSED
                    continue
                assert not cancelled
                await ws.send_message("over there")
                assert await ws.get_message() == "over there"
                await ws.aclose()
            await settle_until(lambda: not handlers.child_tasks)
            await settle()
            assert [*nursery.child_tasks] == before

        await cancel_everywhere(attempt, bare=False)  # Trio dials several addresses at once


async def closing_when_quiet(server: WebSocketServer) -> None:
    await settle()
    await server.aclose(drain=1)


async def cancel_serving(way: str, path: Path) -> None:
    """A visitor sees the end of its connection, and nothing is left: no task, no connection, no socket file."""
    codes: set[int] = set()

    async def attempt(canceller: Canceller) -> None:
        servers: list[WebSocketServer] = []
        listener = MemoryListener()
        async with trio.open_nursery() as nursery:

            async def visit() -> None:
                try:
                    stream = await trio.open_unix_socket(str(path)) if "unix" in way else listener.connect()
                    ws = await wrap_client_stream(nursery, stream, "localhost", "/")
                    await ws.send_message("hello")
                    assert await ws.get_message() == "hello"
                except (OSError, HandshakeError, trio.BrokenResourceError):
                    return
                except ConnectionClosed as exc:
                    error = exc
                else:
                    _, error = await receive_all(ws)
                assert error.reason is not None
                codes.add(error.reason.code)

            class Started(trio.TaskStatus[WebSocketServer]):
                def started(self, value: WebSocketServer | None = None) -> None:
                    assert value is not None
                    servers.append(value)
                    nursery.start_soon(visit)
                    nursery.start_soon(closing_when_quiet, value)

            async def serve() -> None:
                if way == "run":
                    await WebSocketServer(echo, [listener], drain=1).run(task_status=Started())
                elif way == "serve_listeners":
                    await serve_listeners(echo, [listener], task_status=Started(), drain=1)
                else:
                    await serve_unix_websocket(echo, path, task_status=Started(), drain=1)

            await canceller.run(serve)
            assert all(server.connections == set() for server in servers)
        assert not path.exists()  # noqa: ASYNC240 - one look at a local disk

    await cancel_everywhere(attempt, bare=False)  # a server is a nursery
    assert codes >= {1001}


@on_a_clock_that_jumps
@pytest.mark.parametrize("way", ["serve_listeners", "run"])
async def test_serving_on_listeners(way: str, tmp_path: Path) -> None:
    await cancel_serving(way, tmp_path / "socket")


async def test_serving_on_a_unix_socket(tmp_path: Path) -> None:
    """Trio binds it in a thread, for which a test's clock does not wait: so the clock is the real one."""
    await cancel_serving("serve_unix_websocket", tmp_path / "socket")


async def test_a_cancelled_server_closes_all_of_its_listeners() -> None:
    memory = [MemoryListener(), MemoryListener()]
    tcp = [(await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] for _ in range(2)]
    async with trio.open_nursery() as nursery:
        await nursery.start(WebSocketServer(echo, [*memory, *tcp]).run)
        nursery.cancel_scope.cancel()
    for listener in memory:
        with pytest.raises(trio.BrokenResourceError):
            listener.connect()
    assert [listener.socket.fileno() for listener in tcp] == [-1, -1]


@on_a_clock_that_jumps
async def test_waiting_for_a_server() -> None:
    """`wait_closed` does nothing to it."""

    async def attempt(canceller: Canceller) -> None:
        listener = MemoryListener()
        async with trio.open_nursery() as nursery:
            server: WebSocketServer = await nursery.start(WebSocketServer(echo, [listener]).run)
            ws = await wrap_client_stream(nursery, listener.connect(), "localhost", "/")

            async def end() -> None:
                await settle()
                await ws.send_message("hello")
                assert await ws.get_message() == "hello"
                await server.aclose()

            async with trio.open_nursery() as ending:
                ending.start_soon(end)
                if not await canceller.run(server.wait_closed):
                    assert server.connections == set()

    await cancel_everywhere(attempt)


AUTHORIZATION = "Basic dXNlcjpwYXNzd29yZA=="  # of "user" with the password "password"


@on_a_clock_that_jumps
@pytest.mark.parametrize("kind", ["tcp", "memory", "tls"])
async def test_a_router_and_its_hooks(kind: str) -> None:
    """From the request through `process_request` with `basic_auth` to the end of what `handle` calls."""
    answers: set[bytes] = set()

    async def check(user: str, password: str) -> bool:
        await trio.lowlevel.checkpoint()
        return (user, password) == ("user", "password")

    router = Router(process_request=basic_auth("a realm", check))

    @router.websocket("/{room}")
    async def talk(request: WebSocketRequest, room: str) -> None:
        ws = await request.accept()
        await ws.send_message(room)
        await ws.aclose()

    async def attempt(canceller: Canceller) -> None:
        near, far = await open_pair(kind)
        client = RawPeer(far, Role.CLIENT)

        async def visit() -> None:
            head = b""
            try:
                await client.send(handshake_request("GET /lobby HTTP/1.1", Authorization=AUTHORIZATION))
                head = await client.receive_head()
                if head.startswith(b"HTTP/1.1 101 "):
                    await client.expect(1, b"lobby")
                    await client.expect_close()
            except (AssertionError, trio.BrokenResourceError):  # the server has gone
                assert canceller.scope.cancel_called
            answers.add(head[9:12])
            await trio.aclose_forcefully(far)

        async with trio.open_nursery() as visiting:
            visiting.start_soon(visit)
            async with trio.open_nursery() as nursery:

                async def serve() -> None:
                    request = await wrap_server_stream(nursery, near, process_request=router.process_request)
                    await router.handle(request)

                await canceller.run(serve)

    await cancel_everywhere(attempt)
    assert {b"101", b"503"} <= answers <= {b"", b"101", b"503"}


@on_a_clock_that_jumps
async def test_closing_what_reconnects() -> None:
    """Cancelled or not, its connections are over, and it makes no more: it was closed by `aclose`."""
    async with echoing("ws") as (url, _, handlers):

        async def attempt(canceller: Canceller) -> None:
            async with trio_ws.reconnecting(url) as connections:
                ws = await anext(connections)
                await canceller.run(connections.aclose)
                assert ws.state is State.CLOSED
                with pytest.raises(trio.ClosedResourceError):
                    await anext(connections)
            await settle_until(lambda: not handlers.child_tasks)

        await cancel_everywhere(attempt)


# What tests are written with


@on_a_clock_that_jumps
async def test_a_pair_of_connections() -> None:
    """Cancelling the block of `open_connection_pair` cuts both ends."""

    async def attempt(canceller: Canceller) -> None:
        ends: list[WebSocketConnection] = []

        async def use() -> None:
            async with open_connection_pair() as pair:
                ends.extend(pair)
                await pair.client.send_message("over there")
                assert await pair.server.get_message() == "over there"

        await canceller.run(use)
        assert all(end.state is State.CLOSED for end in ends)

    await cancel_everywhere(attempt)


@on_a_clock_that_jumps
async def test_a_listener_in_memory() -> None:
    """No connection is lost by a cancelled `accept`; `aclose` is done all the same."""

    async def attempt(canceller: Canceller) -> None:
        listener = MemoryListener()
        accepted: list[trio.abc.Stream] = []
        left = listener.connect(), listener.connect()

        async def use() -> None:
            accepted.append(await listener.accept())
            await listener.aclose()

        await canceller.run(use)
        if accepted:
            with pytest.raises(trio.BrokenResourceError):
                listener.connect()
            with pytest.raises(trio.BrokenResourceError):
                await left[1].send_all(b"nobody has accepted it")
        else:
            accepted.extend([await listener.accept(), await listener.accept()])
        for stream in left[: len(accepted)]:
            await stream.send_all(b"x")
        for stream in accepted:
            assert await stream.receive_some(1) == b"x"
        await listener.aclose()
        with pytest.raises(trio.BrokenResourceError):
            listener.connect()

    await cancel_everywhere(attempt)


@on_a_clock_that_jumps
async def test_a_faulty_stream_counts_right() -> None:
    """What it counts as sent and received in `send_all` and `receive_some` is what has passed."""

    async def attempt(canceller: Canceller) -> None:
        near, far = trio.testing.memory_stream_pair()
        ours, theirs = FaultyStream(near, send=[2, 3]), FaultyStream(far, receive=[1, 4])

        async def use() -> None:
            await ours.send_all(b"0123456789")
            while theirs.received < 10:
                received.extend(await theirs.receive_some(2))

        received = bytearray()
        await canceller.run(use)
        await ours.send_all(b"0123456789"[ours.sent :])
        while theirs.received < 10:
            received.extend(await theirs.receive_some(2))
        assert received == b"0123456789"

    await cancel_everywhere(attempt)


@on_a_clock_that_jumps
async def test_closing_a_faulty_stream() -> None:
    async def attempt(canceller: Canceller) -> None:
        near, far = trio.testing.memory_stream_pair()
        await canceller.run(FaultyStream(near).aclose)
        assert await far.receive_some() == b""

    await cancel_everywhere(attempt)
