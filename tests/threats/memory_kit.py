"""What one connection can take at most, as a formula over its options; knows no attack, and is no part of the library."""

from __future__ import annotations

from dataclasses import dataclass

from tests.threats.threat_kit import KIBI

# modules of the package: what is no option is a constant of theirs
from trio_ws._link import LAST_BYTES
from trio_ws.protocol import Limits
from trio_ws.protocol._codec import FRAME_LIMIT, INFLATE_LIMIT, INFLATE_STEP
from trio_ws.protocol._deflate import OWN_BITS, OWN_MEM_LEVEL
from trio_ws.transport import HIGH_WATER
from trio_ws.transport._base import BATCH, MAX_CHUNKS

#: Bytes of a `str` for each byte of UTF-8, at worst: one character beyond the BMP makes all of them take four.
WIDE = 4

#: What a small object takes: the smallest message that is no shared object (76 bytes, in steps of 16) with its place
#: in a list, an eighth of which is spare.
OBJECT = 96

#: A connection on which nothing is under way, with its task and handler (measured: 6.4 KiB), and half as much again.
IDLE = 10 * KIBI

#: An inflater without its window, and what it has of its input.
INFLATER = 12 * KIBI

#: What a request takes for each byte of its head: as it came, and as the names and values of its fields.
PARSED = 4


@dataclass(frozen=True, kw_only=True)
class WorstCase:
    """The parts of the most that a connection may take, in bytes. A formula over options, all with their defaults.

    Attributes:
        max_message_size: the option, or the largest message that an attack sends.
        message_queue_bytes: the option.
        read: `receive_buffer_size`, 64 KiB if that is None.
        text: whether there may be `str` among the messages; with `text_as_bytes` there is none.
        compression: whether compression was agreed on.
        messages_held: how many messages the application holds itself: an echo holds one.
        sent: the largest message that the application sends; an echo's is what it was sent.
    """

    max_message_size: int = Limits().max_message_size
    message_queue_bytes: int = 2**20
    read: int = BATCH
    text: bool = True
    compression: bool = False
    messages_held: int = 1
    sent: int | None = None

    @property
    def wide(self) -> int:
        return WIDE if self.text else 1

    @property
    def received(self) -> int:
        """Messages that wait, whole or not, and what one read adds to a queue that is all but full."""
        burst = INFLATE_LIMIT if self.compression else self.read
        return self.message_queue_bytes + self.wide * (self.max_message_size + burst) + OBJECT * FRAME_LIMIT

    @property
    def undecoded(self) -> int:
        """One read that was not looked at, and the one in which its rest comes."""
        return 2 * self.read

    @property
    def held(self) -> int:
        """What the application holds."""
        return self.messages_held * self.wide * self.max_message_size

    @property
    def outgoing(self) -> int:
        """Up to the mark above which senders wait, in small pieces, and one message; when it is compressed, twice."""
        sent = self.max_message_size if self.sent is None else self.sent
        return HIGH_WATER + MAX_CHUNKS * OBJECT + (2 if self.compression else 1) * sent

    @property
    def contexts(self) -> int:
        """A compressor, an inflater whose peer has not said how far it refers back, and a step of input."""
        if not self.compression:
            return 0
        compressor = (1 << OWN_BITS + 2) + (1 << OWN_MEM_LEVEL + 9) + 6 * KIBI
        return compressor + 2**15 + INFLATER + INFLATE_STEP

    @property
    def lost(self) -> int:
        """What comes on top of what was received when the connection is lost, in the place of the two before."""
        return LAST_BYTES

    @property
    def overhead(self) -> int:
        """The connection itself, and the request that it came by."""
        return IDLE + PARSED * Limits().max_head

    @property
    def parts(self) -> dict[str, int]:
        return {
            "received": self.received,
            "undecoded": self.undecoded,
            "held": self.held,
            "outgoing": self.outgoing,
            "contexts": self.contexts,
            "lost": self.lost,
            "overhead": self.overhead,
        }

    @property
    def alive(self) -> int:
        """All that a connection may take as long as it is there."""
        return sum(self.parts.values()) - self.lost

    @property
    def total(self) -> int:
        """All of them, but either what belongs to a connection that lives or what belongs to one that is lost."""
        return self.alive + max(self.lost - self.outgoing - self.contexts, 0)
