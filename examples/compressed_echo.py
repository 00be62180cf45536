"""An echo server that compresses messages of 1 KiB or more, and keeps little memory for it."""

import trio

from trio_ws import PerMessageDeflate, WebSocketRequest, serve_websocket

TERMS = PerMessageDeflate(
    level=3,
    mem_level=7,
    threshold=1024,
    server_max_window_bits=10,
    server_no_context_takeover=True,
    client_no_context_takeover=True,
)


async def echo(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


async def main() -> None:
    await serve_websocket(echo, "127.0.0.1", 8765, None, compression=TERMS)


if __name__ == "__main__":
    trio.run(main)
