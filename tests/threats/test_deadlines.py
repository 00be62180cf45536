"""Clients that take their time: every wait for one has an end that nothing it sends can put off.

On real sockets with options of tenths of a second; with the defaults, to the second, on a clock that jumps.
"""

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
import trustme

from tests.io.api_kit import echo
from tests.threats.answers_kit import GET, handshake_with, receive_refusal
from tests.threats.frame_kit import BINARY, CONTINUATION, HELLO, close, frame
from tests.threats.threat_kit import Victim, victim_of
from trio_ws import WebSocketServer
from trio_ws.protocol import Role
from trio_ws.testing import MemoryListener, RawPeer, handshake_request

#: What the victims are given, and what may pass on a machine that is busy.
SECONDS = 0.4
PATIENCE = 4.0

VIOLATION = frame(CONTINUATION)
PAGE = GET + b"\r\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the server's key and chain."""
    path = tmp_path_factory.mktemp("certificate") / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    return path


@pytest.fixture(scope="module")
def victim() -> Generator[Victim]:
    with victim_of(connect_timeout=SECONDS, disconnect_timeout=SECONDS, hook="page") as victim:
        yield victim


@pytest.fixture(scope="module")
def tls_victim(certificate: Path) -> Generator[Victim]:
    with victim_of(
        connect_timeout=SECONDS, disconnect_timeout=SECONDS, certificate=str(certificate)
    ) as victim:
        yield victim


@pytest.fixture(scope="module")
def parting_victim() -> Generator[Victim]:
    with victim_of(disconnect_timeout=SECONDS, handler="parting") as victim:
        yield victim


def hello_of(authority: trustme.CA) -> bytes:
    """Return the first thing that a client says."""
    context = ssl.create_default_context()
    authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]  # trustme's annotations name an optional dependency
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def drip(peer: RawPeer, data: bytes, pause: float) -> None:
    """Send it byte by byte, for as long as somebody takes it."""
    try:
        for byte in data:
            await peer.send(bytes([byte]))
            await trio.sleep(pause)
    except trio.BrokenResourceError:
        pass


async def stay_until_cut(victim: Victim, peer: RawPeer, before: int, drops: bytes = b"") -> bytes:
    """Stay, dripping or silent, until the server has given up; return what it has said."""
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip, peer, drops * 1000, 0.05)
            said = await peer.receive_rest()
            await victim.released(before, PATIENCE)
            nursery.cancel_scope.cancel()
    return said


# The opening handshake

HEAD = handshake_request()
BEGINNINGS = {
    "silence": (b"", b""),
    "one byte": (b"G", b""),
    "half a head": (HEAD[:60], b""),
    "no last CRLF": (HEAD[:-2], b""),
    "no last LF": (HEAD[:-1], b""),
    "drops of a header": (HEAD[:-2] + b"X: ", b"a"),
    "drops of headers": (HEAD[:-2], b"X: a\r\n"),
    "drops of a target": (b"GET /", b"a"),
    "a frame": (HELLO, b""),
    "a page and silence": (PAGE, b""),
    "a page and drops": (PAGE + b"GET /", b"a"),
    "a refused request and silence": (handshake_with({"Origin": "null"}), b""),
    "a refused request and drops": (handshake_with({"Origin": "null"}), b"\0"),
}  # fmt: skip


async def test_a_client_that_does_not_finish_its_request_is_cut(victim: Victim) -> None:
    """All at a time; those that have asked for something have been answered."""
    before = victim.descriptors
    said: dict[str, bytes] = {}

    async def attack(name: str, data: bytes, drops: bytes) -> None:
        async with victim.dialled() as peer:
            await peer.send(data)
            said[name] = await stay_until_cut(victim, peer, before, drops)

    async with trio.open_nursery() as nursery:
        for name, (data, drops) in BEGINNINGS.items():
            nursery.start_soon(attack, name, data, drops)
    assert {name: data[:13] for name, data in said.items()} == {
        name: b"HTTP/1.1 200 " if "page" in name else b"HTTP/1.1 403 " if "refused" in name else b""
        for name in BEGINNINGS
    }
    await victim.serves()
    assert victim.log() == ""


