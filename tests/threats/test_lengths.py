"""Attacks by lengths, fragments and bytes that are no frames or no text: on a server, in the default configuration."""

from itertools import pairwise
from typing import Any

import pytest
import trio

from tests.threats.frame_kit import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    cut,
    frame,
    frames,
    struck,
)
from tests.threats.threat_kit import DEFLATE, KIBI, MEBI, Victim
from trio_ws import open_websocket

LIMIT = MEBI
MAX_FRAGMENTS = 131072


def header(opcode: int, size: int, *, fin: bool = True, width: int | None = None, rsv: int = 0) -> bytes:
    """Return the header of a client's frame without its mask: all that has to be known to refuse it."""
    return frame(opcode, size=size, fin=fin, width=width, rsv=rsv)[:-4]


# from the header alone

BEGUN = frame(BINARY, b"five!", fin=False)

#: What is announced, and the answer.
ANNOUNCED = {
    "one more than allowed": (header(BINARY, LIMIT + 1), 1009),
    "one more than allowed, as text": (header(TEXT, LIMIT + 1), 1009),
    "64 MiB": (header(BINARY, 64 * MEBI), 1009),
    "2^31 - 1": (header(BINARY, 2**31 - 1), 1009),
    "2^31": (header(BINARY, 2**31), 1009),
    "2^32 - 1": (header(BINARY, 2**32 - 1), 1009),
    "2^32": (header(BINARY, 2**32), 1009),
    "2^53 - 1": (header(BINARY, 2**53 - 1), 1009),
    "2^53 + 5": (header(BINARY, 2**53 + 5), 1009),
    "2^62": (header(BINARY, 2**62), 1009),
    "2^63 - 1": (header(BINARY, 2**63 - 1), 1009),
    "2^63, the highest bit set": (header(BINARY, 2**63), 1009),
    "2^63 + 5": (header(BINARY, 2**63 + 5), 1009),
    "2^64 - 5": (header(BINARY, 2**64 - 5), 1009),
    "all ones": (header(BINARY, 2**64 - 1), 1009),
    "a first fragment over the limit": (header(TEXT, LIMIT + 1, fin=False), 1009),
    "a continuation over the limit": (BEGUN + header(CONTINUATION, LIMIT - 4), 1009),
    "a continuation of 2^63 - 1": (BEGUN + header(CONTINUATION, 2**63 - 1), 1009),
    "a continuation of 2^64 - 5, which makes 0": (BEGUN + header(CONTINUATION, 2**64 - 5), 1009),
    "a continuation of 2^64 - 1": (BEGUN + header(CONTINUATION, 2**64 - 1, fin=False), 1009),
    "a continuation of 2^32 - 5": (BEGUN + header(CONTINUATION, 2**32 - 5), 1009),
    **{
        f"{size} in {width} bytes": (header(BINARY, size, width=width), 1002)
        for size, width in ((0, 2), (5, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65535, 8))
    },
    **{
        f"opcode {opcode} with 1 GiB": (frame(opcode, size=2**30)[:2], 1002)
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    },
    **{f"opcode {opcode}, empty": (frame(opcode)[:2], 1002) for opcode in (3, 7, 11, 15)},
    **{
        f"reserved bits {rsv} on opcode {opcode}": (frame(opcode, size=2**30, rsv=rsv)[:2], 1002)
        for rsv in (1, 2, 3, 5, 6, 7)
        for opcode in (CONTINUATION, TEXT, BINARY)
    },
    **{
        f"reserved bits {rsv} on opcode {opcode}": (frame(opcode, rsv=rsv)[:2], 1002)
        for rsv in (1, 2, 4, 7)
        for opcode in (CLOSE, PING, PONG)
    },
    **{
        f"opcode {opcode} with {size} bytes": (frame(opcode, size=size)[:2], 1002)
        for opcode in (CLOSE, PING, PONG)
        for size in (126, 127, 65535, 65536, 2**40)
    },
    **{
        f"opcode {opcode} in fragments": (frame(opcode, fin=False)[:2], 1002)
        for opcode in (CLOSE, PING, PONG)
    },
    **{f"no mask on opcode {opcode}": (bytes((128 | opcode, 5)), 1002) for opcode in (0, 1, 2, 8, 9, 10)},
    "a close frame of one byte": (frame(CLOSE, b"\x03")[:2], 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"a")[:2], 1002),
    "a continuation of nothing that goes on": (frame(CONTINUATION, b"", fin=False)[:2], 1002),
    "a continuation behind a whole message": (
        BEGUN + frame(CONTINUATION) + frame(CONTINUATION)[:2],
        1002,
    ),
    "a text inside a message": (BEGUN + frame(TEXT)[:2], 1002),
    "a message inside a message": (BEGUN + frame(BINARY, fin=False)[:2], 1002),
    "a text behind pings inside a message": (BEGUN + frame(PONG, b"a") * 3 + frame(TEXT)[:2], 1002),
}
_WHOLE = "a continuation behind a whole message"


