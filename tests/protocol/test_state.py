"""The closing handshake: the table is complete and consistent, and both roles of `Protocol` follow it to the letter."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import NamedTuple

import pytest

from tests.protocol.codec_kit import CLOSE, TEXT, Peer, Violation, seen
from trio_ws.protocol._errors import LocalProtocolError, RemoteProtocolError
from trio_ws.protocol._events import Close
from trio_ws.protocol._mask import MaskPool
from trio_ws.protocol._protocol import Protocol
from trio_ws.protocol._state import MAY_RECEIVE, MAY_SEND, STATE_OF, TRANSITIONS, Input, Phase, Role, State

pytestmark = pytest.mark.usefixtures("codec_of_protocol")

# The table itself


def test_states_are_numbered_like_those_of_browsers() -> None:
    assert {state.name: state.value for state in State} == {
        "CONNECTING": 0,
        "OPEN": 1,
        "CLOSING": 2,
        "CLOSED": 3,
    }


#: Which input may come in which phase, and where it leads: written down here a second time, from RFC 6455 7.
EXPECTED = {
    Phase.OPEN: {
        Input.SEND_CLOSE: Phase.CLOSE_SENT,
        Input.RECEIVE_CLOSE: Phase.ANSWERING,
        Input.RECEIVE_VIOLATION: Phase.ANSWERING,
        Input.RECEIVE_EOF: Phase.ANSWERING,
        Input.LOSE: Phase.ENDED,
    },
    Phase.CLOSE_SENT: {
        Input.RECEIVE_CLOSE: Phase.ENDING,
        Input.RECEIVE_VIOLATION: Phase.ENDING,
        Input.RECEIVE_EOF: Phase.ENDING,
        Input.LOSE: Phase.ENDED,
    },
    Phase.ANSWERING: {
        Input.SEND_CLOSE: Phase.ENDING,
        Input.RECEIVE_EOF: Phase.ANSWERING,
        Input.LOSE: Phase.ENDED,
    },
    Phase.ENDING: {Input.RECEIVE_EOF: Phase.ENDING, Input.LOSE: Phase.ENDED},
    Phase.ENDED: {},
}


def test_the_table() -> None:
    assert {
        (phase, by): after for phase, lines in EXPECTED.items() for by, after in lines.items()
    } == TRANSITIONS


def test_every_phase_is_reached_and_comes_to_an_end() -> None:
    reached = {Phase.OPEN}
    while new := {after for (phase, _), after in TRANSITIONS.items() if phase in reached} - reached:
        reached |= new
    assert reached == set(Phase)
    # the loss of the transport ends every phase; nothing comes after it, and nothing leads back
    order = [Phase.OPEN, Phase.CLOSE_SENT, Phase.ANSWERING, Phase.ENDING, Phase.ENDED]
    for (phase, by), after in TRANSITIONS.items():
        assert order.index(phase) < order.index(after) or (by is Input.RECEIVE_EOF and phase is after)
        assert phase is not Phase.ENDED
    assert {phase for phase, by in TRANSITIONS if by is Input.LOSE} == set(Phase) - {Phase.ENDED}


def test_what_may_be_done_follows_from_what_came_before() -> None:
    assert STATE_OF == {
        Phase.OPEN: State.OPEN,
        Phase.ANSWERING: State.OPEN,
        Phase.CLOSE_SENT: State.CLOSING,
        Phase.ENDING: State.CLOSING,
        Phase.ENDED: State.CLOSED,
    }
    # exactly where a close frame can still be sent, other frames can (RFC 6455 5.5.1)
    assert {phase for phase, by in TRANSITIONS if by is Input.SEND_CLOSE} == MAY_SEND
    # exactly where the peer may end its side, its bytes are looked at
    for ending in (Input.RECEIVE_CLOSE, Input.RECEIVE_VIOLATION):
        assert {phase for phase, by in TRANSITIONS if by is ending} == MAY_RECEIVE
    assert {phase for phase in Phase if STATE_OF[phase] is State.OPEN} == MAY_SEND


# `Protocol` against the table


class CountingPool(MaskPool):
    """Counts the masks that were taken."""

    def __init__(self) -> None:
        super().__init__(bytes)
        self.taken = 0

    def take(self) -> bytes:
        self.taken += 1
        return super().take()


class Snapshot(NamedTuple):
    """All that can be seen of a `Protocol`."""

    phase: Phase
    state: State
    may_send: bool
    more: bool
    partial: int
    close_received: Close | None
    close_sent: Close | None
    violation: RemoteProtocolError | None
    masks: int


def snapshot(protocol: Protocol, masks: CountingPool) -> Snapshot:
    return Snapshot(
        protocol.phase,
        protocol.state,
        protocol.may_send,
        protocol.more,
        protocol.partial,
        protocol.close_received,
        protocol.close_sent,
        protocol.violation,
        masks.taken,
    )


def peer_of(role: Role) -> Peer:
    return Peer(masked=role is Role.SERVER)


def receive_close(protocol: Protocol) -> None:
    assert protocol.receive_data(peer_of(protocol.role).close(4001, "theirs")) == [Close(4001, "theirs")]


def receive_violation(protocol: Protocol) -> None:
    (violation,) = seen(protocol.receive_data(peer_of(protocol.role).start(3)))
    assert violation == Violation("WS_ERR_INVALID_OPCODE", 1002, "invalid opcode (3)")


def send_close(protocol: Protocol) -> None:
    protocol.send_close(4000, "ours")


#: Every walk from the open connection, without the steps that lead nowhere.
WALKS: dict[str, tuple[Phase, list[Callable[[Protocol], object]]]] = {
    "open": (Phase.OPEN, []),
    "close sent": (Phase.CLOSE_SENT, [send_close]),
    "close received": (Phase.ANSWERING, [receive_close]),
    "violation received": (Phase.ANSWERING, [receive_violation]),
    "EOF received": (Phase.ANSWERING, [methodcaller("receive_eof")]),
    "close and EOF received": (Phase.ANSWERING, [receive_close, methodcaller("receive_eof")]),
    "close sent and received": (Phase.ENDING, [send_close, receive_close]),
    "close sent, violation received": (Phase.ENDING, [send_close, receive_violation]),
    "close sent, EOF received": (Phase.ENDING, [send_close, methodcaller("receive_eof")]),
    "close received and answered": (Phase.ENDING, [receive_close, methodcaller("send_answer")]),
    "violation received and answered": (Phase.ENDING, [receive_violation, methodcaller("send_answer")]),
    "EOF received and answered": (Phase.ENDING, [methodcaller("receive_eof"), methodcaller("send_answer")]),
    "answered, EOF received": (
        Phase.ENDING,
        [receive_close, methodcaller("send_answer"), methodcaller("receive_eof")],
    ),
    "lost while open": (Phase.ENDED, [methodcaller("lose")]),
    "lost after our close": (Phase.ENDED, [send_close, methodcaller("lose")]),
    "lost before our answer": (Phase.ENDED, [receive_close, methodcaller("lose")]),
    "lost at the end": (Phase.ENDED, [send_close, receive_close, methodcaller("lose")]),
}


def walked(role: Role, walk: str) -> tuple[Protocol, CountingPool]:
    masks = CountingPool()
    protocol = Protocol(role, masks=masks)
    for step in WALKS[walk][1]:
        step(protocol)
    assert protocol.phase is WALKS[walk][0]
    return protocol, masks


#: Every call that the table decides about: the phases it is allowed in, and what it is to the table; None: no input.
CALLS: dict[str, tuple[Callable[[Protocol], object], set[Phase], Input | None]] = {
    "send_message": (lambda protocol: protocol.send_message("a"), {Phase.OPEN, Phase.ANSWERING}, None),
    "send_fragment": (
        lambda protocol: protocol.send_fragment("a", False),
        {Phase.OPEN, Phase.ANSWERING},
        None,
    ),
    "send_ping": (lambda protocol: protocol.send_ping(b""), {Phase.OPEN, Phase.ANSWERING}, None),
    "send_pong": (lambda protocol: protocol.send_pong(b""), {Phase.OPEN, Phase.ANSWERING}, None),
    "send_close": (send_close, {Phase.OPEN}, Input.SEND_CLOSE),
    "send_close without a code": (
        lambda protocol: protocol.send_close(None, None),
        {Phase.OPEN},
        Input.SEND_CLOSE,
    ),
    "send_answer": (methodcaller("send_answer"), {Phase.ANSWERING}, Input.SEND_CLOSE),
    "receive_eof": (methodcaller("receive_eof"), set(Phase) - {Phase.ENDED}, Input.RECEIVE_EOF),
    "lose": (methodcaller("lose"), set(Phase) - {Phase.ENDED}, Input.LOSE),
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("call", CALLS)
def test_every_call_in_every_phase(role: Role, walk: str, call: str) -> None:
    protocol, masks = walked(role, walk)
    act, allowed, by = CALLS[call]
    before = snapshot(protocol, masks)
    if before.phase in allowed:
        act(protocol)
        assert protocol.phase is (before.phase if by is None else EXPECTED[before.phase][by])
        return
    for _ in range(2):
        with pytest.raises(LocalProtocolError):
            act(protocol)
        assert snapshot(protocol, masks) == before
    # nor has it left anything that shows later
    if before.phase is Phase.ANSWERING:
        protocol.send_message(b"whole")
        protocol.send_fragment("text", True)
        protocol.send_answer()


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("walk", WALKS)
def test_bytes_in_every_phase(role: Role, walk: str) -> None:
    peer = peer_of(role)
    message = peer.frame(TEXT, "late")
    for data, by in [
        (message, None),
        (message + peer.frame(CLOSE), Input.RECEIVE_CLOSE),
        (message + b"\xff\xff", Input.RECEIVE_VIOLATION),
    ]:
        protocol, masks = walked(role, walk)
        before = snapshot(protocol, masks)
        events = protocol.receive_data(data)
        if before.phase in {Phase.OPEN, Phase.CLOSE_SENT}:
            assert events[0] == "late"
            assert len(events) == (1 if by is None else 2)
            assert protocol.phase is (before.phase if by is None else EXPECTED[before.phase][by])
        else:
            assert events == []
            assert protocol.next_in_pieces() == []
            assert snapshot(protocol, masks) == before


@pytest.mark.parametrize("role", Role)
def test_forbidden_calls_say_why(role: Role) -> None:
    protocol, _ = walked(role, "close sent")
    with pytest.raises(LocalProtocolError, match="no message can be sent once the connection is closing"):
        protocol.send_message("a")
    with pytest.raises(LocalProtocolError, match="the closing handshake has begun already"):
        protocol.send_close(1000, None)
    with pytest.raises(LocalProtocolError, match="there is nothing to answer"):
        protocol.send_answer()
    protocol.lose()
    with pytest.raises(LocalProtocolError, match="LOSE cannot follow in phase ENDED"):
        protocol.lose()
    with pytest.raises(LocalProtocolError, match="RECEIVE_EOF cannot follow in phase ENDED"):
        protocol.receive_eof()


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    ("code", "reason"),
    [(1005, None), (1006, ""), (999, None), (1000, "x" * 124), (None, "x"), (1000, "\ud800")],
)
def test_a_close_that_cannot_be_sent_changes_nothing(
    role: Role, code: int | None, reason: str | None
) -> None:
    protocol, masks = walked(role, "open")
    before = snapshot(protocol, masks)
    with pytest.raises(ValueError, match=r"close|utf-8"):
        protocol.send_close(code, reason)
    assert snapshot(protocol, masks) == before


# What is said at the end


def frames(role: Role, *chunks: bytes) -> list[object]:
    """Return what the other side makes of `chunks`."""
    other = Role.CLIENT if role is Role.SERVER else Role.SERVER
    return list(Protocol(other, masks=MaskPool(bytes)).receive_data(b"".join(chunks)))


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    ("code", "reason", "close"),
    [
        (None, None, Close(1005, "")),
        (None, "", Close(1005, "")),
        (1000, None, Close(1000, "")),
        (4999, "é" * 61, Close(4999, "é" * 61)),
    ],
)
def test_our_close(role: Role, code: int | None, reason: str | None, close: Close) -> None:
    protocol, _ = walked(role, "open")
    assert frames(role, *protocol.send_close(code, reason)) == [close]
    assert protocol.close_sent == close
    assert protocol.close_received is None


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    "close", [Close(1005, ""), Close(1000, ""), Close(1000, "x"), Close(4999, "é" * 61)], ids=str
)
def test_a_close_frame_is_echoed(role: Role, close: Close) -> None:
    payload = b"" if close.code == 1005 else close.code.to_bytes(2, "big") + close.reason.encode()
    protocol, _ = walked(role, "open")
    assert protocol.receive_data(peer_of(role).frame(CLOSE, payload)) == [close]
    assert protocol.close_received == close
    assert protocol.close_sent is None
    us = Peer(masked=role is Role.CLIENT)
    assert b"".join(protocol.send_answer()) == us.frame(CLOSE, payload, mask=bytes(4))
    assert protocol.close_sent == close


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\xff\x80", "880203ea"),
        (b"\x81\x81\x00\x00\x00\x00\xff", "880203ef"),
        (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff", "880203f1"),
    ],
    ids=["1002", "1007", "1009"],
)
def test_a_violation_is_named(data: bytes, answer: str) -> None:
    protocol = Protocol(Role.SERVER, masks=MaskPool(bytes))
    (violation,) = protocol.receive_data(data)
    assert protocol.violation is violation
    assert isinstance(violation, RemoteProtocolError)
    assert b"".join(protocol.send_answer()).hex() == answer
    assert protocol.close_sent == Close(violation.close_code, "")
    assert protocol.close_received is None


@pytest.mark.parametrize("role", Role)
def test_to_an_end_of_bytes_nothing_is_said(role: Role) -> None:
    protocol, masks = walked(role, "EOF received")
    protocol.send_message("an answer")  # the peer has ended its side only
    taken = masks.taken
    assert protocol.send_answer() == ()
    assert masks.taken == taken
    assert protocol.close_sent is None


@pytest.mark.parametrize("role", Role)
def test_messages_can_be_answered_before_the_close_frame_is(role: Role) -> None:
    protocol, _ = walked(role, "close received")
    assert frames(role, *protocol.send_message("answer"), *protocol.send_answer()) == [
        "answer",
        Close(4001, "theirs"),
    ]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("walk", ["close received", "violation received", "EOF received"])
def test_a_message_half_sent_hinders_no_end(role: Role, walk: str) -> None:
    masks = CountingPool()
    protocol = Protocol(role, masks=masks)
    protocol.send_fragment("half", False)
    for step in WALKS[walk][1]:
        step(protocol)
    protocol.send_fragment("the rest", True)
    protocol.send_fragment("half", False)
    protocol.send_answer()
    assert protocol.phase is Phase.ENDING
    protocol = Protocol(role, masks=masks)
    protocol.send_fragment("half", False)
    protocol.send_close(1001, None)
    assert protocol.phase is Phase.CLOSE_SENT


@pytest.mark.parametrize("role", Role)
def test_both_closes_may_cross(role: Role) -> None:
    protocol, _ = walked(role, "close sent and received")
    assert protocol.close_sent == Close(4000, "ours")
    assert protocol.close_received == Close(4001, "theirs")


@pytest.mark.parametrize("role", Role)
def test_messages_come_until_the_peer_answers_our_close(role: Role) -> None:
    peer = peer_of(role)
    protocol, _ = walked(role, "close sent")
    data = peer.frame(TEXT, "in flight")
    assert protocol.receive_data(data) == ["in flight"]
    assert protocol.receive_data(data + peer.close(4000)) == ["in flight", Close(4000, "")]
    assert protocol.receive_data(data) == []
