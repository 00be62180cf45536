"""Writing that stops after any number of bytes: nothing ever follows half of a frame, and who sends is told.

What is written is the same each time, masks and compression included, so what the peer gets is compared byte by byte with
what it gets when nothing goes wrong.
"""

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing

from tests.io.link_kit import PATIENCE, settle
from tests.io.transport_kit import unix_pair
from trio_ws import (
    ConnectionClosed,
    ConnectionOptions,
    PerMessageDeflate,
    State,
    WebSocketConnection,
    wrap_client_stream,
    wrap_server_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import (
    FaultyStream,
    Frame,
    RawPeer,
    Step,
    cancelling,
    cut,
    encode_raw_frame,
    fail,
    handshake_request,
)

pytestmark = pytest.mark.usefixtures("autojump_clock")

every_role = pytest.mark.parametrize("role", list(Role))
every_compression = pytest.mark.parametrize("compression", ["plain", "deflate"])

DEFLATE = PerMessageDeflate(threshold=1)
MASK = b"\x37\xfa\x21\x3d"

#: The second has a length of two bytes, and repeats what the first says.
MESSAGES = ["first: abcabc", "second: " + "abcabc" * 20, "third"]

Talk = Callable[[WebSocketConnection, list[str]], Awaitable[None]]


async def send_whole(ws: WebSocketConnection, committed: list[str]) -> None:
    """Send the messages; with each of them some bytes leave before the next."""
    for message in MESSAGES:
        await ws.send_message(message)
        committed.append(message)
        await trio.lowlevel.checkpoint()


async def send_in_pieces(ws: WebSocketConnection, committed: list[str]) -> None:
    """Send them as one message in fragments."""

    async def pieces() -> AsyncGenerator[str]:
        for message in MESSAGES:
            yield message
            await trio.lowlevel.checkpoint()

    await ws.send_stream(pieces())
    committed.append("".join(MESSAGES))


TALKS: dict[str, Talk] = {"whole": send_whole, "in pieces": send_in_pieces}
every_talk = pytest.mark.parametrize("talk", TALKS)


@asynccontextmanager
async def writing(
    role: Role, compression: str, steps: list[Step]
) -> AsyncGenerator[tuple[WebSocketConnection, FaultyStream, RawPeer]]:
    """A connection over a stream whose writing goes wrong by script, and the peer by hand, behind the handshake."""
    near, far = trio.testing.memory_stream_pair()
    ours = FaultyStream(near, send=steps)
    peer = RawPeer(far, Role.CLIENT if role is Role.SERVER else Role.SERVER)
    options: ConnectionOptions = {
        "compression": DEFLATE if compression == "deflate" else None,
        "ping_interval": None,
        "disconnect_timeout": 5,
    }
    extension = "permessage-deflate" if compression == "deflate" else None
    with trio.fail_after(PATIENCE):
        try:
            async with trio.open_nursery() as nursery:
                if role is Role.CLIENT:
                    nursery.start_soon(lambda: peer.handshake(Sec_WebSocket_Extensions=extension))
                    ws = await wrap_client_stream(
                        nursery, ours, "localhost", "/", generate_mask=lambda: MASK, **options
                    )
                else:
                    await peer.send(handshake_request(Sec_WebSocket_Extensions=extension))
                    request = await wrap_server_stream(nursery, ours, **options)
                    ws = await request.accept()
                    await peer.receive_head()
                with trio.CancelScope(shield=True):
                    await (
                        ws.pong()
                    )  # so that what goes wrong before the first byte does not do so in the handshake
                    await peer.expect(10)
                    await settle()
                yield ws, ours, peer
                ws.terminate()
        finally:
            await trio.aclose_forcefully(far)


async def undisturbed(role: Role, compression: str, talk: Talk) -> tuple[int, bytes]:
    """Return how many bytes go out before the talk, and which ones for it when nothing goes wrong."""
    async with writing(role, compression, []) as (ws, ours, peer):
        before = ours.sent
        await talk(ws, [])
        await settle()
        ws.terminate()
        return before, await peer.receive_rest()


def frames_of(data: bytes) -> tuple[list[Frame], bytes]:
    """Take bytes apart into whole frames and the rest."""
    frames: list[Frame] = []
    while len(data) >= 2:
        size, place = data[1] & 127, 2
        if size == 126:
            size, place = int.from_bytes(data[2:4], "big"), 4
        mask = data[place : place + 4] if data[1] & 128 else None
        place += 0 if mask is None else 4
        if len(data) < place + size:
            break
        payload = data[place : place + size]
        if mask is not None:
            payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        frames.append(Frame(data[0] & 15, payload, bool(data[0] & 128), data[0] >> 4 & 7, mask))
        data = data[place + size :]
    return frames, data


class BrokenOnPurposeError(OSError):
    """What a kernel may say."""


async def raise_(_: FaultyStream) -> None:
    raise BrokenOnPurposeError("the cable was pulled")


@every_role
@every_compression
@every_talk
@pytest.mark.parametrize("fault", ["cut", "fail", "raise", "cancel"])
async def test_a_write_that_ends_anywhere_ends_the_connection(
    role: Role, compression: str, talk: str, fault: str
) -> None:
    """The peer has what was written by then and sees the end; what is sent next raises."""
    before, whole = await undisturbed(role, compression, TALKS[talk])
    for size in range(len(whole) + 1):
        scope = trio.CancelScope()  # of the connection's owner
        step = {"cut": cut, "fail": fail, "raise": raise_, "cancel": cancelling(scope)}[fault]
        with scope:
            async with writing(role, compression, [before + size, step]) as (ws, ours, peer):
                with trio.CancelScope(shield=True):
                    with suppress(ConnectionClosed):
                        await TALKS[talk](ws, [])
                    await settle()
                    assert ws.state is State.CLOSED
                    with pytest.raises(ConnectionClosed):
                        await ws.send_message("too late")
                    assert await peer.receive_rest() == whole[:size]
                    assert ours.sent == before + size


@every_role
@every_compression
async def test_who_sends_is_cancelled_while_any_number_of_bytes_is_out(role: Role, compression: str) -> None:
    """What was committed goes out whole, what was not is not in the compressor's memory, and the connection goes on."""
    before, whole = await undisturbed(role, compression, send_whole)
    expected: dict[int, bytes] = {}
    counts: set[int] = set()
    for size in range(len(whole) + 1):
        committed: list[str] = []
        scope = trio.CancelScope()
        async with writing(role, compression, [before + size, cancelling(scope)]) as (ws, _, peer):
            with scope:
                await send_whole(ws, committed)
            await ws.send_message("last")
            await settle()
            assert ws.closed is None
            ws.terminate()
            rest = await peer.receive_rest()
        counts.add(len(committed))
        if len(committed) not in expected:
            expected[len(committed)] = await wire_of(role, compression, [*committed, "last"])
        assert rest == expected[len(committed)]
    assert len(counts) > 1


async def wire_of(role: Role, compression: str, messages: list[str]) -> bytes:
    async with writing(role, compression, []) as (ws, _, peer):
        for message in messages:
            await ws.send_message(message)
        await settle()
        ws.terminate()
        return await peer.receive_rest()


@every_role
@every_compression
async def test_who_sends_in_pieces_is_cancelled_while_any_number_of_bytes_is_out(
    role: Role, compression: str
) -> None:
    """The peer gets whole frames: of nothing, of all, or of a beginning with the close frame right behind it."""
    before, whole = await undisturbed(role, compression, send_in_pieces)
    all_frames, nothing = frames_of(whole)
    assert nothing == b""
    fates: set[str] = set()
    for size in range(len(whole) + 1):
        scope = trio.CancelScope()
        async with writing(role, compression, [before + size, cancelling(scope)]) as (ws, _, peer):
            with scope:
                await send_in_pieces(ws, [])
            await settle()
            closed = ws.closed is not None
            if closed:
                with pytest.raises(ConnectionClosed):
                    await ws.send_message("too late")
            ws.terminate()
            frames, rest = frames_of(await peer.receive_rest())
        assert rest == b""
        if closed:
            fates.add("ended")
            close = frames.pop()
            assert close.opcode == 8
            assert close.payload.startswith((1011).to_bytes(2, "big"))
            assert 0 < len(frames) < len(all_frames)
        else:
            fates.add("whole" if frames else "nothing")
            assert len(frames) in (0, len(all_frames))
        assert frames == all_frames[: len(frames)]
    assert fates == {"ended", "whole", "nothing"}


# The same over a kernel's socket, which takes what it has room for


@every_role
async def test_a_kernel_that_takes_half_a_frame_gets_the_other_half_whoever_is_cancelled(role: Role) -> None:
    """The peer reads a little, the senders are cancelled, and the peer reads on: whole messages, those that were sent."""
    sizes = [150_000, 90_000, 70_000, 5]
    counts: set[int] = set()
    for read_before in range(0, 400_000, 25_000):
        committed: list[bytes] = []
        async with over_a_socket(role) as (ws, peer):

            async def send(ws: WebSocketConnection = ws, committed: list[bytes] = committed) -> None:
                for number, size in enumerate(sizes):
                    await ws.send_message(bytes([number]) * size)
                    committed.append(bytes([number]) * size)

            received = b""
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                await settle()
                received += await read_up_to(peer, read_before)
                await settle()
                nursery.cancel_scope.cancel()
            assert ws.closed is None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ws.send_message, b"last")
                expected = b"".join(
                    encode_raw_frame(2, message, mask=MASK if role is Role.CLIENT else None)
                    for message in (*committed, b"last")
                )
                received += await peer.receive_exactly(len(expected) - len(received))
            assert received == expected
            counts.add(len(committed))
            ws.terminate()
            assert await peer.receive_rest() == b""
    assert counts == {1, 2, 3, 4}


