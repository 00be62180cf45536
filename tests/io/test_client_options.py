"""Connecting in special ways: credentials, last words on a request, own streams and dialers, names and addresses."""

import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import yarl

from tests.io.api_kit import dialling, serving, serving_in_memory
from tests.io.transport_kit import tcp_pair, tls_contexts
from trio_ws import (
    ClientOptions,
    ConnectionTimeout,
    Endpoint,
    HandshakeError,
    InvalidURL,
    Request,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    connect_websocket_url,
    open_websocket,
    open_websocket_url,
    serve_websocket,
    wrap_client_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer
from trio_ws.transport import open_unix_listener

unix = pytest.mark.skipif(sys.platform == "win32", reason="Python has no Unix sockets there")


async def show_headers(request: WebSocketRequest) -> None:
    """Accept, and tell the client what it has said."""
    ws = await request.accept()
    for name, value in request.request.headers:
        await ws.send_message(b"%s: %s" % (name, value))


async def said(ws: WebSocketConnection, *names: str) -> list[str]:
    """Return the lines of these headers."""
    lines = [line.decode() async for line in ws if isinstance(line, bytes)]
    return [line for line in lines if line.partition(":")[0] in names]


# Credentials and cookies


@pytest.mark.parametrize(
    ("auth", "line"),
    [
        (("ann", "secret"), "authorization: Basic YW5uOnNlY3JldA=="),
        (("ann", ""), "authorization: Basic YW5uOg=="),
        (("", "a:b"), "authorization: Basic OmE6Yg=="),
        (("\u00e4", "\u20ac"), "authorization: Basic w6Q64oKs"),
    ],
)
async def test_auth(auth: tuple[str, str], line: str) -> None:
    async with serving_in_memory(show_headers) as (_, listener), dialling(listener, auth=auth) as ws:
        assert await said(ws, "authorization") == [line]


async def test_a_header_wins_over_auth_and_auth_over_the_url() -> None:
    async with serving(show_headers) as server:
        url = f"ws://bob:other@127.0.0.1:{server.port}/"
        async with open_websocket_url(url, auth=("ann", "secret")) as ws:
            assert await said(ws, "authorization") == ["authorization: Basic YW5uOnNlY3JldA=="]
        given: ClientOptions = {"auth": ("ann", "secret"), "extra_headers": {"AUTHORIZATION": "Bearer x"}}
        async with open_websocket_url(url, **given) as ws:
            assert await said(ws, "authorization") == ["authorization: Bearer x"]


async def test_cookies() -> None:
    cookies = {"a": "1", "b": "", "c": '"x"', "d": "!#$%&'()*+-./:<=>?@[]^_`{|}~"}
    async with serving_in_memory(show_headers) as (_, listener):
        async with dialling(listener, cookies=cookies) as ws:
            expected = "cookie: " + "; ".join(f"{name}={value}" for name, value in cookies.items())
            assert await said(ws, "cookie") == [expected]
        async with dialling(listener, cookies={}, extra_headers={"Cookie": "own"}) as ws:
            assert await said(ws, "cookie") == ["cookie: own"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"auth": ("a:b", "secret")}, ValueError),
        ({"auth": ("a\r\n", "secret")}, ValueError),
        ({"auth": ("a", "secret\x00")}, ValueError),
        ({"auth": ("a", "\ud800")}, ValueError),
        ({"auth": "ab"}, TypeError),
        ({"auth": ("a",)}, TypeError),
        ({"auth": (b"a", b"b")}, TypeError),
        ({"cookies": {"a": "secret; b=1"}}, ValueError),
        ({"cookies": {"a": "secret\r\n"}}, ValueError),
        ({"cookies": {"a": "with secret space"}}, ValueError),
        ({"cookies": {"a": 'se"cret'}}, ValueError),
        ({"cookies": {"a": '"secret'}}, ValueError),
        ({"cookies": {"a": "secret,b"}}, ValueError),
        ({"cookies": {"a": "secret\\"}}, ValueError),
        ({"cookies": {"a": "secret\u00e4"}}, ValueError),
        ({"cookies": {"a b": "1"}}, ValueError),
        ({"cookies": {"": "1"}}, ValueError),
        ({"cookies": {"a=b": "1"}}, ValueError),
        ({"cookies": "a=secret"}, TypeError),
        ({"cookies": {"a": "1"}, "extra_headers": {"cookie": "b=2"}}, ValueError),
        ({"extra_headers": [("Upgrade", "h2c")]}, ValueError),
        ({"max_redirects": -1}, ValueError),
        ({"max_redirects": None}, TypeError),
        ({"redirect_headers": "Cookie"}, TypeError),
        ({"subprotocols": "chat"}, TypeError),
        ({"server_hostname": "a..b"}, InvalidURL),
        ({"connect": len, "stream": trio.testing.memory_stream_pair()[0]}, ValueError),
        ({"connect": len, "local_address": "127.0.0.1"}, ValueError),
        ({"stream": trio.testing.memory_stream_pair()[0], "local_address": "127.0.0.1"}, ValueError),
        ({"connect": len, "proxy": "http://user:secret@localhost:1"}, ValueError),
        ({"proxy": "http://localhost:1", "local_address": "127.0.0.1"}, ValueError),
    ],
    ids=repr,
)
async def test_what_makes_no_sense_is_told_at_once(options: Any, error: type[Exception]) -> None:
    url = "wss://localhost/" if "server_hostname" in options else "ws://localhost/"
    with pytest.raises(error) as raised:
        open_websocket_url(url, **options)
    assert "secret" not in str(raised.value)
    async with trio.open_nursery() as nursery:
        with pytest.raises(error):
            await connect_websocket_url(nursery, url, **options)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("ws://localhost/", {"server_hostname": "other.example"}),
        ("ws+unix:/socket:/", {"server_hostname": "other.example"}),
        ("ws+unix:/socket:/", {"connect": len}),
        ("ws+unix:/socket:/", {"stream": trio.testing.memory_stream_pair()[0]}),
        ("wss+unix:/socket:/", {"local_address": "127.0.0.1"}),
        ("ws+unix:/socket:/", {"proxy": "http://localhost:1"}),
    ],
)
async def test_options_that_are_of_no_use_for_a_url(url: str, options: Any) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} is of no use"):
        open_websocket_url(url, **options)


