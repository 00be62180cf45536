"""An evil server during the opening handshake: whatever it says, the client fails with a documented error, and in time."""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

import pytest
import trio
import trio.testing

from tests.io.api_kit import receive_all, scripted_port
from trio_ws import (
    CloseReason,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    open_websocket,
    wrap_client_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import FaultyStream, RawPeer, cut, encode_raw_frame, end, fail, handshake_response

Answer: TypeAlias = Callable[[bytes], bytes]


async def meet(
    answer: Answer, *, subprotocols: Sequence[str] = (), pieces: int | None = None
) -> tuple[WebSocketConnection | Exception, FaultyStream]:
    """Connect to a server that answers so and then waits; return the connection or the error, and the client's stream."""
    near, far = trio.testing.memory_stream_pair()
    stream = FaultyStream(near, receive=itertools.repeat(pieces) if pieces else ())
    peer = RawPeer(far, Role.SERVER)

    async def serve() -> None:
        await peer.send(answer(await peer.receive_head()))

    result: WebSocketConnection | Exception
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            result = await wrap_client_stream(nursery, stream, "localhost", "/", subprotocols=subprotocols)
        except HandshakeError as exc:
            result = exc
        else:
            result.terminate()
    assert await peer.receive_rest() == b""
    return result, stream


def changed(start: str = "HTTP/1.1 101 Switching Protocols", **changes: str | Sequence[str] | None) -> Answer:
    """Return an answer that is valid but for the changes."""
    return lambda request: handshake_response(request, start, **changes)


def with_accept(change: Callable[[str], str | Sequence[str]]) -> Answer:
    """Return an answer whose proof is changed."""

    def answer(request: bytes) -> bytes:
        valid = handshake_response(request).decode()
        proof = valid.partition("Accept: ")[2].partition("\r\n")[0]
        return handshake_response(request, Sec_WebSocket_Accept=change(proof))

    return answer


def raw(data: bytes) -> Answer:
    """Return an answer that is always the same."""
    return lambda _: data


def behind_the_status(data: bytes) -> Answer:
    """Return a valid answer with something between its first line and the rest."""

    def answer(request: bytes) -> bytes:
        first, _, rest = handshake_response(request).partition(b"\r\n")
        return first + b"\r\n" + data + rest

    return answer


BAD_ANSWERS: dict[str, Answer] = {
    "wrong proof": with_accept(lambda _: "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    "proof in other case": with_accept(str.swapcase),
    "no proof": changed(Sec_WebSocket_Accept=None),
    "two proofs": with_accept(lambda proof: [proof, proof]),
    "proof and a wrong one": with_accept(lambda proof: [proof, "AAAA"]),
    "no Upgrade": changed(Upgrade=None),
    "other Upgrade": changed(Upgrade="h2c"),
    "two Upgrades": changed(Upgrade=["websocket", "websocket"]),
    "no Connection": changed(Connection=None),
    "other Connection": changed(Connection="keep-alive"),
    "HTTP/1.0": changed("HTTP/1.0 101 Switching Protocols"),
    "HTTP/2": changed("HTTP/2 101 Switching Protocols"),
    "not HTTP": raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "binary": raw(bytes(range(256)) * 4),
    "a frame": raw(encode_raw_frame(1, b"hello\r\n\r\n")),
    "nothing but line ends": raw(b"\r\n" * 100),
    "20000 headers": behind_the_status(b"X: y\r\n" * 20_000),
    "101 headers": behind_the_status(b"X: y\r\n" * 101),
    "2 MiB header": behind_the_status(b"X: " + b"y" * 2**21 + b"\r\n"),
    "2 MiB status line": raw(b"HTTP/1.1 101 " + b"y" * 2**21 + b"\r\n\r\n"),
    "endless informational answers": raw(b"HTTP/1.1 102 Processing\r\n\r\n" * 10_000),
    "bare CR": behind_the_status(b"X: a\rb\r\n"),
    "NUL": behind_the_status(b"X: a\x00b\r\n"),
    "folded header": behind_the_status(b"X: a\r\n b\r\n"),
    "header without a name": behind_the_status(b": a\r\n"),
    "header without a colon": behind_the_status(b"X\r\n"),
    "space before the colon": behind_the_status(b"X : a\r\n"),
    "extension nobody asked for": changed(Sec_WebSocket_Extensions="permessage-bzip2"),
    "subprotocol nobody asked for": changed(Sec_WebSocket_Protocol="chat"),
    "empty subprotocol": changed(Sec_WebSocket_Protocol=""),
}


@pytest.mark.parametrize("pieces", [None, 1000])
@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_a_bad_answer_is_a_handshake_error(answer: Answer, pieces: int | None) -> None:
    error, stream = await meet(answer, pieces=pieces)
    assert type(error) is HandshakeError
    assert str(error)
    assert stream.received <= 2**17  # the rest was neither read nor kept


@pytest.mark.parametrize(
    "answer", [BAD_ANSWERS[name] for name in ("wrong proof", "bare CR", "HTTP/1.0", "not HTTP")]
)
async def test_a_bad_answer_byte_by_byte(answer: Answer) -> None:
    error, _ = await meet(answer, pieces=1)
    assert type(error) is HandshakeError


@pytest.mark.parametrize(
    "chosen", ["other", ["one", "two"], "one, two", "ONE", ["one", "one"], "", "constructor"], ids=str
)
async def test_a_subprotocol_that_was_not_offered(chosen: str | list[str]) -> None:
    error, _ = await meet(changed(Sec_WebSocket_Protocol=chosen), subprotocols=["one", "two"])
    assert isinstance(error, HandshakeError)
    assert "subprotocol" in str(error)


async def test_a_subprotocol_need_not_be_chosen() -> None:
    connection, _ = await meet(changed(), subprotocols=["one", "two"])
    assert isinstance(connection, WebSocketConnection)
    assert connection.subprotocol is None


GOOD_ANSWERS: dict[str, Answer] = {
    "other case": changed(Upgrade="WebSocket", Connection="UPGRADE"),
    "several connection options": changed(Connection="keep-alive, Upgrade"),
    "informational answers first": lambda request: (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        + handshake_response(request)
    ),
    "100 headers less one": behind_the_status(b"X: y\r\n" * 97),
    "empty reason": changed("HTTP/1.1 101 "),
    "latin-1": behind_the_status(b"X: \xff\xe4\r\n"),
}


@pytest.mark.parametrize("pieces", [None, 1])
@pytest.mark.parametrize("answer", GOOD_ANSWERS.values(), ids=GOOD_ANSWERS)
async def test_unusual_answers_that_are_right(answer: Answer, pieces: int | None) -> None:
    connection, _ = await meet(answer, pieces=pieces)
    assert isinstance(connection, WebSocketConnection)


REFUSALS: dict[str, tuple[Answer, int, bytes | None]] = {
    "200": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more"), 200, b"hello"),
    "no body": (raw(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), 404, None),
    "204": (raw(b"HTTP/1.1 204 No Content\r\n\r\n"), 204, None),
    "redirect": (
        raw(b"HTTP/1.1 302 Found\r\nLocation: ws://localhost/b\r\nContent-Length: 0\r\n\r\n"),
        302,
        None,
    ),
    "chunked": (
        raw(b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        401,
        b"abcde",
    ),
    "10 GB": (
        raw(b"HTTP/1.1 401 No\r\nContent-Length: 10000000000\r\n\r\n" + bytes(2**20)),
        401,
        bytes(2**16),
    ),
    "chunked without end": (
        raw(
            b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n"
            + 2**10 * (b"400\r\n" + bytes(2**10) + b"\r\n")
        ),
        401,
        bytes(2**16),
    ),
    "up to the end": (raw(b"HTTP/1.0 403 No\r\n\r\n" + bytes(2**20)), 403, bytes(2**16)),
}


@pytest.mark.parametrize(("answer", "status", "body"), REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("pieces", [None, 100])
async def test_a_refusal_is_read_up_to_64_kib(
    answer: Answer, status: int, body: bytes | None, pieces: int | None
) -> None:
    error, stream = await meet(answer, pieces=pieces)
    assert isinstance(error, ConnectionRejected)
    assert (error.status_code, error.body) == (status, body)
    assert stream.received <= 2**18


@pytest.mark.parametrize(
    "answer",
    [
        raw(b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"),
        raw(b"HTTP/1.1 401 No\r\nContent-Length: -1\r\n\r\n"),
        raw(b"HTTP/1.1 401 No\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
    ],
)
async def test_a_refusal_whose_body_has_no_end(answer: Answer) -> None:
    error, _ = await meet(answer)
    assert isinstance(error, HandshakeError)


async def test_informational_answers_that_drip_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    async def script(peer: RawPeer) -> None:
        await peer.receive_head()
        for byte in itertools.cycle(b"HTTP/1.1 102 Processing\r\n\r\n"):
            await peer.send(bytes([byte]))
            await trio.sleep(0.9)

    async with scripted_port(script) as port:
        with pytest.raises(HandshakeError):
            async with open_websocket("127.0.0.1", port, "/", use_ssl=False):
                pass
        assert trio.current_time() == pytest.approx(10)


# Frames in the same segment as the 101


async def test_frames_glued_to_the_answer_are_received() -> None:
    frames = encode_raw_frame(1, b"one") + encode_raw_frame(2, b"two") + encode_raw_frame(9, b"?")

    async def script(peer: RawPeer) -> None:
        request = await peer.receive_head()
        await peer.send(handshake_response(request) + frames + encode_raw_frame(8, b"\x03\xe8bye"))
        await peer.expect(10, b"?")
        await peer.expect_close(1000, "bye")

    async with (
        scripted_port(script) as port,
        open_websocket("127.0.0.1", port, "/", use_ssl=False) as ws,
    ):
        assert [message async for message in ws] == ["one", b"two"]
        assert ws.closed is not None
        assert ws.closed.reason == "bye"


@pytest.mark.parametrize("cut_at", [1, 3, 5])
async def test_half_a_frame_glued_to_the_answer(cut_at: int) -> None:
    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(far, Role.SERVER)
    frame = encode_raw_frame(1, b"hello")

    async def serve() -> None:
        await peer.send(handshake_response(await peer.receive_head()) + frame[:cut_at])
        await trio.testing.wait_all_tasks_blocked()
        await peer.send(frame[cut_at:])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        ws = await wrap_client_stream(nursery, near, "localhost", "/")
        assert await ws.get_message() == "hello"
        ws.terminate()


# The end at every byte

FRAMES = [encode_raw_frame(1, b"one"), encode_raw_frame(9, b"ping"), encode_raw_frame(2, b"x" * 126)]
MESSAGES = ["one", b"x" * 126]
#: Behind these bytes of the frames a message is complete.
COMPLETE = [len(FRAMES[0]), len(b"".join(FRAMES))]
ANSWER_SIZE = len(handshake_response(b""))


async def talk(near: trio.abc.Stream, far: trio.abc.Stream) -> list[str | bytes]:
    """Do the handshake and receive until the end; return the messages.

    Raises:
        HandshakeError: the end came before the beginning.
    """

    async def serve() -> None:
        peer = RawPeer(far, Role.SERVER)
        with suppress(trio.BrokenResourceError):
            await peer.send(handshake_response(await peer.receive_head()) + b"".join(FRAMES))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        ws = await wrap_client_stream(nursery, near, "localhost", "/")
        received, error = await receive_all(ws)
        assert error.reason == CloseReason(1006)
        await ws.aclose()
    return received


@pytest.mark.parametrize("fault", [end, fail, cut])
async def test_an_end_at_every_byte(
    fault: Callable[[FaultyStream], Awaitable[None]], autojump_clock: trio.testing.MockClock
) -> None:
    for offset in range(ANSWER_SIZE):
        near, far = trio.testing.memory_stream_pair()
        with trio.fail_after(20), pytest.RaisesGroup(HandshakeError):
            await talk(FaultyStream(near, receive=[offset, fault]), far)
    for offset in range(COMPLETE[1] + 1):
        near, far = trio.testing.memory_stream_pair()
        stream = FaultyStream(near, receive=[ANSWER_SIZE + offset, fault])
        with trio.fail_after(20):
            assert await talk(stream, far) == MESSAGES[: sum(offset >= size for size in COMPLETE)]
