"""Connections for clients that must stay up: when the next one is made, and when no more are; knows the public API alone.

The servers are real ones, on ports of the loopback that are opened and closed. The clock is a mock one, which shows
exactly how long a client waits.
"""

import logging
import math
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import FrozenInstanceError
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from hypothesis import given
from hypothesis import strategies as st

from tests.io.api_kit import scripted_port
from tests.io.test_cancellation import Canceller, cancel_everywhere
from trio_ws import (
    Backoff,
    CloseReason,
    ConnectionClosed,
    ConnectionEnded,
    ConnectionLost,
    ConnectionRejected,
    ConnectionTimeout,
    DisconnectionTimeout,
    HandshakeError,
    Headers,
    State,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    is_transient,
    reconnecting,
    serve_websocket,
)
from trio_ws._reconnect import retry_after
from trio_ws.protocol import RemoteProtocolError
from trio_ws.testing import RawPeer

pytestmark = pytest.mark.usefixtures("autojump_clock")

#: Far more than these tests wait: on a mock clock a day is over soon.
ALL_DAY = 1e6

#: Always the bound itself.
AT_LAST = Backoff(random=lambda: 1.0)


class Log:
    """A handler that notes when its clients come.

    Args:
        then: what it does with the request.
    """

    def __init__(self, then: Callable[[WebSocketRequest], Awaitable[object]]) -> None:
        self.times: list[float] = []
        self._then = then

    async def __call__(self, request: WebSocketRequest) -> None:
        self.times.append(trio.current_time())
        await self._then(request)

    @property
    def waits(self) -> list[object]:
        """The seconds between one client and the next."""
        return [pytest.approx(after - before) for before, after in pairwise(self.times)]


async def close_with(code: int, request: WebSocketRequest) -> None:
    ws = await request.accept()
    await ws.aclose(code)


async def reject_with(status: int, headers: list[tuple[bytes, bytes]], request: WebSocketRequest) -> None:
    await request.reject(status, extra_headers=headers)


async def hold(request: WebSocketRequest) -> None:
    """Accept, say hello, and receive until the client ends it."""
    ws = await request.accept()
    await ws.send_message("hello")
    async for _ in ws:
        pass


@asynccontextmanager
async def serving_here(
    handler: Callable[[WebSocketRequest], Awaitable[object]], context: ssl.SSLContext | None = None
) -> AsyncGenerator[str]:
    """A server on a port of the loopback, as its URL. What the block raises comes out as it is."""
    error: Exception | None = None
    async with trio.open_nursery() as nursery:
        start = partial(serve_websocket, handler, "127.0.0.1", 0, context)

        async def run(task_status: trio.TaskStatus[WebSocketServer]) -> None:
            await start(task_status=task_status)

        server: WebSocketServer = await nursery.start(run)
        try:
            yield f"{'ws' if context is None else 'wss'}://127.0.0.1:{server.port}/"
        except Exception as exc:  # noqa: BLE001 - raised below, where no nursery puts it into a group
            error = exc
        await server.aclose(drain=1)
    if error is not None:
        raise error


async def until_over(ws: WebSocketConnection) -> None:
    """Receive until the connection is over, in whatever way."""
    with suppress(ConnectionClosed):
        async for _ in ws:
            pass


def dice(*numbers: float) -> Callable[[], float]:
    return iter(numbers).__next__


