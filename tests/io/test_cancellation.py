"""A cancellation at every moment at which one can come; knows the public API alone.

An operation is done again and again, cancelled a moment later each time, until one gets through untouched. Moments are
the two sides of each step of each of its tasks: when a task has just been woken, which is too late to take back what it
was woken with, and when it has just begun to wait. Afterwards a connection either works as if nothing had been, which
what is sent and received next must show, or it is over for both sides.
"""

import math
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import cache
from typing import Literal, Unpack

import pytest
import trio
import trustme

from tests.io.api_kit import Handler, raw_client, receive_all, serving_in_memory
from tests.io.link_kit import PATIENCE, settle, settle_until
from tests.io.transport_kit import open_pair
from trio_ws import (
    ConnectionClosed,
    ConnectionOptions,
    HandshakeError,
    Request,
    State,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    connect_websocket_url,
    open_websocket_url,
    serve_websocket,
    wrap_client_stream,
    wrap_server_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import ConnectionPair, RawPeer, handshake_request, open_connection_pair

pytestmark = pytest.mark.usefixtures("autojump_clock")

#: SocketTransport over TCP, and StreamTransport over memory and over TLS.
every_kind = pytest.mark.parametrize("kind", ["tcp", "memory", "tls", "polled"])
#: Those whose peer can make a writer wait.
bounded_kind = pytest.mark.parametrize("kind", ["tcp", "lockstep", "tls", "polled"])

#: More moments than any operation here has.
ENDLESS = 2000

Messages = list[str | bytes]


class Canceller(trio.abc.Instrument):
    """Runs an operation once, and cancels it at a moment of its own or of the tasks that it starts.

    Args:
        moment: 0 is before it begins.

    Attributes:
        scope: where it runs.
        raised: what came out of it.
        when: the time of its cancellation.
    """

    def __init__(self, moment: int) -> None:
        self.scope = trio.CancelScope()
        self.raised: BaseException | None = None
        self.when = math.inf
        self._left = moment
        self._task: trio.lowlevel.Task | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the operation has noticed; if it was too late for that it has been completed."""
        return self.scope.cancelled_caught

    async def run(self, operation: Callable[[], Awaitable[object]]) -> bool:
        """Run it in a task of its own; whatever it raises but its cancellation comes out. Return `cancelled`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run, operation)
        return self.cancelled

    async def _run(self, operation: Callable[[], Awaitable[object]]) -> None:
        self._task = trio.lowlevel.current_task()
        with self.scope:
            self._count(self._task)
            trio.lowlevel.add_instrument(self)
            try:
                await operation()
            except BaseException as exc:
                self.raised = exc
                raise
            finally:
                trio.lowlevel.remove_instrument(self)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._count(task)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._count(task)

    def _count(self, task: trio.lowlevel.Task) -> None:
        if self._is_ours(task):
            if self._left == 0:
                self.scope.cancel()
                self.when = trio.current_time()
            self._left -= 1

    def _is_ours(self, task: trio.lowlevel.Task) -> bool:
        while task is not self._task:
            if task.parent_nursery is None:
                return False
            task = task.parent_nursery.parent_task
        return True


async def cancel_everywhere(attempt: Callable[[Canceller], Awaitable[object]], *, bare: bool = True) -> None:
    """Make attempts with a later moment each, until the operation is over before it has come.

    Args:
        attempt: runs the operation with the canceller that it is given, and looks at what has become of it.
        bare: whether the cancellation must come out by itself, not in a group.
    """
    noticed = 0
    for moment in range(ENDLESS):
        canceller = Canceller(moment)
        try:
            with trio.fail_after(PATIENCE):
                await attempt(canceller)
        except BaseException as exc:
            exc.add_note(f"cancelled at moment {moment}")
            raise
        noticed += canceller.cancelled
        assert canceller.cancelled == (canceller.raised is not None)
        if canceller.cancelled and bare:
            assert isinstance(canceller.raised, trio.Cancelled)
        if not canceller.scope.cancel_called:
            break
    else:
        pytest.fail(f"the operation has not come to its end in {ENDLESS} moments")
    assert noticed > 0


