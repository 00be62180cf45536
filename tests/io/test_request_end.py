"""A rejected request leaves no stream open; what is on the stream is not known here beyond the request itself."""

import pytest
import trio
import trio.testing

from trio_ws import wrap_server_stream

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def test_a_rejection_that_is_cancelled_while_the_client_lingers_closes_the_stream() -> None:
    client, server = trio.testing.memory_stream_pair()
    await client.send_all(REQUEST)
    async with trio.open_nursery() as nursery:
        request = await wrap_server_stream(nursery, server)
        nursery.start_soon(request.reject, 401)
        await trio.testing.wait_all_tasks_blocked()
        assert b" 401 " in await client.receive_some()
        nursery.cancel_scope.cancel()
    with pytest.raises(trio.BrokenResourceError):
        await client.send_all(b"still there?")
