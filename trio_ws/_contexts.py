"""Compression contexts in time: large messages go through threads, idle compressors are given back; knows no frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ._heap import give_back
from ._timers import Alarm

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._prepared import PreparedMessage
    from .protocol import Deflater, PerMessageDeflate

#: Messages of more bytes than this are compressed in a thread. A thread costs 80 us, compressing 64 KiB of JSON ten times
#: as much: up to there it is not worth it, and larger ones would hold up everybody for longer than a millisecond.
THREAD_SIZE = 65536

#: What the contexts of a connection take, in bytes: both directions, with the defaults.
SIZE = 61440

#: Seconds without a compressed message after which a connection's compressor is given back.
IDLE_SECONDS = 60.0

_limiters: trio.lowlevel.RunVar[dict[PerMessageDeflate, trio.CapacityLimiter]] = trio.lowlevel.RunVar(
    "trio_ws._contexts"
)


def _limiter(options: PerMessageDeflate) -> trio.CapacityLimiter:
    """Return what bounds the threads of all connections with equal options."""
    try:
        limiters = _limiters.get()
    except LookupError:
        _limiters.set(limiters := {})
    if options not in limiters:
        limiters[options] = trio.CapacityLimiter(options.concurrency_limit)
    return limiters[options]


class Contexts:
    """What compresses the messages of one connection, seen in time. It keeps nothing of the connection.

    Args:
        deflater: what compresses.
        options: on what terms.
    """

    __slots__ = ("_alarm", "_options", "deflater")

    def __init__(self, deflater: Deflater, options: PerMessageDeflate) -> None:
        self.deflater = deflater
        self._options = options
        self._alarm: Alarm | None = None

    @classmethod
    def of(cls, deflater: Deflater | None, options: PerMessageDeflate | None) -> Contexts | None:
        """Return the contexts of a connection, None for one that does not compress."""
        return None if deflater is None or options is None else cls(deflater, options)

    def wants_thread(self, message: str | Buffer, compress: bool | None) -> bool:
        """Say whether a message is so large that it is to be compressed in a thread."""
        size = len(message) if isinstance(message, str) else memoryview(message).nbytes
        return size > THREAD_SIZE and compress is not False and self.deflater.wants(size, compress)

    async def compress(self, data: bytes) -> bytes:
        """Compress a message in a thread.

        Cancellation: nothing was compressed. Once it has begun it is finished, for the context has changed by then.
        """
        return await trio.to_thread.run_sync(self.deflater.compress, data, limiter=_limiter(self._options))

    async def prepare(self, message: PreparedMessage) -> None:
        """Compress a message for all connections on these terms, in a thread.

        Cancellation: nothing was compressed. Once it has begun it is finished.
        """
        await trio.to_thread.run_sync(message.compress, self.deflater.recipe, limiter=_limiter(self._options))

    def watch(self) -> None:
        """Take note that there may be a compressor now; there is an alarm as long as there is one."""
        if self._alarm is None and self.deflater.has_context:
            self._alarm = Alarm(self._ring)
            self._set(self._alarm)

    def _set(self, alarm: Alarm) -> None:
        self.deflater.used = False
        alarm.set(trio.current_time() + IDLE_SECONDS)

    def _ring(self) -> None:
        assert self._alarm is not None, "it has just rung"
        if self.deflater.used:
            self._set(self._alarm)
        else:
            self.deflater.release()
            self._alarm = None

    def stop(self) -> None:
        """Watch no more: the connection is over."""
        if self._alarm is not None:
            self._alarm.stop()
        give_back(SIZE)
