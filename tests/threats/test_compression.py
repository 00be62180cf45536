"""Attacks by compression: bombs, cut messages, broken streams, contexts that drift, terms that nobody can keep."""

import random
import zlib
from collections.abc import Generator

import pytest
import trio

from tests.io.api_kit import scripted_port
from tests.protocol.deflate_kit import TAIL
from tests.threats.frame_kit import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FORGETFUL,
    PING,
    PONG,
    RSV1,
    TEXT,
    Conversation,
    conversation,
    cut,
    frame,
    frames,
    reset_at_close,
    struck,
)
from tests.threats.threat_kit import DEFLATE, KIBI, MEBI, SLACK, Victim, victim_of
from trio_ws import ConnectionClosed, HandshakeError, PerMessageDeflate, open_websocket
from trio_ws.testing import RawPeer, encode_raw_frame, handshake_request

LIMIT = MEBI


@pytest.fixture(scope="module")
def deflating() -> Generator[Victim]:
    """An echo server that compresses, with every other default, where the engine makes no difference."""
    with victim_of(compression=True) as victim:
        yield victim


@pytest.fixture(scope="module", params=["zlib", "isal", "zlib-ng"])
def inflating(request: pytest.FixtureRequest) -> Generator[Victim]:
    """An echo server that compresses, with each of the engines and every other default."""
    if request.param != "zlib":
        pytest.importorskip(request.param.replace("-", "_"))
    with victim_of(compression={"engine": request.param}) as victim:
        yield victim


def deflated(data: bytes, bits: int = 12) -> bytes:
    """Return the payload of a message that refers to nothing before it."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -bits)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]


def ended(data: bytes) -> bytes:
    """Return a message in a last block (BFINAL), behind which an inflater takes nothing."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -12)
    return compressor.compress(data) + compressor.flush(zlib.Z_FINISH)


NOISE = random.Random(7).randbytes(300 * KIBI)


