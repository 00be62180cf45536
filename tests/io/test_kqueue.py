"""The kqueue side of the poller, run on Linux over a stand-in for `select.kqueue` that does what its manual says.

This shows that the poller speaks to a kqueue as it has to, not that a kernel answers as the stand-in does.
"""

import importlib.util
import select
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.io import test_sockets, test_transports
from trio_ws.transport import _ready

READ, WRITE, ADD, DELETE = -1, -2, 1, 2

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all tests run over the real one")


class Kevent(NamedTuple):
    ident: int
    filter: int
    flags: int = ADD


class Kqueue:
    """Filters as kqueue(2) keeps them, over an epoll set, which is what can be waited for here."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._filters: dict[int, set[int]] = {}

    def fileno(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()

    def control(self, changes: list[Kevent] | None, limit: int, timeout: float = 0) -> list[Kevent]:
        assert timeout == 0
        for change in changes or ():
            self._change(change)
        found: list[Kevent] = []
        for fd, flags in self._epoll.poll(0, limit) if limit else ():
            # A lost connection shows in each filter that is there (EV_EOF), and nowhere else.
            found += [
                Kevent(fd, kind)
                for kind, flag in ((READ, select.EPOLLIN), (WRITE, select.EPOLLOUT))
                if kind in self._filters[fd] and flags & (flag | select.EPOLLERR | select.EPOLLHUP)
            ]
        return found[:limit]

    def _change(self, change: Kevent) -> None:
        filters = self._filters.setdefault(change.ident, set())
        before = bool(filters)
        if change.flags == ADD:
            filters.add(change.filter)
        elif change.filter in filters:
            filters.remove(change.filter)
        else:
            raise FileNotFoundError("there is no such filter")
        wanted = (READ in filters) * select.EPOLLIN | (WRITE in filters) * select.EPOLLOUT
        if not filters:
            self._epoll.unregister(change.ident)
        elif before:
            self._epoll.modify(change.ident, wanted)
        else:
            self._epoll.register(change.ident, wanted)


@pytest.fixture(autouse=True)
def over_kqueue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have pollers use the set that they use where there is no epoll."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        patch.setattr(select, "KQ_FILTER_READ", READ, raising=False)
        patch.setattr(select, "KQ_FILTER_WRITE", WRITE, raising=False)
        source = Path(_ready.__file__)
        spec = importlib.util.spec_from_file_location("trio_ws.transport._ready_elsewhere", source)
        assert spec is not None
        assert spec.loader is not None
        elsewhere: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(elsewhere)
    monkeypatch.setattr(select, "KQ_EV_ADD", ADD, raising=False)
    monkeypatch.setattr(select, "KQ_EV_DELETE", DELETE, raising=False)
    monkeypatch.setattr(select, "kqueue", Kqueue, raising=False)
    monkeypatch.setattr(select, "kevent", Kevent, raising=False)
    assert elsewhere.ReadySet is not _ready.ReadySet
    monkeypatch.setattr("trio_ws.transport._polling.ReadySet", elsewhere.ReadySet)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize(
    "test",
    [
        test_transports.test_chunks_leave_whole_and_in_order,
        test_transports.test_data_arrives_in_order,
        test_transports.test_what_the_kernel_has_and_what_not,
        test_transports.test_pausing_stops_the_peer,
        test_transports.test_pausing_inside_data_received,
        test_transports.test_resuming_inside_data_received,
        test_transports.test_the_peers_end_comes_behind_its_data_and_closes_nothing,
        test_transports.test_end_flushes_and_reading_goes_on,
        test_transports.test_close_flushes,
        test_transports.test_close_waits_for_a_slow_peer_and_abort_does_not,
        test_transports.test_abort_drops_what_is_queued,
        test_sockets.test_no_descriptor_and_no_task_stays,
    ],
    ids=lambda test: test.__name__.removeprefix("test_"),
)
async def test_promises(test: Callable[[str], Awaitable[None]], kind: str) -> None:
    await test(kind)


async def test_a_reset_while_reading() -> None:
    await test_transports.test_a_reset("tcp", paused=False)


async def test_both_sides_end_while_reading_is_paused() -> None:
    await test_sockets.test_an_end_of_both_sides_while_reading_is_paused_neither_spins_nor_loses_anything()
    await test_sockets.test_both_sides_of_tcp_end_while_reading_is_paused()
