"""A peer whose every byte is scripted; it must not know the library's own codec and handshake, whose errors it would share.

Frames and heads are made and taken apart here by hand, with every field free to be wrong.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TypeAlias

import trio

from ..protocol import Role

#: The example of RFC 6455 1.3.
SAMPLE_KEY = "dGhlIHNhbXBsZSBub25jZQ=="

#: The first lines of a handshake's two heads.
GET = "GET / HTTP/1.1"
SWITCHING = "HTTP/1.1 101 Switching Protocols"

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3

_Change: TypeAlias = str | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it came, its payload unmasked.

    Attributes:
        opcode: 0 continuation, 1 text, 2 binary, 8 close, 9 ping, 10 pong.
        payload: without the mask.
        fin: whether it is the last of its message.
        rsv: the three reserved bits as a number; 4 is RSV1.
        mask: the four bytes of the mask, or None.
    """

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0
    mask: bytes | None = None


def encode_raw_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = None,
    size: int | None = None,
    width: int | None = None,
) -> bytes:
    """Return a frame, right or wrong.

    Args:
        opcode: four bits, any.
        payload: what follows the header; masked if there is a `mask`.
        fin: the FIN bit.
        rsv: the three reserved bits as a number; 4 is RSV1.
        mask: four bytes, or None for none.
        size: what the header announces; by default the payload's size.
        width: bytes that the length takes behind the second byte: 0, 2 or 8; by default the fewest.
    """
    size = len(payload) if size is None else size
    if width is None:
        width = 0 if size < 126 else 2 if size < 2**16 else 8
    short = {0: size, 2: 126, 8: 127}[width]
    header = bytes((fin << 7 | rsv << 4 | opcode, (mask is not None) << 7 | short))
    header += size.to_bytes(width, "big") if width else b""
    return header + payload if mask is None else header + mask + _masked(payload, mask)


def handshake_request(start: str = GET, **changes: str | Sequence[str] | None) -> bytes:
    """Return the request of a valid handshake, or of one that is changed.

    Args:
        start: the first line.
        changes: header fields, underscores standing for hyphens: a value, several values for several fields, or None
            to leave the field out.
    """
    fields: dict[str, _Change] = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": SAMPLE_KEY,
        "Sec-WebSocket-Version": "13",
    }
    return _head(start, fields, changes)


def handshake_response(
    request: bytes, start: str = SWITCHING, **changes: str | Sequence[str] | None
) -> bytes:
    """Return the answer that accepts `request`, or one that is changed.

    Args:
        request: the head of the request, whose key is answered.
        start: the first line.
        changes: as for `handshake_request`.
    """
    key = re.search(rb"(?im)^sec-websocket-key: *(\S+)", request)
    proof = hashlib.sha1((key[1] if key else b"") + _GUID.encode(), usedforsecurity=False).digest()
    fields: dict[str, _Change] = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": base64.b64encode(proof).decode(),
    }
    return _head(start, fields, changes)


