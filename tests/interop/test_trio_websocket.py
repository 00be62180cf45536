"""What docs/howto/from-trio-websocket.md says of both libraries, asked of both; what is the same is not known here."""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, TypeAlias, cast

import pytest
import trio

import trio_ws
from tests.interop.interop_kit import PATIENCE
from trio_ws import ClientOptions, ServerOptions

Scenario: TypeAlias = Callable[[Any], Awaitable[object]]

REQUEST = b"%s / HTTP/1.1\r\nHost: localhost\r\n%s\r\n"


# --- Tools ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(library: Any, handler: Any, **options: object) -> AsyncGenerator[int]:
    """Have a server, and its port."""
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[Any]) -> None:
            await library.serve_websocket(handler, "127.0.0.1", 0, None, task_status=task_status, **options)

        yield (await nursery.start(run)).port
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def answering(answer: bytes, requests: list[bytes]) -> AsyncGenerator[int]:
    """Have a server that takes down each request and gives the same answer to all, and its port."""

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            requests.append(bytes(await stream.receive_some()))
            await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, handle, 0)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def opened(library: Any, port: int, **options: object) -> Any:
    """Return what opens a connection for the length of a block."""
    return library.open_websocket_url(f"ws://127.0.0.1:{port}/", **options)


async def name_of_error(function: Callable[..., Awaitable[object]], *args: object, **options: object) -> str:
    """Return the name of what a call raises, or nothing."""
    try:
        await function(*args, **options)
    except Exception as exc:  # noqa: BLE001 - which one it is is what is asked
        error: Exception = exc
        while isinstance(error, ExceptionGroup):
            error = cast("ExceptionGroup[Exception]", error).exceptions[0]
        return type(error).__name__
    return ""


async def echo(request: Any) -> None:
    """Accept, and send everything back."""
    ws = await request.accept()
    # trio-websocket tells its end by an exception, which must not get out
    await name_of_error(echo_on, ws)


async def echo_on(ws: Any) -> None:
    while True:
        await ws.send_message(await ws.get_message())


# --- The scenarios --------------------------------------------------------------------------------------------------


async def size_of_text(library: Any) -> object:
    async with serving(library, echo, max_message_size=100) as port, opened(library, port) as ws:
        await ws.send_message("é" * 60)
        return await name_of_error(ws.get_message)


async def a_bytearray(library: Any) -> object:
    async with serving(library, echo) as port, opened(library, port) as ws:
        return await name_of_error(ws.send_message, bytearray(b"x"))


async def result_of_ping(library: Any) -> object:
    async with serving(library, echo) as port, opened(library, port) as ws:
        return type(await ws.ping()).__name__


async def wrong_close_code(library: Any) -> object:
    async with serving(library, echo) as port, opened(library, port) as ws:
        return await name_of_error(ws.aclose, 999)


async def closed_for_size(library: Any) -> object:
    seen: list[int] = []

    async def handle(request: Any) -> None:
        ws = await request.accept()
        await name_of_error(ws.get_message)
        seen.append(ws.closed.code)

    async with serving(library, handle, max_message_size=10) as port, opened(library, port) as ws:
        await ws.send_message("x" * 20)
        await name_of_error(ws.get_message)
        while not seen:
            await trio.lowlevel.checkpoint()
    return seen


async def closed_by_nursery(library: Any) -> object:
    async with serving(library, echo) as port:
        async with trio.open_nursery() as nursery:
            ws = await library.connect_websocket_url(nursery, f"ws://127.0.0.1:{port}/")
            nursery.cancel_scope.cancel()
        return ws.closed and ws.closed.code


async def handshake_headers(library: Any) -> object:
    seen: list[object] = []

    async def handle(request: Any) -> None:
        ws = await request.accept()
        seen.append(list(ws.handshake_headers))

    async with (
        serving(library, handle) as port,
        opened(library, port, extra_headers=[(b"X-Client", b"1")]) as ws,
    ):
        seen.append(isinstance(ws.handshake_headers, tuple))
    return seen


async def where_rejection_comes_out(library: Any) -> object:
    async def handle(request: Any) -> None:
        await request.reject(403)

    async with serving(library, handle) as port:
        try:
            async with trio.open_nursery() as nursery:
                try:
                    await library.connect_websocket_url(nursery, f"ws://127.0.0.1:{port}/")
                except library.ConnectionRejected:
                    return "call"
        except* library.ConnectionRejected:
            pass
    return "nursery"


async def what_is_asked_for(library: Any) -> object:
    found: list[object] = []
    requests: list[bytes] = []
    async with answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", requests) as port:

        async def ask(url: str, **options: Any) -> None:
            async with library.open_websocket_url(url, **options):
                pass

        for url in (f"ws://user:secret@127.0.0.1:{port}/", f"ws://127.0.0.1:{port}/é"):
            requests.clear()
            error = await name_of_error(ask, url)
            sent = b"".join(requests)
            found.append((error, b"\r\nAuthorization: Basic " in sent, b"GET /%C3%A9 " in sent))
        url = f"ws://127.0.0.1:{port}/"
        found.append(await name_of_error(ask, url + "#fragment"))
        found.append(await name_of_error(ask, url, extra_headers={"X-Header": "x"}))
        found.append(await name_of_error(ask, url, extra_headers=[(b"Host", b"elsewhere")]))
        found.append(await name_of_error(ask, url, extra_headers=[(b"Sec-WebSocket-Key", b"x")]))
    return found


