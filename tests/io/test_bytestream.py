"""A connection as a stream of bytes keeps Trio's contract for streams, over memory, sockets and TLS."""

import math
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Unpack

import pytest
import trio
import trio.testing

from tests.io.link_kit import BINARY, CLOSE, TEXT, against, close_payload, every_role, settle
from tests.io.transport_kit import open_pair
from trio_ws import (
    ConnectionOptions,
    SizeOptions,
    State,
    WebSocketConnection,
    WebSocketStream,
    wrap_client_stream,
    wrap_server_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import open_connection_pair
from trio_ws.transport import HIGH_WATER

every_kind = pytest.mark.parametrize("kind", ["memory", "lockstep", "tcp", "unix", "tls", "polled"])

#: More than all buffers on the way together.
MUCH = 32 * 2**20


@asynccontextmanager
async def both_streams(
    kind: str, **options: Unpack[ConnectionOptions]
) -> AsyncGenerator[tuple[WebSocketStream, WebSocketStream]]:
    """Return a client's and a server's stream, joined."""
    async with open_connection_pair(await open_pair(kind), **options) as (client, server):
        yield WebSocketStream(client), WebSocketStream(server)


@every_kind
@every_role
async def test_the_contract_of_streams(kind: str, role: Role) -> None:
    options: SizeOptions = {"message_queue_size": 1, "max_message_size": math.inf}
    async with trio.open_nursery() as nursery:

        async def connect() -> tuple[WebSocketStream, WebSocketStream]:
            near, far = await open_pair(kind)
            accepted: list[WebSocketConnection] = []

            async def accept() -> None:
                request = await wrap_server_stream(nursery, far, **options)
                accepted.append(await request.accept())

            async with trio.open_nursery() as shaking:
                shaking.start_soon(accept)
                client = await wrap_client_stream(
                    nursery, near, "localhost", "/", compression=None, **options
                )
            ends = WebSocketStream(client), WebSocketStream(accepted[0])
            return ends if role is Role.CLIENT else (ends[1], ends[0])

        async def connect_clogged() -> tuple[WebSocketStream, WebSocketStream]:
            near, far = await connect()
            while waiting := [e for e in (near, far) if e.connection.buffered_amount <= HIGH_WATER]:
                for end in waiting:
                    while end.connection.buffered_amount <= HIGH_WATER:
                        # one message, for which there is room: what is left of it waits, whatever the kernel still takes
                        await end.connection.send_message(bytes(2**22))
                        await settle()
                await trio.testing.wait_all_tasks_blocked(0.02)  # the kernel may take more of it
            return near, far

        bounded = None if kind == "memory" else connect_clogged
        await trio.testing.check_two_way_stream(connect, bounded)


@pytest.mark.parametrize("kind", ["tcp", "tls", "polled"])
@every_role
async def test_who_sends_waits_for_who_does_not_read(kind: str, role: Role) -> None:
    content = os.urandom(2**20) * (MUCH // 2**20)
    async with both_streams(kind, message_queue_size=2) as ends:
        one, other = ends if role is Role.CLIENT else ends[::-1]
        sent = 0

        async def send() -> None:
            nonlocal sent
            for start in range(0, MUCH, 2**20):
                await one.send_all(content[start : start + 2**20])
                sent += 2**20
            await one.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked(0.1)
            assert sent < MUCH
            assert one.connection.buffered_amount < 2**18
            assert b"".join([data async for data in other]) == content


async def test_the_borders_of_writes_do_not_matter(autojump_clock: trio.testing.MockClock) -> None:
    async with both_streams("memory") as (one, other):
        await one.send_all(b"abc")
        await one.send_all(b"")
        await one.send_all(memoryview(bytearray(b"defg")))
        assert await other.receive_some(2) == b"ab"
        assert await other.receive_some(5) == b"c"
        assert await other.receive_some() == b"defg"
        with pytest.raises(ValueError, match="max_bytes"):
            await other.receive_some(0)
        with pytest.raises(ValueError, match="contiguous"):
            await one.send_all(memoryview(b"abcd")[::2])


@every_role
async def test_large_writes_are_cut(role: Role, autojump_clock: trio.testing.MockClock) -> None:
    async with against(role=role) as (connection, peer):
        await WebSocketStream(connection).send_all(b"x" * 150000)
        sizes = [len((await peer.expect(BINARY, b"x" * size)).payload) for size in (65536, 65536, 18928)]
        assert sum(sizes) == 150000


async def test_text_goes_out_in_whole_characters(autojump_clock: trio.testing.MockClock) -> None:
    async with against() as (connection, peer):
        stream = WebSocketStream(connection, text=True)
        euro = "€".encode()
        await stream.send_all(b"a" + euro[:1])
        await stream.send_all(euro[1:2])
        await stream.send_all(euro[2:] + b"b")
        await peer.expect(TEXT, b"a")
        await peer.expect(TEXT, euro + b"b")
        await stream.send_all(euro[:2])
        with pytest.raises(ValueError, match="unexpected end"):
            await stream.send_eof()
        with pytest.raises(ValueError, match="invalid"):
            await stream.send_all(b"\xff")
        assert connection.state is State.OPEN


async def test_text_is_received_as_utf_8(autojump_clock: trio.testing.MockClock) -> None:
    async with against() as (connection, peer):
        stream = WebSocketStream(connection)
        await peer.send_frame(TEXT, "a€".encode())
        await peer.send_frame(TEXT, b"")
        await peer.send_frame(BINARY, b"\xff")
        assert await stream.receive_some(2) == b"a\xe2"
        assert await stream.receive_some() == b"\x82\xac"
        assert await stream.receive_some() == b"\xff"


@every_role
async def test_what_the_peer_sends_before_its_own_end_is_received(
    role: Role, autojump_clock: trio.testing.MockClock
) -> None:
    async with against(role=role) as (connection, peer):
        stream = WebSocketStream(connection)
        await stream.send_all(b"question")
        await stream.send_eof()
        await stream.send_eof()
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"more")
        await peer.expect(BINARY, b"question")
        await peer.expect_close(1000)
        for part in (b"an", b"answer"):
            await trio.sleep(3)
            await peer.send_frame(BINARY, part)
            assert await stream.receive_some() == part
        await peer.send_close(1000)
        assert await stream.receive_some() == b""
        assert await stream.receive_some() == b""
        assert connection.close_was_clean


@pytest.mark.parametrize("end", ["eof", "violation", "error", "nothing"])
async def test_an_end_that_is_none(end: str, autojump_clock: trio.testing.MockClock) -> None:
    async with against() as (connection, peer):
        stream = WebSocketStream(connection)
        await stream.send_eof()
        await peer.expect_close(1000)
        await peer.send_frame(BINARY, b"x")
        if end == "eof":
            await peer.aclose()
        elif end == "violation":
            await peer.send_frame(3)
        elif end == "error":
            await peer.send_frame(CLOSE, close_payload(1011))
        assert await stream.receive_some() == b"x"
        began = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        assert trio.current_time() - began == (10 if end == "nothing" else 0)


@pytest.mark.parametrize("kind", ["memory", "lockstep"])  # this clock does not wait for what a kernel moves
async def test_a_reader_that_takes_its_time_loses_nothing(
    kind: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with against(kind, message_queue_size=1) as (connection, peer):
        stream = WebSocketStream(connection)
        await stream.send_eof()
        await peer.expect_close(1000)
        content = [bytes([number]) * 200000 for number in range(20)]

        async def send() -> None:
            for part in content:
                await peer.send_frame(BINARY, part)
            await peer.send_close(1000)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            received = bytearray()
            while data := await stream.receive_some():
                received += data
                await trio.sleep(11)  # each time longer than the end may take
        assert received == b"".join(content)
        assert connection.close_was_clean


async def test_a_peer_that_only_sends_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    async with against() as (connection, peer):
        stream = WebSocketStream(connection)
        await stream.send_eof()
        began = trio.current_time()

        async def send() -> None:
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await peer.send_frame(BINARY, b"x")
                    await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await stream.receive_some()
        assert trio.current_time() - began <= 11


@every_role
async def test_closing_after_the_end_of_one_side(role: Role, autojump_clock: trio.testing.MockClock) -> None:
    async with against("tcp", role, message_queue_size=1) as (connection, peer):
        stream = WebSocketStream(connection)
        await stream.send_eof()
        await peer.expect_close(1000)
        for _ in range(4):
            await peer.send_frame(BINARY, b"unread")
        await peer.send_close(1000)
        await settle()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.aclose)
            if role is Role.SERVER:
                await peer.expect_end()
            await peer.aclose()
        assert connection.close_was_clean
        for call in (stream.receive_some, stream.send_eof, stream.wait_send_all_might_not_block):
            with pytest.raises(trio.ClosedResourceError):
                await call()


async def test_the_peers_end_breaks_sending(autojump_clock: trio.testing.MockClock) -> None:
    async with both_streams("memory") as (one, other):
        await other.send_eof()
        assert await one.receive_some() == b""
        for call in (one.wait_send_all_might_not_block(), one.send_all(b"x")):
            with pytest.raises(trio.BrokenResourceError, match="1000"):
                await call


async def test_one_task_at_a_time(autojump_clock: trio.testing.MockClock) -> None:
    async with both_streams("lockstep", message_queue_size=1) as (one, _), trio.open_nursery() as nursery:

        async def send_much() -> None:
            await one.send_all(bytes(MUCH))

        nursery.start_soon(one.receive_some)
        nursery.start_soon(send_much)
        await settle()
        for call in (
            one.receive_some,
            one.send_eof,
            one.wait_send_all_might_not_block,
        ):
            with pytest.raises(trio.BusyResourceError):
                await call()
        nursery.cancel_scope.cancel()


async def test_a_cancelled_reader_loses_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with both_streams("memory") as (one, other):
        with trio.move_on_after(1):
            await other.receive_some()
        await one.send_all(b"abcdef")
        assert await other.receive_some(2) == b"ab"
        with trio.CancelScope() as scope:
            scope.cancel()
            await other.receive_some()
        assert await other.receive_some() == b"cdef"


async def test_a_cancelled_close_cuts(autojump_clock: trio.testing.MockClock) -> None:
    async with both_streams("memory") as (one, other):
        await trio.aclose_forcefully(one)
        assert one.connection.state is State.CLOSED
        with suppress(trio.BrokenResourceError):  # whether the close frame has left depends on who was faster
            assert await other.receive_some() == b""
        assert other.connection.closed is not None