@pytest.mark.parametrize("name", ANNOUNCED)
async def test_a_header_alone_is_reason_enough(victim: Victim, name: str) -> None:
    data, code = ANNOUNCED[name]
    with victim.bounded():
        async with victim.attacked(DEFLATE) as peer:
            with trio.fail_after(5):
                await peer.send(data)
                if name == _WHOLE:
                    await peer.expect(BINARY, b"five!")
                await peer.expect_close(code)
                await peer.expect_end()
        await victim.idle()


async def test_a_header_that_drips_is_the_same_header(victim: Victim) -> None:
    for name, (data, code) in ANNOUNCED.items():
        async with victim.attacked() as peer:
            with trio.fail_after(5):
                for byte in data:
                    await peer.send(bytes((byte,)))
                if name == _WHOLE:
                    await peer.expect(BINARY, b"five!")
                await peer.expect_close(code)
    await victim.idle()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("beside", [-1, 0, 1, 2, 3, 258])
@pytest.mark.parametrize("pieces", [1, 17])
async def test_the_limit_is_exact(victim: Victim, opcode: int, beside: int, pieces: int) -> None:
    data = bytes(range(48, 112)) * (LIMIT // 64) + b"z" * beside if beside >= 0 else b"z" * (LIMIT + beside)
    async with victim.attacked() as peer, trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, b"".join(frames(opcode, cut(data, pieces))))
        if beside > 0:
            await peer.expect_close(1009)
        else:
            await peer.expect(opcode, data)
    await victim.idle()


async def test_every_length_there_is_a_way_to_write(victim: Victim) -> None:
    async with victim.attacked() as peer:
        for size in (0, 1, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537):
            for opcode in (TEXT, BINARY):
                await peer.send(frame(opcode, b"a" * size))
                await peer.expect(opcode, b"a" * size)
        for size in (0, 125):
            await peer.send(frame(PING, b"a" * size))
            await peer.expect(PONG, b"a" * size)
        await peer.send(frame(CLOSE, b"\x03\xe8" + b"a" * 123))
        await peer.expect_close(1000, "a" * 123)
    await victim.idle()


# fragments


async def test_fragments_without_end_are_a_message_too_large(victim: Victim) -> None:
    data = frame(BINARY, bytes(64 * KIBI), fin=False)
    more = frame(CONTINUATION, bytes(64 * KIBI), fin=False)
    with victim.bounded():
        await struck(victim, data + more * 16, 1009)


@pytest.mark.parametrize("payload", [b"", b"a"], ids=["empty", "of one byte"])
async def test_fragments_are_counted_whatever_is_in_them(victim: Victim, payload: bytes) -> None:
    first = frame(TEXT, payload, fin=False)
    more = frame(CONTINUATION, payload, fin=False)
    with victim.bounded():
        await struck(victim, first + more * MAX_FRAGMENTS, 1008)
        async with victim.attacked() as peer:
            with trio.fail_after(20):
                await peer.send(first + more * (MAX_FRAGMENTS - 2) + frame(CONTINUATION, payload))
                await peer.expect(TEXT, payload * MAX_FRAGMENTS)
        await victim.idle()


async def test_three_hundred_thousand_empty_fragments_cost_no_memory(victim: Victim) -> None:
    """Sent for all it is worth; the answer may come while more is on its way."""
    with victim.bounded():
        for payload, number in ((b"", 300_000), (b"a", 200_000)):
            async with victim.attacked() as peer, trio.open_nursery() as nursery:
                data = frame(TEXT, payload, fin=False) + frame(CONTINUATION, payload, fin=False) * number
                nursery.start_soon(peer.send, data)
                await peer.expect_close(1008)
                nursery.cancel_scope.cancel()
        await victim.idle()
    await victim.serves()


async def test_thirty_thousand_empty_messages_come_back(victim: Victim) -> None:
    with victim.bounded():
        async with victim.attacked() as peer, trio.open_nursery() as nursery:
            nursery.start_soon(peer.send, frame(TEXT) * 30_000)
            assert await peer.receive_exactly(60_000) == b"\x81\x00" * 30_000
        await victim.idle()


