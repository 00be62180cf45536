"""Who stalls, drips, leaves or vanishes, at any point of a connection's life: gone in time, and nothing of it is left."""

import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import cast

import pytest
import trio
import trio.testing

from tests.io.link_kit import BINARY, PING, PONG, TEXT
from tests.io.transport_kit import reset, tls_contexts
from tests.threats.states_kit import DRIPPING, ENDING, HALF_OPEN, OPEN, Move, read_no_echoes
from tests.threats.threat_kit import KIBI, Victim, certificate_for, victim_of
from trio_ws import ConnectionClosed, WebSocketRequest, open_websocket, serve_websocket
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer

#: Seconds after which a connection must be gone: many times what the options say, for machines with much else to do.
PATIENCE = 15.0


@pytest.fixture(scope="module", params=["plain", "deflate"])
def hasty(request: pytest.FixtureRequest) -> Generator[Victim]:
    """A victim with the shape of the defaults, in tenths of seconds: a peer has 0.5 s to ask and to close, 1 s to live."""
    with victim_of(
        compression=request.param == "deflate",
        connect_timeout=0.5,
        disconnect_timeout=0.5,
        ping_interval=0.2,
        ping_timeout=0.8,
    ) as victim:
        yield victim


@pytest.fixture(scope="module")
def deaf() -> Generator[Victim]:
    """A victim whose handler never comes for a message."""
    with victim_of(handler="deaf", disconnect_timeout=0.5) as victim:
        yield victim


#: Where a peer can leave.
LEAVING = {**HALF_OPEN, **OPEN, **ENDING}


async def leave(peer: RawPeer, way: str) -> None:
    """Close one side or both, or reset the connection."""
    assert isinstance(peer.stream, trio.SocketStream)
    match way:
        case "half-close":
            await peer.stream.send_eof()
        case "close":
            await peer.aclose()
        case _:
            reset(peer.stream)


@asynccontextmanager
async def at_once(victim: Victim, moves: dict[str, Move]) -> AsyncGenerator[None]:
    """Have a peer make each of these moves, while this block runs."""
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        for move in moves.values():
            nursery.start_soon(move, await stack.enter_async_context(victim.dialled()))
        yield
        nursery.cancel_scope.cancel()


# Deadlines that no traffic extends


@pytest.mark.parametrize("moves", [HALF_OPEN, OPEN, ENDING, DRIPPING], ids=["asking", "open", "end", "drip"])
async def test_who_makes_no_progress_is_dropped(hasty: Victim, moves: dict[str, Move]) -> None:
    async with at_once(hasty, moves):
        while hasty.held < len(moves):  # noqa: ASYNC110 - another process sets no event
            await trio.sleep(0.01)
        await hasty.dropped(PATIENCE)
    await hasty.serves()


async def test_a_silent_peer_is_asked_before_it_is_dropped(hasty: Victim) -> None:
    async with hasty.attacked() as peer:
        with trio.fail_after(PATIENCE):
            assert (await peer.receive_frame()).opcode == PING
            await peer.expect_end()


async def test_a_peer_that_answers_pings_lives_between_fragments(hasty: Victim) -> None:
    """A message that comes slowly is not an attack as long as somebody is there."""
    with trio.fail_after(PATIENCE):
        async with hasty.attacked() as peer:
            await peer.send_frame(TEXT, b"a", fin=False)
            for letter in b"bcdefghijk":  # ten intervals, twice what a peer has that does not answer
                frame = await peer.receive_frame()
                assert frame.opcode == PING
                await peer.send_frame(PONG, frame.payload)
                await peer.send_frame(0, bytes([letter]), fin=False)
            await peer.send_frame(0, b"!")
            await peer.expect(TEXT, b"abcdefghijk!")


async def test_a_large_message_on_a_slow_line_is_not_cut_off(hasty: Victim) -> None:
    """In the middle of it no ping can be answered."""
    with trio.fail_after(PATIENCE):
        async with hasty.attacked() as peer:
            frame = peer.encode_frame(BINARY, bytes(20_000))
            for at in range(0, len(frame), 500):
                await peer.send(frame[at : at + 500])
                await trio.sleep(0.05)
            assert len((await peer.receive_frame()).payload) == 20_000


# Pressure


async def test_echoes_that_nobody_reads_cost_little_memory(victim: Victim) -> None:
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(victim.attacked()) for _ in range(5)]
        with victim.bounded():
            async with trio.open_nursery() as nursery:
                for peer in peers:
                    nursery.start_soon(read_no_echoes, peer)
    await victim.idle()


