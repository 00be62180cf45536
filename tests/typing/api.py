"""The public API as a type checker sees it from outside. Never run: `test_typing.py` has the checkers read it.

`assert_type` fixes what comes out. What must not be accepted carries an ignore for each checker, and both complain of an
ignore that is not needed.
"""

import array
import ssl
from collections.abc import AsyncIterator
from typing import assert_type

import trio

import trio_ws
from trio_ws import (
    CloseReason,
    ConnectionClosed,
    ConnectionEnded,
    ConnectionLost,
    ConnectionRejected,
    Endpoint,
    Headers,
    MessageChannel,
    PerMessageDeflate,
    Request,
    Response,
    State,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    WebSocketStream,
    open_websocket,
    open_websocket_url,
    serve_websocket,
)


async def opening(context: ssl.SSLContext, nursery: trio.Nursery, stream: trio.abc.Stream) -> None:
    async with open_websocket_url("wss://example.org/", context, subprotocols=["chat"]) as ws:
        assert_type(ws, WebSocketConnection)
    async with open_websocket("example.org", 443, "/", use_ssl=True, extra_headers={"name": "value"}) as ws:
        assert_type(ws, WebSocketConnection)
    assert_type(await trio_ws.connect_websocket_url(nursery, "ws://example.org"), WebSocketConnection)
    assert_type(await trio_ws.wrap_client_stream(nursery, stream, "example.org", "/"), WebSocketConnection)
    open_websocket_url("ws://example.org", compression=None)
    open_websocket_url("ws://example.org", compression=PerMessageDeflate(level=1, engine="isal"))
    open_websocket_url("ws://example.org", compression=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    open_websocket_url("ws://example.org", ping_interval="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    open_websocket_url("ws://example.org", no_such_option=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    open_websocket("example.org", 80, "/")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def talking(ws: WebSocketConnection) -> None:
    await ws.send_message("text")
    await ws.send_message(b"binary")
    await ws.send_message(bytearray(3))
    await ws.send_message(memoryview(b"binary"))
    await ws.send_message(array.array("f", [1.0]))
    await ws.send_message("text", compress=False)
    await ws.send_message(b"text", binary=False)
    await ws.send_message(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ws.send_stream(["one", "two"])
    await ws.send_stream(chunk async for chunk in numbered())
    assert_type(await ws.get_message(), str | bytes)
    async for message in ws:
        assert_type(message, str | bytes)
    async with ws.receive_stream() as pieces:
        async for piece in pieces:
            assert_type(piece, str | bytes)
    assert_type(await ws.ping(), float)
    await ws.aclose(code=4000, reason="enough")


async def numbered() -> AsyncIterator[bytes]:
    yield b"1"


def attributes(ws: WebSocketConnection) -> None:
    assert_type(ws.state, State)
    assert_type(ws.closed, CloseReason | None)
    assert_type(ws.close_code, int | None)
    assert_type(ws.close_reason, str | None)
    assert_type(ws.close_was_clean, bool)
    assert_type(ws.local, Endpoint | str)
    assert_type(ws.subprotocol, str | None)
    assert_type(ws.handshake_headers, Headers)
    assert_type(ws.latency, float | None)
    assert_type(ws.messages, MessageChannel)
    assert_type(ws.request, Request | None)
    assert_type(ws.response, Response | None)


class Named(WebSocketConnection):
    name = "nobody"


def options() -> None:
    open_websocket_url("ws://example.org", websocket_class=Named, text_as_bytes=True, on_ping=print)
    open_websocket_url("ws://example.org", generate_mask=lambda: bytes(4))
    open_websocket_url("ws://example.org", websocket_class=str)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def as_stream(ws: WebSocketConnection) -> trio.abc.HalfCloseableStream:
    return WebSocketStream(ws, text=True)


def as_channel(ws: WebSocketConnection) -> trio.abc.Channel[str | bytes]:
    return ws


def ended(exc: ConnectionClosed, rejected: ConnectionRejected) -> None:
    assert_type(exc.reason, CloseReason | None)
    assert_type(rejected.status_code, int)
    assert_type(rejected.headers, Headers)
    assert_type(rejected.body, bytes | None)


def channel_errors(
    ended: ConnectionEnded, lost: ConnectionLost
) -> tuple[trio.EndOfChannel, trio.BrokenResourceError]:
    return ended, lost


async def handler(request: WebSocketRequest) -> None:
    assert_type(request.path, str)
    assert_type(request.proposed_subprotocols, tuple[str, ...])
    if request.headers.get("authorization") is None:
        await request.reject(401, body=b"who are you?")
    else:
        assert_type(await request.accept(subprotocol="chat"), WebSocketConnection)


async def answer_health(request: Request) -> Response | None:
    return Response(200, Headers(), b"fine") if request.path == "/health" else None


async def serving(nursery: trio.Nursery) -> None:
    await serve_websocket(handler, "localhost", 0, None, compression=PerMessageDeflate())
    await serve_websocket(
        handler, "localhost", 0, None, process_request=answer_health, origins=["https://example.org"]
    )
    server: WebSocketServer = await nursery.start(serve_websocket, handler, None, 0, None)
    assert_type(server.port, int)
    assert_type(server.connections, set[WebSocketConnection])
    await server.aclose(drain=1)
    await serve_websocket(attributes, "localhost", 0, None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await serve_websocket(handler, "localhost", 0, None, handler_errors="print")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
