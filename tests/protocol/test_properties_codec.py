"""For any bytes in any pieces: what they mean depends on the bytes alone, and is what the model says."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.protocol.codec_kit import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PLACES,
    PONG,
    TEXT,
    Codec,
    Meaning,
    Peer,
    Seen,
    Violation,
    byte_by_byte,
    cut,
    feed,
    meaning,
)
from tests.protocol.stream_kit import LIMITS, MASKS, streams
from trio_ws.protocol._errors import ERRORS, REASONS
from trio_ws.protocol._events import Close, Fragment, Ping, Pong
from trio_ws.protocol._limits import Limits

MESSAGES = st.text(max_size=40) | st.binary(max_size=60)


@st.composite
def long_texts(draw: st.DrawFn) -> str:
    """Return texts of more than 125 bytes, some of more than 65535, without having Hypothesis draw every character."""
    return draw(st.text(min_size=1, max_size=3)) * draw(st.sampled_from([50, 70, 130, 30_000]))


@st.composite
def control_frames(draw: st.DrawFn) -> Ping | Pong:
    payload = draw(st.binary(max_size=125))
    return Ping(payload) if draw(st.booleans()) else Pong(payload)


# Round trips


@st.composite
def conversations(draw: st.DrawFn, codec: Codec, peer: Peer) -> tuple[bytes, list[Seen]]:
    """Return frames of messages in any fragments, control frames anywhere between, and what they mean."""

    def mask() -> bytes | None:
        return draw(MASKS) if peer.masked else None

    data = b""
    expected: list[Seen] = []
    for message in draw(st.lists(MESSAGES | long_texts(), max_size=5)):
        payload = message.encode() if isinstance(message, str) else message
        opcode = TEXT if isinstance(message, str) else BINARY
        places = [0, *sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4))), len(payload)]
        for start, stop in pairwise(places):
            for control in draw(st.lists(control_frames(), max_size=2)):
                kind = PING if isinstance(control, Ping) else PONG
                data += codec.encode_frame(kind, control.payload, mask())
                expected.append(control)
            final = stop == len(payload)
            data += codec.encode_frame(opcode, payload[start:stop], mask(), final)
            opcode = CONTINUATION
            if final:
                break
        expected.append(message)
    return data, expected


@given(data=st.data(), places=PLACES, limit=st.sampled_from([1, 2, 4096]))
def test_what_is_encoded_is_decoded(
    codec: Codec, peer: Peer, data: st.DataObject, places: set[int], limit: int
) -> None:
    stream, expected = data.draw(conversations(codec, peer))
    assert feed(codec.decoder(peer), [stream], limit) == expected
    assert feed(codec.decoder(peer), cut(stream, places), limit) == expected


@given(data=st.data(), places=PLACES)
def test_in_pieces_it_is_the_same_messages(
    codec: Codec, peer: Peer, data: st.DataObject, places: set[int]
) -> None:
    stream, expected = data.draw(conversations(codec, peer))
    decoder = codec.decoder(peer)
    events: list[Seen] = []
    for part in cut(stream, places):
        for byte in byte_by_byte(part) if data.draw(st.booleans()) and len(part) < 100 else [part]:
            if data.draw(st.booleans()):
                events += [event for event in decoder.next_in_pieces() if isinstance(event, Fragment)]
            elif data.draw(st.booleans()):
                decoder.next_whole()
            events += feed(decoder, [byte])
    assert joined(events) == expected


def joined(events: list[Seen]) -> list[Seen]:
    """Return events with the pieces of each message put together where its last piece is."""
    result: list[Seen] = []
    pieces: list[str | bytes] = []
    for event in events:
        if not isinstance(event, Fragment):
            result.append(event)
            continue
        assert event.data or event.final
        pieces.append(event.data)
        if event.final:
            texts = [piece for piece in pieces if isinstance(piece, str)]
            binaries = [piece for piece in pieces if isinstance(piece, bytes)]
            assert not (texts and binaries)
            result.append("".join(texts) if texts else b"".join(binaries))
            pieces = []
    assert not pieces
    return result


# Against the model


def assert_means(
    codec: Codec, peer: Peer, limits: Limits, data: bytes, pieces: list[bytes], limit: int
) -> Meaning:
    """Assert that `pieces`, and the whole they make, mean what the model says, down to the byte that is certain."""
    model = meaning(data, peer, limits)
    events = feed(codec.decoder(peer, limits), [data])
    violations = [event for event in events if isinstance(event, Violation)]
    assert [event for event in events if not isinstance(event, Violation)] == model.events
    if model.violation is None:
        assert not violations
    else:
        (violation,) = violations
        assert events[-1] is violation
        assert violation.code == model.violation
        assert violation.close_code == ERRORS[model.violation][0]
        # one byte earlier there was none
        assert feed(codec.decoder(peer, limits), [data[: model.certain_after - 1]]) == model.events
        assert feed(codec.decoder(peer, limits), [data[: model.certain_after]]) == events
    # in pieces it is the same, to the word
    decoder = codec.decoder(peer, limits)
    assert feed(decoder, pieces, limit) == events
    # and after the end there is nothing
    if events and isinstance(events[-1], Violation | Close):
        assert feed(decoder, [peer.frame(PING), b"\xff" * 20]) == []
        assert decoder.partial == 0
        assert not decoder.more
    return model


@settings(max_examples=300)  # the widest test there is: faults in every situation
@given(data=st.data(), limits=LIMITS, places=PLACES, limit=st.sampled_from([1, 2, 3, 4096]))
def test_frames_mean_what_the_model_says(
    codec: Codec, peer: Peer, data: st.DataObject, limits: Limits, places: set[int], limit: int
) -> None:
    stream = data.draw(streams(peer))
    assert_means(codec, peer, limits, stream, cut(stream, places), limit)
    assert_means(codec, peer, limits, stream, byte_by_byte(stream), limit)


@given(data=st.binary(max_size=200), limits=LIMITS, places=PLACES)
@example(data=b"", limits=Limits(), places=set())
def test_garbage_means_events_or_one_violation(
    codec: Codec, peer: Peer, data: bytes, limits: Limits, places: set[int]
) -> None:
    assert_means(codec, peer, limits, data, cut(data, places), 4096)


@given(data=st.data(), position=st.integers(0, 200), bit=st.integers(0, 7), places=PLACES)
def test_one_flipped_bit_means_what_the_model_says(
    codec: Codec, peer: Peer, data: st.DataObject, position: int, bit: int, places: set[int]
) -> None:
    stream, _ = data.draw(conversations(codec, peer))
    if stream:
        changed = bytearray(stream[:1000])
        changed[position % len(changed)] ^= 1 << bit
        assert_means(codec, peer, Limits(), bytes(changed), cut(bytes(changed), places), 4096)


@pytest.mark.parametrize(
    "code", sorted(ERRORS.keys() - {"WS_ERR_INVALID_HANDSHAKE", "WS_ERR_INVALID_COMPRESSED_DATA", *REASONS})
)
def test_the_model_knows_every_rule(code: str) -> None:
    """A model that never found fault would agree with a decoder that does not either."""
    client, server = Peer(masked=True), Peer(masked=False)
    examples = {
        "WS_ERR_EXPECTED_FIN": (server.start(PING, fin=False), server),
        "WS_ERR_EXPECTED_MASK": (server.start(PING), client),
        "WS_ERR_UNEXPECTED_MASK": (client.start(PING), server),
        "WS_ERR_INVALID_CLOSE_CODE": (server.close(1005), server),
        "WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH": (server.start(CLOSE, 1), server),
        "WS_ERR_INVALID_OPCODE": (server.start(3), server),
        "WS_ERR_INVALID_UTF8": (server.frame(TEXT, b"\xff"), server),
        "WS_ERR_NON_MINIMAL_LENGTH": (server.start(TEXT, 1, width=2), server),
        "WS_ERR_UNEXPECTED_RSV_1": (server.start(TEXT, rsv=0x40), server),
        "WS_ERR_UNEXPECTED_RSV_2_3": (server.start(TEXT, rsv=0x10), server),
        "WS_ERR_TOO_MANY_BUFFERED_PARTS": (server.header(TEXT, fin=False), server),
        "WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH": (server.start(TEXT, 2**53), server),
        "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH": (server.start(TEXT, 2**20 + 1), server),
    }
    data, peer = examples[code]
    assert meaning(data, peer, Limits(max_fragments=0)) == Meaning([], code, len(data))
