"""Heads that are too large, too slow to read or glued to other things, seen from outside on a real server."""

import random
from contextlib import AsyncExitStack

import pytest
import trio

from tests.io.transport_kit import reset
from tests.threats.answers_kit import (
    GET,
    SMUGGLED,
    acceptance,
    handshake_with,
    orderly_rest,
    receive_refusal,
    refusal,
    request_with,
)
from tests.threats.frame_kit import HELLO
from tests.threats.threat_kit import DEFLATE, KIBI, MEBI, Victim, victim_of
from trio_ws.testing import handshake_request

#: Seconds of CPU that the costliest of these requests may take; an honest one takes a thousandth of it.
COSTLY = 1.0


def many(count: int, line: bytes = b"X-%d: a\r\n") -> bytes:
    return b"".join(line % number for number in range(count))


# Size

TOO_LARGE = {
    "20000 headers": (GET + many(20000) + b"\r\n", 431),
    "20000 headers of one name": (GET + b"X: a\r\n" * 20000 + b"\r\n", 431),
    "20000 headers before those of the handshake": (
        b"GET / HTTP/1.1\r\n" + many(20000) + handshake_request().partition(b"\r\n")[2],
        431,
    ),
    "20000 headers without an end": (GET + many(20000), 431),
    "101 headers": (GET + many(100) + b"\r\n", 431),
    "a header of 2 MiB": (GET + b"X: " + b"a" * 2 * MEBI + b"\r\n\r\n", 431),
    "a name of 2 MiB": (GET + b"a" * 2 * MEBI + b": a\r\n\r\n", 431),
    "a header of 2 MiB without an end": (GET + b"X: " + b"a" * 2 * MEBI, 431),
    "a target of 2 MiB": (b"GET /" + b"a" * 2 * MEBI + b" HTTP/1.1\r\n\r\n", 414),
    "a method of 2 MiB": (b"A" * 2 * MEBI, 414),
    "a head of 40 KiB": (GET + many(40, b"X-%d: " + b"a" * 1000 + b"\r\n") + b"\r\n", 431),
    "a header of 8 KiB": (GET + b"X: " + b"a" * 8192 + b"\r\n\r\n", 431),
}  # fmt: skip


async def test_a_head_that_is_too_large_is_refused_and_not_kept(target: Victim) -> None:
    """The client reads its answer in good order though it has sent megabytes more than anyone looked at."""
    with target.bounded(8 * MEBI):
        answers = {name: (await refusal(target, data)).status for name, (data, _) in TOO_LARGE.items()}
    assert answers == {name: status for name, (_, status) in TOO_LARGE.items()}


async def test_a_line_is_refused_as_soon_as_it_is_too_long(target: Victim) -> None:
    for start, status in ((b"GET /", 414), (GET + b"X: ", 431), (GET + b"a", 431)):
        async with target.dialled() as peer:
            await peer.send(start + b"a" * 8192)  # nothing follows, and nothing else is waited for
            assert (await receive_refusal(peer)).status == status


async def test_a_head_that_never_ends_is_cut_and_not_kept(target: Victim) -> None:
    for data in (b"a" * 64 * KIBI, many(5000), b"X: a\r\n" * 10000, b"\r\n" * 32768):
        async with target.dialled() as peer:
            with target.bounded(8 * MEBI), trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
                await peer.send(GET)
                while True:
                    await peer.send(data)


async def test_what_never_ends_behind_a_refused_request_is_cut_and_not_kept(target: Victim) -> None:
    async with target.dialled() as peer:
        with target.bounded(8 * MEBI), trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await peer.send(handshake_with({"Upgrade": None}))
            while True:
                await peer.send(bytes(64 * KIBI))


async def test_a_hundred_heads_that_do_not_end_are_what_their_limit_says(target: Victim) -> None:
    async with AsyncExitStack() as stack:
        with target.bounded(100 * 2 * 32 * KIBI + 4 * MEBI):
            for _ in range(100):
                peer = await stack.enter_async_context(target.dialled())
                for _ in range(31):
                    await peer.send(b"GET / HTTP/1.1\r\nX: ".ljust(KIBI - 2, b"a") + b"\r\n")
            await target.serves()


# Time of computing

