"""The seam: what a transport and its receiver promise each other; it must not know which kind of stream carries the bytes.

A transport *pushes*: whoever holds one never awaits the wire. Bytes that arrive are handed to a `Receiver` by plain
calls, bytes to send are taken over by `Transport.write` at once, and the waiting is done by tasks that belong to the
transport alone.

What the transport promises
---------------------------
* Calls come from the transport's own turn, never from within a call the receiver makes: `write`, `flush`, `end`,
  `close`, `abort`, `pause_reading` and `resume_reading` call nothing back. So a receiver may call any of them at any time, also
  inside each of its own methods.
* Bytes arrive in order, each once. `eof_received` comes behind the last of them, once at most.
* Chunks leave whole and in order, or the connection is lost. What can never happen is that half a chunk leaves and
  something else follows it.
* After `Transport.start` returned, `connection_lost` is called exactly once, and nothing is called after it.
* After `close` or `abort`, `connection_lost` is the only call still to come. `end` silences nothing: data, the peer's
  end and `drained` still arrive.
* A peer that ends its side closes nothing. The receiver decides when it has seen enough.
* A write that fails does not lose what the peer sent before: what has arrived by then is still handed over (one read
  at most, even while reading is paused), then comes ``connection_lost(error)``.
* While reading is paused, at most one read that is already under way still arrives.

What the receiver promises
--------------------------
* Its methods neither block nor raise. An exception that escapes all the same is logged to the logger ``trio_ws`` and
  ends that one connection, with the exception as the reason given to `connection_lost`.
* It calls `write` no more for a while when `Transport.buffered` is above `HIGH_WATER`, and goes on when `drained` is
  called. The transport itself refuses nothing: the bound is kept by the one who writes.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import trio

# Above this a writer waits; the size of one full read on the other side, as in ws and asyncio (16..64 KiB).
HIGH_WATER = 65536
# At or below this it goes on: low enough that a wake-up is worth it, high enough that the wire does not run dry.
LOW_WATER = 16384
# The most that one turn reads from one connection, and up to which small chunks are joined into one write.
BATCH = 65536
# Chunks that may wait, and go out uncopied beside each other: IOV_MAX is 1024 on Linux, macOS and the BSDs. Above it those
# of up to two batches are joined: 64 KiB in echoes of one byte would take 1.2 MiB, nearly all of it for the objects around
# them.
MAX_CHUNKS = 1024

Chunk: TypeAlias = bytes | memoryview

_logger = logging.getLogger("trio_ws")

# glibc returns the end of its heap to the kernel whenever 128 KiB of it are free, and has it back page by page for the
# next large message: with messages of 1 MiB that took half of the time. A block of its own that is freed once raises this
# limit to twice its size (mallopt(3), M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, "dynamic"): 8 MiB that a process may keep.
# The block is never touched, so it costs no memory; other allocators take no notice.
bytes(2**22)


class Receiver(Protocol):
    """Whoever is told what happens on a connection. Its methods are called by the transport and never raise."""

    def data_received(self, data: bytes | bytearray) -> None:
        """Take over bytes that arrived; never empty."""

    def eof_received(self) -> None:
        """Learn that the peer has ended its side: no more data will come. Called once at most."""

    def drained(self) -> None:
        """Learn that `Transport.buffered`, having been above `LOW_WATER`, is now at or below it."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Learn that all is over; called exactly once, and last.

        *exc* is None when this side closed (`Transport.close` and `Transport.abort`), and else what ended it.
        """


class Transport:
    """A duplex stream of bytes that calls a `Receiver`. The promises are those of the module's docstring.

    Attributes:
        buffered: bytes taken over and not yet accepted by the kernel (or the inner stream); 0 once the connection is lost.
        accepted: bytes accepted by the kernel (or the inner stream) since the start. It only grows: progress shows in it.
        heard: when bytes last arrived, on Trio's clock; 0 before the first.
        moved: when some of the bytes that wait were last accepted, or began to wait, on Trio's clock.
        most_buffered: the most that `buffered` has been when a write returned.
    """

    __slots__ = ("accepted", "buffered", "heard", "most_buffered", "moved")

    def __init__(self) -> None:
        self.buffered = self.most_buffered = 0
        self.accepted = 0
        self.heard = 0.0
        self.moved = 0.0

    @property
    def can_end(self) -> bool:
        """Whether `end` can tell the peer (TCP, Unix sockets) or not (TLS, where ending is closing)."""
        raise NotImplementedError

    def start(self, receiver: Receiver, nursery: trio.Nursery) -> None:
        """Take the stream over, begin to read, and to call *receiver*. To be called once.

        Until this has returned the stream is still the caller's to close, and the other methods do nothing.

        *nursery* holds the tasks of transports that need some. Its cancellation ends no transport: how a connection
        ends is for its owner to decide, who may have a last word to say, and who calls `abort` in the end.

        Raises:
            OSError: no descriptor was left for the poller.
            RuntimeError: the nursery, or the Trio run, takes no more tasks.
            trio.ClosedResourceError: the stream is closed already.
        """
        raise NotImplementedError

    def write(self, chunks: tuple[Chunk, ...], more: bool = False) -> None:
        """Take over *chunks* (immutable bytes, or views of them) for sending; never blocks and never raises.

        *more* says that more is about to follow: it all leaves together, at the next turn at the latest.

        After `end`, `close`, `abort` or the loss of the connection they are dropped without a word.
        """
        raise NotImplementedError

    def flush(self) -> None:
        """Send what was held back because more was about to follow: nothing follows for now."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Stop reading, so that the peer's writes soon block. Idempotent."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Read again; allowed inside `Receiver.data_received`. Idempotent."""
        raise NotImplementedError

    def end(self) -> None:
        """Write no more: send what is queued, then tell the peer if `can_end`. Reading goes on."""
        raise NotImplementedError

    def close(self) -> None:
        """Send what is queued, then close in good order (TLS: with close_notify). Nothing more is read.

        A kernel answers unread data with a reset, which can overtake what was just sent. So end politely with `end`,
        read until the peer's end or a deadline, and then close. A peer that does not read delays this for ever: the
        deadline belongs to the caller, who then calls `abort`.
        """
        raise NotImplementedError

    def abort(self) -> None:
        """Close now; what is queued is dropped. `connection_lost` follows soon. Idempotent."""
        raise NotImplementedError


def log_failure(message: str, exc: BaseException) -> None:
    """Log *exc* with its traceback. A log handler that raises itself is no reason for anything here to fail."""
    with suppress(Exception):
        _logger.error(message, exc_info=exc)
