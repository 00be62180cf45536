"""What a server takes on: token buckets, the table of peers, places for connections, and how who gets none is told."""
# ruff: noqa: SLF001 - that nothing is left behind shows inside alone
# pyright: reportPrivateUsage=false

import ipaddress
import random
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.io.api_kit import echo, raw_client, serving, serving_in_memory
from tests.io.test_listen import needs_ipv6
from tests.io.transport_kit import tls_contexts
from trio_ws import (
    ConnectionRejected,
    Endpoint,
    RateLimit,
    Request,
    Response,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    open_websocket,
    wrap_client_stream,
)
from trio_ws import _overload as overload
from trio_ws._config import ServerConfig
from trio_ws.protocol import Role
from trio_ws.testing import MemoryListener, RawPeer, handshake_request
from trio_ws.transport import dial_unix, open_unix_listener

Clock = trio.testing.MockClock

#: What makes a request one that asks for no WebSocket, and after which another may come.
PLAIN: dict[str, None] = {"Connection": None, "Upgrade": None}

# Buckets


@given(
    rate=st.floats(0.01, 1000),
    burst=st.integers(1, 50),
    steps=st.lists(st.tuples(st.floats(0, 10), st.integers(0, 80)), max_size=20),
)
def test_no_span_of_time_gets_more_than_the_burst_and_what_the_rate_brings_in_it(
    rate: float, burst: int, steps: list[tuple[float, int]]
) -> None:
    clock = Clock()
    taken: list[tuple[float, int]] = []

    async def run() -> None:
        start = trio.current_time()
        bucket = overload.Bucket(RateLimit(rate, burst))
        for seconds, count in steps:
            clock.jump(seconds)
            got = bucket.take(count)
            assert 0 <= got <= count
            taken.append((trio.current_time() - start, got))

    trio.run(run, clock=clock)
    for first, last in combinations(range(len(taken) + 1), 2):
        span = taken[last - 1][0] - taken[first][0]
        assert sum(count for _, count in taken[first:last]) <= burst + rate * span + 1e-6


async def test_a_bucket_gives_what_has_come_in_and_never_holds_more_than_its_burst(mock_clock: Clock) -> None:
    bucket = overload.Bucket(RateLimit(2, 10))
    assert bucket.is_full()
    assert [bucket.take(7), bucket.take(7), bucket.take(1)] == [7, 3, 0]
    mock_clock.jump(2.75)
    assert [bucket.take(9), bucket.take(9)] == [5, 0]
    mock_clock.jump(4.5)
    assert not bucket.is_full()
    mock_clock.jump(1000)
    assert bucket.is_full()
    assert bucket.take(1000) == 10


@pytest.mark.parametrize(
    ("rate", "burst"), [(0, 1), (-1, 1), (1, 0), (1, 0.5), (float("inf"), 1), (1, float("nan"))]
)
def test_rates_that_would_let_nothing_or_everything_pass_are_none(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="rate is more than 0"):
        RateLimit(rate, burst)


def test_wrong_options_are_told() -> None:
    not_a_number: Any = "1"
    with pytest.raises(TypeError, match="burst is a number"):
        RateLimit(1, not_a_number)
    for name in ("max_connections", "max_connections_per_peer"):
        with pytest.raises(ValueError, match=name):
            ServerConfig.of({name: 0})
        with pytest.raises(TypeError, match=name):
            ServerConfig.of({name: "1"})
    for name in ("message_rate", "byte_rate"):
        with pytest.raises(TypeError, match=f"{name} is a RateLimit"):
            ServerConfig.of({name: 100})


# Peers


def peer(text: str) -> object:
    return overload.peer_of(Endpoint(ipaddress.ip_address(text), 1, False))


def test_a_host_cannot_be_many_peers_by_choosing_its_address() -> None:
    assert peer("192.0.2.1") == peer("192.0.2.1") != peer("192.0.2.2")
    assert peer("::ffff:192.0.2.1") == peer("192.0.2.1")
    assert peer("2001:db8::1") == peer("2001:db8::ffff:ffff:ffff:ffff") != peer("2001:db8:0:1::1")
    assert overload.peer_of("_hidden") == "_hidden"
    assert overload.peer_of("/run/socket") is overload.peer_of("") is None


