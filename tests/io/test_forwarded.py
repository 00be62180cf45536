"""The client behind proxies: who is believed, which header, how far, and what malformed ones come to."""

import ipaddress
import sys
from pathlib import Path
from typing import Any, Unpack

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.io.api_kit import serving
from tests.io.transport_kit import tls_contexts
from trio_ws import (
    AcceptOptions,
    Endpoint,
    ServerOptions,
    WebSocketRequest,
    WebSocketServer,
    open_websocket,
    serve_websocket,
    wrap_client_stream,
    wrap_server_stream,
)
from trio_ws._config import ServerConfig
from trio_ws._forwarded import client_of
from trio_ws.protocol import Headers
from trio_ws.testing import handshake_request
from trio_ws.transport import dial_unix, open_unix_listener

PEER = Endpoint(ipaddress.ip_address("10.0.0.1"), 50000, False)
TRUSTED = ("10.0.0.0/8", "2001:db8:1::/48")
STREAM = trio.testing.memory_stream_pair()[0]


def client(
    *values: str,
    name: str = "x-forwarded-for",
    trusted: tuple[str, ...] = TRUSTED,
    peer: Endpoint | str = PEER,
) -> tuple[str, int] | str:
    """Return address and port of the client of a request with these headers."""
    config = ServerConfig.of({"trusted_proxies": trusted, "forwarded_header": name})
    headers = Headers((name.encode(), value.encode("latin-1")) for value in values)
    found = client_of(STREAM, peer, headers, config)
    return found if isinstance(found, str) else (str(found.address), found.port)


def forwarded(*values: str) -> tuple[str, int] | str:
    return client(*values, name="forwarded")


