"""What is compressed when it is sent, and that the peer gets what was sent whatever both sides have agreed on."""

from __future__ import annotations

import random
import threading
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.codec_kit import Codec, Seen, byte_by_byte, seen
from tests.protocol.deflate_kit import TAIL, every_engine
from trio_ws.protocol import MaskPool, PerMessageDeflate, Protocol, Role
from trio_ws.protocol._compressors import KEPT, Deflater, EngineName, Recipe

pytestmark = pytest.mark.usefixtures("codec_of_protocol")

MASKS = MaskPool(bytes)
RSV1 = 0x40
NOISE = random.Random(1).randbytes(100_000)
every_role = pytest.mark.parametrize("role", list(Role))


def agree(
    client: PerMessageDeflate | None = None, server: PerMessageDeflate | None = None
) -> dict[Role, Protocol]:
    """Return both sides of a connection."""
    client = client or PerMessageDeflate()
    accepted = (server or PerMessageDeflate()).accept_offer(client.offer())
    assert accepted is not None
    answer, at_server = accepted
    return {
        Role.CLIENT: Protocol(Role.CLIENT, masks=MASKS, extensions=(client.accept_response(answer),)),
        Role.SERVER: Protocol(Role.SERVER, masks=MASKS, extensions=(at_server,)),
    }


def other(role: Role) -> Role:
    return Role.CLIENT if role is Role.SERVER else Role.SERVER


def is_compressed(chunks: tuple[bytes, ...]) -> bool:
    return bool(chunks[0][0] & RSV1)


def size_of(chunks: tuple[bytes, ...]) -> int:
    return sum(map(len, chunks))


def forgetful(**more: Any) -> PerMessageDeflate:
    return PerMessageDeflate(server_no_context_takeover=True, client_no_context_takeover=True, **more)


# What is compressed


@every_role
@pytest.mark.parametrize(
    ("message", "compress", "expected"),
    [
        ("x" * 1023, None, False),
        ("x" * 1024, None, True),
        ("€" * 341, None, False),  # 1023 bytes
        ("€" * 342, None, True),  # 1026 bytes of 342 characters
        (b"x" * 1024, None, True),
        (bytearray(1024), None, True),
        (memoryview(bytes(1023)), None, False),
        ("x" * 100_000, False, False),
        (b"x" * 100_000, False, False),
        ("x", True, True),
        (b"", True, True),
        ("", None, False),
        (NOISE, None, True),
    ],
)
def test_messages_of_some_size_are_compressed(
    role: Role, message: Any, compress: bool | None, expected: bool
) -> None:
    sides = agree()
    chunks = sides[role].send_message(message, compress)
    assert is_compressed(chunks) is expected
    received = sides[other(role)].receive_data(b"".join(chunks))
    assert received == [message if isinstance(message, str) else bytes(message)]


@pytest.mark.parametrize("compress", [None, True])
def test_nothing_is_compressed_that_was_not_agreed_on(compress: bool | None) -> None:
    protocol = Protocol(Role.SERVER, masks=MASKS)
    assert protocol.deflater is None
    assert not is_compressed(protocol.send_message("x" * 10_000, compress))
    assert not is_compressed(protocol.send_fragment("x" * 10_000, False, compress))


def test_the_threshold_is_an_option() -> None:
    sides = agree(PerMessageDeflate(threshold=5), PerMessageDeflate(threshold=0))
    assert [is_compressed(sides[Role.CLIENT].send_message("x" * n)) for n in (4, 5)] == [False, True]
    assert is_compressed(sides[Role.SERVER].send_message(""))


@every_role
@pytest.mark.parametrize(
    ("first", "second", "compress", "expected"),
    [
        (10, 10_000, None, False),
        (10_000, 10, None, True),
        (0, 10_000, None, False),
        (10, 10, True, True),
        (0, 0, True, True),
        (10_000, 10, False, False),
    ],
)
def test_the_first_fragment_decides(
    role: Role, first: int, second: int, compress: bool | None, expected: bool
) -> None:
    sides = agree()
    frames = [
        sides[role].send_fragment("x" * first, False, compress),
        sides[role].send_fragment("y" * second, False),
        sides[role].send_fragment("", True),
    ]
    assert [is_compressed(frame) for frame in frames] == [expected, False, False]
    data = b"".join(b"".join(frame) for frame in frames)
    assert sides[other(role)].receive_data(data) == ["x" * first + "y" * second]
    # the next one is decided anew
    assert not is_compressed(sides[role].send_fragment(b"x", True))