async def test_a_client_that_does_not_finish_its_tls_is_cut(
    tls_victim: Victim, authority: trustme.CA
) -> None:
    before = tls_victim.descriptors
    hello = hello_of(authority)
    beginnings = {
        "silence": (b"", b""),
        "one byte": (hello[:1], b""),
        "half a hello": (hello[: len(hello) // 2], b""),
        "drops of a hello": (hello[:5], hello[5:40]),
        "half a handshake": (hello, b""),
        "half a handshake and drops": (hello, b"\x16"),
        "a record that announces more": (b"\x16\x03\x01\x40\x00", b"\x01"),
    }
    async with trio.open_nursery() as nursery:

        async def attack(data: bytes, drops: bytes) -> None:
            async with tls_victim.dialled() as peer:
                await peer.send(data)
                await stay_until_cut(tls_victim, peer, before, drops)

        for data, drops in beginnings.values():
            nursery.start_soon(attack, data, drops)
    assert tls_victim.log() == ""


async def test_what_is_no_tls_is_parted_with(tls_victim: Victim, authority: trustme.CA) -> None:
    """Nothing but an alert is said, for whoever sends this cannot read more."""
    before = tls_victim.descriptors
    garbage = [
        HEAD,
        b"\0" * 5000,
        b"\xff" * 5000,
        b"\x16\x03\x01\xff\xff",
        b"\x80\x2e\x01\x00\x02" + bytes(40),
    ]
    hello = hello_of(authority)
    for data in (*garbage, *(hello + each for each in garbage)):
        async with tls_victim.dialled() as peer:
            await peer.send(data)
            with trio.fail_after(PATIENCE):
                assert b"HTTP" not in await peer.receive_rest()
    await tls_victim.released(before, PATIENCE)
    assert tls_victim.log() == ""


async def test_behind_tls_the_request_has_no_time_of_its_own(
    tls_victim: Victim, authority: trustme.CA
) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]  # trustme's annotations name an optional dependency
    before = tls_victim.descriptors
    for data, drops in ((b"", b""), (HEAD[:-2] + b"X: ", b"a")):
        tcp = await trio.open_tcp_stream("127.0.0.1", tls_victim.port)
        stream = trio.SSLStream(tcp, context, server_hostname="localhost")
        peer = RawPeer(stream, Role.CLIENT)
        await stream.do_handshake()
        await peer.send(data)
        assert await stay_until_cut(tls_victim, peer, before, drops) == b""
        await trio.aclose_forcefully(stream)


# Closing

ENDS = {"close frame": close(1000), "violation": VIOLATION, "message and close frame": HELLO + close(1000)}


@pytest.mark.parametrize("drops", [b"", b"\0", HELLO], ids=["silence", "drops", "messages"])
async def test_a_peer_that_keeps_its_end_open_after_the_end_is_cut(victim: Victim, drops: bytes) -> None:
    before = victim.descriptors
    async with trio.open_nursery() as nursery:

        async def attack(end: bytes) -> None:
            async with victim.attacked() as peer:
                await peer.send(end)
                said = await stay_until_cut(victim, peer, before, drops)
                assert said.count(b"\x88\x02\x03") == 1  # one close frame

        for end in ENDS.values():
            nursery.start_soon(attack, end)
    await victim.idle()
    assert victim.log() == ""


@pytest.mark.parametrize("drops", [b"", b"\0", HELLO], ids=["silence", "drops", "messages"])
async def test_a_peer_that_does_not_answer_a_close_frame_is_cut(parting_victim: Victim, drops: bytes) -> None:
    before = parting_victim.descriptors
    async with parting_victim.attacked() as peer:
        said = await stay_until_cut(parting_victim, peer, before, drops)
        assert said == b"\x88\x02\x03\xe8"
    assert parting_victim.log() == ""


async def test_a_peer_that_floods_instead_of_answering_a_close_frame_is_cut(parting_victim: Victim) -> None:
    before = parting_victim.descriptors
    async with parting_victim.attacked() as peer:
        with parting_victim.bounded(), trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
            while True:
                await peer.send(frame(BINARY, bytes(65536)))
    await parting_victim.released(before, PATIENCE)
    assert parting_victim.log() == ""


# Waiting


@pytest.fixture(scope="module")
def patient_victim() -> Generator[Victim]:
    """One whose handler never takes a message, with the default deadlines."""
    with victim_of(handler="deaf", hook="page") as victim:
        yield victim


async def test_waiting_for_a_peer_costs_no_time_of_computing(patient_victim: Victim) -> None:
    """Whatever it is waited for: what the kernel repeats for ever, such as an end that is not read, must not be asked."""
    full = HELLO * 20
    states = {
        "nothing sent": b"",
        "half a head": HEAD[:60],
        "a page": PAGE,
        "a refused request": handshake_with({"Origin": "null"}),
        "an open connection": HEAD,
        "half a frame": HEAD + HELLO[:-1],
        "a full queue": HEAD + full,
        "a close frame": HEAD + close(1000),
        "a close frame behind a full queue": HEAD + full + close(1000),
        "a violation": HEAD + VIOLATION,
        "a violation and more": HEAD + VIOLATION + bytes(5000),
    }
    async with AsyncExitStack() as stack:
        peers: list[RawPeer] = []
        for data in states.values():
            for ends in (False, True):
                peer = await stack.enter_async_context(patient_victim.dialled())
                await peer.send(data)
                if ends:
                    assert isinstance(peer.stream, trio.SocketStream)
                    await peer.stream.send_eof()
                peers.append(peer)
        await trio.sleep(0.3)
        before = patient_victim.cpu
        await trio.sleep(0.5)
        assert patient_victim.cpu - before < 0.1


# To the second, with the defaults


@asynccontextmanager
async def serving_over_tls(authority: trustme.CA) -> AsyncGenerator[MemoryListener]:
    listener = MemoryListener()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]  # trustme's annotations name an optional dependency
    async with trio.open_nursery() as nursery:
        await nursery.start(WebSocketServer(echo, [trio.SSLListener(listener, context)]).run)
        yield listener
        nursery.cancel_scope.cancel()


