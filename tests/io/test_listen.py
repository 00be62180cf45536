"""Listening: the listeners, their socket files, and an accept loop that no error of a connection or the system ends."""

import errno
import logging
import os
import socket
import stat
import struct
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.io.transport_kit import PATIENCE, no_free_descriptor, receive_exactly, tls_contexts
from trio_ws.transport import (
    accept_forever,
    dial_tcp,
    dial_unix,
    open_tcp_listeners,
    open_unix_listener,
    start_tls,
)


def port_of(listener: trio.SocketListener) -> int:
    port = listener.socket.getsockname()[1]
    assert isinstance(port, int)
    return port


async def echo(stream: trio.abc.Stream) -> None:
    async with stream:
        while data := await stream.receive_some(65536):
            await stream.send_all(data)


async def check_echo(stream: trio.abc.Stream) -> None:
    async with stream:
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


class Resolver(trio.abc.HostnameResolver):
    """Answers what the test says."""

    def __init__(self, *answers: tuple[int, tuple[str, int]]) -> None:
        self.answers = answers

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - Trio's name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        return [(family, socket.SOCK_STREAM, 0, "", address) for family, address in self.answers]

    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int
    ) -> tuple[str, str]:
        raise NotImplementedError


@pytest.mark.parametrize("host", ["127.0.0.1", b"127.0.0.1", "localhost", None])
async def test_tcp_hosts(host: str | bytes | None) -> None:
    listeners = await open_tcp_listeners(0, host=host)
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(accept_forever, listener, echo, nursery)
        for listener in listeners:
            ipv6 = listener.socket.family == socket.AF_INET6
            await check_echo(await dial_tcp("::1" if ipv6 else "127.0.0.1", port_of(listener)))
            await listener.aclose()
    families = {listener.socket.family for listener in listeners}
    assert socket.AF_INET in families
    if host is None and has_ipv6():
        assert families == {socket.AF_INET, socket.AF_INET6}


@needs_ipv6
async def test_ipv6_leaves_the_ipv4_port_alone() -> None:
    [six] = await open_tcp_listeners(0, host="::")
    async with six:
        [four] = await open_tcp_listeners(port_of(six), host="0.0.0.0")
        await four.aclose()


async def test_a_port_that_is_taken() -> None:
    [first] = await open_tcp_listeners(0, host="127.0.0.1")
    async with first:
        with pytest.raises(OSError, match="in use"):
            await open_tcp_listeners(port_of(first), host="127.0.0.1")


async def test_a_shared_port() -> None:
    [first] = await open_tcp_listeners(0, host="127.0.0.1", reuse_port=True)
    async with first:
        [second] = await open_tcp_listeners(port_of(first), host="127.0.0.1", reuse_port=True)
        await second.aclose()


async def test_a_port_just_given_up_can_be_taken_again() -> None:
    """A connection closed by the server leaves the port in TIME_WAIT; a restart must not fail for that."""
    [listener] = await open_tcp_listeners(0, host="127.0.0.1")
    port = port_of(listener)
    client = await dial_tcp("127.0.0.1", port)
    await (await listener.accept()).aclose()
    await client.aclose()
    await listener.aclose()
    [again] = await open_tcp_listeners(port, host="127.0.0.1")
    await again.aclose()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a listener's backlog (TCP_INFO)")
async def test_backlog() -> None:
    largest = int(await trio.Path("/proc/sys/net/core/somaxconn").read_text())
    for backlog, expected in ((7, 7), (None, largest)):
        [listener] = await open_tcp_listeners(0, host="127.0.0.1", backlog=backlog)
        async with listener:
            info = listener.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
            assert struct.unpack_from("I", info, 28) == (expected,)


async def test_an_address_that_fails_closes_those_before_it() -> None:
    trio.socket.set_custom_hostname_resolver(
        Resolver((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET, ("192.0.2.1", 0)))
    )
    with pytest.raises(OSError, match="Cannot assign requested address"):
        await open_tcp_listeners(0, host="two.example")


async def test_out_of_descriptors() -> None:
    with pytest.raises(OSError, match="Too many open files"), no_free_descriptor():
        await open_tcp_listeners(0, host="127.0.0.1")


async def test_a_family_the_kernel_does_not_have() -> None:
    strange = (0xFFF, ("127.0.0.1", 0))
    trio.socket.set_custom_hostname_resolver(Resolver(strange, (socket.AF_INET, ("127.0.0.1", 0))))
    [listener] = await open_tcp_listeners(0, host="two.example")
    await listener.aclose()
    trio.socket.set_custom_hostname_resolver(Resolver(strange))
    with pytest.raises(OSError, match="not supported") as caught:
        await open_tcp_listeners(0, host="one.example")
    assert caught.value.errno == errno.EAFNOSUPPORT


async def test_tls_over_a_listener() -> None:
    server_context, client_context = tls_contexts()
    [listener] = await open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery, listener:
        nursery.start_soon(accept_forever, trio.SSLListener(listener, server_context), echo, nursery)
        stream = await dial_tcp("127.0.0.1", port_of(listener))
        await check_echo(await start_tls(stream, client_context, "localhost"))


