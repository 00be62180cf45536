"""Statistics: every figure is held against what a scripted peer has sent and received, or against the other end's."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import astuple, dataclass, fields
from typing import Any

import pytest
import trio

from tests.io.api_kit import dialling, echo, raw_client, serving_in_memory
from tests.io.link_kit import (
    BINARY,
    CONT,
    PING,
    PONG,
    TEXT,
    against,
    both_ends,
    close_payload,
    every_kind,
    every_role,
    joined,
    settle,
    settle_until,
)
from trio_ws import (
    ConnectionStatistics,
    Latest,
    Observer,
    PreparedMessage,
    TrafficStatistics,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    broadcast,
    wrap_client_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer

pytestmark = pytest.mark.usefixtures("autojump_clock")

SUMMED = [
    *("messages", "bytes", "frames", "pings", "pongs", "wire_bytes"),
]


@dataclass
class Came:
    """What a scripted peer has received: frames and their sizes."""

    messages: int = 0
    bytes: int = 0
    frames: int = 0
    pings: int = 0
    pongs: int = 0
    wire_bytes: int = 0

    async def take(self, peer: RawPeer, frames: int) -> None:
        """Receive so many frames."""
        for _ in range(frames):
            frame = await peer.receive_frame()
            size = len(frame.payload)
            self.frames += 1
            self.wire_bytes += (
                2 + (0 if size < 126 else 2 if size < 65536 else 8) + 4 * bool(frame.mask) + size
            )
            self.pings += frame.opcode == PING
            self.pongs += frame.opcode == PONG
            if frame.opcode <= BINARY:
                self.bytes += size
                self.messages += frame.fin

    def check_sent(self, statistics: TrafficStatistics) -> None:
        assert self == Came(*(getattr(statistics, f"{name}_sent") for name in SUMMED))

    def check_received(self, statistics: TrafficStatistics) -> None:
        assert self == Came(*(getattr(statistics, f"{name}_received") for name in SUMMED))


def received_of(statistics: TrafficStatistics) -> list[int]:
    return [getattr(statistics, f"{name}_received") for name in SUMMED]


def sent_of(statistics: TrafficStatistics) -> list[int]:
    return [getattr(statistics, f"{name}_sent") for name in SUMMED]


# Traffic


@every_kind
@every_role
async def test_what_is_received_is_counted(kind: str, role: Role) -> None:
    async with against(kind, role, message_queue_size=math.inf) as (ws, peer):
        data = joined(peer, [(TEXT, "hé".encode()), (BINARY, b"b" * 200), (PONG, b"late"), (TEXT, b"")])
        data += peer.encode_frame(TEXT, b"one ", fin=False) + peer.encode_frame(PING, b"?")
        data += peer.encode_frame(CONT, b"and ", fin=False) + peer.encode_frame(CONT, b"two")
        data += peer.encode_frame(BINARY, bytes(70_000))
        await peer.send(data)
        await settle_until(lambda: ws.messages.statistics().messages == 5)
        expected = Came(5, 3 + 200 + 11 + 70_000, 9, 1, 1, len(data))
        expected.check_received(ws.statistics())
        close = peer.encode_frame(8, close_payload(1000))
        await peer.send(close)
        await settle_until(lambda: ws.statistics().frames_received == 10)
        assert ws.statistics().wire_bytes_received == len(data + close)


@every_kind
async def test_of_a_message_that_is_not_whole_the_bytes_are_counted(kind: str) -> None:
    async with against(kind) as (ws, peer):
        await peer.send(peer.encode_frame(TEXT, b"half", fin=False))
        frame = peer.encode_frame(CONT, b"x" * 100)
        await peer.send(frame[:-30])
        await settle_until(lambda: ws.statistics().bytes_received == 74)
        assert (ws.statistics().messages_received, ws.statistics().frames_received) == (0, 2)
        await peer.send(frame[-30:])
        assert await ws.get_message() == "half" + "x" * 100
        assert (ws.statistics().messages_received, ws.statistics().bytes_received) == (1, 104)


@every_kind
@every_role
async def test_what_is_sent_is_counted(kind: str, role: Role) -> None:
    came = Came()
    async with against(kind, role) as (ws, peer), trio.open_nursery() as nursery:
        # 125, 126, 65535 and 65536 are where the length takes more bytes; 16384 is where chunks are no longer joined
        sizes = [0, 125, 126, 16384, 65535, 65536, 200_000]
        nursery.start_soon(came.take, peer, 2 * len(sizes) + 1 + 4 + 2 + 2)
        for size in sizes:
            await ws.send_message(b"x" * size)
            await ws.send_message("é" * (size // 2) + "x" * (size % 2))
        await ws.send_message(PreparedMessage("once for all"))
        await ws.send_stream(["in ", "three ", "pieces"])  # and an empty one that ends them
        await peer.send(peer.encode_frame(PING, b"you") + peer.encode_frame(PING, b"there"))
        await settle_until(lambda: ws.statistics().pongs_sent == 2)
        await ws.pong(b"unasked")
        nursery.start_soon(ping_quietly, ws)
        await settle_until(lambda: came.pings == 1)
        came.check_sent(ws.statistics())
        assert came.bytes == 2 * sum(sizes) + 12 + 15
        assert came.messages == 2 * len(sizes) + 2
        before = ws.statistics()
        ws.terminate()
        assert sent_of(ws.statistics()) == sent_of(before)


async def ping_quietly(ws: WebSocketConnection) -> None:
    with trio.move_on_after(1), pytest.raises(Exception, match="1006"):
        await ws.ping()


@every_kind
async def test_close_frames_are_frames(kind: str) -> None:
    async with both_ends(kind) as pair:
        await pair.client.send_message("hello")
        await pair.server.get_message()
        await pair.client.aclose()
        for ws in pair.client, pair.server:
            statistics = ws.statistics()
            assert (statistics.frames_sent, statistics.frames_received) == ((2, 1), (1, 2))[ws is pair.server]


@every_kind
async def test_payload_counts_as_it_is_before_it_is_compressed(kind: str) -> None:
    """And as it is inflated, however a message was sent: at once, in a thread, in pieces, prepared, to many."""
    text = "all the same " * 100
    large = "much more of it " * 10_000
    async with both_ends(kind, compression=True) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_all, pair.server, 6)
            await pair.client.send_message(text)
            await pair.client.send_message(large)
            await pair.client.send_stream([text, large])
            await pair.client.send_message(PreparedMessage(text))
            assert (await broadcast([pair.client], text)).sent == [pair.client]
            await pair.client.send_message(text, compress=False)
        sent, received = pair.client.statistics(), pair.server.statistics()
        assert sent_of(sent) == received_of(received)
        assert (sent.messages_sent, sent.bytes_sent) == (6, 5 * len(text) + 2 * len(large))
        assert sent.wire_bytes_sent < len(text) + len(large) / 10


async def receive_all(ws: WebSocketConnection, count: int) -> None:
    for _ in range(count):
        await ws.get_message()


async def test_a_broadcast_is_counted_on_every_connection() -> None:
    async with both_ends("tcp") as one, both_ends("tcp") as two:
        prepared = PreparedMessage("for all")
        for _ in range(2):  # the second time no frame is encoded
            await broadcast([one.server, two.server], prepared)
        for pair in one, two:
            await receive_all(pair.client, 2)
            assert (pair.server.statistics().messages_sent, pair.server.statistics().bytes_sent) == (2, 14)
            assert sent_of(pair.server.statistics()) == received_of(pair.client.statistics())


async def test_a_message_that_was_kept_is_counted_when_it_goes() -> None:
    async with both_ends("lockstep") as pair:
        await pair.server.send_message(bytes(100_000))
        result = await broadcast([pair.server], "later", policy=Latest("key"))
        assert result.queued == [pair.server]
        assert pair.server.statistics().messages_sent == 1
        await receive_all(pair.client, 2)
        assert (pair.server.statistics().messages_sent, pair.server.statistics().bytes_sent) == (2, 100_005)


# Pressure


@every_kind
async def test_pauses_are_counted_and_timed(kind: str) -> None:
    async with against(kind, message_queue_size=2) as (ws, peer):
        await peer.send(joined(peer, [(TEXT, b"message")] * 5))
        await settle_until(lambda: ws.messages.statistics().messages == 5)
        since = trio.current_time()
        statistics = ws.statistics()
        assert statistics.pauses == 1
        assert statistics.most_queued_messages == 5
        assert statistics.most_queued_bytes == ws.messages.statistics().bytes
        await trio.sleep(7)
        assert ws.statistics().paused_seconds == pytest.approx(trio.current_time() - since, abs=0.1)
        await receive_all(ws, 5)
        ended = ws.statistics().paused_seconds
        assert ended == pytest.approx(7, abs=0.1)
        await trio.sleep(1)
        assert ws.statistics().paused_seconds == ended
        assert ws.statistics().most_queued_messages == 5
        await peer.send(joined(peer, [(TEXT, b"message")] * 2))
        await settle_until(lambda: ws.statistics().pauses == 2)
        await trio.sleep(3)
        ws.terminate()
        over = ws.statistics().paused_seconds
        assert over == pytest.approx(10, abs=0.2)
        await trio.sleep(1)
        assert ws.statistics().paused_seconds == over


async def test_the_memory_of_pieces_is_among_what_has_waited() -> None:
    async with against() as (ws, peer), ws.receive_stream() as pieces:
        await peer.send(peer.encode_frame(BINARY, bytes(50_000), fin=False))
        await settle_until(lambda: ws.messages.statistics().bytes > 0)
        assert ws.statistics().most_queued_bytes == ws.messages.statistics().bytes > 50_000
        assert len(await anext(pieces)) == 50_000
        assert ws.messages.statistics().bytes == 0
        assert ws.statistics().most_queued_bytes > 50_000


@pytest.mark.parametrize("kind", ["tcp", "lockstep"])
async def test_the_most_that_has_waited_to_leave(kind: str) -> None:
    async with against(kind) as (ws, peer), trio.open_nursery() as nursery:
        size = 16 * 2**20  # more than all the buffers of the kernel
        await ws.send_message(bytes(size))
        most = ws.statistics().most_buffered
        assert most == ws.buffered_amount > 65536
        assert ws.statistics().wire_bytes_sent + most == size + 10
        nursery.start_soon(peer.receive_exactly, size + 10)
        await settle_until(lambda: ws.buffered_amount == 0)
        assert (ws.statistics().most_buffered, ws.statistics().wire_bytes_sent) == (most, size + 10)


async def test_what_the_kernel_takes_at_once_has_not_waited() -> None:
    async with against("tcp") as (ws, _):
        await ws.send_message("hello")
        assert ws.statistics().most_buffered == 0


# Round-trip times


@every_kind
async def test_latency_is_measured_by_every_pong_that_answers(kind: str) -> None:
    async with against(kind, ping_interval=None) as (ws, peer):
        assert ws.statistics().latency.count == 0
        assert ws.statistics().latency.p50 is ws.statistics().latency.smallest is None
        await peer.send(peer.encode_frame(PONG, b"unasked"))
        await settle_until(lambda: ws.statistics().pongs_received == 1)
        assert ws.statistics().latency.count == 0
        delays = [0.2] * 5 + [0.4] * 4 + [3.0]
        for delay in delays:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ws.ping)
                frame = await peer.receive_frame()
                await trio.sleep(delay)
                await peer.send_frame(PONG, frame.payload)
        statistics = ws.statistics()
        latency = statistics.latency
        assert latency.count == 10
        assert latency.total == pytest.approx(sum(delays), abs=0.05)
        assert latency.smallest == pytest.approx(0.2, abs=0.01)
        assert latency.largest == pytest.approx(3.0, abs=0.01)
        assert latency.p50 == pytest.approx(0.2, rel=0.06)
        assert latency.p90 == pytest.approx(0.4, rel=0.06)
        assert latency.p99 == pytest.approx(3.0, rel=0.06)
        assert statistics.last_latency == ws.latency == pytest.approx(3.0, abs=0.01)


# Age


@every_kind
async def test_how_long_a_connection_is_open_and_was(kind: str) -> None:
    async with both_ends(kind) as pair:
        began = pair.client.statistics().seconds
        await trio.sleep(60)
        assert pair.client.statistics().seconds - began == pytest.approx(60, abs=0.1)
        await pair.client.aclose()
        over = pair.client.statistics()
        assert over.seconds - began == pytest.approx(60, abs=1)
        await trio.sleep(60)
        assert pair.client.statistics() == over


def test_statistics_can_be_read_when_all_is_over() -> None:
    async def talk() -> WebSocketConnection:
        async with both_ends("tcp") as pair:
            await pair.client.send_message("hello")
            return pair.client

    statistics = trio.run(talk).statistics()
    assert isinstance(statistics, ConnectionStatistics)
    assert (statistics.messages_sent, statistics.bytes_sent) == (1, 5)


# Servers


def added(parts: list[ConnectionStatistics]) -> dict[str, Any]:
    """Return what a server should say of these connections."""
    whole: dict[str, Any] = {}
    for field in fields(TrafficStatistics):
        values = [getattr(part, field.name) for part in parts]
        if field.name != "latency":
            whole[field.name] = max(values) if field.name.startswith("most") else sum(values)
    return whole


async def test_a_server_says_the_sum_of_what_its_connections_say() -> None:
    accepted: list[WebSocketConnection] = []

    async def handler(request: WebSocketRequest) -> None:
        accepted.append(await request.accept())
        await echo_all(accepted[-1])

    async with serving_in_memory(handler) as (server, listener):
        async with dialling(listener) as one, dialling(listener) as two:
            for ws, count in (one, 3), (two, 5):
                for _ in range(count):
                    await ws.send_message("x" * 100 * count)
                    await ws.get_message()
            for _ in range(2):
                await accepted[0].ping()
            await accepted[1].ping()
            async with dialling(listener) as three:
                await three.send_message("goodbye")
                await three.get_message()
                await accepted[2].ping()
                await three.aclose()
            await settle()
            statistics = server.statistics()
            assert (statistics.accepted, statistics.connections, statistics.handshakes) == (3, 2, 0)
            assert statistics.closes == {1000: 1}
            parts = [ws.statistics() for ws in accepted]
            assert statistics.messages_received == 9
            assert added(parts) == {name: getattr(statistics, name) for name in added(parts)}
            assert statistics.latency.count == 4 == sum(part.latency.count for part in parts)
            assert statistics.latency.total == sum(part.latency.total for part in parts)
            assert astuple(server.statistics()) == astuple(statistics), "asking adds nothing"
            one.terminate()
            two.terminate()
            await settle()
        over = server.statistics()
        assert (over.accepted, over.connections, over.closes) == (3, 0, {1000: 1, 1006: 2})
        assert added([ws.statistics() for ws in accepted]) == {
            name: getattr(over, name) for name in added(parts)
        }


async def echo_all(ws: WebSocketConnection) -> None:
    async for message in ws:
        await ws.send_message(message)


async def test_a_handler_that_goes_on_does_not_count_its_connection_twice() -> None:
    async def handler(request: WebSocketRequest) -> None:
        await echo_all(await request.accept())
        await trio.sleep(5)

    async with serving_in_memory(handler) as (server, listener):
        async with dialling(listener) as ws:
            await ws.send_message("hello")
            await ws.get_message()
            await ws.aclose()
        await settle()
        for _ in range(2):  # while the handler runs, and behind it
            assert (server.statistics().messages_received, server.statistics().connections) == (1, 0)
            await trio.sleep(6)


async def test_who_shakes_hands_is_counted_apart() -> None:
    async with serving_in_memory(echo) as (server, listener):
        peer = raw_client(listener)
        await peer.send(b"GET / HT")
        await settle()
        assert (server.statistics().handshakes, server.statistics().accepted) == (1, 0)
        await peer.aclose()
        await settle()
        assert (server.statistics().handshakes, server.statistics().refusals) == (0, {"client_gone": 1})


def close(code: int | None) -> Callable[[RawPeer], Awaitable[None]]:
    async def script(peer: RawPeer) -> None:
        await peer.send_close(code)
        await peer.receive_rest()

    return script


async def cut(peer: RawPeer) -> None:
    await peer.aclose()


async def break_off(peer: RawPeer) -> None:
    await peer.send_frame(TEXT, b"half", fin=False)
    await peer.aclose()


async def use_a_reserved_opcode(peer: RawPeer) -> None:
    await peer.send_frame(3)
    await peer.receive_rest()


async def send_too_much(peer: RawPeer) -> None:
    await peer.send_frame(TEXT, bytes(1001))
    await peer.receive_rest()


async def make_the_handler_fail(peer: RawPeer) -> None:
    await peer.send_frame(TEXT, b"fail")
    await peer.expect_close(1011)
    await peer.send_close(1011)
    await peer.receive_rest()


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (close(1000), 1000),
        (close(1001), 1001),
        (close(None), 1005),
        (close(4711), 4711),
        (cut, 1006),
        (break_off, 1006),
        (use_a_reserved_opcode, 1002),
        (send_too_much, 1009),
        (make_the_handler_fail, 1011),
    ],
)
async def test_closes_are_counted_by_code(script: Callable[[RawPeer], Awaitable[None]], code: int) -> None:
    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        async for message in ws:
            if message == "fail":
                raise LookupError("a bug of the handler")

    async with serving_in_memory(handler, max_message_size=1000) as (server, listener):
        peer = raw_client(listener)
        await peer.handshake()
        await script(peer)
        await trio.sleep(30)
        statistics = server.statistics()
        assert statistics.closes == {code: 1}
        assert statistics.handler_failures == (code == 1011)
        assert (statistics.accepted, statistics.connections, statistics.refusals) == (1, 0, {})


async def test_who_does_not_answer_the_end_of_the_server_was_cut() -> None:
    async with serving_in_memory(echo) as (server, listener):
        async with dialling(listener):
            peer = raw_client(listener)
            await peer.handshake()
            await server.aclose(drain=1)
            await settle()
        assert server.statistics().closes == {1001: 1, 1006: 1}


# Observers


class Diary(Observer):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, object]] = []

    def connection_opened(self, connection: WebSocketConnection) -> None:
        self.notes.append(("opened", connection))

    def connection_closed(self, connection: WebSocketConnection) -> None:
        self.notes.append(("closed", connection))
        assert connection.statistics().frames_received > 0, "at the end nothing is missing"
        assert connection.close_code is not None

    def handshake_refused(self, reason: str) -> None:
        self.notes.append(("refused", reason))


async def test_an_observer_is_told_who_comes_and_goes() -> None:
    ours, theirs = Diary(), Diary()
    async with serving_in_memory(echo, observer=theirs) as (_, listener):
        async with dialling(listener, observer=ours) as ws:
            assert ours.notes == [("opened", ws)]
            await settle()
            assert [kind for kind, _ in theirs.notes] == ["opened"]
            await ws.aclose()
            assert ours.notes == [("opened", ws), ("closed", ws)]
        peer = raw_client(listener)
        await peer.send(b"nonsense\r\n\r\n")
        await peer.receive_rest()
        await peer.aclose()
        await settle()
        assert [kind for kind, _ in theirs.notes] == ["opened", "closed", "refused"]
        assert theirs.notes[0][1] is theirs.notes[1][1]
        assert theirs.notes[2][1] == "bad_request"


class Faulty(Observer):
    """Fails at everything."""

    def connection_opened(self, connection: WebSocketConnection) -> None:
        raise LookupError("opened")

    def connection_closed(self, connection: WebSocketConnection) -> None:
        raise LookupError("closed")

    def handshake_refused(self, reason: str) -> None:
        raise LookupError("refused")


async def test_an_observer_that_fails_is_logged_and_touches_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with serving_in_memory(echo, observer=Faulty()) as (server, listener):
        async with dialling(listener, observer=Faulty()) as ws:
            await ws.send_message("hello")
            assert await ws.get_message() == "hello"
            await ws.aclose()
        await raw_client(listener).aclose()
        await settle()
        statistics = server.statistics()
        assert (statistics.accepted, statistics.closes) == (1, {1000: 1})
        assert statistics.refusals == {"client_gone": 1}
    failures = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert sorted(failures) == ["closed", "closed", "opened", "opened", "refused"]
    assert {record.name for record in caplog.records} == {"trio_ws"}


async def test_an_observer_of_the_whole_may_ask_for_statistics_at_every_turn() -> None:
    asked: list[tuple[int, int]] = []

    class Asking(Observer):
        def connection_opened(self, connection: WebSocketConnection) -> None:
            asked.append((server.statistics().accepted, server.statistics().connections))

        def connection_closed(self, connection: WebSocketConnection) -> None:
            asked.append((server.statistics().accepted, server.statistics().connections))
            assert server.statistics().messages_received == 1

    async with serving_in_memory(echo, observer=Asking()) as (server, listener), dialling(listener) as ws:
        await ws.send_message("hello")
        await ws.get_message()
        await ws.aclose()
    assert asked == [(1, 1), (1, 0)]


async def test_an_observer_may_cut_a_connection_when_it_is_opened() -> None:
    class Bouncer(Diary):
        def connection_opened(self, connection: WebSocketConnection) -> None:
            super().connection_opened(connection)
            connection.terminate()

        def connection_closed(self, connection: WebSocketConnection) -> None:
            self.notes.append(("closed", connection))

    bouncer = Bouncer()
    async with serving_in_memory(echo, observer=bouncer) as (server, listener):
        peer = raw_client(listener)
        await peer.handshake()
        await peer.receive_rest()
        await settle()
        assert [kind for kind, _ in bouncer.notes] == ["opened", "closed"]
        assert (server.statistics().connections, server.statistics().closes) == (0, {1006: 1})


async def test_only_an_observer_can_be_one() -> None:
    wrong: Any = print
    with pytest.raises(TypeError, match="observer"):
        WebSocketServer(echo, None, observer=wrong)
    async with against() as (_, peer), trio.open_nursery() as nursery:
        with pytest.raises(TypeError, match="observer"):
            await wrap_client_stream(nursery, peer.stream, "localhost", "/", observer=wrong)
