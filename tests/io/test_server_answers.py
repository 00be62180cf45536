"""What a server answers by its options: paths, subprotocols, headers, and hooks that see each answer before it is sent."""

from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing

from tests.io.api_kit import dialling, echo, raw_client, serving_in_memory
from tests.io.test_cancellation import Canceller, cancel_everywhere
from trio_ws import (
    ConnectionRejected,
    HandshakeFailed,
    Request,
    Response,
    WebSocketRequest,
    WebSocketServer,
    wrap_client_stream,
    wrap_server_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer, handshake_request

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def answer_to(data: bytes = handshake_request(), **options: Any) -> str:
    """Return how a server with these options answers."""
    async with serving_in_memory(echo, **options) as (_, listener):
        peer = raw_client(listener)
        await peer.send(data)
        head = await peer.receive_head()
        await trio.testing.wait_all_tasks_blocked()
        return head.decode()


def select_c(_: Request, __: tuple[str, ...]) -> str | None:
    return "c"


def get(target: str) -> bytes:
    return handshake_request(f"GET {target} HTTP/1.1")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/chat", 101),
        ("/chat?room=1", 101),
        ("http://localhost/chat", 101),
        ("/", 404),
        ("/chat/", 404),
        ("/Chat", 404),
        ("/%63hat", 404),
        ("/x?/chat", 404),
    ],
)
async def test_path(target: str, status: int) -> None:
    assert (await answer_to(get(target), path="/chat")).startswith(f"HTTP/1.1 {status} ")


async def test_another_path_is_told_before_what_is_wrong_with_the_request() -> None:
    assert (await answer_to(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", path="/chat")).startswith("HTTP/1.1 404 ")


async def test_process_request_is_asked_about_every_path() -> None:
    async def process(request: Request) -> Response | None:
        return Response(204) if request.path == "/healthz" else None

    assert (await answer_to(get("/healthz"), path="/chat", process_request=process)).startswith(
        "HTTP/1.1 204 "
    )
    assert (await answer_to(get("/x"), path="/chat", process_request=process)).startswith("HTTP/1.1 404 ")


@pytest.mark.parametrize(
    ("spoken", "offered", "chosen"),
    [
        (["b", "a"], ["a", "b"], "b"),
        (["c", "a"], ["a", "b"], "a"),
        (iter(["a"]), ["a"], "a"),
        (["c"], ["a"], None),
        (["a"], None, None),
        ([], ["a"], None),
    ],
)
async def test_subprotocols(spoken: list[str], offered: list[str] | None, chosen: str | None) -> None:
    data = handshake_request(Sec_WebSocket_Protocol=offered)
    head = await answer_to(data, subprotocols=spoken)
    assert head.startswith("HTTP/1.1 101 ")
    assert ("Sec-WebSocket-Protocol" in head) == (chosen is not None)
    assert chosen is None or f"Sec-WebSocket-Protocol: {chosen}\r\n" in head


async def test_the_handler_has_the_last_word_on_the_subprotocol() -> None:
    async def handler(request: WebSocketRequest) -> None:
        await request.accept(subprotocol="a")

    async with (
        serving_in_memory(handler, subprotocols=["b", "a"]) as (_, listener),
        dialling(listener, subprotocols=["a", "b"]) as ws,
    ):
        assert ws.subprotocol == "a"


async def test_select_subprotocol() -> None:
    asked: list[tuple[str, tuple[str, ...]]] = []

    def select(request: Request, offered: tuple[str, ...]) -> str | None:
        asked.append((request.path, offered))
        return offered[-1] if request.path == "/last" else None

    offer = handshake_request("GET /last HTTP/1.1", Sec_WebSocket_Protocol="a, b")
    assert "Sec-WebSocket-Protocol: b\r\n" in await answer_to(offer, select_subprotocol=select)
    offer = handshake_request(Sec_WebSocket_Protocol="a, b")
    assert "Sec-WebSocket-Protocol" not in await answer_to(offer, select_subprotocol=select)
    assert (await answer_to(select_subprotocol=select)).startswith("HTTP/1.1 101 ")
    assert asked == [("/last", ("a", "b")), ("/", ("a", "b"))]


async def test_what_was_not_offered_cannot_be_selected(caplog: pytest.LogCaptureFixture) -> None:
    offer = handshake_request(Sec_WebSocket_Protocol="a, b")
    head = await answer_to(offer, select_subprotocol=select_c)
    assert head.startswith("HTTP/1.1 500 ")
    assert "does not offer" in caplog.text


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"path": "chat"}, ValueError),
        ({"subprotocols": ["a b"]}, ValueError),
        ({"subprotocols": ["a", "a"]}, ValueError),
        ({"subprotocols": "chat"}, TypeError),
        ({"subprotocols": ["a"], "select_subprotocol": select_c}, ValueError),
        ({"extra_headers": {"a": "b\r\nc"}}, ValueError),
        ({"extra_headers": {"Sec-WebSocket-Accept": "x"}}, ValueError),
        ({"extra_headers": {"Connection": "close"}}, ValueError),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        WebSocketServer(echo, None, **options)


