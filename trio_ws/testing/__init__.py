"""Tools to test programs that speak WebSocket: the facade of this package, which only hands on names.

Everything here runs in memory as well as over sockets, needs no port and no network, and works with
`trio.testing.MockClock`.
"""

from __future__ import annotations

from ._faults import FaultyStream, Step, cancelling, cut, end, fail, stall
from ._listener import MemoryListener
from ._pair import ConnectionPair, ServerEndOptions, open_connection_pair
from ._peer import Frame, RawPeer, encode_raw_frame, handshake_request, handshake_response

__all__ = [
    "ConnectionPair",
    "FaultyStream",
    "Frame",
    "MemoryListener",
    "RawPeer",
    "ServerEndOptions",
    "Step",
    "cancelling",
    "cut",
    "encode_raw_frame",
    "end",
    "fail",
    "handshake_request",
    "handshake_response",
    "open_connection_pair",
    "stall",
]
