"""For any bytes in any pieces a server has no more than a head in memory and ends in a request or `HandshakeFailed`, each alike.

What it answers, be it a 101 or a refusal, an HTTP client can parse, and what came behind the request is all there.

The first bytes choose limits, origins, extensions and where to cut; the rest is what the client sends.
"""

from __future__ import annotations

import h11

from tests.fuzz.fuzz_kit import Choices, same, ways_to_cut
from tests.protocol.handshake_kit import MASKS, Outcome, a_request, run
from trio_ws.protocol import (
    SAME_ORIGIN,
    HandshakeFailed,
    Limits,
    PerMessageDeflate,
    Request,
    Response,
    ServerHandshake,
)

CHOICES = 4
SMALL = Limits(max_headers=8, max_header_line=120, max_head=400)


def check(data: bytes) -> None:
    choices = Choices(data, CHOICES)
    limits = choices.one_of(Limits(), SMALL)
    origins = choices.one_of(SAME_ORIGIN, None, ("https://example.com", None))
    seed = choices.byte() + 256 * choices.byte()

    def outcome(pieces: list[bytes]) -> tuple[object, ...]:
        handshake = ServerHandshake(limits=limits, origins=origins, extensions=[PerMessageDeflate()])
        found = run(handshake, pieces)
        taken = sum(map(len, pieces[: found.taken]))
        if found.value is None and found.failure is None:
            assert taken <= limits.max_head  # else it would have been refused
            return _told(run(handshake, [b""]), handshake)
        if found.failure is None:
            # what came behind the head, and nothing of it
            rest = handshake.rest + b"".join(pieces[found.taken :])
            assert choices.rest.endswith(b"\n" + rest)
            assert len(choices.rest) - len(rest) <= limits.max_head
        return _told(found, handshake)

    same(outcome(pieces) for pieces in ways_to_cut(choices.rest, seed))


def _told(found: Outcome, handshake: ServerHandshake) -> tuple[object, ...]:
    """Return what came of bytes, after seeing that an HTTP client understands the answer."""
    if found.failure is not None:
        return str(found.failure), _refused(found.failure, handshake, "GET")
    request = found.value
    assert isinstance(request, Request)
    try:
        handshake.check()
    except HandshakeFailed as failure:
        return request, str(failure), _refused(failure, handshake, request.method)
    subprotocol = next(iter(handshake.proposed_subprotocols), None)
    head, protocol, _ = handshake.accept(masks=MASKS, subprotocol=subprotocol)
    event, behind = _parsed(head, "GET")
    assert isinstance(event, h11.InformationalResponse)
    assert event.status_code == 101
    assert behind == b""
    assert protocol.subprotocol == subprotocol
    return request, head, handshake.version


def _refused(failure: HandshakeFailed, handshake: ServerHandshake, method: str) -> bytes:
    response = failure.response
    assert response is not None
    assert isinstance(response, Response)
    data = handshake.respond(response)
    event, body = _parsed(data, method)
    assert isinstance(event, h11.Response)
    assert event.status_code == response.status
    assert 400 <= response.status <= 431 or response.status == 505
    assert body == (b"" if method == "HEAD" else response.body)
    return data


def _parsed(data: bytes, method: str) -> tuple[object, bytes]:
    """Return what an HTTP client makes of an answer: its head, and what is behind that."""
    client = h11.Connection(h11.CLIENT)
    method = method if method == "HEAD" else "GET"
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a"), ("Upgrade", "websocket")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    head = client.next_event()
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert event is h11.PAUSED or isinstance(event, h11.EndOfMessage)
    return head, body + client.trailing_data[0]


def seeds() -> dict[str, bytes]:
    deflate = "permessage-deflate; client_max_window_bits, permessage-deflate; server_max_window_bits=10"
    requests = {
        "plain": a_request(),
        "with_frames_behind": a_request() + b"\x81\x80mask",
        "bare_newlines": a_request().replace(b"\r\n", b"\n"),
        "browser": a_request(
            Origin="http://server.example.com",
            Sec_WebSocket_Extensions=deflate,
            Sec_WebSocket_Protocol="chat, v2",
        ),
        "foreign_origin": a_request(Origin="https://evil.example"),
        "origin_null": a_request(Origin="null"),
        "origin_8": a_request(Sec_WebSocket_Version="8", Sec_WebSocket_Origin="https://example.com"),
        "two_hosts": a_request(Host=["a", "b"]),
        "no_host": a_request(Host=None),
        "no_upgrade": a_request(Upgrade=None),
        "h2c": a_request(Upgrade="h2c, websocket"),
        "no_key": a_request(Sec_WebSocket_Key=None),
        "short_key": a_request(Sec_WebSocket_Key="AAAA"),
        "old_version": a_request(Sec_WebSocket_Version="7"),
        "no_connection": a_request(Connection="keep-alive"),
        "post": a_request("POST / HTTP/1.1"),
        "head": a_request("HEAD / HTTP/1.1"),
        "http_1_0": a_request("GET / HTTP/1.0"),
        "http_5_1": a_request("GET / HTTP/5.1"),
        "http_2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "absolute": a_request("GET http://server.example.com/chat HTTP/1.1"),
        "body": a_request(Content_Length="5") + b"hello",
        "chunked": a_request(Transfer_Encoding="chunked") + b"0\r\n\r\n",
        "both": a_request(Transfer_Encoding="chunked", Content_Length="5"),
        "folded": a_request(X_Folded="one\r\n two"),
        "nul": a_request(X_Nul="a\x00b"),
        "bare_cr": a_request(X_Bare="a\rb"),
        "latin_1": a_request(X_Latin="\xff", Sec_WebSocket_Protocol="\xff"),
        "subprotocol_twice": a_request(Sec_WebSocket_Protocol="chat, chat"),
        "extension_junk": a_request(Sec_WebSocket_Extensions='a; b="\\'),
        "many_headers": a_request(X_Many=[str(number) for number in range(120)]),
        "long_line": a_request(X_Long="x" * 200),
        "long_head": a_request(X_Long=["x" * 105] * 3),
        "leading_blank": b"\r\n" + a_request(),
        "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "cut_off": a_request()[:-2],
    }
    found = {name: bytes([0, 0, 5, 1]) + data for name, data in requests.items()}
    return found | {
        f"{name}_small": bytes([1, 1, 9, 0]) + requests[name]
        for name in ("browser", "long_line", "long_head", "plain")
    }
