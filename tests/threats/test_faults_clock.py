"""Times that are no time, past, or far away: nothing spins, nothing hangs, and everybody else runs on.

Busy loops are found by counting the steps of all tasks, never by a clock.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio
import trio.lowlevel
import trio.testing

from tests.io.api_kit import echo, raw_client, serving_in_memory
from tests.io.link_kit import PATIENCE, against, bounded_kind, every_role, settle
from tests.io.test_cancellation import without_room
from trio_ws import (
    ConnectionClosed,
    ConnectionTimeout,
    State,
    Wait,
    WebSocketConnection,
    broadcast,
    wrap_client_stream,
    wrap_server_stream,
)
from trio_ws._timers import Alarm
from trio_ws.protocol import Role
from trio_ws.testing import MemoryListener, handshake_request, open_connection_pair

on_a_clock_that_jumps = pytest.mark.usefixtures("autojump_clock")

#: Steps that one call and all the tasks that serve it may take; a busy loop takes as many as there is time for.
FEW = 200


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks, and gives up at a number that only a loop without end reaches."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1
        if self.count == 1000 * FEW:
            for child in trio.lowlevel.current_root_task().child_nurseries:  # type: ignore[union-attr]  # Trio runs
                child.cancel_scope.cancel()


@contextmanager
def few_steps(most: int = FEW) -> Generator[Steps]:
    """Count the steps that are taken here, of which there may be so many."""
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    try:
        yield steps
    finally:
        trio.lowlevel.remove_instrument(steps)
    assert steps.count <= most


CALLS: dict[str, Callable[[WebSocketConnection], Awaitable[object]]] = {
    "send_message": lambda ws: ws.send_message("x"),
    "send_stream": lambda ws: ws.send_stream(["x"]),
    "get_message": lambda ws: ws.get_message(),
    "ping": lambda ws: ws.ping(),
    "pong": lambda ws: ws.pong(),
    "wait_send_might_not_block": lambda ws: ws.wait_send_might_not_block(),
    "wait_closed": lambda ws: ws.wait_closed(),
    "Wait(0)": lambda ws: broadcast([ws], "x", policy=Wait(0)),
}


@on_a_clock_that_jumps
@bounded_kind
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("early", [0.0, 1000.0])
async def test_a_deadline_that_is_now_or_past_ends_a_call_at_once(kind: str, call: str, early: float) -> None:
    """The connection has no room, and nothing to receive: each call would have to wait."""
    async with without_room(kind) as ((ws, peer), read_on):
        begun = trio.current_time()
        with few_steps(), trio.CancelScope(deadline=begun - early):
            await CALLS[call](ws)
        assert trio.current_time() == begun
        await read_on()
        await ws.send_message("behind")
        assert await peer.get_message() == "behind"


@on_a_clock_that_jumps
@every_role
async def test_closing_in_no_time_takes_few_steps(role: Role) -> None:
    async with against("memory", role, disconnect_timeout=0) as (ws, _):
        with few_steps():
            await ws.aclose()
            await settle()
        assert ws.state is State.CLOSED


@on_a_clock_that_jumps
async def test_a_handshake_in_no_time_fails_at_once() -> None:
    near, client_end = trio.testing.memory_stream_pair()
    far, server_end = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        with few_steps():
            with pytest.raises(ConnectionTimeout):
                await wrap_client_stream(nursery, near, "localhost", "/", connect_timeout=0)
            with pytest.raises(ConnectionTimeout):
                await wrap_server_stream(nursery, far, connect_timeout=0)
    for end in (client_end, server_end):
        assert await end.receive_some() == b""


@on_a_clock_that_jumps
async def test_a_server_that_drains_for_no_time_cuts_at_once() -> None:
    async with serving_in_memory(echo, drain=0) as (server, listener):
        client = raw_client(listener)
        await client.handshake()
        half = raw_client(listener)
        await half.send(handshake_request()[:30])
        await settle()
        begun = trio.current_time()
        with few_steps():
            await server.aclose(drain=0)
        assert trio.current_time() == begun
        assert server.connections == set()
        assert (await client.receive_rest())[:1] in (b"", b"\x88")


@on_a_clock_that_jumps
@pytest.mark.parametrize("interval", [1.0, 20.0])
async def test_an_idle_connection_takes_a_few_steps_for_each_ping(interval: float) -> None:
    async with open_connection_pair(ping_interval=interval) as (ws, peer):
        await trio.sleep(interval)
        with few_steps(40 * 100):
            await trio.sleep(100 * interval)
        assert ws.state is peer.state is State.OPEN


@on_a_clock_that_jumps
async def test_a_connection_that_is_not_watched_takes_no_steps() -> None:
    async with open_connection_pair(ping_interval=None) as (ws, peer):
        await settle()
        with few_steps(5):
            await trio.sleep(10**6)
        assert ws.state is peer.state is State.OPEN


@asynccontextmanager
async def on_a_still_clock(
    clock: trio.testing.MockClock,
) -> AsyncGenerator[tuple[WebSocketConnection, WebSocketConnection]]:
    async with open_connection_pair(ping_interval=20, ping_timeout=20) as (ws, peer):
        await settle()
        yield ws, peer
        clock.autojump_threshold = 0


async def test_a_jump_of_the_clock_costs_a_healthy_connection_nothing(
    mock_clock: trio.testing.MockClock,
) -> None:
    """As when a process was stopped for hours: both ends are asked first, and answer."""
    async with on_a_still_clock(mock_clock) as (ws, peer):
        for hours in (1, 24, 24 * 365):
            mock_clock.jump(hours * 3600)
            with few_steps():
                await settle()
            assert ws.state is peer.state is State.OPEN
            await ws.send_message("still there")
            assert await peer.get_message() == "still there"


async def test_a_jump_of_the_clock_ends_every_wait_that_is_over(mock_clock: trio.testing.MockClock) -> None:
    async with against("memory", Role.CLIENT, disconnect_timeout=5, ping_interval=None) as (ws, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ws.aclose)
            await peer.expect_close()
            mock_clock.jump(1000)
            with few_steps():
                await ws.wait_closed()
        assert ws.timed_out


@pytest.mark.parametrize("interval", [1e-9, 1e-300])
async def test_a_ping_interval_of_nearly_nothing_lets_others_run(interval: float) -> None:
    """It is what was asked for, and costs what it costs; the clock is the real one, which goes on."""
    with trio.fail_after(PATIENCE):
        async with open_connection_pair(ping_interval=interval, ping_timeout=None) as (ws, peer):
            for number in range(20):
                await ws.send_message(str(number))
                assert await peer.get_message() == str(number)
                await trio.lowlevel.checkpoint()


async def test_an_alarm_that_sets_itself_to_the_present_lets_others_run(
    mock_clock: trio.testing.MockClock,
) -> None:
    rung = 0

    def ring() -> None:
        nonlocal rung
        rung += 1
        if rung < 10 * FEW:
            alarm.set(trio.current_time())

    alarm = Alarm(ring)
    alarm.set(trio.current_time())
    for _ in range(FEW):
        await trio.lowlevel.checkpoint()
    assert 0 < rung <= FEW
    alarm.stop()


@on_a_clock_that_jumps
async def test_a_listener_that_is_gone_at_once_leaves_no_loop() -> None:
    listener = MemoryListener()
    stream = listener.connect()
    async with serving_in_memory(echo):
        with few_steps():
            await listener.aclose()
            await settle()
    with pytest.raises((trio.BrokenResourceError, ConnectionClosed)):
        await stream.send_all(b"x")
