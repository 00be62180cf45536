"""What one connection does ends that one alone: others are served meanwhile, and afterwards all is as it was before."""

import socket
import ssl
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.io.link_kit import BINARY, TEXT
from tests.io.transport_kit import reset
from tests.threats.states_kit import ENDING, HALF_OPEN, OPEN, Move, opened, read_no_echoes, sending
from tests.threats.threat_kit import MEBI, Victim, certificate_for, victim_of
from trio_ws import WebSocketConnection, open_websocket
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer, handshake_request

PATIENCE = 15.0


@contextmanager
def loud_victim_of(**options: Any) -> Generator[Victim]:
    """A victim that may log tracebacks; it must be able to end all the same."""
    victim = Victim(**options)
    try:
        yield victim
        victim.stop()
    finally:
        victim.kill()


async def refused(peer: RawPeer) -> None:
    """Ask for what is not served, and have the answer."""
    await peer.send(handshake_request(Sec_WebSocket_Version="12"))
    assert (await peer.receive_head()).startswith(b"HTTP/1.1 4")


#: Where connections are dropped.
STATES: dict[str, Move] = {**HALF_OPEN, "refused": refused, **OPEN, **ENDING}


async def check_echo(ws: WebSocketConnection, text: str) -> None:
    """Fail if a message does not come back, and soon."""
    with trio.fail_after(5):
        await ws.send_message(text)
        assert await ws.get_message() == text


async def drop_in_every_state(number: int) -> None:
    """Fail if it harms somebody, or leaves something: a hundred at a time, each in a state and by a way of its own."""
    moves = list(STATES.values())

    async def connect(index: int) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", victim.port)
        await moves[index % len(moves)](RawPeer(stream, Role.CLIENT))
        held.append(stream)

    held: list[trio.SocketStream] = []
    before: tuple[int, dict[str, int]] | None = None
    with victim_of(collects=False) as victim:
        async with open_websocket("127.0.0.1", victim.port, "/", use_ssl=False) as honest:
            for start in range(0, number, 100):
                async with trio.open_nursery() as nursery:
                    for index in range(start, start + 100):
                        nursery.start_soon(connect, index)
                await check_echo(honest, f"{start} are there")
                for index, stream in enumerate(held):
                    if index % 2:
                        reset(stream)
                    else:
                        await stream.aclose()
                await check_echo(honest, f"{start} are gone")
                held.clear()
                while victim.held > 1:  # noqa: ASYNC110 - another process sets no event
                    await trio.sleep(0.01)
                if start == 300:  # what is made once has been made
                    before = victim.descriptors, victim.report()
            assert before is not None
            after = victim.report()
            assert victim.descriptors == before[0]
            # a deadline that was met stays in Trio's heap for a while; a thousand may
            assert after["objects"] - before[1].pop("objects") < 3000
            assert {name: after[name] for name in before[1]} == before[1]


async def test_connections_dropped_in_every_state_harm_nobody_and_leave_nothing() -> None:
    await drop_in_every_state(1200)


@pytest.mark.complete
def test_ten_thousand_connections_dropped_in_every_state_harm_nobody_and_leave_nothing() -> None:
    trio.run(drop_in_every_state, 10_000)


async def test_connections_dropped_in_a_tls_handshake_leave_nothing(tmp_path: Path) -> None:
    path, context = certificate_for(tmp_path)
    hello = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
    data = hello.read()

    async def connect(index: int) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", victim.port)
        await stream.send_all(data[: index * 37 % (len(data) + 1)])
        if index % 2:
            reset(stream)
        else:
            await stream.aclose()

    with victim_of(certificate=path) as victim:
        before: tuple[int, dict[str, int]] | None = None
        for start in range(0, 200, 50):
            async with trio.open_nursery() as nursery:
                for index in range(start, start + 50):
                    nursery.start_soon(connect, index)
            await victim.idle()
            async with victim.encrypted(context) as peer:
                await peer.handshake()
                await peer.send_frame(TEXT, b"x")
                await peer.expect(TEXT, b"x")
            await victim.idle()
            if start == 100:
                before = victim.descriptors, victim.report()
        assert before is not None
        after = victim.report()
        assert victim.descriptors == before[0]
        assert after["objects"] - before[1].pop("objects") < 3000  # as above
        assert {name: after[name] for name in before[1]} == before[1]


# Reference cycles: nothing may be left to the collector


async def clean(peer: RawPeer) -> None:
    await peer.send_frame(TEXT, b"x")
    await peer.expect(TEXT, b"x")
    await peer.send_close()
    await peer.expect_close()
    await peer.expect_end()


async def violate(peer: RawPeer) -> None:
    await peer.send_frame(TEXT, b"\xff")
    await peer.expect_close(1007)


async def too_large(peer: RawPeer) -> None:
    await peer.send(b"\x82\xff" + (2**40).to_bytes(8, "big") + bytes(4))
    await peer.expect_close(1009)


async def be_reset(peer: RawPeer) -> None:
    await peer.send_frame(BINARY, bytes(1000), fin=False)
    reset(peer.stream)


async def vanish(peer: RawPeer) -> None:
    assert await peer.receive_rest()  # pings


async def fail(peer: RawPeer) -> None:
    await peer.send_frame(TEXT, b"plain")
    await peer.expect_close(1011)


async def fail_in_a_group(peer: RawPeer) -> None:
    await peer.send_frame(TEXT, b"group")
    await peer.expect_close(1011)


async def fail_after_a_reset(peer: RawPeer) -> None:
    await peer.send_frame(TEXT, b"after")
    reset(peer.stream)


async def leave_unread(peer: RawPeer) -> None:
    await read_no_echoes(peer)
    reset(peer.stream)


