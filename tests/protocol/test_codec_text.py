"""Text is UTF-8 to the byte: a message fails with the first byte that makes it invalid, however it is cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.protocol.codec_kit import (
    CONTINUATION,
    PING,
    TEXT,
    Codec,
    Peer,
    Violation,
    byte_by_byte,
    check,
    feed,
    first_wrong,
)
from trio_ws.protocol._events import Ping

INVALID = Violation("WS_ERR_INVALID_UTF8", 1007)

VALID = [
    "",
    "\x00",
    "\x7f",
    "\x80",
    "\u07ff",
    "\u0800",
    "\ud7ff",
    "\ue000",
    "\ufeff",
    "\ufffd\uffff",
    "\U00010000",
    "\U0010ffff",
    "κόσμε",
    "Hello-µ@ßöäüàá-UTF-8!!",
    "👩‍👩‍👧‍👦" * 10,
]


@pytest.mark.parametrize("text", VALID, ids=ascii)
def test_valid_text_in_any_fragments(codec: Codec, peer: Peer, text: str) -> None:
    check(codec, peer, peer.frame(TEXT, text), text)
    data = text.encode()
    for place in range(min(len(data), 60) + 1):
        fragments = (
            peer.frame(TEXT, data[:place], fin=False)
            + peer.frame(PING)
            + peer.frame(CONTINUATION, fin=False)
            + peer.frame(CONTINUATION, data[place:])
        )
        check(codec, peer, fragments, Ping(b""), text)


def sequences() -> Iterator[bytes]:
    """Yield all pairs of bytes that do not start with ASCII, and three and four where they can make a difference."""
    edges = (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF)
    for first in range(0x80, 0x100):
        for second in range(0x100):
            yield bytes([first, second])
        for second in edges:
            for third in edges:
                yield bytes([first, second, third])
                if first >= 0xF0:
                    yield from (bytes([first, second, third, fourth]) for fourth in edges[1::3])


@pytest.mark.parametrize("before", [b"", "oké".encode()], ids=str)
def test_the_first_wrong_byte_is_the_one_that_fails(codec: Codec, before: bytes) -> None:
    # unmasked: what a mask does to these bytes is another test's matter, and there are tens of thousands of them
    peer = Peer(masked=False)
    for sequence in sequences():
        text = before + sequence
        decoder = codec.decoder(peer)
        decoder.decode(peer.header(TEXT, 100))
        # in one piece with what came before, without the wrong byte and with it
        wrong = first_wrong(text, final=False)
        if wrong is None:
            assert decoder.decode(text) == [], text
            assert decoder.decode(b"") == [], text
        else:
            assert decoder.decode(text[:wrong]) == [], text
            (violation,) = feed(decoder, [text[wrong : wrong + 1]])
            assert isinstance(violation, Violation)
            assert violation.code == "WS_ERR_INVALID_UTF8", text
            # in one piece it is the same violation, in the same words
            assert feed(codec.decoder(peer), [peer.header(TEXT, 100) + text]) == [violation]
            assert feed(codec.decoder(peer), [peer.frame(TEXT, text)]) == [violation]
            assert feed(codec.decoder(peer), [peer.frame(TEXT, text, fin=False)]) == [violation]


@pytest.mark.parametrize(
    ("before", "wrong"),
    [
        (b"", b"\x80"),
        (b"", b"\xff"),
        (b"", b"\xc0\x80"),
        (b"", b"\xc1\xbf"),
        (b"\xe0", b"\x80\x80"),
        (b"\xed", b"\xa0\x80"),  # a surrogate
        (b"\xed", b"\xbf\xbf"),
        (b"\xf0", b"\x80\x80\x80"),
        (b"\xf4", b"\x90\x80\x80"),  # beyond U+10FFFF
        (b"", b"\xf5\x80\x80\x80"),
        (b"\xe2\x82", b"A"),
        (b"\xf0\x9f\x98", b"A"),
        ("κόσμε".encode() + b"\xf4", b"\x90\x80\x80edited"),
        ("Hello-µ@ßöäüàá-UTF-8!!".encode() + b"\xed", b"\xa0\x80after"),
    ],
    ids=str,
)
def test_invalid_text_fails_inside_frames_and_fragments(
    codec: Codec, peer: Peer, before: bytes, wrong: bytes
) -> None:
    # `check` feeds up to the first byte of `wrong`, and asserts that this byte brings the violation
    behind = len(wrong) - 1
    for fin in (False, True):
        frame = peer.frame(TEXT, before + wrong, fin=fin)
        check(codec, peer, frame[: len(frame) - behind], INVALID)
    # one byte in each frame: fails long before the message ends
    data = peer.frame(TEXT, b"", fin=False)
    for byte in byte_by_byte(before + wrong[:1]):
        data += peer.frame(PING) + peer.frame(CONTINUATION, byte, fin=False)
    check(codec, peer, data, *[Ping(b"")] * (len(before) + 1), INVALID)


@pytest.mark.parametrize(
    "text", [b"\xc3", b"\xe2", b"\xe2\x82", b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x98"], ids=str
)
def test_a_character_that_never_ends(codec: Codec, peer: Peer, text: bytes) -> None:
    check(codec, peer, peer.frame(TEXT, b"ok" + text), INVALID)
    check(codec, peer, peer.frame(TEXT, b"ok" + text, fin=False))
    begun = peer.frame(TEXT, b"ok", fin=False) + peer.frame(CONTINUATION, text, fin=False)
    check(codec, peer, begun)
    check(codec, peer, begun + peer.header(CONTINUATION), INVALID)
    check(codec, peer, begun + peer.frame(CONTINUATION, b"A"), INVALID)


def test_binary_messages_are_not_text(codec: Codec, peer: Peer) -> None:
    invalid = bytes(range(128, 256))
    check(codec, peer, peer.frame(2, invalid), invalid)
    check(codec, peer, peer.frame(2, invalid, fin=False) + peer.frame(0, invalid), invalid * 2)


def test_each_message_is_text_of_its_own(codec: Codec, peer: Peer) -> None:
    # what was found valid of one message says nothing about the next
    data = peer.frame(TEXT, "aaaa", fin=False) + peer.frame(CONTINUATION, "b")
    half = peer.frame(TEXT, b"\xc3", fin=False)
    check(codec, peer, data * 2 + half, "aaaab", "aaaab")
    check(codec, peer, data + half + peer.frame(CONTINUATION, b"A"), "aaaab", INVALID)
    check(codec, peer, data + peer.frame(TEXT, b"\xff", fin=False), "aaaab", INVALID)
