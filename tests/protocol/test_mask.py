"""Masks: the kernel against the words of RFC 6455 5.3, and the pool that hands each of its bytes out once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.codec_kit import xor
from trio_ws.protocol._mask import MaskPool, apply_mask

MASKS = st.binary(min_size=4, max_size=4)


@given(st.binary(max_size=300), MASKS)
def test_the_kernel_is_the_byte_loop(data: bytes, mask: bytes) -> None:
    assert apply_mask(data, mask) == xor(data, mask)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 255, 256, 65536, 1_000_003])
def test_the_kernel_at_every_size(size: int) -> None:
    # zeros at either end are where whole numbers lose bytes
    for data in (bytes(size), bytes([255]) * size, bytes(size // 2) + b"x" * (size - size // 2)):
        assert apply_mask(data, b"\x00\x80\x01\xff") == xor(data, b"\x00\x80\x01\xff")
        assert apply_mask(data, bytes(4)) == data


@given(st.binary(max_size=300), MASKS)
def test_masking_twice_is_not_masking(data: bytes, mask: bytes) -> None:
    assert apply_mask(apply_mask(data, mask), mask) == data


@given(st.binary(max_size=50), st.binary(max_size=50), MASKS)
def test_masking_goes_on_with_the_mask_turned(head: bytes, tail: bytes, mask: bytes) -> None:
    turn = len(head) % 4
    assert apply_mask(head + tail, mask) == apply_mask(head, mask) + apply_mask(
        tail, mask[turn:] + mask[:turn]
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
