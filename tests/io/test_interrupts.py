"""Ctrl-C at any line: it comes out of the main task's call, and leaves nothing half done; what signals do is Trio's own.

A connection's state is changed in many lines that belong together. Between two of them `KeyboardInterrupt` may not be
raised: a connection that has sent its close frame, and has not yet set its deadline, would wait for ever.
"""

from __future__ import annotations

import itertools
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trio
import trio.testing

import trio_ws
from tests.io.link_kit import drain, every_kind, open_streams
from tests.io.transport_kit import tcp_pair
from trio_ws import (
    DisconnectionTimeout,
    PerMessageDeflate,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketStream,
    broadcast,
    serve_listeners,
)
from trio_ws.protocol import Role
from trio_ws.testing import ConnectionPair, MemoryListener, RawPeer, open_connection_pair

PACKAGE = Path(trio_ws.__file__).parent

#: Where a connection's state is, and so where no line may be the last one.
STATE = {
    *("_channel", "_ending", "_inbox", "_link", "_outbox", "_pieces", "_pings", "_sending", "_timers"),
    *("protocol/_close", "protocol/_codec", "protocol/_deflate", "protocol/_inflate", "protocol/_protocol"),
    *("transport/_poller", "transport/_socket", "transport/_stream"),
}


@contextmanager
def tracing(look: Callable[[str, FrameType], None]) -> Generator[None]:
    """Call `look` with the module and the frame, before each line of the package's own code."""

    def trace(frame: FrameType, event: str, _: object) -> Any:
        file = Path(frame.f_code.co_filename)
        if not file.is_relative_to(PACKAGE) or file.parent.name == "testing":
            return None
        if event == "line":
            look(file.relative_to(PACKAGE).with_suffix("").as_posix(), frame)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


# --- no line is unprotected


async def converse(ends: ConnectionPair) -> None:
    """Use all that sends and receives."""
    client, server = ends
    for message in ("text", b"binary", "long " * 30_000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_message, message)
            assert await server.get_message() == message
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_stream, ["in ", "pieces"])
        async with client.receive_stream() as pieces:
            assert "".join([str(piece) async for piece in pieces]) == "in pieces"
    assert (await broadcast([client, server], "to all")).sent
    assert await anext(client.messages) == await anext(server) == "to all"
    await client.ping()
    await client.pong(b"unasked")
    near, far = WebSocketStream(client), WebSocketStream(server)
    await near.send_all(b"some bytes")
    assert await far.receive_some() == b"some bytes"
    await far.send_eof()
    await near.aclose()


@every_kind
@pytest.mark.parametrize("compression", [None, PerMessageDeflate(threshold=1)], ids=["plain", "deflate"])
async def test_no_line_that_changes_a_connection_is_unprotected(
    kind: str, compression: PerMessageDeflate | None
) -> None:
    unprotected: set[str] = set()

    def look(module: str, frame: FrameType) -> None:
        if module in STATE and not trio.lowlevel.currently_ki_protected():
            unprotected.add(f"{module}.{frame.f_code.co_name}")

    async with open_connection_pair(await open_streams(kind), compression=compression) as ends:
        with tracing(look):
            await converse(ends)
    assert unprotected == set()


async def test_the_code_of_a_handler_is_not_protected() -> None:
    """A handler that never waits can be ended by Ctrl-C."""
    listener, protected = MemoryListener(), list[bool]()

    async def handler(request: WebSocketRequest) -> None:
        protected.append(trio.lowlevel.currently_ki_protected())
        ws = await request.accept()
        protected.append(trio.lowlevel.currently_ki_protected())
        async for _ in ws:
            protected.append(trio.lowlevel.currently_ki_protected())

    async with trio.open_nursery() as nursery:
        await nursery.start(serve_listeners, handler, [listener])
        async with trio_ws.open_websocket_url("ws://a/", stream=listener.connect()) as ws:
            protected.append(trio.lowlevel.currently_ki_protected())
            await ws.send_message("a message")
        nursery.cancel_scope.cancel()
    assert protected == [False] * 4


# --- a signal at each line

