"""The client's side of the opening handshake: its request, and every answer that a good or an evil server may give."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.protocol.handshake_kit import (
    ACCEPT,
    FEEDS,
    KEY,
    KEY_TEXT,
    MASKS,
    Factory,
    an_answer,
    byte_by_byte,
    cuts,
    head,
    run,
)
from trio_ws.protocol._errors import LocalProtocolError, RemoteProtocolError
from trio_ws.protocol._handshake import HandshakeFailed, Response
from trio_ws.protocol._handshake_client import ClientHandshake
from trio_ws.protocol._limits import Limits
from trio_ws.protocol._state import Role

Feed = Callable[[bytes], list[bytes]]


def a_client(**options: Any) -> ClientHandshake:  # Any: whatever ClientHandshake takes, right or wrong
    defaults: dict[str, Any] = {"host": "server.example.com", "target": "/chat", "key": KEY}
    return ClientHandshake(**defaults | options)


# The request


def test_the_least_request() -> None:
    assert a_client().request_bytes() == (
        b"GET /chat HTTP/1.1\r\n"
        b"Host: server.example.com\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Key: " + KEY_TEXT.encode() + b"\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"\r\n"
    )


def test_the_whole_request() -> None:
    request = a_client(
        host="[::1]:8080",
        target="/a%20b?c=d",
        origin="https://example.com",
        subprotocols=["v2", "v1"],
        extra_headers=[("Authorization", "Basic Og=="), ("X-Name", b"\xe9"), ("X-Name", "b")],
        extensions=[Factory(), Factory("x-other", 9)],
    ).request_bytes()
    assert request == (
        b"GET /a%20b?c=d HTTP/1.1\r\n"
        b"Host: [::1]:8080\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Key: " + KEY_TEXT.encode() + b"\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"Origin: https://example.com\r\n"
        b"Sec-WebSocket-Protocol: v2, v1\r\n"
        b"Sec-WebSocket-Extensions: x-level; level=2; flag, x-other; level=9; flag\r\n"
        b"Authorization: Basic Og==\r\n"
        b"X-Name: \xe9\r\n"
        b"X-Name: b\r\n"
        b"\r\n"
    )


def test_version_8_names_its_origin_otherwise() -> None:
    request = a_client(version=8, origin="https://example.com").request_bytes()
    assert b"\r\nSec-WebSocket-Version: 8\r\n" in request
    assert b"\r\nSec-WebSocket-Origin: https://example.com\r\n" in request
    assert b"\r\nOrigin:" not in request


def test_the_caller_may_name_another_host_and_origin() -> None:
    request = a_client(extra_headers={"HOST": "other.example", "Origin": "null"}).request_bytes()
    assert request.lower().count(b"host:") == 1
    assert b"\r\nHost: other.example\r\n" in request
    assert b"\r\nOrigin: null\r\n" in request


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"version": 7}, "version must be 13 or 8, not 7"),
        ({"version": 12}, "version must be 13 or 8, not 12"),
        ({"key": b"short"}, "16 random bytes"),
        ({"host": ""}, "one valid Host"),
        ({"host": "a b"}, "one valid Host"),
        ({"host": "a\r\nX-B: c"}, "one valid Host"),
        ({"host": "a/b"}, "one valid Host"),
        ({"host": "名"}, "one valid Host"),
        ({"target": ""}, "cannot be asked for"),
        ({"target": "/a b"}, "cannot be asked for"),
        ({"target": "/a\r\nX-B: c"}, "cannot be asked for"),
        ({"target": "/\x00"}, "cannot be asked for"),
        ({"target": "/é"}, "cannot be asked for"),
        ({"target": "/a#b"}, "cannot be asked for"),
        ({"target": "/a\n"}, "cannot be asked for"),
        ({"origin": "a\r\nX-B: c"}, "control characters"),
        ({"origin": "https://名"}, "latin-1"),
        ({"subprotocols": [""]}, "cannot be the name of a subprotocol"),
        ({"subprotocols": ["a b"]}, "cannot be the name of a subprotocol"),
        ({"subprotocols": ["a\r\nX-B: c"]}, "cannot be the name of a subprotocol"),
        ({"subprotocols": ["a", "b", "a"]}, "offered twice"),
        ({"extra_headers": {"X-A": "b\r\nX-C: d"}}, "control characters"),
        ({"extra_headers": {"X-A": "\x00"}}, "control characters"),
        ({"extra_headers": {"X-A": "名"}}, "latin-1"),
        ({"extra_headers": {"X-A\r\nX-B": "c"}}, "cannot be the name of a header"),
        ({"extra_headers": {"Upgrade": "h2c"}}, "header Upgrade is set by the handshake: leave it out"),
        (
            {"extra_headers": {b"connection": b"close"}},
            "header connection is set by the handshake: leave it out",
        ),
        ({"extra_headers": {"Content-Length": "5"}}, "set by the handshake: leave it out"),
        ({"extra_headers": {"Transfer-Encoding": "chunked"}}, "set by the handshake: leave it out"),
        ({"extra_headers": {"Sec-WebSocket-Key": "x"}}, "set by the handshake: leave it out"),
        ({"extra_headers": {"Sec-WebSocket-Protocol": "x"}}, "set by the handshake: use subprotocols"),
        ({"extra_headers": {"sec-websocket-extensions": "x"}}, "set by the handshake: use extensions"),
        ({"extra_headers": {"Sec-WebSocket-Version": "8"}}, "set by the handshake: use version"),
        ({"extra_headers": {"Sec-WebSocket-Origin": "x"}}, "set by the handshake: use origin"),
        ({"extra_headers": [("Host", "a"), ("host", "b")]}, "one valid Host"),
        ({"extra_headers": {"Host": ""}}, "one valid Host"),
        ({"extra_headers": {"Host": "a b"}}, "one valid Host"),
        ({"extra_headers": {"origin": "a"}, "origin": "b"}, "given twice"),
    ],
)
def test_requests_that_cannot_be_made(options: Mapping[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        a_client(**options)


def test_subprotocols_as_one_string_are_a_mistake() -> None:
    with pytest.raises(TypeError, match="put the one string into a list"):
        a_client(subprotocols="chat")


# A 101 that is accepted

GOOD: dict[str, bytes] = {
    "least": an_answer(),
    "no reason": an_answer("HTTP/1.1 101"),
    "later minor version": an_answer("HTTP/1.2 101 Switching Protocols"),
    "other case": an_answer(Upgrade="WebSocket", Connection="keep-alive, UPGRADE"),
    "no subprotocol": an_answer(Sec_WebSocket_Protocol=None),
    "useless length": an_answer(Content_Length="0"),  # RFC 9110 8.6 forbids it; it cannot mislead here
    "latin-1": an_answer(Server="\xff\xe9"),
    "bare LF": an_answer().replace(b"\r\n", b"\n"),
    "informational": b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 8 + an_answer(),
}


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD)
def test_accepted(data: bytes, feed: Feed) -> None:
    handshake = a_client(subprotocols=["chat"])
    outcome = run(handshake, feed(data))
    assert isinstance(outcome.value, Response)
    assert (outcome.value.status, outcome.value.body) == (101, b"")
    assert outcome.taken == len(feed(data))
    protocol, leftover = handshake.upgrade(masks=MASKS)
    assert (protocol.role, protocol.subprotocol, protocol.extensions, leftover) == (
        Role.CLIENT,
        None,
        (),
        b"",
    )


@pytest.mark.parametrize(
    "leftover", [b"\x81\x05hello" * 2, b"\x88\x00", b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]
)
def test_frames_behind_the_101_are_kept(leftover: bytes) -> None:
    handshake = a_client()
    assert handshake.receive_data(an_answer() + leftover) is not None
    assert handshake.upgrade(masks=MASKS)[1] == leftover


@pytest.mark.parametrize("feed", FEEDS)
def test_subprotocol(feed: Feed) -> None:
    handshake = a_client(subprotocols=["a", "b"])
    assert run(handshake, feed(an_answer(Sec_WebSocket_Protocol="b"))).value is not None
    assert handshake.subprotocol == "b"
    assert handshake.upgrade(masks=MASKS)[0].subprotocol == "b"


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        ("x-level; level=2", ["x-level"]),
        ('x-level;level="2"', ["x-level"]),
        ("x-other; level=9, x-level; level=2", ["x-other", "x-level"]),
        (["x-other; level=9", "x-level; level=2"], ["x-other", "x-level"]),
    ],
)
def test_extensions_in_the_order_of_the_server(answer: str | Sequence[str], names: list[str]) -> None:
    handshake = a_client(extensions=[Factory(), Factory("x-other", 9)])
    assert handshake.receive_data(an_answer(Sec_WebSocket_Extensions=answer)) is not None
    assert [extension.name for extension in handshake.extensions] == names
    assert handshake.upgrade(masks=MASKS)[0].extensions == handshake.extensions


# A 101 that is not

BAD: dict[str, tuple[bytes, str]] = {
    "HTTP/1.0": (an_answer("HTTP/1.0 101 Switching Protocols"), r"Unexpected HTTP version: 1\.0"),
    "HTTP/2.0": (an_answer("HTTP/2.0 101 Switching Protocols"), r"Unexpected HTTP version: 2\.0"),
    "no Upgrade": (an_answer(Upgrade=None), "Invalid Upgrade header"),
    "other Upgrade": (an_answer(Upgrade="h2c"), "Invalid Upgrade header"),
    "two in Upgrade": (an_answer(Upgrade="websocket, h2c"), "Invalid Upgrade header"),
    "two Upgrades": (an_answer(Upgrade=["websocket", "websocket"]), "Invalid Upgrade header"),
    "no Connection": (an_answer(Connection=None), "Invalid Connection header"),
    "other Connection": (an_answer(Connection="keep-alive"), "Invalid Connection header"),
    "no accept": (an_answer(Sec_WebSocket_Accept=None), "Invalid Sec-WebSocket-Accept header"),
    "empty accept": (an_answer(Sec_WebSocket_Accept=""), "Invalid Sec-WebSocket-Accept header"),
    "wrong accept": (an_answer(Sec_WebSocket_Accept=KEY_TEXT), "Invalid Sec-WebSocket-Accept header"),
    "other case": (an_answer(Sec_WebSocket_Accept=ACCEPT.lower()), "Invalid Sec-WebSocket-Accept header"),
    "two accepts": (an_answer(Sec_WebSocket_Accept=[ACCEPT] * 2), "Invalid Sec-WebSocket-Accept header"),
    "latin-1 accept": (an_answer(Sec_WebSocket_Accept="\xff"), "Invalid Sec-WebSocket-Accept header"),
    "subprotocol": (
        an_answer(Sec_WebSocket_Protocol="a"),
        "Server sent a subprotocol but none was requested",
    ),
    "extension": (
        an_answer(Sec_WebSocket_Extensions="x-level; level=2"),
        "Server sent a Sec-WebSocket-Extensions header but no extension was requested",
    ),
}


def assert_fails(handshake: ClientHandshake, data: bytes, complaint: str, feed: Feed) -> HandshakeFailed:
    failure = run(handshake, feed(data)).failure
    assert failure is not None
    with pytest.raises(RemoteProtocolError, match=complaint):
        raise failure
    assert (failure.code, failure.close_code) == ("WS_ERR_INVALID_HANDSHAKE", 1002)
    with pytest.raises(LocalProtocolError, match="not switched"):
        handshake.upgrade(masks=MASKS)
    return failure


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("trailing", [b"", b"\x81\x05hello"], ids=["alone", "trailing"])
@pytest.mark.parametrize(("data", "complaint"), BAD.values(), ids=BAD)
def test_bad_101(data: bytes, complaint: str, trailing: bytes, feed: Feed) -> None:
    handshake = a_client()
    failure = assert_fails(handshake, data + trailing, complaint, feed)
    assert failure.response is not None
    assert failure.response.status == 101
    with pytest.raises(LocalProtocolError, match="the answer is complete"):
        handshake.receive_data(an_answer())  # no second answer mends a wrong one


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("chosen", ["c", "A", "", "a, b", ["a", "b"], ["a", "a"], "a b", "\xff"])
def test_subprotocols_that_were_not_offered(chosen: str | list[str], feed: Feed) -> None:
    answer = an_answer(Sec_WebSocket_Protocol=chosen)
    assert_fails(a_client(subprotocols=["a", "b"]), answer, "Server sent an invalid subprotocol", feed)


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize(
    ("chosen", "complaint"),
    [
        ("x-unknown", "Server indicated an extension that was not requested"),
        ("X-LEVEL; level=2", "Server indicated an extension that was not requested"),
        ("__class__", "Server indicated an extension that was not requested"),
        ("x-level; level=2, x-unknown", "Server indicated an extension that was not requested"),
        ("x-level; level=2, x-level; level=2", "Server indicated an extension more than once"),
        (["x-level; level=2", "x-level; level=2"], "Server indicated an extension more than once"),
        ("x-level; level=4", r"Invalid Sec-WebSocket-Extensions header: .*not offered: \[\('level', '4'\)\]"),
        ("", "Invalid Sec-WebSocket-Extensions header: the header names no extension"),
        ("x-level; level=", "Invalid Sec-WebSocket-Extensions header: unexpected '=' at position 14"),
        ("x-level; \xff", "Invalid Sec-WebSocket-Extensions header: unexpected ';' at position 7"),
    ],
)
def test_extensions_that_were_not_offered(chosen: str | list[str], complaint: str, feed: Feed) -> None:
    handshake = a_client(extensions=[Factory()])
    failure = assert_fails(handshake, an_answer(Sec_WebSocket_Extensions=chosen), complaint, feed)
    assert failure.response is not None
    assert handshake.extensions == ()


# Bytes that are no answer

BROKEN: dict[str, tuple[bytes, str]] = {
    "other protocol": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not valid HTTP: .*SSH-2.0-OpenSSH"),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x46", "not HTTP"),
    "blank line first": (b"\r\n" + an_answer(), "not HTTP"),
    "status 099": (an_answer("HTTP/1.1 099 x"), "not valid HTTP"),
    "two digits": (an_answer("HTTP/1.1 20 OK"), "not valid HTTP"),
    "bare CR in reason": (an_answer("HTTP/1.1 101 a\rb"), "not valid HTTP"),
    "NUL in reason": (an_answer("HTTP/1.1 101 a\x00b"), "not valid HTTP"),
    "bare CR": (an_answer(X_A="a\rb"), "not valid HTTP"),
    "NUL": (an_answer(X_A="a\x00b"), "not valid HTTP"),
    "no colon": (an_answer().replace(b"Upgrade:", b"Upgrade"), "not valid HTTP"),
    "folded": (an_answer(Upgrade="foo\r\n websocket"), "a header is folded over several lines"),
    "latin-1 name": (an_answer().replace(b"Upgrade:", b"\xff:"), "not valid HTTP"),
    "bad length": (head("HTTP/1.1 200 OK", {"Content-Length": "x"}), "not valid HTTP"),
    "unknown coding": (head("HTTP/1.1 200 OK", {"Transfer-Encoding": "gzip"}), "not valid HTTP"),
    "long status line": (an_answer("HTTP/1.1 101 " + "a" * 8192), "line 1 is longer than 8192 bytes"),
    "2 MiB header": (an_answer(X_A="a" * 2**21), "line 5 is longer than 8192 bytes"),
    "32 KiB": (an_answer(X_A=["a" * 8000] * 5), "the head is longer than 32768 bytes"),
    "101 headers": (an_answer(X_A=["a"] * 98), "there are more than 100 headers"),
    "20000 headers": (an_answer(X_A=["a"] * 20000), "there are more than 100 headers"),
}


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("trailing", [b"", b"\x81\x05hello"], ids=["alone", "trailing"])
@pytest.mark.parametrize(("data", "complaint"), BROKEN.values(), ids=BROKEN)
def test_unreadable(data: bytes, complaint: str, trailing: bytes, feed: Feed) -> None:
    assert assert_fails(a_client(), data + trailing, complaint, feed).response is None


def test_a_hundred_headers_are_not_too_many() -> None:
    assert run(a_client(), [an_answer(X_A=["a"] * 97)]).value is not None


@pytest.mark.parametrize("feed", FEEDS)
def test_informational_responses_without_end(feed: Feed) -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\n" * 9
    failure = assert_fails(a_client(), data + an_answer(), "informational responses without end", feed)
    assert failure.response is not None
    assert failure.response.status == 100


@pytest.mark.parametrize("start", [b"", b"H", b"HTTP/1.1 100 Continue\r\n\r\n", an_answer()[:-1]])
def test_the_end_comes_before_the_answer(start: bytes) -> None:
    pieces = [start, b""] if start else [b""]
    assert_fails(a_client(), b"", "closed the connection before it answered", lambda _: pieces)


# Other answers


def refusal(
    fields: dict[str, str | Sequence[str] | None], body: bytes, status: str = "401 Unauthorized"
) -> bytes:
    return head(f"HTTP/1.1 {status}", fields) + body


COMPLETE: dict[str, tuple[bytes, bytes]] = {
    "length": (refusal({"Content-Length": "5"}, b"hello"), b"hello"),
    "length 0": (refusal({"Content-Length": "0"}, b""), b""),
    "chunked": (
        refusal({"Transfer-Encoding": "chunked"}, b"3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\nX: y\r\n\r\n"),
        b"hello",
    ),
    "no content": (refusal({}, b"", "204 No Content"), b""),
    "not modified": (refusal({"Content-Length": "5"}, b"", "304 Not Modified"), b""),
    "200": (refusal({"Content-Length": "2"}, b"ok", "200 OK"), b"ok"),
    "redirect": (refusal({"Location": "/x", "Content-Length": "0"}, b"", "302 Found"), b""),
    "999": (refusal({"Content-Length": "0"}, b"", "999 x"), b""),
    "after informational": (b"HTTP/1.1 102 x\r\n\r\n" + refusal({"Content-Length": "1"}, b"a"), b"a"),
}


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("trailing", [b"", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["alone", "trailing"])
@pytest.mark.parametrize(("data", "body"), COMPLETE.values(), ids=COMPLETE)
def test_other_answers_are_returned_when_complete(
    data: bytes, body: bytes, trailing: bytes, feed: Feed
) -> None:
    handshake = a_client()
    pieces = feed(data)
    assert run(handshake, pieces[:-1]).value is None
    outcome = run(handshake, [pieces[-1] + trailing])
    assert isinstance(outcome.value, Response)
    assert outcome.value.status >= 200
    assert outcome.value.body == body
    with pytest.raises(LocalProtocolError, match="the answer is complete"):
        handshake.receive_data(b"more")
    with pytest.raises(LocalProtocolError, match="not switched"):
        handshake.upgrade(masks=MASKS)


def test_status_reason_and_headers_are_there() -> None:
    fields: dict[str, str | Sequence[str] | None] = {
        "WWW-Authenticate": ["Basic", "Bearer"],
        "Content-Length": "0",
    }
    response = a_client().receive_data(refusal(fields, b"", "401 Who are y\xf6u"))
    assert response is not None
    assert (response.status, response.reason) == (401, "Who are y\xf6u")
    assert response.headers.get_all("www-authenticate") == ["Basic", "Bearer"]


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("start", ["HTTP/1.1 403 Forbidden", "HTTP/1.0 403 Forbidden"])
def test_a_body_that_goes_up_to_the_end(start: str, feed: Feed) -> None:
    handshake = a_client()
    assert run(handshake, feed(head(start, {}) + b"hello")).value is None
    response = handshake.receive_data(b"")
    assert response is not None
    assert response.body == b"hello"


ENDLESS: dict[str, Callable[[bytes], bytes]] = {
    "up to the end": lambda body: refusal({}, body),
    "10 GB": lambda body: refusal({"Content-Length": "10000000000"}, body),
    "chunks without end": lambda body: refusal(
        {"Transfer-Encoding": "chunked"},
        b"".join(b"4\r\n%s\r\n" % body[i : i + 4] for i in range(0, len(body), 4)),
    ),
    "one chunk without end": lambda body: refusal({"Transfer-Encoding": "chunked"}, b"ffffffffff\r\n" + body),
}


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("endless", ENDLESS.values(), ids=ENDLESS)
def test_a_body_is_cut(endless: Callable[[bytes], bytes], feed: Feed) -> None:
    data = endless(bytes(range(256)) * 8)
    outcome = run(a_client(limits=Limits(max_response_body=1022)), feed(data))
    assert isinstance(outcome.value, Response)
    assert outcome.value.body == (bytes(range(256)) * 4)[:1022]
    if feed is byte_by_byte:
        assert outcome.taken < len(data) * 0.6  # as soon as it is reached


def test_a_body_is_cut_at_64_kib_and_may_be_cut_to_nothing() -> None:
    response = a_client().receive_data(refusal({"Content-Length": "10000000000"}, bytes(100_000)))
    assert response is not None
    assert response.body == bytes(65536)
    response = a_client(limits=Limits(max_response_body=0)).receive_data(
        refusal({"Content-Length": "10"}, b"")
    )
    assert response is not None
    assert response.body == b""


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize(
    ("data", "end", "complaint"),
    [
        (
            refusal({"Content-Length": "9"}, b"hello"),
            [b""],
            "closed the connection before its answer was complete",
        ),
        (
            refusal({"Transfer-Encoding": "chunked"}, b"5\r\nhello\r\n"),
            [b""],
            "closed the connection before its answer was complete",
        ),
        (
            refusal({"Transfer-Encoding": "chunked"}, b"5\r\nhello\r\nx\r\n"),
            [],
            "not valid HTTP: illegal chunk header",
        ),
        (
            refusal({"Transfer-Encoding": "chunked"}, b"5\r\nhelloxx\r\n"),
            [],
            "not valid HTTP: malformed chunk footer",
        ),
    ],
)
def test_a_body_that_breaks_off(data: bytes, end: list[bytes], complaint: str, feed: Feed) -> None:
    failure = assert_fails(a_client(), data, complaint, lambda data: feed(data) + end)
    assert failure.response is not None
    assert (failure.response.status, failure.response.body) == (401, b"hello")


def test_many_small_pieces_take_linear_time() -> None:
    data = an_answer(X_A=["a" * 8000] * 3)
    began = time.process_time()
    for _ in range(4):
        assert run(a_client(), byte_by_byte(data)).value is not None
    assert time.process_time() - began < 3  # parsed anew for each byte, this takes minutes


# Any bytes

FRAGMENTS = [
    b"HTTP/1.1 101 x\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 x\r\n\r\n", b"HTTP/1.0 404 \r\n",
    b"Upgrade: websocket\r\n", b"Connection: Upgrade\r\n", b"Sec-WebSocket-Accept: %s\r\n" % ACCEPT.encode(),
    b"Sec-WebSocket-Protocol: a\r\n", b"Sec-WebSocket-Extensions: x-level; level=2\r\n", b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"abc", b"\r\n", b"\n", b"\r", b" ", b"\x00",
    b"\xff", b":", b"X: y\r\n",
]  # fmt: skip
BYTES = st.binary(max_size=200) | st.lists(st.sampled_from(FRAGMENTS), max_size=16).map(b"".join)


@st.composite
def near_answers(draw: st.DrawFn) -> bytes:
    """A valid answer in which one stretch is replaced."""
    answers = [an_answer(Sec_WebSocket_Protocol="a"), *(data for data, _ in COMPLETE.values())]
    data = draw(st.sampled_from(answers))
    start = draw(st.integers(0, len(data)))
    stop = draw(st.integers(start, min(start + 8, len(data))))
    return data[:start] + draw(st.binary(max_size=3)) + data[stop:]


@given(BYTES | near_answers(), st.data(), st.booleans())
@example(an_answer(X_A="\r\r\n"), None, True)
@example(refusal({"Transfer-Encoding": "chunked"}, b"10\r\n0123456789abcdef\r\nx\r\n"), None, False)
def test_any_bytes_are_an_answer_or_a_failure_however_they_are_cut(
    data: bytes, choice: st.DataObject | None, ends: bool
) -> None:
    limits = Limits(max_header_line=60, max_head=200, max_headers=8, max_response_body=6)
    pieces = choice.draw(cuts(data)) if choice else byte_by_byte(data)
    end = [b""] if ends else []
    one, many = (a_client(limits=limits, subprotocols=["a"], extensions=[Factory()]) for _ in range(2))
    whole_outcome, cut_outcome = run(one, [data, *end] if data else end), run(many, pieces + end)
    assert whole_outcome.value == cut_outcome.value
    assert str(whole_outcome.failure) == str(cut_outcome.failure)
    if whole_outcome.failure is not None and cut_outcome.failure is not None:
        assert whole_outcome.failure.response == cut_outcome.failure.response
    if isinstance(whole_outcome.value, Response) and whole_outcome.value.status == 101:
        _, rest = one.upgrade(masks=MASKS)
        _, glued = many.upgrade(masks=MASKS)
        assert rest == glued + b"".join(pieces[cut_outcome.taken :])