PIECES = ["for=", ",", ";", '"', "\\", "10.0.0.2", "[::1]", ":8", "_", "unknown", " "]
PROXY = ("10.0.0.1", 50000)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], PROXY),
        ([""], PROXY),
        (["192.0.2.1"], ("192.0.2.1", 0)),
        ([" 192.0.2.1\t"], ("192.0.2.1", 0)),
        (["192.0.2.1:80"], ("192.0.2.1", 80)),
        (["2001:db8::1"], ("2001:db8::1", 0)),
        (["[2001:db8::1]"], ("2001:db8::1", 0)),
        (["[2001:db8::1]:443"], ("2001:db8::1", 443)),
        # what the client has written itself is at the left
        (["1.2.3.4, 192.0.2.1"], ("192.0.2.1", 0)),
        (["10.9.9.9, 192.0.2.1"], ("192.0.2.1", 0)),
        (["1.2.3.4", "192.0.2.1"], ("192.0.2.1", 0)),
        (["1.2.3.4", "192.0.2.1, 10.0.0.2"], ("192.0.2.1", 0)),
        # through several proxies
        (["1.2.3.4, 192.0.2.1,10.0.0.3, 10.0.0.2"], ("192.0.2.1", 0)),
        (["192.0.2.1, 2001:db8:1::5"], ("192.0.2.1", 0)),
        (["192.0.2.1, ::ffff:10.0.0.3"], ("192.0.2.1", 0)),
        (["10.0.0.3, 10.0.0.2"], ("10.0.0.3", 0)),
        # up to where something is wrong
        (["192.0.2.1, unknown"], PROXY),
        (["192.0.2.1, unknown, 10.0.0.2:7"], ("10.0.0.2", 7)),
        (["192.0.2.1,"], PROXY),
        (["192.0.2.1, , 10.0.0.2"], ("10.0.0.2", 0)),
        (["192.0.2.1,", "10.0.0.2"], ("10.0.0.2", 0)),
        (["_hidden"], PROXY),
        (["for=192.0.2.1"], PROXY),
        (['"192.0.2.1"'], PROXY),
        (["192.0.2.1 10.0.0.2"], PROXY),
        (["192.0.2.256"], PROXY),
        (["192.0.2.01"], PROXY),
        (["192.0.2"], PROXY),
        (["3221225985"], PROXY),
        (["192.0.2.1:65536"], PROXY),
        (["192.0.2.1:"], PROXY),
        (["192.0.2.1:-1"], PROXY),
        (["[192.0.2.1]"], PROXY),
        (["[2001:db8::1"], PROXY),
        (["2001:db8::1]"], PROXY),
        (["fe80::1%eth0"], PROXY),
        ([":::"], PROXY),
        (["\xff"], PROXY),
        (["localhost"], PROXY),
    ],
)
def test_x_forwarded_for(values: list[str], expected: tuple[str, int]) -> None:
    assert client(*values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], PROXY),
        (["for=192.0.2.1"], ("192.0.2.1", 0)),
        (["For=192.0.2.1; Proto=https ;by=10.0.0.1"], ("192.0.2.1", 0)),
        (["proto=https;FOR=192.0.2.1;"], ("192.0.2.1", 0)),
        (['for="192.0.2.1"'], ("192.0.2.1", 0)),
        (['for="192.0.2.1:80"'], ("192.0.2.1", 80)),
        (['for="[2001:db8:cafe::17]:4711"'], ("2001:db8:cafe::17", 4711)),
        (['for="[2001:db8:cafe::17]"'], ("2001:db8:cafe::17", 0)),
        (["for=[2001:db8:cafe::17]:4711"], ("2001:db8:cafe::17", 4711)),
        (["for=192.0.2.1:_hidden"], ("192.0.2.1", 0)),
        (['for="\\1\\92.0.2.1"'], ("192.0.2.1", 0)),
        (["for=1.2.3.4, for=192.0.2.1"], ("192.0.2.1", 0)),
        (["for=1.2.3.4", "for=192.0.2.1, for=10.0.0.2"], ("192.0.2.1", 0)),
        # identifiers that say no address
        (["for=_hidden"], "_hidden"),
        (['for="_SEVKISEK:_x"'], "_SEVKISEK"),
        (["for=1.2.3.4, for=_hidden;by=_proxy, for=10.0.0.2"], "_hidden"),
        (["for=unknown"], PROXY),
        (["for=1.2.3.4, for=unknown, for=10.0.0.2"], ("10.0.0.2", 0)),
        # a quote that the client has left open takes in nothing
        (['for="1.2.3.4', "for=192.0.2.1"], ("192.0.2.1", 0)),
        (['for="1.2.3.4, for=192.0.2.1'], ("192.0.2.1", 0)),
        (['for="1.2.3.4, for="10.0.0.2"'], ("10.0.0.2", 0)),
        (['for="1.2.3.4, for="192.0.2.1"'], ("192.0.2.1", 0)),
        # nor does a comma in quotes make an element of what follows it
        (['for=192.0.2.1;host="a, for=1.2.3.4"'], PROXY),
        (['for=192.0.2.1;host="a, for=1.2.3.4;b=\\"c"'], PROXY),
        # malformed
        (["192.0.2.1"], PROXY),
        (["for"], PROXY),
        (["for="], PROXY),
        (['for=""'], PROXY),
        (["for = 192.0.2.1"], PROXY),
        (["for=192.0.2.1;for=1.2.3.4"], PROXY),
        (["for=192.0.2.1 proto=https"], PROXY),
        (["for=192.0.2.1;proto"], PROXY),
        (["by=10.0.0.1"], PROXY),
        ([";"], PROXY),
        (["for=_"], PROXY),
        (["for=_a/b"], PROXY),
        (["for=192.0.2.1\n"], PROXY),
        (["\xff"], PROXY),
    ],
)
def test_forwarded(values: list[str], expected: tuple[str, int] | str) -> None:
    assert forwarded(*values) == expected


