"""A connection as a stream of bytes, for what speaks to `trio.abc.Stream`; knows no frames, and of messages no borders."""

from __future__ import annotations

from contextlib import contextmanager
from operator import index
from typing import TYPE_CHECKING

import trio

from ._errors import ConnectionClosed, ConnectionEnded
from ._interrupts import uninterrupted
from ._sendable import Utf8Decoder, check_message

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._connection import WebSocketConnection

#: Bytes of a message at most: as much as may wait to be sent, and far below what any peer allows in a message.
PIECE_SIZE = 65536


@uninterrupted
class WebSocketStream(trio.abc.HalfCloseableStream):
    """A connection as a stream of bytes: a tunnel for protocols that want one, such as TLS or SSH.

    What one `send_all` gets goes out as one binary message, or as several of 64 KiB; the borders of the messages that
    come mean nothing. Text that comes is received as UTF-8.

    Whoever uses the stream leaves the connection's own methods for messages alone; its attributes and `ping` can be used.

    Args:
        connection: it belongs to the stream from now on.
        text: whether to send text messages, for peers that take nothing else. What is sent must be UTF-8 then; a
            character that is cut in two goes out with its second part.
    """

    __slots__ = ("_closed", "_decoder", "_eof", "_receiving", "_rest", "_sending", "connection")

    #: The connection below.
    connection: WebSocketConnection

    def __init__(self, connection: WebSocketConnection, *, text: bool = False) -> None:
        self.connection = connection
        self._decoder = Utf8Decoder() if text else None
        self._rest: bytes | memoryview = b""  # of a message that was received in part
        self._closed = False
        self._eof = False  # whether our side was ended
        self._sending = False
        self._receiving = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; nothing at all sends no message.

        Raises:
            trio.BusyResourceError: another task is sending.
            trio.BrokenResourceError: the connection is over, or the peer has ended it.
            trio.ClosedResourceError: this stream was closed, or its side ended.
            ValueError: the bytes are not UTF-8 and the stream is one of text, or they are no contiguous buffer.

        Cancellation: some of it may have been sent.
        """
        check_message(data)
        with self._alone_in_sending(), memoryview(data) as view, view.cast("B") as octets:
            await trio.lowlevel.checkpoint()
            for start in range(0, len(octets), PIECE_SIZE):
                piece = bytes(octets[start : start + PIECE_SIZE])
                if self._decoder is None:
                    await self.connection.send_message(piece)
                elif text := self._decoder.decode(piece):
                    await self.connection.send_message(text)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room for something to send.

        Raises:
            trio.BusyResourceError: another task is sending.
            trio.BrokenResourceError: the connection is over, or the peer has ended it.
            trio.ClosedResourceError: this stream was closed, or its side ended.

        Cancellation: does nothing else.
        """
        with self._alone_in_sending():
            await self.connection.wait_send_might_not_block()

    async def send_eof(self) -> None:
        """End this side: the closing handshake begins behind what was sent. What the peer still sends is received.

        Peers mostly answer at once, so that this ends their side as well: see `WebSocketConnection.end_sending`.

        Raises:
            trio.BusyResourceError: another task is sending.
            trio.ClosedResourceError: this stream was closed.
            ValueError: the stream is one of text, and what was sent ends inside a character.

        Cancellation: nothing was done.
        """
        if self._eof and not self._closed:
            await trio.lowlevel.checkpoint()
            return
        with self._alone_in_sending():
            if self._decoder is not None:
                self._decoder.decode(b"", True)
            await self.connection.end_sending()
            self._eof = True

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive bytes, waiting for some if need be; ``b""`` when the peer has ended the connection as it should be.

        Args:
            max_bytes: no more than this; None takes what is left of the message at hand.

        Raises:
            trio.BusyResourceError: another task is receiving.
            trio.BrokenResourceError: the connection broke, was cut, or was closed with a code that tells of an error.
            trio.ClosedResourceError: this stream was closed.
            TypeError: `max_bytes` is no whole number.
            ValueError: `max_bytes` is less than 1.

        Cancellation: nothing is lost.
        """
        if max_bytes is not None and index(max_bytes) < 1:
            raise ValueError(f"max_bytes is at least 1, not {max_bytes}")
        self._require_open()
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this stream")
        self._receiving = True
        try:
            return await self._receive(max_bytes)
        except ConnectionClosed as exc:
            self._require_open(exc)
            if not isinstance(exc, ConnectionEnded):
                raise
            await trio.lowlevel.checkpoint()
            return b""
        finally:
            self._receiving = False

    async def _receive(self, max_bytes: int | None) -> bytes:
        if self._rest:
            await trio.lowlevel.checkpoint()
        while not self._rest:
            message = await self.connection.get_message()
            self._rest = message.encode() if isinstance(message, str) else message
        self._require_open()
        data = self._rest
        if max_bytes is None or len(data) <= max_bytes:
            self._rest = b""
            return bytes(data)
        view = memoryview(data)
        self._rest = view[max_bytes:]
        return bytes(view[:max_bytes])

    async def aclose(self) -> None:
        """Close the connection; what was not received is dropped. Idempotent.

        Cancellation: the connection is cut.
        """
        self._closed = True
        self._rest = b""
        await self.connection.aclose()

    def _require_open(self, cause: Exception | None = None) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed") from cause

    @contextmanager
    def _alone_in_sending(self) -> Generator[None]:
        self._require_open()
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        if self._eof:
            raise trio.ClosedResourceError("this side of the stream was ended")
        self._sending = True
        try:
            yield
        except ConnectionClosed as exc:
            self._require_open(exc)
            raise trio.BrokenResourceError(f"the connection is over: {exc}") from exc
        finally:
            self._sending = False