@pytest.mark.parametrize(
    "option", ["connect", "max_redirects", "on_redirect", "server_hostname", "local_address"]
)
async def test_a_stream_that_is_there_needs_no_way(option: str) -> None:
    near, far = trio.testing.memory_stream_pair()
    options: Any = {option: None}
    async with trio.open_nursery() as nursery:
        with pytest.raises(TypeError, match=f"{option} is of no use"):
            await wrap_client_stream(nursery, near, "localhost", "/", **options)
    await near.send_all(b"still ours")
    assert await far.receive_some() == b"still ours"


# prepare_request


async def test_prepare_request_has_the_last_word_on_headers() -> None:
    seen: list[Request] = []

    async def prepare(request: Request) -> list[tuple[str, str]]:
        seen.append(request)
        await trio.lowlevel.checkpoint()
        return [("X-Token", "fresh"), ("authorization", "Signed"), ("X-Two", "1"), ("X-Two", "2")]

    async with (
        serving_in_memory(show_headers) as (_, listener),
        dialling(
            listener,
            "/a?b",
            auth=("ann", "secret"),
            extra_headers={"X-TOKEN": "stale", "X-Own": "1"},
            prepare_request=prepare,
        ) as ws,
    ):
        lines = [line.decode() async for line in ws if isinstance(line, bytes)]
    [request] = seen
    assert (request.method, request.target, request.path, request.query) == ("GET", "/a?b", "/a", "b")
    assert request.headers.get("x-token") == "stale"
    asked = [f"{name.decode()}: {value.decode()}" for name, value in request.headers]
    gone = ["x-token: stale", "authorization: Basic YW5uOnNlY3JldA=="]
    added = ["x-token: fresh", "authorization: Signed", "x-two: 1", "x-two: 2"]
    assert lines == [line for line in asked if line not in gone] + added