def admission(**limits: Any) -> overload.Admission:
    options: dict[str, Any] = dict.fromkeys(("most", "most_by_peer", "messages", "data"))
    options["count"] = never
    return overload.Admission(**{**options, **limits})


def never() -> None:
    raise AssertionError("its place was taken away")


async def test_a_peer_that_leaves_and_comes_back_does_not_begin_afresh(mock_clock: Clock) -> None:
    table = admission(messages=RateLimit(1, 10), data=RateLimit(100, 100))
    place = table.admit("a", never)
    assert place.meter is not None
    assert (place.meter.take_messages(10), place.meter.take_bytes(60)) == (10, 60)
    place.leave()
    place.leave()
    mock_clock.jump(9)
    place = table.admit("a", never)
    assert place.meter is not None
    assert (place.meter.take_messages(10), place.meter.take_bytes(1000)) == (9, 100)
    place.leave()
    assert table.taken == 0


async def test_peers_are_forgotten_when_their_buckets_are_full_again_and_not_before(
    mock_clock: Clock,
) -> None:
    table = admission(messages=RateLimit(1, 10))
    for number in range(100):
        place = table.admit(number, never)
        assert place.meter is not None
        place.meter.take_messages(5)
        place.leave()
    assert len(table._peers) == 100
    mock_clock.jump(4)
    table.admit("new", never).leave()
    assert len(table._peers) == 101
    mock_clock.jump(1)
    staying = table.admit("new", never)
    staying.leave()
    assert (len(table._peers), len(table._absent)) == (0, 0)


async def test_peers_that_are_gone_take_no_more_memory_than_is_set_for_them(
    mock_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overload, "MAX_ABSENT", 50)
    table = admission(messages=RateLimit(0.001, 10))
    staying = table.admit("staying", never)
    for number in range(1000):
        place = table.admit(number, never)
        assert place.meter is not None
        place.meter.take_messages(10)
        place.leave()
        assert len(table._peers) <= 51
    assert "staying" in table._peers
    assert (999 in table._peers, 900 in table._peers) == (True, False)
    staying.leave()
    mock_clock.jump(100_000)
    table.admit("last", never).leave()
    assert len(table._peers) == 0


async def test_a_peer_that_is_back_is_not_forgotten_while_it_is_here(mock_clock: Clock) -> None:
    table = admission(messages=RateLimit(1, 10))
    place = table.admit("a", never)
    assert place.meter is not None
    place.meter.take_messages(5)
    place.leave()
    place = table.admit("a", never)
    mock_clock.jump(5)
    table.admit("b", never).leave()
    assert set(table._peers) == {"a"}
    place.leave()
    assert len(table._peers) == 0


async def test_a_peer_that_is_not_limited_is_not_remembered() -> None:
    table = admission(most_by_peer=1)
    table.admit("a", never).leave()
    assert len(table._peers) == 0
    assert table.admit("a", never).meter is None


# Places


def connecting(
    port: int, address: str = "127.0.0.1", local: str | None = None
) -> AbstractAsyncContextManager[WebSocketConnection]:
    """Return a client's connection, from an address of the loopback."""
    return open_websocket(address, port, "/", use_ssl=False, local_address=local)


def dialling(listener: MemoryListener) -> AbstractAsyncContextManager[WebSocketConnection]:
    """Return a client's connection to a server in memory."""
    return open_websocket("localhost", 80, "/", use_ssl=False, stream=listener.connect())


