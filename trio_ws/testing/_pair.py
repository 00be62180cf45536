"""Both ends of one connection in one program, made by the real handshake; knows nothing of frames."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, Unpack

import trio
import trio.testing

from .. import (
    AcceptOptions,
    ConnectionOptions,
    HandshakeError,
    HandshakeOptions,
    SizeOptions,
    WebSocketConnection,
    wrap_client_stream,
    wrap_server_stream,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    _Answers = trio.MemoryReceiveChannel[WebSocketConnection | Exception]


class ServerEndOptions(SizeOptions, AcceptOptions, total=False):
    """Options of the server's end: all that `trio_ws.wrap_server_stream` takes."""


class ConnectionPair(NamedTuple):
    """The two ends of one connection.

    Attributes:
        client: the client's end.
        server: the server's end.
    """

    client: WebSocketConnection
    server: WebSocketConnection


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_connection_pair(
    streams: tuple[trio.abc.Stream, trio.abc.Stream] | None = None,
    *,
    resource: str = "/",
    subprotocol: str | None = None,
    client_options: HandshakeOptions | None = None,
    server_options: ServerEndOptions | None = None,
    **options: Unpack[ConnectionOptions],
) -> AsyncGenerator[ConnectionPair, None]:
    """Open both ends of a connection for the length of an ``async with`` block, and close them at its end.

    ``async with open_connection_pair() as (client, server): ...``

    An exception of the block comes out as it is, never in a group, and both ends are cut then.

    Args:
        streams: connected: the client's and the server's. By default a `trio.testing.memory_stream_pair`.
        resource: what the client asks for.
        subprotocol: what the client offers and the server accepts.
        client_options: options of the client's end alone.
        server_options: options of the server's end alone.
        options: options of both ends.

    Raises:
        HandshakeError: the handshake failed.
        TypeError: an option is unknown.
        ValueError: an option is out of range.

    Cancellation: both ends are cut.
    """
    client_settings: HandshakeOptions = {**options, **(client_options or {})}
    if subprotocol is not None:
        client_settings["subprotocols"] = [subprotocol]
    near, far = streams or trio.testing.memory_stream_pair()
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                answers = _serve(nursery, far, subprotocol, {**options, **(server_options or {})})
                client = await _connect(nursery, near, resource, client_settings, answers)
                server = await _unwrap(answers)
                yield ConnectionPair(client, server)
                nursery.start_soon(server.aclose)
                await client.aclose()
            except BaseException as exc:  # noqa: BLE001 - kept from the nursery, which would put it into a group
                error = exc
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # the nursery's own tasks raise nothing: this is a cancellation or a KeyboardInterrupt that found it waiting
        error = error or group.exceptions[0]
    if error is not None:
        with trio.CancelScope(shield=True):  # a cancellation would end it after the first of them
            for stream in (near, far):
                await trio.aclose_forcefully(stream)  # which belongs to nobody yet if an option was wrong
        raise error


def _serve(
    nursery: trio.Nursery, stream: trio.abc.Stream, subprotocol: str | None, options: ServerEndOptions
) -> _Answers:
    """Accept a client in the background and return where the connection will come out, or what went wrong."""
    send, receive = trio.open_memory_channel[WebSocketConnection | Exception](1)

    async def accept() -> None:
        try:
            request = await wrap_server_stream(nursery, stream, **options)
            send.send_nowait(await request.accept(subprotocol=subprotocol))
        except Exception as exc:  # noqa: BLE001 - raised by `_unwrap`, in the task that can do something about it
            await trio.aclose_forcefully(stream)
            send.send_nowait(exc)

    nursery.start_soon(accept)
    return receive


async def _connect(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    resource: str,
    options: HandshakeOptions,
    answers: _Answers,
) -> WebSocketConnection:
    try:
        return await wrap_client_stream(nursery, stream, "localhost", resource, **options)
    except HandshakeError:
        with suppress(HandshakeError):  # of the two sides of one failure, ours tells the more
            await _unwrap(answers)
        raise


async def _unwrap(answers: _Answers) -> WebSocketConnection:
    answer = await answers.receive()
    if isinstance(answer, Exception):
        raise answer
    return answer
