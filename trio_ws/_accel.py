"""Whether the compiled modules are used; knows their names, and nothing of what they do.

What handles every message is compiled where there was a compiler: each of these modules stands beside one in Python,
from which it was made. The environment variable ``TRIO_WS_ACCEL`` decides when this is imported: ``auto``, the default,
takes the compiled ones where they were built, all of them or none, ``1`` insists on them, ``0`` does without.
"""

from __future__ import annotations

import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

COMPILED = (
    "protocol/_mask_c",
    "protocol/_encode_c",
    "protocol/_codec_c",
    "protocol/_protocol_c",
    "transport/_base_c",
    "transport/_poller_c",
    "transport/_socket_c",
    "_inbox_c",
    "_ending_c",
    "_link_c",
)


def _is_here(module: str) -> bool:
    path = Path(__file__).parent / module
    return any(path.with_name(path.name + suffix).exists() for suffix in EXTENSION_SUFFIXES)


def _choose(wanted: str) -> bool:
    if wanted not in ("auto", "0", "1"):
        raise ImportError(f"TRIO_WS_ACCEL must be auto, 0 or 1, not {wanted!r}")
    if wanted == "0":
        return False
    missing = [module for module in COMPILED if not _is_here(module)]
    if missing and wanted == "1":
        raise ImportError(
            f"TRIO_WS_ACCEL=1 asks for the compiled modules, and {', '.join(missing)} are not here: reinstall trio_ws where "
            "there are a C compiler and Python's headers, or do without them by TRIO_WS_ACCEL=auto"
        )
    return not missing


#: Whether the compiled modules are used.
accelerated = _choose(os.environ.get("TRIO_WS_ACCEL", "auto"))
