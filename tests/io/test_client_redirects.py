"""Redirects: which are followed, what goes along, and what a server cannot make the client do."""

import copy
import itertools
import pickle
import ssl
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Unpack

import pytest
import trio
import trio.testing
import trustme

from tests.io.api_kit import scripted_port, serving
from tests.io.transport_kit import tls_contexts
from trio_ws import (
    ClientOptions,
    ConnectionRejected,
    ConnectionTimeout,
    HandshakeError,
    Headers,
    InvalidURL,
    RedirectError,
    Request,
    Response,
    TooManyRedirects,
    WebSocketRequest,
    WebSocketServer,
    open_websocket,
    open_websocket_url,
    serve_websocket,
)
from trio_ws.testing import RawPeer
from trio_ws.transport import open_unix_listener

unix = pytest.mark.skipif(sys.platform == "win32", reason="Python has no Unix sockets there")


class Site:
    """A server that sends some requests elsewhere, and writes all down."""

    def __init__(self, *locations: str, status: int = 302, tls: ssl.SSLContext | None = None) -> None:
        self.locations = {f"/{number}": location for number, location in enumerate(locations)}
        self.status = status
        self.tls = tls
        self.seen: list[Request] = []
        self.port = 0

    async def handle(self, request: WebSocketRequest) -> None:
        self.seen.append(request.request)
        location = self.locations.get(request.request.target)
        if location is None:
            ws = await request.accept(subprotocol=next(iter(request.proposed_subprotocols), None))
            await ws.send_message(request.request.target)
        else:
            headers = [("Location", location), ("X-Why", "moved")]
            await request.reject(self.status, extra_headers=headers, body=b"over there")

    @property
    def url(self) -> str:
        return f"wss://localhost:{self.port}" if self.tls else f"ws://127.0.0.1:{self.port}"

    def said(self, name: str) -> list[str | None]:
        """Return what each request said in this header."""
        return [request.headers.get(name) for request in self.seen]


@asynccontextmanager
async def running(*sites: Site) -> AsyncGenerator[None]:
    """Have sites served, each at a port of its own. In a location, `{0}` is the port of the first of them, and so on."""
    async with trio.open_nursery() as nursery:
        for site in sites:
            server = await nursery.start(serve_site, site)
            site.port = server.port
        for site in sites:
            for target, location in site.locations.items():
                site.locations[target] = location.format(*(each.port for each in sites))
        yield
        nursery.cancel_scope.cancel()


async def serve_site(site: Site, *, task_status: trio.TaskStatus[WebSocketServer]) -> None:
    await serve_websocket(site.handle, "127.0.0.1", 0, site.tls, origins=None, task_status=task_status)


async def arrive(url: str, **options: Unpack[ClientOptions]) -> str:
    """Return the URL where a client ends up, and at which the server must have answered."""
    async with open_websocket_url(url, **options) as ws:
        target = await ws.get_message()
        assert target == ws.path
        assert isinstance(target, str)
        assert ws.url.endswith(target)
        return ws.url


async def refusal(url: str, **options: Unpack[ClientOptions]) -> ConnectionRejected:
    with pytest.raises(ConnectionRejected) as raised:
        await arrive(url, **options)
    return raised.value


# What is followed


async def test_no_redirect_is_followed_by_default() -> None:
    site = Site("/there")
    async with running(site):
        error = await refusal(f"{site.url}/0")
        assert type(error) is ConnectionRejected
        assert (error.status_code, error.headers.get("location"), error.body) == (
            302,
            "/there",
            b"over there",
        )
    assert len(site.seen) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(status: int) -> None:
    first, second = Site("ws://127.0.0.1:{1}/0?a=b", status=status), Site()
    async with running(first, second):
        assert await arrive(f"{first.url}/0", max_redirects=1) == f"{second.url}/0?a=b"
        async with open_websocket("127.0.0.1", first.port, "/0", use_ssl=False, max_redirects=1) as ws:
            assert ws.url == f"{second.url}/0?a=b"
    assert second.said("host") == [f"127.0.0.1:{second.port}"] * 2


@pytest.mark.parametrize("status", [200, 201, 300, 304, 305, 306, 309, 404])
async def test_other_answers_are_refusals_whatever_their_location(status: int) -> None:
    site = Site("/there", status=status)
    async with running(site):
        error = await refusal(f"{site.url}/0", max_redirects=5)
        assert type(error) is ConnectionRejected
        assert error.status_code == status


