"""What is compiled checks no bounds by itself: sizes, places and buffers that would lead it out of its memory lead nowhere."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.protocol.codec_kit import (
    BINARY,
    CONTINUATION,
    MASK_KEY,
    PING,
    TEXT,
    Codec,
    Peer,
    Violation,
    feed,
    xor,
)
from trio_ws.protocol._limits import Limits

SSIZE_MAX = sys.maxsize


@pytest.mark.parametrize("mask", [None, MASK_KEY], ids=["no mask", "mask"])
@pytest.mark.parametrize("opcode", [CONTINUATION, TEXT, BINARY, PING])
@pytest.mark.parametrize("size", [-1, -128, -257, -513, -100_000, -(10**9), -SSIZE_MAX - 1])
def test_a_size_below_zero_is_refused_and_nothing_is_looked_up_by_it(
    codec: Codec, size: int, opcode: int, mask: bytes | None
) -> None:
    with pytest.raises(OverflowError):
        codec.encode_header(opcode, size, mask)


@pytest.mark.parametrize("size", [2**31, 2**32 + 5, 2**53 + 5, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 5])
@pytest.mark.parametrize("limit", [2**20, 2**53, 2**63 - 1, 2**63, 2**100])
def test_no_announced_length_wraps_around(codec: Codec, peer: Peer, size: int, limit: int) -> None:
    # as a first frame and as a continuation, where it is added to what was announced before
    limits = Limits(max_message_size=limit)
    for before in (b"", peer.frame(BINARY, b"before", fin=False)):
        header = peer.header(CONTINUATION if before else BINARY, size)
        decoder = codec.decoder(peer, limits)
        events = feed(decoder, [before + header, b"12345"])
        held = len(b"before") if before else 0
        if size + held <= min(limit, 2**53 - 1):
            assert events == []
            assert decoder.partial == held + 5
        else:
            assert [type(event) for event in events] == [Violation]
            assert decoder.partial == 0


def test_what_is_expected_and_never_comes_takes_no_room(codec: Codec) -> None:
    target = bytearray()
    codec.kernel.append_masked(target, b"12345", MASK_KEY, 0, 5, SSIZE_MAX)
    assert sys.getsizeof(target) < 200
    assert target == xor(b"12345", MASK_KEY)


@pytest.mark.parametrize("size", [5, 1000])
def test_a_target_that_is_being_looked_at_stays_as_it_is(codec: Codec, size: int) -> None:
    # to make it larger would move it away from under whoever looks
    target = bytearray(b"content")
    with memoryview(target) as view:
        with pytest.raises(BufferError):
            codec.kernel.append_masked(target, bytes(size), MASK_KEY, 0, size, 10_000)
        codec.kernel.append_masked(target, bytes(size), MASK_KEY, 3, 3, 10_000)
        assert bytes(view) == b"content"
    codec.kernel.append_masked(target, bytes(2), MASK_KEY, 0, 2)
    assert target == b"content" + MASK_KEY[:2]


def released(data: bytes) -> memoryview:
    view = memoryview(data)
    view.release()
    return view


#: Buffers of which nothing, or something else than their bytes in order, could be read without a look at their layout.
ODD_BUFFERS: dict[str, tuple[Callable[[bytes], memoryview], type[Exception] | None]] = {
    "released": (released, ValueError),
    "gaps": (lambda data: memoryview(bytes(byte for byte in data for _ in range(2)))[::2], TypeError),
    "backwards": (lambda data: memoryview(data[::-1])[::-1], TypeError),
    "words": (lambda data: memoryview(data).cast("H"), None),
    "two dimensions": (lambda data: memoryview(data).cast("B", (len(data) // 2, 2)), None),
}


@pytest.mark.parametrize(("make", "error"), ODD_BUFFERS.values(), ids=list(ODD_BUFFERS))
@pytest.mark.parametrize("held", [0, 1, 8], ids=["nothing held", "half a header held", "half a message held"])
def test_an_odd_buffer_is_read_by_its_layout_or_refused(
    codec: Codec, peer: Peer, held: int, make: Callable[[bytes], memoryview], error: type[Exception] | None
) -> None:
    frames = [peer.frame(TEXT, "a message"), peer.frame(TEXT, "a message!")]
    [frame] = [each for each in frames if (len(each) - held) % 2 == 0]
    decoder = codec.decoder(peer)
    decoder.decode(frame[:held])
    try:
        events = decoder.decode(make(frame[held:]))
    except (TypeError, ValueError) as refused:
        assert type(refused) is error  # noqa: PT017 - for some it is an error only where something is held
        events = decoder.decode(frame[held:])  # it has lost nothing
    assert events == feed(codec.decoder(peer), [frame])


def test_a_buffer_that_changes_after_the_call_changes_nothing(codec: Codec, peer: Peer) -> None:
    frame = peer.frame(TEXT, "a message") + peer.frame(BINARY, b"another")
    decoder = codec.decoder(peer)
    buffer = bytearray(frame[:-3])
    events = decoder.decode(buffer, 1)  # which leaves most of it for the next call
    buffer[:] = bytes(len(buffer))
    del buffer[5:]
    events += decoder.decode(b"")
    events += decoder.decode(frame[-3:])
    assert events == ["a message", b"another"]


def test_a_decoder_that_is_called_from_within_a_call_stays_within_its_memory(
    codec: Codec, peer: Peer
) -> None:
    frame = peer.frame(TEXT, "a message")
    decoder = codec.decoder(peer)
    decoder.decode(frame[:1])

    class Calling(bytearray):
        def __len__(self) -> int:
            decoder.decode(b"\xff" * 50)
            return super().__len__()

    # which bytes come first is nobody's business; that it ends in events is
    events = decoder.decode(Calling(frame[1:]))
    assert all(isinstance(event, str | Exception) for event in events)
