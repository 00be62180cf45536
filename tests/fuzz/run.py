"""Fuzzes one target by coverage, from its stored corpus on: `python tests/fuzz/run.py TARGET --seconds N`; knows no target.

A finding ends the run with an exit status other than 0, and the input is kept where the last lines say. Put it into
`corpus/TARGET/` once it is understood: the tests try all of it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent.parent
# last, so that what is fuzzed is the installed package, as in the tests
sys.path[:] = [
    entry for entry in sys.path if Path(entry or Path.cwd()).resolve() != Path(__file__).resolve().parent
]
sys.path.append(str(CHECKOUT))

from tests.fuzz.fuzz_kit import Target, target_names  # noqa: E402 - it lies in the checkout

# it is not there for every Python, and has no types for any
atheris: Any = importlib.import_module("atheris")


def _is_instrumented(module: ModuleType) -> bool:
    """Say whether atheris counts the branches of a module's functions and methods."""
    found = [*vars(module).values()]
    found += [each for kind in found if isinstance(kind, type) for each in vars(kind).values()]
    codes = [
        each.__code__
        for each in found
        if isinstance(each, FunctionType) and each.__module__ == module.__name__
    ]
    return any("_trace_branch" in code.co_names for code in codes)


def _tell() -> None:
    """Say which modules of the library the fuzzer sees into, and which compiled ones are run and compared with them."""
    modules = {name: module for name, module in sys.modules.items() if name.startswith("trio_ws.")}
    seen = [name for name, module in modules.items() if _is_instrumented(module)]
    sys.stderr.write(f"instrumented: {' '.join(sorted(seen))}\n")
    sys.stderr.write(f"compiled: {' '.join(sorted(name for name in modules if name.endswith('_c')))}\n")


def check(target: Target, data: bytes) -> None:
    """Have a target look at an input, and keep the input if it fails: libFuzzer does not always get that far."""
    try:
        target.check(data)
    except BaseException:
        Path(f"{target.name}-crash-{hashlib.sha1(data, usedforsecurity=False).hexdigest()}").write_bytes(data)
        raise


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz one target by coverage, from its stored corpus on.")
    parser.add_argument("target", choices=target_names())
    parser.add_argument(
        "--seconds", type=int, default=60, help="how long, 60 seconds by default; 0: without end"
    )
    parser.add_argument("--runs", type=int, default=-1, help="how many inputs at most, by default any number")
    parser.add_argument(
        "--timeout", type=int, default=10, help="seconds that one input may take, 10 by default"
    )
    parser.add_argument(
        "--rss", type=int, default=1024, help="MiB that the process may have, 1024 by default"
    )
    parser.add_argument(
        "--max-len", type=int, default=4096, help="bytes of the longest input, 4096 by default"
    )
    parser.add_argument("--keep", type=Path, help="where inputs that reach more are kept, by default nowhere")
    arguments = parser.parse_args()
    # What is compiled is not instrumented; its twin in Python is, and both run side by side.
    with atheris.instrument_imports(include=["trio_ws"]):
        target = Target(arguments.target)
    _tell()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        found = arguments.keep or Path(scratch, "corpus")
        found.mkdir(parents=True, exist_ok=True)
        options = {
            "max_total_time": arguments.seconds,
            "runs": arguments.runs,
            "timeout": arguments.timeout,
            "rss_limit_mb": arguments.rss,
            "max_len": arguments.max_len,
            "artifact_prefix": f"{target.name}-",
            "print_final_stats": 1,
        }
        flags = [f"-{name}={value}" for name, value in options.items()]
        atheris.Setup([sys.argv[0], *flags, str(found), str(target.corpus)], partial(check, target))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
