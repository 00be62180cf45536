"""Two ends under a schedule of calls, cancellations and faults, and the model of what may come of it; knows no Hypothesis.

The model: what one end has committed is a list. What the other end has received of it, in whatever tasks, is a prefix of
that list, each message once and whole; and all of it, unless the connection was cut or the receiver closed first. A
receiver in pieces that is cancelled may have begun a message, which is then gone. A message that was left to a policy of
broadcasts (`Latest`, or `Wait` that was cancelled) may come, once and whole, or not. Whatever a call raises is a
`ConnectionClosed`. Nothing hangs.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import trio
import trio.testing

from tests.io.transport_kit import open_pair, reset, shake_hands, tcp_pair
from trio_ws import (
    CloseReason,
    ConnectionClosed,
    HandshakeError,
    Latest,
    PerMessageDeflate,
    PreparedMessage,
    State,
    Wait,
    WebSocketConnection,
    broadcast,
)
from trio_ws.testing import FaultyStream, Step, cut, end, fail, open_connection_pair, stall

#: Virtual seconds after which a schedule counts as hanging; all its deadlines together are far below.
PATIENCE = 2000

#: SocketTransport over TCP and Unix sockets, StreamTransport over all the others, "stream" over plain TCP.
KINDS = ["tcp", "unix", "memory", "lockstep", "stream", "tls"]

SIZES = [1, 100, 20_000, 60_000, 200_000]
#: Compressed in threads, for which a test's clock does not wait: with compression messages are no larger.
LARGEST_COMPRESSED = 60_000

COMPRESSIONS: dict[str, PerMessageDeflate | None] = {
    "plain": None,
    "deflate": PerMessageDeflate(threshold=50),
    "forgetful": PerMessageDeflate(
        threshold=50, server_no_context_takeover=True, client_no_context_takeover=True
    ),
}

#: Ways in which a schedule ends.
LAST = ["drain", "close", "close and go on", "close both", "terminate"]

Half: TypeAlias = trio.abc.HalfCloseableStream
Policy: TypeAlias = Literal["drop", "close"] | Wait | Latest

#: One call: its name, which end makes it, and a number that means what the call makes of it.
Call = tuple[str, int, int]


async def reset_tcp(stream: FaultyStream) -> None:
    """A step that has the kernel send a reset, where there is a kernel; else it cuts."""
    inside = stream.inside if isinstance(stream, Resettable) else None
    if isinstance(inside, trio.SocketStream) and inside.socket.family != trio.socket.AF_UNIX:
        reset(inside)
    await stream.cut()


class Resettable(FaultyStream):
    """A faulty stream that knows what is inside."""

    def __init__(self, inside: Half, *, send: Sequence[Step] = (), receive: Sequence[Step] = ()) -> None:
        super().__init__(inside, send=send, receive=receive)
        self.inside = inside


FAULTS: dict[str, Step] = {"cut": cut, "fail": fail, "stall": stall, "end": end, "reset": reset_tcp}


@dataclass(frozen=True)
class Fault:
    """What goes wrong at one end, after so many bytes in one direction.

    Attributes:
        name: one of `FAULTS`; the end of bytes is one of receiving, so it is cut instead where bytes are sent.
        after: bytes.
        at: 0 for the client's end, 1 for the server's.
        sending: the direction.
    """

    name: str
    after: int
    at: int = 0
    sending: bool = True

    def put_into(self, stream: Half) -> FaultyStream:
        name = "cut" if self.name == "end" and self.sending else self.name
        steps: list[Step] = [self.after, FAULTS[name]]
        return Resettable(stream, send=steps) if self.sending else Resettable(stream, receive=steps)


@dataclass(frozen=True)
class Setting:
    """What a schedule runs on.

    Attributes:
        kind: one of `KINDS`.
        queue: messages at which reading pauses.
        compression: one of `COMPRESSIONS`.
        fault: what goes wrong, if anything does.
    """

    kind: str
    queue: int = 16
    compression: str = "plain"
    fault: Fault | None = None

    async def open(self, nursery: trio.Nursery) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        """Return the client's and the server's end of a stream.

        Sockets that something is to go wrong with have relays between them, in which it does: so what is tested are
        plain sockets at both ends. Other streams are told to fail themselves.

        Raises:
            trio.BrokenResourceError: the fault came while TLS was set up.
        """
        if self.kind == "tls":
            accepted, connected = await tcp_pair()
            return await self._over_tls(*self._faulty(connected, accepted))
        if self.fault is not None and self.kind in ("tcp", "unix"):
            near, near_relay = await open_halves(self.kind)
            far, far_relay = await open_halves(self.kind)
            relays = self._faulty(near_relay, far_relay)
            nursery.start_soon(relay, *relays)
            return near, far
        near, far = await open_halves(self.kind)
        if self.kind == "stream" and self.fault is None:
            return FaultyStream(near), FaultyStream(far)  # which hide the sockets
        return self._faulty(near, far)

    def _faulty(self, near: Half, far: Half) -> tuple[Half, Half]:
        if self.fault is None:
            return near, far
        return (self.fault.put_into(near), far) if self.fault.at == 0 else (near, self.fault.put_into(far))

    async def _over_tls(self, near: Half, far: Half) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        try:
            with trio.fail_after(5):
                server, client = await shake_hands(far, near)
        except (BaseExceptionGroup, trio.TooSlowError) as exc:
            await trio.aclose_forcefully(near)
            await trio.aclose_forcefully(far)
            if isinstance(exc, BaseExceptionGroup) and exc.split(trio.BrokenResourceError)[1] is not None:
                raise
            raise trio.BrokenResourceError("the fault came while TLS was set up") from exc
        return client, server


async def open_halves(kind: str) -> tuple[Half, Half]:
    """Return both ends of a stream whose directions end one by one."""
    near, far = await open_pair(kind)
    assert isinstance(near, trio.abc.HalfCloseableStream)
    assert isinstance(far, trio.abc.HalfCloseableStream)
    return near, far


async def relay(near: Half, far: Half) -> None:
    """Hand on everything, and the end of one direction as such, both ways; what breaks breaks both."""
    try:
        async with trio.open_nursery() as nursery:
            for source, target in ((near, far), (far, near)):
                nursery.start_soon(hand_on, source, target)
    finally:
        with trio.CancelScope(shield=True):  # else a cancellation would end it between the two
            await trio.aclose_forcefully(near)
            await trio.aclose_forcefully(far)


async def hand_on(source: Half, target: Half) -> None:
    try:
        async for data in source:
            await target.send_all(data)
        await target.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        await trio.aclose_forcefully(source)
        await trio.aclose_forcefully(target)


@dataclass
class Side:
    """One end, and what the model knows of it."""

    connection: WebSocketConnection
    number: int
    largest: int
    committed: list[str | bytes] = field(default_factory=list[str | bytes])  # what it has sent, in order
    loose: list[str | bytes] = field(default_factory=list[str | bytes])  # the same, but when is not known
    possible: list[str | bytes] = field(default_factory=list[str | bytes])  # what may go out, or not
    received: list[str | bytes] = field(default_factory=list[str | bytes])  # by any of its tasks
    begun: int = 0  # messages that a receiver in pieces may have begun and left
    closed_here: bool = False
    cut_here: bool = False
    sent: int = 0

    def message(self, size: int) -> str | bytes:
        """Return a message that there is only once; every third is text, with characters of several bytes.

        It repeats itself, and shares little but short sequences with others: so a compressor refers back to those, and
        a peer that has others in that place would show.
        """
        self.sent += 1
        size = min(size, self.largest)
        unit = f"{self.number}/{self.sent} {random.Random(f'{self.number}/{self.sent}').randbytes(40).hex()} "
        if self.sent % 3 == 0:
            unit += "\u00e9\u20ac\U0001f600 "
            return unit * (size // len(unit.encode()) + 1)
        return unit.encode() * (size // len(unit) + 1)


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
            case "cancel" if self._scopes:
                self._scopes[value % len(self._scopes)].cancel()
            case "yield":
                for _ in range(value):
                    await trio.lowlevel.checkpoint()
            case "sleep":
                await trio.sleep(value / 1000)
            case "cancel":
                pass
            case _:
                self.start(lambda: CALLS[name](side, value))

    def cancel_all(self) -> None:
        """Cancel all calls that are still under way."""
        for scope in self._scopes:
            scope.cancel()


async def send(side: Side, size: int) -> None:
    message = side.message(size)
    await side.connection.send_message(message)
    side.committed.append(message)


async def send_prepared(side: Side, size: int) -> None:
    message = side.message(size)
    await side.connection.send_message(PreparedMessage(message))
    side.committed.append(message)


async def broadcast_to_one(side: Side, size: int) -> None:
    """Broadcast with a policy that the size decides on; what becomes of the message is in the result."""
    message = side.message(size)
    policy: Policy = Wait(0.5) if size in (1, 60_000) else Latest("key") if size == 100 else "drop"
    try:
        result = await broadcast([side.connection], message, policy=policy)
    except trio.Cancelled:
        side.possible.append(message)  # it may have been served in the moment in which it was cancelled
        raise
    if result.sent:
        side.loose.append(message)  # others may have sent between that and the return
    elif result.queued or result.replaced:
        side.possible.append(message)


async def send_in_pieces(side: Side, size: int) -> None:
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


async def receive(side: Side, count: int) -> None:
    for _ in range(count % 5):
        side.received.append(await side.connection.get_message())


async def receive_in_pieces(side: Side, _: int) -> None:
    with suppress(trio.BusyResourceError):
        async with side.connection.receive_stream() as pieces:
            side.begun += 1
            parts = [piece async for piece in pieces]
            side.begun -= 1
            side.received.append(joined(parts))


def joined(parts: list[str | bytes]) -> str | bytes:
    texts = [part for part in parts if isinstance(part, str)]
    if texts:
        assert len(texts) == len(parts)
        return "".join(texts)
    return b"".join(part for part in parts if isinstance(part, bytes))


async def ping(side: Side, _: int) -> None:
    assert await side.connection.ping() >= 0


async def pong(side: Side, _: int) -> None:
    await side.connection.pong(b"here")


async def close(side: Side, code: int) -> None:
    side.closed_here = True
    try:
        await side.connection.aclose(4000 + code % 100)
    except trio.Cancelled:
        side.cut_here = True
        raise


async def end_sending(side: Side, _: int) -> None:
    """End one side; what the peer sends before it answers is received, but not all that it would have sent."""
    await side.connection.end_sending(4100)
    side.closed_here = True


CALLS: dict[str, Callable[[Side, int], Awaitable[None]]] = {
    "send": send,
    "prepared": send_prepared,
    "broadcast": broadcast_to_one,
    "stream": send_in_pieces,
    "receive": receive,
    "pieces": receive_in_pieces,
    "ping": ping,
    "pong": pong,
    "close": close,
    "end sending": end_sending,
}


async def run_schedule(schedule: Sequence[Call], last: str, setting: Setting) -> int | None:
    """Run a schedule, and return how many messages were received; None if the connection was not opened at all."""
    received = None
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as relays:
            with suppress(HandshakeError, trio.BrokenResourceError):
                received = await talk(await setting.open(relays), schedule, last, setting)
            relays.cancel_scope.cancel()
    return received


async def talk(
    streams: tuple[trio.abc.Stream, trio.abc.Stream], schedule: Sequence[Call], last: str, setting: Setting
) -> int:
    fault = setting.fault is not None
    largest = LARGEST_COMPRESSED if setting.compression != "plain" else max(SIZES)
    async with open_connection_pair(
        streams,
        message_queue_size=setting.queue,
        compression=COMPRESSIONS[setting.compression],
        ping_interval=20 if fault else None,  # who stalls is found out
    ) as pair:
        sides = [Side(connection, number, largest) for number, connection in enumerate(pair)]
        async with trio.open_nursery() as nursery:
            run = Schedule(sides, nursery)
            for name, number, value in schedule:
                await run.step(name, number, value)
            await finish(run, last)
            run.cancel_all()
        for side, other in (sides, sides[::-1]):
            compare(side, other, fault or any(each.cut_here for each in sides))
    assert [connection.state for connection in pair] == [State.CLOSED] * 2
    return sum(len(side.received) for side in sides)


async def finish(run: Schedule, last: str) -> None:
    """End the conversation in this way, from the end that a second word names, and receive what is left of it."""
    last, _, by = last.partition(" by ")
    near, far = run.sides if by != "server" else reversed(run.sides)
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
            near.cut_here = True
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
        while (message := await side.connection.get_message()) != "goodbye":
            side.received.append(message)


def compare(side: Side, other: Side, cut_off: bool) -> None:
    """Hold what `side` received against what `other` committed."""
    received = set(side.received)
    assert len(received) == len(side.received), "a message was received twice"
    assert received <= {*other.committed, *other.loose, *other.possible}, "a message is not what was sent"
    places = {message: place for place, message in enumerate(other.committed)}
    found = [places[message] for message in side.received if message in places]
    complete = not side.closed_here and not cut_off and other.connection.closed != CloseReason(1006)
    due = {*other.committed[: max(found, default=-1) + 1]}
    if complete:
        due = {*other.committed, *other.loose}
    assert len(due - received) <= side.begun, "a message was lost"


def seeded(seed: int, names: Sequence[str], count: int) -> tuple[list[Call], str, random.Random]:
    """Return a schedule of so many calls of these names, how it ends, and the dice to throw for more."""
    dice = random.Random(seed)
    schedule = [(dice.choice(names), dice.randrange(2), dice.choice(SIZES)) for _ in range(count)]
    schedule = [(name, end, 3 if name in ("receive", "yield") else value) for name, end, value in schedule]
    return schedule, f"{dice.choice(LAST)} by {dice.choice(('client', 'server'))}", dice


def run_on_a_clock_that_jumps(schedule: Sequence[Call], last: str, setting: Setting) -> int | None:
    """Run a schedule in a Trio run of its own, in which waiting takes no time, and return what `run_schedule` does."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    received: int | None = trio.run(run_schedule, schedule, last, setting, clock=clock)
    return received
