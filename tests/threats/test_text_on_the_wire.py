"""No text that a program is given puts a line end, a NUL or half a character on the wire: it is refused before a byte is.

The tables name every parameter of the public API that takes text or bytes, and one test holds them to the signatures: a
new parameter has to be entered, as what can reach a head of HTTP or as what cannot.
"""

import inspect
import logging
import re
import typing
from collections.abc import Awaitable, Callable, Iterator

import outcome
import pytest
import trio

import trio_ws
from tests.io.link_kit import settle
from tests.io.proxy_kit import scripted_proxy
from trio_ws import (
    AcceptOptions,
    ClientOptions,
    HandshakeError,
    HandshakeOptions,
    Headers,
    ProxyError,
    Request,
    Response,
    Router,
    WebSocketRequest,
    WebSocketServer,
    basic_auth,
    connect_websocket,
    connect_websocket_url,
    open_websocket,
    open_websocket_url,
    reconnecting,
    set_cookie,
    wrap_client_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import MemoryListener, RawPeer, handshake_request
from trio_ws.transport import Proxy, dial_http_proxy, dial_socks_proxy

pytestmark = pytest.mark.usefixtures("autojump_clock")

#: Each would begin a header of its own, or end a string of C's.
CONTROLS = {
    "CR": "a\rX-Evil: 1",
    "LF": "a\nX-Evil: 1",
    "CR LF": "a\r\nX-Evil: 1",
    "two lines": "a\r\n\r\nGET /evil HTTP/1.1\r\n",
    "NUL": "a\x00X-Evil: 1",
}
#: The last bytes of these are an A, an LF and a CR: that is what is left where only they are sent.
WIDE = {
    "wide A": "a\u0141b",
    "wide LF": "a\u010aX-Evil: 1",
    "wide CR": "a\u010dX-Evil: 1",
    "astral": "a\U0001f40ab",
    "half a character": "a\ud800b",
}
BAD = CONTROLS | WIDE

TLS_HELLO = b"\x16\x03"

every_bad = pytest.mark.parametrize("bad", BAD.values(), ids=BAD)


def is_clean(head: bytes) -> bool:
    """Say whether these bytes are heads of visible ASCII whose lines are those that this library writes."""
    lines = head.split(b"\r\n")
    return all(re.fullmatch(rb"[\x20-\x7e]*", line) for line in lines) and b"x-evil" not in [
        line.partition(b":")[0].strip().lower() for line in lines
    ]


# What a client sends


class Wire(trio.abc.HalfCloseableStream):
    """What a client writes to, and reads nothing from but the end.

    Attributes:
        written: what it wrote.
    """

    def __init__(self) -> None:
        self.written = bytearray()

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Stand for a way to any server."""
        await trio.lowlevel.checkpoint()
        return self

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.written += data

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return b""

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


#: Writes a request with the text in it, or raises.
Attempt = Callable[[str, Wire], Awaitable[object]]


def by_url(make: Callable[[str], str]) -> Attempt:
    """Return the attempt to open the URL that is made of the text."""

    async def attempt(bad: str, wire: Wire) -> None:
        async with open_websocket_url(make(bad), connect=wire.connect):
            pass

    return attempt


def by_option(make: Callable[[str], HandshakeOptions]) -> Attempt:
    """Return the attempt to open a connection with options that are made of the text; over both ways that take them."""

    async def attempt(bad: str, wire: Wire) -> None:
        wrapped = Wire()
        with pytest.raises((ValueError, HandshakeError)) as raised:
            await in_nursery(wrap_client_stream, wrapped, "localhost", "/", **make(bad))
        assert bool(wrapped.written) is isinstance(raised.value, HandshakeError)
        options: ClientOptions = {"connect": wire.connect}
        options.update(typing.cast("ClientOptions", make(bad)))
        async with open_websocket_url("ws://localhost/", **options):
            pass

    return attempt


async def open_host(bad: str, wire: Wire) -> None:
    async with open_websocket(bad, 80, "/", use_ssl=False, connect=wire.connect):
        pass


async def open_resource(bad: str, wire: Wire) -> None:
    async with open_websocket("localhost", 80, "/" + bad, use_ssl=False, connect=wire.connect):
        pass


async def in_nursery(open_it: Callable[..., Awaitable[object]], /, *args: object, **options: object) -> None:
    """Call what takes a nursery, and keep its exception from that."""
    async with trio.open_nursery() as nursery:
        result = await outcome.acapture(open_it, nursery, *args, **options)
    result.unwrap()


async def connect_host(bad: str, wire: Wire) -> None:
    await in_nursery(connect_websocket, bad, 80, "/", use_ssl=False, connect=wire.connect)


async def connect_resource(bad: str, wire: Wire) -> None:
    await in_nursery(connect_websocket, "localhost", 80, bad, use_ssl=False, connect=wire.connect)


async def connect_url(bad: str, wire: Wire) -> None:
    await in_nursery(connect_websocket_url, f"ws://localhost/{bad}", connect=wire.connect)


async def reconnect_url(bad: str, wire: Wire) -> None:
    async with reconnecting(
        f"ws://localhost/{bad}", connect=wire.connect, is_transient=lambda _: False
    ) as connections:
        async for _ in connections:
            pass


async def wrap_host(bad: str, wire: Wire) -> None:
    await in_nursery(wrap_client_stream, wire, bad, "/")


async def wrap_resource(bad: str, wire: Wire) -> None:
    await in_nursery(wrap_client_stream, wire, "localhost", bad)


async def prepare(bad: str, wire: Wire) -> None:
    async def header(_: Request) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        return {"X": bad}

    async with open_websocket_url("ws://localhost/", connect=wire.connect, prepare_request=header):
        pass


async def name_server(bad: str, wire: Wire) -> None:
    async with open_websocket_url("wss://localhost/", connect=wire.connect, server_hostname=bad):
        pass


def extra(name: str, value: str) -> HandshakeOptions:
    return {"extra_headers": [(name, value)]}


def raw(value: str) -> HandshakeOptions:
    """Give a header as bytes, in which nothing is wide; as `Headers`, which is not looked at when it is made."""
    octets = value.encode("utf-8", "surrogatepass")
    if value in WIDE.values():
        raise UnicodeEncodeError("latin-1", value, 0, 1, "bytes are not wide")
    return {"extra_headers": Headers([(b"x", octets)])}


def escaped(text: str) -> str:
    return "".join(f"%{octet:02x}" for octet in text.encode("utf-8", "surrogatepass"))


#: Parameter, and perhaps where in it -> the attempt to have the text sent.
REQUESTS: dict[str, Attempt] = {
    "open_websocket.host": open_host,
    "open_websocket.resource": open_resource,
    "open_websocket_url.url": by_url("ws://localhost/{}".format),
    "open_websocket_url.url query": by_url("ws://localhost/?a={}".format),
    "open_websocket_url.url host": by_url("ws://{}/".format),
    "open_websocket_url.url user": by_url("ws://{}@localhost/".format),
    "open_websocket_url.url password": by_url("ws://user:{}@localhost/".format),
    "open_websocket_url.url escaped user": by_url(lambda bad: f"ws://{escaped(bad)}@localhost/"),
    "open_websocket_url.url escaped password": by_url(lambda bad: f"ws://user:{escaped(bad)}@localhost/"),
    "connect_websocket.host": connect_host,
    "connect_websocket.resource": connect_resource,
    "connect_websocket_url.url": connect_url,
    "reconnecting.url": reconnect_url,
    "wrap_client_stream.host": wrap_host,
    "wrap_client_stream.resource": wrap_resource,
    "options.subprotocols": by_option(lambda bad: {"subprotocols": [bad]}),
    "options.extra_headers value": by_option(lambda bad: extra("X", bad)),
    "options.extra_headers name": by_option(lambda bad: extra(bad, "x")),
    "options.extra_headers bytes": by_option(raw),
    "options.extra_headers Host": by_option(lambda bad: extra("Host", bad)),
    "options.auth user": by_option(lambda bad: {"auth": (bad, "x")}),
    "options.auth password": by_option(lambda bad: {"auth": ("x", bad)}),
    "options.cookies name": by_option(lambda bad: {"cookies": {bad: "x"}}),
    "options.cookies value": by_option(lambda bad: {"cookies": {"x": bad}}),
    "options.origin": by_option(lambda bad: {"origin": bad}),
    "options.prepare_request": prepare,
    "options.server_hostname": name_server,
}
#: Where text that is not ASCII has an encoding of its own: percent, IDNA, or Base64 of UTF-8.
ENCODED = {name for name in REQUESTS if re.search(r"\.(host|resource|url|auth|server_hostname)\b", name)}


@every_bad
@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_with_bad_text_is_refused_before_a_byte_is_written(name: str, bad: str) -> None:
    wire = Wire()
    with pytest.raises((ValueError, HandshakeError)) as raised:
        await REQUESTS[name](bad, wire)
    if isinstance(raised.value, HandshakeError):  # it was sent, to a server that says nothing
        assert name in ENCODED
        assert bad not in CONTROLS.values()
        assert (
            b"xn--" in wire.written if wire.written.startswith(TLS_HELLO) else is_clean(bytes(wire.written))
        )
    else:
        assert wire.written == b""


# What a proxy is told


@every_bad
@pytest.mark.parametrize("scheme", ["http", "https", "socks4", "socks4a", "socks5", "socks5h"])
@pytest.mark.parametrize("place", ["host", "user", "password", "target"])
async def test_a_proxy_is_told_nothing_that_ends_a_line_or_a_string(
    scheme: str, place: str, bad: str
) -> None:
    told = bytearray()

    async def listen(peer: RawPeer) -> None:
        told.extend(await peer.receive_rest())

    async with scripted_proxy(listen) as port:
        url = {
            "host": f"{scheme}://{bad}:{port}",
            "user": f"{scheme}://{bad}:x@127.0.0.1:{port}",
            "password": f"{scheme}://x:{bad}@127.0.0.1:{port}",
            "target": f"{scheme}://127.0.0.1:{port}",
        }[place]
        host = bad if place == "target" else "server.example"
        with pytest.raises((ValueError, ProxyError, HandshakeError, ImportError)) as raised:
            async with open_websocket(host, 80, "/", use_ssl=False, proxy=url, connect_timeout=1):
                pass
    if bad in CONTROLS.values():
        assert isinstance(raised.value, ValueError)
    if isinstance(raised.value, ValueError):
        assert told == b""
    elif scheme == "http":
        assert is_clean(bytes(told))


@every_bad
@pytest.mark.parametrize("dial", [dial_http_proxy, dial_socks_proxy])
async def test_dialling_through_a_proxy_refuses_bad_hosts_by_itself(
    dial: Callable[..., Awaitable[trio.abc.Stream]], bad: str
) -> None:
    wire = Wire()
    scheme = "http" if dial is dial_http_proxy else "socks5h"
    with pytest.raises(ValueError, match="no proxy can be asked for"):
        await dial(Proxy(scheme, "proxy.example", 1), bad, 80, dial=wire.connect)
    assert wire.written == b""


# What a server sends


async def accept(request: WebSocketRequest) -> None:
    await request.accept()


#: Options and handler of a server that would answer with the text.
Answerer = Callable[[str], tuple[AcceptOptions, Callable[[WebSocketRequest], Awaitable[object]]]]


def by_accept(**arguments: Callable[[str], object]) -> Answerer:
    def answerer(bad: str) -> tuple[AcceptOptions, Callable[[WebSocketRequest], Awaitable[object]]]:
        async def handler(request: WebSocketRequest) -> None:
            accepting = typing.cast("Callable[..., Awaitable[object]]", request.accept)
            await accepting(**{name: make(bad) for name, make in arguments.items()})

        return {}, handler

    return answerer


def by_reject(make: Callable[[str], Headers | dict[str, str]]) -> Answerer:
    def answerer(bad: str) -> tuple[AcceptOptions, Callable[[WebSocketRequest], Awaitable[object]]]:
        async def handler(request: WebSocketRequest) -> None:
            await request.reject(404, extra_headers=make(bad))

        return {}, handler

    return answerer


def by_server_option(make: Callable[[str], AcceptOptions]) -> Answerer:
    return lambda bad: (make(bad), accept)


def unchecked(bad: str) -> Headers:
    """Return what is not looked at when it is made, of bytes where there are some."""
    return Headers([(b"x", bad.encode("latin-1"))])


def answering(hook: str, make: Callable[[str], Response]) -> Answerer:
    """Return a server one of whose hooks answers so."""

    def answerer(bad: str) -> tuple[AcceptOptions, Callable[[WebSocketRequest], Awaitable[object]]]:
        async def answer(*_: object) -> Response:
            await trio.lowlevel.checkpoint()
            return make(bad)

        options = typing.cast("AcceptOptions", {hook: answer})
        if hook == "on_handshake_error":
            options["path"] = "/elsewhere"
        return options, accept

    return answerer


def changing_the_101(bad: str) -> tuple[AcceptOptions, Callable[[WebSocketRequest], Awaitable[object]]]:
    async def change(_: Request, response: Response) -> Response:
        await trio.lowlevel.checkpoint()
        return Response(101, Headers([*response.headers, *unchecked(bad)]))

    return {"process_response": change}, accept


def setting_a_cookie(make: Callable[[str], tuple[bytes, bytes]]) -> Answerer:
    return by_accept(extra_headers=lambda bad: [make(bad)])


def routing(bad: str) -> tuple[AcceptOptions, Callable[[WebSocketRequest], Awaitable[object]]]:
    """Have a router name its methods in the `Allow` of a 405."""
    router = Router()

    @router.http("/", methods=[bad])
    async def never(_: Request) -> Response:
        raise AssertionError

    return {"process_request": router.process_request}, router.handle


ANSWERS: dict[str, Answerer] = {
    "WebSocketRequest.accept.subprotocol": by_accept(subprotocol=str),
    "WebSocketRequest.accept.extra_headers": by_accept(extra_headers=lambda bad: {"X": bad}),
    "WebSocketRequest.accept.extra_headers name": by_accept(extra_headers=lambda bad: {bad: "x"}),
    "WebSocketRequest.accept.extra_headers Headers": by_accept(extra_headers=unchecked),
    "WebSocketRequest.reject.extra_headers": by_reject(lambda bad: {"X": bad}),
    "WebSocketRequest.reject.extra_headers name": by_reject(lambda bad: {bad: "x"}),
    "WebSocketRequest.reject.extra_headers Headers": by_reject(unchecked),
    "options.extra_headers": by_server_option(lambda bad: {"extra_headers": {"X": bad}}),
    "options.extra_headers Headers": by_server_option(lambda bad: {"extra_headers": unchecked(bad)}),
    "options.subprotocols": by_server_option(lambda bad: {"subprotocols": [bad]}),
    "options.select_subprotocol": by_server_option(lambda bad: {"select_subprotocol": lambda _, __: bad}),
    "options.process_request": answering("process_request", lambda bad: Response(200, unchecked(bad))),
    "options.process_response": changing_the_101,
    "options.on_handshake_error": answering("on_handshake_error", lambda bad: Response(404, unchecked(bad))),
    "Response.__init__.headers": answering("process_request", lambda bad: Response(200, {"X": bad})),
    "Response.__init__.reason": answering("process_request", lambda bad: Response(200, reason=bad)),
    "Headers.of.headers": answering("process_request", lambda bad: Response(200, Headers.of({bad: "x"}))),
    "basic_auth.realm": by_server_option(lambda bad: {"process_request": basic_auth(bad, {})}),
    "set_cookie.name": setting_a_cookie(lambda bad: set_cookie(bad, "x")),
    "set_cookie.value": setting_a_cookie(lambda bad: set_cookie("x", bad)),
    "set_cookie.path": setting_a_cookie(lambda bad: set_cookie("x", "x", path="/" + bad)),
    "set_cookie.domain": setting_a_cookie(lambda bad: set_cookie("x", "x", domain=bad)),
    "Router.http.methods": routing,
}


@every_bad
@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_with_bad_text_is_never_sent(
    name: str, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    listener = MemoryListener()
    try:
        options, handler = ANSWERS[name](bad)
        server = WebSocketServer(handler, [listener], **options)
    except ValueError:
        return  # before there is a server
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        peer = RawPeer(listener.connect(), Role.CLIENT)
        await peer.send(handshake_request(Sec_WebSocket_Protocol="chat"))
        answer = await peer.receive_rest()
        await settle()
        nursery.cancel_scope.cancel()
    # whoever caused it was told, and the client is told that much
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert is_clean(answer.partition(b"\r\n\r\n")[0])
    errors = [record.exc_info for record in caplog.records if record.levelno >= logging.ERROR]
    assert [isinstance(each[1], ValueError) for each in errors if each] == [True]


# What takes text and puts it on no head

FRAMED = "goes into a frame, behind its length"
COMPARED = "is compared with what a client sends, and sent nowhere"
LOCAL = "stays here"
OUTCOME = "is what is said of something that has happened"
CALLBACK = "is called with text, and returns none"

ELSEWHERE: dict[str, str] = {
    "WebSocketConnection.__init__.leftover": LOCAL,
    "WebSocketConnection.__init__.path": LOCAL,
    "WebSocketConnection.__init__.url": LOCAL,
    "WebSocketConnection.__init__.addresses": LOCAL,
    "WebSocketConnection.__init__.response": LOCAL,
    "WebSocketConnection.aclose.reason": FRAMED,
    "WebSocketConnection.end_sending.reason": FRAMED,
    "WebSocketConnection.ping.payload": FRAMED,
    "WebSocketConnection.pong.payload": FRAMED,
    "WebSocketConnection.send.value": FRAMED,
    "WebSocketConnection.send_message.message": FRAMED,
    "WebSocketConnection.send_stream.pieces": FRAMED,
    "WebSocketServer.aclose.reason": FRAMED,
    "WebSocketStream.send_all.data": FRAMED,
    "PreparedMessage.__init__.message": FRAMED,
    "broadcast.message": FRAMED,
    "Response.__init__.body": "is a body, behind its length",
    "WebSocketRequest.reject.body": "is a body, behind its length",
    "Router.http.pattern": COMPARED,
    "Router.include.prefix": COMPARED,
    "Router.websocket.pattern": COMPARED,
    "basic_auth.credentials": COMPARED,
    "options.origins": COMPARED,
    "options.path": COMPARED,
    "options.redirect_headers": COMPARED,
    "options.trusted_proxies": COMPARED,
    "Headers.get.default": LOCAL,
    "Headers.get.name": LOCAL,
    "Headers.get_all.name": LOCAL,
    "Request.__init__.context": LOCAL,
    "Request.__init__.headers": LOCAL,
    "Request.__init__.http_version": LOCAL,
    "Request.__init__.method": LOCAL,
    "Request.__init__.target": LOCAL,
    "Connections.__init__.name": LOCAL,
    "options.local_address": LOCAL,
    "options.generate_mask": "is four bytes of a frame",
    "options.websocket_class": LOCAL,
    "serve_unix_websocket.path": LOCAL,
    "serve_websocket.host": LOCAL,
    "upgrade.leftover": LOCAL,
    "WebSocketServer.upgrade.leftover": LOCAL,
    "Observer.connection_closed.connection": OUTCOME,
    "Observer.connection_opened.connection": OUTCOME,
    "Observer.handshake_refused.reason": OUTCOME,
    "ServerStatistics.__init__.rate_closes": OUTCOME,
    "ServerStatistics.__init__.refusals": OUTCOME,
    "CloseReason.__init__.reason": OUTCOME,
    "ConnectionRejected.__init__.body": OUTCOME,
    "HandshakeFailed.__init__.detail": OUTCOME,
    "HandshakeFailed.__init__.response": OUTCOME,
    "ProxyError.__init__.body": OUTCOME,
    "ProxyError.__init__.message": OUTCOME,
    "RedirectError.__init__.detail": OUTCOME,
    "RedirectError.__init__.response": OUTCOME,
    "RemoteProtocolError.__init__.code": OUTCOME,
    "RemoteProtocolError.__init__.detail": OUTCOME,
    "Connections.__init__.on_connect": CALLBACK,
    "options.connect": CALLBACK,
    "options.on_ping": CALLBACK,
    "options.on_pong": CALLBACK,
    "options.on_redirect": CALLBACK,
    "reconnecting.on_connect": CALLBACK,
    "run_workers.main": CALLBACK,
}
PROXIES = {"options.proxy"}  # for which there are tests of their own above

_TAKES_TEXT = re.compile(r"\b(?:str|bytes|HeadersLike|Buffer|object|Response|Any)\b")


def functions(name: str) -> Iterator[tuple[str, object]]:
    """Yield what can be called of a public name."""
    thing = getattr(trio_ws, name)
    if inspect.isclass(thing):
        for key, value in vars(thing).items():
            if key == "__init__" or not key.startswith("_"):
                yield f"{name}.{key}", inspect.unwrap(getattr(value, "__func__", value))
    else:
        yield name, thing


def parameters() -> Iterator[tuple[str, str]]:
    """Yield each parameter of the public API and its annotation; options once, whatever takes them."""
    for name in trio_ws.__all__:
        thing = getattr(trio_ws, name)
        if typing.is_typeddict(thing):
            for option, annotation in thing.__annotations__.items():
                yield f"options.{option}", getattr(annotation, "__forward_arg__", str(annotation))
        for path, function in functions(name):
            if inspect.isfunction(function):
                for parameter in inspect.signature(function).parameters.values():
                    if parameter.kind is not parameter.VAR_KEYWORD:
                        yield f"{path}.{parameter.name}", str(parameter.annotation)


def test_every_parameter_that_takes_text_is_in_a_table() -> None:
    found = {name for name, annotation in parameters() if _TAKES_TEXT.search(annotation)}
    tested = {name.partition(" ")[0] for name in [*REQUESTS, *ANSWERS, *PROXIES]}
    assert tested | ELSEWHERE.keys() == found
    assert tested & ELSEWHERE.keys() == set()
