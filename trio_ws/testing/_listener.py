"""A listener in memory, so that a whole server can be tested without a port; knows nothing of WebSocket."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import Callable

    Streams = tuple[trio.abc.Stream, trio.abc.Stream]


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """A listener to which `connect` connects: for `trio_ws.WebSocketServer`, or any other Trio server.

    Args:
        make_pair: returns the two ends of a new connection, the server's second; by default
            `trio.testing.memory_stream_pair`.
    """

    def __init__(self, make_pair: Callable[[], Streams] = trio.testing.memory_stream_pair) -> None:
        self._make_pair = make_pair
        self._waiting, self._accepted = trio.open_memory_channel[trio.abc.Stream](math.inf)

    def connect(self) -> trio.abc.Stream:
        """Return the client's end of a new connection, whose other end waits to be accepted.

        Raises:
            trio.BrokenResourceError: the listener is closed.
        """
        client, server = self._make_pair()
        self._waiting.send_nowait(server)
        return client

    async def accept(self) -> trio.abc.Stream:
        """Wait for a connection.

        Raises:
            trio.ClosedResourceError: the listener is closed.

        Cancellation: no connection is lost.
        """
        return await self._accepted.receive()

    async def aclose(self) -> None:
        """Accept no more, and cut what was not accepted yet. Idempotent.

        Cancellation: it is done all the same.
        """
        try:
            with trio.CancelScope(shield=True):  # a cancellation would end it after the first of them
                while True:
                    await trio.aclose_forcefully(self._accepted.receive_nowait())
        except (trio.WouldBlock, trio.ClosedResourceError):
            self._accepted.close()
        await trio.lowlevel.checkpoint()
