"""Compressed messages are received as what was sent, however they come, and never become larger than they may."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.codec_kit import (
    BINARY,
    CLOSE,
    CODECS,
    CONTINUATION,
    PING,
    PLACES,
    PONG,
    TEXT,
    Codec,
    Peer,
    Seen,
    Violation,
    byte_by_byte,
    cut,
    feed,
    needs_compiled,
    seen,
    without_text,
)
from tests.protocol.deflate_kit import RSV1, Deflating, compressed_frames, every_engine, inflater
from tests.protocol.stream_kit import MASKS
from trio_ws.protocol._codec import INFLATE_LIMIT, INFLATE_STEP
from trio_ws.protocol._compressors import EngineName
from trio_ws.protocol._events import Close, Fragment, Ping, Pong
from trio_ws.protocol._limits import Limits

TOO_LARGE = Violation("WS_ERR_UNSUPPORTED_MESSAGE_LENGTH", 1009)
NOT_DEFLATED = Violation("WS_ERR_INVALID_COMPRESSED_DATA", 1007)
NOT_TEXT = Violation("WS_ERR_INVALID_UTF8", 1007)
RESERVED = Violation("WS_ERR_UNEXPECTED_RSV_1", 1002)

LARGE = Limits(max_message_size=2**26)
NOISE = random.Random(0).randbytes(300_000)


def receive(
    codec: Codec,
    peer: Peer,
    data: bytes,
    *,
    limits: Limits = Limits(),
    takeover: bool = True,
    bits: int = 15,
    engine: EngineName = "zlib",
) -> list[Seen]:
    """Return what bytes mean, which must be the same in one piece and byte by byte."""

    def means(pieces: list[bytes]) -> list[Seen]:
        through = inflater(takeover=takeover, bits=bits, engine=engine)
        return without_text(feed(codec.decoder(peer, limits, through), pieces))

    whole = means([data])
    if len(data) < 5000:
        assert means(byte_by_byte(data)) == whole
    return whole


# What is received


@pytest.mark.parametrize(
    "message", ["", "a", "a text " * 100, "€uro" * 50_000, b"", b"\x00", bytes(100_000), NOISE[:100_000]]
)
def test_a_compressed_message(codec: Codec, peer: Peer, message: str | bytes) -> None:
    assert receive(codec, peer, Deflating().frame(peer, message)) == [message]


def test_the_examples_of_the_rfc(codec: Codec, peer: Peer) -> None:
    # RFC 7692 7.2.3: one block, fragments, the window shared, no compression, BFINAL, two blocks
    hello = bytes.fromhex("f248cdc9c90700")
    examples = [
        [hello],
        [hello[:3], hello[3:]],
        [bytes.fromhex("f200110000")],
        [bytes.fromhex("000500faff48656c6c6f00")],
        [bytes.fromhex("f348cdc9c9070000")],
        [bytes.fromhex("f24805000000ffffcac9c90700")],
    ]
    data = b"".join(b"".join(compressed_frames(peer, TEXT, payloads)) for payloads in examples)
    assert receive(codec, peer, data) == ["Hello"] * len(examples)


def test_compressed_and_plain_in_any_order(codec: Codec, peer: Peer) -> None:
    peers = Deflating()
    data = (
        peers.frame(peer, "one " * 20)
        + peer.frame(TEXT, "two")
        + peers.frame(peer, b"three " * 20)
        + peer.frame(BINARY, b"four")
        + peer.frame(PING, b"five")
        + peers.frame(peer, "one " * 20)
    )
    assert receive(codec, peer, data) == [
        "one " * 20,
        "two",
        b"three " * 20,
        b"four",
        Ping(b"five"),
        "one " * 20,
    ]


def test_control_frames_leave_a_compressed_message_alone(codec: Codec, peer: Peer) -> None:
    first, second, third = Deflating().frames(peer, TEXT, b"one " * 9, b"two " * 9, b"three")
    pong, ping = peer.frame(PONG, b"unasked"), peer.frame(PING, b"between")
    expected = [Pong(b"unasked"), Ping(b"between"), Pong(b"unasked"), "one " * 9 + "two " * 9 + "three"]
    assert receive(codec, peer, pong + first + ping + second + pong + third) == expected


@pytest.mark.parametrize(
    "pieces",
    [
        [b"", b"text"],
        [b"text", b""],
        [b"", b"", b"te", b"", b"xt", b""],
        [b"", b""],
        [b"t"] * 50,
    ],
    ids=str,
)
@pytest.mark.parametrize("takeover", [True, False])
def test_fragments_may_be_empty(codec: Codec, peer: Peer, pieces: list[bytes], takeover: bool) -> None:
    peers = Deflating(takeover=takeover)
    data = b"".join(frame for _ in range(3) for frame in peers.frames(peer, TEXT, *pieces))
    assert receive(codec, peer, data, takeover=takeover) == [b"".join(pieces).decode()] * 3


def test_what_comes_of_a_message_without_payload_is_empty(codec: Codec, peer: Peer) -> None:
    assert receive(codec, peer, peer.frame(TEXT, rsv=RSV1)) == [""]


# What may be referred to


def test_a_context_is_taken_over(codec: Codec, peer: Peer) -> None:
    peers = Deflating()
    payloads = [peers.payload("the same message, many times") for _ in range(5)]
    assert all(len(payload) < len(payloads[0]) for payload in payloads[1:])
    data = b"".join(peer.frame(TEXT, payload, rsv=RSV1) for payload in payloads)
    assert receive(codec, peer, data) == ["the same message, many times"] * 5


def test_a_context_is_not_taken_over_where_that_was_agreed_on(codec: Codec, peer: Peer) -> None:
    peers = Deflating()
    data = peers.frame(peer, "the same message") + peers.frame(peer, "the same message")
    assert receive(codec, peer, data, takeover=False) == ["the same message", NOT_DEFLATED]


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("takeover", [True, False])
@every_engine
def test_every_window(codec: Codec, peer: Peer, bits: int, takeover: bool, engine: EngineName) -> None:
    peers = Deflating(takeover=takeover, bits=bits)
    messages = [NOISE[:200] * 10, NOISE[:2000] * 10, NOISE[:100]]
    data = b"".join(peers.frame(peer, message) for message in messages)
    found = receive(codec, peer, data, takeover=takeover, bits=bits, engine=engine)
    assert found == messages


def test_referring_further_back_than_agreed_on_is_a_violation(codec: Codec, peer: Peer) -> None:
    data = Deflating(bits=15).frame(peer, NOISE[:10_000] * 2)
    assert receive(codec, peer, data, bits=9) == [NOT_DEFLATED]


# A last block (RFC 7692 7.2.3.4)


def ended(message: bytes, behind: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(message) + compressor.flush() + behind


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("behind", [b"\x00", b""], ids=["as the RFC has it", "without more"])
@every_engine
def test_a_last_block_does_not_end_what_comes_after(
    codec: Codec, peer: Peer, behind: bytes, takeover: bool, engine: EngineName
) -> None:
    last = peer.frame(TEXT, ended(b"12345678", behind), rsv=RSV1)
    data = last + last + Deflating().frame(peer, "another") + last
    found = receive(codec, peer, data, takeover=takeover, engine=engine)
    assert found == ["12345678", "12345678", "another", "12345678"]


def test_a_last_block_inside_a_message(codec: Codec, peer: Peer) -> None:
    payload = ended(b"one, ", b"") + ended(b"two, ", b"") + Deflating().payload(b"three")
    assert receive(codec, peer, peer.frame(TEXT, payload, rsv=RSV1)) == ["one, two, three"]
    # in fragments whose borders are those of blocks
    for pieces in (
        [ended(b"one, ", b""), ended(b"two", b"")],
        [ended(b"one, ", b""), ended(b"two", b""), b""],
        [ended(b"one, ", b""), b"", ended(b"two", b"\x00")],
    ):
        data = b"".join(compressed_frames(peer, TEXT, pieces)) + Deflating().frame(peer, "behind")
        assert receive(codec, peer, data) == ["one, two", "behind"]


def test_many_last_blocks_cost_no_more_each(codec: Codec, peer: Peer) -> None:
    payload = b"\x03\x00" * 50_000  # 50000 empty ones
    assert receive(codec, peer, peer.frame(TEXT, payload, rsv=RSV1)) == [""]


# Where RSV1 may stand


@pytest.mark.parametrize("opcode", [CONTINUATION, CLOSE, PING, PONG])
def test_rsv1_is_for_the_first_frame_of_a_message(codec: Codec, peer: Peer, opcode: int) -> None:
    before = peer.frame(TEXT, b"\x00", fin=False, rsv=RSV1)
    assert receive(codec, peer, before + peer.start(opcode, rsv=RSV1)) == [RESERVED]
    assert receive(codec, peer, peer.start(opcode, rsv=RSV1)) == [RESERVED]


@pytest.mark.parametrize("rsv", [0x20, 0x10, 0x60, 0x50, 0x70])
def test_the_other_bits_stay_reserved(codec: Codec, peer: Peer, rsv: int) -> None:
    found = receive(codec, peer, peer.start(TEXT, rsv=rsv))
    assert found == [Violation("WS_ERR_UNEXPECTED_RSV_2_3", 1002)]


# Limits

NEAR = [-3, -2, -1, 0, 1, 2, 3]


@pytest.mark.parametrize("limit", [25, 1000, 4096, 65_533, 65_536, 65_539, 70_001, 262_144])
@pytest.mark.parametrize("kind", ["zeros", "noise", "text"])
@every_engine
def test_nothing_is_cut_at_the_limit(
    codec: Codec, peer: Peer, limit: int, kind: str, engine: EngineName
) -> None:
    for beside in NEAR:
        size = limit + beside
        message = {"zeros": bytes(size), "noise": NOISE[:size], "text": b"some text, " * 30_000}[kind][:size]
        expected: list[Seen] = [message] if beside <= 0 else [TOO_LARGE]
        limits = Limits(max_message_size=limit)
        found = receive(codec, peer, Deflating().frame(peer, message), limits=limits, engine=engine)
        assert found == expected, beside
        pieces = [message[: size // 2], b"", message[size // 2 :]]
        data = b"".join(Deflating().frames(peer, BINARY, *pieces))
        assert receive(codec, peer, data, limits=limits, engine=engine) == expected, beside


@pytest.mark.parametrize("beside", NEAR)
def test_in_pieces_the_limit_is_the_same(codec: Codec, peer: Peer, beside: int) -> None:
    limit = 100_000
    decoder = codec.decoder(peer, Limits(max_message_size=limit), inflater())
    assert decoder.next_in_pieces() == []
    events = feed(decoder, cut(Deflating().frame(peer, NOISE[: limit + beside]), range(0, 200_000, 1000)))
    pieces = [event.data for event in events if isinstance(event, Fragment)]
    if beside <= 0:
        assert b"".join(piece for piece in pieces if isinstance(piece, bytes)) == NOISE[: limit + beside]
        assert [event.final for event in events if isinstance(event, Fragment)].index(True) == len(events) - 1
    else:
        assert without_text(events[-1:]) == [TOO_LARGE]
        assert sum(map(len, pieces)) <= limit


#: A block that comes to nothing, without end of the message.
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"


@pytest.mark.parametrize("limit", [0, 25, 1000])
def test_what_a_compressed_message_takes_on_the_wire_has_an_end(codec: Codec, peer: Peer, limit: int) -> None:
    limits = Limits(max_message_size=limit)
    most = 8 * limit + 65_536
    for opcode in (TEXT, BINARY):
        start = peer.start(opcode, most + 1, rsv=RSV1)
        assert receive(codec, peer, start, limits=limits) == [TOO_LARGE]
        nothing: Seen = "" if opcode == TEXT else b""
        blocks = (EMPTY_BLOCK * most)[:most]
        sizes = {(most - 1, 1), (1, most - 1), (most, 0), (most // 2, most - most // 2)}
        for first, second in sizes:
            data = peer.frame(opcode, blocks[:first], rsv=RSV1, fin=False) + peer.frame(PING)
            found = receive(codec, peer, data + peer.start(CONTINUATION, second + 1), limits=limits)
            assert found == [Ping(b""), TOO_LARGE]
        assert most % 5 == 1, "the last byte begins the block whose end is left out (RFC 7692 7.2.1)"
        whole = peer.frame(opcode, blocks, rsv=RSV1)
        assert receive(codec, peer, whole * 2, limits=limits) == [nothing] * 2


@pytest.mark.parametrize("limit", [20, 1000, 50_000])
def test_whoever_flushes_behind_every_byte_stays_below(codec: Codec, peer: Peer, limit: int) -> None:
    data = b"".join(Deflating().frames(peer, BINARY, *(NOISE[at : at + 1] for at in range(limit))))
    assert receive(codec, peer, data, limits=Limits(max_message_size=limit)) == [NOISE[:limit]]


def test_the_limit_is_for_each_message(codec: Codec, peer: Peer) -> None:
    peers = Deflating()
    limits = Limits(max_message_size=10_000)
    data = b"".join(peers.frame(peer, bytes(10_000)) for _ in range(5))
    assert receive(codec, peer, data, limits=limits) == [bytes(10_000)] * 5
    plain = peer.frame(BINARY, bytes(10_000))
    assert receive(codec, peer, data + plain + peer.start(BINARY, 10_001), limits=limits)[5:] == [
        bytes(10_000),
        TOO_LARGE,
    ]


def test_fragments_are_counted(codec: Codec, peer: Peer) -> None:
    data = b"".join(Deflating().frames(peer, TEXT, b"a", b"", b"b", b""))
    found = receive(codec, peer, data, limits=Limits(max_fragments=3))
    assert found == [Violation("WS_ERR_TOO_MANY_BUFFERED_PARTS", 1008)]


def bomb(size: int) -> bytes:
    """Return what inflates to so many zeros."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [compressor.compress(bytes(2**20)) for _ in range(size // 2**20)]
    return b"".join(parts) + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]


