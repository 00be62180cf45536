"""trio_ws: WebSocket client and server for Trio. This file only hands on names; what they do is known elsewhere."""

from __future__ import annotations

from importlib.metadata import version as _version

from ._accel import accelerated
from ._auth import basic_auth
from ._broadcast import BroadcastResult, Latest, Wait, broadcast
from ._bytestream import WebSocketStream
from ._channel import MessageChannel, QueueStatistics
from ._client import (
    connect_websocket,
    connect_websocket_url,
    open_websocket,
    open_websocket_url,
    wrap_client_stream,
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
    InvalidURL,
    ProxyError,
    RedirectError,
    TooManyRedirects,
    WorkerFailed,
)
from ._observer import Observer
from ._options import (
    AcceptOptions,
    ClientOptions,
    ConductOptions,
    ConnectionOptions,
    HandshakeOptions,
    ServerOptions,
    SizeOptions,
    UpgradeOptions,
)
from ._overload import RateLimit
from ._pieces import MessageStream
from ._prepared import PreparedMessage
from ._receiving import upgrade, wrap_server_stream
from ._reconnect import Backoff, Connections, is_transient, reconnecting
from ._request import WebSocketRequest
from ._router import Router
from ._server import WebSocketServer
from ._serving import serve_listeners, serve_unix_websocket, serve_websocket
from ._statistics import ConnectionStatistics, LatencyStatistics, ServerStatistics, TrafficStatistics
from ._workers import run_workers
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
    TextBytes,
    set_cookie,
)

__version__ = _version("trio_ws")

__all__ = [
    "SAME_ORIGIN",
    "AcceptOptions",
    "Backoff",
    "BroadcastResult",
    "ClientOptions",
    "CloseCode",
    "CloseReason",
    "ConductOptions",
    "ConnectionClosed",
    "ConnectionEnded",
    "ConnectionLost",
    "ConnectionOptions",
    "ConnectionRejected",
    "ConnectionStatistics",
    "ConnectionTimeout",
    "Connections",
    "DisconnectionTimeout",
    "Endpoint",
    "HandshakeError",
    "HandshakeFailed",
    "HandshakeOptions",
    "Headers",
    "InvalidURL",
    "LatencyStatistics",
    "Latest",
    "MessageChannel",
    "MessageStream",
    "Observer",
    "PerMessageDeflate",
    "PreparedMessage",
    "ProtocolError",
    "ProxyError",
    "QueueStatistics",
    "RateLimit",
    "RedirectError",
    "RemoteProtocolError",
    "Request",
    "Response",
    "Router",
    "ServerOptions",
    "ServerStatistics",
    "SizeOptions",
    "State",
    "TextBytes",
    "TooManyRedirects",
    "TrafficStatistics",
    "UpgradeOptions",
    "Wait",
    "WebSocketConnection",
    "WebSocketRequest",
    "WebSocketServer",
    "WebSocketStream",
    "WorkerFailed",
    "__version__",
    "accelerated",
    "basic_auth",
    "broadcast",
    "connect_websocket",
    "connect_websocket_url",
    "is_transient",
    "open_websocket",
    "open_websocket_url",
    "reconnecting",
    "run_workers",
    "serve_listeners",
    "serve_unix_websocket",
    "serve_websocket",
    "set_cookie",
    "upgrade",
    "wrap_client_stream",
    "wrap_server_stream",
]
