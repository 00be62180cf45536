"""Broadcasts that follow each other closely: what of them leaves together, and when it has left at the latest."""

import socket

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.io.test_broadcast import crowd, servers_of
from trio_ws import broadcast

#: Bytes of a server's frame before a short payload.
HEADER = 2


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the size of whatever the kernel takes."""
    sizes: list[int] = []

    def send(sock: socket.socket, data: bytes) -> int:
        sizes.append(super(socket.socket, sock).send(data))
        return sizes[-1]

    monkeypatch.setattr(socket.socket, "send", send)
    return sizes


class Idle(trio.abc.Instrument):
    """Notes how much had been sent whenever Trio begins to wait."""

    def __init__(self, sent: list[int]) -> None:
        self.sent = sent
        self.seen: list[int] = []

    def before_io_wait(self, timeout: float) -> None:
        if timeout > 0:
            self.seen.append(sum(self.sent))


async def test_broadcasts_of_one_turn_leave_together_and_in_order(sent: list[int]) -> None:
    async with crowd(5, "tcp") as pairs:
        sent.clear()
        heard: list[str] = []

        async def tell(message: str) -> None:
            heard.append(message)
            await broadcast(servers_of(pairs), message)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(tell, f"{number}")
        for pair in pairs:
            assert [await pair.client.get_message() for _ in range(8)] == heard
        assert sent == [8 * (HEADER + 1)] * 5


async def test_a_broadcast_has_left_before_trio_waits(sent: list[int]) -> None:
    async with crowd(30, "tcp") as pairs:
        idle = Idle(sent)
        for _ in range(10):
            sent.clear()
            idle.seen.clear()
            trio.lowlevel.add_instrument(idle)
            await broadcast(servers_of(pairs), "now")
            await wait_all_tasks_blocked(0.001)
            trio.lowlevel.remove_instrument(idle)
            assert idle.seen[0] == 30 * (HEADER + 3)
