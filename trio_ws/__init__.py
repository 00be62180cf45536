"""trio_ws: WebSocket client and server for Trio. This file only hands on names; what they do is known elsewhere."""

from __future__ import annotations

from importlib.metadata import version as _version

from ._accel import accelerated
from ._channel import MessageChannel, QueueStatistics
from ._client import (
    connect_websocket,
    connect_websocket_url,
    open_websocket,
    open_websocket_url,
    wrap_client_stream,
)
from ._config import (
    AcceptOptions,
    ClientOptions,
    ConductOptions,
    ConnectionOptions,
    ServerOptions,
    SizeOptions,
    UpgradeOptions,
)
from ._connection import WebSocketConnection
from ._endpoint import Endpoint
from ._errors import (
    ConnectionClosed,
    ConnectionEnded,
    ConnectionLost,
    ConnectionRejected,
    ConnectionTimeout,
    DisconnectionTimeout,
    HandshakeError,
)
from ._pieces import MessageStream
from ._receiving import upgrade, wrap_server_stream
from ._request import WebSocketRequest
from ._server import WebSocketServer
from ._serving import serve_listeners, serve_unix_websocket, serve_websocket
from .protocol import (
    SAME_ORIGIN,
    CloseCode,
    CloseReason,
    HandshakeFailed,
    Headers,
    PerMessageDeflate,
    ProtocolError,
    RemoteProtocolError,
    Request,
    Response,
    State,
)

__version__ = _version("trio_ws")

__all__ = [
    "SAME_ORIGIN",
    "AcceptOptions",
    "ClientOptions",
    "CloseCode",
    "CloseReason",
    "ConductOptions",
    "ConnectionClosed",
    "ConnectionEnded",
    "ConnectionLost",
    "ConnectionOptions",
    "ConnectionRejected",
    "ConnectionTimeout",
    "DisconnectionTimeout",
    "Endpoint",
    "HandshakeError",
    "HandshakeFailed",
    "Headers",
    "MessageChannel",
    "MessageStream",
    "PerMessageDeflate",
    "ProtocolError",
    "QueueStatistics",
    "RemoteProtocolError",
    "Request",
    "Response",
    "ServerOptions",
    "SizeOptions",
    "State",
    "UpgradeOptions",
    "WebSocketConnection",
    "WebSocketRequest",
    "WebSocketServer",
    "__version__",
    "accelerated",
    "connect_websocket",
    "connect_websocket_url",
    "open_websocket",
    "open_websocket_url",
    "serve_listeners",
    "serve_unix_websocket",
    "serve_websocket",
    "upgrade",
    "wrap_client_stream",
    "wrap_server_stream",
]