class RawPeer:
    """One end of a stream, for a test that says each byte that goes out and looks at each that comes.

    What comes and was not expected raises `AssertionError`. Nothing is answered by itself, neither a ping nor a close
    frame.

    Args:
        stream: connected; it belongs to the peer.
        role: which side this is; a client's frames are masked.

    Attributes:
        stream: the same.
        received: bytes that came and were not looked at yet.
    """

    def __init__(self, stream: trio.abc.Stream, role: Role) -> None:
        self.stream = stream
        self.received = bytearray()
        self._masks = role is Role.CLIENT

    # Bytes

    async def send(self, data: bytes) -> None:
        """Send bytes as they are.

        Cancellation: some of them may be out.
        """
        await self.stream.send_all(data)

    async def receive_exactly(self, size: int) -> bytes:
        """Receive this many bytes.

        Raises:
            AssertionError: the stream ended before.

        Cancellation: what came is kept in `received`.
        """
        while len(self.received) < size:
            await self._receive_more(f"{size} bytes")
        data = bytes(self.received[:size])
        del self.received[:size]
        return data

    async def receive_head(self) -> bytes:
        """Receive an HTTP head, with its blank line.

        Raises:
            AssertionError: the stream ended before.

        Cancellation: what came is kept in `received`.
        """
        while (end := self.received.find(b"\r\n\r\n")) < 0:
            await self._receive_more("an HTTP head")
        return await self.receive_exactly(end + 4)

    async def receive_rest(self) -> bytes:
        """Receive everything up to the end of the stream; a reset is an end too.

        Cancellation: what came is kept in `received`.
        """
        while await self._receive_some():
            pass
        data = bytes(self.received)
        self.received.clear()
        return data

    async def expect_end(self) -> None:
        """Wait for the end of the stream, before which nothing must come.

        Raises:
            AssertionError: something came.

        Cancellation: what came is kept in `received`.
        """
        rest = await self.receive_rest()
        if rest:
            raise AssertionError(f"expected the end of the stream, not {rest[:100]!r}")

    async def aclose(self) -> None:
        """Close the stream, without a close frame.

        Cancellation: it is closed all the same.
        """
        await self.stream.aclose()

    # The handshake

    async def handshake(self, start: str | None = None, **changes: str | Sequence[str] | None) -> bytes:
        """Do this side's part of the opening handshake, and return the head that the other side sent.

        Args:
            start: the first line; by default a valid one.
            changes: as for `handshake_request`.

        Raises:
            AssertionError: the stream ended, or the other side is a server that did not answer with 101.

        Cancellation: the handshake is left half done.
        """
        if not self._masks:
            request = await self.receive_head()
            await self.send(handshake_response(request, start or SWITCHING, **changes))
            return request
        await self.send(handshake_request(start or GET, **changes))
        response = await self.receive_head()
        if not response.startswith(b"HTTP/1.1 101 "):
            raise AssertionError(f"expected a 101, not {response!r}")
        return response

    # Frames

    async def send_frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> None:
        """Send a frame, masked as befits the role; for a wrong one see `encode_raw_frame`.

        Cancellation: some of it may be out.
        """
        await self.send(self.encode_frame(opcode, payload, fin=fin, rsv=rsv))

    def encode_frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
        """Return a frame, masked as befits the role."""
        mask = os.urandom(4) if self._masks else None
        return encode_raw_frame(opcode, payload, fin=fin, rsv=rsv, mask=mask)

    async def send_close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a close frame, with any code; None sends an empty one.

        Cancellation: some of it may be out.
        """
        await self.send_frame(8, _close_payload(code, reason))

    async def receive_frame(self) -> Frame:
        """Receive the next frame.

        Raises:
            AssertionError: the stream ended before.

        Cancellation: what came of it may be lost.
        """
        first, second = await self.receive_exactly(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await self.receive_exactly(2 if size == 126 else 8), "big")
        mask = await self.receive_exactly(4) if second & 0x80 else None
        payload = await self.receive_exactly(size)
        plain = payload if mask is None else _masked(payload, mask)
        return Frame(first & 0x0F, plain, bool(first & 0x80), first >> 4 & 7, mask)

    async def expect(self, opcode: int, payload: bytes = b"") -> Frame:
        """Receive the next frame, which must be a whole one with this opcode and payload, and return it.

        Raises:
            AssertionError: it is another one, or there is none.

        Cancellation: what came of it may be lost.
        """
        frame = await self.receive_frame()
        expected = Frame(opcode, payload, mask=frame.mask)
        if frame != expected:
            raise AssertionError(f"expected {expected}, not {frame}")
        if (frame.mask is None) != self._masks:
            raise AssertionError(f"a client's frames must be masked, a server's not, but this came: {frame}")
        return frame

    async def expect_close(self, code: int | None = 1000, reason: str = "") -> None:
        """Receive the next frame, which must be a close frame with exactly this code and reason; None: an empty one.

        Raises:
            AssertionError: it is another one, or there is none.

        Cancellation: what came of it may be lost.
        """
        await self.expect(8, _close_payload(code, reason))

    async def _receive_some(self) -> bool:
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            return False
        self.received += data
        return bool(data)

    async def _receive_more(self, wanted: str) -> None:
        if not await self._receive_some():
            raise AssertionError(
                f"expected {wanted}, but the stream ended after {bytes(self.received[:100])!r}"
            )


def _masked(payload: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ key for byte, key in zip(payload, cycle(mask), strict=False))


def _close_payload(code: int | None, reason: str) -> bytes:
    return b"" if code is None else code.to_bytes(2, "big") + reason.encode()


def _head(start: str, fields: dict[str, _Change], changes: dict[str, _Change]) -> bytes:
    names = {name.lower(): name for name in fields}
    for written, value in changes.items():
        name = written.replace("_", "-")
        fields[names.get(name.lower(), name)] = value
    lines = [start]
    for name, values in fields.items():
        if values is not None:
            lines += [f"{name}: {value}" for value in ([values] if isinstance(values, str) else values)]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")
