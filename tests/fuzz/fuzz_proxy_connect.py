"""Whatever an HTTP proxy answers, in any pieces, is a refusal, no answer, or a tunnel from which not a byte was taken.

The first bytes choose where to cut; the rest is the proxy's answer.
"""

from __future__ import annotations

import re

import trio

from tests.fuzz.fuzz_kit import Choices, Pieces, same, ways_to_cut
from trio_ws.transport import Proxy, TunnelError, dial_http_proxy

CHOICES = 2
_MAX_BODY = 65536
_BLANK_LINE = re.compile(rb"\n\r?\n")


def check(data: bytes) -> None:
    choices = Choices(data, CHOICES)
    seed = choices.byte() + 256 * choices.byte()
    trio.run(_compare, choices.rest, ways_to_cut(choices.rest, seed))


async def _compare(answer: bytes, ways: list[list[bytes]]) -> None:
    outcomes = [await _ask(pieces) for pieces in ways]
    heads = {taken for status, taken in outcomes if status == 200}
    if not heads:
        same(status for status, _ in outcomes)
        return
    (head,) = heads
    ends = [blank.end() for blank in _BLANK_LINE.finditer(answer)]
    assert head in ends
    # what came behind the answer in one piece with it is no answer at all: only the other side could have asked for it
    for status, taken in outcomes:
        assert status == 200 or (status is None and taken > head)


async def _ask(pieces: list[bytes]) -> tuple[int | None, int]:
    """Return the status of an answer, which is 200 of every tunnel and None of what is no answer, and the bytes taken."""
    stream = Pieces(pieces)

    async def dial(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        assert (host, port) == ("proxy.example", 8080)
        return stream

    proxy = Proxy("http", "proxy.example", 8080, "me", "secret")
    try:
        tunnel = await dial_http_proxy(proxy, "a.example", 80, dial=dial)
    except TunnelError as error:
        assert len(error.body) <= _MAX_BODY
        assert "secret" not in str(error)
        assert error.status is None or 300 <= error.status <= 999
        return error.status, stream.taken
    assert tunnel is stream
    assert stream.sent.startswith(b"CONNECT a.example:80 HTTP/1.1\r\n")
    return 200, stream.taken


def seeds() -> dict[str, bytes]:
    answers = {
        "established": b"HTTP/1.1 200 Connection established\r\n\r\n",
        "http_1_0": b"HTTP/1.0 200 OK\r\nProxy-Agent: x\r\n\r\n",
        "other_2xx": b"HTTP/1.1 204 \r\n\r\n",
        "with_length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "bytes_behind": b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n",
        "credentials": b"HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 2\r\n\r\nno",
        "credentials_latin_1": b"HTTP/1.1 407 Auth\r\nProxy-Authenticate: \xff\xe4\r\n\r\n",
        "forbidden_chunked": b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "chunked_junk": b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello",
        "until_the_end": b"HTTP/1.1 502 Bad Gateway\r\n\r\nsorry",
        "cut_body": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 900\r\n\r\nsorry",
        "two_lengths": b"HTTP/1.1 502 Bad\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nso",
        "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        "informational": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "informational_for_ever": b"HTTP/1.1 100 Continue\r\n\r\n" * 12,
        "redirect": b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n",
        "folded": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        "bare_newlines": b"HTTP/1.1 200 OK\n\n",
        "nul": b"HTTP/1.1 200 O\x00K\r\n\r\n",
        "no_status": b"HTTP/1.1\r\n\r\n",
        "status_99": b"HTTP/1.1 099 \r\n\r\n",
        "socks": b"\x05\x00",
        "tls": b"\x15\x03\x01\x00\x02\x02\x28",
        "cut_off": b"HTTP/1.1 200 OK\r\n",
        "nothing": b"",
    }
    return {name: bytes([9, 0]) + answer for name, answer in answers.items()}
