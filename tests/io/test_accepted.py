"""A socket that was just accepted: as a stream like any other, and as what a request and its answer come and go on."""

import os
import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from tests.io.api_kit import echo, serving
from tests.io.link_kit import settle
from tests.io.transport_kit import PATIENCE, Recorder
from trio_ws import (
    ConnectionTimeout,
    Endpoint,
    HandshakeError,
    WebSocketConnection,
    WebSocketRequest,
    wrap_server_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer, encode_raw_frame, handshake_request
from trio_ws.transport import AcceptedStream, accept_forever, make_transport, open_tcp_listeners
from trio_ws.transport._poller import Poller

TEXT = 1
REQUEST = handshake_request()
HELLO = encode_raw_frame(TEXT, b"hello", mask=b"mask")


async def accepted_pair() -> tuple[AcceptedStream, trio.SocketStream]:
    [listener] = await open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.testing.open_stream_to_socket_listener(listener)
        with socket.socket(fileno=listener.socket.fileno()) as twin:
            accepted = AcceptedStream(*twin.accept())
            twin.detach()
        return accepted, client


async def clogged_pair() -> tuple[AcceptedStream, AcceptedStream]:
    """Return a pair on which `send_all` waits already, in both directions."""
    near, far = socket.socketpair()
    for sock in (near, far):
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                sock.send(bytes(65536))
    return AcceptedStream(near, ""), AcceptedStream(far, "")


async def test_it_is_a_stream_like_any_other() -> None:
    async def unix_pair() -> tuple[AcceptedStream, AcceptedStream]:
        near, far = socket.socketpair()
        return AcceptedStream(near, ""), AcceptedStream(far, "")

    with trio.fail_after(PATIENCE):
        await trio.testing.check_half_closeable_stream(unix_pair, clogged_pair)
        await trio.testing.check_two_way_stream(accepted_pair, None)


async def test_it_has_the_options_of_trios_streams() -> None:
    accepted, client = await accepted_pair()
    async with accepted, client:
        names = ["TCP_NODELAY", *(["TCP_NOTSENT_LOWAT"] if hasattr(socket, "TCP_NOTSENT_LOWAT") else [])]
        for name in names:
            option = socket.IPPROTO_TCP, getattr(socket, name)
            assert accepted.socket.getsockopt(*option) == client.getsockopt(*option) != 0


async def test_trying_does_not_wait() -> None:
    accepted, client = await accepted_pair()
    async with client:
        assert accepted.try_receive(10) is None
        await client.send_all(b"here")
        assert accepted.try_receive(10) == b"here"
        assert accepted.try_send(b"there") == 5
        assert await client.receive_some() == b"there"
        assert 0 < sum(iter(lambda: accepted.try_send(bytes(2**20)), 0)) < 2**28
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
    for trial in (lambda: accepted.try_receive(10), lambda: accepted.try_send(b"x")):
        with pytest.raises(trio.BrokenResourceError):
            trial()
    await accepted.aclose()
    with pytest.raises(trio.ClosedResourceError):
        accepted.try_receive(10)


@pytest.mark.parametrize("waited", [False, True])
async def test_a_transport_takes_the_socket_over(waited: bool) -> None:
    accepted, client = await accepted_pair()
    recorder = Recorder()
    with trio.fail_after(PATIENCE):
        if waited:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(accepted.receive_some)
                await settle()
                await client.send_all(b"first")
        async with client, trio.open_nursery() as nursery:
            transport = make_transport(accepted)
            transport.start(recorder, nursery)
            with pytest.raises(trio.ClosedResourceError):
                await accepted.receive_some()
            await accepted.aclose()  # is no longer its own to close
            transport.write(b"out")
            assert await client.receive_some() == b"out"
            await client.send_all(b"in")
            await recorder.until_received(2)
            transport.abort()
            await recorder.until_seen("lost")
    assert (bytes(recorder.received), recorder.reasons) == (b"in", [None])


async def test_a_transport_cannot_take_over_what_was_closed() -> None:
    accepted, client = await accepted_pair()
    await accepted.aclose()
    async with client, trio.open_nursery() as nursery:
        with pytest.raises(trio.ClosedResourceError):
            make_transport(accepted).start(Recorder(), nursery)


# Accepting


class Passes(trio.abc.Instrument):
    """Counts how many connections were given to their tasks between two looks at the kernel."""

    def __init__(self) -> None:
        self.counts = [0]

    def after_io_wait(self, timeout: float) -> None:
        self.counts.append(0)


async def test_connections_are_accepted_together_but_not_without_end() -> None:
    passes = Passes()

    async def handler(stream: trio.abc.Stream) -> None:
        passes.counts[-1] += 1
        async with stream:
            await stream.send_all(b"x")

    [listener] = await open_tcp_listeners(0, host="127.0.0.1")
    clients = [await trio.testing.open_stream_to_socket_listener(listener) for _ in range(50)]
    trio.lowlevel.add_instrument(passes)
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(accept_forever, listener, handler, nursery)
        for client in clients:
            async with client:
                assert await client.receive_some() == b"x"
        nursery.cancel_scope.cancel()
    trio.lowlevel.remove_instrument(passes)
    assert sum(passes.counts) == 50
    assert max(passes.counts) == 16


async def test_a_listener_that_is_closed_already_ends_the_loop() -> None:
    [listener] = await open_tcp_listeners(0, host="127.0.0.1")
    await listener.aclose()
    async with trio.open_nursery() as nursery:
        await accept_forever(listener, echo, nursery)  # type: ignore[arg-type]  # never called


async def test_a_listener_closed_with_connections_waiting_ends_the_loop() -> None:
    """In the step in which the loop is woken for them the listener goes, and its descriptor is another one's."""
    [listener], [other] = [await open_tcp_listeners(0, host="127.0.0.1") for _ in range(2)]
    descriptor = listener.socket.fileno()

    class Closing(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if task.name == "loop":
                listener.socket.close()
                os.dup2(other.socket.fileno(), descriptor)

    async def handler(stream: trio.abc.Stream) -> None:
        pytest.fail("nobody was to be accepted")

    closing = Closing()
    async with other, await trio.testing.open_stream_to_socket_listener(other):
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(accept_forever, listener, handler, nursery, name="loop")
                await settle()
                trio.lowlevel.add_instrument(closing)
                socket.create_connection(listener.socket.getsockname()).close()
        trio.lowlevel.remove_instrument(closing)
        os.close(descriptor)


async def test_the_poller_goes_on_between_connections_and_ends_with_the_server() -> None:
    async with serving(echo) as server:
        poller = Poller.current()
        for _ in range(2):
            client = RawPeer(await trio.open_tcp_stream("127.0.0.1", server.port), Role.CLIENT)
            await client.handshake()
            await client.aclose()
            await settle()
            assert Poller.current() is poller
    await settle()
    assert Poller.current() is not poller
    await settle()


# Requests and their answers

Meeting = Callable[[trio.SocketStream], Awaitable[None]]


async def meet(meeting: Meeting) -> None:
    async with serving(echo) as server, await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        await meeting(stream)


async def test_what_comes_with_the_request_is_answered_behind_the_101() -> None:
    async def meeting(stream: trio.SocketStream) -> None:
        await stream.send_all(REQUEST + HELLO + HELLO)
        client = RawPeer(stream, Role.CLIENT)
        assert b" 101 " in await client.receive_head()
        await client.expect(TEXT, b"hello")
        await client.expect(TEXT, b"hello")

    await meet(meeting)


@pytest.mark.parametrize("first", [0, 1, 20, len(REQUEST) - 1])
async def test_a_request_in_two_parts(first: int) -> None:
    async def meeting(stream: trio.SocketStream) -> None:
        await stream.send_all(REQUEST[:first])
        await settle()
        await stream.send_all(REQUEST[first:] + HELLO)
        client = RawPeer(stream, Role.CLIENT)
        assert b" 101 " in await client.receive_head()
        await client.expect(TEXT, b"hello")

    await meet(meeting)


async def test_a_client_that_ends_in_the_middle_is_told_so_and_one_that_never_spoke_is_not() -> None:
    async def meeting(stream: trio.SocketStream) -> None:
        await stream.send_all(REQUEST[:20])
        await stream.send_eof()
        assert (await RawPeer(stream, Role.CLIENT).receive_rest()).startswith(b"HTTP/1.1 400 ")

    async def silence(stream: trio.SocketStream) -> None:
        await stream.send_eof()
        assert await stream.receive_some() == b""

    await meet(meeting)
    await meet(silence)


@pytest.mark.parametrize("first", [0, 20])
async def test_a_request_that_does_not_come_in_time(
    first: int, autojump_clock: trio.testing.MockClock
) -> None:
    accepted, client = await accepted_pair()
    async with client, trio.open_nursery() as nursery:
        await client.send_all(REQUEST[:first])
        with pytest.raises(ConnectionTimeout, match="within 3 seconds"):
            await wrap_server_stream(nursery, accepted, connect_timeout=3)
        assert trio.current_time() == pytest.approx(3)
        assert await client.receive_some() == b""


async def test_a_server_that_is_cancelled_answers_a_request_that_is_there() -> None:
    accepted, client = await accepted_pair()
    async with client, trio.open_nursery() as nursery:
        await client.send_all(REQUEST)
        with trio.CancelScope() as scope:
            scope.cancel()
            await wrap_server_stream(nursery, accepted)
        assert scope.cancelled_caught
        assert (await RawPeer(client, Role.CLIENT).receive_rest()).startswith(b"HTTP/1.1 503 ")


async def test_accepting_is_a_cancellation_point() -> None:
    accepted, client = await accepted_pair()
    async with client, trio.open_nursery() as nursery:
        await client.send_all(REQUEST)
        request = await wrap_server_stream(nursery, accepted)
        with trio.CancelScope() as scope:
            scope.cancel()
            await request.accept()
        assert scope.cancelled_caught
        assert request.connection is None
        assert await client.receive_some() == b""


LARGE = {"X-Large": "x" * 2**20}


async def narrow_request(nursery: trio.Nursery) -> tuple[WebSocketRequest, trio.SocketStream]:
    """Return a request whose answer is taken in small parts, and the client."""
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    far.sendall(REQUEST + HELLO)
    request = await wrap_server_stream(nursery, AcceptedStream(near, ""), connect_timeout=3)
    return request, trio.SocketStream(trio.socket.from_stdlib_socket(far))


async def test_an_answer_that_the_kernel_takes_in_parts() -> None:
    accepted: list[WebSocketConnection] = []

    async with trio.open_nursery() as nursery:
        request, stream = await narrow_request(nursery)

        async def accept() -> None:
            accepted.append(await request.accept(extra_headers=LARGE))

        async with stream:
            nursery.start_soon(accept)
            await settle()
            assert accepted == []
            received = b""
            while not received.endswith(b"\r\n\r\n"):
                received += await stream.receive_some()
            assert b"X-Large: " + b"x" * 2**20 + b"\r\n\r\n" in received
            await settle()
            [ws] = accepted
            assert await ws.get_message() == "hello"
            await ws.send_message("you too")
            await RawPeer(stream, Role.CLIENT).expect(TEXT, b"you too")
            ws.terminate()


async def test_an_answer_that_is_not_taken_in_time(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        request, stream = await narrow_request(nursery)
        async with stream:
            with pytest.raises(ConnectionTimeout, match="did not take its answer"):
                await request.accept(extra_headers=LARGE)
            assert trio.current_time() == pytest.approx(3)


async def test_an_answer_to_a_client_that_has_gone() -> None:
    async with trio.open_nursery() as nursery:
        request, stream = await narrow_request(nursery)
        await stream.aclose()
        with pytest.raises(HandshakeError, match="has gone"):
            await request.accept()


async def test_both_ends_are_known() -> None:
    accepted, client = await accepted_pair()
    names = accepted.socket.getsockname(), client.socket.getsockname()
    await client.send_all(REQUEST)
    async with client, trio.open_nursery() as nursery:
        request = await wrap_server_stream(nursery, accepted)
        for end, name in zip((request.local, request.remote), names, strict=True):
            assert isinstance(end, Endpoint)
            assert (str(end.address), end.port) == name
            assert not end.is_ssl
        (await request.accept()).terminate()
