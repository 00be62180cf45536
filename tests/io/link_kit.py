"""What the tests of a connection share: one connection against a scripted peer, or both ends, over each transport."""

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Unpack

import pytest
import trio
import trio.testing

from trio_ws import (
    ConnectionOptions,
    WebSocketConnection,
    WebSocketRequest,
    wrap_client_stream,
    wrap_server_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import ConnectionPair, RawPeer, open_connection_pair

#: SocketTransport over TCP, and StreamTransport over memory that takes everything at once.
KINDS = ["tcp", "memory"]
#: Those whose peer can make a writer wait; lockstep takes a write when it is read.
BOUNDED = ["tcp", "lockstep"]

every_kind = pytest.mark.parametrize("kind", KINDS)
bounded_kind = pytest.mark.parametrize("kind", BOUNDED)
every_role = pytest.mark.parametrize("role", list(Role))

#: Seconds on the tests' own clock, which runs only when nothing else does: a test that hangs fails at once.
PATIENCE = 3600

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


async def open_streams(kind: str) -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
    """Return both ends of a connected pair of streams."""
    if kind == "memory":
        return trio.testing.memory_stream_pair()
    if kind == "lockstep":
        return trio.testing.lockstep_stream_pair()
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        near = await trio.testing.open_stream_to_socket_listener(listener)
        return near, await listener.accept()


@asynccontextmanager
async def against(
    kind: str = "memory", role: Role = Role.SERVER, **options: Unpack[ConnectionOptions]
) -> AsyncGenerator[tuple[WebSocketConnection, RawPeer]]:
    """Open a connection in this role against a scripted peer. In the end it is cut, and nothing may be left of it."""
    ours, theirs = await open_streams(kind)
    try:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                connection, peer = await shake_hands(nursery, ours, theirs, role, **options)
                yield connection, peer
                connection.terminate()
    finally:
        await trio.aclose_forcefully(theirs)


async def shake_hands(
    nursery: trio.Nursery,
    ours: trio.abc.Stream,
    theirs: trio.abc.Stream,
    role: Role,
    **options: Unpack[ConnectionOptions],
) -> tuple[WebSocketConnection, RawPeer]:
    """Do the opening handshake between our end and a scripted peer's."""
    peer = RawPeer(theirs, Role.CLIENT if role is Role.SERVER else Role.SERVER)
    opened: list[WebSocketConnection] = []

    async def open_ours() -> None:
        if role is Role.CLIENT:
            opened.append(await wrap_client_stream(nursery, ours, "localhost", "/", **options))
        else:
            request: WebSocketRequest = await wrap_server_stream(nursery, ours, **options)
            opened.append(await request.accept())

    async with trio.open_nursery() as shaking:
        shaking.start_soon(open_ours)
        await peer.handshake()
    return opened[0], peer


@asynccontextmanager
async def both_ends(kind: str, **options: Unpack[ConnectionOptions]) -> AsyncGenerator[ConnectionPair]:
    """Open both ends of a connection."""
    with trio.fail_after(PATIENCE):
        pair: AbstractAsyncContextManager[ConnectionPair] = open_connection_pair(
            await open_streams(kind), **options
        )
        async with pair as ends:
            yield ends


async def settle() -> None:
    """Wait until nobody has anything to do: not the connection's tasks, not the kernel."""
    await trio.testing.wait_all_tasks_blocked()


async def settle_until(condition: Callable[[], bool]) -> None:
    """Wait for what comes of the peer's bytes, for a second of the tests' own clock at most."""
    with trio.fail_after(1):
        while not condition():  # noqa: ASYNC110 - no event tells of it, and this clock costs no time
            await trio.sleep(0.001)


def joined(peer: RawPeer, frames: Iterable[tuple[int, bytes]]) -> bytes:
    """Return frames in one piece, so that they arrive in one."""
    return b"".join(peer.encode_frame(opcode, payload) for opcode, payload in frames)


def close_payload(code: int, reason: str = "") -> bytes:
    return code.to_bytes(2, "big") + reason.encode()


async def drain(stream: trio.abc.ReceiveStream) -> int:
    """Read to the end and return how many bytes came; a reset is an end too."""
    size = 0
    try:
        while data := await stream.receive_some(65536):
            size += len(data)
    except trio.BrokenResourceError:
        pass
    return size
