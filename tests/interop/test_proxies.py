"""The client through the proxies that people run, each a process of its own: to targets with and without TLS."""

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import trio

from tests.interop.interop_kit import LOG_TAIL, PATIENCE, Certificates
from trio_ws import (
    Endpoint,
    ProxyError,
    WebSocketRequest,
    WebSocketServer,
    open_websocket_url,
    serve_websocket,
)

Scheme = Literal["ws", "wss"]
#: What every proxy that asks for credentials wants.
USERNAME, PASSWORD = "ann", "secret"


@dataclass(frozen=True)
class Kind:
    """A kind of proxy: its program, whether it asks for credentials, and the schemes to reach it by."""

    program: str
    schemes: Sequence[str]
    guarded: bool = False


KINDS = {
    "tinyproxy": Kind("tinyproxy", ["http"]),
    "tinyproxy-basic": Kind("tinyproxy", ["http"], guarded=True),
    "stunnel": Kind("stunnel", ["https"]),
    "microsocks": Kind("microsocks", ["socks5", "socks5h", "socks"]),
    "microsocks-password": Kind("microsocks", ["socks5", "socks5h"], guarded=True),
    "danted": Kind("danted", ["socks4", "socks4a", "socks5", "socks5h"]),
}


def free_port() -> int:
    """Return a port that was free a moment ago, for none of these programs says which one it was given."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
        return number


def command(kind: Kind, port: int, folder: Path) -> list[str]:
    """Return what runs a proxy in the foreground."""
    settings = folder / "settings"
    match kind.program:
        case "tinyproxy":
            guard = f"BasicAuth {USERNAME} {PASSWORD}\n" if kind.guarded else ""
            settings.write_text(f"Port {port}\nListen 127.0.0.1\n{guard}")
            return ["tinyproxy", "-d", "-c", str(settings)]
        case "danted":
            settings.write_text(
                f"logoutput: stderr\ninternal: 127.0.0.1 port = {port}\nexternal.protocol: ipv4\nexternal: 127.0.0.1\n"
                "socksmethod: none\nclientmethod: none\n"
                "client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\nsocks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n"
            )
            return ["danted", "-f", str(settings), "-p", str(folder / "pid")]
        case _:
            guards = ["-u", USERNAME, "-P", PASSWORD] if kind.guarded else []
            return ["microsocks", "-i", "127.0.0.1", "-p", str(port), *guards]


def tls_command(port: int, target: int, certificate: Path, folder: Path) -> list[str]:
    """Return what runs TLS in front of another proxy."""
    settings = folder / "tls-settings"
    settings.write_text(
        f"foreground = yes\npid =\n[proxy]\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{target}\ncert = {certificate}\n"
    )
    return ["stunnel", str(settings)]


@contextmanager
def running(arguments: Sequence[str], port: int, log: Path) -> Generator[None]:
    """Run a program from when it listens; the test is skipped where there is none."""
    # such programs stand where a user's PATH does not always lead
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"])
    program = shutil.which(arguments[0], path=path)
    if program is None:
        pytest.skip(f"there is no {arguments[0]}")
    with (
        log.open("wb") as output,
        subprocess.Popen([program, *arguments[1:]], stdout=output, stderr=output) as process,
    ):
        try:
            deadline = time.monotonic() + PATIENCE
            while True:  # nothing tells when they listen: some say so in a log, some say nothing
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    said = log.read_text(errors="replace")[-LOG_TAIL:]
                    assert process.poll() is None, f"{arguments[0]} has ended:\n{said}"
                    assert time.monotonic() < deadline, f"{arguments[0]} does not listen:\n{said}"
                    time.sleep(0.01)
            yield
        finally:
            process.terminate()
            try:
                process.wait(5)
            finally:
                process.kill()


@pytest.fixture(scope="module", params=KINDS)
def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Generator[tuple[Kind, int]]:
    """A proxy that runs, and its port."""
    kind, folder, port = KINDS[request.param], tmp_path_factory.mktemp("proxy"), free_port()
    if kind.program != "stunnel":
        with running(command(kind, port, folder), port, folder / "log"):
            yield kind, port
        return
    behind = free_port()
    with (
        running(command(KINDS["tinyproxy"], behind, folder), behind, folder / "log"),
        running(tls_command(port, behind, certificates.certificate, folder), port, folder / "tls-log"),
    ):
        yield kind, port


def make_url(kind: Kind, scheme: str, port: int) -> str:
    """Return the URL of a proxy; there is more to decode in it than there has to be."""
    credentials = f"{USERNAME}:%73ecret@" if kind.guarded else ""
    return f"{scheme}://{credentials}127.0.0.1:{port}"


@asynccontextmanager
async def echoing(context: ssl.SSLContext | None = None) -> AsyncGenerator[int]:
    """A server that tells which headers came, and sends everything back."""

    async def echo(request: WebSocketRequest) -> None:
        ws = await request.accept()
        await ws.send_message(",".join(name.decode() for name, _ in request.request.headers))
        async for message in ws:
            await ws.send_message(message)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            server: WebSocketServer = await nursery.start(serve_websocket, echo, "127.0.0.1", 0, context)
            yield server.port
            await server.aclose(drain=1)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_conversation(proxy: tuple[Kind, int], scheme: Scheme, certificates: Certificates) -> None:
    """By each of the proxy's schemes, with small and large messages, up to the end."""
    kind, port = proxy
    server_context, context = (certificates.server, certificates.client) if scheme == "wss" else (None, None)
    async with echoing(server_context) as target:
        for proxy_scheme in kind.schemes:
            async with open_websocket_url(
                f"{scheme}://127.0.0.1:{target}/",
                context,
                proxy=make_url(kind, proxy_scheme, port),
                proxy_ssl_context=certificates.client if proxy_scheme == "https" else None,
            ) as ws:
                assert isinstance(ws.remote, Endpoint)
                assert ws.remote.port == port
                assert "proxy-authorization" not in str(await ws.get_message())
                for message in ("hello", bytes(2**19), ""):
                    await ws.send_message(message)
                    assert await ws.get_message() == message
            assert ws.closed is not None
            assert ws.closed.code == 1000


