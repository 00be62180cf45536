"""The end of a connection: its order, its deadlines, and what is said of it; knows nothing of messages and their ways.

The order of an end
-------------------
What the peer ends, by a close frame, a violation or the end of its bytes, it ends behind the messages that came before.
If the application has not come back for more since the last of them, they count as unanswered, and the end waits for it
to come back, for half of `disconnect_timeout` at most; the other half is for the closing handshake.

Then nothing more is sent. A server half-closes and reads on until the peer's end, because closing a socket with unread
data makes the kernel send a reset, which can destroy the close frame in flight; a client waits for the server to close
(RFC 6455 7.1.1). What arrives in that time is dropped, `DRAIN_SIZE` bytes of it at most; the deadline stays.

A side may also end its sending alone: then messages are received, and reading pauses for who does not take them, as
before, until the peer's close frame. The peer's time for that does not run while reading is paused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from . import _inbox
from ._contexts import Contexts
from ._errors import connection_closed, connection_closing
from ._heap import give_back
from ._observer import tell
from ._outbox import Outbox
from ._pings import Pings
from ._timers import Alarm
from .protocol import CloseReason, Phase, Protocol, Role

if TYPE_CHECKING:
    from ._config import Config
    from ._errors import ConnectionClosed
    from ._pieces import Pieces
    from .transport import Transport

#: Bytes read and dropped after the end of the conversation, in the hope of the peer's orderly end.
DRAIN_SIZE = 2**20

#: Where ending is closing (TLS), a peer that broke the protocol gets this many seconds to read our close frame before
#: the stream is closed under what it may still be sending.
LINGER = 1.0


class Ending:
    """What one connection consists of, and how it comes to its end. `Link` adds its life before.

    Args:
        protocol: what the handshake made.
        transport: not started yet.
        config: the options.
        token: returns four unpredictable bytes, the payload of a ping.
        number: what tells it from other connections in the log.
        on_gone: called when the connection is over.
    """

    __slots__ = (
        "_alarm",
        "_cause",
        "_config",
        "_deadline",
        "_drained",
        "_eof",
        "_number",
        "_observed",
        "_on_gone",
        "_over",
        "_paused",
        "_seconds",
        "_unanswered",
        "contexts",
        "inbox",
        "outbox",
        "pauses",
        "pieces",
        "pings",
        "protocol",
        "received",
        "timed_out",
        "transport",
    )

    def __init__(
        self,
        protocol: Protocol,
        transport: Transport,
        config: Config,
        token: Callable[[], bytes],
        number: int,
        on_gone: Callable[[], None] | None = None,
    ) -> None:
        self.protocol = protocol
        self.transport = transport
        self.inbox = _inbox.Inbox(config.message_queue_size, config.message_queue_bytes)
        self._over: trio.Event | None = None
        self.outbox = Outbox(protocol, transport, self.inbox.turn)
        self.contexts = Contexts.of(protocol.deflater, config.deflate)
        self.pieces: Pieces | None = None  # where a message goes that is being received in pieces
        self.pings = Pings(config, token)
        self.timed_out = False  # whether the peer left our close frame unanswered
        self._number = number
        self._on_gone = on_gone
        self._config = config
        self._alarm = Alarm(self._ring)
        self._unanswered = False  # whether messages were handed out since the application came back for more
        self._eof = False
        self._drained = 0
        self._deadline = 0.0  # of the end, once it has begun
        self._cause: Exception | None = None
        self._observed: object = None  # the connection, if its end is to be told
        self.received: int = 0  # bytes
        self.pauses: int = 0  # how often reading has paused for the inbox
        # Both are seconds: while what they measure goes on, less the present time on Trio's clock.
        self._paused = 0.0
        self._seconds = -self.pings.resumed
        protocol.text_as_bytes = config.text_as_bytes

    def __str__(self) -> str:
        return f"{self.protocol.role.value}-{self._number}"

    @property
    def over(self) -> trio.Event:
        """Set once the transport is gone. Made for the first who waits: on a server mostly nobody does."""
        if self._over is None:
            self._over = trio.Event()
            if self.protocol.phase is Phase.ENDED:
                self._over.set()
        return self._over

    @property
    def closed(self) -> CloseReason | None:
        """Why the connection is closing or over; None while it is neither."""
        return None if self.protocol.may_send else self.closed_error().reason

    @property
    def seconds(self) -> float:
        """How long the connection has been open, or was."""
        return self._seconds if self.protocol.phase is Phase.ENDED else self._seconds + trio.current_time()

    @property
    def paused_seconds(self) -> float:
        """How long reading has paused for the inbox."""
        return self._paused + trio.current_time() if self._pausing() else self._paused

    @property
    def code(self) -> int:
        """What the end is to be called: the peer's violation, its close frame, or 1006."""
        protocol = self.protocol
        if protocol.violation is not None:
            return protocol.violation.close_code
        return 1006 if protocol.close_received is None else protocol.close_received.code

    def observe(self, connection: object) -> None:
        """Tell the observer that a connection, of which this is the link, is open, and later that it is over."""
        if self._config.observer is not None:
            self._observed = connection
            tell(self._config.observer.connection_opened, connection)

    def closed_error(self) -> ConnectionClosed:
        """Return what to raise on a connection that is closing or over."""
        protocol = self.protocol
        if protocol.phase is Phase.CLOSE_SENT and protocol.close_sent is not None:
            return connection_closing(protocol.close_sent)
        return connection_closed(protocol.close_received, protocol.close_sent, self._cause)

    def abort(self, cause: Exception | None) -> None:
        """Cut the connection. Idempotent."""
        self.transport.abort()
        self.connection_lost(cause)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the transport is gone; what was received before is still handed on."""
        if self.protocol.phase is Phase.ENDED:
            return
        self._hand_on_all()
        # what happens to the transport after the conversation is no cause
        if self.protocol.phase is not Phase.ENDING:
            self._cause = self._cause or exc
        self.protocol.lose()
        self._end()
        self._seconds += trio.current_time()
        if self._over is not None:
            self._over.set()
        self._alarm.stop()
        if self.contexts is not None:
            self.contexts.stop()
        give_back(sum(self.protocol.counts()[2:4]))  # payload, both ways
        self._tell_end()
        if self._on_gone is not None:
            self._on_gone()
            self._on_gone = None  # who is told may be whom we belong to

    def _tell_end(self) -> None:
        observed, self._observed = self._observed, None  # it is whom we belong to
        if observed is not None and self._config.observer is not None:
            tell(self._config.observer.connection_closed, observed)

    def _pausing(self) -> bool:
        return not (self.inbox.reading or self.inbox.closed)

    def _hand_on_all(self) -> None:
        """Hand on what was received before, though there may be no room for it."""
        raise NotImplementedError

    def _drop(self, size: int) -> None:
        """Count what comes when all has been said."""
        self._drained += size
        if self._drained > DRAIN_SIZE:
            self.abort(None)

    def _begin_end(self) -> None:
        self._deadline = trio.current_time() + self._config.disconnect_timeout
        self._alarm.set(self._deadline)

    def _handle_eof(self) -> None:
        was = self.protocol.phase
        if was is Phase.ENDED:
            return
        self.protocol.receive_eof()
        if was is Phase.OPEN:
            self._peer_ended()
        elif was is not Phase.ANSWERING:
            self._finish()

    def _peer_ended(self) -> None:
        """Answer the peer's end, now or when the messages before it have been answered."""
        if self.protocol.phase is Phase.ENDING:
            self._finish()
            return
        self._begin_end()
        if not self._unanswered:
            self._answer_end()
            return
        self._alarm.set(self._deadline - self._config.disconnect_timeout / 2)
        if not self._eof:
            self.transport.pause_reading()

    def _answer_end(self) -> None:
        self.transport.write(self.protocol.send_answer())
        self._finish()

    def _end_sending(self) -> None:
        """Tell everyone who waits that nothing more can be sent."""
        self.outbox.wake()
        self.pings.end()

    def _end(self) -> None:
        """Tell everyone who waits that nothing more comes either."""
        self._end_sending()
        if self._pausing():
            self._paused += trio.current_time()
        self.inbox.close()
        if self.pieces is not None:
            self.pieces.end()
            if self.pieces.dropped:
                self.pieces = None  # else the next who asks would wait for the end of that message

    def _finish(self) -> None:
        """Bring the transport to its end, now that both sides have said all."""
        self._end()
        self._alarm.set(self._deadline)
        self.transport.resume_reading()
        clean = self.protocol.close_received is not None
        if self._eof or (clean and self.protocol.role is Role.SERVER and not self.transport.can_end):
            self.transport.close()
        elif self.transport.can_end and (not clean or self.protocol.role is Role.SERVER):
            self.transport.end()
        elif not clean:
            self._alarm.set(min(self._deadline, trio.current_time() + LINGER))

    def _ring(self) -> None:
        phase = self.protocol.phase
        if phase is Phase.OPEN:
            self._watch()
        elif phase is Phase.ANSWERING:
            self._answer_end()
        elif not (self.inbox.closed or self.inbox.reading):
            self._begin_end()  # the peer's end may lie behind what the application leaves unread
        elif trio.current_time() >= self._deadline:
            self.timed_out = phase is Phase.CLOSE_SENT
            self.abort(
                TimeoutError("the peer did not answer the close frame in time") if self.timed_out else None
            )
        else:
            self.transport.close()
            self._alarm.set(self._deadline)

    def _watch(self) -> None:
        """Apply the rules of liveness."""
        reading = self.inbox.reading and not self.protocol.more  # else what was read waits for its turn
        when = self.pings.watch(self.protocol, self.transport, reading)
        if when is None:
            self.abort(TimeoutError("the peer made no progress in time: it is taken for dead"))
        else:
            self._alarm.set(when)
