"""What the targets share: choices and cuts that are made by the input itself, and coroutines that never wait.

A target is a module `fuzz_NAME.py`: the first line of its docstring states what holds for every input, its function
`check(data)` fails where it does not, and `seeds()` returns the inputs to begin with, by name.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import trio

FOLDER = Path(__file__).parent
#: Inputs that are always tried, in a folder for each target: what `seeds()` returns, and whatever was found since.
CORPUS = FOLDER / "corpus"

_Result = TypeVar("_Result")


def target_names() -> list[str]:
    """Return the names of all targets."""
    return sorted(
        path.stem.removeprefix("fuzz_") for path in FOLDER.glob("fuzz_*.py") if path != Path(__file__)
    )


class Target:
    """A target by its name."""

    def __init__(self, name: str) -> None:
        module = importlib.import_module(f"tests.fuzz.fuzz_{name}")
        self.name = name
        self.invariant: str = (module.__doc__ or "").partition("\n")[0]
        self.check: Callable[[bytes], None] = module.check
        self.seeds: Callable[[], Mapping[str, bytes]] = module.seeds

    @property
    def corpus(self) -> Path:
        return CORPUS / self.name


class Choices:
    """Choices made by the first bytes of an input; the rest is what it is about. Where bytes are missing they are zero."""

    def __init__(self, data: bytes, count: int) -> None:
        self._left = list(data[:count]) + [0] * (count - len(data))
        self.rest = data[count:]

    def byte(self) -> int:
        return self._left.pop(0)

    def one_of(self, *values: _Result) -> _Result:
        return values[self.byte() % len(values)]

    def flags(self, count: int) -> list[bool]:
        bits = self.byte()
        return [bool(bits >> place & 1) for place in range(count)]


def cut(data: bytes, seed: int) -> list[bytes]:
    """Cut `data` as `seed` says: 0 leaves it whole, 1 makes a piece of every byte, others cut anywhere."""
    if seed == 0 or not data:
        return [data]
    dice = random.Random(seed)
    pieces: list[bytes] = []
    position = 0
    while position < len(data):
        size = 1 if seed == 1 else dice.choice((1, 1, 2, 3, 5, 8, 17, 64, 300, 5000))
        pieces.append(data[position : position + size])
        position += size
    return pieces


def ways_to_cut(data: bytes, seed: int) -> list[list[bytes]]:
    """Return `data` whole, as `seed` cuts it, and byte by byte unless that would take long."""
    return [cut(data, choice) for choice in dict.fromkeys((0, seed, 1 if len(data) <= 512 else 2))]


def same(outcomes: Iterable[_Result]) -> _Result:
    """Return what all outcomes are."""
    first, *others = outcomes
    for other in others:
        assert other == first, f"{other!r} is not {first!r}"
    return first


class Pieces(trio.abc.Stream):
    """A stream on which pieces have come, and then the end; nothing on it ever waits."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self.taken = 0
        self.sent = b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces[0]
        size = len(piece) if max_bytes is None else min(max_bytes, len(piece))
        self._pieces[:1] = [piece[size:]] if size < len(piece) else []
        self.taken += size
        return piece[:size]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    async def wait_send_all_might_not_block(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


def result_of(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Return what a coroutine returns that never waits; outside of Trio, which would take longer than what it does."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: _Result = end.value
        return result
    coroutine.close()
    raise AssertionError("it waits")