async def test_prepare_request_need_not_add_anything() -> None:
    async def prepare(request: Request) -> None:
        keys.append(f"sec-websocket-key: {request.headers.get('sec-websocket-key')}")

    keys: list[str] = []
    async with (
        serving_in_memory(show_headers) as (_, listener),
        dialling(listener, prepare_request=prepare) as ws,
    ):
        assert await said(ws, "sec-websocket-key") == keys


async def test_prepare_request_is_called_when_the_connection_stands() -> None:
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            port = listener.socket.getsockname()[1]

            async def prepare(_: Request) -> None:
                async with await listener.accept() as peer:
                    with trio.move_on_after(0) as scope:
                        await peer.receive_some()  # and nothing was sent on it yet
                    assert scope.cancelled_caught

            with pytest.raises(HandshakeError, match=r"closed|broke"):
                await connect_websocket_url(nursery, f"ws://127.0.0.1:{port}/", prepare_request=prepare)


@pytest.mark.parametrize("failure", ["raises", "header", "ours", "value"])
async def test_prepare_request_that_fails_leaves_nothing_open(failure: str) -> None:
    async def prepare(_: Request) -> dict[str, str] | None:
        match failure:
            case "raises":
                raise ValueError("out of tokens")
            case "header":
                return {"X": "a\r\nb"}
            case "ours":
                return {"Sec-WebSocket-Key": "x"}
            case _:
                return {"Host": "a/b"}

    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match=r"tokens|header|Host"):
            await wrap_client_stream(nursery, near, "localhost", "/", prepare_request=prepare)
    assert await far.receive_some() == b""


async def test_prepare_request_counts_towards_the_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async def prepare(_: Request) -> None:
        await trio.sleep_forever()

    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        with pytest.raises(ConnectionTimeout):
            await wrap_client_stream(
                nursery, near, "localhost", "/", prepare_request=prepare, connect_timeout=5
            )
    assert trio.current_time() == 5
    assert await far.receive_some() == b""


# connect


async def test_a_dialer_of_ones_own_in_memory() -> None:
    dialled: list[tuple[str, int]] = []
    async with serving_in_memory(show_headers) as (_, listener):

        async def connect(host: str, port: int) -> trio.abc.Stream:
            dialled.append((host, port))
            return listener.connect()

        for url in ("ws://B\u00fccher.example/", "ws://[fe80::1%25eth0]:8080/"):
            async with open_websocket_url(url, connect=connect) as ws:
                assert len(await said(ws, "host")) == 1
        async with open_websocket("a.example", 81, "/", use_ssl=False, connect=connect) as ws:
            assert await said(ws, "host") == ["host: a.example:81"]
    assert dialled == [("xn--bcher-kva.example", 80), ("fe80::1%eth0", 8080), ("a.example", 81)]


async def test_tls_on_the_stream_of_a_dialer() -> None:
    server_context, client_context = tls_contexts()
    async with trio.open_nursery() as nursery:

        async def accept_tls(stream: trio.abc.Stream) -> None:
            tls = trio.SSLStream(stream, server_context, server_side=True)
            await server_listener_send.send(tls)

        server_listener_send, tls_streams = trio.open_memory_channel[trio.abc.Stream](1)

        async def connect(_host: str, _port: int) -> trio.abc.Stream:
            near, far = trio.testing.memory_stream_pair()
            nursery.start_soon(accept_tls, far)
            return near

        async def serve() -> None:
            peer = RawPeer(await tls_streams.receive(), Role.SERVER)
            await peer.handshake()
            await peer.send_frame(1, b"hello")
            with trio.CancelScope(shield=True):
                await peer.receive_rest()
            await trio.aclose_forcefully(peer.stream)

        nursery.start_soon(serve)
        ws = await connect_websocket_url(nursery, "wss://localhost/", client_context, connect=connect)
        assert await ws.get_message() == "hello"
        ws.terminate()


