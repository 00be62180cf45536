import trio

from trio_ws import WebSocketRequest, serve_websocket


async def echo(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


async def main() -> None:
    await serve_websocket(echo, "127.0.0.1", 8765, None)


if __name__ == "__main__":
    trio.run(main)
