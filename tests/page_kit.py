"""What the pages share that name tests: their tables, and whether what they name exists."""

import ast
import re
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent


def read_rows(page: str, header: str, width: int) -> list[list[str]]:
    """Return the rows of a page's tables, a list of cells each.

    Args:
        page: its path in the checkout.
        header: what the tables' first cell is.
        width: how many cells a row has.
    """
    rows: list[list[str]] = []
    for line in (CHECKOUT / page).read_text("utf-8").splitlines():
        if line.startswith("| ") and not line.startswith((f"| {header} ", "| ---")):
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            assert len(cells) == width, line
            rows.append(cells)
    return rows


def named_tests(cell: str) -> list[tuple[str, str]]:
    """Return the tests that a cell names, as files below tests/ and names, which are empty for a whole file."""
    return re.findall(r"`([\w/]+\.py)(?:::([\w:]+))?`", cell)


def missing_tests(cell: str) -> list[str]:
    """Return which of the tests that a cell names do not exist."""
    return [
        f"{file} {name}"
        for file, name in named_tests(cell)
        if not (CHECKOUT / "tests" / file).is_file() or (name and name not in _tests_in(file))
    ]


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
