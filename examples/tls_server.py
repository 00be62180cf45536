"""An echo server with TLS: `python tls_server.py CERT.pem KEY.pem`."""

import ssl
import sys

import trio

from trio_ws import WebSocketRequest, serve_websocket


async def echo(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


async def main() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*sys.argv[1:])
    await serve_websocket(echo, "127.0.0.1", 8765, context)


if __name__ == "__main__":
    trio.run(main)
