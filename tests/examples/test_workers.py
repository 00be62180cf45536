"""The example of a server in several processes."""

import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from trio_ws import open_websocket_url

SOURCE = (Path(__file__).parent.parent.parent / "examples" / "workers.py").read_text("utf-8")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the number of workers is told by it")
async def test_workers(tmp_path: Path) -> None:
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        script = tmp_path / "server.py"
        script.write_text(SOURCE.replace("8765", str(port)))
        async with trio.open_nursery() as nursery:
            env = {**os.environ, "PYTHONUNBUFFERED": ""}  # else lines are written in parts, and mixed
            start = partial(trio.run_process, stdout=subprocess.PIPE, env=env)
            process: trio.Process = await nursery.start(start, [sys.executable, script])
            assert process.stdout is not None
            count = len(os.sched_getaffinity(0))
            said = b""
            while said.count(b"\n") < count:
                said += await process.stdout.receive_some()
            assert sorted(said.decode().splitlines()) == sorted(f"worker {n} is ready" for n in range(count))
            async with open_websocket_url(f"ws://127.0.0.1:{port}") as ws:
                await ws.send_message("hello")
                assert await ws.get_message() == "hello"
            process.terminate()  # and it must end with 0
