"""Masks: both kernels against the words of RFC 6455 5.3, and the pool that hands each of its bytes out once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.codec_kit import Codec, xor
from trio_ws.protocol._mask import MaskPool

MASK = b"\x00\x80\x01\xff"
MASKS = st.binary(min_size=4, max_size=4)


def apply_mask(codec: Codec, data: bytes, mask: bytes, *places: int | None) -> bytes:
    masked: bytes = codec.kernel.apply_mask(data, mask, *places)
    assert type(masked) is bytes
    return masked


def append_masked(codec: Codec, target: bytearray, data: bytes, mask: bytes, start: int, end: int) -> None:
    assert codec.kernel.append_masked(target, data, mask, start, end) is None


@given(st.binary(max_size=300), MASKS)
def test_the_kernel_is_the_byte_loop(codec: Codec, data: bytes, mask: bytes) -> None:
    assert apply_mask(codec, data, mask) == xor(data, mask)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 255, 256, 65536, 1_000_003])
def test_the_kernel_at_every_size(codec: Codec, size: int) -> None:
    # zeros at either end are where whole numbers lose bytes
    for data in (bytes(size), bytes([255]) * size, bytes(size // 2) + b"x" * (size - size // 2)):
        assert apply_mask(codec, data, MASK) == xor(data, MASK)
        assert apply_mask(codec, data, bytes(4)) == data
        assert apply_mask(codec, data, b"") == data


def ranges(size: int) -> Iterator[tuple[int, int, int]]:
    """Yield every start and end within `size` bytes and a little behind them, and how many bytes lie between."""
    for start in range(size + 2):
        for end in range(size + 3):
            yield start, end, max(min(end, size) - start, 0)


@pytest.mark.parametrize("mask", [MASK, b""], ids=["mask", "no mask"])
def test_every_part_of_every_short_payload(codec: Codec, mask: bytes) -> None:
    payload = bytes(range(100, 171))
    for size in range(len(payload)):
        data = payload[:size]
        # the mask begins with the part, wherever the part begins
        expected = [xor(data[start:], mask) if mask else data[start:] for start in range(size + 2)]
        for start, end, length in ranges(size):
            assert apply_mask(codec, data, mask, start, end) == expected[start][:length]
            target = bytearray(b"content"[: size % 8])  # so that what is written is aligned in every way too
            before = len(target)
            append_masked(codec, target, data, mask, start, end)
            assert target[:before] == b"content"[:before]
            assert target[before:] == expected[start][:length]
        for start in range(size + 2):
            assert apply_mask(codec, data, mask, start) == expected[start]
            assert apply_mask(codec, data, mask, start, None) == expected[start]


@pytest.mark.parametrize("start", range(9))
def test_parts_of_a_large_payload(codec: Codec, start: int) -> None:
    data = bytes(range(251)) * 400
    for end in (len(data), len(data) - 1, len(data) - 5, len(data) + 1, 2**63 - 1):
        expected = xor(data[start:end], MASK)
        assert apply_mask(codec, data, MASK, start, end) == expected
        target = bytearray(b"content"[start:])
        append_masked(codec, target, data, MASK, start, end)
        assert target == b"content"[start:] + expected


def test_a_payload_grows_part_by_part(codec: Codec) -> None:
    # as a message in fragments does, far beyond the room that was made for it at first
    target = bytearray()
    expected = b""
    data = bytes(range(256)) * 3
    for number in range(500):
        start, end = number % 7, number % 700
        append_masked(codec, target, data, MASK, start, end)
        expected += xor(data[start:end], MASK)
        assert target == expected


@given(
    sizes=st.lists(st.integers(0, 3000), max_size=30),
    expected=st.integers(0, 10_000) | st.sampled_from([-(2**63), -1, 2**62, 2**63 - 1]),
    taken=st.integers(0, 3000),
)
def test_what_is_expected_is_room_and_nothing_else(
    codec: Codec, sizes: list[int], expected: int, taken: int
) -> None:
    # as much as a header announces, which need not come
    data = bytes(range(256)) * 12
    target, wanted = bytearray(), b""
    for size in sizes:
        codec.kernel.append_masked(target, data, MASK, 0, size, expected)
        wanted += xor(data[:size], MASK)
        assert target == wanted
        if len(target) > taken:
            del target[:taken]
            wanted = wanted[taken:]


def test_what_is_masked_is_another_object(codec: Codec) -> None:
    data = bytes(range(64))
    assert apply_mask(codec, data, MASK) is not data
    assert data == bytes(range(64))
    target = bytearray()
    append_masked(codec, target, data, b"", 0, 64)
    target[0] = 7
    assert data == bytes(range(64))


@pytest.mark.parametrize("mask", [MASK, b""], ids=["mask", "no mask"])
@pytest.mark.parametrize("start", [-1, -3, -64, -65, -(10**9), -(2**63)])
@pytest.mark.parametrize("end", [-1, -3, 0, 30, 64, 2**63 - 1, None])
def test_nothing_outside_of_the_payload_is_ever_read(
    codec: Codec, start: int, end: int | None, mask: bytes
) -> None:
    # negative places count from the end, as in every slice: they are no way to what lies before the payload in memory
    data = bytes(range(64))
    part = data[start:end]
    assert apply_mask(codec, data, mask, start, end) == (xor(part, mask) if mask else part)


@pytest.mark.parametrize("wrong", [None, "text", 5, 1.5])
def test_what_is_not_bytes_is_refused(codec: Codec, wrong: object) -> None:
    data = b"payload"
    for arguments in [(wrong, MASK), (wrong, MASK, 0, 3), (data, MASK, "1"), (data, MASK, 0, "3")]:
        with pytest.raises(TypeError):
            codec.kernel.apply_mask(*arguments)
    for arguments in [(wrong, data, MASK, 0, 3), (bytearray(), wrong, MASK, 0, 3)]:
        with pytest.raises(TypeError):
            codec.kernel.append_masked(*arguments)


@given(st.binary(max_size=300), MASKS)
def test_masking_twice_is_not_masking(codec: Codec, data: bytes, mask: bytes) -> None:
    assert apply_mask(codec, apply_mask(codec, data, mask), mask) == data


@given(st.binary(max_size=50), st.binary(max_size=50), MASKS)
def test_masking_goes_on_with_the_mask_turned(codec: Codec, head: bytes, tail: bytes, mask: bytes) -> None:
    turn = len(head) % 4
    assert apply_mask(codec, head + tail, mask) == apply_mask(codec, head, mask) + apply_mask(
        codec, tail, mask[turn:] + mask[:turn]
    )


class Source:
    """A source of random bytes that are the numbers 0, 1, 2, ... in four bytes each: no two masks can be equal."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.next = 0

    def __call__(self, size: int) -> bytes:
        self.asked.append(size)
        first, self.next = self.next, self.next + size // 4
        return b"".join(number.to_bytes(4, "big") for number in range(first, self.next))