@asynccontextmanager
async def both_ends(kind: str, **options: Unpack[ConnectionOptions]) -> AsyncGenerator[ConnectionPair]:
    """Open both ends of a connection over a stream of this kind. In the end nothing may be left of it."""
    near, far = await open_pair(kind)
    async with open_connection_pair((near, far), **options) as ends:
        yield ends
    await settle()
    assert all(end.state is State.CLOSED for end in ends)


async def until_last(ws: WebSocketConnection) -> Messages:
    """Receive up to the message that `drive` sends, and return what came before it."""
    received: Messages = []
    while (message := await ws.get_message()) != "last":
        received.append(message)
    return received


async def drive(ws: WebSocketConnection, peer: WebSocketConnection) -> tuple[Messages, Messages]:
    """Use a connection that must work, in all directions, and return what was still to be received by each end."""
    left: dict[WebSocketConnection, Messages] = {}

    async def receive(end: WebSocketConnection) -> None:
        left[end] = await until_last(end)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive, ws)
        nursery.start_soon(receive, peer)
        await ws.send_message("last")
        await peer.send_message("last")
    await ws.ping()
    await peer.ping()
    await settle()
    assert ws.closed is None
    assert ws.buffered_amount == 0
    return left[ws], left[peer]


async def bury(ws: WebSocketConnection, peer: WebSocketConnection) -> tuple[Messages, int]:
    """Look at a connection that must be over, and return what the peer received, and with what code it ended there."""
    with pytest.raises(ConnectionClosed):
        await ws.send_message("too late")
    with pytest.raises(ConnectionClosed):
        await ws.get_message()
    received, error = await receive_all(peer)
    await ws.wait_closed()
    await peer.wait_closed()
    return received, code_of(error)


def code_of(error: ConnectionClosed) -> int:
    assert error.reason is not None
    return error.reason.code


# Receiving


RECEIVERS: dict[str, Callable[[WebSocketConnection], Awaitable[str | bytes]]] = {
    "get_message": lambda ws: ws.get_message(),
    "receive": lambda ws: ws.receive(),
    "messages.receive": lambda ws: ws.messages.receive(),
    "anext": anext,
}


@every_kind
@pytest.mark.parametrize("receiver", RECEIVERS)
async def test_receiving_loses_doubles_and_reorders_nothing(kind: str, receiver: str) -> None:
    """The messages come one by one, each when somebody waits for it."""
    messages: Messages = ["one", b"two", "three"]

    async def attempt(canceller: Canceller) -> None:
        received: Messages = []
        async with both_ends(kind) as (ws, peer):

            async def send_all() -> None:
                for message in messages:
                    await settle()
                    await peer.send_message(message)

            async def receive_all_of_them() -> None:
                while len(received) < len(messages):
                    received.append(await RECEIVERS[receiver](ws))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_all)
                await canceller.run(receive_all_of_them)
            assert await drive(ws, peer) == (messages[len(received) :], [])

    await cancel_everywhere(attempt)


@every_kind
async def test_receiving_from_a_queue_that_has_stopped_reading(kind: str) -> None:
    """Each message that is taken lets reading go on."""
    messages: Messages = [bytes([number]) * 20000 for number in range(12)]

    async def attempt(canceller: Canceller) -> None:
        received: Messages = []
        async with both_ends(kind, message_queue_size=2) as (ws, peer), trio.open_nursery() as nursery:

            async def send_all() -> None:
                for message in messages:
                    await peer.send_message(message)

            async def receive_some() -> None:
                for _ in range(6):
                    received.append(await ws.get_message())

            nursery.start_soon(send_all)
            await settle()
            await canceller.run(receive_some)
            while len(received) < len(messages):
                received.append(await ws.get_message())
            assert received == messages
            assert await drive(ws, peer) == ([], [])

    await cancel_everywhere(attempt)


