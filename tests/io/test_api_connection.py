"""`WebSocketConnection` in the ways that trio-websocket's users use it."""

import array
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
import trio.testing

from tests.io.api_kit import client_and_peer, closed_error, server_and_peer
from tests.io.transport_kit import TLS, open_pair
from trio_ws import (
    CloseReason,
    ConnectionClosed,
    ConnectionEnded,
    ConnectionLost,
    Endpoint,
    State,
    WebSocketConnection,
)
from trio_ws.testing import FaultyStream, open_connection_pair, stall

# What it is


async def test_each_connection_has_a_name_of_its_own() -> None:
    async with open_connection_pair() as first, open_connection_pair() as second:
        names = [str(ws) for ws in (*first, *second)]
        assert [name.partition("-")[0] for name in names] == ["client", "server"] * 2
        assert len({int(name.partition("-")[2]) for name in names}) == 4
        assert next(WebSocketConnection.CONNECTION_ID) > max(int(name.partition("-")[2]) for name in names)


async def test_attributes_can_be_set_on_a_connection() -> None:
    async with open_connection_pair() as (client, _):
        client.user = "someone"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # as users do
        assert vars(client) == {"user": "someone"}


async def test_roles_path_and_subprotocol() -> None:
    async with open_connection_pair(resource="/chat?room=1&x=%20", subprotocol="v2") as (client, server):
        assert (client.is_client, client.is_server) == (True, False)
        assert (server.is_client, server.is_server) == (False, True)
        assert client.path == server.path == "/chat?room=1&x=%20"
        assert client.subprotocol == server.subprotocol == "v2"
        assert client.extensions == server.extensions == ()
        assert client.url == server.url == "ws://localhost/chat?room=1&x=%20"
    async with open_connection_pair() as (client, server):
        assert client.path == "/"
        assert client.subprotocol is server.subprotocol is None


async def test_ends_over_tcp() -> None:
    async with open_connection_pair(await open_pair("tcp")) as (client, server):
        assert isinstance(client.local, Endpoint)
        assert client.local == server.remote
        assert client.remote == server.local
        assert not client.local.is_ssl
        assert client.local.url == f"ws://127.0.0.1:{client.local.port}"


@pytest.mark.parametrize("kind", TLS)
async def test_ends_over_tls(kind: str) -> None:
    async with open_connection_pair(await open_pair(kind)) as (client, server):
        assert isinstance(server.local, Endpoint)
        assert server.local == client.remote
        assert server.local.is_ssl
        assert server.local.url == f"wss://127.0.0.1:{server.local.port}"


async def test_ends_of_a_stream_without_addresses_are_its_repr() -> None:
    near, far = trio.testing.memory_stream_pair()
    async with open_connection_pair((near, far)) as (client, server):
        assert client.local == client.remote == repr(near)
        assert server.local == server.remote == repr(far)


async def test_handshake_headers_are_those_that_say_something() -> None:
    async with open_connection_pair(
        client_options={
            "extra_headers": [(b"Cookie", b"a=b"), (b"X-One", b"1")],
            "origin": "http://localhost",
        }
    ) as (client, server):
        assert sorted(server.handshake_headers) == [
            (b"cookie", b"a=b"),
            (b"origin", b"http://localhost"),
            (b"x-one", b"1"),
        ]
        assert client.handshake_headers == []


async def test_state_and_closed_follow_the_life_of_a_connection() -> None:
    async with client_and_peer() as (ws, peer), trio.open_nursery() as nursery:
        life = [(ws.state, ws.closed)]
        nursery.start_soon(ws.aclose, 1001, "bye")
        await trio.testing.wait_all_tasks_blocked()
        life.append((ws.state, ws.closed))
        await peer.send_close(4000, "no")
        await peer.aclose()
        await ws.wait_closed()
        life.append((ws.state, ws.closed))
    assert life == [
        (State.OPEN, None),
        (State.CLOSING, CloseReason(1001, "bye")),
        (State.CLOSED, CloseReason(4000, "no")),
    ]