def test_every_mask_is_handed_out_once_and_in_full() -> None:
    source = Source()
    pool = MaskPool(source)
    assert source.asked == []  # nothing is drawn before it is needed
    masks = [pool.take() for _ in range(10_000)]
    assert masks == [number.to_bytes(4, "big") for number in range(10_000)]
    assert source.asked == [8192] * 5  # one system call for 2048 masks


def test_after_forgetting_only_new_bytes_are_handed_out() -> None:
    # as after a fork, where the parent hands out what is in store
    source = Source()
    pool = MaskPool(source)
    pool.forget()
    assert pool.take() == bytes(4)
    for _ in range(100):
        pool.take()
    source.next = 5000
    pool.forget()
    assert source.asked == [8192]  # not drawn again before it is needed
    assert [pool.take() for _ in range(3000)] == [n.to_bytes(4, "big") for n in range(5000, 8000)]


@given(st.lists(st.integers(1, 5000), max_size=6))
def test_no_mask_comes_twice_however_often_the_pool_forgets(rounds: list[int]) -> None:
    pool = MaskPool(Source())
    taken: list[bytes] = []
    for count in rounds:
        taken += [pool.take() for _ in range(count)]
        pool.forget()
    assert len(set(taken)) == len(taken) == sum(rounds)
    assert {len(mask) for mask in taken} <= {4}
