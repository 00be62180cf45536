"""`trio_ws.testing`: that pairs, failing streams and scripted peers do what they say."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing

from tests.io.transport_kit import open_pair, reset
from trio_ws import (
    CloseReason,
    ConnectionEnded,
    ConnectionLost,
    ConnectionRejected,
    HandshakeError,
    State,
    WebSocketConnection,
    wrap_client_stream,
    wrap_server_stream,
)
from trio_ws.protocol import ClientHandshake, Role
from trio_ws.testing import (
    FaultyStream,
    Frame,
    MemoryListener,
    RawPeer,
    Step,
    cancelling,
    cut,
    encode_raw_frame,
    end,
    fail,
    handshake_request,
    handshake_response,
    open_connection_pair,
    stall,
)

# open_connection_pair


@pytest.mark.parametrize("kind", ["memory", "lockstep", "tcp", "unix", "tls", "polled"])
async def test_pair_over_streams_of_every_kind(kind: str) -> None:
    async with open_connection_pair(await open_pair(kind), subprotocol="chat", resource="/a?b") as pair:
        client, server = pair
        assert (pair.client, pair.server) == (client, server)
        assert client.is_client
        assert server.is_server
        assert client.subprotocol == server.subprotocol == "chat"
        assert server.path == "/a?b"
        await client.send_message("from the client")
        await server.send_message(b"from the server")
        assert await server.get_message() == "from the client"
        assert await client.get_message() == b"from the server"
    assert client.closed == server.closed == CloseReason(1000)


async def test_pair_is_in_memory_by_default_and_leaves_unread_messages_behind() -> None:
    async with open_connection_pair() as (client, server):
        await client.send_message("never read")
        assert client.local == client.remote
    assert client.closed == server.closed == CloseReason(1000)


async def test_options_of_both_ends_and_of_each() -> None:
    async with open_connection_pair(
        message_queue_size=3,
        client_options={"message_queue_bytes": 5},
        server_options={"message_queue_size": 7},
    ) as (client, server):
        assert client.messages.statistics().max_messages == 3
        assert client.messages.statistics().max_bytes == 5
        assert server.messages.statistics().max_messages == 7
        assert server.messages.statistics().max_bytes == 2**20


async def test_exception_of_the_block_comes_out_bare_and_cuts_both_ends() -> None:
    ends: list[WebSocketConnection] = []

    async def block() -> None:
        async with open_connection_pair() as pair:
            ends.extend(pair)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await block()
    assert [ws.closed for ws in ends] == 2 * [CloseReason(1006)]


async def test_cancelling_the_block_cuts_both_ends() -> None:
    ends: list[WebSocketConnection] = []
    with trio.CancelScope() as scope:
        async with open_connection_pair() as pair:
            ends += pair
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert [ws.closed for ws in ends] == 2 * [CloseReason(1006)]


async def test_cancelling_while_one_end_is_still_closing(autojump_clock: trio.testing.MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    request = ClientHandshake(host="localhost", target="/", key=bytes(16)).request_bytes()
    deaf = FaultyStream(far, receive=[len(request), stall])
    ends: list[WebSocketConnection] = []

    async def open_and_close() -> None:
        async with open_connection_pair(
            (near, deaf), client_options={"disconnect_timeout": 1, "compression": None}
        ) as pair:
            ends.extend(pair)

    with trio.move_on_after(5) as scope, pytest.raises(trio.Cancelled):  # bare, not in a group
        await open_and_close()
    assert scope.cancel_called
    assert not scope.cancelled_caught
    assert [ws.state for ws in ends] == 2 * [State.CLOSED]


@pytest.mark.parametrize("kind", ["memory", "tcp"])
async def test_wrong_options_are_told_and_leave_nothing_open(kind: str) -> None:
    with pytest.raises(ValueError, match="ping_interval"):
        async with open_connection_pair(await open_pair(kind), client_options={"ping_interval": 0}):
            pass
    with pytest.raises(ValueError, match="connect_timeout"):
        async with open_connection_pair(await open_pair(kind), server_options={"connect_timeout": -1}):
            pass


async def test_refused_handshake_is_told_from_the_clients_side() -> None:
    with pytest.raises(ConnectionRejected) as refused:
        async with open_connection_pair(
            client_options={"origin": "https://a.example"}, server_options={"origins": ["https://b.example"]}
        ):
            pass
    assert refused.value.status_code == 403


async def test_server_that_cannot_answer_is_told() -> None:
    near, far = trio.testing.memory_stream_pair()
    with pytest.raises(HandshakeError, match="gone before it was answered"):
        async with open_connection_pair(
            (near, FaultyStream(far, send=[129, fail]))
        ):  # behind the last byte of the 101
            pass


# FaultyStream


@asynccontextmanager
async def faulty(
    *, receive: Iterable[Step] = (), send: Iterable[Step] = ()
) -> AsyncGenerator[tuple[FaultyStream, trio.abc.HalfCloseableStream], None]:
    near, far = trio.testing.memory_stream_pair()
    async with FaultyStream(near, receive=receive, send=send) as stream, far:
        yield stream, far


async def test_without_a_script_everything_passes() -> None:
    async with faulty() as (stream, far):
        await stream.wait_send_all_might_not_block()
        await stream.send_all(b"hello")
        assert await far.receive_some() == b"hello"
        await far.send_all(b"world")
        assert await stream.receive_some(3) == b"wor"
        assert await stream.receive_some() == b"ld"
        assert (stream.sent, stream.received) == (5, 5)
        await stream.send_eof()
        assert await far.receive_some() == b""


async def test_numbers_cut_what_is_received_into_pieces() -> None:
    async with faulty(receive=[1, 3, 0, 2]) as (stream, far):
        await far.send_all(b"0123456789")
        assert [await stream.receive_some() for _ in range(4)] == [b"0", b"123", b"45", b"6789"]


async def test_a_piece_that_comes_in_parts_is_still_that_long() -> None:
    async with faulty(receive=[4, end]) as (stream, far):
        await far.send_all(b"01")
        assert await stream.receive_some() == b"01"
        await far.send_all(b"2345")
        assert await stream.receive_some() == b"23"
        assert await stream.receive_some() == b""
        assert await stream.receive_some() == b""


async def test_numbers_cut_what_is_sent_into_pieces() -> None:
    sent: list[bytes] = []

    class Inside(FaultyStream):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            sent.append(bytes(data))

    near, far = trio.testing.memory_stream_pair()
    async with far, FaultyStream(Inside(near), send=[1, 3, 2]) as stream:
        await stream.send_all(memoryview(b"01"))
        await stream.send_all(b"23456789")
        assert sent == [b"0", b"1", b"23", b"45", b"6789"]


@pytest.mark.parametrize("after", [0, 3, 5])
@pytest.mark.parametrize(("fault", "tells_the_peer"), [(cut, True), (fail, False)])
async def test_sending_breaks_after_so_many_bytes(
    fault: Callable[[FaultyStream], Awaitable[None]],
    tells_the_peer: bool,
    after: int,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with faulty(send=[after, fault]) as (stream, far):
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"01234")
        assert stream.sent == after
        for broken in (stream.send_all(b"x"), stream.receive_some(), stream.send_eof()):
            with pytest.raises(trio.BrokenResourceError):
                await broken
        with pytest.raises(trio.BrokenResourceError):
            await stream.wait_send_all_might_not_block()
        assert await far.receive_some() == b"01234"[:after] if after else True
        with trio.move_on_after(1) as scope:
            assert await far.receive_some() == b""
        assert scope.cancelled_caught != tells_the_peer


async def test_a_cut_is_a_loss_for_who_is_receiving() -> None:
    async with faulty(send=[cut]) as (stream, _), trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")


async def test_receiving_breaks_after_so_many_bytes() -> None:
    async with faulty(receive=[2, fail]) as (stream, far):
        await far.send_all(b"0123")
        assert await stream.receive_some() == b"01"
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_a_stall_ends_with_the_stream() -> None:
    async with faulty(receive=[stall], send=[2, stall]) as (stream, far), trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()

        async def send() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.send_all(b"0123")

        nursery.start_soon(receive)
        nursery.start_soon(send)
        await far.send_all(b"never read")
        await trio.testing.wait_all_tasks_blocked()
        assert (stream.sent, stream.received) == (2, 0)
        assert await far.receive_some() == b"01"
        await stream.aclose()


async def test_closing_while_nothing_is_wrong() -> None:
    async with faulty() as (stream, _), trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()


async def test_closing_what_is_inside_is_no_loss() -> None:
    near, far = trio.testing.memory_stream_pair()
    async with far, FaultyStream(near) as stream:
        await near.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()


@pytest.mark.parametrize("after", [0, 1, 4])
async def test_the_caller_is_cancelled_after_so_many_bytes(after: int) -> None:
    async with faulty(send=[after, cancelling(scope := trio.CancelScope())]) as (stream, _):
        with scope:
            await stream.send_all(b"0123")
        assert scope.cancelled_caught
        assert stream.sent == after


async def test_the_caller_may_be_someone_else() -> None:
    other = trio.CancelScope()
    async with faulty(send=[2, cancelling(other)]) as (stream, far):
        await stream.send_all(b"0123")
        assert await far.receive_some() == b"0123"
    assert other.cancel_called


# MemoryListener


async def test_memory_listener() -> None:
    async with MemoryListener() as listener:
        client = listener.connect()
        server = await listener.accept()
        await client.send_all(b"hello")
        assert await server.receive_some() == b"hello"
        waiting = listener.connect()
    assert await waiting.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        listener.connect()
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()
    await listener.aclose()


async def test_memory_listener_makes_the_streams_it_is_told_to() -> None:
    listener = MemoryListener(trio.testing.lockstep_stream_pair)
    assert type(listener.connect()) is type(trio.testing.lockstep_stream_pair()[0])


# RawPeer


@pytest.mark.parametrize(
    ("frame", "data"),
    [  # RFC 6455 5.7 has the first ones
        (encode_raw_frame(1, b"Hello"), "8105 48656c6c6f"),
        (encode_raw_frame(1, b"Hello", mask=bytes.fromhex("37fa213d")), "8185 37fa213d 7f9f4d5158"),
        (encode_raw_frame(1, b"Hel", fin=False), "0103 48656c"),
        (encode_raw_frame(2, bytes(256)), "827e0100" + "00" * 256),
        (encode_raw_frame(2, bytes(65536)), "827f0000000000010000" + "00" * 65536),
        (encode_raw_frame(15, rsv=7), "ff00"),
        (encode_raw_frame(2, b"x", size=2**63), "827f8000000000000000 78"),
        (encode_raw_frame(2, b"x", width=8), "827f0000000000000001 78"),
    ],
    ids=str,
)
def test_raw_frames(frame: bytes, data: str) -> None:
    assert frame == bytes.fromhex(data)


def test_heads_are_valid_unless_changed() -> None:
    request = handshake_request()
    assert request.startswith(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
    assert request.endswith(b"\r\n\r\n")
    # the example of RFC 6455 1.3
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in handshake_response(request)
    changed = handshake_request("POST / HTTP/1.0", host=None, Sec_WebSocket_Key=["a", "b"], New="c")
    assert changed.startswith(b"POST / HTTP/1.0\r\nUpgrade: ")
    assert b"\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Key: b\r\n" in changed
    assert changed.endswith(b"\r\nNew: c\r\n\r\n")
    assert handshake_response(b"", "HTTP/1.1 200 OK", upgrade=None).startswith(
        b"HTTP/1.1 200 OK\r\nConnection: "
    )


async def test_peer_as_a_server() -> None:
    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(far, Role.SERVER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.handshake)
        client = await wrap_client_stream(nursery, near, "localhost", "/a")
        await client.send_message("x" * 70000)
        frame = await peer.expect(1, b"x" * 70000)
        assert frame.mask is not None
        await client.send_message(b"y" * 300)
        assert (await peer.receive_frame()).payload == b"y" * 300
        await peer.send_frame(1, b"hel", fin=False)
        await peer.send_frame(0, b"lo")
        assert await client.get_message() == "hello"
        await peer.send_close(None)
        with pytest.raises(ConnectionEnded):
            await client.get_message()
        await peer.expect_close(None)
        await peer.aclose()


async def test_peer_as_a_client() -> None:
    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(near, Role.CLIENT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.handshake, "GET /a HTTP/1.1")
        request = await wrap_server_stream(nursery, far)
        assert request.path == "/a"
        server = await request.accept()
        await trio.testing.wait_all_tasks_blocked()
        await peer.send_frame(2, b"hello", rsv=0)
        assert await server.get_message() == b"hello"
        await server.send_message("world")
        assert await peer.receive_frame() == Frame(1, b"world")
        await peer.send(peer.encode_frame(1, b"rsv", rsv=4))
        with pytest.raises(ConnectionLost):
            await server.get_message()
        await peer.expect_close(1002)
        await peer.expect_end()
        await peer.aclose()


async def test_peer_wants_a_101() -> None:
    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(near, Role.CLIENT)
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(AssertionError, match="expected a 101, not b'HTTP/1"):
                await peer.handshake("POST / HTTP/1.1")
            await peer.receive_rest()
            await peer.aclose()

        nursery.start_soon(ask)
        with suppress(HandshakeError):
            await wrap_server_stream(nursery, far)


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        ("8101 78", "expected Frame"),  # another payload
        ("8201 79", "expected Frame"),  # another opcode
        ("0101 79", "expected Frame"),
        ("c101 79", "expected Frame"),
        ("8181 00000000 79", "a client's frames must be masked, a server's not"),
        ("8102 79", "expected 2 bytes, but the stream ended after b'y'"),
        ("81", "expected 2 bytes"),
        ("", "expected 2 bytes"),
    ],
)
async def test_peer_complains_of_what_it_did_not_expect(sent: str, complaint: str) -> None:
    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(near, Role.CLIENT)
    await far.send_all(bytes.fromhex(sent))
    await far.send_eof()
    with pytest.raises(AssertionError, match=complaint):
        await peer.expect(1, b"y")


async def test_peer_sees_an_end_and_what_stands_before_it() -> None:
    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(near, Role.SERVER)
    await far.send_all(b"something")
    await far.aclose()
    with pytest.raises(AssertionError, match="expected the end of the stream, not b'something'"):
        await peer.expect_end()
    await peer.expect_end()
    with pytest.raises(AssertionError, match="an HTTP head, but the stream ended"):
        await peer.receive_head()


async def test_a_reset_is_an_end() -> None:
    near, far = await open_pair("tcp")
    async with near:
        await far.send_all(b"something")
        reset(far)
        assert await RawPeer(near, Role.SERVER).receive_rest() in (b"something", b"")
