"""The peer that is PyPI's `websockets`, as client and as server; interop_kit.py says what it is told and what it reports.

It knows nothing of trio_ws.
"""

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeAlias
from urllib.parse import unquote

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve, unix_serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

# What comes from JSON.
Script: TypeAlias = dict[str, Any]
Report: TypeAlias = dict[str, Any]

# What this side adds to its half of every handshake.
HEADERS = {"X-Interop": "websockets"}


def say(line: Report) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def ping(ws: Connection, payload: bytes, pongs: list[str]) -> None:
    await (await ws.ping(payload))
    pongs.append(payload.hex())


async def fragments(
    ws: Connection, pieces: list[str | None], pongs: list[str]
) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        if piece is None:
            await ping(ws, b"", pongs)
        else:
            yield bytes.fromhex(piece)


async def take(ws: Connection, step: list[Any], pongs: list[str]) -> None:
    match step:
        case ["send", is_text, [str(whole)]]:
            await ws.send(bytes.fromhex(whole), text=is_text)
        case ["send", is_text, pieces]:
            await ws.send(fragments(ws, pieces, pongs), text=is_text)
        case ["ping", payload]:
            await ping(ws, bytes.fromhex(payload), pongs)
        case ["receive"]:
            await ws.recv()
        case ["relay"]:  # one message, each of its fragments as it comes
            await ws.send(ws.recv_streaming())
        case ["close", code, reason]:
            await ws.close(code, reason)
        case ["terminate"]:
            ws.transport.abort()
        case _:
            raise ValueError(f"not a step: {step}")


async def play(ws: Connection, script: Script) -> None:
    request, response = ws.request, ws.response
    assert request is not None
    assert response is not None
    theirs = request if isinstance(ws, ServerConnection) else response
    pongs: list[str] = []
    report: Report = {
        "id": script["id"],
        "protocol": ws.subprotocol or "",
        "extensions": response.headers.get("Sec-WebSocket-Extensions", ""),
        "header": theirs.headers.get("X-Interop"),
        "pongs": pongs,
    }
    with suppress(ConnectionClosed):
        for step in script["steps"]:
            await take(ws, step, pongs)
        async for message in ws:
            await ws.send(message)
    await ws.wait_closed()
    say({**report, "code": ws.close_code, "reason": ws.close_reason, "error": repr(ws.protocol.close_exc)})


# --- Server ---------------------------------------------------------------------------------------------------------


def script_of(request: Request | None) -> Script:
    assert request is not None
    script: Script = json.loads(unquote(request.path.partition("?")[2]))
    return script


async def handle(ws: ServerConnection) -> None:
    await play(ws, script_of(ws.request))


def answer(ws: ServerConnection, request: Request) -> Response | None:
    refusal = script_of(request).get("refusal")
    if refusal is None:
        return None
    response = ws.respond(401, refusal)
    response.headers.update(HEADERS)
    return response


def add_header(ws: ServerConnection, request: Request, response: Response) -> None:
    if response.status_code == 101:
        response.headers.update(HEADERS)


def choose(ws: ServerConnection, offers: object) -> Subprotocol | None:
    return script_of(ws.request).get("choice")


async def listen_everywhere(stack: AsyncExitStack, config: Script) -> dict[str, int]:
    options: dict[str, Any] = {
        "process_request": answer,
        "process_response": add_header,
        "select_subprotocol": choose,
        "max_size": None,
        "ping_interval": None,
    }
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config["certificate"])
    servers = {
        "tcp": serve(handle, "127.0.0.1", 0, **options),
        "tls": serve(handle, "127.0.0.1", 0, ssl=context, **options),
        "unix": unix_serve(handle, config["socket"], **options),
    }
    if config["ipv6"]:
        servers["ipv6"] = serve(handle, "::1", 0, **options)
    ports: dict[str, int] = {}
    for transport, server in servers.items():
        address = (await stack.enter_async_context(server)).sockets[0].getsockname()
        ports[transport] = 0 if transport == "unix" else address[1]
    return ports


# --- Client ---------------------------------------------------------------------------------------------------------


def connecting(script: Script, context: ssl.SSLContext) -> connect:
    options: dict[str, Any] = {
        "subprotocols": script["offers"] or None,
        "additional_headers": HEADERS,
        "max_size": None,
        "ping_interval": None,
    }
    url: str = script["url"]
    if script["socket"] is not None:
        return unix_connect(script["socket"], url, **options)
    if url.startswith("wss:"):
        options["ssl"] = context
    return connect(url, proxy=None, **options)


async def dial(script: Script, context: ssl.SSLContext) -> None:
    try:
        ws: ClientConnection = await connecting(script, context)
    except InvalidStatus as exc:
        response = exc.response
        header = response.headers.get("X-Interop")
        body = (response.body or b"").decode()
        say({"id": script["id"], "status": response.status_code, "header": header, "body": body})
    else:
        await play(ws, script)


async def main(config: Script) -> None:
    context = ssl.create_default_context(cafile=config["authority"])
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with AsyncExitStack() as stack:
        say({"ports": await listen_everywhere(stack, config)})
        async with asyncio.TaskGroup() as dialled:
            async for line in lines:
                dialled.create_task(dial(json.loads(line), context))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
