"""Nothing grows faster than what comes: calls and bytes are counted for some of it, and for ten times as much."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TypeAlias

import pytest

from tests.protocol.codec_kit import (
    BINARY,
    CONTINUATION,
    MASK_KEY,
    PING,
    TEXT,
    Codec,
    Peer,
    byte_by_byte,
    xor,
)
from tests.protocol.handshake_kit import KEY, MASKS, a_request, an_answer
from trio_ws.protocol._codec import FRAME_LIMIT, Data, Decoder
from trio_ws.protocol._handshake import Request, Response
from trio_ws.protocol._handshake_client import ClientHandshake
from trio_ws.protocol._handshake_server import ServerHandshake
from trio_ws.protocol._limits import Limits
from trio_ws.protocol._protocol import Protocol
from trio_ws.protocol._state import Role

#: Of what is done in steps, and of what comes in one read, which takes several calls only when it is much.
SOME, ONE_READ = 200, 5_000

#: By how much one of ten times as many may cost more than one of some: what is done once is spread, and lists grow.
TOLERANCE = 1.25

#: How many times its size a message may take, the message that the application has included: it is collected and handed
#: out, or handed over and masked.
SHARE = 2.2

LIMITS = Limits(max_message_size=2**30)

Step: TypeAlias = Callable[[], object]


@contextmanager
def tracing() -> Generator[None]:
    gc.collect()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def count_calls(steps: Iterable[Step]) -> int:
    """Run the steps and return how many functions they called, of Python or C."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        for step in steps:
            step()
    finally:
        sys.setprofile(before)
    return count


def count_bytes(steps: Iterable[Step]) -> int:
    """Run the steps and return how many bytes of memory they took at the peak of each: what is copied is among them."""
    total = 0
    with tracing():
        for step in steps:
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            step()
            total += tracemalloc.get_traced_memory()[1] - before
    return total


every_count = pytest.mark.parametrize("count", [count_calls, count_bytes], ids=["calls", "bytes"])


def check_growth(
    count: Callable[[Iterable[Step]], int], make: Callable[[int], Iterable[Step]], some: int
) -> None:
    """Assert that one of ten times as many takes what one of some takes; what is done before everything is not counted."""
    count(make(some))
    few, many = count(make(some)) / some, count(make(10 * some)) / (10 * some)
    assert many <= TOLERANCE * few, f"{few:.1f} for each of {some}, {many:.1f} for each of {10 * some}"


# What comes from the peer, in so many parts


def decode(decoder: Decoder, reads: Iterable[Data], expected: int) -> Iterator[Step]:
    """Yield the steps of decoding; that `expected` events come of them is asserted at the end."""
    found = 0

    def step(data: Data) -> None:
        nonlocal found
        found += len(decoder.decode(data))

    for read in reads:
        yield partial(step, read)
        while decoder.more:
            yield partial(step, b"")
    assert found == expected


