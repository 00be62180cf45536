"""What an evil server can make a client hold: measured on a client in a process of its own, while the server floods it."""

import json
import sys
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.io.api_kit import scripted_port
from trio_ws.testing import RawPeer, encode_raw_frame

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="memory is measured in /proc"
)

#: MiB that a client may grow by. One connection holds 1 MiB of messages twice at most; the rest is the allocator's.
BOUND = 24

MEBI = 2**20
CLIENT = Path(__file__).with_name("memory_client.py")

Script = Callable[[RawPeer], Awaitable[None]]


async def friendly(peer: RawPeer) -> None:
    await peer.handshake()
    await peer.send(encode_raw_frame(1, b"x") + encode_raw_frame(8, b"\x03\xe8"))
    await peer.receive_frame()  # its answer: then it waits for our end


async def flood(peer: RawPeer, data: bytes, size: float = 512 * MEBI) -> None:
    """Send the same again and again, until the client has gone or has had so many bytes of it, which is too many."""
    sent = 0
    while sent < size:
        await peer.send(data)
        sent += len(data)


def answer(start: bytes, endless: bytes) -> Script:
    """Return a server that answers so, and goes on without end."""

    async def script(peer: RawPeer) -> None:
        await peer.receive_head()
        await peer.send(start)
        await flood(peer, endless)

    return script


def frames(start: bytes, endless: bytes) -> Script:
    """Return a server that floods an open connection."""

    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        await peer.send(start)
        await flood(peer, endless)

    return script


async def explode(peer: RawPeer) -> None:
    await peer.handshake(Sec_WebSocket_Extensions="permessage-deflate")
    await peer.send(encode_raw_frame(2, bomb(), rsv=4))
    await peer.receive_rest()


async def announce(peer: RawPeer) -> None:
    await peer.handshake()
    await peer.send(encode_raw_frame(2, bytes(2**18), size=2**40))
    await peer.receive_rest()


async def flood_behind_close(peer: RawPeer) -> None:
    await peer.handshake()
    await peer.receive_frame()
    await flood(peer, encode_raw_frame(2, bytes(65536)), float("inf"))


async def ping_without_reading(peer: RawPeer) -> None:
    await peer.handshake()
    with trio.move_on_after(1.5):
        await flood(peer, 1000 * encode_raw_frame(9, b"x" * 125), float("inf"))


def bomb() -> bytes:
    """Return a message of 128 MiB in 128 KiB."""
    compressor = zlib.compressobj(wbits=-15)
    return b"".join([compressor.compress(bytes(MEBI)) for _ in range(128)]) + compressor.flush(
        zlib.Z_SYNC_FLUSH
    )


@dataclass(frozen=True)
class Case:
    """What the server does, what the client does meanwhile, and what must come of it."""

    script: Script
    outcome: str
    deed: str = "receive"
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    proxied: bool = False


OK = b"HTTP/1.1 101 Switching Protocols\r\n"
CONTINUED = encode_raw_frame(0, bytes(65536), fin=False)

CASES = {
    # the handshake
    "headers without end": Case(answer(OK, b"X: y\r\n" * 1000), "HandshakeError"),
    "one header without end": Case(answer(OK + b"X: ", b"y" * 65536), "HandshakeError"),
    "status line without end": Case(answer(b"HTTP/1.1 101 ", b"y" * 65536), "HandshakeError"),
    "informational answers without end": Case(
        answer(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 1000), "HandshakeError"
    ),
    "a body of 10 GB": Case(
        answer(b"HTTP/1.1 401 No\r\nContent-Length: 10000000000\r\n\r\n", bytes(65536)), "ConnectionRejected"
    ),
    "chunks without end": Case(
        answer(b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000),
        "ConnectionRejected",
    ),
    "a chunk's extension without end": Case(
        answer(b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536), "HandshakeError"
    ),
    "a redirect with a body without end": Case(
        answer(b"HTTP/1.1 302 On\r\nLocation: /\r\n\r\n", bytes(65536)),
        "TooManyRedirects",
        options={"max_redirects": 5},
    ),
    "a proxy's headers without end": Case(
        answer(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000), "ProxyError", proxied=True
    ),
    "a proxy's refusal without end": Case(
        answer(b"HTTP/1.1 403 No\r\n\r\n", bytes(65536)), "ProxyError", proxied=True
    ),
    # frames
    "fragments without end": Case(frames(encode_raw_frame(2, fin=False), CONTINUED), "ConnectionLost 1009"),
    "empty fragments": Case(
        frames(encode_raw_frame(2, fin=False), encode_raw_frame(0, fin=False) * 10_000), "ConnectionLost 1008"
    ),
    "fragments of a byte": Case(
        frames(encode_raw_frame(2, fin=False), encode_raw_frame(0, b"x", fin=False) * 10_000),
        "ConnectionLost 1008",
    ),
    "a frame that announces a tebibyte": Case(announce, "ConnectionLost 1009"),
    "a frame that announces a tebibyte which is allowed": Case(
        announce, "nothing", "wait", {"max_message_size": 2**50}
    ),
    "a bomb": Case(explode, "ConnectionLost 1009"),
    "messages that nobody takes": Case(frames(b"", encode_raw_frame(2, bytes(60_000))), "nothing", "wait"),
    "empty messages that nobody takes": Case(frames(b"", encode_raw_frame(2) * 10_000), "nothing", "wait"),
    "pings without end": Case(ping_without_reading, "ConnectionLost"),
    "pings without end while nobody receives": Case(ping_without_reading, "nothing", "wait"),
    "messages behind our close frame": Case(
        flood_behind_close, "DisconnectionTimeout", "close", {"disconnect_timeout": 1}
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_no_flood_makes_a_client_grow(name: str) -> None:
    case = CASES[name]

    async def evil(peer: RawPeer) -> None:
        with suppress(AssertionError):  # the client has gone
            await case.script(peer)

    async with scripted_port(friendly) as good, scripted_port(evil) as bad:
        options = case.options | ({"proxy": f"http://127.0.0.1:{bad}"} if case.proxied else {})
        url = "ws://server.example/" if case.proxied else f"ws://127.0.0.1:{bad}/"
        command = [
            sys.executable,
            str(CLIENT),
            f"ws://127.0.0.1:{good}/",
            url,
            case.deed,
            json.dumps(options),
        ]
        done = await trio.run_process(command, capture_stdout=True)
    found = json.loads(done.stdout)
    assert found["outcome"] == case.outcome
    assert found["growth"] < BOUND
    assert found["descriptors"] == 0
