"""Waiting to send: for room, for one's turn, and for the end of a message in pieces; knows nothing of what is sent.

Nobody holds anything while sending: who has waited here writes at once and in one step. The queue orders those who
wait, and is empty as long as there is room. Messages that were kept for want of room go before them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import trio

from ._channel import rest
from .transport import HIGH_WATER, LOW_WATER

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ._inbox import Owner, Turn
    from ._prepared import PreparedMessage
    from .protocol import Protocol
    from .transport import Transport

#: What becomes of a message for which there is no room.
Kept: TypeAlias = Literal["queued", "replaced", "dropped"]

#: Messages that are kept on one connection for want of room, and the bytes of them if they are several.
KEPT_MESSAGES = 16
KEPT_BYTES = 2**18


class Outbox:
    """What waits to be sent, apart from the bytes, which the transport has.

    Args:
        protocol: says whether anything may be sent.
        transport: says how much waits in it.
        turn: the share of the processor that sending and receiving have together.

    Attributes:
        held: whether messages wait whatever room there is: for others before them, or for one in pieces to end.
    """

    __slots__ = (
        "_in_pieces",
        "_kept",
        "_pong",
        "_protocol",
        "_queue",
        "_room",
        "_transport",
        "_turn",
        "held",
    )

    def __init__(self, protocol: Protocol, transport: Transport, turn: Turn) -> None:
        self.held = False
        self._in_pieces = False  # whether a message is being sent in fragments
        self._protocol = protocol
        self._transport = transport
        self._turn = turn
        # Made when somebody has to wait: they take a kilobyte, and on most connections nobody ever does.
        self._room: trio.lowlevel.ParkingLot | None = None
        # The owner of the queue waits for room, the others in it for their turn to do so.
        self._queue: trio.StrictFIFOLock | None = None
        self._kept: dict[Hashable, PreparedMessage] | None = None  # by their keys, the oldest first
        self._pong: bytes | None = None  # payload of the latest ping, while there is no room for its answer

    async def wait_turn(self, owner: Owner) -> None:
        """Wait until a message may be written, behind all who came before. What is then written at once cannot be lost.

        Raises:
            ConnectionClosed: the connection is closing or over.

        Cancellation: nothing was done.
        """
        queue = self._queue = self._queue or trio.StrictFIFOLock()
        self.held = True
        try:
            async with queue:
                await self._park(urgent=False)
        finally:
            if not queue.locked():
                self._queue = None
            self._send_kept()
        self._require_open(owner)

    async def wait_room(self, owner: Owner) -> None:
        """Wait until a frame may be written that passes those who wait: control, or a piece of what they wait for.

        Raises:
            ConnectionClosed: the connection is closing or over.

        Cancellation: nothing was done.
        """
        await rest(self._turn)
        await self._park(urgent=True)
        self._require_open(owner)

    def _require_open(self, owner: Owner) -> None:
        if not self._protocol.may_send:
            raise owner.closed_error()

    async def _park(self, *, urgent: bool) -> None:
        while self._protocol.may_send and (
            self._transport.buffered > HIGH_WATER or (self._in_pieces and not urgent)
        ):
            if self._room is None:
                self._room = trio.lowlevel.ParkingLot()
            await self._room.park()

    def begin_pieces(self) -> None:
        """Let messages wait for the end of one that is sent in fragments."""
        self._in_pieces = self.held = True

    def end_pieces(self) -> None:
        """Let them go on."""
        self._in_pieces = False
        self._send_kept()
        self.wake()

    def keep(self, key: Hashable, message: PreparedMessage) -> Kept:
        """Keep a message until there is room, in place of the one that is kept under this key.

        Returns:
            whether it is kept, takes the place of an older one, or is dropped as there is too much besides.
        """
        kept = self._kept = self._kept or {}
        others = [other.size for name, other in kept.items() if name != key]
        if others and (len(others) >= KEPT_MESSAGES or sum(others) + message.size > KEPT_BYTES):
            return "dropped"
        older = kept.pop(key, None)
        kept[key] = message
        self.held = True
        return "queued" if older is None else "replaced"

    def _send_kept(self) -> None:
        """Send what was kept, if there is room for it now."""
        if self._kept and not self._in_pieces and self._transport.buffered <= HIGH_WATER:
            kept, self._kept = self._kept, None
            for message in kept.values() if self._protocol.may_send else ():
                self._transport.write(message.encode_for(self._protocol))
        self.held = self._in_pieces or self._queue is not None or self._kept is not None

    def wake(self) -> None:
        """Let those who wait look again: there is room, a message in pieces is finished, or all is over."""
        if not self._protocol.may_send:
            self._kept = None
        room, self._room = self._room, None
        if room is not None:
            room.unpark_all()

    def answer_ping(self, payload: bytes) -> None:
        """Send the pong for a ping, or keep it until there is room.

        RFC 6455 5.5.3: only the most recent ping needs an answer. A flood of them finds one slot.
        """
        if not self._protocol.may_send:
            return
        if self._transport.buffered <= LOW_WATER:
            self._transport.write(self._protocol.send_pong(payload))
        else:
            self._pong = payload

    def drained(self) -> None:
        """There is room: the pong that waits goes first."""
        if self._pong is not None and self._protocol.may_send:
            self._transport.write(self._protocol.send_pong(self._pong))
        self._pong = None
        self._send_kept()
        self.wake()