@every_kind
async def test_a_cancelled_receiver_leaves_its_message_to_the_next(kind: str) -> None:
    """Two tasks wait; what the one is cancelled out of goes to the other, and to nobody twice."""

    async def attempt(canceller: Canceller) -> None:
        received: Messages = []
        async with both_ends(kind) as (ws, peer):

            async def receive() -> None:
                received.append(await ws.get_message())

            async def send() -> None:
                await settle()
                await peer.send_message("one")
                await peer.send_message("two")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                nursery.start_soon(receive)
                cancelled = await canceller.run(receive)
            left, _ = await drive(ws, peer)
            assert sorted([*received, *left], key=str) == ["one", "two"]
            assert len(received) == (1 if cancelled else 2)

    await cancel_everywhere(attempt)


@every_kind
@pytest.mark.parametrize("whole", [False, True])
async def test_receiving_in_pieces(kind: str, whole: bool) -> None:
    """The message is dropped or left to the next who asks, and the one behind it is whole."""
    pieces = ["first ", "second ", "third"]
    message = "".join(pieces)

    async def attempt(canceller: Canceller) -> None:
        received: list[str | bytes] = []
        begun = False
        async with both_ends(kind) as (ws, peer):

            async def pieces_one_by_one() -> AsyncGenerator[str, None]:
                nonlocal begun
                for piece in pieces:
                    await settle()
                    begun = True
                    yield piece

            async def send() -> None:
                await peer.send_message(message) if whole else await peer.send_stream(pieces_one_by_one())

            async def receive() -> None:
                async with ws.receive_stream() as stream:
                    async for piece in stream:
                        received.append(piece)  # noqa: PERF401 - what came before a cancellation counts

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                if whole:
                    await settle()
                cancelled = await canceller.run(receive)
                begun_before = begun or whole
            left, nothing = await drive(ws, peer)
            text = "".join(piece for piece in received if isinstance(piece, str))
            assert nothing == []
            assert message.startswith(text)
            if text or not cancelled:
                assert left == []
                assert cancelled or text == message
            else:
                assert left in ([[], [message]] if begun_before else [[message]])

    await cancel_everywhere(attempt)


# Sending


@every_kind
async def test_sending_with_room(kind: str) -> None:
    """What was cancelled is not sent; what was sent arrives."""

    async def attempt(canceller: Canceller) -> None:
        sent: Messages = []
        async with both_ends(kind) as (ws, peer):

            async def send() -> None:
                for message in ("one", b"two", "three"):
                    await ws.send_message(message)
                    sent.append(message)

            await canceller.run(send)
            assert await drive(ws, peer) == ([], sent)

    await cancel_everywhere(attempt)


async def fill(ws: WebSocketConnection) -> Messages:
    """Send until there is no room, to a peer that does not read, and return what was sent."""
    sent: Messages = []
    while ws.buffered_amount <= 2**16:
        message = len(sent).to_bytes(4, "big") * 2**15
        await ws.send_message(message)
        sent.append(message)
        await settle()
    return sent


@asynccontextmanager
async def without_room(kind: str) -> AsyncGenerator[tuple[ConnectionPair, Callable[[], Awaitable[None]]]]:
    """Both ends of a connection on which the client has to wait for room, and what has the server make some."""
    async with both_ends(kind, message_queue_size=1, message_queue_bytes=1) as ends:
        sent = await fill(ends.client)
        received: Messages = []

        async def read_on() -> None:
            await settle()
            while len(received) < len(sent):
                received.append(await ends.server.get_message())
            assert received == sent

        yield ends, read_on


@asynccontextmanager
async def with_room(kind: str) -> AsyncGenerator[tuple[ConnectionPair, Callable[[], Awaitable[None]]]]:
    """The same for a client that need not wait."""
    async with both_ends(kind) as ends:
        yield ends, settle


