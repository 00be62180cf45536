"""Prices over WebSocket: a server that has rules, and clients that keep or break them."""

from collections.abc import AsyncIterator
from functools import partial

import trio

from trio_ws import (
    ConnectionClosed,
    ConnectionEnded,
    ConnectionRejected,
    HandshakeError,
    Headers,
    Request,
    Response,
    WebSocketRequest,
    WebSocketServer,
    open_websocket_url,
    serve_websocket,
)

PRICES = {"apple": 30, "pear": 45}
SUBPROTOCOL = "prices.v1"


# The server


async def check(request: Request) -> Response | None:
    if request.path == "/health":
        return Response(200, Headers(), b"fine\n")
    if request.path != "/prices":
        return Response(404, Headers(), b"there are only prices here\n")
    return None


async def sell(request: WebSocketRequest) -> None:
    if SUBPROTOCOL not in request.proposed_subprotocols:
        await request.reject(400, body=b"missing subprotocol\n")
        return
    ws = await request.accept(subprotocol=SUBPROTOCOL)
    await ws.ping(b"are you there?")
    try:
        async for name in ws:
            if isinstance(name, bytes):
                await ws.send_message(f"a list of {len(name)} bytes")
            elif name == "everything":
                await ws.send_stream([f"{each}: {price}\n" for each, price in PRICES.items()])
            elif name in PRICES:
                await ws.send_message(f"{name}: {PRICES[name]}")
            else:
                await ws.aclose(4004, f"no {name} here")
    except ConnectionClosed:
        pass
    print("server: the client has gone with", ws.closed.code)


# The clients


async def buy(url: str) -> None:
    async with open_websocket_url(
        url + "/prices", subprotocols=[SUBPROTOCOL], max_message_size=2**16, ping_interval=None
    ) as ws:
        print("client: speaks", ws.subprotocol)
        await ws.send_message("apple")
        print("client:", await ws.get_message())
        await ws.send_message("everything")
        async with ws.receive_stream() as pieces:
            print("client:", repr("".join([piece async for piece in pieces])))
        await ws.send_stream(shopping_list())
        print("client:", await ws.get_message())
        await ws.ping()
        print("client: the server is", "near" if ws.latency < 60 else "far away")


async def shopping_list() -> AsyncIterator[bytes]:
    for name in PRICES:
        yield name.encode()


async def ask_for(url: str, name: str) -> None:
    async with open_websocket_url(url + "/prices", subprotocols=[SUBPROTOCOL]) as ws:
        await ws.send_message(name)
        try:
            print("client:", await ws.get_message())
        except ConnectionClosed as closed:
            peace = isinstance(closed, ConnectionEnded)
            print(
                "client: closed with",
                closed.reason.code,
                closed.reason.reason,
                "in peace" if peace else "in anger",
            )


async def knock(url: str) -> None:
    try:
        async with open_websocket_url(url) as ws:
            print("client: came in, and speaks", ws.subprotocol)
    except ConnectionRejected as rejected:
        print("client: rejected with", rejected.status_code)
    except HandshakeError:
        print("client: nobody listens")


async def main() -> None:
    async with trio.open_nursery() as nursery:
        run = partial(serve_websocket, process_request=check)
        server: WebSocketServer = await nursery.start(run, sell, "127.0.0.1", 0, None)
        url = f"ws://127.0.0.1:{server.port}"
        await buy(url)
        await ask_for(url, "plum")
        await knock(url + "/health")
        await knock(url + "/weather")
        await knock(url + "/prices")
        await server.aclose()
    await knock(url + "/prices")


if __name__ == "__main__":
    trio.run(main)
