"""Pings and pongs out of measure, out of place and out of shape, seen from outside on a real server."""

import zlib
from collections.abc import Generator

import pytest
import trio

from tests.io.transport_kit import reset
from tests.threats.answers_kit import orderly_rest
from tests.threats.frame_kit import BINARY, CLOSE, CONTINUATION, MASK, PING, PONG, TEXT, frame
from tests.threats.threat_kit import DEFLATE, KIBI, MEBI, Victim, victim_of
from trio_ws.testing import RawPeer, encode_raw_frame


@pytest.fixture(scope="module")
def deaf_victim() -> Generator[Victim]:
    """One whose handler never takes a message; when its client has gone, it is soon given up."""
    with victim_of(handler="deaf", disconnect_timeout=0.5) as victim:
        yield victim


async def part(peer: RawPeer) -> None:
    """Close, and fail if anything else comes before the end than the answer to that."""
    await peer.send_close(1000)
    await peer.expect_close(1000)
    assert await orderly_rest(peer) == b""


async def receive_pongs_until(peer: RawPeer, last: bytes) -> list[bytes]:
    """Receive pongs up to the one with this payload, and return all their payloads; nothing else may come."""
    payloads: list[bytes] = []
    while not payloads or payloads[-1] != last:
        received = await peer.receive_frame()
        assert received.opcode == PONG
        payloads.append(received.payload)
    return payloads


# In measure


async def test_every_ping_is_answered_with_what_it_says(peer: RawPeer) -> None:
    for size in range(126):
        payload = bytes(range(size))
        await peer.send_frame(PING, payload)
        await peer.expect(PONG, payload)
    await part(peer)


async def test_a_ping_in_pieces_of_one_byte_is_answered(peer: RawPeer) -> None:
    for byte in frame(PING, b"\xff\x00" * 62):
        await peer.send(bytes([byte]))
        await trio.lowlevel.checkpoint()
    await peer.expect(PONG, b"\xff\x00" * 62)
    await part(peer)


async def test_of_many_pings_at_once_the_latest_is_answered_and_none_twice(peer: RawPeer) -> None:
    """RFC 6455 5.5.3: "it MAY elect to send a Pong frame for only the most recently processed Ping frame"."""
    pings = [b"%05d" % number for number in range(5000)]
    await peer.send(b"".join(frame(PING, payload) for payload in pings))
    pongs = await receive_pongs_until(peer, pings[-1])
    assert pongs == sorted(set(pongs))
    assert set(pongs) <= set(pings)
    await part(peer)


async def test_pings_between_fragments_are_answered_before_the_message_is_whole(peer: RawPeer) -> None:
    await peer.send_frame(TEXT, b"a", fin=False)
    for number in range(50):
        await peer.send_frame(PING, b"%d" % number)
        await peer.expect(PONG, b"%d" % number)
        await peer.send_frame(CONTINUATION, b"b", fin=False)
    await peer.send_frame(CONTINUATION, b"c")
    await peer.expect(TEXT, b"a" + b"b" * 50 + b"c")
    await part(peer)


