"""What the benchmark programs have in common on the command line; knows nothing of what each of them does with it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .subjects import PROJECT, PURE, Subject

T = TypeVar("T")

#: Servers ping after 20 s and cut 20 s later; the load generator does not answer.
MAX_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Options:
    """What one run is to do.

    Attributes:
        rounds: how often each figure is measured; the median counts.
        seconds: how long one measurement takes.
        subjects: the names of what is measured, in order.
        works: the names of what is asked, in order.
        quick: whether this is only to see that everything works.
        json: where to write all measurements; None for nowhere.
        out: the folder for the tables and plots; None for none.
    """

    rounds: int
    seconds: float
    subjects: tuple[str, ...]
    works: tuple[str, ...]
    quick: bool
    json: Path | None
    out: Path | None


def make_parser(description: str, subjects: Iterable[str], works: Iterable[str]) -> argparse.ArgumentParser:
    """Return a parser for the options that all programs have."""
    parser = argparse.ArgumentParser(
        description=description,
        epilog="Peers are installed and the load generator is compiled on first use, under "
        "$XDG_CACHE_HOME/trio_ws-benchmarks (~/.cache); delete that folder for the latest versions. What counts are "
        "the ratios, in brackets: absolute figures drift with the machine.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=int, metavar="N", help="measurements of each figure, of which the median counts (3)")
    add("--seconds", type=float, metavar="S", help=f"length of a measurement (1.5, at most {MAX_SECONDS:g})")
    add("--only", metavar="NAME,...", help=f"what to measure, of {', '.join(subjects)}; all but {PURE.name}")
    add("--work", metavar="NAME,...", help=f"what to ask of it, of {', '.join(works)}; all")
    add("--pure", action="store_true", help=f"also measure {PROJECT.name} with TRIO_WS_ACCEL=0")
    add("--quick", action="store_true", help="one short round, only to see that everything works")
    add("--json", type=Path, metavar="FILE", help="write every measurement there")
    add("--out", type=Path, metavar="DIR", help="write the table, the measurements and the plots there")
    return parser


def parse_names(text: str | None, known: Mapping[str, T], default: Sequence[str]) -> tuple[str, ...]:
    """Return the names in a list, each once.

    Raises:
        ValueError: one of them is unknown.
    """
    if text is None:
        return tuple(default)
    names = tuple(dict.fromkeys(filter(None, (name.strip() for name in text.split(",")))))
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    if not names:
        raise ValueError("nothing to measure")
    return names


def parse_options(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    subjects: Mapping[str, Subject],
    works: Mapping[str, T],
) -> tuple[Options, argparse.Namespace]:
    """Read the command line; what is wrong with it is said there, and ends the program."""
    given = parser.parse_args(arguments)
    standard = [name for name in subjects if name != PURE.name or given.pure]
    rounds = given.rounds or (1 if given.quick else 3)
    seconds = given.seconds or (0.1 if given.quick else 1.5)
    try:
        names = parse_names(given.only, subjects, standard)
        asked = parse_names(given.work, works, list(works))
        if rounds < 1 or not 0 < seconds <= MAX_SECONDS:
            raise ValueError(f"at least one round, of more than 0 and at most {MAX_SECONDS:g} seconds")
        # Now, not when there is something to lose.
        for folder in filter(None, (given.out, given.json and given.json.parent)):
            folder.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if given.pure and PURE.name not in names:
        names = (*names, PURE.name)
    return Options(rounds, seconds, names, asked, given.quick, given.json, given.out), given