@bounded_kind
async def test_sending_without_room(kind: str) -> None:
    """What waited for room and was cancelled is not sent."""

    async def attempt(canceller: Canceller) -> None:
        async with without_room(kind) as ((ws, peer), read_on):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_on)
                cancelled = await canceller.run(lambda: ws.send_message("that"))
            assert await drive(ws, peer) == ([], [] if cancelled else ["that"])

    await cancel_everywhere(attempt)


@bounded_kind
@pytest.mark.parametrize("cancelled_one", [0, 1, 2])
async def test_a_cancelled_sender_does_not_hold_up_those_behind_it(kind: str, cancelled_one: int) -> None:
    """Senders wait in a queue for room; one leaves it, the others keep their order."""

    async def attempt(canceller: Canceller) -> None:
        async with without_room(kind) as ((ws, peer), read_on):
            async with trio.open_nursery() as nursery:
                for number in range(3):
                    if number == cancelled_one:
                        nursery.start_soon(canceller.run, lambda: ws.send_message(str(cancelled_one)))
                    else:
                        nursery.start_soon(ws.send_message, str(number))
                    await settle()
                await read_on()
            expected: Messages = [
                str(number) for number in range(3) if number != cancelled_one or not canceller.cancelled
            ]
            assert await drive(ws, peer) == ([], expected)

    await cancel_everywhere(attempt)


class Source:
    """Pieces of a message that come after a while, and what has become of their generator."""

    def __init__(self) -> None:
        self.closed = False
        self.yielded = 0

    async def __call__(self) -> AsyncGenerator[str, None]:
        try:
            for piece in ("first ", "second ", "third"):
                await trio.lowlevel.checkpoint()
                self.yielded += 1
                yield piece
        finally:
            self.closed = True


@pytest.mark.parametrize(
    ("kind", "room"),
    [("tcp", True), ("memory", True), ("tls", True), ("tcp", False), ("lockstep", False), ("tls", False)],
)
async def test_sending_in_pieces(kind: str, room: bool) -> None:
    """Before the first piece nothing was sent; later the peer is told that the message will not be finished."""
    unfinished = 0

    async def attempt(canceller: Canceller) -> None:
        nonlocal unfinished
        source = Source()
        async with (with_room if room else without_room)(kind) as ((ws, peer), read_on):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_on)
                cancelled = await canceller.run(lambda: ws.send_stream(source()))
            assert source.closed or source.yielded == 0
            if not cancelled:
                assert await drive(ws, peer) == ([], ["first second third"])
            elif ws.closed is None:
                assert source.yielded <= 1
                assert await drive(ws, peer) == ([], [])
            else:
                assert await bury(ws, peer) == ([], 1011)
                unfinished += 1

    await cancel_everywhere(attempt)
    assert unfinished > 0


@bounded_kind
async def test_a_cancelled_message_in_pieces_does_not_hold_up_those_behind_it(kind: str) -> None:
    """Who waits for its end is told of the end of the connection, or sends, if nothing of it was sent."""
    fates: set[str] = set()

    async def attempt(canceller: Canceller) -> None:
        async with both_ends(kind) as (ws, peer):

            async def send_behind() -> None:
                try:
                    await ws.send_message("behind")
                    behind.append("sent")
                except ConnectionClosed:
                    behind.append("told")

            async def pieces(nursery: trio.Nursery) -> AsyncGenerator[str, None]:
                nursery.start_soon(send_behind)
                async with aclosing(Source()()) as source:
                    async for piece in source:
                        yield piece

            behind: list[str] = []
            async with trio.open_nursery() as nursery:
                await canceller.run(lambda: ws.send_stream(pieces(nursery)))
            fates.update(behind)
            if ws.closed is None:
                whole: Messages = [] if canceller.cancelled else ["first second third"]
                assert await drive(ws, peer) == ([], [*whole, *(["behind"] if behind else [])])
            else:
                assert await bury(ws, peer) == ([], 1011)

    await cancel_everywhere(attempt)
    assert fates == {"sent", "told"}


