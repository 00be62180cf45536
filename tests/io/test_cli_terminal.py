"""`python -m trio_ws connect` on a terminal, with prompt_toolkit and without."""

import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.io.api_kit import echo, scripted_port, serving
from tests.io.cli_kit import COMMAND
from tests.io.transport_kit import PATIENCE
from trio_ws import WebSocketRequest
from trio_ws._cli_prompt import prompt_lines
from trio_ws.testing import RawPeer, handshake_response

if sys.platform == "win32":
    pytest.skip("Python has no pseudo-terminals there", allow_module_level=True)

import termios

CTRL_C = "\x03"
CTRL_D = "\x04"


@dataclass
class Terminal:
    """A terminal: its other end, and all that was ever written to it."""

    keyboard: int
    modes: list[object]
    process: trio.Process
    written: str = ""

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.keyboard, text.encode())

    async def expect(self, text: str) -> None:
        """Wait until `text` is written, and forget all before it and itself."""
        while text not in self.written:
            await trio.lowlevel.wait_readable(self.keyboard)
            try:
                self.written += os.read(self.keyboard, 65536).decode()
            except OSError:  # nobody has the terminal open any more
                raise AssertionError(f"{text!r} was not written, but {self.written!r}") from None
        self.written = self.written.partition(text)[2]

    async def end(self) -> int:
        """Wait for the process and return its status; the terminal must be as it was."""
        status = await self.process.wait()
        assert termios.tcgetattr(self.keyboard) == self.modes
        return status


@asynccontextmanager
async def terminal(*arguments: str, env: Mapping[str, str] | None = None) -> AsyncGenerator[Terminal]:
    """Run the command line on a terminal of its own."""
    keyboard, screen = os.openpty()
    start = partial(
        trio.run_process,
        stdin=screen,
        stdout=screen,
        stderr=screen,
        check=False,
        start_new_session=True,
        # nobody is there to say where the cursor is
        env={**os.environ, "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm", **(env or {})},
    )
    try:
        modes: list[object] = termios.tcgetattr(screen)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                process: trio.Process = await nursery.start(start, [*COMMAND, *arguments])
                yield Terminal(keyboard, modes, process)
                assert process.returncode is not None, "the process is still running"
    finally:
        os.close(screen)
        os.close(keyboard)


@pytest.fixture
def without_prompt_toolkit(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which it is not installed."""
    (tmp_path / "prompt_toolkit.py").write_text("raise ModuleNotFoundError")
    return {"PYTHONPATH": str(tmp_path)}


async def say(screen: Terminal, text: str, answer: str) -> None:
    """Wait for the prompt, which takes keys as they are only from then on; send a message and see the answer."""
    await screen.expect(">")
    screen.type(f"{text}\r")
    await screen.expect(f"< {answer}\r\n")


@pytest.mark.parametrize("key", [CTRL_C, CTRL_D])
async def test_lines_are_sent_and_answers_shown_until_a_key_ends_it(key: str) -> None:
    codes: list[int] = []

    async def handle(request: WebSocketRequest) -> None:
        ws = await request.accept()
        async for message in ws:
            await ws.send_message(message)
        assert ws.closed is not None
        codes.append(ws.closed.code)

    async with serving(handle) as server, terminal("connect", f"ws://127.0.0.1:{server.port}/") as screen:
        await screen.expect("Ctrl-D ends\r\n")
        await say(screen, "hello", "hello")
        await say(screen, "again", "again")
        await screen.expect(">")
        screen.type(key)
        assert await screen.end() == 0
    assert codes == [1000]


async def test_what_comes_is_harmless() -> None:
    async def handle(request: WebSocketRequest) -> None:
        ws = await request.accept()
        async for _ in ws:
            await ws.send_message("\x1b]0;mine\x07 and \x9b2J")

    async with serving(handle) as server, terminal("connect", f"ws://127.0.0.1:{server.port}/") as screen:
        await say(screen, "hello", "\\x1b]0;mine\\x07 and \\x9b2J")
        await screen.expect(">")
        screen.type(CTRL_D)
        assert await screen.end() == 0


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        (1000, 0, "closed by the server: 1000 NORMAL_CLOSURE (enough)\r\n"),
        (1011, 3, "trio_ws: the connection was lost: 1011 INTERNAL_ERROR (enough)\r\n"),
    ],
)
async def test_the_server_ends_it_while_there_is_a_prompt(code: int, status: int, words: str) -> None:
    async def handle(request: WebSocketRequest) -> None:
        ws = await request.accept()
        await ws.get_message()
        await ws.aclose(code, "enough")

    async with serving(handle) as server, terminal("connect", f"ws://127.0.0.1:{server.port}/") as screen:
        await screen.expect(">")
        screen.type("hello\rhalf a li")
        await screen.expect(words)
        assert await screen.end() == status


async def test_the_server_ends_it_before_there_is_a_prompt() -> None:
    async def script(peer: RawPeer) -> None:
        request = await peer.receive_head()
        # in one piece, so that the connection is over when the client first looks at it
        await peer.send(handshake_response(request) + peer.encode_frame(8, b"\x03\xe8"))

    async with scripted_port(script) as port, terminal("connect", f"ws://127.0.0.1:{port}/") as screen:
        await screen.expect("closed by the server: 1000 NORMAL_CLOSURE\r\n")
        assert await screen.end() == 0


async def test_a_prompt_that_is_cancelled_at_once_leaves_nothing() -> None:
    async def take(line: str) -> None:
        pytest.fail(f"{line!r} came from nowhere")

    with trio.CancelScope() as scope:
        scope.cancel()
        await prompt_lines(take)
    assert scope.cancelled_caught


async def test_without_prompt_toolkit(without_prompt_toolkit: dict[str, str]) -> None:
    async with (
        serving(echo) as server,
        terminal("connect", f"ws://127.0.0.1:{server.port}/", env=without_prompt_toolkit) as screen,
    ):
        await screen.expect("Ctrl-D ends\r\n")
        screen.type("hello\n")
        await screen.expect("< hello\r\n")
        screen.type(CTRL_D)
        assert await screen.end() == 0


async def test_without_prompt_toolkit_an_interrupt_is_a_signal(
    without_prompt_toolkit: dict[str, str],
) -> None:
    async with (
        serving(echo) as server,
        terminal("connect", f"ws://127.0.0.1:{server.port}/", env=without_prompt_toolkit) as screen,
    ):
        await screen.expect("Ctrl-D ends\r\n")
        screen.process.send_signal(signal.SIGINT)
        assert await screen.end() == 130
