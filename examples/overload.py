"""A server that takes on no more than it can do: so many connections, so many of one client, and each at its pace."""

import trio

from trio_ws import RateLimit, WebSocketRequest, serve_websocket


async def echo(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


async def main() -> None:
    await serve_websocket(
        echo,
        "127.0.0.1",
        8765,
        None,
        max_connections=10_000,
        max_connections_per_peer=20,
        message_rate=RateLimit(rate=50, burst=200),
        byte_rate=RateLimit(rate=256 * 1024, burst=4 * 1024 * 1024),
    )


if __name__ == "__main__":
    trio.run(main)
