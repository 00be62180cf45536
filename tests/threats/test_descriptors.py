"""Out of descriptors, or with errors of the kernel at every step: the server lives, costs nothing, and goes on at once."""

import _socket
import errno
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
import trio

from tests.io.api_kit import echo, serving
from tests.io.link_kit import TEXT
from tests.threats.threat_kit import Victim, certificate_for
from trio_ws import ConnectionClosed, HandshakeError, open_websocket
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer, handshake_request

#: Descriptors of a victim that is to run out of them: some for Python and Trio, the others for connections.
FEW = 40

Target = tuple[Victim, ssl.SSLContext | None]


@pytest.fixture(params=["plain", "tls"])
def poor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Target]:
    """A victim with few descriptors; what it logs is looked at by the test."""
    context, options = None, dict[str, Any](descriptors=FEW)
    if request.param == "tls":
        options["certificate"], context = certificate_for(tmp_path_factory.mktemp("certificate"))
    victim = Victim(**options)
    try:
        yield victim, context
    finally:
        victim.kill()


@asynccontextmanager
async def connected(target: Target) -> AsyncGenerator[RawPeer]:
    """A peer that has done its opening handshake."""
    victim, context = target
    async with victim.dialled() if context is None else victim.encrypted(context) as peer:
        await peer.handshake()
        yield peer


async def check_echo(peer: RawPeer, payload: bytes) -> None:
    """Fail if a message does not come back."""
    await peer.send_frame(TEXT, payload)
    await peer.expect(TEXT, payload)


async def exhaust(victim: Victim, stack: AsyncExitStack) -> None:
    """Connect until the victim has accepted as many as it can, and others wait."""
    for _ in range(2 * FEW):
        await stack.enter_async_context(victim.dialled())
    while "Too many open files" not in victim.log():  # noqa: ASYNC110 - another process sets no event
        await trio.sleep(0.01)


async def test_without_descriptors_a_server_serves_those_it_has_and_recovers_at_once(poor: Target) -> None:
    victim, _ = poor
    with trio.fail_after(30):
        async with connected(poor) as established:
            await check_echo(established, b"before")
            async with AsyncExitStack() as crowd:
                await exhaust(victim, crowd)
                for number in range(200):
                    await check_echo(established, f"meanwhile {number}".encode())
                spent = victim.cpu
                await trio.sleep(1)
                # for a try or two; a loop that spins takes all that the machine has to give
                assert victim.cpu - spent < 0.05
                assert victim.descriptors <= FEW
            for _ in range(3):
                async with connected(poor) as late:
                    await check_echo(late, b"after")
            await check_echo(established, b"after all")
    await victim.idle()
    log = victim.log()
    # once for each time, however many tries there were
    assert 1 <= log.count("accepting connections fails") <= 3, log
    assert log.count("Traceback") == log.count("Too many open files"), log
    assert victim.stop() == log


async def test_again_and_again_without_descriptors_nothing_is_lost(poor: Target) -> None:
    victim, _ = poor
    before = None
    with trio.fail_after(50):
        for _ in range(4):
            async with AsyncExitStack() as crowd:
                for _ in range(2 * FEW):
                    await crowd.enter_async_context(victim.dialled())
                while victim.descriptors < FEW - 1:  # noqa: ASYNC110 - another process sets no event
                    await trio.sleep(0.01)
            async with connected(poor) as peer:
                await check_echo(peer, b"after")
            await victim.idle()
            after = victim.descriptors, victim.report()["tasks"]
            assert before in (None, after)
            before = after


# Errors of the kernel, one by one


@asynccontextmanager
async def faulty(method: str, *codes: int) -> AsyncGenerator[int]:
    """A port of a server on whose sockets this method fails with these errors, one after the other, all of them."""
    script = list(codes)
    real: Callable[..., Any] = getattr(socket.socket, method)
    name = socket.socket.getsockname

    def fail(sock: socket.socket, *args: Any) -> Any:
        if script and name(sock)[1] == server.port:
            code = script.pop(0)
            raise OSError(code, os.strerror(code))
        return real(sock, *args)

    async with serving(echo) as server:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket.socket, method, fail)
            yield server.port
            assert not script, "not all of it has happened"


async def check_service(port: int, times: int = 1) -> None:
    """Fail if an honest client is not served."""
    for _ in range(times):
        async with open_websocket("127.0.0.1", port, "/", use_ssl=False) as ws:
            await ws.send_message("x")
            assert await ws.get_message() == "x"


@pytest.mark.parametrize(
    "code",
    [
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ECONNABORTED,
        errno.EPERM,
        errno.EPROTO,
        errno.EINTR,
        errno.ENETDOWN,
        errno.EHOSTUNREACH,
        errno.EINVAL,
        errno.EIO,
    ],
    ids=errno.errorcode.__getitem__,
)
async def test_no_error_of_accept_ends_the_server(code: int, caplog: pytest.LogCaptureFixture) -> None:
    """It is tried at once by another way, and then again and again."""
    async with faulty("_accept", code, code, code) as port:
        await check_service(port, 3)
    assert len(caplog.records) <= 2
    assert {record.getMessage().partition(";")[0] for record in caplog.records} <= {
        "accepting connections fails"
    }


@pytest.mark.parametrize("code", [errno.ENOTCONN, errno.EINVAL], ids=errno.errorcode.__getitem__)
@pytest.mark.parametrize("method", ["getpeername", "getsockname", "setsockopt"])
async def test_what_cannot_be_asked_of_a_socket_ends_nothing(
    method: str, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A peer that is gone has no address, and its socket takes no options."""
    real = getattr(socket.socket, method)
    calls = 0

    def fail(sock: socket.socket, *args: Any) -> Any:
        nonlocal calls
        if sock.fileno() in accepted:
            calls += 1
            raise OSError(code, os.strerror(code))
        return real(sock, *args)

    accept: Callable[[socket.socket], Any] = vars(_socket.socket)["_accept"]  # all ways to accept lead there
    accepted: set[int] = set()

    def note(sock: socket.socket) -> Any:
        fd, address = accept(sock)
        accepted.add(fd)
        return fd, address

    async with serving(echo) as server:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket.socket, "_accept", note)
            patch.setattr(socket.socket, method, fail)
            for _ in range(3):
                stream = await trio.open_tcp_stream("127.0.0.1", server.port)
                peer = RawPeer(stream, Role.CLIENT)
                await peer.send(handshake_request())
                await peer.send(peer.encode_frame(TEXT, b"x"))
                await peer.receive_head()
                await peer.expect(TEXT, b"x")
                await peer.aclose()
                accepted.clear()
        await check_service(server.port, 3)
    assert method == "getpeername" or calls
    assert caplog.records == []


@pytest.mark.parametrize(
    "code",
    [
        errno.ECONNRESET,
        errno.EPIPE,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EIO,
        errno.ENOTCONN,
    ],
    ids=errno.errorcode.__getitem__,
)
@pytest.mark.parametrize("method", ["recv", "send", "shutdown"])
async def test_an_error_of_a_socket_ends_its_own_connection_alone(
    method: str, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with faulty(method, code, code, code) as port:
        for _ in range(6):  # a connection that fails may meet more than one of them
            with suppress(ConnectionClosed, HandshakeError):
                await check_service(port)
        await check_service(port, 3)
    assert caplog.records == []
