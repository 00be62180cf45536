"""Messages on their way from the connection to the application: a bounded queue; knows nothing of frames and transports.

Several tasks may share the work: whoever waits is handed its message directly, in the order in which they came, and a
receiver that is cancelled takes none. The queue is bounded in messages and in bytes, but not by itself: who fills it
asks `full` and stops reading, because what has been read must go somewhere (one read at most).

A Trio memory channel would do the same, at the price of more calls for each message and of more objects for each
connection; docs/explanation/performance.md has the measurements.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from sys import getsizeof
from time import perf_counter
from typing import TYPE_CHECKING, Protocol, TypeAlias

import trio
from trio.lowlevel import checkpoint_if_cancelled, current_task, reschedule, wait_task_rescheduled

if TYPE_CHECKING:
    from ._errors import ConnectionClosed

Message: TypeAlias = str | bytes

#: `receive` and `send` each let other tasks run at least this often, whichever comes first: messages, seconds.
TURN_MESSAGES = 64
TURN_SECONDS = 0.001

#: While a `ping()` waits, up to this many messages are read past a full queue to find its pong.
READ_AHEAD = 4096


class Turn:
    """Shares of the processor: a task that never has to wait is made to let others run now and then.

    Attributes:
        end: when the turn is over, on the clock of `perf_counter`.
        receives: messages that may be received in it.
        sends: messages that may be sent in it.
    """

    __slots__ = ("end", "receives", "sends")

    def __init__(self) -> None:
        self.end = 0.0
        self.receives = self.sends = 0

    def begin(self) -> None:
        """Begin a turn: others have just had theirs."""
        self.end = perf_counter() + TURN_SECONDS
        self.receives = self.sends = TURN_MESSAGES

    async def checkpoint(self) -> None:
        """Be a cancellation point and a schedule point."""
        await trio.lowlevel.checkpoint()
        self.begin()


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
    reading: bool
    """Whether the queue is being filled; if not, the owner is told of each message that is taken."""

    def taken(self) -> None:
        """Learn that a message was taken."""

    def wanted(self) -> None:
        """Learn that a message is wanted and none is there; may put one, or close the queue."""

    def closed_error(self) -> ConnectionClosed:
        """Return what to raise once the queue is closed and empty."""
        ...


class _Waiter:
    """A task that waits for a message, and the message when it has come."""

    __slots__ = ("_inbox", "message", "task")

    def __init__(self, inbox: Inbox, task: trio.lowlevel.Task) -> None:
        self._inbox = inbox
        self.task = task
        self.message: Message | None = None

    def abort(self, _: object) -> trio.lowlevel.Abort:
        """Wait no more."""
        self._inbox.leave(self)
        return trio.lowlevel.Abort.SUCCEEDED


class Inbox:
    """The queue itself, seen from both ends.

    Args:
        max_messages: messages it should hold.
        max_bytes: memory in bytes that those should take.

    Attributes:
        bytes: memory that the messages take, with the pieces of one that is received in pieces.
        queue: the messages; None or empty if there are none.
        turn: the share of the processor that receiving and sending have.
    """

    __slots__ = ("_closed", "_first", "_others", "bytes", "max_bytes", "max_messages", "queue", "turn")

    def __init__(self, max_messages: float, max_bytes: float) -> None:
        self.bytes = 0
        self.max_messages = max(max_messages, 1)
        self.max_bytes = max_bytes
        self.turn = Turn()
        self._closed = False
        # None while there is nothing in it, as on most connections most of the time: an empty one has 760 bytes
        self.queue: deque[Message] | None = None
        # who waits longest, and the others in their order, who are rare
        self._first: _Waiter | None = None
        self._others: OrderedDict[_Waiter, None] | None = None

    @property
    def messages(self) -> int:
        """Messages waiting."""
        return len(self.queue) if self.queue else 0

    @property
    def waiting(self) -> bool:
        """Whether a task waits for a message."""
        return self._first is not None

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

    def put(self, message: Message) -> None:
        """Hand a message to who waits longest, else add it. Never blocks."""
        waiter = self._first
        if waiter is not None:
            waiter.message = message
            self._first = self._others.popitem(last=False)[0] if self._others else None
            reschedule(waiter.task)
        else:
            if self.queue is None:
                self.queue = deque()
            self.queue.append(message)
            self.bytes += getsizeof(message)  # not len(): one character can make a text four times as large

    def close(self) -> None:
        """Add no more: who waits, and who comes when the queue is empty, is told so."""
        self._closed = True
        while (waiter := self._first) is not None:
            self.leave(waiter)
            reschedule(waiter.task)

    def leave(self, waiter: _Waiter) -> None:
        """Let a task wait no more."""
        if waiter is not self._first:
            assert self._others is not None
            del self._others[waiter]
        else:
            self._first = self._others.popitem(last=False)[0] if self._others else None

    def discard(self) -> None:
        """Drop what is queued; a message already on its way to a task stays with it."""
        while self.queue:
            self.bytes -= getsizeof(self.queue.popleft())

    async def get(self, owner: Owner, stop: bool = False) -> Message:
        """Take the next message, waiting for it if need be.

        Args:
            owner: who fills the queue.
            stop: whether a clean end is the end of an iteration.

        Raises:
            ConnectionClosed: the queue is closed and empty.
            StopAsyncIteration: it is, after a clean end, and `stop` was set.

        Cancellation: takes nothing, or returns what it took.
        """
        # All of it stands in one function: what `async for` costs is mostly how many calls a message goes through.
        turn = self.turn
        turn.receives -= 1
        if not self.queue or (turn.receives > 0 and perf_counter() < turn.end):
            await checkpoint_if_cancelled()
        else:
            await turn.checkpoint()
        if not self.queue and not self._closed:
            owner.wanted()  # which may make one come, or the end
            if self.queue and turn.receives <= 0:
                await turn.checkpoint()
        if self.queue:
            return self._take(owner)
        if not self._closed:
            self.queue = None
            waiter = _Waiter(self, current_task())
            if self._first is None:
                self._first = waiter
            else:
                self._others = self._others or OrderedDict()
                self._others[waiter] = None
            await wait_task_rescheduled(waiter.abort)
            turn.begin()
            if waiter.message is not None:
                return waiter.message
        # the error is in no variable: with its traceback it would keep this frame, and that it
        if stop and isinstance(owner.closed_error(), trio.EndOfChannel):
            raise StopAsyncIteration
        raise owner.closed_error()

    def get_nowait(self, owner: Owner) -> Message:
        """Take the next message if there is one.

        Raises:
            trio.WouldBlock: there is none now.
            ConnectionClosed: the queue is closed and empty.
        """
        if not self.queue and not self._closed:
            owner.wanted()
        if self.queue:
            return self._take(owner)
        raise owner.closed_error() if self._closed else trio.WouldBlock

    def _take(self, owner: Owner) -> Message:
        assert self.queue, "there is one"
        message = self.queue.popleft()
        self.bytes -= getsizeof(message)
        if not owner.reading:
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
