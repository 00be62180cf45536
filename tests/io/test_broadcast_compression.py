"""Broadcasts that are compressed: once on equal terms, in a thread if they are large, and so that contexts still agree.

The clock is the real one, for a test's clock does not wait for threads; nothing here waits for it.
"""

import importlib.util
import random
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeAlias

import pytest
import trio
import trio.lowlevel

from tests.io.link_kit import open_streams
from trio_ws import ClientOptions, PerMessageDeflate, PreparedMessage, WebSocketConnection, broadcast
from trio_ws._contexts import THREAD_SIZE
from trio_ws.protocol import AgreedDeflate, Recipe
from trio_ws.testing import ConnectionPair, open_connection_pair

FORGETFUL = PerMessageDeflate(server_no_context_takeover=True, client_no_context_takeover=True)
UNSHARED = PerMessageDeflate(
    server_no_context_takeover=True, client_no_context_takeover=True, shared=False, threshold=1
)
#: Of the engines that are installed besides zlib.
OTHERS = [
    *([PerMessageDeflate(engine="isal")] if importlib.util.find_spec("isal") else []),
    *([PerMessageDeflate(engine="zlib-ng")] if importlib.util.find_spec("zlib_ng") else []),
]
#: What clients and servers of a crowd are ready for: each pair makes a connection on terms of its own.
TERMS = [
    (None, None),
    (PerMessageDeflate(), PerMessageDeflate()),
    (PerMessageDeflate(threshold=0), PerMessageDeflate(threshold=0)),
    (FORGETFUL, FORGETFUL),
    (UNSHARED, UNSHARED),
    (PerMessageDeflate(server_no_context_takeover=True), PerMessageDeflate()),
    (PerMessageDeflate(client_no_context_takeover=True), PerMessageDeflate()),
    (PerMessageDeflate(server_max_window_bits=8), PerMessageDeflate()),
    (PerMessageDeflate(client_max_window_bits=9, server_max_window_bits=15), PerMessageDeflate(level=1)),
    *((options, options) for options in OTHERS),
]
Received: TypeAlias = dict[WebSocketConnection, list[str | bytes]]

DICE = random.Random(5)
WORDS = [DICE.randbytes(DICE.randrange(3, 20)).hex() for _ in range(500)]


def some_text(dice: random.Random, size: int) -> str:
    """Return text of words that come again and again, so that a compressor refers far back."""
    text = ""
    while len(text) < size:
        text += dice.choice(WORDS)
    return text[:size]


@asynccontextmanager
async def crowd(
    terms: Sequence[tuple[PerMessageDeflate | None, PerMessageDeflate | None]], kind: str = "memory"
) -> AsyncGenerator[list[ConnectionPair]]:
    """Open a connection on each of these terms."""
    async with AsyncExitStack() as stack:
        stack.enter_context(trio.fail_after(60))
        pairs: list[ConnectionPair] = []
        for client, server in terms:
            pair = open_connection_pair(
                await open_streams(kind),
                client_options=ClientOptions(compression=client),
                server_options={"compression": server},
            )
            pairs.append(await stack.enter_async_context(pair))
        yield pairs


@pytest.fixture
def deflated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Recipe, bool]]:
    """Note how messages are compressed for many, and whether that was done in the main thread."""
    calls: list[tuple[Recipe, bool]] = []
    deflate = Recipe.deflate

    def noted(recipe: Recipe, data: bytes) -> bytes:
        calls.append((recipe, threading.current_thread() is threading.main_thread()))
        return deflate(recipe, data)

    monkeypatch.setattr(Recipe, "deflate", noted)
    return calls


def recipe_of(ws: WebSocketConnection) -> Recipe | None:
    [*agreed] = ws.extensions
    return agreed[0].deflater().recipe if agreed and isinstance(agreed[0], AgreedDeflate) else None


async def test_it_is_compressed_once_on_equal_terms(deflated: list[tuple[Recipe, bool]]) -> None:
    async with crowd(TERMS * 3) as pairs:
        servers = [pair.server for pair in pairs]
        message = some_text(DICE, 5000)
        await broadcast(servers, message)
        for pair in pairs:
            assert await pair.client.get_message() == message
        recipes = {recipe for ws in servers if (recipe := recipe_of(ws)) is not None}
        assert len(recipes) > 4
        assert sorted(recipe for recipe, _ in deflated) == sorted(recipes)


async def test_what_is_prepared_is_not_compressed_again(deflated: list[tuple[Recipe, bool]]) -> None:
    equal = PerMessageDeflate(
        server_no_context_takeover=True, client_no_context_takeover=True, client_max_window_bits=False
    )
    async with crowd([(equal, FORGETFUL)] * 2) as pairs:
        prepared = PreparedMessage("x" * 2000)
        for _ in range(3):
            await broadcast([pair.server for pair in pairs], prepared)
            await pairs[0].server.send_message(prepared)
            await pairs[0].client.send_message(prepared)  # whose terms are the same
        for _ in range(6):
            assert await pairs[0].client.get_message() == "x" * 2000
        for _ in range(3):
            assert await pairs[0].server.get_message() == "x" * 2000
        assert len(deflated) == 1