def test_headers_that_are_not_asked_for_are_not_looked_at() -> None:
    headers = Headers(
        [(b"forwarded", b"for=1.2.3.4"), (b"x-forwarded-for", b"192.0.2.1"), (b"x-real-ip", b"5.6.7.8")]
    )
    clients: list[object] = []
    for name in ("x-forwarded-for", "forwarded"):
        config = ServerConfig.of({"trusted_proxies": TRUSTED, "forwarded_header": name})
        found = client_of(STREAM, PEER, headers, config)
        assert isinstance(found, Endpoint)
        clients.append(str(found.address))
    assert clients == ["192.0.2.1", "1.2.3.4"]


@pytest.mark.parametrize(
    ("peer", "trusted", "believed"),
    [
        ("192.0.2.9", ("10.0.0.0/8",), False),
        ("192.0.2.9", ("192.0.2.9",), True),
        ("192.0.2.9", ("unix", "192.0.2.8/31"), True),
        ("192.0.2.9", ("0.0.0.0/0",), True),
        ("192.0.2.9", ("::/0",), False),
        ("192.0.2.9", ("unix",), False),
        ("::ffff:192.0.2.9", ("192.0.2.9",), True),
        ("::ffff:192.0.2.9", ("192.0.2.8",), False),
        ("::1", ("::1",), True),
        ("fe80::1%lo", ("fe80::/10",), True),
    ],
)
def test_who_is_trusted(peer: str, trusted: tuple[str, ...], believed: bool) -> None:
    remote = Endpoint(ipaddress.ip_address(peer), 1, True)
    found = client("198.51.100.1", trusted=trusted, peer=remote)
    assert found == (("198.51.100.1", 0) if believed else (str(remote.address), 1))


@pytest.mark.parametrize("peer", ["", "/run/socket", "unix", "<a stream>"])
def test_what_has_no_address_is_not_trusted(peer: str) -> None:
    assert client("192.0.2.1", trusted=("0.0.0.0/0", "::/0", "unix"), peer=peer) == peer


@given(
    st.sampled_from(["x-forwarded-for", "forwarded"]),
    st.lists(
        st.one_of(
            st.text(st.characters(max_codepoint=255), max_size=30),
            st.lists(st.sampled_from(PIECES)).map("".join),
        ),
        max_size=4,
    ),
)
def test_whatever_is_told_by_the_client_what_the_proxy_tells_counts(name: str, values: list[str]) -> None:
    told = "192.0.2.1" if name == "x-forwarded-for" else "for=192.0.2.1"
    assert isinstance(client(*values, name=name), tuple | str)
    assert client(*values, told, name=name) == ("192.0.2.1", 0)
    joined = [*values[:-1], f"{values[-1]}, {told}"] if values else [told]
    assert client(*joined, name=name) == ("192.0.2.1", 0)


# On connections


async def ask(request: WebSocketRequest) -> None:
    """Tell the client who it is taken for."""
    ws = await request.accept()
    await ws.send_message(
        f"{request.client} {request.remote == request.client} {ws.remote == request.remote}"
    )


async def told_by(server: WebSocketServer, **headers: str) -> str:
    async with open_websocket(
        "127.0.0.1",
        server.port,
        "/",
        use_ssl=False,
        extra_headers={name.replace("_", "-"): value for name, value in headers.items()},
    ) as ws:
        told = await ws.get_message()
        assert isinstance(told, str)
        return told


async def test_nobody_is_trusted_by_default() -> None:
    async with serving(ask) as server:
        told = await told_by(server, X_Forwarded_For="192.0.2.1", Forwarded="for=192.0.2.1")
        assert "'127.0.0.1'" in told
        assert told.endswith("True True")


