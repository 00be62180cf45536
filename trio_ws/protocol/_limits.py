"""Limits on what a peer may make this side hold, every number with its precedent; knows nothing of who enforces them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

#: A compressed message may take so many bytes on the wire for each that is allowed to come of it, and so many more.
#: zlib makes 7 bytes of one that is flushed alone, so that whoever compresses stays below, while without this a message
#: of empty blocks would have no end; ws, websockets and aiohttp allow what is allowed to come of it.
COMPRESSED_FACTOR = 8
COMPRESSED_EXTRA = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a peer may send before its connection is refused or failed. Sizes in bytes.

    Attributes:
        max_message_size: payload of one message, all fragments together; larger ones are answered 1009 from the
            header alone. 1 MiB is what websockets and trio-websocket allow.
        max_fragments: frames of one fragmented message, empty ones counted; more are answered 1008, and 0 allows no
            fragmented message. 131072 is what ws began with; fragments are joined into one buffer as they arrive, so
            that the count bounds time, not memory.
        max_headers: header lines of a handshake; Apache's LimitRequestFields has the same 100.
        max_header_line: the request line, and each header line: 8 KiB as in nginx and Apache.
        max_head: the whole head of a handshake: 32 KiB, nginx's four large buffers.
        max_response_body: what is kept of the body of a refused handshake; it is for people and logs.
    """

    max_message_size: int = 2**20
    max_fragments: int = 131072
    max_headers: int = 100
    max_header_line: int = 8192
    max_head: int = 32768
    max_response_body: int = 65536


class Meter(Protocol):
    """Says how much of what a peer sends is within its rates. Who makes it knows the time."""

    def take_bytes(self, count: int) -> int:
        """Return how many of `count` bytes that came may be looked at; they count as used."""
        ...

    def take_messages(self, count: int) -> int:
        """Return how many of `count` messages and control frames may be handed out; they count as used."""
        ...

    def exceeded(self, code: str) -> None:
        """Take note that the connection fails for it, with one of the codes in `ERRORS`. Called once at most."""
