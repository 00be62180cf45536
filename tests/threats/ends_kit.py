"""Peers whose bytes end wherever a test wants: every byte that is sent is at hand before it is, TLS records too."""

import trio

from tests.io.transport_kit import reset


class Held(trio.abc.HalfCloseableStream):
    """A stream that can keep back what is sent; under a `trio.SSLStream` it gives a test the records.

    Attributes:
        held: what was kept back since `hold`, None before.
    """

    def __init__(self, inside: trio.SocketStream) -> None:
        self.inside = inside
        self.held: bytearray | None = None

    def hold(self) -> None:
        """Let nothing more out."""
        self.held = bytearray()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.held is None:
            await self.inside.send_all(data)
        else:
            self.held += data

    async def wait_send_all_might_not_block(self) -> None:
        await self.inside.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.inside.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self.inside.send_eof()

    async def aclose(self) -> None:
        await self.inside.aclose()


def records(ciphertext: bytes) -> list[bytes]:
    """Return the TLS records of which this consists (RFC 8446 5.1)."""
    found: list[bytes] = []
    while ciphertext:
        size = 5 + int.from_bytes(ciphertext[3:5], "big")
        found.append(ciphertext[:size])
        ciphertext = ciphertext[size:]
    return found


async def end_sending(stream: trio.SocketStream) -> None:
    """End one direction, and hear the other to its end."""
    await stream.send_eof()
    await hear_out(stream)


async def close(stream: trio.SocketStream) -> None:
    """Close both directions: what still comes is answered with a reset."""
    await stream.aclose()


async def abort(stream: trio.SocketStream) -> None:
    """Send a reset."""
    await trio.lowlevel.checkpoint()
    reset(stream)


async def hear_out(stream: trio.SocketStream) -> None:
    """Read to the end, of whatever kind."""
    try:
        while await stream.receive_some(65536):
            pass
    except trio.BrokenResourceError:
        pass


#: The ways in which bytes can end.
ENDS = [end_sending, close, abort]
