"""Programs before and after their change to this library say the same; what else the guides tell is not known here."""

import sys
from difflib import ndiff
from pathlib import Path

import pytest
import trio

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "migration"
#: The programs, and the library that each of them comes from.
PROGRAMS = {"trio_websocket": "trio_websocket", "websockets": "websockets.trio"}


async def run(name: str) -> dict[str, list[str]]:
    """Return what a program prints, apart for client and server: which of both is first is up to the scheduler."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")]
    done = await trio.run_process(command, capture_stdout=True)
    lines = done.stdout.decode().splitlines()
    return {side: [line for line in lines if line.startswith(side)] for side in ("client: ", "server: ")}


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    """A program; skips the test where the library that it comes from is missing."""
    name = str(request.param)
    pytest.importorskip(PROGRAMS[name])
    return name


async def test_both_say_the_same(program: str) -> None:
    before, after = await run(f"{program}_before"), await run(f"{program}_after")
    assert before["client: "]
    assert before["server: "]
    assert before == after


def test_from_trio_websocket_only_the_import_changes() -> None:
    before, after = (
        (EXAMPLES / f"trio_websocket_{when}.py").read_text().splitlines() for when in ("before", "after")
    )
    changes = {line for line in ndiff(before, after) if line[0] in "+-"}
    assert changes == {"- from trio_websocket import (", "+ ", "+ from trio_ws import ("}
