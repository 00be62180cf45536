"""What the tests of the transports share: a receiver that writes everything down, and a wired pair of each kind."""

import resource
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar, cast

import trio
import trio.testing
import trustme

from trio_ws.transport import Transport, make_transport
from trio_ws.transport._polled import PolledStream
from trio_ws.transport._stream import StreamTransport

#: SocketTransport over TCP and Unix sockets; StreamTransport over a memory stream, over one that takes a write only when
#: it is read, over plain TCP (as on Windows), over TLS on TCP, and over TLS on a PolledStream.
KINDS = ["tcp", "unix", "memory", "lockstep", "stream", "tls", "polled"]
#: Those whose peer can make a writer wait.
BOUNDED = [kind for kind in KINDS if kind != "memory"]
#: Those over a kernel's socket that can be reset.
RESETTABLE = ["tcp", "stream", "tls", "polled"]
SOCKETS = ["tcp", "unix"]
TLS = ["tls", "polled"]
STREAMS = [kind for kind in KINDS if kind not in SOCKETS]

AnyStream = TypeVar("AnyStream", bound=trio.abc.Stream)
OtherStream = TypeVar("OtherStream", bound=trio.abc.Stream)

#: More than all the buffers of kernel, TLS and transport together.
MUCH = 16 * 2**20

#: Only a broken test waits that long.
PATIENCE = 30


@dataclass
class Recorder:
    """A receiver that writes down every call."""

    received: bytearray = field(default_factory=bytearray)
    events: list[str] = field(default_factory=list[str])
    sizes: list[int] = field(default_factory=list[int])
    reasons: list[Exception | None] = field(default_factory=list[Exception | None])
    on: dict[str, Callable[[], object]] = field(default_factory=dict[str, Callable[[], object]])
    news: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    def data_received(self, data: bytes | bytearray | memoryview) -> None:
        self.received += data
        self.sizes.append(len(data))
        self._note("data")

    def eof_received(self) -> None:
        self._note("eof")

    def drained(self) -> None:
        self._note("drained")

    def connection_lost(self, exc: Exception | None) -> None:
        self.reasons.append(exc)
        self._note("lost")

    def _note(self, event: str) -> None:
        self.events.append(event)
        self.news.unpark_all()
        if event in self.on:
            self.on[event]()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for calls until `condition` holds."""
        while not condition():
            await self.news.park()

    async def until_received(self, size: int) -> None:
        await self.until(lambda: len(self.received) >= size)

    async def until_seen(self, event: str) -> None:
        await self.until(lambda: event in self.events)


@dataclass
class Wired:
    """A started transport and its peer's end of the wire."""

    transport: Transport
    recorder: Recorder
    peer: trio.abc.Stream
    nursery: trio.Nursery


async def tcp_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listeners[0] as listener:
        client = await trio.testing.open_stream_to_socket_listener(listener)
        return await listener.accept(), client


def unix_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    left, right = trio.socket.socketpair()
    return trio.SocketStream(left), trio.SocketStream(right)


@cache
def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's context that trust each other, for localhost."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    certificate = authority.issue_cert("localhost")
    # trustme's annotations name an optional dependency, which makes them partly unknown here.
    certificate.configure_cert(server)  # pyright: ignore[reportUnknownMemberType]
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]
    return server, client


async def tls_pair() -> tuple[trio.SSLStream[trio.SocketStream], trio.SSLStream[trio.SocketStream]]:
    return await shake_hands(*await tcp_pair())


async def polled_pair() -> tuple[trio.SSLStream[PolledStream], trio.SSLStream[trio.SocketStream]]:
    accepted, connected = await tcp_pair()
    return await shake_hands(PolledStream(accepted), connected)


async def shake_hands(
    accepted: AnyStream, connected: OtherStream
) -> tuple[trio.SSLStream[AnyStream], trio.SSLStream[OtherStream]]:
    """Speak TLS on two ends."""
    server_context, client_context = tls_contexts()
    server = trio.SSLStream(accepted, server_context, server_side=True)
    client = trio.SSLStream(connected, client_context, server_hostname="localhost")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        nursery.start_soon(client.do_handshake)
    return server, client


async def open_pair(kind: str) -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """Return our end and the peer's of a connected pair of streams."""
    match kind:
        case "tcp" | "stream":
            return await tcp_pair()
        case "unix":
            return unix_pair()
        case "memory":
            return trio.testing.memory_stream_pair()
        case "lockstep":
            return trio.testing.lockstep_stream_pair()
        case "tls":
            return await tls_pair()
        case _:
            return await polled_pair()


def wrap(kind: str, stream: trio.abc.Stream, read_size: int = 65536) -> Transport:
    if kind == "stream":
        return StreamTransport(stream, read_size)
    return make_transport(stream, read_size=read_size)


@asynccontextmanager
async def wired(kind: str, *, read_size: int = 65536) -> AsyncGenerator[Wired]:
    """A started transport of this kind. In the end it is aborted, and must report its end exactly once, and last."""
    ours, peer = await open_pair(kind)
    recorder = Recorder()
    transport = wrap(kind, ours, read_size)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            transport.start(recorder, nursery)
            try:
                yield Wired(transport, recorder, peer, nursery)
            finally:  # no cancellation ends a transport, so a failing test would hang
                transport.abort()
            await recorder.until_seen("lost")
        await trio.aclose_forcefully(peer)
        await trio.testing.wait_all_tasks_blocked()
    assert recorder.events.count("lost") == 1
    assert recorder.events[-1] == "lost"
    assert recorder.events.count("eof") <= 1
    assert transport.buffered == 0


async def receive_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    """Read `size` bytes; fewer if the stream ends before."""
    received = bytearray()
    while len(received) < size and (data := await stream.receive_some(min(65536, size - len(received)))):
        received += data
    return bytes(received)


def socket_of(stream: trio.abc.Stream) -> trio.socket.SocketType | socket.socket:
    if isinstance(stream, trio.SSLStream):
        return socket_of(cast("trio.SSLStream[trio.abc.Stream]", stream).transport_stream)
    assert isinstance(stream, trio.SocketStream | PolledStream)
    return stream.socket


def reset(stream: trio.abc.Stream) -> None:
    """Close the TCP connection under `stream` with a reset."""
    sock = socket_of(stream)
    sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes in which a piece that is missing, doubled or moved shows."""
    return b"".join((seed * 2**40 + index).to_bytes(8, "big") for index in range(size // 8 + 1))[:size]


@contextmanager
def no_free_descriptor() -> Generator[None]:
    """Leave this process without a free descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    filler: list[socket.socket] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        with suppress(OSError):
            while True:  # numbers below the limit may be free
                filler.append(socket.socket())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for sock in filler:
            sock.close()
