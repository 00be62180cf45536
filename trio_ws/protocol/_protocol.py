"""One side of an open WebSocket connection (RFC 6455) without I/O; knows no clock, no socket and no task.

Bytes go in by `receive_data` and come out as events; what is to be sent comes back as buffers to be written in order.
A method that returns buffers has made its change of state: what it returns must be written, or the connection ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _codec, _encode
from ._close import encode_close
from ._codec import Data
from ._deflate import AgreedDeflate
from ._encode import MAX_CONTROL_SIZE, OP_CLOSE, OP_CONTINUATION, OP_PING, OP_PONG, RSV1
from ._errors import REASONS, LocalProtocolError, RemoteProtocolError
from ._events import Close, Event, Fragment, TextBytes
from ._limits import Limits
from ._mask import MaskPool
from ._state import MAY_RECEIVE, MAY_SEND, STATE_OF, TRANSITIONS, Input, Phase, Role, State

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._compressors import Deflater
    from ._headers import Extension
    from ._inflate import Inflater
    from ._limits import Meter


class Protocol:
    """The framing, the messages and the closing handshake of one side.

    Args:
        role: which side this is.
        limits: what the peer may send.
        masks: where a client's masks come from; a server takes none.
        subprotocol: what the handshake agreed on.
        extensions: what the handshake agreed on.

    Attributes:
        meter: what bounds the peer in time; None, as it is at first, for nothing.
        text_as_bytes: whether text is received as `TextBytes` instead of `str`.
    """

    __slots__ = (
        "_bytes",
        "_compressing",
        "_decoder",
        "_excess",
        "_frames",
        "_inflater",
        "_masks",
        "_messages",
        "_pings",
        "_pongs",
        "_sending",
        "close_received",
        "close_sent",
        "deflater",
        "extensions",
        "may_receive",
        "may_send",
        "meter",
        "more",
        "partial",
        "phase",
        "role",
        "subprotocol",
        "text_as_bytes",
        "violation",
    )

    def __init__(
        self,
        role: Role,
        *,
        masks: MaskPool,
        limits: Limits = Limits(),
        subprotocol: str | None = None,
        extensions: tuple[Extension, ...] = (),
    ) -> None:
        self.role = role
        self.subprotocol = subprotocol
        self.extensions = extensions
        self.text_as_bytes = False
        self.phase = Phase.OPEN
        #: Whether the peer's bytes are looked at, and whether messages and pings may be sent.
        self.may_receive = self.may_send = True
        #: Whether events were held back for their number; `receive_data(b"")` returns the next of them.
        self.more = False
        #: Payload bytes held of an incoming message that is not complete.
        self.partial = 0
        self.close_received: Close | None = None
        self.close_sent: Close | None = None
        self.violation: RemoteProtocolError | None = None
        self.meter: Meter | None = None
        self._excess = ""  # which rate the peer has passed, behind what is still to be handed out
        self._masks = masks if role is Role.CLIENT else None
        #: What compresses messages, if that was agreed on.
        self.deflater: Deflater | None = None
        self._inflater: Inflater | None = None
        for extension in extensions:
            if isinstance(extension, AgreedDeflate):
                self.deflater, self._inflater = extension.deflater(), extension.inflater()
        self._decoder = _codec.Decoder(masked=role is Role.SERVER, limits=limits, inflater=self._inflater)
        self._compressing = False  # whether the message being sent in fragments is compressed
        self._messages = self._bytes = self._frames = self._pings = self._pongs = 0  # sent
        self._sending = OP_CONTINUATION  # of the message being sent in fragments; the same as in the decoder

    @property
    def state(self) -> State:
        """How the connection looks from outside."""
        return STATE_OF[self.phase]

    def counts(self) -> tuple[int, ...]:
        """Return what went out and came in so far: messages, bytes of payload, frames, pings, pongs, each in this order.

        Payload counts as it is before it is compressed and after it was inflated, and what comes of it as it comes.
        """
        decoder = self._decoder
        return (
            *(self._messages, decoder.messages, self._bytes, decoder.payload, self._frames, decoder.frames),
            *(self._pings, decoder.pings, self._pongs, decoder.pongs),
        )

    # Receiving

    def receive_data(self, data: Data) -> list[Event]:
        """Take what the peer sent and return what happened, in order. Never raises.

        A `Close` or `RemoteProtocolError` is the last event there is, and has changed `phase`. Nothing happens once
        the peer has ended its side.
        """
        if not self.may_receive:
            return []
        decoder = self._decoder
        events = decoder.decode(data) if self.meter is None else self._receive_metered(data)
        self.more, self.partial = decoder.more, decoder.partial
        if decoder.finished:
            last = events[-1]
            if isinstance(last, Close):
                self.close_received = last
                self._move(Input.RECEIVE_CLOSE)
            elif isinstance(last, RemoteProtocolError):
                self.violation = last
                self._move(Input.RECEIVE_VIOLATION)
        return _with_text_as_bytes(events) if self.text_as_bytes else events

    def _receive_metered(self, data: Data) -> list[Event]:
        """Return what happened up to where the peer has sent too much, which is a violation like any other."""
        decoder, meter = self._decoder, self.meter
        assert meter is not None
        if len(data):
            allowed = 0 if self._excess else meter.take_bytes(len(data))
            if allowed < len(data):
                self._excess, data = self._excess or "WS_ERR_BYTE_RATE", data[:allowed]
        events = decoder.decode(data)
        counted = [index for index, event in enumerate(events) if _counts(event)]
        allowed = meter.take_messages(len(counted)) if counted else 0
        is_over = allowed < len(counted)
        if is_over:
            self._excess = "WS_ERR_MESSAGE_RATE"
            del events[counted[allowed] :]
        if is_over or (self._excess and not (decoder.more or decoder.finished)):
            decoder.stop()
            events.append(RemoteProtocolError(self._excess))
            meter.exceeded(self._excess)
        return events

    def receive_eof(self) -> None:
        """Take note that the peer's bytes have ended. What `more` tells of must have been received before.

        Raises:
            LocalProtocolError: the transport is gone already.
        """
        self._move(Input.RECEIVE_EOF)

    def next_in_pieces(self) -> list[Event]:
        """Yield the next message, or the rest of the present one, as `Fragment` events; return what is at hand."""
        if not self.may_receive:
            return []
        events = self._decoder.next_in_pieces()
        self.partial = self._decoder.partial
        return _with_text_as_bytes(events) if self.text_as_bytes else events

    def next_whole(self) -> bool:
        """Take `next_in_pieces` back if that message has not begun; return whether it was so."""
        return self._decoder.next_whole()

    # Sending

    def send_message(self, message: str | Buffer, compress: bool | None = None) -> tuple[bytes, ...]:
        """Return a whole message as one frame: `str` as text, any contiguous buffer as binary.

        Args:
            message: it may be changed as soon as this has returned.
            compress: whether to compress it where that was agreed on; None leaves it to the size.

        Raises:
            LocalProtocolError: no message may be sent now.
            TypeError: `message` is neither text nor a contiguous buffer.
        """
        if not self.may_send or self._sending != OP_CONTINUATION:
            self._require_open()
            raise LocalProtocolError("a message is being sent in fragments: finish it first")
        if self.deflater is None or compress is False:
            chunks = _encode.encode_message(message, self._masks)
            self.count_message(_encode.payload_size(chunks, self._masks is not None))
            return chunks
        opcode, payload = _encode.encode_payload(message)
        self.count_message(len(payload))
        if self.deflater.wants(len(payload), compress):
            opcode, payload = opcode | RSV1, self.deflater.compress(payload)
        return _encode.encode_chunks(opcode, payload, self._mask(), True)

    def send_payload(self, opcode: int, payload: bytes, compressed: bool) -> tuple[bytes, ...]:
        """Return a whole message whose payload is ready, compressed on this side's terms or not, as one frame.

        It may be sent on other connections too, and is counted by `count_message` on each.

        Raises:
            LocalProtocolError: no message may be sent now.
        """
        self._require_open()
        return _encode.encode_chunks(opcode | RSV1 if compressed else opcode, payload, self._mask(), True)

    def count_message(self, size: int) -> None:
        """Take note of a message that goes out as one frame, and had `size` bytes before it was compressed."""
        self._frames += 1
        self._messages += 1
        self._bytes += size

    def send_fragment(
        self, data: str | Buffer, final: bool, compress: bool | None = None
    ) -> tuple[bytes, ...]:
        """Return the next frame of a message sent in fragments; the first one says whether it is text or binary.

        Args:
            data: the fragment.
            final: whether it is the last.
            compress: whether to compress the message where that was agreed on; None leaves it to the size of the first
                fragment, which alone is asked.

        Raises:
            LocalProtocolError: no message may be sent now.
            TypeError: `data` is neither text nor a contiguous buffer, or not of the kind of the fragments before it.
        """
        self._require_open()
        opcode, payload = _encode.encode_payload(data)
        if self._sending not in (OP_CONTINUATION, opcode):
            raise TypeError("all pieces of a message must be text, or all binary")
        first = self._sending == OP_CONTINUATION
        self._frames += 1
        self._messages += final
        self._bytes += len(payload)
        self._sending = OP_CONTINUATION if final else opcode
        opcode = opcode if first else OP_CONTINUATION
        if self.deflater is not None:
            if first:
                self._compressing = self.deflater.wants(len(payload), compress)
                opcode |= RSV1 if self._compressing else 0
            if self._compressing:
                payload = self.deflater.compress_fragment(payload, first, final)
        return _encode.encode_chunks(opcode, payload, self._mask(), final)

    def send_ping(self, payload: bytes) -> tuple[bytes, ...]:
        """Return a ping; it may stand between the fragments of a message.

        Raises:
            LocalProtocolError: nothing may be sent now.
            ValueError: `payload` has more than 125 bytes.
        """
        return self._control(OP_PING, payload)

    def send_pong(self, payload: bytes) -> tuple[bytes, ...]:
        """Return a pong; it may stand between the fragments of a message.

        Raises:
            LocalProtocolError: nothing may be sent now.
            ValueError: `payload` has more than 125 bytes.
        """
        return self._control(OP_PONG, payload)

    def send_close(self, code: int | None, reason: str | None) -> tuple[bytes, ...]:
        """Begin the closing handshake; `code=None` sends an empty close frame.

        Raises:
            LocalProtocolError: the closing handshake has begun already.
            ValueError: the code or the reason cannot be sent.
        """
        payload = encode_close(code, reason)
        if self.phase is not Phase.OPEN:
            raise LocalProtocolError("the closing handshake has begun already")
        self._move(Input.SEND_CLOSE)
        self._frames += 1
        self.close_sent = Close(1005 if code is None else code, reason or "")
        return (_encode.encode_frame(OP_CLOSE, payload, self._mask()),)

    def send_answer(self) -> tuple[bytes, ...]:
        """End the answering phase: echo the peer's close frame or name its violation; to an end of bytes say nothing.

        Raises:
            LocalProtocolError: the peer has not ended its side, or was answered already.
        """
        if self.phase is not Phase.ANSWERING:
            raise LocalProtocolError("there is nothing to answer")
        self._move(Input.SEND_CLOSE)
        if self.close_received is not None:
            self.close_sent = self.close_received
        elif self.violation is not None:
            self.close_sent = Close(self.violation.close_code, REASONS.get(self.violation.code, ""))
        else:
            return ()
        self._frames += 1
        code = None if self.close_sent.code == 1005 else self.close_sent.code
        return (_encode.encode_frame(OP_CLOSE, encode_close(code, self.close_sent.reason), self._mask()),)

    def lose(self) -> None:
        """Take note that the transport is gone. What `more` tells of is received before, or never.

        Raises:
            LocalProtocolError: that is known already.
        """
        self._move(Input.LOSE)
        if self.deflater is not None and self._inflater is not None:
            self.deflater.release()
            self._inflater.release()

    def _move(self, by: Input) -> None:
        if (self.phase, by) not in TRANSITIONS:
            raise LocalProtocolError(f"{by.name} cannot follow in phase {self.phase.name}")
        self.phase = TRANSITIONS[self.phase, by]
        self.may_receive = self.phase in MAY_RECEIVE
        self.may_send = self.phase in MAY_SEND
        self.more = self.more and self.may_receive

    def _require_open(self) -> None:
        if not self.may_send:
            raise LocalProtocolError("no message can be sent once the connection is closing")

    def _control(self, opcode: int, payload: bytes) -> tuple[bytes, ...]:
        self._require_open()
        if len(payload) > MAX_CONTROL_SIZE:
            raise ValueError(f"a control frame has at most {MAX_CONTROL_SIZE} bytes, not {len(payload)}")
        self._frames += 1
        self._pings += opcode == OP_PING
        self._pongs += opcode == OP_PONG
        return (_encode.encode_frame(opcode, payload, self._mask()),)

    def _mask(self) -> bytes | None:
        return None if self._masks is None else self._masks.take()


def _counts(event: Event) -> bool:
    """Say whether an event is one of those that are counted: messages, by their end, and control frames but the last."""
    return not isinstance(event, Close | RemoteProtocolError) and not (
        isinstance(event, Fragment) and not event.final
    )


def _with_text_as_bytes(events: list[Event]) -> list[Event]:
    """Encode text again: to check it is to decode it, and who does not ask for this pays nothing for it."""
    encoded: list[Event] = []
    for event in events:
        if isinstance(event, str):
            encoded.append(TextBytes(event.encode()))
        elif isinstance(event, Fragment) and isinstance(event.data, str):
            encoded.append(Fragment(TextBytes(event.data.encode()), event.final))
        else:
            encoded.append(event)
    return encoded
