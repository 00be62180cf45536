from array import array

import trio

from trio_ws import WebSocketRequest, WebSocketServer, open_websocket_url, serve_websocket


async def scale(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        numbers = array("f", message if isinstance(message, bytes) else b"")
        await ws.send_message(array("f", [2 * number for number in numbers]))


async def main() -> None:
    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(serve_websocket, scale, "127.0.0.1", 0, None)
        async with open_websocket_url(f"ws://127.0.0.1:{server.port}/") as ws:
            await ws.send_message(array("f", [1.5, 2.5]))
            answer = await ws.get_message()
            assert isinstance(answer, bytes)
            print(array("f", answer).tolist())
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
