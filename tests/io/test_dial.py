"""Dialling: what it connects to, how it fails, and that nothing stays open then (the fixture for all tests looks)."""

import ssl
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.io.transport_kit import PATIENCE, receive_exactly, tcp_pair, tls_contexts
from trio_ws.transport import dial_tcp, dial_unix, open_tcp_listeners, open_unix_listener, start_tls


async def test_tcp() -> None:
    [listener] = await open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        stream = await dial_tcp("127.0.0.1", port, local_address="127.0.0.2")
        async with stream, await listener.accept() as accepted:
            assert accepted.socket.getpeername()[0] == "127.0.0.2"
            await stream.send_all(b"x")
            assert await accepted.receive_some() == b"x"


async def test_tcp_refused() -> None:
    [listener] = await open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        await dial_tcp("127.0.0.1", port)


async def test_tcp_cancelled() -> None:
    async with (await open_tcp_listeners(0, host="127.0.0.1"))[0] as listener:
        with trio.CancelScope() as scope:
            scope.cancel()
            await dial_tcp("127.0.0.1", listener.socket.getsockname()[1])
        assert scope.cancelled_caught


async def test_unix(tmp_path: Path) -> None:
    async with await open_unix_listener(tmp_path / "socket") as listener:
        stream = await dial_unix(tmp_path / "socket")
        async with stream, await listener.accept() as accepted:
            await accepted.send_all(b"x")
            assert await stream.receive_some() == b"x"


async def test_unix_where_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await dial_unix(tmp_path / "socket")


async def _serve_tls(stream: trio.abc.Stream) -> None:
    async with trio.SSLStream(stream, tls_contexts()[0], server_side=True) as tls:
        try:
            await tls.do_handshake()
            await tls.send_all(b"hello")
        except trio.BrokenResourceError:
            return


async def test_tls() -> None:
    stream, peer = await tcp_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_serve_tls, peer)
        async with await start_tls(stream, tls_contexts()[1], "localhost") as tls:
            assert await receive_exactly(tls, 5) == b"hello"


async def test_tls_with_a_certificate_for_another_name() -> None:
    stream, peer = await tcp_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_serve_tls, peer)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await start_tls(stream, tls_contexts()[1], "example.org")
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    assert stream.socket.fileno() == -1


async def test_tls_with_a_certificate_nobody_vouches_for() -> None:
    stream, peer = await tcp_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_serve_tls, peer)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await start_tls(stream, ssl.create_default_context(), "localhost")
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    assert stream.socket.fileno() == -1


@pytest.mark.parametrize("name", [None, "", "." * 300])
async def test_tls_without_a_name_to_check(name: str | None) -> None:
    stream, peer = await tcp_pair()
    async with peer:
        with pytest.raises(ValueError, match=r"server_hostname|label"):
            await start_tls(stream, tls_contexts()[1], name)
        assert stream.socket.fileno() == -1


async def test_tls_with_a_peer_that_speaks_something_else() -> None:
    stream, peer = await tcp_pair()
    async with peer:
        await peer.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError):
            await start_tls(stream, tls_contexts()[1], "localhost")
        assert stream.socket.fileno() == -1


async def test_tls_cancelled_while_the_peer_is_silent() -> None:
    stream, peer = await tcp_pair()
    async with peer:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(start_tls, stream, tls_contexts()[1], "localhost")
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        assert stream.socket.fileno() == -1
