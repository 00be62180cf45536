"""Receiving from a connection's queue of messages: waiting for one, and for one's turn; knows nothing of frames.

What is here is awaited and therefore not compiled: a coroutine of Python's own costs less than a compiled one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import (
    checkpoint_if_cancelled,
    current_task,
    enable_ki_protection,
    wait_task_rescheduled,
)

from ._interrupts import uninterrupted

if TYPE_CHECKING:
    from ._inbox import Message, Owner, Turn


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


@enable_ki_protection
async def rest(turn: Turn) -> None:
    """Let others run, and begin a new turn.

    Cancellation: does nothing else.
    """
    await trio.lowlevel.checkpoint()
    turn.begin()


@enable_ki_protection
async def receive(owner: Owner, stop: bool = False) -> Message:
    """Take the next message, waiting for it if need be.

    Args:
        owner: who fills the queue.
        stop: whether a clean end is the end of an iteration.

    Raises:
        ConnectionClosed: the queue is closed and empty.
        StopAsyncIteration: it is, after a clean end, and `stop` was set.

    Cancellation: takes nothing, or returns what it took.
    """
    await checkpoint_if_cancelled()
    inbox = owner.inbox
    message = inbox.take_in_turn(owner)
    while message is None:
        if inbox.messages:
            await rest(inbox.turn)
            message = inbox.take_in_turn(owner)
        elif not inbox.closed:
            waiter = inbox.join(current_task())
            await wait_task_rescheduled(waiter.abort)
            inbox.turn.begin()
            message = waiter.message
        elif stop and isinstance(owner.closed_error(), trio.EndOfChannel):
            raise StopAsyncIteration
        else:
            # the error is in no variable: with its traceback it would keep this frame, and that it
            raise owner.closed_error()
    return message


def receive_nowait(owner: Owner) -> Message:
    """Take the next message if there is one.

    Raises:
        trio.WouldBlock: there is none now.
        ConnectionClosed: the queue is closed and empty.
    """
    inbox = owner.inbox
    if not inbox.messages and not inbox.closed:
        owner.wanted()
    if inbox.messages:
        return inbox.take(owner)
    raise owner.closed_error() if inbox.closed else trio.WouldBlock


@uninterrupted
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
        return await receive(self._owner)

    def receive_nowait(self) -> Message:
        """Receive the next message if there is one.

        Raises:
            trio.WouldBlock: there is none now.
            ConnectionClosed: the connection is over and all that came before was received.
            trio.ClosedResourceError: this channel was closed.
        """
        self._require_open()
        return receive_nowait(self._owner)

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