def payload_in_bytes(codec: Codec, peer: Peer, number: int, *, character: str | bytes) -> Iterator[Step]:
    text = isinstance(character, str)
    size = len(character.encode()) if isinstance(character, str) else 1
    frame = peer.frame(TEXT if text else BINARY, character * (number // size))
    return decode(codec.decoder(peer, LIMITS), byte_by_byte(frame), 1)


def messages_in_bytes(codec: Codec, peer: Peer, number: int) -> Iterator[Step]:
    frames = peer.frame(BINARY, b"xy") * (number // 8)
    return decode(codec.decoder(peer, LIMITS), byte_by_byte(frames), number // 8)


def piece_in_bytes(codec: Codec, peer: Peer, number: int, *, opcode: int) -> Iterator[Step]:
    decoder = codec.decoder(peer, LIMITS)
    assert decoder.next_in_pieces() == []
    return decode(decoder, byte_by_byte(peer.frame(opcode, b"x" * number)), number)


def fragments(peer: Peer, number: int) -> list[bytes]:
    return [
        peer.frame(TEXT, b"x", fin=False),
        *[peer.frame(CONTINUATION, b"x", fin=False)] * (number - 2),
        peer.frame(CONTINUATION, b"x"),
    ]


def fragments_one_by_one(codec: Codec, peer: Peer, number: int) -> Iterator[Step]:
    return decode(codec.decoder(peer, LIMITS), fragments(peer, number), 1)


def fragments_in_one_read(codec: Codec, peer: Peer, number: int) -> Iterator[Step]:
    return decode(codec.decoder(peer, LIMITS), [b"".join(fragments(peer, number))], 1)


def pieces_in_one_read(codec: Codec, peer: Peer, number: int) -> Iterator[Step]:
    decoder = codec.decoder(peer, LIMITS)
    assert decoder.next_in_pieces() == []
    return decode(decoder, [b"".join(fragments(peer, number))], number)


def frames_in_one_read(codec: Codec, peer: Peer, number: int, *, opcode: int) -> Iterator[Step]:
    return decode(codec.decoder(peer, LIMITS), [peer.frame(opcode, b"xy") * number], number)


ARRIVALS = {
    "binary byte by byte": (partial(payload_in_bytes, character=b"x"), SOME),
    "ASCII byte by byte": (partial(payload_in_bytes, character="x"), SOME),
    "text byte by byte": (partial(payload_in_bytes, character="€"), SOME),
    "messages byte by byte": (messages_in_bytes, SOME),
    "binary in pieces of a byte": (partial(piece_in_bytes, opcode=BINARY), SOME),
    "text in pieces of a byte": (partial(piece_in_bytes, opcode=TEXT), SOME),
    "fragments one by one": (fragments_one_by_one, SOME),
    "fragments in one read": (fragments_in_one_read, ONE_READ),
    "pieces in one read": (pieces_in_one_read, ONE_READ),
    "messages in one read": (partial(frames_in_one_read, opcode=BINARY), ONE_READ),
    "texts in one read": (partial(frames_in_one_read, opcode=TEXT), ONE_READ),
    "pings in one read": (partial(frames_in_one_read, opcode=PING), ONE_READ),
}


@every_count
@pytest.mark.parametrize(("arrive", "some"), ARRIVALS.values(), ids=ARRIVALS)
def test_each_part_costs_the_same_however_many_come(
    codec: Codec,
    peer: Peer,
    arrive: Callable[[Codec, Peer, int], Iterable[Step]],
    some: int,
    count: Callable[[Iterable[Step]], int],
) -> None:
    check_growth(count, partial(arrive, codec, peer), some)


@pytest.mark.parametrize("number", [1, FRAME_LIMIT, 100_000])
def test_a_read_takes_a_call_for_each_hundreds_of_messages(codec: Codec, peer: Peer, number: int) -> None:
    calls = [step() for step in frames_in_one_read(codec, peer, number, opcode=BINARY)]
    assert len(calls) <= number // FRAME_LIMIT + 1


# What is sent


def send_messages(role: Role, number: int, *, message: str | bytes) -> Iterator[Step]:
    protocol = Protocol(role, masks=MASKS)
    for _ in range(number):
        yield partial(protocol.send_message, message)


def send_fragments(role: Role, number: int) -> Iterator[Step]:
    protocol = Protocol(role, masks=MASKS)
    for _ in range(number):
        yield partial(protocol.send_fragment, b"xy", False)


every_role = pytest.mark.parametrize("role", list(Role))


@every_count
@every_role
@pytest.mark.parametrize(
    "send",
    [partial(send_messages, message=b"xy"), partial(send_messages, message="€"), send_fragments],
    ids=["binary", "text", "fragments"],
)
def test_each_message_costs_the_same_however_many_are_sent(
    codec_of_protocol: Codec,
    role: Role,
    send: Callable[[Role, int], Iterable[Step]],
    count: Callable[[Iterable[Step]], int],
) -> None:
    check_growth(count, partial(send, role), SOME)


# The handshake


def receive_head(
    handshake: ServerHandshake | ClientHandshake, head: Callable[..., bytes], number: int
) -> Iterator[Step]:
    outcome: Request | Response | None = None

    def step(byte: bytes) -> None:
        nonlocal outcome
        outcome = handshake.receive_data(byte)

    for byte in byte_by_byte(head(x_long="x" * number)):
        yield partial(step, byte)
    assert outcome is not None
    assert outcome.headers.get("x-long") == "x" * number


def receive_request(number: int) -> Iterator[Step]:
    return receive_head(ServerHandshake(), a_request, number)


def receive_answer(number: int) -> Iterator[Step]:
    return receive_head(ClientHandshake(host="localhost", target="/", key=KEY), an_answer, number)


@every_count
@pytest.mark.parametrize("receive", [receive_request, receive_answer])
def test_each_byte_of_a_handshake_costs_the_same(
    receive: Callable[[int], Iterable[Step]], count: Callable[[Iterable[Step]], int]
) -> None:
    check_growth(count, receive, 800)


# Memory of one large message


def masked_pattern(peer: Peer, size: int) -> bytes:
    """Return as many bytes of payload as they come from the peer."""
    block = b"0123456789abcdef"
    return (xor(block, MASK_KEY) if peer.masked else block) * (size // len(block))


@pytest.mark.parametrize("opcode", [BINARY, TEXT], ids=["binary", "text"])
@pytest.mark.parametrize(
    ("size", "read"),
    [(2**13, 1), (2**15, 1), (2**20, 2**16), (2**23, 2**16), (2**20, 2**30), (2**23, 2**30)],
    ids=[
        "8 KiB by bytes",
        "32 KiB by bytes",
        "1 MiB in reads",
        "8 MiB in reads",
        "1 MiB whole",
        "8 MiB whole",
    ],
)
def test_a_message_that_is_received_takes_little_more_than_twice_its_size(
    codec: Codec, peer: Peer, opcode: int, size: int, read: int
) -> None:
    data = peer.header(opcode, size) + masked_pattern(peer, size)
    decoder = codec.decoder(peer, LIMITS)
    with tracing():
        received = [
            event for at in range(0, len(data), read) for event in decoder.decode(data[at : at + read])
        ]
        _, peak = tracemalloc.get_traced_memory()
    assert [len(event) for event in received if isinstance(event, str | bytes)] == [size]
    # besides one read, which is masked as a whole, in Python by integers
    assert peak <= SHARE * size + 8 * min(read, 2**16) + 2**12, f"{peak / size:.2f} times its size"


@pytest.mark.parametrize("opcode", [BINARY, TEXT], ids=["binary", "text"])
def test_nothing_is_left_of_a_message_that_was_received(codec: Codec, peer: Peer, opcode: int) -> None:
    data = peer.header(opcode, 2**20) + masked_pattern(peer, 2**20)
    decoder = codec.decoder(peer, LIMITS)
    with tracing():
        for _ in range(2):
            for at in range(0, len(data), 2**16):
                decoder.decode(data[at : at + 2**16])
        left, _ = tracemalloc.get_traced_memory()
    assert left <= 2**13


@every_role
@pytest.mark.parametrize("kind", [str, bytes])
@pytest.mark.parametrize("size", [2**20, 2**23], ids=["1 MiB", "8 MiB"])
def test_a_message_that_is_sent_takes_little_more_than_twice_its_size(
    codec_of_protocol: Codec, role: Role, kind: type[str | bytes], size: int
) -> None:
    protocol = Protocol(role, masks=MASKS)
    with tracing():
        message = "x" * size if kind is str else b"x" * size
        chunks = protocol.send_message(message)
        _, peak = tracemalloc.get_traced_memory()
    assert size < sum(map(len, chunks)) <= size + 14
    assert peak <= SHARE * size + 2**19, f"{peak / size:.2f} times its size"
