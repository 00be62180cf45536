"""Messages on their way from the connection to the application: a bounded queue; knows nothing of frames and transports.

Several tasks may share the work: whoever waits is handed its message directly, in the order in which they came, and a
receiver that is cancelled takes none. The queue is bounded in messages and in bytes, but not by itself: who fills it
asks `full` and stops reading, because what has been read must go somewhere (one read at most).

Nothing here waits: the coroutines around it are in _channel.py. A Trio memory channel would do the same, at the price
of more calls for each message and of more objects for each connection; docs/explanation/performance.md has the
measurements.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from sys import getsizeof
from typing import TYPE_CHECKING, TypeAlias

import trio
from trio.lowlevel import reschedule

if TYPE_CHECKING:
    from typing import Protocol

    from ._errors import ConnectionClosed

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


Message: TypeAlias = str | bytes

#: `receive` and `send` each let other tasks run at least this often, whichever comes first: messages, seconds.
TURN_MESSAGES = 64
TURN_SECONDS = 0.001

#: While a `ping()` waits, up to this many messages are read past a full queue to find its pong.
READ_AHEAD = 4096

_BYTES_OVERHEAD = getsizeof(b"")


class Turn:
    """Shares of the processor: a task that never has to wait is made to let others run now and then.

    Attributes:
        end: when the turn is over, on the clock of `perf_counter`.
        fresh: whether a look at the clock has just said that it is not.
        receives: messages that may be received in it.
        sends: messages that may be sent in it.
    """

    __slots__ = ("end", "fresh", "receives", "sends")

    def __init__(self) -> None:
        self.end = 0.0
        self.fresh = False
        self.receives = self.sends = 0

    def begin(self) -> None:
        """Begin a turn: others have just had theirs."""
        self.end = time.perf_counter() + TURN_SECONDS
        self.fresh = True
        self.receives = self.sends = TURN_MESSAGES

    def may_send(self) -> bool:
        """Take a share for sending one message; return whether there was one."""
        self.sends -= 1
        # who answers what it has just received spares half of the looks at the clock
        fresh, self.fresh = self.fresh, False
        return self.sends >= 0 and (fresh or time.perf_counter() < self.end)

    def may_receive(self) -> bool:
        """Take a share for receiving one message; return whether there was one."""
        self.receives -= 1
        self.fresh = self.receives >= 0 and time.perf_counter() < self.end
        return self.fresh


class Waiter:
    """A task that waits for a message, and the message when it has come; None: the queue was closed."""

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
        closed: whether none is added any more.
        messages: messages waiting.
        most_bytes: the most that `bytes` has ever been.
        most_messages: the most that `messages` has ever been.
        reading: whether the queue is being filled; if not, its owner is told of each message that is taken.
        turn: the share of the processor that receiving and sending have.
    """

    __slots__ = (
        "_behind",
        "_first",
        "_next",
        "_others",
        "bytes",
        "closed",
        "max_bytes",
        "max_messages",
        "messages",
        "most_bytes",
        "most_messages",
        "reading",
        "turn",
    )

    def __init__(self, max_messages: float, max_bytes: float) -> None:
        self.bytes = self.most_bytes = 0
        self.messages = self.most_messages = 0
        self.max_messages = max(max_messages, 1)
        self.max_bytes = max_bytes
        self.turn = Turn()
        self.closed = False
        self.reading = True
        # Two lists make a queue: those to be taken, the last one first, and those behind them in their order. A deque
        # takes 760 bytes even if it is empty, as it is on most connections most of the time.
        self._next: list[Message] = []
        self._behind: list[Message] = []
        # who waits longest, and the others in their order, who are rare
        self._first: Waiter | None = None
        self._others: OrderedDict[Waiter, None] | None = None

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
            self._behind.append(message)
            self.messages += 1
            self.most_messages = max(self.most_messages, self.messages)
            self.hold(memory_of(message))

    def hold(self, size: int) -> None:
        """Count memory for a message, or for a piece of one."""
        self.bytes += size
        self.most_bytes = max(self.most_bytes, self.bytes)

    def close(self) -> None:
        """Add no more: who waits, and who comes when the queue is empty, is told so."""
        self.closed = True
        while (waiter := self._first) is not None:
            self.leave(waiter)
            reschedule(waiter.task)

    def join(self, task: trio.lowlevel.Task) -> Waiter:
        """Have a task wait for a message, behind those who wait already."""
        waiter = Waiter(self, task)
        if self._first is None:
            self._first = waiter
        else:
            self._others = self._others or OrderedDict()
            self._others[waiter] = None
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Let a task wait no more."""
        if waiter is not self._first:
            assert self._others is not None
            del self._others[waiter]
        else:
            self._first = self._others.popitem(last=False)[0] if self._others else None

    def discard(self) -> None:
        """Drop what is queued; a message already on its way to a task stays with it."""
        for message in self._next + self._behind:
            self.bytes -= memory_of(message)
        self._next, self._behind = [], []
        self.messages = 0

    def take_in_turn(self, owner: Owner) -> Message | None:
        """Take the next message if there is one and the turn is not over, else return None.

        Args:
            owner: who fills the queue; asked for a message if there is none.
        """
        if not self.messages:
            if not self.closed:
                owner.wanted()  # which may make one come, or the end
            if not self.messages:
                return None
        return self.take(owner) if self.turn.may_receive() else None

    def take(self, owner: Owner) -> Message:
        """Take the next message; there is one."""
        if not self._next:
            self._next, self._behind = self._behind, self._next
            self._next.reverse()
        message = self._next.pop()
        self.messages -= 1
        self.bytes -= memory_of(message)
        if not self.reading:
            owner.taken()
        return message


def memory_of(message: Message) -> int:
    """Return the bytes that a message takes: one character can make a text four times as large."""
    return len(message) + _BYTES_OVERHEAD if type(message) is bytes else getsizeof(message)
