"""PolledStream: a plain socket that waits through the shared poller, and the listener that makes them."""

import errno
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
import trio.testing

from tests.io.test_sockets import counted_steps, poll_sets, tasks
from tests.io.transport_kit import (
    MUCH,
    PATIENCE,
    no_free_descriptor,
    pattern,
    receive_exactly,
    reset,
    tcp_pair,
    tls_contexts,
    unix_pair,
)
from trio_ws import Endpoint, WebSocketRequest, WebSocketServer, serve_websocket, wrap_client_stream
from trio_ws.transport import PolledListener, start_tls
from trio_ws.transport._polled import PolledStream
from trio_ws.transport._ready import ReadySet

#: Calls that may return at once before other tasks have had their turn: two shares of 64, as it is drawn by lot who is
#: first in a turn.
AT_ONCE = 128


def plain_pair() -> tuple[PolledStream, socket.socket]:
    """Return our end, and the peer's as a socket that can be used without giving up the turn."""
    left, right = socket.socketpair()
    right.setblocking(False)
    return PolledStream(trio.SocketStream(trio.socket.from_stdlib_socket(left))), right


def fill(sock: socket.socket) -> int:
    """Write until the kernel takes no more."""
    size = 0
    with suppress(BlockingIOError):
        while True:
            size += sock.send(bytes(65536))
    return size


async def polled_pair() -> tuple[PolledStream, PolledStream]:
    left, right = unix_pair()
    return PolledStream(left), PolledStream(right)


class Checkpointing(trio.abc.Stream):
    """Adds what `PolledStream` leaves to the stream on top of it: that each call is a checkpoint."""

    def __init__(self, stream: PolledStream) -> None:
        self.stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return await self.stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.stream.aclose()


async def test_it_is_a_stream_as_trio_defines_it() -> None:
    async def make() -> tuple[Checkpointing, Checkpointing]:
        left, right = await polled_pair()
        return Checkpointing(left), Checkpointing(right)

    async def make_clogged() -> tuple[Checkpointing, Checkpointing]:
        left, right = await polled_pair()
        fill(left.socket)
        fill(right.socket)  # for each end is the sender once
        return Checkpointing(left), Checkpointing(right)

    with trio.fail_after(PATIENCE):
        await trio.testing.check_two_way_stream(make, make_clogged)


async def test_what_need_not_wait_takes_no_pass() -> None:
    stream, peer = plain_pair()
    with counted_steps() as steps:
        peer.send(b"there already")
        await trio.testing.wait_all_tasks_blocked()
        assert await stream.receive_some(5) == b"there"
        await trio.testing.wait_all_tasks_blocked()
        before = steps.count
        assert await stream.receive_some(3) == b" al"
        assert await stream.receive_some() == b"ready"
        await stream.send_all(b"at once")
        assert steps.count == before
    assert peer.recv(100) == b"at once"
    await stream.aclose()
    peer.close()


@pytest.mark.parametrize("method", ["send_all", "receive_some"])
async def test_who_never_waits_lets_others_run(method: str) -> None:
    stream, peer = plain_pair()
    peer.send(bytes(10 * AT_ONCE))
    assert await stream.receive_some(1) == b"\0"
    calls = 0

    async def other() -> None:
        scope.cancel()

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            while calls < 2 * AT_ONCE:
                await (stream.send_all(b"x") if method == "send_all" else stream.receive_some(1))
                calls += 1
    assert 0 < calls <= AT_ONCE
    await stream.aclose()
    peer.close()


@pytest.mark.parametrize("method", ["send_all", "receive_some", "wait_send_all_might_not_block"])
async def test_a_cancelled_call_does_nothing(method: str) -> None:
    stream, peer = plain_pair()
    peer.send(b"kept")
    assert await stream.receive_some(1) == b"k"
    with trio.CancelScope() as scope:
        scope.cancel()
        match method:
            case "send_all":
                await stream.send_all(b"x")
            case "receive_some":
                await stream.receive_some()
            case _:
                await stream.wait_send_all_might_not_block()
    assert scope.cancelled_caught
    with pytest.raises(BlockingIOError):
        peer.recv(1)
    assert await stream.receive_some() == b"ept"
    await stream.send_all(b"goes on")
    assert peer.recv(100) == b"goes on"
    await stream.aclose()
    peer.close()


async def test_no_byte_is_lost_whenever_a_reader_is_cancelled() -> None:
    stream, peer = plain_pair()
    sent, received = bytearray(), bytearray()
    caught = 0
    for passes in range(12):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def read(scope: trio.CancelScope = scope) -> None:
                    received.extend(await stream.receive_some())
                    scope.cancel()

                nursery.start_soon(read)
                for step in range(passes):
                    if step == passes // 2:
                        peer.send(bytes([passes]))
                        sent.append(passes)
                    await trio.lowlevel.checkpoint()
                caught += not scope.cancel_called
                scope.cancel()
    peer.close()
    while data := await stream.receive_some():
        received += data
    assert received == sent
    assert 0 < caught < 12  # some were cancelled while they waited, some were too late
    await stream.aclose()