@every_role
async def test_a_connection_cut_in_half_a_frame_sends_nothing_behind_it(role: Role) -> None:
    message = bytes(range(256)) * 2000
    wire = encode_raw_frame(2, message, mask=MASK if role is Role.CLIENT else None)
    for read_before in range(0, 400_000, 50_000):
        async with over_a_socket(role) as (ws, peer):
            await ws.send_message(message)
            received = await read_up_to(peer, read_before)
            assert ws.buffered_amount > 0
            ws.terminate()
            with pytest.raises(ConnectionClosed):
                await ws.send_message("too late")
            received += await peer.receive_rest()
            assert len(received) < len(wire)
            assert wire.startswith(received)


@asynccontextmanager
async def over_a_socket(role: Role) -> AsyncGenerator[tuple[WebSocketConnection, RawPeer]]:
    """A connection whose socket holds little."""
    near, far = unix_pair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    peer = RawPeer(far, Role.CLIENT if role is Role.SERVER else Role.SERVER)
    async with trio.open_nursery() as nursery:
        if role is Role.CLIENT:
            nursery.start_soon(peer.handshake)
            ws = await wrap_client_stream(
                nursery, near, "localhost", "/", generate_mask=lambda: MASK, ping_interval=None
            )
        else:
            await peer.send(handshake_request())
            ws = await (await wrap_server_stream(nursery, near, ping_interval=None)).accept()
            await peer.receive_head()
        yield ws, peer
        ws.terminate()
    await trio.aclose_forcefully(far)


async def read_up_to(peer: RawPeer, size: int) -> bytes:
    """Read this many bytes, or fewer if no more come for now."""
    with trio.move_on_after(1):
        return await peer.receive_exactly(size)
    data = bytes(peer.received)
    peer.received.clear()
    return data