async def test_extra_headers() -> None:
    async def handler(request: WebSocketRequest) -> None:
        await request.accept(extra_headers={"X-Own": "2"})

    pairs: Iterator[tuple[str | bytes, str | bytes]] = iter([(b"Server", "trio"), ("X-All", b"1")])
    async with serving_in_memory(handler, extra_headers=pairs) as (_, listener):
        for _ in range(2):
            peer = raw_client(listener)
            head = (await peer.handshake()).decode()
            assert "\r\nServer: trio\r\nX-All: 1\r\nX-Own: 2\r\n" in head


# Hooks


async def test_process_response_sees_and_changes_every_answer() -> None:
    seen: list[tuple[str, int]] = []

    async def process(request: Request, response: Response) -> Response | None:
        seen.append((request.path, response.status))
        if request.path == "/same":
            return None
        return Response(response.status, [*response.headers, ("x-seen", request.path)], response.body)

    async def plain(request: Request) -> Response | None:
        return Response(200) if request.path == "/plain" else None

    async def handler(request: WebSocketRequest) -> None:
        if request.path == "/no":
            await request.reject(403)
        else:
            await echo(request)

    async with serving_in_memory(handler, process_response=process, process_request=plain) as (_, listener):
        expected = {"/": 101, "/same": 101, "/no": 403, "/plain": 200, "/post": 405}
        for target, status in expected.items():
            peer = raw_client(listener)
            method = "POST" if target == "/post" else "GET"
            await peer.send(handshake_request(f"{method} {target} HTTP/1.1"))
            head = (await peer.receive_head()).decode()
            assert head.startswith(f"HTTP/1.1 {status} ")
            assert (f"\r\nX-Seen: {target}\r\n" in head) == (target != "/same")
            if status == 101:
                await peer.send_frame(1, b"hello")
                assert (await peer.receive_frame()).payload == b"hello"
        peer = raw_client(listener)
        await peer.send(b"nonsense\r\n\r\n")
        assert (await peer.receive_head()).startswith(b"HTTP/1.1 400 ")
        assert seen == list(expected.items())


