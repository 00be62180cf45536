"""Plain requests before the one for a WebSocket: what keeps a connection open, what closes it, and in what order answers come."""

import pytest
import trio
import trio.testing

from tests.io.api_kit import echo, raw_client, serving_in_memory
from tests.io.test_cancellation import Canceller, cancel_everywhere
from tests.io.transport_kit import PATIENCE, open_pair
from trio_ws import HandshakeError, Request, Response, wrap_server_stream
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer, handshake_request

pytestmark = pytest.mark.usefixtures("autojump_clock")

END = b"\r\n\r\n"


def plain(start: str = "GET / HTTP/1.1", *fields: str) -> bytes:
    return "\r\n".join([start, "Host: localhost", *fields]).encode() + END


async def tell_path(request: Request) -> Response | None:
    """Answer plain requests with their target."""
    if request.headers.get("sec-websocket-key"):
        return None
    if request.target == "/last":
        return Response(200, {"Connection": "close"}, request.target)
    return Response(204) if request.target == "/nothing" else Response(200, body=request.target)


async def receive_answer(peer: RawPeer) -> tuple[bytes, bytes]:
    """Return the head and the body of one answer."""
    head = await peer.receive_head()
    size = [line.partition(b": ")[2] for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
    return head, await peer.receive_exactly(int(size[0]) if size else 0)


@pytest.mark.parametrize("kind", ["tcp", "memory", "tls", "polled"])
async def test_a_websocket_behind_plain_requests(kind: str) -> None:
    ours, peers = await open_pair(kind)
    peer = RawPeer(peers, Role.CLIENT)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                request = await wrap_server_stream(nursery, ours, process_request=tell_path)
                ws = await request.accept()
                await ws.send_message(await ws.get_message())
                await ws.aclose()

            nursery.start_soon(serve)
            for target in ("/a", "/nothing", "/b?c"):
                await peer.send(plain(f"GET {target} HTTP/1.1"))
                head, body = await receive_answer(peer)
                assert b"Connection" not in head
                assert body == (b"" if target == "/nothing" else target.encode())
            await peer.handshake()
            await peer.send_frame(1, b"hello")
            assert (await peer.receive_frame()).payload == b"hello"
            await peer.expect_close()
            await peer.aclose()


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Cut anywhere, with a WebSocket and its first message behind them."""
    frame = RawPeer(trio.testing.memory_stream_pair()[0], Role.CLIENT).encode_frame(1, b"hello")
    data = plain("GET /a HTTP/1.1") + plain("GET /bc HTTP/1.1") + handshake_request() + frame
    async with serving_in_memory(echo, process_request=tell_path) as (_, listener):
        for cut in range(len(data)):
            peer = raw_client(listener)
            await peer.send(data[:cut])
            await trio.testing.wait_all_tasks_blocked()
            await peer.send(data[cut:])
            assert (await receive_answer(peer))[1] == b"/a"
            assert (await receive_answer(peer))[1] == b"/bc"
            assert (await peer.receive_head()).startswith(b"HTTP/1.1 101 ")
            assert (await peer.receive_frame()).payload == b"hello"


@pytest.mark.parametrize(
    "request_",
    [
        plain("GET / HTTP/1.1", "Connection: close"),
        plain("GET / HTTP/1.1", "Connection: Keep-Alive, Close"),
        plain("GET / HTTP/1.0"),
        plain("GET / HTTP/1.0", "Connection: keep-alive"),
        plain("POST / HTTP/1.1", "Content-Length: 3") + b"abc",
        plain("POST / HTTP/1.1", "Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\n\r\n",
        plain("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: h2c"),
        plain("GET /last HTTP/1.1"),
    ],
)
async def test_what_closes_the_connection(request_: bytes) -> None:
    async with serving_in_memory(echo, process_request=tell_path) as (_, listener):
        peer = raw_client(listener)
        await peer.send(request_ + plain("GET /never HTTP/1.1"))
        head, body = await receive_answer(peer)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in head
        assert body in (b"/", b"/last")
        await peer.expect_end()


async def test_no_body_keeps_it_open() -> None:
    async with serving_in_memory(echo, process_request=tell_path) as (_, listener):
        peer = raw_client(listener)
        await peer.send(plain("HEAD /abc HTTP/1.1"))
        head = await peer.receive_head()
        assert b"\r\nContent-Length: 4\r\n" in head
        await peer.send(plain("POST /d HTTP/1.1", "Content-Length: 0"))
        assert (await receive_answer(peer))[1] == b"/d"


async def test_a_failed_handshake_closes() -> None:
    async with serving_in_memory(echo, process_request=tell_path) as (_, listener):
        peer = raw_client(listener)
        await peer.send(plain("GET /a HTTP/1.1") + handshake_request(Sec_WebSocket_Version="7"))
        await receive_answer(peer)
        head, _ = await receive_answer(peer)
        assert head.startswith(b"HTTP/1.1 426 ")
        assert b"\r\nConnection: close, Upgrade\r\n" in head
        await peer.expect_end()


async def test_the_number_of_requests_is_bounded() -> None:
    async with serving_in_memory(echo, process_request=tell_path) as (_, listener):
        peer = raw_client(listener)
        await peer.send(plain() * 101)
        for number in range(100):
            head, _ = await receive_answer(peer)
            assert (b"\r\nConnection: close\r\n" in head) == (number == 99)
        await peer.expect_end()


@pytest.mark.parametrize("begun", [b"", b"GET / HT"])
async def test_each_request_has_its_own_time(begun: bytes) -> None:
    async with serving_in_memory(echo, process_request=tell_path, connect_timeout=5) as (_, listener):
        peer = raw_client(listener)
        for _ in range(3):
            await trio.sleep(4)
            await peer.send(plain())
            await receive_answer(peer)
        since = trio.current_time()
        await trio.sleep(1)
        if begun:
            await peer.send(begun)
        await peer.expect_end()
        assert trio.current_time() - since == 5


async def test_a_client_that_leaves_between_requests_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(near, Role.CLIENT)
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            with pytest.raises(HandshakeError, match="left"):
                await wrap_server_stream(nursery, far, process_request=tell_path)

        nursery.start_soon(serve)
        await peer.send(plain())
        await receive_answer(peer)
        await peer.aclose()
    assert caplog.text == ""


async def test_closing_the_server_between_requests() -> None:
    """Who has asked for nothing gets no answer; who has begun to ask gets a 503."""
    async with serving_in_memory(echo, process_request=tell_path) as (server, listener):
        idle, half = raw_client(listener), raw_client(listener)
        for peer in (idle, half):
            await peer.send(plain())
            await receive_answer(peer)
        await half.send(b"GET / HT")
        await trio.testing.wait_all_tasks_blocked()
        await server.aclose()
        assert await idle.receive_rest() == b""
        assert (await half.receive_rest()).startswith(b"HTTP/1.1 503 ")


async def test_cancelling_between_requests() -> None:
    async def attempt(canceller: Canceller) -> None:
        near, far = trio.testing.memory_stream_pair()
        peer = RawPeer(near, Role.CLIENT)
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                for _ in range(2):
                    await peer.send(plain())
                    await trio.testing.wait_all_tasks_blocked()
                await peer.send(handshake_request())

            async def serve() -> None:
                request = await wrap_server_stream(nursery, far, process_request=tell_path)
                await request.reject(404)

            nursery.start_soon(ask)
            cancelled = await canceller.run(serve)
            nursery.cancel_scope.cancel()
        answers = (await peer.receive_rest()).split(b"HTTP/1.1 ")
        assert answers[0] == b""
        assert all(answer[:3] in (b"200", b"404", b"503") for answer in answers[1:])
        assert [answer[:3] for answer in answers[1:-1]] == [b"200"] * (len(answers) - 2)
        assert cancelled or [answer[:3] for answer in answers] == [b"", b"200", b"200", b"404"]

    async def quiet(canceller: Canceller) -> None:
        try:
            await attempt(canceller)
        except* trio.BrokenResourceError:  # it asks on a stream that was closed
            assert canceller.cancelled

    await cancel_everywhere(quiet)
