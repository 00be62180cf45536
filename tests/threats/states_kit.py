"""What a peer can have a server wait for, state by state; knows neither what is done next nor what must come of it."""

import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

import trio

from tests.io.link_kit import BINARY, PONG, TEXT
from trio_ws.testing import RawPeer, handshake_request

Move: TypeAlias = Callable[[RawPeer], Awaitable[object]]

REQUEST = handshake_request()


def sending(data: bytes) -> Move:
    """Return what sends these bytes, on a connection that is new."""

    async def send(peer: RawPeer) -> None:
        await peer.send(data)

    return send


async def say_nothing(_: RawPeer) -> None:
    """Leave it at that."""
    await trio.lowlevel.checkpoint()


def opened(move: Move) -> Move:
    """Return the same behind the opening handshake."""

    async def go(peer: RawPeer) -> None:
        await peer.handshake()
        await move(peer)

    return go


async def send_half_a_frame(peer: RawPeer) -> None:
    """Stop in the middle of a payload."""
    await peer.send(peer.encode_frame(BINARY, bytes(1000))[:-500])


async def send_half_a_message(peer: RawPeer) -> None:
    """Stop between two fragments."""
    await peer.send_frame(TEXT, b"to be contin", fin=False)


async def read_no_echoes(peer: RawPeer) -> None:
    """Send until nothing is taken any more, and read nothing."""
    if isinstance(peer.stream, trio.SocketStream):
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # so that it does not take megabytes
            peer.stream.setsockopt(socket.SOL_SOCKET, buffer, 8192)
    with suppress(trio.BrokenResourceError):
        while True:
            with trio.move_on_after(0.1) as scope:
                await peer.send(peer.encode_frame(BINARY, bytes(65536)))
            if scope.cancelled_caught:
                return


async def send_close(peer: RawPeer) -> None:
    """Begin to close."""
    await peer.send_close()


async def await_close(peer: RawPeer) -> None:
    """Close, and have the answer."""
    await peer.send_close()
    await peer.expect_close()


async def break_the_rules(peer: RawPeer) -> None:
    """Send what is no frame, and have the close frame that it is answered with."""
    await peer.send(b"\xff" * 10)
    await peer.expect_close(1002)


#: What a peer has said when it says no more, and has not got an answer.
HALF_OPEN: dict[str, Move] = {
    "silent": say_nothing,
    "half a request line": sending(REQUEST[:7]),
    "half a request": sending(REQUEST[:-20]),
    "no last line": sending(REQUEST[:-2]),
}

#: The same when it has got its 101.
OPEN: dict[str, Move] = {
    "idle": opened(say_nothing),
    "in a header": opened(sending(b"\x81")),
    "in a length": opened(sending(b"\x82\xfe\x01")),
    "in a mask": opened(sending(b"\x82\x85ab")),
    "in a payload": opened(send_half_a_frame),
    "in a ping": opened(sending(b"\x89\x85abcde")),
    "in a close frame": opened(sending(b"\x88\x85abcde")),
    "between fragments": opened(send_half_a_message),
    "echoes unread": opened(read_no_echoes),
}

#: The same when the end has begun.
ENDING: dict[str, Move] = {
    "close sent": opened(send_close),
    "close answered": opened(await_close),
    "rules broken": opened(break_the_rules),
}


async def drip(peer: RawPeer, data: bytes = b"") -> None:
    """Go on with 20 bytes a second until the other side is gone: first these, then zeros."""
    with suppress(trio.BrokenResourceError):
        for at in range(10_000):
            await peer.send(data[at : at + 1] or b"\0")
            await trio.sleep(0.05)


async def drip_a_request(peer: RawPeer) -> None:
    """Ask for a connection as slowly as that."""
    await drip(peer, REQUEST.replace(b"\r\n\r\n", b"\r\nX-Endless: "))


async def drip_a_frame(peer: RawPeer) -> None:
    """Send the header of a large frame, and of its payload a byte now and then."""
    await peer.send(peer.encode_frame(BINARY, bytes(100_000))[:14])
    await drip(peer)


async def drip_fragments(peer: RawPeer) -> None:
    """Send a message in fragments of one byte."""
    await peer.send_frame(BINARY, b"x", fin=False)
    await drip(peer, peer.encode_frame(0, b"x", fin=False) * 1000)


async def drip_behind_unread_echoes(peer: RawPeer) -> None:
    """Talk, but never read."""
    await read_no_echoes(peer)
    await drip(peer, peer.encode_frame(PONG) * 1000)


#: What never ends, though something moves.
DRIPPING: dict[str, Move] = {
    "a request drips": drip_a_request,
    "a frame drips": opened(drip_a_frame),
    "fragments drip": opened(drip_fragments),
    "pongs drip, echoes unread": opened(drip_behind_unread_echoes),
}
