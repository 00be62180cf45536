"""An echo server that answers `GET /healthz` with plain HTTP on the same port, as load balancers ask for."""

import trio

from trio_ws import Request, Response, WebSocketRequest, serve_websocket


async def answer(request: Request) -> Response | None:
    if request.path == "/healthz":
        return Response(200, body="fine\n")
    return None


async def echo(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


async def main() -> None:
    await serve_websocket(echo, "127.0.0.1", 8765, None, process_request=answer)


if __name__ == "__main__":
    trio.run(main)