@pytest.mark.parametrize(
    "changed",
    [
        Response(200),
        Response(101, body=b"more"),
        Response(101),
        Response(101, {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": "x"}),
        LookupError("a bug"),
    ],
)
async def test_a_hook_that_fails_is_contained(
    changed: Response | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it raises or asks for what cannot be: the client gets a 500, and the server goes on."""

    async def process(request: Request, response: Response) -> Response | None:
        if request.path == "/good":
            return None
        if isinstance(changed, Exception):
            raise changed
        return changed

    async with serving_in_memory(echo, process_response=process) as (_, listener):
        bad = raw_client(listener)
        await bad.send(handshake_request())
        assert (await bad.receive_head()).startswith(b"HTTP/1.1 500 ")
        await trio.testing.wait_all_tasks_blocked()
        assert len(caplog.records) == 1
        async with dialling(listener, "/good") as ws:
            await ws.send_message("hello")
            assert await ws.get_message() == "hello"


@pytest.mark.parametrize("path", ["/rejected", "/plain", "/bad", "/failing"])
async def test_a_hook_that_fails_for_another_answer(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async def process(_: Request, response: Response) -> Response | None:
        raise LookupError("a bug of the hook")

    async def plain(request: Request) -> Response | None:
        return Response(200) if request.path == "/plain" else None

    async def handler(request: WebSocketRequest) -> None:
        if request.path == "/failing":
            raise LookupError("a bug of the handler")
        await request.reject(403)

    async with serving_in_memory(handler, process_response=process, process_request=plain) as (
        server,
        listener,
    ):
        peer = raw_client(listener)
        await peer.send(handshake_request(f"{'POST' if path == '/bad' else 'GET'} {path} HTTP/1.1"))
        assert (await peer.receive_head()).startswith(b"HTTP/1.1 500 ")
        await trio.testing.wait_all_tasks_blocked()
        assert caplog.text.count("LookupError: a bug of the hook") == 1
        await server.aclose()


async def test_hooks_that_fail_come_out_if_asked_for() -> None:
    async def process(_: Request, response: Response) -> Response | None:
        raise LookupError("a bug")

    with pytest.RaisesGroup(LookupError, flatten_subgroups=True):
        await answer_to(process_response=process, handler_errors="raise")


async def test_cancelling_a_hook() -> None:
    """The client gets the answer, a 503 or nothing, and no stream stays open."""
    answers: set[bytes] = set()

    async def process(_: Request, response: Response) -> Response | None:
        await trio.sleep(1)
        return None

    async def attempt(canceller: Canceller) -> None:
        ours, peers = trio.testing.memory_stream_pair()
        peer = RawPeer(peers, Role.CLIENT)
        await peer.send(handshake_request())
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, ours, process_response=process)
            await canceller.run(request.accept)
            if request.connection is not None:
                request.connection.terminate()
        answers.add((await peer.receive_rest())[:13])

    await cancel_everywhere(attempt)
    assert answers == {b"", b"HTTP/1.1 101 ", b"HTTP/1.1 503 "}


async def test_on_handshake_error() -> None:
    seen: list[tuple[int, str | None]] = []

    def note(failure: HandshakeFailed, request: Request | None) -> Response | None:
        assert failure.response is not None
        seen.append((failure.response.status, None if request is None else request.path))
        if request is None:
            return None
        return Response(418, failure.response.headers, "a teapot")

    async def note_later(failure: HandshakeFailed, request: Request | None) -> Response | None:
        await trio.lowlevel.checkpoint()
        return note(failure, request)

    for hook in (note, note_later):
        post = handshake_request("POST /a HTTP/1.1")
        head = await answer_to(post, on_handshake_error=hook)
        assert head.startswith("HTTP/1.1 418 ")
        assert "\r\nAllow: GET\r\n" in head
        assert (await answer_to(get("/b"), on_handshake_error=hook, path="/c")).startswith("HTTP/1.1 418 ")
        assert (await answer_to(b"nonsense\r\n\r\n", on_handshake_error=hook)).startswith("HTTP/1.1 400 ")
        assert (await answer_to(on_handshake_error=hook)).startswith("HTTP/1.1 101 ")
        assert seen == [(405, "/a"), (404, "/b"), (400, None)]
        seen.clear()


async def test_on_handshake_error_is_not_asked_about_other_answers() -> None:
    async def plain(_: Request) -> Response | None:
        return Response(403)

    def never(failure: HandshakeFailed, _: Request | None) -> Response | None:
        raise AssertionError(failure)

    head = await answer_to(process_request=plain, on_handshake_error=never)
    assert head.startswith("HTTP/1.1 403 ")
    async with serving_in_memory(echo, on_handshake_error=never) as (_, listener):
        await raw_client(listener).aclose()  # without a word


async def test_on_handshake_error_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: HandshakeFailed, request: Request | None) -> Response | None:
        raise LookupError("a bug")

    head = await answer_to(handshake_request("POST / HTTP/1.1"), on_handshake_error=fail)
    assert head.startswith("HTTP/1.1 500 ")
    assert "a bug" in caplog.text


async def test_what_process_request_finds_out_reaches_the_handler() -> None:
    users: list[object] = []

    async def process(request: Request) -> Response | None:
        request.context["user"] = "ann"
        return None

    async def handler(request: WebSocketRequest) -> None:
        users.append(request.request.context["user"])
        ws = await request.accept()
        assert ws.request is not None
        users.append(ws.request.context["user"])

    async with serving_in_memory(handler, process_request=process) as (_, listener), dialling(listener) as ws:
        await ws.wait_closed()
    assert users == ["ann", "ann"]


def test_responses_are_pleasant_to_build() -> None:
    assert Response(204) == Response(204, [], b"", "")
    said = Response(200, {"X-Name": "värde"}, "größe")
    assert said.headers == [
        (b"x-name", "värde".encode("latin-1")),
        (b"content-type", b"text/plain; charset=utf-8"),
    ]
    assert said.body == "größe".encode()
    assert Response(200, {"Content-Type": "text/html"}, "<p>").headers == [(b"content-type", b"text/html")]
    assert Response(200, body=b"bytes").headers == []
    assert said.headers is Response(200, said.headers).headers
    with pytest.raises(ValueError, match="control"):
        Response(200, {"a": "b\r\nc"})


def test_requests_take_headers_in_every_form() -> None:
    assert Request("GET", "/", {"Host": "a"}) == Request("GET", "/", [(b"host", "a")])
    with pytest.raises(ValueError, match="cannot be the name"):
        Request("GET", "/", {"a b": "c"})


async def test_a_client_sees_the_changed_answer() -> None:
    async def process(_: Request, response: Response) -> Response | None:
        return Response(503, {"Retry-After": "5"}, "later") if response.status == 403 else None

    async def handler(request: WebSocketRequest) -> None:
        await request.reject(403)

    async with (
        serving_in_memory(handler, process_response=process) as (_, listener),
        trio.open_nursery() as nursery,
    ):
        with pytest.raises(ConnectionRejected) as caught:
            await wrap_client_stream(nursery, listener.connect(), "localhost", "/")
    assert (caught.value.status_code, caught.value.body) == (503, b"later")