@contextmanager
def tracing() -> Generator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


BOMB = bomb(2**27)  # 128 MiB in 128 KiB


@pytest.mark.parametrize("limit", [2**10, 2**20, 2**24])
@pytest.mark.parametrize("read", [1000, 65_536, 2**30])
@pytest.mark.parametrize("in_pieces", [False, True], ids=["whole", "in pieces"])
@every_engine
def test_a_bomb_takes_no_more_than_the_limit(
    codec: Codec, peer: Peer, limit: int, read: int, in_pieces: bool, engine: EngineName
) -> None:
    data = peer.frame(BINARY, BOMB, rsv=RSV1, mask=bytes(4))
    decoder = codec.decoder(peer, Limits(max_message_size=limit), inflater(engine=engine))
    if in_pieces:
        assert decoder.next_in_pieces() == []
    with tracing():
        last: list[Seen] = []
        for at in range(0, len(data), read):
            found = decoder.decode(data[at : at + read])
            while decoder.more:
                found = decoder.decode(b"")
            if decoder.finished:
                last = seen(found)[-1:]
                break
        _, peak = tracemalloc.get_traced_memory()
    assert without_text(last) == [TOO_LARGE]
    # a bytearray makes room for an eighth more; a step becomes four megabytes at most, for a moment thrice; and there
    # are the window and two copies of what was read
    assert peak <= limit * 9 / 8 + 3 * min(limit, 1032 * INFLATE_STEP) + 2 * len(BOMB) + 2**18


