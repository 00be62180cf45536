"""Waiting to send: for room, for one's turn, and for the end of a message in pieces; knows nothing of what is sent.

Nobody holds anything while sending: who has waited here writes at once and in one step. The queue orders those who
wait, and is empty as long as there is room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .transport import HIGH_WATER, LOW_WATER

if TYPE_CHECKING:
    from ._inbox import Owner, Turn
    from .protocol import Protocol
    from .transport import Transport


class Outbox:
    """What waits to be sent, apart from the bytes, which the transport has.

    Args:
        protocol: says whether anything may be sent.
        transport: says how much waits in it.
        turn: the share of the processor that sending and receiving have together.
    """

    __slots__ = ("_pong", "_protocol", "_queue", "_room", "_transport", "_turn", "in_pieces")

    def __init__(self, protocol: Protocol, transport: Transport, turn: Turn) -> None:
        self.in_pieces = False  # whether a message is being sent in fragments
        self._protocol = protocol
        self._transport = transport
        self._turn = turn
        self._room = trio.lowlevel.ParkingLot()
        self._queue = trio.StrictFIFOLock()  # its owner waits for room, the others for their turn to do so
        self._pong: bytes | None = None  # payload of the latest ping, while there is no room for its answer

    async def wait_room(self, owner: Owner, *, urgent: bool = False) -> None:
        """Wait until a frame may be written. What the caller then writes at once cannot be lost.

        Args:
            owner: says what to raise when nothing may be sent any more.
            urgent: whether the frame passes those that wait: a control frame, or a piece of the message that the
                others wait for. All others are served in the order in which they came.

        Raises:
            ConnectionClosed: the connection is closing or over.

        Cancellation: nothing was done.
        """
        await self._turn.checkpoint()
        if urgent:
            await self._park(urgent)
        elif self._queue.locked() or self._must_wait(urgent):
            async with self._queue:
                await self._park(urgent)
        if not self._protocol.may_send:
            raise owner.closed_error()

    async def _park(self, urgent: bool) -> None:
        while self._must_wait(urgent):
            await self._room.park()

    def _must_wait(self, urgent: bool) -> bool:
        return self._protocol.may_send and (
            self._transport.buffered > HIGH_WATER or (self.in_pieces and not urgent)
        )

    def wake(self) -> None:
        """Let those who wait look again: there is room, a message in pieces is finished, or all is over."""
        self._room.unpark_all()

    def answer_ping(self, payload: bytes) -> None:
        """Send the pong for a ping, or keep it until there is room.

        RFC 6455 5.5.3: only the most recent ping needs an answer. A flood of them finds one slot.
        """
        if not self._protocol.may_send:
            return
        if self._transport.buffered <= LOW_WATER:
            self._transport.write(*self._protocol.send_pong(payload))
        else:
            self._pong = payload

    def drained(self) -> None:
        """There is room: the pong that waits goes first."""
        if self._pong is not None and self._protocol.may_send:
            self._transport.write(*self._protocol.send_pong(self._pong))
        self._pong = None
        self.wake()