@pytest.mark.parametrize(
    "error", [OSError("no way"), KeyError("no way"), trio.TooSlowError("no way")], ids=repr
)
async def test_a_dialer_that_fails(error: Exception) -> None:
    async def connect(_host: str, _port: int) -> trio.abc.Stream:
        raise error

    expected = HandshakeError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected, match="no way") as raised:
        async with open_websocket_url("ws://localhost/", connect=connect):
            pass
    assert error in (raised.value, raised.value.__cause__)
    async with trio.open_nursery() as nursery:
        with pytest.raises(type(error)):
            await connect_websocket_url(nursery, "ws://localhost/", connect=connect)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_the_stream_of_a_dialer_is_closed_when_the_handshake_fails(scheme: str) -> None:
    near, far = await tcp_pair()

    async def connect(_host: str, _port: int) -> trio.abc.Stream:
        return near

    async with trio.open_nursery() as nursery:
        await far.send_all(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        with pytest.raises(HandshakeError):
            await connect_websocket_url(nursery, f"{scheme}://localhost/", connect=connect)
    assert near.socket.fileno() == -1
    await far.aclose()


# stream


async def test_a_stream_of_ones_own() -> None:
    async with serving_in_memory(show_headers) as (_, listener):
        url = "ws://nowhere.invalid:8080/a"
        async with open_websocket_url(url, stream=listener.connect()) as ws:
            assert ws.url == url
            assert await said(ws, "host") == ["host: nowhere.invalid:8080"]
        async with trio.open_nursery() as nursery:
            ws = await connect_websocket_url(nursery, url, stream=listener.connect())
            assert await said(ws, "host") == ["host: nowhere.invalid:8080"]
            await ws.aclose()


async def test_tls_on_a_stream_of_ones_own() -> None:
    server_context, client_context = tls_contexts()
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[WebSocketServer]) -> None:
            await serve_websocket(show_headers, "127.0.0.1", 0, server_context, task_status=task_status)

        server = await nursery.start(run)
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with open_websocket_url("wss://localhost/", client_context, stream=stream) as ws:
            assert isinstance(ws.remote, Endpoint)
            assert ws.remote.is_ssl
            assert await said(ws, "host") == ["host: localhost"]
        assert stream.socket.fileno() == -1
        await server.aclose()


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("seconds", [0, 10])
async def test_a_stream_of_ones_own_is_closed_when_there_is_no_connection(
    scheme: str, seconds: float
) -> None:
    near, far = await tcp_pair()
    await far.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(HandshakeError):
        async with open_websocket_url(f"{scheme}://localhost/", stream=near, connect_timeout=seconds):
            pass
    assert near.socket.fileno() == -1
    await far.aclose()


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_stream_of_ones_own_is_closed_by_cancellation(scheme: str) -> None:
    near, far = await tcp_pair()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_websocket_url(f"{scheme}://localhost/", stream=near):
            pass
    assert scope.cancelled_caught
    assert near.socket.fileno() == -1
    await far.aclose()


@pytest.mark.parametrize(
    "options", [{"extra_headers": {"Upgrade": "h2c"}}, {"protocol_version": 1}, {"auth": ("a:b", "")}]
)
async def test_a_stream_is_left_as_it_was_by_wrong_options(options: dict[str, Any]) -> None:
    near, far = trio.testing.memory_stream_pair()
    wrong: Any = {"stream": near, **options}
    with pytest.raises(ValueError, match=r"header|version|user"):
        open_websocket_url("ws://localhost/", **wrong)
    await near.send_all(b"still ours")
    assert await far.receive_some() == b"still ours"


# Names and addresses


async def test_server_hostname() -> None:
    """The certificate is for `localhost`, whatever the URL says; SNI says the same."""
    server_context, client_context = tls_contexts()
    names: list[str | None] = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.sni_callback = answering_with(server_context, names)
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[WebSocketServer]) -> None:
            await serve_websocket(show_headers, "127.0.0.1", 0, context, task_status=task_status)

        server = await nursery.start(run)
        url = f"wss://127.0.0.1:{server.port}/"
        with pytest.raises(HandshakeError, match="TLS"):
            async with open_websocket_url(url, client_context):
                pass
        async with open_websocket_url(url, client_context, server_hostname="localhost") as ws:
            assert ws.url == url
            assert await said(ws, "host") == [f"host: 127.0.0.1:{server.port}"]

        async def connect(_host: str, port: int) -> trio.abc.Stream:
            return await trio.open_tcp_stream("127.0.0.1", port)

        # a dot behind the name says where DNS is to begin, and is not part of it (RFC 6066 3)
        url = f"wss://localhost.:{server.port}/"
        async with open_websocket_url(url, client_context, connect=connect) as ws:
            assert await said(ws, "host") == [f"host: localhost.:{server.port}"]
        await server.aclose()
    assert names == [None, "localhost", "localhost"]


