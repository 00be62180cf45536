"""Every example runs, and the README shows the examples as they are."""

import re
import socket
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

CHECKOUT = Path(__file__).parent.parent
CLIENT = CHECKOUT / "examples/echo_client.py"
SERVER = CHECKOUT / "examples/echo_server.py"


@pytest.fixture
def port() -> int:
    """Return a port that was free a moment ago, for the examples have theirs written in them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
        return number


def _load(path: Path, port: int) -> dict[str, Any]:
    """Return the names of an example, with its port changed."""
    source = path.read_text("utf-8")
    assert "8765" in source
    names: dict[str, Any] = {"__name__": path.stem}
    exec(compile(source.replace("8765", str(port)), path, "exec"), names)
    return names


async def test_client_and_server_talk(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_load(SERVER, port)["main"])
        await trio.testing.wait_all_tasks_blocked()
        await _load(CLIENT, port)["main"]()
        nursery.cancel_scope.cancel()
    assert capsys.readouterr().out == "hello\n"


def test_the_readme_shows_the_examples() -> None:
    readme = (CHECKOUT / "README.md").read_text("utf-8")
    assert re.findall(r"```python\n(.*?)```", readme, re.DOTALL) == [CLIENT.read_text(), SERVER.read_text()]
