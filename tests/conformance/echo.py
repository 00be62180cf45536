"""The echo peers that the Autobahn testsuite examines; they know trio_ws's public names and nothing of the test.

`python echo.py server PORT` serves on the loopback interface; `python echo.py client URL AGENT` runs every case of the
fuzzing server at URL and has it write its report.
"""

import contextlib
import sys
import urllib.parse

import trio

from trio_ws import (
    ConnectionClosed,
    PerMessageDeflate,
    WebSocketConnection,
    WebSocketRequest,
    open_websocket_url,
    serve_websocket,
)

# The largest messages, of cases 9.1.6 and 9.2.6.
MAX_MESSAGE_SIZE = 2**24
# Seconds; the suite answers nobody while it writes down what it saw of a thousand messages.
CONNECT_TIMEOUT = 60
# Where the suite asks for compression everything is compressed, however small.
COMPRESSION = PerMessageDeflate(threshold=0)


async def echo(ws: WebSocketConnection) -> None:
    with contextlib.suppress(ConnectionClosed):  # the peer may be gone before its last message is answered
        async for message in ws:
            await ws.send_message(message)


async def handle(request: WebSocketRequest) -> None:
    await echo(await request.accept())


async def serve(port: int) -> None:
    await serve_websocket(
        handle, "127.0.0.1", port, None, max_message_size=MAX_MESSAGE_SIZE, compression=COMPRESSION
    )


async def run_cases(url: str, agent: str) -> None:
    who = urllib.parse.urlencode({"agent": agent})
    async with open_websocket_url(f"{url}/getCaseCount") as ws:
        count = int(await ws.get_message())
    for case in range(1, count + 1):
        async with open_websocket_url(
            f"{url}/runCase?case={case}&{who}",
            max_message_size=MAX_MESSAGE_SIZE,
            compression=COMPRESSION,
            connect_timeout=CONNECT_TIMEOUT,
        ) as ws:
            await echo(ws)
    async with open_websocket_url(f"{url}/updateReports?{who}", connect_timeout=CONNECT_TIMEOUT) as ws:
        await echo(ws)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server", port]:
            trio.run(serve, int(port))
        case ["client", url, agent]:
            trio.run(run_cases, url, agent)
        case _:
            sys.exit(__doc__)
