"""SocketTransport: plain TCP and Unix sockets, served by the shared poller; it must not know what the bytes mean."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from . import _base, _poller  # pyright: ignore[reportPrivateUsage]  # a module of this package
from ._accepted import AcceptedStream, detach
from ._base import BATCH, LOW_WATER, MAX_CHUNKS, Chunk, Receiver, log_failure
from ._ready import ERROR, HANGUP, READ, WRITE

assert sys.platform != "win32", "Windows has neither epoll nor kqueue"

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# From here on a chunk goes out uncopied beside others (sendmsg) instead of joined with them: a copy costs more than an
# entry in the kernel's list of buffers.
_LARGE: Final = 16384
# The most that is offered to the kernel in one turn where nothing has to be joined for it. It seldom takes more, and what
# it takes of a large message at once saves turns.
_LARGE_BATCH: Final = 16 * BATCH

# What a SocketTransport is in; it only ever moves forward.
#   NEW      not started, the stream is the caller's
#   OPEN     reads and writes
#   ENDING   writes what is queued, then SHUT_WR; reads
#   ENDED    SHUT_WR is done; reads
#   CLOSING  writes what is queued, then closes
#   FAILED   a write failed: the last read is being handed over
#   ABORTED  closed; connection_lost is due
#   LOST     connection_lost was called
_NEW, _OPEN, _ENDING, _ENDED, _CLOSING, _FAILED, _ABORTED, _LOST = range(8)


class SocketTransport(_base.Transport):
    """A connected stream socket, taken over from a stream (which has set TCP_NODELAY where there is TCP).

    The socket moves out of *stream* at `start`; from then on *stream* counts as closed, so read its addresses before.
    *current_poller* returns the poller of the Trio run. *read_size* bounds one read; 64 KiB at most, so that nobody waits
    for one that sends much.
    """

    __slots__ = (
        "_above",
        "_current_poller",
        "_eof",
        "_error",
        "_fd",
        "_paused",
        "_phase",
        "_poll",
        "_queue",
        "_read_size",
        "_receiver",
        "_sock",
        "_stream",
        "_want",
        "_watched",
        "_wrote",
        "due",
        "since",
    )

    _poll: _poller.Poller
    _receiver: Receiver
    _sock: socket.socket
    _fd: int

    def __init__(
        self,
        stream: trio.SocketStream | AcceptedStream,
        current_poller: Callable[[], _poller.Poller],
        read_size: int = BATCH,
    ) -> None:
        super().__init__()
        self._stream: trio.SocketStream | AcceptedStream | None = stream
        self._current_poller = current_poller
        self._read_size = min(read_size, BATCH)
        self._phase = _NEW
        # None: nothing is queued, as on most connections most of the time.
        self._queue: list[Chunk] | None = None
        # A failure inside one of the receiver's calls, to be told at the next turn.
        self._error: Exception | None = None
        self._want = READ
        self._watched = False
        self._wrote = 0  # the turn of the last write that was tried at once
        self._above = False  # above LOW_WATER since `drained` was called
        self._paused = False
        self._eof = False
        self.due = False  # in the poller's list for the next turn
        self.since = 0  # the turn in which it was added

    @property
    def can_end(self) -> bool:
        return True

    def __str__(self) -> str:
        return str(self._receiver)

    def start(self, receiver: Receiver, nursery: trio.Nursery) -> None:
        assert self._stream is not None, "start() is called once"
        if self._stream.socket.fileno() == -1:
            raise trio.ClosedResourceError("the stream is closed already")
        self._poll = self._current_poller()
        self._sock, self._stream = detach(self._stream), None
        self._fd = self._sock.fileno()
        self._receiver = receiver
        self._phase = _OPEN
        self.since = self._poll.turn
        self._poll.add(self._fd, self)
        self._watch(READ)

    def write(self, chunks: tuple[Chunk, ...], more: bool = False) -> None:
        size = len(chunks[0]) if len(chunks) == 1 else sum(map(len, chunks))
        if self._phase != _OPEN or not size:
            return
        self.buffered += size
        rest: Sequence[Chunk] = chunks
        if self._queue is not None:
            self._queue.extend(rest)
            if len(self._queue) > MAX_CHUNKS and self.buffered <= 2 * BATCH:
                self._queue = [b"".join(self._queue)]
        else:
            # The first write of a turn goes at once. Those behind it are corked: they leave together.
            if self._wrote != self._poll.turn and not more and len(chunks) <= MAX_CHUNKS:
                self._wrote = self._poll.turn
                rest = self._send(chunks, size)
                if not rest:
                    return
            self._queue = [*rest]
            self.moved = trio.current_time()
        if self._want & WRITE == 0:  # else the kernel is full, and the poller goes on when it has room
            if self.buffered >= BATCH and self._error is None:
                self._flush()
            if not self.due:
                self._call_soon()
        if self.buffered > LOW_WATER:
            self._above = True
        self.most_buffered = max(self.most_buffered, self.buffered)

    def flush(self) -> None:
        if (
            self._queue is not None
            and self._phase == _OPEN
            and not self._want & WRITE
            and self._error is None
        ):
            self._flush()

    def pause_reading(self) -> None:
        # The set is changed only when data does arrive meanwhile: mostly reading resumes before that.
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        if self._reads and not (self._watched and self._want & READ):
            self._watch(self._want | READ)

    def end(self) -> None:
        if self._phase == _OPEN:
            self._phase = _ENDING
            self._call_soon()

    def close(self) -> None:
        if _OPEN <= self._phase < _CLOSING:
            self._phase = _CLOSING
            self._call_soon()

    def abort(self) -> None:
        if _NEW < self._phase < _FAILED:
            self._phase = _ABORTED
            self._release()
            self._call_soon()

    def serve(self, events: int) -> None:
        """Do what *events* call for, and what is due. Called by the poller and the flusher alone."""
        if events == READ and self._phase == _OPEN and self._queue is None and not self._above:
            # by far the most frequent: there is something to read, and nothing else to do
            self._input(events)
            return
        if self._phase >= _ABORTED:
            self.lose(None)
            return
        if self._queue is not None and self._error is None and (events & ~READ or not self._want & WRITE):
            self._flush()
        if self._phase == _ENDING and self._queue is None and self._error is None:
            self._shutdown()
        if self._error is not None:
            self._fail(self._error)
        elif self._phase == _CLOSING and self._queue is None:
            self.lose(None)
        else:
            if self._above and self.buffered <= LOW_WATER and self._phase != _CLOSING:
                self._above = False
                self._receiver.drained()
            if events & ~WRITE and self._phase < _FAILED:
                self._input(events)

    def lose(self, exc: Exception | None) -> None:
        """Tell the receiver, once, that all is over."""
        if self._phase == _LOST:
            return
        if self._phase == _ABORTED:
            exc = None
        else:
            self._release()
        self._phase = _LOST
        try:
            self._receiver.connection_lost(exc)
        except Exception as failure:  # noqa: BLE001 - a receiver's failure ends its own connection only
            log_failure(f"{self} failed when its connection was lost", failure)
        self._error = None
        # nothing is told any more; else both would keep each other, until the collector comes by
        self._receiver = None  # type: ignore[assignment]  # `_phase` says so

    @property
    def _reads(self) -> bool:
        return not (self._paused or self._eof) and _OPEN <= self._phase < _CLOSING

    def _call_soon(self) -> None:
        if not self.due:
            self.due = True
            self._poll.call_soon(self)

    def _watch(self, want: int) -> None:
        old, self._want = self._want if self._watched else None, want
        if old == want:
            return
        try:
            self._poll.watch(self._fd, old, want)
            self._watched = True
        except OSError as exc:  # out of memory, or of watches
            self._error = exc
            self._call_soon()

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            with suppress(OSError):
                self._poll.watch(self._fd, self._want, None)

    def _release(self) -> None:
        # In this order: a descriptor that is closed may be another's the next moment.
        self._unwatch()
        self._poll.remove(self._fd)
        with suppress(OSError):
            self._sock.close()
        self._queue = None
        self.buffered = 0

    def _send(self, chunks: Sequence[Chunk], size: int) -> Sequence[Chunk]:
        """Offer *chunks*, *size* bytes in all, to the kernel once. Returns what it did not take."""
        try:
            if len(chunks) == 1:
                sent = self._sock.send(chunks[0])
            elif size < _LARGE or max(map(len, chunks)) < _LARGE:
                sent = self._sock.send(b"".join(chunks))
            else:
                sent = self._sock.sendmsg(chunks)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            self._error = exc
            self._call_soon()
            return chunks
        self.buffered -= sent
        self.accepted += sent
        if sent and (self.buffered or self._want & WRITE):
            self.moved = trio.current_time()
        if sent == size:
            return ()
        self._watch(self._want | WRITE)
        return _behind(chunks, sent)

    def _flush(self) -> None:
        """Offer the next batch of what is queued: one a turn, so that nobody waits for a large queue of another."""
        queue = self._queue
        assert queue is not None
        if self.buffered <= BATCH and len(queue) <= MAX_CHUNKS:
            rest = self._send(queue, self.buffered)
            self._queue = [*rest] if rest else None
        else:
            count = size = 0
            most = _LARGE_BATCH if len(queue[0]) >= _LARGE else BATCH
            while count < len(queue) and size < most and count < MAX_CHUNKS:
                size += len(queue[count])
                count += 1
            queue[:count] = self._send(queue[:count], size)
            if not queue:
                self._queue = None
        want = self._want & ~WRITE if self._queue is None else self._want | WRITE
        if want != self._want:
            self._watch(want)

    def _shutdown(self) -> None:
        self._phase = _ENDED
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            self._error = exc

    def _input(self, events: int) -> None:
        if not self._reads:
            self._ignore(events)
            return
        try:
            data = self._sock.recv(self._read_size)
        except BlockingIOError:
            return
        except OSError as exc:
            self.lose(exc)
            return
        if data:
            if len(data) == self._read_size:
                self._poll.again = True
            self.heard = self._poll.now
            self._receiver.data_received(data)
        else:
            self._eof = True
            self._receiver.eof_received()
            if self._phase == _CLOSING and self._queue is None and self._error is None:
                self.lose(None)

    def _ignore(self, events: int) -> None:
        """Deal with news about input nobody reads, so that the kernel does not repeat it for ever."""
        if events & ERROR and (code := self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            self._fail(OSError(code, os.strerror(code)))
        elif events & (ERROR | HANGUP) and self._queue is None:
            # Both sides have ended, in good order. That cannot be masked; what is unread stays until reading resumes.
            self._unwatch()
        else:
            self._watch(self._want & ~READ)

    def _fail(self, exc: Exception) -> None:
        """Hand over what has arrived before the failure, then report it."""
        if self._phase < _CLOSING and not self._eof:
            self._phase = _FAILED
            data = b""
            with suppress(OSError):
                data = self._sock.recv(BATCH)
            if data:
                self.heard = self._poll.now
                self._receiver.data_received(data)
        self.lose(exc)


def _behind(chunks: Sequence[Chunk], sent: int) -> list[Chunk]:
    """What is left of *chunks* behind the first *sent* bytes; something is."""
    index = 0
    while sent >= len(chunks[index]):
        sent -= len(chunks[index])
        index += 1
    return [memoryview(chunks[index])[sent:], *chunks[index + 1 :]]
