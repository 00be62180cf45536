"""What a connection can be told to do differently, and what it says of itself when it is over."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest
import trio
import trio.testing

from tests.io.api_kit import client_and_peer, serving
from tests.io.link_kit import (
    BINARY,
    CONT,
    PING,
    PONG,
    TEXT,
    against,
    both_ends,
    every_kind,
    every_role,
    settle,
)
from trio_ws import (
    ConnectionLost,
    PerMessageDeflate,
    TextBytes,
    WebSocketConnection,
    WebSocketRequest,
    open_websocket_url,
)
from trio_ws.protocol import AgreedDeflate, Role
from trio_ws.testing import open_connection_pair

pytestmark = pytest.mark.usefixtures("autojump_clock")

Params = Sequence[tuple[str, str | None]]


# How it has ended


@every_role
async def test_an_open_connection_has_no_close_code(role: Role) -> None:
    async with against(role=role) as (ws, peer):
        assert (ws.close_code, ws.close_reason, ws.close_was_clean) == (None, None, False)
        await peer.send_close(4000, "enough")
        with pytest.raises(ConnectionLost, match="4000"):
            await ws.get_message()
        assert (ws.close_code, ws.close_reason, ws.close_was_clean) == (4000, "enough", True)


@every_role
async def test_a_close_is_clean_when_it_was_answered(role: Role) -> None:
    async with against(role=role) as (ws, peer), trio.open_nursery() as nursery:
        nursery.start_soon(ws.aclose, 1001)
        await peer.expect_close(1001)
        assert (ws.close_code, ws.close_reason, ws.close_was_clean) == (1001, "", False)
        await peer.send_close(1001)
        await settle()
        assert ws.close_was_clean
        await peer.aclose()


async def test_a_broken_connection_is_not_closed_clean() -> None:
    async with against() as (ws, peer):
        await peer.aclose()
        await ws.wait_closed()
        assert (ws.close_code, ws.close_reason, ws.close_was_clean) == (1006, "", False)


# Ending one side


@every_kind
@every_role
async def test_messages_come_after_the_end_of_our_side(kind: str, role: Role) -> None:
    async with against(kind, role) as (ws, peer):
        await peer.send_frame(TEXT, b"before")
        await settle()
        await ws.end_sending(3000, "that is all")
        await peer.expect_close(3000, "that is all")
        with pytest.raises(ConnectionLost, match="3000"):
            await ws.send_message("more")
        await peer.send_frame(TEXT, b"be", fin=False)
        await peer.send_frame(PING, b"not answered")
        await peer.send_frame(CONT, b"hind")
        assert [await ws.get_message() for _ in range(2)] == ["before", "behind"]
        await peer.send_close(1000)
        await settle()
        assert ws.close_was_clean
        if role is Role.SERVER:
            await peer.expect_end()


async def test_an_end_that_cannot_be_said_changes_nothing() -> None:
    async with against() as (ws, peer):
        with pytest.raises(ValueError, match="1004"):
            await ws.end_sending(1004)
        await ws.send_message("x")
        await peer.expect(TEXT, b"x")


# Text or binary


@every_kind
async def test_the_type_of_a_message_can_be_chosen(kind: str) -> None:
    async with both_ends(kind) as (client, server):
        cases: list[tuple[str | bytes | bytearray, bool]] = [
            ("a€", True),
            ("a€".encode(), False),
            (bytearray(b"x"), False),
            (b"x", True),
        ]
        for message, binary in cases:
            await client.send_message(message, binary=binary)
        await client.send_message("t", binary=False)
        expected = ["a€".encode(), "a€", "x", b"x", "t"]
        assert [await server.get_message() for _ in expected] == expected


async def test_what_is_no_text_is_not_sent_as_such() -> None:
    async with both_ends("memory") as (client, server):
        with pytest.raises(ValueError, match="utf-8"):
            await client.send_message(b"\xff", binary=False)
        with pytest.raises(ValueError, match="contiguous"):
            await client.send_message(memoryview(b"abcd")[::2], binary=False)
        await client.send_message("fine")
        assert await server.get_message() == "fine"


@every_role
async def test_pieces_are_sent_as_text_in_whole_characters(role: Role) -> None:
    euro = "€".encode()
    async with against(role=role) as (ws, peer):
        await ws.send_stream([b"a" + euro[:1], euro[1:], "b"], binary=False)
        payload = bytearray()
        frame = await peer.receive_frame()
        assert frame.opcode == TEXT
        while not frame.fin:
            payload += frame.payload
            frame.payload.decode()
            frame = await peer.receive_frame()
        assert payload + frame.payload == b"a" + euro + b"b"
        pieces: list[str | bytes] = ["€", b"\xff"]
        await ws.send_stream(pieces, binary=True)
        frames = [await peer.receive_frame() for _ in range(3)]
        assert frames[0].opcode == BINARY
        assert b"".join(frame.payload for frame in frames) == euro + b"\xff"
        await ws.send_stream([], binary=False)
        assert (await peer.receive_frame()).opcode == TEXT


async def test_pieces_that_are_no_text_end_the_connection() -> None:
    async with against() as (ws, peer):
        with pytest.raises(ValueError, match="unexpected end"):
            await ws.send_stream([b"a\xe2"], binary=False)
        assert (await peer.receive_frame()).payload == b"a"
        assert (await peer.receive_frame()).payload[:2] == (1011).to_bytes(2, "big")


@every_kind
@every_role
async def test_text_as_bytes(kind: str, role: Role) -> None:
    async with against(kind, role, text_as_bytes=True) as (ws, peer):
        await peer.send_frame(TEXT, "a€".encode())
        await peer.send_frame(BINARY, b"b")
        await peer.send_frame(TEXT, b"c", fin=False)
        await peer.send_frame(CONT, b"d")
        received = [await ws.get_message() for _ in range(3)]
        assert received == ["a€".encode(), b"b", b"cd"]
        assert [type(message) for message in received] == [TextBytes, bytes, TextBytes]
        await peer.send_frame(TEXT, b"e")
        async with ws.receive_stream() as pieces:
            assert [(type(piece), piece) async for piece in pieces] == [(TextBytes, b"e")]
        await ws.send_message(received[0], binary=False)
        await peer.expect(TEXT, "a€".encode())
        await peer.send_frame(TEXT, b"\xff")
        with pytest.raises(ConnectionLost, match="1007"):
            await ws.get_message()


async def test_pieces_of_text_as_bytes_are_whole_characters() -> None:
    async with against(text_as_bytes=True) as (ws, peer), trio.open_nursery() as nursery:

        async def send() -> None:
            for byte in peer.encode_frame(TEXT, "a€b".encode()):
                await peer.send(bytes([byte]))
                await settle()

        nursery.start_soon(send)
        async with ws.receive_stream() as pieces:
            assert [piece async for piece in pieces] == [b"a", "€".encode(), b"b"]


# Hooks


@every_role
async def test_hooks_are_told_of_pings_and_pongs(role: Role) -> None:
    told: list[tuple[str, bytes]] = []

    def on_ping(payload: bytes) -> None:
        told.append(("ping", payload))

    def on_pong(payload: bytes) -> None:
        told.append(("pong", payload))

    async with against(role=role, on_ping=on_ping, on_pong=on_pong) as (ws, peer):
        await peer.send_frame(PING, b"1")
        await peer.expect(PONG, b"1")
        await peer.send_frame(PONG, b"2")
        await settle()
        assert told == [("ping", b"1"), ("pong", b"2")]
        assert ws.closed is None


async def test_a_hook_that_fails_is_logged_with_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    def fail(payload: bytes) -> None:
        raise RuntimeError(payload)

    async with against(on_ping=fail) as (ws, peer):
        await peer.send_frame(PING, b"1")
        await peer.expect(PONG, b"1")
        await peer.send_frame(TEXT, b"fine")
        assert await ws.get_message() == "fine"
        [record] = caplog.records
        assert record.name == "trio_ws"
        assert record.levelno == logging.ERROR
        assert str(ws) in record.getMessage()
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], RuntimeError)


@pytest.mark.parametrize("name", ["on_ping", "on_pong", "generate_mask", "websocket_class"])
def test_what_cannot_be_called_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        open_websocket_url("ws://localhost", **{name: 3})  # type: ignore[arg-type]  # which is what is tested


# Masks


async def test_masks_can_be_chosen() -> None:
    masks: Iterator[bytes] = iter([b"\0\0\0\0", b"abcd", b"wxyz", b"mask"])
    async with client_and_peer(generate_mask=lambda: next(masks)) as (ws, peer):
        await ws.send_message("zero")
        assert await peer.receive_exactly(10) == b"\x81\x84\0\0\0\0zero"
        await ws.send_message("x")
        assert (await peer.receive_frame()).mask == b"abcd"
        await ws.pong()
        assert (await peer.receive_frame()).mask == b"wxyz"
        await ws.send_message("a" * 100000, compress=False)
        assert (await peer.expect(TEXT, b"a" * 100000)).mask == b"mask"


@pytest.mark.parametrize("mask", [b"", b"abc", b"abcde", "abcd", bytearray(4), None])
async def test_a_mask_is_four_bytes(mask: bytes) -> None:
    async with client_and_peer(generate_mask=lambda: mask) as (ws, peer):
        with pytest.raises(ValueError, match="four bytes"):
            await ws.send_message("x")
        assert peer.received == b""


# Classes


class Chatter(WebSocketConnection):
    """A connection with a name."""

    async def introduce(self) -> None:
        await self.send_message(f"I am {self}")


async def test_connections_are_of_the_class_that_was_asked_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    autojump_clock.autojump_threshold = 0.05  # sockets take real time
    kinds: list[type] = []

    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        kinds.append(type(ws))
        assert isinstance(ws, Chatter)
        await ws.introduce()

    async with (
        serving(handler, websocket_class=Chatter) as server,
        open_websocket_url(f"ws://127.0.0.1:{server.port}/", websocket_class=Chatter) as ws,
    ):
        assert type(ws) is Chatter
        assert str(await ws.get_message()).startswith("I am server-")
    assert kinds == [Chatter]


# Extensions


@dataclass
class Agreed:
    name: str
    params: Params


@dataclass
class Custom:
    """An extension of somebody's own, that both sides have to know."""

    name: str
    accepts: bool = True

    def offer(self) -> Params:
        return [("level", "9")]

    def accept_response(self, params: Params) -> Agreed:
        return Agreed(self.name, params)

    def accept_offer(self, params: Params) -> tuple[Params, Agreed] | None:
        return ([("level", "3")], Agreed(self.name, [("level", "3")])) if self.accepts else None


