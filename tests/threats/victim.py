"""A server to be attacked, in a process of its own; it knows trio_ws's public names and nothing of the attacks.

`python victim.py OPTIONS` serves on a free port of the loopback until its standard input ends. OPTIONS is JSON: what
`serve_websocket` takes, besides "certificate", a PEM file with key and chain for TLS, "handler", the name of one of the
functions here, "descriptors", the number of them that the process may have, "hook", the name of a function here that
looks at requests first, and "collects": false, with which nothing but reference counting frees anything; "compression"
may be an object, with what `PerMessageDeflate` takes. Its port is the first line of its output; each line of input is
answered with a line that says how many tasks, objects and connections there are.
"""

import gc
import json
import resource
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from trio_ws import (
    ConnectionClosed,
    PerMessageDeflate,
    Request,
    Response,
    WebSocketConnection,
    WebSocketRequest,
    WebSocketServer,
    broadcast,
    serve_websocket,
)


async def echo(request: WebSocketRequest) -> None:
    """Send everything back."""
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


async def deaf(request: WebSocketRequest) -> None:
    """Accept, and never come back for a message."""
    await request.accept()
    await trio.sleep_forever()


async def parting(request: WebSocketRequest) -> None:
    """Accept, and have nothing to say."""
    await request.accept()


async def failing(request: WebSocketRequest) -> None:
    """Raise what the first message says: "plain", "group" or "after" the peer has gone; send back any other."""
    ws = await request.accept()
    async for message in ws:
        match message:
            case "plain":
                raise ZeroDivisionError(message)
            case "group":
                raise BaseExceptionGroup(message, [ZeroDivisionError(), ExceptionGroup("", [KeyError()])])
            case "after":
                with suppress(ConnectionClosed):
                    await ws.get_message()
                raise ZeroDivisionError(message)
            case _:
                await ws.send_message(message)


async def page(request: Request) -> Response | None:
    """Answer requests for a page with their target."""
    return None if request.headers.get("upgrade") else Response(200, body=request.target)


async def slow(_: Request) -> None:
    """Think about it for a while, and let it pass."""
    await trio.sleep(1)


async def refusing(request: WebSocketRequest) -> None:
    """Accept nobody: redirect where the path is "/redirect", fail where it is "/fail", and else refuse."""
    match request.path:
        case "/redirect":
            await request.reject(302, extra_headers=[("Location", "ws://elsewhere.example/")])
        case "/fail":
            raise ZeroDivisionError
        case _:
            await request.reject(403)


class Broadcasting:
    """Send each message to all who are connected."""

    def __init__(self) -> None:
        self._all: set[WebSocketConnection] = set()

    async def __call__(self, request: WebSocketRequest) -> None:
        ws = await request.accept()
        self._all.add(ws)
        try:
            async for message in ws:
                await broadcast(self._all, message)
        finally:
            self._all.remove(ws)


HANDLERS: dict[str, Callable[[WebSocketRequest], Awaitable[object]]] = {
    "echo": echo,
    "deaf": deaf,
    "failing": failing,
    "refusing": refusing,
    "parting": parting,
    "broadcasting": Broadcasting(),
}


def say(report: dict[str, int]) -> None:
    """Answer with a line of JSON."""
    sys.stdout.write(f"{json.dumps(report)}\n")
    sys.stdout.flush()


async def reporting(server: WebSocketServer) -> None:
    """Answer each line of input; its end is the server's."""
    lines = trio.wrap_file(sys.stdin)
    async for _ in lines:
        if gc.isenabled():
            gc.collect()
        report = {
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "objects": len(gc.get_objects()),
            "connections": len(server.connections),
        }
        say(report)
    await server.aclose(drain=1)


async def main() -> None:
    options = json.loads(sys.argv[1])
    if (number := options.pop("descriptors", None)) is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))
    if not options.pop("collects", True):
        gc.disable()
    context = None
    if (certificate := options.pop("certificate", None)) is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    handler = HANDLERS[options.pop("handler", "echo")]
    if (hook := options.pop("hook", None)) is not None:
        options["process_request"] = {"page": page, "slow": slow}[hook]
    if isinstance(options.get("compression"), dict):
        options["compression"] = PerMessageDeflate(**options["compression"])
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[WebSocketServer]) -> None:
            await serve_websocket(handler, "127.0.0.1", 0, context, task_status=task_status, **options)

        server = await nursery.start(serve)
        say({"port": server.port})
        await reporting(server)


trio.run(main)
