"""What the tests of the codec share: frames made by hand, three ways to feed them, and a model of what they mean.

Nothing here uses the encoders or the tables of the package: what a test expects is never computed by what it tests.
"""

from __future__ import annotations

import importlib
import importlib.util
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from types import ModuleType
from typing import Any, TypeAlias

import pytest
from hypothesis import strategies as st

from trio_ws.protocol._codec import Data, Decoder
from trio_ws.protocol._errors import RemoteProtocolError
from trio_ws.protocol._events import Close, Event, Fragment, Ping, Pong
from trio_ws.protocol._inflate import Inflater
from trio_ws.protocol._limits import Limits

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

#: The example of RFC 6455 5.7; no two of its bytes are alike.
MASK_KEY = b"\x37\xfa\x21\x3d"


@dataclass(frozen=True)
class Codec:
    """The modules of the protocol core that turn frames into messages and back, and mask: in Python, or compiled."""

    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def is_built(self) -> bool:
        """Whether it is there; that it can be imported then is for the tests to say."""
        return importlib.util.find_spec(f"trio_ws.protocol.{self.name}") is not None

    @property
    def module(self) -> ModuleType:
        return importlib.import_module(f"trio_ws.protocol.{self.name}")

    @property
    def encoder(self) -> ModuleType:
        return importlib.import_module(f"trio_ws.protocol.{self.name.replace('_codec', '_encode')}")

    @property
    def kernel(self) -> ModuleType:
        return importlib.import_module(f"trio_ws.protocol.{self.name.replace('_codec', '_mask')}")

    def find(self, name: str) -> Any:
        """Return what `_accel` calls by this name where it has chosen this codec."""
        if name.startswith("encode_"):
            return getattr(self.encoder, name)
        return getattr(self.kernel if hasattr(self.kernel, name) else self.module, name)

    @property
    def protocol(self) -> Any:
        """The `Protocol` that uses it, and is compiled if it is."""
        return importlib.import_module(
            f"trio_ws.protocol.{self.name.replace('_codec', '_protocol')}"
        ).Protocol

    def decoder(self, peer: Peer, limits: Limits = Limits(), inflater: Inflater | None = None) -> Decoder:
        given = {} if inflater is None else {"inflater": inflater}
        made: Decoder = self.module.Decoder(masked=peer.masked, limits=limits, **given)
        return made

    def encode_frame(self, opcode: int, payload: bytes, mask: bytes | None, fin: bool = True) -> bytes:
        made: bytes = self.encoder.encode_frame(opcode, payload, mask, fin)
        return made

    def encode_header(self, opcode: int, size: int, mask: bytes | None, fin: bool = True) -> bytes:
        made: bytes = self.encoder.encode_header(opcode, size, mask, fin)
        return made


PYTHON, COMPILED = Codec("_codec"), Codec("_codec_c")
#: Every codec that there is: all tests of frames run for each.
CODECS = [PYTHON, COMPILED]

needs_compiled = pytest.mark.skipif(
    not COMPILED.is_built,
    reason="the compiled codec is not built: that takes a C compiler and Python's headers",
)


@dataclass(frozen=True)
class Peer:
    """Who sends the frames."""

    masked: bool

    def start(
        self, opcode: int, size: int = 0, *, fin: bool = True, rsv: int = 0, width: int | None = None
    ) -> bytes:
        """Return a header up to its length, which takes `width` bytes besides the seven bits, by default the fewest."""
        if width is None:
            width = 0 if size < 126 else 2 if size < 65536 else 8
        first = opcode | rsv | (0x80 if fin else 0)
        short = (126 if width == 2 else 127) if width else size
        return bytes([first, short | (0x80 if self.masked else 0)]) + (
            size.to_bytes(width, "big") if width else b""
        )

    def header(
        self, opcode: int, size: int = 0, *, fin: bool = True, rsv: int = 0, mask: bytes = MASK_KEY
    ) -> bytes:
        """Return a whole header."""
        return self.start(opcode, size, fin=fin, rsv=rsv) + (mask if self.masked else b"")

    def frame(
        self,
        opcode: int,
        payload: str | bytes = b"",
        *,
        fin: bool = True,
        rsv: int = 0,
        mask: bytes = MASK_KEY,
    ) -> bytes:
        """Return a whole frame."""
        data = payload.encode() if isinstance(payload, str) else payload
        body = xor(data, mask) if self.masked else data
        return self.header(opcode, len(data), fin=fin, rsv=rsv, mask=mask) + body

    def close(self, code: int, reason: str | bytes = b"") -> bytes:
        """Return a close frame."""
        text = reason.encode() if isinstance(reason, str) else reason
        return self.frame(CLOSE, struct.pack("!H", code) + text)


