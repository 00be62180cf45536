"""curl as client: what it prints of any server's answers, and WebSocket where it speaks it; knows no other clients.

The program is the one that is installed, however old; libcurl comes with its binding for Python and is a recent one.
"""

import shutil
import subprocess
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import ModuleType
from typing import Any, Unpack

import pytest
import trio

from tests.interop.interop_kit import PATIENCE, Certificates
from tests.io.api_kit import Handler, echo
from trio_ws import (
    ServerOptions,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    serve_websocket,
)

#: RFC 6455 1.3: a key, and what it has to be answered with.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}
#: Around each way to write a length (RFC 6455 5.2), and around what fits into a read.
SIZES = [1, 125, 126, 65535, 65536, 2**20]
TEXT = "aé€𝄞" * 100


@pytest.fixture(params=["ws", "wss"])
def scheme(request: pytest.FixtureRequest) -> str:
    """How it is spoken."""
    return str(request.param)


@asynccontextmanager
async def listening(
    handler: Handler, certificates: Certificates | None = None, **options: Unpack[ServerOptions]
) -> AsyncGenerator[str]:
    """Have a server, and what its URL has behind the scheme."""
    context = certificates.server if certificates else None
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            serve = partial(serve_websocket, handler, "127.0.0.1", 0, context, **options)
            server: WebSocketServer = await nursery.start(serve)
            yield f"127.0.0.1:{server.port}"
            await server.aclose(drain=1)


# --- The program ----------------------------------------------------------------------------------------------------


