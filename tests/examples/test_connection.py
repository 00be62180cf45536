"""The examples about one connection: as a stream, broken, binary, and without I/O."""

import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.io.api_kit import client_and_peer, echo, raw_client, serving, serving_in_memory
from trio_ws import WebSocketConnection, WebSocketRequest, open_websocket_url

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def names_of(example: str) -> dict[str, Any]:
    """Return what an example defines."""
    names: dict[str, Any] = {"__name__": example}
    exec(compile((EXAMPLES / f"{example}.py").read_text("utf-8"), f"{example}.py", "exec"), names)
    return names


async def run(example: str, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run an example as a process and return what it prints."""
    command = [sys.executable, str(EXAMPLES / f"{example}.py"), *arguments]
    done = await trio.run_process(command, stdin=stdin, capture_stdout=True)
    return done.stdout


async def test_byte_stream() -> None:
    content = os.urandom(2**20)
    async with serving(echo) as server:
        assert await run("byte_stream", f"ws://127.0.0.1:{server.port}/", stdin=content) == content


async def test_byte_stream_ends_with_its_peer() -> None:
    async def say(request: WebSocketRequest) -> None:
        ws = await request.accept()
        await ws.send_message("bye\n")

    async with serving(say) as server:
        reading, writing = os.pipe()  # nobody ever writes
        try:
            command = [sys.executable, str(EXAMPLES / "byte_stream.py"), f"ws://127.0.0.1:{server.port}/"]
            done = await trio.run_process(command, stdin=reading, capture_stdout=True)
        finally:
            os.close(reading)
            os.close(writing)
    assert done.stdout == b"bye\n"


async def test_sans_io() -> None:
    assert await run("sans_io") == b"hello" + os.linesep.encode()


async def test_sans_io_with_this_library_s_own_client() -> None:
    serve: Callable[[socket.socket], None] = names_of("sans_io")["serve"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, lambda: serve(listener.accept()[0]))
            async with open_websocket_url(f"ws://127.0.0.1:{listener.getsockname()[1]}/") as ws:
                for message in ("text", b"binary", "x" * 100000):
                    await ws.send_message(message)
                    assert await ws.get_message() == message


async def test_binary() -> None:
    async with serving(names_of("binary")["scale"]) as server:
        answer = await run("binary", f"ws://127.0.0.1:{server.port}/")
    assert answer == b"[3.0, 5.0]" + os.linesep.encode()


async def test_numpy_client() -> None:
    pytest.importorskip("numpy", reason="numpy is not installed")
    async with serving(names_of("binary")["scale"]) as server:
        answer = await run("numpy_client", f"ws://127.0.0.1:{server.port}/")
    assert answer == b"[0. 1. 2. 3. 4.]" + os.linesep.encode()


async def test_binary_with_numpy() -> None:
    numpy: Any = pytest.importorskip("numpy", reason="numpy is not installed")
    numbers = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
    async with (
        serving(names_of("binary")["scale"]) as server,
        open_websocket_url(f"ws://127.0.0.1:{server.port}/") as ws,
    ):
        await ws.send_message(numbers)
        answer = numpy.frombuffer(await ws.get_message(), numpy.float32).reshape(2, 3)
        assert (answer == 2 * numbers).all()
        with pytest.raises(ValueError, match="contiguous"):
            await ws.send_message(numbers.T)


async def test_a_broken_connection_on_the_server(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    handler: Callable[[WebSocketRequest], Awaitable[None]] = names_of("broken_connections")["handler"]
    async with serving_in_memory(handler, ping_interval=10, ping_timeout=5) as (server, listener):
        peer = raw_client(listener)
        await peer.handshake()
        await peer.send_frame(1, b"last words")
        began = trio.current_time()
        assert (await peer.receive_frame()).opcode == 9  # which is never answered
        await peer.receive_rest()
        assert 15 <= trio.current_time() - began <= 16
        assert server.connections == set()
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "last words"
    assert said[1].startswith("server-")
    assert said[1].endswith("has lost its peer: the peer made no progress in time: it is taken for dead")


async def test_a_broken_connection_on_the_client(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    receive: Callable[[WebSocketConnection], Awaitable[None]] = names_of("broken_connections")["receive"]
    async with client_and_peer(ping_interval=10, ping_timeout=5) as (ws, peer):
        await peer.send_frame(1, b"last words")
        began = trio.current_time()
        await receive(ws)
        assert 15 <= trio.current_time() - began <= 16
        assert ws.close_code == 1006
    assert "client-" in capsys.readouterr().out.splitlines()[1]


def test_the_example_of_broken_connections_asks_for_what_is_tested() -> None:
    source = (EXAMPLES / "broken_connections.py").read_text("utf-8")
    assert source.count("ping_interval: float = 10, ping_timeout: float = 5") == 2