async def silent(_: RawPeer, __: trustme.CA) -> bytes:
    return b""


async def dripping_hello(_: RawPeer, authority: trustme.CA) -> bytes:
    return hello_of(authority)


async def half_a_handshake(peer: RawPeer, authority: trustme.CA) -> bytes:
    await peer.send(hello_of(authority))
    return b""


async def dripping_handshake(peer: RawPeer, authority: trustme.CA) -> bytes:
    """The hello in good time, and then a record that says it is long."""
    await trio.sleep(3)
    await peer.send(hello_of(authority))
    return b"\x17\x03\x03\x40\x00" + bytes(1000)


Attack = Callable[[RawPeer, trustme.CA], Awaitable[bytes]]


@pytest.mark.parametrize("attack", [silent, dripping_hello, half_a_handshake, dripping_handshake])
async def test_tls_and_the_request_together_have_ten_seconds(
    attack: Attack, authority: trustme.CA, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving_over_tls(authority) as listener:
        peer = RawPeer(listener.connect(), Role.CLIENT)
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip, peer, await attack(peer, authority), 0.5)
            await peer.receive_rest()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - start == pytest.approx(10)
        await peer.aclose()


async def test_the_time_for_the_answer_is_not_the_time_for_the_next_request(victim: Victim) -> None:
    """A connection with pages is kept for as long as it asks for them in time."""
    async with victim.dialled() as peer:
        with trio.fail_after(10):
            for _ in range(4):
                await trio.sleep(SECONDS / 2)
                await peer.send(PAGE)
                assert (await peer.receive_head()).startswith(b"HTTP/1.1 200 ")
                await peer.receive_exactly(1)
            await peer.send(b"nonsense\r\n\r\n")
            assert (await receive_refusal(peer)).status == 400
