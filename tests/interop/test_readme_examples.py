"""The examples, each started as by a user, with peers that are not of this library: npm's `ws`, Chromium, nginx, curl, and
the proxies that people run.

They are those for which the README of `ws` has code: what is shown there in JavaScript is at the other end of these.
"""

import importlib.util
import json
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.interop.examples_kit import Node, NodeEnd, client, output, running_node, server
from tests.interop.interop_kit import Certificates
from tests.interop.test_curl import curl, find_curl
from tests.interop.test_nginx import CLIENT, X_FORWARDED_FOR, nginx_for_http
from tests.interop.test_proxies import KINDS, command, free_port, make_url, running
from tests.io.api_kit import echo, serving
from tests.io.test_page import CHROMIUM, Page, chromium
from trio_ws import PerMessageDeflate, PreparedMessage, broadcast

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="peers are stopped and have addresses as on Linux"
)

#: What `ws` reports of a connection that this side has closed in order.
IN_ORDER = (1000, "")


@pytest.fixture
async def node(
    ws: tuple[Sequence[str], Mapping[str, str]], certificates: Certificates, tmp_path: Path
) -> AsyncGenerator[Node]:
    """A process of Node.js with `ws`."""
    async with running_node(ws, certificates, tmp_path) as found:
        yield found


