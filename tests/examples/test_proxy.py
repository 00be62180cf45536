"""The example of a proxy runs: through one that opens a tunnel, and against one that wants to know by whom it is asked."""

import sys
from pathlib import Path

import trio

from tests.io.api_kit import echo, serving
from tests.io.proxy_kit import scripted_proxy, tunnelling
from trio_ws.testing import RawPeer

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "proxy.py"


async def run(*arguments: str) -> str:
    """Run the example and return what it prints."""
    done = await trio.run_process([sys.executable, EXAMPLE, *arguments], capture_stdout=True)
    return done.stdout.decode()


async def test_proxy() -> None:
    async with serving(echo) as server, tunnelling(server.port) as proxy:
        assert await run("ws://server.example/", f"http://ann:secret@127.0.0.1:{proxy.port}") == "hello\n"
    assert b"CONNECT server.example:80 " in proxy.asked[0]


async def test_proxy_that_refuses() -> None:
    async def refuse(peer: RawPeer) -> None:
        await peer.receive_head()
        await peer.send(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")

    async with scripted_proxy(refuse) as port:
        printed = await run("ws://server.example/", f"http://127.0.0.1:{port}")
    assert printed.splitlines() == [
        f"the proxy http://127.0.0.1:{port} answered with status 407 and asks for 'Basic'",
        "it wants a user and a password",
    ]
