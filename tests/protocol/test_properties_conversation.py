"""Two sides that talk in memory, in any order of steps: each is where the table says, and gets what the other sent."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.protocol.codec_kit import Seen, Violation, seen, without_text
from trio_ws.protocol._errors import LocalProtocolError
from trio_ws.protocol._events import Close, Fragment, Ping, Pong
from trio_ws.protocol._limits import Limits
from trio_ws.protocol._mask import MaskPool
from trio_ws.protocol._protocol import Protocol
from trio_ws.protocol._state import MAY_RECEIVE, MAY_SEND, STATE_OF, TRANSITIONS, Input, Phase, Role

#: What no frame begins with: all reserved bits are set.
GARBAGE = b"\xff\xff"
BROKEN = Violation("WS_ERR_UNEXPECTED_RSV_2_3", 1002)


@dataclass
class Side:
    """One side, what the table says about it, and what it has said and heard."""

    protocol: Protocol
    phase: Phase = Phase.OPEN
    wire: bytes = b""
    """What is on its way to the other side."""
    said: list[Seen] = field(default_factory=list[Seen])
    """What the other side should hear, up to a close frame or garbage, whichever is first."""
    fragments: list[str | bytes] = field(default_factory=list[str | bytes])
    """Those of a message that is not complete."""
    heard: list[Seen] = field(default_factory=list[Seen])
    deaf: bool = False
    """Whether its bytes were ended before all had come."""

    def say(self, chunks: tuple[bytes, ...], event: Seen) -> None:
        self.wire += b"".join(chunks)
        self.said.append(event)

    def move(self, by: Input) -> None:
        self.phase = TRANSITIONS[self.phase, by]


SIDES = st.sampled_from(list(Role))
TEXTS = st.text(max_size=20)
PAYLOADS = st.binary(max_size=125)


class Conversation(RuleBasedStateMachine):
    """Every step is tried in every phase: it does what the table says, or is refused and changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.sides: dict[Role, Side] = {}

    @initialize(masks=st.binary(min_size=8192, max_size=8192) | st.just(bytes(8192)))
    def begin(self, masks: bytes) -> None:
        pool = MaskPool(lambda _: masks)
        limits = Limits(max_fragments=10**6)
        self.sides = {role: Side(Protocol(role, masks=pool, limits=limits)) for role in Role}

    def other(self, role: Role) -> Side:
        return self.sides[Role.CLIENT if role is Role.SERVER else Role.SERVER]

    @rule(role=SIDES, message=TEXTS | st.binary(max_size=300))
    def send_message(self, role: Role, message: str | bytes) -> None:
        side = self.sides[role]
        if side.phase in MAY_SEND and not side.fragments:
            side.say(side.protocol.send_message(message), message)
        else:
            with pytest.raises(LocalProtocolError):
                side.protocol.send_message(message)

    @rule(role=SIDES, data=TEXTS | PAYLOADS, final=st.booleans())
    def send_fragment(self, role: Role, data: str | bytes, final: bool) -> None:
        side = self.sides[role]
        if side.phase not in MAY_SEND:
            with pytest.raises(LocalProtocolError):
                side.protocol.send_fragment(data, final)
        elif side.fragments and type(side.fragments[0]) is not type(data):
            with pytest.raises(TypeError):
                side.protocol.send_fragment(data, final)
        else:
            side.wire += b"".join(side.protocol.send_fragment(data, final))
            side.fragments.append(data)
            if final:
                texts = [piece for piece in side.fragments if isinstance(piece, str)]
                binaries = [piece for piece in side.fragments if isinstance(piece, bytes)]
                side.said.append("".join(texts) if texts else b"".join(binaries))
                side.fragments = []

    @rule(role=SIDES, payload=PAYLOADS, pong=st.booleans())
    def send_control(self, role: Role, payload: bytes, pong: bool) -> None:
        side = self.sides[role]
        send = side.protocol.send_pong if pong else side.protocol.send_ping
        if side.phase in MAY_SEND:
            side.say(send(payload), Pong(payload) if pong else Ping(payload))
        else:
            with pytest.raises(LocalProtocolError):
                send(payload)

    @rule(role=SIDES, code=st.sampled_from([1000, 1011, 3000, 4999]), reason=st.text(max_size=30))
    def close(self, role: Role, code: int, reason: str) -> None:
        side = self.sides[role]
        if side.phase is Phase.OPEN:
            side.say(side.protocol.send_close(code, reason), Close(code, reason))
            side.move(Input.SEND_CLOSE)
        else:
            with pytest.raises(LocalProtocolError):
                side.protocol.send_close(code, reason)

    @rule(role=SIDES)
    def answer(self, role: Role) -> None:
        side = self.sides[role]
        if side.phase is not Phase.ANSWERING:
            with pytest.raises(LocalProtocolError):
                side.protocol.send_answer()
            return
        chunks = side.protocol.send_answer()
        side.move(Input.SEND_CLOSE)
        last = side.heard[-1] if side.heard else None
        if isinstance(last, Close):
            side.say(chunks, last)
        elif isinstance(last, Violation):
            side.say(chunks, Close(1002, ""))
        else:
            assert chunks == ()

    @rule(role=SIDES, size=st.integers(0, 200) | st.just(10**6))
    def deliver(self, role: Role, size: int) -> None:
        side, sender = self.sides[role], self.other(role)
        data, sender.wire = sender.wire[:size], sender.wire[size:]
        events = without_text(seen(side.protocol.receive_data(data)))
        if side.phase not in MAY_RECEIVE:
            assert events == []
            return
        side.heard += events
        if events and isinstance(events[-1], Close):
            side.move(Input.RECEIVE_CLOSE)
        elif events and isinstance(events[-1], Violation):
            side.move(Input.RECEIVE_VIOLATION)

    @rule(role=SIDES)
    def break_the_rules(self, role: Role) -> None:
        self.sides[role].say((GARBAGE,), BROKEN)

    @rule(role=SIDES)
    def end_of_bytes(self, role: Role) -> None:
        side = self.sides[role]
        if side.phase is Phase.ENDED:
            with pytest.raises(LocalProtocolError):
                side.protocol.receive_eof()
        else:
            side.deaf = side.deaf or side.phase in MAY_RECEIVE
            side.protocol.receive_eof()
            side.move(Input.RECEIVE_EOF)

    @rule(role=SIDES, really=st.integers(0, 4))
    def lose(self, role: Role, really: int) -> None:
        side = self.sides[role]
        if side.phase is Phase.ENDED:
            with pytest.raises(LocalProtocolError):
                side.protocol.lose()
        elif really == 0:  # one in five: else few conversations would come far
            side.deaf = side.deaf or side.phase in MAY_RECEIVE
            side.protocol.lose()
            side.move(Input.LOSE)

    @invariant()
    def each_side_is_where_the_table_says(self) -> None:
        for side in self.sides.values():
            assert side.protocol.phase is side.phase
            assert side.protocol.state is STATE_OF[side.phase]
            assert side.protocol.may_send is (side.phase in MAY_SEND)
            assert not side.protocol.more

    @invariant()
    def each_side_has_heard_what_the_other_said(self) -> None:
        for role, side in self.sides.items():
            sender = self.other(role)
            assert side.heard == sender.said[: len(side.heard)]
            assert not any(isinstance(event, Fragment) for event in side.heard)
            if side.protocol.close_received is not None:
                assert side.protocol.close_received == side.heard[-1] == sender.protocol.close_sent
            assert (side.protocol.violation is not None) is (BROKEN in side.heard)

    def teardown(self) -> None:
        """Let everything arrive that is on its way, and end."""
        for _ in range(2):
            for role, side in self.sides.items():
                self.deliver(role, 10**9)
                if side.phase is Phase.ANSWERING:
                    self.answer(role)
        for role, side in self.sides.items():
            sender = self.other(role)
            if not side.deaf:
                ends = [i for i, event in enumerate(sender.said) if isinstance(event, Close | Violation)]
                assert side.heard == sender.said[: ends[0] + 1 if ends else None]
                if not ends and not side.fragments:
                    assert side.phase in MAY_RECEIVE
            closes = [event for event in side.said if isinstance(event, Close)]
            assert len(closes) <= 1
            assert side.protocol.close_sent == (closes[0] if closes else None)
        self.each_side_is_where_the_table_says()
        self.each_side_has_heard_what_the_other_said()


@pytest.mark.usefixtures("codec_of_protocol")
def test_conversation() -> None:
    run_state_machine_as_test(Conversation)
