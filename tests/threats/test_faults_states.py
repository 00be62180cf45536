"""Whatever state a connection is in: what comes, what is asked of it and what is logged about it disturbs nothing."""

from __future__ import annotations

import gc
import itertools
import logging
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
import trio
import trio.testing

from tests.io.api_kit import dialling, receive_all, serving_in_memory
from tests.io.api_kit import echo as echo_request
from tests.io.link_kit import (
    BINARY,
    CLOSE,
    CONT,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    against,
    close_payload,
    every_role,
    joined,
    open_streams,
    settle,
)
from tests.io.transport_kit import reset as reset_stream
from tests.protocol.deflate_kit import Deflating
from tests.threats.test_faults_writing import frames_of
from trio_ws import (
    ConnectionClosed,
    ConnectionOptions,
    PerMessageDeflate,
    State,
    WebSocketRequest,
    wrap_client_stream,
    wrap_server_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import (
    FaultyStream,
    Frame,
    RawPeer,
    encode_raw_frame,
    handshake_request,
    open_connection_pair,
)

pytestmark = pytest.mark.usefixtures("autojump_clock")

RawFrames = list[tuple[int, bytes, bool, int]]


def whole(opcode: int, payload: bytes = b"") -> RawFrames:
    return [(opcode, payload, True, 0)]


def in_parts(opcode: int, *payloads: bytes) -> RawFrames:
    last = len(payloads) - 1
    return [
        (opcode if not place else CONT, payload, place == last, 0) for place, payload in enumerate(payloads)
    ]


def deflated(*payloads: bytes) -> RawFrames:
    last = len(payloads) - 1
    return [
        (CONT if place else TEXT, payload, place == last, 0 if place else 4)
        for place, payload in enumerate(payloads)
    ]


DEFLATING = Deflating()
BAD_TEXT = b"\xce\xba\xed\xa0\x80edited"

#: Conversations of every kind that the Autobahn testsuite has; each ends in a close frame or a violation.
VECTORS: dict[str, RawFrames] = {
    **{f"text of {size}": whole(TEXT, b"*" * size) for size in (0, 1, 125, 126, 127, 300)},
    **{f"binary of {size}": whole(BINARY, b"\xfe" * size) for size in (0, 1, 125, 126, 127, 300)},
    "pings": [*whole(PING), *whole(PING, b"hello"), *whole(PING, bytes(range(125)))],
    "a ping of 126": whole(PING, bytes(126)),
    "pongs": [*whole(PONG), *whole(PONG, b"unasked"), *whole(PING, b"x")],
    "ten pings": whole(PING, b"payload") * 10,
    **{f"reserved bits {rsv}": [*whole(TEXT, b"before"), (TEXT, b"x", True, rsv)] for rsv in (1, 2, 3, 4, 7)},
    **{f"opcode {opcode}": [*whole(TEXT, b"before"), *whole(opcode)] for opcode in (3, 4, 7, 11, 12, 15)},
    "a ping in fragments": [(PING, b"a", False, 0), (CONT, b"b", True, 0)],
    "in fragments": in_parts(TEXT, b"first ", b"second ", b"third"),
    "in empty fragments": in_parts(TEXT, b"", b"", b""),
    "pings between fragments": [
        (TEXT, b"fragment1", False, 0),
        *whole(PING, b"1"),
        (CONT, b"fragment2", False, 0),
        *whole(PING, b"2"),
        (CONT, b"fragment3", True, 0),
    ],
    "nothing to continue": [*whole(TEXT, b"before"), (CONT, b"x", True, 0)],
    "a message inside another": [(TEXT, b"fragment1", False, 0), *whole(TEXT, b"fragment2")],
    "text of many scripts": whole(TEXT, "Hello-µ@ßöäüàá-UTF-8!! κόσμε \U0001f600".encode()),
    "characters cut by fragments": in_parts(
        TEXT, "κόσμε".encode()[:3], "κόσμε".encode()[3:5], "κόσμε".encode()[5:]
    ),
    "characters cut by every fragment": in_parts(TEXT, *(bytes([byte]) for byte in "κό\U0001f600".encode())),
    "text that is none": [*whole(TEXT, b"before"), *whole(TEXT, BAD_TEXT)],
    "text that is none, in fragments": in_parts(TEXT, BAD_TEXT[:4], BAD_TEXT[4:]),
    "text that ends inside a character": whole(TEXT, "κ".encode()[:1]),
    "a close frame without a code": whole(CLOSE),
    "a close frame of one byte": whole(CLOSE, b"\x03"),
    **{f"close code {code}": whole(CLOSE, close_payload(code, "why")) for code in (1000, 1011, 3000, 4999)},
    **{
        f"close code {code}": whole(CLOSE, close_payload(code))
        for code in (0, 999, 1004, 1005, 1006, 1015, 5000)
    },
    "a reason of 123 bytes": whole(CLOSE, close_payload(1000, "*" * 123)),
    "a reason that is no text": whole(CLOSE, close_payload(1000) + BAD_TEXT),
    "a close frame between fragments": [(TEXT, b"half", False, 0), *whole(CLOSE, close_payload(1000))],
    "frames behind the close frame": [*whole(CLOSE, close_payload(1000)), *whole(TEXT, b"x"), *whole(PING)],
    "deflated": [*deflated(DEFLATING.payload("words, " * 40)), *deflated(DEFLATING.payload("words, " * 40))],
    "deflated in fragments": deflated(*Deflating().payloads(b"words, " * 9, b"", b"words, " * 9)),
    "deflated badly": deflated(b"\xff\xff\xff\xff"),
}


async def converse(role: Role, frames: RawFrames, *, byte_by_byte: bool) -> tuple[list[Frame], str]:
    """Echo what comes until the end; return the frames that were sent, control frames last, and how it ended."""
    near, far = trio.testing.memory_stream_pair()
    ours = FaultyStream(near, receive=itertools.repeat(1), send=itertools.repeat(1)) if byte_by_byte else near
    peer = RawPeer(far, Role.CLIENT if role is Role.SERVER else Role.SERVER)
    mask = b"\1\2\3\4" if role is Role.SERVER else None
    data = b"".join(
        encode_raw_frame(opcode, payload, fin=fin, rsv=rsv, mask=mask) for opcode, payload, fin, rsv in frames
    )
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: peer.handshake(Sec_WebSocket_Extensions="permessage-deflate"))
            if role is Role.CLIENT:
                ws = await wrap_client_stream(nursery, ours, "localhost", "/")
            else:
                request = await wrap_server_stream(nursery, ours, compression=PerMessageDeflate())
                ws = await request.accept()
            await settle()
            await peer.send(data + encode_raw_frame(CLOSE, close_payload(4000), mask=mask))
            await peer.stream.send_eof()  # type: ignore[attr-defined]  # these streams half-close
            with suppress(ConnectionClosed):
                async for message in ws:
                    await ws.send_message(message, compress=False)
            await ws.wait_closed()
            frames_sent, rest = frames_of(await peer.receive_rest())
    await trio.aclose_forcefully(far)
    assert rest == b""
    plain = [replace(frame, mask=None) for frame in frames_sent]
    return sorted(plain, key=lambda frame: frame.opcode >= CLOSE), repr(ws.closed)


