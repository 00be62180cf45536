"""What the tests of compressed messages share: a peer that deflates by zlib alone, and inflaters for what it sends.

Nothing here uses what the package deflates with.
"""

from __future__ import annotations

import importlib
import importlib.util
import zlib
from collections.abc import Sequence

import pytest

from tests.protocol.codec_kit import BINARY, CONTINUATION, TEXT, Peer
from trio_ws.protocol._compressors import ENGINES, EngineName, find_engine
from trio_ws.protocol._inflate import Inflater

RSV1 = 0x40
TAIL = b"\x00\x00\xff\xff"

every_engine = pytest.mark.parametrize(
    "engine",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                importlib.util.find_spec(module.partition(".")[0]) is None, reason=f"{name} is not installed"
            ),
        )
        for name, (module, _) in ENGINES.items()
    ],
)


def inflater(*, takeover: bool = True, bits: int = 15, engine: EngineName = "zlib") -> Inflater:
    return Inflater(find_engine(engine), window_bits=bits, takeover=takeover)


class Deflating:
    """What a peer compresses with."""

    def __init__(self, *, takeover: bool = True, bits: int = 15, level: int = 6) -> None:
        self._settings = level, zlib.DEFLATED, -bits
        self._takeover = takeover
        self._compressor = zlib.compressobj(*self._settings)

    def payloads(self, *pieces: bytes) -> list[bytes]:
        """Return the payloads of the fragments of a message."""
        if not self._takeover:
            self._compressor = zlib.compressobj(*self._settings)
        compressor = self._compressor
        found = [compressor.compress(piece) + compressor.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
        whole = b"".join(found)
        if not whole.endswith(TAIL):  # an empty message: its compressor says nothing twice
            return [*[b""] * (len(pieces) - 1), b"\x00"]
        # what is cut off the last may reach into those before it, where it says nothing
        missing = len(TAIL)
        for place in reversed(range(len(found))):
            cut = min(missing, len(found[place]))
            found[place], missing = found[place][: len(found[place]) - cut], missing - cut
        return found

    def payload(self, message: str | bytes) -> bytes:
        """Return the payload of a message in one frame."""
        [found] = self.payloads(message.encode() if isinstance(message, str) else message)
        return found

    def frame(self, peer: Peer, message: str | bytes) -> bytes:
        """Return a message as one frame."""
        return peer.frame(TEXT if isinstance(message, str) else BINARY, self.payload(message), rsv=RSV1)

    def frames(self, peer: Peer, opcode: int, *pieces: bytes) -> list[bytes]:
        """Return a message in fragments."""
        return compressed_frames(peer, opcode, self.payloads(*pieces))


def compressed_frames(peer: Peer, opcode: int, payloads: Sequence[bytes]) -> list[bytes]:
    """Return frames with payloads that are deflated already."""
    last = len(payloads) - 1
    return [
        peer.frame(CONTINUATION if place else opcode, payload, fin=place == last, rsv=0 if place else RSV1)
        for place, payload in enumerate(payloads)
    ]
