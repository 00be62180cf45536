"""What the tests of the public API share: servers and scripted peers to talk to, over sockets and in memory."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias, Unpack

import trio
import trio.testing

from tests.io.transport_kit import PATIENCE
from trio_ws import (
    AcceptOptions,
    ConnectionClosed,
    HandshakeOptions,
    ServerOptions,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    serve_websocket,
    wrap_client_stream,
    wrap_server_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import MemoryListener, RawPeer

Handler: TypeAlias = Callable[[WebSocketRequest], Awaitable[object]]
Script: TypeAlias = Callable[[RawPeer], Awaitable[object]]


async def echo(request: WebSocketRequest) -> None:
    """Accept, and send everything back."""
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


@asynccontextmanager
async def serving(
    handler: Handler, patience: float = PATIENCE, **options: Unpack[ServerOptions]
) -> AsyncGenerator[WebSocketServer, None]:
    """A server on a port of the loopback; it is closed in the end, and must be able to."""
    with trio.fail_after(patience):
        async with trio.open_nursery() as nursery:

            async def run(task_status: trio.TaskStatus[WebSocketServer]) -> None:
                await serve_websocket(handler, "127.0.0.1", 0, None, task_status=task_status, **options)

            server = await nursery.start(run)
            yield server
            await server.aclose(drain=1)


@asynccontextmanager
async def serving_in_memory(
    handler: Handler, **options: Unpack[ServerOptions]
) -> AsyncGenerator[tuple[WebSocketServer, MemoryListener], None]:
    """A server without sockets, for tests on a `MockClock`; it is cancelled in the end."""
    listener = MemoryListener()
    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(WebSocketServer(handler, [listener], **options).run)
        yield server, listener
        nursery.cancel_scope.cancel()


def raw_client(listener: MemoryListener) -> RawPeer:
    """Return a peer connected to a server in memory, that has said nothing yet."""
    return RawPeer(listener.connect(), Role.CLIENT)


@asynccontextmanager
async def dialling(
    listener: MemoryListener, resource: str = "/", **options: Unpack[HandshakeOptions]
) -> AsyncGenerator[WebSocketConnection, None]:
    """A client of a server in memory; it is cut in the end, if it is not over yet."""
    async with trio.open_nursery() as nursery:
        ws = await wrap_client_stream(nursery, listener.connect(), "localhost", resource, **options)
        yield ws
        ws.terminate()


@asynccontextmanager
async def scripted_port(script: Script, patience: float = PATIENCE) -> AsyncGenerator[int, None]:
    """A port of the loopback on which every client meets `script`, after which the connection is closed."""
    with trio.fail_after(patience):
        async with trio.open_nursery() as nursery:

            async def meet(stream: trio.SocketStream) -> None:
                async with stream:
                    with suppress(trio.BrokenResourceError):
                        await script(RawPeer(stream, Role.SERVER))

            listeners = await nursery.start(trio.serve_tcp, meet, 0)
            yield listeners[0].socket.getsockname()[1]
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def client_and_peer(
    **options: Unpack[HandshakeOptions],
) -> AsyncGenerator[tuple[WebSocketConnection, RawPeer], None]:
    """A client's connection in memory, and the scripted server at its other end, behind the handshake."""
    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(far, Role.SERVER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.handshake)
        ws = await wrap_client_stream(nursery, near, "localhost", "/", **options)
        yield ws, peer
        ws.terminate()


@asynccontextmanager
async def server_and_peer(
    **options: Unpack[AcceptOptions],
) -> AsyncGenerator[tuple[WebSocketConnection, RawPeer], None]:
    """A server's connection in memory, and the scripted client at its other end, behind the handshake."""
    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(far, Role.CLIENT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.handshake)
        request = await wrap_server_stream(nursery, near, **options)
        ws = await request.accept()
        await trio.testing.wait_all_tasks_blocked()  # the peer has read the answer
        yield ws, peer
        ws.terminate()


async def receive_all(ws: WebSocketConnection) -> tuple[list[str | bytes], ConnectionClosed]:
    """Receive until the connection is over, and return the messages and what says so."""
    received: list[str | bytes] = []
    try:
        while True:
            received.append(await ws.get_message())
    except ConnectionClosed as exc:
        return received, exc


async def closed_error(ws: WebSocketConnection) -> ConnectionClosed:
    """Receive until the connection is over, and return what says so."""
    return (await receive_all(ws))[1]
