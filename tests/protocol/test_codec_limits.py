"""What a peer can make the decoder hold and do: sizes, fragments, events, memory and work."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.protocol.codec_kit import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    PYTHON,
    TEXT,
    Codec,
    Peer,
    Seen,
    Violation,
    byte_by_byte,
    check,
    feed,
    seen,
)
from trio_ws.protocol._codec import Decoder
from trio_ws.protocol._errors import RemoteProtocolError
from trio_ws.protocol._events import Close, Ping, Pong
from trio_ws.protocol._limits import Limits

TOO_LARGE = Violation("WS_ERR_UNSUPPORTED_MESSAGE_LENGTH", 1009)
TOO_MANY = Violation("WS_ERR_TOO_MANY_BUFFERED_PARTS", 1008)


# Size of a message


def test_what_is_allowed_unless_asked_for() -> None:
    assert Limits() == Limits(
        max_message_size=1048576,
        max_fragments=131072,
        max_headers=100,
        max_header_line=8192,
        max_head=32768,
        max_response_body=65536,
    )


def test_the_default_limit_to_the_byte(codec: Codec, peer: Peer) -> None:
    decoder = codec.decoder(peer)
    assert feed(decoder, [peer.frame(BINARY, bytes(2**20))]) == [bytes(2**20)]
    (violation,) = feed(decoder, [peer.start(BINARY, 2**20 + 1)])
    assert violation == Violation(
        TOO_LARGE.code, 1009, "message larger than max_message_size (1048577 bytes, 1048576 are allowed)"
    )


@pytest.mark.parametrize("limit", [0, 1, 125, 126, 1000])
def test_one_frame_at_the_limit_and_over_it(codec: Codec, peer: Peer, limit: int) -> None:
    limits = Limits(max_message_size=limit)
    for opcode in (TEXT, BINARY):
        payload = "x" * limit
        message = payload if opcode == TEXT else payload.encode()
        check(codec, peer, peer.frame(opcode, payload) * 2, message, message, limits=limits)
        check(codec, peer, peer.start(opcode, limit + 1), TOO_LARGE, limits=limits)
        check(codec, peer, peer.start(opcode, limit + 1, fin=False), TOO_LARGE, limits=limits)


@pytest.mark.parametrize(
    "sizes", [[10, 0], [0, 10], [4, 6], [5, 0, 4, 1], [1] * 10, [0, 0, 10, 0, 0]], ids=str
)
def test_fragments_are_added_up_to_the_byte(codec: Codec, peer: Peer, sizes: list[int]) -> None:
    limits = Limits(max_message_size=10)
    opcodes = [TEXT, *[CONTINUATION] * (len(sizes) - 1)]
    data = b"".join(
        peer.frame(opcode, "x" * size, fin=False) + peer.frame(PING, "not counted")
        for opcode, size in zip(opcodes, sizes, strict=True)
    )
    pings = [Ping(b"not counted")] * len(sizes)
    check(codec, peer, data + peer.frame(CONTINUATION), *pings, "x" * 10, limits=limits)
    check(codec, peer, data + peer.start(CONTINUATION, 1), *pings, TOO_LARGE, limits=limits)
    check(codec, peer, data + peer.start(CONTINUATION, 126), *pings, TOO_LARGE, limits=limits)


def test_bytes_are_counted_not_characters(codec: Codec, peer: Peer) -> None:
    limits = Limits(max_message_size=6)
    check(codec, peer, peer.frame(TEXT, "€€"), "€€", limits=limits)
    check(codec, peer, peer.start(TEXT, len("€€a".encode())), TOO_LARGE, limits=limits)


def test_every_message_is_counted_anew(codec: Codec, peer: Peer) -> None:
    limits = Limits(max_message_size=10, max_fragments=3)
    fragmented = (
        peer.frame(TEXT, "aaaa", fin=False)
        + peer.frame(PING)
        + peer.frame(CONTINUATION, "bbbb", fin=False)
        + peer.frame(CONTINUATION, "cc")
    )
    whole = peer.frame(BINARY, b"x" * 10)
    expected: list[Seen] = [Ping(b""), "aaaabbbbcc", b"x" * 10]
    check(codec, peer, (fragmented + whole) * 20, *expected * 20, limits=limits)


def test_control_frames_are_not_counted(codec: Codec, peer: Peer) -> None:
    limits = Limits(max_message_size=0, max_fragments=0)
    data = peer.frame(PING, "x" * 125) + peer.frame(PONG, "y" * 125) + peer.close(1000, "z" * 123)
    expected: list[Seen] = [Ping(b"x" * 125), Pong(b"y" * 125), Close(1000, "z" * 123)]
    check(codec, peer, data, *expected, limits=limits)


# Number of fragments


@pytest.mark.parametrize("payload", ["", "x"])
@pytest.mark.parametrize("allowed", [1, 2, 3, 10])
def test_fragments_at_the_limit_and_over_it(codec: Codec, peer: Peer, allowed: int, payload: str) -> None:
    limits = Limits(max_fragments=allowed)
    middle = peer.frame(CONTINUATION, payload, fin=False) + peer.frame(PING)
    # `allowed` frames in all: the first, those in the middle, and where there is room a last one
    begun = peer.frame(TEXT, payload, fin=False) + middle * (allowed - 2)
    pings: list[Seen] = [Ping(b"")] * max(allowed - 2, 0)
    if allowed > 1:
        complete = begun + peer.frame(CONTINUATION, payload)
        expected: list[Seen] = [*pings, payload * allowed]
        check(codec, peer, complete * 3, *expected * 3, limits=limits)
        begun += middle
        pings += [Ping(b"")]
    for fin in (False, True):
        check(
            codec,
            peer,
            begun + peer.header(CONTINUATION, len(payload), fin=fin),
            *pings,
            TOO_MANY,
            limits=limits,
        )


@pytest.mark.parametrize("allowed", [0, 1, 3])
def test_messages_of_one_frame_are_never_too_many(codec: Codec, peer: Peer, allowed: int) -> None:
    # A count that is never reset would end long-lived connections.
    limits = Limits(max_fragments=allowed)
    data = peer.frame(TEXT, "ab")
    for pieces in ([data], byte_by_byte(data)):
        decoder = codec.decoder(peer, limits)
        for _ in range(500):
            assert feed(decoder, pieces) == ["ab"]
    decoder = codec.decoder(peer, limits)
    assert feed(decoder, [data * 20_000]) == ["ab"] * 20_000


def test_no_fragmented_message_can_be_asked_for(codec: Codec, peer: Peer) -> None:
    limits = Limits(max_fragments=0)
    check(codec, peer, peer.header(TEXT, fin=False), TOO_MANY, limits=limits)
    check(codec, peer, peer.header(BINARY, 1000, fin=False), TOO_MANY, limits=limits)


# Number of frames


def test_thousands_of_frames_in_one_buffer(codec: Codec, peer: Peer) -> None:
    frames = (
        peer.frame(TEXT, "a") + peer.frame(PING) + peer.frame(BINARY, fin=False) + peer.frame(CONTINUATION)
    )
    decoder = codec.decoder(peer)
    assert feed(decoder, [frames * 10_000]) == ["a", Ping(b""), b""] * 10_000
    assert not decoder.more


def decode(decoder: Decoder, data: bytes, limit: int) -> tuple[list[Seen], bool]:
    """Return the events of one call, and whether it left more."""
    return seen(decoder.decode(data, limit)), decoder.more


def test_one_call_decodes_256_frames_at_most(codec: Codec, peer: Peer) -> None:
    decoder = codec.decoder(peer)
    data = [peer.frame(TEXT) * 256, peer.frame(TEXT) * 600, b"", b"", b""]
    calls = [(len(decoder.decode(piece)), decoder.more) for piece in data]
    assert calls == [(256, False), (256, True), (256, True), (600 - 2 * 256, False), (0, False)]


@pytest.mark.parametrize("payload", [b"", b"x"])
@pytest.mark.parametrize("limit", [1, 3, 256])
def test_frames_that_complete_nothing_count_too(codec: Codec, peer: Peer, payload: bytes, limit: int) -> None:
    decoder = codec.decoder(peer)
    frame = peer.frame(CONTINUATION, payload, fin=False)
    data = peer.frame(BINARY, payload, fin=False) + frame * (10 * limit - 2) + peer.frame(CONTINUATION)
    for call in range(1, 10):
        assert decode(decoder, data, limit) == ([], True)
        assert decoder.frames == call * limit
        data = b""
    assert decode(decoder, data, limit) == ([payload * (10 * limit - 1)], False)


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_the_rest_stays_in_order_and_new_bytes_go_behind_it(codec: Codec, peer: Peer, limit: int) -> None:
    first = peer.frame(TEXT, "1") + peer.frame(PING, b"2") + peer.frame(TEXT, "3", fin=False)
    second = peer.frame(PONG, b"4") + peer.frame(CONTINUATION, "5") + peer.frame(BINARY, b"6")
    end = peer.close(1000)
    expected = ["1", Ping(b"2"), Pong(b"4"), "35", b"6", Close(1000, "")]
    for data in (first + second + end, first + second + end + b"ignored"):
        for place in range(len(data)):
            decoder = codec.decoder(peer)
            assert feed(decoder, [data[:place], data[place:]], limit) == expected
            decoder = codec.decoder(peer)
            events = decoder.decode(data[:place], limit)
            assert len(events) <= limit
            assert [*seen(events), *feed(decoder, [data[place:]], limit)] == expected
            assert not decoder.more


def test_more_means_that_a_limit_left_bytes(codec: Codec, peer: Peer) -> None:
    decoder = codec.decoder(peer)
    frame = peer.frame(TEXT, "a")
    assert decode(decoder, frame + frame, 1) == (["a"], True)
    assert decode(decoder, b"", 1) == (["a"], False)
    assert decode(decoder, frame[:-1], 1) == ([], False)  # bytes are left, but no limit held them back
    assert decode(decoder, frame[-1:], 1) == (["a"], False)


@pytest.mark.parametrize("last", ["close", "violation"])
def test_the_end_waits_its_turn_behind_the_limit(codec: Codec, peer: Peer, last: str) -> None:
    end = peer.close(1000) if last == "close" else b"\xff\xff"
    decoder = codec.decoder(peer)
    data = peer.frame(TEXT, "a") * 2 + end + peer.frame(TEXT, "b")
    assert decode(decoder, data, 2) == (["a", "a"], True)
    (event,), more = decode(decoder, b"", 2)
    assert isinstance(event, Close if last == "close" else Violation)
    assert not more
    assert decode(decoder, b"", 2) == ([], False)


@pytest.mark.parametrize("last", ["close", "violation"])
def test_the_end_may_be_the_last_event_that_is_allowed(codec: Codec, peer: Peer, last: str) -> None:
    end = peer.close(1000) if last == "close" else b"\xff\xff"
    events, more = decode(codec.decoder(peer), peer.frame(TEXT, "a") + end + b"junk", 2)
    assert len(events) == 2
    assert not more


# Memory: what is announced costs nothing, what has come costs what it is, what is over costs nothing


@contextmanager
def memory() -> Generator[Callable[[], tuple[int, int]]]:
    """Give a function that returns the bytes that are allocated now, and were at most, since the block began."""
    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()

        def measure() -> tuple[int, int]:
            now, peak = tracemalloc.get_traced_memory()
            return now - start, peak - start

        yield measure
    finally:
        tracemalloc.stop()


KIB = 1024


def test_a_gigabyte_is_refused_by_its_header_alone(codec: Codec, peer: Peer) -> None:
    decoder = codec.decoder(peer)
    start = peer.start(BINARY, 2**30)
    with memory() as measure:
        assert decoder.decode(start[:-1]) == []
        (violation,) = decoder.decode(start[-1:])
        assert measure()[1] < 16 * KIB
    assert str(violation).startswith("message larger than max_message_size")


def test_an_unknown_opcode_with_a_gigabyte_is_refused_by_its_first_bytes(codec: Codec, peer: Peer) -> None:
    check(codec, peer, peer.start(5, 2**30)[:2], Violation("WS_ERR_INVALID_OPCODE", 1002))


@pytest.mark.parametrize("opcode", [BINARY, TEXT])
def test_what_is_announced_costs_nothing_until_it_comes(codec: Codec, peer: Peer, opcode: int) -> None:
    decoder = codec.decoder(peer, Limits(max_message_size=2**30))
    chunk = bytes(4 * KIB)
    with memory() as measure:
        assert decoder.decode(peer.header(opcode, 64 * 2**20, mask=bytes(4))) == []
        assert measure()[1] < 16 * KIB
        for count in range(1, 65):
            assert decoder.decode(chunk) == []
            assert decoder.partial == count * len(chunk)
        now, peak = measure()
    assert now < 256 * KIB * 1.5
    assert peak < 256 * KIB * 2.5  # while the buffer grows there are two of it


@pytest.mark.parametrize("payload", [b"", b"x"], ids=["empty", "one byte"])
@pytest.mark.parametrize("opcode", [BINARY, TEXT])
def test_fragments_cost_their_bytes_and_nothing_each(
    codec: Codec, peer: Peer, opcode: int, payload: bytes
) -> None:
    decoder = codec.decoder(peer)
    frame = peer.frame(CONTINUATION, payload, fin=False)
    chunk = frame * 200
    with memory() as measure:
        assert decoder.decode(peer.frame(opcode, payload, fin=False)) == []
        for _ in range(100):
            assert decoder.decode(chunk) == []
        now, peak = measure()
    assert decoder.partial == 20_001 * len(payload)
    assert now < 20_001 * len(payload) * 1.5 + 4 * KIB
    assert peak < 20_001 * len(payload) * 2.5 + 16 * KIB


@pytest.mark.parametrize("opcode", [BINARY, TEXT])
def test_no_frame_has_the_rest_of_its_buffer_copied(codec: Codec, peer: Peer, opcode: int) -> None:
    # else the work for a buffer would grow with the square of the frames in it
    decoder = codec.decoder(peer)
    frame = peer.frame(CONTINUATION, b"x", fin=False)
    data = peer.frame(opcode, b"x", fin=False) + frame * 10_000 + peer.frame(PING, b"x")
    assert len(data) > 30_000
    with memory() as measure:
        assert len(decoder.decode(data, 20_000)) == 1
        assert measure()[1] < 26 * KIB  # the message so far, twice while it grows


def test_an_incomplete_control_frame_is_all_that_is_held_of_it(codec: Codec, peer: Peer) -> None:
    decoder = codec.decoder(peer)
    frame = peer.frame(PING, b"x" * 125)
    chunk = frame * 250 + frame[:-1]  # what is cut off is kept, what it was cut from is not
    with memory() as measure:
        assert len(decoder.decode(chunk)) == 250
        assert measure()[0] < 4 * KIB
    assert feed(decoder, [frame[-1:]]) == [Ping(b"x" * 125)]


@pytest.mark.parametrize("how", ["complete", "close frame", "violation"])
def test_what_is_over_is_let_go(codec: Codec, peer: Peer, how: str) -> None:
    decoder = codec.decoder(peer)
    payload = "x" * 500_000
    end = {"complete": peer.frame(CONTINUATION), "close frame": peer.close(1000), "violation": b"\xff\xff"}[
        how
    ]
    begin = peer.frame(TEXT, payload, fin=False)
    with memory() as measure:
        assert decoder.decode(begin) == []
        assert decoder.partial == 500_000
        assert measure()[0] > 400_000
        assert len(decoder.decode(end)) == 1
        assert measure()[0] < 4 * KIB
    assert decoder.partial == 0


@pytest.mark.parametrize("how", ["text", "text not final", "reason", "header"])
def test_a_violation_keeps_nothing_alive(codec: Codec, peer: Peer, how: str) -> None:
    before = peer.frame(BINARY, bytes(500_000))
    data = (
        before
        + {
            "text": peer.frame(TEXT, b"x" * 500_000 + b"\xff"),
            "text not final": peer.frame(TEXT, b"x" * 500_000 + b"\xff", fin=False),
            "reason": peer.close(1000, b"\xff"),
            "header": b"\xff\xff",
        }[how]
    )
    decoder = codec.decoder(peer)
    gc.disable()  # a cycle would be collected some day, but until then it is memory that a peer has taken
    try:
        with memory() as measure:
            events = decoder.decode(data)
            del events[0]
            assert measure()[0] < 16 * KIB
        (violation,) = events
        assert isinstance(violation, RemoteProtocolError)
        assert violation.__context__ is None
        alive = weakref.ref(violation)
        del violation, events
        assert alive() is None
    finally:
        gc.enable()


# Work


def test_every_byte_is_unmasked_once_and_validated_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    # A peer chooses how its bytes are cut: were the work done again from the start of the message for each piece, one
    # message in pieces of one byte would keep a processor busy for minutes. Bytes are counted, not seconds; that is
    # possible in Python only, where calls can be intercepted, and the compiled codec is the same source.
    counted = {"apply_mask": 0, "append_masked": 0, "_utf_8_decode": 0}

    def count(name: str, size: Callable[[tuple[Any, ...]], int]) -> None:
        original: Callable[..., Any] = getattr(PYTHON.module, name)

        def counting(*arguments: Any) -> Any:
            counted[name] += size(arguments)
            return original(*arguments)

        monkeypatch.setattr(PYTHON.module, name, counting)

    count("apply_mask", lambda arguments: arguments[-1] - arguments[-2])  # up to which byte, and from which
    count("append_masked", lambda arguments: arguments[4] - arguments[3])
    count("_utf_8_decode", lambda arguments: len(arguments[0]))
    peer = Peer(masked=True)
    text = "aé€𝄞" * 500
    frame = peer.frame(TEXT, text)
    assert feed(PYTHON.decoder(peer), byte_by_byte(frame)) == [text]
    size = len(text.encode())
    assert counted["apply_mask"] + counted["append_masked"] == size
    # each character is looked at again with each of its four bytes at most: 1, then 1 + 2, 1 + 2 + 3, ...
    assert size <= counted["_utf_8_decode"] <= 4 * size