# Control frames and the end


@every_kind
async def test_ping(kind: str) -> None:
    """A cancelled ping is forgotten: its payload can be used again, and its late pong disturbs nobody."""

    async def attempt(canceller: Canceller) -> None:
        async with both_ends(kind) as (ws, peer):
            await canceller.run(lambda: ws.ping("one"))
            assert await ws.ping("one") >= 0
            assert await drive(ws, peer) == ([], [])

    await cancel_everywhere(attempt)


@bounded_kind
async def test_ping_without_room(kind: str) -> None:
    """It waits for room, then for its pong."""

    async def attempt(canceller: Canceller) -> None:
        async with without_room(kind) as ((ws, peer), read_on):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_on)
                await canceller.run(lambda: ws.ping("one"))
            assert await ws.ping("one") >= 0
            assert await drive(ws, peer) == ([], [])

    await cancel_everywhere(attempt)


@every_kind
@pytest.mark.parametrize("closer", [Role.CLIENT, Role.SERVER])
async def test_aclose(kind: str, closer: Role) -> None:
    """The connection is over in any case, and what was sent before arrives or is cut off, in order."""

    async def attempt(canceller: Canceller) -> None:
        async with both_ends(kind) as ends:
            ws, peer = ends if closer is Role.CLIENT else reversed(ends)
            await ws.send_message("before")
            await settle()
            if await canceller.run(lambda: ws.aclose(1001, "away")):
                assert ws.state is State.CLOSED
            received, code = await bury(ws, peer)
            assert received == ["before"]
            assert code in ((1001, 1006) if canceller.cancelled else (1001,))

    await cancel_everywhere(attempt)


@every_kind
async def test_aclose_that_is_not_answered(kind: str) -> None:
    """Nothing is left to wait for: the peer sees the close frame, then the end."""

    async def attempt(canceller: Canceller) -> None:
        near, far = await open_pair(kind)
        peer = RawPeer(far, Role.SERVER)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.handshake)
            ws = await wrap_client_stream(nursery, near, "localhost", "/", disconnect_timeout=5)
            begun = trio.current_time()
            cancelled = await canceller.run(ws.aclose)
            assert trio.current_time() == (canceller.when if cancelled else begun + 5)
            assert ws.timed_out or cancelled
            assert ws.state is State.CLOSED
            await settle()
            assert not nursery.child_tasks
        rest = await peer.receive_rest()
        assert rest[:1] in (b"", b"\x88")
        await trio.aclose_forcefully(far)

    await cancel_everywhere(attempt)


# Opening


@cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's context for an address: looking up a name takes a thread, and so real time."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    # trustme's annotations name an optional dependency, which makes them partly unknown here.
    authority.issue_cert("127.0.0.1").configure_cert(server)  # pyright: ignore[reportUnknownMemberType]
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]
    return server, client


Scheme = Literal["ws", "wss"]
every_scheme = pytest.mark.parametrize("scheme", ["ws", "wss"])


async def echo(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


@asynccontextmanager
async def echoing(
    scheme: Scheme, handler: Handler = echo
) -> AsyncGenerator[tuple[str, ssl.SSLContext | None, trio.Nursery]]:
    """A server, as its URL, the context to connect to it with, and the nursery of its connections' tasks."""
    server_context, context = contexts() if scheme == "wss" else (None, None)
    async with trio.open_nursery() as handlers, trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[WebSocketServer]) -> None:
            await serve_websocket(
                handler, "127.0.0.1", 0, server_context, handler_nursery=handlers, task_status=task_status
            )

        server: WebSocketServer = await nursery.start(run)
        yield f"{scheme}://127.0.0.1:{server.port}", context, handlers
        await server.aclose(drain=1)


