"""The ways to open a connection as a client: parameters, what is asked for, refusals, and the kinds of streams."""

import re
import socket
import ssl
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import pytest
import trio
import trio.testing
import trustme

import trio_ws
from tests.io.api_kit import dialling, serving, serving_in_memory
from tests.io.transport_kit import tls_contexts
from trio_ws import (
    CloseReason,
    ConnectionRejected,
    Endpoint,
    HandshakeError,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    connect_websocket,
    connect_websocket_url,
    open_websocket,
    open_websocket_url,
    wrap_client_stream,
)
from trio_ws._client import ssl_context
from trio_ws.transport import open_unix_listener


class URL:
    """Looks like those of yarl or httpx: no string, but something whose `str` is a URL."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


async def show_request(request: WebSocketRequest) -> None:
    """Accept, and tell the client what it has asked for."""
    ws = await request.accept(subprotocol=next(iter(request.proposed_subprotocols), None))
    await ws.send_message(request.path)
    for name, value in request.request.headers:
        await ws.send_message(b"%s: %s" % (name, value))


async def lines(ws: WebSocketConnection) -> list[str]:
    """Return what `show_request` says."""
    return [line if isinstance(line, str) else line.decode() async for line in ws]


# Parameters


async def test_open_websocket_in_every_form() -> None:
    async with serving(show_request) as server:
        for manager in (
            open_websocket("127.0.0.1", server.port, "/a?b", use_ssl=False),
            open_websocket(host="127.0.0.1", port=server.port, resource="/a?b", use_ssl=False),
            open_websocket(
                "127.0.0.1",
                server.port,
                "/a?b",
                use_ssl=False,
                subprotocols=None,
                extra_headers=None,
                message_queue_size=1,
                max_message_size=2**20,
                receive_buffer_size=4096,
                connect_timeout=60,
                disconnect_timeout=60,
            ),
        ):
            async with manager as ws:
                assert ws.is_client
                assert (ws.path, ws.url) == ("/a?b", f"ws://127.0.0.1:{server.port}/a?b")
                assert (await lines(ws))[:2] == ["/a?b", f"host: 127.0.0.1:{server.port}"]


async def test_open_websocket_url_in_every_form() -> None:
    async with serving(show_request) as server:
        url = f"ws://127.0.0.1:{server.port}/a?b"
        for manager in (
            open_websocket_url(url),
            open_websocket_url(url, None),
            open_websocket_url(url=URL(url), ssl_context=None),
            open_websocket_url(
                url,
                subprotocols=None,
                extra_headers=None,
                message_queue_size=1,
                max_message_size=2**20,
                connect_timeout=60,
                disconnect_timeout=60,
                receive_buffer_size=4096,
            ),
        ):
            async with manager as ws:
                assert (ws.path, ws.url) == ("/a?b", url)
                assert (await lines(ws))[0] == "/a?b"


async def test_connect_websocket_in_every_form() -> None:
    async with serving(show_request) as server, trio.open_nursery() as nursery:
        port = server.port
        for connect in (
            connect_websocket(nursery, "127.0.0.1", port, "/a", use_ssl=False),
            connect_websocket(nursery=nursery, host="127.0.0.1", port=port, resource="/a", use_ssl=False),
            connect_websocket(
                nursery,
                "127.0.0.1",
                port,
                "/a",
                use_ssl=False,
                subprotocols=None,
                extra_headers=None,
                message_queue_size=1,
                max_message_size=2**20,
                receive_buffer_size=4096,
            ),
            connect_websocket_url(nursery, f"ws://127.0.0.1:{port}/a"),
            connect_websocket_url(nursery=nursery, url=URL(f"ws://127.0.0.1:{port}/a"), ssl_context=None),
            connect_websocket_url(
                nursery,
                f"ws://127.0.0.1:{port}/a",
                None,
                subprotocols=None,
                extra_headers=None,
                message_queue_size=1,
                max_message_size=2**20,
                receive_buffer_size=4096,
            ),
        ):
            ws = await connect
            assert (await lines(ws))[:2] == ["/a", f"host: 127.0.0.1:{port}"]
            await ws.aclose()


async def test_wrap_client_stream_in_every_form() -> None:
    async with serving_in_memory(show_request) as (_, listener), trio.open_nursery() as nursery:
        for connect in (
            wrap_client_stream(nursery, listener.connect(), "example.org", "/a"),
            wrap_client_stream(nursery=nursery, stream=listener.connect(), host="example.org", resource="a"),
            wrap_client_stream(
                nursery,
                listener.connect(),
                "example.org",
                "/a",
                subprotocols=None,
                extra_headers=None,
                message_queue_size=1,
                max_message_size=2**20,
                receive_buffer_size=4096,
            ),
        ):
            ws = await connect
            assert (ws.path, ws.url) == ("/a", "ws://example.org/a")
            assert (await lines(ws))[:2] == ["/a", "host: example.org"]
            await ws.aclose()


@pytest.mark.parametrize("use_ssl", [None, 0, 1, "yes", object()], ids=repr)
async def test_use_ssl_is_a_truth_value_or_a_context(use_ssl: bool) -> None:
    said = re.escape("`use_ssl` argument must be bool or ssl.SSLContext")
    with pytest.raises(TypeError, match=said):
        open_websocket("localhost", 80, "/", use_ssl=use_ssl)
    async with trio.open_nursery() as nursery:
        with pytest.raises(TypeError, match=said):
            await connect_websocket(nursery, "localhost", 80, "/", use_ssl=use_ssl)


async def test_a_context_for_a_url_without_tls_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="use a wss URL"):
        open_websocket_url("ws://localhost/", ssl.create_default_context())
    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="use a wss URL"):
            await connect_websocket_url(nursery, "ws://localhost/", ssl.create_default_context())


@pytest.mark.parametrize("url", ["gopher://localhost/", "localhost", "ws://", URL("ftp://localhost/"), None])
async def test_what_is_no_websocket_url_is_refused_at_once(url: object) -> None:
    with pytest.raises(ValueError, match=r"ws|host"):
        open_websocket_url(url)
    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match=r"ws|host"):
            await connect_websocket_url(nursery, url)


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("no_such_option", 1, TypeError),
        ("message_queue_size", "many", TypeError),
        ("message_queue_size", True, TypeError),
        ("message_queue_size", -1, ValueError),
        ("message_queue_size", float("nan"), ValueError),
        ("max_message_size", -1, ValueError),
        ("max_fragments", -1, ValueError),
        ("message_queue_bytes", 0, ValueError),
        ("receive_buffer_size", 0, ValueError),
        ("connect_timeout", -1, ValueError),
        ("disconnect_timeout", -0.1, ValueError),
        ("ping_interval", 0, ValueError),
        ("ping_timeout", 0, ValueError),
    ],
)
async def test_wrong_options_are_refused_at_once(option: str, value: object, error: type[Exception]) -> None:
    options = {option: value}
    with pytest.raises(error, match=option):
        open_websocket_url("ws://localhost/", **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # wrong on purpose
    with pytest.raises(error, match=option):
        open_websocket("localhost", 80, "/", use_ssl=False, **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # wrong on purpose


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"extra_headers": [("Name", "a\r\nb")]}, ValueError),
        ({"extra_headers": [("Na me", "value")]}, ValueError),
        ({"extra_headers": [("Name", "\u20ac")]}, ValueError),
        ({"extra_headers": [("Upgrade", "h2c")]}, ValueError),
        ({"subprotocols": "chat"}, TypeError),
        ({"subprotocols": ["a b"]}, ValueError),
        ({"subprotocols": ["a", "a"]}, ValueError),
        ({"protocol_version": 12}, ValueError),
    ],
    ids=str,
)
async def test_what_cannot_be_sent_is_told_before_anything_is_opened(
    options: trio_ws.HandshakeOptions, error: type[Exception]
) -> None:
    # nobody listens there, so an attempt would be another error
    with pytest.raises(error):
        async with open_websocket_url("ws://127.0.0.1:1/", **options):
            pass
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        with pytest.raises(error):
            await wrap_client_stream(nursery, near, "localhost", "/", **options)
    await near.send_all(b"still ours")
    assert await far.receive_some() == b"still ours"


# The request


@pytest.mark.parametrize(
    "headers",
    [
        [(b"X-One", b"1"), (b"X-Two", b"2")],
        [("X-One", "1"), ("X-Two", "2")],
        (("X-One", b"1"), (b"X-Two", "2")),
        {"X-One": "1", "X-Two": "2"},
        {b"X-One": b"1", b"X-Two": b"2"},
    ],
    ids=str,
)
async def test_extra_headers(headers: trio_ws.Headers) -> None:
    async with (
        serving_in_memory(show_request) as (_, listener),
        dialling(listener, extra_headers=headers) as ws,
    ):
        sent = await lines(ws)
        assert "x-one: 1" in sent
        assert "x-two: 2" in sent


async def test_subprotocols() -> None:
    async with serving_in_memory(show_request) as (_, listener):
        async with dialling(listener, subprotocols=["chat.v2", "chat.v1"]) as ws:
            assert ws.subprotocol == "chat.v2"
            assert "sec-websocket-protocol: chat.v2, chat.v1" in await lines(ws)
        async with dialling(listener, subprotocols=iter(("one",))) as ws:
            assert ws.subprotocol == "one"


async def test_origin_and_version() -> None:
    async with serving_in_memory(show_request, origins=None) as (_, listener):
        async with dialling(listener, origin="https://a.example") as ws:
            assert {"origin: https://a.example", "sec-websocket-version: 13"} <= {*await lines(ws)}
        async with dialling(listener, origin="https://a.example", protocol_version=8) as ws:
            assert {"sec-websocket-origin: https://a.example", "sec-websocket-version: 8"} <= {
                *await lines(ws)
            }


async def test_user_and_password_of_a_url_are_sent_unless_a_header_says_otherwise() -> None:
    async with serving(show_request) as server:
        url = f"ws://user:secret@127.0.0.1:{server.port}/"
        async with open_websocket_url(url) as ws:
            assert "user" not in ws.url
            assert "authorization: Basic dXNlcjpzZWNyZXQ=" in await lines(ws)
        async with open_websocket_url(url, extra_headers={b"authorization": b"Bearer x"}) as ws:
            assert [line for line in await lines(ws) if "auth" in line] == ["authorization: Bearer x"]


async def test_each_handshake_has_a_key_of_its_own() -> None:
    async with serving_in_memory(show_request) as (_, listener):
        keys: set[str] = set()
        for _ in range(5):
            async with dialling(listener) as ws:
                keys |= {line for line in await lines(ws) if line.startswith("sec-websocket-key: ")}
        assert len(keys) == 5


async def test_what_the_server_answered() -> None:
    async def handler(request: WebSocketRequest) -> None:
        await request.accept(extra_headers=[("Set-Cookie", "a=b"), (b"Set-Cookie", b"c=d")])

    async with serving_in_memory(handler) as (_, listener), dialling(listener) as ws:
        assert ws.handshake_headers == [(b"set-cookie", b"a=b"), (b"set-cookie", b"c=d")]
        assert ws.response is not None
        assert ws.response.status == 101
        assert ws.response.headers.get("upgrade") == "websocket"
        assert ws.request is None


# Refusals


async def test_a_refusal_has_status_headers_and_body() -> None:
    async def handler(request: WebSocketRequest) -> None:
        await request.reject(418, extra_headers=[("X-Why", "teapot")], body=b"short and stout")

    async with serving(handler) as server:
        with pytest.raises(ConnectionRejected) as rejected:
            async with open_websocket("127.0.0.1", server.port, "/", use_ssl=False):
                pass
        assert rejected.value.status_code == 418
        assert rejected.value.headers.get("x-why") == "teapot"
        assert rejected.value.body == b"short and stout"
        assert isinstance(rejected.value, HandshakeError)
        async with trio.open_nursery() as nursery:
            with pytest.raises(ConnectionRejected):
                await connect_websocket(nursery, "127.0.0.1", server.port, "/", use_ssl=False)


async def test_a_refusal_without_a_body() -> None:
    async def handler(request: WebSocketRequest) -> None:
        await request.reject(403)

    async with serving_in_memory(handler) as (_, listener), trio.open_nursery() as nursery:
        with pytest.raises(ConnectionRejected) as rejected:
            await wrap_client_stream(nursery, listener.connect(), "localhost", "/")
        assert (rejected.value.status_code, rejected.value.body) == (403, None)


async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(HandshakeError) as failed:
            async with open_websocket("127.0.0.1", port, "/", use_ssl=False):
                pass
        assert isinstance(failed.value.__cause__, OSError)
        assert str(port) in str(failed.value)
        async with trio.open_nursery() as nursery:
            with pytest.raises(OSError, match=str(port)):
                await connect_websocket(nursery, "127.0.0.1", port, "/", use_ssl=False)
            with pytest.raises(OSError, match=str(port)):
                await connect_websocket_url(nursery, f"ws://127.0.0.1:{port}/")


class NoNames(trio.abc.HostnameResolver):
    """Knows no names, without asking the network."""

    async def getaddrinfo(self, *_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError


async def test_a_host_that_nobody_knows() -> None:
    trio.socket.set_custom_hostname_resolver(NoNames())
    with pytest.raises(HandshakeError, match="not known") as failed:
        async with open_websocket_url("ws://nowhere.invalid/"):
            pass
    assert isinstance(failed.value.__cause__, socket.gaierror)
    async with trio.open_nursery() as nursery:
        with pytest.raises(socket.gaierror):
            await connect_websocket_url(nursery, "wss://nowhere.invalid/")


# TLS, IPv6, Unix sockets


def issue(authority: trustme.CA, name: str, not_after: datetime | None = None) -> ssl.SSLContext:
    """Return a server's context with a certificate for `name`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    not_before = datetime(2019, 1, 1, tzinfo=UTC)
    certificate = authority.issue_cert(name, not_before=not_before, not_after=not_after)
    certificate.configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # PyOpenSSL is not here
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Return a client's context."""
    context = ssl.create_default_context()
    authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]  # PyOpenSSL is not here
    return context


