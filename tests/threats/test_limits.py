"""The page of limits: what it says is what the code has, and its memory is what the formula says; attacks nobody."""

import importlib
from dataclasses import fields
from pathlib import Path

import pytest

from tests.threats.memory_kit import WorstCase
from tests.threats.threat_kit import KIBI
from trio_ws import ServerOptions
from trio_ws._config import ClientConfig, Config, ServerConfig
from trio_ws.protocol import Limits

PAGE = (Path(__file__).parents[2] / "docs/reference/limits.md").read_text("utf-8")

#: The rows of the table of memory, by their names.
CASES = {
    "text": WorstCase(),
    "binary, or `text_as_bytes`": WorstCase(text=False),
    "text, compressed": WorstCase(compression=True),
    "binary, compressed": WorstCase(text=False, compression=True),
    "`max_message_size` and `message_queue_bytes` of 64 KiB, `text_as_bytes`": WorstCase(
        text=False, max_message_size=64 * KIBI, message_queue_bytes=64 * KIBI
    ),
}


def rows(heading: str) -> list[list[str]]:
    """Return the rows of the table under a heading."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = section.rpartition("| --- |")[2]
    return [
        [cell.strip() for cell in line[1:-1].split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    ]


OPTIONS = {row[0].strip("`"): row[1] for row in rows("Options")}
CONSTANTS = {row[0].strip("`"): row[1] for row in rows("Constants")}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_has_the_default_that_the_page_says(name: str) -> None:
    defaults = {
        each.name: each.default
        for config in (Config, ServerConfig, ClientConfig)
        for each in fields(config)
        if each.init
    }
    assert repr(defaults[name]) == OPTIONS[name]


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_has_the_value_that_the_page_says(name: str) -> None:
    place, _, constant = name.rpartition(".")
    owner = Limits() if place == "Limits" else importlib.import_module(f"trio_ws.{place}")
    assert repr(getattr(owner, constant)) == CONSTANTS[name]


def test_no_option_that_is_a_limit_is_missing() -> None:
    bounds = {
        name for name in ServerOptions.__annotations__ if name.startswith("max_") or name.endswith("_rate")
    }
    numbers = {
        each.name
        for config in (ServerConfig, ClientConfig)
        for each in fields(config)
        if isinstance(each.default, int | float) and not isinstance(each.default, bool)
    }
    assert (numbers | bounds) - {"protocol_version"} <= set(OPTIONS)
    assert {each.name for each in fields(Limits)} <= set(OPTIONS) | {
        name.removeprefix("Limits.") for name in CONSTANTS
    }


def test_what_is_a_limit_has_an_answer() -> None:
    for row in [*rows("Options"), *rows("Constants")]:
        assert len(row) == 5, row
        assert all(row), row


def test_the_memory_of_a_connection_is_what_the_formula_says() -> None:
    table = {row[0]: row[1:] for row in rows("What one connection can take")}
    assert list(table) == list(CASES)
    for name, case in CASES.items():
        assert table[name] == [str(-(-size // KIBI)) for size in (*case.parts.values(), case.total)], name
    assert [line.split("|")[1].strip() for line in _formulas()] == list(WorstCase().parts)


def _formulas() -> list[str]:
    table = PAGE.split("| part | formula |\n| --- | --- |\n")[1].split("\n\n")[0]
    return table.splitlines()
