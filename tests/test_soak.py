"""The long run notices what it is there to notice, and a short one of it finds nothing."""

import json
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from benchmarks import soak, soak_honest
from tests.io.api_kit import serving
from trio_ws import WebSocketConnection, WebSocketRequest

PROGRAM = Path(__file__).parent.parent / "benchmarks" / "soak.py"

Echo = Callable[[WebSocketConnection, str | bytes], Awaitable[None]]


async def keep_account(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Have one honest client talk to a server that echoes in its own way, and return the account."""
    monkeypatch.setattr(soak_honest, "PATIENCE", 0.3)
    ledger = soak_honest.Ledger()

    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        async for message in ws:
            await echo(ws, message)

    async with serving(handler) as server:
        client = soak_honest.Client(ledger, random.Random(1), 10_000)
        await client.converse(server.port, trio.current_time() + 0.5)
    return ledger.report()


async def honestly(ws: WebSocketConnection, message: str | bytes) -> None:
    await ws.send_message(message)


async def twice(ws: WebSocketConnection, message: str | bytes) -> None:
    await ws.send_message(message)
    await ws.send_message(message)


async def not_at_all(ws: WebSocketConnection, message: str | bytes) -> None:
    assert message


async def changed(ws: WebSocketConnection, message: str | bytes) -> None:
    await ws.send_message(message[:-1])


async def with_an_end(ws: WebSocketConnection, message: str | bytes) -> None:
    await ws.aclose(1011)


async def test_an_honest_server_has_a_clean_account(monkeypatch: pytest.MonkeyPatch) -> None:
    account = await keep_account(honestly, monkeypatch)
    assert account["delivered"] > 0
    assert {account[name] for name in ("lost", "duplicated", "changed", "broken")} == {0}
    assert account["latency_max_ms"] > 0


@pytest.mark.parametrize(
    ("echo", "fault"),
    [(twice, "duplicated"), (not_at_all, "lost"), (changed, "changed"), (with_an_end, "broken")],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_message_that_is_not_echoed_once_and_whole_is_noticed(
    echo: Echo, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await keep_account(echo, monkeypatch))[fault] > 0


WELL: dict[str, Any] = {
    "delivered": 1,
    **dict.fromkeys(("lost", "duplicated", "changed", "broken"), 0),
    **dict.fromkeys(("connections_left", "tasks_left", "descriptors_left", "errors_logged"), 0),
    "memory_half_kib": 50_000,
    "memory_peak_kib": 60_000,
}


@pytest.mark.parametrize(
    "worse",
    [
        {"delivered": 0},
        {"lost": 1},
        {"duplicated": 1},
        {"changed": 1},
        {"broken": 1},
        {"connections_left": 1},
        {"tasks_left": 10},
        {"descriptors_left": 10},
        {"errors_logged": 1},
        {"memory_peak_kib": 200_000},
    ],
    ids=lambda worse: next(iter(worse)),
)
def test_each_fault_makes_a_run_a_failure(worse: dict[str, Any]) -> None:
    assert soak.judge(WELL) == []
    assert len(soak.judge(WELL | worse)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the server is looked at through Linux's /proc")
def test_nothing_is_lost_in_a_short_run(tmp_path: Path) -> None:
    record = tmp_path / "report.json"
    options = ["--seconds", "8", "--honest", "30", "--mischief", "60", "--compression", "--json", str(record)]
    done = subprocess.run([sys.executable, PROGRAM, *options], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(record.read_text())
    assert report["faults"] == []
    assert report["delivered"] > 30
    assert sum(report["mischief_done"].values()) > 60
