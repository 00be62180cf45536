"""What compression costs and saves, by window and memory level: bytes, CPU time and memory; knows no connections.

`python -m benchmarks.compression` prints a table for each size of message, in Markdown. CPU time is the lowest of
several rounds, for whatever else the machine does only adds to it.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.harness.frames import make_messages
from trio_ws.protocol import Deflater, PerMessageDeflate

SIZES = (400, 4096, 65536)
ROUNDS = 5
MESSAGES = 40

#: Window bits and memory levels: from what little memory allows up to zlib's own defaults.
SETTINGS = ((9, 1), (10, 4), (11, 5), (12, 5), (13, 6), (15, 8))


class Cost(NamedTuple):
    """What compressing messages of one size costs: bytes left of a hundred, microseconds each."""

    percent: float
    microseconds: float


def make_deflater(bits: int, mem_level: int, level: int, takeover: bool) -> Deflater:
    """Return what a server sends through."""
    options = PerMessageDeflate(
        server_max_window_bits=bits,
        server_no_context_takeover=None if takeover else True,
        mem_level=mem_level,
        level=level,
        shared=False,
    )
    accepted = options.accept_offer([])
    assert accepted is not None
    return accepted[1].deflater()


def measure_cost(messages: list[bytes], make: Callable[[], Deflater]) -> Cost:
    """Compress every message, several times over."""
    best, size = float("inf"), 0
    for _ in range(ROUNDS):
        deflater = make()
        started = time.process_time()
        size = sum([len(deflater.compress(message)) for message in messages])
        best = min(best, time.process_time() - started)
    return Cost(100 * size / sum(map(len, messages)), best / len(messages) * 1e6)


def measure_memory(make: Callable[[], object], number: int = 20) -> float:
    """Return the KiB that each of some objects takes."""
    tracemalloc.start()
    kept = [make() for _ in range(number)]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return size / number / 1024


def measure_compressor(bits: int, mem_level: int, level: int) -> float:
    """Return the KiB of a compressor that has been used."""

    def used() -> Deflater:
        deflater = make_deflater(bits, mem_level, level, takeover=True)
        deflater.compress(b"used")
        return deflater

    return measure_memory(used)


def measure_decompressor(bits: int) -> float:
    """Return the KiB of a decompressor that has been used."""
    compressor = zlib.compressobj(wbits=-15)
    payload = compressor.compress(bytes(2**16)) + compressor.flush(zlib.Z_SYNC_FLUSH)

    def used() -> object:
        decompressor = zlib.decompressobj(-bits)
        decompressor.decompress(payload, 100)
        return decompressor

    return measure_memory(used)


def print_tables(level: int) -> None:
    """Print everything."""
    print("| window bits / memory level | compressor KiB | decompressor KiB |\n|---|---|---|")
    for bits, mem_level in SETTINGS:
        compressor = measure_compressor(bits, mem_level, level)
        print(f"| {bits} / {mem_level} | {compressor:.0f} | {measure_decompressor(bits):.0f} |")
    for size in SIZES:
        messages = make_messages(size, MESSAGES)
        print(f"\n{size} bytes of JSON, level {level}\n")
        print("| window bits / memory level | with takeover: %, us | without: %, us |\n|---|---|---|")
        for bits, mem_level in SETTINGS:
            costs = [
                measure_cost(messages, lambda: make_deflater(bits, mem_level, level, takeover))  # noqa: B023 - called at once
                for takeover in (True, False)
            ]
            cells = " | ".join(f"{cost.percent:.1f}, {cost.microseconds:.0f}" for cost in costs)
            print(f"| {bits} / {mem_level} | {cells} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--level", type=int, default=6, help="how hard to try, 0 to 9; 6 by default")
    print_tables(parser.parse_args().level)