@every_scheme
async def test_open_websocket_url(scheme: Scheme) -> None:
    """Through opening, use and closing: no task and no socket is left, here or at the server."""
    async with echoing(scheme) as (url, context, handlers):

        async def attempt(canceller: Canceller) -> None:
            opened: list[WebSocketConnection] = []

            async def use() -> None:
                async with open_websocket_url(url, context) as ws:
                    opened.append(ws)
                    await ws.send_message("over there")
                    assert await ws.get_message() == "over there"

            await canceller.run(use)
            for ws in opened:
                assert ws.state is State.CLOSED
                with pytest.raises(ConnectionClosed):
                    await ws.send_message("too late")
            await settle_until(lambda: not handlers.child_tasks)

        await cancel_everywhere(attempt, bare=False)  # Trio dials several addresses at once


@every_scheme
async def test_connect_websocket_url(scheme: Scheme) -> None:
    """Either there is a connection that works, or nothing is left."""
    async with echoing(scheme) as (url, context, handlers), trio.open_nursery() as nursery:
        [*before] = nursery.child_tasks

        async def attempt(canceller: Canceller) -> None:
            opened: list[WebSocketConnection] = []

            async def connect() -> None:
                opened.append(await connect_websocket_url(nursery, url, context))

            cancelled = await canceller.run(connect)
            assert cancelled is not bool(opened)
            for ws in opened:
                await ws.send_message("over there")
                assert await ws.get_message() == "over there"
                await ws.aclose()
            await settle_until(lambda: not handlers.child_tasks)
            await settle()
            assert [*nursery.child_tasks] == before

        await cancel_everywhere(attempt, bare=False)  # Trio dials several addresses at once


def sending_on(location: str) -> Handler:
    async def send_on(request: WebSocketRequest) -> None:
        await request.reject(302, extra_headers=[("Location", location)])

    return send_on


@every_scheme
async def test_redirects(scheme: Scheme) -> None:
    """From server to server: there is one connection at the end of the way, or none, and nothing left on the way."""
    async with (
        echoing(scheme) as (third, context, at_third),
        echoing(scheme, sending_on(third)) as (second, _, at_second),
        echoing(scheme, sending_on(second)) as (first, _, at_first),
    ):

        async def prepare(_: Request) -> None:
            await trio.lowlevel.checkpoint()

        async def attempt(canceller: Canceller) -> None:
            opened: list[WebSocketConnection] = []

            async def use() -> None:
                async with open_websocket_url(first, context, max_redirects=2, prepare_request=prepare) as ws:
                    opened.append(ws)
                    assert ws.url == f"{third}/"

            await canceller.run(use)
            assert all(ws.state is State.CLOSED for ws in opened)
            await settle_until(lambda: not any(each.child_tasks for each in (at_first, at_second, at_third)))

        await cancel_everywhere(attempt, bare=False)  # Trio dials several addresses at once


@pytest.mark.parametrize("kind", ["tcp", "memory", "lockstep", "tls"])
async def test_wrap_client_stream(kind: str) -> None:
    """The stream belongs to the connection, or is closed."""

    async def attempt(canceller: Canceller) -> None:
        near, far = await open_pair(kind)
        peer = RawPeer(far, Role.SERVER)
        opened: list[WebSocketConnection] = []
        async with trio.open_nursery() as nursery, trio.open_nursery() as answering:

            async def connect() -> None:
                opened.append(await wrap_client_stream(nursery, near, "localhost", "/"))

            async def serve() -> None:
                try:
                    await peer.handshake()
                    await peer.send_frame(1, b"hello")
                except (AssertionError, trio.BrokenResourceError):  # the client has gone
                    assert canceller.scope.cancel_called

            answering.start_soon(serve)
            if await canceller.run(connect):
                await settle()
                assert not nursery.child_tasks
            for ws in opened:
                assert await ws.get_message() == "hello"
                ws.terminate()
        assert await peer.receive_rest() == b""
        await trio.aclose_forcefully(far)

    await cancel_everywhere(attempt)