async def test_repr_in_every_state() -> None:
    async with server_and_peer() as (ws, peer):
        assert repr(ws).startswith(f"<WebSocketConnection {ws} ws://localhost/ OPEN remote=")
        await peer.send_frame(1, b"x")
        await trio.testing.wait_all_tasks_blocked()
        assert "queued=1 buffered=0" in repr(ws)
        await ws.get_message()
        await peer.send_close(1001, "bye")
        await trio.testing.wait_all_tasks_blocked()
        assert "peer has ended its side" in repr(ws)
        assert "CloseReason" not in repr(ws)
        error = await closed_error(ws)
        assert "CLOSING" in repr(ws)
        assert repr(error.reason) in repr(ws)
        ws.terminate()
        assert "CLOSED" in repr(ws)


async def test_repr_has_what_is_known() -> None:
    async with open_connection_pair(await open_pair("tcp"), subprotocol="v2") as (client, _):
        assert isinstance(client.remote, Endpoint)
        assert "latency" not in repr(client)
        await client.ping()
        assert "latency=" in repr(client)
        assert f"subprotocol=v2 remote={client.remote.url} " in repr(client)


# Messages


@pytest.mark.parametrize(
    ("message", "received"),
    [
        ("text", "text"),
        ("", ""),
        ("\u00e4\U0001f600\x00", "\u00e4\U0001f600\x00"),
        (b"binary", b"binary"),
        (b"", b""),
        (bytearray(b"mutable"), b"mutable"),
        (memoryview(b"a view"), b"a view"),
        (array.array("H", [0x4241]), array.array("H", [0x4241]).tobytes()),
    ],
    ids=repr,
)
async def test_messages_arrive_as_text_or_bytes(message: str | bytes, received: str | bytes) -> None:
    async with open_connection_pair() as (client, server):
        await client.send_message(message)
        await server.send(message)
        for arrived in (await server.get_message(), await client.receive()):
            assert arrived == received
            assert type(arrived) is type(received)


@pytest.mark.parametrize("message", [1, None, ["x"], object(), memoryview(b"abcdef")[::2]], ids=repr)
async def test_what_is_no_message_is_refused_before_a_byte_is_sent(message: str) -> None:
    async with open_connection_pair() as (client, server):
        with pytest.raises(ValueError, match="text or a contiguous buffer"):
            await client.send_message(message)
        await client.send_message("after")
        assert await server.get_message() == "after"


async def test_text_that_cannot_be_encoded_is_refused_before_a_byte_is_sent() -> None:
    async with open_connection_pair() as (client, server):
        with pytest.raises(ValueError, match="surrogate"):
            await client.send_message("\ud800")
        await client.send_message("after")
        assert await server.get_message() == "after"


async def test_a_buffer_may_change_once_it_is_sent() -> None:
    near, far = trio.testing.lockstep_stream_pair()
    async with open_connection_pair((near, far)) as (client, server):
        data = bytearray(b"before")
        await client.send_message(data)
        data[:] = b"after!"
        assert await server.get_message() == b"before"


async def test_several_tasks_share_the_messages() -> None:
    async with open_connection_pair() as (client, server):
        received: list[str | bytes] = []

        async def consume() -> None:
            with suppress(ConnectionClosed):
                while True:
                    received.append(await server.get_message())

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(consume)
            for number in range(100):
                await client.send_message(str(number))
            await client.aclose()
        assert sorted(map(int, received)) == list(range(100))


async def test_several_tasks_send_whole_messages() -> None:
    async with open_connection_pair(await open_pair("tcp")) as (client, server):
        sent = [bytes([number]) * 30_000 for number in range(20)]
        async with trio.open_nursery() as nursery:
            for message in sent:
                nursery.start_soon(client.send_message, message)
            received = [await server.get_message() for _ in sent]
        assert (
            sorted(bytes(message, "ascii") if isinstance(message, str) else message for message in received)
            == sent
        )


async def test_iteration_stops_at_a_clean_end() -> None:
    async with open_connection_pair() as (client, server), trio.open_nursery() as nursery:

        async def talk() -> None:
            await client.send_message("one")
            await client.send_message("two")
            await client.aclose()

        nursery.start_soon(talk)
        assert [message async for message in server] == ["one", "two"]


async def test_iteration_raises_at_any_other_end() -> None:
    async with open_connection_pair() as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose, 4000)
        with pytest.raises(ConnectionLost) as lost:
            async for _ in server:
                pass
        assert lost.value.reason == CloseReason(4000)


