"""The WebSocket connection as its users see it; knows no frames and no transports, only the link behind it."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterable, Callable, Iterable
from contextlib import aclosing
from types import CoroutineType
from typing import TYPE_CHECKING, cast

import trio
from trio.lowlevel import checkpoint_if_cancelled, enable_ki_protection

from ._accel import accelerated
from ._channel import MessageChannel, receive, rest
from ._endpoint import Endpoint, endpoints
from ._facts import ConnectionFacts, link_of
from ._interrupts import uninterrupted
from ._pieces import MessageStream, each_of, recoded_pieces
from ._prepared import PreparedMessage
from ._sendable import check_message, control_payload, recoded, sendable_code
from ._sending import send_compressed, send_pieces, send_prepared
from .protocol import MaskPool, Protocol, Request, Response
from .transport import HIGH_WATER, make_transport

if TYPE_CHECKING or not accelerated:
    from ._link import Link
else:
    from ._link_c import Link

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._config import Config

#: One store of random bytes for all connections of the process.
masks = MaskPool(os.urandom)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=masks.forget)


@uninterrupted
class WebSocketConnection(ConnectionFacts, trio.abc.Channel["str | bytes"]):
    """An open WebSocket connection: a Trio channel of `str` (text) and `bytes` (binary) messages.

    Connections are made by `open_websocket_url` and its kin, and on the server by `WebSocketRequest.accept`.

    Any number of tasks may send and receive at the same time: messages go out whole, each is received by one task, and
    no call disturbs another. What a peer or the network does wrong is never raised in a task that did not ask: it is
    reported by the next call on the connection.

    Once the connection is over, messages that came before are still received, and then every call raises
    `ConnectionClosed`: `ConnectionEnded` after a clean end, at which ``async for`` stops, else `ConnectionLost`.

    Messages that came just before the peer's close frame can still be answered: the close frame is answered when a task
    has come back for the next message and there is none, or after half of ``disconnect_timeout``.
    """

    CONNECTION_ID = itertools.count()

    __slots__ = (
        "__dict__",  # users hang their own attributes on connections; it costs nothing until they do
        "__weakref__",
    )

    def __init__(
        self,
        nursery: trio.Nursery,
        stream: trio.abc.Stream,
        protocol: Protocol,
        config: Config,
        *,
        url: str,
        path: str,
        leftover: bytes,
        addresses: tuple[Endpoint | str, Endpoint | str] | None = None,
        request: Request | None = None,
        response: Response | None = None,
        on_gone: Callable[[], None] | None = None,
    ) -> None:
        self._addresses = addresses or endpoints(stream)
        self.url = url
        self.path = path
        self.request = request
        self.response = response
        size = config.receive_buffer_size
        transport = make_transport(stream) if size is None else make_transport(stream, read_size=size)
        self._link = Link(protocol, transport, config, masks.take, next(self.CONNECTION_ID), on_gone)
        self._link.start(nursery, leftover)

    @property
    def messages(self) -> MessageChannel:
        """The receiving end of the queue of messages; clones of it share the work among tasks.

        Closing it, or a clone, ends that object alone; the connection goes on.
        """
        return MessageChannel(self._link)

    # Messages

    async def send_message(
        self,
        message: str | Buffer | PreparedMessage,
        *,
        compress: bool | None = None,
        binary: bool | None = None,
    ) -> None:
        """Send one message: `str` as text, any contiguous buffer (`bytes`, `array`, a numpy array) as binary.

        Waits while more than 64 KiB wait to be sent. When it returns, the message will go out whole and in order,
        unless the connection ends first; a buffer may be changed then.

        Args:
            message: what to send; a `PreparedMessage` says itself whether it is compressed, and whether it is text.
            compress: whether to compress it, where both sides have agreed on compression. None decides by its size,
                and False is for what must stay secret from those who see how long messages are.
            binary: True sends a `str` as binary, in UTF-8; False sends a buffer, which must be UTF-8, as text. None, the
                default, goes by the type.

        Raises:
            ConnectionClosed: the connection is closing or over.
            ValueError: `message` is neither text nor a contiguous buffer, is text that UTF-8 cannot encode, is to be text
                and no UTF-8, or is prepared, and `compress` or `binary` is given.

        Cancellation: nothing of the message was or will be sent.
        """
        if type(message) is not str and type(message) is not bytes:
            if isinstance(message, PreparedMessage):
                await send_prepared(self._link, message, compress, binary)
                return
            check_message(message)
        if binary is not None:
            message = recoded(message, binary)
        link = self._link
        await checkpoint_if_cancelled()
        if link.send_in_turn(message, compress):
            return
        await rest(link.inbox.turn)
        if link.outbox.held or link.transport.buffered > HIGH_WATER:
            await link.outbox.wait_turn(link)
        if link.contexts is not None and link.contexts.wants_thread(message, compress):
            await send_compressed(link, link.contexts, message)
        else:
            link.send(message, compress)

    async def wait_send_might_not_block(self) -> None:
        """Wait until there is room for a message; whoever sends next takes it.

        Raises:
            ConnectionClosed: the connection is closing or over.

        Cancellation: does nothing else.
        """
        await self._link.outbox.wait_room(self._link)

    async def get_message(self) -> str | bytes:
        """Receive the next message, waiting for it if need be.

        Raises:
            ConnectionClosed: the connection is over and all that came before was received, or was closed here.

        Cancellation: no message is lost.
        """
        return await receive(self._link)

    def __anext__(self) -> CoroutineType[object, object, str | bytes]:
        return receive(self._link, True)  # type: ignore[return-value]  # to mypy, which is less precise than pyright

    async def send(self, value: str | Buffer | PreparedMessage) -> None:
        """Send one message; `trio.abc.SendChannel`'s name for `send_message`.

        Cancellation: nothing of the message was or will be sent.
        """
        await self.send_message(value)

    async def receive(self) -> str | bytes:
        """Receive the next message; `trio.abc.ReceiveChannel`'s name for `get_message`.

        Cancellation: no message is lost.
        """
        return await receive(self._link)

    async def send_stream(
        self,
        pieces: Iterable[str | Buffer] | AsyncIterable[str | Buffer],
        *,
        compress: bool | None = None,
        binary: bool | None = None,
    ) -> None:
        """Send one message in pieces, a fragment each, as they come; all of them text, or all binary.

        Other messages wait until it is finished; pings do not. Only one piece at a time is in memory here.

        Args:
            pieces: what to send.
            compress: as for `send_message`; None decides by the size of the first piece.
            binary: as for `send_message`; pieces that are sent as text may be cut inside characters.

        Raises:
            ConnectionClosed: the connection is closing or over.
            TypeError: the pieces are not all text or all binary.
            ValueError: they are to be text and no UTF-8.

        Cancellation: before the first piece nothing was sent; later the connection is closed with 1011, as is done
        when `pieces` raises, because half a message cannot be taken back.
        """
        source = each_of(pieces) if binary is None else recoded_pieces(pieces, binary)
        async with aclosing(source) as each:
            await send_pieces(self._link, each, compress)

    def receive_stream(self) -> MessageStream:
        """Receive the next message in pieces, in bounded memory: see `MessageStream`."""
        return MessageStream(self._link)

    # Control frames

    async def ping(self, payload: bytes | str | None = None) -> float:
        """Send a ping, wait for its pong, and return the round-trip time in seconds.

        Pongs are found behind unread messages, as far as twice the bounds of the queue allow.

        Args:
            payload: up to 125 bytes; by default four random ones.

        Raises:
            ConnectionClosed: the connection is closing or over, or ended before the pong came.
            TypeError: `payload` is neither text nor a buffer.
            ValueError: `payload` is too long, or a ping with it is waiting for its pong.

        Cancellation: the ping may have been sent; its pong is ignored then.
        """
        link = self._link
        data = link.pings.token() if payload is None else control_payload(payload)
        await link.outbox.wait_room(link)
        if data in link.pings:
            raise ValueError(f"a ping with the payload {data!r} is waiting for its pong already")
        waiter = link.ping(data)
        try:
            await waiter.event.wait()
        finally:
            link.pings.forget(data, waiter)
        if waiter.rtt is None:
            raise link.closed_error()
        return waiter.rtt

    async def pong(self, payload: bytes | str | None = None) -> None:
        """Send a pong that nobody asked for, as a sign of life (RFC 6455 5.5.3).

        Args:
            payload: up to 125 bytes; by default none.

        Raises:
            ConnectionClosed: the connection is closing or over.
            TypeError: `payload` is neither text nor a buffer.
            ValueError: `payload` is too long.

        Cancellation: nothing was sent.
        """
        link = self._link
        data = b"" if payload is None else control_payload(payload)
        await link.outbox.wait_room(link)
        link.transport.write(link.protocol.send_pong(data))

    # The end

    async def aclose(self, code: int | None = 1000, reason: str | None = None) -> None:
        """Close the connection: say so to the peer behind all that was sent, and wait for its answer and its end.

        Messages that were not received yet are dropped. Takes ``disconnect_timeout`` seconds at most, whatever the
        peer does, and nothing if the connection is over.

        Args:
            code: 1000, 1001, 1003, 1007 to 1014 or 3000 to 4999; None sends a close frame without one. 1005, 1006 and
                1015, which may not be sent, go out as 1000.
            reason: up to 123 bytes of UTF-8.

        Raises:
            TypeError: the reason is no text; the connection stays as it was.
            ValueError: the code or the reason cannot be sent; the connection stays as it was.

        Cancellation: the close frame was sent if there was room for it; the connection is cut.
        """
        link = self._link
        link.start_closing(sendable_code(code), reason)
        try:
            await trio.lowlevel.checkpoint()
            await link.over.wait()
        except BaseException:  # cancelled, or interrupted for the second time
            link.abort(None)
            raise

    async def end_sending(self, code: int | None = 1000, reason: str | None = None) -> None:
        """Begin to close, behind all that was sent, and receive on: what the peer sends before its own close frame.

        Most peers send no more than is under way, for they answer a close frame at once (RFC 6455 5.5.1). They get
        ``disconnect_timeout`` seconds, in which time that messages wait unread does not count.

        Args:
            code: as for `aclose`.
            reason: as for `aclose`.

        Raises:
            TypeError: the reason is no text; the connection stays as it was.
            ValueError: the code or the reason cannot be sent; the connection stays as it was.

        Cancellation: nothing was sent.
        """
        await trio.lowlevel.checkpoint()
        self._link.end_sending(sendable_code(code), reason)

    async def wait_closed(self) -> None:
        """Wait until the connection is over, whoever ends it.

        Cancellation: does nothing to the connection.
        """
        await self._link.over.wait()

    def terminate(self) -> None:
        """Cut the connection at once, without a word to the peer and without waiting. Idempotent."""
        self._link.inbox.discard()
        self._link.abort(None)


def class_of(config: Config) -> type[WebSocketConnection]:
    """Return the class that connections are to be of."""
    return cast("type[WebSocketConnection] | None", config.websocket_class) or WebSocketConnection


def announce(connection: WebSocketConnection) -> WebSocketConnection:
    """Tell the observer of a connection, which has just been made, that it is open; return it."""
    link_of(connection).observe(connection)
    return connection


def bind(nursery: trio.Nursery, connection: WebSocketConnection) -> None:
    """Have a nursery wait for a connection, which is cut when the nursery is cancelled, or takes no more tasks."""
    try:
        nursery.start_soon(_until_over, connection, name=f"trio_ws {connection}")
    except RuntimeError:
        connection.terminate()
        raise


@enable_ki_protection
async def _until_over(connection: WebSocketConnection) -> None:
    try:
        await connection.wait_closed()
    except trio.Cancelled:
        connection.terminate()
        raise
