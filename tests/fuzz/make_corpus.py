"""Writes what every target begins with into its corpus, beside whatever was found since: `python tests/fuzz/make_corpus.py`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent))

from tests.fuzz.fuzz_kit import Target, target_names

if __name__ == "__main__":
    for name in target_names():
        target = Target(name)
        target.corpus.mkdir(parents=True, exist_ok=True)
        for seed, data in target.seeds().items():
            target.corpus.joinpath(seed).write_bytes(data)