async def test_control_frames_stand_between_all_fragments(victim: Victim) -> None:
    async with victim.attacked() as peer:
        for sent in frames(TEXT, cut(b"some text" * 100, 90)):
            await peer.send(frame(PING, b"in") + frame(PONG, b"out") + sent + frame(PING, b"behind"))
            for _ in range(2):
                answer = await peer.receive_frame()
                if answer.opcode == TEXT:
                    answer = await peer.receive_frame()
                assert answer.opcode == PONG
    await victim.idle()


async def test_a_close_frame_inside_a_message_is_answered(victim: Victim) -> None:
    async with victim.attacked() as peer:
        await peer.send(frame(TEXT, b"half", fin=False) + frame(CLOSE, b"\x03\xe8bye"))
        await peer.expect_close(1000, "bye")
        await peer.expect_end()
    await victim.idle()


# announcing, and tiny segments


async def test_what_is_announced_and_does_not_come_takes_no_memory(victim: Victim) -> None:
    """Fifty clients announce the most that is allowed, and one that is not and sends a part of it."""
    with victim.bounded(8 * MEBI):
        async with trio.open_nursery() as nursery:
            done = trio.Semaphore(0)

            async def announce(number: int) -> None:
                async with victim.attacked() as peer:
                    await peer.send(frame(BINARY, b"a" * (number % 2), size=LIMIT))
                    await peer.send(frame(PING, b"")[: number % 7])
                    done.release()
                    await trio.sleep_forever()

            for number in range(50):
                nursery.start_soon(announce, number)
            for _ in range(50):
                await done.acquire()
            await victim.serves()
            nursery.cancel_scope.cancel()
        async with victim.attacked() as peer:
            with trio.fail_after(5):
                await peer.send(frame(BINARY, bytes(256 * KIBI), size=64 * MEBI))
                await peer.expect_close(1009)
        await victim.idle()


async def test_a_message_in_segments_of_one_byte_costs_what_it_weighs(victim: Victim) -> None:
    data = b"".join(frames(TEXT, cut(b"0123456789abcdef" * 512, 20)))
    with victim.bounded(8 * MEBI):
        async with victim.attacked() as peer:
            for byte in data:
                await peer.send(bytes((byte,)))
            await peer.expect(TEXT, b"0123456789abcdef" * 512)
        await victim.idle()


# text

#: What is no UTF-8, and the bytes of it after which that is certain.
INVALID = {
    "a continuation byte": (b"\x80", 1),
    "another": (b"\xbf", 1),
    "an overlong slash": (b"\xc0\xaf", 1),
    "an overlong slash of two bytes more": (b"\xe0\x80\xaf", 2),
    "an overlong slash of three bytes more": (b"\xf0\x80\x80\xaf", 2),
    "the largest overlong of two bytes": (b"\xc1\xbf", 1),
    "the largest overlong of three bytes": (b"\xe0\x9f\xbf", 2),
    "the largest overlong of four bytes": (b"\xf0\x8f\xbf\xbf", 2),
    "the first surrogate": (b"\xed\xa0\x80", 2),
    "the last surrogate": (b"\xed\xbf\xbf", 2),
    "a pair of surrogates": (b"\xed\xa0\xbd\xed\xb8\x80", 2),
    "one more than there are": (b"\xf4\x90\x80\x80", 2),
    "many more than there are": (b"\xf5\x80\x80\x80", 1),
    "five bytes": (b"\xf8\x88\x80\x80\x80", 1),
    "six bytes": (b"\xfc\x84\x80\x80\x80\x80", 1),
    "fe": (b"\xfe", 1),
    "ff": (b"\xff", 1),
    "a character broken off after one byte": (b"\xc3(", 2),
    "a character broken off after two bytes": (b"\xe2\x82(", 3),
    "a character broken off after three bytes": (b"\xf0\x9f\x98(", 4),
    "a character inside a character": (b"\xe2\xe2\x82\xac", 2),
}
_invalid = pytest.mark.parametrize(("data", "certain"), INVALID.values(), ids=INVALID.keys())


