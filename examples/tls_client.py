"""A client that trusts one certificate, or the authority that signed it: `python tls_client.py CA.pem`."""

import ssl
import sys

import trio

from trio_ws import open_websocket_url


async def main() -> None:
    context = ssl.create_default_context(cafile=sys.argv[1])
    async with open_websocket_url("wss://localhost:8765/", context) as ws:
        await ws.send_message("hello")
        print(await ws.get_message())


if __name__ == "__main__":
    trio.run(main)
