"""The last bytes to a client that gets no WebSocket, delivered so that it can read them; knows nothing of what they say."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from ._errors import ConnectionTimeout, HandshakeError
from .protocol import Headers, Response
from .transport import AcceptedStream

if TYPE_CHECKING:
    from .protocol import ServerHandshake

#: Bytes asked of a stream at once while the request comes; a request is smaller than this, hardly ever larger.
READ_SIZE = 4096

#: After an answer that is not 101 the client gets this many seconds to read it, and to send this many bytes that nobody
#: wants, before the connection is closed under it: unread data would make the kernel destroy the answer. A client that
#: sends a header of megabytes reads only when it has sent it.
FAREWELL_SECONDS = 1.0
FAREWELL_SIZE = 2**22
_DROP_SIZE = 2**16  # of it at once

#: The end of a request's head.
_END = b"\r\n\r\n"


async def deliver(stream: trio.abc.Stream, data: bytes, seconds: float) -> None:
    """Send an answer; a stream on which that fails is closed, for nothing may follow half an answer.

    Raises:
        HandshakeError: the client has gone, or did not take the answer in time.

    Cancellation: the stream is closed.
    """
    try:
        if isinstance(stream, AcceptedStream):
            await trio.lowlevel.checkpoint_if_cancelled()
            data = data[stream.try_send(data) :]
        if data:
            with trio.fail_after(seconds):
                await stream.send_all(data)
    except BaseException as exc:
        await trio.aclose_forcefully(stream)
        if isinstance(exc, trio.TooSlowError):
            raise ConnectionTimeout(f"the client did not take its answer within {seconds} seconds") from exc
        if isinstance(exc, trio.BrokenResourceError):
            raise HandshakeError("the client has gone before it was answered") from exc
        raise


def refusal_by(exc: BaseException) -> str:
    """Return in one word why a client was not answered, by what delivering the answer, or preparing it, has raised."""
    match exc:
        case ConnectionTimeout():
            return "timeout"
        case HandshakeError():
            return "client_gone"
        case Exception():
            return "hook_failed"
        case _:
            return "shutdown"


async def turn_away(stream: trio.abc.Stream, handshake: ServerHandshake, status: int) -> None:
    """Answer with a bare status if the client takes it at once, and close; shielded, for whoever is being cancelled."""
    with (
        trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL_SECONDS),
        suppress(trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError),
    ):
        await stream.send_all(handshake.respond(Response(status, Headers())))
    await trio.aclose_forcefully(stream)


async def dismiss(stream: trio.abc.Stream, answer: bytes, *, is_read: bool, may_wait: bool) -> None:
    """Give a client its answer before its request was looked at, and close.

    Args:
        stream: with nothing read of it here.
        answer: what to say.
        is_read: whether somebody else has read the request.
        may_wait: whether the client may take `FAREWELL_SECONDS` to send its request and to read. Otherwise no more than
            some system calls are spent on it: over TLS it gets no answer, and what it sends later may destroy the answer.

    Cancellation: the stream is closed at once.
    """
    try:
        with trio.move_on_after(FAREWELL_SECONDS), suppress(trio.BrokenResourceError):
            accepted = stream if isinstance(stream, AcceptedStream) else None
            head: bytes | bytearray | None = None if accepted is None else accepted.try_receive(READ_SIZE)
            if head is None and may_wait and not is_read:
                head = await stream.receive_some(READ_SIZE)
            if accepted is not None:
                accepted.try_send(answer)
                if head is not None and head.endswith(_END):  # nothing is unread, and nothing more comes
                    return
            elif may_wait:
                await stream.send_all(answer)
            if may_wait:
                await part(stream)
    finally:
        await trio.aclose_forcefully(stream)


async def part(stream: trio.abc.Stream) -> None:
    """Close a stream on which an answer was just sent, so that the client can read it.

    Cancellation: the stream is closed at once.
    """
    try:
        with trio.move_on_after(FAREWELL_SECONDS), suppress(trio.BrokenResourceError):
            if isinstance(stream, trio.abc.HalfCloseableStream):
                await stream.send_eof()
                left = FAREWELL_SIZE
                while left > 0 and (data := await stream.receive_some(_DROP_SIZE)):
                    left -= len(data)
            await stream.aclose()
    finally:
        await trio.aclose_forcefully(stream)