async def test_a_ping_inside_a_character_and_a_compressed_message_harms_neither(target: Victim) -> None:
    async with target.dialled() as peer:
        head = await peer.handshake(Sec_WebSocket_Extensions=DEFLATE)
        await peer.send(
            frame(TEXT, b"\xe2\x82", fin=False) + frame(PING, b"!") + frame(CONTINUATION, b"\xac")
        )
        assert {await receive_plain(peer), await receive_plain(peer)} == {
            (PONG, b"!"),
            (TEXT, b"\xe2\x82\xac"),
        }
        if b"permessage-deflate" in head:
            deflater = zlib.compressobj(wbits=-15)
            data = (deflater.compress(b"hello") + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
            await peer.send(frame(TEXT, data[:3], fin=False, rsv=4) + frame(PING, b"?"))
            await peer.expect(PONG, b"?")
            await peer.send_frame(CONTINUATION, data[3:])
            await peer.expect(TEXT, b"hello")
        await part(peer)


async def receive_plain(peer: RawPeer) -> tuple[int, bytes]:
    received = await peer.receive_frame()
    assert received.rsv == 0
    return received.opcode, received.payload


async def test_pings_amid_a_flood_of_messages_are_answered_in_order(peer: RawPeer) -> None:
    """The peer reads only when it has sent all; more is under way than all buffers hold."""
    count, payload = 300, bytes(16 * KIBI)
    echoes, pongs = 0, [-1]
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            for number in range(count):
                await peer.send(frame(BINARY, payload) + frame(PING, b"%d" % number))

        nursery.start_soon(send)
        while echoes < count or pongs[-1] < count - 1:
            received = await peer.receive_frame()
            if received.opcode == PONG:
                pongs.append(int(received.payload))
            else:
                assert received.opcode == BINARY
                echoes += 1
    assert echoes == count
    assert pongs == sorted(set(pongs))
    await part(peer)


async def test_pings_are_answered_while_the_handler_is_busy(deaf_victim: Victim) -> None:
    async with deaf_victim.attacked() as peer:
        with trio.fail_after(5):
            for number in range(15):  # one less than the queue holds
                await peer.send_frame(TEXT, b"anybody there?")
                await peer.send_frame(PING, b"%d" % number)
                await peer.expect(PONG, b"%d" % number)


async def test_a_busy_handler_costs_no_memory(deaf_victim: Victim) -> None:
    """Behind a full queue the kernel's buffers fill up, and then the peer waits."""
    async with deaf_victim.attacked() as peer:
        with deaf_victim.bounded(), trio.move_on_after(1):
            while True:
                await peer.send(frame(PING, bytes(125)) * 400 + frame(BINARY, bytes(64 * KIBI)))
    await deaf_victim.idle()


# Out of measure


async def test_a_flood_of_pings_whose_answers_nobody_reads_costs_no_memory(target: Victim) -> None:
    async with target.attacked(DEFLATE) as peer:
        flood = frame(PING, bytes(125)) * 500
        with target.bounded(4 * MEBI):  # half a second of them would take more
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    while True:
                        await peer.send(flood)

                nursery.start_soon(send)
                await trio.sleep(1.5)
                await target.serves()  # others are served meanwhile
                nursery.cancel_scope.cancel()
    # what was cut in the middle is no frame any more; the next peer starts afresh
    async with target.attacked(DEFLATE) as peer:
        with trio.fail_after(10):
            for _ in range(200):
                await peer.send(flood)
            await peer.send_frame(PING, b"last")
            await receive_pongs_until(peer, b"last")
            await part(peer)


async def test_pongs_nobody_asked_for_are_ignored(target: Victim, peer: RawPeer) -> None:
    with target.bounded():
        for number in range(200):
            await peer.send(b"".join(frame(PONG, b"%d" % (number * each)) for each in range(100)))
    await peer.send_frame(TEXT, b"hello")
    await peer.expect(TEXT, b"hello")
    await part(peer)


async def test_tiny_control_frames_take_linear_time(target: Victim, peer: RawPeer) -> None:
    before = target.cpu
    for _ in range(20):
        await peer.send((frame(PING) + frame(PONG)) * 2500)
    await peer.send_frame(PING, b"last")
    await receive_pongs_until(peer, b"last")
    assert target.cpu - before < 3  # 100000 frames
    await part(peer)


# Out of shape

BAD = {
    "ping of 126 bytes": encode_raw_frame(PING, bytes(126), mask=MASK),
    "ping of 64 KiB": encode_raw_frame(PING, bytes(65536), mask=MASK),
    "ping that announces 2**63 bytes": encode_raw_frame(PING, size=2**63 - 1, width=8, mask=MASK),
    "pong of 126 bytes": encode_raw_frame(PONG, bytes(126), mask=MASK),
    "close of 126 bytes": encode_raw_frame(CLOSE, b"\x03\xe8" + bytes(124), mask=MASK),
    "fragment of a ping": frame(PING, b"a", fin=False),
    "fragment of a pong": frame(PONG, b"a", fin=False),
    "fragment of a close": frame(CLOSE, b"\x03\xe8", fin=False),
    **{f"opcode {opcode}": frame(opcode) for opcode in (11, 12, 13, 14, 15)},
    **{f"ping with RSV {rsv}": frame(PING, rsv=rsv) for rsv in range(1, 8)},
    "close with RSV1": frame(CLOSE, rsv=4),
    "ping without a mask": encode_raw_frame(PING, b"a"),
    "pong without a mask": encode_raw_frame(PONG, b"a"),
    "close without a mask": encode_raw_frame(CLOSE, b"\x03\xe8"),
}  # fmt: skip


async def test_malformed_control_frames_are_answered_with_1002(target: Victim) -> None:
    """Also between the fragments of a message, and whatever comes behind them."""
    for before in (b"", frame(TEXT, b"a", fin=False)):
        for case, data in BAD.items():
            async with target.attacked(DEFLATE) as peer:
                with trio.fail_after(5):
                    await peer.send(before + data + frame(PING, b"behind") + frame(TEXT, b"behind"))
                    received = await peer.receive_frame()
                    assert (received.opcode, received.payload) == (CLOSE, b"\x03\xea"), case
                    assert await orderly_rest(peer) == b"", case


async def test_a_ping_before_a_violation_is_answered_and_one_behind_it_is_not(target: Victim) -> None:
    oversize = encode_raw_frame(TEXT, b"", size=MEBI + 1, mask=MASK)
    for violation, code in ((oversize, 1009), (frame(CONTINUATION), 1002), (frame(TEXT, b"\xff"), 1007)):
        async with target.attacked(DEFLATE) as peer:
            await peer.send(frame(PING, b"before") + violation + frame(PING, b"behind") * 10)
            await peer.expect(PONG, b"before")
            await peer.expect_close(code)
            assert await orderly_rest(peer) == b""


async def test_a_ping_behind_the_close_frame_is_not_answered(peer: RawPeer) -> None:
    await peer.send(frame(PING, b"before") + frame(CLOSE, b"\x03\xe8") + frame(PING, b"behind"))
    await peer.expect(PONG, b"before")
    await peer.expect_close(1000)
    assert await orderly_rest(peer) == b""


async def test_a_peer_that_breaks_off_amid_traffic_harms_nobody(target: Victim) -> None:
    """What was cut, and whether the answers were read, differs from one to the next."""
    traffic = frame(TEXT, b"hello") + frame(PING, b"a") + frame(BINARY, bytes(4096)) + frame(PING, b"b")
    for number in range(80):
        async with target.attacked(DEFLATE) as peer:
            await peer.send((traffic * 20)[: -number * 7 or None])
            if number % 3 == 0:
                await peer.receive_frame()
            if number % 2:
                await trio.sleep(0.002)
            reset(peer.stream)
