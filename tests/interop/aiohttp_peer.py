"""The peer that is PyPI's `aiohttp`, as client and as server; interop_kit.py says what it is told and what it reports.

It knows nothing of trio_ws.
"""

import asyncio
import json
import ssl
import sys
from collections import deque
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeAlias
from urllib.parse import unquote

from aiohttp import (
    ClientConnectionResetError,
    ClientResponse,
    ClientSession,
    ClientWebSocketResponse,
    TCPConnector,
    TraceConfig,
    TraceRequestEndParams,
    UnixConnector,
    WSMsgType,
    WSServerHandshakeError,
    web,
)

# What comes from JSON.
Script: TypeAlias = dict[str, Any]
Report: TypeAlias = dict[str, Any]

# What this side adds to its half of every handshake.
HEADERS = {"X-Interop": "aiohttp"}
# Of the window, which is how its client is told to offer compression; its server always takes it.
BITS = 15


def say(line: Report) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


@dataclass
class Talk:
    """A connection. It answers pings itself, as of a connection that does so aiohttp hands out no pongs."""

    ws: ClientWebSocketResponse | web.WebSocketResponse
    transport: asyncio.BaseTransport
    pongs: list[str] = field(default_factory=list[str])
    messages: deque[str | bytes] = field(default_factory=deque[str | bytes])
    # Close code and reason; aiohttp's own code for a connection that is cut is 1000.
    end: tuple[int, str] | None = None

    async def read(self) -> None:
        """Take one frame."""
        message = await self.ws.receive()
        match message.type:
            case WSMsgType.TEXT | WSMsgType.BINARY:
                self.messages.append(message.data)
            case WSMsgType.PING:
                await self.ws.pong(message.data)
            case WSMsgType.PONG:
                self.pongs.append(bytes(message.data).hex())
            case WSMsgType.CLOSE:
                self.end = message.data or 1005, message.extra or ""
            case _:
                self.end = 1006, ""

    async def receive(self) -> str | bytes | None:
        """Return the next message, or None at the end."""
        while not self.messages and self.end is None:
            await self.read()
        return self.messages.popleft() if self.messages else None

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self.ws.send_str(message)
        else:
            await self.ws.send_bytes(message)

    async def ping(self, payload: bytes) -> None:
        count = len(self.pongs)
        await self.ws.ping(payload)
        while len(self.pongs) == count and self.end is None:
            await self.read()

    async def take(self, step: list[Any]) -> None:
        match step:
            case ["send", is_text, pieces]:  # whole, as aiohttp sends no fragments
                whole = b"".join(bytes.fromhex(piece) for piece in pieces)
                await self.send(whole.decode() if is_text else whole)
            case ["ping", payload]:
                await self.ping(bytes.fromhex(payload))
            case ["receive"]:
                await self.receive()
            case ["close", code, reason]:
                await self.ws.close(code=code, message=reason.encode())
                self.end = self.ws.close_code or 1005, ""
            case ["terminate"]:
                assert isinstance(self.transport, asyncio.WriteTransport)
                self.transport.abort()
            case _:
                raise ValueError(f"not a step: {step}")

    async def play(self, report: Report, steps: list[Any]) -> None:
        try:
            for step in steps:
                await self.take(step)
            while (message := await self.receive()) is not None:
                await self.send(message)
        except ClientConnectionResetError:  # while sending
            self.end = 1006, ""
        code, reason = self.end or (None, None)
        error = repr(self.ws.exception())
        say({**report, "pongs": self.pongs, "code": code, "reason": reason, "error": error})


# --- Server ---------------------------------------------------------------------------------------------------------


async def handle(request: web.Request) -> web.StreamResponse:
    script: Script = json.loads(unquote(request.raw_path.partition("?")[2]))
    if script["refusal"] is not None:
        return web.Response(status=401, text=script["refusal"], headers=HEADERS)
    choice = script["choice"]
    ws = web.WebSocketResponse(protocols=[choice] if choice else [], autoping=False, max_msg_size=0)
    ws.headers.update(HEADERS)
    await ws.prepare(request)
    assert request.transport is not None
    report = {
        "id": script["id"],
        "protocol": ws.ws_protocol or "",
        "extensions": ws.headers.get("Sec-WebSocket-Extensions", ""),
        "header": request.headers.get("X-Interop"),
    }
    await Talk(ws, request.transport).play(report, script["steps"])
    return ws


async def listen_everywhere(stack: AsyncExitStack, config: Script) -> dict[str, int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config["certificate"])
    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    sites: dict[str, web.BaseSite] = {
        "tcp": web.TCPSite(runner, "127.0.0.1", 0),
        "tls": web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context),
        "unix": web.UnixSite(runner, config["socket"]),
    }
    if config["ipv6"]:
        sites["ipv6"] = web.TCPSite(runner, "::1", 0)
    ports: dict[str, int] = {}
    for transport, site in sites.items():
        await site.start()
        address = runner.addresses[-1]
        ports[transport] = 0 if transport == "unix" else address[1]
    return ports


# --- Client ---------------------------------------------------------------------------------------------------------


async def keep(
    responses: list[ClientResponse],
    session: ClientSession,
    context: SimpleNamespace,
    params: TraceRequestEndParams,
) -> None:
    """Keep a response, of which aiohttp itself hands out neither the headers nor, if it is a refusal, the body."""
    responses.append(params.response)
    if params.response.status != 101:
        await params.response.read()


async def dial(script: Script, context: ssl.SSLContext) -> None:
    responses: list[ClientResponse] = []
    trace = TraceConfig()
    trace.on_request_end.append(partial(keep, responses))
    path = script["socket"]
    connector = TCPConnector(ssl=context) if path is None else UnixConnector(path)
    report: Report = {"id": script["id"]}
    async with ClientSession(connector=connector, trace_configs=[trace], headers=HEADERS) as session:
        try:
            ws = await session.ws_connect(
                script["url"], protocols=script["offers"], autoping=False, max_msg_size=0, compress=BITS
            )
        except WSServerHandshakeError as exc:
            header, body = responses[0].headers.get("X-Interop"), await responses[0].text()
            say({**report, "status": exc.status, "header": header, "body": body})
            return
        headers, connection = responses[0].headers, responses[0].connection
        assert connection is not None
        assert connection.transport is not None
        report["protocol"] = ws.protocol or ""
        report["extensions"] = headers.get("Sec-WebSocket-Extensions", "")
        report["header"] = headers.get("X-Interop")
        await Talk(ws, connection.transport).play(report, script["steps"])


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
