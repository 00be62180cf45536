"""Ends of all kinds, by close frames, by the end of bytes and by resets, seen from outside on a real server."""

import pytest
import trio

from tests.threats.answers_kit import orderly_rest
from tests.threats.frame_kit import (
    BINARY,
    CLOSE,
    CONTINUATION,
    HANDSHAKE,
    MASK,
    PING,
    TEXT,
    close,
    frame,
    half_close,
)
from tests.threats.threat_kit import DEFLATE, KIBI, MEBI, Victim
from trio_ws.testing import RawPeer, encode_raw_frame


async def answer_to(victim: Victim, data: bytes) -> bytes:
    """Send these bytes behind a handshake, and return the payload of the close frame, behind which there must be nothing."""
    with trio.fail_after(5):
        async with victim.attacked(DEFLATE) as peer:
            await peer.send(data)
            received = await peer.receive_frame()
            assert (received.opcode, received.fin, received.rsv, received.mask) == (CLOSE, True, 0, None)
            assert await orderly_rest(peer) == b""
    return received.payload


# Close codes and reasons


async def test_every_code_that_may_be_sent_is_answered_with_itself(target: Victim) -> None:
    codes = [*range(1000, 1004), *range(1007, 1015), 3000, 3001, 3999, 4000, 4500, 4999]
    for code in codes:
        payload = code.to_bytes(2, "big") + b"bye"
        assert await answer_to(target, frame(CLOSE, payload)) == payload


async def test_no_other_code_is_answered_with_itself(target: Victim) -> None:
    codes = [
        0,
        1,
        999,
        1004,
        1005,
        1006,
        *range(1015, 1021),
        1100,
        1999,
        2000,
        2999,
        5000,
        9999,
        32768,
        65535,
    ]
    for code in codes:
        assert await answer_to(target, close(code)) == b"\x03\xea", code
        assert await answer_to(target, close(code, b"bye")) == b"\x03\xea", code


async def test_an_empty_close_frame_is_answered_with_one(target: Victim) -> None:
    assert await answer_to(target, frame(CLOSE)) == b""


REASONS = {
    "empty": (b"", True),
    "123 bytes": (b"a" * 123, True),
    "123 bytes of several each": ("€".encode() * 41, True),
    "NUL and newline": (b"\x00\r\n", True),
    "FF": (b"\xff", False),
    "cut": (b"\xe2\x82", False),
    "surrogate": (b"\xed\xa0\x80", False),
    "too long": (b"\xc0\xaf", False),
    "beyond Unicode": (b"\xf4\x90\x80\x80", False),
    "FF in the end": (b"a" * 122 + b"\xff", False),
}


async def test_a_reason_is_answered_with_itself_if_it_is_utf_8(target: Victim) -> None:
    for name, (reason, good) in REASONS.items():
        payload = b"\x03\xe8" + reason
        expected = payload if good else b"\x03\xef"
        assert await answer_to(target, frame(CLOSE, payload)) == expected, name


async def test_a_close_frame_with_half_a_code_is_a_violation(target: Victim) -> None:
    assert await answer_to(target, frame(CLOSE, b"\x03")) == b"\x03\xea"


async def test_a_close_frame_that_is_too_long_or_in_fragments_is_a_violation(target: Victim) -> None:
    assert await answer_to(target, close(1000, b"a" * 124)) == b"\x03\xea"
    assert await answer_to(target, frame(CLOSE, b"\x03\xe8", fin=False)) == b"\x03\xea"
    fragments = frame(CLOSE, b"\x03", fin=False) + frame(CONTINUATION, b"\xe8")
    assert await answer_to(target, fragments) == b"\x03\xea"


# Messages before, and anything behind


async def test_a_message_and_a_close_frame_in_the_segment_of_the_handshake_are_answered(
    target: Victim,
) -> None:
    sizes = (0, 5, 200, 4096, 65536, MEBI)
    for size in sizes:
        async with target.dialled() as peer:
            with trio.fail_after(10):
                await peer.send(HANDSHAKE + frame(TEXT, b"a" * size) + close(1000, b"bye"))
                assert (await peer.receive_head()).startswith(b"HTTP/1.1 101 ")
                received = await peer.receive_frame()
                assert received.opcode == TEXT
                assert received.rsv or received.payload == b"a" * size
                await peer.expect_close(1000, "bye")
                assert await orderly_rest(peer) == b""


async def test_a_close_frame_in_the_segment_of_the_handshake_is_answered(target: Victim) -> None:
    async with target.dialled() as peer:
        await peer.send(HANDSHAKE + close(4321))
        await peer.receive_head()
        await peer.expect_close(4321)
        assert await orderly_rest(peer) == b""


