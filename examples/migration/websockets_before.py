"""Prices over WebSocket: a server that has rules, and clients that keep or break them."""

import http
from collections.abc import AsyncIterator
from functools import partial

import trio
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websockets.http11 import Request, Response
from websockets.trio.client import connect
from websockets.trio.server import Server, ServerConnection, serve

PRICES = {"apple": 30, "pear": 45}
SUBPROTOCOL = "prices.v1"


# The server


def check(ws: ServerConnection, request: Request) -> Response | None:
    if request.path == "/health":
        return ws.respond(http.HTTPStatus.OK, "fine\n")
    if request.path != "/prices":
        return ws.respond(http.HTTPStatus.NOT_FOUND, "there are only prices here\n")
    return None


async def sell(ws: ServerConnection) -> None:
    pong = await ws.ping(b"are you there?")
    await pong.wait()
    try:
        async for name in ws:
            if isinstance(name, bytes):
                await ws.send(f"a list of {len(name)} bytes")
            elif name == "everything":
                await ws.send([f"{each}: {price}\n" for each, price in PRICES.items()])
            elif name in PRICES:
                await ws.send(f"{name}: {PRICES[name]}")
            else:
                await ws.aclose(4004, f"no {name} here")
    except ConnectionClosed:
        pass
    print("server: the client has gone with", ws.close_code)


# The clients


async def buy(url: str) -> None:
    async with connect(url + "/prices", subprotocols=[SUBPROTOCOL], max_size=2**16, ping_interval=None) as ws:
        print("client: speaks", ws.subprotocol)
        await ws.send("apple")
        print("client:", await ws.recv())
        await ws.send("everything")
        print("client:", repr("".join([piece async for piece in ws.recv_streaming()])))
        await ws.send(shopping_list())
        print("client:", await ws.recv())
        pong = await ws.ping()
        await pong.wait()
        print("client: the server is", "near" if ws.latency < 60 else "far away")


async def shopping_list() -> AsyncIterator[bytes]:
    for name in PRICES:
        yield name.encode()


async def ask_for(url: str, name: str) -> None:
    async with connect(url + "/prices", subprotocols=[SUBPROTOCOL]) as ws:
        await ws.send(name)
        try:
            print("client:", await ws.recv())
        except ConnectionClosed as closed:
            peace = isinstance(closed, ConnectionClosedOK)
            print(
                "client: closed with",
                closed.rcvd.code,
                closed.rcvd.reason,
                "in peace" if peace else "in anger",
            )


async def knock(url: str) -> None:
    try:
        async with connect(url) as ws:
            print("client: came in, and speaks", ws.subprotocol)
    except InvalidStatus as rejected:
        print("client: rejected with", rejected.response.status_code)
    except OSError:
        print("client: nobody listens")


async def main() -> None:
    async with trio.open_nursery() as nursery:
        run = partial(serve, host="127.0.0.1", subprotocols=[SUBPROTOCOL], process_request=check)
        server: Server = await nursery.start(run, sell, 0)
        url = f"ws://127.0.0.1:{server.listeners[0].socket.getsockname()[1]}"
        await buy(url)
        await ask_for(url, "plum")
        await knock(url + "/health")
        await knock(url + "/weather")
        await knock(url + "/prices")
        await server.aclose()
    await knock(url + "/prices")


if __name__ == "__main__":
    trio.run(main)