async def test_unix_file_comes_with_its_mode_and_goes_with_the_listener(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listener = await open_unix_listener(path, mode=0o620, backlog=3)
    assert stat.S_ISSOCK(path.lstat().st_mode)
    assert stat.S_IMODE(path.lstat().st_mode) == 0o620
    assert listener.path == str(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_forever, listener, echo, nursery)
        await check_echo(await dial_unix(path))
        await listener.aclose()
        assert not path.exists()
        path.write_text("somebody else's")
        await listener.aclose()
    assert path.read_text() == "somebody else's"


async def test_unix_file_that_is_somebody_elses_by_now_stays(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    first = await open_unix_listener(path)
    path.unlink()
    async with await open_unix_listener(path):
        await first.aclose()
        assert path.exists()
    assert not path.exists()


async def test_unix_folder_that_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    listener = await open_unix_listener(folder / "socket")
    (folder / "socket").unlink()
    folder.rmdir()
    await listener.aclose()
    with pytest.raises(FileNotFoundError):
        await open_unix_listener(folder / "socket")


async def test_unix_file_that_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing refuses that to a superuser, so the refusal is a stand-in."""

    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    listener = await open_unix_listener(tmp_path / "socket")
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        await listener.aclose()
    assert listener.socket.fileno() == -1


async def test_unix_file_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
        gone.listen()
    async with await open_unix_listener(path) as listener, trio.open_nursery() as nursery:
        nursery.start_soon(accept_forever, listener, echo, nursery)
        await check_echo(await dial_unix(path))
        nursery.cancel_scope.cancel()


async def test_unix_file_in_use_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with await open_unix_listener(path, backlog=0) as listener:
        with pytest.raises(OSError, match="in use"):
            await open_unix_listener(path)
        with pytest.raises(
            OSError, match="in use"
        ):  # now its queue is full, which is not the same as nobody there
            await open_unix_listener(path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_forever, listener, echo, nursery)
            await trio.testing.wait_all_tasks_blocked()
            await check_echo(await dial_unix(path))
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
async def test_unix_path_that_is_no_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "socket"
    match kind:
        case "file":
            path.write_text("precious")
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="in use"):
        await open_unix_listener(path)
    assert path.is_symlink() or path.exists()


async def test_unix_mode_that_cannot_be_set_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises((OverflowError, OSError)):
        await open_unix_listener(tmp_path / "socket", mode=2**80)
    assert os.listdir(tmp_path) == []


async def test_unix_cancelled_leaves_no_file(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await open_unix_listener(tmp_path / "socket")
    assert scope.cancelled_caught
    assert os.listdir(tmp_path) == []


class Failing(trio.abc.Listener[trio.abc.Stream]):
    """Fails as the script says (an error number), or accepts (None); closed when the script is over."""

    def __init__(self, *script: int | None) -> None:
        self.script = iter(script)
        self.times: list[float] = []

    async def accept(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.times.append(trio.current_time())
        code = next(self.script, errno.EBADF)
        if code == errno.EBADF:
            raise trio.ClosedResourceError
        if code is not None:
            raise OSError(code, os.strerror(code))
        return trio.testing.memory_stream_pair()[0]

    async def aclose(self) -> None:
        raise NotImplementedError


def waits(times: list[float]) -> list[float]:
    return [round(later - earlier, 3) for earlier, later in pairwise(times)]


async def accepted_by(listener: Failing) -> int:
    accepted: list[trio.abc.Stream] = []

    async def handler(stream: trio.abc.Stream) -> None:
        await trio.lowlevel.checkpoint()
        accepted.append(stream)

    async with trio.open_nursery() as nursery:
        await accept_forever(listener, handler, nursery)
    return len(accepted)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_exhaustion_is_waited_out(
    code: int, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Failing(*[code] * 6, None, None, code, code, None)
    assert await accepted_by(listener) == 3
    assert waits(listener.times) == [0.1, 0.2, 0.4, 0.8, 1, 1, 0, 0, 0.1, 0.2, 0]
    # Once for each of the two episodes.
    assert [(record.name, record.levelno) for record in caplog.records] == [("trio_ws", logging.ERROR)] * 2


async def test_no_error_of_one_connection_ends_the_loop(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    codes = [errno.EPERM, errno.EPROTO, errno.ECONNABORTED, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EINVAL]
    script = [entry for code in codes for entry in (code, None)]
    listener = Failing(*script)
    assert await accepted_by(listener) == len(codes)
    assert waits(listener.times) == [0.1, 0] * len(codes)
    assert [
        record.exc_info and record.exc_info[1] and record.exc_info[1].args[0] for record in caplog.records
    ] == codes


async def test_another_error_in_a_row_is_logged_too(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    await accepted_by(Failing(errno.EMFILE, errno.EMFILE, errno.ENOMEM, errno.ENOMEM))
    assert len(caplog.records) == 2


async def test_really_out_of_descriptors(
    mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    accepted: list[trio.abc.Stream] = []

    async def handler(stream: trio.abc.Stream) -> None:
        accepted.append(stream)
        await echo(stream)

    [listener] = await open_tcp_listeners(0, host="127.0.0.1")
    client = socket.socket()
    client.setblocking(False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_forever, listener, handler, nursery)
        await trio.testing.wait_all_tasks_blocked()
        with no_free_descriptor():
            with pytest.raises(BlockingIOError):
                client.connect(listener.socket.getsockname())
            for _ in range(5):
                await trio.testing.wait_all_tasks_blocked(0.01)
                mock_clock.jump(1)
            assert accepted == []
            [record] = caplog.records
            assert record.exc_info is not None
            assert isinstance(record.exc_info[1], OSError)
            assert record.exc_info[1].errno == errno.EMFILE
        mock_clock.jump(1)
        await check_echo(trio.SocketStream(trio.socket.from_stdlib_socket(client)))
        await listener.aclose()
    assert len(accepted) == 1


async def test_the_loop_ends_when_the_listener_is_closed_and_the_handlers_go_on() -> None:
    [listener] = await open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as handlers:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(accept_forever, listener, echo, handlers)
                stream = await dial_tcp("127.0.0.1", port_of(listener))
                await stream.send_all(b"x")
                assert await receive_exactly(stream, 1) == b"x"
                await listener.aclose()
            await check_echo(stream)
