"""The router: which handler a request leads to, with which parameters, and what is answered where there is none."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.io.api_kit import dialling, raw_client, serving_in_memory
from trio_ws import ConnectionRejected, Headers, Request, Response, Router, WebSocketRequest, basic_auth
from trio_ws.testing import MemoryListener, handshake_request

UPGRADE = {"Upgrade": "websocket"}


def noting(name: str) -> Callable[..., Awaitable[Response]]:
    """Return a handler that answers with its name and its parameters."""

    async def handler(_request: object, **parameters: str) -> Response:
        await trio.lowlevel.checkpoint()
        return Response(200, Headers(), repr((name, parameters)).encode())

    return handler


def routing(*patterns: str) -> Router:
    """Return a router with a handler for GET at each pattern, named after it."""
    router = Router()
    for pattern in patterns:
        router.http(pattern)(noting(pattern))
    return router


async def ask(
    router: Router, target: str, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Response | None:
    """Return what a request is answered; None: it is one for a WebSocket."""
    pairs = Headers((name.lower().encode(), value.encode()) for name, value in (headers or {}).items())
    return await router.process_request(Request(method, target, pairs))


async def found(router: Router, target: str) -> Any:
    """Return the pattern and the parameters that a GET leads to, or the status of what is answered instead."""
    response = await ask(router, target)
    assert response is not None
    return eval(response.body) if response.status == 200 else response.status


# Paths


#: Patterns, what is asked for, and what that leads to.
PATHS: list[tuple[list[str], str, Any]] = [
    (["/"], "/", ("/", {})),
    (["/"], "/?a=/b", ("/", {})),
    (["/"], "http://example.org", ("/", {})),
    (["/a"], "http://example.org/a?b", ("/a", {})),
    (["/a"], "/a", ("/a", {})),
    (["/a"], "/a/", 404),
    (["/a/"], "/a/", ("/a/", {})),
    (["/a/"], "/a", 404),
    (["/a"], "//a", 404),
    (["/a"], "/A", 404),
    (["/a/b"], "/a", 404),
    (["/a"], "/a/b", 404),
    ([], "/", 404),
    # parameters
    (["/{x}"], "/a", ("/{x}", {"x": "a"})),
    (["/{x}"], "/", 404),
    (["/a/{x}"], "/a/", 404),
    (["/{x}/{y}"], "/a/b", ("/{x}/{y}", {"x": "a", "y": "b"})),
    (["/{x}/{y}"], "/a//b", 404),
    (["/{_x1}"], "/a{b}", ("/{_x1}", {"_x1": "a{b}"})),
    (["/a/{x:path}"], "/a/b", ("/a/{x:path}", {"x": "b"})),
    (["/a/{x:path}"], "/a/b/c/", ("/a/{x:path}", {"x": "b/c/"})),
    (["/a/{x:path}"], "/a//b", ("/a/{x:path}", {"x": "/b"})),
    (["/a/{x:path}"], "/a/", ("/a/{x:path}", {"x": ""})),
    (["/a/{x:path}"], "/a", 404),
    (["/{x:path}"], "/", ("/{x:path}", {"x": ""})),
    (["/{x}/b/{y:path}"], "/a/b/c/d", ("/{x}/b/{y:path}", {"x": "a", "y": "c/d"})),
    # what is fixed wins, and what wins but leads nowhere gives way
    (["/{x}", "/a"], "/a", ("/a", {})),
    (["/{x}", "/a"], "/b", ("/{x}", {"x": "b"})),
    (["/{x:path}", "/{x}"], "/b", ("/{x}", {"x": "b"})),
    (["/{x:path}", "/{x}"], "/b/c", ("/{x:path}", {"x": "b/c"})),
    (["/{x:path}", "/a/{x}"], "/a", ("/{x:path}", {"x": "a"})),
    (["/a/b", "/{x}/c"], "/a/c", ("/{x}/c", {"x": "a"})),
    (["/a/{y}/d", "/{x}/b/c", "/{z:path}"], "/a/b/c", ("/{x}/b/c", {"x": "a"})),
    (["/a/{y}/d", "/{x}/b/c", "/{z:path}"], "/a/b/d", ("/a/{y}/d", {"y": "b"})),
    (["/a/{y}/d", "/{x}/b/c", "/{z:path}"], "/a/b/e", ("/{z:path}", {"z": "a/b/e"})),
    (["/{x}/one", "/{y}/two"], "/a/two", ("/{y}/two", {"y": "a"})),
    # percent-encoding
    (["/{x}"], "/a%20b%3F", ("/{x}", {"x": "a b?"})),
    (["/{x}"], "/%C3%A9", ("/{x}", {"x": "é"})),
    (["/{x}"], "/a+b", ("/{x}", {"x": "a+b"})),
    (["/{x}"], "/%2541", ("/{x}", {"x": "%41"})),
    (["/café"], "/caf%c3%a9", ("/café", {})),
    (["/chat"], "/%63hat", ("/chat", {})),
    (["/{x}"], "/%E9", 400),
    (["/{x}"], "/%c0%af", 400),
    (["/{x}"], "/%", 400),
    (["/{x}"], "/%4", 400),
    (["/{x}"], "/%zz", 400),
    (["/{x}"], "/a%00", 400),
    # an encoded slash separates nothing
    (["/{x}"], "/a%2Fb", 404),
    (["/{x}/{y}"], "/a%2fb", 404),
    (["/a/b"], "/a%2Fb", 404),
    (["/{x:path}"], "/a%2Fb/c", ("/{x:path}", {"x": "a/b/c"})),
    # nothing leads upwards
    (["/{x:path}"], "/../a", 400),
    (["/{x:path}"], "/a/./b", 400),
    (["/{x:path}"], "/a/%2E%2e/b", 400),
    (["/{x:path}"], "/..%2Fa", 400),
    (["/{x:path}"], "/..%5Ca", 400),
    (["/{x:path}"], "/a\\..\\b", 400),
    (["/{x}"], "/..", 400),
    (["/{x}"], "/.%2e", 400),
    (["/{x}"], "/...", ("/{x}", {"x": "..."})),
    (["/{x}"], "/.well-known", ("/{x}", {"x": ".well-known"})),
    # what is no path
    (["/{x:path}"], "*", 400),
    (["/{x:path}", ""], "example.org:443", 400),
]


@pytest.mark.parametrize(("patterns", "target", "expected"), PATHS)
async def test_paths(patterns: list[str], target: str, expected: Any) -> None:
    assert await found(routing(*patterns), target) == expected
    assert await found(routing(*reversed(patterns)), target) == expected


@given(st.text(min_size=1).filter(lambda text: text not in (".", "..")))
def test_what_is_encoded_comes_out(text: str) -> None:
    """Each value that a parameter can have is one that a client can send."""
    encoded = "".join(f"%{octet:02X}" for octet in text.encode())

    async def main() -> None:
        if "\0" in text or {".", ".."} & set(text.replace("\\", "/").split("/")):
            assert await found(routing("/{x}", "/{y:path}"), f"/{encoded}") == 400
        else:
            expected = ("/{y:path}", {"y": text}) if "/" in text else ("/{x}", {"x": text})
            assert await found(routing("/{x}", "/{y:path}"), f"/{encoded}") == expected

    trio.run(main)


@given(st.text(alphabet=st.sampled_from("/.%2eEfF5cC\\a0é?*"), max_size=12))
def test_whatever_the_target_is_there_is_an_answer_and_no_way_up(target: str) -> None:
    async def main() -> None:
        outcome = await found(routing("/{x}", "/a/{x}", "/{x}/{y:path}"), target)
        parameters: dict[str, str] = {} if outcome in (400, 404) else outcome[1]
        assert "/" not in parameters.get("x", "")
        for value in parameters.values():
            assert not {".", ".."} & set(value.replace("\\", "/").split("/"))

    trio.run(main)


async def test_deep_paths_go_no_deeper_than_patterns() -> None:
    router = routing("/{a}/{b}/{c}", "/a/{b:path}")
    assert await found(router, "/b" * 20_000) == 404
    assert await found(router, "/a" * 20_000) == ("/a/{b:path}", {"b": ("a/" * 19_999)[:-1]})


# Methods


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("GET", {}, "get"),
        ("HEAD", {}, "get"),
        ("POST", {}, "post"),
        ("DELETE", {}, "post"),
        ("POST", UPGRADE, "post"),
        ("GET", UPGRADE, None),
        ("GET", {"Upgrade": "h2c, WebSocket"}, None),
        ("GET", {"Upgrade": "h2c"}, "get"),
    ],
)
async def test_one_path_for_everything(method: str, headers: dict[str, str], expected: str | None) -> None:
    router = Router()
    router.http("/")(noting("get"))
    router.http("/", methods=["POST", "DELETE"])(noting("post"))
    router.websocket("/")(noting("websocket"))
    response = await ask(router, "/", method, headers)
    assert (response and eval(response.body)[0]) == expected


async def test_head_of_its_own() -> None:
    router = routing("/")
    router.http("/", methods=["HEAD"])(noting("head"))
    response = await ask(router, "/", "HEAD")
    assert response is not None
    assert eval(response.body) == ("head", {})


@pytest.mark.parametrize(
    ("methods", "has_websocket", "method", "allow"),
    [
        (["GET"], False, "POST", "GET, HEAD"),
        (["POST", "GET"], False, "PUT", "GET, HEAD, POST"),
        (["POST"], False, "GET", "POST"),
        (["POST"], False, "HEAD", "POST"),
        (["POST"], True, "HEAD", "GET, POST"),
        (["GET"], True, "websocket", "GET, HEAD"),
    ],
)
async def test_methods_that_are_not_there(
    methods: list[str], has_websocket: bool, method: str, allow: str
) -> None:
    router = Router()
    router.http("/a", methods=methods)(noting("a"))
    router.http("/{x}", methods=["PUT", "POST", "HEAD"])(noting("the path decides first"))
    if has_websocket:
        router.websocket("/a")(noting("websocket"))
    response = await ask(router, "/a", method)
    assert response is not None
    assert (response.status, response.headers.get("allow")) == (405, allow)


@pytest.mark.parametrize("methods", [["POST"], ["GET"]])
async def test_a_request_that_asks_in_a_wrong_way_is_told_by_the_rules(methods: list[str]) -> None:
    router = Router()
    router.websocket("/a")(noting("websocket"))
    router.http("/b", methods=methods)(noting("b"))
    assert await ask(router, "/a", "GET") is None
    assert await ask(router, "/a", "POST") is None
    router.http("/a", methods=["POST"])(noting("a"))
    assert await ask(router, "/a", "GET") is None


# Registering


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a", "begins with a slash"),
        ("{x}", "begins with a slash"),
        ("/{x}y", "is neither"),
        ("/{}", "is neither"),
        ("/{x:int}", "is neither"),
        ("/{x", "is neither"),
        ("/x}", "is neither"),
        ("/{x-y}", "is neither"),
        ("/{1}", "is neither"),
        ("/{x:path}/", "nothing can follow"),
        ("/{x:path}/b", "nothing can follow"),
        ("/{x}/{x}", "there twice"),
        ("/a/../b", "no path has"),
        ("/.", "no path has"),
        ("/\0", "no path has"),
    ],
)
def test_patterns_that_cannot_be(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Router().http(pattern)(noting("a"))
    with pytest.raises(ValueError, match=message):
        Router().websocket(pattern)(noting("a"))


@pytest.mark.parametrize("methods", ["GET", [], [""], ["get"], ["GET "], ["A\r\n"], ["GET\n"]])
def test_methods_that_cannot_be(methods: Any) -> None:
    with pytest.raises(ValueError, match="methods is"):
        Router().http("/", methods=methods)


@pytest.mark.parametrize(
    ("first", "second"),
    [("/a", "/a"), ("/{x}", "/{y}"), ("/{x:path}", "/{y:path}"), ("/a/{x}/b", "/a/{y}/b")],
)
def test_a_path_has_one_handler(first: str, second: str) -> None:
    router = routing(first)
    router.websocket(first)(noting("a"))
    with pytest.raises(ValueError, match="already"):
        router.http(second, methods=["POST", "GET"])(noting("b"))
    with pytest.raises(ValueError, match="already"):
        router.websocket(second)(noting("b"))
    router.http(second, methods=["POST"])(noting("b"))


def test_handlers_take_their_parameters() -> None:
    async def chat(_request: object, room: str) -> Response:
        raise NotImplementedError

    router = Router()
    assert router.http("/a/{room}")(chat) is chat
    assert router.websocket("/a/{room}")(chat) is chat
    for pattern in ("/b", "/b/{name}", "/b/{room}/{name}", "/b/{room}/{_request}"):
        with pytest.raises(TypeError, match=r"the handler for '/b.* cannot be called"):
            router.http(pattern)(chat)
        with pytest.raises(TypeError, match=r"the handler for '/b.* cannot be called"):
            router.websocket(pattern)(chat)


# Including


async def test_including() -> None:
    inner = routing("", "/", "/{y}")
    outer = routing("/{x}")
    outer.include("/a", inner)
    outer.include("/b/{x}", inner)
    outer.include("", routing("/c/d"))
    assert await found(outer, "/a") == ("", {})
    assert await found(outer, "/a/") == ("/", {})
    assert await found(outer, "/a/b") == ("/{y}", {"y": "b"})
    assert await found(outer, "/b/c/d") == ("/{y}", {"x": "c", "y": "d"})
    assert await found(outer, "/c/d") == ("/c/d", {})
    assert await found(outer, "/e") == ("/{x}", {"x": "e"})
    assert await found(inner, "/b") == ("/{y}", {"y": "b"})


def test_what_cannot_be_included() -> None:
    inner = routing("/a/{x}", "")
    for prefix, message in (
        ("a", "begins with"),
        ("/", "slash at its end"),
        ("/{x}", "there twice"),
        ("/{y:path}", "can follow"),
    ):
        with pytest.raises(ValueError, match=message):
            Router().include(prefix, inner)
    with pytest.raises(ValueError, match="already"):
        routing("/b/a/{y}").include("/b", inner)


def test_an_included_router_takes_no_more() -> None:
    inner = Router()
    Router().include("/a", inner)
    with pytest.raises(RuntimeError, match="would not learn"):
        inner.http("/")(noting("late"))
    with pytest.raises(RuntimeError, match="would not learn"):
        inner.include("", routing("/"))
    Router().include("/b", inner)


def test_including_oneself_comes_to_an_end() -> None:
    router = routing("/a")
    router.include("/b", router)
    with pytest.raises(RuntimeError, match="would not learn"):
        router.http("/c")(noting("c"))


async def test_hooks_are_asked_from_the_outside() -> None:
    asked: list[str] = []
    refused: list[str] = []

    def hook(name: str) -> Callable[[Request], Awaitable[Response | None]]:
        async def process_request(_: Request) -> Response | None:
            asked.append(name)
            return Response(403, Headers()) if name in refused else None

        return process_request

    outer, middle, inner = (Router(process_request=hook(name)) for name in ("outer", "middle", "inner"))
    for router in (outer, middle, inner):
        router.http("/x")(noting("x"))
        router.websocket("/ws")(noting("ws"))
    middle.include("/inner", inner)
    outer.include("/middle", middle)
    for target, expected in {
        "/x": ["outer"],
        "/unknown": ["outer"],
        "/..": ["outer"],
        "/middle/x": ["outer", "middle"],
        "/middle/inner/x": ["outer", "middle", "inner"],
        "/middle/inner/ws": ["outer", "middle", "inner"],
    }.items():
        asked.clear()
        await ask(outer, target)
        assert asked == expected
        for last in expected:
            refused[:] = [last]
            asked.clear()
            response = await ask(outer, target)
            assert response is not None
            assert response.status == 403
            assert asked == expected[: expected.index(last) + 1]
        refused.clear()


# On a server


def chat_router(**options: Any) -> Router:
    router = Router(**options)

    @router.websocket("/chat/{room}")
    async def chat(request: WebSocketRequest, room: str) -> None:
        ws = await request.accept()
        await ws.send_message(f"welcome to {room}, {request.request.context.get('user')}")

    @router.http("/health")
    async def health(request: Request) -> Response:
        return Response(200, Headers([(b"content-type", b"text/plain")]), f"fine {request.query}".encode())

    router.http("/fail")(fail)
    return router


async def fail(_request: Request) -> Response:
    raise OSError("no idea")


async def exchange(listener: MemoryListener, start: str, **changes: str | None) -> bytes:
    """Return what a request is answered."""
    peer = raw_client(listener)
    await peer.send(handshake_request(start, **changes))
    head = await peer.receive_head()
    if head.startswith(b"HTTP/1.1 101"):
        await peer.aclose()
        return head
    body = await peer.receive_rest()
    await peer.aclose()
    return head + body


async def test_on_a_server() -> None:
    router = chat_router()
    plain: dict[str, None] = {"Upgrade": None, "Connection": None}
    async with serving_in_memory(router.handle, process_request=router.process_request) as (_, listener):
        async with dialling(listener, "/chat/a%20room?b") as ws:
            assert await ws.get_message() == "welcome to a room, None"
        answer = await exchange(listener, "GET /health?1 HTTP/1.1", **plain)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\nfine 1")
        answer = await exchange(listener, "HEAD /health?1 HTTP/1.1", **plain)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Content-Length: 6\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")
        answer = await exchange(listener, "GET /chat/room HTTP/1.1", **plain)
        assert answer.startswith(b"HTTP/1.1 426 ")
        answer = await exchange(listener, "POST /chat/room HTTP/1.1", **plain)
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert b"\r\nAllow: GET\r\n" in answer
        answer = await exchange(listener, "POST /health HTTP/1.1", **plain)
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert b"\r\nAllow: GET, HEAD\r\n" in answer
        assert (await exchange(listener, "GET /chat HTTP/1.1")).startswith(b"HTTP/1.1 404 ")
        assert (await exchange(listener, "GET /chat/.. HTTP/1.1")).startswith(b"HTTP/1.1 400 ")
        assert (await exchange(listener, "GET /health HTTP/1.1")).startswith(b"HTTP/1.1 200 ")


async def test_a_page_of_another_host_does_not_get_through() -> None:
    router = chat_router()
    async with serving_in_memory(router.handle, process_request=router.process_request) as (_, listener):
        answer = await exchange(listener, "GET /chat/a HTTP/1.1", Origin="https://evil.example")
        assert answer.startswith(b"HTTP/1.1 403 ")


async def test_a_handler_of_http_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    router = chat_router()
    async with serving_in_memory(router.handle, process_request=router.process_request) as (_, listener):
        assert (await exchange(listener, "GET /fail HTTP/1.1")).startswith(b"HTTP/1.1 500 ")
    assert "no idea" in caplog.text


async def test_who_is_there_is_asked_first() -> None:
    router = chat_router(process_request=basic_auth("chat", {"ann": "secret"}))
    async with serving_in_memory(router.handle, process_request=router.process_request) as (_, listener):
        async with dialling(
            listener, "/chat/a", extra_headers={"Authorization": "Basic YW5uOnNlY3JldA=="}
        ) as ws:
            assert await ws.get_message() == "welcome to a, ann"
        for path in ("/chat/a", "/health", "/unknown"):
            assert (await exchange(listener, f"GET {path} HTTP/1.1")).startswith(b"HTTP/1.1 401 ")


async def test_nobody_gets_past_the_hooks(caplog: pytest.LogCaptureFixture) -> None:
    router = chat_router(process_request=basic_auth("chat", {}))
    other = Router()
    other.websocket("/chat/a")(noting("another's"))
    for process_request in (None, other.process_request):
        caplog.clear()
        async with serving_in_memory(router.handle, process_request=process_request) as (_, listener):
            with pytest.RaisesGroup(
                pytest.RaisesExc(ConnectionRejected, check=lambda exc: exc.status_code == 500)
            ):
                async with dialling(listener, "/chat/a"):
                    pass
        assert "needs process_request=router.process_request" in caplog.text


async def test_the_context_is_left_as_it_was() -> None:
    contexts: list[dict[str, Any]] = []
    router = Router()

    @router.websocket("/")
    async def look(request: WebSocketRequest) -> None:
        contexts.append(request.request.context)
        await request.reject(403)

    async with serving_in_memory(router.handle, process_request=router.process_request) as (_, listener):
        await exchange(listener, "GET / HTTP/1.1")
    assert contexts == [{}]