async def test_over_tcp() -> None:
    async with serving(ask, trusted_proxies=["127.0.0.0/8"]) as server:
        told = await told_by(server, X_Forwarded_For="1.2.3.4, 192.0.2.1", Forwarded="for=1.2.3.4")
        expected = Endpoint(ipaddress.ip_address("192.0.2.1"), 0, False)
        assert told == f"{expected} False True"
        assert (await told_by(server)).endswith("True True")
    async with serving(ask, trusted_proxies=["127.0.0.2", "unix"]) as server:
        assert (await told_by(server, X_Forwarded_For="192.0.2.1")).endswith("True True")
    async with serving(ask, trusted_proxies=["127.0.0.1"], forwarded_header="forwarded") as server:
        assert (await told_by(server, Forwarded="for=_you")).startswith("_you ")


async def test_over_tls() -> None:
    server_context, client_context = tls_contexts()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def run(task_status: trio.TaskStatus[WebSocketServer]) -> None:
                await serve_websocket(
                    ask,
                    "127.0.0.1",
                    0,
                    server_context,
                    task_status=task_status,
                    trusted_proxies=["127.0.0.1"],
                )

            server: WebSocketServer = await nursery.start(run)
            async with open_websocket(
                "localhost",
                server.port,
                "/",
                use_ssl=client_context,
                extra_headers={"X-Forwarded-For": "192.0.2.1:80"},
            ) as ws:
                expected = Endpoint(ipaddress.ip_address("192.0.2.1"), 80, True)
                assert await ws.get_message() == f"{expected} False True"
            await server.aclose(drain=1)


@pytest.mark.skipif(sys.platform == "win32", reason="Python has no Unix sockets there")
@pytest.mark.parametrize("trusted", [(), ("10.0.0.0/8",), ("unix",), ("unix", "10.0.0.0/8")])
async def test_over_unix_sockets(tmp_path: Path, trusted: tuple[str, ...]) -> None:
    listener = await open_unix_listener(tmp_path / "socket")
    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(
            WebSocketServer(ask, [listener], trusted_proxies=trusted).run
        )
        stream = await dial_unix(str(tmp_path / "socket"))
        ws = await wrap_client_stream(
            nursery, stream, "localhost", "/", extra_headers={"X-Forwarded-For": "192.0.2.1, 10.0.0.7"}
        )
        expected: dict[tuple[str, ...], str] = {
            (): " True True",
            ("10.0.0.0/8",): " True True",
            ("unix",): f"{Endpoint(ipaddress.ip_address('10.0.0.7'), 0, False)} False True",
            ("unix", "10.0.0.0/8"): f"{Endpoint(ipaddress.ip_address('192.0.2.1'), 0, False)} False True",
        }
        assert await ws.get_message() == expected[trusted]
        await ws.aclose()
        await server.aclose(drain=1)


async def wrapped(**options: Unpack[AcceptOptions]) -> WebSocketRequest:
    near, far = trio.testing.memory_stream_pair()
    await near.send_all(handshake_request(X_Forwarded_For="192.0.2.1"))
    async with trio.open_nursery() as nursery:
        request = await wrap_server_stream(nursery, far, **options)
        await near.send_eof()
        await request.reject(403)
        return request


async def test_in_memory() -> None:
    for trusted in ([], ["0.0.0.0/0"], ["unix"]):
        request = await wrapped(trusted_proxies=trusted)
        assert request.client == request.remote
        assert "MemoryReceiveStream" in str(request.client)


@pytest.mark.parametrize(
    "options",
    [
        {"trusted_proxies": ["10.0.0.1/8"]},  # bits of a host in a network: one of them is a mistake
        {"trusted_proxies": ["localhost"]},
        {"trusted_proxies": [""]},
        {"trusted_proxies": ["*"]},
        {"forwarded_header": "x-real-ip"},
    ],
)
async def test_options_that_cannot_be(options: ServerOptions) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        await serve_websocket(ask, "127.0.0.1", 0, None, **options)


async def test_one_string_is_no_collection() -> None:
    options: Any = {"trusted_proxies": "10.0.0.1"}
    with pytest.raises(TypeError, match="trusted_proxies is a collection"):
        await serve_websocket(ask, "127.0.0.1", 0, None, **options)
