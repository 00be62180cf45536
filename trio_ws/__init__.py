"""trio_ws: WebSocket client and server for Trio. This file only hands on names; what they do is known elsewhere."""

from __future__ import annotations

from importlib.metadata import version as _version

from ._accel import accelerated
from ._bytestream import WebSocketStream
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
from ._request import WebSocketRequest, wrap_server_stream
from ._server import WebSocketServer, serve_websocket
from .protocol import (
    SAME_ORIGIN,
    CloseCode,
    CloseReason,
    Headers,
    PerMessageDeflate,
    ProtocolError,
    RemoteProtocolError,
    Request,
    Response,
    State,
    TextBytes,
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
    "TextBytes",
    "WebSocketConnection",
    "WebSocketRequest",
    "WebSocketServer",
    "WebSocketStream",
    "__version__",
    "accelerated",
    "connect_websocket",
    "connect_websocket_url",
    "open_websocket",
    "open_websocket_url",
    "serve_websocket",
    "wrap_client_stream",
    "wrap_server_stream",
]
