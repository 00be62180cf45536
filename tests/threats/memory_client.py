"""A client in a process of its own, which says how much memory an evil server made it take; a script, run by tests.

Its arguments are a friendly URL, an evil one, what to do there, and options as JSON; what it has to say is JSON too.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import trio

from trio_ws import WebSocketConnection, open_websocket_url

STATUS = Path("/proc/self/status")


def kibibytes(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text("utf-8"))
    assert found
    return int(found[1])


def forget_peak() -> None:
    """Have the peak begin anew: proc(5)."""
    Path("/proc/self/clear_refs").write_text("5", "utf-8")


async def receive(ws: WebSocketConnection) -> None:
    """Take messages to the end."""
    while True:
        await ws.get_message()


async def wait(ws: WebSocketConnection) -> None:
    """Take none, and see what comes of it."""
    await trio.sleep(1)
    await ws.send_message("waited")
    ws.terminate()


async def close(ws: WebSocketConnection) -> None:
    """Leave; what comes of that is told by the end of the block."""
    await ws.aclose()


async def converse(url: str, deed: str, options: Any) -> str:
    """Return what came of it."""
    try:
        async with open_websocket_url(url, **options) as ws:
            await {"receive": receive, "wait": wait, "close": close}[deed](ws)
    except Exception as exc:  # noqa: BLE001 - which it is, is what the test asks
        sent = getattr(exc, "sent", None)
        return f"{type(exc).__name__} {sent.code}" if sent else type(exc).__name__
    return "nothing"


async def main(friendly: str, evil: str, deed: str, options: str) -> None:
    await converse(friendly, "receive", {})
    descriptors = len(os.listdir("/proc/self/fd"))
    before = kibibytes("VmRSS")
    forget_peak()
    outcome = await converse(evil, deed, json.loads(options))
    growth = (kibibytes("VmHWM") - before) / 1024
    left = len(os.listdir("/proc/self/fd")) - descriptors
    json.dump({"outcome": outcome, "growth": growth, "descriptors": left}, sys.stdout)


_, friendly, evil, deed, options = sys.argv
trio.run(main, friendly, evil, deed, options)