def test_a_fragment_is_complete_without_the_next() -> None:
    sides = agree()
    sides[Role.SERVER].next_in_pieces()
    for text in ["one " * 300, "two ", "three"]:
        data = b"".join(sides[Role.CLIENT].send_fragment(text, False))
        [piece] = sides[Role.SERVER].receive_data(data)
        assert getattr(piece, "data", None) == text


@pytest.mark.parametrize("fragments", [1, 2, 3])
def test_an_empty_message_is_one_empty_block(fragments: int) -> None:
    # RFC 7692 7.2.3.6: nothing at all is no deflated data
    protocol = agree()[Role.SERVER]
    frames = [protocol.send_fragment(b"", place == fragments, True) for place in range(1, fragments + 1)]
    assert b"".join(frame[0][2:] for frame in frames) == b"\x00"
    assert protocol.send_message(b"", True)[0][2:] == b"\x00"


# Contexts


@every_role
def test_a_context_is_taken_over(role: Role) -> None:
    sides = agree()
    message = NOISE[:1100]
    sizes: list[int] = []
    for _ in range(5):
        chunks = sides[role].send_message(message)
        sizes.append(size_of(chunks))
        assert sides[other(role)].receive_data(b"".join(chunks)) == [message]
    assert all(size < 60 for size in sizes[1:])


@every_role
@pytest.mark.parametrize("shared", [True, False])
def test_a_context_is_forgotten_where_that_was_agreed_on(role: Role, shared: bool) -> None:
    sides = agree(forgetful(shared=shared), PerMessageDeflate(shared=shared))
    chunks = [sides[role].send_message(NOISE[:1100]) for _ in range(5)]
    assert {len(b"".join(each)) for each in chunks} == {size_of(chunks[0])}
    # so that each can be received by itself
    for each in reversed(chunks):
        assert sides[other(role)].receive_data(b"".join(each)) == [NOISE[:1100]]


@every_role
def test_incompressible_messages_leave_the_context_as_the_peer_has_it(role: Role) -> None:
    sides = agree()
    for message in (b"some text " * 200, NOISE, b"some text " * 200, NOISE[:2000], "some text " * 200):
        for compress in (None, False, True):
            chunks = sides[role].send_message(message, compress)
            assert sides[other(role)].receive_data(b"".join(chunks)) == [message]


def test_the_context_is_made_by_the_first_message_that_needs_it() -> None:
    deflater = agree()[Role.SERVER].deflater
    assert deflater is not None
    assert deflater.wants(2000, None)
    assert not deflater.has_context
    deflater.compress(b"")
    assert not deflater.has_context
    deflater.compress(b"x")
    assert deflater.has_context


@every_role
def test_a_context_may_be_released_at_any_time(role: Role) -> None:
    sides = agree()
    for number in range(6):
        frames = [sides[role].send_message("a message " * 200)]
        frames.append(sides[role].send_fragment("in " * 1000, False))
        if number % 2:
            sides[role].deflater.release()  # type: ignore[union-attr]  # it was agreed on
        frames.append(sides[role].send_fragment("pieces", False))
        frames.append(sides[role].send_fragment("", True))
        data = b"".join(b"".join(frame) for frame in frames)
        assert sides[other(role)].receive_data(data) == ["a message " * 200, "in " * 1000 + "pieces"]


@every_role
def test_a_connection_that_is_lost_has_no_contexts(role: Role) -> None:
    sides = agree()
    for near in Role:
        sides[other(near)].receive_data(b"".join(sides[near].send_message("x" * 2000)))
    protocol = sides[role]
    assert protocol.deflater is not None
    protocol.lose()
    assert not protocol.deflater.has_context


def test_all_connections_share_a_few_compressors() -> None:
    recipe = Recipe("zlib", 5, 14, 7, 0)
    shared = [Deflater(recipe, takeover=False, shared=True, threshold=0) for _ in range(100)]
    payloads = {deflater.compress(NOISE[:1000] * 2) for deflater in shared}
    assert len(payloads) == 1
    assert not any(deflater.has_context for deflater in shared)
    assert zlib.decompressobj(-15).decompress(payloads.pop() + TAIL) == NOISE[:1000] * 2


