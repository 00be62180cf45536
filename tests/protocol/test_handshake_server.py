"""The server's side of the opening handshake: each rule with its answer, whole, byte by byte, and with trailing bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.protocol.handshake_kit import (
    ACCEPT,
    FEEDS,
    KEY_TEXT,
    MASKS,
    Factory,
    Outcome,
    a_request,
    byte_by_byte,
    cuts,
    run,
    whole,
)
from trio_ws.protocol._errors import LocalProtocolError, RemoteProtocolError
from trio_ws.protocol._handshake import HandshakeFailed, Request, Response
from trio_ws.protocol._handshake_rules import RULES
from trio_ws.protocol._handshake_server import ServerHandshake
from trio_ws.protocol._headers import Headers, HeadersLike
from trio_ws.protocol._limits import Limits
from trio_ws.protocol._state import Role

Feed = Callable[[bytes], list[bytes]]
TRAILING = [b"", b"\x81\x85\x00\x00\x00\x00hello" * 3, b"GET / HTTP/1.1\r\n\r\n", b"\x00\xff"]


def checked(data: bytes, **options: Collection[str | None] | None) -> ServerHandshake:
    handshake = ServerHandshake(**options)  # type: ignore[arg-type] # only origins= is ever given
    assert handshake.receive_data(data) is not None
    handshake.check()
    return handshake


def refused(data: bytes, handshake: ServerHandshake | None = None) -> Response:
    """Return the answer to a request that can be read but breaks a rule."""
    handshake = handshake or ServerHandshake()
    assert handshake.receive_data(data) is not None
    with pytest.raises(HandshakeFailed) as caught:
        handshake.check()
    assert caught.value.response is not None
    assert_is_final_answer(handshake.respond(caught.value.response), caught.value.response)
    with pytest.raises(LocalProtocolError, match="not passed check"):
        handshake.accept(masks=MASKS)
    return caught.value.response


def assert_is_final_answer(data: bytes, response: Response) -> None:
    """Hold an answer to what every one of them has: a client reads it as meant, and to its end."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    parsed = client.next_event()
    assert isinstance(parsed, h11.Response)
    fields = dict(parsed.headers)
    assert parsed.status_code == response.status
    assert parsed.reason
    assert fields[b"content-length"] == b"%d" % len(response.body)
    assert fields[b"connection"] == (b"close, Upgrade" if b"upgrade" in fields else b"close")
    body = client.next_event()
    assert isinstance(body, h11.Data)
    assert bytes(body.data) == response.body
    assert client.trailing_data == (b"", False)
    assert fields[b"content-type"] == b"text/plain; charset=utf-8"
    assert response.body.decode("ascii").endswith(".\n")


# Requests that are accepted


@pytest.mark.parametrize("trailing", TRAILING)
def test_the_example_of_the_rfc(trailing: bytes) -> None:
    handshake = checked(
        a_request(Origin="http://server.example.com", Sec_WebSocket_Protocol="chat, superchat") + trailing
    )
    assert handshake.request.method == "GET"
    assert handshake.request.path == "/chat"
    assert handshake.request.query == "room=1"
    assert handshake.request.headers.get("host") == "server.example.com"
    assert handshake.version == 13
    assert handshake.proposed_subprotocols == ("chat", "superchat")
    answer, protocol, leftover = handshake.accept(masks=MASKS, subprotocol="chat")
    assert answer == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + ACCEPT.encode() + b"\r\n"
        b"Sec-WebSocket-Protocol: chat\r\n"
        b"\r\n"
    )
    assert protocol.role is Role.SERVER
    assert protocol.subprotocol == "chat"
    assert protocol.extensions == ()
    assert leftover == trailing


def test_byte_by_byte_the_request_is_there_with_its_last_byte() -> None:
    handshake = ServerHandshake()
    *before, last = byte_by_byte(a_request())
    for byte in before:
        assert handshake.receive_data(byte) is None
    assert handshake.receive_data(last) is handshake.request
    handshake.check()
    assert handshake.accept(masks=MASKS)[2] == b""


