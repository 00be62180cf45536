"""The examples of connecting in special ways, each run against servers of this library."""

import re
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.examples.test_examples import EXAMPLES, run
from trio_ws import WebSocketRequest, WebSocketServer, serve_websocket

RELAY = """
import os, socket, sys, threading
host, port = sys.argv[1:]
with socket.create_connection((host, int(port))) as connection:
    def receive():
        while data := connection.recv(65536):
            os.write(1, data)
        os.close(1)
    threading.Thread(target=receive).start()
    while data := os.read(0, 65536):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
"""


class Site:
    """A server that sends some requests elsewhere, greets by what it is told, and echoes."""

    def __init__(self) -> None:
        self.locations: dict[str, str] = {}
        self.origins: list[str | None] = []

    async def handle(self, request: WebSocketRequest) -> None:
        headers = request.request.headers
        self.origins.append(headers.get("Origin"))
        if location := self.locations.get(request.path):
            await request.reject(307, extra_headers=[("Location", location)])
            return
        ws = await request.accept()
        if trace := headers.get("X-Trace-Id"):
            await ws.send_message(f"{trace} of {headers.get('Authorization')}")
        async for message in ws:
            await ws.send_message(message)


@asynccontextmanager
async def serving(site: Site) -> AsyncGenerator[str]:
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[WebSocketServer]) -> None:
            await serve_websocket(site.handle, "127.0.0.1", 0, None, origins=None, task_status=task_status)

        server: WebSocketServer = await nursery.start(serve)
        yield f"127.0.0.1:{server.port}"
        nursery.cancel_scope.cancel()


async def test_redirects(tmp_path: Path) -> None:
    site, other = Site(), Site()
    async with serving(site) as here, serving(other) as there:
        site.locations = {"/near": "/end", "/far": f"http://{there}/end", "/round": "/round"}
        assert await run("redirects", tmp_path, f"ws://{here}/near") == (
            f"307: on to ws://{here}/end\nconnected to ws://{here}/end: 42 of Basic YW5uOnNlY3JldA==\n"
        )
        assert await run("redirects", tmp_path, f"ws://{here}/far") == (
            f"307: on to ws://{there}/end\nconnected to ws://{there}/end: 42 of None\n"
        )
        printed = await run("redirects", tmp_path, f"ws://{here}/round")
        assert printed == f"/round: it leads back to ws://{here}/round\n"


async def test_own_transport(tmp_path: Path) -> None:
    (tmp_path / "relay.py").write_text(RELAY)
    async with serving(Site()) as here:
        command: list[str | Path] = [sys.executable, tmp_path / "relay.py"]
        assert await run("own_transport", tmp_path, f"ws://{here}/", *command) == "hello\n"


async def test_round_trip(monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock) -> None:
    autojump_clock.autojump_threshold = 0.05  # what the kernel moves takes real time
    site = Site()
    lines: list[str] = []
    scope = trio.CancelScope()

    def write_down(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            scope.cancel()

    names: dict[str, Any] = {"__name__": "round_trip", "print": write_down}
    exec(compile(EXAMPLES["round_trip"], "round_trip.py", "exec"), names)
    async with serving(site) as here:
        monkeypatch.setattr(sys, "argv", ["round_trip.py", f"ws://{here}/", "https://page.example"])
        with scope:
            await names["main"]()
    assert len(lines) == 3
    assert all(re.fullmatch(r"Round-trip time: \d+\.\d\d ms", line) for line in lines)
    assert site.origins == ["https://page.example"]
