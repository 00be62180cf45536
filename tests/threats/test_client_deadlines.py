"""The deadlines of a client: no byte that a server, or a proxy, sends or holds back moves one of them.

Each is met twice: on a clock that jumps, to the second, and on the real one, against sockets that really stall.
"""

import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
import trio.testing

from tests.threats.stalling_kit import (
    ESTABLISHED,
    STALLS,
    SlowNames,
    evil_server,
    full_backlog,
    listen,
    loopback_contexts,
    stalling,
)
from trio_ws import (
    ClientOptions,
    CloseReason,
    ConnectionEnded,
    ConnectionLost,
    ConnectionTimeout,
    State,
    connect_websocket_url,
    open_websocket_url,
)
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer, encode_raw_frame

every_stall = pytest.mark.parametrize("name", STALLS)
has_backlog = pytest.mark.skipif(sys.platform != "linux", reason="others refuse who finds the queue full")

#: More than any deadline here: only a broken test waits that long.
PATIENCE = 20


async def time_until_refused(url: str, seconds: float, options: ClientOptions) -> float:
    """Try to open a connection, which must fail for the time it takes; return how long it took."""
    context = loopback_contexts()[1] if url.startswith("wss") else None
    options["connect_timeout"] = seconds
    began = trio.current_time()
    with trio.fail_after(PATIENCE), pytest.raises(ConnectionTimeout, match=f"within {seconds} seconds"):
        async with open_websocket_url(url, context, **options):
            pass
    return trio.current_time() - began


