"""StreamTransport: any `trio.abc.Stream` (TLS, memory streams, tunnels); it must not know which, nor what the bytes mean.

One task reads and one writes, both in the nursery given. The writer is the one that closes the stream and reports the
loss of the connection, whichever of the two learns of it first.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, TypeVarTuple

import trio
from trio.lowlevel import current_task, reschedule, wait_task_rescheduled

from ._accel import Transport
from ._base import BATCH, LOW_WATER, MAX_CHUNKS, Chunk, Receiver, log_failure

if TYPE_CHECKING:
    from collections.abc import Callable

_Args = TypeVarTuple("_Args")

# What a StreamTransport is in; it only ever moves forward.
#   NEW      not started, the stream is the caller's
#   OPEN     reads and writes
#   ENDING   writes what is queued, then send_eof; reads
#   ENDED    send_eof is done; reads
#   CLOSING  writes what is queued, then aclose
#   FAILED   a write failed: the last read is being handed over
#   ABORTED  is being closed
#   LOST     connection_lost was called
_NEW, _OPEN, _ENDING, _ENDED, _CLOSING, _FAILED, _ABORTED, _LOST = range(8)

# Scheduler passes a reader gets when a write has failed. With data at hand it needs up to six: to wake, to read, and
# for the checkpoints that streams make on the way.
_LAST_READ_PASSES: Final = 10


class Inner(Protocol):
    """What lies under a stream and says when a read has to wait: all that had arrived was read."""

    on_idle: Callable[[], None] | None
    """Called before each wait."""


class _Nap:
    """The sleep of one task: a `trio.lowlevel.ParkingLot` for many costs more, in time and in memory."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None

    async def take(self) -> None:
        """Sleep until `end` is called."""
        self._task = current_task()
        await wait_task_rescheduled(self._leave)

    def end(self) -> None:
        """Wake the task if it sleeps."""
        task, self._task = self._task, None
        if task is not None:
            reschedule(task)

    def _leave(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class StreamTransport(Transport):
    """A `trio.abc.Stream` of any kind. *read_size* is what one `receive_some` may return at most.

    A read of TLS is one record, of 16 KiB at most (RFC 8446 5.1), and takes a scheduler pass. So where the stream lies on
    an *inner* one that says when all that had arrived was read, reads are gathered until then, up to *read_size*: whoever
    answers them answers all at once, which is one step of its task and one write for several messages.
    """

    __slots__ = (
        "_above",
        "_error",
        "_gathered",
        "_inner",
        "_paused",
        "_phase",
        "_queue",
        "_read_size",
        "_reader_nap",
        "_reader_scope",
        "_reads",
        "_receiver",
        "_stream",
        "_writer_nap",
        "_writer_scope",
    )

    _receiver: Receiver

    def __init__(self, stream: trio.abc.Stream, read_size: int = BATCH, inner: Inner | None = None) -> None:
        super().__init__()
        self._stream = stream
        self._read_size = read_size
        self._inner = inner
        self._reads: list[bytes | bytearray] = []  # not handed over yet
        self._gathered = 0  # bytes of them
        self._phase = _NEW
        self._queue: deque[Chunk] = deque()
        self._error: Exception | None = None
        self._above = False  # above LOW_WATER since `drained` was called
        self._paused = False
        self._reader_nap = _Nap()
        self._writer_nap = _Nap()
        # Shielded: how a connection ends when its surroundings are cancelled is its owner's decision, as for sockets.
        self._reader_scope = trio.CancelScope(shield=True)
        self._writer_scope = trio.CancelScope(shield=True)

    @property
    def can_end(self) -> bool:
        return isinstance(self._stream, trio.abc.HalfCloseableStream)

    def start(self, receiver: Receiver, nursery: trio.Nursery) -> None:
        self._receiver = receiver
        nursery.start_soon(self._write_all, name="trio_ws writer")
        nursery.start_soon(self._read_all, name="trio_ws reader")
        if self._inner is not None:
            self._inner.on_idle = self._hand_over
        self._phase = _OPEN

    def write(self, chunks: tuple[Chunk, ...], more: bool = False) -> None:
        size = len(chunks[0]) if len(chunks) == 1 else sum(map(len, chunks))
        if self._phase != _OPEN or not size:
            return
        if not self.buffered:
            self.moved = trio.current_time()
        self._queue.extend(chunks)
        self.buffered += size
        if len(self._queue) > MAX_CHUNKS and self.buffered <= 2 * BATCH:
            self._queue = deque((b"".join(self._queue),))
        if self.buffered > LOW_WATER:
            self._above = True
        self.most_buffered = max(self.most_buffered, self.buffered)
        self._writer_nap.end()

    def flush(self) -> None:
        """Do nothing: the writing task holds nothing back."""

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._reader_nap.end()

    def end(self) -> None:
        if self._phase == _OPEN:
            self._phase = _ENDING
            self._writer_nap.end()

    def close(self) -> None:
        if _OPEN <= self._phase < _CLOSING:
            self._phase = _CLOSING
            self._reader_scope.cancel()
            self._writer_nap.end()

    def abort(self) -> None:
        self._abort(None)

    @trio.lowlevel.enable_ki_protection
    async def _read_all(self) -> None:
        with self._reader_scope:
            try:
                while self._phase < _FAILED:
                    while self._paused:
                        await self._reader_nap.take()
                    data = await self._stream.receive_some(self._read_size - self._gathered)
                    if self._phase == _CLOSING or self._phase >= _ABORTED:
                        return
                    if not data:
                        self._hand_over()
                        self._call(self._receiver.eof_received)
                        return
                    self._reads.append(data)
                    self._gathered += len(data)
                    if self._inner is None or self._gathered >= self._read_size:
                        self._hand_over()
            except Exception as exc:  # noqa: BLE001 - whatever a stream raises, it is this connection's end
                self._hand_over()
                self._abort(exc)

    def _hand_over(self) -> None:
        """Give the receiver what was read."""
        if not self._reads:
            return
        data = self._reads[0] if len(self._reads) == 1 else b"".join(self._reads)
        self._reads.clear()
        self._gathered = 0
        if self._phase != _CLOSING and self._phase < _ABORTED:
            self.heard = trio.current_time()
            self._call(self._receiver.data_received, data)

    @trio.lowlevel.enable_ki_protection
    async def _write_all(self) -> None:
        try:
            with self._writer_scope:
                try:
                    await self._write_queue()
                    if self._phase == _CLOSING:
                        await self._stream.aclose()
                except Exception as exc:  # noqa: BLE001 - as in the reader
                    await self._last_read(exc)
        finally:
            # Whatever brought us here: nothing may follow a write that was cut off, so the stream is closed visibly.
            self._reader_scope.cancel()
            try:
                with suppress(Exception):
                    await trio.aclose_forcefully(self._stream)
            finally:  # Cancelled, if the nursery is
                self._lose()

    async def _write_queue(self) -> None:
        """Write until `close` was called and all is written."""
        while self._phase < _FAILED and (self._queue or self._phase != _CLOSING):
            if self._queue:
                batch = self._take_batch()
                await self._stream.send_all(batch)
                self.buffered -= len(batch)
                self.accepted += len(batch)
                self.moved = trio.current_time()
                if self._above and self.buffered <= LOW_WATER and self._phase < _CLOSING:
                    self._above = False
                    self._call(self._receiver.drained)
            elif self._phase == _ENDING:
                self._phase = _ENDED
                if isinstance(self._stream, trio.abc.HalfCloseableStream):
                    await self._stream.send_eof()
            else:
                await self._writer_nap.take()

    def _take_batch(self) -> Chunk:
        """The next 64 KiB: a larger chunk goes in parts, so that `accepted` shows progress within it."""
        if len(self._queue) == 1 and self.buffered <= BATCH:
            return self._queue.popleft()
        parts: list[Chunk] = []
        room = BATCH
        while self._queue and room:
            chunk = self._queue.popleft()
            if len(chunk) > room:
                view = memoryview(chunk)
                self._queue.appendleft(view[room:])
                chunk = view[:room]
            parts.append(chunk)
            room -= len(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _last_read(self, exc: Exception) -> None:
        """A write failed: let the reader hand over what has arrived before, also while it was paused."""
        if self._phase < _FAILED:
            self._error = exc
        if self._phase < _CLOSING:
            self._phase = _FAILED
            self.resume_reading()
            for _ in range(_LAST_READ_PASSES):
                await trio.lowlevel.checkpoint()
            self._hand_over()  # it may still be reading

    def _abort(self, exc: Exception | None) -> None:
        if _NEW < self._phase < _FAILED:
            self._phase = _ABORTED
            self._error = exc
            self._writer_scope.cancel()  # and the writer cancels the reader

    def _call(self, method: Callable[[*_Args], None], *args: *_Args) -> None:
        """Call the receiver; if it fails, which it promised not to, that ends this connection."""
        try:
            method(*args)
        except Exception as exc:  # noqa: BLE001 - a receiver's failure ends its own connection only
            log_failure(f"{self._receiver} failed; its connection is aborted", exc)
            self._abort(exc)

    def _lose(self) -> None:
        self._phase = _LOST
        self._queue.clear()
        self.buffered = 0
        error, self._error = self._error, None  # its traceback leads back here
        self._call(self._receiver.connection_lost, error)
        # nothing is told any more; else they would keep each other, until the collector comes by
        del self._receiver
        if self._inner is not None:
            self._inner.on_idle = None
