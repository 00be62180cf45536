"""Messages of JSON, and the compressed frames that a client sends them in; knows nothing of who takes them."""

from __future__ import annotations

import json
import random
import zlib

WORDS = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "order",
    "price",
    "user",
    "quantity",
    "symbol",
    "status",
    "active",
    "pending",
    "request",
    "session",
]

FIN, RSV1, TEXT = 0x80, 0x40, 1
MASKED = 0x80
TAIL = b"\x00\x00\xff\xff"
#: What a client refers back at most: some servers permit no more than 12 bits.
WINDOW_BITS = 12
#: Bytes of messages until they come again: no window reaches back that far, so that no message meets itself.
CYCLE = 2**17


def make_messages(size: int, count: int) -> list[bytes]:
    """Return messages of JSON, as applications send them: equal keys, values that differ."""
    chance = random.Random(size)

    def record() -> dict[str, object]:
        return {
            "id": chance.randrange(10**9),
            "user": chance.choice(WORDS),
            "price": round(chance.random() * 1000, 2),
            "tags": chance.sample(WORDS, 3),
            "time": f"2024-05-{chance.randrange(1, 28):02}T{chance.randrange(24):02}:{chance.randrange(60):02}:00Z",
            "ok": chance.random() < 0.5,
        }

    def message() -> bytes:
        return json.dumps([record() for _ in range(size // 80 + 1)]).encode()[:size]

    return [message() for _ in range(count)]


def make_cycle(size: int) -> list[bytes]:
    """Return the messages of one size that a load generator sends again and again."""
    return make_messages(size, max(4, CYCLE // size))


def make_compressed_frames(messages: list[bytes]) -> bytes:
    """Return a masked frame for each message, one behind the other.

    A full flush ends each of them, so that none refers to those before it: they are right in any order, and whether or
    not the server remembers.
    """
    compressor = zlib.compressobj(wbits=-WINDOW_BITS)
    chance = random.Random(1)
    frames = bytearray()
    for message in messages:
        payload = (compressor.compress(message) + compressor.flush(zlib.Z_FULL_FLUSH)).removesuffix(TAIL)
        size, mask = len(payload), chance.randbytes(4)
        frames.append(FIN | RSV1 | TEXT)
        frames += bytes([MASKED | size]) if size < 126 else bytes([MASKED | 126]) + size.to_bytes(2)
        key = int.from_bytes((mask * (size // 4 + 1))[:size])
        frames += mask + (int.from_bytes(payload) ^ key).to_bytes(size)
    return bytes(frames)