# Answering


@asynccontextmanager
async def asked(kind: str) -> AsyncGenerator[tuple[WebSocketRequest, RawPeer, trio.Nursery]]:
    """A request that waits for its answer, the client, which reads it whole, and the nursery of the connection."""
    near, far = await open_pair(kind)
    client = RawPeer(far, Role.CLIENT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, handshake_request())
        request = await wrap_server_stream(nursery, near)
        await settle()
        assert not nursery.child_tasks
        yield request, client, nursery
    await trio.aclose_forcefully(far)


answering_kind = pytest.mark.parametrize("kind", ["tcp", "memory", "lockstep", "tls"])


@answering_kind
async def test_accept(kind: str) -> None:
    """Either the connection works, or the client is cut off and the request is used up."""

    async def attempt(canceller: Canceller) -> None:
        answers: list[bytes] = []
        async with asked(kind) as (request, client, nursery):

            async def receive_answer() -> None:
                await settle()
                try:
                    answers.append(await client.receive_head())
                except AssertionError:  # it ended before
                    answers.append(b"")

            async with trio.open_nursery() as reading:
                reading.start_soon(receive_answer)
                cancelled = await canceller.run(request.accept)
            with pytest.raises(RuntimeError):
                await request.accept()
            if cancelled:
                assert request.connection is None
                assert not nursery.child_tasks
                assert await client.receive_rest() == b""
                return
            assert answers[0].startswith(b"HTTP/1.1 101 ")
            ws = request.connection
            assert ws is not None
            await client.send_frame(1, b"hello")
            assert await ws.get_message() == "hello"
            await ws.send_message(b"hello")
            await client.expect(2, b"hello")
            ws.terminate()

    await cancel_everywhere(attempt)


@answering_kind
async def test_reject(kind: str) -> None:
    """The client has the whole answer or sees the end, and the request is used up."""

    async def attempt(canceller: Canceller) -> None:
        rests: list[bytes] = []
        async with asked(kind) as (request, client, nursery):

            async def receive_answer() -> None:
                await settle()
                rests.append(await client.receive_rest())
                await settle()
                await client.aclose()

            async with trio.open_nursery() as reading:
                reading.start_soon(receive_answer)
                cancelled = await canceller.run(lambda: request.reject(404, body=b"not here"))
                assert not cancelled or trio.current_time() == canceller.when
            with pytest.raises(RuntimeError):
                await request.reject(404)
            assert request.connection is None
            assert not nursery.child_tasks
        [answer] = rests
        if answer or not cancelled:
            assert answer.startswith(b"HTTP/1.1 404 ")
            assert answer.endswith(b"not here")

    await cancel_everywhere(attempt)


@answering_kind
async def test_wrap_server_stream(kind: str) -> None:
    """A client that is not heard to the end is told so, or sees the end at least."""

    async def attempt(canceller: Canceller) -> None:
        near, far = await open_pair(kind)
        client = RawPeer(far, Role.CLIENT)
        requests: list[WebSocketRequest] = []
        rests: list[bytes] = []
        async with trio.open_nursery() as nursery:

            async def send_in_halves() -> None:
                head = handshake_request()
                try:
                    for half in (head[:40], head[40:]):
                        await settle()
                        await client.send(half)
                except trio.BrokenResourceError:
                    assert canceller.scope.cancel_called
                rests.append(await client.receive_rest())
                await trio.aclose_forcefully(far)

            async def receive() -> None:
                requests.append(await wrap_server_stream(nursery, near))

            async with trio.open_nursery() as sending:
                sending.start_soon(send_in_halves)
                cancelled = await canceller.run(receive)
                for request in requests:
                    await request.reject(404)
            assert not nursery.child_tasks
        assert cancelled is not bool(requests)
        [answer] = rests
        assert answer[:13] in ((b"", b"HTTP/1.1 503 ") if cancelled else (b"HTTP/1.1 404 ",))

    await cancel_everywhere(attempt)


