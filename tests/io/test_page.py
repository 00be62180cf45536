"""The page of `python -m trio_ws serve` in Chromium, which is driven over trio_ws itself: its DevTools speak WebSocket."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from tests.io.cli_kit import server
from tests.io.transport_kit import PATIENCE
from trio_ws import WebSocketConnection, open_websocket_url

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium to show the page in")

FLAGS = [
    "--headless",
    "--no-sandbox",  # it refuses to run as root with one
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers often have hardly any
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--ignore-certificate-errors",  # the test's authority is in nobody's store
    "--remote-debugging-port=0",
]

# Resolves as soon as a condition holds; looks again at each change of the page.
UNTIL = """new Promise(resolve => {
  const check = () => { if (%s) { observer.disconnect(); resolve(); } };
  const observer = new MutationObserver(check);
  observer.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
  check();
})"""


class Page:
    """One page of the browser, over the Chrome DevTools Protocol.

    Attributes:
        complaints: what the browser logged as a warning or an error, and exceptions of scripts.
    """

    def __init__(self, ws: WebSocketConnection) -> None:
        self._ws = ws
        self._calls = 0
        self._session: dict[str, str] = {}
        self.complaints: list[str] = []

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._calls += 1
        await self._ws.send_message(
            json.dumps({"id": self._calls, "method": method, "params": params, **self._session})
        )
        while True:
            message = json.loads(await self._ws.get_message())
            if message.get("id") == self._calls:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(json.dumps(message["params"]))

    async def open(self, url: str) -> None:
        """Show the page at `url`."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        await self.call("Log.enable")
        await self.call("Runtime.enable")
        await self.call("Page.navigate", url=url)

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page; what it promises, once that is there."""
        done = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until a condition holds in the page."""
        await self.evaluate(UNTIL % condition)

    async def log(self, length: int) -> list[str]:
        """Return what stands in the page's log, once it has that many lines: their kinds and texts."""
        await self.until(f"document.querySelectorAll('#log li').length >= {length}")
        lines: list[str] = await self.evaluate(
            "[...document.querySelectorAll('#log li')].map("
            "line => `${line.className}: ${line.querySelector('span').textContent}`)"
        )
        return lines

    async def type(self, text: str) -> None:
        """Type a text and press Enter, wherever the focus is."""
        await self.call("Input.insertText", text=text)
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **enter)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **enter)

    async def click(self, element: str) -> None:
        """Click on the element with this id."""
        await self.evaluate(f"document.getElementById('{element}').click()")


@asynccontextmanager
async def chromium(folder: Path) -> AsyncGenerator[Page]:
    """Run a browser that keeps all it writes in `folder`."""
    with trio.fail_after(2 * PATIENCE):
        async with trio.open_nursery() as nursery:
            start = partial(
                trio.run_process,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                check=False,
                env={**os.environ, "HOME": str(folder)},
            )
            assert CHROMIUM is not None
            process: trio.Process = await nursery.start(
                start, [CHROMIUM, *FLAGS, f"--user-data-dir={folder}"]
            )
            assert process.stderr is not None
            said = b""
            while b"DevTools listening on ws://" not in said or not said.endswith(b"\n"):
                said += await process.stderr.receive_some()
            nursery.start_soon(_ignore, process.stderr)
            url = said.partition(b"DevTools listening on ")[2].split()[0].decode()
            async with open_websocket_url(url) as ws:
                yield Page(ws)
                await Page(ws).call("Browser.close")


async def _ignore(stream: trio.abc.ReceiveStream) -> None:
    async for _ in stream:
        pass


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_page_talks_to_its_server(scheme: str, tmp_path: Path) -> None:
    tls: list[str | Path] = []
    if scheme == "https":
        certificate = trustme.CA().issue_cert("127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
        tls = ["--tls", tmp_path / "both.pem"]
    async with server("--port", "0", *tls) as (process, url), chromium(tmp_path / "browser") as page:
        await page.open(url)
        log = ["note: open"]
        assert await page.log(1) == log
        assert await page.evaluate("document.getElementById('url').textContent") == url.replace("http", "ws")
        assert await page.evaluate("document.getElementById('state').textContent") == "open"

        await page.type("hällo <b>")
        log += ["sent: hällo <b>", "received: hällo <b>"]
        assert await page.log(3) == log

        await page.click("binary")
        await page.type("ä")
        log += ["sent: binary, 2 bytes: c3 a4", "received: binary, 2 bytes: c3 a4"]
        assert await page.log(5) == log

        await page.click("toggle")
        log += ["note: closed: 1000"]
        assert await page.log(6) == log
        assert await page.evaluate("document.getElementById('send').disabled")
        await page.click("toggle")
        log += ["note: open"]
        assert await page.log(7) == log

        assert await process.end(signal.SIGTERM) == 0
        log += ["note: closed: 1001"]
        assert await page.log(8) == log
        assert page.complaints == []

        await page.click("toggle")  # where nobody listens any more
        await page.until("document.getElementById('toggle').textContent === 'Open'")
        log += ["error: error", "note: closed: 1006 (not clean)"]
        assert await page.log(10) == log
        assert len(page.complaints) == 1
