"""The examples of routing, passwords, cookies and proxies run."""

import base64
import socket

import pytest
import trio

from tests.examples.test_examples import serving
from trio_ws import ConnectionRejected, open_websocket_url


@pytest.fixture
def url() -> str:
    """Return the URL of a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"ws://127.0.0.1:{server.getsockname()[1]}"


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def get(url: str, path: str, headers: str = "") -> str:
    """Return what plain HTTP is answered."""
    async with await trio.open_tcp_stream("127.0.0.1", port_of(url)) as stream:
        await stream.send_all(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n".encode()
        )
        return b"".join([bytes(part) async for part in stream]).decode()


async def test_rooms(url: str) -> None:
    async with (
        serving("router", port_of(url)),
        open_websocket_url(f"{url}/chat/a%20room") as ann,
        open_websocket_url(f"{url}/chat/a%20room") as bob,
        open_websocket_url(f"{url}/chat/elsewhere") as eve,
    ):
        await ann.send_message("hello")
        assert await ann.get_message() == await bob.get_message() == "hello"
        await eve.send_message("alone")
        assert await eve.get_message() == "alone"
        answer = await get(url, "/health")
        assert answer.startswith("HTTP/1.1 200 ")
        assert answer.endswith("\r\n\r\nfine\n")
        assert (await get(url, "/admin/rooms")).startswith("HTTP/1.1 401 ")
        credentials = base64.b64encode(b"ann:correct horse battery staple").decode()
        answer = await get(url, "/admin/rooms", f"Authorization: Basic {credentials}\r\n")
        assert answer.endswith("\r\n\r\na room: 2\nelsewhere: 1\n")
        with pytest.raises(ConnectionRejected) as rejected:
            async with open_websocket_url(url):
                pass
        assert rejected.value.status_code == 404


@pytest.mark.parametrize("name", ["basic_auth", "password_hashes"])
async def test_passwords(name: str, url: str) -> None:
    async with serving(name, port_of(url)):
        credentials = base64.b64encode(b"ann:correct horse battery staple").decode()
        async with open_websocket_url(url, extra_headers={"Authorization": f"Basic {credentials}"}) as ws:
            assert await ws.get_message() == "hello ann"
        wrong = base64.b64encode(b"eve:correct horse battery staple").decode()
        for headers in ({}, {"Authorization": f"Basic {wrong}"}):
            with pytest.raises(ConnectionRejected) as rejected:
                async with open_websocket_url(url, extra_headers=headers):
                    pass
            assert rejected.value.status_code == 401


async def test_cookies(url: str) -> None:
    async with serving("cookies", port_of(url)):
        async with open_websocket_url(url) as ws:
            assert await ws.get_message() == "visit 1"
            assert ws.response is not None
            cookies = ws.response.cookies
        (visitor,) = cookies.values()
        async with open_websocket_url(url, extra_headers={"Cookie": f"visitor={visitor}"}) as ws:
            assert await ws.get_message() == "visit 2"
            assert ws.response is not None
            assert ws.response.cookies == {}
        async with open_websocket_url(url, extra_headers={"Cookie": "visitor=nobody"}) as ws:
            assert await ws.get_message() == "visit 1"


async def test_proxies(url: str) -> None:
    async with serving("behind_proxy", port_of(url)):
        headers = {"X-Forwarded-For": "10.9.9.9, 192.0.2.1"}
        async with open_websocket_url(url, extra_headers=headers) as ws:
            assert await ws.get_message() == "you are 192.0.2.1"
        async with open_websocket_url(url) as ws:
            assert await ws.get_message() == "you are 127.0.0.1"
