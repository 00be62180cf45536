"""The example of a client that stays connected: a process, and a server that goes away and comes back."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import trio

from trio_ws import WebSocketRequest, serve_websocket

SOURCE = (Path(__file__).parent.parent.parent / "examples" / "reconnecting.py").read_text("utf-8")


async def test_reconnecting(tmp_path: Path) -> None:
    subscribed: list[str | bytes] = []
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    script = tmp_path / "client.py"
    script.write_text(SOURCE.replace("8765", str(port)).replace("localhost", "127.0.0.1"))
    await listener.aclose()

    async with trio.open_nursery() as nursery:
        start = partial(trio.run_process, stdout=subprocess.PIPE, check=False)
        process: trio.Process = await nursery.start(start, [sys.executable, script])
        assert process.stdout is not None
        said = b""
        for edition in (b"first\n", b"second\n"):
            with trio.CancelScope() as serving:

                async def handler(request: WebSocketRequest, news: bytes = edition) -> None:
                    ws = await request.accept()
                    subscribed.append(await ws.get_message())
                    await ws.send_message(news.decode().strip())
                    async for _ in ws:
                        pass

                async with trio.open_nursery() as server:
                    server.start_soon(serve_websocket, handler, "127.0.0.1", port, None)
                    while not said.endswith(edition):
                        said += await process.stdout.receive_some()
                    serving.cancel()
        process.terminate()
    assert said == b"first\nsecond\n"
    assert subscribed == ["subscribe news"] * 2