async def test_messages_are_received_after_the_peer_has_closed() -> None:
    async with server_and_peer() as (ws, peer):
        await peer.send(peer.encode_frame(1, b"one") + peer.encode_frame(1, b"two"))
        await peer.send_close(1000, "done")
        await trio.testing.wait_all_tasks_blocked()
        assert await ws.get_message() == "one"
        assert await ws.get_message() == "two"
        for _ in range(2):
            with pytest.raises(ConnectionClosed) as closed:
                await ws.get_message()
            assert closed.value.reason == CloseReason(1000, "done")
        await peer.expect_close(1000, "done")


async def test_messages_are_received_after_the_peer_has_vanished() -> None:
    async with server_and_peer() as (ws, peer):
        await peer.send(peer.encode_frame(1, b"one") + peer.encode_frame(1, b"two"))
        await peer.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert await ws.get_message() == "one"
        assert await ws.get_message() == "two"
        with pytest.raises(ConnectionLost) as lost:
            await ws.get_message()
        assert lost.value.reason == CloseReason(1006)


async def test_closing_discards_what_was_not_received() -> None:
    async with client_and_peer() as (ws, peer), trio.open_nursery() as nursery:
        await peer.send_frame(1, b"never read")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ws.aclose)
        await trio.testing.wait_all_tasks_blocked()
        await peer.send_frame(1, b"too late")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ConnectionClosed):
            await ws.get_message()
        await peer.send_close()
        await peer.aclose()
    with pytest.raises(ConnectionClosed):
        await ws.get_message()


@pytest.mark.parametrize("ended_by", ["us", "peer", "loss"])
async def test_every_call_on_a_closed_connection_says_so(ended_by: str) -> None:
    async with client_and_peer() as (ws, peer), trio.open_nursery() as nursery:
        if ended_by != "loss":
            await peer.send_close()
        nursery.start_soon(peer.aclose)
        if ended_by == "us":
            await ws.aclose()
        else:
            await closed_error(ws)
        await ws.wait_closed()
    for call in (ws.send_message, ws.send):
        with pytest.raises(ConnectionClosed):
            await call("x")
    for receive in (ws.get_message, ws.receive, ws.ping, ws.pong):
        with pytest.raises(ConnectionClosed) as closed:
            await receive()
        assert closed.value.reason == CloseReason(1006 if ended_by == "loss" else 1000)
        assert isinstance(closed.value, ConnectionLost if ended_by == "loss" else ConnectionEnded)


async def test_nothing_is_sent_once_closing_has_begun() -> None:
    async with client_and_peer() as (ws, peer), trio.open_nursery() as nursery:
        nursery.start_soon(ws.aclose)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ConnectionClosed) as closing:
            await ws.send_message("late")
        assert closing.value.reason == CloseReason(1000)
        await peer.expect_close(1000)
        await peer.send_close()
        await peer.aclose()


async def test_tasks_that_wait_are_told_of_the_end() -> None:
    near, far = trio.testing.memory_stream_pair()
    async with open_connection_pair((FaultyStream(near, send=[1000, stall]), far)) as (client, _):
        ended: list[str] = []

        async def until_over(name: str, call: Callable[[], Awaitable[object]]) -> None:
            with suppress(ConnectionClosed):
                while True:
                    await call()
            ended.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_over, "send", lambda: client.send_message(bytes(100_000)))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(until_over, "receive", client.get_message)
            nursery.start_soon(until_over, "ping", client.ping)
            nursery.start_soon(until_over, "pong", client.pong)
            nursery.start_soon(client.wait_closed)
            await trio.testing.wait_all_tasks_blocked()
            assert ended == []
            client.terminate()
        assert sorted(ended) == ["ping", "pong", "receive", "send"]


# Pings


async def test_ping_waits_for_its_pong() -> None:
    async with client_and_peer() as (ws, peer), trio.open_nursery() as nursery:
        times: list[float] = []

        async def ping() -> None:
            times.append(await ws.ping())

        assert ws.latency is None
        nursery.start_soon(ping)
        frame = await peer.receive_frame()
        assert (frame.opcode, len(frame.payload)) == (9, 4)
        await peer.send_frame(10, b"another")
        await trio.testing.wait_all_tasks_blocked()
        assert times == []
        await peer.send_frame(10, frame.payload)
        await trio.testing.wait_all_tasks_blocked()
        assert times == [ws.latency]
        nursery.start_soon(ping)
        assert (await peer.receive_frame()).payload != frame.payload
        nursery.cancel_scope.cancel()


