"""TLS that deserves no trust: servers that speak too old a version, prove another name, or begin anew and never finish."""

import re
import shutil
import ssl
import subprocess
import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
import trustme

from tests.io.api_kit import echo
from tests.threats.stalling_kit import listen
from trio_ws import (
    CloseReason,
    ConnectionLost,
    HandshakeError,
    WebSocketServer,
    open_websocket_url,
    serve_websocket,
)
from trio_ws.testing import handshake_response

#: Only a broken test waits that long.
PATIENCE = 20


def old_version(context: ssl.SSLContext) -> ssl.SSLContext:
    """Have a context speak TLS 1.0 and 1.1 alone, with what OpenSSL has left of their ciphers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


def server_context(
    authority: trustme.CA, name: str = "127.0.0.1", since: int = 2019, until: int = 2100
) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    not_before, not_after = datetime(since, 1, 1, tzinfo=UTC), datetime(until, 1, 1, tzinfo=UTC)
    certificate = authority.issue_cert(name, not_before=not_before, not_after=not_after)
    certificate.configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # PyOpenSSL is not here
    return context


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that the system trusts, so that clients need no context of their own."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return authority


@asynccontextmanager
async def serving_echo(context: ssl.SSLContext) -> AsyncGenerator[str]:
    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(serve_websocket, echo, "127.0.0.1", 0, context)
        yield f"wss://127.0.0.1:{server.port}/"
        nursery.cancel_scope.cancel()


async def echoes(url: str, context: ssl.SSLContext | None = None) -> bool:
    """Return whether there is a connection to be had, which must do then."""
    try:
        async with open_websocket_url(url, context) as ws:
            await ws.send_message("x")
            return await ws.get_message() == "x"
    except HandshakeError as exc:
        if not isinstance(exc.__cause__, ssl.SSLError | OSError):
            raise
        return False


async def test_a_client_speaks_no_tls_before_1_2_unless_its_context_says_so(authority: trustme.CA) -> None:
    async with serving_echo(server_context(authority)) as url:
        assert await echoes(url)
    async with serving_echo(old_version(server_context(authority))) as url:
        assert not await echoes(url)
        assert await echoes(url, old_version(ssl.create_default_context()))


async def test_a_server_speaks_no_tls_before_1_2_unless_its_context_says_so(authority: trustme.CA) -> None:
    async with serving_echo(server_context(authority)) as url:
        assert not await echoes(url, old_version(ssl.create_default_context()))
        assert await echoes(url)


async def test_a_certificate_must_be_valid_and_for_this_host(authority: trustme.CA) -> None:
    for context in (
        server_context(authority, "127.0.0.2"),
        server_context(authority, "localhost"),
        server_context(authority, until=2020),
        server_context(authority, since=2099),
        server_context(trustme.CA()),
    ):
        async with serving_echo(context) as url:
            assert not await echoes(url)
    async with serving_echo(server_context(authority)) as url:
        assert await echoes(url)


# TLS 1.2 lets a server begin a new handshake at any time


class OpenSSL:
    """A server that is OpenSSL's own, for Python has no way to have one begin anew; what it is told is on its stdin."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.stdin = process.stdin
        self.stdout = process.stdout
        self.said = b""

    async def hear(self, pattern: bytes) -> bytes:
        """Return what the first group of a pattern matches, once it has come out."""
        while (match := re.search(pattern, self.said)) is None:
            data = await self.stdout.receive_some()
            assert data, self.said
            self.said += data
        return match[1]


@asynccontextmanager
async def openssl_server(folder: Path) -> AsyncGenerator[tuple[OpenSSL, int, ssl.SSLContext]]:
    """Yield a server, its port, and the context for its clients."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]  # PyOpenSSL is not here
    command = [
        "openssl",
        "s_server",
        "-accept",
        "127.0.0.1:0",
        "-tls1_2",
        "-cert",
        str(folder / "server.pem"),
    ]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    server = OpenSSL(process)
    try:
        yield server, int(await server.hear(rb"ACCEPT \S*:(\d+)\n")), context
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await server.stdin.aclose()
            await server.stdout.aclose()


class Relay:
    """A wire that can be cut in one direction, without either end noticing."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.deaf = False
        self.spoken = trio.Event()  # when the server has said something since then

    async def meet(self, client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass, client, server, True)
            await self._pass(server, client, False)
            nursery.cancel_scope.cancel()

    async def _pass(self, source: trio.SocketStream, target: trio.SocketStream, upwards: bool) -> None:
        with suppress(trio.BrokenResourceError):
            while data := await source.receive_some():
                if not (upwards and self.deaf):
                    await target.send_all(data)
                if self.deaf and not upwards:
                    self.spoken.set()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
async def test_a_server_that_begins_tls_anew_and_never_finishes_is_given_up(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with openssl_server(tmp_path) as (server, port, context), trio.open_nursery() as nursery:
            relay = Relay(port)
            url = f"wss://127.0.0.1:{await listen(nursery, relay.meet)}/"

            async def answer() -> None:
                await server.hear(rb"(\r\n\r\n)")
                await server.stdin.send_all(handshake_response(server.said))

            nursery.start_soon(answer)
            async with open_websocket_url(url, context, ping_interval=0.2, ping_timeout=0.2) as ws:
                await ws.send_message("x" * 100)
                await server.hear(rb"(\x81\xe4)")  # a text of 100 bytes, masked: the connection works
                relay.deaf = True
                await server.stdin.send_all(b"r\n")  # s_server's command for it
                await relay.spoken.wait()
                await ws.send_message("y" * 100)  # TLS may not let it out now
                with pytest.raises(ConnectionLost, match="no progress") as lost:
                    await ws.get_message()
                assert lost.value.reason == CloseReason(1006)
            nursery.cancel_scope.cancel()
