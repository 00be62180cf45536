"""What attacks on the opening handshake share: sending any bytes, and holding the answer to what all answers have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import h11
import trio

from tests.threats.threat_kit import Victim
from trio_ws.testing import RawPeer, handshake_request

#: Stands in what the attacker says, and must not stand in what it is told.
MARK = "tellme7"

#: The beginning of a plain request, and a whole one, of which nobody is to hear but where it is meant to be read.
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
SMUGGLED = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % MARK.encode()

#: All that a server says about itself and the request when it refuses one.
_FIELDS = {"connection", "content-length", "content-type", "upgrade", "sec-websocket-version", "allow"}


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request that was refused."""

    status: int
    headers: dict[str, str]
    body: bytes


def handshake_with(fields: Mapping[str, str | Sequence[str] | None]) -> bytes:
    """Return a handshake with these headers changed; one that is None is left out."""
    return handshake_request("GET / HTTP/1.1", **fields)


def request_with(*lines: bytes, start: bytes = b"GET / HTTP/1.1", without: Sequence[str] = ()) -> bytes:
    """Return a handshake with these header lines in addition, byte for byte, and without these headers."""
    head = handshake_with(dict.fromkeys(without)).partition(b"\r\n")[2][:-2]
    return b"\r\n".join([start, head + b"".join(line + b"\r\n" for line in lines), b""])


def with_value(name: str, value: bytes) -> bytes:
    """Return a handshake in which a header has this value, byte for byte."""
    return request_with(b"%s: %s" % (name.encode(), value), without=[name])


async def orderly_rest(peer: RawPeer) -> bytes:
    """Receive up to the end of the stream; that it is reset is a failure, for that may destroy what was sent before."""
    data = bytes(peer.received)
    peer.received.clear()
    while more := await peer.stream.receive_some(65536):
        data += more
    return data


async def receive_refusal(peer: RawPeer, method: str = "GET") -> Answer:
    """Receive one answer and the end of the stream, in order; it is valid HTTP, closes, and repeats nothing it was told."""
    with trio.fail_after(5):
        data = await orderly_rest(peer)
    assert MARK.encode() not in data
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "localhost")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    client.receive_data(b"")
    response = client.next_event()
    assert isinstance(response, h11.Response), data
    headers = {name.decode(): value.decode("ascii") for name, value in response.headers}
    assert len(headers) == len(response.headers), "a header stands there twice"
    assert set(headers) <= _FIELDS
    assert headers["connection"] in ("close", "close, Upgrade")
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert client.trailing_data[0] == b"", "there is something behind the answer"
    assert 400 <= response.status_code < 600
    assert body.endswith(b".\n") or method == "HEAD"
    return Answer(response.status_code, headers, body)


async def refusal(victim: Victim, data: bytes, method: str = "GET") -> Answer:
    """Connect, send these bytes, and return the answer."""
    async with victim.dialled() as peer:
        await peer.send(data)
        return await receive_refusal(peer, method)


async def acceptance(victim: Victim, data: bytes) -> dict[str, str]:
    """Connect, send these bytes, which are accepted; have a word echoed, part, and return the headers of the 101."""
    with trio.fail_after(5):
        async with victim.dialled() as peer:
            await peer.send(data)
            start, *lines = (await peer.receive_head()).decode("ascii").split("\r\n")[:-2]
            assert start == "HTTP/1.1 101 Switching Protocols"
            await peer.send_frame(1, b"hello")
            await peer.expect(1, b"hello")
            await peer.send_close(1000)
            await peer.expect_close(1000)
            assert await orderly_rest(peer) == b""
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
