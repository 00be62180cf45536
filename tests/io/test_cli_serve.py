"""`python -m trio_ws serve`: the echo server as a process, spoken to over WebSocket and plain HTTP."""

import base64
import hashlib
import ipaddress
import re
import signal
import socket
import ssl
import stat
from pathlib import Path

import pytest
import trio
import trustme

from tests.io.cli_kit import run_cli, running, server
from trio_ws import ConnectionEnded, Endpoint, open_websocket_url, wrap_client_stream
from trio_ws._cli_serve import browsable
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer


def websocket(url: str) -> str:
    """Return the WebSocket URL of a page."""
    return url.replace("http", "ws", 1)


def port_of(url: str) -> int:
    return int(url.rstrip("/").rpartition(":")[2])


async def ask(url: str, request: str) -> tuple[str, bytes]:
    """Ask a server in plain HTTP, and return head and body of its answer."""
    stream = await trio.open_tcp_stream("127.0.0.1", port_of(url))
    async with stream:
        head = f"{request} HTTP/1.1\r\nHost: 127.0.0.1:{port_of(url)}\r\nConnection: close\r\n\r\n"
        await stream.send_all(head.encode())
        answer = b"".join([bytes(part) async for part in stream])
    told, _, body = answer.partition(b"\r\n\r\n")
    return told.decode(), body


async def test_it_echoes_and_takes_the_first_subprotocol() -> None:
    async with server("--port", "0") as (process, url):
        assert url == f"http://127.0.0.1:{port_of(url)}/"
        async with open_websocket_url(websocket(url), subprotocols=["one", "two"]) as ws:
            assert ws.subprotocol == "one"
            await ws.send_message("text")
            await ws.send_message(b"binary")
            assert [await ws.get_message(), await ws.get_message()] == ["text", b"binary"]
    assert process.err == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    async with server("--port", "0") as (process, url):
        async with open_websocket_url(websocket(url)) as ws:
            process.process.send_signal(number)
            with pytest.raises(ConnectionEnded) as caught:
                await ws.get_message()
            assert caught.value.received is not None
            assert caught.value.received.code == 1001
        assert await process.process.wait() == 0
    assert process.err == b""


async def test_a_second_interrupt_is_not_waited_for() -> None:
    async with server("--port", "0") as (process, url):
        peer = RawPeer(await trio.open_tcp_stream("127.0.0.1", port_of(url)), Role.CLIENT)
        await peer.handshake()
        process.process.send_signal(signal.SIGINT)
        await peer.expect_close(1001)
        assert await process.end(signal.SIGINT) == 130
        await peer.aclose()
    assert process.err == b""


async def test_verbose_reports_requests_and_connections() -> None:
    async with server("--port", "0", "-v") as (process, url):
        async with open_websocket_url(websocket(url) + "chat?room=1") as ws:
            assert isinstance(ws.local, Endpoint)
            address = f"from 127.0.0.1 port {ws.local.port}"
        await ask(url, "GET /nothing")
    log = process.err.decode()
    assert sorted(log.splitlines()) == [
        "GET /nothing: 404",
        "server-0 closed: 1000 NORMAL_CLOSURE",
        f"server-0 opened /chat?room=1 {address}",
    ]


async def test_an_address_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        outcome = await run_cli("serve", "--port", str(other.getsockname()[1]))
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "trio_ws: cannot listen: Address already in use\n"


async def test_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    for files in [["both.pem"], ["cert.pem", "key.pem"]]:
        async with server("--port", "0", "--tls", *[tmp_path / name for name in files]) as (_, url):
            assert url.startswith("https://127.0.0.1:")
            async with open_websocket_url(websocket(url), context) as ws:
                await ws.send_message("secret")
                assert await ws.get_message() == "secret"


async def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    missing = await run_cli("serve", "--port", "0", "--tls", tmp_path / "missing.pem")
    assert (missing.status, missing.out) == (1, "")
    assert missing.err == "trio_ws: cannot listen: No such file or directory\n"
    (tmp_path / "broken.pem").write_text("nothing")
    broken = await run_cli("serve", "--port", "0", "--tls", tmp_path / "broken.pem")
    assert broken.status == 1
    assert re.fullmatch(r"trio_ws: cannot listen: .*\n", broken.err)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with server("--unix", path, "-v") as (process, shown), trio.open_nursery() as nursery:
        assert shown == str(path)
        assert stat.S_ISSOCK(path.stat().st_mode)
        stream = await trio.open_unix_socket(path)
        async with await wrap_client_stream(nursery, stream, "localhost", "/") as ws:
            await ws.send_message("hello")
            assert await ws.get_message() == "hello"
    assert not path.exists()
    assert process.err.decode().splitlines()[0] == "server-0 opened /"


@pytest.mark.parametrize(
    ("address", "secure", "url"),
    [
        ("192.0.2.1", False, "http://192.0.2.1:8000/"),
        ("2001:db8::1", True, "https://[2001:db8::1]:8000/"),
        ("0.0.0.0", False, "http://localhost:8000/"),
        ("::", False, "http://localhost:8000/"),
    ],
)
def test_what_is_printed_can_be_opened(address: str, secure: bool, url: str) -> None:
    assert browsable(Endpoint(ipaddress.ip_address(address), 8000, secure)) == url


async def test_every_address_is_printed() -> None:
    async with running("serve", "--host", "localhost", "--port", "0") as process:
        line = await process.read_line()
        assert re.fullmatch(r"listening on http://\S+:\d+/( and http://\S+:\d+/)*\n", line)
        assert await process.end(signal.SIGTERM) == 0


async def test_plain_http() -> None:
    async with server("--port", "0") as (_, url):
        head, page = await ask(url, "GET /?any")
        head_only, nothing = await ask(url, "HEAD /")
        icon_head, icon = await ask(url, "GET /favicon.ico")
        missing, _ = await ask(url, "GET /other")
        posted, _ = await ask(url, "POST /")
    assert head.startswith("HTTP/1.1 200 ")
    assert "\r\nContent-Type: text/html; charset=utf-8\r\n" in head
    assert f"\r\nContent-Length: {len(page)}" in head
    assert (head_only, nothing) == (head, b"")
    assert (icon_head.startswith("HTTP/1.1 204 "), icon) == (True, b"")
    assert missing.startswith("HTTP/1.1 404 ")
    assert posted.startswith("HTTP/1.1 405 ")
    assert "\r\nAllow: GET, HEAD\r\n" in posted
    _assert_safe(head, page)


def _assert_safe(head: str, page: bytes) -> None:
    """Check that the policy admits the page's own script and style and nothing else, and that it needs nothing else."""
    [policy] = re.findall(r"\r\nContent-Security-Policy: (.*?)\r\n", head)
    directives = dict(directive.split(" ", 1) for directive in policy.split("; "))
    for element in ("script", "style"):
        [text] = re.findall(rb"<%b>(.*?)</%b>" % ((element.encode(),) * 2), page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text).digest()).decode()
        assert directives.pop(f"{element}-src") == f"'sha256-{digest}'"
    assert directives == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert not re.search(rb"\b(src|href|style|on\w+)=|url\(|@import", page)