async def free_port() -> int:
    """Return a port of the loopback on which nobody listens."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port: int = listener.socket.getsockname()[1]
        return port


# How long it waits


async def test_the_bound_grows_and_what_is_drawn_is_a_part_of_it() -> None:
    numbers = [1.0, 0.5, 0.0, 1.0, 1.0, 0.25, 1.0]
    log = Log(partial(close_with, 1000))
    async with (
        serving_here(log) as url,
        reconnecting(url, backoff=Backoff(random=dice(*numbers))) as all_of_them,
    ):
        async for ws in all_of_them:
            await until_over(ws)
            if len(log.times) == 8:
                break
    assert log.waits == [5, 5, 0, 40, 60, 15, 60]


async def test_own_bounds() -> None:
    backoff = Backoff(initial=2, maximum=12, factor=3, random=lambda: 1.0)
    log = Log(partial(close_with, 1000))
    async with serving_here(log) as url, reconnecting(url, backoff=backoff) as connections:
        async for ws in connections:
            await until_over(ws)
            if len(log.times) == 5:
                break
    assert log.waits == [2, 6, 12, 12]


@pytest.mark.parametrize(("lifetime", "waits"), [(59, [64, 69, 79]), (60, [65, 65, 65])])
async def test_a_stable_connection_lets_it_begin_anew(lifetime: float, waits: list[float]) -> None:
    async def live(request: WebSocketRequest) -> None:
        ws = await request.accept()
        await trio.sleep(lifetime)
        await ws.aclose()

    log = Log(live)
    attempts: list[int] = []
    async with serving_here(log) as url, reconnecting(url, backoff=AT_LAST) as connections:
        async for ws in connections:
            attempts.append(connections.attempt)
            await until_over(ws)
            if len(log.times) == 4:
                break
    assert log.waits == waits
    assert attempts == ([1, 1, 1, 1] if lifetime >= 60 else [1, 2, 3, 4])


async def test_the_first_attempt_is_made_at_once() -> None:
    began = trio.current_time()
    async with serving_here(hold) as url, reconnecting(url, backoff=AT_LAST) as connections:
        async for ws in connections:
            assert trio.current_time() == began
            assert await ws.get_message() == "hello"
            assert (connections.attempt, connections.last_error) == (1, None)
            break


async def test_time_that_the_body_takes_counts_as_the_connections_own() -> None:
    """What has to be rare is attempts."""
    log = Log(partial(close_with, 1000))
    async with serving_here(log) as url, reconnecting(url, backoff=AT_LAST) as connections:
        async for ws in connections:
            await until_over(ws)
            await trio.sleep(100)
            if len(log.times) == 3:
                break
    assert log.waits == [105, 105]


@pytest.mark.parametrize(
    ("maximum", "numbers", "waits"),
    [
        (60, [0.0, 1.0, 0.5], [5, 30, 17.5]),
        (60, [0.0, 0.0, 0.0, 0.0, 1.0], [5, 5, 5, 5, 60]),  # the bound grows as ever
        (6, [0.0, 1.0, 0.5], [1, 6, 3.5]),
    ],
)
async def test_service_restart(maximum: float, numbers: Sequence[float], waits: list[float]) -> None:
    log = Log(partial(close_with, 1012))
    backoff = Backoff(maximum=maximum, random=dice(*numbers))
    async with serving_here(log) as url, reconnecting(url, backoff=backoff) as connections:
        async for ws in connections:
            await until_over(ws)
            if len(log.times) > len(waits):
                break
    assert log.waits == waits


async def test_try_again_later() -> None:
    codes = [1013, 1013, 1000, 1000]

    async def close(request: WebSocketRequest) -> None:
        await close_with(codes[len(log.times) - 1], request)

    log = Log(close)
    backoff = Backoff(maximum=40, random=dice(0.0, 1.0, 0.5))
    async with serving_here(log) as url, reconnecting(url, backoff=backoff) as connections:
        async for ws in connections:
            await until_over(ws)
            if len(log.times) == 4:
                break
    assert log.waits == [20, 40, 20]


NOW = (b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT")


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ([], 0),
        ([(b"Retry-After", b"120")], 120),
        ([(b"Retry-After", b"86400")], 300),
        ([(b"Retry-After", b"Sun, 06 Nov 1994 08:50:07 GMT"), NOW], 30),
        ([(b"Retry-After", b"Sun Nov  6 08:50:07 1994"), NOW], 30),
        ([(b"Retry-After", b"Sun, 06 Nov 1994 08:49:07 GMT"), NOW], 0),
        ([(b"Retry-After", b"Sun, 06 Nov 1994 08:50:07 GMT")], 0),  # long ago by this clock
        ([(b"Retry-After", b"Fri, 31 Dec 9999 23:59:59 GMT")], 300),
        ([(b"Retry-After", b"soon")], 0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after(status: int, headers: list[tuple[bytes, bytes]], wait: float) -> None:
    """What is drawn comes on top of it, so that not all come back at the same time."""
    log = Log(partial(reject_with, status, headers))
    backoff = Backoff(max_attempts=3, random=dice(0.2, 0.5))
    with pytest.raises(ConnectionRejected) as caught:
        async with serving_here(log) as url, reconnecting(url, backoff=backoff) as connections:
            async for _ in connections:
                pytest.fail("there is none")
    assert caught.value.status_code == status
    assert log.waits == [wait + 1, wait + 5]


async def test_own_maximum_of_retry_after() -> None:
    log = Log(partial(reject_with, 503, [(b"Retry-After", b"86400")]))
    backoff = Backoff(max_attempts=2, max_retry_after=3600, random=lambda: 0.0)
    with pytest.raises(ConnectionRejected):
        async with serving_here(log) as url, reconnecting(url, backoff=backoff) as connections:
            async for _ in connections:
                pytest.fail("there is none")
    assert log.waits == [3600]


#: Like dates, though most of them are none.
DATES = st.from_regex(
    r"Sun, [0-9]{1,2} Nov [0-9]{1,12} [0-9]{1,3}:[0-9]{2}:[0-9]{2} ([+-][0-9]{1,12}|GMT)", fullmatch=True
)


@given(value=st.one_of(st.text(), DATES))
def test_retry_after_makes_of_everything_some_time(value: str) -> None:
    headers = Headers([(b"retry-after", value.encode("latin-1", "ignore")), (b"date", NOW[1])])
    assert retry_after(headers) >= 0


def test_retry_after_may_have_many_digits() -> None:
    assert retry_after(Headers([(b"retry-after", b"9" * 5000)])) == math.inf


# What makes it go on


async def test_a_server_that_goes_away_and_comes_back() -> None:
    """Going away says 1001, a port on which nobody listens refuses, and then there is somebody again."""
    port = await free_port()
    greetings: list[str | bytes] = []
    errors: list[type[object]] = []

    async def serve_twice() -> None:
        for _ in range(2):
            with trio.move_on_after(100):
                await serve_websocket(hold, "127.0.0.1", port, None)
            await trio.sleep(30)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_twice)
        await trio.sleep(1)
        async with reconnecting(f"ws://127.0.0.1:{port}", backoff=AT_LAST) as connections:
            async for ws in connections:
                errors.append(type(connections.last_error))
                async for message in ws:
                    greetings.append(message)
                    if len(greetings) == 2:
                        break
                assert connections.attempt == (1 if len(greetings) == 1 else 3)
                if len(greetings) == 2:
                    break
        nursery.cancel_scope.cancel()
    assert greetings == ["hello", "hello"]
    assert errors == [type(None), OSError]


async def test_a_server_that_is_not_there_yet() -> None:
    port = await free_port()
    async with trio.open_nursery() as nursery:

        async def serve_later() -> None:
            await trio.sleep(100)
            await serve_websocket(hold, "127.0.0.1", port, None)

        nursery.start_soon(serve_later)
        async with reconnecting(f"ws://127.0.0.1:{port}", backoff=AT_LAST) as connections:
            async for ws in connections:
                assert await ws.get_message() == "hello"
                break
            assert isinstance(connections.last_error, OSError)
            assert connections.attempt == 6  # after 0, 5, 15, 35, 75 and 135 seconds
        nursery.cancel_scope.cancel()


async def test_the_last_error_is_raised_when_enough_attempts_have_failed() -> None:
    url = f"ws://127.0.0.1:{await free_port()}"
    began = trio.current_time()
    backoff = Backoff(max_attempts=4, random=lambda: 1.0)
    async with reconnecting(url, backoff=backoff) as connections:
        with pytest.raises(OSError, match="all attempts") as caught:
            await anext(connections)
        assert caught.value is connections.last_error
        assert connections.attempt == 4
    assert trio.current_time() - began == 35


async def test_connections_that_end_soon_are_failed_attempts() -> None:
    log = Log(partial(close_with, 1000))
    with pytest.raises(ConnectionEnded):
        async with (
            serving_here(log) as url,
            reconnecting(url, backoff=Backoff(max_attempts=3)) as connections,
        ):
            async for ws in connections:
                await until_over(ws)
    assert len(log.times) == 3


async def reconnects(port_or_url: str) -> bool:
    """Say whether there is a second attempt after the first has failed, or its connection ended."""
    asked: list[bool] = []

    def judge(exc: Exception) -> bool:
        asked.append(is_transient(exc))
        return False

    with pytest.raises((ConnectionClosed, HandshakeError, OSError)):
        async with reconnecting(port_or_url, is_transient=judge) as connections:
            async for ws in connections:
                await until_over(ws)
    [answer] = asked
    return answer


@pytest.mark.parametrize("code", [1000, 1001, None, 1011, 1012, 1013, 1014, 3008, 4000, 4999])
async def test_codes_after_which_it_goes_on(code: int | None) -> None:
    log = Log(partial(close_with, code))  # type: ignore[arg-type]  # None is "no code" here  # pyright: ignore[reportArgumentType]
    async with serving_here(log) as url:
        assert await reconnects(url)


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009, 1010, 3000, 3003])
async def test_codes_after_which_it_does_not(code: int) -> None:
    """Also a body that catches everything does not hide them: the loop raises them."""
    log = Log(partial(close_with, code))
    with pytest.raises(ConnectionLost) as caught:
        async with serving_here(log) as url, reconnecting(url) as connections:
            async for ws in connections:
                await until_over(ws)
    assert caught.value.reason == CloseReason(code)
    assert len(log.times) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 599])
async def test_statuses_after_which_it_goes_on(status: int) -> None:
    async with serving_here(partial(reject_with, status, [])) as url:
        assert await reconnects(url)


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 410, 426, 501, 505])
async def test_statuses_after_which_it_does_not(status: int) -> None:
    log = Log(partial(reject_with, status, []))
    with pytest.raises(ConnectionRejected) as caught:
        async with serving_here(log) as url, reconnecting(url) as connections:
            async for _ in connections:
                pytest.fail("there is none")
    assert caught.value.status_code == status
    assert len(log.times) == 1


async def leave(peer: RawPeer) -> None:
    await peer.receive_head()


async def leave_half_way(peer: RawPeer) -> None:
    await peer.receive_head()
    await peer.send(b"HTTP/1.1 101 Switch")


async def speak_nonsense(peer: RawPeer) -> None:
    await peer.receive_head()
    await peer.send(b"220 mail.example.org ESMTP\r\n\r\n")


async def accept_wrongly(peer: RawPeer) -> None:
    await peer.handshake(Sec_WebSocket_Accept="x")


async def break_the_rules(peer: RawPeer) -> None:
    await peer.handshake()
    await peer.send_frame(3)
    await peer.receive_rest()


async def cut(peer: RawPeer) -> None:
    await peer.handshake()


@pytest.mark.parametrize(
    ("script", "goes_on"),
    [
        (leave, True),
        (leave_half_way, True),
        (cut, True),
        (speak_nonsense, False),
        (accept_wrongly, False),
        (break_the_rules, False),
    ],
)
async def test_servers_that_misbehave(script: Callable[[RawPeer], Awaitable[object]], goes_on: bool) -> None:
    async with scripted_port(script, ALL_DAY) as port:
        assert await reconnects(f"ws://127.0.0.1:{port}") is goes_on


async def test_a_server_that_does_not_answer() -> None:
    log: list[float] = []

    async def listen(peer: RawPeer) -> None:
        log.append(trio.current_time())
        await peer.receive_rest()

    async with scripted_port(listen, ALL_DAY) as port:
        with pytest.raises(ConnectionTimeout):
            async with reconnecting(
                f"ws://127.0.0.1:{port}",
                connect_timeout=3,
                backoff=Backoff(max_attempts=3, random=lambda: 1.0),
            ) as connections:
                async for _ in connections:
                    pytest.fail("there is none")
    assert [after - before for before, after in pairwise(log)] == [pytest.approx(8), pytest.approx(13)]


def contexts(name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for this name, and one that trusts who has issued it."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    # trustme's annotations name an optional dependency, which makes them partly unknown here.
    authority.issue_cert(name).configure_cert(server)  # pyright: ignore[reportUnknownMemberType]
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]
    return server, client


async def test_tls() -> None:
    server, client = contexts("127.0.0.1")
    log = Log(partial(close_with, 1001))
    async with serving_here(log, server) as url, reconnecting(url, client, backoff=AT_LAST) as connections:
        async for ws in connections:
            await until_over(ws)
            if len(log.times) == 3:
                break
    assert log.waits == [5, 10]


@pytest.mark.parametrize("wrong", ["issuer", "name"])
async def test_a_certificate_that_cannot_be_verified_is_the_end(wrong: str) -> None:
    server, client = contexts("127.0.0.1" if wrong == "issuer" else "127.0.0.2")
    async with (
        serving_here(hold, server) as url,
        reconnecting(url, None if wrong == "issuer" else client) as connections,
    ):
        with pytest.raises(HandshakeError) as caught:
            await anext(connections)
        assert connections.attempt == 1
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


async def test_tls_that_is_cut_off() -> None:
    async def leave_at_once(peer: RawPeer) -> None:
        await peer.receive_exactly(1)

    async with scripted_port(leave_at_once, ALL_DAY) as port:
        assert await reconnects(f"wss://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (OSError(), True),
        (ssl.SSLError(), True),
        (ssl.SSLCertVerificationError(), False),
        (HandshakeError("for no reason given"), False),
        (DisconnectionTimeout(), False),
        (ConnectionClosed(None), True),
        (ConnectionLost(CloseReason(1006), None, CloseReason(1002)), False),
        (ValueError(), False),
    ],
)
def test_what_is_transient(exc: Exception, expected: bool) -> None:
    assert is_transient(exc) is expected


async def test_who_decides_otherwise() -> None:
    """What is asked is the error itself, of attempts and of connections."""
    asked: list[Exception] = []

    def judge(exc: Exception) -> bool:
        asked.append(exc)
        return len(asked) < 3

    async def handler(request: WebSocketRequest) -> None:
        if len(log.times) == 2:
            await request.reject(404)
        else:
            await close_with(4000 + len(log.times), request)

    log = Log(handler)
    with pytest.raises(ConnectionLost) as caught:
        async with serving_here(log) as url, reconnecting(url, is_transient=judge) as connections:
            async for ws in connections:
                await until_over(ws)
    assert caught.value is asked[2]
    lost, rejected, lost_again = asked
    assert isinstance(lost, ConnectionLost)
    assert isinstance(rejected, ConnectionRejected)
    assert isinstance(lost_again, ConnectionLost)
    assert lost.reason == CloseReason(4001)
    assert lost_again.reason == CloseReason(4003)


async def test_a_violation_is_told_with_its_cause() -> None:
    async with scripted_port(break_the_rules, ALL_DAY) as port:
        with pytest.raises(ConnectionLost) as caught:
            async with reconnecting(f"ws://127.0.0.1:{port}") as connections:
                async for ws in connections:
                    await until_over(ws)
    assert isinstance(caught.value.__cause__, RemoteProtocolError)


# The block and the loop


async def test_going_on_closes_the_connection_before() -> None:
    ended: list[CloseReason | None] = []

    async def note(request: WebSocketRequest) -> None:
        ws = await request.accept()
        await until_over(ws)
        ended.append(ws.closed)

    log = Log(note)
    before: list[WebSocketConnection] = []
    async with serving_here(log) as url, reconnecting(url, backoff=AT_LAST) as connections:
        async for ws in connections:
            assert all(old.state is State.CLOSED for old in before)
            before.append(ws)
            if len(before) == 3:
                break
        assert [ws.state for ws in before] == [State.CLOSED, State.CLOSED, State.OPEN]
    assert before[-1].state is State.CLOSED
    assert ended == [CloseReason(1000)] * 3
    assert log.waits == [5, 10]


async def test_what_the_body_raises_comes_out_as_it_is_and_closes_the_connection() -> None:
    opened: list[WebSocketConnection] = []
    with pytest.raises(KeyError, match="mine"):
        async with serving_here(hold) as url, reconnecting(url) as connections:
            async for ws in connections:
                opened.append(ws)
                raise KeyError("mine")
    assert [ws.state for ws in opened] == [State.CLOSED]
    assert opened[0].closed == CloseReason(1000)


async def test_a_lost_connection_leaves_the_loop_unless_it_is_caught() -> None:
    log = Log(partial(close_with, 1011))
    with pytest.raises(ConnectionLost):
        async with serving_here(log) as url, reconnecting(url) as connections:
            async for ws in connections:
                await ws.get_message()
    assert len(log.times) == 1


async def test_a_block_without_a_loop() -> None:
    log = Log(hold)
    async with serving_here(log) as url, reconnecting(url):
        pass
    assert log.times == []


async def test_no_connection_behind_the_block() -> None:
    async with serving_here(hold) as url:
        async with reconnecting(url) as connections:
            pass
        with pytest.raises(trio.ClosedResourceError):
            await anext(connections)


async def test_one_task_at_a_time_may_ask() -> None:
    url = f"ws://127.0.0.1:{await free_port()}"
    async with reconnecting(url) as connections, trio.open_nursery() as nursery:
        nursery.start_soon(anext, connections)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await anext(connections)
        nursery.cancel_scope.cancel()


async def test_a_server_that_does_not_answer_the_close_frame_holds_nobody_up_for_long() -> None:
    times: list[float] = []

    async def ignore(peer: RawPeer) -> None:
        times.append(trio.current_time())
        await peer.handshake()
        await trio.sleep(50)

    async with (
        scripted_port(ignore, ALL_DAY) as port,
        reconnecting(f"ws://127.0.0.1:{port}", disconnect_timeout=7, backoff=AT_LAST) as connections,
    ):
        async for ws in connections:
            if len(times) == 2:
                ws.terminate()
                break
    assert times[1] - times[0] == pytest.approx(12)
    assert isinstance(connections.last_error, ConnectionClosed)


async def test_options_are_sent_each_time() -> None:
    """Also those that can be iterated over only once."""
    seen: list[tuple[str | None, tuple[str, ...]]] = []

    async def note(request: WebSocketRequest) -> None:
        seen.append((request.headers.get("x-token"), request.proposed_subprotocols))
        await close_with(1000, request)

    headers: Iterator[tuple[bytes, bytes]] = iter([(b"X-Token", b"secret")])
    async with (
        serving_here(note) as url,
        reconnecting(url, extra_headers=headers, subprotocols=iter(["chat"])) as connections,
    ):
        async for ws in connections:
            await until_over(ws)
            if len(seen) == 3:
                break
    assert seen == [("secret", ("chat",))] * 3


# Subscribing again


async def test_on_connect_comes_before_the_loop_each_time() -> None:
    async def answer(request: WebSocketRequest) -> None:
        ws = await request.accept()
        assert await ws.get_message() == "subscribe"
        await ws.send_message(f"subscribed {len(log.times)}")
        await ws.aclose()

    async def subscribe(ws: WebSocketConnection) -> None:
        await ws.send_message("subscribe")

    log = Log(answer)
    received: list[str | bytes] = []
    async with serving_here(log) as url, reconnecting(url, on_connect=subscribe) as connections:
        async for ws in connections:
            received += [message async for message in ws]
            if len(received) == 3:
                break
    assert received == ["subscribed 1", "subscribed 2", "subscribed 3"]


async def test_an_end_during_on_connect_is_a_failed_attempt() -> None:
    async def end_two(request: WebSocketRequest) -> None:
        if len(log.times) < 3:
            await close_with(1011, request)
        else:
            await hold(request)

    async def listen(ws: WebSocketConnection) -> None:
        assert await ws.get_message() == "hello"

    log = Log(end_two)
    async with (
        serving_here(log) as url,
        reconnecting(url, backoff=AT_LAST, on_connect=listen) as connections,
    ):
        async for ws in connections:
            assert ws.closed is None
            assert connections.attempt == 3
            assert isinstance(connections.last_error, ConnectionLost)
            assert connections.last_error.reason == CloseReason(1011)
            break
    assert log.waits == [5, 10]


async def test_who_is_not_let_in_by_on_connect_is_told() -> None:
    async def listen(ws: WebSocketConnection) -> None:
        await ws.get_message()

    with pytest.raises(ConnectionLost) as caught:
        async with (
            serving_here(partial(close_with, 1008)) as url,
            reconnecting(url, on_connect=listen) as connections,
        ):
            async for _ in connections:
                pytest.fail("there is none")
    assert caught.value.reason == CloseReason(1008)


async def test_what_else_on_connect_raises_comes_out() -> None:
    opened: list[WebSocketConnection] = []

    async def fail(ws: WebSocketConnection) -> None:
        opened.append(ws)
        raise KeyError("mine")

    log = Log(hold)
    with pytest.raises(KeyError, match="mine"):
        async with serving_here(log) as url, reconnecting(url, on_connect=fail) as connections:
            async for _ in connections:
                pytest.fail("there is none")
    assert len(log.times) == 1
    assert opened[0].state is State.CLOSED


# Cancellation


async def answer_and_end(at_work: set[object], request: WebSocketRequest) -> None:
    """Send one message back, and end the connection if the client wants it to; be in the set meanwhile."""
    at_work.add(request)
    try:
        ws = await request.accept()
        await ws.send_message(await ws.get_message())
        if await ws.get_message() == "end":
            await ws.aclose()
    finally:
        at_work.discard(request)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_it_can_be_cancelled_at_any_moment(scheme: str) -> None:
    """Through two connections, the wait between them, and their ends: nothing is left, here or at the server."""
    server_context, context = contexts("127.0.0.1") if scheme == "wss" else (None, None)
    at_work: set[object] = set()

    async with serving_here(partial(answer_and_end, at_work), server_context) as url:

        async def attempt(canceller: Canceller) -> None:
            opened: list[WebSocketConnection] = []

            async def subscribe(ws: WebSocketConnection) -> None:
                opened.append(ws)
                await ws.send_message("over there")
                assert await ws.get_message() == "over there"

            async def use() -> None:
                async with reconnecting(url, context, backoff=AT_LAST, on_connect=subscribe) as connections:
                    async for ws in connections:
                        await ws.send_message("end" if len(opened) == 1 else "go on")
                        if len(opened) == 2:
                            break
                        await until_over(ws)

            began = trio.current_time()
            if await canceller.run(use):
                assert trio.current_time() == canceller.when
                if len(opened) == 2:  # behind all dialling
                    assert isinstance(canceller.raised, trio.Cancelled)
            else:
                assert trio.current_time() == began + 5
            assert all(ws.state is State.CLOSED for ws in opened)
            while at_work:
                await trio.testing.wait_all_tasks_blocked()

        await cancel_everywhere(attempt, bare=False)  # Trio dials several addresses at once


async def test_waiting_is_cancelled_at_once() -> None:
    url = f"ws://127.0.0.1:{await free_port()}"
    with trio.move_on_after(2) as scope:
        async with reconnecting(url, backoff=AT_LAST) as connections:
            async for _ in connections:
                pytest.fail("there is none")
    assert scope.cancelled_caught
    assert trio.current_time() == scope.deadline


# What is told


async def test_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: WebSocketRequest) -> None:
        match len(log.times):
            case 1:
                await request.reject(503)
            case 2:
                await close_with(1000, request)
            case _:
                await hold(request)

    log = Log(handler)
    caplog.set_level(logging.INFO, "trio_ws")
    async with serving_here(log) as url:
        name = url.removesuffix("/")
        secret = url.replace("//", "//me:password@") + "?token=secret"
        async with reconnecting(secret, backoff=AT_LAST) as connections:
            async for ws in connections:
                async for _ in ws:
                    break
                if len(log.times) == 3:
                    break
    # by number: some libraries give the levels other names for the whole process
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.WARNING,
            f"{name}: the server answered the handshake with status 503; connecting again in 5.0 s (attempt 2)",
        ),
        (logging.INFO, f"connected to {name} again"),
        (logging.INFO, f"{name}: {connections.last_error}; connecting again in 10.0 s (attempt 3)"),
        (logging.INFO, f"connected to {name} again"),
    ]


async def test_a_log_handler_that_raises_is_no_reason_to_stay_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ValueError("disk full")

    monkeypatch.setattr(logging.getLogger("trio_ws"), "handlers", [Broken()])
    log = Log(partial(close_with, 1011))
    async with serving_here(log) as url, reconnecting(url) as connections:
        async for ws in connections:
            await until_over(ws)
            if len(log.times) == 2:
                break
    assert len(log.times) == 2


# What is asked for


def test_a_backoff_is_a_value() -> None:
    assert Backoff() == Backoff(initial=5, maximum=60, factor=2, stable_after=60, max_retry_after=300)
    with pytest.raises(FrozenInstanceError):
        Backoff().initial = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    assert all(0 <= Backoff().random() < 1 for _ in range(100))


@pytest.mark.parametrize(
    "values",
    [
        {"initial": 0},
        {"initial": -1},
        {"initial": math.nan},
        {"initial": 61},
        {"maximum": math.inf},
        {"maximum": 4},
        {"factor": 0.9},
        {"factor": math.nan},
        {"stable_after": -1},
        {"stable_after": math.nan},
        {"max_attempts": 0},
        {"max_retry_after": -1},
        {"max_retry_after": math.inf},
    ],
)
def test_a_backoff_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Backoff(**values)


@pytest.mark.parametrize(
    ("error", "url", "options"),
    [
        (ValueError, "ftp://localhost", {}),
        (ValueError, "ws://localhost", {"stream": trio.testing.memory_stream_pair()[0]}),
        (ValueError, "ws://localhost", {"ssl_context": ssl.create_default_context()}),
        (ValueError, "ws://localhost", {"max_message_size": -1}),
        (TypeError, "ws://localhost", {"no_such_option": 1}),
    ],
)
async def test_what_is_wrong_is_told_before_anything_is_tried(
    error: type[Exception], url: str, options: dict[str, Any]
) -> None:
    with pytest.raises(error):
        reconnecting(url, **options)
