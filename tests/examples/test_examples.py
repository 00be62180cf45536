"""Every example runs: servers in the test's own loop, all others as processes, and the README shows two of them."""

import re
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from trio_ws import CloseReason, ConnectionLost, open_websocket_url
from trio_ws.protocol import AgreedDeflate

CHECKOUT = Path(__file__).parent.parent.parent
EXAMPLES = {path.stem: path.read_text("utf-8") for path in (CHECKOUT / "examples").glob("*.py")}


@pytest.fixture
def port() -> int:
    """Return a port that was free a moment ago, for the examples have theirs written in them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
        return number


@asynccontextmanager
async def serving(name: str, port: int, *arguments: str) -> AsyncGenerator[None]:
    """Run the server that an example is, at `port`."""
    assert "8765" in EXAMPLES[name]
    names: dict[str, Any] = {"__name__": name}
    exec(compile(EXAMPLES[name].replace("8765", str(port)), f"{name}.py", "exec"), names)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(names["main"], *arguments)
        await trio.testing.wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


async def run(name: str, tmp_path: Path, *arguments: str | Path, port: int = 8765) -> str:
    """Run an example as a process and return what it prints."""
    script = tmp_path / f"{name}.py"
    script.write_text(EXAMPLES[name].replace("8765", str(port)))
    done = await trio.run_process([sys.executable, script, *arguments], capture_stdout=True)
    return done.stdout.decode()


async def test_echo(port: int, tmp_path: Path) -> None:
    async with serving("echo_server", port):
        assert await run("echo_client", tmp_path, port=port) == "hello\n"


async def test_compression(port: int) -> None:
    url = f"ws://127.0.0.1:{port}/"
    async with serving("compressed_echo", port), open_websocket_url(url) as ws:
        [agreed] = ws.extensions
        assert isinstance(agreed, AgreedDeflate)
        assert (agreed.forgets, agreed.peer_forgets, agreed.peer_window_bits) == (True, True, 10)
        await ws.send_message("compressible " * 1000)
        assert await ws.get_message() == "compressible " * 1000


async def test_chat(port: int) -> None:
    url = f"ws://127.0.0.1:{port}/"
    async with (
        serving("chat_broadcast", port),
        open_websocket_url(url + "ann") as ann,
        open_websocket_url(url + "bob") as bob,
    ):
        assert await ann.get_message() == "/bob has come"
        await ann.send_message("hello")
        assert await bob.get_message() == "hello"
        await bob.send_message("hello yourself")
        assert [await ann.get_message() for _ in range(2)] == ["hello", "hello yourself"]


async def test_chat_sends_away_who_does_not_listen(port: int, autojump_clock: trio.testing.MockClock) -> None:
    autojump_clock.autojump_threshold = 0.05  # what the kernel moves takes real time
    url = f"ws://127.0.0.1:{port}/"
    began = trio.current_time()
    async with (
        serving("chat_broadcast", port),
        open_websocket_url(url, message_queue_size=1, compression=None) as deaf,
        open_websocket_url(url, compression=None) as talker,
    ):
        for _ in range(20):  # MiB: more than all buffers between here and the one who does not listen
            await talker.send_message(bytes(2**20))
            await talker.get_message()
        with pytest.raises(ConnectionLost) as lost:
            async for _ in deaf:
                pass
    assert lost.value.reason == CloseReason(1013, "too slow")
    assert trio.current_time() - began < 10  # later it would have been taken for dead anyway


async def test_tls(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setattr(sys, "argv", ["tls_server.py", str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")])
    async with serving("tls_server", port):
        assert await run("tls_client", tmp_path, tmp_path / "ca.pem", port=port) == "hello\n"


async def test_pieces(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192  # 2 MiB: more than a message may have by default
    (tmp_path / "file").write_bytes(content)
    assert await run("pieces", tmp_path, tmp_path / "file", tmp_path / "copy") == "saved\n"
    assert (tmp_path / "copy").read_bytes() == content


async def test_health_check(port: int) -> None:
    async with serving("health_check", port):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b"".join([bytes(part) async for part in stream])
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\nfine\n")
        async with open_websocket_url(f"ws://127.0.0.1:{port}/healthz/not") as ws:
            await ws.send_message("hello")
            assert await ws.get_message() == "hello"


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
async def test_unix_socket(tmp_path: Path) -> None:
    assert await run("unix_socket", tmp_path, tmp_path / "socket") == "hello\n"
    assert not (tmp_path / "socket").exists()


def test_every_example_is_tested() -> None:
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert [name for name in sorted(EXAMPLES) if not re.search(rf'"{name}(\.py)?"', tests)] == []


def test_the_readme_shows_the_examples() -> None:
    readme = (CHECKOUT / "README.md").read_text("utf-8")
    shown = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert shown == [EXAMPLES["echo_client"], EXAMPLES["echo_server"]]