def message(size: int, kind: str) -> str | bytes:
    """Return a message of so many bytes, which compress well as text and half as well as binary."""
    if kind == "text":
        return "zero " * (size // 5) + "." * (size % 5)
    return (NOISE[: size // 4] + bytes(size))[:size]


# the size of messages


@pytest.mark.parametrize("takeover", [True, False], ids=["takeover", "forgetful"])
@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("kind", ["text", "binary"])
@pytest.mark.parametrize("beside", [-1, 0])
async def test_a_message_up_to_the_limit_comes_back_whole(
    inflating: Victim, beside: int, kind: str, pieces: int, takeover: bool
) -> None:
    async with conversation(inflating, takeover=takeover) as talk:
        await talk.echoed("before")
        await talk.echoed(message(LIMIT + beside, kind), pieces)
        await talk.echoed("behind")


@pytest.mark.parametrize("takeover", [True, False], ids=["takeover", "forgetful"])
@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("kind", ["text", "binary"])
@pytest.mark.parametrize("beside", [1, 2, 3, 258])
async def test_a_message_over_the_limit_is_never_cut_short(
    inflating: Victim, beside: int, kind: str, pieces: int, takeover: bool
) -> None:
    async with conversation(inflating, takeover=takeover) as talk:
        await talk.echoed("before")
        await talk.send(message(LIMIT + beside, kind), pieces)
        await talk.peer.expect_close(1009)
        await talk.peer.expect_end()


@pytest.mark.parametrize("limit", [0, 1, 4096, 65536])
async def test_any_limit_is_exact(limit: int) -> None:
    with victim_of(compression=True, max_message_size=limit) as victim:
        for beside in (-1, 0, 1, 2, 3, 258):
            size = max(limit + beside, 0)
            for pieces in (1, 2):
                async with conversation(victim) as talk:
                    if size <= limit:
                        await talk.echoed(message(size, "binary"), pieces)
                    else:
                        await talk.send(message(size, "binary"), pieces)
                        await talk.peer.expect_close(1009)


BOMB = deflated(bytes(128 * MEBI))


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("pieces", [1, 2, 1000, 100_000])
async def test_a_bomb_takes_no_more_than_the_limit(inflating: Victim, opcode: int, pieces: int) -> None:
    assert len(BOMB) < 132 * KIBI
    with inflating.bounded():
        await struck(inflating, b"".join(frames(opcode, cut(BOMB, pieces), RSV1)), 1009, DEFLATE)
    await inflating.serves()


async def test_a_bomb_behind_a_last_block(inflating: Victim) -> None:
    with inflating.bounded():
        await struck(inflating, frame(BINARY, ended(b"a") + BOMB, rsv=RSV1), 1009, DEFLATE)


async def test_many_bombs_within_the_limit_wait_compressed(inflating: Victim) -> None:
    """1024 messages of 1 MiB, each in a kilobyte, whose echoes nobody reads."""
    one = frame(BINARY, deflated(bytes(MEBI)), rsv=RSV1)
    with inflating.bounded():
        async with inflating.attacked(FORGETFUL) as peer:
            with trio.move_on_after(1):
                await peer.send(one * 1024)
        await inflating.idle()


@pytest.mark.parametrize("size", [8 * LIMIT + 64 * KIBI + 1, 2**31, 2**53 - 1])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_frame_too_large_even_compressed_is_refused_from_its_header(
    inflating: Victim, opcode: int, size: int
) -> None:
    await struck(inflating, frame(opcode, rsv=RSV1, size=size), 1009, DEFLATE)
    await struck(inflating, frame(opcode, rsv=RSV1, size=size, fin=False), 1009, DEFLATE)


@pytest.mark.parametrize(
    "blocks", [b"\x00\x00\x00\xff\xff", b"\x02\x08\x20\x80\x00"], ids=["stored", "fixed"]
)
async def test_blocks_that_come_to_nothing_have_an_end(inflating: Victim, blocks: bytes) -> None:
    piece = blocks * (MEBI // len(blocks))
    with inflating.bounded():
        # ISA-L takes half a microsecond for each of the seven million empty blocks of fixed codes
        await struck(inflating, b"".join(frames(BINARY, [piece] * 9, RSV1)), 1009, DEFLATE, seconds=40)
    await inflating.serves()


@pytest.mark.parametrize("handler", ["deaf", "echo"])
@pytest.mark.parametrize("end", ["reset", "end"])
async def test_what_waits_compressed_is_not_inflated_for_who_has_gone(end: str, handler: str) -> None:
    """A read of 64 KiB can be 60 MiB of messages, and there may be nobody who ever takes them."""
    one = frame(BINARY, deflated(bytes(MEBI)), rsv=RSV1)
    with victim_of(compression=True, handler=handler) as victim, victim.bounded(2 * SLACK):
        for _ in range(4):
            async with victim.attacked(FORGETFUL) as peer:
                with trio.move_on_after(0.3):
                    await peer.send(one * 60)
                    await trio.sleep_forever()  # until the server has read
                if end == "reset":
                    reset_at_close(peer)
        for _ in range(10):
            victim.report()  # it has had its turns


# broken streams


BROKEN = {
    "a reserved kind of block": b"\x07",
    "all ones": b"\xff" * 64,
    "a wrong complement of a stored block's length": b"\x00\x05\x00\x00\x00hello",
    "a distance before the beginning": zlib.compress(b"abcdefgh" * 9, 9)[5:-4],
    "a gzip header": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "too many symbols": b"\xfd\xff\xff" + bytes(40),
    "garbage behind a last block": ended(b"hello") + b"\xff" * 9,
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_what_is_not_deflated_is_1007(inflating: Victim, data: bytes, opcode: int) -> None:
    await struck(inflating, frame(opcode, data, rsv=RSV1), 1007, DEFLATE)


async def test_random_bytes_end_only_their_own_connection(inflating: Victim) -> None:
    """They may be 1007, 1009, a text that is none, or a message; nothing else ever."""
    dice = random.Random(5)
    async with conversation(inflating) as witness:
        for _ in range(60):
            async with inflating.attacked(DEFLATE) as peer:
                await peer.send(frame(BINARY, dice.randbytes(dice.randrange(1, 200)), rsv=RSV1))
                await peer.send(frame(CLOSE, b"\x03\xe8"))
                answer = await peer.receive_frame()
                if answer.opcode == BINARY:
                    answer = await peer.receive_frame()
                assert answer.opcode == CLOSE
                assert int.from_bytes(answer.payload, "big") in (1000, 1007, 1009)
        await witness.echoed("still here")


async def test_data_cut_off_anywhere_gives_no_message_longer_than_the_truth(inflating: Victim) -> None:
    """Where a stream breaks off is not always to be seen; never is it more than the bytes that end each message."""
    data = deflated(NOISE[:100] + b"hello " * 50)
    truth = NOISE[:100] + b"hello " * 50
    for size in range(len(data)):
        async with inflating.attacked(FORGETFUL) as peer:
            await peer.send(frame(BINARY, data[:size], rsv=RSV1) + frame(CLOSE, b"\x03\xe8"))
            talk = Conversation(peer, takeover=False)
            answer = await peer.receive_frame()
            if answer.opcode == BINARY:
                assert not answer.rsv, "it is too short to be compressed"
                assert len(answer.payload) <= len(truth) + len(TAIL)
                answer = await peer.receive_frame()
            assert answer.opcode == CLOSE
            assert int.from_bytes(answer.payload, "big") in (1000, 1007)
            del talk
    await inflating.idle()


# all that may be


async def test_a_last_block_does_not_end_the_messages_behind_it(inflating: Victim) -> None:
    async with conversation(inflating) as talk:
        for _ in range(3):
            await talk.peer.send(frame(TEXT, ended(b"a last block"), rsv=RSV1))
            assert await talk.receive() == "a last block"
            # a fresh window on both sides: the sender begins anew as well
            await talk.peer.send(frame(TEXT, deflated(b"a normal one " * 9), rsv=RSV1))
            assert await talk.receive() == "a normal one " * 9


async def test_data_behind_a_last_block_belongs_to_the_message(inflating: Victim) -> None:
    async with conversation(inflating) as talk:
        await talk.peer.send(frame(TEXT, ended(b"one, ") * 3 + deflated(b"two"), rsv=RSV1))
        assert await talk.receive() == "one, one, one, two"


async def test_stored_and_empty_blocks_are_blocks(inflating: Victim) -> None:
    stored = b"\x00\x05\x00\xfa\xffhello\x00"
    async with conversation(inflating) as talk:
        for opcode, expected in ((TEXT, "hello"), (BINARY, b"hello")):
            await talk.peer.send(frame(opcode, stored, rsv=RSV1))
            assert await talk.receive() == expected
            # RFC 7692 7.2.3.6: an empty message is one byte; nothing at all means the same to zlib
            for empty in (b"\x00", b"", b"\x00\x00\x00\xff\xff" * 3 + b"\x00", b"\x02\x00"):
                await talk.peer.send(frame(opcode, empty, rsv=RSV1))
                assert await talk.receive() == type(expected)()
            await talk.peer.send(b"".join(frames(opcode, [b"", b"", b"\x00", b""], RSV1)))
            assert await talk.receive() == type(expected)()


@pytest.mark.parametrize("takeover", [True, False], ids=["takeover", "forgetful"])
async def test_the_context_is_there_for_the_second_and_the_fifth_message(
    inflating: Victim, takeover: bool
) -> None:
    async with conversation(inflating, takeover=takeover) as talk:
        text = NOISE[:1500].hex()
        sizes: list[int] = []
        for _ in range(5):
            data = b"".join(talk.encode(text))
            sizes.append(len(data))
            await talk.peer.send(data)
            assert await talk.receive() == text
        if takeover:
            assert max(sizes[1:]) < sizes[0] / 10
        else:
            assert len(set(sizes)) == 1


@pytest.mark.parametrize("takeover", [True, False], ids=["takeover", "forgetful"])
async def test_messages_of_all_kinds_in_any_order_do_not_shift_the_window(
    inflating: Victim, takeover: bool
) -> None:
    """Incompressible, plain, short, fragmented and large messages, one between the other."""
    dice = random.Random(3)
    async with conversation(inflating, takeover=takeover) as talk:
        for turn in range(60):
            size = dice.choice([0, 1, 125, 126, 1023, 1024, 5000, 70_000])
            text = ("compress me " * (size // 12 + 1))[:size]
            await talk.echoed(text, dice.choice([1, 1, 2, 7]))
            await talk.echoed(NOISE[turn : turn + size])
            await talk.peer.send(frame(TEXT, b"plain"))
            assert await talk.receive() == "plain"


async def test_control_frames_leave_a_compressed_message_as_it_is(inflating: Victim) -> None:
    async with conversation(inflating) as talk:
        await talk.peer.send(frame(PONG, b"first"))
        for pieces in (1, 2, 5):
            for sent in talk.encode("some text " * 300, pieces):
                await talk.peer.send(frame(PING, b"inside") + frame(PONG, b"inside") + sent)
                await talk.peer.expect(PONG, b"inside")
            assert await talk.receive() == "some text " * 300


@pytest.mark.parametrize("bits", range(8, 16))
async def test_every_window_that_a_client_can_keep(inflating: Victim, bits: int) -> None:
    async with inflating.attacked(f"permessage-deflate; server_max_window_bits={bits}") as peer:
        talk = Conversation(peer, bits=bits)
        for size in (1000, 5000, 60_000):
            await talk.echoed(NOISE[:size].hex())
            await talk.echoed(NOISE[:300].hex() * (size // 300))
    await inflating.idle()


async def test_fifty_tasks_that_send_compressed_do_not_mix(inflating: Victim) -> None:
    async with (
        open_websocket("127.0.0.1", inflating.port, "/", use_ssl=False, compression=True) as ws,
        trio.open_nursery() as nursery,
    ):
        assert ws.extensions
        texts = {f"{number} " * 600 for number in range(50)}
        texts |= {NOISE[number : number + 70_000].hex()[:90_000] for number in range(4)}
        for text in texts:
            nursery.start_soon(ws.send_message, text)
        assert {await ws.get_message() for _ in texts} == texts
    await inflating.idle()


# what is given back


async def test_four_hundred_connections_leave_no_contexts(deflating: Victim) -> None:
    """What they have taken goes back to the system, which the allocator alone would not see to."""

    async def talk(done: trio.Semaphore, go: trio.Event) -> None:
        async with deflating.attacked(DEFLATE) as peer:
            await Conversation(peer).echoed("some text " * 300)
            done.release()
            await go.wait()

    before = deflating.memory
    for _ in range(4):
        async with trio.open_nursery() as nursery:
            done, go = trio.Semaphore(0), trio.Event()
            for _ in range(400):
                nursery.start_soon(talk, done, go)
            for _ in range(400):
                await done.acquire()
            taken = deflating.memory  # by now: who has gone may have given it back already
            go.set()
        assert taken > before + 16 * MEBI
        await deflating.shrunk(before + 8 * MEBI)


async def test_a_large_message_is_not_kept_by_a_connection_that_stays() -> None:
    with victim_of(compression=True, max_message_size=11 * MEBI) as victim:
        async with conversation(victim) as talk:
            await talk.echoed("warm " * 300)
            before = victim.memory
            for text in ("a" * 10 * MEBI, "\U0001f600" * (10 * MEBI // 4)):
                await talk.echoed(text)
                await talk.echoed("a short one")
            assert victim.memory - before < SLACK
        await victim.idle()


# terms


#: What comes behind `permessage-deflate` and cannot be meant so.
IMPOSSIBLE = [
    *[
        f"server_max_window_bits={bits}"
        for bits in ("0", "1", "7", "16", "17", "99", "4294967304", "-8", "+8")
    ],
    *[
        f"client_max_window_bits={bits}"
        for bits in ("0", "1", "7", "16", "17", "99", "4294967304", "-8", "+8")
    ],
    *[
        f"server_max_window_bits={bits}"
        for bits in ("08", "015", "8.0", "1e1", "0x8", '""', '"8 "', '"99"', "abc")
    ],
    *[
        f"client_max_window_bits={bits}"
        for bits in ("08", "015", "8.0", "1e1", "0x8", '""', '"8 "', '"99"', "abc")
    ],
    "server_max_window_bits",
    "server_max_window_bits=10; server_max_window_bits=10",
    "client_max_window_bits=10; client_max_window_bits=11",
    "client_max_window_bits; client_max_window_bits",
    "server_no_context_takeover; server_no_context_takeover",
    "client_no_context_takeover; client_no_context_takeover",
    "server_no_context_takeover=1",
    "server_no_context_takeover=true",
    "client_no_context_takeover=0",
    'client_no_context_takeover=""',
    "unknown",
    "unknown=1",
    "SERVER_MAX_WINDOW_BITS=10",
    "constructor",
    "__class__=8",
    "mem_level=9",
]


@pytest.mark.parametrize("terms", IMPOSSIBLE)
async def test_an_offer_that_cannot_be_kept_is_declined(deflating: Victim, terms: str) -> None:
    if '"8 "' in terms or '""' in terms:
        # RFC 6455 9.1: what is quoted has to be a token too, else the header is none and the handshake fails
        async with deflating.dialled() as peer:
            await peer.send(handshake_request(Sec_WebSocket_Extensions=f"permessage-deflate; {terms}"))
            assert (await peer.receive_head()).startswith(b"HTTP/1.1 400 ")
        return
    async with deflating.dialled() as peer:
        head = await peer.handshake(Sec_WebSocket_Extensions=f"permessage-deflate; {terms}")
        assert b"sec-websocket-extensions" not in head.lower()
        await peer.send(frame(TEXT, b"plain"))
        await peer.expect(TEXT, b"plain")
        await peer.send(frame(TEXT, deflated(b"compressed"), rsv=RSV1))
        await peer.expect_close(1002)
    async with deflating.dialled() as peer:
        # and the next offer is looked at
        head = await peer.handshake(
            Sec_WebSocket_Extensions=f"permessage-deflate; {terms}, permessage-deflate"
        )
        assert b"permessage-deflate" in head
    await deflating.idle()


@pytest.mark.parametrize("bits", ["8", '"8"', "15", '"15"', '"1\\5"'])
@pytest.mark.parametrize("name", ["server_max_window_bits", "client_max_window_bits"])
async def test_a_quoted_number_is_one(deflating: Victim, name: str, bits: str) -> None:
    """RFC 7692 5.2 and RFC 6455 9.1: unquoted, it is a token like the other."""
    async with deflating.dialled() as peer:
        head = await peer.handshake(Sec_WebSocket_Extensions=f"permessage-deflate; {name}={bits}")
        assert b"permessage-deflate" in head
        await Conversation(peer, bits=8 if "8" in bits and name.startswith("s") else 15).echoed("a" * 2000)
    await deflating.idle()


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; =8",
        'permessage-deflate; server_max_window_bits="8',
        "permessage-deflate;;",
        "permessage-deflate; a b",
        "; permessage-deflate",
        "permessage-deflate\x7f",
    ],
)
async def test_an_offer_without_a_form_is_no_reason_to_fall_over(victim: Victim, offer: str) -> None:
    async with victim.dialled() as peer:
        await peer.send(handshake_request(Sec_WebSocket_Extensions=offer))
        head = await peer.receive_head()
        assert head.startswith((b"HTTP/1.1 101 ", b"HTTP/1.1 400 "))
        assert b"permessage-deflate" not in head
    await victim.idle()


async def answered_with(extensions: str) -> None:
    """Have a client ask a server that answers so, and fail if it is content with that."""

    async def answer(peer: RawPeer) -> None:
        await peer.handshake(Sec_WebSocket_Extensions=extensions)
        await peer.receive_rest()

    async with scripted_port(answer) as port:
        with pytest.raises(HandshakeError):
            async with open_websocket("127.0.0.1", port, "/", use_ssl=False, compression=True):
                raise AssertionError("there is a connection")


@pytest.mark.parametrize("terms", [*IMPOSSIBLE, "client_max_window_bits"])
async def test_an_answer_that_cannot_be_meant_fails_the_handshake(terms: str) -> None:
    await answered_with(f"permessage-deflate; {terms}")


@pytest.mark.parametrize(
    "extensions",
    [
        "permessage-deflate, permessage-deflate",
        "permessage-bzip2",
        "permessage-deflate, x-unknown",
        "permessage-deflate; server_max_window_bits=",
        'permessage-deflate; server_max_window_bits="8',
        "constructor",
        ";",
    ],
)
async def test_an_answer_that_was_not_offered_fails_the_handshake(extensions: str) -> None:
    await answered_with(extensions)


# the bit


@pytest.mark.parametrize(
    "data",
    [
        frame(PING, b"", rsv=RSV1),
        frame(PONG, deflated(b"a"), rsv=RSV1),
        frame(CLOSE, b"\x03\xe8", rsv=RSV1),
        frame(CONTINUATION, b"a", rsv=RSV1),
        frame(TEXT, deflated(b"a"), fin=False, rsv=RSV1) + frame(CONTINUATION, b"\x00", rsv=RSV1),
        frame(TEXT, b"a", fin=False) + frame(CONTINUATION, deflated(b"a"), rsv=RSV1),
        frame(TEXT, b"a", fin=False) + frame(PING, b"", rsv=RSV1),
        frame(TEXT, deflated(b"a"), rsv=RSV1 | 2),
        frame(TEXT, deflated(b"a"), rsv=RSV1 | 1),
        frame(3, deflated(b"a"), rsv=RSV1),
        frame(11, deflated(b"a"), rsv=RSV1),
    ],
    ids=[
        "ping",
        "pong",
        "close",
        "continuation",
        "continued",
        "uncompressed",
        "inside",
        "rsv2",
        "rsv3",
        "op3",
        "op11",
    ],
)
async def test_rsv1_where_it_means_nothing_is_1002(deflating: Victim, data: bytes) -> None:
    await struck(deflating, data, 1002, DEFLATE)


@pytest.mark.parametrize("opcode", [TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE])
async def test_rsv1_where_nothing_was_agreed_on_is_1002(victim: Victim, opcode: int) -> None:
    await struck(victim, frame(opcode, BOMB, rsv=RSV1), 1002)


@pytest.mark.parametrize("opcode", [TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE])
@pytest.mark.parametrize("asked", [True, False])
async def test_a_client_does_not_inflate_what_was_not_agreed_on(opcode: int, asked: bool) -> None:
    async def inflate(peer: RawPeer) -> None:
        await peer.handshake()
        await peer.send(encode_raw_frame(opcode, deflated(b"a"), rsv=RSV1))
        await peer.expect_close(1002)

    async with (
        scripted_port(inflate) as port,
        open_websocket("127.0.0.1", port, "/", use_ssl=False, compression=asked) as ws,
    ):
        with pytest.raises(ConnectionClosed):
            await ws.get_message()


async def test_a_client_is_as_hard_on_a_server() -> None:
    """A bomb, garbage and a bit too many from a server with which compression was agreed on."""
    for payload, rsv, code in ((BOMB, RSV1, 1009), (b"\xff" * 9, RSV1, 1007), (b"\x00", RSV1 | 1, 1002)):

        async def attack(peer: RawPeer, payload: bytes = payload, rsv: int = rsv, code: int = code) -> None:
            await peer.handshake(Sec_WebSocket_Extensions="permessage-deflate")
            await peer.send(encode_raw_frame(BINARY, payload, rsv=rsv))
            await peer.expect_close(code)

        async with (
            scripted_port(attack) as port,
            open_websocket("127.0.0.1", port, "/", use_ssl=False, compression=True) as ws,
        ):
            with pytest.raises(ConnectionClosed):
                await ws.get_message()


# secrets


@pytest.mark.parametrize("kept_out", [True, False])
async def test_a_secret_can_be_kept_out_of_the_compressor(kept_out: bool) -> None:
    """What was sent with `compress=False` leaves no trace in the window, so that no guess at it gets shorter."""
    secret, other = NOISE[:700].hex(), NOISE[700:1400].hex()
    sizes: list[int] = []

    async def listen(peer: RawPeer) -> None:
        await peer.handshake(Sec_WebSocket_Extensions="permessage-deflate")
        assert (await peer.receive_frame()).rsv == (0 if kept_out else RSV1)
        sizes.extend([len((await peer.receive_frame()).payload) for _ in range(2)])

    async with (
        scripted_port(listen) as port,
        open_websocket(
            "127.0.0.1", port, "/", use_ssl=False, compression=PerMessageDeflate(threshold=0)
        ) as ws,
    ):
        await ws.send_message(secret, compress=False if kept_out else None)
        await ws.send_message(secret)
        await ws.send_message(other)
        with pytest.raises(ConnectionClosed):
            await ws.get_message()
    guessed, missed = sizes
    assert (guessed > missed - 30) == kept_out