def test_threads_do_not_get_the_same_compressor() -> None:
    recipe = Recipe("zlib", 6, 15, 8, 0)
    messages = [bytes([number]) * 300_000 + NOISE for number in range(2 * KEPT)]
    results: dict[int, list[bytes]] = {}

    def compress(number: int) -> None:
        deflater = Deflater(recipe, takeover=False, shared=True, threshold=0)
        results[number] = [deflater.compress(messages[number]) for _ in range(3)]

    threads = [threading.Thread(target=compress, args=(number,)) for number in range(len(messages))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, message in enumerate(messages):
        for payload in results[number]:
            assert zlib.decompressobj(-15).decompress(payload + TAIL) == message


def test_no_more_shared_compressors_are_kept_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    # a message each of which is compressed inside another takes as many compressors as there are messages
    made: list[object] = []

    class Nested:
        def __init__(self) -> None:
            made.append(self)

        def compress(self, data: bytes) -> bytes:
            if len(data) > 1:
                deflater.compress(data[1:])
            return data

        def flush(self, mode: int) -> bytes:
            assert mode == zlib.Z_FULL_FLUSH
            return TAIL

    monkeypatch.setattr("trio_ws.protocol._compressors._idle", {})

    def make(_: Recipe) -> Nested:
        return Nested()

    monkeypatch.setattr(Recipe, "make", make)
    deflater = Deflater(Recipe("zlib", 1, 9, 1, 2), takeover=False, shared=True, threshold=0)
    for _ in range(2):
        assert deflater.compress(bytes(10)) == bytes(10)
    assert len(made) == 10 + (10 - KEPT)


# For any messages and terms

TAKEOVERS = st.sampled_from([None, True, False])
WINDOWS = st.sampled_from([None, None, False, *range(8, 16)])


def any_options(engine: EngineName) -> st.SearchStrategy[PerMessageDeflate]:
    return st.builds(
        PerMessageDeflate,
        server_no_context_takeover=TAKEOVERS,
        client_no_context_takeover=TAKEOVERS,
        server_max_window_bits=WINDOWS,
        client_max_window_bits=WINDOWS,
        level=st.sampled_from([None, 0, 1, 3]),
        mem_level=st.sampled_from([None, 1, 9]),
        threshold=st.sampled_from([0, 20, 1024]),
        shared=st.booleans(),
        engine=st.just(engine),
    )


PIECES = st.lists(
    st.tuples(st.binary(max_size=40), st.sampled_from([1, 1, 30, 1000])).map(lambda pair: pair[0] * pair[1]),
    min_size=1,
    max_size=4,
)


@every_engine
@given(data=st.data())
@settings(max_examples=150)
def test_whatever_is_sent_is_received(data: st.DataObject, engine: EngineName) -> None:
    client, server = data.draw(any_options(engine)), data.draw(any_options(engine))
    if server.accept_offer(client.offer()) is None:
        return
    if server.client_no_context_takeover and client.client_no_context_takeover is False:
        return  # the client refuses that
    sides = agree(client, server)
    for _ in range(data.draw(st.integers(1, 8))):
        role = data.draw(st.sampled_from(list(Role)))
        compress = data.draw(st.sampled_from([None, True, False]))
        pieces = data.draw(PIECES)
        if len(pieces) == 1:
            stream = b"".join(sides[role].send_message(pieces[0], compress))
        else:
            last = len(pieces) - 1
            stream = b"".join(
                b"".join(sides[role].send_fragment(piece, place == last, compress))
                for place, piece in enumerate(pieces)
            )
        if data.draw(st.booleans()):
            deflater = sides[role].deflater
            assert deflater is not None
            deflater.release()
        parts = byte_by_byte(stream) if len(stream) < 300 else [stream]
        found: list[Seen] = []
        for part in parts:
            found += seen(sides[other(role)].receive_data(part))
        assert found == [b"".join(pieces)]


@every_engine
@pytest.mark.parametrize("bits", range(8, 16))
@pytest.mark.parametrize("forgets", [False, True])
def test_the_peer_can_inflate_with_the_window_that_was_agreed_on(
    codec_of_protocol: Codec, bits: int, forgets: bool, engine: EngineName
) -> None:
    options = PerMessageDeflate(
        server_max_window_bits=bits, server_no_context_takeover=forgets or None, engine=engine, mem_level=9
    )
    sides = agree(PerMessageDeflate(), options)
    # zlib itself, with a window of these bits and not one more; what it remembers is what a peer of few bytes does
    peer = zlib.decompressobj(-bits)
    for size in (100, 240, 250, 255, 256, 300, 500, 1000, 40_000):
        message = NOISE[:size] * 3
        chunks = sides[Role.SERVER].send_message(message, True)
        frame = b"".join(chunks)
        payload = frame[2 if frame[1] < 126 else 4 if frame[1] == 126 else 10 :]
        if forgets:
            peer = zlib.decompressobj(-bits)
        assert peer.decompress(payload + TAIL) == message
