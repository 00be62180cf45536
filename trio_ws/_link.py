"""Where protocol and transport meet: one connection's events, deadlines and end; knows nothing of its public face.

Everything here is synchronous. The transport calls in with bytes, tasks call in to send or close, the alarm calls in
when a deadline has come, and each call decides and acts before it returns. So there is nothing to lock, and nothing
that a cancellation could leave half done. Tasks wait in three places: for a message (the inbox), for room to send
(the outbox), and for the end (`over`).

The order of an end
-------------------
What the peer ends, by a close frame, a violation or the end of its bytes, it ends behind the messages that came before.
If the application has not come back for more since the last of them, they count as unanswered, and the end waits for it
to come back, for half of `disconnect_timeout` at most; the other half is for the closing handshake.

Then nothing more is sent. A server half-closes and reads on until the peer's end, because closing a socket with unread
data makes the kernel send a reset, which can destroy the close frame in flight; a client waits for the server to close
(RFC 6455 7.1.1). What arrives in that time is dropped, `DRAIN_SIZE` bytes of it at most; the deadline stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from . import _inbox
from ._contexts import Contexts
from ._errors import connection_closed, connection_closing
from ._outbox import Outbox
from ._pings import Pings, PingWaiter
from ._timers import Alarm
from .protocol import CloseReason, Event, Fragment, Phase, Ping, Pong, Protocol, Role, encode_close
from .transport import HIGH_WATER

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._config import Config
    from ._errors import ConnectionClosed
    from ._pieces import Pieces
    from .transport import Transport

#: Bytes read and dropped after the end of the conversation, in the hope of the peer's orderly end.
DRAIN_SIZE = 2**20

#: Where ending is closing (TLS), a peer that broke the protocol gets this many seconds to read our close frame before
#: the stream is closed under what it may still be sending.
LINGER = 1.0


class Link:
    """One connection from the end of its opening handshake to its end.

    Args:
        protocol: what the handshake made.
        transport: not started yet.
        config: the options.
        token: returns four unpredictable bytes, the payload of a ping.
        on_gone: called when the connection is over.
    """

    __slots__ = (
        "_alarm",
        "_asked",
        "_cause",
        "_config",
        "_deadline",
        "_drained",
        "_eof",
        "_on_gone",
        "_over",
        "_unanswered",
        "contexts",
        "inbox",
        "outbox",
        "pieces",
        "pings",
        "protocol",
        "timed_out",
        "transport",
    )

    def __init__(
        self,
        protocol: Protocol,
        transport: Transport,
        config: Config,
        token: Callable[[], bytes],
        on_gone: Callable[[], None] | None = None,
    ) -> None:
        self.protocol = protocol
        self.transport = transport
        self.inbox = _inbox.Inbox(config.message_queue_size, config.message_queue_bytes)
        self._over: trio.Event | None = None
        self.outbox = Outbox(protocol, transport, self.inbox.turn)
        self.contexts = Contexts.of(protocol.deflater, config.compression)
        self.pieces: Pieces | None = None  # where a message goes that is being received in pieces
        self.pings = Pings(config, token)
        self.timed_out = False  # whether the peer left our close frame unanswered
        self._on_gone = on_gone
        self._config = config
        self._alarm = Alarm(self._ring)
        self._asked = False  # whether the inbox is asking for a message right now
        self._unanswered = False  # whether messages were handed out since the application came back for more
        self._eof = False
        self._drained = 0
        self._deadline = 0.0  # of the end, once it has begun
        self._cause: Exception | None = None

    def start(self, nursery: trio.Nursery, leftover: bytes) -> None:
        """Begin to receive: first what came glued to the handshake, then what the transport brings."""
        self.transport.start(self, nursery)
        self._watch()
        if leftover:
            self.data_received(leftover)

    # Called by the transport

    def data_received(self, data: bytes | bytearray) -> None:
        """Decode, and hand on what is whole."""
        protocol = self.protocol
        if protocol.may_receive:
            self._dispatch(protocol.receive_data(data))
            if protocol.partial or self.inbox.bytes or protocol.more:
                self._go_on()
        elif protocol.phase is Phase.ENDING:
            self._drained += len(data)
            if self._drained > DRAIN_SIZE:
                self.abort(None)

    def eof_received(self) -> None:
        """Take note that the peer's bytes have ended, behind what was received."""
        self._eof = True
        if not self.protocol.more:
            self._handle_eof()

    def drained(self) -> None:
        """Let those go on who waited for room."""
        self.outbox.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the transport is gone; what was received before is still handed on."""
        if self.protocol.phase is Phase.ENDED:
            return
        while self.protocol.more:
            self._dispatch(self.protocol.receive_data(b""))
        # what happens to the transport after the conversation is no cause
        if self.protocol.phase is not Phase.ENDING:
            self._cause = self._cause or exc
        self.protocol.lose()
        self._end()
        if self._over is not None:
            self._over.set()
        self._alarm.stop()
        if self.contexts is not None:
            self.contexts.stop()
        if self._on_gone is not None:
            self._on_gone()
            self._on_gone = None  # who is told may be whom we belong to

    # Events of the protocol

    def _go_on(self) -> None:
        """Go on with what was read while there is room for it, then to its end or with reading."""
        while self.protocol.more and not self._is_full():
            self._dispatch(self.protocol.receive_data(b""))
        if self._eof and not self.protocol.more:
            self._handle_eof()
        elif self.inbox.reading and self._is_full():
            self.inbox.reading = False
            self.transport.pause_reading()

    def _dispatch(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is str or type(event) is bytes:  # cheaper than isinstance, and there are no others
                if self.protocol.may_send:
                    self._unanswered = True
                    self.inbox.put(event)
            elif isinstance(event, Fragment):
                self._unanswered = True
                if self.pieces is not None and self.protocol.may_send:
                    self.pieces.put(event)
                    if event.final:
                        self.pieces = None
            elif isinstance(event, Ping):
                if self._config.auto_pong:
                    self.outbox.answer_ping(event.payload)
            elif isinstance(event, Pong):
                self.pings.answered(event.payload)
            else:
                self._cause = self.protocol.violation
                self._peer_ended()

    def _is_full(self) -> bool:
        if self.protocol.phase is not Phase.OPEN or not self.inbox.full(
            self.protocol.partial, self.pings.awaited
        ):
            return False
        # who waits for a message, or is about to, is never left waiting for the bound, however large the message is
        waits = self.inbox.waiting or (self._asked and not self.inbox.messages)
        return not (waits or (self.pieces is not None and self.pieces.waiting))

    # Called by the inbox

    def taken(self) -> None:
        """Read on when enough was taken."""
        if not self.inbox.reading and self.inbox.low():
            self.read_on()

    def wanted(self) -> None:
        """Take note that the application has come back for more: it has answered what it was going to answer."""
        self._unanswered = False
        if self.transport.buffered:
            self.transport.flush()
        if self.protocol.phase is Phase.ANSWERING:
            self._answer_end()
        elif not self.inbox.reading:
            self._asked = True
            self.read_on()
            self._asked = False

    def read_on(self) -> None:
        """Go on with what was read, then with reading."""
        if self.protocol.phase is not Phase.OPEN:
            return
        self.inbox.reading = True
        self.pings.resumed = trio.current_time()
        self.transport.resume_reading()
        if self.protocol.more:
            self._go_on()

    def closed_error(self) -> ConnectionClosed:
        """Return what to raise on a connection that is closing or over."""
        protocol = self.protocol
        if protocol.phase is Phase.CLOSE_SENT and protocol.close_sent is not None:
            return connection_closing(protocol.close_sent)
        return connection_closed(protocol.close_received, protocol.close_sent, self._cause)

    # Sending

    def send_in_turn(self, message: str | Buffer, compress: bool | None) -> bool:
        """Send a message if it can go at once, in this turn; return whether it was so. Raises as `send` does."""
        if not self.inbox.turn.may_send() or self.outbox.held or self.transport.buffered > HIGH_WATER:
            return False
        if self.contexts is not None and self.contexts.wants_thread(message, compress):
            return False
        self.send(message, compress)
        return True

    def send(self, message: str | Buffer, compress: bool | None) -> None:
        """Send a message, whose turn it is.

        Raises:
            ConnectionClosed: the connection is closing or over.
            ValueError: `message` is text that UTF-8 cannot encode.
        """
        if not self.protocol.may_send:
            raise self.closed_error()
        # who has more messages to answer will answer them at once: the answers leave together
        self.transport.write(self.protocol.send_message(message, compress), self.inbox.messages > 0)
        if self.contexts is not None:
            self.contexts.watch()

    def ping(self, payload: bytes) -> PingWaiter:
        """Send a ping and return what to wait for."""
        waiter = self.pings.wait(payload)
        self.transport.write(self.protocol.send_ping(payload))
        if not self.inbox.reading and not self._is_full():
            self.read_on()  # its pong may lie behind messages
        return waiter

    def start_pieces(self, pieces: Pieces) -> None:
        """Put the next message into `pieces`, as it comes."""
        self.pieces = pieces
        self._dispatch(self.protocol.next_in_pieces())

    def stop_pieces(self) -> None:
        """Put no more of it there: drop the rest, or leave the message to the next who asks if it has not begun."""
        if self.pieces is not None:
            self.pieces.drop()
            if self.pieces.over.is_set() or self.protocol.next_whole():
                self.pieces = None
            self.taken()

    # The end

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

    def start_closing(self, code: int | None, reason: str | None) -> None:
        """Send the close frame, or answer the peer's; what was received and not taken is dropped.

        Raises:
            ValueError: the code or the reason cannot be sent.
        """
        encode_close(code, reason)
        if not self.protocol.may_send:
            return
        self.inbox.discard()
        if self.protocol.phase is Phase.ANSWERING:
            self._answer_end()
            return
        self.transport.write(self.protocol.send_close(code, reason))
        self._begin_end()
        self._end()
        self.transport.resume_reading()
        self._go_on()  # the peer's answer may have been read already

    def abort(self, cause: Exception | None) -> None:
        """Cut the connection. Idempotent."""
        self.transport.abort()
        self.connection_lost(cause)

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
        self._end()
        self._finish()

    def _end(self) -> None:
        """Tell everyone who waits that nothing more comes, and that nothing more can be sent."""
        self.inbox.close()
        self.outbox.wake()
        self.pings.end()
        if self.pieces is not None:
            self.pieces.end()
            if self.pieces.dropped:
                self.pieces = None  # else the next who asks would wait for the end of that message

    def _finish(self) -> None:
        """Bring the transport to its end, now that both sides have said all."""
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
        when = self.pings.watch(self.protocol, self.transport, self.inbox.reading)
        if when is None:
            self.abort(TimeoutError("the peer made no progress in time: it is taken for dead"))
        else:
            self._alarm.set(when)
