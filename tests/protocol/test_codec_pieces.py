"""A message received in pieces: what has come of it, as it comes, cut at characters where it is text."""

from __future__ import annotations

import pytest

from tests.protocol.codec_kit import (
    BINARY,
    CONTINUATION,
    PING,
    TEXT,
    Codec,
    Peer,
    Violation,
    byte_by_byte,
    feed,
    seen,
    without_text,
)
from trio_ws.protocol._codec import Decoder
from trio_ws.protocol._events import Close, Event, Fragment, Ping
from trio_ws.protocol._limits import Limits

INVALID = Violation("WS_ERR_INVALID_UTF8", 1007)


def asked(codec: Codec, peer: Peer, limits: Limits = Limits()) -> Decoder:
    """Return a decoder whose next message comes in pieces."""
    decoder = codec.decoder(peer, limits)
    assert decoder.next_in_pieces() == []
    return decoder


def test_a_message_that_is_all_there_is_one_piece(codec: Codec, peer: Peer) -> None:
    decoder = asked(codec, peer)
    data = peer.frame(BINARY, b"first") + peer.frame(BINARY, b"second")
    # only the next message was asked for in pieces
    assert feed(decoder, [data]) == [Fragment(b"first", True), b"second"]
    assert decoder.next_in_pieces() == []
    assert feed(decoder, [peer.frame(TEXT, "third") + peer.frame(TEXT, "fourth")]) == [
        Fragment("third", True),
        "fourth",
    ]


def test_pieces_are_what_has_come_not_what_the_peer_calls_fragments(codec: Codec, peer: Peer) -> None:
    data = peer.header(BINARY, 6, fin=False, mask=bytes(4)) + b"abcdef" + peer.frame(CONTINUATION, b"gh")
    place = data.index(b"def")
    decoder = asked(codec, peer)
    assert feed(decoder, [data[: place - 3]]) == []
    assert feed(decoder, [data[place - 3 : place]]) == [Fragment(b"abc", False)]
    assert feed(decoder, [data[place:]]) == [Fragment(b"def", False), Fragment(b"gh", True)]


