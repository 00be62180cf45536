"""The closing handshake as a table (RFC 6455 7); knows nothing of frames or transports.

A connection's life, once it is open, is a walk through `Phase`. What moves it is an `Input`, and `TRANSITIONS` is the
whole truth about which input leads where. An input that has no line for a phase is a mistake of this side and is
refused by whoever looks it up.

What the peer ends, it ends *in order*: its close frame, its violation or the end of its bytes stands behind the
messages that came before it. Until those have been taken and answered the phase is `ANSWERING`, in which messages may
still be sent, as RFC 6455 5.5.1 allows ("An endpoint MAY delay sending a Close frame until its current message is
sent"). `send close` ends that.
"""

from __future__ import annotations

from enum import Enum, IntEnum, auto


class Role(Enum):
    """Which side of the connection this is: only clients mask (RFC 6455 5.1)."""

    CLIENT = "client"
    SERVER = "server"


class State(IntEnum):
    """What can be done with a connection, numbered like the readyState of browsers."""

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


class Phase(Enum):
    """Where a connection stands in the closing handshake."""

    OPEN = auto()
    #: Our close frame is out; the peer's is awaited.
    CLOSE_SENT = auto()
    #: The peer has ended its side; what it sent before is still being taken and answered.
    ANSWERING = auto()
    #: Nothing more is said by either side; the transport is being brought to its end.
    ENDING = auto()
    #: The transport is gone.
    ENDED = auto()


class Input(Enum):
    """What moves a connection from one phase to the next."""

    #: We send a close frame, of our own accord or in answer; after a lost peer the frame is not written.
    SEND_CLOSE = auto()
    RECEIVE_CLOSE = auto()
    #: The peer broke the protocol: nothing it sends from here on is looked at.
    RECEIVE_VIOLATION = auto()
    #: The peer's bytes ended without a close frame.
    RECEIVE_EOF = auto()
    #: The transport is gone.
    LOSE = auto()


TRANSITIONS: dict[tuple[Phase, Input], Phase] = {
    (Phase.OPEN, Input.SEND_CLOSE): Phase.CLOSE_SENT,
    (Phase.OPEN, Input.RECEIVE_CLOSE): Phase.ANSWERING,
    (Phase.OPEN, Input.RECEIVE_VIOLATION): Phase.ANSWERING,
    (Phase.OPEN, Input.RECEIVE_EOF): Phase.ANSWERING,
    (Phase.OPEN, Input.LOSE): Phase.ENDED,
    (Phase.CLOSE_SENT, Input.RECEIVE_CLOSE): Phase.ENDING,
    (Phase.CLOSE_SENT, Input.RECEIVE_VIOLATION): Phase.ENDING,
    (Phase.CLOSE_SENT, Input.RECEIVE_EOF): Phase.ENDING,
    (Phase.CLOSE_SENT, Input.LOSE): Phase.ENDED,
    (Phase.ANSWERING, Input.SEND_CLOSE): Phase.ENDING,
    (Phase.ANSWERING, Input.RECEIVE_EOF): Phase.ANSWERING,
    (Phase.ANSWERING, Input.LOSE): Phase.ENDED,
    (Phase.ENDING, Input.RECEIVE_EOF): Phase.ENDING,
    (Phase.ENDING, Input.LOSE): Phase.ENDED,
}

#: Phases in which the peer's bytes are looked at: until it has ended its side.
MAY_RECEIVE = frozenset({Phase.OPEN, Phase.CLOSE_SENT})

#: Phases in which data frames may be sent (RFC 6455 5.5.1: none after a close frame).
MAY_SEND = frozenset({Phase.OPEN, Phase.ANSWERING})

#: How a phase looks from outside. While answering, the connection can still be used as if it were open.
STATE_OF = {
    Phase.OPEN: State.OPEN,
    Phase.ANSWERING: State.OPEN,
    Phase.CLOSE_SENT: State.CLOSING,
    Phase.ENDING: State.CLOSING,
    Phase.ENDED: State.CLOSED,
}
