"""Frames to messages (RFC 6455 5 and 6); knows no connection state, no time and no transport.

A `Decoder` takes the peer's bytes in any pieces and returns whole messages, decoded and size-checked. It is total: any
bytes give events or one `RemoteProtocolError` as the last event, and after that, or after a close frame, it is deaf.

Memory: what is held between two calls is an incomplete frame header or control frame (139 bytes at most), the payload
of the message being assembled, unmasked and joined as it arrives (so what a header announces costs nothing until it
comes, and a fragment costs no memory of its own), and a read that had more than `limit` frames, until it is used up.

The checks of a header are made in a fixed order, each from the header alone, before any payload is looked at.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from ._close import may_be_sent
from ._encode import (
    FIN,
    LENGTH,
    MASK,
    MAX_CONTROL_SIZE,
    OP_BINARY,
    OP_CLOSE,
    OP_CONTINUATION,
    OP_PING,
    OP_PONG,
    OP_TEXT,
    OPCODE,
    RSV1,
    RSV2_3,
)
from ._errors import RemoteProtocolError
from ._events import Close, Event, Fragment, Ping, Pong
from ._limits import COMPRESSED_EXTRA, COMPRESSED_FACTOR, Limits
from ._mask import append_masked, apply_mask

if TYPE_CHECKING:
    from ._inflate import Inflater

#: Longest frame there can be. RFC 6455 allows 2^63 - 1; ws refuses more than a double counts exactly, and so do we.
MAX_FRAME_SIZE = 2**53 - 1

#: Frames decoded by one call: a read full of empty ones would be ten thousand objects, and 20 ms for which others wait.
FRAME_LIMIT = 256

#: Payload bytes inflated at a time: so many, times 1032 at most, is what can come of them at once.
INFLATE_STEP = 4096

#: Bytes inflated between two pauses, in which who called can see whether there is room for more: a read of 64 KiB can
#: become 64 MiB.
INFLATE_LIMIT = 262144

Data: TypeAlias = bytes | bytearray | memoryview


class Decoder:
    """Turns the peer's bytes into messages, control frames and pieces of messages.

    Args:
        masked: whether the peer is a client, whose frames must be masked; a server's must not be.
        limits: `max_message_size` and `max_fragments` are kept here.
        inflater: what compressed messages go through, None where none may come.

    Attributes:
        finished: whether a close frame or a violation was the last event there will be.
        frames, messages, payload, pings, pongs: how many came so far; of payload the bytes, inflated, as they came.
        more: whether the last call stopped with bytes left over: at its limit, or for what it has inflated.
        partial: payload bytes held of a message that is not complete.
    """

    __slots__ = (
        "_checked",
        "_compressed",
        "_fin",
        "_fragments",
        "_in_pieces",
        "_inflated",
        "_inflater",
        "_mask",
        "_masked",
        "_max_fragments",
        "_max_message_size",
        "_message",
        "_offset",
        "_opcode",
        "_paused",
        "_pending",
        "_remaining",
        "_size",
        "_unpaused",
        "finished",
        "frames",
        "messages",
        "more",
        "partial",
        "payload",
        "pings",
        "pongs",
    )

    def __init__(self, *, masked: bool, limits: Limits, inflater: Inflater | None = None) -> None:
        self._masked = masked
        # within what a machine's integer holds; nobody can send more
        self._max_message_size = min(limits.max_message_size, MAX_FRAME_SIZE)
        self._max_fragments = min(limits.max_fragments, MAX_FRAME_SIZE)
        self.finished = self.more = False
        self.partial = 0
        self.frames = self.messages = self.payload = self.pings = self.pongs = 0
        self._pending = b""  # bytes that are not yet a header, a control frame, or an event
        self._offset = 0  # where in them those begin that were not looked at
        self._opcode = OP_CONTINUATION  # of the message in progress; OP_CONTINUATION when there is none
        self._message = bytearray()  # its payload so far, unmasked, less what was handed out in pieces
        self._size = 0  # payload bytes announced by the headers of the message so far
        self._fragments = 0
        self._checked = 0  # of `_message`, the bytes known to be valid UTF-8; not used in pieces
        self._remaining = 0  # payload bytes still to come of the data frame in progress
        self._mask = b""  # of that frame, turned so that its first byte is for the next payload byte
        self._fin = True  # whether that frame is the last of its message
        self._in_pieces = False
        self._inflater = inflater
        self._compressed = False  # whether the message in progress is
        self._inflated = 0  # bytes of it so far
        self._unpaused = 0  # bytes inflated since the last pause
        self._paused = False  # whether to stop for what was inflated, or because of `finished`

    def next_in_pieces(self) -> list[Event]:
        """Yield one message, the one in progress else the next, as `Fragment` events; return the piece at hand."""
        self._in_pieces = True
        events: list[Event] = []
        if self._message:
            self._piece(events, False)
            self.partial = len(self._message)
        return events

    def next_whole(self) -> bool:
        """Take `next_in_pieces` back if the message has not begun; return whether it was so."""
        self._in_pieces = self._in_pieces and self._opcode != OP_CONTINUATION
        return not self._in_pieces

    def decode(self, data: Data, limit: int = FRAME_LIMIT) -> list[Event]:
        """Take more bytes, `limit` frames at most, and return what they complete; for the others call again with `b""`."""
        events: list[Event] = []
        if self.finished:
            return events
        buffer, position, steps = self._pending, self._offset, 0
        if len(data):
            buffer, position = buffer[position:] + data if buffer else bytes(data), 0
        try:
            while steps < limit:
                taken = self._payload(buffer, position, events) if self._remaining else 0
                taken = taken or self._frame(buffer, position, events)
                position, steps = position + taken, steps + (taken > 0)
                if not taken or self._paused:
                    break
        except RemoteProtocolError as violation:
            self.finished = True
            # without the traceback: its frames would keep the buffers alive, and `events` in a cycle
            events.append(violation.with_traceback(None))
        if self.finished:
            self.stop()
        else:
            # as it is where the limit has stopped us: to cut off what was used, each time, would be quadratic
            self.more = (self._paused or steps >= limit) and position < len(buffer)
            self._paused = False
            self._pending, self._offset = (buffer, position) if self.more else (buffer[position:], 0)
            self.partial = len(self._message)
        return events

    def stop(self) -> None:
        """Be deaf from now on, and let go of what nobody will ask for any more."""
        self.finished, self.more, self.partial = True, False, 0
        self._pending, self._message = b"", bytearray()

    def _frame(self, buffer: bytes, start: int, events: list[Event]) -> int:
        """Take one header, with the whole frame if it is a control frame or all there; return the bytes taken."""
        available = len(buffer) - start
        if available < 2:
            return 0
        first, second = buffer[start], buffer[start + 1]
        opcode = first & OPCODE
        self._check_header(first, second, opcode)
        size, position = second & LENGTH, start + 2
        if size > MAX_CONTROL_SIZE:
            width = 2 if size == 126 else 8
            if available < 2 + width:
                return 0
            announced = int.from_bytes(buffer[position : position + width], "big")
            self._check_length(announced, width)  # it may be more than a machine's integer holds
            size = announced
            position += width
        if opcode < OP_CLOSE:
            self._check_message_size(size, first)
        if self._masked:
            mask, position = buffer[position : position + 4], position + 4
            if position > len(buffer):
                return 0
        else:
            mask = b""
        end = position + size
        if opcode >= OP_CLOSE:
            if end > len(buffer):
                return 0
            self.frames += 1
            events.append(self._control(opcode, apply_mask(buffer, mask, position, end)))
            return end - start
        return position - start + self._data(buffer, position, size, mask, first, events)

    def _check_header(self, first: int, second: int, opcode: int) -> None:
        if first & RSV2_3:
            raise RemoteProtocolError("WS_ERR_UNEXPECTED_RSV_2_3")
        if first & RSV1 and (self._inflater is None or opcode == OP_CONTINUATION or opcode >= OP_CLOSE):
            # RFC 7692 6: it is said of a message, by its first frame
            raise RemoteProtocolError("WS_ERR_UNEXPECTED_RSV_1")
        if opcode >= OP_CLOSE:
            if opcode > OP_PONG:
                raise RemoteProtocolError("WS_ERR_INVALID_OPCODE", str(opcode))
            if not first & FIN:
                raise RemoteProtocolError("WS_ERR_EXPECTED_FIN")
            size = second & LENGTH
            if size > MAX_CONTROL_SIZE or (opcode == OP_CLOSE and size == 1):
                raise RemoteProtocolError("WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH", str(size))
        elif opcode > OP_BINARY:
            raise RemoteProtocolError("WS_ERR_INVALID_OPCODE", str(opcode))
        elif (opcode == OP_CONTINUATION) != (self._opcode != OP_CONTINUATION):
            what = (
                "nothing to continue"
                if opcode == OP_CONTINUATION
                else "a new message inside a fragmented one"
            )
            raise RemoteProtocolError("WS_ERR_INVALID_OPCODE", what)
        if bool(second & MASK) != self._masked:
            raise RemoteProtocolError("WS_ERR_EXPECTED_MASK" if self._masked else "WS_ERR_UNEXPECTED_MASK")

    def _check_length(self, size: int, width: int) -> None:
        # RFC 6455 5.2: "the minimal number of bytes MUST be used to encode the length"
        if size <= (MAX_CONTROL_SIZE if width == 2 else 0xFFFF):
            raise RemoteProtocolError("WS_ERR_NON_MINIMAL_LENGTH", f"{size} in {width} bytes")
        if size > MAX_FRAME_SIZE:
            raise RemoteProtocolError("WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH")

    def _check_message_size(self, size: int, first: int) -> None:
        size += self._size
        most = self._max_message_size
        if first & RSV1 or self._compressed:  # what comes of it counts; this is for what comes to nothing
            most = COMPRESSED_FACTOR * most + COMPRESSED_EXTRA
        if size > most:
            raise RemoteProtocolError(
                "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH", f"{size} bytes, {most} are allowed"
            )

    def _control(self, opcode: int, payload: bytes) -> Event:
        if opcode == OP_PING:
            self.pings += 1
            return Ping(payload)
        if opcode == OP_PONG:
            self.pongs += 1
            return Pong(payload)
        if not payload:
            self.finished = self._paused = True
            return Close(1005, "")
        code = int.from_bytes(payload[:2], "big")
        if not may_be_sent(code):
            raise RemoteProtocolError("WS_ERR_INVALID_CLOSE_CODE", str(code))
        reason = _text(payload[2:])
        self.finished = self._paused = True
        return Close(code, reason)

    def _data(
        self, buffer: bytes, start: int, size: int, mask: bytes, first: int, events: list[Event]
    ) -> int:
        """Take the payload of a data frame whose header has passed every check; return the bytes taken of it."""
        self.frames += 1
        fragmented = self._opcode != OP_CONTINUATION or not first & FIN
        kind = first & (RSV1 | OPCODE)
        if (
            not fragmented
            and start + size <= len(buffer)
            and not self._in_pieces
            and (size <= INFLATE_STEP or kind < RSV1)
        ):
            # the usual case: a message of one frame that is all there; nothing to remember
            payload = apply_mask(buffer, mask, start, start + size)
            if kind == OP_BINARY:
                events.append(payload)
            else:
                events.append(_text(payload) if kind == OP_TEXT else self._inflate_whole(payload, kind))
            self.messages += 1
            self.payload += size if kind < RSV1 else 0
            return size
        if self._opcode == OP_CONTINUATION:
            self._opcode = first & OPCODE
            self._compressed = kind >= RSV1
        self._fragments += fragmented
        if self._fragments > self._max_fragments:
            raise RemoteProtocolError("WS_ERR_TOO_MANY_BUFFERED_PARTS", f"over {self._max_fragments}")
        self._size += size
        self._remaining = size
        self._mask = mask
        self._fin = bool(first & FIN)
        return self._payload(buffer, start, events)

    def _payload(self, buffer: bytes, start: int, events: list[Event]) -> int:
        """Take what there is of the payload of the frame in progress; return the bytes taken."""
        end = min(start + self._remaining, len(buffer))
        if self._compressed:
            end = min(end, start + INFLATE_STEP)
        size = end - start
        self._remaining -= size
        final = self._fin and not self._remaining
        if self._compressed:
            if self._size:  # where nothing was sent, the end of a message is the end of none
                self._message += self._inflate(apply_mask(buffer, self._mask, start, end), final)
        else:
            append_masked(self._message, buffer, self._mask, start, end, self._size)
            self.payload += size
        self._mask = self._mask[size & 3 :] + self._mask[: size & 3]
        if self._in_pieces:
            self._piece(events, final)
        elif final:
            events.append(bytes(self._message) if self._opcode == OP_BINARY else _text(self._message))
        elif self._opcode == OP_TEXT and size:
            self._checked += _decode_utf8(self._message, self._checked, False)[1]
        if final:
            self.messages += 1
            self._opcode = OP_CONTINUATION
            self._message = bytearray()
            self._size = self._fragments = self._checked = self._inflated = 0
            self._in_pieces = self._compressed = False
        return size

    def _inflate_whole(self, payload: bytes, kind: int) -> str | bytes:
        """Return the message that one compressed frame holds."""
        data = self._inflate(payload, True) if payload else b""
        self._inflated = 0
        return data if kind & OPCODE == OP_BINARY else _text(data)

    def _inflate(self, payload: bytes, final: bool) -> bytes:
        """Return what the next part of a compressed message means, as far as the message may be so long."""
        assert self._inflater is not None, "else RSV1 is not allowed"
        room = self._max_message_size - self._inflated
        data = self._inflater.inflate(payload, final, room)
        if len(data) > room:
            raise RemoteProtocolError(
                "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH",
                f"inflated to more than the {self._max_message_size} bytes that are allowed",
            )
        self._inflated += len(data)
        self.payload += len(data)
        self._unpaused += len(data)
        if self._unpaused >= INFLATE_LIMIT:
            self._unpaused = 0
            self._paused = True
        return data

    def _piece(self, events: list[Event], final: bool) -> None:
        """Hand out what has arrived of the message; of a text, up to the last whole character."""
        data: str | bytes
        if self._opcode == OP_TEXT:
            data, size = _decode_utf8(self._message, 0, final)
        else:
            data, size = bytes(self._message), len(self._message)
        del self._message[:size]
        if data or final:
            events.append(Fragment(data, final))


def _text(payload: bytes | bytearray) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        violation = _invalid_text(error)
    raise violation


_utf_8_decode: Callable[[memoryview, str, bool], tuple[str, int]] = codecs.utf_8_decode


def _decode_utf8(data: bytearray, start: int, final: bool) -> tuple[str, int]:
    """Decode `data` from `start`, and unless `final` up to the last whole character; fail at the first wrong byte."""
    with memoryview(data) as whole, whole[start:] as view:
        try:
            text, size = _utf_8_decode(view, "strict", final)
            rest = bytes(view[size:])
            if b"\xed\xa0" <= rest < b"\xee":
                rest.decode()  # two thirds of a surrogate, invalid already: utf_8_decode would wait for the last
        except UnicodeDecodeError as error:
            violation = _invalid_text(error)
        else:
            return text, size
    raise violation


def _invalid_text(error: UnicodeDecodeError) -> RemoteProtocolError:
    # not chained: the error would keep the whole payload alive
    return RemoteProtocolError(
        "WS_ERR_INVALID_UTF8", f"byte 0x{error.object[error.start]:02x}: {error.reason}"
    )