@pytest.fixture
async def page(tmp_path: Path) -> AsyncGenerator[Page]:
    """A page of a browser."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    async with chromium(tmp_path / "browser") as found:
        yield found


@pytest.fixture
def http_curl() -> str:
    """A curl, however old."""
    return find_curl("http")


async def converse(end: NodeEnd, *messages: str | bytes) -> None:
    """Have messages come back."""
    for message in messages:
        await end.send(message)
        assert await end.receive() == message


# --- Text, numbers, compression -------------------------------------------------------------------------------------


async def test_a_text_client(node: Node, tmp_path: Path) -> None:
    peer, port = await node.serve("echo")
    assert await output("echo_client", tmp_path, port=port) == b"hello\n"
    await peer.event("connection")
    assert await peer.closed() == IN_ORDER


async def test_a_simple_server(node: Node, tmp_path: Path) -> None:
    async with server("echo_server", tmp_path) as (port, _):
        end = await node.connect(f"ws://127.0.0.1:{port}/")
        assert end.extensions == ""  # which `ws` offers, and servers have to be told to take
        await converse(end, "hello", "", b"\x00\xff", "ä" * 70_000)
        assert (await end.close())[0] == 1005


#: Sends messages from a page, and resolves with what comes of each; with its path, for it is the page's server that is asked.
ASK = """new Promise((resolve, reject) => {
  const ws = new WebSocket(`ws://${location.host}%s`), answers = [], messages = %s;
  ws.binaryType = "arraybuffer";
  ws.onopen = () => messages.forEach(each => ws.send(typeof each === "string" ? each : new Float32Array(each)));
  ws.onmessage = ({data}) => {
    answers.push(typeof data === "string" ? data : [...new Float32Array(data)]);
    if (answers.length === messages.length) ws.close(1000, "enough");
  };
  ws.onclose = ({code, reason, wasClean}) => resolve([answers, code, reason, wasClean]);
})"""


async def ask(page: Page, path: str, messages: Sequence[str | list[float]]) -> list[str | list[float]]:
    """Return what comes back on a connection from a page, which ends in order."""
    answers: list[str | list[float]]
    answers, *end = await page.evaluate(ASK % (path, json.dumps(messages)))
    assert end == [1000, "enough", True]
    return answers


#: Servers, their paths, and what they make of what the page sends.
ASKED: list[str | list[float]] = ["hällo", [1.5, -2.25]]
FOR_BROWSERS: dict[str, tuple[str, list[str | list[float]]]] = {
    "echo_server": ("/", ASKED),
    "compressed_echo": ("/", ASKED),
    "external_http_server": ("/foo", ASKED),
    "binary": ("/", [[], [3.0, -4.5]]),
    "asgi": ("/", ASKED),
}


async def test_servers_with_a_browser(page: Page, tmp_path: Path) -> None:
    for name, (path, expected) in FOR_BROWSERS.items():
        if name == "asgi":
            pytest.importorskip("hypercorn")
        async with server(name, tmp_path) as (port, _):
            await page.open(f"http://127.0.0.1:{port}/")
            assert await ask(page, path, ASKED) == expected, name


async def test_numbers_to_another_server(node: Node, tmp_path: Path) -> None:
    peer, port = await node.serve("double")
    assert await output("binary", tmp_path, f"ws://127.0.0.1:{port}/") == b"[3.0, 5.0]\n"
    await peer.event("connection")
    assert await peer.closed() == IN_ORDER


@pytest.mark.skipif(importlib.util.find_spec("numpy") is None, reason="numpy is not installed")
async def test_numpy_s_numbers_to_another_server(node: Node, tmp_path: Path) -> None:
    _, port = await node.serve("double")
    assert await output("numpy_client", tmp_path, f"ws://127.0.0.1:{port}/") == b"[0. 1. 2. 3. 4.]\n"


async def test_numbers_from_another_client(node: Node, tmp_path: Path) -> None:
    async with server("binary", tmp_path) as (port, _):
        end = await node.connect(f"ws://127.0.0.1:{port}/")
        await end.tell("floats", numbers=[0, 0.5, -1])
        assert await end.receive() == bytes.fromhex("000000000000803f000000c0")


#: The options with which the README of `ws` shows compression.
TUNED = {
    "zlibDeflateOptions": {"chunkSize": 1024, "memLevel": 7, "level": 3},
    "zlibInflateOptions": {"chunkSize": 10 * 1024},
    "clientNoContextTakeover": True,
    "serverNoContextTakeover": True,
    "serverMaxWindowBits": 10,
    "concurrencyLimit": 10,
    "threshold": 1024,
}


@pytest.mark.parametrize("options", [True, False, TUNED], ids=["by default", "without", "tuned"])
async def test_a_server_that_compresses(node: Node, tmp_path: Path, options: object) -> None:
    async with server("compressed_echo", tmp_path) as (port, _):
        end = await node.connect(f"ws://127.0.0.1:{port}/", perMessageDeflate=options)
        assert ("permessage-deflate" in end.extensions) is bool(options)
        for _ in range(3):
            await converse(end, "compressible " * 1000, "short", b"\x00" * 70_000)


async def test_a_server_that_compresses_as_in_the_readme_of_ws(node: Node, tmp_path: Path) -> None:
    peer, port = await node.serve("echo", perMessageDeflate=TUNED)
    assert await output("echo_client", tmp_path, port=port) == b"hello\n"
    assert "permessage-deflate" in (await peer.event("connection"))["extensions"]


# --- One port -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_http_server_of_one_s_own(
    node: Node, http_curl: str, tmp_path: Path, certificates: Certificates, scheme: str
) -> None:
    tls = [certificates.certificate] if scheme == "https" else []
    authority = ["--cacert", str(certificates.authority)]
    async with server("external_http_server", tmp_path, *tls) as (port, _):
        page, socket = f"{scheme}://127.0.0.1:{port}", f"{scheme.replace('http', 'ws')}://127.0.0.1:{port}"
        foo, bar = await node.connect(f"{socket}/foo?a=b"), await node.connect(f"{socket}/bar")
        await converse(foo, "one", b"two")
        await bar.send("one")
        assert await bar.receive() == "ONE"
        assert await curl(http_curl, f"{page}/", *authority) == b"Try /foo or /bar.\n"
        assert await curl(http_curl, f"{page}/nothing", *authority) == b"Not found.\n"
        assert await node.refusal(f"{socket}/nothing") == (404, "Not found.\n")
        await converse(foo, "three")


@pytest.mark.skipif(importlib.util.find_spec("hypercorn") is None, reason="Hypercorn is not installed")
async def test_an_asgi_application(node: Node, http_curl: str, tmp_path: Path) -> None:
    async with server("asgi", tmp_path) as (port, _):
        end = await node.connect(f"ws://127.0.0.1:{port}/")
        await converse(end, "hello", b"\x00" * 100_000)
        pages = await curl(http_curl, f"http://127.0.0.1:{port}/[a-c]")
        assert pages == b"This is /a\nThis is /b\nThis is /c\n"
        posted = await curl(http_curl, f"http://127.0.0.1:{port}/posted", "--data", "x" * 100_000)
        assert posted == b"This is /posted\n"
        assert (await end.close())[0] == 1005


async def test_a_router(node: Node, http_curl: str, tmp_path: Path) -> None:
    async with server("router", tmp_path) as (port, _):
        ann = await node.connect(f"ws://127.0.0.1:{port}/chat/a%20b")
        bob = await node.connect(f"ws://127.0.0.1:{port}/chat/a%20b")
        eve = await node.connect(f"ws://127.0.0.1:{port}/chat/c")
        await eve.send("alone")
        assert await eve.receive() == "alone"
        await ann.send("hello")
        assert [await ann.receive(), await bob.receive()] == ["hello", "hello"]
        rooms = f"http://127.0.0.1:{port}/admin/rooms"
        listed = await curl(http_curl, rooms, "--user", "ann:correct horse battery staple")
        assert sorted(listed.splitlines()) == [b"a b: 2", b"c: 1"]
        assert (await node.refusal(f"ws://127.0.0.1:{port}/nothing"))[0] == 404


# --- Who a client is ------------------------------------------------------------------------------------------------


async def test_authentication_before_the_upgrade(node: Node, http_curl: str, tmp_path: Path) -> None:
    async with server("authentication", tmp_path) as (port, _):
        url = f"ws://127.0.0.1:{port}/"
        for token, user in (("5eed", "ann"), ("f00d", "bob")):
            end = await node.connect(url, headers={"Authorization": f"Bearer {token}"})
            assert await end.receive() == f"hello {user}"
        for headers in ({"Authorization": "Bearer x"}, {}):
            assert await node.refusal(url, headers=headers) == (401, "Who are you?\n")
        said = await curl(http_curl, f"http://127.0.0.1:{port}/", "--include")
        assert said.startswith(b"HTTP/1.1 401 ")
        assert said.endswith(b"\r\n\r\nWho are you?\n")


@pytest.mark.parametrize("name", ["basic_auth", "password_hashes"])
async def test_a_password_before_the_upgrade(node: Node, tmp_path: Path, name: str) -> None:
    async with server(name, tmp_path) as (port, _):
        url = f"ws://127.0.0.1:{port}/"
        end = await node.connect(url, auth="ann:correct horse battery staple")
        assert await end.receive() == "hello ann"
        for auth in ("ann:wrong", "bob:correct horse battery staple"):
            assert (await node.refusal(url, auth=auth))[0] == 401


async def test_a_session_in_a_cookie(page: Page, tmp_path: Path) -> None:
    tell = """new Promise(resolve => {
      const ws = new WebSocket(`ws://${location.host}/`);
      ws.onmessage = ({data}) => { ws.close(); resolve(data); };
    })"""
    async with server("cookies", tmp_path) as (port, _):
        await page.open(f"http://localhost:{port}/")
        assert [await page.evaluate(tell) for _ in range(3)] == ["visit 1", "visit 2", "visit 3"]


async def test_the_client_s_address(node: Node, tmp_path: Path) -> None:
    async with server("behind_proxy", tmp_path) as (port, _):
        end = await node.connect(f"ws://127.0.0.1:{port}/", localAddress=CLIENT)
        assert await end.receive() == f"you are {CLIENT}"
        with nginx_for_http(tmp_path, f"127.0.0.1:{port}", headers=X_FORWARDED_FOR) as public:
            forged = {"X-Forwarded-For": "192.0.2.1"}
            end = await node.connect(f"ws://127.0.0.1:{public}/", localAddress=CLIENT, headers=forged)
            assert await end.receive() == f"you are {CLIENT}"
            assert await end.closed() == IN_ORDER


# --- Broadcasts -----------------------------------------------------------------------------------------------------


async def test_a_broadcast_to_all_and_to_all_but_one(node: Node, tmp_path: Path) -> None:
    async with server("chat_broadcast", tmp_path) as (port, _):
        url = f"ws://127.0.0.1:{port}"
        ann = await node.connect(f"{url}/ann", perMessageDeflate=True)
        bob = await node.connect(f"{url}/bob", perMessageDeflate=False)
        assert await ann.receive() == "/bob has come"
        cid = await node.connect(f"{url}/cid", perMessageDeflate=TUNED)
        assert "permessage-deflate" in ann.extensions
        assert "server_max_window_bits=10" in cid.extensions
        assert bob.extensions == ""
        for end in (ann, bob):
            assert await end.receive() == "/cid has come"
        for speaker in (ann, bob, cid) * 2:
            for message in ("short", "compressible " * 1000, b"\x00" * 70_000):
                await speaker.send(message)
                # who has come was not told of it, so this is the first that cid gets
                assert [await end.receive() for end in (ann, bob, cid)] == [message] * 3


async def test_a_broadcast_with_one_who_has_stalled(node: Node, tmp_path: Path) -> None:
    async with server("chat_broadcast", tmp_path) as (port, _):
        url = f"ws://127.0.0.1:{port}"
        stalled = await node.connect(f"{url}/stalled", perMessageDeflate=False)
        await stalled.tell("pause")
        ann = await node.connect(f"{url}/ann", perMessageDeflate=False)
        bob = await node.connect(f"{url}/bob", perMessageDeflate=True)
        assert await ann.receive() == "/bob has come"
        for number in range(20):  # MiB: more than all buffers between the server and the one who has stalled
            await ann.send(bytes([number]) * 2**20)
            assert [await end.receive() for end in (ann, bob)] == [bytes([number]) * 2**20] * 2
        await stalled.tell("resume")
        assert await stalled.receive() == "/ann has come"
        assert await stalled.receive() == "/bob has come"
        received = 0
        while (event := await node.event(stalled.number))["event"] == "message":
            assert event["hex"] == (bytes([received]) * 2**20).hex()
            received += 1
        assert event == {"event": "close", "code": 1013, "reason": "too slow"}
        assert received < 20
        await ann.send("still here")
        assert [await end.receive() for end in (ann, bob)] == ["still here"] * 2


@pytest.mark.parametrize("forgetting", [True, False], ids=["without takeover", "with takeover"])
async def test_prepared_messages_among_others(node: Node, forgetting: bool) -> None:
    """What comes behind a message that was compressed once for all still decodes."""
    takeover = {"serverNoContextTakeover": forgetting, "clientNoContextTakeover": forgetting}
    text = json.dumps([{"number": number, "name": f"name {number % 7}"} for number in range(200)])
    prepared = [PreparedMessage(text), PreparedMessage(text.encode()), PreparedMessage(text, compress=False)]
    expected: list[str | bytes] = [text, text.encode(), text]

    compression = PerMessageDeflate(client_no_context_takeover=forgetting or None)
    async with serving(echo, compression=compression) as ours:
        url = f"ws://127.0.0.1:{ours.port}/"
        options: list[object] = [{**takeover, "threshold": 0}, takeover, False]
        ends = [await node.connect(url, perMessageDeflate=each) for each in options]
        for end in ends[:2]:
            assert ("server_no_context_takeover" in end.extensions) is forgetting
        for _ in range(3):
            for end in ends:
                await converse(end, text, "short", text * 2)
            for message in prepared:
                assert len((await broadcast(ours.connections, message)).sent) == len(ends)
            for connection in ours.connections:
                for message in prepared:
                    await connection.send_message(message)
                await connection.send_message(text)
            for end in ends:
                assert [await end.receive() for _ in range(7)] == [*expected, *expected, text]
                await converse(end, text)


# --- Streams and times ----------------------------------------------------------------------------------------------


async def test_round_trips(node: Node, tmp_path: Path) -> None:
    peer, port = await node.serve("echo")
    url = f"ws://127.0.0.1:{port}/"
    async with client("round_trip", tmp_path, url, "https://example.org") as program:
        for _ in range(2):
            label, _, time = (await program.line()).partition(": ")
            assert label == "Round-trip time"
            assert float(time.removesuffix(" ms")) > 0
    assert (await peer.event("connection"))["headers"]["origin"] == "https://example.org"


CONTENT = bytes(range(256)) * 4096  # 1 MiB


async def test_a_byte_stream_from_standard_input_and_back(node: Node, tmp_path: Path) -> None:
    peer, port = await node.serve("echo")
    assert await output("byte_stream", tmp_path, f"ws://127.0.0.1:{port}/", stdin=CONTENT) == CONTENT
    await peer.event("connection")
    assert await peer.closed() == IN_ORDER


async def test_a_byte_stream_as_a_conversation(node: Node, tmp_path: Path) -> None:
    _, port = await node.serve("echo")
    async with client("byte_stream", tmp_path, f"ws://127.0.0.1:{port}/") as program:
        for line in ("one", "two"):
            await program.write(f"{line}\n".encode())
            assert await program.line() == line


async def test_a_byte_stream_into_one_of_ws(node: Node, tmp_path: Path) -> None:
    peer, port = await node.serve("collect")
    assert await output("byte_stream", tmp_path, f"ws://127.0.0.1:{port}/", stdin=CONTENT) == b""
    await peer.event("connection")
    ends = [await node.event(peer.number) for _ in range(2)]  # of the stream, and of what it is made of
    [event] = [each for each in ends if each["event"] == "end"]
    assert bytes.fromhex(event["hex"]) == CONTENT
    [event] = [each for each in ends if each["event"] == "close"]
    assert (event["code"], event["reason"]) == IN_ORDER


async def test_a_byte_stream_out_of_one_of_ws(node: Node, tmp_path: Path) -> None:
    peer, port = await node.serve("emit")
    async with client("byte_stream", tmp_path, f"ws://127.0.0.1:{port}/") as program:
        assert program.process.stdout is not None
        received = b"".join([bytes(part) async for part in program.process.stdout])
        assert received == b"".join(bytes([number]) * 16384 for number in range(64))
        assert await program.process.wait() == 0  # though nobody has ended its input
        assert program.errors() == ""
    await peer.event("connection")
    assert (await peer.closed())[0] == 1005


# --- Broken connections ---------------------------------------------------------------------------------------------

#: Seconds of silence before a ping, and without a sign of life after it.
SHORT = ("0.15", "0.8")
#: Pings that are answered, over a longer time than one is given who does not.
ENOUGH = 7
DEAD = "has lost its peer: the peer made no progress in time: it is taken for dead"


async def test_a_client_that_has_stopped(node: Node, tmp_path: Path) -> None:
    async with server("broken_connections", tmp_path, *SHORT) as (port, program):
        end = await node.connect(f"ws://127.0.0.1:{port}/")
        for _ in range(ENOUGH):
            await end.event("ping")
        await end.send("last words")
        assert await program.line() == "last words"
        node.program.process.send_signal(signal.SIGSTOP)
        line = await program.line()
        node.program.process.send_signal(signal.SIGCONT)
        assert line.startswith("server-")
        assert line.endswith(DEAD)


async def test_a_server_that_has_stopped(node: Node, tmp_path: Path) -> None:
    peer, port = await node.serve("silence")
    async with client("broken_connections", tmp_path, f"ws://127.0.0.1:{port}/", *SHORT) as program:
        await peer.event("connection")
        for _ in range(ENOUGH):
            await peer.event("ping")
        node.program.process.send_signal(signal.SIGSTOP)
        line = await program.line()
        node.program.process.send_signal(signal.SIGCONT)
        assert line.startswith("client-")
        assert line.endswith(DEAD)
        assert await program.process.wait() == 0
        assert program.errors() == ""


# --- Proxies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tinyproxy", "tinyproxy-basic", "microsocks", "microsocks-password"])
async def test_proxies(node: Node, tmp_path: Path, certificates: Certificates, kind: str) -> None:
    _, plain = await node.serve("echo")
    _, encrypted = await node.serve("echo", tls=True)
    port = free_port()
    trust = {"SSL_CERT_FILE": str(certificates.authority)}
    proxy = make_url(KINDS[kind], KINDS[kind].schemes[0], port)
    targets = [f"ws://127.0.0.1:{plain}/", f"wss://127.0.0.1:{encrypted}/"]
    with running(command(KINDS[kind], port, tmp_path), port, tmp_path / "proxy.log"):
        for target in targets:
            assert await output("proxy", tmp_path, target, proxy, environment=trust) == b"hello\n"
    assert b"the proxy" in await output(
        "proxy", tmp_path, targets[0], proxy
    )  # without which nothing is reached


async def test_a_proxy_that_wants_a_password(tmp_path: Path) -> None:
    kind, port = KINDS["tinyproxy-basic"], free_port()
    with running(command(kind, port, tmp_path), port, tmp_path / "proxy.log"):
        said = await output("proxy", tmp_path, "ws://127.0.0.1:1/", f"http://127.0.0.1:{port}")
    assert b"answered with status 40" in said