async def test_without_a_location_it_is_a_refusal() -> None:
    async def handler(request: WebSocketRequest) -> None:
        await request.reject(302)

    async with serving(handler) as server:
        error = await refusal(f"ws://127.0.0.1:{server.port}/", max_redirects=5)
        assert type(error) is ConnectionRejected


@pytest.mark.parametrize(
    ("location", "end"),
    [
        ("/x?y", "/x?y"),
        ("x", "/x"),
        ("./x/../y", "/y"),
        ("//127.0.0.1:{0}/x", "/x"),
        ("http://127.0.0.1:{0}/x", "/x"),
        ("HTTP://127.0.0.1:{0}", "/"),
        ("?y", "/0?y"),
    ],
)
async def test_relative_locations_and_those_of_http(location: str, end: str) -> None:
    site = Site(location)
    async with running(site):
        assert await arrive(f"{site.url}/0", max_redirects=1) == f"{site.url}{end}"


async def test_a_location_that_is_not_percent_encoded() -> None:
    async def script(peer: RawPeer) -> None:
        if b" / " in await peer.receive_head():
            await peer.send(redirect("/\u00e4?\u00f6".encode()))
        else:
            await peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    urls: list[str] = []
    async with scripted_port(script) as port:
        await refusal(f"ws://127.0.0.1:{port}/", max_redirects=1, on_redirect=lambda url, _: urls.append(url))
    assert urls == [f"ws://127.0.0.1:{port}/%C3%A4?%C3%B6"]


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_the_limit(limit: int) -> None:
    site = Site(*(f"/{number + 1}" for number in range(limit)))
    async with running(site):
        assert await arrive(f"{site.url}/0", max_redirects=limit) == f"{site.url}/{limit}"
        assert len(site.seen) == limit + 1
        site.locations[f"/{limit}"] = "/once-more"
        error = await refusal(f"{site.url}/0", max_redirects=limit)
        assert isinstance(error, TooManyRedirects)
        assert (error.status_code, error.response.status, error.response.body) == (302, 302, b"over there")
        assert error.headers.get("location") == "/once-more"
        assert f"{limit} were followed" in str(error)
        assert len(site.seen) == 2 * (limit + 1)


@pytest.mark.parametrize("locations", [["/0"], ["/1", "/0"], ["/1", "/2", "http://127.0.0.1:{0}/1"]])
async def test_loops_end_at_once(locations: list[str]) -> None:
    site = Site(*locations)
    async with running(site):
        error = await refusal(f"{site.url}/0", max_redirects=100)
        assert isinstance(error, TooManyRedirects)
        assert "leads back" in str(error)
    assert len(site.seen) == len(locations)


async def test_the_deadline_is_for_the_whole_way(autojump_clock: trio.testing.MockClock) -> None:
    steps = itertools.count(1)

    async def script(peer: RawPeer) -> None:
        await peer.receive_head()
        await trio.sleep(3)
        await peer.send(redirect(b"/%d" % next(steps)))
        await peer.expect_end()

    async with scripted_port(script) as port:
        began = trio.current_time()
        with pytest.raises(ConnectionTimeout):
            await arrive(f"ws://127.0.0.1:{port}/", max_redirects=100, connect_timeout=10)
        assert trio.current_time() - began == pytest.approx(10, abs=0.1)
    assert next(steps) == 4


# What goes along

EVERYTHING: ClientOptions = {
    "extra_headers": [("X-Api-Key", "secret"), ("X-Trace", "1"), ("Proxy-Authorization", "secret")],
    "auth": ("ann", "secret"),
    "cookies": {"session": "secret"},
    "origin": "https://a.example",
    "max_redirects": 5,
}
NAMES = ["x-api-key", "x-trace", "proxy-authorization", "authorization", "cookie"]


def everything(**options: Unpack[ClientOptions]) -> ClientOptions:
    return {**EVERYTHING, "subprotocols": iter(["chat"]), **options}


async def test_all_goes_along_within_an_origin() -> None:
    site = Site("/1", "http://127.0.0.1:{0}/2")
    async with running(site):
        await arrive(f"{site.url}/0", **everything())
    for name in [*NAMES, "origin", "sec-websocket-protocol", "host"]:
        said = site.said(name)
        assert len(said) == 3
        assert len({*said}) == 1
        assert said[0]
    assert len({*site.said("sec-websocket-key")}) == 3