@pytest.mark.parametrize(
    ("size", "compress", "expected"),
    [(1023, None, False), (1024, None, True), (1024, False, False), (10, True, True), (0, True, True)],
)
async def test_whether_it_is_compressed(
    size: int, compress: bool | None, expected: bool, deflated: list[tuple[Recipe, bool]]
) -> None:
    async with crowd([(PerMessageDeflate(), PerMessageDeflate()), (None, None)]) as pairs:
        await broadcast([pair.server for pair in pairs], PreparedMessage(bytes(size), compress=compress))
        assert [await pair.client.get_message() for pair in pairs] == [bytes(size)] * 2
        assert bool(deflated) is expected


@pytest.mark.parametrize("size", [THREAD_SIZE, THREAD_SIZE + 1])
async def test_a_large_one_is_compressed_in_a_thread(size: int, deflated: list[tuple[Recipe, bool]]) -> None:
    message = some_text(DICE, size)
    async with crowd(TERMS * 2) as pairs:
        received: list[str | bytes] = []

        async def receive(ws: WebSocketConnection) -> None:
            received.append(await ws.get_message())

        async with trio.open_nursery() as nursery:
            for pair in pairs:
                nursery.start_soon(receive, pair.client)
            result = await broadcast([pair.server for pair in pairs], message)
        assert len(result.sent) == len(pairs)
        assert received == [message] * len(pairs)
        assert {here for _, here in deflated} == {size == THREAD_SIZE}
        assert len({recipe for recipe, _ in deflated}) == len(deflated)


async def test_a_large_one_for_one_connection_is_compressed_in_a_thread(
    deflated: list[tuple[Recipe, bool]],
) -> None:
    message = some_text(DICE, THREAD_SIZE + 1)
    async with crowd(TERMS[1:2]) as [pair]:
        for end, other in (pair, pair[::-1]):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end.send_message, PreparedMessage(message))
                assert await other.get_message() == message
    assert [here for _, here in deflated] == [False, False]


async def test_no_connection_keeps_a_compressor_for_broadcasts() -> None:
    async with crowd(TERMS[1:2] * 3) as pairs:
        before = [pair.server._link.protocol.deflater for pair in pairs]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # memory shows nowhere else
        await pairs[0].server.send_message("x" * 2000)
        assert [deflater is not None and deflater.has_context for deflater in before] == [True, False, False]
        await broadcast([pair.server for pair in pairs], "y" * 2000)
        assert not any(deflater is not None and deflater.has_context for deflater in before)
        for message in ("x", "y"):
            assert await pairs[0].client.get_message() == message * 2000


async def converse(end: WebSocketConnection, text: str, compress: bool | None, way: int) -> None:
    """Send one message in one of the ways of one connection."""
    if way == 0:
        await end.send_message(text, compress=compress)
    elif way == 1:
        await end.send_message(PreparedMessage(text, compress=compress))
    else:
        await end.send_stream([text[:1000], text[1000:]], compress=compress)


async def wait_until_equal(received: Received, expected: Received) -> None:
    while sum(map(len, received.values())) < sum(map(len, expected.values())):
        await trio.lowlevel.checkpoint()
    assert received == expected


@pytest.mark.parametrize("kind", ["memory", "tcp"])
@pytest.mark.parametrize("seed", range(4))
async def test_contexts_agree_whatever_is_sent_between_broadcasts(kind: str, seed: int) -> None:
    dice = random.Random(seed)
    async with crowd(TERMS, kind) as pairs, trio.open_nursery() as nursery:
        peers = {end: other for pair in pairs for end, other in (pair, pair[::-1])}
        expected: Received = {end: [] for end in peers}
        received: Received = {end: [] for end in peers}

        async def receive(ws: WebSocketConnection) -> None:
            async for message in ws:
                received[ws].append(message)

        for end in peers:
            nursery.start_soon(receive, end)
        for _ in range(80):
            text = some_text(dice, dice.choice([0, 3, 300, 1100, 3000, 20_000]))
            compress = dice.choice([None, None, True, False])
            some = dice.sample([*peers], dice.randrange(1, len(peers)))
            if dice.randrange(2):
                result = await broadcast(some, PreparedMessage(text, compress=compress))
                assert result.sent == some
            else:
                for end in some:
                    await converse(end, text, compress, dice.randrange(3))
            for end in some:
                expected[peers[end]].append(text)
            await wait_until_equal(received, expected)
        for pair in pairs:
            await pair.client.aclose()
