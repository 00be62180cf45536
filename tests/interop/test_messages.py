"""Messages, pings and pongs pass between us and other implementations; how connections begin and end is not known here.

The peers send every message back, so each test covers both directions.
"""

import hashlib
from collections.abc import AsyncGenerator, Callable

import pytest
import trio

from tests.interop.interop_kit import MAX_MESSAGE_SIZE, RELAY, Lane, Meeting, ping, send
from trio_ws import WebSocketConnection

# Both sides of each border between the forms of a frame's length (RFC 6455 5.2), and more than one read of a socket.
SIZES = [0, 1, 125, 126, 65535, 65536, 2**20]
# Characters of one, two, three and four bytes.
ALPHABET = "aé€𝄞"
PAYLOADS = [b"", b"1", bytes(range(131, 256))]
BURST = 1000
CROWD = 50


def make_text(size: int) -> str:
    """Return a text that takes `size` bytes."""
    whole, rest = divmod(size, len(ALPHABET.encode()))
    return ALPHABET * whole + "x" * rest


def make_bytes(size: int) -> bytes:
    """Return bytes of nearly every value, in a period that fits to no buffer."""
    return (bytes(range(5, 256)) * (size // 251 + 1))[:size]


def sign(message: str | bytes) -> tuple[type, int, str]:
    """Return what tells one message from another; unlike megabytes that differ, it can be printed."""
    raw = message.encode() if isinstance(message, str) else message
    return type(message), len(raw), hashlib.sha256(raw).hexdigest()


async def exchange(ws: WebSocketConnection, message: str | bytes) -> None:
    """Send a message and take it back."""
    await ws.send_message(message)
    assert sign(await ws.get_message()) == sign(message)


# --- Sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [make_text, make_bytes], ids=["text", "binary"])
async def test_messages_of_every_size_come_back(lane: Lane, make: Callable[[int], str | bytes]) -> None:
    async with lane.talk() as talk:
        for size in SIZES:
            await exchange(talk.ws, make(size))
        await talk.ws.aclose()


async def test_16_mebibytes_of_text_come_back(lane: Lane) -> None:
    async with lane.talk() as talk:
        await exchange(talk.ws, make_text(MAX_MESSAGE_SIZE))
        await talk.ws.aclose()


@pytest.mark.parametrize(
    "transport", ["tcp"], indirect=True
)  # text takes the same way, and more steps, on all others
async def test_16_mebibytes_of_binary_come_back(lane: Lane) -> None:
    async with lane.talk() as talk:
        await exchange(talk.ws, make_bytes(MAX_MESSAGE_SIZE))
        await talk.ws.aclose()


# --- Fragments ------------------------------------------------------------------------------------------------------

# aiohttp sends whole messages only.
sends_fragments = pytest.mark.parametrize("peer", ["ws", "websockets"], indirect=True)

TEXTS = ["a", "", "é€", "𝄞"]
BINARIES = [b"\x00", b"", b"\xff\xfe"]


async def test_our_fragments_are_one_text_for_the_peer(lane: Lane) -> None:
    async with lane.talk() as talk:
        await talk.ws.send_stream(TEXTS)
        assert await talk.ws.get_message() == "aé€𝄞"
        await talk.ws.send_stream(["", ""])
        assert await talk.ws.get_message() == ""
        await talk.ws.aclose()


async def test_our_fragments_are_one_binary_message_for_the_peer(lane: Lane) -> None:
    async with lane.talk() as talk:
        await talk.ws.send_stream(BINARIES)
        assert await talk.ws.get_message() == b"\x00\xff\xfe"
        await talk.ws.send_stream([make_bytes(2**17)] * 8)
        assert sign(await talk.ws.get_message()) == sign(make_bytes(2**17) * 8)
        await talk.ws.aclose()


@sends_fragments
async def test_the_peer_s_fragments_are_one_message_for_us(lane: Lane) -> None:
    async with lane.talk(send(*TEXTS), send(*BINARIES), send("", "")) as talk:
        assert await talk.ws.get_message() == "aé€𝄞"
        assert await talk.ws.get_message() == b"\x00\xff\xfe"
        assert await talk.ws.get_message() == ""
        await talk.ws.aclose()


@sends_fragments
async def test_the_peer_may_cut_text_inside_of_characters(lane: Lane) -> None:
    cut = [byte.to_bytes() for byte in ALPHABET.encode()]
    async with lane.talk(send(*cut, text=True), send(*cut, text=True)) as talk:
        assert await talk.ws.get_message() == ALPHABET
        async with talk.ws.receive_stream() as stream:
            pieces = [piece async for piece in stream]
        assert "".join(map(str, pieces)) == ALPHABET
        await talk.ws.aclose()


@sends_fragments
async def test_pings_pass_between_the_fragments_of_both_sides(lane: Lane) -> None:
    async def pieces(ws: WebSocketConnection) -> AsyncGenerator[str, None]:
        yield "before"
        await ws.ping(b"between")
        yield "after"

    async with lane.talk(send("before", None, "after")) as talk:
        assert await talk.ws.get_message() == "beforeafter"
        await talk.ws.send_stream(pieces(talk.ws))
        assert await talk.ws.get_message() == "beforeafter"
        await talk.ws.aclose()
        report = await talk.report()
    assert report.pongs == [""]


async def test_a_large_message_is_received_in_pieces(lane: Lane) -> None:
    message = make_bytes(2**22)
    async with lane.talk() as talk:
        await talk.ws.send_message(message)
        async with talk.ws.receive_stream() as stream:
            pieces = [piece async for piece in stream]
        await talk.ws.aclose()
    assert len(pieces) > 1
    assert sign(b"".join(piece for piece in pieces if isinstance(piece, bytes))) == sign(message)


# ws and aiohttp hand out whole messages only, so they cannot relay.
@pytest.mark.parametrize("peer", ["websockets"], indirect=True)
async def test_a_fragment_arrives_before_the_next_one_is_sent(lane: Lane) -> None:
    pieces = ["first ", "second ", "𝄞"]
    go_on, arrived = trio.open_memory_channel[str](0)

    async def wait_each() -> AsyncGenerator[str, None]:
        for piece in pieces:
            yield piece
            assert await arrived.receive() == piece

    async with lane.talk(RELAY) as talk, trio.open_nursery() as nursery:
        nursery.start_soon(talk.ws.send_stream, wait_each())
        async with talk.ws.receive_stream() as stream:
            async for piece in stream:
                await go_on.send(str(piece))
        await talk.ws.aclose()


# --- Pings ----------------------------------------------------------------------------------------------------------


async def test_the_peer_answers_our_pings(lane: Lane) -> None:
    async with lane.talk() as talk:
        for payload in PAYLOADS:
            assert await talk.ws.ping(payload) > 0
        await talk.ws.aclose()


async def test_we_answer_the_peer_s_pings(lane: Lane) -> None:
    async with lane.talk(*map(ping, PAYLOADS), send("done")) as talk:
        assert await talk.ws.get_message() == "done"
        await talk.ws.aclose()
        report = await talk.report()
    assert report.pongs == [payload.hex() for payload in PAYLOADS]


async def test_a_pong_that_nobody_asked_for_does_no_harm(lane: Lane) -> None:
    async with lane.talk() as talk:
        await talk.ws.pong(b"unasked")
        await exchange(talk.ws, "and on")
        await talk.ws.aclose()


# --- Many -----------------------------------------------------------------------------------------------------------


async def test_a_burst_of_messages_keeps_its_order(lane: Lane) -> None:
    burst = [f"é{number}" if number % 2 else number.to_bytes(2) for number in range(BURST)]
    found: list[str | bytes] = []

    async def send_all(ws: WebSocketConnection) -> None:
        for message in burst:
            await ws.send_message(message)

    async with lane.talk() as talk:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, talk.ws)
            while len(found) < BURST:
                found.append(await talk.ws.get_message())
        await talk.ws.aclose()
    assert found == burst


async def test_many_connections_at_once_keep_apart(lane: Lane) -> None:
    open_now: list[WebSocketConnection] = []
    all_open = trio.Event()
    ids: list[int] = []

    async def take_part(meeting: Meeting, number: int) -> None:
        talk = await meeting.talk(send(f"welcome {number}"))
        assert await talk.ws.get_message() == f"welcome {number}"
        open_now.append(talk.ws)
        if len(open_now) == CROWD:
            all_open.set()
        await all_open.wait()
        await exchange(talk.ws, f"I am {number}")
        await talk.ws.aclose(4000 + number)
        ids.append(talk.id)

    async with lane.meet() as meeting:
        async with trio.open_nursery() as nursery:
            for number in range(CROWD):
                nursery.start_soon(take_part, meeting, number)
        codes = [(await lane.peer.report(number)).code for number in ids]
    assert sorted(filter(None, codes)) == [4000 + number for number in range(CROWD)]
