import socket

import trio

from trio_ws import WebSocketRequest, WebSocketServer, run_workers


async def echo(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


async def main(index: int) -> None:
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    await sock.bind(("127.0.0.1", 8765))
    sock.listen()
    server = WebSocketServer(echo, [trio.SocketListener(sock)])
    print(f"worker {index} is ready", flush=True)
    await server.run()


if __name__ == "__main__":
    run_workers(main)
