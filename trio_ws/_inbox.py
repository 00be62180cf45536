"""Messages on their way from the connection to the application: a bounded queue; knows nothing of frames and transports.

The queue is a Trio memory channel, so several tasks may share the work and a cancelled `receive` loses nothing. It is
bounded in messages and in bytes, but not by itself: who fills it asks `full` and stops reading, because what has been
read must go somewhere (one read at most).
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from sys import getsizeof
from time import perf_counter
from typing import TYPE_CHECKING, Protocol, TypeAlias

import trio

if TYPE_CHECKING:
    from ._errors import ConnectionClosed

Message: TypeAlias = str | bytes

#: `receive` and `send` let other tasks run at least this often, whichever comes first: messages, seconds.
TURN_MESSAGES = 64
TURN_SECONDS = 0.001

#: While a `ping()` waits, up to this many messages are read past a full queue to find its pong.
READ_AHEAD = 4096


class Turn:
    """Shares of the processor: a task that never has to wait is made to let others run now and then."""

    __slots__ = ("_end", "_left")

    def __init__(self) -> None:
        self._left = 0
        self._end = 0.0

    async def checkpoint(self) -> None:
        """Be a cancellation point, and a schedule point when the turn is used up."""
        self._left -= 1
        if self._left > 0 and perf_counter() < self._end:
            await trio.lowlevel.checkpoint_if_cancelled()
            return
        await trio.lowlevel.checkpoint()
        self._left = TURN_MESSAGES
        self._end = perf_counter() + TURN_SECONDS


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """How full a connection's queue of messages is.

    Attributes:
        messages: messages waiting.
        bytes: memory they take, with the pieces of a message that is received in pieces.
        max_messages: messages at which reading pauses.
        max_bytes: bytes at which reading pauses.
    """

    messages: int
    bytes: int
    max_messages: float
    max_bytes: float


class Owner(Protocol):
    """Who fills the queue, and is told what happens at its other end. The queue does not keep it: no cycle arises."""

    inbox: Inbox

    def taken(self) -> None:
        """Learn that a message was taken."""

    def wanted(self) -> None:
        """Learn that a message is wanted and none is there; may put one, or close the queue."""

    def closed_error(self) -> ConnectionClosed:
        """Return what to raise once the queue is closed and empty."""
        ...


class Inbox:
    """The queue itself, seen from both ends.

    Args:
        max_messages: messages it should hold.
        max_bytes: memory in bytes that those should take.
    """

    __slots__ = ("_in", "_out", "bytes", "max_bytes", "max_messages", "messages", "turn")

    def __init__(self, max_messages: float, max_bytes: float) -> None:
        self._in, self._out = trio.open_memory_channel[Message](math.inf)
        self.messages = 0
        self.bytes = 0
        self.max_messages = max(max_messages, 1)
        self.max_bytes = max_bytes
        self.turn = Turn()

    def full(self, partial: int, stretched: bool) -> bool:
        """Say whether reading should pause, with `partial` bytes of an incomplete message elsewhere.

        Args:
            partial: bytes of a message that is not complete yet.
            stretched: whether somebody waits for what may lie behind the messages.
        """
        size = self.bytes + partial
        if stretched:
            return self.messages >= READ_AHEAD or size >= 2 * self.max_bytes
        return self.messages >= self.max_messages or size >= self.max_bytes

    def low(self) -> bool:
        """Say whether so much was taken that reading may go on: half, so that not every message switches it."""
        return self.messages <= self.max_messages / 2 and self.bytes <= self.max_bytes / 2

    @property
    def waiting(self) -> bool:
        """Whether a task waits for a message."""
        return self._out.statistics().tasks_waiting_receive > 0

    def put(self, message: Message) -> None:
        """Add a message. Never blocks."""
        self._in.send_nowait(message)
        self.messages += 1
        self.bytes += getsizeof(message)  # not len(): one character can make a text four times as large

    def close(self) -> None:
        """Add no more: who waits, and who comes when the queue is empty, is told so."""
        self._in.close()

    def discard(self) -> None:
        """Drop what is queued; a message already on its way to a task stays with it."""
        with suppress(trio.WouldBlock, trio.EndOfChannel):
            while True:
                message = self._out.receive_nowait()
                self.messages -= 1
                self.bytes -= getsizeof(message)

    async def get(self, owner: Owner) -> Message:
        """Take the next message, waiting for it if need be.

        Raises:
            ConnectionClosed: the queue is closed and empty.

        Cancellation: takes nothing, or returns what it took.
        """
        await self.turn.checkpoint()
        try:
            return self._take(owner)
        except trio.WouldBlock:
            owner.wanted()
        with suppress(trio.EndOfChannel):
            return self._count(await self._out.receive(), owner)
        raise owner.closed_error()

    def get_nowait(self, owner: Owner) -> Message:
        """Take the next message if there is one.

        Raises:
            trio.WouldBlock: there is none now.
            ConnectionClosed: the queue is closed and empty.
        """
        with suppress(trio.WouldBlock):
            return self._take(owner)
        owner.wanted()
        return self._take(owner)

    def _take(self, owner: Owner) -> Message:
        with suppress(trio.EndOfChannel):
            return self._count(self._out.receive_nowait(), owner)
        raise owner.closed_error()

    def _count(self, message: Message, owner: Owner) -> Message:
        self.messages -= 1
        self.bytes -= getsizeof(message)
        owner.taken()
        return message


class MessageChannel(trio.abc.ReceiveChannel["str | bytes"]):
    """The receiving end of a connection's queue of messages.

    Its clones take from the same queue, each message going to one of them. The queue belongs to the connection: closing
    a channel closes that object and nothing else.
    """

    __slots__ = ("_closed", "_owner")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._closed = False

    async def receive(self) -> Message:
        """Receive the next message, waiting for it if need be.

        Raises:
            ConnectionClosed: the connection is over and all that came before was received.
            trio.ClosedResourceError: this channel was closed.

        Cancellation: no message is lost.
        """
        self._require_open()
        return await self._owner.inbox.get(self._owner)

    def receive_nowait(self) -> Message:
        """Receive the next message if there is one.

        Raises:
            trio.WouldBlock: there is none now.
            ConnectionClosed: the connection is over and all that came before was received.
            trio.ClosedResourceError: this channel was closed.
        """
        self._require_open()
        return self._owner.inbox.get_nowait(self._owner)

    def clone(self) -> MessageChannel:
        """Return another channel on the same queue.

        Raises:
            trio.ClosedResourceError: this channel was closed.
        """
        self._require_open()
        return MessageChannel(self._owner)

    def statistics(self) -> QueueStatistics:
        """Return how full the queue is."""
        inbox = self._owner.inbox
        return QueueStatistics(inbox.messages, inbox.bytes, inbox.max_messages, inbox.max_bytes)

    async def aclose(self) -> None:
        """Close this channel.

        Cancellation: it is closed all the same.
        """
        self._closed = True
        await trio.lowlevel.checkpoint()

    def _require_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this channel was closed")
