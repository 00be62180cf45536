import trio

from trio_ws import open_websocket_url


async def main() -> None:
    async with open_websocket_url("ws://localhost:8765/") as ws:
        await ws.send_message("hello")
        print(await ws.get_message())


if __name__ == "__main__":
    trio.run(main)