@asynccontextmanager
async def serving_tls(
    context: ssl.SSLContext, host: str = "127.0.0.1"
) -> AsyncGenerator[WebSocketServer, None]:
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[WebSocketServer]) -> None:
            await trio_ws.serve_websocket(show_request, host, 0, context, task_status=task_status)

        server = await nursery.start(run)
        yield server
        await server.aclose(drain=1)


async def test_tls() -> None:
    server_context, client_context = tls_contexts()
    async with serving_tls(server_context) as server:
        (listener,) = server.listeners
        assert isinstance(listener, Endpoint)
        assert listener.url == f"wss://127.0.0.1:{server.port}"
        for manager in (
            open_websocket("localhost", server.port, "/a", use_ssl=client_context),
            open_websocket_url(f"wss://localhost:{server.port}/a", client_context),
            open_websocket_url(f"wss://localhost:{server.port}/a", ssl_context=client_context),
        ):
            async with manager as ws:
                assert ws.url == f"wss://localhost:{server.port}/a"
                assert isinstance(ws.remote, Endpoint)
                assert ws.remote == listener
                assert (await lines(ws))[:2] == ["/a", f"host: localhost:{server.port}"]
            assert ws.closed == CloseReason(1000)
        async with trio.open_nursery() as nursery:
            ws = await connect_websocket(nursery, "localhost", server.port, "/", use_ssl=client_context)
            assert (await lines(ws))[0] == "/"
            await ws.aclose()


