"""A client that connects through a program, as ssh does it with ProxyCommand: `python own_transport.py URL COMMAND...`.

The program is called with a host and a port behind its own arguments, and passes on what it reads and what it receives:
`python own_transport.py ws://localhost:8765/ nc`.
"""

import subprocess
import sys
from functools import partial

import trio

from trio_ws import open_websocket_url


async def main() -> None:
    url, *command = sys.argv[1:]
    async with trio.open_nursery() as nursery:

        async def connect(host: str, port: int) -> trio.abc.Stream:
            run = partial(trio.run_process, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            process = await nursery.start(run, [*command, host, str(port)])
            return trio.StapledStream(process.stdin, process.stdout)

        async with open_websocket_url(url, connect=connect) as ws:
            await ws.send_message("hello")
            print(await ws.get_message())


if __name__ == "__main__":
    trio.run(main)