async def test_a_host_that_was_given_goes_along_within_an_origin_alone() -> None:
    first, second = Site("/1", "ws://127.0.0.1:{1}/"), Site()
    async with running(first, second):
        await arrive(f"{first.url}/0", max_redirects=2, extra_headers={"Host": "virtual.example"})
    assert first.said("host") == ["virtual.example"] * 2
    assert second.said("host") == [f"127.0.0.1:{second.port}"]


async def test_nothing_goes_along_to_another_port() -> None:
    first, second = Site("ws://127.0.0.1:{1}/0"), Site("/1")
    async with running(first, second):
        await arrive(f"{first.url}/0", **everything())
    assert all(first.said(name) == [first.seen[0].headers.get(name)] for name in NAMES)
    for name in NAMES:
        assert second.said(name) == [None, None]
    assert second.said("origin") == ["https://a.example"] * 2
    assert second.said("sec-websocket-protocol") == ["chat"] * 2
    assert b"secret" not in b"".join(value for request in second.seen for _, value in request.headers)


async def test_nothing_comes_back_on_the_way_back() -> None:
    """Else a stranger could choose what is asked for in the caller's name."""
    first, second = Site("ws://127.0.0.1:{1}/0"), Site("ws://127.0.0.1:{0}/delete-all")
    async with running(first, second):
        await arrive(f"{first.url}/0", **everything())
    for name in NAMES:
        assert [value is None for value in first.said(name)] == [False, True]


async def test_headers_that_may_go_along() -> None:
    first, second, third = Site("ws://127.0.0.1:{1}/0"), Site("ws://127.0.0.1:{2}/"), Site()
    async with running(first, second, third):
        await arrive(f"{first.url}/0", **everything(redirect_headers=iter(["x-TRACE", "Cookie"])))
    for site in (second, third):
        assert [site.said(name)[0] for name in NAMES] == [None, "1", None, None, "session=secret"]


async def test_the_user_of_the_url_goes_along_within_its_origin_alone() -> None:
    first, second = Site("/1", "ws://127.0.0.1:{1}/"), Site()
    async with running(first, second):
        await arrive(f"ws://ann:secret@127.0.0.1:{first.port}/0", max_redirects=2)
    assert first.said("authorization") == ["Basic YW5uOnNlY3JldA=="] * 2
    assert second.said("authorization") == [None]


@pytest.mark.parametrize(
    ("start", "end", "same"),
    [
        ("ws://a.example", "ws://a.example:80", True),
        ("ws://a.example", "http://A.EXAMPLE", True),
        ("ws://a.example", "ws://sub.a.example", False),
        ("ws://sub.a.example", "ws://a.example", False),
        ("ws://a.example", "ws://a.example.", False),
        ("ws://a.example", "ws://a.example:443", False),
        ("ws://a.example", "ws://a.example.evil.example", False),
        ("ws://a.example", "ws://xa.example", False),
    ],
)
async def test_what_is_the_same_origin(start: str, end: str, same: bool) -> None:
    site = Site(f"{end}/there")
    async with running(site):

        async def connect(_host: str, _port: int) -> trio.abc.Stream:
            return await trio.open_tcp_stream("127.0.0.1", site.port)

        await arrive(f"{start}/0", **everything(connect=connect))
    for name in NAMES:
        assert [value is not None for value in site.said(name)] == [True, same]


async def test_prepare_request_is_asked_at_each_step() -> None:
    first, second = Site("/1", "ws://127.0.0.1:{1}/"), Site()
    asked: list[Request] = []

    async def sign(request: Request) -> dict[str, str]:
        asked.append(request)
        return {"Authorization": f"Signed {len(asked)}"}

    async with running(first, second):
        await arrive(f"{first.url}/0", **everything(prepare_request=sign))
    assert [request.headers.get("host") for request in asked] == [*first.said("host"), *second.said("host")]
    assert [request.target for request in asked] == ["/0", "/1", "/"]
    assert [*first.said("authorization"), *second.said("authorization")] == [
        "Signed 1",
        "Signed 2",
        "Signed 3",
    ]
    assert [request.headers.get("cookie") is not None for request in asked] == [True, True, False]


# What the client does not do


