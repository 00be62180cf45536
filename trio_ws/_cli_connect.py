"""``python -m trio_ws connect``: a client for people and for scripts; knows nothing of serving."""

from __future__ import annotations

import os
import signal
import ssl
import sys
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

import trio

from . import (
    ConnectionClosed,
    ConnectionLost,
    ConnectionRejected,
    DisconnectionTimeout,
    HandshakeError,
    open_websocket_url,
)
from ._cli_screen import Status, complain, describe, presentable, reason_of, remark, show
from ._url import parse_url

if TYPE_CHECKING:
    import argparse

    from . import WebSocketConnection

#: Calls a function with each line of input; returns at the input's end.
Input: TypeAlias = Callable[[Callable[[str], Awaitable[None]]], Awaitable[None]]

READ_SIZE = 65536

# A body is shown to say why a connection was refused; a page of HTML in one line does not.
_BODY_SHOWN = 200


async def connect(options: argparse.Namespace) -> int:
    """Connect, talk, and close, also after a signal; a second signal is not waited for.

    Args:
        options: `url`, `message`, `subprotocol`, `header`, `origin`, `insecure`, `timeout` and `wait`, as the parser
            makes them.

    Cancellation: the connection is closed.
    """
    status: int = Status.OK

    async def end_on_signal(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal status
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            status = 128 + await anext(aiter(signals))
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        await nursery.start(end_on_signal)
        status = await _session(options)
        nursery.cancel_scope.cancel()
    return status


async def _session(options: argparse.Namespace) -> Status:
    """Be one connection, and translate whatever becomes of it."""
    try:
        url = parse_url(options.url)  # shown without the password that may be in what was given
    except ValueError as exc:
        complain(str(exc))
        return Status.USAGE
    try:
        return await _talk(options)
    except ValueError as exc:
        complain(str(exc))
        return Status.USAGE
    except DisconnectionTimeout as exc:
        complain(str(exc))
        return Status.FAILED
    except ConnectionRejected as exc:
        complain(f"{url} rejected the connection: {_answer(exc)}")
    except HandshakeError as exc:
        complain(f"cannot connect to {url}: {reason_of(exc)}")
    return Status.NO_CONNECTION


async def _talk(options: argparse.Namespace) -> Status:
    async with open_websocket_url(
        options.url,
        _trusting() if options.insecure else None,
        subprotocols=options.subprotocol,
        extra_headers=options.header,
        origin=options.origin,
        connect_timeout=options.timeout,
    ) as ws:
        try:
            if options.message is not None:
                return await _ask(ws, options.message, options.timeout)
            return await _converse(ws, options.wait)
        finally:
            with trio.CancelScope(shield=True):  # also after a signal the end is an orderly one
                await ws.aclose()


def _trusting() -> ssl.SSLContext:
    """Return a context that takes any certificate for good."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _answer(exc: ConnectionRejected) -> str:
    """Return a response as a line: its status and what its body begins with."""
    phrases = [status.phrase for status in HTTPStatus if status == exc.status_code]
    lines = (exc.body or b"").decode(errors="replace").strip().splitlines()
    return " ".join([str(exc.status_code), *phrases, *(f"({line[:_BODY_SHOWN]})" for line in lines[:1])])


async def _ask(ws: WebSocketConnection, message: str, patience: float) -> Status:
    """Send one message and show the answer."""
    try:
        with trio.fail_after(patience):
            await ws.send_message(message)
            show(presentable(await ws.get_message()))
    except trio.TooSlowError:
        complain(f"no answer came within {patience:g} seconds")
    except ConnectionClosed as exc:
        complain(f"the connection ended before an answer came: {_end(exc)}")
    else:
        return Status.OK
    return Status.FAILED


async def _converse(ws: WebSocketConnection, wait: float) -> Status:
    """Send what is typed or piped in, and show what comes."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return await _Conversation(ws, "", wait).run(_plain_lines)
    remark(f"connected to {ws.url}; Ctrl-D ends")
    status = await _Conversation(ws, "< ", 0).run(_typed_lines())
    if status is Status.OK and ws.closed is not None:
        remark(f"closed by the server: {describe(ws.closed)}")
    return status


def _typed_lines() -> Input:
    """Return what takes lines from a terminal: a prompt, or where there is none the terminal itself."""
    try:
        from ._cli_prompt import prompt_lines  # noqa: PLC0415  # it needs an optional dependency
    except ModuleNotFoundError:
        return _plain_lines
    return prompt_lines


async def _plain_lines(take: Callable[[str], Awaitable[None]]) -> None:
    """Call `take` with each line of standard input.

    Raises:
        UnicodeDecodeError: a line is not UTF-8.

    Cancellation: what was read and not taken is lost.
    """
    rest = bytearray()
    # Past Python's own buffer: a thread that is left waiting with its lock makes the interpreter abort at its end.
    while data := await trio.to_thread.run_sync(
        os.read, sys.stdin.fileno(), READ_SIZE, abandon_on_cancel=True
    ):
        rest += data
        if b"\n" in data:  # else a long line would be searched again with every piece of it
            *lines, rest = rest.split(b"\n")
            for line in lines:
                await take(line.removesuffix(b"\r").decode())
    if rest:
        await take(rest.decode())


class _Conversation:
    """Lines to the peer and messages from it, until either side has had enough."""

    def __init__(self, ws: WebSocketConnection, mark: str, wait: float) -> None:
        self._ws = ws
        self._mark = mark
        self._wait = wait
        self._status = Status.OK
        self._unsent = False  # whether there is a line that was taken and has not gone out
        self._all_sent = False
        self._receiving = (
            trio.CancelScope()
        )  # gets its deadline when all is sent, and a new one with each message

    async def run(self, lines: Input) -> Status:
        """Talk until the peer ends it, or until nothing has come for `wait` seconds after the last line."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, lines)
            with self._receiving:
                await self._receive()
            nursery.cancel_scope.cancel()
        if self._unsent and self._status is Status.OK:
            complain("the connection ended before all input was sent")
            return Status.FAILED
        return self._status

    async def _take(self, line: str) -> None:
        self._unsent = True
        await self._ws.send_message(line)
        self._unsent = False

    async def _send(self, lines: Input) -> None:
        try:
            await lines(self._take)
        except* ConnectionClosed:
            pass  # whoever receives learns the same, and says so
        except* ValueError as errors:
            complain(f"only UTF-8 can be sent as text: {reason_of(errors)}")
            self._status = Status.USAGE
        self._all_sent = True
        self._be_patient()

    async def _receive(self) -> None:
        try:
            async for message in self._ws:
                show(self._mark + presentable(message))
                self._be_patient()
        except ConnectionLost as exc:
            complain(f"the connection was lost: {_end(exc)}")
            self._status = Status.FAILED

    def _be_patient(self) -> None:
        if self._all_sent and self._ws.closed is None:  # else what there is comes at once
            self._receiving.deadline = trio.current_time() + self._wait


def _end(exc: ConnectionClosed) -> str:
    """Return how a connection ended, and why as far as this side knows."""
    return describe(exc.reason) + (f": {reason_of(exc)}" if exc.__cause__ else "")