@pytest.mark.parametrize("together", ["all", "frames", "nothing"])
async def test_480_clients_that_send_one_message_and_close(target: Victim, together: str) -> None:
    """Eight at a time; each gets its own word and its own code back, wherever the segments end."""

    async def talk(number: int) -> None:
        word, code = b"hello %d" % number, 3000 + number
        async with target.dialled() as peer:
            parts = [HANDSHAKE, frame(TEXT, word), close(code)]
            if together == "all":
                parts = [b"".join(parts)]
            elif together == "frames":
                parts = [parts[0], parts[1] + parts[2]]
            await peer.send(parts[0])
            if number % 2:  # else the rest is sent before the answer has come
                while b"\r\n\r\n" not in peer.received:
                    peer.received += await peer.stream.receive_some()
            for part in parts[1:]:
                await peer.send(part)
            await peer.receive_head()
            await peer.expect(TEXT, word)
            await peer.expect_close(code)
            assert await orderly_rest(peer) == b""

    async def some(first: int) -> None:
        for number in range(first, 160, 8):
            await talk(number)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for first in range(8):
                nursery.start_soon(some, first)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 100, 5000])
async def test_messages_right_before_the_close_frame_are_echoed_first(peer: RawPeer, count: int) -> None:
    await peer.send(b"".join(frame(TEXT, b"%d" % number) for number in range(count)) + close(1001))
    for number in range(count):
        await peer.expect(TEXT, b"%d" % number)
    await peer.expect_close(1001)
    assert await orderly_rest(peer) == b""


async def test_large_messages_before_the_close_frame_are_echoed_though_nobody_reads_meanwhile(
    peer: RawPeer,
) -> None:
    payload = bytes(range(256)) * 1024
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, frame(BINARY, payload) * 20 + close(1000))
        await trio.sleep(0.3)  # the kernel's buffers are full by now, and the server waits
        for _ in range(20):
            received = await peer.receive_frame()
            assert received.rsv or received.payload == payload
    await peer.expect_close(1000)
    assert await orderly_rest(peer) == b""


BEHIND = {
    "a message": frame(TEXT, b"late"),
    "a ping": frame(PING, b"late"),
    "another close frame": close(1001),
    "the same once more": close(1000),
    "a violation": frame(CONTINUATION, b"late"),
    "garbage": b"\xff" * 5000,
    "a request": HANDSHAKE,
    "900 KiB": bytes(900 * KIBI),
}


async def test_what_comes_behind_the_close_frame_is_ignored(target: Victim) -> None:
    for data in BEHIND.values():
        assert await answer_to(target, close(1000) + data) == b"\x03\xe8"


async def test_what_comes_behind_a_violation_is_ignored(target: Victim) -> None:
    for data in BEHIND.values():
        assert await answer_to(target, frame(CONTINUATION) + data) == b"\x03\xea"


async def test_a_close_frame_inside_a_message_is_answered_once(target: Victim) -> None:
    begun = frame(TEXT, b"a", fin=False)
    assert await answer_to(target, begun + close(1000)) == b"\x03\xe8"
    assert await answer_to(target, begun + close(1000) + frame(CONTINUATION, b"b")) == b"\x03\xe8"
    assert await answer_to(target, begun + frame(CONTINUATION, fin=False) + close(4000)) == b"\x0f\xa0"


async def test_a_close_frame_inside_a_frame_is_part_of_it(target: Victim) -> None:
    """Then the bytes end, and there is nothing to be answered."""
    async with target.attacked(DEFLATE) as peer:
        await peer.send(encode_raw_frame(BINARY, b"a", size=100, mask=MASK) + close(1000))
        await half_close(peer)
        assert await orderly_rest(peer) == b""


async def test_a_close_frame_in_segments_of_one_byte_is_answered(peer: RawPeer) -> None:
    for byte in frame(TEXT, b"hello") + close(1000, b"a reason"):
        await peer.send(bytes([byte]))
        await trio.lowlevel.checkpoint()
    await peer.expect(TEXT, b"hello")
    await peer.expect_close(1000, "a reason")
    assert await orderly_rest(peer) == b""


# Unread data must not destroy what was said last


@pytest.mark.parametrize(
    ("violation", "code"),
    [(frame(CONTINUATION), 1002), (frame(TEXT, b"\xff"), 1007), (close(1000), 1000)],
    ids=["1002", "1007", "1000"],
)
async def test_who_reads_only_when_all_is_sent_finds_the_echo_and_the_close_frame(
    peer: RawPeer, violation: bytes, code: int
) -> None:
    await peer.send(frame(TEXT, b"hello") + violation + bytes(64 * KIBI))
    for _ in range(14):
        await trio.sleep(0.01)
        await peer.send(bytes(64 * KIBI))
    await peer.expect(TEXT, b"hello")
    await peer.expect_close(code)
    assert await orderly_rest(peer) == b""


async def test_an_oversize_message_of_a_megabyte_is_answered_with_1009_that_can_be_read(
    peer: RawPeer,
) -> None:
    await peer.send(encode_raw_frame(BINARY, bytes(MEBI), size=MEBI + 1, mask=MASK)[: 1000 * KIBI])
    await peer.expect_close(1009)
    assert await orderly_rest(peer) == b""


@pytest.mark.parametrize("first", [frame(CONTINUATION), close(1000)], ids=["violation", "close frame"])
async def test_a_peer_that_sends_for_ever_after_the_end_is_cut(target: Victim, first: bytes) -> None:
    """What it sends costs neither memory nor, for long, time."""
    async with target.attacked(DEFLATE) as peer:
        await peer.send(first)
        with target.bounded(), trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            while True:
                await peer.send(frame(BINARY, bytes(64 * KIBI)))
