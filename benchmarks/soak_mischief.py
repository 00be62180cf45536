"""The clients of a long run that are not honest: python soak_mischief.py OPTIONS; each does one kind of harm after another.

None of it needs the library: what a client may do with a socket is done by hand here.
"""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from trio_ws.protocol import Role
from trio_ws.testing import RawPeer, encode_raw_frame, handshake_request

MASK = b"\x12\x34\x56\x78"
HALF_FRAME = encode_raw_frame(2, b"x" * 100, mask=MASK, size=100_000)
TEXT = encode_raw_frame(1, b"hello" * 20, mask=MASK)
LARGE = encode_raw_frame(2, b"x" * 65536, mask=MASK)
PINGS = encode_raw_frame(9, b"x" * 125, mask=MASK) * 500
PONGS = encode_raw_frame(10, b"", mask=MASK) * 1000
OVERSIZE = encode_raw_frame(2, b"x" * 100, mask=MASK, size=2**40)
FRAGMENTS = encode_raw_frame(0, b"", fin=False, mask=MASK) * 5000
_DEFLATER = zlib.compressobj(wbits=-15)
BOMB = encode_raw_frame(
    2, _DEFLATER.compress(bytes(2**26)) + _DEFLATER.flush(zlib.Z_SYNC_FLUSH), mask=MASK, rsv=4
)

Kind = Callable[[RawPeer, random.Random], Awaitable[object]]

#: What is done before the opening handshake, and behind it.
BEFORE: dict[str, Kind] = {}
BEHIND: dict[str, Kind] = {}


def before(kind: Kind) -> Kind:
    """Have this done before the handshake."""
    BEFORE[getattr(kind, "__name__", "")] = kind
    return kind


def behind(kind: Kind) -> Kind:
    """Have this done behind the handshake."""
    BEHIND[getattr(kind, "__name__", "")] = kind
    return kind


@before
async def say_nothing(peer: RawPeer, chance: random.Random) -> None:
    """Connect, and wait to be thrown out."""
    await peer.receive_rest()


@before
async def drip(peer: RawPeer, chance: random.Random) -> None:
    """Send a request a byte at a time."""
    for byte in handshake_request():
        await peer.send(bytes((byte,)))
        await trio.sleep(0.2)


@before
async def leave_at_a_byte(peer: RawPeer, chance: random.Random) -> None:
    """Leave with a part of the request sent."""
    request = handshake_request()
    await peer.send(request[: chance.randrange(len(request))])


@before
async def ask_for_a_page(peer: RawPeer, chance: random.Random) -> None:
    """Ask again and again for what is not there."""
    for _ in range(20):
        await peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await peer.receive_rest()


@before
async def send_many_headers(peer: RawPeer, chance: random.Random) -> None:
    """Send a head without end."""
    await peer.send(b"GET / HTTP/1.1\r\n")
    for number in range(100_000):
        await peer.send(b"X-%d: y\r\n" % number * 10)


@before
async def send_garbage(peer: RawPeer, chance: random.Random) -> None:
    """Send what is no HTTP at all."""
    await peer.send(chance.randbytes(chance.randrange(1, 100_000)))
    await peer.receive_rest()


@behind
async def keep_silent(peer: RawPeer, chance: random.Random) -> None:
    """Answer no ping, and wait to be thrown out."""
    await peer.receive_rest()


@behind
async def stall_in_a_frame(peer: RawPeer, chance: random.Random) -> None:
    """Begin a frame, and wait to be thrown out."""
    await peer.send(HALF_FRAME)
    await peer.receive_rest()


@behind
async def end_this_side(peer: RawPeer, chance: random.Random) -> None:
    """Half-close somewhere in a message."""
    await peer.send(LARGE[: chance.randrange(len(LARGE))])
    assert isinstance(peer.stream, trio.SocketStream)
    await peer.stream.send_eof()
    await peer.receive_rest()


@behind
async def reset_at_a_byte(peer: RawPeer, chance: random.Random) -> None:
    """Send some messages, and reset in the middle of one."""
    await peer.send(TEXT * chance.randrange(100) + LARGE[: chance.randrange(len(LARGE))])
    reset(peer)


