"""The page of threats: every threat has its defence and its limit, and names tests that exist; not what they show."""

from typing import NamedTuple

import pytest

from tests.page_kit import missing_tests, named_tests, read_rows


class Row(NamedTuple):
    """One threat: what may happen, what prevents it, the tests that show it, and the number, code or time that holds."""

    threat: str
    defence: str
    tests: str
    limit: str


ROWS = [Row(*cells) for cells in read_rows("docs/explanation/threat-model.md", "threat", len(Row._fields))]
#: What there are: an evil server's ways, and faults inside of one process.
NUMBERED = [f"C{number:02}" for number in range(1, 21)] + [f"FI{number:02}" for number in range(1, 19)]


def test_the_page_has_rows() -> None:
    assert len(ROWS) > 100
    assert len({row.threat for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("number", NUMBERED)
def test_each_numbered_threat_has_a_row(number: str) -> None:
    assert any(row.threat.split()[0].rstrip(":,") == number for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.threat)
def test_a_threat_names_tests_that_exist(row: Row) -> None:
    # without a test there is what does not exist yet, and its row says so
    assert named_tests(row.tests) or row.tests == "open"
    assert missing_tests(row.tests) == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.threat)
def test_a_threat_has_a_defence_and_a_limit(row: Row) -> None:
    assert row.defence
    assert row.limit