def xor(data: bytes, mask: bytes) -> bytes:
    """Mask byte by byte, as RFC 6455 5.3 words it."""
    return bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


@dataclass(frozen=True)
class Violation:
    """A `RemoteProtocolError` as a value; `text` is what it says to people, None where a test does not ask."""

    code: str
    close_code: int
    text: str | None = None


Seen: TypeAlias = str | bytes | Fragment | Ping | Pong | Close | Violation


def seen(events: Iterable[Event]) -> list[Seen]:
    """Return events in a form that can be compared."""
    return [
        Violation(event.code, event.close_code, str(event))
        if isinstance(event, RemoteProtocolError)
        else event
        for event in events
    ]


def feed(decoder: Decoder, pieces: Iterable[Data], limit: int | None = None) -> list[Seen]:
    """Feed pieces to a decoder, taking what it held back for its number before the next."""
    events: list[Event] = []
    left = 4096  # bytes there may be, some of them from before; a call uses one at least, though nothing may come of it
    for piece in pieces:
        left += len(piece)
        part = decoder.decode(piece) if limit is None else decoder.decode(piece, limit)
        while True:
            assert limit is None or len(part) <= limit
            events += part
            if not decoder.more:
                break
            left -= 1
            assert left > 0
            part = decoder.decode(b"") if limit is None else decoder.decode(b"", limit)
    return seen(events)


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut `data` at `places`, of which those beyond its end are ignored."""
    inner = sorted({place for place in places if 0 < place < len(data)})
    return [data[start:stop] for start, stop in pairwise([0, *inner, len(data)])]


#: Where to cut, for Hypothesis: mostly near the beginning, where the headers are.
PLACES = st.sets(st.integers(1, 30) | st.integers(1, 400), max_size=8)


def without_text(events: Iterable[Seen]) -> list[Seen]:
    return [replace(event, text=None) if isinstance(event, Violation) else event for event in events]


def check(codec: Codec, peer: Peer, data: bytes, *expected: Seen, limits: Limits = Limits()) -> None:
    """Assert that whole frames mean `expected` when they come whole, byte by byte, and with more bytes behind them.

    Where they end in a `Violation`, `data` ends in the byte that makes it one: that the decoder has noticed it then,
    and not before, is asserted too.
    """
    whole = feed(codec.decoder(peer, limits), [data])
    assert without_text(whole) == list(expected)
    assert feed(codec.decoder(peer, limits), byte_by_byte(data)) == whole

    final = bool(expected) and isinstance(expected[-1], Close | Violation)
    if expected and isinstance(expected[-1], Violation):
        assert feed(codec.decoder(peer, limits), [data[:-1]]) == list(expected[:-1])

    more = peer.frame(PING, b"behind")
    behind = [] if final else [Ping(b"behind")]
    assert feed(codec.decoder(peer, limits), [data + more]) == whole + behind
    decoder = codec.decoder(peer, limits)
    assert feed(decoder, [data + more[:-1]]) == whole
    assert feed(decoder, [more[-1:]]) == behind


# The model: all bytes at once, one rule after the other in the order of the design, no state but local variables.


@dataclass
class Meaning:
    """What bytes mean: events, the code of the violation that ends them, and after how many bytes it is certain."""

    events: list[Seen]
    violation: str | None = None
    certain_after: int = 0


class BrokenRuleError(Exception):
    """Which rule is broken, and after how many bytes that is certain."""

    def __init__(self, code: str, after: int) -> None:
        super().__init__(code, after)
        self.code = code
        self.after = after


def meaning(data: bytes, peer: Peer, limits: Limits) -> Meaning:
    """Say what `data` means."""
    events: list[Seen] = []
    try:
        for event in _walk(data, peer, limits):
            events.append(event)  # noqa: PERF402 - what came before the exception is kept
    except BrokenRuleError as broken:
        return Meaning(events, broken.code, broken.after)
    return Meaning(events)


def _walk(data: bytes, peer: Peer, limits: Limits) -> Iterator[Seen]:
    at = 0
    kind, message, announced, fragments = CONTINUATION, b"", 0, 0
    allowed = min(limits.max_message_size, 2**53 - 1)  # no limit allows a message longer than a frame can be
    while header := _header(data, at, kind, peer, allowed - announced):
        opcode, fin, size, mask, at = header
        payload = xor(data[at : at + size], mask)
        end = at + size
        complete = end <= len(data)
        if opcode >= 8 and complete:
            yield _control(opcode, payload, end)
            if opcode == CLOSE:
                return
        elif opcode < 8:
            fragments += kind != CONTINUATION or not fin
            if fragments > limits.max_fragments:
                raise BrokenRuleError("WS_ERR_TOO_MANY_BUFFERED_PARTS", at)
            kind = opcode or kind
            announced += size
            before = len(message)
            message += payload
            wrong = first_wrong(message, final=fin and complete) if kind == TEXT else None
            if wrong is not None:
                raise BrokenRuleError("WS_ERR_INVALID_UTF8", min(at + wrong - before + 1, end))
            if fin and complete:
                yield message.decode() if kind == TEXT else message
                kind, message, announced, fragments = CONTINUATION, b"", 0, 0
        if not complete:
            return
        at = end


def _header(
    data: bytes, at: int, kind: int, peer: Peer, allowed: int
) -> tuple[int, bool, int, bytes, int] | None:
    """Return opcode, FIN, size, mask and where the payload starts; None if the header is not complete."""
    if len(data) - at < 2:
        return None
    first, second = data[at], data[at + 1]
    opcode, fin, size = first & 15, first >= 128, second & 127
    control = opcode >= 8
    possible = {BINARY, TEXT} if kind == CONTINUATION else {CONTINUATION}
    at += 2
    for broken, code in [
        (first & 0x30, "WS_ERR_UNEXPECTED_RSV_2_3"),
        (first & 0x40, "WS_ERR_UNEXPECTED_RSV_1"),
        (opcode not in possible | {CLOSE, PING, PONG}, "WS_ERR_INVALID_OPCODE"),
        (control and not fin, "WS_ERR_EXPECTED_FIN"),
        (control and size > 125, "WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH"),
        (opcode == CLOSE and size == 1, "WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH"),
        (peer.masked and second < 128, "WS_ERR_EXPECTED_MASK"),
        (not peer.masked and second >= 128, "WS_ERR_UNEXPECTED_MASK"),
    ]:
        if broken:
            raise BrokenRuleError(code, at)
    if size > 125:
        form, least, most = (">H", 126, 65535) if size == 126 else (">Q", 65536, 2**53 - 1)
        if len(data) - at < struct.calcsize(form):
            return None
        (size,) = struct.unpack_from(form, data, at)
        at += struct.calcsize(form)
        if size < least:
            raise BrokenRuleError("WS_ERR_NON_MINIMAL_LENGTH", at)
        if size > most:
            raise BrokenRuleError("WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH", at)
    if not control and size > allowed:
        raise BrokenRuleError("WS_ERR_UNSUPPORTED_MESSAGE_LENGTH", at)
    if not peer.masked:
        return opcode, fin, size, bytes(4), at
    mask = data[at : at + 4]
    return (opcode, fin, size, mask, at + 4) if len(mask) == 4 else None


def _control(opcode: int, payload: bytes, end: int) -> Seen:
    if opcode == PING:
        return Ping(payload)
    if opcode == PONG:
        return Pong(payload)
    if not payload:
        return Close(1005, "")
    (code,) = struct.unpack("!H", payload[:2])
    if code not in VALID_CLOSE_CODES:
        raise BrokenRuleError("WS_ERR_INVALID_CLOSE_CODE", end)
    if first_wrong(payload[2:], final=True) is not None:
        raise BrokenRuleError("WS_ERR_INVALID_UTF8", end)
    return Close(code, payload[2:].decode())


#: RFC 6455 7.4 with the codes that IANA has registered since.
VALID_CLOSE_CODES = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}

_TAIL = (0x80, 0xBF)
#: Table 3-7 of the Unicode standard: the range of a first byte, and the ranges of those behind it.
_WELL_FORMED: list[tuple[tuple[int, int], list[tuple[int, int]]]] = [
    ((0x00, 0x7F), []),
    ((0xC2, 0xDF), [_TAIL]),
    ((0xE0, 0xE0), [(0xA0, 0xBF), _TAIL]),
    ((0xE1, 0xEC), [_TAIL, _TAIL]),
    ((0xED, 0xED), [(0x80, 0x9F), _TAIL]),
    ((0xEE, 0xEF), [_TAIL, _TAIL]),
    ((0xF0, 0xF0), [(0x90, 0xBF), _TAIL, _TAIL]),
    ((0xF1, 0xF3), [_TAIL, _TAIL, _TAIL]),
    ((0xF4, 0xF4), [(0x80, 0x8F), _TAIL, _TAIL]),
]


def first_wrong(text: bytes, *, final: bool) -> int | None:
    """Return where `text` stops being the beginning of UTF-8; its length if it is `final` and ends inside a character."""
    expected: list[tuple[int, int]] = []
    for position, byte in enumerate(text):
        if expected:
            low, high = expected.pop(0)
            if not low <= byte <= high:
                return position
        else:
            rows = [tail for (low, high), tail in _WELL_FORMED if low <= byte <= high]
            if not rows:
                return position
            expected = list(rows[0])
    return len(text) if final and expected else None
