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
    Backoff,
    CloseReason,
    ConnectionClosed,
    ConnectionEnded,
    ConnectionLost,
    ConnectionRejected,
    Connections,
    Endpoint,
    HandshakeError,
    Headers,
    InvalidURL,
    MessageChannel,
    PerMessageDeflate,
    ProxyError,
    RedirectError,
    Request,
    Response,
    Router,
    State,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    WebSocketStream,
    WorkerFailed,
    basic_auth,
    is_transient,
    open_websocket,
    open_websocket_url,
    reconnecting,
    run_workers,
    serve_websocket,
    set_cookie,
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
    open_websocket_url("ws://example.org", auth=("ann", "secret"), cookies={"session": "1"})
    open_websocket_url("ws://example.org", auth="ann")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    open_websocket_url("ws://example.org", cookies=["1"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    open_websocket_url("ws://example.org", max_redirects=5, redirect_headers=["Cookie"], on_redirect=follow)
    open_websocket_url("wss://example.org", connect=dial, prepare_request=sign, server_hostname="other")
    open_websocket_url("ws://example.org", connect=trio.open_tcp_stream, prepare_request=sign_nothing)
    open_websocket_url("ws://example.org", stream=stream)
    open_websocket_url("ws://example.org", connect=sign)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    open_websocket_url("ws://example.org", prepare_request=follow)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await trio_ws.wrap_client_stream(nursery, stream, "example.org", "/", prepare_request=sign)
    await trio_ws.wrap_client_stream(nursery, stream, "example.org", "/", max_redirects=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    open_websocket_url("ws://example.org", compression=True)
    open_websocket_url("ws://example.org", compression=6)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    open_websocket_url("ws://example.org", ping_interval="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    open_websocket_url("ws://example.org", no_such_option=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    open_websocket_url("ws://example.org", proxy="socks5h://proxy.example.org", proxy_ssl_context=context)
    open_websocket_url("ws://example.org", proxy=None)
    open_websocket_url("ws://example.org", proxy=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    open_websocket("example.org", 80, "/")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def follow(url: str, response: Response) -> None:
    assert_type(response.status, int)


async def dial(host: str, port: int) -> trio.abc.Stream:
    return await trio.open_unix_socket("/run/socket")


async def sign(request: Request) -> dict[str, str]:
    return {"X-Signed": request.target}


async def sign_nothing(request: Request) -> None:
    assert_type(request.headers, Headers)


def redirected(error: RedirectError) -> HandshakeError:
    assert_type(error.response, Response)
    assert_type(error.detail, str)
    return error


def no_url(error: InvalidURL) -> ValueError:
    return error


async def staying(context: ssl.SSLContext) -> None:
    backoff = Backoff(initial=1, maximum=30, max_attempts=3, random=lambda: 0.5)
    async with reconnecting(
        "wss://example.org/", context, backoff=backoff, subprotocols=["chat"]
    ) as connections:
        async for ws in connections:
            assert_type(ws, WebSocketConnection)
            assert_type(connections.attempt, int)
            assert_type(connections.last_error, Exception | None)
    assert_type(connections, Connections)
    reconnecting("ws://example.org", is_transient=lambda exc: not is_transient(exc), on_connect=talking)
    reconnecting("ws://example.org", on_connect=attributes)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    reconnecting("ws://example.org", backoff=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    reconnecting("ws://example.org", no_such_option=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def working(failed: WorkerFailed) -> None:
    async def main(index: int) -> None: ...

    run_workers(main)
    run_workers(main, 4, grace=2.5)
    run_workers(staying)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(failed.worker, int)
    assert_type(failed.exit_code, int)


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


def proxied(refused: ProxyError) -> None:
    assert_type(refused.status_code, int | None)
    assert_type(refused.headers, Headers)
    assert_type(refused.body, bytes | None)


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


router = Router(process_request=basic_auth("here", {"ann": "secret"}))


@router.websocket("/chat/{room}")
async def chat(request: WebSocketRequest, room: str) -> None:
    assert_type(request.client, Endpoint | str)
    assert_type(request.request.cookies, dict[str, str])
    await request.accept(extra_headers=[set_cookie("room", room, same_site="strict")])


@router.http("/health", methods=("GET",))
async def health(request: Request) -> Response:
    return Response(200, Headers([set_cookie("seen", request.query)]))


async def serving_paths() -> None:
    await serve_websocket(
        router.handle,
        "localhost",
        80,
        None,
        process_request=router.process_request,
        trusted_proxies=["10.0.0.0/8", "unix"],
        forwarded_header="forwarded",
        proxy_protocol=True,
    )
    router.http("/wrong")(talking)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    basic_auth("here", [("ann", "secret")])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
