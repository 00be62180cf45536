"""What holds for every test: the installed package is tested, nothing hangs, and no socket or task is left behind."""

import gc
import importlib.metadata
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

CHECKOUT = Path(__file__).parent.parent

# `python -m pytest` puts the checkout first on sys.path, so that `import trio_ws` would find the source and a file
# missing from the wheel would go unnoticed. Last is right for both: an installed package comes first, and where the
# install is an editable one, both are the same folder. The checkout stays reachable for `tests` itself.
sys.path[:] = [entry for entry in sys.path if Path(entry or Path.cwd()).resolve() != CHECKOUT]
sys.path.append(str(CHECKOUT))
# The same for child processes: `python -m trio_ws` does not look in the folder that it is started in.
os.environ["PYTHONSAFEPATH"] = "1"
# A shell has what it starts in the background ignore Ctrl-C, and so would every child process here.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Real seconds that an async test may take. Trio's clock does not count here, because a test may have it stand still.
_PATIENCE = 60.0

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


class _Patience:
    """Cancels a test that hangs, from a thread of its own, and notes what each of its tasks was waiting for."""

    def __init__(self, waits: list[str]) -> None:
        self._waits = waits
        self._scope = trio.CancelScope()
        self._token = trio.lowlevel.current_trio_token()
        self._timer = threading.Timer(_PATIENCE, self._ring)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()
        self._scope.__enter__()

    def __exit__(self, *error: Any) -> bool:
        self._timer.cancel()
        return bool(self._scope.__exit__(*error))

    def _ring(self) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._give_up)

    def _give_up(self) -> None:
        root = trio.lowlevel.current_root_task()
        tasks = [root] if root else []
        for task in tasks:
            tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
            frames = [f"{frame.f_code.co_qualname}:{line}" for frame, line in task.iter_await_frames()]
            self._waits.append(f"{task.name} in {' > '.join(frames)}")
        self._scope.cancel()


def run_watched(
    main: Callable[[], Awaitable[object]],
    *,
    clock: trio.abc.Clock | None,
    instruments: Sequence[trio.abc.Instrument],
    autojump: bool = False,
) -> object:
    """Run an async test like `trio.run`, and fail it if it hangs, or if a system task is left when it ends."""
    if autojump and clock is None:
        clock = trio.testing.MockClock(autojump_threshold=0)
    watch = _SystemTaskWatch()
    waits: list[str] = []

    async def watched_main() -> object:
        watch.main_starts()
        with _Patience(waits):
            return await main()
        return None  # it hung, and that is what is reported

    try:
        result = trio.run(watched_main, clock=clock, instruments=[*instruments, watch])
    finally:
        if waits:
            pytest.fail(
                "\n".join([f"the test took more than {_PATIENCE} s; then it was waiting here:", *waits])
            )
    assert not watch.leaked, f"the test left system tasks running: {watch.leaked}"
    return result


@pytest.hookimpl(trylast=True)  # after pytest-trio has marked the async tests with a run of its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have pytest-trio run async tests under `run_watched`.

    ``pytestmark = pytest.mark.usefixtures("autojump_clock")`` gives a whole module the clock that pytest-trio itself
    gives only to a test with an argument of that name.
    """
    run: Any = run_watched
    run_on_mock_clock: Any = partial(run_watched, autojump=True)
    for item in items:
        if item.get_closest_marker("trio") is not None:
            used = {name for mark in item.iter_markers("usefixtures") for name in mark.args}
            chosen = run_on_mock_clock if "autojump_clock" in used else run
            item.add_marker(pytest.mark.trio(run=chosen), append=False)