async def test_a_payload_in_flight_is_refused_and_can_be_used_again() -> None:
    async with client_and_peer() as (ws, peer), trio.open_nursery() as nursery:
        nursery.start_soon(ws.ping, b"x")
        await peer.expect(9, b"x")
        with pytest.raises(ValueError, match="waiting for its pong already"):
            await ws.ping(b"x")
        with pytest.raises(ValueError, match="waiting for its pong already"):
            await ws.ping("x")
        await peer.send_frame(10, b"x")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ws.ping, b"x")
        await peer.expect(9, b"x")
        await peer.send_frame(10, b"x")


async def test_a_cancelled_ping_frees_its_payload(autojump_clock: trio.testing.MockClock) -> None:
    async with client_and_peer() as (ws, peer), trio.open_nursery() as nursery:
        with trio.move_on_after(1) as scope:
            await ws.ping(b"x")
        assert scope.cancelled_caught
        await peer.expect(9, b"x")
        nursery.start_soon(ws.ping, b"x")
        await peer.expect(9, b"x")
        await peer.send_frame(10, b"x")


async def test_a_pong_answers_all_earlier_pings_too() -> None:
    async with client_and_peer() as (ws, peer), trio.open_nursery() as nursery:
        done: list[bytes] = []

        async def ping(payload: bytes) -> None:
            await ws.ping(payload)
            done.append(payload)

        for payload in (b"1", b"2", b"3"):
            nursery.start_soon(ping, payload)
            await peer.expect(9, payload)
        await peer.send_frame(10, b"2")
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(done) == [b"1", b"2"]
        await peer.send_frame(10, b"3")
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(done) == [b"1", b"2", b"3"]


async def test_pings_are_answered_with_their_payload() -> None:
    async with client_and_peer() as (ws, peer):
        await peer.send_frame(9, b"are you there?")
        await peer.expect(10, b"are you there?")
        await ws.pong()
        await peer.expect(10, b"")
        await ws.pong("here")
        await peer.expect(10, b"here")


async def test_a_control_frame_has_at_most_125_bytes() -> None:
    async with client_and_peer() as (ws, peer):
        await ws.pong(bytes(125))
        await peer.expect(10, bytes(125))
        for call in (ws.ping, ws.pong):
            with pytest.raises(ValueError, match="at most 125 bytes"):
                await call(bytes(126))
        await ws.pong(b"nothing stands between")
        await peer.expect(10, b"nothing stands between")


# The end


@pytest.mark.parametrize("code", [1005, 1006, 1015])
async def test_codes_that_may_not_be_sent_go_out_as_1000(code: int) -> None:
    async with client_and_peer() as (ws, peer), trio.open_nursery() as nursery:
        nursery.start_soon(ws.aclose, code)
        await peer.expect_close(1000)
        await peer.send_close()
        await peer.aclose()


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, None), (1000, "done"), (1001, ""), (3000, "x" * 123), (4999, "\u00e4"), (None, None)],
)
async def test_code_and_reason_arrive(code: int | None, reason: str | None) -> None:
    async with open_connection_pair() as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(server.aclose, code, reason)
        error = await closed_error(client)
    assert error.received == CloseReason(1005 if code is None else code, reason or None)
    assert client.closed == error.reason == error.received


@pytest.mark.parametrize(
    ("code", "reason"),
    [(999, None), (1004, None), (2000, None), (5000, None), (None, "why"), (1000, "x" * 124)],
)
async def test_what_cannot_be_said_is_refused_and_changes_nothing(
    code: int | None, reason: str | None
) -> None:
    async with open_connection_pair() as (client, server):
        with pytest.raises(ValueError, match="close"):
            await client.aclose(code, reason)
        assert client.closed is None
        await client.send_message("still open")
        assert await server.get_message() == "still open"


