"""A connection that is over is gone: no reference cycle, no timer and no exception keeps it, its buffers or its tasks."""

import gc
import itertools
import weakref
from collections.abc import Iterator

import pytest
import trio

from tests.io.link_kit import (
    BINARY,
    KINDS,
    TEXT,
    against,
    both_ends,
    every_kind,
    open_streams,
    settle,
    shake_hands,
)
from tests.io.transport_kit import reset
from trio_ws import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    open_websocket,
    serve_websocket,
)
from trio_ws._link import Link
from trio_ws.protocol import Protocol, Role
from trio_ws.transport import Transport

pytestmark = pytest.mark.usefixtures("autojump_clock")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Leave everything to reference counting."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> dict[str, int]:
    """Count what connections are made of."""
    kinds = (WebSocketConnection, Link, Protocol, Transport)
    objects = gc.get_objects()
    return {kind.__name__: sum(isinstance(found, kind) for found in objects) for kind in kinds}


@every_kind
async def test_a_connection_pair_that_is_over(kind: str, no_collector: None) -> None:
    before = alive()
    for _ in range(3):
        async with both_ends(kind) as (client, server):
            await client.send_message("x")
            assert await server.get_message() == "x"
            await client.ping()
            watched = weakref.ref(client)
        del client, server
        await settle()
        assert watched() is None
        assert alive() == before


ENDS = ["close", "violation", "end", "terminate", "timeout", "dead", "message and close"]


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(
    ("kind", "way"),
    [*itertools.product(KINDS, ENDS), ("tcp", "reset")],  # memory cannot be reset
)
async def test_every_way_to_end(kind: str, role: Role, way: str, no_collector: None) -> None:
    before = alive()
    await end_in(way, kind, role)
    await settle()
    assert alive() == before


async def end_in(way: str, kind: str, role: Role) -> None:
    async with against(kind, role, ping_interval=20) as (connection, peer), trio.open_nursery() as nursery:
        match way:
            case "close":
                await peer.send_close()
                await peer.expect_close()
            case "violation":
                await peer.send_frame(BINARY, bytes(50_000), fin=False)
                await peer.send_frame(BINARY, bytes(100_000))
            case "end":
                await peer.aclose()
            case "reset":
                reset(peer.stream)
            case "terminate":
                connection.terminate()
            case "timeout":
                nursery.start_soon(connection.aclose)
            case "dead":
                pass
            case _:
                await peer.send_frame(TEXT, b"x")
                await peer.send_close()
                assert await connection.get_message() == "x"
        with pytest.raises(ConnectionClosed):
            await connection.get_message()
        with pytest.raises(ConnectionClosed):
            await connection.send_message("x")
        await connection.wait_closed()


async def test_a_server_lets_go_of_a_connection_when_its_handler_is_done(no_collector: None) -> None:
    before = alive()

    async def handler(request: WebSocketRequest) -> None:
        connection = await request.accept()
        async for message in connection:
            await connection.send_message(message)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, handler, "127.0.0.1", 0, None)
        for _ in range(20):
            async with open_websocket("127.0.0.1", server.port, "/", use_ssl=False) as connection:
                await connection.send_message("x")
                assert await connection.get_message() == "x"
            del connection
        await settle()
        assert alive() == before
        nursery.cancel_scope.cancel()


async def test_a_violation_does_not_keep_the_bytes_in_which_it_was_found(no_collector: None) -> None:
    async with against("tcp") as (connection, peer):
        await peer.send(peer.encode_frame(BINARY, b"needle" * 5000) + peer.encode_frame(3))
        await connection.get_message()
        with pytest.raises(ConnectionClosed) as caught:
            await connection.get_message()
        found = [kept for kept in gc.get_referents(caught.value.__cause__) if isinstance(kept, bytes)]
        assert found == []
        cause = caught.value.__cause__
        assert cause is not None
        assert cause.__traceback__ is None


async def test_many_connections_leave_no_objects(no_collector: None) -> None:
    async def one() -> None:
        ours, theirs = await open_streams("tcp")  # Trio's memory streams are cycles themselves
        async with trio.open_nursery() as nursery:
            connection, peer = await shake_hands(nursery, ours, theirs, Role.SERVER)
            await peer.send_frame(TEXT, b"x")
            await connection.get_message()
            await peer.send_close()
            await peer.expect_close()
            await peer.aclose()
        await settle()

    for _ in range(3):
        await one()
    before = len(gc.get_objects())
    for _ in range(50):
        await one()
    assert len(gc.get_objects()) - before < 50
