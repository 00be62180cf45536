"""Sending what takes more than one step: messages in pieces, large ones that are compressed, and those that many get.

While one of the first two is under way other messages wait for its end, in their order, and control frames do not.
Knows no transports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio.lowlevel import checkpoint_if_cancelled

from ._channel import rest
from ._contexts import THREAD_SIZE
from .protocol import encode_payload

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable, Iterator

    from typing_extensions import Buffer

    from ._contexts import Contexts
    from ._link import Link
    from ._prepared import PreparedMessage


async def send_compressed(link: Link, contexts: Contexts, message: str | Buffer) -> None:
    """Compress a message in a thread and send it. It must be the message's turn.

    Raises:
        ConnectionClosed: the connection is closing or over.

    Cancellation: nothing of the message was or will be sent, nor compressed.
    """
    opcode, payload = encode_payload(message)
    link.outbox.begin_pieces()
    try:
        compressed = await contexts.compress(payload)
        # from here on it has to go out: the peer's context would miss it
        if not link.protocol.may_send:
            contexts.deflater.release()
            raise link.closed_error()
        link.transport.write(link.protocol.send_payload(opcode, compressed, True))
        link.protocol.count_message(len(payload))
    finally:
        link.outbox.end_pieces()
    contexts.watch()


async def send_pieces(link: Link, pieces: AsyncIterable[str | Buffer], compress: bool | None) -> None:
    """Send one message in pieces, a fragment each; of what is compressed, large ones in several.

    Raises:
        ConnectionClosed: the connection is closing or over.

    Cancellation: before the first piece nothing was sent; later the connection is closed with 1011.
    """
    await rest(link.inbox.turn)
    await link.outbox.wait_turn(link)
    link.outbox.begin_pieces()
    last: str | Buffer | None = None
    try:
        async for piece in pieces:
            for part in (piece,) if link.contexts is None else _parts(piece):
                await link.outbox.wait_room(link)
                link.transport.write(link.protocol.send_fragment(part, False, compress))
                last = part
        await link.outbox.wait_room(link)
        end = "" if isinstance(last, str) else b""
        link.transport.write(link.protocol.send_fragment(end, True, compress))
        last = None
    finally:
        if link.contexts is not None:
            link.contexts.watch()
        if last is not None:
            link.start_closing(1011, "a message could not be finished")
        link.outbox.end_pieces()


async def compress_large(links: Iterable[Link], message: PreparedMessage) -> None:
    """Compress a prepared message in threads, if it is so large, once for all connections with the same terms.

    Cancellation: nothing was sent.
    """
    if message.size > THREAD_SIZE:
        for link in links:
            if link.contexts is not None and message.lacks(link.protocol):
                await link.contexts.prepare(message)


async def send_prepared(
    link: Link, message: PreparedMessage, compress: bool | None, binary: bool | None
) -> None:
    """Send a message that is encoded once for all.

    Raises:
        ConnectionClosed: the connection is closing or over.
        ValueError: `compress` or `binary` is not None.

    Cancellation: nothing of the message was or will be sent on this connection.
    """
    if compress is not None:
        raise ValueError("a prepared message says itself whether it is compressed")
    if binary is not None:
        raise ValueError("a prepared message says itself whether it is text or binary")
    await checkpoint_if_cancelled()
    await compress_large((link,), message)
    if link.inbox.turn.may_send() and link.offer(message):
        return
    await rest(link.inbox.turn)
    if not link.offer(message):
        await wait_and_send(link, message)


async def wait_and_send(link: Link, message: PreparedMessage) -> None:
    """Send a message that is encoded once for all when there is room, behind those who wait already.

    Raises:
        ConnectionClosed: the connection is closing or over.

    Cancellation: nothing of the message was or will be sent on this connection.
    """
    await link.outbox.wait_turn(link)
    link.transport.write(message.encode_for(link.protocol))


def _parts(piece: str | Buffer) -> Iterator[str | Buffer]:
    """Cut a piece so small that compressing a part of it holds up nobody: then fragments need no thread."""
    if isinstance(piece, str):
        for start in range(0, max(len(piece), 1), THREAD_SIZE):
            yield piece[start : start + THREAD_SIZE]
        return
    with memoryview(piece) as view, view.cast("B") as data:
        for start in range(0, max(len(data), 1), THREAD_SIZE):
            yield bytes(data[start : start + THREAD_SIZE])