def answering_with(
    server_context: ssl.SSLContext, names: list[str | None]
) -> Callable[[ssl.SSLSocket | ssl.SSLObject, str | None, ssl.SSLContext], None]:
    def chosen(tls: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        names.append(name)
        tls.context = server_context

    return chosen


async def test_local_address() -> None:
    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        assert isinstance(ws.remote, Endpoint)
        await ws.send_message(str(ws.remote.address))

    async with serving(handler) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        async with open_websocket_url(url, local_address="127.0.0.2") as ws:
            assert await ws.get_message() == "127.0.0.2"
        with pytest.raises(HandshakeError):
            async with open_websocket_url(url, local_address="192.0.2.1"):
                pass


async def test_a_url_of_yarl() -> None:
    async with serving(show_headers) as server:
        url = yarl.URL.build(
            scheme="http", host="127.0.0.1", port=server.port, path="/a b", query={"c": "\u00e4"}
        )
        async with open_websocket_url(url) as ws:
            assert ws.url == f"ws://127.0.0.1:{server.port}/a%20b?c=%C3%A4"


@unix
async def test_urls_of_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "my socket:1"
    quoted = str(path).replace(" ", "%20").replace(":", "%3A")
    server = WebSocketServer(show_headers, [await open_unix_listener(path)])
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        async with open_websocket_url(f"ws+unix:{quoted}:/a?b") as ws:
            assert (ws.remote, ws.path, ws.url) == (str(path), "/a?b", f"ws+unix:{quoted}:/a?b")
            assert await said(ws, "host") == ["host: localhost"]
        await server.aclose()
        with pytest.raises(HandshakeError) as failed:
            async with open_websocket_url(f"ws+unix:{quoted}"):
                pass
        assert isinstance(failed.value.__cause__, OSError)


@unix
async def test_tls_over_a_unix_socket(tmp_path: Path) -> None:
    server_context, client_context = tls_contexts()
    path = tmp_path / "socket"
    async with await open_unix_listener(path) as listener, trio.open_nursery() as nursery:
        server = WebSocketServer(show_headers, [trio.SSLListener(listener, server_context)])
        await nursery.start(server.run)
        async with open_websocket_url(f"wss+unix:{path}:/a", client_context) as ws:
            assert ws.url == f"wss+unix:{path}:/a"
            assert await said(ws, "host") == ["host: localhost"]
        await server.aclose()


# Happy eyeballs


class Addresses(trio.abc.HostnameResolver):
    """Knows these addresses, in this order, for any name."""

    def __init__(self, *addresses: tuple[str, int]) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, *_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in self.addresses]

    async def getnameinfo(self, *_: object, **__: object) -> tuple[str, str]:
        raise NotImplementedError


async def test_a_dead_first_address_does_not_hold_up(autojump_clock: trio.testing.MockClock) -> None:
    """One address refuses; another says nothing at all, since the queue of those who wait there is full."""
    with socket.socket() as refusing, socket.socket() as silent, socket.socket() as waiting:
        refusing.bind(("127.0.0.1", 0))
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        waiting.connect(silent.getsockname())
        async with serving(show_headers) as server:
            good = ("127.0.0.1", server.port)
            for bad in (refusing.getsockname(), silent.getsockname()):
                trio.socket.set_custom_hostname_resolver(Addresses(bad, good))
                began = trio.current_time()
                async with open_websocket_url("ws://two.example/") as ws:
                    assert await said(ws, "host") == ["host: two.example"]
                    assert isinstance(ws.remote, Endpoint)
                    assert ws.remote.port == server.port
                assert trio.current_time() - began < 1
            trio.socket.set_custom_hostname_resolver(Addresses(silent.getsockname()))
            with pytest.raises(ConnectionTimeout):  # so it is dead
                async with open_websocket_url("ws://two.example/"):
                    pass