async def test_who_sends_twelve_megabytes_and_then_reads_gets_all_of_them_back(victim: Victim) -> None:
    """Neither side waits for ever for the other to read."""
    number = 192

    async def send() -> None:
        for index in range(number):
            await peer.send_frame(BINARY, index.to_bytes(4, "big") * 16384)

    with trio.fail_after(PATIENCE):
        async with victim.attacked() as peer, trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked(0.2)  # all is sent, or nothing is taken any more
            for index in range(number):
                await peer.expect(BINARY, index.to_bytes(4, "big") * 16384)
    await victim.idle()


async def test_a_hundred_slow_readers_delay_nobody_else(victim: Victim) -> None:
    """Measured by what happens: an honest client has a thousand echoes while others wait for room."""
    ready, blocked = trio.Event(), 0

    async def be_slow() -> None:
        nonlocal blocked
        async with victim.attacked() as peer:
            await read_no_echoes(peer)
            blocked += 1
            if blocked == 100:
                ready.set()
            while await peer.stream.receive_some(KIBI):  # noqa: ASYNC110 - it is slow by intention
                await trio.sleep(1)

    with trio.fail_after(30):
        async with (
            open_websocket("127.0.0.1", victim.port, "/", use_ssl=False) as ws,
            trio.open_nursery() as nursery,
        ):
            for _ in range(100):
                nursery.start_soon(be_slow)
            await ready.wait()
            for index in range(1000):
                await ws.send_message(str(index))
                assert await ws.get_message() == str(index)
            nursery.cancel_scope.cancel()
    await victim.idle(PATIENCE)


async def test_fifty_tasks_that_send_ping_and_close_at_once_disturb_nothing(victim: Victim) -> None:
    number = 20
    received: list[str | bytes] = []
    with trio.fail_after(PATIENCE):
        async with (
            open_websocket("127.0.0.1", victim.port, "/", use_ssl=False) as ws,
            trio.open_nursery() as nursery,
        ):

            async def send(task: int) -> None:
                for index in range(number):
                    await ws.send_message(f"{task} {index}" * (1 + index * 100))
                    await ws.ping()

            async with trio.open_nursery() as senders:
                for task in range(50):
                    senders.start_soon(send, task)
                received.extend([await ws.get_message() for _ in range(50 * number)])
            for _ in range(50):
                nursery.start_soon(ws.aclose)
    assert sorted(received) == sorted(
        f"{task} {index}" * (1 + index * 100) for task in range(50) for index in range(number)
    )
    await victim.idle()


async def test_no_echo_ever_goes_to_another_connection(victim: Victim) -> None:
    """Connections come and go, in every way, and whatever is used again is not another's."""

    async def churn(worker: int) -> None:
        for turn in range(12):
            async with victim.attacked() as peer:
                for index in range(4):
                    text = f"{worker} {turn} {index} ".encode() * (1 + 700 * (index % 2))
                    await peer.send_frame(TEXT, text)
                    await peer.expect(TEXT, text)
                await peer.send_frame(TEXT, b"an echo that nobody waits for" * 100)
                match (worker + turn) % 4:
                    case 0:
                        await peer.send_close()
                    case 1:
                        await leave(peer, "half-close")
                    case 2:
                        await leave(peer, "reset")
                    case _:
                        await peer.send(b"\xff" * 10)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for worker in range(25):
                nursery.start_soon(churn, worker)
    await victim.idle()


# Leaving


@pytest.mark.parametrize(
    ("state", "way"),
    [
        (state, way)
        for state in LEAVING
        for way in ("half-close", "close", "reset")
        # who has ended only its own side may still want its echoes
        if (state, way) != ("echoes unread", "half-close")
    ],
)
async def test_who_leaves_is_let_go_at_once(victim: Victim, state: str, way: str) -> None:
    """Also while it has not asked yet, or not to the end; nothing stays in CLOSE_WAIT."""
    async with victim.dialled() as peer:
        await LEAVING[state](peer)
        await leave(peer, way)
        await victim.idle(3)
    await victim.serves()


@pytest.mark.parametrize("data", [b"", b"\x82\xfe", bytes(1000)], ids=len)
async def test_who_resets_a_connection_whose_queue_is_full_is_let_go(deaf: Victim, data: bytes) -> None:
    """Nobody reads what it has sent; a close in good order would stand behind that, unseen."""
    async with deaf.attacked() as peer:
        await read_no_echoes(peer)
        with trio.move_on_after(0.05):
            await peer.send(data)
        await leave(peer, "reset")
        await deaf.idle(3)


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Victim, ssl.SSLContext]]:
    """A victim behind TLS, and what trusts it."""
    path, context = certificate_for(tmp_path_factory.mktemp("certificate"))
    with victim_of(certificate=path, connect_timeout=0.5, disconnect_timeout=0.5) as victim:
        yield victim, context