@_invalid
async def test_a_wrong_byte_is_found_as_soon_as_it_comes(victim: Victim, data: bytes, certain: int) -> None:
    """Inside a frame of which more is to come: all before it is waited with, and nothing behind it is waited for."""
    before = "κόσμε ".encode()
    async with victim.attacked() as peer:
        with trio.fail_after(5):
            # whether it was too hasty is to be seen by the pong: the frame that it stands behind was looked at
            await peer.send(frame(TEXT, before + data[: certain - 1], fin=False) + frame(PING, b"patient?"))
            await peer.expect(PONG, b"patient?")
            await peer.send(frame(CONTINUATION, data[certain - 1 : certain], size=1000))
            await peer.expect_close(1007)
            await peer.expect_end()
    await victim.idle()


@_invalid
async def test_no_cut_hides_a_wrong_byte(victim: Victim, data: bytes, certain: int) -> None:
    """Whatever the frames and the segments it comes in."""
    text = b"a\xc3\xa4\xe2\x82\xac" + data + b"\xf0\x9f\x98\x80z"
    for place in range(len(text) + 1):
        async with victim.attacked() as peer:
            with trio.fail_after(5):
                for part in frames(TEXT, [text[:place], text[place:]]):
                    await peer.send(part)
                await peer.expect_close(1007)
    await struck(victim, frame(TEXT, text), 1007)
    await struck(
        victim, b"".join(frames(TEXT, [text[place : place + 1] for place in range(len(text))])), 1007
    )


@pytest.mark.parametrize("data", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"ok \xf0"])
async def test_half_a_character_at_the_end_is_none(victim: Victim, data: bytes) -> None:
    await struck(victim, frame(TEXT, data), 1007)
    await struck(victim, b"".join(frames(TEXT, [data, b""])), 1007)


async def test_text_is_text_wherever_it_is_cut(victim: Victim) -> None:
    text = "aä€😀\ud7ff\ue000\ufffd\uffff\U0010ffff\x00z".encode()
    async with victim.attacked() as peer:
        for first in range(len(text) + 1):
            for second in range(first, len(text) + 1, 3):
                pieces = [text[start:end] for start, end in pairwise([0, first, second, len(text)])]
                await peer.send(b"".join(frames(TEXT, pieces)))
                await peer.expect(TEXT, text)
        whole = frame(TEXT, text)
        for place in range(1, len(whole)):
            await peer.send(whole[:place])
            await trio.lowlevel.checkpoint()
            await peer.send(whole[place:])
            await peer.expect(TEXT, text)
    await victim.idle()


async def test_binary_is_not_looked_at(victim: Victim) -> None:
    async with victim.attacked() as peer:
        for data, _ in INVALID.values():
            await peer.send(frame(BINARY, data))
            await peer.expect(BINARY, data)
    await victim.idle()


# close frames


@_invalid
async def test_a_close_reason_is_text_too(victim: Victim, data: bytes, certain: int) -> None:
    del certain
    await struck(victim, frame(CLOSE, b"\x03\xe8" + data), 1007)


@pytest.mark.parametrize(
    "code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 9999, 65535]
)
async def test_a_close_code_that_may_not_be_sent_is_1002(victim: Victim, code: int) -> None:
    await struck(victim, frame(CLOSE, code.to_bytes(2, "big")), 1002)


# what this side sends


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("ping", (5,)),
        ("ping", ([1, 2],)),
        ("ping", (object(),)),
        ("ping", (b"a" * 126,)),
        ("pong", (5,)),
        ("pong", (b"a" * 126,)),
        ("aclose", (1000, b"bytes")),
        ("aclose", (1000, bytearray(b"bytes"))),
        ("aclose", (1000, 5)),
        ("aclose", (1000, "a" * 124)),
        ("aclose", (1000, "ä" * 62)),
        ("aclose", (1000, "\ud800")),
        ("aclose", (999,)),
        ("aclose", (2.5,)),
        ("aclose", ("1000",)),
        ("send_message", (5,)),
        ("send_message", (None,)),
        ("send_message", (["a"],)),
        ("send_message", (1.5,)),
        ("send_message", ("\ud800",)),
    ],
    ids=repr,
)
async def test_what_is_no_payload_is_refused_before_anything_is_sent(
    victim: Victim, method: str, arguments: tuple[Any, ...]
) -> None:
    """A number is not taken for a size, a buffer not for a text: nothing that was not said leaves the process."""
    async with open_websocket("127.0.0.1", victim.port, "/", use_ssl=False) as ws:
        with pytest.raises((TypeError, ValueError)):
            await getattr(ws, method)(*arguments)
        assert ws.closed is None
        await ws.send_message("first")
        assert await ws.get_message() == "first"
    await victim.idle()
