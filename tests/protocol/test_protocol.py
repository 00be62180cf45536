"""One side of a connection: what it sends for what is asked of it, and what it takes in, before anything has ended."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from operator import methodcaller
from typing import TYPE_CHECKING

import pytest

from tests.protocol.codec_kit import BINARY, CONTINUATION, PING, PONG, TEXT, Peer, Seen, seen
from trio_ws.protocol._encode import JOIN_SIZE
from trio_ws.protocol._errors import LocalProtocolError
from trio_ws.protocol._events import Close, Fragment, Ping, Pong
from trio_ws.protocol._limits import Limits
from trio_ws.protocol._mask import MaskPool
from trio_ws.protocol._protocol import Protocol
from trio_ws.protocol._state import Phase, Role, State

if TYPE_CHECKING:
    from typing_extensions import Buffer

pytestmark = pytest.mark.usefixtures("codec_of_protocol")


class Numbers:
    """A source of random bytes that are numbers of four bytes, so that masks tell in which order they were taken."""

    def __init__(self) -> None:
        self.next = 1
        self.calls = 0

    def __call__(self, size: int) -> bytes:
        self.calls += 1
        first, self.next = self.next, self.next + size // 4
        return b"".join(number.to_bytes(4, "big") for number in range(first, self.next))


def client() -> Protocol:
    return Protocol(Role.CLIENT, masks=MaskPool(Numbers()))


def server() -> Protocol:
    return Protocol(Role.SERVER, masks=MaskPool(Numbers()))


MAKERS = [client, server]
each_side = pytest.mark.parametrize("make", MAKERS)


def mask(number: int) -> bytes:
    """Return the `number`-th mask that a `client()` takes."""
    return number.to_bytes(4, "big")


def test_a_new_protocol() -> None:
    masks = MaskPool(bytes)
    for role in Role:
        protocol = Protocol(role, masks=masks)
        assert protocol.role is role
        assert protocol.phase is Phase.OPEN
        assert protocol.state is State.OPEN
        assert protocol.may_send
        assert not protocol.more
        assert protocol.partial == 0
        assert protocol.subprotocol is None
        assert protocol.extensions == ()
        assert (protocol.close_received, protocol.close_sent, protocol.violation) == (None, None, None)
    assert Protocol(Role.CLIENT, masks=masks, subprotocol="chat").subprotocol == "chat"


def test_what_the_handshake_agreed_on_is_kept() -> None:
    class Agreed:
        name = "x-test"
        params = (("level", "1"),)

    agreed = Agreed()
    protocol = Protocol(Role.SERVER, masks=MaskPool(bytes), subprotocol="chat", extensions=(agreed,))
    assert protocol.subprotocol == "chat"
    assert protocol.extensions == (agreed,)


# Sending


def test_a_server_sends_plain_frames() -> None:
    protocol = server()
    them = Peer(masked=False)
    assert protocol.send_message("é") == (b"\x81\x02\xc3\xa9",)
    assert protocol.send_message(b"\xff") == (b"\x82\x01\xff",)
    assert protocol.send_message("") == (b"\x81\x00",)
    assert protocol.send_message(b"") == (b"\x82\x00",)
    assert protocol.send_ping(b"hi") == (b"\x89\x02hi",)
    assert protocol.send_pong(b"") == (b"\x8a\x00",)
    assert protocol.send_message("x" * 126) == (them.frame(TEXT, "x" * 126),)


def test_a_client_masks_every_frame_with_the_next_mask() -> None:
    protocol = client()
    us = Peer(masked=True)
    assert protocol.send_message("é") == (us.frame(TEXT, "é", mask=mask(1)),)
    assert protocol.send_message(b"\xff") == (us.frame(BINARY, b"\xff", mask=mask(2)),)
    assert protocol.send_ping(b"hi") == (us.frame(PING, "hi", mask=mask(3)),)
    assert protocol.send_pong(b"") == (us.frame(PONG, mask=mask(4)),)
    assert protocol.send_fragment("a", False) == (us.frame(TEXT, "a", fin=False, mask=mask(5)),)
    assert protocol.send_fragment("b", True) == (us.frame(CONTINUATION, "b", mask=mask(6)),)
    header, body = protocol.send_message(bytes(JOIN_SIZE))
    assert header + body == us.frame(BINARY, bytes(JOIN_SIZE), mask=mask(7))
    assert b"".join(protocol.send_close(1000, "x")) == us.close(1000, "x")[:2] + mask(8) + bytes(
        a ^ b for a, b in zip(b"\x03\xe8x", mask(8), strict=False)
    )


def test_ten_thousand_masks_are_distinct() -> None:
    protocol = client()
    masks = [protocol.send_message(b"")[0][2:] for _ in range(10_000)]
    assert {len(key) for key in masks} == {4}
    assert len(set(masks)) == 10_000


def test_a_server_takes_no_masks() -> None:
    source = Numbers()
    protocol = Protocol(Role.SERVER, masks=MaskPool(source))
    protocol.send_message("a")
    protocol.send_close(1000, None)
    assert source.calls == 0


@pytest.mark.parametrize("size", [0, JOIN_SIZE - 1, JOIN_SIZE, JOIN_SIZE + 1, 65535, 65536])
@each_side
def test_large_payloads_stay_apart_from_their_headers(make: Callable[[], Protocol], size: int) -> None:
    protocol = make()
    us = Peer(masked=protocol.role is Role.CLIENT)
    payload = bytes(i % 253 for i in range(size))
    chunks = protocol.send_message(payload)
    assert len(chunks) == (1 if size < JOIN_SIZE else 2)
    assert b"".join(chunks) == us.frame(BINARY, payload, mask=mask(1))
    assert {type(chunk) for chunk in chunks} == {bytes}
    if size >= JOIN_SIZE and protocol.role is Role.SERVER:
        assert chunks[1] is payload  # not copied
    chunks = protocol.send_fragment(payload, False)
    assert b"".join(chunks) == us.frame(BINARY, payload, fin=False, mask=mask(2))


class Text(str):
    """A text of another type."""

    __slots__ = ()


class Bytes(bytes):
    """Bytes of another type, which could lie about themselves later."""


def view(data: bytes) -> memoryview:
    return memoryview(bytearray(data))


def signed_view(data: bytes) -> memoryview:
    return view(data).cast("b")


def as_array(data: bytes) -> array[int]:
    return array("B", data)


@pytest.mark.parametrize("size", [3, JOIN_SIZE])
@pytest.mark.parametrize("kind", [bytes, Bytes, bytearray, memoryview, view, signed_view, as_array])
@each_side
def test_buffers_are_binary_and_are_never_changed(
    make: Callable[[], Protocol], kind: Callable[[bytes], Buffer], size: int
) -> None:
    data = bytes(i % 7 for i in range(size))
    us = Peer(masked=make is client)
    buffer = kind(data)
    for chunks in (make().send_message(buffer), make().send_fragment(buffer, True)):
        assert bytes(buffer) == data
        assert b"".join(chunks) == us.frame(BINARY, data, mask=mask(1))
        assert {type(chunk) for chunk in chunks} == {bytes}


@pytest.mark.parametrize("size", [4, JOIN_SIZE])
@each_side
def test_buffers_may_be_changed_once_they_are_sent(make: Callable[[], Protocol], size: int) -> None:
    data = bytearray(b"x" * size)
    chunks = make().send_message(data)
    before = b"".join(chunks)
    data[:] = b"y" * size
    data.append(0)  # no view on it is left: that would forbid to resize it
    assert b"".join(chunks) == before


@each_side
def test_buffers_are_measured_in_bytes(make: Callable[[], Protocol]) -> None:
    us = Peer(masked=make is client)
    numbers = array("d", [1.0, 2.0])
    assert make().send_message(numbers) == (us.frame(BINARY, numbers.tobytes(), mask=mask(1)),)
    grid = memoryview(bytes(12)).cast("B", (3, 4))
    assert make().send_message(grid) == (us.frame(BINARY, bytes(12), mask=mask(1)),)


@each_side
def test_text_is_measured_in_bytes_of_utf_8(make: Callable[[], Protocol]) -> None:
    us = Peer(masked=make is client)
    for text in ("€", "𝄞" * 40, Text("subclass"), "\x00", "é" * JOIN_SIZE):
        assert b"".join(make().send_message(text)) == us.frame(TEXT, text.encode(), mask=mask(1))
        assert b"".join(make().send_fragment(text, True)) == us.frame(TEXT, text.encode(), mask=mask(1))


NOT_MESSAGES = {
    "a number": (5, TypeError, "a bytes-like object is required"),
    "None": (None, TypeError, "a bytes-like object is required"),
    "a list": ([1, 2], TypeError, "a bytes-like object is required"),
    "a view with gaps": (memoryview(b"abcdef")[::2], TypeError, "a message is text or a contiguous buffer"),
    "a reversed view": (memoryview(b"abcdef")[::-1], TypeError, "a message is text or a contiguous buffer"),
    "a surrogate": ("a\ud800", UnicodeEncodeError, "surrogates not allowed"),
}


@pytest.mark.parametrize("what", NOT_MESSAGES)
@each_side
def test_what_is_no_message_is_refused_and_nothing_has_changed(
    make: Callable[[], Protocol], what: str
) -> None:
    message, error, match = NOT_MESSAGES[what]
    protocol = make()
    us = Peer(masked=make is client)
    for final in (False, True):
        with pytest.raises(error, match=match):
            protocol.send_message(message)  # type: ignore[arg-type]  # that this is refused is what is tested
        with pytest.raises(error, match=match):
            protocol.send_fragment(message, final)  # type: ignore[arg-type]
    # no message was begun and no mask was taken
    assert protocol.send_fragment(b"a", False) == (us.frame(BINARY, b"a", fin=False, mask=mask(1)),)
    for final in (False, True):
        with pytest.raises(error, match=match):
            protocol.send_fragment(message, final)  # type: ignore[arg-type]
    # and the message that was begun goes on
    assert protocol.send_fragment(b"b", True) == (us.frame(CONTINUATION, b"b", mask=mask(2)),)


@each_side
def test_messages_in_fragments(make: Callable[[], Protocol]) -> None:
    protocol = make()
    us = Peer(masked=make is client)
    assert protocol.send_fragment("a", False) == (us.frame(TEXT, "a", fin=False, mask=mask(1)),)
    assert protocol.send_fragment("", False) == (us.frame(CONTINUATION, fin=False, mask=mask(2)),)
    # control frames go between fragments, messages do not
    assert protocol.send_ping(b"p") == (us.frame(PING, "p", mask=mask(3)),)
    assert protocol.send_pong(b"q") == (us.frame(PONG, "q", mask=mask(4)),)
    with pytest.raises(LocalProtocolError, match="a message is being sent in fragments: finish it first"):
        protocol.send_message("whole")
    with pytest.raises(TypeError, match="all pieces of a message must be text, or all binary"):
        protocol.send_fragment(b"binary", True)
    assert protocol.send_fragment("b", True) == (us.frame(CONTINUATION, "b", mask=mask(5)),)
    # the next message has its own kind, and may be a single fragment
    assert protocol.send_fragment(b"c", True) == (us.frame(BINARY, b"c", mask=mask(6)),)
    assert protocol.send_fragment("d", True) == (us.frame(TEXT, "d", mask=mask(7)),)
    assert protocol.send_message("whole") == (us.frame(TEXT, "whole", mask=mask(8)),)
    assert protocol.send_fragment(b"e", False) == (us.frame(BINARY, b"e", fin=False, mask=mask(9)),)
    with pytest.raises(TypeError):
        protocol.send_fragment("text", False)


@each_side
def test_control_frames_have_125_bytes_at_most(make: Callable[[], Protocol]) -> None:
    protocol = make()
    us = Peer(masked=make is client)
    for send in (protocol.send_ping, protocol.send_pong):
        with pytest.raises(ValueError, match="a control frame has at most 125 bytes, not 126"):
            send(bytes(126))
    assert protocol.send_ping(bytes(125)) == (us.frame(PING, bytes(125), mask=mask(1)),)
    assert protocol.send_pong(bytes(125)) == (us.frame(PONG, bytes(125), mask=mask(2)),)


# Receiving


@each_side
def test_each_side_takes_the_frames_of_the_other(make: Callable[[], Protocol]) -> None:
    protocol = make()
    peer = Peer(masked=make is server)
    data = peer.frame(TEXT, "a") + peer.frame(PING, b"b") + peer.frame(PONG, b"c") + peer.frame(BINARY, b"d")
    assert protocol.receive_data(data) == ["a", Ping(b"b"), Pong(b"c"), b"d"]
    assert protocol.receive_data(memoryview(data)) == ["a", Ping(b"b"), Pong(b"c"), b"d"]
    wrong = Peer(masked=make is client)
    (event,) = seen(protocol.receive_data(wrong.frame(TEXT, "a")))
    assert "MASK must be" in str(event)
    assert protocol.violation is not None
    assert protocol.violation.close_code == 1002


@each_side
def test_limits_are_those_of_the_connection(make: Callable[[], Protocol]) -> None:
    role = make().role
    peer = Peer(masked=role is Role.SERVER)
    protocol = Protocol(role, masks=MaskPool(bytes), limits=Limits(max_message_size=3))
    assert protocol.receive_data(peer.frame(TEXT, "abc")) == ["abc"]
    protocol.receive_data(peer.frame(TEXT, "abcd"))
    assert protocol.violation is not None
    assert protocol.violation.code == "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH"


@each_side
def test_events_that_were_held_back_come_with_the_next_call(make: Callable[[], Protocol]) -> None:
    protocol = make()
    peer = Peer(masked=make is server)
    data = peer.frame(PING) * 500 + peer.close(1000)
    seen_so_far: list[Seen] = []
    calls: list[bool] = []
    for piece in (data, b""):
        seen_so_far += seen(protocol.receive_data(piece))
        calls.append(protocol.more)
    assert calls == [True, False]
    assert seen_so_far == [*[Ping(b"")] * 500, Close(1000, "")]
    assert protocol.phase is Phase.ANSWERING


@pytest.mark.parametrize("how", [methodcaller("receive_eof"), methodcaller("lose")], ids=["EOF", "lost"])
@each_side
def test_after_the_end_nothing_is_held_back(
    make: Callable[[], Protocol], how: Callable[[Protocol], None]
) -> None:
    protocol = make()
    peer = Peer(masked=make is server)
    protocol.receive_data(peer.frame(PING) * 5000 + peer.close(1000))
    how(protocol)
    phase = protocol.phase
    assert not protocol.more  # whoever loops while there is more comes to an end
    assert protocol.receive_data(b"") == []
    assert protocol.phase is phase


@each_side
def test_messages_in_pieces(make: Callable[[], Protocol]) -> None:
    protocol = make()
    peer = Peer(masked=make is server)
    assert protocol.receive_data(peer.frame(BINARY, b"half", fin=False)) == []
    assert protocol.partial == 4
    assert protocol.next_in_pieces() == [Fragment(b"half", False)]
    assert not protocol.next_whole()
    assert protocol.partial == 0
    assert protocol.receive_data(peer.frame(CONTINUATION)) == [Fragment(b"", True)]
    assert protocol.next_in_pieces() == []
    assert protocol.next_whole()
    assert protocol.receive_data(peer.frame(TEXT, "whole")) == ["whole"]


@each_side
def test_half_a_message_is_not_handed_out_after_the_end(make: Callable[[], Protocol]) -> None:
    peer = Peer(masked=make is server)
    for end in (methodcaller("receive_eof"), methodcaller("lose")):
        protocol = make()
        assert protocol.receive_data(peer.frame(BINARY, b"half", fin=False)) == []
        end(protocol)
        assert protocol.next_in_pieces() == []
