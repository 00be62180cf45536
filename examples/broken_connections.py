import trio

from trio_ws import ConnectionLost, WebSocketConnection, WebSocketRequest, open_websocket_url, serve_websocket


async def receive(ws: WebSocketConnection) -> None:
    try:
        async for message in ws:
            print(message)
    except ConnectionLost as exc:
        print(f"{ws} has lost its peer: {exc.__cause__}")


async def handler(request: WebSocketRequest) -> None:
    await receive(await request.accept())


async def serve() -> None:
    await serve_websocket(handler, "127.0.0.1", 8765, None, ping_interval=10, ping_timeout=5)


async def connect() -> None:
    async with open_websocket_url("ws://localhost:8765/", ping_interval=10, ping_timeout=5) as ws:
        await receive(ws)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        nursery.start_soon(connect)


if __name__ == "__main__":
    trio.run(main)
