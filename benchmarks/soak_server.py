"""The server of a long run: python soak_server.py OPTIONS; an echo that says what it holds for each line of input.

Its deadlines are short, so that those who stall are dropped while one looks.
"""

from __future__ import annotations

import gc
import json
import logging
import sys

import trio

from trio_ws import WebSocketRequest, WebSocketServer, serve_websocket


class Errors(logging.Handler):
    """Counts and shows what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.number = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count, and show."""
        self.number += 1
        sys.stderr.write(f"{self.format(record)}\n")


async def echo(request: WebSocketRequest) -> None:
    """Send everything back."""
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


def say(answer: dict[str, int]) -> None:
    """Write a line."""
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()


async def answer_lines(server: WebSocketServer, errors: Errors) -> None:
    """Say how it stands for each line of input; its end is the server's."""
    async for _ in trio.wrap_file(sys.stdin):
        gc.collect()
        tasks = trio.lowlevel.current_statistics().tasks_living
        say({"connections": len(server.connections), "tasks": tasks, "errors": errors.number})
    await server.aclose(drain=1)


async def main() -> None:
    """Serve until the input ends."""
    options = json.loads(sys.argv[1])
    errors = Errors()
    logging.getLogger().addHandler(errors)
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[WebSocketServer]) -> None:
            await serve_websocket(
                echo,
                "127.0.0.1",
                0,
                None,
                task_status=task_status,
                connect_timeout=5,
                disconnect_timeout=5,
                ping_interval=10,
                ping_timeout=10,
                compression=options["compression"],
            )

        server = await nursery.start(serve)
        say({"port": server.port})
        await answer_lines(server, errors)


trio.run(main)
