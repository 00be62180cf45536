"""Opening listeners and what a running server can be told: pause, resume, wait for its end."""

import socket
import stat
import sys
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.io.api_kit import echo, receive_all, serving, serving_in_memory
from tests.io.transport_kit import PATIENCE, tls_contexts
from trio_ws import (
    WebSocketConnection,
    WebSocketServer,
    open_websocket,
    serve_unix_websocket,
    serve_websocket,
    wrap_client_stream,
)
from trio_ws.testing import MemoryListener, handshake_request

unix = pytest.mark.skipif(sys.platform == "win32", reason="Python has no Unix sockets there")


async def prove(ws: WebSocketConnection) -> None:
    """Show that a connection works."""
    await ws.send_message("hello")
    assert await ws.get_message() == "hello"


@unix
@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_serve_unix_websocket(tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "socket"
    server_context, client_context = tls_contexts()
    serve = partial(serve_unix_websocket, max_message_size=7, path="/chat")
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            context = server_context if scheme == "wss" else None
            server: WebSocketServer = await nursery.start(serve, echo, path, context)
            assert server.listeners == [str(path)]
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            stream: trio.abc.Stream = await trio.open_unix_socket(path)
            if scheme == "wss":
                stream = trio.SSLStream(stream, client_context, server_hostname="localhost")
            async with await wrap_client_stream(nursery, stream, "localhost", "/chat") as ws:
                await prove(ws)
            await server.aclose()
    assert not path.exists()


@unix
async def test_the_permissions_of_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_unix_websocket, mode=0o666), echo, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        nursery.cancel_scope.cancel()


@unix
async def test_wrong_options_are_told_before_a_socket_file_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="drain"):
        await serve_unix_websocket(echo, tmp_path / "socket", drain=-1)
    assert not await trio.Path(tmp_path / "socket").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="ports cannot be shared there")
async def test_reuse_port() -> None:
    serve = partial(serve_websocket, reuse_port=True)
    async with trio.open_nursery() as nursery:
        first: WebSocketServer = await nursery.start(serve, echo, "127.0.0.1", 0, None)
        second: WebSocketServer = await nursery.start(serve, echo, "127.0.0.1", first.port, None)
        assert second.port == first.port
        with pytest.raises(OSError, match="in use"):
            await serve_websocket(echo, "127.0.0.1", first.port, None)
        nursery.cancel_scope.cancel()


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels round the backlog in ways of their own")
async def test_backlog() -> None:
    """A paused server takes none, so what waits is what the kernel allows: one more than the backlog."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            serve = partial(serve_websocket, backlog=1)
            server: WebSocketServer = await nursery.start(serve, echo, "127.0.0.1", 0, None)
            server.pause()
            await trio.testing.wait_all_tasks_blocked()
            waiting = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(2)]
            with socket.socket() as another:
                another.setblocking(False)
                another.connect_ex(("127.0.0.1", server.port))
                await trio.testing.wait_all_tasks_blocked(0.01)
                with pytest.raises(OSError, match="not connected"):
                    another.getpeername()
            for each in waiting:
                each.close()
            await server.aclose()


async def test_pause_and_resume() -> None:
    """Who comes meanwhile waits, and who is there goes on."""
    async with (
        serving(echo) as server,
        open_websocket("127.0.0.1", server.port, "/", use_ssl=False) as before,
    ):
        for _ in range(2):
            server.pause()
            server.pause()
            await trio.testing.wait_all_tasks_blocked(0.01)
            await prove(before)
            opened = trio.Event()

            async def come(opened: trio.Event = opened) -> None:
                async with open_websocket("127.0.0.1", server.port, "/", use_ssl=False) as ws:
                    await prove(ws)
                    opened.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(come)
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert not opened.is_set()
                assert len(server.connections) == 1
                server.resume()
                server.resume()


async def test_pausing_and_resuming_at_once() -> None:
    """Whatever was said last counts, however short the time between."""
    async with serving_in_memory(echo) as (server, listener):
        for paused in (False, True, False, True):
            for _ in range(3):
                server.pause()
                server.resume()
            if paused:
                server.pause()
            await trio.testing.wait_all_tasks_blocked()
            stream = listener.connect()
            await stream.send_all(handshake_request())
            await trio.testing.wait_all_tasks_blocked()
            assert len(server.connections) == (0 if paused else 1)
            server.resume()
            await trio.testing.wait_all_tasks_blocked()
            await trio.aclose_forcefully(stream)
            await trio.testing.wait_all_tasks_blocked()


async def test_a_server_can_be_paused_before_it_runs_and_closed_while_it_is_paused() -> None:
    listener = MemoryListener()
    server = WebSocketServer(echo, [listener])
    server.pause()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        stream = listener.connect()
        await trio.testing.wait_all_tasks_blocked()
        await server.aclose()
        assert await stream.receive_some() == b""


@pytest.mark.usefixtures("autojump_clock")
@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_wait_closed(how: str) -> None:
    """It returns when the last connection has ended, also in a nursery of its own."""
    listener = MemoryListener()
    left: list[str] = []
    async with trio.open_nursery() as handlers, trio.open_nursery() as nursery:
        server = WebSocketServer(echo, [listener], handler_nursery=handlers)

        async def wait() -> None:
            await server.wait_closed()
            assert server.connections == set()
            left.append("closed")

        handlers.start_soon(wait)
        running = trio.CancelScope()

        async def run(task_status: trio.TaskStatus[WebSocketServer]) -> None:
            with running:
                await server.run(task_status=task_status)

        await nursery.start(run)
        ws = await wrap_client_stream(nursery, listener.connect(), "localhost", "/")
        await prove(ws)
        assert left == []
        if how == "closed":
            nursery.start_soon(server.aclose)
        else:
            running.cancel()
        if how == "cancelled":
            await trio.testing.wait_all_tasks_blocked()
            assert left == []  # the connection is in a nursery that goes on
            await ws.aclose()
        else:
            await receive_all(ws)
    assert left == ["closed"]
    await server.wait_closed()


async def test_wait_closed_of_a_server_without_listeners() -> None:
    server = WebSocketServer(echo, None)
    with trio.move_on_after(0.01) as timeout:
        await server.wait_closed()
    assert timeout.cancelled_caught
    await server.aclose()
    await server.wait_closed()
