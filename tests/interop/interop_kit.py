"""What the interoperability tests share: peers that are processes of their own, and conversations with them.

A peer plays the script that each of its connections brings along: a list of steps, after which it sends every message
back until the end. As a server it finds the script in the query of the request, as a client in the line on its standard
input that tells it where to connect to. At the end of a connection it writes a line with what it saw of it. All this is
JSON. A peer ends with its standard input, so it cannot outlive the tests.
"""

import abc
import itertools
import json
import os
import ssl
import subprocess
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

import pytest
import trio

from trio_ws import (
    ConnectionRejected,
    HandshakeOptions,
    PerMessageDeflate,
    ServerOptions,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    connect_websocket_url,
    serve_websocket,
    wrap_client_stream,
)
from trio_ws.protocol import Role
from trio_ws.transport import open_unix_listener

#: A header that each side adds to its half of every handshake, with its name as the value.
HEADER = "X-Interop"
OUR_HEADERS = {HEADER: "trio_ws"}
#: Only a broken test waits that long, in seconds.
PATIENCE = 30
#: The size of the largest message.
MAX_MESSAGE_SIZE = 2**24
#: Characters of a peer's output that a failure shows.
LOG_TAIL = 2000

#: Where to listen on TCP for each transport that does.
HOSTS = {"tcp": "127.0.0.1", "tls": "127.0.0.1", "ipv6": "::1"}

Step: TypeAlias = tuple[Any, ...]


# --- Steps of a script ----------------------------------------------------------------------------------------------


def send(*pieces: str | bytes | None, text: bool = False) -> Step:
    """Send a message, in fragments if there are several pieces; at None send a ping and wait for its pong.

    A peer that sends no fragments sends it whole, and takes no None: `aiohttp` and Chromium.
    """
    raw = [piece.encode() if isinstance(piece, str) else piece for piece in pieces]
    is_text = text or isinstance(pieces[0], str)
    return "send", is_text, [None if piece is None else piece.hex() for piece in raw]


def ping(payload: bytes) -> Step:
    """Send a ping and wait for its pong."""
    return "ping", payload.hex()


def close(code: int | None, reason: str = "") -> Step:
    """Start the closing handshake; None sends no code."""
    return "close", code, reason


#: Take a message and do nothing with it.
RECEIVE: Step = ("receive",)
#: Send a message back fragment by fragment, as they come; for `websockets`, as the others see whole messages only.
RELAY: Step = ("relay",)
#: Cut the connection.
TERMINATE: Step = ("terminate",)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a peer saw of a connection, or of a refusal."""

    id: int
    protocol: str = ""
    extensions: str = ""
    header: str | None = None
    pongs: list[str] = field(default_factory=list[str])
    code: int | None = None
    reason: str | None = None
    status: int | None = None  # of the refusal
    body: str | None = None
    error: str | None = None  # what the peer says of the end, for whoever reads a failure

    @property
    def end(self) -> tuple[int | None, str | None]:
        """Close code and reason as the peer's API gives them."""
        return self.code, self.reason


# --- Peers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificates:
    """The files that the peers read, and what the library is given."""

    authority: Path
    certificate: Path  # with its key
    client: ssl.SSLContext
    server: ssl.SSLContext


@dataclass
class Peer:
    """A peer's process, seen from here."""

    kind: str
    process: subprocess.Popen[bytes]
    log: Path  # what it writes to its standard error
    folder: Path  # for Unix sockets, a short path
    certificates: Certificates
    ports: dict[str, int] = field(default_factory=dict[str, int])
    ids: Iterator[int] = field(default_factory=itertools.count)
    _buffer: bytearray = field(default_factory=bytearray)
    _reports: dict[int, Report] = field(default_factory=dict[int, Report])

    @property
    def socket(self) -> str:
        """Path of the Unix socket that the peer listens on."""
        return str(self.folder / self.kind)

    async def start(self) -> None:
        """Wait until the peer listens."""
        with trio.fail_after(PATIENCE):
            self.ports = (await self._read_line())["ports"]

    def tell(self, script: dict[str, Any]) -> None:
        """Have the peer connect and play a script."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(script).encode() + b"\n")
        self.process.stdin.flush()

    async def report(self, number: int) -> Report:
        """Wait until the connection of script `number` is over for the peer. One task at a time."""
        while number not in self._reports:
            line = Report(**await self._read_line())
            self._reports[line.id] = line
        return self._reports.pop(number)

    async def _read_line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        number = self.process.stdout.fileno()
        while b"\n" not in self._buffer:
            await trio.lowlevel.wait_readable(number)
            data = os.read(number, 65536)
            assert data, f"the peer has ended:\n{self.log.read_text(errors='replace')[-LOG_TAIL:]}"
            self._buffer += data
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = bytearray(rest)
        found: dict[str, Any] = json.loads(line)
        return found


# --- Conversations --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What both sides bring to an opening handshake."""

    offers: tuple[str, ...] = ()  # the client's subprotocols
    choice: str | None = None  # the server's
    refusal: str | None = None  # the server's answer to a client that it does not want
    compression: PerMessageDeflate | None = (
        None  # the library's terms; the peer offers and takes all that it can
    )


PLAIN = Terms()


@dataclass(frozen=True)
class Talk:
    """A connection, and what the peer has to say about it in the end."""

    ws: WebSocketConnection
    id: int
    peer: Peer

    async def report(self) -> Report:
        """Wait until the connection is over for the peer."""
        return await self.peer.report(self.id)


class Refusal(NamedTuple):
    """A server's answer to a client that it does not want, as the client sees it."""

    status: int | None
    header: str | None
    body: str | None


