"""What a peer may send in a time: no kind of flood goes round it, all before it is delivered, and the end says why."""

import sys
import zlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.io.api_kit import serving
from tests.io.link_kit import BINARY, CLOSE, CONT, PING, PONG, TEXT, close_payload
from trio_ws import (
    PerMessageDeflate,
    RateLimit,
    RemoteProtocolError,
    ServerOptions,
    WebSocketRequest,
    WebSocketServer,
)
from trio_ws.protocol import Fragment, MaskPool, Protocol, Role
from trio_ws.testing import Frame, RawPeer, encode_raw_frame, handshake_request

Clock = trio.testing.MockClock

MASK = b"\1\2\3\4"
RSV1 = 4

MESSAGES = (1008, "message rate exceeded")
BYTES = (1008, "byte rate exceeded")

linux_alone = pytest.mark.skipif(
    sys.platform != "linux", reason="other systems have no 127.0.0.2 unless they are told"
)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    return encode_raw_frame(opcode, payload, fin=fin, rsv=rsv, mask=MASK)


async def echo(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


@asynccontextmanager
async def flooded(
    options: ServerOptions, addresses: Sequence[str] = ("127.0.0.1",), **changes: str
) -> AsyncGenerator[tuple[WebSocketServer, list[RawPeer]]]:
    """A server, and clients that have shaken hands with it, from these addresses. Its clock stands still."""
    async with serving(echo, **options) as server:
        peers: list[RawPeer] = []
        for address in addresses:
            stream = await trio.open_tcp_stream("127.0.0.1", server.port, local_address=address)
            peers.append(RawPeer(stream, Role.CLIENT))
            await peers[-1].handshake(**changes)
        yield server, peers
        for peer in peers:
            await peer.aclose()


async def until_close(peer: RawPeer) -> tuple[list[Frame], tuple[int, str]]:
    """Receive up to the close frame, behind which nothing comes."""
    frames: list[Frame] = []
    while (got := await peer.receive_frame()).opcode != CLOSE:
        frames.append(got)
    await peer.send_close()
    assert isinstance(peer.stream, trio.SocketStream)
    await peer.stream.send_eof()
    await peer.expect_end()
    return frames, (int.from_bytes(got.payload[:2], "big"), got.payload[2:].decode())


def is_counted(server: WebSocketServer, reason: str) -> bool:
    return server.statistics().rate_closes == {reason: 1}


#: Kinds of traffic, each as bytes of which five are within a rate of five messages: the sixth is too much.
KINDS = {
    "plain": frame(TEXT, b"hello"),
    "empty": frame(BINARY),
    "fragmented": frame(TEXT, b"he", fin=False) + frame(CONT, b"", fin=False) + frame(CONT, b"llo"),
    "pings": frame(PING, b"hello"),
    "unsolicited pongs": frame(PONG, b"hello"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("together", [True, False], ids=["in one segment", "one by one"])
async def test_no_kind_of_frame_goes_round_the_message_rate(
    mock_clock: Clock, kind: str, together: bool
) -> None:
    unit = KINDS[kind]
    async with flooded({"message_rate": RateLimit(1, 5)}) as (server, [peer]):
        for data in [unit * 6] if together else [unit] * 6:
            await peer.send(data)
        frames, close = await until_close(peer)
        assert close == MESSAGES
        if kind not in ("pings", "unsolicited pongs"):
            assert len(frames) == 5  # what came before is delivered, and answered
        assert is_counted(server, "message_rate")


@pytest.mark.parametrize("kind", [*KINDS, "empty fragments"])
@pytest.mark.parametrize("together", [True, False], ids=["in one segment", "one by one"])
async def test_no_kind_of_frame_goes_round_the_byte_rate(
    mock_clock: Clock, kind: str, together: bool
) -> None:
    unit = KINDS.get(kind, frame(CONT, b"", fin=False))
    start = b"" if kind in KINDS else frame(TEXT, b"", fin=False)
    burst = len(start) + 5 * len(unit) + 3  # so that the sixth is cut inside
    async with flooded({"byte_rate": RateLimit(1, burst)}) as (server, [peer]):
        for data in [start + unit * 6] if together else [start, *[unit] * 6]:
            await peer.send(data)
        frames, close = await until_close(peer)
        assert close == BYTES
        if kind in ("plain", "empty", "fragmented"):
            assert len(frames) == 5
        assert is_counted(server, "byte_rate")


async def test_bytes_count_as_they_come_on_the_wire(mock_clock: Clock) -> None:
    deflater = zlib.compressobj(wbits=-15)
    message = bytes(10_000)
    payload = (deflater.compress(message) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
    unit = frame(BINARY, payload, rsv=RSV1)
    assert len(unit) < 100
    options: ServerOptions = {
        "byte_rate": RateLimit(1, 5 * len(unit)),
        "compression": PerMessageDeflate(client_no_context_takeover=True),
    }
    offer = "permessage-deflate; client_no_context_takeover"
    async with flooded(options, Sec_WebSocket_Extensions=offer) as (_, [peer]):
        await peer.send(unit * 6)
        frames, close = await until_close(peer)
        assert (len(frames), close) == (5, BYTES)  # which is 50 times the burst, inflated


async def test_what_keeps_to_the_rate_goes_on_for_ever(mock_clock: Clock) -> None:
    options: ServerOptions = {"message_rate": RateLimit(10, 2), "byte_rate": RateLimit(110, 22)}
    async with flooded(options) as (server, [peer]):
        for _ in range(50):
            await peer.send(KINDS["plain"] * 2)
            await peer.expect(TEXT, b"hello")
            await peer.expect(TEXT, b"hello")
            mock_clock.jump(0.25)
        await peer.send_close()
        assert (await until_close(peer))[1] == (1000, "")
        assert server.statistics().rate_closes == {}


async def test_a_close_frame_behind_too_much_does_not_hide_it(mock_clock: Clock) -> None:
    async with flooded({"message_rate": RateLimit(1, 2)}) as (server, [peer]):
        await peer.send(KINDS["plain"] * 3 + frame(CLOSE, close_payload(1000)))
        frames, close = await until_close(peer)
        assert (len(frames), close) == (2, MESSAGES)
        assert is_counted(server, "message_rate")
        while not server.statistics().closes:
            await trio.lowlevel.checkpoint()
        assert server.statistics().closes == {1008: 1}


async def test_a_close_frame_is_not_too_much_itself(mock_clock: Clock) -> None:
    async with flooded({"message_rate": RateLimit(1, 2)}) as (server, [peer]):
        await peer.send(KINDS["plain"] * 2 + frame(CLOSE, close_payload(1000, "bye")))
        frames, close = await until_close(peer)
        assert (len(frames), close) == (2, (1000, "bye"))
        assert server.statistics().rate_closes == {}


async def test_what_comes_glued_to_the_handshake_counts(mock_clock: Clock) -> None:
    async with serving(echo, message_rate=RateLimit(1, 2)) as server:
        peer = RawPeer(await trio.open_tcp_stream("127.0.0.1", server.port), Role.CLIENT)
        await peer.send(handshake_request() + KINDS["plain"] * 3)
        assert (await peer.receive_head()).startswith(b"HTTP/1.1 101")
        frames, close = await until_close(peer)
        assert (len(frames), close) == (2, MESSAGES)
        await peer.aclose()


@linux_alone
@pytest.mark.parametrize("limit", ["message_rate", "byte_rate"])
async def test_connections_of_one_peer_share_its_rate_and_others_have_their_own(
    mock_clock: Clock, limit: str
) -> None:
    size = 4 if limit == "message_rate" else 4 * len(KINDS["plain"])
    options: ServerOptions = {limit: RateLimit(1, size)}  # type: ignore[misc]  # pyright: ignore[reportAssignmentType]  # both take one
    addresses = ["127.0.0.1", "127.0.0.1", "127.0.0.2"]
    async with flooded(options, addresses) as (server, [one, two, other]):
        for peer in (one, two, one, two):
            await peer.send(KINDS["plain"])
            await peer.expect(TEXT, b"hello")
        await two.send(KINDS["plain"])
        assert (await until_close(two))[1][0] == 1008
        for _ in range(4):
            await other.send(KINDS["plain"])
            await other.expect(TEXT, b"hello")
        mock_clock.jump(size / 4)
        await one.send(KINDS["plain"])  # it has done nothing wrong
        await one.expect(TEXT, b"hello")
        assert is_counted(server, limit)


async def test_coming_back_gives_no_fresh_rate(mock_clock: Clock) -> None:
    async with serving(echo, message_rate=RateLimit(1, 3)) as server:
        for jump, count in ((0, 3), (0, 0), (2, 2), (20, 3)):
            mock_clock.jump(jump)
            peer = RawPeer(await trio.open_tcp_stream("127.0.0.1", server.port), Role.CLIENT)
            await peer.handshake()
            await peer.send(KINDS["plain"] * 4)
            frames, close = await until_close(peer)
            assert (len(frames), close) == (count, MESSAGES)
            await peer.aclose()
        assert server.statistics().rate_closes == {"message_rate": 4}


async def test_too_much_in_one_read_waits_behind_the_messages_for_which_there_was_no_room(
    mock_clock: Clock,
) -> None:
    go_on = trio.Event()
    received: list[str | bytes] = []

    async def slow(request: WebSocketRequest) -> None:
        ws = await request.accept()
        await go_on.wait()
        while True:
            received.append(await ws.get_message())

    unit = frame(BINARY)
    count = 9000  # more than are decoded at once, and than there is room for
    async with serving(slow, byte_rate=RateLimit(1, count * len(unit)), message_queue_size=1) as server:
        peer = RawPeer(await trio.open_tcp_stream("127.0.0.1", server.port), Role.CLIENT)
        await peer.handshake()
        await peer.send(unit * (count + 10))
        await trio.testing.wait_all_tasks_blocked(0.01)
        go_on.set()
        assert await until_close(peer) == ([], BYTES)
        assert len(received) == count
        await peer.aclose()


# The protocol alone


class Allowance:
    """A meter that allows so much and no more."""

    def __init__(self, data: int, messages: int) -> None:
        self.left = {"bytes": data, "messages": messages}
        self.codes: list[str] = []

    def take_bytes(self, count: int) -> int:
        return self._take("bytes", count)

    def take_messages(self, count: int) -> int:
        return self._take("messages", count)

    def exceeded(self, code: str) -> None:
        self.codes.append(code)

    def _take(self, what: str, count: int) -> int:
        taken = min(count, self.left[what])
        self.left[what] -= taken
        return taken


def metered(data: int = 10**9, messages: int = 10**9) -> tuple[Protocol, Allowance]:
    protocol = Protocol(Role.SERVER, masks=MaskPool(bytes))
    protocol.meter = allowance = Allowance(data, messages)
    return protocol, allowance


@pytest.mark.parametrize("step", [1, 7, 100, 10**6])
@pytest.mark.parametrize("allowed", [0, 1, 10, 11, 12, 44, 50])
def test_how_the_bytes_are_cut_makes_no_difference(step: int, allowed: int) -> None:
    protocol, allowance = metered(data=allowed)
    data = KINDS["plain"] * 10
    events = [
        event
        for start in range(0, len(data), step)
        for event in protocol.receive_data(data[start : start + step])
    ]
    whole = allowed // len(KINDS["plain"])
    assert events[:-1] == ["hello"] * whole
    assert isinstance(events[-1], RemoteProtocolError)
    assert (events[-1].code, allowance.codes) == ("WS_ERR_BYTE_RATE", ["WS_ERR_BYTE_RATE"])
    assert protocol.receive_data(KINDS["plain"]) == []
    assert b"".join(protocol.send_answer())[2:] == close_payload(*BYTES)


def test_fragments_that_are_handed_out_count_once_for_their_message() -> None:
    protocol, allowance = metered(messages=2)
    protocol.next_in_pieces()
    pieces = [frame(TEXT, b"a", fin=False), *[frame(CONT, b"b", fin=False)] * 5, frame(CONT, b"c")]
    events = [event for piece in pieces for event in protocol.receive_data(piece)]
    assert events == [Fragment("a", False), *[Fragment("b", False)] * 5, Fragment("c", True)]
    assert allowance.left["messages"] == 1


def test_what_a_violation_of_the_protocol_itself_is_called_does_not_change() -> None:
    protocol, allowance = metered(messages=1)
    bad = encode_raw_frame(TEXT, b"no mask")
    events = protocol.receive_data(frame(TEXT, b"one") + bad)
    assert isinstance(events[-1], RemoteProtocolError)
    assert (events[0], events[-1].code, allowance.codes) == ("one", "WS_ERR_EXPECTED_MASK", [])


def test_nothing_of_what_was_too_much_is_kept() -> None:
    protocol, _ = metered(data=500_000)
    protocol.receive_data(frame(BINARY, bytes(600_000)))
    assert (protocol.partial, protocol.more, protocol.may_receive) == (0, False, False)
