"""Echo servers to be measured, one for each process: python echo_servers.py NAME PORT [CERTIFICATE.pem or ''] [deflate].

Each is what the documentation of its library shows, with that library's defaults, except that compression is off
unless it is asked for.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import ssl
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trio

HOST = "127.0.0.1"
OP_CLOSE = 8

Server = Callable[[int, ssl.SSLContext | None, bool], None]


async def shake_hands(stream: trio.abc.Stream) -> None:
    """Accept whoever asks for a WebSocket."""
    import trio

    request = b""
    while not request.endswith(b"\r\n\r\n"):
        data = await stream.receive_some(65536)
        if not data:
            raise trio.BrokenResourceError("the client left before it had asked for anything")
        request += data
    fields = dict(line.split(b": ", 1) for line in request.split(b"\r\n")[1:-2])
    digest = hashlib.sha1(fields[b"Sec-WebSocket-Key"] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    await stream.send_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


async def answer_unread(stream: trio.abc.Stream) -> None:
    """Answer every message with as many zeros, without reading any: all are taken to be as long as the first."""
    data = bytes(await stream.receive_some(65536))
    if not data:
        return
    width = {126: 2, 127: 8}.get(data[1] & 127, 0)
    size = int.from_bytes(data[2 : 2 + width]) if width else data[1] & 127
    frame = bytes([data[0], data[1] & 127]) + data[2 : 2 + width] + bytes(size)
    received = 0
    while data and (received or data[0] & 15 != OP_CLOSE):
        count, received = divmod(received + len(data), len(frame) + 4)
        if count:
            await stream.send_all(frame * count)
        data = bytes(await stream.receive_some(65536))
    if data:
        await stream.send_all(bytes([data[0], 2]) + data[6:8])  # the close frame, whose mask is zero


def run_floor(port: int, context: ssl.SSLContext | None, deflate: bool) -> None:
    """Show what Trio's streams allow: all that is missing here is WebSocket."""
    import trio

    async def handle(stream: trio.abc.Stream) -> None:
        try:
            async with stream:
                await shake_hands(stream)
                await answer_unread(stream)
        except trio.BrokenResourceError:
            pass  # the client has gone

    async def main() -> None:
        if context is None:
            await trio.serve_tcp(handle, port, host=HOST)
        else:
            await trio.serve_ssl_over_tcp(handle, port, context, host=HOST)

    trio.run(main)


def run_trio_ws(port: int, context: ssl.SSLContext | None, deflate: bool) -> None:
    import trio

    from trio_ws import PerMessageDeflate, WebSocketRequest, serve_websocket

    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        async for message in ws:
            await ws.send_message(message)

    compression = PerMessageDeflate() if deflate else None
    trio.run(partial(serve_websocket, handler, HOST, port, context, compression=compression))


def run_websockets_trio(port: int, context: ssl.SSLContext | None, deflate: bool) -> None:
    import trio
    from websockets.trio.server import ServerConnection, serve

    async def handler(ws: ServerConnection) -> None:
        async for message in ws:
            await ws.send(message)

    async def main() -> None:
        await serve(handler, port, host=HOST, ssl=context, compression="deflate" if deflate else None)

    trio.run(main)


def run_trio_websocket(port: int, context: ssl.SSLContext | None, deflate: bool) -> None:
    import trio
    from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        try:
            while True:
                await ws.send_message(await ws.get_message())
        except ConnectionClosed:
            pass

    trio.run(serve_websocket, handler, HOST, port, context)


def run_websockets(port: int, context: ssl.SSLContext | None, deflate: bool) -> None:
    from websockets.asyncio.server import ServerConnection, serve

    async def handler(ws: ServerConnection) -> None:
        async for message in ws:
            await ws.send(message)

    async def main() -> None:
        async with serve(
            handler, HOST, port, ssl=context, compression="deflate" if deflate else None
        ) as server:
            await server.serve_forever()

    asyncio.run(main())


def run_aiohttp(port: int, context: ssl.SSLContext | None, deflate: bool) -> None:
    import uvloop
    from aiohttp import WSMsgType, web

    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=deflate)
        await ws.prepare(request)
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                await ws.send_str(message.data)
            else:
                await ws.send_bytes(message.data)
        return ws

    app = web.Application()
    app.router.add_get("/", handler)
    loop = uvloop.new_event_loop()
    web.run_app(app, host=HOST, port=port, ssl_context=context, print=None, loop=loop, access_log=None)


def run_picows(port: int, context: ssl.SSLContext | None, deflate: bool) -> None:
    import uvloop
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

    class Echo(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type is WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_bytes())

    async def main() -> None:
        server = await ws_create_server(lambda _: Echo(), HOST, port, ssl=context)
        await server.serve_forever()

    uvloop.run(main())


SERVERS: dict[str, Server] = {
    "aiohttp": run_aiohttp,
    "floor": run_floor,
    "picows": run_picows,
    "trio_websocket": run_trio_websocket,
    "trio_ws": run_trio_ws,
    "websockets": run_websockets,
    "websockets_trio": run_websockets_trio,
}


def main(name: str, port: str, certificate: str = "", compression: str = "") -> None:
    """Serve until the process is ended."""
    logging.basicConfig(level=logging.WARNING)
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    SERVERS[name](int(port), context, compression == "deflate")


if __name__ == "__main__":
    main(*sys.argv[1:])
