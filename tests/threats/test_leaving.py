"""Peers that leave, by the end of bytes or by a reset, anywhere in the conversation, seen from outside on a real server."""

import pytest
import trio

from tests.io.transport_kit import reset
from tests.threats.answers_kit import orderly_rest
from tests.threats.frame_kit import (
    BINARY,
    CLOSE,
    CONTINUATION,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    close,
    frame,
    half_close,
)
from tests.threats.threat_kit import DEFLATE, KIBI, MEBI, Victim
from trio_ws.testing import RawPeer


@pytest.mark.parametrize("count", [0, 1, 100])
async def test_messages_before_the_end_of_bytes_are_echoed(peer: RawPeer, count: int) -> None:
    await peer.send(b"".join(frame(TEXT, b"%d" % number) for number in range(count)))
    await half_close(peer)
    for number in range(count):
        await peer.expect(TEXT, b"%d" % number)
    assert await orderly_rest(peer) == b""


async def test_large_messages_before_the_end_of_bytes_are_echoed_though_nobody_reads_meanwhile(
    peer: RawPeer,
) -> None:
    payload = bytes(range(256)) * 1024

    async def send() -> None:
        await peer.send(frame(BINARY, payload) * 20)
        await half_close(peer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.sleep(0.3)
        for _ in range(20):
            received = await peer.receive_frame()
            assert received.rsv or received.payload == payload
    assert await orderly_rest(peer) == b""


async def test_the_close_frame_is_answered_when_the_bytes_end_right_behind_it(peer: RawPeer) -> None:
    await peer.send(frame(TEXT, b"hello") + close(1000))
    await half_close(peer)
    await peer.expect(TEXT, b"hello")
    await peer.expect_close(1000)
    assert await orderly_rest(peer) == b""


async def test_a_message_that_is_cut_is_not_echoed(peer: RawPeer) -> None:
    await peer.send(frame(TEXT, b"whole") + frame(TEXT, b"cut")[:-1])
    await half_close(peer)
    await peer.expect(TEXT, b"whole")
    assert await orderly_rest(peer) == b""


#: What a peer says, piece by piece, and what it is answered to each piece.
CONVERSATION = [
    (HANDSHAKE, None),
    (frame(TEXT, b"\xe2\x82", fin=False), None),
    (frame(PING, b"ping"), PONG),
    (frame(CONTINUATION, b"\xac"), TEXT),
    (frame(BINARY, bytes(130)), BINARY),
    (close(1000, b"bye"), CLOSE),
]


async def receive_opcodes(peer: RawPeer) -> list[int]:
    """Receive frames up to the end of the stream, in order."""
    rest = await orderly_rest(peer)
    opcodes: list[int] = []
    while rest:
        opcodes.append(rest[0] & 15)
        size = rest[1]
        rest = rest[4 + int.from_bytes(rest[2:4], "big") :] if size == 126 else rest[2 + size :]
    return opcodes


@pytest.mark.parametrize("end", ["end", "close", "reset"])
async def test_a_peer_may_leave_at_every_byte(target: Victim, end: str) -> None:
    """In good order, with what it was sent unread, or with a reset: in the end nothing is left of it."""
    whole = b"".join(data for data, _ in CONVERSATION)
    for size in range(len(whole) + 1):
        async with target.dialled() as peer:
            with trio.fail_after(5):
                await peer.send(whole[:size])
                if end == "reset":
                    reset(peer.stream)
                elif end == "end":
                    await half_close(peer)
                    if size < len(HANDSHAKE):
                        answer = await orderly_rest(peer)
                        assert answer.startswith(b"HTTP/1.1 400 ") or not size
                    else:
                        assert (await peer.receive_head()).startswith(b"HTTP/1.1 101 ")
                        assert await receive_opcodes(peer) == answers_to(size)
    await target.idle(3)


def answers_to(size: int) -> list[int]:
    """Return the opcodes that answer so many bytes of the conversation."""
    opcodes: list[int] = []
    for data, answer in CONVERSATION:
        size -= len(data)
        if size >= 0 and answer is not None:
            opcodes.append(answer)
    return opcodes


@pytest.mark.parametrize("large", [128 * KIBI, MEBI])
async def test_a_peer_may_leave_while_its_message_is_echoed(target: Victim, large: int) -> None:
    """Compressing such a message is work for a thread."""
    message = frame(BINARY, bytes(range(256)) * (large // 256))
    for number in range(20):
        async with target.attacked(DEFLATE) as peer:
            await peer.send(message + close(1000)[: number % 9])
            if number % 3 == 0:
                reset(peer.stream)
            elif number % 3 == 1:
                await half_close(peer)
                await trio.sleep(0.005)
    await target.idle(3)


async def test_a_flood_of_ends_leaves_no_descriptor(target: Victim) -> None:
    before = target.descriptors
    for number in range(200):
        async with target.attacked(DEFLATE) as peer:
            await peer.send(frame(TEXT, b"hello")[: number % 12])
            if number % 2:
                reset(peer.stream)
    await target.idle(3)
    assert target.descriptors <= before
