import trio

from trio_ws import Backoff, ConnectionClosed, WebSocketConnection, reconnecting


async def subscribe(ws: WebSocketConnection) -> None:
    await ws.send_message("subscribe news")


async def main() -> None:
    async with reconnecting(
        "ws://localhost:8765/", backoff=Backoff(initial=0.5), on_connect=subscribe
    ) as connections:
        async for ws in connections:
            try:
                async for message in ws:
                    print(message, flush=True)
            except ConnectionClosed:
                continue


if __name__ == "__main__":
    trio.run(main)
