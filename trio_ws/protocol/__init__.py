"""The WebSocket protocol (RFC 6455) without I/O: facade of the core, which has never heard of Trio."""

from __future__ import annotations

from ._accel import Decoder, Protocol, apply_mask, encode_frame, encode_payload
from ._close import CloseCode, CloseReason, encode_close, may_be_sent
from ._compressors import Deflater, Recipe
from ._cookies import set_cookie
from ._deflate import AgreedDeflate, PerMessageDeflate
from ._errors import ERRORS, LocalProtocolError, ProtocolError, RemoteProtocolError
from ._events import Close, Event, Fragment, Ping, Pong, TextBytes
from ._handshake import HandshakeFailed, Request, Response
from ._handshake_answers import accepted_response, change_accepted, encode_extra_headers
from ._handshake_client import ClientHandshake
from ._handshake_server import SAME_ORIGIN, OriginPolicy, ServerHandshake
from ._headers import (
    Extension,
    ExtensionFactory,
    Headers,
    HeadersLike,
    check_subprotocols,
    encode_headers,
    format_extensions,
    is_token,
    parse_extensions,
    parse_subprotocols,
)
from ._latencies import Latencies
from ._limits import Limits, Meter
from ._liveness import Liveness, PingLedger, Verdict
from ._mask import ChosenMasks, MaskPool
from ._state import Input, Phase, Role, State

__all__ = [
    "ERRORS",
    "SAME_ORIGIN",
    "AgreedDeflate",
    "ChosenMasks",
    "ClientHandshake",
    "Close",
    "CloseCode",
    "CloseReason",
    "Decoder",
    "Deflater",
    "Event",
    "Extension",
    "ExtensionFactory",
    "Fragment",
    "HandshakeFailed",
    "Headers",
    "HeadersLike",
    "Input",
    "Latencies",
    "Limits",
    "Liveness",
    "LocalProtocolError",
    "MaskPool",
    "Meter",
    "OriginPolicy",
    "PerMessageDeflate",
    "Phase",
    "Ping",
    "PingLedger",
    "Pong",
    "Protocol",
    "ProtocolError",
    "Recipe",
    "RemoteProtocolError",
    "Request",
    "Response",
    "Role",
    "ServerHandshake",
    "State",
    "TextBytes",
    "Verdict",
    "accepted_response",
    "apply_mask",
    "change_accepted",
    "check_subprotocols",
    "encode_close",
    "encode_extra_headers",
    "encode_frame",
    "encode_headers",
    "encode_payload",
    "format_extensions",
    "is_token",
    "may_be_sent",
    "parse_extensions",
    "parse_subprotocols",
    "set_cookie",
]
