"""Frames for attacks, made by the megabyte; a peer that deflates by zlib alone; knows no attack itself."""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import trio

from tests.protocol.deflate_kit import Deflating
from tests.threats.threat_kit import DEFLATE, Victim
from trio_ws.testing import RawPeer, encode_raw_frame, handshake_request

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
RSV1 = 4

#: Masking with it changes nothing: a mask like any other, and no work for the attacker.
MASK = bytes(4)

#: An offer that has both sides forget each message before the next.
FORGETFUL = f"{DEFLATE}; server_no_context_takeover; client_no_context_takeover"

#: A request that asks for compression, which is declined where the server does not compress.
HANDSHAKE = handshake_request("GET / HTTP/1.1", Sec_WebSocket_Extensions=DEFLATE)


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    size: int | None = None,
    width: int | None = None,
) -> bytes:
    """Return a client's frame."""
    announced = len(payload) if size is None else size
    head = encode_raw_frame(opcode, b"", fin=fin, rsv=rsv, mask=MASK, size=announced, width=width)
    return head + payload


def close(code: int, reason: bytes = b"") -> bytes:
    """Return a client's close frame."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


#: A message.
HELLO = frame(TEXT, b"hello")


def frames(opcode: int, pieces: Sequence[bytes], rsv: int = 0) -> list[bytes]:
    """Return a message in fragments."""
    last = len(pieces) - 1
    return [
        frame(CONTINUATION if place else opcode, piece, fin=place == last, rsv=0 if place else rsv)
        for place, piece in enumerate(pieces)
    ]


def cut(data: bytes, pieces: int) -> list[bytes]:
    """Return `data` in so many pieces of about equal size."""
    step = -(-len(data) // pieces) or 1
    return [data[place * step : (place + 1) * step] for place in range(pieces)]


class Conversation:
    """A client of the attacker's own that compresses, on a connection whose handshake is done.

    Args:
        peer: the connection.
        takeover: whether both sides refer to earlier messages.
        bits: the window of what the server sends.
    """

    def __init__(self, peer: RawPeer, *, takeover: bool = True, bits: int = 15) -> None:
        self.peer = peer
        self._takeover = takeover
        self._bits = bits
        # what the server has to remember unless told otherwise
        self._deflating = Deflating(takeover=takeover, bits=12)
        self._inflater = zlib.decompressobj(-bits)

    def encode(self, message: str | bytes, pieces: int = 1) -> list[bytes]:
        """Return the frames of a compressed message."""
        data = message.encode() if isinstance(message, str) else message
        opcode = TEXT if isinstance(message, str) else BINARY
        return frames(opcode, self._deflating.payloads(*cut(data, pieces)), RSV1)

    async def send(self, message: str | bytes, pieces: int = 1) -> None:
        """Send a compressed message."""
        await self.peer.send(b"".join(self.encode(message, pieces)))

    async def receive(self) -> str | bytes:
        """Receive a message, compressed or not."""
        got = await self.peer.receive_frame()
        assert got.opcode in (TEXT, BINARY), got
        assert got.fin
        data = got.payload
        if got.rsv:
            assert got.rsv == RSV1
            if not self._takeover:
                self._inflater = zlib.decompressobj(-self._bits)
            data = self._inflater.decompress(data + b"\0\0\xff\xff")
        return data.decode() if got.opcode == TEXT else data

    async def echoed(self, message: str | bytes, pieces: int = 1) -> None:
        """Fail if a message does not come back as it is."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.send, message, pieces)
            got = await self.receive()
        assert type(got) is type(message)
        assert got == message, f"{len(message)} became {len(got)}"


@asynccontextmanager
async def conversation(victim: Victim, *, takeover: bool = True) -> AsyncGenerator[Conversation]:
    """Converse with a victim that compresses, and ask as its usual clients do; in the end nothing is left of it."""
    async with victim.attacked(DEFLATE if takeover else FORGETFUL) as peer:
        yield Conversation(peer, takeover=takeover)
    await victim.idle()


async def struck(
    victim: Victim, data: bytes, code: int, extensions: str | None = None, *, seconds: float = 5
) -> None:
    """Send bytes and nothing behind them; fail if the answer is not this close code, at once, or if anything stays.

    Args:
        victim: whom to send them to.
        data: all of the bytes.
        code: what the close frame is to say.
        extensions: what is asked for.
        seconds: what the victim may need for the bytes.
    """
    async with victim.attacked(extensions) as peer:
        with trio.fail_after(seconds):
            await peer.send(data)
            await peer.expect_close(code)
            await peer.expect_end()
    await victim.idle()


async def half_close(peer: RawPeer) -> None:
    """End the peer's side."""
    assert isinstance(peer.stream, trio.SocketStream)
    await peer.stream.send_eof()


def reset_at_close(peer: RawPeer) -> None:
    """Have the connection end in a reset when it is closed."""
    assert isinstance(peer.stream, trio.SocketStream)
    peer.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
