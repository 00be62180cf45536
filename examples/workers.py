"""A server in as many processes as there are processors: `python workers.py`; Ctrl-C or SIGTERM ends them all."""

from functools import partial

import trio

from trio_ws import WebSocketRequest, run_workers, serve_websocket


async def echo(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


async def main(index: int) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_websocket, echo, "127.0.0.1", 8765, None, reuse_port=True))
        print(f"worker {index} is ready", flush=True)


if __name__ == "__main__":
    run_workers(main)
