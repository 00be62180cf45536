"""Prices over WebSocket: a server that has rules, and clients that keep or break them."""

import trio

from trio_ws import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    connect_websocket,
    open_websocket_url,
    serve_websocket,
)

PRICES = {"apple": 30, "pear": 45}
SUBPROTOCOL = "prices.v1"


# The server


async def sell(request: WebSocketRequest) -> None:
    if request.path != "/prices":
        await request.reject(404, body=b"there are only prices here")
        return
    if SUBPROTOCOL not in request.proposed_subprotocols:
        await request.reject(400, extra_headers=[(b"X-Speak", SUBPROTOCOL.encode())])
        return
    ws = await request.accept(subprotocol=SUBPROTOCOL, extra_headers=[(b"X-Shop", b"fruit")])
    await ws.ping(b"are you there?")
    try:
        await answer(ws)
    except ConnectionClosed as closed:
        print("server: the client has gone with", closed.reason.code, closed.reason.name)


async def answer(ws: WebSocketConnection) -> None:
    while True:
        name = await ws.get_message()
        if isinstance(name, bytes):
            await ws.aclose(1003, "text only")
        elif name in PRICES:
            await ws.send_message(f"{name}: {PRICES[name]}")
        else:
            await ws.aclose(4004, f"no {name} here")


# The clients


async def buy(url: str) -> None:
    async with open_websocket_url(url + "/prices", subprotocols=[SUBPROTOCOL]) as ws:
        print("client: speaks", ws.subprotocol, "with", dict(ws.handshake_headers)[b"x-shop"].decode())
        for name in ("apple", "pear"):
            await ws.send_message(name)
            print("client:", await ws.get_message())
        await ws.ping()
        print("client: the server is there")


async def ask_for(port: int, question: str | bytes) -> None:
    async with trio.open_nursery() as nursery:
        ws = await connect_websocket(
            nursery, "127.0.0.1", port, "/prices", use_ssl=False, subprotocols=[SUBPROTOCOL]
        )
        await ws.send_message(question)
        try:
            print("client:", await ws.get_message())
        except ConnectionClosed as closed:
            print("client: closed with", closed.reason.code, closed.reason.name, closed.reason.reason)
        print("client: closed for", ws.closed.code)


async def knock(url: str) -> None:
    try:
        async with open_websocket_url(url):
            print("client: came in")
    except ConnectionRejected as rejected:
        wish = dict(rejected.headers).get(b"x-speak")
        print("client: rejected with", rejected.status_code, rejected.body or wish)
    except HandshakeError as error:
        print("client: not connected because of", type(error.__cause__).__name__)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(serve_websocket, sell, "127.0.0.1", 0, None)
        url = f"ws://127.0.0.1:{server.port}"
        await buy(url)
        await ask_for(server.port, "plum")
        await ask_for(server.port, b"\x00")
        await knock(url + "/weather")
        await knock(url + "/prices")
        nursery.cancel_scope.cancel()
    await knock(url + "/prices")


if __name__ == "__main__":
    trio.run(main)