HARD = {
    "spaces": b" " * 7000,
    "spaces and a letter": b" " * 7000 + b"a",
    "a letter, spaces and a letter": b"a" + b" " * 7000 + b"a",
    "tabs": b"\t" * 7000,
    "backslashes": b'a; b="' + b"\\" * 7000,
    "backslashes in quotes": b'a; b="' + b"\\" * 7000 + b'"',
    "quotes": b'"' * 7000,
    "quoted quotes": b'a; b="' + b'\\"' * 3500,
    "commas": b"," * 7000,
    "commas and spaces": b", " * 3500,
    "semicolons": b"a" + b";" * 7000,
    "semicolons and spaces": b"a" + b" ; " * 2300,
    "parameters": b"a" + b"; b" * 2300,
    "equals signs": b"a; b" + b"=" * 7000,
    "letters": b"a" * 7000,
    "list": b"a," * 3500,
    "offers": b"permessage-deflate," * 360,
    "digits": b"permessage-deflate; client_max_window_bits=" + b"1" * 7000,
    "colons": b":" * 7000,
    "brackets": b"[" * 7000,
    "slashes": b"http://" + b"/" * 6900,
    "percent signs": b"%" * 7000,
    "dots": b"http://" + b"a." * 3400,
    "FF": b"\xff" * 7000,
}  # fmt: skip
PLACES = [
    *("Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Origin"),
    *("Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Cookie", "Forwarded"),
]


@pytest.mark.parametrize("name", PLACES)
async def test_no_value_of_a_header_is_hard_to_read(target: Victim, name: str) -> None:
    """Each of them three times over: what is quadratic in a value would take minutes."""
    before = target.cpu
    for value in HARD.values():
        for _ in range(3):
            async with target.dialled() as peer:
                await peer.send(request_with(b"%s: %s" % (name.encode(), value), without=[name]))
                with trio.fail_after(5):
                    assert (await peer.receive_head()).startswith(b"HTTP/1.1 ")
    assert target.cpu - before < COSTLY


async def test_heads_in_segments_of_one_byte_take_linear_time(target: Victim) -> None:
    head = handshake_with({"X-Long": "a" * 3 * KIBI})
    before = target.cpu
    for data, good in ((head, True), (GET + b"X: " + b"a" * 3 * KIBI + b"\r\n b\r\n\r\n", False)):
        async with target.dialled() as peer:
            with trio.fail_after(20):
                for byte in data:
                    await peer.send(bytes([byte]))
                    await trio.lowlevel.checkpoint()
                if good:
                    assert (await peer.receive_head()).startswith(b"HTTP/1.1 101 ")
                else:
                    assert (await receive_refusal(peer)).status == 400
    assert target.cpu - before < 1.5


# What stands behind the head


def announcing(*lines: bytes) -> bytes:
    return request_with(*lines) + SMUGGLED * 3


