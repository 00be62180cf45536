"""An evil server on an open connection: broken frames, floods, silence, and ends that are none."""

import itertools
import tracemalloc
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.io.api_kit import client_and_peer, closed_error, receive_all, scripted_port
from tests.io.transport_kit import reset, tcp_pair
from trio_ws import (
    CloseReason,
    ConnectionClosed,
    ConnectionEnded,
    ConnectionLost,
    DisconnectionTimeout,
    HandshakeOptions,
    RemoteProtocolError,
    State,
    open_websocket,
    wrap_client_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import FaultyStream, RawPeer, encode_raw_frame, handshake_response

MEBI = 2**20


@contextmanager
def little_memory(limit: int = 8 * MEBI) -> Generator[None, None, None]:
    """Fail if more than so much memory is held at any time inside, besides what was held before."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - before < limit


# Broken frames

BROKEN: dict[str, tuple[bytes, int, str]] = {
    "masked": (encode_raw_frame(1, b"hello", mask=b"mask"), 1002, "WS_ERR_UNEXPECTED_MASK"),
    "masked ping": (encode_raw_frame(9, mask=b"mask"), 1002, "WS_ERR_UNEXPECTED_MASK"),
    **{
        f"RSV {rsv}": (
            encode_raw_frame(1, b"x", rsv=rsv),
            1002,
            "WS_ERR_UNEXPECTED_RSV_1" if rsv == 4 else "WS_ERR_UNEXPECTED_RSV_2_3",
        )
        for rsv in range(1, 8)
    },
    **{
        f"opcode {opcode}": (encode_raw_frame(opcode), 1002, "WS_ERR_INVALID_OPCODE")
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    },
    "unknown opcode of 1 GiB": (encode_raw_frame(5, size=2**30), 1002, "WS_ERR_INVALID_OPCODE"),
    "nothing to continue": (encode_raw_frame(0, b"x"), 1002, "WS_ERR_INVALID_OPCODE"),
    "text inside a message": (
        encode_raw_frame(2, b"x", fin=False) + encode_raw_frame(1, b"x"),
        1002,
        "WS_ERR_INVALID_OPCODE",
    ),
    "ping in fragments": (encode_raw_frame(9, fin=False), 1002, "WS_ERR_EXPECTED_FIN"),
    "long ping": (encode_raw_frame(9, bytes(126)), 1002, "WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH"),
    "close of 1 byte": (encode_raw_frame(8, b"\x03"), 1002, "WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH"),
    **{
        f"close code {code}": (
            encode_raw_frame(8, code.to_bytes(2, "big")),
            1002,
            "WS_ERR_INVALID_CLOSE_CODE",
        )
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
    "close reason": (encode_raw_frame(8, b"\x03\xe8\xff"), 1007, "WS_ERR_INVALID_UTF8"),
    "text": (encode_raw_frame(1, b"\xc0\xaf"), 1007, "WS_ERR_INVALID_UTF8"),
    "text that ends too early": (encode_raw_frame(1, b"\xe2\x82"), 1007, "WS_ERR_INVALID_UTF8"),
    "surrogate": (encode_raw_frame(1, b"\xed\xa0\x80"), 1007, "WS_ERR_INVALID_UTF8"),
    "text in fragments": (
        encode_raw_frame(1, b"\xe2\x82", fin=False) + encode_raw_frame(0, b"\xac\xff"),
        1007,
        "WS_ERR_INVALID_UTF8",
    ),
    "length of 2 bytes too many": (encode_raw_frame(2, b"x", width=2), 1002, "WS_ERR_NON_MINIMAL_LENGTH"),
    "length of 8 bytes too many": (encode_raw_frame(2, b"x", width=8), 1002, "WS_ERR_NON_MINIMAL_LENGTH"),
    "2 ** 63": (encode_raw_frame(2, size=2**63), 1009, "WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH"),
    "2 ** 64 - 1": (encode_raw_frame(2, size=2**64 - 1), 1009, "WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH"),
    "2 ** 32 + 5": (encode_raw_frame(2, b"hello", size=2**32 + 5), 1009, "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH"),
    "continuation that wraps around": (
        encode_raw_frame(2, b"x" * 10, fin=False) + encode_raw_frame(0, b"hello", size=2**64 - 5),
        1009,
        "WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH",
    ),
}


@pytest.mark.parametrize("pieces", [None, 1])
@pytest.mark.parametrize(("data", "close_code", "code"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_frame_ends_the_connection_behind_the_messages_before_it(
    data: bytes, close_code: int, code: str, pieces: int | None
) -> None:
    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(far, Role.SERVER)

    async def serve() -> None:
        await peer.send(handshake_response(await peer.receive_head()))
        await peer.send(encode_raw_frame(1, b"before") + data + encode_raw_frame(1, b"never seen"))
        await peer.expect_close(close_code)
        await peer.expect_end()
        await peer.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        stream = FaultyStream(near, receive=itertools.repeat(pieces) if pieces else ())
        ws = await wrap_client_stream(nursery, stream, "localhost", "/")
        received, error = await receive_all(ws)
        assert received == ["before"]
        assert isinstance(error, ConnectionLost)
        assert (error.received, error.sent) == (None, CloseReason(close_code))
        assert isinstance(error.__cause__, RemoteProtocolError)
        assert (error.__cause__.code, error.__cause__.close_code) == (code, close_code)
        with pytest.raises(ConnectionClosed):
            await ws.send_message("late")


# Too much


@pytest.mark.parametrize(
    ("options", "size", "fragments", "code"),
    [
        ({}, 65536, 17, 1009),
        ({}, 0, 140_000, 1008),
        ({}, 1, 140_000, 1008),
        ({"max_fragments": 10}, 0, 11, 1008),
        ({"max_message_size": 1000}, 100, 11, 1009),
    ],
    ids=str,
)
async def test_endless_fragments(options: HandshakeOptions, size: int, fragments: int, code: int) -> None:
    async with client_and_peer(**options) as (ws, peer), trio.open_nursery() as nursery:

        async def flood() -> None:
            await peer.send(encode_raw_frame(2, fin=False))
            batch = encode_raw_frame(0, bytes(size), fin=False) * min(fragments, 1000)
            with suppress(trio.BrokenResourceError):
                for _ in range(-(-fragments // 1000)):
                    await peer.send(batch)
                    await trio.testing.wait_all_tasks_blocked()
            await peer.aclose()

        with little_memory():
            nursery.start_soon(flood)
            error = await closed_error(ws)
        assert error.sent == CloseReason(code)


async def test_what_a_header_announces_costs_nothing() -> None:
    async with client_and_peer(max_message_size=2**40) as (ws, peer):
        with little_memory():
            await peer.send(encode_raw_frame(2, bytes(2**18), size=2**36))
            await trio.testing.wait_all_tasks_blocked()
        assert ws.closed is None


async def test_messages_nobody_takes_do_not_pile_up() -> None:
    async def flood(peer: RawPeer) -> None:
        await peer.handshake()
        while True:
            await peer.send_frame(2, bytes(60_000))

    async with scripted_port(flood) as port:
        with little_memory():
            async with open_websocket("127.0.0.1", port, "/", use_ssl=False, receive_buffer_size=65536) as ws:
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert ws.messages.statistics().messages <= 17
                ws.terminate()


async def test_a_flood_of_pings_that_nobody_lets_us_answer() -> None:
    near, far = trio.testing.memory_stream_pair()
    gate = trio.Event()

    async def until_open(_: FaultyStream) -> None:
        await gate.wait()

    peer = RawPeer(far, Role.SERVER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.handshake)
        stream = FaultyStream(near, send=[300, until_open])
        ws = await wrap_client_stream(nursery, stream, "localhost", "/")
        with little_memory():
            for number in range(300):
                batch = b"".join(
                    encode_raw_frame(9, b"%0124d" % (number * 100 + each)) for each in range(100)
                )
                await peer.send(batch)
                await trio.testing.wait_all_tasks_blocked()
        assert ws.buffered_amount <= 65536
        await peer.send_frame(1, b"still received")
        assert await ws.get_message() == "still received"
        gate.set()
        answers = 0
        frame = await peer.receive_frame()
        while frame.payload != b"%0124d" % 29_999:  # the latest is answered in any case
            answers += 1
            frame = await peer.receive_frame()
        assert answers < 1000
        ws.terminate()


# Masks


async def test_every_frame_has_a_fresh_mask() -> None:
    async with client_and_peer(ping_interval=None) as (ws, peer):
        masks: set[bytes | None] = set()
        for number in range(10_000):
            await ws.send_message("x")
            if number % 100 == 99:
                for _ in range(100):
                    masks.add((await peer.receive_frame()).mask)
        assert None not in masks
        assert len(masks) > 9_990  # of 2 ** 32; chance makes two of 10000 equal once in a hundred runs
        columns = zip(*(mask for mask in masks if mask), strict=True)
        assert all(len(set(column)) == 256 for column in columns)


# Pongs


async def test_pongs_nobody_asked_for_change_nothing() -> None:
    async with client_and_peer() as (ws, peer), trio.open_nursery() as nursery:
        nursery.start_soon(ws.ping, b"1")
        await peer.expect(9, b"1")
        await peer.send(20_000 * encode_raw_frame(10, b"nonsense"))
        await peer.send(2 * encode_raw_frame(10, b"1"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ws.ping, b"2")
        await peer.expect(9, b"2")
        await peer.send_frame(10, b"1")  # an old one
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        await peer.send_frame(10, b"2")


async def test_a_pong_that_never_comes(autojump_clock: trio.testing.MockClock) -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        await peer.receive_rest()

    async with (
        scripted_port(script) as port,
        open_websocket("127.0.0.1", port, "/", use_ssl=False, ping_interval=5, ping_timeout=3) as ws,
    ):
        with pytest.raises(ConnectionLost) as lost:
            await ws.ping(b"x")
        # its deadline begins when the kernel is seen to have the ping, which is looked at once in `ping_timeout`
        assert 8 <= trio.current_time() <= 8 + 3
        assert lost.value.reason == CloseReason(1006)
        assert isinstance(lost.value.__cause__, TimeoutError)
        assert ws.state is State.CLOSED


# Ends that are none


async def test_a_close_frame_behind_which_the_server_stays(autojump_clock: trio.testing.MockClock) -> None:
    async with client_and_peer(disconnect_timeout=4) as (ws, peer):
        await peer.send_close(1001, "going")
        error = await closed_error(ws)
        assert isinstance(error, ConnectionEnded)
        assert error.reason == CloseReason(1001, "going")
        assert trio.current_time() == 0
        await peer.expect_close(1001, "going")
        await peer.expect_end()
        assert trio.current_time() == pytest.approx(4)
        assert not ws.timed_out
        await ws.aclose()


async def test_message_close_and_reset_in_one_go() -> None:
    for _ in range(20):
        near, far = await tcp_pair()
        peer = RawPeer(far, Role.SERVER)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.handshake)
            ws = await wrap_client_stream(nursery, near, "localhost", "/")
            await trio.testing.wait_all_tasks_blocked()
            await peer.send(encode_raw_frame(1, b"last words") + encode_raw_frame(8, b"\x0f\xa0"))
            reset(far)
            received, error = await receive_all(ws)
            assert (received, error.reason) in [
                (["last words"], CloseReason(4000)),
                ([], CloseReason(1006)),  # the kernel drops what was not read when a reset comes
            ]
            await ws.aclose()


async def test_a_server_that_talks_on_behind_our_close_frame(autojump_clock: trio.testing.MockClock) -> None:
    async with client_and_peer(disconnect_timeout=3) as (ws, peer), trio.open_nursery() as nursery:

        async def talk_on() -> None:
            with suppress(trio.BrokenResourceError):
                while True:
                    await peer.send_frame(2, bytes(65536))
                    await trio.sleep(0.1)

        nursery.start_soon(talk_on)
        with little_memory():
            await ws.aclose()
        assert trio.current_time() == pytest.approx(3)
        assert ws.timed_out


async def test_a_server_that_talks_on_behind_its_own_close_frame(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with client_and_peer(disconnect_timeout=3) as (ws, peer), trio.open_nursery() as nursery:

        async def talk_on() -> None:
            await peer.send_close()
            with suppress(trio.BrokenResourceError):
                while True:
                    await peer.send_frame(2, bytes(65536))
                    await trio.sleep(0.1)

        nursery.start_soon(talk_on)
        with little_memory():
            error = await closed_error(ws)
            await ws.aclose()
        assert error.reason == CloseReason(1000)
        assert trio.current_time() <= 3


async def never_read(peer: RawPeer) -> None:
    await peer.handshake()
    await trio.sleep_forever()


async def test_a_server_that_never_reads(autojump_clock: trio.testing.MockClock) -> None:
    async def send_as_much_as_possible(port: int) -> None:
        async with open_websocket("127.0.0.1", port, "/", use_ssl=False, disconnect_timeout=2) as ws:
            sent = 0
            with little_memory(), trio.move_on_after(10) as scope:
                while sent < 100 * MEBI:
                    await ws.send_message(bytes(65536))
                    sent += 65536
            assert scope.cancelled_caught

    async with scripted_port(never_read) as port:
        with pytest.raises(DisconnectionTimeout):
            await send_as_much_as_possible(port)
        assert trio.current_time() == pytest.approx(12)


async def test_sending_to_a_server_that_never_reads_ends_by_itself(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with (
        scripted_port(never_read, 200) as port,
        open_websocket("127.0.0.1", port, "/", use_ssl=False) as ws,
    ):
        with suppress(ConnectionLost):
            while True:
                await ws.send_message(bytes(65536))
        assert trio.current_time() == pytest.approx(40)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")
async def test_failed_attempts_leave_no_descriptors() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.receive_head()
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")

    async with scripted_port(script) as port:
        counts: list[int] = []
        for _ in range(20):
            with suppress(Exception):
                async with open_websocket("127.0.0.1", port, "/", use_ssl=False):
                    pass
            await trio.testing.wait_all_tasks_blocked(0.001)
            counts.append(open_descriptors())
        assert counts[-1] <= counts[2]
