"""A seeded conversation of two protocols in memory, and the model that says what each of them must hear; no Hypothesis.

A seed decides everything: what was agreed on, the steps, and how the bytes are cut. So millions of conversations are a
loop, and one that went wrong is its number: ``python -m tests.protocol.model_kit --first 4711 --count 1``.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import process_time
from typing import Any

from tests.protocol.codec_kit import CODECS, Codec, Seen, Violation, seen, without_text
from trio_ws.protocol._deflate import AgreedDeflate, PerMessageDeflate
from trio_ws.protocol._errors import LocalProtocolError
from trio_ws.protocol._events import Close, Event, Fragment, Ping, Pong, TextBytes
from trio_ws.protocol._limits import Limits
from trio_ws.protocol._mask import MaskPool
from trio_ws.protocol._state import MAY_RECEIVE, MAY_SEND, TRANSITIONS, Input, Phase, Role

OTHER = {Role.CLIENT: Role.SERVER, Role.SERVER: Role.CLIENT}

#: On both sides of every width of a length and of the size from which messages are compressed; some characters take
#: several bytes, and some bytes cannot be made fewer.
MESSAGES: list[str | bytes] = [
    *("", "a", "\x00", "\u20ac\U0001f600" * 9, "x" * 125, "y" * 126, "\u00e9" * 600, "\U00010348abc" * 700),
    *(
        b"",
        b"\xff",
        bytes(125),
        bytes(range(256)),
        b"z" * 1023,
        b"z" * 1024,
        random.Random(0).randbytes(3000),
    ),
]
#: The same around 65535, and what takes the decoder more than one call when it was compressed.
LARGE: list[str | bytes] = ["l" * 65535, bytes(65536), random.Random(1).randbytes(70_000), bytes(300_000)]
CONTROL = [b"", b"1234", bytes(range(125))]
CLOSES: list[tuple[int | None, str]] = [(None, ""), (1000, ""), (1011, "why \u20ac"), (4999, "r" * 123)]

#: What no side may send, at any time between two frames, and what the other makes of it. Both bits of the mask are tried.
VIOLATIONS = [
    (b"\xff\xff", Violation("WS_ERR_UNEXPECTED_RSV_2_3", 1002)),
    (b"\x09\x00", Violation("WS_ERR_EXPECTED_FIN", 1002)),
    (b"\x8b\x00", Violation("WS_ERR_INVALID_OPCODE", 1002)),
    (b"\x88\x01", Violation("WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH", 1002)),
]

LIMITS = [
    Limits(),
    Limits(max_message_size=2000),
    Limits(max_message_size=126),
    Limits(max_fragments=2),
    Limits(max_fragments=0),
]


def _agree(server: PerMessageDeflate, client: PerMessageDeflate) -> dict[Role, tuple[AgreedDeflate, ...]]:
    answer = server.accept_offer(client.offer())
    assert answer is not None
    params, agreed = answer
    return {Role.SERVER: (agreed,), Role.CLIENT: (client.accept_response(params),)}


#: What the handshake may have agreed on: nothing, and compression with and without contexts, shared compressors, and the
#: smallest windows.
AGREED: list[dict[Role, tuple[AgreedDeflate, ...]]] = [
    {Role.SERVER: (), Role.CLIENT: ()},
    _agree(PerMessageDeflate(), PerMessageDeflate()),
    _agree(PerMessageDeflate(threshold=0), PerMessageDeflate(threshold=0)),
    _agree(
        PerMessageDeflate(server_no_context_takeover=True, client_no_context_takeover=True, threshold=1),
        PerMessageDeflate(threshold=1),
    ),
    _agree(
        PerMessageDeflate(server_no_context_takeover=True, shared=False, threshold=1),
        PerMessageDeflate(threshold=100),
    ),
    _agree(
        PerMessageDeflate(server_max_window_bits=8, client_max_window_bits=9, threshold=1),
        PerMessageDeflate(threshold=1),
    ),
]


@dataclass
class Side:
    """One side, where it must stand, and what it has said and heard."""

    protocol: Any
    limits: Limits
    phase: Phase = Phase.OPEN
    wire: bytes = b""
    """What is on its way to the other side."""
    said: list[Seen] = field(default_factory=list[Seen])
    """What the other side should hear."""
    sent: list[str | bytes] = field(default_factory=list[str | bytes])
    """The fragments of a message that is not complete."""
    heard: list[Seen] = field(default_factory=list[Seen])
    pieces: list[str | bytes] = field(default_factory=list[str | bytes])
    """What it has heard of a message in pieces that is not complete."""
    deaf: bool = False
    """Whether its bytes were ended before all had come."""

    def say(self, chunks: Iterable[bytes], *events: Seen) -> None:
        self.wire += b"".join(chunks)
        self.said.extend(events)

    def move(self, by: Input) -> None:
        self.phase = TRANSITIONS[self.phase, by]

    def hear(self, events: Iterable[Event]) -> None:
        for event in map(as_text, events):
            if isinstance(event, Fragment):
                assert event.data or event.final, "a piece of nothing"
                self.pieces.append(event.data)
                if event.final:
                    self.heard.append(joined(self.pieces))
                    self.pieces = []
            else:
                self.heard += without_text(seen([event]))


def as_text(event: Event) -> Event:
    """Return what an event means, whether text is received as `str` or not."""
    if isinstance(event, TextBytes):
        return event.decode()
    if isinstance(event, Fragment) and isinstance(event.data, TextBytes):
        return Fragment(event.data.decode(), event.final)
    return event


def joined(pieces: list[str | bytes]) -> str | bytes:
    texts = [piece for piece in pieces if isinstance(piece, str)]
    binaries = [piece for piece in pieces if isinstance(piece, bytes)]
    assert not (texts and binaries), "a message of both kinds"
    return "".join(texts) if texts else b"".join(binaries)


def size_of(data: str | bytes) -> int:
    return len(data.encode() if isinstance(data, str) else data)


class Conversation:
    """Steps of two sides, and of the way between them; each step is checked, whether it is allowed or not.

    Args:
        codec: what both sides decode and encode by.
        seed: decides on everything.
    """

    def __init__(self, codec: Codec, seed: int) -> None:
        self._dice = random.Random(seed)
        dice = self._dice
        agreed, limits = dice.choice(AGREED), dice.choice(LIMITS)
        masks = MaskPool(dice.randbytes)
        self.sides = {
            role: Side(codec.protocol(role, masks=masks, limits=limits, extensions=agreed[role]), limits)
            for role in Role
        }
        for side in self.sides.values():
            side.protocol.text_as_bytes = dice.random() < 0.2
        self.steps = 0

    def run(self) -> None:
        """Do some steps, then let everything arrive that is on its way, and compare."""
        roles = list(Role)
        for kind in self._dice.choices(_KINDS, _WEIGHTS, k=self._dice.choice((3, 10, 30))):
            self._do(kind, self._dice.choice(roles))
        for _ in range(2):
            for role in Role:
                self._do(Conversation.deliver_all, role)
                if self.sides[role].phase is Phase.ANSWERING:
                    self._do(Conversation.answer, role)
        for role in Role:
            self._compare_all(role)

    def _do(self, kind: Callable[[Conversation, Role], None], role: Role) -> None:
        kind(self, role)
        self.steps += 1
        for each, side in self.sides.items():
            protocol, said = side.protocol, self.sides[OTHER[each]].said
            assert protocol.phase is side.phase, "not where the table says"
            assert protocol.may_send is (side.phase in MAY_SEND)
            assert side.heard == said[: len(side.heard)], "not what was said"
            if protocol.close_received is not None:
                assert protocol.close_received == side.heard[-1]
            assert (protocol.violation is not None) is (
                bool(side.heard) and isinstance(side.heard[-1], Violation)
            )

    def _compare_all(self, role: Role) -> None:
        side, sender = self.sides[role], self.sides[OTHER[role]]
        if not side.deaf:
            ends = [place for place, event in enumerate(sender.said) if isinstance(event, Close | Violation)]
            assert side.heard == sender.said[: ends[0] + 1 if ends else None], "not all was heard"
            assert ends or sender.sent or side.phase in MAY_RECEIVE
        closes = [event for event in side.said if isinstance(event, Close)]
        assert side.protocol.close_sent == (closes[0] if closes else None)
        assert len(closes) <= 1, "two close frames"

    def _refused(self, call: Callable[..., object], *args: object) -> None:
        try:
            call(*args)
        except LocalProtocolError:
            return
        raise AssertionError("this was not allowed")

    # What a side does

    def send_message(self, role: Role) -> None:
        side, dice = self.sides[role], self._dice
        message = dice.choice(LARGE if dice.random() < 0.01 else MESSAGES)
        compress = dice.choice((None, None, True, False))
        if side.phase not in MAY_SEND or side.sent:
            self._refused(side.protocol.send_message, message, compress)
            return
        side.say(side.protocol.send_message(message, compress), self._fate(side, size_of(message), message))

    def send_fragment(self, role: Role) -> None:
        side, dice = self.sides[role], self._dice
        data, final = dice.choice(MESSAGES), dice.random() < 0.4
        if side.sent and type(side.sent[0]) is not type(data):
            data = b"bytes" if isinstance(side.sent[0], bytes) else "text"
        if side.phase not in MAY_SEND:
            self._refused(side.protocol.send_fragment, data, final)
            return
        whole = not side.sent and final  # a message in one frame after all, which counts as no fragment
        side.say(side.protocol.send_fragment(data, final, dice.choice((None, True, False))))
        side.sent.append(data)
        size = sum(map(size_of, side.sent))
        if size > side.limits.max_message_size:
            side.say((), Violation("WS_ERR_UNSUPPORTED_MESSAGE_LENGTH", 1009))
        elif len(side.sent) > side.limits.max_fragments and not whole:
            side.say((), Violation("WS_ERR_TOO_MANY_BUFFERED_PARTS", 1008))
        elif final:
            side.say((), joined(side.sent))
        if final:
            side.sent = []

    def send_prepared(self, role: Role) -> None:
        """Send what was compressed for many, as broadcasts do: this side's context does not know it, the peer's does."""
        side, data = self.sides[role], self._dice.choice(MESSAGES)
        deflater = side.protocol.deflater
        if side.phase not in MAY_SEND or side.sent or deflater is None:
            return
        payload = data.encode() if isinstance(data, str) else data
        chunks = side.protocol.send_payload(
            1 if isinstance(data, str) else 2, deflater.recipe.deflate(payload), True
        )
        if deflater.takeover:
            deflater.release()
        side.say(chunks, self._fate(side, len(payload), data))

    def _fate(self, side: Side, size: int, message: str | bytes) -> Seen:
        if size > side.limits.max_message_size:
            return Violation("WS_ERR_UNSUPPORTED_MESSAGE_LENGTH", 1009)
        return message

    def send_control(self, role: Role) -> None:
        side, payload, pong = self.sides[role], self._dice.choice(CONTROL), self._dice.random() < 0.5
        send = side.protocol.send_pong if pong else side.protocol.send_ping
        if side.phase in MAY_SEND:
            side.say(send(payload), Pong(payload) if pong else Ping(payload))
        else:
            self._refused(send, payload)

    def close(self, role: Role) -> None:
        side, (code, reason) = self.sides[role], self._dice.choice(CLOSES)
        if side.phase is Phase.OPEN:
            side.say(side.protocol.send_close(code, reason), Close(code or 1005, reason))
            side.move(Input.SEND_CLOSE)
        else:
            self._refused(side.protocol.send_close, code, reason)

    def answer(self, role: Role) -> None:
        side = self.sides[role]
        if side.phase is not Phase.ANSWERING:
            self._refused(side.protocol.send_answer)
            return
        chunks = side.protocol.send_answer()
        side.move(Input.SEND_CLOSE)
        last = side.heard[-1] if side.heard else None
        if isinstance(last, Close):
            side.say(chunks, last)
        elif isinstance(last, Violation):
            side.say(chunks, Close(last.close_code, ""))
        else:
            assert chunks == ()

    def violate(self, role: Role) -> None:
        data, verdict = self._dice.choice(VIOLATIONS)
        self.sides[role].say((data,), verdict)

    # What the way does

    def deliver(self, role: Role) -> None:
        self._deliver(role, self._dice.choice((0, 1, 1, 2, 3, 7, 100, 5000)))

    def deliver_byte_by_byte(self, role: Role) -> None:
        for _ in range(min(len(self.sides[OTHER[role]].wire), 40)):
            self._deliver(role, 1)

    def deliver_all(self, role: Role) -> None:
        self._deliver(role, 10**9)
        while self.sides[role].protocol.more:
            self._deliver(role, 0)

    def _deliver(self, role: Role, size: int) -> None:
        side, sender = self.sides[role], self.sides[OTHER[role]]
        data, sender.wire = sender.wire[:size], sender.wire[size:]
        before = len(side.heard)
        side.hear(side.protocol.receive_data(data))
        if side.phase not in MAY_RECEIVE:
            assert len(side.heard) == before
        elif side.heard:
            self._move_by(side, side.heard[-1])

    def _move_by(self, side: Side, last: Seen) -> None:
        if isinstance(last, Close):
            side.move(Input.RECEIVE_CLOSE)
        elif isinstance(last, Violation):
            side.move(Input.RECEIVE_VIOLATION)

    def in_pieces(self, role: Role) -> None:
        side = self.sides[role]
        side.hear(side.protocol.next_in_pieces())

    def whole_again(self, role: Role) -> None:
        self.sides[role].protocol.next_whole()

    def end_of_bytes(self, role: Role) -> None:
        self._end(role, Input.RECEIVE_EOF, self.sides[role].protocol.receive_eof)

    def lose(self, role: Role) -> None:
        self._end(role, Input.LOSE, self.sides[role].protocol.lose)

    def _end(self, role: Role, by: Input, call: Callable[[], None]) -> None:
        side = self.sides[role]
        while side.protocol.more:  # it was received before
            self._deliver(role, 0)
        if side.phase is Phase.ENDED:
            self._refused(call)
            return
        side.deaf = side.deaf or side.phase in MAY_RECEIVE
        call()
        side.move(by)


#: What happens, and how often.
STEPS: list[tuple[Callable[[Conversation, Role], None], float]] = [
    (Conversation.send_message, 8),
    (Conversation.send_fragment, 8),
    (Conversation.send_prepared, 2),
    (Conversation.send_control, 4),
    (Conversation.close, 1),
    (Conversation.answer, 1),
    (Conversation.violate, 0.3),
    (Conversation.deliver, 8),
    (Conversation.deliver_byte_by_byte, 2),
    (Conversation.deliver_all, 4),
    (Conversation.in_pieces, 3),
    (Conversation.whole_again, 1),
    (Conversation.end_of_bytes, 0.3),
    (Conversation.lose, 0.2),
]
_KINDS, _WEIGHTS = [kind for kind, _ in STEPS], [weight for _, weight in STEPS]


def converse(codec: Codec, seeds: Iterable[int]) -> int:
    """Run the conversations of these seeds, name the first that goes wrong, and return how many steps they took."""
    steps = 0
    for seed in seeds:
        conversation = Conversation(codec, seed)
        try:
            conversation.run()
        except Exception as exc:
            exc.add_note(f"{codec}, seed {seed}, step {conversation.steps}")
            raise
        steps += conversation.steps
    return steps


def main() -> None:
    """Run a range of seeds for one codec, as many as there is time for."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--codec", choices=[str(codec) for codec in CODECS], default=str(CODECS[0]))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=10**6)
    given = parser.parse_args()
    begun = process_time()
    steps = converse(Codec(given.codec), range(given.first, given.first + given.count))
    print(f"{given.codec}: {given.count} conversations, {steps} steps, {process_time() - begun:.0f} s")  # noqa: T201 - what the command is for


if __name__ == "__main__":
    main()
