"""Streams that fail by script: late, in pieces, half-way or for ever; knows nothing of WebSocket.

A script is an iterable of steps for one direction. A number lets that many bytes pass, in one piece at most; a coroutine
function is called with the stream when its turn comes, and may wait, raise or cancel somebody. After the last step
everything passes. So ``[5, cut]`` breaks the connection after 5 bytes, ``itertools.repeat(1)`` delivers byte by byte,
and ``[100, stall]`` lets 100 bytes through and then nothing, ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import trio

Step: TypeAlias = "int | Callable[[FaultyStream], Awaitable[object]]"


class FaultyStream(trio.abc.HalfCloseableStream):
    """A stream that behaves like the one inside, but for what its scripts say.

    To have faults under TLS, put this under the `trio.SSLStream`.

    Args:
        stream: the stream inside.
        receive: script for what is received. A fault happens at the first `receive_some` behind the bytes before it.
        send: script for what is sent. A fault happens as soon as the bytes before it are out, in the same `send_all`;
            the first of all at the first `send_all`, before any byte.

    Attributes:
        received: bytes received so far.
        sent: bytes sent so far.
    """

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        *,
        receive: Iterable[Step] = (),
        send: Iterable[Step] = (),
    ) -> None:
        self.received = 0
        self.sent = 0
        self._inside = stream
        self._receiving = _Script(self, receive)
        self._sending = _Script(self, send)
        self._at_end = False
        self._failure: type[Exception] | None = None
        self._closed = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive what the script lets through.

        Cancellation: as for the stream inside, or as the script's step has it.
        """
        await self._receiving.run_faults()
        self._require_whole()
        if self._at_end:
            await trio.lowlevel.checkpoint()
            return b""
        room = self._receiving.room
        size = min((limit for limit in (room, max_bytes) if limit is not None), default=None)
        try:
            data = await self._inside.receive_some(size)
        except trio.ClosedResourceError:
            self._require_whole()  # `cut` closes what is inside while this is waiting, and that is a loss, not a close
            raise
        self.received += len(data)
        self._receiving.passed(len(data))
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, as far as the script lets it through.

        Cancellation: `sent` says how much is out.
        """
        await self._sending.run_faults()
        with memoryview(data) as view:
            start = 0
            while start < len(view):
                self._require_whole()
                size = len(view) - start if self._sending.room is None else self._sending.room
                piece = bytes(view[start : start + size])
                await self._inside.send_all(piece)
                start += len(piece)
                self.sent += len(piece)
                self._sending.passed(len(piece))
                await self._sending.run_faults()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the stream inside would take data; what the script will say to them is not asked.

        Cancellation: does nothing.
        """
        self._require_whole()
        await self._inside.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Tell the peer that nothing more will be sent.

        Cancellation: as for the stream inside.
        """
        self._require_whole()
        await self._inside.send_eof()

    async def aclose(self) -> None:
        """Close the stream inside; who is stalled here is woken with `trio.ClosedResourceError`. Idempotent.

        Cancellation: it is closed all the same.
        """
        self._failure = trio.ClosedResourceError
        self._closed.set()
        await self._inside.aclose()

    # What scripts can do

    async def stall(self) -> None:
        """Let nothing more through in this direction. Cancellation: the next call stalls no more."""
        await self._closed.wait()
        self._require_whole()

    async def cut(self) -> None:
        """Break the connection for both sides: the peer sees its end.

        Raises:
            trio.BrokenResourceError: always.

        Cancellation: it is cut all the same.
        """
        self._failure = self._failure or trio.BrokenResourceError
        await trio.aclose_forcefully(self._inside)
        self._require_whole()

    async def fail(self) -> None:
        """Break this end, without a word to the peer; who waits in the other direction goes on waiting.

        Raises:
            trio.BrokenResourceError: always.

        Cancellation: not a checkpoint.
        """
        self._failure = self._failure or trio.BrokenResourceError
        self._require_whole()

    async def end(self) -> None:
        """Have the peer's bytes end here, though the peer did not end them. Cancellation: not a checkpoint."""
        self._at_end = True

    def _require_whole(self) -> None:
        if self._failure is not None:
            raise self._failure("broken or closed by the script of a FaultyStream")


class _Script:
    """One direction's steps, and where it has got to."""

    def __init__(self, stream: FaultyStream, steps: Iterable[Step]) -> None:
        self._stream = stream
        self._steps = iter(steps)
        self._waiting = next(self._steps, None)

    @property
    def room(self) -> int | None:
        """How many bytes may pass in one piece now; None: any number."""
        return self._waiting if isinstance(self._waiting, int) else None

    def passed(self, size: int) -> None:
        """Take note that bytes have passed."""
        if isinstance(self._waiting, int):
            self._waiting -= size

    async def run_faults(self) -> None:
        """Do what comes before the next bytes."""
        while self._waiting == 0 or callable(self._waiting):
            step, self._waiting = self._waiting, next(self._steps, None)
            if callable(step):
                await step(self._stream)


#: Steps of a script, called by the stream: see the methods of `FaultyStream`.
stall = FaultyStream.stall
cut = FaultyStream.cut
fail = FaultyStream.fail
end = FaultyStream.end


def cancelling(scope: trio.CancelScope) -> Step:
    """Return a step that cancels `scope`, and so whoever is calling the stream, if it does so inside of `scope`."""

    async def cancel(_: FaultyStream) -> None:
        scope.cancel()
        await trio.lowlevel.checkpoint()

    return cancel
