"""Proxies that are right, wrong, evil or silent: a tunnel or a `ProxyError` comes of it, in time, and nothing stays open."""

import base64
import ipaddress
import itertools
import re
import socket
import ssl
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, TypeAlias, Unpack

import pytest
import trio
import trio.testing
import trustme

from tests.io.api_kit import echo
from tests.io.link_kit import settle, settle_until
from tests.io.proxy_kit import scripted_proxy, tunnelling
from tests.io.test_cancellation import Canceller, Scheme, cancel_everywhere, contexts, echoing, every_scheme
from tests.io.transport_kit import reset, tcp_pair
from trio_ws import (
    ClientOptions,
    ConnectionTimeout,
    Endpoint,
    InvalidURL,
    ProxyError,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    connect_websocket_url,
    open_websocket,
    open_websocket_url,
    serve_websocket,
)
from trio_ws.protocol import Role
from trio_ws.testing import FaultyStream, RawPeer
from trio_ws.transport import Proxy, TunnelError, dial_http_proxy, dial_socks_proxy

pytestmark = pytest.mark.usefixtures("autojump_clock")

HTTP = Proxy("http", "proxy.example", 3128)
DialProxy: TypeAlias = Callable[..., Coroutine[Any, Any, trio.abc.Stream]]
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


# HTTP, in memory


async def meet(
    answer: bytes,
    *,
    proxy: Proxy = HTTP,
    host: str = "example.org",
    pieces: int | None = None,
    closes: bool = False,
) -> tuple[trio.abc.Stream | TunnelError, FaultyStream, bytes]:
    """Ask a proxy that answers so; return the tunnel or the error, the client's stream, and what the proxy was asked."""
    near, far = trio.testing.memory_stream_pair()
    stream = FaultyStream(near, receive=itertools.repeat(pieces) if pieces else ())
    peer = RawPeer(far, Role.SERVER)
    asked = b""

    async def dial(host: str, port: int) -> trio.abc.Stream:
        assert (host, port) == (proxy.host, proxy.port)
        return stream

    async def serve() -> None:
        nonlocal asked
        asked = await peer.receive_head()
        await peer.send(answer)
        if closes:
            await far.send_eof()

    result: trio.abc.Stream | TunnelError
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            result = await dial_http_proxy(proxy, host, 80, dial=dial)
        except TunnelError as exc:
            result = exc
    if isinstance(result, TunnelError):
        assert await peer.receive_rest() == b""
    else:
        await result.send_all(b"through")
        assert await peer.receive_exactly(7) == b"through"
        if not closes:
            await peer.send(b"back")
            assert b"".join([bytes(await result.receive_some(1)) for _ in range(4)]) == b"back"
        await result.aclose()
    return result, stream, asked


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("example.org", b"example.org:80"),
        ("192.0.2.1", b"192.0.2.1:80"),
        ("2001:db8::1", b"[2001:db8::1]:80"),
        ("fe80::1%eth0", b"[fe80::1]:80"),
    ],
)
async def test_what_an_http_proxy_is_asked(host: str, target: bytes) -> None:
    _, _, asked = await meet(ESTABLISHED, host=host)
    assert asked == b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, target)


@pytest.mark.parametrize(
    ("username", "password", "credentials"),
    [("ann", "p:ä", "ann:p:ä"), ("ann", None, "ann:"), (None, "secret", ":secret")],
)
async def test_credentials_for_an_http_proxy(
    username: str | None, password: str | None, credentials: str
) -> None:
    proxy = Proxy("http", "proxy.example", 3128, username, password)
    _, _, asked = await meet(ESTABLISHED, proxy=proxy)
    [found] = re.findall(rb"\r\nProxy-Authorization: Basic (\S+)\r\n", asked)
    assert base64.b64decode(found).decode() == credentials


GOOD_ANSWERS = {
    "usual": ESTABLISHED,
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nProxy-agent: x\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a length that means nothing": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    "a coding that means nothing": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "to be closed": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    "informational answers first": b"HTTP/1.1 100 Continue\r\n\r\n" * 8 + ESTABLISHED,
    "bare line feeds": b"HTTP/1.1 200 OK\nX: y\n\n",
}