async def test_closing_again_and_from_several_tasks() -> None:
    async with client_and_peer() as (ws, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ws.aclose, 1001, "first")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ws.aclose, 1011, "second")
            nursery.start_soon(ws.aclose)
            await trio.testing.wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 3
            await peer.expect_close(1001, "first")
            await peer.send_close(1001)
            await peer.aclose()
        await ws.aclose()
        assert ws.closed == CloseReason(1001)


async def test_both_sides_close_at_once() -> None:
    async with open_connection_pair() as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose, 4001)
            nursery.start_soon(server.aclose, 4002)
        assert client.closed == CloseReason(4002)
        assert server.closed == CloseReason(4001)


async def test_terminate_says_nothing_and_is_idempotent() -> None:
    async with client_and_peer() as (ws, peer):
        await peer.send_frame(1, b"never read")
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(2):
            ws.terminate()
            assert ws.state is State.CLOSED
            assert ws.closed == CloseReason(1006)
        with pytest.raises(ConnectionLost):
            await ws.get_message()
        await peer.expect_end()


async def test_the_peer_that_never_answers_is_cut(autojump_clock: trio.testing.MockClock) -> None:
    async with client_and_peer(disconnect_timeout=3) as (ws, peer):
        start = trio.current_time()
        await ws.aclose()
        assert trio.current_time() - start == pytest.approx(3)
        assert ws.timed_out
        assert ws.closed == CloseReason(1006)
        await peer.expect_close()
        await peer.expect_end()


async def test_the_deadline_of_closing_is_ten_seconds_by_default(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with server_and_peer() as (ws, _):
        start = trio.current_time()
        await ws.aclose()
        assert trio.current_time() - start == pytest.approx(10)


async def test_cancelling_aclose_cuts_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    async with client_and_peer() as (ws, peer):
        with trio.move_on_after(1) as scope:
            await ws.aclose()
        assert scope.cancelled_caught
        assert ws.state is State.CLOSED
        await peer.expect_close()
        await peer.expect_end()


# Sizes


async def test_defaults_of_the_queue() -> None:
    async with open_connection_pair() as pair:
        for ws in pair:
            statistics = ws.messages.statistics()
            assert (statistics.max_messages, statistics.max_bytes) == (16, 2**20)


@pytest.mark.parametrize("message", ["x" * 100, b"x" * 100, "\u00e4" * 50], ids=repr)
async def test_largest_message(message: str | bytes) -> None:
    async with open_connection_pair(max_message_size=100) as (client, server):
        await client.send_message(message)
        assert await server.get_message() == message
        await client.send_message(message + message[:1])  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]  # of one type
        error = await closed_error(server)
        assert (error.sent, error.received) == (CloseReason(1009), None)
        assert isinstance(error, ConnectionLost)
        assert (await closed_error(client)).reason == CloseReason(1009)


async def test_largest_message_is_a_mebibyte_by_default() -> None:
    async with open_connection_pair() as (client, server):
        await client.send_message(bytes(2**20))
        assert await server.get_message() == bytes(2**20)
        await client.send_message(bytes(2**20 + 1))
        assert (await closed_error(server)).sent == CloseReason(1009)


async def test_infinite_sizes() -> None:
    async with open_connection_pair(
        message_queue_size=float("inf"), max_message_size=float("inf"), message_queue_bytes=float("inf")
    ) as (client, server):
        for _ in range(100):
            await client.send_message(b"x")
        await client.send_message(bytes(2**21))
        await trio.testing.wait_all_tasks_blocked()
        assert server.messages.statistics().messages == 101


@pytest.mark.parametrize("size", [0, 1])
async def test_smallest_queue(size: int) -> None:
    async with open_connection_pair(message_queue_size=size, receive_buffer_size=1) as (client, server):
        for number in range(5):
            await client.send_message(str(number))
        await trio.testing.wait_all_tasks_blocked()
        assert server.messages.statistics().messages == 1
        assert [await server.get_message() for _ in range(5)] == list("01234")


async def test_a_stuck_peer_delays_the_sender_not_the_memory(autojump_clock: trio.testing.MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    stuck = FaultyStream(near, send=[10_000, stall])
    async with open_connection_pair((stuck, far), ping_interval=None) as (client, _):
        with trio.move_on_after(60) as scope:
            while True:
                await client.send_message(bytes(8192))
        assert scope.cancelled_caught
        assert 65536 < client.buffered_amount < 65536 + 2 * 8300
        client.terminate()
