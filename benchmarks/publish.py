"""Measure everything and write what the documentation shows; options are handed on to all six programs.

Takes about an hour, and a machine that has nothing else to do.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Last, so that an installed trio_ws is measured and not the sources beside this folder.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from benchmarks import broadcast, client, codec, compare, compressed, peak

PAGES = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"


def main() -> int:
    """Run the six programs one after another; return the exit status."""
    given = sys.argv[1:]
    rounds = [] if "--quick" in given else ["--rounds", "5"]
    common = ["--pure", *rounds, "--out", str(PAGES), *given]
    return max(
        compare.main(["--memory", *common]),
        compressed.main(common),
        broadcast.main(common),
        client.main(common),
        codec.main(common),
        peak.main(common),
    )


if __name__ == "__main__":
    sys.exit(main())