@behind
async def flood_pings(peer: RawPeer, chance: random.Random) -> None:
    """Send pings and read nothing."""
    for _ in range(200):
        await peer.send(PINGS)


@behind
async def flood_pongs(peer: RawPeer, chance: random.Random) -> None:
    """Send pongs that nobody has asked for."""
    for _ in range(20):
        await peer.send(PONGS)


@behind
async def flood_messages(peer: RawPeer, chance: random.Random) -> None:
    """Send large messages and read nothing."""
    while True:
        await peer.send(LARGE)


@behind
async def read_slowly(peer: RawPeer, chance: random.Random) -> None:
    """Ask for much, and read it a KiB at a time."""

    async def ask() -> None:
        with suppress(trio.BrokenResourceError):
            await peer.send(LARGE * 30)

    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            with suppress(trio.BrokenResourceError):
                while await peer.stream.receive_some(1024):  # noqa: ASYNC110 - slowness is the point
                    await trio.sleep(0.5)


@behind
async def send_broken_frames(peer: RawPeer, chance: random.Random) -> None:
    """Send bytes that are no frames."""
    await peer.send(TEXT + os.urandom(chance.randrange(1, 1000)))
    await peer.receive_rest()


@behind
async def announce_too_much(peer: RawPeer, chance: random.Random) -> None:
    """Announce a frame that is larger than anything."""
    await peer.send(TEXT + OVERSIZE)
    await peer.receive_rest()


@behind
async def send_fragments_for_ever(peer: RawPeer, chance: random.Random) -> None:
    """Send empty fragments, more than any message has."""
    await peer.send(encode_raw_frame(1, b"", fin=False, mask=MASK))
    for _ in range(30):
        await peer.send(FRAGMENTS)


@behind
async def send_a_bomb(peer: RawPeer, chance: random.Random) -> None:
    """Send 64 MiB in 64 KiB, or without compression an RSV1 that was not agreed on."""
    await peer.send(BOMB)
    await peer.receive_rest()


@behind
async def close_and_stay(peer: RawPeer, chance: random.Random) -> None:
    """Do the closing handshake, and go on sending."""
    await peer.send_close(1000)
    while True:
        await peer.send(LARGE)


@behind
async def just_go(peer: RawPeer, chance: random.Random) -> None:
    """Leave without a close frame, with echoes unread."""
    await peer.send(TEXT * chance.randrange(50))


def reset(peer: RawPeer) -> None:
    """Have the kernel send a reset when the socket is closed."""
    assert isinstance(peer.stream, trio.SocketStream)
    peer.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def harm(port: int, chance: random.Random, done: Counter[str], until: float) -> None:
    """Do one thing, for 20 seconds at most, and go without a word."""
    name, kind = chance.choice([*BEFORE.items(), *BEHIND.items()])
    done[name] += 1
    with trio.move_on_at(min(until, trio.current_time() + 20)), suppress(OSError, AssertionError):
        peer = RawPeer(await trio.open_tcp_stream("127.0.0.1", port), Role.CLIENT)
        try:
            if name in BEHIND:
                await peer.handshake(Sec_WebSocket_Extensions="permessage-deflate")
            with suppress(trio.BrokenResourceError):
                await kind(peer, chance)
        finally:
            await trio.aclose_forcefully(peer.stream)


async def live(port: int, chance: random.Random, done: Counter[str], until: float) -> None:
    """Do harm until the time is over."""
    await trio.sleep(chance.random() * 2)
    while trio.current_time() < until:
        await harm(port, chance, done, until)
        await trio.sleep(chance.expovariate(1))


async def main() -> None:
    """Run all clients, and print what they have done."""
    options = json.loads(sys.argv[1])
    done: Counter[str] = Counter()
    until = trio.current_time() + options["seconds"]
    async with trio.open_nursery() as nursery:
        for number in range(options["clients"]):
            chance = random.Random(f"{options['seed']}+{number}")
            nursery.start_soon(live, options["port"], chance, done, until)
    sys.stdout.write(f"{json.dumps({'mischief_done': done})}\n")


if __name__ == "__main__":
    trio.run(main)
