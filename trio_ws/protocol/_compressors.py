"""Deflating what is sent (RFC 7692 7.2.1), and the engines that do it; knows nothing of frames and negotiation.

With context takeover a connection has a compressor of its own, which remembers its last messages. Without, nothing is
remembered, and all connections share a few compressors, each lent to one message at a time: a compressor is the
dearest thing a connection can have.
"""

from __future__ import annotations

import importlib
import typing
import zlib
from typing import Final, Literal, TypeAlias, cast

EngineName: TypeAlias = Literal["zlib", "zlib-ng", "isal"]

#: What ends each message as it comes from the compressor, and is left out on the wire (RFC 7692 7.2.1).
TAIL: Final = b"\x00\x00\xff\xff"

#: An empty message on the wire (RFC 7692 7.2.3.6): with the tail it is one empty block.
EMPTY: Final = b"\x00"

#: Shared compressors of one kind that are kept while nobody uses them; threads may use as many more at once as they are.
KEPT = 4

#: Modules by the names of engines, and what to install for those that Python does not bring along.
ENGINES: dict[EngineName, tuple[str, str]] = {
    "zlib": ("zlib", ""),
    "zlib-ng": ("zlib_ng.zlib_ng", "zlib-ng"),
    "isal": ("isal.isal_zlib", "isal"),
}


class Compressor(typing.Protocol):
    """What an engine compresses with."""

    def compress(self, data: bytes, /) -> bytes:
        """Take bytes and return what came of them so far."""
        ...

    def flush(self, mode: int, /) -> bytes:
        """Return the rest."""
        ...


class Decompressor(typing.Protocol):
    """What an engine decompresses with."""

    @property
    def eof(self) -> bool:
        """Whether a last block has come, after which it takes nothing."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What came behind the last block."""
        ...

    @property
    def unconsumed_tail(self) -> bytes:
        """What was not looked at as there was enough to return."""
        ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Take bytes and return what they mean, `max_length` bytes at most."""
        ...


class Engine(typing.Protocol):
    """A module with the interface of Python's `zlib`."""

    error: type[Exception]

    def compressobj(self, level: int, method: int, wbits: int, memLevel: int, strategy: int, /) -> Compressor:  # noqa: N803 - zlib's name
        """Return a new compressor."""
        ...

    def decompressobj(self, wbits: int, /) -> Decompressor:
        """Return a new decompressor."""
        ...


def find_engine(name: EngineName) -> Engine:
    """Return the module of an engine.

    Raises:
        ImportError: it is not installed.
        ValueError: there is none of this name.
    """
    if name not in ENGINES:
        raise ValueError(f"engine is one of {', '.join(ENGINES)}, not {name!r}")
    module, package = ENGINES[name]
    try:
        return cast("Engine", importlib.import_module(module))
    except ImportError as error:
        raise ImportError(f"the engine {name} is not here: pip install {package}") from error


class Recipe(typing.NamedTuple):
    """What compressors are made by; equal ones make compressors that can stand in for each other."""

    engine: EngineName
    level: int
    window_bits: int
    mem_level: int
    strategy: int

    def make(self) -> Compressor:
        """Return a new compressor of bare deflate data."""
        engine = find_engine(self.engine)
        return engine.compressobj(self.level, zlib.DEFLATED, -self.window_bits, self.mem_level, self.strategy)

    def deflate(self, data: bytes) -> bytes:
        """Return the payload of a whole message that refers to nothing before it. May be called in any thread."""
        if not data:
            return EMPTY
        compressor = self.make()
        return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]


_idle: dict[Recipe, list[Compressor]] = {}


class Deflater:
    """What one connection sends through.

    Args:
        recipe: how its compressors are made.
        takeover: whether a message may refer to those before it.
        shared: whether it shares compressors with other connections, which only those can that take nothing over.
        threshold: size in bytes from which messages are worth compressing.

    Attributes:
        recipe: as above.
        takeover: as above.
        used: whether anything was compressed since somebody has set this to False.
    """

    __slots__ = ("_compressor", "_mode", "_pool", "_tail", "_threshold", "recipe", "takeover", "used")

    def __init__(self, recipe: Recipe, *, takeover: bool, shared: bool, threshold: int) -> None:
        self.recipe = recipe
        self.takeover = takeover
        self.used = False
        self._threshold = threshold
        # A full flush makes the compressor forget, so that what follows refers to nothing before it: every message, and
        # every fragment, can then be inflated by itself, as whoever takes nothing over needs it.
        self._mode = zlib.Z_SYNC_FLUSH if takeover else zlib.Z_FULL_FLUSH
        self._pool = _idle.setdefault(recipe, []) if shared else None
        self._compressor: Compressor | None = None
        self._tail = b""  # what the last fragment ended in; it goes out with the next, if there is one

    @property
    def has_context(self) -> bool:
        """Whether it has a compressor of its own, which takes memory."""
        return self._compressor is not None

    def wants(self, size: int, compress: bool | None) -> bool:
        """Say whether a message of `size` bytes is to be compressed: if `compress` does not say, by its size."""
        return size >= self._threshold if compress is None else compress

    def compress(self, data: bytes) -> bytes:
        """Return the payload of a whole message. May be called in any thread, in one at a time."""
        return self._run(data)[: -len(TAIL)] if data else EMPTY

    def compress_fragment(self, data: bytes, first: bool, final: bool) -> bytes:
        """Return the payload of a fragment, complete as far as this goes, so that the peer need not wait for the next."""
        if first:
            self._tail = b""
        payload = b""
        if data:
            payload = self._tail + self._run(data)[: -len(TAIL)]
            self._tail = TAIL
        return EMPTY if final and not self._tail else payload

    def _run(self, data: bytes) -> bytes:
        self.used = True
        if self._pool is None:
            compressor = self._compressor = self._compressor or self.recipe.make()
            return compressor.compress(data) + compressor.flush(self._mode)
        # taking from and adding to a list is one step each, so that no two threads get the same one
        try:
            compressor = self._pool.pop()
        except IndexError:
            compressor = self.recipe.make()
        result = compressor.compress(data) + compressor.flush(self._mode)
        if len(self._pool) < KEPT:
            self._pool.append(compressor)
        return result

    def release(self) -> None:
        """Give back the memory of the compressor. Always safe: a fresh one refers to nothing before it."""
        self._compressor = None