class Meeting(abc.ABC):
    """The library and a peer that meet over one transport, for any number of connections."""

    def __init__(
        self, peer: Peer, transport: str, nursery: trio.Nursery, compression: PerMessageDeflate | None
    ) -> None:
        self.peer = peer
        self.compression = compression
        self.transport = transport
        self.nursery = nursery

    @abc.abstractmethod
    async def start(self) -> None:
        """Do what is needed before the first connection."""

    @abc.abstractmethod
    async def talk(self, *steps: Step, terms: Terms = PLAIN) -> Talk:
        """Open a connection on which the peer plays `steps`."""

    @abc.abstractmethod
    async def be_refused(self, body: str) -> Refusal:
        """Have the client ask for a connection that the server does not want, for the reason in `body`."""


class ClientMeeting(Meeting):
    """The library is the client."""

    async def start(self) -> None:
        """Nothing: the peer listens already."""

    async def talk(self, *steps: Step, terms: Terms = PLAIN) -> Talk:
        peer, number = self.peer, next(self.peer.ids)
        script = {"id": number, "steps": steps, "choice": terms.choice, "refusal": terms.refusal}
        target = f"/?{quote(json.dumps(script))}"
        options: HandshakeOptions = {
            "subprotocols": terms.offers,
            "extra_headers": OUR_HEADERS,
            "max_message_size": MAX_MESSAGE_SIZE,
            "compression": self.compression,
        }
        if self.transport == "unix":
            stream = await trio.open_unix_socket(peer.socket)
            ws = await wrap_client_stream(self.nursery, stream, "localhost", target, **options)
        else:
            url = make_origin(self.transport, peer.ports[self.transport]) + target
            context = peer.certificates.client if self.transport == "tls" else None
            ws = await connect_websocket_url(self.nursery, url, context, **options)
        return Talk(ws, number, peer)

    async def be_refused(self, body: str) -> Refusal:
        with pytest.raises(ConnectionRejected) as rejected:
            await self.talk(terms=Terms(refusal=body))
        exc = rejected.value
        return Refusal(exc.status_code, exc.headers.get(HEADER), (exc.body or b"").decode())


class ServerMeeting(Meeting):
    """The library is the server."""

    def __init__(
        self, peer: Peer, transport: str, nursery: trio.Nursery, compression: PerMessageDeflate | None
    ) -> None:
        super().__init__(peer, transport, nursery, compression)
        self._socket = str(peer.folder / "trio_ws") if transport == "unix" else None
        self._origin = ""
        self._expected: dict[int, tuple[Terms, trio.MemorySendChannel[WebSocketConnection]]] = {}

    async def start(self) -> None:
        """Listen."""
        options: ServerOptions = {
            "max_message_size": MAX_MESSAGE_SIZE,
            "compression": self.compression,
            "origins": [None, "null"],  # the page that plays the scripts in a browser is not from anywhere
        }
        if self._socket is not None:
            listener = await open_unix_listener(self._socket)
            await self.nursery.start(WebSocketServer(self._handle, [listener], **options).run)
            self._origin = "ws://localhost"
            return

        async def serve(task_status: trio.TaskStatus[WebSocketServer]) -> None:
            context = self.peer.certificates.server if self.transport == "tls" else None
            host = HOSTS[self.transport]
            await serve_websocket(self._handle, host, 0, context, task_status=task_status, **options)

        server: WebSocketServer = await self.nursery.start(serve)
        self._origin = make_origin(self.transport, server.port)

    async def talk(self, *steps: Step, terms: Terms = PLAIN) -> Talk:
        arrived, arrival = trio.open_memory_channel[WebSocketConnection](1)
        number = self._expect(steps, terms, arrived)
        return Talk(await arrival.receive(), number, self.peer)

    async def be_refused(self, body: str) -> Refusal:
        arrived, _ = trio.open_memory_channel[WebSocketConnection](0)
        number = self._expect((), Terms(refusal=body), arrived)
        report = await self.peer.report(number)
        return Refusal(report.status, report.header, report.body)

    def _expect(
        self, steps: Sequence[Step], terms: Terms, arrived: trio.MemorySendChannel[WebSocketConnection]
    ) -> int:
        """Have the peer connect; return the number of the connection."""
        number = next(self.peer.ids)
        self._expected[number] = terms, arrived
        script = {"id": number, "steps": steps, "offers": terms.offers}
        self.peer.tell(script | {"url": f"{self._origin}/{number}", "socket": self._socket})
        return number

    async def _handle(self, request: WebSocketRequest) -> None:
        terms, arrived = self._expected.pop(int(request.path.removeprefix("/")))
        if terms.refusal is not None:
            await request.reject(401, extra_headers=OUR_HEADERS, body=terms.refusal.encode())
            return
        ws = await request.accept(subprotocol=terms.choice, extra_headers=OUR_HEADERS)
        await arrived.send(ws)
        await ws.wait_closed()


@dataclass(frozen=True)
class Lane:
    """One way for the library to meet a peer."""

    peer: Peer
    role: Role  # of the library
    transport: str

    @asynccontextmanager
    async def meet(self, compression: PerMessageDeflate | None = None) -> AsyncGenerator[Meeting]:
        """Have both sides ready for connections."""
        kind = ClientMeeting if self.role is Role.CLIENT else ServerMeeting
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                meeting = kind(self.peer, self.transport, nursery, compression)
                await meeting.start()
                yield meeting
                nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def talk(self, *steps: Step, terms: Terms = PLAIN) -> AsyncGenerator[Talk]:
        """Have one connection, on which the peer plays `steps`."""
        async with self.meet(terms.compression) as meeting:
            yield await meeting.talk(*steps, terms=terms)


def make_origin(transport: str, port: int) -> str:
    """Return the URL of who listens there, without a path."""
    scheme = "wss" if transport == "tls" else "ws"
    host = HOSTS[transport]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