# Serving


class Visitors:
    """Clients of a server that may end at any moment: one with an open connection, one in the middle of its request."""

    def __init__(self) -> None:
        self.server: WebSocketServer | None = None
        self.echoes = 0
        self.close_code: int | None = None
        self.farewell: bytes | None = None

    async def come(self, port: int, context: ssl.SSLContext | None) -> None:
        """Visit, and stay to the end. What an ended server does to its clients is no error here."""
        scheme = "ws" if context is None else "wss"
        async with trio.open_nursery() as nursery:
            try:
                ws = await connect_websocket_url(nursery, f"{scheme}://127.0.0.1:{port}", context)
            except (HandshakeError, OSError):
                return
            try:
                await ws.send_message("hello")
                assert await ws.get_message() == "hello"
                self.echoes += 1
                nursery.start_soon(self._knock, port)
                await ws.get_message()
            except ConnectionClosed as exc:
                self.close_code = code_of(exc)

    async def _knock(self, port: int) -> None:
        """Begin a request; a server with TLS finds the beginning of no handshake."""
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            return
        async with stream:
            peer = RawPeer(stream, Role.CLIENT)
            try:
                await peer.send(handshake_request()[:40])
                self.farewell = await peer.receive_rest()
            except trio.BrokenResourceError:
                self.farewell = b""


@every_scheme
async def test_serve_websocket(scheme: Scheme) -> None:
    """With an open connection and half a request: both clients see the end, and no task is left."""
    server_context, context = contexts() if scheme == "wss" else (None, None)
    codes: set[int | None] = set()
    farewells: set[bytes] = set()

    async def attempt(canceller: Canceller) -> None:
        visitors = Visitors()
        async with trio.open_nursery() as nursery:

            async def visit(port: int) -> None:
                await visitors.come(port, context)

            async def close_when_quiet(server: WebSocketServer) -> None:
                await settle()
                await server.aclose()

            class Started(trio.TaskStatus[WebSocketServer]):
                def started(self, value: WebSocketServer | None = None) -> None:
                    assert value is not None
                    visitors.server = value
                    nursery.start_soon(visit, value.port)
                    nursery.start_soon(close_when_quiet, value)

            async def serve() -> None:
                await serve_websocket(echo, "127.0.0.1", 0, server_context, task_status=Started(), drain=1)

            begun = trio.current_time()
            await canceller.run(serve)
            assert trio.current_time() - begun <= 1
            if visitors.server is not None:
                assert visitors.server.connections == set()
        if visitors.echoes:
            codes.add(visitors.close_code)
        if visitors.farewell is not None:
            farewells.add(visitors.farewell[:13])

    await cancel_everywhere(attempt, bare=False)  # a server is a nursery
    assert codes == {1001}
    assert scheme == "wss" or b"HTTP/1.1 503 " in farewells


async def test_closing_a_server() -> None:
    """Cancelled, it cuts what is left at once; in any case nothing is."""

    async def attempt(canceller: Canceller) -> None:
        async with serving_in_memory(echo) as (server, listener), trio.open_nursery() as nursery:
            ws = await wrap_client_stream(nursery, listener.connect(), "localhost", "/")
            half = raw_client(listener)
            await half.send(handshake_request()[:40])
            silent = raw_client(listener)
            await silent.handshake()
            await settle()
            begun = trio.current_time()
            cancelled = await canceller.run(lambda: server.aclose(drain=5))
            assert trio.current_time() == (canceller.when if cancelled else begun + 5)
            received, _ = await receive_all(ws)
            assert received == []
            await settle()
            assert server.connections == set()
            assert (await half.receive_rest())[:13] in (b"", b"HTTP/1.1 503 ")
            rest = await silent.receive_rest()
            assert rest[:1] in (b"", b"\x88")

    await cancel_everywhere(attempt, bare=False)  # it closes all connections at once
