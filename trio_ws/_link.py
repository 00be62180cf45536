"""Where protocol and transport meet: one connection's life; knows nothing of its public face, nor how it ends.

Everything here is synchronous. The transport calls in with bytes, tasks call in to send or close, the alarm calls in
when a deadline has come, and each call decides and acts before it returns. So there is nothing to lock, and nothing
that a cancellation could leave half done. Tasks wait in three places: for a message (the inbox), for room to send
(the outbox), and for the end (`over`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from . import _ending
from ._turns import ask_for_turn
from .protocol import Event, Fragment, Phase, Ping, Pong, Protocol, TextBytes, encode_close
from .transport import HIGH_WATER, log_failure

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._config import Config
    from ._pieces import Pieces
    from ._pings import PingWaiter
    from ._prepared import PreparedMessage
    from .transport import Transport

#: Memory in bytes that messages may take beyond a full queue when the connection is lost. What was read comes to less
#: (two reads of 64 KiB, eleven bytes for each of them in the worst case), unless it was compressed: then it may come to a
#: thousand times as much, and the rest of it shares the fate of what was not read.
LAST_BYTES = 2**21


class Link(_ending.Ending):
    """One connection from the end of its opening handshake to its end.

    Args:
        protocol: what the handshake made.
        transport: not started yet.
        config: the options.
        token: returns four unpredictable bytes, the payload of a ping.
        number: what tells it from other connections in the log.
        on_gone: called when the connection is over.
    """

    __slots__ = ("_asked", "_midway", "_resting")

    def __init__(
        self,
        protocol: Protocol,
        transport: Transport,
        config: Config,
        token: Callable[[], bytes],
        number: int,
        on_gone: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(protocol, transport, config, token, number, on_gone)
        self._asked = False  # whether the inbox is asking for a message right now
        self._midway = False  # whether what was read last has completed nothing
        self._resting = False  # whether a turn was asked for

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
        self.received += len(data)
        if protocol.may_receive:
            events = protocol.receive_data(data)
            if self._midway or not events or type(events[0]) is Fragment:
                self._note(events, len(data))
            self._dispatch(events)
            if protocol.partial or self.inbox.bytes or protocol.more:
                self._settle()
        elif protocol.phase is Phase.ENDING:
            self._drop(len(data))

    def eof_received(self) -> None:
        """Take note that the peer's bytes have ended, behind what was received."""
        self._eof = True
        if not self.protocol.more:
            self._handle_eof()

    def drained(self) -> None:
        """Let those go on who waited for room."""
        self.outbox.drained()

    # Events of the protocol

    def _hand_on_all(self) -> None:
        while self.protocol.more and self.inbox.bytes < self.inbox.max_bytes + LAST_BYTES:
            self._dispatch(self.protocol.receive_data(b""))

    def _go_on(self) -> None:
        """Go on with what was read, if there is room for it."""
        if self.protocol.more and not self._is_full():
            events = self.protocol.receive_data(b"")
            if self._midway:
                self._note(events, 0)
            self._dispatch(events)
        self._settle()

    def _settle(self) -> None:
        """See what comes next: another turn for what is left of what was read, its end, or a pause until there is room.

        What a peer can have decoded in one turn is bounded in frames, as what is read is in bytes: 64 KiB are one large
        message, which is done in 30 us, or ten thousand pings, which take a thousand times as long.
        """
        if self.protocol.more and not self._is_full():
            self.transport.pause_reading()
            if not self._resting:
                self._resting = True
                ask_for_turn(self)
        elif self._eof and not self.protocol.more:
            self._handle_eof()
        elif self.inbox.reading and self._is_full():
            self.inbox.reading = False
            self.pauses += 1
            self._paused -= max(self.transport.heard, self.pings.resumed)  # one of them is this moment
            self.transport.pause_reading()

    def take_turn(self) -> None:
        """Go on with what was read when others have had their turn, then with reading."""
        self._resting = False
        if self.protocol.may_receive and (self.inbox.reading or self.inbox.closed):
            self.pings.resumed = trio.current_time()
            self.transport.resume_reading()
            self._go_on()

    def _dispatch(self, events: list[Event]) -> None:
        for event in events:
            # cheaper than isinstance, and there are no others
            if type(event) is str or type(event) is bytes or type(event) is TextBytes:
                if not self.inbox.closed:
                    self._unanswered = True
                    self.inbox.put(event)
            elif isinstance(event, Fragment):
                self._unanswered = True
                if self.pieces is not None and not self.inbox.closed:
                    self.pieces.put(event)
                    if event.final:
                        self.pieces = None
            elif isinstance(event, Ping):
                if self._config.auto_pong:
                    self.outbox.answer_ping(event.payload)
                self._tell(self._config.on_ping, event.payload)
            elif isinstance(event, Pong):
                self.pings.answered(event.payload)
                self._tell(self._config.on_pong, event.payload)
            else:
                self._cause = self.protocol.violation
                self._peer_ended()

    def _tell(self, hook: Callable[[bytes], object] | None, payload: bytes) -> None:
        """Call a function of the application's, whose failure is its own."""
        if hook is not None:
            try:
                hook(payload)
            except Exception as exc:  # noqa: BLE001 - see above
                log_failure(f"{self}: on_ping or on_pong failed", exc)

    def _note(self, events: list[Event], size: int) -> None:
        """Let parts of a message be judged by their number: as a sign of life they are less than what is complete."""
        self._midway = all(isinstance(event, Fragment) and not event.final for event in events)
        if self._midway:
            self.pings.part(self.transport.heard, size)
        else:
            self.pings.whole()

    def _is_full(self) -> bool:
        if (
            not self.protocol.may_receive
            or self.inbox.closed
            or not self.inbox.full(self.protocol.partial, self.pings.awaited)
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
        if not self.protocol.may_receive or self.inbox.closed:
            return
        self.inbox.reading = True
        if not self.protocol.may_send:
            self._begin_end()  # of the peer's time for its end none has passed while we did not read
        now = self.pings.resumed = trio.current_time()
        self._paused += now
        self.transport.resume_reading()
        if self.protocol.more:
            self._go_on()

    # Sending

    def send_in_turn(self, message: str | Buffer, compress: bool | None) -> bool:
        """Send a message if it can go at once, in this turn; return whether it was so. Raises as `send` does."""
        if not self.inbox.turn.may_send() or self.outbox.held or self.transport.buffered > HIGH_WATER:
            return False
        if self.contexts is not None and self.contexts.wants_thread(message, compress):
            return False
        self.send(message, compress)
        return True

    def offer(self, message: PreparedMessage, more: bool = False) -> bool:
        """Send a message that is encoded once for all if it can go at once; return whether it was so.

        *more* says that more is likely to follow: what comes until the next turn leaves together.
        """
        if not self.protocol.may_send or self.outbox.held or self.transport.buffered > HIGH_WATER:
            return False
        self.transport.write(message.encode_for(self.protocol), more)
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

    def start_closing(self, code: int | None, reason: str | None) -> None:
        """End this side and drop what was received and not taken, with all that still comes.

        Raises:
            ValueError: the code or the reason cannot be sent.
        """
        encode_close(code, reason)
        if self.protocol.may_send or not self.inbox.closed:
            self.inbox.discard()
            self.end_sending(code, reason)
            self._end()
            if self.protocol.phase is Phase.CLOSE_SENT:
                self.transport.resume_reading()
                self._go_on()  # the peer's answer may have been read already

    def end_sending(self, code: int | None, reason: str | None) -> None:
        """Send the close frame, or answer the peer's. What comes before the peer's close frame is still received.

        Raises:
            ValueError: the code or the reason cannot be sent.
        """
        encode_close(code, reason)
        if self.protocol.phase is Phase.ANSWERING:
            self._answer_end()
        elif self.protocol.may_send:
            self.transport.write(self.protocol.send_close(code, reason))
            self._begin_end()
            self._end_sending()