def find_curl(scheme: str) -> str:
    """Return the program; skips the test where it does not speak `scheme`."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("there is no curl")
    about = subprocess.run(
        [program, "--version"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    protocols = next(line for line in about if line.startswith("Protocols:")).split()
    if scheme not in protocols:
        pytest.skip(f"{' '.join(about[0].split()[:2])} does not speak {scheme}")
    return program


@pytest.fixture
def http_curl() -> str:
    """A curl as there is one everywhere."""
    return find_curl("http")


@pytest.fixture
def websocket_curl(scheme: str) -> str:
    """A curl that speaks WebSocket: by default it does since 8.11."""
    return find_curl(scheme)


async def curl(program: str, url: str, *arguments: str) -> bytes:
    """Return the output; how curl calls the way in which a connection is cut in the end is its own affair."""
    command = [program, "--silent", "--http1.1", "--noproxy", "*", *arguments, url]
    return (await trio.run_process(command, capture_stdout=True, check=False)).stdout


async def answer(
    program: str, address: str, *arguments: str, headers: Mapping[str, str] = UPGRADE
) -> tuple[str, dict[str, str], bytes]:
    """Return the status line of the answer to a request, its headers and its body."""
    fields = [argument for name, value in headers.items() for argument in ("--header", f"{name}: {value}")]
    output = await curl(program, f"http://{address}/", "--include", *fields, *arguments)
    head, _, body = output.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body


async def cut(request: WebSocketRequest) -> None:
    """Accept and be gone: as HTTP client, curl would not take part in a closing handshake."""
    (await request.accept()).terminate()


async def test_without_an_upgrade(http_curl: str) -> None:
    async with listening(echo) as address:
        status, headers, body = await answer(http_curl, address, headers={})
    assert status == "HTTP/1.1 426 Upgrade Required"
    assert headers["upgrade"] == "websocket"
    assert headers["connection"] == "close, Upgrade"
    assert int(headers["content-length"]) == len(body)
    assert b"ask for an upgrade" in body


async def test_the_sample_key_of_the_rfc(http_curl: str) -> None:
    async with listening(cut) as address:
        status, headers, body = await answer(http_curl, address)
    assert status == "HTTP/1.1 101 Switching Protocols"
    assert headers == {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-accept": ACCEPT}
    assert body == b""


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1"])
async def test_a_foreign_origin(http_curl: str, origin: str) -> None:
    async with listening(cut) as address:
        status, headers, body = await answer(http_curl, address, headers={**UPGRADE, "Origin": origin})
    assert status == "HTTP/1.1 403 Forbidden"
    assert headers["connection"] == "close"
    assert body == b"Requests from this origin are not allowed.\n"


async def test_its_own_origin(http_curl: str) -> None:
    async with listening(cut) as address:
        status, _, _ = await answer(http_curl, address, headers={**UPGRADE, "Origin": f"http://{address}"})
    assert status == "HTTP/1.1 101 Switching Protocols"


@pytest.mark.parametrize(
    ("arguments", "changed", "status", "name", "value"),
    [
        (["--request", "POST"], {}, "405 Method Not Allowed", "allow", "GET"),
        ([], {"Sec-WebSocket-Version": "7"}, "426 Upgrade Required", "sec-websocket-version", "13, 8"),
        ([], {"Sec-WebSocket-Key": "short"}, "400 Bad Request", "connection", "close"),
        (["--http1.0"], {}, "426 Upgrade Required", "connection", "close, Upgrade"),
    ],
    ids=["POST", "version 7", "short key", "HTTP/1.0"],
)
async def test_what_is_not_a_handshake(
    http_curl: str, arguments: list[str], changed: dict[str, str], status: str, name: str, value: str
) -> None:
    async with listening(cut) as address:
        found, headers, _ = await answer(http_curl, address, *arguments, headers=UPGRADE | changed)
    assert found.removeprefix("HTTP/1.1 ") == status
    assert headers[name] == value


async def test_the_program_speaks_websocket(
    websocket_curl: str, scheme: str, certificates: Certificates
) -> None:
    async def tell(request: WebSocketRequest) -> None:
        ws = await request.accept()
        for message in ("hello\n", b"\x00\xff", "x" * 70_000):
            await ws.send_message(message)
        await ws.aclose()

    # curl prints the close frame as if it were a message, and leaves it unanswered
    async with listening(tell, certificates if scheme == "wss" else None, disconnect_timeout=1) as address:
        authority = ["--cacert", str(certificates.authority)]
        output = await curl(websocket_curl, f"{scheme}://{address}/", "--no-buffer", *authority)
    assert output.startswith(b"hello\n\x00\xff" + b"x" * 70_000)


# --- The library ----------------------------------------------------------------------------------------------------


@pytest.fixture
def libcurl() -> ModuleType:
    """The binding of a libcurl."""
    module: ModuleType = pytest.importorskip("curl_cffi")
    return module


def talk(libcurl: Any, url: str, authority: str) -> list[tuple[bytes, int]]:
    """Send messages from libcurl, close with 4000, and return what came back of the messages with the type of each."""
    ws = libcurl.WebSocket()
    ws.connect(url, verify=authority, proxies={"all": ""})
    received: list[tuple[bytes, int]] = []
    for size in SIZES:
        ws.send_bytes(b"x" * size)
        received.append(ws.recv())
    ws.ping(b"there?")
    ws.send_str(TEXT)
    received.append(ws.recv())
    ws.close(4000, b"enough")
    return received


async def test_libcurl(libcurl: ModuleType, scheme: str, certificates: Certificates) -> None:
    served: list[WebSocketConnection] = []

    async def handle(request: WebSocketRequest) -> None:
        ws = await request.accept()
        served.append(ws)
        try:
            async for message in ws:
                await ws.send_message(message)
        finally:
            await ws.wait_closed()

    async with listening(handle, certificates if scheme == "wss" else None) as address:
        url, authority = f"{scheme}://{address}/", str(certificates.authority)
        received = await trio.to_thread.run_sync(talk, libcurl, url, authority)
        await served[0].wait_closed()
    text, binary = libcurl.CurlWsFlag.TEXT, libcurl.CurlWsFlag.BINARY
    assert received == [(b"x" * size, binary) for size in SIZES] + [(TEXT.encode(), text)]
    assert repr(served[0].closed) == "CloseReason<code=4000, name=PRIVATE_RESERVED, reason=enough>"
