"""What holds for every test: the installed package is tested, and no test leaves a socket or a task behind."""

import gc
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

CHECKOUT = Path(__file__).parent.parent

# `python -m pytest` puts the checkout first on sys.path, so that `import trio_ws` would find the source and a file
# missing from the wheel would go unnoticed. Last is right for both: an installed package comes first, and where the
# install is an editable one, both are the same folder. The checkout stays reachable for `tests` itself.
sys.path[:] = [entry for entry in sys.path if Path(entry or Path.cwd()).resolve() != CHECKOUT]
sys.path.append(str(CHECKOUT))
# The same for child processes: `python -m trio_ws` does not look in the folder that it is started in.
os.environ["PYTHONSAFEPATH"] = "1"

# Kinds of descriptors that the library opens: sockets, and the sets and wake-up channels of event loops.
_WATCHED_DESCRIPTORS = ("socket:", "pipe:", "anon_inode:[eventpoll]", "anon_inode:[eventfd]")
# System tasks that serve every connection of a Trio run, each once, and end with it.
_SERVICES = ["trio_ws alarms", "trio_ws flusher", "trio_ws poller"]
_DESCRIPTORS = Path("/proc/self/fd")


def pytest_report_header() -> str:
    """Say which trio_ws is tested."""
    spec = importlib.util.find_spec("trio_ws")
    found = spec and spec.submodule_search_locations
    return f"trio_ws {importlib.metadata.version('trio_ws')} from {' '.join(found or ['nowhere'])}"


def _open_descriptors() -> dict[str, str]:
    """Return the watched descriptors of this process as {number: what it is}; empty where the system hides them."""
    if not _DESCRIPTORS.is_dir():
        return {}
    found: dict[str, str] = {}
    for number in os.listdir(_DESCRIPTORS):
        try:
            target = os.readlink(_DESCRIPTORS / number)
        except FileNotFoundError:  # the descriptor that listed the folder
            continue
        if target.startswith(_WATCHED_DESCRIPTORS):
            found[number] = target
    return found


def _new_descriptors(before: dict[str, str]) -> dict[str, str]:
    now = _open_descriptors()
    return {number: target for number, target in now.items() if before.get(number) != target}


@pytest.fixture(autouse=True)
def no_leaked_descriptor() -> Iterator[None]:
    """Fail a test after which a socket is open that was not open before it."""
    before = _open_descriptors()
    yield
    if _new_descriptors(before):
        # Perhaps only garbage in a cycle: collecting it closes it, and complains with a ResourceWarning if that matters.
        gc.collect()
        leaked = _new_descriptors(before)
        assert not leaked, f"the test left descriptors open: {leaked}"


class _SystemTaskWatch(trio.abc.Instrument):
    """Notes which system tasks outlive the main task of a run, apart from Trio's own and one of each service."""

    def __init__(self) -> None:
        self.leaked: list[str] = []
        self._main: trio.lowlevel.Task | None = None
        self._own: set[trio.lowlevel.Task] = set()

    def _system_tasks(self) -> set[trio.lowlevel.Task]:
        root = trio.lowlevel.current_root_task()
        assert root is not None
        return {task for nursery in root.child_nurseries for task in nursery.child_tasks}

    def main_starts(self) -> None:
        """Take what exists now as Trio's own; called in the main task before anything else of it."""
        self._main = trio.lowlevel.current_task()
        self._own = self._system_tasks()

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        if task is self._main:
            self.leaked = [task.name for task in self._system_tasks() - self._own]
            for service in _SERVICES:
                if service in self.leaked:
                    self.leaked.remove(service)


def run_watched(
    main: Callable[[], Awaitable[object]],
    *,
    clock: trio.abc.Clock | None,
    instruments: Sequence[trio.abc.Instrument],
) -> object:
    """Run an async test like `trio.run`, and fail it if a system task is left when it ends."""
    watch = _SystemTaskWatch()

    async def watched_main() -> object:
        watch.main_starts()
        return await main()

    result = trio.run(watched_main, clock=clock, instruments=[*instruments, watch])
    assert not watch.leaked, f"the test left system tasks running: {watch.leaked}"
    return result


@pytest.hookimpl(trylast=True)  # after pytest-trio has marked the async tests with a run of its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have pytest-trio run async tests under `run_watched`."""
    run: Any = run_watched
    for item in items:
        if item.get_closest_marker("trio") is not None:
            item.add_marker(pytest.mark.trio(run=run), append=False)
