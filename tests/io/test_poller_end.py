"""The end of a poller: what happens when its last socket goes while an event for it has already come."""

import socket

import trio
import trio.testing

from trio_ws.transport import make_transport


class Lost:
    """A receiver that only waits for the end."""

    def __init__(self) -> None:
        self.event = trio.Event()

    def data_received(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def eof_received(self) -> None:
        pass

    def drained(self) -> None:
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        assert exc is None
        self.event.set()


async def close_while_data_arrives() -> None:
    near, far = socket.socketpair()
    receiver = Lost()
    with far:
        async with trio.open_nursery() as nursery:
            transport = make_transport(trio.SocketStream(trio.socket.from_stdlib_socket(near)))
            transport.start(receiver, nursery)
            await trio.testing.wait_all_tasks_blocked()
            transport.write((b"goes out at once",))
            transport.write((b"is due in the next turn",))
            transport.close()
            far.send(b"wakes the poller in that turn too")
            await receiver.event.wait()


async def test_a_poller_retired_by_its_flusher_in_the_turn_of_an_event_ends_quietly() -> None:
    for _ in range(20):  # which of the two tasks is first in a turn is drawn by lot
        await close_while_data_arrives()
