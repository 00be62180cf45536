"""The WebSocket protocol (RFC 6455) without I/O: facade of the core, which has never heard of Trio."""

from __future__ import annotations

from ._close import CloseCode, CloseReason, encode_close, may_be_sent
from ._codec import Decoder, encode_frame
from ._errors import ERRORS, LocalProtocolError, ProtocolError, RemoteProtocolError
from ._events import Close, Event, Fragment, Ping, Pong
from ._limits import Limits
from ._liveness import Liveness, PingLedger, Verdict
from ._mask import MaskPool, apply_mask
from ._protocol import Protocol, Role
from ._state import Input, Phase, State

__all__ = [
    "ERRORS",
    "Close",
    "CloseCode",
    "CloseReason",
    "Decoder",
    "Event",
    "Fragment",
    "Input",
    "Limits",
    "Liveness",
    "LocalProtocolError",
    "MaskPool",
    "Phase",
    "Ping",
    "PingLedger",
    "Pong",
    "Protocol",
    "ProtocolError",
    "RemoteProtocolError",
    "Role",
    "State",
    "Verdict",
    "apply_mask",
    "encode_close",
    "encode_frame",
    "may_be_sent",
]