@every_role
@pytest.mark.parametrize("name", VECTORS)
async def test_byte_by_byte_is_the_same_as_in_one_piece(name: str, role: Role) -> None:
    assert await converse(role, VECTORS[name], byte_by_byte=True) == await converse(
        role, VECTORS[name], byte_by_byte=False
    )


async def test_those_conversations_are_what_they_are_called() -> None:
    """Two ways that agree because nothing is received at all would show nothing."""
    ends = {
        name: (await converse(Role.SERVER, frames, byte_by_byte=False)) for name, frames in VECTORS.items()
    }
    codes = {name: frames[-1].payload[:2] for name, (frames, _) in ends.items()}
    assert codes["text of 300"] == codes["pings"] == (4000).to_bytes(2, "big")
    assert codes["opcode 3"] == codes["reserved bits 1"] == (1002).to_bytes(2, "big")
    assert codes["text that is none"] == codes["deflated badly"] == (1007).to_bytes(2, "big")
    assert codes["close code 1000"] == (1000).to_bytes(2, "big")
    assert codes["close code 1005"] == (1002).to_bytes(2, "big")
    [echo, *_] = ends["in fragments"][0]
    assert echo == Frame(TEXT, b"first second third")
    assert [frame.payload for frame in ends["deflated"][0][:2]] == [b"words, " * 40] * 2


