"""How long a message takes to an echo server and back, twice a second: `python round_trip.py [URL [ORIGIN]]`."""

import sys

import trio

from trio_ws import open_websocket_url


async def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:8765/"
    origin = sys.argv[2] if len(sys.argv) > 2 else "http://localhost:8765"
    async with open_websocket_url(url, origin=origin) as ws:
        while True:
            await ws.send_message(str(trio.current_time()))
            sent = float(await ws.get_message())
            print(f"Round-trip time: {(trio.current_time() - sent) * 1000:.2f} ms")
            await trio.sleep(0.5)


if __name__ == "__main__":
    trio.run(main)
