"""Compression between two ends of a connection: who asks for it, what is sent with it, and that nothing else changes."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing

from tests.io.api_kit import client_and_peer, server_and_peer
from tests.io.link_kit import both_ends, every_kind, open_streams, settle
from tests.io.test_cancellation import Canceller, cancel_everywhere
from trio_ws import (
    ConnectionClosed,
    PerMessageDeflate,
    RemoteProtocolError,
    open_websocket_url,
    serve_websocket,
    wrap_client_stream,
    wrap_server_stream,
)
from trio_ws._contexts import IDLE_SECONDS
from trio_ws.protocol import Deflater, parse_extensions
from trio_ws.testing import ConnectionPair, open_connection_pair

# whose clock does not wait for threads: no message here is so large that it would go through one
pytestmark = pytest.mark.usefixtures("autojump_clock")

FORGETFUL = PerMessageDeflate(server_no_context_takeover=True, client_no_context_takeover=True)
MESSAGES: list[str | bytes] = [
    "",
    "short",
    "long " * 1000,
    b"",
    bytes(3000),
    "€" * 400,
    bytes(range(256)) * 200,
]


def is_compressed(ends: ConnectionPair) -> bool:
    [names] = {tuple(extension.name for extension in end.extensions) for end in ends}
    return names == ("permessage-deflate",)


# Who asks for it


@pytest.mark.parametrize(
    ("client", "server", "expected"),
    [
        ({}, {}, False),
        ({}, {"compression": PerMessageDeflate()}, True),
        ({"compression": None}, {"compression": PerMessageDeflate()}, False),
        ({"compression": False}, {"compression": True}, False),
        ({"compression": True}, {"compression": False}, False),
        ({"compression": True}, {"compression": True}, True),
        ({"compression": FORGETFUL}, {"compression": PerMessageDeflate()}, True),
        ({}, {"compression": FORGETFUL}, True),
        ({"compression": PerMessageDeflate(client_max_window_bits=False)}, {"compression": FORGETFUL}, True),
        (
            {"compression": PerMessageDeflate(client_max_window_bits=False)},
            {"compression": PerMessageDeflate(client_max_window_bits=10)},
            False,
        ),
    ],
)
async def test_a_client_asks_by_default_and_a_server_declines(
    client: dict[str, Any], server: dict[str, Any], expected: bool
) -> None:
    async with open_connection_pair(client_options=client, server_options=server) as ends:  # type: ignore[arg-type]
        assert is_compressed(ends) is expected
        for near, far in (ends, ends[::-1]):
            for message in MESSAGES:
                await near.send_message(message)
                assert await far.get_message() == message


async def test_what_a_client_asks_for_by_default() -> None:
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wrap_client_stream, nursery, near, "localhost", "/")
        request = await wrap_server_stream(nursery, far)
        offers = parse_extensions(", ".join(request.request.headers.get_all("sec-websocket-extensions")))
        assert offers == [("permessage-deflate", [("client_max_window_bits", None)])]
        nursery.cancel_scope.cancel()


async def test_servers_and_clients_take_the_option() -> None:
    found: list[tuple[object, ...]] = []

    async def handler(request: Any) -> None:
        ws = await request.accept()
        found.append(ws.extensions)
        async for message in ws:
            await ws.send_message(message)

    async with trio.open_nursery() as nursery:

        async def serve(task_status: Any) -> None:
            await serve_websocket(
                handler, "127.0.0.1", 0, None, task_status=task_status, compression=PerMessageDeflate()
            )

        server = await nursery.start(serve)
        async with open_websocket_url(f"ws://127.0.0.1:{server.port}", compression=FORGETFUL) as ws:
            await ws.send_message("x" * 5000)
            assert await ws.get_message() == "x" * 5000
        nursery.cancel_scope.cancel()
    [[agreed]] = found
    assert [name for name, _ in agreed.params] == [  # type: ignore[attr-defined]
        "server_no_context_takeover",
        "client_no_context_takeover",
        "client_max_window_bits",
    ]


@pytest.mark.parametrize("wrong", [6, "deflate", {"level": 1}])
async def test_an_option_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="compression is a PerMessageDeflate, True or False"):
        open_websocket_url("ws://localhost", compression=wrong)
    with pytest.raises(TypeError, match="compression is a PerMessageDeflate, True or False"):
        await serve_websocket(print, "127.0.0.1", 0, None, compression=wrong)  # type: ignore[arg-type]


# What is sent


@every_kind
@pytest.mark.parametrize("options", [PerMessageDeflate(), FORGETFUL, PerMessageDeflate(threshold=0)])
async def test_messages_of_all_kinds_arrive(kind: str, options: PerMessageDeflate) -> None:
    async with both_ends(kind, compression=options) as ends:
        assert is_compressed(ends)
        for near, far in (ends, ends[::-1]):
            for compress in (None, True, False):
                for message in MESSAGES:
                    await near.send_message(message, compress=compress)
                    assert await far.get_message() == message
            await near.send_stream(["pieces " * 300, "", "of ", "text"])
            assert await far.get_message() == "pieces " * 300 + "of text"
            await near.send_stream([b"1" * 2000, b"2" * 60_000], compress=False)
            async with far.receive_stream() as pieces:
                assert b"".join([bytes(piece) async for piece in pieces]) == b"1" * 2000 + b"2" * 60_000  # type: ignore[arg-type]
            assert await near.ping() >= 0


async def test_many_tasks_send_at_once() -> None:
    async with both_ends("tcp", compression=PerMessageDeflate(threshold=0)) as (client, server):
        sent: list[str] = [f"message {i} " * (1 + i * 37 % 200) for i in range(300)]

        async def send(share: list[str]) -> None:
            for message in share:
                await client.send_message(message)

        async with trio.open_nursery() as nursery:
            for start in range(50):
                nursery.start_soon(send, sent[start::50])
            received = [await server.get_message() for _ in sent]
        assert sorted(map(str, received)) == sorted(sent)


async def test_rsv1_is_a_violation_where_nothing_was_agreed_on() -> None:
    async with client_and_peer() as (ws, peer):
        await peer.send(b"\xc1\x01\x00")
        with pytest.raises(ConnectionClosed) as caught:
            await ws.get_message()
        assert isinstance(caught.value.__cause__, RemoteProtocolError)
        assert caught.value.__cause__.code == "WS_ERR_UNEXPECTED_RSV_1"
    async with server_and_peer() as (ws, peer):
        await peer.send(b"\xc1\x81" + bytes(5))
        with pytest.raises(ConnectionClosed) as caught:
            await ws.get_message()
        assert isinstance(caught.value.__cause__, RemoteProtocolError)
        assert caught.value.__cause__.code == "WS_ERR_UNEXPECTED_RSV_1"


@every_kind
async def test_a_message_inflates_to_no_more_than_is_allowed(kind: str) -> None:
    near, far = await open_streams(kind)
    async with open_connection_pair(
        (near, far),
        client_options={"compression": PerMessageDeflate()},
        server_options={"compression": PerMessageDeflate(), "max_message_size": 50_000},
    ) as (client, server):
        await client.send_message(bytes(50_000))
        assert await server.get_message() == bytes(50_000)
        await client.send_message(bytes(50_001))
        with pytest.raises(ConnectionClosed):
            await server.get_message()
        with pytest.raises(ConnectionClosed) as caught:
            await client.get_message()
        assert caught.value.reason is not None
        assert caught.value.reason.code == 1009


async def test_what_was_read_waits_deflated_for_who_is_slow() -> None:
    """A read of a few kilobytes can be megabytes of messages: they are not all inflated before somebody takes them."""
    options = {"compression": PerMessageDeflate(), "message_queue_bytes": 200_000}
    async with both_ends("memory", **options) as (client, server):  # type: ignore[arg-type]
        for _ in range(100):
            await client.send_message(bytes(50_000))
        await settle()
        assert server.messages.statistics().bytes < 1_000_000
        for _ in range(100):
            assert await server.get_message() == bytes(50_000)
        assert server.messages.statistics().bytes == 0


@every_kind
@pytest.mark.parametrize("options", [PerMessageDeflate(), FORGETFUL], ids=["takeover", "none"])
async def test_a_cancelled_send_leaves_the_peer_s_context_right(
    kind: str, options: PerMessageDeflate
) -> None:
    async def attempt(canceller: Canceller) -> None:
        async with both_ends(kind, compression=options) as (client, server):
            await client.send_message("before " * 300)

            async def send() -> None:
                await client.send_message("cancelled, or not, " * 300)

            cancelled = await canceller.run(send)
            await client.send_message("behind " * 300)
            expected = ["before " * 300, "cancelled, or not, " * 300, "behind " * 300]
            if cancelled:
                del expected[1]
            assert [await server.get_message() for _ in expected] == expected

    await cancel_everywhere(attempt)


# What it holds


def deflaters() -> list[Deflater]:
    return [found for found in gc.get_objects() if isinstance(found, Deflater)]


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Leave everything to reference counting."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_a_compressor_that_nobody_needs_is_given_back(no_collector: None) -> None:
    options = PerMessageDeflate()
    async with both_ends("memory", compression=options, ping_interval=None) as (client, server):
        assert len(deflaters()) == 2
        assert not any(deflater.has_context for deflater in deflaters())
        for _ in range(3):
            await client.send_message("a message " * 200)
            assert await server.get_message() == "a message " * 200
            [ours] = [deflater for deflater in deflaters() if deflater.has_context]
            # as long as it is used it stays
            for _ in range(4):
                await trio.sleep(IDLE_SECONDS * 0.75)
                assert ours.has_context
                await client.send_message("a message " * 200)
                assert await server.get_message() == "a message " * 200
            await trio.sleep(IDLE_SECONDS * 2.01)
            assert not ours.has_context
        await client.send_stream(["in pieces " * 200])
        assert await server.get_message() == "in pieces " * 200
        assert any(deflater.has_context for deflater in deflaters())
        await trio.sleep(IDLE_SECONDS * 2.01)
        assert not any(deflater.has_context for deflater in deflaters())


@every_kind
async def test_nothing_is_left_of_a_connection_that_is_over(kind: str, no_collector: None) -> None:
    for _ in range(3):
        async with both_ends(kind, compression=PerMessageDeflate()) as (client, server):
            await client.send_message("x" * 5000)
            await server.send_message(await server.get_message())
            assert await client.get_message() == "x" * 5000
            assert all(deflater.has_context for deflater in deflaters())
        assert not any(
            deflater.has_context for deflater in deflaters()
        )  # though the connection is still held
        del client, server
        await settle()
        assert deflaters() == []


async def test_connections_that_forget_have_no_compressors(no_collector: None) -> None:
    async with both_ends("memory", compression=FORGETFUL) as (client, server):
        for near, far in ((client, server), (server, client)):
            await near.send_message("x" * 5000)
            assert await far.get_message() == "x" * 5000
        assert not any(deflater.has_context for deflater in deflaters())
