"""For any bytes in any pieces a client ends in a response or `HandshakeFailed`, each alike, and holds one head and one body.

A 101 that it takes has proved by its key that it is meant, and grants nothing that was not offered.

The first bytes choose what is offered, the limits, and where to cut; the rest is what the server sends.
"""

from __future__ import annotations

import re

from tests.fuzz.fuzz_kit import Choices, same, ways_to_cut
from tests.protocol.handshake_kit import ACCEPT, KEY, MASKS, Outcome, an_answer, run
from trio_ws.protocol import ERRORS, ClientHandshake, Limits, PerMessageDeflate, Response

CHOICES = 4
SMALL = Limits(max_headers=8, max_header_line=120, max_head=400, max_response_body=20)
_BLANK_LINE = re.compile(rb"\n\r?\n")


def check(data: bytes) -> None:
    choices = Choices(data, CHOICES)
    limits = choices.one_of(Limits(), SMALL)
    offers = choices.flags(2)
    seed = choices.byte() + 256 * choices.byte()

    def outcome(pieces: list[bytes]) -> tuple[object, ...]:
        handshake = ClientHandshake(
            host="server.example.com",
            target="/",
            key=KEY,
            subprotocols=["chat", "v2"] if offers[0] else [],
            extensions=[PerMessageDeflate()] if offers[1] else [],
            limits=limits,
        )
        found = run(handshake, pieces)
        if found.value is None and found.failure is None:
            assert _BLANK_LINE.search(choices.rest) or len(choices.rest) <= limits.max_head
            found = run(handshake, [b""])
            pieces = []
        return _told(found, handshake, pieces, limits)

    same(outcome(pieces) for pieces in ways_to_cut(choices.rest, seed))


def _told(
    found: Outcome, handshake: ClientHandshake, pieces: list[bytes], limits: Limits
) -> tuple[object, ...]:
    response = found.value if found.failure is None else found.failure.response
    if response is not None:
        assert isinstance(response, Response)
        assert len(response.body) <= limits.max_response_body
        assert len(response.headers) <= limits.max_headers
    if found.failure is not None:
        assert found.failure.code in ERRORS
        if response is not None and response.status != 101:
            return response, None  # what h11 says of a body may depend on how much of it has come
        return response, str(found.failure)
    assert isinstance(response, Response)
    if response.status != 101:
        assert 200 <= response.status <= 999
        return response, None
    assert response.headers.get_all("sec-websocket-accept") == [ACCEPT]
    protocol, rest = handshake.upgrade(masks=MASKS)
    assert protocol.subprotocol in (None, "chat", "v2")
    assert "".join(response.headers.get_all("sec-websocket-protocol")) == (protocol.subprotocol or "")
    assert len(protocol.extensions) == len(response.headers.get_all("sec-websocket-extensions")) <= 1
    return response, rest + b"".join(pieces[found.taken :])


def seeds() -> dict[str, bytes]:
    deflate = "permessage-deflate; server_no_context_takeover; client_max_window_bits=10"
    answers = {
        "plain": an_answer(),
        "with_frames_behind": an_answer() + b"\x81\x02hi",
        "bare_newlines": an_answer().replace(b"\r\n", b"\n"),
        "subprotocol": an_answer(Sec_WebSocket_Protocol="v2"),
        "subprotocol_other": an_answer(Sec_WebSocket_Protocol="v3"),
        "subprotocol_twice": an_answer(Sec_WebSocket_Protocol=["v2", "chat"]),
        "deflate": an_answer(Sec_WebSocket_Extensions=deflate),
        "deflate_bits": an_answer(Sec_WebSocket_Extensions="permessage-deflate; server_max_window_bits=99"),
        "deflate_twice": an_answer(Sec_WebSocket_Extensions="permessage-deflate, permessage-deflate"),
        "extension_other": an_answer(Sec_WebSocket_Extensions="constructor"),
        "accept_wrong": an_answer(Sec_WebSocket_Accept="AAAA"),
        "accept_none": an_answer(Sec_WebSocket_Accept=None),
        "accept_twice": an_answer(Sec_WebSocket_Accept=[ACCEPT, ACCEPT]),
        "no_upgrade": an_answer(Upgrade=None),
        "no_connection": an_answer(Connection="close"),
        "http_1_0": an_answer("HTTP/1.0 101 Switching Protocols"),
        "early_hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + an_answer(),
        "informational_for_ever": b"HTTP/1.1 100 Continue\r\n\r\n" * 10,
        "not_found": b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found",
        "chunked": b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n",
        "chunked_junk": b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nhello",
        "until_the_end": b"HTTP/1.0 500 Oh\r\n\r\nno",
        "cut_body": b"HTTP/1.1 503 Busy\r\nContent-Length: 900\r\n\r\nlater",
        "two_lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "redirect": b"HTTP/1.1 302 Found\r\nLocation: wss://example.org/\r\nContent-Length: 0\r\n\r\n",
        "no_content": b"HTTP/1.1 204 No Content\r\n\r\n",
        "folded": an_answer(X_Folded="one\r\n two"),
        "nul": an_answer(X_Nul="a\x00b"),
        "bare_cr": an_answer(X_Bare="a\rb"),
        "many_headers": an_answer(X_Many=[str(number) for number in range(120)]),
        "long_line": an_answer(X_Long="x" * 200),
        "long_head": an_answer(X_Long=["x" * 105] * 3),
        "long_body": b"HTTP/1.1 503 Busy\r\nContent-Length: 50\r\n\r\n" + bytes(50),
        "cut_off": an_answer()[:-2],
        "ssh": b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u2\r\n",
        "status_999": b"HTTP/1.1 999 \r\nContent-Length: 0\r\n\r\n",
    }
    found = {name: bytes([0, 3, 5, 1]) + data for name, data in answers.items()}
    found |= {
        f"{name}_not_offered": bytes([0, 0, 5, 1]) + answers[name] for name in ("deflate", "subprotocol")
    }
    return found | {
        f"{name}_small": bytes([1, 3, 9, 0]) + answers[name]
        for name in ("chunked", "long_line", "long_head", "long_body", "plain")
    }
