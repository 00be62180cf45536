"""What users of other libraries rely on with servers and sizes, and no other test shows; knows no other library."""

import math

import pytest
import trio
import trio.testing

from tests.io.api_kit import dialling, raw_client, receive_all, serving_in_memory
from trio_ws import CloseReason, SizeOptions, WebSocketRequest, wrap_client_stream
from trio_ws.testing import handshake_request, open_connection_pair


class Measured(trio.abc.HalfCloseableStream):
    """A stream that notes how many bytes are asked of it at once."""

    def __init__(self, inside: trio.abc.HalfCloseableStream) -> None:
        self.inside = inside
        self.asked: list[int | None] = []

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self.asked.append(max_bytes)
        return await self.inside.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.inside.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inside.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self.inside.send_eof()

    async def aclose(self) -> None:
        await self.inside.aclose()


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, 65536),
        ({"receive_buffer_size": None}, 65536),
        ({"receive_buffer_size": 4096}, 4096),
        ({"receive_buffer_size": 1}, 1),
    ],
    ids=str,
)
async def test_the_size_of_the_receive_buffer(options: SizeOptions, size: int) -> None:
    """Both ends ask for as many bytes at once as the option says, once the handshake is done."""
    near, far = trio.testing.memory_stream_pair()
    ends = Measured(near), Measured(far)
    async with open_connection_pair(ends, **options) as pair:
        for end in ends:
            end.asked.clear()
        for ws, other in (pair, pair[::-1]):
            for _ in range(3):
                await ws.send_message("hello")
                assert await other.get_message() == "hello"
        assert [set(end.asked) for end in ends] == [{size}, {size}]


async def test_no_size_at_all_lets_only_empty_messages_pass() -> None:
    """Zero is a limit like others, and not the absence of one."""
    async with open_connection_pair(max_message_size=0) as (client, server):
        await client.send_message("")
        assert await server.get_message() == ""
        await client.send_message("x")
        _, error = await receive_all(server)
        assert error.sent == CloseReason(1009)


async def test_who_never_waits_for_messages_lets_others_run() -> None:
    async with open_connection_pair(message_queue_size=math.inf) as (client, server):
        for number in range(640):
            await client.send_message(str(number))
        await trio.testing.wait_all_tasks_blocked()
        assert server.messages.statistics().messages == 640
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await trio.lowlevel.checkpoint()
            before = turns
            assert [await server.get_message() for _ in range(640)] == [str(number) for number in range(640)]
            assert turns - before >= 9
            nursery.cancel_scope.cancel()


async def test_a_handler_may_take_its_time_to_answer(autojump_clock: trio.testing.MockClock) -> None:
    """The server's `connect_timeout` is for the client to ask in."""

    async def handler(request: WebSocketRequest) -> None:
        await trio.sleep(1000)
        await (await request.accept()).send_message("at last")

    async with (
        serving_in_memory(handler, connect_timeout=1) as (_, listener),
        dialling(listener, connect_timeout=math.inf) as ws,
    ):
        assert trio.current_time() == pytest.approx(1000)
        assert await ws.get_message() == "at last"


async def test_times_that_pass_end_their_connection_alone(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither who asks nothing nor who does not answer the close frame is an error of the server, or worth a line."""

    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        if request.path == "/echo":
            await ws.send_message(await ws.get_message())

    async with serving_in_memory(handler, connect_timeout=3, disconnect_timeout=5) as (server, listener):
        mute, deaf = raw_client(listener), raw_client(listener)
        await deaf.send(handshake_request())
        await deaf.receive_head()
        await deaf.expect_close(1000)
        await mute.expect_end()
        assert trio.current_time() == pytest.approx(3)
        await deaf.expect_end()
        assert trio.current_time() == pytest.approx(5)
        await trio.testing.wait_all_tasks_blocked()
        assert server.connections == set()
        async with trio.open_nursery() as nursery:
            ws = await wrap_client_stream(nursery, listener.connect(), "localhost", "/echo")
            await ws.send_message("still there")
            assert [message async for message in ws] == ["still there"]
    assert caplog.records == []