@pytest.mark.parametrize("pieces", [None, 1])
@pytest.mark.parametrize("answer", GOOD_ANSWERS.values(), ids=GOOD_ANSWERS)
async def test_answers_that_open_a_tunnel(answer: bytes, pieces: int | None) -> None:
    result, _, _ = await meet(answer, pieces=pieces)
    assert isinstance(result, FaultyStream)


async def test_a_proxy_that_ends_right_behind_its_answer() -> None:
    result, _, _ = await meet(ESTABLISHED, closes=True)
    assert isinstance(result, FaultyStream)


BAD_ANSWERS = {
    "nothing but line ends": b"\r\n" * 100,
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "SOCKS": b"\0\x5a" + bytes(6),
    "binary": bytes(range(256)) * 4,
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "endless status line": b"HTTP/1.1 200 " + b"y" * 2**20,
    "endless header": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 2**20,
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 2**17,
    "endless informational answers": b"HTTP/1.1 102 Processing\r\n\r\n" * 10_000,
    "NUL": b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "early bytes": ESTABLISHED + b"x",
    "an early answer": ESTABLISHED + b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
}


@pytest.mark.parametrize("pieces", [None, 1000])
@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_answers_that_open_none(answer: bytes, pieces: int | None) -> None:
    result, stream, _ = await meet(answer, pieces=pieces)
    assert isinstance(result, TunnelError)
    assert "proxy http://proxy.example:3128" in str(result)
    assert (result.status, result.headers, result.body) == (None, (), b"")
    assert stream.received <= 2**17  # the rest was neither read nor kept


@pytest.mark.parametrize("size", range(0, len(ESTABLISHED), 5))
async def test_an_answer_that_breaks_off(size: int) -> None:
    result, _, _ = await meet(ESTABLISHED[:size], closes=True)
    assert isinstance(result, TunnelError)
    assert "closed the connection before it answered" in str(result)


