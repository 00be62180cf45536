"""The page of parity: every row names tests and examples, and all of them exist; knows nothing of what they show."""

import re
from typing import NamedTuple

import pytest

from tests.page_kit import CHECKOUT, missing_tests, named_tests, read_rows


class Row(NamedTuple):
    """One feature: what others call it, how it is spelled here, the tests and the examples that show it."""

    feature: str
    spelling: str
    tests: str
    examples: str


ROWS = [Row(*cells) for cells in read_rows("docs/reference/parity.md", "feature", len(Row._fields))]


def test_the_page_has_rows() -> None:
    assert len(ROWS) > 100
    assert len({row.feature for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.feature)
def test_a_row_names_tests_that_exist(row: Row) -> None:
    # a row without a test is one that says what takes the feature's place
    assert named_tests(row.tests) or row.tests == "-"
    assert missing_tests(row.tests) == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.feature)
def test_a_row_names_examples_that_exist(row: Row) -> None:
    for name in re.findall(r"`([\w/]+\.py)`", row.examples):
        assert (CHECKOUT / "examples" / name).is_file(), f"there is no {name}"
    assert row.spelling