#: Not protected, for what they call is the handler: Ctrl-C may cut it anywhere. A tracer would also cut between
#: ``with`` and its block, where the interpreter never looks for signals.
OUTSIDE = {("_server", "_talk")}


class Signal:
    """Ctrl-C at the n-th line of the package; `sent` says whether there were so many.

    Args:
        number: which line it is to be.
    """

    def __init__(self, number: int) -> None:
        self._left = number

    @property
    def sent(self) -> bool:
        return self._left <= 0

    def look(self, module: str, frame: FrameType) -> None:
        if (module, frame.f_code.co_name) in OUTSIDE:
            return
        self._left -= 1
        if self._left == 0:
            signal.raise_signal(signal.SIGINT)


def interrupted_everywhere(main: Callable[[Signal], Any], step: int) -> Iterator[tuple[int, float]]:
    """Run `main` with Ctrl-C at its first line, `step` lines later, and so on; yield the line and the seconds it took."""
    for number in itertools.count(1, step):
        ctrl_c = Signal(number)
        clock = trio.testing.MockClock(autojump_threshold=0.001)
        interrupted = False
        try:
            trio.run(main, ctrl_c, clock=clock)
        except* KeyboardInterrupt:
            interrupted = True
        except* DisconnectionTimeout:
            pass
        if not ctrl_c.sent:
            return
        assert interrupted, number
        yield number, clock.current_time()


@asynccontextmanager
async def unanswered() -> AsyncGenerator[tuple[WebSocketConnection, trio.Nursery]]:
    """Open a connection whose peer does not answer its close frame, and a nursery beside it."""
    near, far = await tcp_pair()
    async with far, trio.open_nursery() as nursery:
        nursery.start_soon(RawPeer(far, Role.SERVER).handshake)
        async with trio_ws.open_websocket_url("ws://a/", stream=near, disconnect_timeout=10) as ws:
            nursery.start_soon(drain, far)
            yield ws, nursery


async def close_unanswered(ctrl_c: Signal) -> None:
    """Close a connection whose peer does not answer."""
    async with unanswered() as (ws, _):
        with trio.CancelScope(shield=True), tracing(ctrl_c.look):
            await ws.aclose()


async def close_server(ctrl_c: Signal) -> None:
    """Close a server with a handler that waits and a client that does not answer."""
    listener = MemoryListener()

    async def handler(request: WebSocketRequest) -> None:
        await anext(await request.accept(), None)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_listeners, handler, [listener])
        peer = RawPeer(listener.connect(), Role.CLIENT)
        await peer.handshake()
        nursery.start_soon(drain, peer.stream)
        with tracing(ctrl_c.look):
            await server.aclose(10)


@pytest.mark.parametrize(("main", "step"), [(close_unanswered, 1), (close_server, 5)])
def test_ctrl_c_at_any_line_of_closing_ends_it_in_time(main: Callable[[Signal], Any], step: int) -> None:
    runs = 0
    for line, seconds in interrupted_everywhere(main, step):
        assert seconds <= 10, line
        runs += 1
    assert runs > 20


async def be_busy(ctrl_c: Signal) -> None:
    """Send and receive."""
    async with open_connection_pair() as ends:
        with tracing(ctrl_c.look):
            await converse(ends)


def test_ctrl_c_at_any_line_of_sending_and_receiving_comes_out() -> None:
    runs = 0
    for line, seconds in interrupted_everywhere(be_busy, 37):
        assert seconds == 0, line
        runs += 1
    assert runs > 20


@trio.lowlevel.enable_ki_protection
async def press_ctrl_c() -> None:
    """Have the main task interrupted when everybody waits."""
    await trio.testing.wait_all_tasks_blocked()
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_while_closing_waits_for_the_peer_no_longer() -> None:
    clock = trio.testing.MockClock()

    async def main() -> None:
        async with unanswered() as (ws, nursery):
            nursery.start_soon(press_ctrl_c)
            clock.autojump_threshold = 0.01
            with trio.CancelScope(shield=True):
                await ws.aclose()

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main, clock=clock)
    assert caught.group_contains(KeyboardInterrupt)
    assert clock.current_time() == 0