def test_pieces_are_unmasked_across_cuts(codec: Codec) -> None:
    peer = Peer(masked=True)
    payload = bytes(range(200))
    data = peer.frame(BINARY, payload)
    for size in (1, 2, 3, 5, 7):
        events = feed(asked(codec, peer), [data[i : i + size] for i in range(0, len(data), size)])
        pieces = [event for event in events if isinstance(event, Fragment)]
        assert len(pieces) == len(events) >= 200 // size
        assert b"".join(piece.data for piece in pieces if isinstance(piece.data, bytes)) == payload
        assert all(piece.data for piece in pieces)
        assert [piece.final for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_text_is_cut_at_characters(codec: Codec, peer: Peer) -> None:
    decoder = asked(codec, peer)
    events = feed(decoder, byte_by_byte(peer.frame(TEXT, "aé€𝄞z")))
    assert events == [
        Fragment("a", False),
        Fragment("é", False),
        Fragment("€", False),
        Fragment("𝄞", False),
        Fragment("z", True),
    ]
    decoder = asked(codec, peer)
    data = "€".encode()
    frames = (
        peer.frame(TEXT, b"ab" + data[:1], fin=False)
        + peer.frame(PING)
        + peer.frame(CONTINUATION, data[1:2], fin=False)
        + peer.frame(CONTINUATION, data[2:] + b"c")
    )
    assert feed(decoder, [frames]) == [Fragment("ab", False), Ping(b""), Fragment("€c", True)]


def test_no_more_than_an_incomplete_character_is_held(codec: Codec, peer: Peer) -> None:
    decoder = asked(codec, peer)
    for byte in byte_by_byte(peer.frame(TEXT, "𝄞" * 20, fin=False)):
        decoder.decode(byte)
        assert decoder.partial <= 3
    decoder = asked(codec, peer)
    for byte in byte_by_byte(peer.frame(BINARY, b"x" * 80, fin=False)):
        decoder.decode(byte)
        assert decoder.partial == 0


def test_the_last_piece_may_be_empty(codec: Codec, peer: Peer) -> None:
    # whether it is text or binary shows even then, and no piece before the last is empty
    assert feed(asked(codec, peer), [peer.frame(TEXT)]) == [Fragment("", True)]
    assert feed(asked(codec, peer), [peer.frame(BINARY)]) == [Fragment(b"", True)]
    data = (
        peer.frame(TEXT, fin=False)
        + peer.frame(CONTINUATION, "a", fin=False)
        + peer.frame(CONTINUATION, fin=False)
        + peer.frame(CONTINUATION)
    )
    for pieces in ([data], byte_by_byte(data)):
        assert feed(asked(codec, peer), pieces) == [Fragment("a", False), Fragment("", True)]


def test_pieces_can_be_asked_for_in_the_middle(codec: Codec, peer: Peer) -> None:
    decoder = codec.decoder(peer)
    character = "€".encode()
    frame = peer.frame(TEXT, b"begun" + character + b"z", mask=bytes(4))
    assert feed(decoder, [frame[:-2]]) == []
    assert decoder.partial == 7
    # what has come so far, up to the last whole character
    assert decoder.next_in_pieces() == [Fragment("begun", False)]
    assert decoder.partial == 2
    assert decoder.next_in_pieces() == []
    assert feed(decoder, [frame[-2:-1]]) == [Fragment("€", False)]
    assert feed(decoder, [frame[-1:] + peer.frame(TEXT, "next")]) == [Fragment("z", True), "next"]


@pytest.mark.parametrize("place", range(1, 16))
def test_asking_in_the_middle_loses_nothing(codec: Codec, peer: Peer, place: int) -> None:
    data = peer.frame(BINARY, b"abc", fin=False) + peer.frame(CONTINUATION, b"def")
    decoder = codec.decoder(peer)
    events: list[Event] = [
        *decoder.decode(data[:place]),
        *decoder.next_in_pieces(),
        *decoder.decode(data[place:]),
    ]
    fragments = [event for event in events if isinstance(event, Fragment)]
    if place < len(data):
        assert len(fragments) == len(events)
        assert b"".join(piece.data for piece in fragments if isinstance(piece.data, bytes)) == b"abcdef"
        assert [piece.final for piece in fragments] == [False] * (len(fragments) - 1) + [True]
    else:
        assert events == [b"abcdef"]


def test_asking_can_be_taken_back_until_the_message_begins(codec: Codec, peer: Peer) -> None:
    decoder = asked(codec, peer)
    assert decoder.next_whole()
    assert feed(decoder, [peer.frame(TEXT, "whole")]) == ["whole"]
    assert decoder.next_whole()  # there is nothing to take back

    decoder = asked(codec, peer)
    frame = peer.frame(BINARY, b"abc")
    header = len(frame) - 3
    assert feed(decoder, [frame[: header - 1]]) == []
    assert decoder.next_whole()  # the header is not complete yet
    assert feed(decoder, [frame[header - 1 :]]) == [b"abc"]

    decoder = asked(codec, peer)
    assert feed(decoder, [peer.frame(TEXT, "", fin=False)]) == []
    assert not decoder.next_whole()
    assert not decoder.next_whole()
    assert feed(decoder, [peer.frame(CONTINUATION, "rest")]) == [Fragment("rest", True)]
    assert decoder.next_whole()
    assert feed(decoder, [peer.frame(TEXT, "whole")]) == ["whole"]


def test_a_message_that_has_begun_whole_is_not_in_pieces(codec: Codec, peer: Peer) -> None:
    decoder = codec.decoder(peer)
    assert feed(decoder, [peer.frame(TEXT, "a", fin=False)]) == []
    assert decoder.next_whole()
    assert feed(decoder, [peer.frame(CONTINUATION, "b")]) == ["ab"]


@pytest.mark.parametrize("text", [b"ab\xff", b"ab\xed\xa0", b"ab\xf4\x90"])
def test_pieces_of_text_fail_at_the_first_wrong_byte(codec: Codec, peer: Peer, text: bytes) -> None:
    frame = peer.frame(TEXT, text + b"....")[:-4]
    assert without_text(feed(asked(codec, peer), [frame])) == [INVALID]
    events = feed(asked(codec, peer), byte_by_byte(frame))
    assert without_text(events) == [Fragment("a", False), Fragment("b", False), INVALID]
    assert feed(asked(codec, peer), byte_by_byte(frame[:-1])) == events[:-1]


def test_pieces_of_text_that_ends_inside_a_character(codec: Codec, peer: Peer) -> None:
    frame = peer.frame(TEXT, b"a\xe2\x82")
    for pieces in ([frame], byte_by_byte(frame)):
        decoder = asked(codec, peer)
        events = without_text(feed(decoder, pieces))
        assert events[-1] == INVALID
        assert decoder.partial == 0
        assert decoder.next_in_pieces() == []


def test_limits_hold_over_all_the_pieces(codec: Codec, peer: Peer) -> None:
    limits = Limits(max_message_size=10, max_fragments=3)
    begun = peer.frame(TEXT, "12345", fin=False) + peer.frame(CONTINUATION, "67890", fin=False)
    pieces = [Fragment("12345", False), Fragment("67890", False)]
    assert feed(asked(codec, peer, limits), [begun + peer.frame(CONTINUATION)]) == [
        *pieces,
        Fragment("", True),
    ]
    events = without_text(feed(asked(codec, peer, limits), [begun + peer.frame(CONTINUATION, "1")]))
    assert events == [*pieces, Violation("WS_ERR_UNSUPPORTED_MESSAGE_LENGTH", 1009)]
    events = without_text(feed(asked(codec, peer, limits), [begun + peer.frame(CONTINUATION, fin=False) * 2]))
    assert events == [*pieces, Violation("WS_ERR_TOO_MANY_BUFFERED_PARTS", 1008)]
    # a message of one frame is not fragmented, and the next is counted anew
    limits = Limits(max_message_size=10, max_fragments=0)
    decoder = asked(codec, peer, limits)
    for _ in range(3):
        events = feed(decoder, byte_by_byte(peer.frame(BINARY, b"1234567890")))
        assert len(events) == 10
        decoder.next_in_pieces()


def test_pieces_keep_the_limit_of_events(codec: Codec, peer: Peer) -> None:
    decoder = asked(codec, peer)
    frames = [peer.frame(TEXT, "0", fin=False)]
    frames += [peer.frame(CONTINUATION, str(i), fin=False) for i in range(1, 9)]
    frames += [peer.frame(CONTINUATION, "9"), peer.frame(TEXT, "whole"), peer.close(1000)]
    expected = [Fragment(str(i), i == 9) for i in range(10)]
    assert feed(decoder, [b"".join(frames)], limit=3) == [*expected, "whole", Close(1000, "")]


def test_pieces_may_be_asked_for_between_two_calls_that_a_limit_parted(codec: Codec, peer: Peer) -> None:
    decoder = codec.decoder(peer)
    assert seen(decoder.decode(peer.frame(TEXT, "1") * 3, 1)) == ["1"]
    assert decoder.next_in_pieces() == []
    assert seen(decoder.decode(b"", 1)) == [Fragment("1", True)]
    assert seen(decoder.decode(b"", 1)) == ["1"]


def test_after_the_end_there_is_no_piece(codec: Codec, peer: Peer) -> None:
    begun = peer.frame(TEXT, "half", fin=False)
    for end in (peer.close(1000), b"\xff\xff", peer.frame(CONTINUATION, b"\xff")):
        decoder = codec.decoder(peer)
        assert len(decoder.decode(begun + end)) == 1
        assert decoder.partial == 0
        assert decoder.next_in_pieces() == []
        assert decoder.decode(peer.frame(CONTINUATION, "rest")) == []