async def expect_full(port: int, address: str = "127.0.0.1", local: str | None = None) -> None:
    with pytest.raises(ConnectionRejected) as caught:
        async with connecting(port, address, local):
            pass
    assert caught.value.status_code == 503
    assert caught.value.headers is not None
    assert int(dict(caught.value.headers)[b"retry-after"]) in overload.RETRY_AFTER
    assert dict(caught.value.headers)[b"connection"] == b"close"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what comes of bytes that are under way in the kernel."""
    while not condition():  # noqa: ASYNC110 - no event tells of it
        await trio.sleep(0.001)


def hooks_that_note() -> tuple[list[str], Any]:
    """Return what the hooks were asked, in their order, and the two of them as options."""
    asked: list[str] = []

    async def ask(request: Request) -> Response | None:
        asked.append(request.target)
        return None

    async def process(_: Request, response: Response) -> Response:
        asked.append(f"{response.status}")
        return response

    return asked, {"process_request": ask, "process_response": process}


async def test_who_comes_to_a_full_server_is_told_when_to_come_again_and_costs_nothing_else() -> None:
    asked, hooks = hooks_that_note()
    async with serving(echo, max_connections=2, **hooks) as server:
        async with connecting(server.port) as first, connecting(server.port):
            asked.clear()
            for _ in range(3):
                await expect_full(server.port)
            assert asked == []
            await first.send_message("still here")
            assert await first.get_message() == "still here"
        await until(lambda: not server.connections)
        async with connecting(server.port), connecting(server.port):
            await expect_full(server.port)
        assert server.statistics().refusals["max_connections"] == 4


async def test_not_all_who_are_turned_away_come_back_in_one_moment() -> None:
    seconds = {overload.unavailable()[0].headers.get("retry-after") for _ in range(20)}
    assert len(seconds) == len(overload.RETRY_AFTER) == 10


async def fail(request: WebSocketRequest) -> None:
    if request.path == "/rejected":
        await request.reject(403)
    ws = await request.accept()
    if request.path == "/raising":
        raise ValueError("it failed")
    if request.path == "/returning":
        return
    async for message in ws:
        await ws.send_message(message)


async def leave_by(way: str, listener: MemoryListener) -> None:
    """Take a place, and give it back in one of the ways there are."""
    peer = raw_client(listener)
    if way == "silent":
        await peer.aclose()
        return
    if way == "no HTTP":
        await peer.send(b"\0\0\0\0\r\n\r\n")
        await peer.receive_rest()
    elif way == "half a request":
        await peer.send(handshake_request()[:20])
    else:
        await peer.send(handshake_request(f"GET /{way} HTTP/1.1"))
        if way in ("closing", "terminated"):
            await peer.receive_head()
        if way == "closing":
            await peer.send_close()
        if way != "terminated":
            await peer.receive_rest()
    await peer.aclose()


WAYS = [
    "silent", "no HTTP", "half a request", "rejected", "raising", "returning", "closing", "terminated"
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("autojump_clock")
async def test_a_place_is_free_again_however_its_connection_ends(way: str) -> None:
    async with serving_in_memory(fail, max_connections=1) as (server, listener):
        for _ in range(3):
            await leave_by(way, listener)
            await trio.sleep(20)  # what is over is over by then
            async with dialling(listener) as ws:
                await ws.send_message("let in")
                assert await ws.get_message() == "let in"
            await trio.testing.wait_all_tasks_blocked()
        assert server.statistics().refusals.get("max_connections") is None


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.usefixtures("autojump_clock")
async def test_no_sequence_of_ends_loses_a_place_or_makes_one(seed: int) -> None:
    chance = random.Random(seed)
    async with serving_in_memory(fail, max_connections=3, max_connections_per_peer=1) as (server, listener):
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                scope = await nursery.start(leave_in_scope, chance.choice(WAYS), listener)
                if chance.random() < 0.3:
                    scope.cancel()
                if chance.random() < 0.3:
                    await trio.testing.wait_all_tasks_blocked()
                if chance.random() < 0.1:
                    await trio.sleep(2)
                assert server._admission is not None
                assert server._admission.taken <= 3
        await trio.sleep(20)
        assert server._admission is not None
        assert server._admission.taken == len(server._admission.waiting) == 0
        async with dialling(listener), dialling(listener), dialling(listener):
            with pytest.raises(ConnectionRejected):
                async with dialling(listener):
                    pass


async def leave_in_scope(
    way: str, listener: MemoryListener, task_status: trio.TaskStatus[trio.CancelScope]
) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await leave_by(way, listener)


@pytest.mark.usefixtures("autojump_clock")
async def test_a_handler_that_runs_on_keeps_its_place() -> None:
    done = trio.Event()

    async def linger(request: WebSocketRequest) -> None:
        await (await request.accept()).wait_closed()
        await done.wait()

    async with serving_in_memory(linger, max_connections=1) as (_, listener):
        async with dialling(listener):
            pass
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ConnectionRejected):
            async with dialling(listener):
                pass
        done.set()
        await trio.testing.wait_all_tasks_blocked()
        async with dialling(listener):
            pass


# Handshakes that lead nowhere


async def test_a_silent_client_keeps_nobody_out_for_longer_than_a_second(mock_clock: Clock) -> None:
    async with serving_in_memory(echo, max_connections=3) as (server, listener):
        async with dialling(listener) as first:
            silent = [raw_client(listener), raw_client(listener)]
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(0.99)
            with pytest.raises(ConnectionRejected):
                async with dialling(listener):
                    pass
            mock_clock.jump(0.01)
            async with dialling(listener), dialling(listener):
                for each in silent:
                    assert (await each.receive_rest()).startswith(b"HTTP/1.1 503")
                mock_clock.jump(60)
                with pytest.raises(ConnectionRejected):  # who has sent a request is never turned out
                    async with dialling(listener):
                        pass
                await first.send_message("still here")
                assert await first.get_message() == "still here"
        assert server.statistics().refusals["max_connections"] == 4


async def test_a_client_between_two_requests_gives_way_and_one_that_is_being_answered_does_not(
    mock_clock: Clock,
) -> None:
    go_on = trio.Event()

    async def answer(request: Request) -> Response | None:
        if request.path == "/slow":
            await go_on.wait()
        return Response(200, body="well") if request.path != "/" else None

    async with serving_in_memory(echo, max_connections=1, process_request=answer) as (_, listener):
        peer = raw_client(listener)
        await peer.send(handshake_request("GET /slow HTTP/1.1", **PLAIN))
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(5)
        with pytest.raises(ConnectionRejected):
            async with dialling(listener):
                pass
        go_on.set()
        assert (await peer.receive_head()).startswith(b"HTTP/1.1 200")
        assert await peer.receive_exactly(4) == b"well"
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(1)
        async with dialling(listener):
            await peer.receive_rest()


async def test_no_more_clients_are_turned_away_at_a_time_than_are_worth_a_task_that_waits(
    mock_clock: Clock,
) -> None:
    async with serving_in_memory(echo, max_connections=1) as (server, listener), dialling(listener):
        silent = [raw_client(listener) for _ in range(64)]
        await trio.testing.wait_all_tasks_blocked()
        assert len(server._talks) == 65
        await raw_client(listener).expect_end()  # at once, though the clock stands still
        mock_clock.jump(1)
        for each in silent:
            await each.expect_end()
        with pytest.raises(ConnectionRejected):
            async with dialling(listener):
                pass


async def test_being_turned_away_takes_a_second_whatever_the_client_does(mock_clock: Clock) -> None:
    async with serving(echo, max_connections=1) as server, connecting(server.port):
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        peer = RawPeer(stream, Role.CLIENT)
        await peer.send(b"GET / HTTP/1.1\r\n")
        assert (await peer.receive_head()).startswith(b"HTTP/1.1 503")  # before it has said what it wants
        await until_turned(server, 2)
        mock_clock.jump(1)
        await until_turned(server, 1)
        await peer.aclose()


async def until_turned(server: WebSocketServer, count: int) -> None:
    while len(server._talks) != count:
        await trio.lowlevel.checkpoint()


async def test_who_is_turned_away_over_tls_is_told_so(mock_clock: Clock) -> None:
    server_context, client_context = tls_contexts()
    listener = MemoryListener()
    from_tls = trio.SSLListener(listener, server_context)
    async with trio.open_nursery() as nursery:
        server = WebSocketServer(echo, [from_tls], max_connections=1)
        await nursery.start(server.run)

        async def dial() -> WebSocketConnection:
            stream = trio.SSLStream(listener.connect(), client_context, server_hostname="localhost")
            return await wrap_client_stream(nursery, stream, "localhost", "/")

        ws = await dial()
        with pytest.raises(ConnectionRejected) as caught:
            await dial()
        assert caught.value.status_code == 503
        ws.terminate()
        nursery.cancel_scope.cancel()


async def test_a_request_that_somebody_else_has_read_is_turned_away_too(mock_clock: Clock) -> None:
    server = WebSocketServer(echo, None, max_connections=1)
    headers = [("Host", "a"), ("Upgrade", "websocket"), ("Connection", "Upgrade")]
    headers += [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Version", "13")]
    request = Request("GET", "/", headers)
    async with trio.open_nursery() as nursery:
        nears: list[RawPeer] = []
        for status in (b"101", b"503"):
            near, far = trio.testing.memory_stream_pair()
            nears.append(RawPeer(near, Role.CLIENT))
            nursery.start_soon(server.upgrade, far, request)
            assert (await nears[-1].receive_head()).startswith(b"HTTP/1.1 " + status)
        for each in nears:
            await each.aclose()


@pytest.mark.usefixtures("autojump_clock")
async def test_closing_the_server_waits_for_nobody_who_is_being_turned_away() -> None:
    async with serving_in_memory(echo, max_connections=1) as (server, listener), dialling(listener):
        peer = raw_client(listener)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await server.aclose()
        assert trio.current_time() == began
        await peer.expect_end()


# By peer


@needs_ipv6
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no 127.0.0.2 unless they are told")
async def test_one_peer_cannot_take_all_places() -> None:
    listeners = [
        *await trio.open_tcp_listeners(0, host="127.0.0.1"),
        *await trio.open_tcp_listeners(0, host="::1"),
    ]
    server = WebSocketServer(echo, listeners, max_connections_per_peer=2)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        four, six = (where.port for where in server.listeners if isinstance(where, Endpoint))
        async with connecting(four) as one, connecting(four):
            await expect_full(four)
            async with connecting(four, local="127.0.0.2"), connecting(four, local="127.0.0.2"):
                await expect_full(four, local="127.0.0.2")
            async with connecting(six, "::1"), connecting(six, "::1"):
                await expect_full(six, "::1")
            await one.aclose()
            async with connecting(four):
                pass
        await server.aclose()
    assert server.statistics().refusals == {"max_connections_per_peer": 3}


async def test_behind_a_trusted_proxy_places_are_its_clients_own() -> None:
    asked, hooks = hooks_that_note()
    async with serving(echo, max_connections_per_peer=1, trusted_proxies=["127.0.0.1"], **hooks) as server:

        @asynccontextmanager
        async def coming_from(client: str) -> AsyncGenerator[None]:
            headers = {"X-Forwarded-For": client}
            async with open_websocket("127.0.0.1", server.port, "/", use_ssl=False, extra_headers=headers):
                yield

        async with coming_from("192.0.2.1"), coming_from("192.0.2.2"), coming_from("2001:db8::1"):
            asked.clear()
            for client in ("192.0.2.1", "192.0.2.2", "2001:db8::2"):
                with pytest.raises(ConnectionRejected) as caught:
                    async with coming_from(client):
                        pass
                assert caught.value.status_code == 503
                assert caught.value.headers is not None
                assert b"retry-after" in dict(caught.value.headers)
            assert asked == []
        await until(lambda: not server._talks)
        async with coming_from("192.0.2.1"):
            pass
        assert server.statistics().refusals == {"max_connections_per_peer": 3}


async def test_a_proxy_that_uses_one_connection_for_many_clients_takes_each_ones_place_in_turn() -> None:
    async def answer(request: Request) -> Response | None:
        return Response(200) if request.path == "/health" else None

    async with serving(
        echo, max_connections_per_peer=1, trusted_proxies=["127.0.0.1"], process_request=answer
    ) as server:
        peers: list[RawPeer] = []
        for client in ("192.0.2.1", "192.0.2.2"):
            peers.append(RawPeer(await trio.open_tcp_stream("127.0.0.1", server.port), Role.CLIENT))
            await peers[-1].send(handshake_request("GET /health HTTP/1.1", X_Forwarded_For=client, **PLAIN))
            assert (await peers[-1].receive_head()).startswith(b"HTTP/1.1 200")
        await peers[1].send(handshake_request(X_Forwarded_For="192.0.2.1"))
        assert (await peers[1].receive_head()).startswith(b"HTTP/1.1 503")
        await peers[0].handshake(X_Forwarded_For="192.0.2.2")  # nobody's by now
        for each in peers:
            await each.aclose()
        await until(lambda: not server._talks)
        assert server._admission is not None
        assert (server._admission.taken, len(server._admission._peers)) == (0, 0)


async def test_with_the_proxy_protocol_places_are_those_of_whom_it_names() -> None:
    async with serving(echo, max_connections_per_peer=1, proxy_protocol=True) as server:
        peers: list[RawPeer] = []
        for client, status in (("192.0.2.1", b"101"), ("192.0.2.2", b"101"), ("192.0.2.1", b"503")):
            peers.append(RawPeer(await trio.open_tcp_stream("127.0.0.1", server.port), Role.CLIENT))
            line = f"PROXY TCP4 {client} 10.0.0.1 57005 80\r\n".encode()
            await peers[-1].send(line + handshake_request())
            assert (await peers[-1].receive_head()).startswith(b"HTTP/1.1 " + status)
        for each in peers:
            await each.aclose()


@pytest.mark.skipif(sys.platform == "win32", reason="Python has no Unix sockets there")
async def test_unix_sockets_have_no_limit_by_peer(tmp_path: Path) -> None:
    listener = await open_unix_listener(tmp_path / "socket")
    server = WebSocketServer(echo, [listener], max_connections_per_peer=1, message_rate=RateLimit(1, 1))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        for _ in range(3):
            ws = await wrap_client_stream(
                nursery, await dial_unix(str(tmp_path / "socket")), "localhost", "/"
            )
            for text in ("one", "two", "three"):
                await ws.send_message(text)
                assert await ws.get_message() == text
        nursery.cancel_scope.cancel()


# A flood


class Spawned(trio.abc.Instrument):
    """Counts the connections' tasks that were started."""

    def __init__(self) -> None:
        self.count = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.count += "_talk" in task.name