@pytest.mark.parametrize("way", ["close", "reset"])
@pytest.mark.parametrize("state", list(LEAVING))
async def test_who_leaves_behind_tls_is_let_go_at_once(
    encrypted: tuple[Victim, ssl.SSLContext], state: str, way: str
) -> None:
    """Without a close_notify, which nobody waits for."""
    victim, context = encrypted
    async with victim.encrypted(context) as peer:
        await LEAVING[state](peer)
        tls = cast("trio.SSLStream[trio.SocketStream]", peer.stream)
        await leave(RawPeer(tls.transport_stream, Role.CLIENT), way)
        await victim.idle(3)


@pytest.mark.parametrize(
    ("frames", "messages"),
    [([], []), ([(1, True)], ["part 0"]), ([(1, False)], []), ([(1, True), (1, False)], ["part 0"])],
    ids=["nothing", "a message", "half a message", "one and a half"],
)
@pytest.mark.parametrize("way", ["close", "reset"])
async def test_an_end_without_close_notify_is_never_taken_for_a_clean_one(
    frames: list[tuple[int, bool]], messages: list[str], way: str
) -> None:
    """Anybody on the way could have cut it there."""
    seen: list[object] = []
    over = trio.Event()

    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        try:
            while True:
                seen.append(await ws.get_message())
        except ConnectionClosed as exc:
            seen.append(None if exc.reason is None else exc.reason.code)
        over.set()

    server_context, client_context = tls_contexts()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_websocket, handler, "127.0.0.1", 0, server_context)
            stream = await trio.open_tcp_stream("127.0.0.1", server.port)
            tls = trio.SSLStream(stream, client_context, server_hostname="localhost")
            peer = RawPeer(tls, Role.CLIENT)
            await peer.handshake()
            for index, (opcode, fin) in enumerate(frames):
                await peer.send_frame(opcode, f"part {index}".encode(), fin=fin)
            if way == "reset":  # which may overtake what was sent
                while len(seen) < len(messages):  # noqa: ASYNC110 - the handler goes on by itself
                    await trio.sleep(0.01)
            await leave(RawPeer(stream, Role.CLIENT), way)
            await over.wait()
            nursery.cancel_scope.cancel()
    assert seen == [*messages, 1006]


async def test_half_a_tls_handshake_is_dropped(encrypted: tuple[Victim, ssl.SSLContext]) -> None:
    victim, context = encrypted
    hello = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    data = hello.read()
    async with AsyncExitStack() as stack:
        for size in (0, 1, 5, len(data) // 2, len(data)):
            peer = await stack.enter_async_context(victim.dialled())
            await peer.send(data[:size])
        while victim.held < 5:  # noqa: ASYNC110 - another process sets no event
            await trio.sleep(0.01)
        await victim.dropped(PATIENCE)


# Peers in processes of their own

PEER = """
import sys, trio
from trio_ws import open_websocket
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer

async def main():
    if sys.argv[2] == "honest":
        async with open_websocket("127.0.0.1", int(sys.argv[1]), "/", use_ssl=False) as ws:
            print("ready", flush=True)
            await ws.get_message()
    else:
        peer = RawPeer(await trio.open_tcp_stream("127.0.0.1", int(sys.argv[1])), Role.CLIENT)
        await peer.handshake()
        await peer.send(peer.encode_frame(2, bytes(100000))[:-1])
        print("ready", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@asynccontextmanager
async def process(victim: Victim, kind: str) -> AsyncGenerator[trio.Process]:
    """A peer that is connected, in a process that is killed in the end."""
    command = [sys.executable, "-c", PEER, str(victim.port), kind]
    async with trio.open_nursery() as nursery:
        peer = await nursery.start(partial(trio.run_process, command, stdout=subprocess.PIPE, check=False))
        assert (await peer.stdout.receive_some()).startswith(b"ready")
        yield peer
        peer.kill()


async def test_a_peer_that_is_killed_in_the_middle_of_a_message_is_let_go_at_once(victim: Victim) -> None:
    async with process(victim, "in a message") as peer:
        assert victim.report()["connections"] == 1
        peer.kill()
        await victim.idle(3)


async def test_a_peer_whose_process_is_stopped_is_found_out(hasty: Victim) -> None:
    """Its kernel takes whatever is sent, and answers nothing; it lives as long as it does answer."""
    async with process(hasty, "honest") as peer:
        await trio.sleep(2)
        assert hasty.report()["connections"] == 1
        peer.send_signal(signal.SIGSTOP)
        await hasty.dropped(PATIENCE)