async def answer_is_no_handshake(library: Any) -> object:
    async with answering(
        b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", []
    ) as port:

        async def ask() -> None:
            async with opened(library, port):
                pass

        return await name_of_error(ask)


async def handler_raises(library: Any) -> object:
    async def handle(request: Any) -> None:
        await request.accept()
        raise LookupError

    async def visit() -> None:
        async with serving(library, handle) as port:
            for _ in range(2):
                async with opened(library, port) as ws:
                    await name_of_error(ws.get_message)
                    codes.append(ws.closed.code)

    codes: list[int] = []
    return await name_of_error(visit), codes[:1]


async def foreign_origin(library: Any) -> object:
    async with serving(library, echo) as port:

        async def ask() -> None:
            async with opened(library, port, extra_headers=[(b"Origin", b"http://evil.example")]):
                pass

        return await name_of_error(ask)


async def server_is_cancelled(library: Any) -> object:
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def run(task_status: trio.TaskStatus[Any]) -> None:
            with scope:
                await library.serve_websocket(echo, "127.0.0.1", 0, None, task_status=task_status)

        server: Any = await nursery.start(run)
        async with opened(library, server.port) as ws:
            await ws.send_message("x")
            await ws.get_message()
            scope.cancel()
            await name_of_error(ws.get_message)
            return ws.closed.code


async def no_handshakes(library: Any) -> object:
    answers: list[str] = []
    async with serving(library, echo) as port:
        for method, headers in (
            (b"GET", b""),
            (b"POST", b""),
            (b"GET", b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n"),
        ):
            key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" if headers else b""
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with stream:
                await stream.send_all(REQUEST % (method, headers + key))
                answers.append(bytes(await stream.receive_some())[9:12].decode())
    return answers


async def odd_answers(library: Any) -> object:
    found: list[str] = []

    async def handle(request: Any) -> None:
        found.append(await name_of_error(request.reject, 101))
        await request.accept()
        found.append(await name_of_error(request.accept))

    async with serving(library, handle) as port, opened(library, port) as ws:
        await name_of_error(ws.get_message)
    return found


async def values(library: Any) -> object:
    reason = library.CloseReason
    address = library.Endpoint("127.0.0.1", 80, is_ssl=False).address
    return reason(1000, None) == reason(1000, None), reason(1014, None).name, type(address).__name__


#: Scenario -> what trio-websocket says, and what this library says.
DIFFERENCES: dict[Scenario, tuple[object, object]] = {
    size_of_text: ("", "ConnectionLost"),
    a_bytearray: ("ValueError", ""),
    result_of_ping: ("NoneType", "float"),
    wrong_close_code: ("", "ValueError"),
    closed_for_size: ([1009], [1006]),
    closed_by_nursery: (None, 1006),
    handshake_headers: ([[], True], [[(b"x-client", b"1")], False]),
    where_rejection_comes_out: ("nursery", "call"),
    what_is_asked_for: (
        [
            ("ConnectionRejected", False, False),
            ("UnicodeEncodeError", False, False),
            "ConnectionRejected",
            "TypeError",
            "LocalProtocolError",
            "ConnectionRejected",
        ],
        [
            ("ConnectionRejected", True, False),
            ("ConnectionRejected", False, True),
            "InvalidURL",
            "ConnectionRejected",
            "ConnectionRejected",
            "ValueError",
        ],
    ),
    answer_is_no_handshake: ("LocalProtocolError", "HandshakeError"),
    handler_raises: (("LookupError", [1000]), ("", [1011])),
    foreign_origin: ("", "ConnectionRejected"),
    server_is_cancelled: (1006, 1001),
    no_handshakes: (["400", "400", "426"], ["426", "405", "101"]),
    odd_answers: (["LocalProtocolError", "LocalProtocolError"], ["ValueError", "RuntimeError"]),
    values: ((False, "RFC_RESERVED", "IPv4Address"), (True, "BAD_GATEWAY", "str")),
}


scenarios = pytest.mark.parametrize("scenario", DIFFERENCES, ids=lambda scenario: scenario.__name__)


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning"
)  # it leaves streams to be closed by the garbage collector
@scenarios
async def test_trio_websocket(trio_websocket: ModuleType, scenario: Scenario) -> None:
    with trio.fail_after(PATIENCE):
        assert await scenario(trio_websocket) == DIFFERENCES[scenario][0]


@scenarios
async def test_this_library(scenario: Scenario) -> None:
    with trio.fail_after(PATIENCE):
        assert await scenario(trio_ws) == DIFFERENCES[scenario][1]


def test_every_name_and_parameter_is_there(trio_websocket: ModuleType) -> None:
    options = ClientOptions.__annotations__ | ServerOptions.__annotations__
    public = [name for name in vars(trio_websocket) if not name.startswith("_")]
    assert len(public) == 17
    for name in public:
        old, new = getattr(trio_websocket, name), getattr(trio_ws, name)
        if inspect.isclass(old):
            members = [each for each in vars(old) if not each.startswith("_")]
            assert [each for each in members if not hasattr(new, each)] == []
        else:
            accepted = inspect.signature(new).parameters.keys() | options.keys()
            assert inspect.signature(old).parameters.keys() - accepted == set()
