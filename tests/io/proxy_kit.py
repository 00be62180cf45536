"""What the tests of proxies share: scripted proxies, and ones that really open tunnels, to one port whatever they are asked for."""

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import trio

from trio_ws.protocol import Role
from trio_ws.testing import RawPeer


async def relay(source: trio.abc.Stream, target: trio.abc.Stream) -> None:
    """Hand on everything, and the end: of one direction is that of both, as with TLS."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            await target.send_all(data)
    await trio.aclose_forcefully(source)
    await trio.aclose_forcefully(target)


@dataclass
class Tunneller:
    """A proxy that opens tunnels to one port of the loopback.

    Args:
        target: the port.
        context: for TLS to the proxy itself, or None.

    Attributes:
        port: of the proxy.
        asked: what it was told before each tunnel.
        tasks: of the tunnels, none once all are closed.
    """

    target: int
    context: ssl.SSLContext | None
    tasks: trio.Nursery
    port: int = 0
    asked: list[bytes] = field(default_factory=list[bytes])

    async def serve(self, stream: trio.abc.Stream) -> None:
        if self.context is not None:
            stream = trio.SSLStream(stream, self.context, server_side=True)
        client = RawPeer(stream, Role.SERVER)
        try:
            await self.greet(client)
            server = await trio.open_tcp_stream("127.0.0.1", self.target)
        except (AssertionError, trio.BrokenResourceError):  # the client has gone
            await trio.aclose_forcefully(stream)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay, stream, server)
            nursery.start_soon(relay, server, stream)

    async def greet(self, client: RawPeer) -> None:
        """Hear what is wanted and say yes."""
        version = (await client.receive_exactly(1))[0]
        if version == 5:
            [methods] = await client.receive_exactly(1)
            self.asked.append(await client.receive_exactly(methods))
            await client.send(b"\5\0")
            self.asked[-1] += await client.receive_exactly(10)
            await client.send(b"\5\0\0\1" + bytes(6))
        elif version == 4:
            self.asked.append(await client.receive_exactly(8))
            await client.send(b"\0\x5a" + bytes(6))
        else:
            self.asked.append(b"C" + await client.receive_head())
            await client.send(b"HTTP/1.1 200 Connection established\r\n\r\n")


@asynccontextmanager
async def tunnelling(target: int, context: ssl.SSLContext | None = None) -> AsyncGenerator[Tunneller]:
    """A proxy to `target`."""
    async with trio.open_nursery() as nursery, trio.open_nursery() as tasks:
        proxy = Tunneller(target, context, tasks)

        async def listen(task_status: trio.TaskStatus[list[trio.SocketListener]]) -> None:
            await trio.serve_tcp(
                proxy.serve, 0, host="127.0.0.1", handler_nursery=tasks, task_status=task_status
            )

        [listener] = await nursery.start(listen)
        proxy.port = listener.socket.getsockname()[1]
        yield proxy
        nursery.cancel_scope.cancel()
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def scripted_proxy(script: Callable[[RawPeer], Awaitable[object]]) -> AsyncGenerator[int]:
    """A port on which every client meets `script`, after which it is heard to its end."""

    async def meet(stream: trio.SocketStream) -> None:
        async with stream:
            peer = RawPeer(stream, Role.SERVER)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await script(peer)
                await peer.receive_rest()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, meet, 0)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()