BODIES = {
    "a length": request_with(b"Content-Length: 5") + b"hello" + SMUGGLED,
    "a length of the second request": announcing(b"Content-Length: %d" % len(SMUGGLED)),
    "chunks": request_with(b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "chunks in capitals": announcing(b"Transfer-Encoding: CHUNKED"),
    "both": announcing(b"Transfer-Encoding: chunked", b"Content-Length: 0"),
    "both, the other way round": announcing(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "two lengths": announcing(b"Content-Length: 0", b"Content-Length: 5"),
    "two equal lengths": announcing(b"Content-Length: 5", b"Content-Length: 5"),
    "lengths in a list": announcing(b"Content-Length: 5, 5"),
    "a length with a sign": announcing(b"Content-Length: +5"),
    "a negative length": announcing(b"Content-Length: -5"),
    "a length in hexadecimal": announcing(b"Content-Length: 0x5"),
    "a length with a separator": announcing(b"Content-Length: 1_0"),
    "a length in other digits": announcing(b"Content-Length: \xb2"),
    "an empty length": announcing(b"Content-Length:"),
    "a length of 4000 digits": announcing(b"Content-Length: " + b"9" * 4000),
    "identity": announcing(b"Transfer-Encoding: identity"),
    "gzip, chunked": announcing(b"Transfer-Encoding: gzip, chunked"),
    "chunked, chunked": announcing(b"Transfer-Encoding: chunked, chunked"),
    "chunked twice": announcing(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "xchunked": announcing(b"Transfer-Encoding: xchunked"),
    "chunked with a vertical tab": announcing(b"Transfer-Encoding:\x0bchunked"),
    "chunked behind a space": announcing(b"Transfer-Encoding : chunked"),
    "chunked and a folded line": announcing(b"Transfer-Encoding:", b" chunked"),
    "an expected body": announcing(b"Expect: 100-continue", b"Content-Length: 5"),
}  # fmt: skip


async def test_a_body_is_refused_and_what_follows_is_never_a_second_request(target: Victim) -> None:
    """`receive_refusal` sees to it that there is one answer and then the end."""
    for name, data in BODIES.items():
        answer = await refusal(target, data)
        assert answer.status in (400, 501), name


async def test_behind_any_refused_request_there_is_no_second_one(target: Victim) -> None:
    for fields in ({"Upgrade": None}, {"Sec-WebSocket-Version": "12"}, {"Host": "a b"}, {"Origin": "null"}):
        await refusal(target, handshake_with(fields) + SMUGGLED * 10)
        await refusal(target, handshake_with(fields) + handshake_request() + HELLO)


async def test_plain_requests_one_behind_the_other_get_one_answer(target: Victim) -> None:
    """A server without pages answers the first, and says that this is all."""
    await refusal(target, SMUGGLED * 1000)
    async with target.dialled() as peer:
        await peer.send(SMUGGLED)
        await peer.send(SMUGGLED)
        assert (await receive_refusal(peer)).status == 426


async def test_behind_the_handshake_nothing_is_http(target: Victim) -> None:
    """A request behind it is a frame that breaks the protocol."""
    async with target.dialled() as peer:
        await peer.send(handshake_request() + HELLO + SMUGGLED)
        await peer.receive_head()
        await peer.expect(1, b"hello")
        await peer.expect_close(1002)
        assert await orderly_rest(peer) == b""


async def test_frames_glued_to_the_request_are_received_wherever_they_are_cut(target: Victim) -> None:
    data = handshake_request() + HELLO + HELLO
    for cut in range(len(data) - 20, len(data)):
        async with target.dialled() as peer:
            with trio.fail_after(5):
                await peer.send(data[:cut])
                await peer.receive_head()
                await peer.send(data[cut:])
                await peer.expect(1, b"hello")
                await peer.expect(1, b"hello")


async def test_nothing_is_said_before_the_request_is_complete(target: Victim) -> None:
    """Neither "100 Continue" nor anything else; with its last byte there is the answer."""
    data = handshake_with({"Expect": "100-continue"})
    async with target.dialled() as peer:
        await peer.send(data[:-1])
        with trio.move_on_after(0.1):
            peer.received += await peer.stream.receive_some()
        assert not peer.received
        await peer.send(data[-1:])
        assert (await peer.receive_head()).startswith(b"HTTP/1.1 101 ")


async def test_any_damage_to_a_request_is_answered(target: Victim) -> None:
    """Bytes changed, left out, doubled and put in at random, by a source that begins with the same seed each time."""
    source = random.Random(6455)
    whole = handshake_with({"Origin": "http://localhost", "Sec-WebSocket-Extensions": DEFLATE}) + HELLO
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(source.randint(1, 4)):
            place = source.randrange(len(data))
            match source.randrange(4):
                case 0:
                    data[place] = source.randrange(256)
                case 1:
                    del data[place : place + source.randint(1, 20)]
                case 2:
                    data[place:place] = data[place : place + source.randint(1, 20)]
                case _:
                    data[place:place] = source.choice(
                        [b"\r", b"\n", b"\r\n", b"\0", b":", b",", b" ", b"\xff"]
                    )
        async with target.dialled() as peer:
            await peer.send(bytes(data))
            assert isinstance(peer.stream, trio.SocketStream)
            await peer.stream.send_eof()
            with trio.fail_after(5):
                assert (await orderly_rest(peer)).startswith(b"HTTP/1.1 "), bytes(data)


# Resets

STAGES = {
    "before a word": b"",
    "in the request line": b"GET / HT",
    "in a header": handshake_request()[:60],
    "before the last byte": handshake_request()[:-1],
    "behind the request": handshake_request(),
    "behind a message": handshake_request() + HELLO,
    "in a message": handshake_request() + HELLO[:-1],
    "behind a refused request": handshake_with({"Sec-WebSocket-Version": "12"}),
    "behind a bad one": b"nonsense\r\n\r\n",
    "behind a large one": GET + b"X: " + b"a" * 300 * KIBI,
}


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "later"])
async def test_resets_around_the_handshake_harm_nobody(target: Victim, waits: bool) -> None:
    before = target.descriptors

    async def leave(data: bytes) -> None:
        async with target.dialled() as peer:
            await peer.send(data)
            if waits:
                await trio.sleep(0.01)
            reset(peer.stream)

    for data in STAGES.values():
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(leave, data)
    await target.idle(3)
    assert target.descriptors <= before


async def test_who_reads_nothing_of_its_answer_is_left(target: Victim) -> None:
    """It half-closes, or it does not: either way the server has given the socket back soon."""
    before = target.descriptors
    async with target.dialled() as peer, target.dialled() as other:
        for each in (peer, other):
            await each.send(handshake_with({"Upgrade": None}))
        assert isinstance(other.stream, trio.SocketStream)
        await other.stream.send_eof()
        await target.released(before)


async def test_the_deflate_of_the_victim_is_on() -> None:
    """All of these attacks would miss it otherwise."""
    for compression in (False, True):
        with victim_of(compression=compression) as victim:
            async with victim.dialled() as peer:
                head = await peer.handshake(Sec_WebSocket_Extensions=DEFLATE)
                assert (b"permessage-deflate" in head) == compression
            await acceptance(victim, handshake_request())
