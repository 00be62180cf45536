"""Lines typed at a prompt that stays below what is printed meanwhile; knows nothing of WebSocket.

prompt_toolkit runs on asyncio, so its loop runs in a thread, and what is typed comes to Trio from there. A prompt has
to be told when it is no longer wanted, and to be waited for: it has to give the terminal back as it was.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import trio
from prompt_toolkit import PromptSession
from prompt_toolkit.patch_stdout import patch_stdout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def prompt_lines(take: Callable[[str], Awaitable[None]]) -> None:
    """Call `take` with each line that is typed, until Ctrl-D or Ctrl-C.

    Cancellation: the prompt is gone when this returns, and the line in it is lost.
    """
    loop = asyncio.new_event_loop()
    asking = loop.create_task(_ask(take))

    def ask() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(asking)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_when_cancelled, loop, asking)
            await trio.to_thread.run_sync(ask)
            nursery.cancel_scope.cancel()
    finally:
        if not asking.done():  # cancelled before there was a thread
            asking.cancel()
            ask()
        loop.close()


async def _stop_when_cancelled(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    try:
        await trio.sleep_forever()
    finally:
        loop.call_soon_threadsafe(task.cancel)


async def _ask(take: Callable[[str], Awaitable[None]]) -> None:
    session: PromptSession[str] = PromptSession("> ", interrupt_exception=EOFError)
    with patch_stdout(), suppress(EOFError):
        while True:
            line = await session.prompt_async()
            trio.from_thread.run(take, line)
