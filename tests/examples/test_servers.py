"""The examples of servers that share their port with HTTP: each speaks with a WebSocket client and a plain one."""

import http.client
import importlib.util
import ssl
from pathlib import Path

import pytest
import trio
import trustme

from tests.examples.test_examples import port, serving
from trio_ws import ConnectionRejected, open_websocket_url

__all__ = ["port"]  # a fixture

Answer = tuple[int, bytes]


async def get(
    port: int, *paths: str, context: ssl.SSLContext | None = None, method: str = "GET"
) -> list[Answer]:
    """Ask the standard library's client for paths, all on one connection as long as the server keeps it."""

    def ask() -> list[Answer]:
        client = (
            http.client.HTTPConnection("localhost", port, timeout=10)
            if context is None
            else http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
        )
        answers: list[Answer] = []
        for path in paths:
            client.request(method, path, body=b"a body" if method == "POST" else None)
            response = client.getresponse()
            answers.append((response.status, response.read()))
        client.close()
        return answers

    return await trio.to_thread.run_sync(ask)


async def test_authentication(port: int) -> None:
    url = f"ws://127.0.0.1:{port}/"
    async with serving("authentication", port):
        for token, user in (("5eed", "ann"), ("f00d", "bob")):
            headers = {"Authorization": f"Bearer {token}"}
            async with open_websocket_url(url, extra_headers=headers) as ws:
                assert await ws.get_message() == f"hello {user}"
        for headers in ({"Authorization": "Bearer x"}, {}):
            with pytest.raises(ConnectionRejected) as caught:
                async with open_websocket_url(url, extra_headers=headers):
                    pass
            assert (caught.value.status_code, caught.value.body) == (401, b"Who are you?\n")


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_external_http_server(port: int, tmp_path: Path, scheme: str) -> None:
    context: ssl.SSLContext | None = None
    arguments: list[str] = []
    if scheme == "wss":
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        arguments = [str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")]
        certificate.cert_chain_pems[0].write_to_path(arguments[0])
        certificate.private_key_pem.write_to_path(arguments[1])
        context = ssl.create_default_context()
        # trustme's annotations name an optional dependency, which makes them partly unknown here.
        authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]
    url = f"{scheme}://localhost:{port}"
    async with serving("external_http_server", port, *arguments):
        async with (
            open_websocket_url(f"{url}/foo", context) as foo,
            open_websocket_url(f"{url}/bar", context) as bar,
        ):
            for message in ("one", "two"):
                await foo.send_message(message)
                await bar.send_message(message)
                assert await foo.get_message() == message
                assert await bar.get_message() == message.upper()
        answers = await get(port, "/", "/nothing", "/", context=context)
        assert answers == [
            (200, b"Try /foo or /bar.\n"),
            (404, b"Not found.\n"),
            (200, b"Try /foo or /bar.\n"),
        ]
        assert (await get(port, "/", context=context, method="POST"))[0][0] == 200
        ((status, _),) = await get(port, "/foo", context=context)
        assert status == 426
        with pytest.raises(ConnectionRejected, match="404"):
            async with open_websocket_url(f"{url}/nothing", context):
                pass


@pytest.mark.skipif(importlib.util.find_spec("hypercorn") is None, reason="Hypercorn is not installed")
async def test_asgi(port: int) -> None:
    async with serving("asgi", port):
        async with open_websocket_url(f"ws://127.0.0.1:{port}/") as ws:
            await ws.send_message("hello")
            assert await ws.get_message() == "hello"
        expected = [(200, f"This is /{name}\n".encode()) for name in "abc"]
        assert await get(port, "/a", "/b", "/c") == expected
        assert await get(port, "/a", method="POST") == expected[:1]
