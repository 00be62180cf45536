"""Frames as they go out: RFC 6455 5.2 byte by byte."""

from __future__ import annotations

import pytest

from tests.protocol.codec_kit import BINARY, CLOSE, CONTINUATION, MASK_KEY, PING, PONG, TEXT, Codec, Peer, xor
from trio_ws.protocol._mask import MaskPool


@pytest.mark.parametrize(
    ("size", "unmasked", "masked"),
    [
        (0, "8200", "8280"),
        (1, "8201", "8281"),
        (125, "827d", "82fd"),
        (126, "827e007e", "82fe007e"),
        (127, "827e007f", "82fe007f"),
        (255, "827e00ff", "82fe00ff"),
        (256, "827e0100", "82fe0100"),
        (65535, "827effff", "82feffff"),
        (65536, "827f0000000000010000", "82ff0000000000010000"),
        (2**32 + 1, "827f0000000100000001", "82ff0000000100000001"),
        (2**53 - 1, "827f001fffffffffffff", "82ff001fffffffffffff"),
    ],
)
def test_headers_of_every_length_class(codec: Codec, size: int, unmasked: str, masked: str) -> None:
    assert codec.encode_header(BINARY, size, None).hex() == unmasked
    assert codec.encode_header(BINARY, size, MASK_KEY).hex() == masked + MASK_KEY.hex()
    # what the tests make their own frames with says the same
    assert Peer(masked=False).header(BINARY, size).hex() == unmasked
    assert Peer(masked=True).header(BINARY, size).hex() == masked + MASK_KEY.hex()


@pytest.mark.parametrize("opcode", [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG])
def test_opcode_and_fin(codec: Codec, opcode: int) -> None:
    assert codec.encode_header(opcode, 5, None) == bytes([0x80 | opcode, 5])
    assert codec.encode_header(opcode, 5, None, False) == bytes([opcode, 5])
    assert codec.encode_frame(opcode, b"ab", None) == bytes([0x80 | opcode, 2]) + b"ab"
    assert codec.encode_frame(opcode, b"ab", None, False) == bytes([opcode, 2]) + b"ab"
    assert codec.encode_frame(opcode, b"ab", bytes(4), False) == bytes([opcode, 0x82, 0, 0, 0, 0]) + b"ab"


@pytest.mark.parametrize(
    ("frame", "made_of"),
    [
        # RFC 6455 5.7
        ("810548656c6c6f", (TEXT, b"Hello", None, True)),
        ("818537fa213d7f9f4d5158", (TEXT, b"Hello", MASK_KEY, True)),
        ("010348656c", (TEXT, b"Hel", None, False)),
        ("80026c6f", (CONTINUATION, b"lo", None, True)),
        ("890548656c6c6f", (PING, b"Hello", None, True)),
        ("8a8537fa213d7f9f4d5158", (PONG, b"Hello", MASK_KEY, True)),
    ],
)
def test_examples_of_the_rfc(
    codec: Codec, frame: str, made_of: tuple[int, bytes, bytes | None, bool]
) -> None:
    assert codec.encode_frame(*made_of).hex() == frame


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 125, 126, 1000, 65536])
def test_payloads_are_masked_byte_by_byte(codec: Codec, size: int) -> None:
    payload = bytes(i % 251 for i in range(size))
    frame = codec.encode_frame(BINARY, payload, MASK_KEY)
    header = codec.encode_header(BINARY, size, MASK_KEY)
    assert frame == header + xor(payload, MASK_KEY)
    assert codec.encode_frame(BINARY, payload, None) == codec.encode_header(BINARY, size, None) + payload


def message_chunks(codec: Codec, message: str | bytes, peer: Peer) -> tuple[bytes, ...]:
    masks = MaskPool(lambda size: MASK_KEY * (size // 4)) if peer.masked else None
    chunks: tuple[bytes, ...] = codec.find("encode_message")(message, masks)
    return chunks


@pytest.mark.parametrize("size", [0, 1, 126, 16_383, 16_384, 65_535, 65_536, 65_537, 131_073, 200_002])
def test_messages_of_any_size_are_one_frame(codec: Codec, peer: Peer, size: int) -> None:
    data = (bytes(range(251)) * 800)[:size]
    assert b"".join(message_chunks(codec, data, peer)) == peer.frame(BINARY, data)


@pytest.mark.parametrize("size", [0, 1, 16_384, 65_535, 65_536, 65_537, 131_073, 200_002])
@pytest.mark.parametrize("characters", ["a", "aé", "€", "a€", "𝄞aé"])
def test_texts_of_any_size_are_one_frame(codec: Codec, peer: Peer, size: int, characters: str) -> None:
    # with characters of several bytes, so that no piece of the text is a whole number of masks
    text = (characters * size)[:size]
    assert b"".join(message_chunks(codec, text, peer)) == peer.frame(TEXT, text)


@pytest.mark.parametrize("message", ["a" * 2**20, "€" * 2**20, b"a" * 2**20], ids=["ASCII", "text", "binary"])
def test_a_large_message_is_never_masked_in_one_piece(codec: Codec, message: str | bytes) -> None:
    chunks = message_chunks(codec, message, Peer(masked=True))
    assert max(len(chunk) for chunk in chunks) <= 65_536 * (1 if isinstance(message, bytes) else 3)


@pytest.mark.parametrize("at", [0, 1000, 70_000])
def test_a_text_without_utf_8_takes_no_mask(codec: Codec, at: int) -> None:
    asked: list[int] = []

    def source(size: int) -> bytes:
        asked.append(size)
        return bytes(size)

    with pytest.raises(UnicodeEncodeError):
        codec.find("encode_message")("é" * at + "\ud800" + "é" * 10, MaskPool(source))
    assert asked == []