GOOD = {
    "no query": a_request("GET / HTTP/1.1"),
    "later minor version": a_request("GET / HTTP/1.2"),
    "absolute target": a_request("GET http://server.example.com/chat HTTP/1.1"),
    "absolute target without a path": a_request("GET ws://server.example.com?a=http://b HTTP/1.1"),
    "version 8": a_request(Sec_WebSocket_Version="8"),
    "upgrade in other case": a_request(Upgrade="WebSocket"),
    "upgrade in a list": a_request(Upgrade="h2c , WEBSOCKET"),
    "upgrade in two headers": a_request(Upgrade=["h2c", "websocket"]),
    "connection in a list": a_request(Connection="keep-alive,UPGRADE"),
    "connection in two headers": a_request(Connection=["keep-alive", "Upgrade"]),
    "content-length 0": a_request(Content_Length="0"),
    "content-length 00": a_request(Content_Length="00"),
    "host with port": a_request(Host="server.example.com:8080"),
    "host with empty port": a_request(Host="server.example.com:"),
    "host is IPv6": a_request(Host="[::1]:80"),
    "no origin": a_request(Origin=None),
    "empty elements": a_request(Sec_WebSocket_Protocol="chat,,", Sec_WebSocket_Extensions=",foo,"),
    "unknown extension": a_request(Sec_WebSocket_Extensions="constructor; __class__, foo; a=\"b\""),
    "latin-1": a_request(X_Name="\xff\xe9", Cookie="\x80"),
    "bare LF": a_request().replace(b"\r\n", b"\n"),  # RFC 9112 2.2: "a recipient MAY recognize a single LF"
    "expectation": a_request(Expect="100-continue"),
}  # fmt: skip


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD)
def test_accepted(data: bytes, feed: Feed) -> None:
    handshake = ServerHandshake()
    assert run(handshake, feed(data)).taken == len(feed(data))
    handshake.check()
    answer, protocol, leftover = handshake.accept(masks=MASKS)
    assert f"\r\nSec-WebSocket-Accept: {ACCEPT}\r\n".encode() in answer
    assert b"Sec-WebSocket-Extensions" not in answer
    assert b"Sec-WebSocket-Protocol" not in answer
    assert protocol.subprotocol is None
    assert leftover == b""


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/a%20b?", "/a%20b", ""),
        ("/a?b?c=/d", "/a", "b?c=/d"),
        ("ws://host:80/a?b", "/a", "b"),
        ("http://host?b", "/", "b"),
        ("/a?u=http://host/b", "/a", "u=http://host/b"),
        ("*", "*", ""),
    ],
)
def test_path_and_query(target: str, path: str, query: str) -> None:
    request = Request("GET", target, Headers())
    assert (request.target, request.path, request.query) == (target, path, query)


# Requests that break a rule

UPGRADE = {"upgrade": "websocket"}
SUPPORTED = UPGRADE | {"sec-websocket-version": "13, 8"}
KEY = "Sec-WebSocket-Key"