# A full queue


#: What comes behind the messages, what answers it, and whether it is an end.
EVENTS: dict[str, tuple[tuple[int, bytes], tuple[int, bytes] | None, bool]] = {
    "ping": ((PING, b"now"), (PONG, b"now"), False),
    "pong": ((PONG, b"unasked"), None, False),
    "close": ((CLOSE, close_payload(1001)), (CLOSE, close_payload(1001)), True),
    "violation": ((3, b""), (CLOSE, close_payload(1002)), True),
}


@pytest.mark.parametrize("kind", ["tcp", "memory"])
@every_role
@pytest.mark.parametrize("event", EVENTS)
async def test_a_full_queue_holds_up_no_control_frame_and_no_end(kind: str, role: Role, event: str) -> None:
    """The application takes nothing, for as long as it likes; an end has its deadline all the same."""
    comes, answer, is_end = EVENTS[event]
    async with against(kind, role, message_queue_size=1, disconnect_timeout=4) as (ws, peer):
        begun = trio.current_time()
        await peer.send(joined(peer, [(TEXT, b"first"), (TEXT, b"second"), comes]))
        await settle()
        if answer is not None:
            await peer.expect(*answer)
        if is_end:
            await ws.wait_closed()
        assert trio.current_time() - begun <= (4.001 if is_end else 0)
        assert (ws.closed is None) is not is_end
        assert [await ws.get_message(), await ws.get_message()] == ["first", "second"]
        if is_end:
            with pytest.raises(ConnectionClosed):
                await ws.get_message()


@pytest.mark.parametrize("kind", ["tcp", "memory"])
@every_role
@pytest.mark.parametrize("event", ["end of bytes", "reset"])
async def test_a_full_queue_loses_nothing_when_the_peer_goes(kind: str, role: Role, event: str) -> None:
    """What the kernel has is received, and then the end, though reading had paused."""
    async with against(kind, role, message_queue_size=1, disconnect_timeout=4) as (ws, peer):
        await peer.send(joined(peer, [(TEXT, b"first"), (TEXT, b"second")]))
        await settle()
        if event == "reset" and kind == "tcp":
            reset_stream(peer.stream)
        else:
            await trio.aclose_forcefully(peer.stream)
        assert [await ws.get_message(), await ws.get_message()] == ["first", "second"]
        begun = trio.current_time()
        with pytest.raises(ConnectionClosed):
            await ws.get_message()
        await ws.wait_closed()
        assert trio.current_time() - begun <= 4.001


@pytest.mark.parametrize("stuck", ["unread queue", "writer", "reader", "all"])
@every_role
async def test_closing_takes_no_longer_than_allowed_whatever_is_stuck(role: Role, stuck: str) -> None:
    """Nobody reads here, the peer reads nothing, or says nothing: it is over at `disconnect_timeout`."""
    options: ConnectionOptions = {
        "message_queue_size": 1,
        "disconnect_timeout": 4,
        "ping_interval": None,
    }
    async with against("lockstep", role, **options) as (ws, peer), trio.open_nursery() as nursery:
        if stuck in ("unread queue", "all"):
            nursery.start_soon(swallow, peer.send, peer.encode_frame(BINARY, bytes(10)) * 5000)
        if stuck in ("writer", "all"):
            for _ in range(3):
                nursery.start_soon(swallow, ws.send_message, bytes(100_000))
        if stuck == "reader":
            nursery.start_soon(swallow, peer.send, peer.encode_frame(BINARY, bytes(1000))[:-1])
        await settle()
        begun = trio.current_time()
        await ws.aclose()
        assert trio.current_time() - begun <= 4.001
        assert ws.state is State.CLOSED
        await trio.aclose_forcefully(peer.stream)