def asking_for(path: str) -> Move:
    """Return what asks for a path, and has an answer that is no 101."""

    async def ask(peer: RawPeer) -> None:
        await peer.send(handshake_request(f"GET {path} HTTP/1.1"))
        assert not (await peer.receive_rest()).startswith(b"HTTP/1.1 101")

    return ask


WAYS: dict[str, tuple[Move, dict[str, Any]]] = {
    "clean": (opened(clean), {}),
    "compressed": (opened(clean), {"compression": True}),
    "violation": (opened(violate), {}),
    "too large": (opened(too_large), {}),
    "reset": (opened(be_reset), {}),
    "echoes unread": (opened(leave_unread), {}),
    "timeout": (opened(vanish), {"ping_interval": 0.2, "ping_timeout": 0.2}),
    "handler error": (opened(fail), {"handler": "failing"}),
    "handler group": (opened(fail_in_a_group), {"handler": "failing"}),
    "handler error after reset": (opened(fail_after_a_reset), {"handler": "failing"}),
    "refused": (asking_for("/"), {"handler": "refusing"}),
    "redirected": (asking_for("/redirect"), {"handler": "refusing"}),
    "handler error before answer": (asking_for("/fail"), {"handler": "refusing"}),
    "bad request": (sending(b"GET / HTTP/1.1\r\n\r\n"), {}),
    "no request": (sending(b"\x16\x03\x01"), {"connect_timeout": 0.1}),
    "wrong path": (asking_for("/elsewhere"), {"path": "/here"}),
}


@pytest.mark.parametrize("way", list(WAYS))
async def test_no_way_to_end_leaves_objects_to_the_collector(way: str) -> None:
    move, options = WAYS[way]
    with loud_victim_of(collects=False, **options) as victim:

        async def one() -> None:
            async with victim.dialled() as peer:
                await move(peer)

        async def several(number: int) -> dict[str, int]:
            for _ in range(number):
                async with trio.open_nursery() as nursery:
                    for _ in range(20):
                        nursery.start_soon(one)
            await victim.dropped(PATIENCE)
            return victim.report()

        before = await several(2)
        descriptors = victim.descriptors
        after = await several(3)
        assert victim.descriptors == descriptors
        # sixty connections; a task that serves all may just have come or gone, and a deadline that was met stays in
        # Trio's heap for a while, which is three objects
        assert after["tasks"] - before["tasks"] < 10
        assert after["objects"] - before["objects"] < 300


# Handlers that fail


async def test_handlers_that_fail_harm_nobody_else_and_are_logged_once_each() -> None:
    with loud_victim_of(handler="failing") as victim:
        async with open_websocket("127.0.0.1", victim.port, "/", use_ssl=False) as other:
            for move in (fail, fail_in_a_group, fail_after_a_reset) * 5:
                async with victim.attacked() as peer:
                    await move(peer)
                await check_echo(other, "not my business")
            with trio.fail_after(PATIENCE):
                while len(victim.sockets) > 1:  # noqa: ASYNC110 - another process sets no event
                    await trio.sleep(0.01)
        log = victim.stop()
    assert log.count("failed\n") == 15


async def test_a_handler_that_never_returns_does_not_keep_the_server_from_ending() -> None:
    """Nor does a peer that answers no close frame, and one that reads nothing; `stop` fails otherwise."""
    with victim_of(handler="deaf") as victim:
        async with AsyncExitStack() as stack:
            for move in (*OPEN.values(), *HALF_OPEN.values()):
                await move(await stack.enter_async_context(victim.dialled()))
            victim.stop()


async def test_a_plain_get_is_told_to_upgrade(victim: Victim) -> None:
    with trio.fail_after(5):
        async with victim.dialled() as peer:
            await peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = await peer.receive_rest()
    assert answer.startswith(b"HTTP/1.1 426 ")
    assert b"upgrade: websocket\r\n" in answer.lower()


# Broadcasts


async def read_nothing(peer: RawPeer) -> None:
    """Have little room for what is not read."""
    assert isinstance(peer.stream, trio.SocketStream)
    peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    await trio.lowlevel.checkpoint()


@asynccontextmanager
async def audience(victim: Victim, number: int) -> AsyncGenerator[list[WebSocketConnection]]:
    """So many honest clients."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(open_websocket("127.0.0.1", victim.port, "/", use_ssl=False))
            for _ in range(number)
        ]


async def test_a_broadcast_reaches_all_but_who_is_stuck_or_dead_and_those_are_dropped() -> None:
    """The next message is sent only when all others have the one before, so each of them waits for nobody."""
    with victim_of(handler="broadcasting", ping_interval=0.5, ping_timeout=2) as victim, trio.fail_after(40):
        async with victim.attacked() as stuck, victim.attacked() as dead, audience(victim, 48) as clients:
            await read_nothing(stuck)
            reset(dead.stream)
            for index in range(60):
                message = index.to_bytes(4, "big") * 16384
                await clients[index % 48].send_message(message)
                for client in clients:
                    assert await client.get_message() == message
            while victim.held > 48:
                # those who are honest go on: what they are sent is no time for those who are not
                await clients[0].send_message(bytes(65536))
                for client in clients:
                    assert await client.get_message() == bytes(65536)
            assert victim.report()["connections"] == 48


async def test_a_broadcast_to_fifty_who_read_nothing_takes_the_memory_of_one() -> None:
    with victim_of(handler="broadcasting") as victim, trio.fail_after(40):
        async with AsyncExitStack() as stack, victim.attacked() as sender:
            for _ in range(50):
                await read_nothing(await stack.enter_async_context(victim.attacked()))
            with victim.bounded(12 * MEBI):
                for _ in range(10):
                    await sender.send_frame(BINARY, bytes(2**20))
                    assert len((await sender.receive_frame()).payload) == 2**20
