"""One message to many connections: who gets it, who holds up nobody, and what becomes of those that have no room."""

import random
import weakref
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from tests.io.link_kit import (
    BINARY,
    PING,
    PONG,
    TEXT,
    against,
    both_ends,
    bounded_kind,
    every_kind,
    settle,
    settle_until,
)
from tests.io.test_backpressure import fill
from tests.io.test_cancellation import Canceller, cancel_everywhere
from tests.io.transport_kit import reset
from trio_ws import (
    BroadcastResult,
    ConnectionClosed,
    Latest,
    PreparedMessage,
    Wait,
    WebSocketConnection,
    broadcast,
)
from trio_ws._broadcast import Policy
from trio_ws._outbox import KEPT_BYTES, KEPT_MESSAGES
from trio_ws.protocol import Role
from trio_ws.testing import ConnectionPair, RawPeer

pytestmark = pytest.mark.usefixtures("autojump_clock")

POLICIES = ["drop", "close", Wait(0), Latest("key")]
every_policy = pytest.mark.parametrize("policy", POLICIES, ids=str)

#: What `fill` sends.
FILLING = bytes(50000)


@asynccontextmanager
async def crowd(count: int, kind: str = "memory", **options: Any) -> AsyncGenerator[list[ConnectionPair]]:
    """Open both ends of several connections."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(both_ends(kind, **options)) for _ in range(count)]


@asynccontextmanager
async def crowd_with_stalled(
    kind: str, **options: Any
) -> AsyncGenerator[tuple[list[ConnectionPair], WebSocketConnection, RawPeer, int]]:
    """Open three connections whose clients receive, and one with nobody who reads and so many messages in its way."""
    async with crowd(3) as pairs, against(kind, **options) as (stalled, peer):
        yield pairs, stalled, peer, await fill(stalled)


def servers_of(pairs: list[ConnectionPair]) -> list[WebSocketConnection]:
    return [pair.server for pair in pairs]


def told(result: BroadcastResult) -> dict[str, list[WebSocketConnection]]:
    """Return the lists that are not empty."""
    names = ("sent", "dropped", "closed", "queued", "replaced", "late", "gone")
    return {name: found for name in names if (found := getattr(result, name))}


async def skip_filling(peer: RawPeer, count: int) -> None:
    for _ in range(count):
        await peer.expect(BINARY, FILLING)


# Who gets it


@every_kind
@pytest.mark.parametrize(
    "message", ["", "text", "\N{EURO SIGN}" * 30000, b"", b"binary", bytes(70000)], ids=len
)
async def test_all_get_it(kind: str, message: str | bytes) -> None:
    async with crowd(5, kind) as pairs:
        result = await broadcast(servers_of(pairs), message)
        assert told(result) == {"sent": servers_of(pairs)}
        for pair in pairs:
            assert await pair.client.get_message() == message


async def test_a_buffer_may_be_changed_afterwards() -> None:
    async with crowd(2) as pairs:
        buffer = bytearray(b"before")
        prepared = PreparedMessage(buffer)
        buffer[:] = b"behind"
        await broadcast(servers_of(pairs), prepared)
        assert [await pair.client.get_message() for pair in pairs] == [b"before"] * 2


async def test_all_but_the_sender() -> None:
    async with crowd(3) as pairs:
        everybody = set(servers_of(pairs))
        await broadcast(everybody - {pairs[0].server}, "news")
        await broadcast(everybody, "to all")
        assert await pairs[0].client.get_message() == "to all"
        for pair in pairs[1:]:
            assert [await pair.client.get_message() for _ in range(2)] == ["news", "to all"]


async def test_connections_may_be_clients_and_servers_and_come_from_an_iterator() -> None:
    async with crowd(3) as pairs:
        ends = [end for pair in pairs for end in pair]
        assert told(await broadcast(iter(ends), "both ways")) == {"sent": ends}
        for end in ends:
            assert await end.get_message() == "both ways"


async def test_nobody_is_nobody() -> None:
    assert told(await broadcast([], "hello?")) == {}


async def test_a_broadcast_lets_others_run() -> None:
    async with crowd(1) as pairs, trio.open_nursery() as nursery:
        ran: list[str] = []

        async def other() -> None:
            ran.append("other")

        nursery.start_soon(other)
        for _ in range(2):  # of two tasks that may run, either may be the first
            await broadcast(servers_of(pairs), "x")
        assert ran


async def test_connections_that_end_meanwhile_do_not_disturb_the_pass() -> None:
    async with crowd(2) as pairs:
        everybody = set(servers_of(pairs))

        async def leave() -> None:
            everybody.clear()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave)
            result = await broadcast(everybody, "x")
        assert len(result.sent) == 2


@every_policy
async def test_who_is_closing_or_over_is_left_out(policy: Any) -> None:
    async with crowd(2) as pairs, against() as (over, _), against() as (closing, _):
        over.terminate()
        await over.wait_closed()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(closing.aclose)
            await settle()
            result = await broadcast([over, *servers_of(pairs), closing], "x", policy=policy)
            assert told(result) == {"gone": [over, closing], "sent": servers_of(pairs)}
            closing.terminate()


async def test_a_connection_that_is_reset_is_alone_in_it() -> None:
    async with crowd(2, "tcp") as pairs, against("tcp") as (broken, peer):
        reset(peer.stream)
        await broadcast([pairs[0].server, broken, pairs[1].server], "x")
        assert [await pair.client.get_message() for pair in pairs] == ["x", "x"]
        await broken.wait_closed()
        assert told(await broadcast([broken], "y")) == {"gone": [broken]}


@every_kind
async def test_order_within_a_task_is_kept(kind: str) -> None:
    async with crowd(2, kind) as pairs:
        for number in range(50):
            await broadcast(servers_of(pairs), f"{number} to all")
            for pair in pairs:
                await pair.server.send_message(f"{number} to one")
                await pair.server.send_message(PreparedMessage(f"{number} to one again"))
        for pair in pairs:
            for number in range(50):
                assert await pair.client.get_message() == f"{number} to all"
                assert await pair.client.get_message() == f"{number} to one"
                assert await pair.client.get_message() == f"{number} to one again"


# Who has no room


@bounded_kind
@every_policy
async def test_who_never_reads_costs_the_others_nothing(kind: str, policy: Any) -> None:
    async with crowd_with_stalled(kind) as (pairs, stalled, _, _):
        begun = trio.current_time()
        for number in range(100):
            listeners = [stalled, *servers_of(pairs)]
            assert servers_of(pairs) == (await broadcast(listeners, f"{number}", policy=policy)).sent
            for pair in pairs:
                assert await pair.client.get_message() == f"{number}"
        assert trio.current_time() == begun


@bounded_kind
async def test_dropping(kind: str) -> None:
    async with crowd_with_stalled(kind) as (pairs, stalled, peer, filling):
        result = await broadcast([*servers_of(pairs), stalled], "lost")
        assert told(result) == {"sent": servers_of(pairs), "dropped": [stalled]}
        await skip_filling(peer, filling)
        await settle_until(lambda: stalled.buffered_amount == 0)
        assert told(await broadcast([stalled], "found")) == {"sent": [stalled]}
        await peer.expect(TEXT, b"found")


@bounded_kind
async def test_closing(kind: str) -> None:
    async with crowd_with_stalled(kind) as (pairs, stalled, peer, filling):
        result = await broadcast([stalled, *servers_of(pairs)], "too much", policy="close")
        assert told(result) == {"sent": servers_of(pairs), "closed": [stalled]}
        assert stalled.closed is not None
        await skip_filling(peer, filling)
        await peer.expect_close(1013, "too slow")


async def test_who_is_closed_and_reads_nothing_is_cut() -> None:
    async with crowd_with_stalled("lockstep", disconnect_timeout=7) as (_, stalled, _, _):
        begun = trio.current_time()
        await broadcast([stalled], "too much", policy="close")
        await stalled.wait_closed()
        assert trio.current_time() - begun == pytest.approx(7)


@bounded_kind
async def test_waiting_is_for_those_alone_who_have_no_room(kind: str) -> None:
    async with crowd_with_stalled(kind) as (pairs, stalled, peer, filling):
        results: list[BroadcastResult] = []

        async def tell() -> None:
            results.append(await broadcast([stalled, *servers_of(pairs)], "x", policy=Wait(10)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            for pair in pairs:
                assert await pair.client.get_message() == "x"
            await trio.sleep(9)
            assert not results
            await skip_filling(peer, filling)
            await peer.expect(TEXT, b"x")
        assert told(results[0]) == {"sent": [*servers_of(pairs), stalled]}


@bounded_kind
async def test_waiting_has_an_end(kind: str) -> None:
    async with crowd_with_stalled(kind) as (pairs, stalled, peer, filling):
        begun = trio.current_time()
        result = await broadcast([*servers_of(pairs), stalled], "late", policy=Wait(5))
        assert trio.current_time() - begun == pytest.approx(5)
        assert told(result) == {"sent": servers_of(pairs), "late": [stalled]}
        await skip_filling(peer, filling)
        await stalled.send_message("later")
        await peer.expect(TEXT, b"later")


async def test_who_goes_while_it_is_waited_for() -> None:
    async with crowd_with_stalled("lockstep") as (pairs, stalled, _, _), trio.open_nursery() as nursery:

        async def cut() -> None:
            await trio.sleep(1)
            stalled.terminate()

        nursery.start_soon(cut)
        result = await broadcast([*servers_of(pairs), stalled], "x", policy=Wait(5))
        assert told(result) == {"sent": servers_of(pairs), "gone": [stalled]}


@bounded_kind
async def test_who_is_waited_for_stands_behind_those_who_wait(kind: str) -> None:
    async with crowd_with_stalled(kind) as (_, stalled, peer, filling), trio.open_nursery() as nursery:
        nursery.start_soon(stalled.send_message, "first")
        await settle()
        nursery.start_soon(lambda: broadcast([stalled], "second", policy=Wait(10)))
        await settle()
        nursery.start_soon(stalled.send_message, "third")
        await settle()
        await skip_filling(peer, filling)
        for message in (b"first", b"second", b"third"):
            await peer.expect(TEXT, message)


# The latest message


@bounded_kind
async def test_the_latest_message_comes_when_there_is_room(kind: str) -> None:
    async with crowd_with_stalled(kind) as (pairs, stalled, peer, filling):
        listeners = [stalled, *servers_of(pairs)]
        for number in range(10):
            for key in ("price", "volume"):
                result = await broadcast(listeners, f"{key} {number}", policy=Latest(key))
                expected = "replaced" if number else "queued"
                assert told(result) == {expected: [stalled], "sent": servers_of(pairs)}
        await skip_filling(peer, filling)
        await peer.expect(TEXT, b"price 9")
        await peer.expect(TEXT, b"volume 9")
        for pair in pairs:
            received = [await pair.client.get_message() for _ in range(20)]
            assert received == [f"{key} {number}" for number in range(10) for key in ("price", "volume")]
        assert told(await broadcast([stalled], "price 10", policy=Latest("price"))) == {"sent": [stalled]}
        await peer.expect(TEXT, b"price 10")


@bounded_kind
async def test_what_is_kept_comes_before_what_is_sent_later(kind: str) -> None:
    async with crowd_with_stalled(kind) as (_, stalled, peer, filling), trio.open_nursery() as nursery:
        await broadcast([stalled], "first", policy=Latest("key"))
        nursery.start_soon(stalled.send_message, "second")
        await settle()
        assert told(await broadcast([stalled], "third")) == {"dropped": [stalled]}
        await skip_filling(peer, filling)
        await peer.expect(TEXT, b"first")
        await peer.expect(TEXT, b"second")


async def test_what_is_kept_is_not_passed_when_there_is_some_room_and_not_enough() -> None:
    async with against("lockstep") as (connection, peer), trio.open_nursery() as nursery:
        await connection.send_message(bytes(60000))
        await connection.send_message(bytes(40000))  # the writer has the first
        await broadcast([connection], "first", policy=Latest("key"))
        await peer.expect(BINARY, bytes(60000))  # what is left is between the two marks
        nursery.start_soon(connection.send_message, "second")
        await settle()
        await peer.expect(BINARY, bytes(40000))
        await peer.expect(TEXT, b"first")
        await peer.expect(TEXT, b"second")


async def test_what_is_kept_does_not_wait_for_a_send_that_is_cancelled() -> None:
    async with against("lockstep") as (connection, peer):
        async with connection_in_pieces(connection):
            with trio.move_on_after(1):
                await connection.send_message("never")
            await broadcast([connection], "kept", policy=Latest("key"))
        assert (await peer.receive_frame()).payload == b"one"
        await peer.expect(0, b"")
        await peer.expect(TEXT, b"kept")


@asynccontextmanager
async def connection_in_pieces(connection: WebSocketConnection) -> AsyncGenerator[None]:
    """Have a message under way on a connection, of which one piece was sent."""
    go_on = trio.Event()

    async def pieces() -> AsyncGenerator[str]:
        yield "one"
        await go_on.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.send_stream, pieces())
        await settle()
        yield
        go_on.set()


@every_kind
async def test_a_message_in_pieces_is_not_interrupted_and_control_frames_are_not_held_up(kind: str) -> None:
    async with against(kind) as (connection, peer):
        async with connection_in_pieces(connection):
            assert told(await broadcast([connection], "lost")) == {"dropped": [connection]}
            assert told(await broadcast([connection], "kept", policy=Latest(1))) == {"queued": [connection]}
            assert told(await broadcast([connection], "late", policy=Wait(3))) == {"late": [connection]}
            await peer.send_frame(PING, b"ping")
            assert (await peer.receive_frame()).payload == b"one"
            await peer.expect(PONG, b"ping")
        await peer.expect(0, b"")
        await peer.expect(TEXT, b"kept")


async def test_few_keys_are_kept() -> None:
    async with crowd_with_stalled("lockstep") as (_, stalled, peer, filling):
        for key in range(KEPT_MESSAGES):
            assert told(await broadcast([stalled], f"{key}", policy=Latest(key))) == {"queued": [stalled]}
        assert told(await broadcast([stalled], "x", policy=Latest("x"))) == {"dropped": [stalled]}
        assert told(await broadcast([stalled], "new 3", policy=Latest(3))) == {"replaced": [stalled]}
        await skip_filling(peer, filling)
        for key in [*range(3), *range(4, KEPT_MESSAGES)]:
            await peer.expect(TEXT, f"{key}".encode())
        await peer.expect(TEXT, b"new 3")


async def test_few_bytes_are_kept_unless_one_message_has_more() -> None:
    async with crowd_with_stalled("lockstep") as (_, stalled, peer, filling):
        half = bytes(KEPT_BYTES // 2)
        large = bytes(KEPT_BYTES + 1)
        assert told(await broadcast([stalled], large, policy=Latest(0))) == {"queued": [stalled]}
        assert told(await broadcast([stalled], b"", policy=Latest(1))) == {"dropped": [stalled]}
        assert told(await broadcast([stalled], half, policy=Latest(0))) == {"replaced": [stalled]}
        assert told(await broadcast([stalled], half, policy=Latest(1))) == {"queued": [stalled]}
        assert told(await broadcast([stalled], b"x", policy=Latest(2))) == {"dropped": [stalled]}
        assert told(await broadcast([stalled], large, policy=Latest(0))) == {"dropped": [stalled]}
        await skip_filling(peer, filling)
        await peer.expect(BINARY, half)
        await peer.expect(BINARY, half)


class Watched(PreparedMessage):
    """A message of which one can see that it is gone."""

    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("end", ["close", "cut"])
async def test_what_is_kept_goes_with_its_connection(end: str) -> None:
    async with crowd_with_stalled("lockstep") as (_, stalled, _, _):
        message = Watched("kept")
        gone = weakref.ref(message)
        await broadcast([stalled], message, policy=Latest("key"))
        del message
        assert gone() is not None
        if end == "cut":
            stalled.terminate()
            await stalled.wait_closed()
        else:
            await broadcast([stalled], "x", policy="close")
        assert gone() is None


# Cancellation


async def test_a_broadcast_that_is_cancelled_was_made_to_all_or_to_none() -> None:
    async def attempt(canceller: Canceller) -> None:
        async with crowd(3) as pairs:
            cancelled = await canceller.run(lambda: broadcast(servers_of(pairs), "x"))
            for pair in pairs:
                await pair.server.send_message("end")
                if not cancelled:
                    assert await pair.client.get_message() == "x"
                assert await pair.client.get_message() == "end"

    await cancel_everywhere(attempt)


async def test_waiting_that_is_cancelled_has_sent_whole_messages() -> None:
    async def attempt(canceller: Canceller) -> None:
        async with crowd_with_stalled("lockstep") as (pairs, stalled, peer, filling):

            async def read() -> None:
                await trio.sleep(1)
                await skip_filling(peer, filling)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                listeners = [*servers_of(pairs), stalled]
                cancelled = await canceller.run(lambda: broadcast(listeners, "x", policy=Wait(5)))
            received: list[list[str | bytes]] = []
            for pair in pairs:
                await pair.server.send_message("end")
                first = await pair.client.get_message()
                received.append([first] if first == "end" else [first, await pair.client.get_message()])
            assert received in ([["x", "end"]] * 3, [["end"]] * 3)
            assert cancelled or received[0] == ["x", "end"]
            await stalled.send_message("end")
            if not cancelled:
                await peer.expect(TEXT, b"x")
            # it was served in the moment in which it was cancelled
            elif (frame := await peer.receive_frame()).payload == b"x":
                assert received[0] == ["x", "end"]
            else:
                assert frame.payload == b"end"
                return
            await peer.expect(TEXT, b"end")

    await cancel_everywhere(attempt, bare=False)


# What is no message, and no policy


@pytest.mark.parametrize("message", [3, None, memoryview(b"abcd")[::2], "\ud800"], ids=repr)
async def test_what_is_no_message_is_refused(message: Any) -> None:
    async with crowd(1) as pairs:
        with pytest.raises(ValueError, match=r"message|utf-8"):
            await broadcast(servers_of(pairs), message)
        with pytest.raises(ValueError, match=r"message|utf-8"):
            PreparedMessage(message)


@pytest.mark.parametrize("policy", ["wait", None, 5])
async def test_what_is_no_policy_is_refused(policy: Any) -> None:
    async with crowd(1) as pairs:
        with pytest.raises(ValueError, match="policy is"):
            await broadcast(servers_of(pairs), "x", policy=policy)


def test_values_of_policies_are_checked() -> None:
    for seconds in (-1, float("nan")):
        with pytest.raises(ValueError, match="seconds"):
            Wait(seconds)
    with pytest.raises(TypeError, match="hash"):
        Latest([])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_a_prepared_message_says_itself_whether_it_is_compressed() -> None:
    async with crowd(1) as pairs:
        with pytest.raises(ValueError, match="compressed"):
            await pairs[0].server.send_message(PreparedMessage("x"), compress=False)


@pytest.mark.parametrize("binary", [True, False])
async def test_a_prepared_message_says_itself_whether_it_is_text(binary: bool) -> None:
    async with crowd(1) as pairs:
        for message in ("x", b"x"):
            with pytest.raises(ValueError, match="text or binary"):
                await pairs[0].server.send_message(PreparedMessage(message), binary=binary)
        # nothing of them was sent
        await pairs[0].server.send_message(PreparedMessage("y"))
        assert await pairs[0].client.get_message() == "y"


# One connection


@every_kind
async def test_a_prepared_message_can_be_sent_like_any_other(kind: str) -> None:
    async with crowd(1, kind) as [pair]:
        prepared = PreparedMessage("prepared")
        for near, far in (pair, pair[::-1]):
            for send in (near.send_message, near.send):
                await send(prepared)
                assert await far.get_message() == "prepared"
        await pair.server.aclose()
        with pytest.raises(ConnectionClosed):
            await pair.server.send_message(prepared)


@bounded_kind
async def test_a_prepared_message_waits_for_room(kind: str) -> None:
    async with crowd_with_stalled(kind) as (_, stalled, peer, filling):
        with trio.move_on_after(5) as waiting:
            await stalled.send_message(PreparedMessage("never"))
        assert waiting.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stalled.send_message, PreparedMessage("in turn"))
            await settle()
            await skip_filling(peer, filling)
            await peer.expect(TEXT, b"in turn")


async def test_sending_a_prepared_message_lets_others_run() -> None:
    async with against() as (connection, _), trio.open_nursery() as nursery:
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                await connection.send_message(message)
                sent += 1

        message = PreparedMessage(b"")
        nursery.start_soon(send)
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        assert 0 < sent <= 300
        nursery.cancel_scope.cancel()


async def test_a_client_masks_a_prepared_message_anew() -> None:
    async with against(role=Role.CLIENT) as (connection, peer):
        prepared = PreparedMessage(bytes(8))
        for _ in range(2):
            await connection.send_message(prepared)
        await settle()
        frames = await peer.stream.receive_some(1000)
        assert len(frames) == 2 * 14
        first, second = bytes(frames[2:14]), bytes(frames[16:])
        assert first[:4] * 3 == first
        assert second[:4] * 3 == second
        assert first != second


# All together


class Listener:
    """A connection, its peer, and what this must get.

    Args:
        connection: on which messages are sent.
        peer: who reads them, sooner or later.
        filling: how many messages are on their way already.
    """

    def __init__(self, connection: WebSocketConnection, peer: RawPeer, filling: int) -> None:
        self.connection = connection
        self._peer = peer
        self._expected = [FILLING] * filling
        self._kept: dict[object, bytes] = {}
        self._read = 0

    @property
    def left(self) -> int:
        """How many messages are to be read, apart from those that are kept."""
        return len(self._expected) - self._read

    def flush(self) -> None:
        """Take note that what was kept has been sent."""
        self._expected += self._kept.values()
        self._kept.clear()

    def told(self, outcome: str, message: bytes, key: object) -> None:
        """Take note of what became of a message."""
        if outcome == "sent":
            self.flush()
            self._expected.append(message)
        elif outcome in ("queued", "replaced"):
            if outcome == "queued" and key in self._kept:
                self.flush()
            self._kept.pop(key, None)
            self._kept[key] = message
        else:
            assert outcome in ("dropped", "late")

    async def read(self, count: int) -> None:
        for _ in range(count):
            assert (await self._peer.receive_frame()).payload == self._expected[self._read]
            self._read += 1

    async def send(self, message: bytes) -> None:
        with trio.move_on_after(0.01):
            await self.connection.send_message(message)
            self.told("sent", message, None)


async def tell(listeners: list[Listener], message: bytes, dice: random.Random) -> None:
    """Broadcast a message by some policy, and have all take note of the result."""
    key = dice.randrange(20)
    choice: list[Policy] = ["drop", Wait(0.01), Latest(key)]
    result = await broadcast(
        [listener.connection for listener in listeners], message, policy=dice.choice(choice)
    )
    outcomes = {connection: name for name, found in told(result).items() for connection in found}
    assert len(outcomes) == sum(map(len, told(result).values()))
    for listener in listeners:
        listener.told(outcomes[listener.connection], message, key)


@bounded_kind
@pytest.mark.parametrize("seed", range(10))
async def test_what_results_say_is_what_peers_see(kind: str, seed: int) -> None:
    """Broadcast at random to peers that read at random, and compare what they get with what was said."""
    dice = random.Random(seed)
    async with AsyncExitStack() as stack:
        listeners: list[Listener] = []
        for _ in range(3):
            connection, peer = await stack.enter_async_context(against(kind))
            listeners.append(Listener(connection, peer, await fill(connection)))
        for number in range(150):
            message = b"%d " % number * dice.choice([1, 10, 8000])
            listener = dice.choice(listeners)
            match dice.randrange(4):
                case 0:
                    await tell(listeners, message, dice)
                case 1:
                    await listener.send(message)
                case _:
                    await listener.read(dice.randrange(listener.left + 1))
        for listener in listeners:
            await listener.read(listener.left)
            listener.flush()
            await listener.read(listener.left)
            assert listener.connection.closed is None
