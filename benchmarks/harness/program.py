"""How a benchmark program begins and ends; knows nothing of what each of them measures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from .install import UnavailableError
from .options import Options, parse_options
from .subjects import Subject

T = TypeVar("T")


def start(
    run: Callable[[Options, argparse.Namespace], int],
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    subjects: Mapping[str, Subject],
    works: Mapping[str, T],
) -> int:
    """Read the command line and do what it says; return the exit status, and say why nothing can be measured."""
    options, given = parse_options(parser, arguments, subjects, works)
    try:
        return run(options, given)
    except UnavailableError as error:
        print(f"cannot measure: {error}", file=sys.stderr)
        return 1
