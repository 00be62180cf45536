"""An echo server that says every ten seconds what it has done."""

import trio

from trio_ws import WebSocketRequest, WebSocketServer, serve_websocket


async def echo(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)
    statistics = ws.statistics()  # also when it is over
    print(f"{ws}: {statistics.messages_received} messages in {statistics.seconds:.1f} s")


async def main(interval: float = 10) -> None:
    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(serve_websocket, echo, "127.0.0.1", 8765, None)
        while True:
            await trio.sleep(interval)
            now = server.statistics()
            print(f"{now.connections} of {now.accepted} connections, {now.messages_received} messages")
            print(f"p99 {now.latency.p99}, refused {now.refusals}, closed {now.closes}")


if __name__ == "__main__":
    trio.run(main)