async def test_a_send_that_is_cancelled_half_way_has_sent_a_beginning() -> None:
    stream, peer = plain_pair()
    data = pattern(MUCH)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, data)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await stream.send_all(b"between")
            with pytest.raises(trio.BusyResourceError):
                await stream.wait_send_all_might_not_block()
            scope.cancel()
    got = peer.recv(MUCH)
    with suppress(BlockingIOError):
        while more := peer.recv(MUCH):
            got += more
    assert 0 < len(got) < len(data)
    assert data.startswith(got)
    await stream.send_all(b"and on")
    assert peer.recv(100) == b"and on"
    await stream.aclose()
    peer.close()


async def test_much_in_both_directions_at_once() -> None:
    left, right = await polled_pair()
    data = pattern(2**20)
    got: dict[str, bytes] = {}

    async def receive(name: str, stream: PolledStream) -> None:
        got[name] = await receive_exactly(stream, len(data))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(left.send_all, data)
            nursery.start_soon(right.send_all, data[::-1])
            nursery.start_soon(receive, "left", left)
            nursery.start_soon(receive, "right", right)
    assert got["right"] == data
    assert got["left"] == data[::-1]
    await left.aclose()
    await right.aclose()


async def test_closing_wakes_those_who_wait() -> None:
    stream, peer = plain_pair()
    fill(stream.socket)
    closed: list[str] = []

    async def wait(name: str, method: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await method()
        closed.append(name)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "reader", stream.receive_some)
            nursery.start_soon(wait, "writer", lambda: stream.send_all(b"x"))
            await trio.testing.wait_all_tasks_blocked()
            assert closed == []
            await trio.aclose_forcefully(stream)
    assert sorted(closed) == ["reader", "writer"]
    for method in (stream.receive_some, stream.wait_send_all_might_not_block, lambda: stream.send_all(b"")):
        with pytest.raises(trio.ClosedResourceError):
            await method()
    peer.close()


async def test_what_was_read_is_gone_once_it_is_closed() -> None:
    stream, peer = plain_pair()
    peer.send(b"unread")
    assert await stream.receive_some(2) == b"un"
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()
    peer.close()


async def test_a_descriptor_that_is_used_again() -> None:
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            first, first_peer = plain_pair()
            number = first.socket.fileno()

            async def read_first() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await first.receive_some()

            nursery.start_soon(read_first)
            await trio.testing.wait_all_tasks_blocked()
            first_peer.send(b"for the first")
            await trio.aclose_forcefully(first)
            second, second_peer = plain_pair()
            assert second.socket.fileno() == number
            second_peer.send(b"for the second")
            assert await second.receive_some() == b"for the second"
            await second.send_all(b"from the second")
            assert second_peer.recv(100) == b"from the second"
    await second.aclose()
    first_peer.close()
    second_peer.close()


@pytest.mark.parametrize("gone", [False, True])
async def test_what_nobody_reads_does_not_keep_trio_awake(gone: bool) -> None:
    stream, peer = plain_pair()
    peer.send(b"first")
    assert await stream.receive_some(1) == b"f"
    size = fill(peer)
    if gone:
        peer.close()
    with trio.fail_after(PATIENCE):
        await trio.testing.wait_all_tasks_blocked()  # it never comes back if something runs in each pass
        assert len(await receive_exactly(stream, 4 + size)) == 4 + size
        await trio.testing.wait_all_tasks_blocked()
        if gone:
            assert await stream.receive_some() == await stream.receive_some() == b""
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(b"x")
            await trio.testing.wait_all_tasks_blocked()
    await stream.aclose()
    peer.close()


async def test_on_idle_is_called_before_each_wait_and_at_no_other_time() -> None:
    stream, peer = plain_pair()
    calls: list[str] = []
    stream.on_idle = lambda: calls.append("idle")
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            while "c" not in calls:
                calls.append((await stream.receive_some(1)).decode())

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        peer.send(b"ab")
        await trio.testing.wait_all_tasks_blocked()
        peer.send(b"c")
    assert calls == ["idle", "a", "b", "idle", "c"]
    await stream.aclose()
    peer.close()


