"""Messages in pieces, received in bounded memory, or to be sent; knows nothing of frames and transports."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Protocol

import trio

from ._channel import receive_nowait, rest
from ._inbox import memory_of
from ._interrupts import uninterrupted
from ._sendable import Utf8Decoder, recoded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from types import TracebackType

    from typing_extensions import Buffer

    from ._errors import ConnectionClosed
    from ._inbox import Inbox
    from .protocol import Fragment


class Source(Protocol):
    """Where the pieces come from: the connection, as far as this file sees it."""

    inbox: Inbox
    pieces: Pieces | None

    def start_pieces(self, pieces: Pieces) -> None:
        """Put the next message into `pieces`."""

    def stop_pieces(self) -> None:
        """Put no more of it there."""

    def wanted(self) -> None:
        """Learn that a piece is wanted and none is there."""

    def taken(self) -> None:
        """Learn that a piece was taken."""

    def closed_error(self) -> ConnectionClosed:
        """Return what to raise once the connection is over."""
        ...


class Pieces:
    """The pieces of one message on their way to the application. Their memory counts towards the bounds of `inbox`."""

    __slots__ = ("_in", "_inbox", "_out", "dropped", "over")

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._in, self._out = trio.open_memory_channel[str | bytes](math.inf)
        self.dropped = False
        self.over = trio.Event()

    @property
    def waiting(self) -> bool:
        """Whether the application waits for a piece, or wants none."""
        return self.dropped or self._out.statistics().tasks_waiting_receive > 0

    def put(self, fragment: Fragment) -> None:
        """Add a piece; after the final one the queue is closed."""
        if fragment.data and not self.dropped:
            self._in.send_nowait(fragment.data)
            self._inbox.hold(memory_of(fragment.data))
        if fragment.final:
            self.end()

    def end(self) -> None:
        """Add no more."""
        self._in.close()
        self.over.set()

    def drop(self) -> None:
        """Throw away what is queued and what is still to come."""
        self.dropped = True
        with suppress(trio.WouldBlock, trio.EndOfChannel):
            while True:
                self._inbox.bytes -= memory_of(self._out.receive_nowait())

    async def get(self, source: Source) -> str | bytes:
        """Take the next piece.

        Raises:
            trio.EndOfChannel: there is none.

        Cancellation: takes nothing, or returns what it took.
        """
        await rest(self._inbox.turn)
        try:
            piece = self._out.receive_nowait()
        except trio.WouldBlock:
            source.wanted()
            piece = await self._out.receive()
        self._inbox.bytes -= memory_of(piece)
        source.taken()
        return piece


@uninterrupted
class MessageStream:
    """One message, received in pieces: ``async with ws.receive_stream() as pieces: async for piece in pieces: ...``.

    The pieces are `str` for a text message, cut between characters, and `bytes` for a binary one. Where they are cut
    follows the network, not the peer's fragments. No more than `message_queue_bytes` of them wait in memory.

    Leaving the block early drops the rest of the message, unless nothing of it had come yet: then the message stays for
    the next who asks.
    """

    __slots__ = ("_pieces", "_source", "_whole")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._pieces: Pieces | None = None
        self._whole: str | bytes | None = None

    async def __aenter__(self) -> MessageStream:
        """Claim the next message.

        Raises:
            trio.BusyResourceError: another task waits for the next message.

        Cancellation: claims nothing.
        """
        source = self._source
        await rest(source.inbox.turn)
        while (before := source.pieces) is not None and before.dropped:
            source.wanted()
            await before.over.wait()
        if source.pieces is not None or source.inbox.waiting:
            raise trio.BusyResourceError("another task waits for the next message")
        try:
            self._whole = receive_nowait(source)
        except trio.WouldBlock:
            self._pieces = Pieces(source.inbox)
            source.start_pieces(self._pieces)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Drop what was not received of the message. Cancellation: not a checkpoint, always done."""
        if self._pieces is not None and self._source.pieces is self._pieces:
            self._source.stop_pieces()

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self

    async def __anext__(self) -> str | bytes:
        """Return the next piece, waiting for it if need be.

        Raises:
            ConnectionClosed: the connection ended inside the message.

        Cancellation: takes nothing, or returns what it took.
        """
        if self._pieces is None:
            await trio.lowlevel.checkpoint()
            whole, self._whole = self._whole, None
            if not whole:
                raise StopAsyncIteration
            return whole
        with suppress(trio.EndOfChannel):
            return await self._pieces.get(self._source)
        if self._source.pieces is self._pieces:
            raise self._source.closed_error()
        raise StopAsyncIteration


async def each_of(
    pieces: Iterable[str | Buffer] | AsyncIterable[str | Buffer],
) -> AsyncGenerator[str | Buffer]:
    """Yield the pieces; a generator that is left early is closed, as nobody else has it to close."""
    if not isinstance(pieces, AsyncIterable):
        for piece in pieces:
            yield piece
        return
    try:
        async for piece in pieces:
            yield piece
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


async def recoded_pieces(
    pieces: Iterable[str | Buffer] | AsyncIterable[str | Buffer], binary: bool
) -> AsyncGenerator[str | Buffer]:
    """Yield the pieces as binary, or as text, whatever they are themselves; of UTF-8 only whole characters."""
    decoder = Utf8Decoder()
    async with aclosing(each_of(pieces)) as each:
        async for piece in each:
            if binary:
                yield recoded(piece, binary)
            else:
                yield decoder.decode(piece.encode() if isinstance(piece, str) else bytes(piece))
    if not binary:
        yield decoder.decode(b"", True)  # mostly empty, but what makes a message of no pieces one of text
