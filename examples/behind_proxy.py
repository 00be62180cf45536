"""A server behind a proxy on the same machine, which tells each client the address that it comes from."""

import trio

from trio_ws import Endpoint, WebSocketRequest, serve_websocket


async def tell(request: WebSocketRequest) -> None:
    client = request.client.address if isinstance(request.client, Endpoint) else request.client
    ws = await request.accept()
    await ws.send_message(f"you are {client}")


async def main() -> None:
    await serve_websocket(tell, "127.0.0.1", 8765, None, trusted_proxies=["127.0.0.1"])


if __name__ == "__main__":
    trio.run(main)