@pytest.mark.parametrize("limit", [None, 100])
async def test_a_flood_of_clients_does_not_keep_those_waiting_who_are_connected(limit: int | None) -> None:
    flood = 2000 if limit else 500
    spawned = Spawned()
    most = 0
    async with serving(echo, max_connections=limit) as server, connecting(server.port) as ws:
        trio.lowlevel.add_instrument(spawned)
        socks = [socket.socket() for _ in range(flood)]
        try:
            for sock in socks:
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", server.port))
            between: list[int] = []
            while spawned.count < flood:
                before = spawned.count
                await ws.send_message("still here?")
                assert await ws.get_message() == "still here?"
                between.append(spawned.count - before)
                most = max(most, len(server._talks))
                if limit is not None:
                    assert server._admission is not None
                    assert len(server._admission.waiting) < server._admission.taken <= limit
            assert max(between) <= 4 * 16  # a round trip takes a few passes, and in each 16 are accepted
        finally:
            trio.lowlevel.remove_instrument(spawned)
            for sock in socks:
                sock.close()
        if (
            limit is not None
        ):  # and those who are turned away: 64 of them wait, others for the passes that closing takes
            assert most <= limit + 64 + 8 * 16
        await until(lambda: len(server._talks) == 1)
        async with connecting(server.port) as other:
            for each in (ws, other):
                await each.send_message("as before")
                assert await each.get_message() == "as before"


async def test_turning_away_takes_hardly_more_steps_than_letting_in() -> None:
    class Steps(trio.abc.Instrument):
        count = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.count += "_talk" in task.name

    async def steps(limit: int | None) -> int:
        async with serving(echo, max_connections=limit) as server, connecting(server.port):
            instrument = Steps()
            trio.lowlevel.add_instrument(instrument)
            for _ in range(20):
                stream = await trio.open_tcp_stream("127.0.0.1", server.port)
                peer = RawPeer(stream, Role.CLIENT)
                await peer.send(handshake_request())
                await peer.receive_head()
                await peer.aclose()
            await until(lambda: len(server._talks) == 1)
            trio.lowlevel.remove_instrument(instrument)
            return instrument.count

    assert (
        await steps(1) <= await steps(None) + 20
    )  # a pass each for closing, in which the others are still open