CHUNKED = b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n"
REFUSALS = {
    "a length": (b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nhello, and more", 403, b"hello"),
    "no body": (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", 503, b""),
    "redirect": (b"HTTP/1.1 302 No\r\nLocation: http://x\r\nContent-Length: 0\r\n\r\n", 302, b""),
    "chunked": (CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 403, b"abcde"),
    "wrong chunks": (CHUNKED + b"3\r\nabc\r\nnonsense\r\n", 403, b"abc"),
    "endless chunks": (CHUNKED + 2**11 * (b"400\r\n" + bytes(2**10) + b"\r\n"), 403, bytes(2**16)),
    "endless trailers": (CHUNKED + b"0\r\n" + b"x: y\r\n" * 2**16, 403, b""),
    "10 GB": (b"HTTP/1.1 403 No\r\nContent-Length: 10000000000\r\n\r\n" + bytes(2**20), 403, bytes(2**16)),
    "up to the end": (b"HTTP/1.0 403 No\r\n\r\n" + bytes(2**20), 403, bytes(2**16)),
}


@pytest.mark.parametrize("pieces", [None, 100])
@pytest.mark.parametrize(("answer", "status", "body"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal(answer: bytes, status: int, body: bytes, pieces: int | None) -> None:
    result, stream, _ = await meet(answer, pieces=pieces)
    assert isinstance(result, TunnelError)
    assert (result.status, result.body) == (status, body)
    assert str(status) in str(result)
    assert stream.received <= 2**18


async def test_a_refusal_that_breaks_off() -> None:
    result, _, _ = await meet(b"HTTP/1.1 403 No\r\nContent-Length: 10\r\n\r\nhello", closes=True)
    assert isinstance(result, TunnelError)
    assert (result.status, result.body) == (403, b"hello")


@pytest.mark.parametrize("host", ["", "a\r\nX: y", "a\0", "a b", "a/b", "u@a", "ä", "a" * 256])
@pytest.mark.parametrize("dial_proxy", [dial_http_proxy, dial_socks_proxy])
async def test_what_no_proxy_is_told(host: str, dial_proxy: DialProxy) -> None:
    async def never(host: str, port: int) -> trio.SocketStream:
        raise AssertionError(f"{host}:{port} was dialled")

    for name, port in ((host, 80), ("example.org", 0), ("example.org", 65536)):
        with pytest.raises(ValueError, match="no proxy can be asked"):
            await dial_proxy(HTTP, name, port, dial=never)


# SOCKS, over sockets


Exchange: TypeAlias = Sequence[tuple[bytes, bytes]]


async def play(
    exchange: Exchange, proxy: Proxy, host: str = "example.org", *, pieces: int = 1000, then: str = "talk"
) -> trio.SocketStream | OSError:
    """Ask a proxy that reads and says this; return the tunnel, which works, or the error."""
    near, far = await tcp_pair()
    peer = RawPeer(far, Role.SERVER)

    async def dial(host: str, port: int) -> trio.SocketStream:
        assert (host, port) == (proxy.host, proxy.port)
        return near

    async def serve() -> None:
        with suppress(trio.BrokenResourceError):  # the client need not hear it to the end
            for wanted, answer in exchange:
                assert await peer.receive_exactly(len(wanted)) == wanted
                for start in range(0, len(answer), pieces):
                    await peer.send(answer[start : start + pieces])
                    await settle()
        if then == "end":
            await far.send_eof()
        elif then == "reset":
            reset(far)

    result: trio.SocketStream | OSError
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            result = await dial_socks_proxy(proxy, host, 80, dial=dial)
        except OSError as exc:
            result = exc
    if isinstance(result, OSError):
        assert near.socket.fileno() == -1
    else:
        await result.send_all(b"through")
        assert await peer.receive_exactly(7) == b"through"
        await result.aclose()
    await far.aclose()
    return result


def socks(scheme: str, *credentials: str) -> Proxy:
    return Proxy(scheme, "proxy.example", 1080, *credentials)


NAME = b"\x0bexample.org"
YES4 = b"\0\x5a" + bytes(6)
YES5 = b"\5\0\0\1" + bytes(6)
LOOPBACK = bytes((127, 0, 0, 1))
SOCKS_EXCHANGES: dict[str, tuple[Proxy, str, Exchange]] = {
    "4": (socks("socks4"), "192.0.2.1", [(b"\4\1\0\x50\xc0\0\2\1\0", YES4)]),
    "4, a user": (socks("socks4", "ann"), "192.0.2.1", [(b"\4\1\0\x50\xc0\0\2\1ann\0", YES4)]),
    "4, a name": (socks("socks4"), "localhost", [(b"\4\1\0\x50" + LOOPBACK + b"\0", YES4)]),
    "4a": (socks("socks4a"), "192.0.2.1", [(b"\4\1\0\x50\xc0\0\2\1\0", YES4)]),
    "4a, a name": (socks("socks4a"), "example.org", [(b"\4\1\0\x50\0\0\0\1\0example.org\0", YES4)]),
    "5": (socks("socks5"), "192.0.2.1", [(b"\5\1\0", b"\5\0"), (b"\5\1\0\1\xc0\0\2\1\0\x50", YES5)]),
    "5, a name": (
        socks("socks5"),
        "localhost",
        [(b"\5\1\0", b"\5\0"), (b"\5\1\0\1" + LOOPBACK + b"\0\x50", YES5)],
    ),
    "5, IPv6": (
        socks("socks5"),
        "2001:db8::1",
        [(b"\5\1\0", b"\5\0"), (b"\5\1\0\4\x20\1\x0d\xb8" + bytes(11) + b"\1\0\x50", YES5)],
    ),
    "5h, a name": (
        socks("socks5h"),
        "example.org",
        [(b"\5\1\0", b"\5\0"), (b"\5\1\0\3" + NAME + b"\0\x50", b"\5\0\0\3\1x\0\0")],
    ),
    "5h, credentials": (
        socks("socks5h", "ann", "secret"),
        "example.org",
        [
            (b"\5\2\0\2", b"\5\2"),
            (b"\1\3ann\6secret", b"\1\0"),
            (b"\5\1\0\3" + NAME + b"\0\x50", b"\5\0\0\4" + bytes(18)),
        ],
    ),
    "5h, credentials nobody wants": (
        socks("socks5h", "ann", "secret"),
        "example.org",
        [(b"\5\2\0\2", b"\5\0"), (b"\5\1\0\3" + NAME + b"\0\x50", YES5)],
    ),
}


@pytest.mark.parametrize("pieces", [1000, 1])
@pytest.mark.parametrize(("proxy", "host", "exchange"), SOCKS_EXCHANGES.values(), ids=SOCKS_EXCHANGES)
async def test_what_a_socks_proxy_is_asked(proxy: Proxy, host: str, exchange: Exchange, pieces: int) -> None:
    assert isinstance(await play(exchange, proxy, host, pieces=pieces), trio.SocketStream)


GREETING = b"\5\1\0"
REQUEST5 = b"\5\1\0\3" + NAME + b"\0\x50"
REQUEST4 = b"\4\1\0\x50\0\0\0\1\0example.org\0"
SOCKS_FAILURES: dict[str, tuple[str, Exchange, str]] = {
    "4, refused": ("socks4a", [(REQUEST4, b"\0\x5b" + bytes(6))], "rejected or failed"),
    "4, other user": ("socks4a", [(REQUEST4, b"\0\x5d" + bytes(6))], "user-ids"),
    "4, garbage": ("socks4a", [(REQUEST4, b"HTTP/1.1 400")], "version"),
    "5, no method": ("socks5h", [(GREETING, b"\5\xff")], "authentication"),
    "5, another method": ("socks5h", [(GREETING, b"\5\2")], "authentication"),
    "5, unknown method": ("socks5h", [(GREETING, b"\5\x77")], "authentication"),
    "5, garbage": ("socks5h", [(GREETING, b"HTTP/1.1 400")], "version"),
    "5, not allowed": ("socks5h", [(GREETING, b"\5\0"), (REQUEST5, b"\5\2\0\1" + bytes(6))], "not allowed"),
    "5, unreachable": ("socks5h", [(GREETING, b"\5\0"), (REQUEST5, b"\5\4\0\1" + bytes(6))], "unreachable"),
    "5, refused": ("socks5h", [(GREETING, b"\5\0"), (REQUEST5, b"\5\5\0\1" + bytes(6))], "refused"),
    "5, unknown reply": ("socks5h", [(GREETING, b"\5\0"), (REQUEST5, b"\5\x77\0\1" + bytes(6))], "reply"),
    "5, garbage later": ("socks5h", [(GREETING, b"\5\0"), (REQUEST5, b"HTTP/1.1 400")], "version"),
    "5, unknown address": ("socks5h", [(GREETING, b"\5\0"), (REQUEST5, b"\5\0\0\x77" + bytes(6))], "address"),
    "5, reserved byte": ("socks5h", [(GREETING, b"\5\0"), (REQUEST5, b"\5\0\7\1" + bytes(6))], "reserved"),
    "5, odd name": ("socks5h", [(GREETING, b"\5\0"), (REQUEST5, b"\5\0\0\3\1\xff\0\0")], "tunnel"),
}


@pytest.mark.parametrize("pieces", [1000, 1])
@pytest.mark.parametrize(("scheme", "exchange", "said"), SOCKS_FAILURES.values(), ids=SOCKS_FAILURES)
async def test_a_socks_proxy_that_opens_none(scheme: str, exchange: Exchange, said: str, pieces: int) -> None:
    result = await play(exchange, socks(scheme), pieces=pieces)
    assert isinstance(result, TunnelError)
    assert said in str(result)
    assert f"{scheme}://proxy.example:1080" in str(result)


async def test_wrong_credentials_for_a_socks_proxy() -> None:
    exchange = [(b"\5\2\0\2", b"\5\2"), (b"\1\3ann\6secret", b"\1\1")]
    result = await play(exchange, socks("socks5h", "ann", "secret"))
    assert isinstance(result, TunnelError)
    assert "authentication failure" in str(result)
    assert "secret" not in str(result)


@pytest.mark.parametrize("then", ["end", "reset"])
@pytest.mark.parametrize(
    ("scheme", "exchange"),
    [
        ("socks4a", []),
        ("socks4a", [(REQUEST4, YES4[:1])]),
        ("socks5h", []),
        ("socks5h", [(GREETING, b"\5")]),
        ("socks5h", [(GREETING, b"\5\0"), (REQUEST5, b"")]),
        ("socks5h", [(GREETING, b"\5\0"), (REQUEST5, YES5[:3])]),
        ("socks5h", [(GREETING, b"\5\0"), (REQUEST5, YES5[:-1])]),
    ],
    ids=str,
)
async def test_a_socks_proxy_that_goes_away(scheme: str, exchange: Exchange, then: str) -> None:
    assert isinstance(await play(exchange, socks(scheme), then=then), TunnelError)


@pytest.mark.parametrize("scheme", ["socks4", "socks4a"])
async def test_socks4_knows_no_ipv6(scheme: str) -> None:
    with pytest.raises(TunnelError, match="no IPv6"):
        await dial_socks_proxy(socks(scheme), "2001:db8::1", 80)


@pytest.mark.parametrize("scheme", ["socks4", "socks5"])
async def test_a_name_that_is_nobodys(scheme: str) -> None:
    """It is not the proxy's fault."""
    result = await play([(GREETING, b"\5\0")] if scheme == "socks5" else [], socks(scheme), "nobody.invalid")
    assert isinstance(result, socket.gaierror)


async def test_socks_without_python_socks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'trio_ws[socks]'")):
        async with open_websocket_url("ws://example.org/", proxy="socks5h://127.0.0.1:1"):
            pass


# The client


@cache
def example_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's context for a name that this machine does not find."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    # trustme's annotations name an optional dependency, which makes them partly unknown here.
    authority.issue_cert("server.example").configure_cert(server)  # pyright: ignore[reportUnknownMemberType]
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]
    return server, client


@every_scheme
@pytest.mark.parametrize("proxy_scheme", ["http", "https"])
async def test_through_an_http_proxy(
    scheme: Scheme, proxy_scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy finds the name; it sees none of what is for the server, and the server nothing of what is for it."""
    server_context, context = example_contexts() if scheme == "wss" else (None, None)
    proxy_context, proxy_client_context = contexts() if proxy_scheme == "https" else (None, None)
    seen: list[str] = []

    async def show(request: WebSocketRequest) -> None:
        seen.extend(name.decode() for name, _ in request.request.headers)
        await echo(request)

    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(serve_websocket, show, "127.0.0.1", 0, server_context)
        async with tunnelling(server.port, proxy_context) as proxy:
            url = f"{proxy_scheme}://ann:secret@127.0.0.1:{proxy.port}"
            monkeypatch.setenv("https_proxy" if scheme == "wss" else "http_proxy", url)
            for chosen in (url, True):
                async with open_websocket_url(
                    f"{scheme}://server.example:8765/",
                    context,
                    extra_headers={"Cookie": "token"},
                    proxy=chosen,
                    proxy_ssl_context=proxy_client_context,
                ) as ws:
                    assert ws.url == f"{scheme}://server.example:8765/"
                    is_tls = "https" in (proxy_scheme, f"http{scheme[2:]}")
                    assert ws.remote == Endpoint(ipaddress.ip_address("127.0.0.1"), proxy.port, is_tls)
                    for message in ("hello", bytes(2**18)):
                        await ws.send_message(message)
                        assert await ws.get_message() == message
                assert ws.closed is not None
                assert ws.closed.code == 1000
            await settle_until(lambda: not proxy.tasks.child_tasks)
        await server.aclose()
    lines = [b"CONNECT server.example:8765 HTTP/1.1", b"Host: server.example:8765"]
    lines.append(b"Proxy-Authorization: Basic " + base64.b64encode(b"ann:secret"))
    assert proxy.asked == [b"\r\n".join([*lines, b"", b""])] * 2
    assert "cookie" in seen
    assert not any(name.startswith("proxy") for name in seen)


async def refused(**options: Unpack[ClientOptions]) -> ProxyError:
    """Return what comes of a proxy that opens no tunnel, in both ways to open a connection."""
    async with trio.open_nursery() as nursery:
        with pytest.raises(ProxyError):
            await connect_websocket_url(nursery, "ws://server.example/", **options)
    with pytest.raises(ProxyError) as caught:
        async with open_websocket_url("ws://server.example/", **options):
            pass
    return caught.value


async def test_a_refusal_says_what_is_asked_for() -> None:
    async def refuse(peer: RawPeer) -> None:
        await peer.receive_head()
        await peer.send(
            b'HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: Basic realm="\x9b"\r\n'
            b"Content-Length: 4\r\n\r\nwho?"
        )

    async with scripted_proxy(refuse) as port:
        error = await refused(proxy=f"http://ann:secret@127.0.0.1:{port}")
    assert (error.status_code, error.body) == (407, b"who?")
    assert error.headers.get_all("Proxy-Authenticate")[0] == "Negotiate"
    assert str(error) == (
        f"the proxy http://127.0.0.1:{port} answered with status 407 and asks for"
        " 'Negotiate', 'Basic realm=\"\\x9b\"'"
    )


@pytest.mark.parametrize("scheme", ["http", "https", "socks4a", "socks5h"])
async def test_a_proxy_that_is_not_there(scheme: str) -> None:
    async with scripted_proxy(RawPeer.aclose) as port:
        pass
    error = await refused(proxy=f"{scheme}://127.0.0.1:{port}")
    assert str(error).startswith(f"the proxy {scheme}://127.0.0.1:{port} could not be reached: ")
    assert isinstance(error.__cause__, OSError)
    assert (error.status_code, error.headers, error.body) == (None, [], None)


@pytest.mark.parametrize("scheme", ["http", "https", "socks4a", "socks5h"])
async def test_a_proxy_that_resets(scheme: str) -> None:
    async def cut_off(peer: RawPeer) -> None:
        await peer.receive_exactly(3)
        reset(peer.stream)

    async with scripted_proxy(cut_off) as port:
        assert "proxy" in str(await refused(proxy=f"{scheme}://127.0.0.1:{port}"))


async def test_a_proxy_whose_certificate_nobody_vouches_for() -> None:
    async with tunnelling(1, contexts()[0]) as proxy:
        for context in (None, example_contexts()[1]):
            error = await refused(proxy=f"https://127.0.0.1:{proxy.port}", proxy_ssl_context=context)
            assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
        assert proxy.asked == []


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 2", b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nhell"])
@pytest.mark.parametrize("scheme", ["http", "https", "socks4a", "socks5h"])
async def test_a_proxy_that_says_no_more(scheme: str, answer: bytes) -> None:
    """The deadline is that of the whole opening."""

    async def say_something(peer: RawPeer) -> None:
        if scheme == "http":
            await peer.send(answer)

    async with scripted_proxy(say_something) as port:
        began = trio.current_time()
        with pytest.raises(ConnectionTimeout):
            async with open_websocket_url(
                "ws://server.example/", proxy=f"{scheme}://127.0.0.1:{port}", connect_timeout=7
            ):
                pass
        assert trio.current_time() - began == pytest.approx(7)


@pytest.mark.parametrize(
    "options",
    [
        {"proxy": "ftp://proxy.example"},
        {"proxy": ""},
        {"proxy": "http://127.0.0.1:1", "proxy_ssl_context": ssl.create_default_context()},
    ],
    ids=str,
)
async def test_what_is_wrong_is_told_before_anything_is_opened(options: ClientOptions) -> None:
    with pytest.raises(ValueError, match="proxy"):
        async with open_websocket_url("ws://127.0.0.1:1", **options):
            pass


async def test_a_host_for_the_server_is_not_one_for_the_proxy() -> None:
    """With a Host header the handshake does not look at the other, which a proxy would be told."""
    with pytest.raises(InvalidURL):
        async with open_websocket(
            "a\r\nX:y", 80, "/", use_ssl=False, extra_headers={"Host": "a"}, proxy="http://127.0.0.1:1"
        ):
            pass


# Cancellation at every moment


@every_scheme
@pytest.mark.parametrize("proxy_scheme", ["http", "https", "socks4", "socks5"])
async def test_cancelled(scheme: Scheme, proxy_scheme: str) -> None:
    """Either there is a connection that works, or nothing is left: here, at the proxy, and at the server."""
    proxy_context, proxy_client_context = contexts() if proxy_scheme == "https" else (None, None)
    async with (
        echoing(scheme) as (url, context, handlers),
        tunnelling(int(url.rpartition(":")[2]), proxy_context) as proxy,
        trio.open_nursery() as nursery,
    ):
        [*before] = nursery.child_tasks

        async def attempt(canceller: Canceller) -> None:
            opened: list[WebSocketConnection] = []

            async def connect() -> None:
                opened.append(
                    await connect_websocket_url(
                        nursery,
                        url,
                        context,
                        proxy=f"{proxy_scheme}://127.0.0.1:{proxy.port}",
                        proxy_ssl_context=proxy_client_context,
                    )
                )

            cancelled = await canceller.run(connect)
            assert cancelled is not bool(opened)
            for ws in opened:
                await ws.send_message("over there")
                assert await ws.get_message() == "over there"
                await ws.aclose()
            await settle_until(lambda: not handlers.child_tasks and not proxy.tasks.child_tasks)
            await settle()
            assert [*nursery.child_tasks] == before

        await cancel_everywhere(attempt, bare=False)  # Trio dials several addresses at once
        assert proxy.asked