async def test_extensions_of_ones_own() -> None:
    async with open_connection_pair(
        extensions=[Custom("x-one"), Custom("x-two", accepts=False)], compression=PerMessageDeflate()
    ) as ends:
        for end in ends:
            deflate, custom = end.extensions
            assert isinstance(deflate, AgreedDeflate)
            assert isinstance(custom, Agreed)
            assert (custom.name, list(custom.params)) == ("x-one", [("level", "3")])
        await ends.client.send_message("x" * 5000)
        assert await ends.server.get_message() == "x" * 5000


@pytest.mark.parametrize("names", [["permessage-deflate"], ["x-one", "x-one"]])
def test_extensions_that_cannot_be(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"permessage-deflate|x-one"):
        open_websocket_url("ws://localhost", extensions=[Custom(name) for name in names])


# The log


async def test_what_is_logged_of_a_handler_names_its_connection(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.05
    names: list[str] = []

    async def handler(request: WebSocketRequest) -> None:
        names.append(str(await request.accept()))
        raise RuntimeError("broken")

    async with serving(handler) as server, open_websocket_url(f"ws://127.0.0.1:{server.port}/") as ws:
        await ws.wait_closed()
    [record] = caplog.records
    assert record.name == "trio_ws"
    assert names[0] in record.getMessage()


@every_kind
async def test_what_is_logged_of_a_receiver_names_its_connection(
    kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail: Callable[[object], None] = _fail
    monkeypatch.setattr("trio_ws._outbox.Outbox.answer_ping", fail)
    async with against(kind) as (ws, peer):
        await peer.send_frame(PING)
        await ws.wait_closed()
        [record] = caplog.records
        assert str(ws) in record.getMessage()


def _fail(*_: object) -> None:
    raise RuntimeError("a mistake of the library's own")
