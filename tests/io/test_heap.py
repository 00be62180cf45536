"""When what was given back goes to the system: once for many, and only when it is much."""

import ctypes

import pytest
import trio
import trio.testing

from trio_ws import _heap
from trio_ws._heap import COST, PATIENCE, WORTH, give_back, trim
from trio_ws.testing import open_connection_pair


@pytest.fixture
def trims(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times at which the heap was trimmed."""
    times: list[float] = []
    monkeypatch.setattr(_heap, "trim", lambda: times.append(trio.current_time()))
    return times


async def test_little_is_not_worth_it(autojump_clock: trio.testing.MockClock, trims: list[float]) -> None:
    give_back(WORTH - 1)
    await trio.sleep(100)
    assert trims == []
    give_back(1)
    await trio.sleep(100)
    assert trims == [100 + PATIENCE]


async def test_much_is_seen_to_once(autojump_clock: trio.testing.MockClock, trims: list[float]) -> None:
    for _ in range(10):
        give_back(WORTH)
        await trio.sleep(PATIENCE / 20)
    await trio.sleep(100)
    assert trims == [PATIENCE]
    give_back(WORTH)
    await trio.sleep(100)
    assert len(trims) == 2


async def test_what_takes_long_is_done_seldom(
    autojump_clock: trio.testing.MockClock, trims: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([10.0, 10.5, 20.0, 20.001, 30.0, 30.0])
    monkeypatch.setattr(_heap, "thread_time", lambda: next(seconds))
    for _ in range(3):
        give_back(WORTH)
        await trio.sleep(100)
    assert trims == [PATIENCE, 100 + COST * 0.5, 200 + PATIENCE]


@pytest.mark.parametrize(
    ("size", "worth"), [(WORTH // 16, False), (WORTH // 4, True)], ids=["small", "large"]
)
async def test_a_connection_gives_back_what_it_moved(
    autojump_clock: trio.testing.MockClock, trims: list[float], size: int, worth: bool
) -> None:
    async with open_connection_pair() as (client, server):
        for sender, receiver in [(client, server), (server, client)]:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.send_message, bytes(size))
                assert len(await receiver.get_message()) == size
        await trio.sleep(100)
        assert trims == []
    await trio.sleep(100)
    assert len(trims) == worth


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_an_allocator_that_cannot_is_left_alone(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", platform)

    def bare(name: str | None) -> object:
        assert name is None
        return object()

    monkeypatch.setattr(ctypes, "CDLL", bare)
    assert not trim()
