"""A server that lets in whom it knows, and greets them by name."""

import trio

from trio_ws import WebSocketRequest, basic_auth, serve_websocket

PASSWORDS = {"ann": "correct horse battery staple"}


async def greet(request: WebSocketRequest) -> None:
    ws = await request.accept()
    await ws.send_message(f"hello {request.request.context['user']}")


async def main() -> None:
    await serve_websocket(greet, "127.0.0.1", 8765, None, process_request=basic_auth("greetings", PASSWORDS))


if __name__ == "__main__":
    trio.run(main)
