"""Inflating what is received (RFC 7692 7.2.2), never further than it may go; knows nothing of frames and negotiation."""

from __future__ import annotations

from ._compressors import TAIL, Decompressor, Engine
from ._errors import RemoteProtocolError

#: Bytes that are asked of a decompressor at once.
CHUNK = 65536


class Inflater:
    """What one connection receives through.

    Args:
        engine: what inflates.
        window_bits: how far back the peer may refer: 2 to their power, in bytes.
        takeover: whether a message of the peer may refer to those before it.
    """

    __slots__ = ("_decompressor", "_engine", "_takeover", "_window_bits")

    def __init__(self, engine: Engine, *, window_bits: int, takeover: bool) -> None:
        self._engine = engine
        self._window_bits = window_bits
        self._takeover = takeover
        self._decompressor: Decompressor | None = None  # made when there is something for it

    def inflate(self, data: bytes, final: bool, room: int) -> bytes:
        """Return what the next part of a message means: `room` bytes at most, or a few more, which say that it passes them.

        Args:
            data: payload bytes, a few kilobytes of them at a time, for they may become a thousand times as many.
            final: whether they are the last of their message.
            room: bytes that the message may still have.

        Raises:
            RemoteProtocolError: this is not deflated.
        """
        try:
            parts = (
                self._inflate(data + TAIL, TAIL, room + 1) if final else self._inflate(data, b"", room + 1)
            )
        except self._engine.error as error:
            # not chained: the error would keep the buffers alive
            violation = RemoteProtocolError("WS_ERR_INVALID_COMPRESSED_DATA", str(error))
        else:
            if final and not self._takeover:
                self._decompressor = None
            return parts[0] if len(parts) == 1 else b"".join(parts)
        raise violation

    def _inflate(self, data: bytes, tail: bytes, room: int) -> list[bytes]:
        """Return what `data` means, of which `tail` was added here."""
        parts: list[bytes] = []
        while room > 0:
            if self._decompressor is None:
                if data == tail:
                    break  # the message has ended in a last block (RFC 7692 7.2.3.4), to which no tail belongs
                self._decompressor = self._engine.decompressobj(-self._window_bits)
            decompressor = self._decompressor
            asked = min(room, CHUNK)
            part = decompressor.decompress(data, asked)
            parts.append(part)
            room -= len(part)
            if decompressor.eof:
                # behind a last block a decompressor takes nothing, and does not say so
                data, self._decompressor = decompressor.unused_data, None
            elif len(part) < asked:
                break
            else:
                data = decompressor.unconsumed_tail  # it may be empty while there is more to return
        return parts

    def release(self) -> None:
        """Give back the memory. What comes next must not refer to what came before."""
        self._decompressor = None