async def test_a_name(proxy: tuple[Kind, int], certificates: Certificates) -> None:
    """Whoever looks it up finds it."""
    kind, port = proxy
    async with echoing() as target:
        for scheme in kind.schemes:
            if scheme == "socks4a":
                continue  # Dante knows no names in SOCKS4, and takes the mark that stands for one for an address
            async with open_websocket_url(
                f"ws://localhost:{target}/",
                proxy=make_url(kind, scheme, port),
                proxy_ssl_context=certificates.client if scheme == "https" else None,
            ) as ws:
                assert "host" in str(await ws.get_message())


async def test_where_nobody_listens(proxy: tuple[Kind, int], certificates: Certificates) -> None:
    kind, port = proxy
    for scheme in kind.schemes:
        with trio.fail_after(PATIENCE), pytest.raises(ProxyError) as caught:
            async with open_websocket_url(
                f"ws://127.0.0.1:{free_port()}/",
                proxy=make_url(kind, scheme, port),
                proxy_ssl_context=certificates.client if scheme == "https" else None,
            ):
                pass
        assert f"127.0.0.1:{port}" in str(caught.value)
        assert PASSWORD not in str(caught.value)
        # what exactly they answer is theirs to choose
        assert (
            (caught.value.status_code or 0) >= 500
            if scheme.startswith("http")
            else "tunnel" in str(caught.value)
        )


@pytest.mark.parametrize("proxy", [name for name in KINDS if KINDS[name].guarded], indirect=True)
@pytest.mark.parametrize("credentials", ["", "ann:wrong@", "bob:secret@"])
async def test_wrong_credentials(proxy: tuple[Kind, int], credentials: str) -> None:
    kind, port = proxy
    for scheme in kind.schemes:
        with trio.fail_after(PATIENCE), pytest.raises(ProxyError) as caught:
            async with open_websocket_url(
                "ws://127.0.0.1:1/", proxy=f"{scheme}://{credentials}127.0.0.1:{port}"
            ):
                pass
        if scheme == "http":
            assert caught.value.status_code in (401, 407)
            assert caught.value.body
        else:
            assert "authentication" in str(caught.value)
