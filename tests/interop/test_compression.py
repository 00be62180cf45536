"""Compressed conversations with other implementations, on every term that the library can ask for."""

import itertools

import pytest

from tests.interop.interop_kit import MAX_MESSAGE_SIZE, Lane, Terms, send
from trio_ws import PerMessageDeflate
from trio_ws.protocol import AgreedDeflate, Role

#: Each goes there and back, several times, so that contexts that are taken over are used.
MESSAGES: list[str | bytes] = [
    "compressible " * 1000,
    b"\x00" * 70_000,
    "short",
    "",
    "\N{EURO SIGN}uro" * 5000,
    bytes(range(256)) * 300,
]

pytestmark = pytest.mark.parametrize("peer", ["ws", "websockets", "aiohttp", "chromium"], indirect=True)

over_tcp = pytest.mark.parametrize("transport", ["tcp"], indirect=True)
TAKEOVERS = [None, True]

#: Windows that a peer does not support, each by its kind, our role, the side whose window it is, and the bits.
UNSUPPORTED = {
    ("websockets", Role.CLIENT, Role.CLIENT, 8): "websockets knows no window of 8 bits",
    ("websockets", Role.CLIENT, Role.SERVER, 8): "websockets knows no window of 8 bits",
    ("websockets", Role.SERVER, Role.CLIENT, 8): "websockets knows no window of 8 bits",
    ("websockets", Role.SERVER, Role.SERVER, 8): "websockets knows no window of 8 bits",
    ("aiohttp", Role.CLIENT, Role.SERVER, 8): "aiohttp declines a window of 8 bits",
    ("aiohttp", Role.SERVER, Role.CLIENT, 8): "aiohttp fails at a window of 8 bits",
    # RFC 7692 7.1.2.1: who is asked for a window has to confirm it, even if it is the largest
    ("aiohttp", Role.CLIENT, Role.SERVER, 15): "aiohttp does not confirm a window of 15 bits",
}


async def converse(lane: Lane, options: PerMessageDeflate) -> AgreedDeflate:
    """Have every message go there and back, and say on what terms."""
    fragments = ["text " * 210, "in ", "", "fragments"]  # they travel in a header, which has its limits
    async with lane.talk(send(*fragments), terms=Terms(compression=options)) as talk:
        assert await talk.ws.get_message() == "".join(fragments)
        for message in MESSAGES * 3:
            await talk.ws.send_message(message)
            assert await talk.ws.get_message() == message
        for message in MESSAGES:
            await talk.ws.send_message(message, compress=len(message) % 2 == 0)
            await talk.ws.send_stream([message, message])
        for message in MESSAGES:
            assert await talk.ws.get_message() == message
            assert await talk.ws.get_message() == message + message  # type: ignore[operator]  # it is of its own kind
        await talk.ws.aclose()
        report = await talk.report()
    assert report.code == 1000
    assert "permessage-deflate" in report.extensions
    [agreed] = talk.ws.extensions
    assert isinstance(agreed, AgreedDeflate)
    return agreed


async def test_compression_by_default(lane: Lane) -> None:
    agreed = await converse(lane, PerMessageDeflate())
    assert not agreed.forgets
    assert not agreed.peer_forgets


@over_tcp
@pytest.mark.parametrize(("server", "client"), [*itertools.product(TAKEOVERS, TAKEOVERS)])
async def test_every_takeover(lane: Lane, server: bool | None, client: bool | None) -> None:
    agreed = await converse(
        lane, PerMessageDeflate(server_no_context_takeover=server, client_no_context_takeover=client)
    )
    ours, theirs = (client, server) if lane.role is Role.CLIENT else (server, client)
    assert agreed.forgets is bool(ours)
    assert agreed.peer_forgets is bool(theirs)


@over_tcp
@pytest.mark.parametrize("side", list(Role), ids=["client's", "server's"])
@pytest.mark.parametrize("bits", range(8, 16))
async def test_every_window(lane: Lane, side: Role, bits: int) -> None:
    if reason := UNSUPPORTED.get((lane.peer.kind, lane.role, side, bits)):
        pytest.skip(reason)
    if side is Role.CLIENT:
        options = PerMessageDeflate(client_max_window_bits=bits)
    else:
        options = PerMessageDeflate(server_max_window_bits=bits)
    agreed = await converse(lane, options)
    assert (agreed.window_bits if side is lane.role else agreed.peer_window_bits) <= bits


@over_tcp
@pytest.mark.parametrize("forgets", TAKEOVERS)
async def test_a_large_message(lane: Lane, forgets: bool | None) -> None:
    options = PerMessageDeflate(server_no_context_takeover=forgets, client_no_context_takeover=forgets)
    message = b"".join(b"%d, " % number for number in range(MAX_MESSAGE_SIZE // 10))
    async with lane.talk(terms=Terms(compression=options)) as talk:
        for _ in range(2):
            await talk.ws.send_message(message)
            assert await talk.ws.get_message() == message
        await talk.ws.aclose()