@pytest.mark.parametrize("in_pieces", [False, True], ids=["whole", "in pieces"])
def test_a_read_is_inflated_with_pauses(codec: Codec, peer: Peer, in_pieces: bool) -> None:
    size = 100_000 if not in_pieces else 2**24
    message = bytes(size)
    data = Deflating(takeover=False).frame(peer, message) * (2**24 // size)
    decoder = codec.decoder(peer, LARGE, inflater(takeover=False))
    if in_pieces:
        decoder.next_in_pieces()
    calls = [decoder.decode(data)]
    while decoder.more:
        calls.append(decoder.decode(b""))
    sizes = [
        sum(len(event if isinstance(event, str | bytes) else getattr(event, "data", b"")) for event in call)
        for call in calls
    ]
    assert sum(sizes) == size * (2**24 // size)
    assert max(sizes) <= INFLATE_LIMIT + max(100_000, 1032 * INFLATE_STEP)


def test_a_message_that_takes_several_pauses_is_one(codec: Codec, peer: Peer) -> None:
    text = "a text " * 500_000
    assert receive(codec, peer, Deflating().frame(peer, text), limits=LARGE) == [text]


def test_plain_messages_take_no_pauses(codec: Codec, peer: Peer) -> None:
    data = peer.frame(BINARY, bytes(100_000)) * 50
    decoder = codec.decoder(peer, LARGE, inflater())
    assert len(decoder.decode(data)) == 50
    assert not decoder.more


# What is not deflated


@pytest.mark.parametrize("payload", [b"\xff", b"\x07", bytes.fromhex("000500ffff48656c6c6f00")])
@every_engine
def test_garbage_is_a_violation(codec: Codec, peer: Peer, payload: bytes, engine: EngineName) -> None:
    found = receive(codec, peer, peer.frame(TEXT, payload, rsv=RSV1), engine=engine)
    assert found == [NOT_DEFLATED]


@given(payload=st.binary(max_size=200), flips=st.lists(st.integers(0, 10_000), max_size=3), places=PLACES)
@settings(max_examples=200)
def test_garbage_can_only_be_1007_or_1009(
    codec: Codec, peer: Peer, payload: bytes, flips: list[int], places: set[int]
) -> None:
    changed = bytearray(Deflating().payload(payload * 20))
    for flip in flips:
        changed[flip // 8 % len(changed)] ^= 1 << flip % 8
    limits = Limits(max_message_size=3000)
    for garbage in (payload, bytes(changed)):
        data = b"".join(peer.frame(opcode, garbage, rsv=RSV1) for opcode in (BINARY, TEXT, BINARY))
        events = feed(codec.decoder(peer, limits, inflater()), cut(data, places))
        for event in events:
            assert isinstance(event, str | bytes | Violation)
            if isinstance(event, Violation):
                assert event.close_code in (1007, 1009)
            else:
                assert len(event) <= 3000


@pytest.mark.parametrize("wrong", [b"\xff", b"fine \xed\xa0\x80", b"cut \xe2\x82"])
def test_text_is_validated_behind_the_inflater(codec: Codec, peer: Peer, wrong: bytes) -> None:
    assert receive(codec, peer, peer.frame(TEXT, Deflating().payload(wrong), rsv=RSV1)) == [NOT_TEXT]
    first, second = Deflating().frames(peer, TEXT, wrong, b"more")
    assert receive(codec, peer, first + second) == [NOT_TEXT]


def test_text_fails_fast(codec: Codec, peer: Peer) -> None:
    first, _ = Deflating().frames(peer, TEXT, b"text \xff text", b"")
    assert receive(codec, peer, first) == [NOT_TEXT]


def test_a_character_may_be_cut_anywhere(codec: Codec, peer: Peer) -> None:
    text = "a€𝄞é" * 20
    data = b"".join(Deflating().frames(peer, TEXT, *byte_by_byte(text.encode())))
    assert receive(codec, peer, data) == [text]


# For any messages


MESSAGES = st.text(max_size=60) | st.binary(max_size=80)


@st.composite
def messages(draw: st.DrawFn) -> str | bytes:
    message = draw(MESSAGES)
    return message * draw(st.sampled_from([1, 1, 1, 50, 3000]))


@st.composite
def conversations(draw: st.DrawFn, peer: Peer, takeover: bool, bits: int) -> tuple[bytes, list[Seen]]:
    """Return frames of messages, compressed and plain, in any fragments and with control frames between them."""
    peers = Deflating(takeover=takeover, bits=bits, level=draw(st.sampled_from([0, 1, 6, 9])))
    data = b""
    expected: list[Seen] = []
    for message in draw(st.lists(messages(), max_size=5)):
        payload = message.encode() if isinstance(message, str) else message
        opcode = TEXT if isinstance(message, str) else BINARY
        places = [0, *sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4))), len(payload)]
        pieces = [payload[start:stop] for start, stop in pairwise(places)]
        if draw(st.booleans()):
            frames = peers.frames(peer, opcode, *pieces)
        else:
            frames = [
                peer.frame(CONTINUATION if i else opcode, piece, fin=i == len(pieces) - 1, mask=draw(MASKS))
                for i, piece in enumerate(pieces)
            ]
        for frame in frames:
            if draw(st.integers(0, 4)) == 0:
                data += peer.frame(PING, b"between")
                expected.append(Ping(b"between"))
            data += frame
        expected.append(message)
    return data, expected


