"""Sending one message to many connections, none of which can hold up the others; knows no servers and no frames."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import trio

from ._connection import WebSocketConnection
from ._errors import ConnectionClosed
from ._facts import link_of
from ._prepared import PreparedMessage
from ._sending import compress_large, wait_and_send

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: RFC 6455 7.4.2 and its registry: "Try Again Later", the server is overloaded.
_TRY_AGAIN_LATER = 1013


@dataclass(frozen=True, slots=True)
class Wait:
    """A policy of `broadcast`: wait for those who have no room, after all others have got the message.

    Attributes:
        seconds: for how long; who still has no room then goes without.

    Raises:
        ValueError: it is negative.
    """

    seconds: float

    def __post_init__(self) -> None:
        if not self.seconds >= 0:
            raise ValueError(f"seconds is at least 0, not {self.seconds!r}")


@dataclass(frozen=True, slots=True)
class Latest:
    """A policy of `broadcast`: keep the message for those who have no room, and send it as soon as they have.

    Until then a newer message under the same key takes its place, so that who is slow gets the latest and none of those
    before. Up to 16 keys are kept for a connection, and 256 KiB unless one message alone has more; what goes beyond is
    dropped. What is kept goes out before messages that are sent later, and is lost when the connection closes.

    Attributes:
        key: what messages replace each other by, such as the name of what they are the state of.

    Raises:
        TypeError: it cannot be hashed.
    """

    key: Hashable

    def __post_init__(self) -> None:
        hash(self.key)


Policy: TypeAlias = Literal["drop", "close"] | Wait | Latest


@dataclass(frozen=True, slots=True, eq=False)
class BroadcastResult:
    """Who got a message, and what became of the others. Each connection is in one of these lists.

    Attributes:
        sent: those that have it: to them it will go out whole and in order, unless the connection ends first.
        dropped: those that had no room, and go without.
        closed: those that had no room, and are being closed with 1013.
        queued: those that had no room, and will be sent it when they have, or a newer one under its key.
        replaced: the same, where it takes the place of an older one, which they do not get.
        late: those that still had no room when the time to wait was over, and go without.
        gone: those that were closing or over.
    """

    sent: list[WebSocketConnection] = field(default_factory=list[WebSocketConnection])
    dropped: list[WebSocketConnection] = field(default_factory=list[WebSocketConnection])
    closed: list[WebSocketConnection] = field(default_factory=list[WebSocketConnection])
    queued: list[WebSocketConnection] = field(default_factory=list[WebSocketConnection])
    replaced: list[WebSocketConnection] = field(default_factory=list[WebSocketConnection])
    late: list[WebSocketConnection] = field(default_factory=list[WebSocketConnection])
    gone: list[WebSocketConnection] = field(default_factory=list[WebSocketConnection])


@trio.lowlevel.enable_ki_protection
async def broadcast(
    connections: Iterable[WebSocketConnection],
    message: str | Buffer | PreparedMessage,
    *,
    policy: Policy = "drop",
) -> BroadcastResult:
    """Send one message to many connections, without waiting for any that is slow.

    It is encoded once, compressed once for all that have agreed on the same terms, and queued on all connections in one
    go. It leaves at the end of the scheduler's turn: a system call of about 7 us for each connection, between which other
    tasks run. Broadcasts that follow each other so closely that the one before has not left yet share the call. To all
    but the sender: ``broadcast(server.connections - {ws}, message)``.

    A connection has no room while more than 64 KiB wait to be sent on it, or other messages wait, or one is being sent in
    pieces or compressed in a thread. What happens then is its `policy`:

    - ``"drop"``, the default: it goes without this message.
    - ``"close"``: it is closed with 1013, and is cut after ``disconnect_timeout`` seconds.
    - ``Wait(seconds)``: it is waited for, when all others have got the message.
    - ``Latest(key)``: it gets the message when it has room, unless a newer one with this key comes before.

    Whoever else sends on a connection is in order with it: what a task sends first, arrives first.

    Args:
        connections: on which to send; what is added to them meanwhile does not count.
        message: what to send. One that is broadcast more than once is better a `PreparedMessage`, and so is one that
            must not be compressed.
        policy: what to do with connections that have no room.

    Raises:
        ValueError: `message` is neither text nor a contiguous buffer, or is text that UTF-8 cannot encode; or there is no
            such policy.

    Cancellation: nothing was or will be sent; while it waits by ``Wait(seconds)``, nothing to those that it waits for, and
    all others have the message. Nobody ever gets half of one.
    """
    if not isinstance(policy, (Wait, Latest)) and policy not in ("drop", "close"):
        raise ValueError(f"policy is 'drop', 'close', Wait(seconds) or Latest(key), not {policy!r}")
    prepared = message if isinstance(message, PreparedMessage) else PreparedMessage(message)
    listeners = list(connections)
    await trio.lowlevel.checkpoint_if_cancelled()
    await compress_large(map(link_of, listeners), prepared)
    result = BroadcastResult()
    slow = _send_to_all(listeners, prepared, result)
    if isinstance(policy, Wait):
        await _wait_for(slow, prepared, policy.seconds, result)
    else:
        for ws in slow:
            _apply(policy, ws, prepared, result)
    # all is done: who is cancelled now learns of it at the next occasion
    await trio.lowlevel.cancel_shielded_checkpoint()
    return result


def _send_to_all(
    listeners: list[WebSocketConnection], message: PreparedMessage, result: BroadcastResult
) -> list[WebSocketConnection]:
    """Send to all that have room, in one step; return the others, as far as they are open."""
    slow: list[WebSocketConnection] = []
    for ws in listeners:
        link = link_of(ws)
        if link.offer(message, True):
            result.sent.append(ws)
        elif link.protocol.may_send:
            slow.append(ws)
        else:
            result.gone.append(ws)
    return slow


def _apply(
    policy: Literal["drop", "close"] | Latest,
    ws: WebSocketConnection,
    message: PreparedMessage,
    result: BroadcastResult,
) -> None:
    if policy == "drop":
        result.dropped.append(ws)
    elif policy == "close":
        link_of(ws).start_closing(_TRY_AGAIN_LATER, "too slow")
        result.closed.append(ws)
    else:
        kept = link_of(ws).outbox.keep(policy.key, message)
        {"queued": result.queued, "replaced": result.replaced, "dropped": result.dropped}[kept].append(ws)


async def _wait_for(
    slow: list[WebSocketConnection], message: PreparedMessage, seconds: float, result: BroadcastResult
) -> None:
    async def send(ws: WebSocketConnection) -> None:
        outcome = result.late
        try:
            await wait_and_send(link_of(ws), message)
            outcome = result.sent
        except ConnectionClosed:
            outcome = result.gone
        finally:
            outcome.append(ws)

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for ws in slow:
                nursery.start_soon(send, ws, name=f"trio_ws broadcast to {ws}")
