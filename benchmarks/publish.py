"""Measure everything and write what the documentation shows; options are handed on to all three programs.

Takes some twenty minutes, and a machine that has nothing else to do.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Last, so that an installed trio_ws is measured and not the sources beside this folder.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from benchmarks import client, codec, compare

PAGES = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"


def main() -> int:
    """Run the three programs one after another; return the exit status."""
    common = ["--rounds", "5", "--out", str(PAGES), *sys.argv[1:]]
    return max(compare.main(["--memory", *common]), client.main(common), codec.main(common))


if __name__ == "__main__":
    sys.exit(main())