@given(data=st.data(), places=PLACES, takeover=st.booleans(), bits=st.integers(9, 15))
@settings(max_examples=150)
def test_what_was_deflated_is_received(
    codec: Codec, peer: Peer, data: st.DataObject, places: set[int], takeover: bool, bits: int
) -> None:
    stream, expected = data.draw(conversations(peer, takeover, bits))
    for pieces in ([stream], cut(stream, places)):
        decoder = codec.decoder(peer, LARGE, inflater(takeover=takeover, bits=bits))
        assert feed(decoder, pieces, data.draw(st.sampled_from([1, 2, 4096]))) == expected
    decoder = codec.decoder(peer, LARGE, inflater(takeover=takeover, bits=bits))
    joined: list[Seen] = []
    parts: list[str | bytes] = []
    for piece in cut(stream, places):
        if data.draw(st.booleans()):
            parts += [event.data for event in decoder.next_in_pieces() if isinstance(event, Fragment)]
        for event in feed(decoder, [piece]):
            if isinstance(event, Fragment):
                parts.append(event.data)
                if event.final:
                    texts = [part for part in parts if isinstance(part, str)]
                    binaries = [part for part in parts if isinstance(part, bytes)]
                    assert not (texts and binaries)
                    joined.append("".join(texts) if texts else b"".join(binaries))
                    parts = []
            else:
                joined.append(event)
    assert joined == expected


