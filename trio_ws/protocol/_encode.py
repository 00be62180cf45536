"""Messages to frames (RFC 6455 5.2); knows no connection state, and nothing of what is received."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from ._mask import apply_mask

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._mask import MaskPool

OP_CONTINUATION, OP_TEXT, OP_BINARY, OP_CLOSE, OP_PING, OP_PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

FIN, RSV1, RSV2_3, OPCODE, MASK, LENGTH = 0x80, 0x40, 0x30, 0x0F, 0x80, 0x7F

#: Longest payload of a control frame (RFC 6455 5.5); above it a length takes 2 bytes more, above 2^16 - 1 it takes 8.
MAX_CONTROL_SIZE = 125

#: From this size on header and payload stay separate buffers: a copy of 16 KiB costs more than a second buffer.
JOIN_SIZE = 16384

#: A payload is masked in pieces of this size, so that what is masked does not exist in full a third time.
PIECE_SIZE = 65536

_pack_two_bytes: Callable[[int, int], bytes] = struct.Struct("!BB").pack

#: Both bytes of the headers of whole short messages, which nearly all are: to look them up takes a tenth of the time.
_SHORT_HEADERS = [
    _pack_two_bytes(first, second) for first in (FIN | OP_TEXT, FIN | OP_BINARY) for second in range(256)
]


def encode_message(message: str | Buffer, masks: MaskPool | None) -> tuple[bytes, ...]:
    """Return a message as one frame, in buffers to be sent one after the other: `str` as text, a buffer as binary.

    Args:
        message: it may be changed as soon as this has returned.
        masks: where a client has its masks from, None in a server (RFC 6455 5.1).

    Raises:
        TypeError: `message` is neither text nor a contiguous buffer.
        UnicodeEncodeError: the text has no UTF-8.
    """
    if masks is not None and isinstance(message, str) and len(message) > PIECE_SIZE:
        return _encode_long_text(message, masks)
    opcode, payload = encode_payload(message)
    return encode_chunks(opcode, payload, None if masks is None else masks.take(), True)


def encode_payload(message: str | Buffer) -> tuple[int, bytes]:
    """Return the opcode and the payload of a message; a buffer that may change is copied, for it goes out later."""
    if type(message) is bytes:
        return OP_BINARY, message
    if isinstance(message, str):
        return OP_TEXT, message.encode()
    with memoryview(message) as view:
        if not view.c_contiguous:
            raise TypeError("a message is text or a contiguous buffer: make a copy of this one")
        return OP_BINARY, view.tobytes()


def encode_chunks(opcode: int, payload: bytes, mask: bytes | None, fin: bool) -> tuple[bytes, ...]:
    """Return a whole frame in one buffer, or in several if copying it into one would cost more."""
    size = len(payload)
    if size < JOIN_SIZE:
        return (encode_frame(opcode, payload, mask, fin),)
    header = encode_header(opcode, size, mask, fin)
    if mask is None:
        return header, payload
    pieces = [apply_mask(payload, mask, start, start + PIECE_SIZE) for start in range(0, size, PIECE_SIZE)]
    return header, *pieces


def payload_size(chunks: tuple[bytes, ...], masked: bool) -> int:
    """Return the bytes of payload in a whole frame: its size leaves no doubt how long the header is."""
    size = -6 if masked else -2
    for chunk in chunks:
        size += len(chunk)
    if size > MAX_CONTROL_SIZE:
        size -= 2
        if size > 65535:
            size -= 6
    return size


def _encode_long_text(text: str, masks: MaskPool) -> tuple[bytes, ...]:
    """Return a text as one masked frame; it is encoded in pieces too, for which its size has to be known before."""
    size = len(text)
    starts = range(0, size, PIECE_SIZE)
    if not text.isascii():
        size = sum([len(text[start : start + PIECE_SIZE].encode()) for start in starts])
    mask = masks.take()
    chunks = [encode_header(OP_TEXT, size, mask, True)]
    for start in starts:
        piece = text[start : start + PIECE_SIZE].encode()
        chunks.append(apply_mask(piece, mask))
        turn = len(piece) & 3
        mask = mask[turn:] + mask[:turn]
    return tuple(chunks)


def encode_frame(opcode: int, payload: bytes, mask: bytes | None, fin: bool = True) -> bytes:
    """Return a whole frame; `mask` is four fresh bytes in a client, None in a server (RFC 6455 5.1)."""
    header = encode_header(opcode, len(payload), mask, fin)
    return header + (payload if mask is None else apply_mask(payload, mask))


def encode_header(opcode: int, size: int, mask: bytes | None, fin: bool = True) -> bytes:
    """Return the header of a frame whose payload has `size` bytes, the length in its shortest form (RFC 6455 5.2)."""
    first = opcode | FIN if fin else opcode
    masked = 0 if mask is None else MASK
    if size <= MAX_CONTROL_SIZE:
        if OP_TEXT <= first - FIN <= OP_BINARY:
            header = _SHORT_HEADERS[(first - FIN - OP_TEXT) * 256 + masked + size]
        else:
            header = _pack_two_bytes(first, masked | size)
    elif size < 65536:
        header = _pack_two_bytes(first, masked | 126) + size.to_bytes(2, "big")
    else:
        header = _pack_two_bytes(first, masked | 127) + size.to_bytes(8, "big")
    return header if mask is None else header + mask