async def test_a_reset_comes_behind_what_came_before() -> None:
    ours, peer = await tcp_pair()
    stream = PolledStream(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.send_all, b"last words")
        assert await stream.receive_some(1) == b"l"
    reset(peer)
    await trio.testing.wait_all_tasks_blocked()
    assert await stream.receive_some() == b"ast words"
    for _ in range(2):  # the kernel says it once
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive_some()
        assert isinstance(caught.value.__cause__, ConnectionResetError)
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    await stream.aclose()


class Exhausted(socket.socket):
    """A socket in a kernel that is out of memory."""

    def send(self, *_: object) -> int:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    def recv(self, *_: object) -> bytes:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))


async def test_a_kernel_out_of_memory_is_a_lost_connection() -> None:
    stream, peer = plain_pair()
    stream.socket = Exhausted(fileno=stream.socket.detach())
    with pytest.raises(trio.BrokenResourceError) as caught:
        await stream.send_all(b"x")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOBUFS
    peer.send(b"y")
    with pytest.raises(trio.BrokenResourceError) as caught:
        await stream.receive_some()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOBUFS
    await stream.aclose()
    peer.close()


async def test_a_kernel_out_of_watches_is_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    stream, peer = plain_pair()
    fill(stream.socket)
    monkeypatch.setattr(ReadySet, "watch", full)
    with pytest.raises(trio.BrokenResourceError) as caught:
        await stream.receive_some()
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    monkeypatch.undo()
    peer.send(b"better now")
    assert await stream.receive_some() == b"better now"
    await stream.aclose()
    peer.close()


async def test_out_of_descriptors_the_stream_stays_the_callers() -> None:
    ours, peer = await tcp_pair()
    with no_free_descriptor(), pytest.raises(OSError, match="Too many open files"):
        PolledStream(ours)
    await ours.send_all(b"still mine")
    assert await peer.receive_some() == b"still mine"
    await ours.aclose()
    await peer.aclose()
    with pytest.raises(trio.ClosedResourceError):
        PolledStream(ours)


async def test_out_of_descriptors_tls_is_not_started() -> None:
    ours, peer = await tcp_pair()
    context = tls_contexts()[1]
    with no_free_descriptor(), pytest.raises(OSError, match="Too many open files"):
        await start_tls(ours, context, "localhost")
    assert await peer.receive_some() == b""
    await peer.aclose()


class Ready(trio.abc.Listener[trio.SocketStream]):
    """A listener whose connection was accepted before."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.closed = False

    async def accept(self) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        return self.stream

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


async def test_a_listener_of_polled_streams() -> None:
    ours, peer = await tcp_pair()
    inner = Ready(ours)
    async with PolledListener(inner) as listener:
        stream = await listener.accept()
        assert isinstance(stream, PolledStream)
        await stream.send_all(b"hello")
        assert await peer.receive_some() == b"hello"
    assert inner.closed
    await stream.aclose()
    await peer.aclose()


async def test_out_of_descriptors_a_listener_lets_no_connection_hang() -> None:
    ours, peer = await tcp_pair()
    async with PolledListener(Ready(ours)) as listener:
        with no_free_descriptor(), pytest.raises(OSError, match="Too many open files"):
            await listener.accept()
    assert await peer.receive_some() == b""
    await peer.aclose()


async def test_no_descriptor_and_no_task_stays() -> None:
    tasks_before, sets_before = tasks(), poll_sets()
    for _ in range(3):
        stream, peer = plain_pair()
        await trio.testing.wait_all_tasks_blocked()
        assert poll_sets() == sets_before + 1
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert poll_sets() == sets_before
        assert tasks() == tasks_before
        peer.close()


async def test_a_server_with_tls_waits_through_the_poller_and_knows_its_addresses() -> None:
    server_context, client_context = tls_contexts()
    ends: list[tuple[Endpoint | str, Endpoint | str]] = []

    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        ends.append((ws.local, ws.remote))
        await ws.send_message("hello")
        await ws.wait_closed()

    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(
            serve_websocket, handler, "127.0.0.1", 0, server_context
        )
        [listening] = server.listeners
        sets_before = poll_sets()
        stream = await trio.open_ssl_over_tcp_stream("localhost", server.port, ssl_context=client_context)
        async with await wrap_client_stream(nursery, stream, "localhost", "/") as client:
            assert await client.get_message() == "hello"
            assert poll_sets() == sets_before + 1
            assert ends == [(listening, client.local)]
            assert isinstance(listening, Endpoint)
            assert listening.is_ssl
        nursery.cancel_scope.cancel()


def test_the_end_of_the_run_closes_it() -> None:
    left: list[tuple[PolledStream, socket.socket]] = []

    async def main() -> None:
        left.append(plain_pair())
        await trio.testing.wait_all_tasks_blocked()

    trio.run(main)
    [(stream, peer)] = left
    assert stream.socket.fileno() == -1
    assert peer.recv(1) == b""
    peer.close()