@needs_compiled
@given(data=st.data(), places=PLACES, takeover=st.booleans(), size=st.sampled_from([0, 50, 2**20]))
@settings(max_examples=200)
def test_both_decoders_inflate_the_same(
    peer: Peer, data: st.DataObject, places: set[int], takeover: bool, size: int
) -> None:
    stream = bytearray(data.draw(conversations(peer, takeover, 15))[0])
    for flip in data.draw(st.lists(st.integers(0, 8 * len(stream) + 8), max_size=2)):
        if flip < 8 * len(stream):
            stream[flip // 8] ^= 1 << flip % 8
    decoders = [
        codec.decoder(peer, Limits(max_message_size=size), inflater(takeover=takeover)) for codec in CODECS
    ]
    for piece in cut(bytes(stream), places):
        if data.draw(st.booleans()):
            assert len({repr(decoder.next_in_pieces()) for decoder in decoders}) == 1
        outcomes = {
            repr((seen(decoder.decode(piece, 3)), decoder.more, decoder.partial, decoder.finished))
            for decoder in decoders
        }
        assert len(outcomes) == 1


def test_a_close_frame_behind_compressed_messages(codec: Codec, peer: Peer) -> None:
    peers = Deflating()
    data = b"".join(peers.frame(peer, b"%d" % i * 500) for i in range(4)) + peer.close(1000)
    assert receive(codec, peer, data)[4:] == [Close(1000, "")]
