"""The page of parity: every row names tests and examples, and all of them exist; knows nothing of what they show."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

CHECKOUT = Path(__file__).parent.parent
PAGE = (CHECKOUT / "docs/reference/parity.md").read_text("utf-8")


class Row(NamedTuple):
    """One feature: what others call it, how it is spelled here, the tests and the examples that show it."""

    feature: str
    spelling: str
    tests: str
    examples: str


def _rows() -> list[Row]:
    rows: list[Row] = []
    for line in PAGE.splitlines():
        if line.startswith("| ") and not line.startswith(("| feature ", "| ---")):
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            assert len(cells) == len(Row._fields), line
            rows.append(Row(*cells))
    return rows


ROWS = _rows()


@cache
def _tests_in(file: str) -> frozenset[str]:
    """Return the names of the tests of a file, methods as `Class::name`."""
    tree = ast.parse((CHECKOUT / "tests" / file).read_text("utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = {node.name for node in tree.body if isinstance(node, functions)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{item.name}" for item in node.body if isinstance(item, functions)}
    return frozenset(names)


def test_the_page_has_rows() -> None:
    assert len(ROWS) > 100
    assert len({row.feature for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.feature)
def test_a_row_names_tests_that_exist(row: Row) -> None:
    named = re.findall(r"`([\w/]+\.py)(?:::([\w:]+))?`", row.tests)
    assert named or row.tests == "-", "a row without a test is one that says what takes the feature's place"
    for file, name in named:
        assert not name or name in _tests_in(file), f"{file} has no {name}"
        assert name or (CHECKOUT / "tests" / file).is_file()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.feature)
def test_a_row_names_examples_that_exist(row: Row) -> None:
    for name in re.findall(r"`([\w/]+\.py)`", row.examples):
        assert (CHECKOUT / "examples" / name).is_file(), f"there is no {name}"
    assert row.spelling