BAD: dict[str, tuple[bytes, int, str, dict[str, str]]] = {
    "POST": (a_request("POST / HTTP/1.1"), 405, "GET", {"allow": "GET"}),
    "OPTIONS": (a_request("OPTIONS * HTTP/1.1"), 405, "GET", {"allow": "GET"}),
    "CONNECT": (a_request("CONNECT a:80 HTTP/1.1"), 405, "GET", {"allow": "GET"}),
    "get": (a_request("get / HTTP/1.1"), 405, "GET", {"allow": "GET"}),
    "HTTP/1.0": (a_request("GET / HTTP/1.0"), 426, "HTTP/1.1", UPGRADE),
    "HTTP/0.9": (a_request("GET / HTTP/0.9"), 426, "HTTP/1.1", UPGRADE),
    "HTTP/2.0": (a_request("GET / HTTP/2.0"), 505, "HTTP/1.1", {}),
    "fragment": (a_request("GET /a#b HTTP/1.1"), 400, "target", {}),
    "fragment of a URL": (a_request("GET http://a/b?c#d HTTP/1.1"), 400, "target", {}),
    "asterisk": (a_request("GET * HTTP/1.1"), 400, "target", {}),
    "authority": (a_request("GET a:80 HTTP/1.1"), 400, "target", {}),
    "relative": (a_request("GET a/b HTTP/1.1"), 400, "target", {}),
    "URL without a host": (a_request("GET http:///a HTTP/1.1"), 400, "target", {}),
    "no Host": (a_request("GET / HTTP/1.2", Host=None), 400, "Host", {}),
    "two hosts in one Host": (a_request(Host="a, b"), 400, "Host", {}),
    "empty Host": (a_request(Host=""), 400, "Host", {}),
    "path in Host": (a_request(Host="a/b"), 400, "Host", {}),
    "user in Host": (a_request(Host="a@b"), 400, "Host", {}),
    "text in port": (a_request(Host="a:http"), 400, "Host", {}),
    "latin-1 in Host": (a_request(Host="\xff"), 400, "Host", {}),
    "bad IDNA": (a_request(Host="xn--\xe9."), 400, "Host", {}),
    "body": (a_request(Content_Length="5") + b"hello", 400, "body", {}),
    "chunked body": (a_request(Transfer_Encoding="chunked") + b"0\r\n\r\n", 400, "body", {}),
    "both lengths": (a_request(Transfer_Encoding="chunked", Content_Length="0"), 400, "body", {}),
    "no Upgrade": (a_request(Upgrade=None), 426, "WebSocket", UPGRADE),
    "plain GET": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 426, "WebSocket", UPGRADE),
    "other Upgrade": (a_request(Upgrade="h2c"), 426, "WebSocket", UPGRADE),
    "longer Upgrade": (a_request(Upgrade="websocket2"), 426, "WebSocket", UPGRADE),
    "two words in Upgrade": (a_request(Upgrade="websocket foo"), 426, "WebSocket", UPGRADE),
    "no Connection": (a_request(Connection=None), 426, "Connection", UPGRADE),
    "other Connection": (a_request(Connection="keep-alive, upgraded"), 426, "Connection", UPGRADE),
    "no key": (a_request(Sec_WebSocket_Key=None), 400, KEY, {}),
    "empty key": (a_request(Sec_WebSocket_Key=""), 400, KEY, {}),
    "two keys": (a_request(Sec_WebSocket_Key=[KEY_TEXT, KEY_TEXT]), 400, KEY, {}),
    "two keys in one header": (a_request(Sec_WebSocket_Key=f"{KEY_TEXT}, {KEY_TEXT}"), 400, KEY, {}),
    "15 bytes of key": (a_request(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25j"), 400, KEY, {}),
    "17 bytes of key": (a_request(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZTE="), 400, KEY, {}),
    "key in URL alphabet": (a_request(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25j_-=="), 400, KEY, {}),
    "key without padding": (a_request(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ"), 400, KEY, {}),
    "latin-1 in key": (a_request(Sec_WebSocket_Key="\xe9GhlIHNhbXBsZSBub25jZQ=="), 400, KEY, {}),
    "no version": (a_request(Sec_WebSocket_Version=None), 426, "Version", SUPPORTED),
    "version 7": (a_request(Sec_WebSocket_Version="7"), 426, "Version", SUPPORTED),
    "version 14": (a_request(Sec_WebSocket_Version="14"), 426, "Version", SUPPORTED),
    "version 013": (a_request(Sec_WebSocket_Version="013"), 426, "Version", SUPPORTED),
    "version 13, 8": (a_request(Sec_WebSocket_Version="13, 8"), 426, "Version", SUPPORTED),
    "two versions": (a_request(Sec_WebSocket_Version=["13", "13"]), 426, "Version", SUPPORTED),
    "version in words": (a_request(Sec_WebSocket_Version="\xb9\xb3"), 426, "Version", SUPPORTED),
    "empty subprotocol": (a_request(Sec_WebSocket_Protocol=""), 400, "Sec-WebSocket-Protocol", {}),
    "subprotocol twice": (a_request(Sec_WebSocket_Protocol=["a", "b, a"]), 400, "Sec-WebSocket-Protocol", {}),
    "no token": (a_request(Sec_WebSocket_Protocol="a b"), 400, "Sec-WebSocket-Protocol", {}),
    "latin-1 subprotocol": (a_request(Sec_WebSocket_Protocol="\xff"), 400, "Sec-WebSocket-Protocol", {}),
    "empty extension": (a_request(Sec_WebSocket_Extensions=""), 400, "Sec-WebSocket-Extensions", {}),
    "malformed extension": (a_request(Sec_WebSocket_Extensions="a;b=;c"), 400, "Sec-WebSocket-Extensions", {}),
    "other origin": (a_request(Origin="http://evil.example"), 403, "origin", {}),
}  # fmt: skip


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("trailing", TRAILING[:2], ids=["alone", "trailing"])
@pytest.mark.parametrize(("data", "status", "words", "fields"), BAD.values(), ids=BAD)
def test_refused(
    data: bytes, status: int, words: str, fields: dict[str, str], trailing: bytes, feed: Feed
) -> None:
    handshake = ServerHandshake()
    assert isinstance(run(handshake, feed(data + trailing)).value, Request)
    with pytest.raises(HandshakeFailed) as caught:
        handshake.check()
    response = caught.value.response
    assert response is not None
    assert response.status == status
    assert words in response.body.decode()
    assert {name: response.headers.get(name) for name in fields} == fields
    assert {name for name, _ in response.headers} == {b"content-type", *(name.encode() for name in fields)}
    assert_is_final_answer(handshake.respond(response), response)
    with pytest.raises(LocalProtocolError, match="not passed check"):
        handshake.accept(masks=MASKS)


def test_every_rule_has_a_case() -> None:
    sentences = {refused(data).body.decode().strip() for data, *_ in BAD.values()}
    assert {rule.sentence for rule in RULES} <= sentences


def test_the_failure_is_an_error_of_the_peer_with_a_code() -> None:
    handshake = ServerHandshake()
    handshake.receive_data(a_request(Sec_WebSocket_Protocol="a, a"))
    with pytest.raises(RemoteProtocolError, match="the subprotocol 'a' is offered twice") as caught:
        handshake.check()
    assert caught.value.code == "WS_ERR_INVALID_HANDSHAKE"
    assert caught.value.close_code == 1002
    assert isinstance(caught.value, HandshakeFailed)
    again = HandshakeFailed(*caught.value.args)  # as copy and pickle make it
    assert (str(again), again.response) == (str(caught.value), caught.value.response)


# Requests that cannot be read

BROKEN: dict[str, tuple[bytes, int]] = {
    "blank line first": (b"\r\n" + a_request(), 400),
    "LF first": (b"\n", 400),
    "space first": (b" GET / HTTP/1.1\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "NUL first": (b"\x00", 400),
    "no version": (b"GET /\r\n\r\n", 400),
    "no target": (b"GET HTTP/1.1\r\n\r\n", 400),
    "two spaces": (a_request("GET  / HTTP/1.1"), 400),
    "latin-1 target": (a_request("GET /\xff HTTP/1.1"), 400),
    "NUL in target": (a_request("GET /\x00 HTTP/1.1"), 400),
    "bare CR in target": (a_request("GET /\r HTTP/1.1"), 400),
    "no Host": (a_request(Host=None), 400),
    "two Hosts": (a_request(Host=["a", "a"]), 400),
    "no colon": (a_request().replace(b"Upgrade:", b"Upgrade"), 400),
    "space before colon": (a_request().replace(b"Upgrade:", b"Upgrade :"), 400),
    "empty name": (a_request().replace(b"Upgrade:", b":"), 400),
    "latin-1 name": (a_request().replace(b"Upgrade:", b"\xff:"), 400),
    "folded header": (a_request(Upgrade="foo\r\n websocket"), 400),
    "header folded by a tab": (a_request(Upgrade="foo,\r\n\twebsocket"), 400),
    "folded first header": (a_request().replace(b"Host", b" Host"), 400),
    "NUL in value": (a_request(X_A="a\x00b"), 400),
    "bare CR in value": (a_request(X_A="a\rb"), 400),
    "two CRs at the end of a line": (a_request(X_A="a\r"), 400),
    "CR alone on a line": (a_request(X_A="a\r\n\r\r\nX-B: b"), 400),
    "vertical tab": (a_request(X_A="a\x0bb"), 400),
    "different lengths": (a_request(Content_Length=["0", "5"]), 400),
    "signed length": (a_request(Content_Length="+5"), 400),
    "unknown coding": (a_request(Transfer_Encoding="gzip"), 400),
    "two codings": (a_request(Transfer_Encoding=["chunked", "chunked"]), 400),
    "long request line": (a_request("GET /" + "a" * 8192 + " HTTP/1.1"), 414),
    "long header line": (a_request(X_A="a" * 8192), 431),
    "long header line, folded": (a_request(X_A="a\r\n " + "a" * 8192), 431),
    "2 MiB header line": (a_request(X_A="a" * 2**21), 431),
    "32 KiB": (a_request(X_A=["a" * 8000] * 5), 431),
    "101 headers": (a_request(X_A=["a"] * 96), 431),
    "20000 headers": (a_request(X_A=["a"] * 20000), 431),
}  # fmt: skip


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("trailing", TRAILING[:2], ids=["alone", "trailing"])
@pytest.mark.parametrize(("data", "status"), BROKEN.values(), ids=BROKEN)
def test_unreadable(data: bytes, status: int, trailing: bytes, feed: Feed) -> None:
    handshake = ServerHandshake()
    failure = run(handshake, feed(data + trailing)).failure
    assert failure is not None
    assert failure.response is not None
    assert failure.response.status == status
    assert_is_final_answer(handshake.respond(failure.response), failure.response)
    with pytest.raises(LocalProtocolError, match="not complete"):
        _ = handshake.request


def test_an_answer_repeats_nothing_of_what_cannot_be_read() -> None:
    failure = run(ServerHandshake(), [b"GET /<script> nonsense\r\n\r\n"]).failure
    assert failure is not None
    assert failure.response is not None
    assert b"script" not in failure.response.body
    assert "script" in str(failure)  # the log may know


def taken_by(data: bytes, limits: Limits | None = None) -> Outcome:
    return run(ServerHandshake(limits=limits or Limits()), byte_by_byte(data))


def test_limits_are_exact_and_noticed_with_the_first_byte_too_many() -> None:
    line = b"GET /%s HTTP/1.1\r\n" % (b"a" * (8192 - 16))
    assert len(line) == 8192
    rest = a_request().partition(b"\r\n")[2]
    assert taken_by(line + rest).value is not None
    outcome = taken_by(b"GET /" + b"a" * 10000)
    assert outcome.failure is not None
    assert outcome.taken == 8193

    header = b"X-A: %s\r\n" % (b"a" * (8192 - 7))
    start, end = a_request()[:-2], b"\r\n"
    assert taken_by(start + header + end).value is not None
    outcome = taken_by(start + header[:-2] + b"aaaa")
    assert outcome.failure is not None
    assert outcome.taken == len(start) + 8193

    padding = b"X-A: %s\r\n" % (b"a" * (32768 - len(start) - 3 * 8192 - 2 - 7))
    full = start + header * 3 + padding + end
    assert len(full) == 32768
    assert taken_by(full).value is not None
    outcome = taken_by(full[:-2] + b"X-B: b\r\n")
    assert outcome.failure is not None
    assert outcome.taken == 32769

    hundred = a_request(X_A=["a"] * 95)
    assert taken_by(hundred).value is not None
    outcome = taken_by(hundred[:-2] + b"X-B: b\r\nX-C")
    assert outcome.failure is not None
    assert outcome.taken == len(hundred) - 2 + len(b"X-B: b\r\n")


def test_which_limit_was_passed_first_does_not_depend_on_the_pieces() -> None:
    limits = Limits(max_head=100, max_header_line=60)
    for size in (59, 60, 61, 99, 100, 101, 200):
        for start in (
            b"GET /" + b"a" * size,
            b"GET / HTTP/1.1\r\nX-A: " + b"a" * size,
            b"A\r\n" + b"B\r\n" * size,
        ):
            one = run(ServerHandshake(limits=limits), [start + b"\r\n\r\n"])
            many = run(ServerHandshake(limits=limits), byte_by_byte(start + b"\r\n\r\n"))
            assert str(one.failure) == str(many.failure)


def test_many_small_pieces_take_linear_time() -> None:
    data = a_request(X_A=["a" * 8000] * 3)
    began = time.process_time()
    for _ in range(4):
        assert run(ServerHandshake(), byte_by_byte(data)).value is not None
    assert time.process_time() - began < 3  # parsed anew for each byte, this takes minutes


def test_the_end_comes_too_early() -> None:
    for pieces in ([b""], [b"GET / HT", b""], [a_request()[:-1], b""]):
        handshake = ServerHandshake()
        failure = run(handshake, pieces).failure
        assert "closed the connection before its request was complete" in str(failure)
        assert failure is not None
        assert failure.response is not None
        assert failure.response.status == 400


def test_nothing_is_taken_behind_the_request() -> None:
    handshake = ServerHandshake()
    handshake.receive_data(a_request())
    for data in (b"more", b""):
        with pytest.raises(LocalProtocolError, match="not part of the handshake"):
            handshake.receive_data(data)


# Origins


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://example.com", "example.com", True),
        ("https://example.com", "example.com", True),
        ("https://example.com", "example.com:", True),
        ("HTTPS://EXAMPLE.com", "Example.COM", True),
        ("https://example.com", "example.com:443", True),
        ("https://example.com:443", "example.com", True),
        ("http://example.com:80", "example.com", True),
        ("http://example.com:8080", "example.com:8080", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("https://example.com", "example.com:80", False),
        ("http://example.com:8080", "example.com", False),
        ("http://example.com", "example.com:8080", False),
        ("http://[::1]", "[::2]", False),
        ("https://example.com.evil.org", "example.com", False),
        ("https://evilexample.com", "example.com", False),
        ("https://evil.org/example.com", "example.com", False),
        ("https://evil.org?example.com", "example.com", False),
        ("https://evil@example.com", "example.com", False),
        ("https://example.com/", "example.com", False),
        ("example.com", "example.com", False),
        ("//example.com", "example.com", False),
        ("chrome-extension://example.com", "example.com", False),
        ("https://example.com:", "example.com", False),
        ("https://example.com https://evil.org", "example.com", False),
        ("null", "null", False),
        ("", "example.com", False),
        ("https://\xff", "example.com", False),
    ],
)
def test_same_origin(origin: str, host: str, same: bool) -> None:
    data = a_request(Origin=origin, Host=host)
    if same:
        checked(data)
    else:
        assert refused(data).status == 403


LISTED = ["https://example.com", "null", "https://b.example:8443"]


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        (None, None, True),
        (None, "https://evil.org", True),
        (None, "null", True),
        (LISTED, "https://example.com", True),
        (LISTED, "https://EXAMPLE.com:443", True),
        (LISTED, "https://b.example:8443", True),
        (LISTED, "null", True),
        (LISTED, "http://example.com", False),
        (LISTED, "https://b.example", False),
        (LISTED, "https://example.co", False),
        (LISTED, "https://server.example.com", False),
        (LISTED, None, False),
        ({*LISTED, None}, None, True),
        ({None}, "null", False),
        ([], None, False),
        ([], "https://server.example.com", False),
    ],
)
def test_listed_origins(origins: Collection[str | None] | None, origin: str | None, allowed: bool) -> None:
    data = a_request(Origin=origin)
    if allowed:
        checked(data, origins=origins)
    else:
        assert refused(data, ServerHandshake(origins=origins)).status == 403


def test_version_8_has_its_origin_in_another_header() -> None:
    same, other = "http://server.example.com", "http://evil.org"
    checked(a_request(Sec_WebSocket_Version="8", Sec_WebSocket_Origin=same, Origin=other))
    assert (
        refused(a_request(Sec_WebSocket_Version="8", Sec_WebSocket_Origin=other, Origin=same)).status == 403
    )
    checked(a_request(Sec_WebSocket_Origin=other))


def test_two_origins() -> None:
    origin = "http://server.example.com"
    assert refused(a_request(Origin=[origin, origin])).status == 400


def test_origins_as_one_string_are_a_mistake() -> None:
    with pytest.raises(TypeError, match="put the one string into a list"):
        ServerHandshake(origins="https://example.com")


# Answers


@pytest.mark.parametrize("subprotocol", ["", "a b", "a\r\nSet-Cookie: b", "é", "a,b"])
def test_subprotocols_that_cannot_be_sent(subprotocol: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a subprotocol"):
        checked(a_request()).accept(masks=MASKS, subprotocol=subprotocol)


def test_a_subprotocol_need_not_be_offered() -> None:
    answer, protocol, _ = checked(a_request()).accept(masks=MASKS, subprotocol="v2")
    assert b"\r\nSec-WebSocket-Protocol: v2\r\n" in answer
    assert protocol.subprotocol == "v2"


def test_extra_headers() -> None:
    extra: HeadersLike = [("Set-Cookie", "a=b"), (b"set-cookie", b"c=d"), ("X-Name", "\xe9")]
    answer, _, _ = checked(a_request()).accept(masks=MASKS, extra_headers=extra)
    assert answer.endswith(b"\r\nSet-Cookie: a=b\r\nset-cookie: c=d\r\nX-Name: \xe9\r\n\r\n")


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("X-A", "b\r\nc", "control characters"),
        ("X-A", "b\x00", "control characters"),
        ("X-A", "名", "latin-1"),
        ("X A", "b", "name of a header"),
        ("Connection", "close", "set by the handshake: leave it out"),
        ("upgrade", "h2c", "set by the handshake: leave it out"),
        ("Content-Length", "0", "set by the handshake: leave it out"),
        ("Transfer-Encoding", "chunked", "set by the handshake: leave it out"),
        ("Sec-WebSocket-Accept", "x", "set by the handshake: leave it out"),
        ("Sec-WebSocket-Protocol", "x", "set by the handshake: use subprotocol"),
        ("Sec-WebSocket-Extensions", "x", "set by the handshake: use extensions"),
    ],
)
def test_extra_headers_that_cannot_be_sent(name: str, value: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        checked(a_request()).accept(masks=MASKS, extra_headers={name: value})


def response_to(request: bytes | None, response: Response) -> tuple[bytes, bytes]:
    handshake = ServerHandshake()
    if request is not None:
        handshake.receive_data(request)
    start, _, body = handshake.respond(response).partition(b"\r\n\r\n")
    return start, body


def test_a_plain_answer_is_delimited_here() -> None:
    fields = Headers(
        [(b"content-length", b"999"), (b"Transfer-Encoding", b"chunked"), (b"connection", b"keep-alive")]
    )
    fields += [(b"sec-websocket-version", b"13"), (b"X-b", b"c")]
    start, body = response_to(a_request(), Response(200, fields, b"hello"))
    assert start == (
        b"HTTP/1.1 200 OK\r\nSec-WebSocket-Version: 13\r\nX-B: c\r\nConnection: close\r\nContent-Length: 5"
    )
    assert body == b"hello"


def test_answers_without_a_body() -> None:
    start, body = response_to(a_request("HEAD / HTTP/1.1"), Response(404, Headers(), b"hello"))
    assert (start.endswith(b"\r\nContent-Length: 5"), body) == (True, b"")
    for status in (204, 304):
        start, body = response_to(None, Response(status, Headers(), b"hello"))
        assert b"Content-Length" not in start
        assert body == b""


def test_reasons() -> None:
    assert response_to(None, Response(404, Headers()))[0].startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert response_to(None, Response(499, Headers()))[0].startswith(b"HTTP/1.1 499 \r\n")
    assert response_to(None, Response(404, Headers(), reason="Pas trouv\xe9"))[0].startswith(
        b"HTTP/1.1 404 Pas trouv\xe9\r\n"
    )


@pytest.mark.parametrize(
    "response",
    [
        Response(101, Headers()),
        Response(199, Headers()),
        Response(600, Headers()),
        Response(400, Headers(), reason="a\r\nSet-Cookie: b"),
        Response(400, Headers(), reason="名"),
        Response(400, Headers([(b"a", b"b\r\nc")])),
        Response(400, Headers([(b"a\r\n", b"b")])),
    ],
)
def test_answers_that_cannot_be_sent(response: Response) -> None:
    with pytest.raises(ValueError, match=r"final answer|header"):
        response_to(None, response)


# Extensions


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        (None, None),
        ("x-other", None),
        ("x-level", None),
        ("x-level; level=1", None),
        ("x-level; level=2", "x-level; level=2"),
        ('x-level; level="4"; flag', "x-level; level=4"),
        ("x-level; level=1, x-level; level=4, x-level; level=2", "x-level; level=4"),
        (["x-other; a", "x-level; level=1", "x-level; level=6"], "x-level; level=6"),
        ("x-twin; level=2, x-level; level=4", "x-twin; level=2, x-level; level=4"),
        ("__class__; constructor, name", None),
    ],
)
def test_extensions(offers: str | Sequence[str] | None, answer: str | None) -> None:
    handshake = ServerHandshake(extensions=[Factory(), Factory("x-twin")])
    handshake.receive_data(a_request(Sec_WebSocket_Extensions=offers))
    handshake.check()
    data, protocol, _ = handshake.accept(masks=MASKS)
    line = [line for line in data.decode().split("\r\n") if line.startswith("Sec-WebSocket-Extensions: ")]
    assert line == ([] if answer is None else [f"Sec-WebSocket-Extensions: {answer}"])
    names = [] if answer is None else [element.partition(";")[0] for element in answer.split(", ")]
    assert [extension.name for extension in protocol.extensions] == names


# Any bytes

FRAGMENTS = [
    b"GET / HTTP/1.1\r\n", b"Host: a\r\n", b"Upgrade: websocket\r\n", b"Connection: Upgrade\r\n",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"Sec-WebSocket-Version: 13\r\n", b"Content-Length: 1\r\n",
    b"Sec-WebSocket-Extensions: a; b=\"c\"\r\n", b"Sec-WebSocket-Protocol: a, b\r\n", b"Origin: http://a\r\n",
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\x00", b"\xff", b"X: y\r\n", b"GET", b"HTTP/1.1", b"HTTP/1.0\r\n",
]  # fmt: skip
BYTES = st.binary(max_size=200) | st.lists(st.sampled_from(FRAGMENTS), max_size=16).map(b"".join)


@st.composite
def near_requests(draw: st.DrawFn) -> bytes:
    """A valid request in which one stretch is replaced."""
    data = a_request(Origin="http://a", Sec_WebSocket_Protocol="a, b", Sec_WebSocket_Extensions='x; y="z"')
    start = draw(st.integers(0, len(data)))
    stop = draw(st.integers(start, min(start + 8, len(data))))
    return data[:start] + draw(st.binary(max_size=3)) + data[stop:]


@given(BYTES | near_requests(), st.data())
@example(a_request(), None)
@example(a_request(X_A="\r\r\n"), None)
def test_any_bytes_are_a_request_or_a_failure_however_they_are_cut(
    data: bytes, choice: st.DataObject | None
) -> None:
    limits = Limits(max_header_line=60, max_head=400, max_headers=8)
    pieces = choice.draw(cuts(data)) if choice else byte_by_byte(data)
    one, many = (ServerHandshake(limits=limits), ServerHandshake(limits=limits))
    whole_outcome, cut_outcome = run(one, whole(data) if data else []), run(many, pieces)
    assert whole_outcome.value == cut_outcome.value
    assert str(whole_outcome.failure) == str(cut_outcome.failure)
    if whole_outcome.value is not None:
        try:
            one.check()
            many.check()
        except HandshakeFailed as exc:
            response = exc.response or Response(0, Headers())
            assert_is_final_answer(one.respond(response), response)
        else:
            (answer, _, rest), (other, _, glued) = one.accept(masks=MASKS), many.accept(masks=MASKS)
            assert answer == other
            assert rest == glued + b"".join(pieces[cut_outcome.taken :])
