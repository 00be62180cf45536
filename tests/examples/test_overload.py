"""The example of a server with limits: what is within them goes on, and what is beyond them is told so."""

from contextlib import AsyncExitStack

import pytest

from tests.examples.test_examples import port, serving
from trio_ws import ConnectionLost, ConnectionRejected, open_websocket_url

__all__ = ["port"]  # a fixture


async def test_overload(port: int) -> None:
    url = f"ws://127.0.0.1:{port}/"
    async with serving("overload", port):
        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(open_websocket_url(url)) for _ in range(20)]
            with pytest.raises(ConnectionRejected) as rejected:
                async with open_websocket_url(url):
                    pass
            assert rejected.value.status_code == 503
            for ws in connections:
                await ws.send_message("hello")
                assert await ws.get_message() == "hello"
        async with open_websocket_url(url) as ws:
            with pytest.raises(ConnectionLost) as lost:
                for _ in range(1000):
                    await ws.send_message("hello")
                while True:
                    assert await ws.get_message() == "hello"
            assert lost.value.received is not None
            assert (lost.value.received.code, lost.value.received.reason) == (1008, "message rate exceeded")
