"""A client that goes through a proxy: `python proxy.py ws://example.org/ http://user:password@proxy.example.org:3128`."""

import sys

import trio

from trio_ws import ProxyError, open_websocket_url


async def main() -> None:
    url, proxy = sys.argv[1:]
    try:
        async with open_websocket_url(url, proxy=proxy) as ws:
            await ws.send_message("hello")
            print(await ws.get_message())
    except ProxyError as exc:
        print(exc)
        if exc.status_code == 407:
            print("it wants a user and a password")


if __name__ == "__main__":
    trio.run(main)