def redirect(location: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n" + more + b"\r\n"


@pytest.mark.parametrize(
    ("location", "cause"),
    [
        (b"ftp://127.0.0.1/", InvalidURL),
        (b"file:///etc/passwd", InvalidURL),
        (b"javascript:alert(1)", InvalidURL),
        (b"data:,x", InvalidURL),
        (b"ws://", InvalidURL),
        (b"//", InvalidURL),
        (b"ws://[::1/", InvalidURL),
        (b"ws://a..b/", InvalidURL),
        (b"ws://127.0.0.1:65536/", InvalidURL),
        (b"/with a space", InvalidURL),
        (b"ws://127.0.0.1\t.evil.example/", InvalidURL),
        (b"/#fragment", InvalidURL),
        (b"/\xff", UnicodeDecodeError),
        (b"ws://user:secret@127.0.0.1/", type(None)),
        (b"http://user@127.0.0.1/", type(None)),
        (b"ws+unix:/run/socket:/", type(None)),
        (b"/a\r\nLocation: /b", type(None)),
    ],
)
async def test_locations_that_lead_nowhere(location: bytes, cause: type) -> None:
    async def script(peer: RawPeer) -> None:
        await peer.receive_head()
        await peer.send(redirect(location, b"X-Why: moved\r\n"))
        await peer.expect_end()

    def never(*_: object) -> None:
        raise AssertionError("it is not followed")

    async with scripted_port(script) as port:
        error = await refusal(f"ws://127.0.0.1:{port}/", max_redirects=5, on_redirect=never)
    assert type(error) is RedirectError
    assert isinstance(error, HandshakeError)
    assert type(error.__cause__) is cause
    assert (error.status_code, error.response.status) == (302, 302)
    assert error.headers.get("x-why") == "moved"
    assert error.detail in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize("location", [b"/a\rX: b", b"/a\x00b", b"/a\r\n b"])
async def test_a_location_that_is_not_http(location: bytes) -> None:
    async def script(peer: RawPeer) -> None:
        await peer.receive_head()
        await peer.send(redirect(location))
        await peer.expect_end()

    async with scripted_port(script) as port:
        with pytest.raises(HandshakeError) as raised:
            await arrive(f"ws://127.0.0.1:{port}/", max_redirects=5)
        assert type(raised.value) is HandshakeError


async def test_the_body_of_a_redirect_is_bounded() -> None:
    async def script(peer: RawPeer) -> None:
        if b" / " in await peer.receive_head():
            await peer.send(b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 10000000000\r\n\r\n")
            await peer.send(bytes(2**17))
            await peer.expect_end()
        else:
            await peer.send(b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n")

    bodies: list[int] = []
    async with scripted_port(script) as port:
        error = await refusal(
            f"ws://127.0.0.1:{port}/",
            max_redirects=1,
            on_redirect=lambda _, response: bodies.append(len(response.body)),
        )
    assert error.status_code == 418
    assert bodies == [2**16]


# TLS, Unix sockets, streams


async def test_no_way_leads_from_tls_to_where_there_is_none() -> None:
    server_context, client_context = tls_contexts()
    secure, plain = Site("ws://127.0.0.1:{1}/", "http://localhost:{1}/", tls=server_context), Site()
    async with running(secure, plain):
        for start in secure.locations:
            with pytest.raises(RedirectError, match="without TLS"):
                async with open_websocket_url(f"{secure.url}{start}", client_context, max_redirects=5):
                    pass
    assert len(secure.seen) == 2
    assert plain.seen == []


async def test_from_one_server_with_tls_to_another() -> None:
    server_context, client_context = tls_contexts()
    first, second = Site("https://localhost:{1}/", tls=server_context), Site(tls=server_context)
    async with running(first, second):
        url = f"{first.url}/0"
        async with open_websocket_url(url, client_context, max_redirects=1, auth=("a", "b")) as ws:
            assert ws.url == f"{second.url}/"
    assert second.said("authorization") == [None]


async def test_a_way_to_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The context is the default one, since none can be given for a URL without TLS."""
    server_context, client_context = tls_contexts()
    authorities = client_context.get_ca_certs(binary_form=True)
    plain, secure = Site("wss://localhost:{1}/"), Site(tls=server_context)
    async with running(plain, secure):
        with pytest.raises(HandshakeError, match="TLS"):
            await arrive(f"{plain.url}/0", max_redirects=1)
        (tmp_path / "ca.pem").write_text("".join(map(ssl.DER_cert_to_PEM_cert, authorities)))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert await arrive(f"{plain.url}/0", max_redirects=1, auth=("ann", "secret")) == f"{secure.url}/"
    assert secure.said("authorization") == [None]


async def test_the_name_of_a_certificate_is_for_the_origin_of_the_url_alone() -> None:
    authority = trustme.CA()
    hidden, known = (context_for(authority, name) for name in ("hidden.example", "localhost"))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)  # pyright: ignore[reportUnknownMemberType]  # PyOpenSSL is not here
    first = Site("/1", "wss://localhost:{1}/", "wss://localhost:{2}/", tls=hidden)
    second, third = Site(tls=known), Site(tls=hidden)
    async with running(first, second, third):
        options: ClientOptions = {"max_redirects": 2, "server_hostname": "hidden.example"}
        async with open_websocket_url(f"{first.url}/0", trust, **options) as ws:
            assert ws.url == f"{second.url}/"
        with pytest.raises(HandshakeError, match=r"(?i)hostname"):
            async with open_websocket_url(f"{first.url}/2", trust, **options):
                pass
    assert third.seen == []


def context_for(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # PyOpenSSL is not here
    return context


@unix
async def test_no_way_leads_to_or_from_a_unix_socket(tmp_path: Path) -> None:
    path, other = tmp_path / "socket", tmp_path / "other"
    outside = Site(f"ws+unix:{other}:/", f"http+unix:{other}:/", f"wss+unix:{other}:/")
    async with running(outside):
        port = outside.port
        local = Site(f"ws://127.0.0.1:{port}/", f"//localhost:{port}/", f"ws+unix:{other}:/", "/4", "x?y")
        server = WebSocketServer(local.handle, [await open_unix_listener(path)], origins=None)
        strangers = WebSocketServer(local.handle, [await open_unix_listener(other)])
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            await nursery.start(strangers.run)
            for number in range(3):
                error = await refusal(f"ws+unix:{path}:/{number}", max_redirects=5)
                assert type(error) is RedirectError
                error = await refusal(f"{outside.url}/{number}", max_redirects=5)
                assert type(error) is RedirectError
            assert (len(local.seen), len(outside.seen)) == (3, 3)
            end = await arrive(f"ws+unix:{path}:/3", **everything())
            assert end == f"ws+unix:{path}:/x?y"
            assert local.said("authorization")[3:] == ["Basic YW5uOnNlY3JldA=="] * 3
            nursery.cancel_scope.cancel()


async def test_a_stream_leads_to_one_place_alone() -> None:
    site = Site("/there")
    async with running(site):
        stream = await trio.open_tcp_stream("127.0.0.1", site.port)
        error = await refusal(f"{site.url}/0", stream=stream, max_redirects=5)
        assert type(error) is RedirectError
        assert stream.socket.fileno() == -1
    assert len(site.seen) == 1


# on_redirect


async def test_on_redirect_is_told_before_each_step() -> None:
    told: list[tuple[str, int, str | None, int]] = []
    first, second = Site("1", "ws://127.0.0.1:{1}/"), Site()

    def tell(url: str, response: Response) -> None:
        told.append((url, response.status, response.headers.get("x-why"), len(second.seen)))

    async with running(first, second):
        await arrive(f"{first.url}/0", max_redirects=2, on_redirect=tell)
    assert told == [(f"{first.url}/1", 302, "moved", 0), (f"{second.url}/", 302, "moved", 0)]


@pytest.mark.parametrize("error", [KeyError("not there"), OSError("no"), KeyboardInterrupt()], ids=repr)
async def test_on_redirect_may_refuse(error: BaseException) -> None:
    first, second = Site("ws://127.0.0.1:{1}/"), Site()

    def refuse(_url: str, _response: Response) -> None:
        raise error

    async with running(first, second):
        with pytest.raises((type(error), HandshakeError)) as raised:
            await arrive(f"{first.url}/0", max_redirects=2, on_redirect=refuse)
        assert error in (raised.value, raised.value.__cause__)
    assert second.seen == []


# The errors


@pytest.mark.parametrize("kind", [RedirectError, TooManyRedirects])
def test_the_errors_are_copied_and_pickled(kind: type[RedirectError]) -> None:
    error = kind(Response(302, Headers([(b"location", b"/")]), b"body"), "why")
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # our own bytes
        assert type(again) is kind
        assert (again.response, again.detail, str(again)) == (error.response, "why", str(error))
        assert (again.status_code, again.headers, again.body) == (302, error.headers, b"body")
    assert kind(Response(302, Headers()), "").body is None
