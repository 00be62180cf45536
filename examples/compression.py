"""A server that compresses: with more memory for fewer bytes, messages of 100 bytes and more, and no secrets among them."""

import json
import secrets

import trio

from trio_ws import PerMessageDeflate, WebSocketRequest, serve_websocket

COMPRESSION = PerMessageDeflate(
    server_no_context_takeover=False,  # each message may refer to those before it
    client_max_window_bits=10,  # so clients take little memory here; those that cannot do so are served without
    server_max_window_bits=14,
    level=9,
    mem_level=8,
    threshold=100,
    concurrency_limit=4,  # large messages at the same time, in threads
)


async def report(request: WebSocketRequest) -> None:
    ws = await request.accept()
    await ws.send_message(secrets.token_hex(100), compress=False)
    async for name in ws:
        await ws.send_message(json.dumps([{"name": name, "number": number} for number in range(1000)]))


async def main() -> None:
    await serve_websocket(report, "127.0.0.1", 8765, None, compression=COMPRESSION)


if __name__ == "__main__":
    trio.run(main)