async def swallow(call: Callable[[bytes], Awaitable[object]], data: bytes) -> None:
    with suppress(ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
        await call(data)


# What is logged and printed


class BrokenHandler(logging.Handler):
    """A handler that fails, as on a full disk; `logging` itself would catch nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.asked += 1
        raise RuntimeError("the disk is full")


@pytest.fixture
def broken_handler() -> Iterator[BrokenHandler]:
    handler = BrokenHandler()
    logger = logging.getLogger("trio_ws")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


async def test_a_log_handler_that_raises_does_no_harm_to_a_server(broken_handler: BrokenHandler) -> None:
    """A handler of requests fails, and so does what should say so: its client gets 1011, the others are served."""

    async def fail(request: WebSocketRequest) -> None:
        if request.path == "/":
            await echo_request(request)
            return
        await request.accept()
        raise RuntimeError("a bug")

    async with serving_in_memory(fail) as (_, listener):
        async with dialling(listener) as healthy, dialling(listener, "/fail") as failing:
            _, error = await receive_all(failing)
            assert error.reason is not None
            assert error.reason.code == 1011
            assert broken_handler.asked == 1
            await healthy.send_message("still there")
            assert await healthy.get_message() == "still there"
        async with dialling(listener) as another:
            await another.send_message("and still")
            assert await another.get_message() == "and still"


async def test_a_log_handler_that_raises_does_no_harm_to_a_connection(broken_handler: BrokenHandler) -> None:
    """A hook fails for each ping, and so does what should say so."""

    def fail(_: bytes) -> None:
        raise RuntimeError("a bug")

    async with against("memory", on_ping=fail, on_pong=fail) as (ws, peer):
        for opcode in (PING, PONG, PING):
            await peer.send_frame(opcode, b"x")
        await peer.expect(PONG, b"x")
        await peer.expect(PONG, b"x")
        await peer.send_frame(TEXT, b"still there")
        assert await ws.get_message() == "still there"
        assert broken_handler.asked == 3


async def test_every_state_can_be_printed() -> None:
    """From the handshake to the time when only the name is left; printing changes nothing."""
    seen: list[str] = []

    def look(thing: object) -> None:
        for text in (repr(thing), str(thing), f"{thing}"):
            assert text
        seen.append(repr(thing))

    near, far = await open_streams("tcp")
    peer = RawPeer(far, Role.CLIENT)
    async with trio.open_nursery() as nursery:
        await peer.send(handshake_request())
        request = await wrap_server_stream(nursery, near, on_ping=lambda _: look(ws))
        look(request)
        ws = await request.accept()
        look(request)
        look(ws)
        await peer.receive_head()
        await peer.send(peer.encode_frame(PING, b"") + peer.encode_frame(TEXT, b"half", fin=False))
        await peer.expect(PONG, b"")
        look(ws)
        async with ws.receive_stream() as pieces:
            look(ws)
            look(pieces)
            assert await anext(pieces) == "half"
        look(ws.messages)
        nursery.start_soon(ws.aclose)
        await peer.expect_close()
        look(ws)
        reset_stream(far)
        await ws.wait_closed()
        look(ws)
        look(ws.closed)
    look(ws)
    look(request)
    assert "OPEN" in seen[2]
    assert "CLOSED" in repr(ws)


async def test_a_connection_whose_nursery_is_gone_can_still_be_asked() -> None:
    async with open_connection_pair() as (ws, peer):
        await peer.send_message("last words")
        await settle()
        gone = weakref.ref(peer)
        del peer
    gc.collect()
    assert gone() is None
    assert "CLOSED" in repr(ws)
    assert str(ws)
    assert ws.closed is not None
    with pytest.raises(ConnectionClosed):
        await ws.send_message("too late")
    with pytest.raises(ConnectionClosed):
        await ws.get_message()


async def test_a_request_that_was_rejected_can_be_printed() -> None:
    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(far, Role.CLIENT)
    async with trio.open_nursery() as nursery:
        await peer.send(handshake_request())
        request = await wrap_server_stream(nursery, near)
        nursery.start_soon(peer.receive_rest)
        nursery.start_soon(request.reject, 404)
        await settle()
        assert repr(request)
        await peer.aclose()
    assert repr(request)