@every_stall
async def test_nothing_a_server_does_prolongs_the_opening(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with stalling(name, 1.0) as (url, options):
        assert await time_until_refused(url, 6.0, options) == pytest.approx(6)


@every_stall
async def test_a_server_that_really_stalls_is_left_in_time(name: str) -> None:
    async with stalling(name, 0.02) as (url, options):
        assert await time_until_refused(url, 0.15, options) < PATIENCE / 2


async def test_a_name_server_that_does_not_answer_is_left_in_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    trio.socket.set_custom_hostname_resolver(SlowNames(1000))
    assert await time_until_refused("ws://server.example/", 6.0, {}) == pytest.approx(6)


@has_backlog
async def test_a_server_that_takes_no_connection_is_left_in_time() -> None:
    async with full_backlog() as port:
        assert await time_until_refused(f"ws://127.0.0.1:{port}/", 0.2, {}) < PATIENCE / 2


async def test_all_stages_of_all_redirects_share_one_deadline(autojump_clock: trio.testing.MockClock) -> None:
    """Names, the tunnel, TLS and the answer take a second each: none has a deadline of its own."""
    trio.socket.set_custom_hostname_resolver(SlowNames(1))
    stages: list[str] = []

    async def slow(stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(trio.BrokenResourceError):
                stages.append("tunnel")
                await RawPeer(stream, Role.SERVER).receive_head()
                await trio.sleep(1)
                await stream.send_all(ESTABLISHED + b"\r\n")
                stages.append("TLS")
                await trio.sleep(1)
                tls = trio.SSLStream(stream, loopback_contexts()[0], server_side=True)
                peer = RawPeer(tls, Role.SERVER)
                await peer.receive_head()
                stages.append("answer")
                await trio.sleep(1)
                location = b"Location: /%d\r\n" % len(stages)
                await peer.send(b"HTTP/1.1 302 Found\r\n" + location + b"Content-Length: 0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        port = await listen(nursery, slow)
        options: ClientOptions = {"proxy": f"http://proxy.example:{port}", "max_redirects": 100}
        assert await time_until_refused("wss://127.0.0.1/", 10.5, options) == pytest.approx(10.5)
        nursery.cancel_scope.cancel()
    assert stages == ["tunnel", "TLS", "answer"] * 2 + ["tunnel", "TLS"]


# Closing


async def be_silent(peer: RawPeer) -> None:
    await peer.receive_frame()


async def not_even_read(peer: RawPeer) -> None:
    await trio.sleep_forever()


async def talk_on(peer: RawPeer) -> None:
    await peer.expect_close()
    while True:
        await peer.send_frame(2, bytes(65536))
        await trio.sleep(0.01)


async def drip_a_message(peer: RawPeer) -> None:
    await peer.expect_close()
    await peer.send(encode_raw_frame(2, size=2**20))
    while True:
        await peer.send(b"x")
        await trio.sleep(0.01)


async def drip_a_close_frame(peer: RawPeer) -> None:
    await peer.expect_close()
    for byte in encode_raw_frame(8, b"\x03\xe8" + b"x" * 100):
        await peer.send(bytes([byte]))
        await trio.sleep(0.1)


async def ping(peer: RawPeer) -> None:
    await peer.expect_close()
    while True:
        await peer.send_frame(9, b"?")
        await trio.sleep(0.01)


async def answer_and_stay(peer: RawPeer) -> None:
    await peer.expect_close()
    await peer.send_close()


async def answer_and_talk_on(peer: RawPeer) -> None:
    await answer_and_stay(peer)
    while True:
        await peer.send_frame(2, bytes(65536))
        await trio.sleep(0.01)


UNANSWERED = [be_silent, not_even_read, talk_on, drip_a_message, drip_a_close_frame, ping]
ANSWERED = [answer_and_stay, answer_and_talk_on]

with_and_without_tls = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])


async def time_to_close(script: Callable[[RawPeer], Awaitable[object]], tls: bool, seconds: float) -> float:
    """Return how long it takes to close, and what `timed_out` says must be right."""
    context = loopback_contexts()[1] if tls else None
    async with evil_server(script, tls) as url, trio.open_nursery() as nursery:
        ws = await connect_websocket_url(nursery, url, context, disconnect_timeout=seconds)
        began = trio.current_time()
        with trio.fail_after(PATIENCE):
            await ws.aclose()
        assert ws.state is State.CLOSED
        assert ws.timed_out is (script in UNANSWERED)
    return trio.current_time() - began


@with_and_without_tls
@pytest.mark.parametrize("script", UNANSWERED)
async def test_nothing_a_server_does_prolongs_closing(
    script: Callable[[RawPeer], Awaitable[object]], tls: bool, autojump_clock: trio.testing.MockClock
) -> None:
    assert await time_to_close(script, tls, 4.0) == pytest.approx(4)


@with_and_without_tls
@pytest.mark.parametrize("script", ANSWERED)
async def test_a_server_that_answers_and_stays_is_left_in_time(
    script: Callable[[RawPeer], Awaitable[object]], tls: bool, autojump_clock: trio.testing.MockClock
) -> None:
    assert await time_to_close(script, tls, 4.0) <= 4.01


@with_and_without_tls
@pytest.mark.parametrize("talks", [False, True], ids=["silent", "talking"])
async def test_a_server_that_says_goodbye_and_stays_is_left_in_time(
    talks: bool, tls: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async def say_goodbye(peer: RawPeer) -> None:
        await peer.send_close(1001, "going")
        await peer.expect_close(1001, "going")
        while talks:
            await peer.send_frame(2, bytes(1000))
            await trio.sleep(0.1)

    context = loopback_contexts()[1] if tls else None
    async with evil_server(say_goodbye, tls) as url, trio.open_nursery() as nursery:
        ws = await connect_websocket_url(nursery, url, context, disconnect_timeout=4)
        began = trio.current_time()
        with trio.fail_after(PATIENCE):
            with pytest.raises(ConnectionEnded) as ended:
                await ws.get_message()
            assert ended.value.reason == CloseReason(1001, "going")
            assert trio.current_time() - began <= 0.01
            await ws.wait_closed()
        assert trio.current_time() - began == pytest.approx(4)
        assert ws.state is State.CLOSED


@with_and_without_tls
@pytest.mark.parametrize("script", [*UNANSWERED, *ANSWERED])
async def test_closing_a_connection_that_really_stalls_ends_in_time(
    script: Callable[[RawPeer], Awaitable[object]], tls: bool
) -> None:
    assert await time_to_close(script, tls, 0.2) < PATIENCE / 2


# Life


async def stop_within_a_message(peer: RawPeer) -> None:
    await peer.send(encode_raw_frame(1, b"whole") + encode_raw_frame(2, bytes(1000), size=2**16))
    await peer.receive_rest()


async def stop_within_a_header(peer: RawPeer) -> None:
    await peer.send(encode_raw_frame(1, b"whole") + encode_raw_frame(2, size=2**16)[:5])
    await peer.receive_rest()


async def read_and_say_nothing(peer: RawPeer) -> None:
    await peer.send(encode_raw_frame(1, b"whole"))
    await peer.receive_rest()


async def stop_at_once(peer: RawPeer) -> None:
    await peer.send(encode_raw_frame(1, b"whole"))
    await trio.sleep_forever()


@with_and_without_tls
@pytest.mark.parametrize(
    "script", [stop_within_a_message, stop_within_a_header, read_and_say_nothing, stop_at_once]
)
async def test_a_server_that_really_falls_silent_is_given_up(
    script: Callable[[RawPeer], Awaitable[object]], tls: bool
) -> None:
    context = loopback_contexts()[1] if tls else None
    async with evil_server(script, tls) as url:
        with trio.fail_after(PATIENCE):
            async with open_websocket_url(url, context, ping_interval=0.1, ping_timeout=0.1) as ws:
                assert await ws.get_message() == "whole"
                with pytest.raises(ConnectionLost, match="no progress") as lost:
                    await ws.get_message()
                assert lost.value.reason == CloseReason(1006)
                assert isinstance(lost.value.__cause__, TimeoutError)


@with_and_without_tls
async def test_sending_to_a_server_that_really_never_reads_ends(tls: bool) -> None:
    """The deadline of who sends, and the one of the connection, each by itself; closing then takes no more than its own."""
    context = loopback_contexts()[1] if tls else None
    async with evil_server(not_even_read, tls) as url, trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            ws = await connect_websocket_url(
                nursery, url, context, ping_interval=0.3, ping_timeout=0.3, disconnect_timeout=0.1
            )
            with trio.move_on_after(0.1) as own:
                while True:
                    await ws.send_message(bytes(2**16))
            assert own.cancelled_caught
            assert ws.closed is None
            with pytest.raises(ConnectionLost, match="no progress"):
                while True:
                    await ws.send_message(bytes(2**16))
            await ws.aclose()
            assert ws.closed == CloseReason(1006)
