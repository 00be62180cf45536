"""The contract between the codec in Python and the compiled one: whatever they are given, they do the same.

The other tests of the codec say what is right, and run for both; here one is the measure of the other, so that no case
has to be thought of.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.protocol.codec_kit import (
    BINARY,
    CLOSE,
    CODECS,
    COMPILED,
    CONTINUATION,
    PING,
    PLACES,
    PONG,
    TEXT,
    Codec,
    Peer,
    byte_by_byte,
    cut,
    needs_compiled,
    seen,
)
from tests.protocol.stream_kit import MASKS, streams
from trio_ws.protocol._codec import Data, Decoder
from trio_ws.protocol._limits import Limits
from trio_ws.protocol._mask import MaskPool

pytestmark = needs_compiled


@dataclass(frozen=True)
class Step:
    """One call of a decoder: bytes for it, and how many events it may return; or a question about the next message."""

    call: str
    data: Data = b""
    limit: int | None = None

    def outcome(self, decoder: Decoder) -> str:
        """Make the call, and return all that can be seen then, with its types."""
        match self.call:
            case "decode":
                arguments = [] if self.limit is None else [self.limit]
                events = decoder.decode(self.data, *arguments)
            case "next_in_pieces":
                events = decoder.next_in_pieces()
            case _:
                return repr((decoder.next_whole(), decoder.more, decoder.partial, decoder.finished))
        counts = (decoder.frames, decoder.messages, decoder.payload, decoder.pings, decoder.pongs)
        return repr((type(events), seen(events), decoder.more, decoder.partial, decoder.finished, counts))


ANY_LIMITS = st.builds(
    Limits,
    max_message_size=st.integers(0, 100) | st.sampled_from([2**20, 2**53, 2**62, 2**63 - 1, 2**63, 2**100]),
    max_fragments=st.integers(0, 5) | st.sampled_from([131072, 2**63 - 1, 2**63, 2**100]),
)
FRAME_LIMITS = st.sampled_from([None, None, None, 1, 1, 2, 3, 4096, 2**63 - 1, 0, -1])
BUFFERS: list[Callable[[bytes], Data]] = [bytes, bytes, bytearray, memoryview]


@st.composite
def changed(draw: st.DrawFn, peer: Peer) -> bytes:
    """Return frames with a few bytes changed, missing, inserted or repeated."""
    data = bytearray(draw(streams(peer)))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        behind = place + draw(st.integers(0, 12))
        match draw(st.sampled_from(["change", "insert", "delete", "repeat"])):
            case "change":
                data[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=10))
            case "delete":
                del data[place:behind]
            case _:
                data[place:place] = data[place:behind]
    return bytes(data)


@st.composite
def large(draw: st.DrawFn, peer: Peer) -> bytes:
    """Return frames whose length takes 2 or 8 bytes, without having Hypothesis draw every byte."""
    payload = draw(st.text(min_size=1, max_size=5)).encode() * draw(st.sampled_from([40, 500, 30_000]))
    payload = payload[: draw(st.integers(0, 20)) - 20]
    opcode = draw(st.sampled_from([TEXT, BINARY, CONTINUATION]))
    first = peer.frame(TEXT, "first", fin=False) if opcode == CONTINUATION else b""
    last = peer.frame(opcode, payload, fin=draw(st.booleans()), mask=draw(MASKS))
    return first + last + draw(streams(peer))


@st.composite
def runs(draw: st.DrawFn, peer: Peer) -> list[Step]:
    """Return what is done to a decoder: all that a peer can send, and all that may be asked between its bytes."""
    data = draw(streams(peer) | streams(peer) | changed(peer) | large(peer) | st.binary(max_size=200))
    pieces = cut(data, draw(PLACES))
    if len(data) < 200 and draw(st.booleans()):
        pieces = byte_by_byte(data)
    steps: list[Step] = []
    for piece in [*pieces, b"", peer.frame(PING)]:
        between = draw(st.lists(st.sampled_from(["next_in_pieces", "next_whole", "decode"]), max_size=2))
        steps += [Step(call, limit=draw(FRAME_LIMITS)) for call in between]
        steps.append(Step("decode", draw(st.sampled_from(BUFFERS))(piece), draw(FRAME_LIMITS)))
    return steps


@settings(max_examples=300)
@given(data=st.data(), limits=ANY_LIMITS)
def test_both_decoders_do_the_same(peer: Peer, data: st.DataObject, limits: Limits) -> None:
    decoders = [codec.decoder(peer, limits) for codec in CODECS]
    for step in data.draw(runs(peer)):
        outcomes = [step.outcome(decoder) for decoder in decoders]
        assert outcomes[0] == outcomes[1], step


def either(codec: Codec, name: str, *arguments: object) -> object:
    """Return what a call of one codec returns, or the error that it raises."""
    try:
        return codec.find(name)(*arguments)
    except Exception as error:  # noqa: BLE001 - whichever it is, it is compared
        return type(error)


def assert_same(name: str, *arguments: object) -> None:
    results = [either(codec, name, *arguments) for codec in CODECS]
    assert results[0] == results[1]
    assert type(results[0]) is type(results[1])


OPCODES = st.sampled_from([CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG]) | st.integers(-300, 600)
SIZES = st.integers(-300, 300) | st.integers(65_000, 66_000) | st.integers(0, 2**63 - 1)
PAYLOADS = st.binary(max_size=200) | st.sampled_from([b"x" * 65_535, b"y" * 65_536, b"z" * 70_001])


@given(opcode=OPCODES, size=SIZES, mask=st.none() | MASKS, fin=st.booleans())
@example(opcode=TEXT, size=125, mask=None, fin=True)
@example(opcode=TEXT, size=126, mask=None, fin=True)
@example(opcode=TEXT, size=65535, mask=None, fin=True)
@example(opcode=TEXT, size=65536, mask=None, fin=True)
def test_both_encode_the_same_headers(opcode: int, size: int, mask: bytes | None, fin: bool) -> None:
    assert_same("encode_header", opcode, size, mask, fin)
    assert_same("encode_header", opcode, size, mask)


@given(opcode=OPCODES, payload=PAYLOADS, mask=st.none() | MASKS, fin=st.booleans())
def test_both_encode_the_same_frames(opcode: int, payload: bytes, mask: bytes | None, fin: bool) -> None:
    assert_same("encode_frame", opcode, payload, mask, fin)
    assert_same("encode_frame", opcode, payload, mask)
    assert_same("encode_chunks", opcode, payload, mask, fin)


@given(
    start=st.text(st.characters(), max_size=10),  # with surrogates, which have no UTF-8
    size=st.sampled_from([0, 1, 125, 126, 16_383, 16_384, 65_535, 65_536, 65_537, 200_000]),
    character=st.sampled_from("aé€𝄞"),
    masks=st.none() | MASKS,
)
def test_both_encode_the_same_texts(start: str, size: int, character: str, masks: bytes | None) -> None:
    text = start + character * (size - len(start))
    assert_same("encode_payload", text)
    assert_same(
        "encode_message", text, None if masks is None else MaskPool(lambda asked: masks * (asked // 4))
    )


#: What may be given as a message besides text, and some that may not.
MESSAGES: dict[str, Callable[[bytes], object]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "view": memoryview,
    "part of a view": lambda data: memoryview(data)[1:],
    "gaps": lambda data: memoryview(data)[::2],
    "words": lambda data: array("H", data * 2),
    "list": list,
    "number": len,
    "nothing": lambda _: None,
}


@given(payload=PAYLOADS, masks=st.none() | MASKS)
@pytest.mark.parametrize("make", MESSAGES.values(), ids=list(MESSAGES))
def test_both_encode_the_same_buffers(
    make: Callable[[bytes], object], payload: bytes, masks: bytes | None
) -> None:
    buffer = make(payload)
    assert_same("encode_payload", buffer)
    assert_same(
        "encode_message", buffer, None if masks is None else MaskPool(lambda asked: masks * (asked // 4))
    )


# What no type checker would let pass


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("encode_frame", (None, b"payload", None)),
        ("encode_frame", ("1", b"payload", None)),
        ("encode_frame", (TEXT, None, None)),
        ("encode_frame", (TEXT, "payload", None)),
        ("encode_frame", (TEXT, 5, None)),
        ("encode_frame", (TEXT, b"payload", "mask")),
        ("encode_frame", (TEXT, b"payload", 5)),
        ("encode_frame", (TEXT, b"payload")),
        ("encode_chunks", (TEXT, None, None, True)),
        ("encode_chunks", (TEXT, "payload", None, True)),
        ("encode_chunks", (TEXT, b"payload", "mask", True)),
        ("encode_payload", (None,)),
        ("encode_payload", (5,)),
        ("encode_message", (None, None)),
        ("encode_message", (["text"], None)),
        ("encode_header", (None, 5, None)),
        ("encode_header", (TEXT, None, None)),
        ("encode_header", (TEXT, "5", None)),
        ("encode_header", (TEXT, b"5", None)),
        ("encode_header", (TEXT, 5.0, None)),
        ("encode_header", (TEXT, 5, "mask")),
        ("encode_header", (TEXT, 5, 5)),
        ("Decoder", ()),
        ("Decoder", (True, Limits())),
    ],
    ids=str,
)
def test_wrong_types_are_type_errors_in_both(name: str, arguments: tuple[object, ...]) -> None:
    assert [either(codec, name, *arguments) for codec in CODECS] == [TypeError, TypeError]


@pytest.mark.parametrize("wrong", [(None,), ("text",), (1.5,), (object(),), (b"", None), (b"", "1")], ids=str)
@pytest.mark.parametrize("held", [0, 1, 8], ids=["nothing held", "half a header held", "half a message held"])
def test_a_wrong_type_leaves_a_decoder_as_it_was(
    codec: Codec, peer: Peer, held: int, wrong: tuple[Any, ...]
) -> None:
    decoder = codec.decoder(peer)
    data = peer.frame(TEXT, "a message")
    assert decoder.decode(data[:held]) == []
    with pytest.raises(TypeError):
        decoder.decode(*wrong)
    assert decoder.decode(data[held:]) == ["a message"]


JUNK = st.sampled_from(
    [
        None,
        -1,
        5,
        2**31,
        2**63,
        2**100,
        1.5,
        "text",
        b"",
        b"1",
        b"1234",
        b"12345",
        b"\x81\x05a",
        bytearray(b"1234"),
        memoryview(b"1234"),
        [],
        [300],
        object(),
        Limits(),
    ]
)


@settings(max_examples=1000)
@given(
    name=st.sampled_from(
        [
            "encode_frame",
            "encode_header",
            "encode_chunks",
            "encode_payload",
            "encode_message",
            "apply_mask",
            "append_masked",
            "Decoder",
        ]
    ),
    arguments=st.lists(JUNK, max_size=6),
)
def test_no_arguments_bring_the_process_down(name: str, arguments: list[object]) -> None:
    try:
        result = COMPILED.find(name)(*arguments)
    except (TypeError, ValueError, OverflowError, AttributeError, struct.error):
        return
    # who returns at all has taken them for what they are
    assert type(result) in {bytes, tuple} or (name, result) == ("append_masked", None)


@given(masked=JUNK, size=JUNK, calls=st.lists(st.tuples(JUNK, JUNK), max_size=4))
def test_no_decoder_brings_the_process_down(masked: Any, size: Any, calls: list[tuple[Any, Any]]) -> None:
    limits = Limits(max_message_size=size, max_fragments=size)
    try:
        decoder: Decoder = COMPILED.find("Decoder")(masked=masked, limits=limits)
    except TypeError:
        decoder = COMPILED.find("Decoder")(masked=masked, limits=Limits())
    for data, limit in calls:
        if data in (2**31, 2**63):
            continue  # as many zero bytes: they exist, or not, by the machine's memory
        with suppress(TypeError, ValueError, OverflowError):
            assert type(decoder.decode(data, limit)) is list
        assert type(decoder.next_in_pieces()) is list
        assert decoder.partial >= 0
