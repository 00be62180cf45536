"""Two ends under any schedule of sends, receives, pings, cancellations, closes and cuts, compared with a simple model.

The model: what one end has committed is a list. What the other end has received of it, in whatever tasks, is a prefix
of that list, each message once and whole; and all of it, unless the connection was cut or the receiver closed first. A
receiver in pieces that is cancelled may have begun a message, which is then gone. Whatever a call raises is a `ConnectionClosed`. Nothing hangs. Under Hypothesis Trio schedules deterministically.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.io.link_kit import open_streams
from trio_ws import CloseReason, ConnectionClosed, HandshakeError, State, WebSocketConnection
from trio_ws.testing import FaultyStream, cut, open_connection_pair

#: Virtual seconds after which a schedule counts as hanging; all its deadlines together are far below.
PATIENCE = 2000

SIZES = [1, 100, 20_000, 70_000, 200_000]
ENDS = st.sampled_from([0, 1])

SCHEDULES = st.lists(
    st.one_of(
        st.tuples(st.just("send"), ENDS, st.sampled_from(SIZES)),
        st.tuples(st.just("stream"), ENDS, st.sampled_from(SIZES)),
        st.tuples(st.just("receive"), ENDS, st.integers(1, 4)),
        st.tuples(st.just("pieces"), ENDS, st.just(0)),
        st.tuples(st.just("ping"), ENDS, st.just(0)),
        st.tuples(st.just("cancel"), st.just(0), st.integers(0, 50)),
        st.tuples(st.just("yield"), st.just(0), st.integers(1, 5)),
        st.tuples(st.just("sleep"), st.just(0), st.sampled_from([1, 900])),
    ),
    max_size=40,
)
LAST = ["drain", "close", "close and go on", "close both", "terminate"]


@dataclass
class Side:
    """One end, and what the model knows of it."""

    connection: WebSocketConnection
    number: int
    committed: list[bytes] = field(default_factory=list[bytes])  # what it has sent, in order
    received: list[bytes] = field(default_factory=list[bytes])  # what it has received, by any of its tasks
    begun: int = 0  # messages that a receiver in pieces may have begun and left
    closed_here: bool = False
    sent: int = 0

    def message(self, size: int) -> bytes:
        """Return a message that there is only once."""
        self.sent += 1
        head = b"%d/%d/%d " % (self.number, self.sent, size)
        return head * (size // len(head) + 1)


class Schedule:
    """Runs a schedule on two ends and holds what happens against the model."""

    def __init__(self, sides: list[Side], nursery: trio.Nursery) -> None:
        self.sides = sides
        self._nursery = nursery
        self._scopes: list[trio.CancelScope] = []

    def start(self, call: Callable[[], Awaitable[None]]) -> None:
        """Start a call that can be cancelled later, and that may raise nothing but the end of the connection."""
        scope = trio.CancelScope()
        self._scopes.append(scope)

        async def run() -> None:
            with scope, suppress(ConnectionClosed):
                await call()

        self._nursery.start_soon(run)

    async def step(self, name: str, end: int, value: int) -> None:
        """Do one step of the schedule."""
        side = self.sides[end]
        match name:
            case "send":
                self.start(lambda: self.send(side, value))
            case "stream":
                self.start(lambda: self.stream(side, value))
            case "receive":
                self.start(lambda: self.receive(side, value))
            case "pieces":
                self.start(lambda: self.receive_in_pieces(side))
            case "ping":
                self.start(lambda: self.ping(side))
            case "cancel" if self._scopes:
                self._scopes[value % len(self._scopes)].cancel()
            case "yield":
                for _ in range(value):
                    await trio.lowlevel.checkpoint()
            case _:
                await trio.sleep(value / 1000)

    def cancel_all(self) -> None:
        """Cancel all calls that are still under way."""
        for scope in self._scopes:
            scope.cancel()

    async def send(self, side: Side, size: int) -> None:
        message = side.message(size)
        await side.connection.send_message(message)
        side.committed.append(message)

    async def stream(self, side: Side, size: int) -> None:
        message = side.message(size)
        step = len(message) // 3 + 1
        try:
            await side.connection.send_stream(
                message[start : start + step] for start in range(0, len(message), step)
            )
        except trio.Cancelled:
            side.closed_here = side.closed_here or side.connection.closed is not None
            raise
        side.committed.append(message)

    async def receive(self, side: Side, count: int) -> None:
        for _ in range(count):
            message = await side.connection.get_message()
            assert isinstance(message, bytes)
            side.received.append(message)

    async def receive_in_pieces(self, side: Side) -> None:
        with suppress(trio.BusyResourceError):
            async with side.connection.receive_stream() as pieces:
                side.begun += 1
                parts = [piece async for piece in pieces]
                side.begun -= 1
                side.received.append(b"".join(part for part in parts if isinstance(part, bytes)))

    async def ping(self, side: Side) -> None:
        assert await side.connection.ping() >= 0


async def run_schedule(
    kind: str, schedule: list[tuple[str, int, int]], last: str, queue: int, cut_after: int | None = None
) -> None:
    """Run a schedule on a connection that breaks after so many bytes from the client, if at all."""
    near, far = await open_streams(kind)
    if cut_after is not None:
        near = FaultyStream(near, send=[cut_after, cut])
    with trio.fail_after(PATIENCE), suppress(HandshakeError):
        async with open_connection_pair((near, far), message_queue_size=queue, ping_interval=None) as pair:
            sides = [Side(connection, number) for number, connection in enumerate(pair)]
            async with trio.open_nursery() as nursery:
                run = Schedule(sides, nursery)
                for name, end, value in schedule:
                    await run.step(name, end, value)
                await finish(run, last)
                run.cancel_all()
            for side, other in (sides, sides[::-1]):
                compare(side, other, cut_after is not None)
        assert [connection.state for connection in pair] == [State.CLOSED] * 2


async def finish(run: Schedule, last: str) -> None:
    """End the conversation in this way, and receive what is left of it."""
    near, far = run.sides
    if last in ("drain", "close"):
        run.cancel_all()
    if last == "drain":
        async with trio.open_nursery() as nursery:
            for side in run.sides:
                nursery.start_soon(say_goodbye, side)
                nursery.start_soon(drain, side)
        return
    near.closed_here = True
    both = last == "close both"
    far.closed_here = far.closed_here or both
    async with trio.open_nursery() as nursery:
        if last == "terminate":
            near.connection.terminate()
        else:
            nursery.start_soon(near.connection.aclose, 4001)
        if both:
            nursery.start_soon(far.connection.aclose, 4002)
        nursery.start_soon(drain, far)


async def say_goodbye(side: Side) -> None:
    with suppress(ConnectionClosed):
        await side.connection.send_message("goodbye")


async def drain(side: Side) -> None:
    """Receive to the goodbye, or the end."""
    with suppress(ConnectionClosed):
        while isinstance(message := await side.connection.get_message(), bytes):
            side.received.append(message)


def compare(side: Side, other: Side, cut_off: bool) -> None:
    """Hold what `side` received against what `other` committed."""
    places = {message: place for place, message in enumerate(other.committed)}
    found = [places.get(message) for message in side.received]
    assert None not in found, "a message is not what was committed"
    assert len(set(found)) == len(found), "a message was received twice"
    complete = not side.closed_here and not cut_off and other.connection.closed != CloseReason(1006)
    end = len(places) if complete else max((place for place in found if place is not None), default=-1) + 1
    assert end - len(found) <= side.begun, "a message was lost"


@pytest.mark.parametrize("kind", ["memory", "lockstep", "tcp"])
@settings(max_examples=60, deadline=None)
@given(schedule=SCHEDULES, last=st.sampled_from(LAST), queue=st.sampled_from([1, 2, 16]))
def test_any_schedule(kind: str, schedule: list[tuple[str, int, int]], last: str, queue: int) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(run_schedule, kind, schedule, last, queue, clock=clock)


@pytest.mark.parametrize("kind", ["memory", "lockstep"])
@settings(max_examples=60, deadline=None)
@given(
    schedule=SCHEDULES,
    last=st.sampled_from(LAST),
    cut_after=st.one_of(st.integers(0, 400), st.integers(0, 500_000)),
)
def test_any_schedule_on_a_connection_that_breaks(
    kind: str, schedule: list[tuple[str, int, int]], last: str, cut_after: int
) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(run_schedule, kind, schedule, last, 2, cut_after, clock=clock)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", ["memory", "lockstep", "tcp"])
def test_fifty_calls_at_once(kind: str, seed: int) -> None:
    dice = random.Random(seed)
    names = ["send", "send", "stream", "receive", "receive", "pieces", "ping", "cancel"]
    schedule = [(dice.choice(names), dice.randrange(2), dice.choice(SIZES)) for _ in range(50)]
    schedule = [(name, end, 3 if name == "receive" else value) for name, end, value in schedule]
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(run_schedule, kind, schedule, dice.choice(LAST), dice.choice([1, 16]), clock=clock)