async def test_a_client_with_a_certificate_of_its_own() -> None:
    authority = trustme.CA()
    context, stranger, known = issue(authority, "localhost"), trusting(authority), trusting(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]  # PyOpenSSL is not here
    certificate = authority.issue_cert("ann@example.org")
    certificate.configure_cert(known)  # pyright: ignore[reportUnknownMemberType]  # PyOpenSSL is not here
    async with serving_tls(context) as server:
        url = f"wss://localhost:{server.port}/"
        with pytest.raises(HandshakeError):
            async with open_websocket_url(url, stranger):
                pass
        async with open_websocket_url(url, known) as ws:
            assert (await lines(ws))[0] == "/"


async def test_a_context_that_verifies_nothing() -> None:
    careless = ssl.create_default_context()
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    async with (
        serving_tls(issue(trustme.CA(), "elsewhere.example")) as server,
        open_websocket_url(f"wss://localhost:{server.port}/", careless) as ws,
    ):
        assert (await lines(ws))[0] == "/"


def test_use_ssl_true_verifies() -> None:
    context = ssl_context(use_ssl=True)
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize("fault", ["wrong name", "unknown authority", "expired", "no TLS at all"])
async def test_tls_that_cannot_be_trusted(fault: str) -> None:
    authority = trustme.CA()
    context = issue(
        authority,
        "elsewhere.example" if fault == "wrong name" else "localhost",
        not_after=datetime(2020, 1, 1, tzinfo=UTC) if fault == "expired" else None,
    )
    trust = trusting(trustme.CA() if fault == "unknown authority" else authority)
    async with serving_tls(context) if fault != "no TLS at all" else serving(show_request) as server:
        url = f"wss://localhost:{server.port}/"
        with pytest.raises(HandshakeError, match="TLS") as failed:
            async with open_websocket_url(url, trust):
                pass
        assert isinstance(failed.value.__cause__, ssl.SSLError)
        async with trio.open_nursery() as nursery:
            with pytest.raises(HandshakeError) as failed:
                await connect_websocket_url(nursery, url, trust)
        assert isinstance(failed.value.__cause__, ssl.SSLError)
        with pytest.raises(HandshakeError):  # the system knows none of these authorities
            async with open_websocket_url(url):
                pass


async def test_ipv6() -> None:
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[WebSocketServer]) -> None:
            await trio_ws.serve_websocket(show_request, "::1", 0, None, task_status=task_status)

        server = await nursery.start(run)
        for manager in (
            open_websocket("::1", server.port, "/", use_ssl=False),
            open_websocket_url(f"ws://[::1]:{server.port}/"),
        ):
            async with manager as ws:
                assert isinstance(ws.remote, Endpoint)
                assert ws.remote.url == f"ws://[::1]:{server.port}"
                assert f"host: [::1]:{server.port}" in await lines(ws)
        await server.aclose()


@pytest.mark.skipif(sys.platform == "win32", reason="Python has no Unix sockets there")
async def test_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = WebSocketServer(show_request, [await open_unix_listener(path)])
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        assert server.listeners == [str(path)]
        ws = await wrap_client_stream(nursery, await trio.open_unix_socket(path), "localhost", "/a")
        assert (ws.remote, ws.local) == (str(path), "")
        assert (await lines(ws))[0] == "/a"
        await ws.aclose()
        await server.aclose()
