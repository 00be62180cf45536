"""Workers: one program in several processes that share a port, and stop together; knows nothing of what they do.

The processes are forked before any of them runs Trio, so nothing has to be pickled or imported again, and what is loaded
is in memory once. The parent does nothing but wait for signals and for the ends of its workers.

All workers hold the reading end of one pipe, whose writing end is the parent's alone. Its closing is the order to stop:
one that a parent which is killed gives as well. A thread of each worker waits for it, so that also a worker whose event
loop is busy ends. From fork to the first moment at which they can be acted on signals are blocked, so none is lost.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import NoReturn

import trio

from ._errors import WorkerFailed
from .transport import log_failure

_logger = logging.getLogger("trio_ws")

#: Those that stop everything. SIGINT comes from a terminal to the whole group, so workers leave it to the parent; SIGTERM
#: may come to all of a service's processes too, and means the same to a worker as the parent's order.
_STOPPING = (signal.SIGINT, signal.SIGTERM)

#: Seconds that a worker whose parent was killed has beyond `grace` before it ends itself: else the parent does it.
_LATE = 1.0


def run_workers(
    main: Callable[[int], Awaitable[object]], workers: int | None = None, *, grace: float = 10.0
) -> None:
    """Run ``main(index)`` under `trio.run` in several processes, and return when all of them have ended.

    A server uses all processors so: each worker opens the same port with ``reuse_port``, and the kernel spreads the
    connections. Linux does; on other systems one worker may get them all.

    SIGTERM or SIGINT to this process stops the workers: the main of each is cancelled, so that servers say goodbye to
    their clients, and what has not ended `grace` seconds later is killed. A second signal kills at once. When this process is
    killed its workers stop in the same way. When the main of one worker returns, the others go on.

    It is as in a nursery when a worker fails, because its main raised or because it was killed: the others are stopped,
    and the failure is raised. The exception of a main is logged to the logger ``trio_ws`` with its traceback.

    Args:
        main: an async function, called with the index of its worker, 0 to ``workers - 1``.
        workers: how many; by default as many as there are processors that this process may use.
        grace: seconds until what was told to stop is killed.

    Raises:
        OSError: there cannot be as many processes.
        RuntimeError: this platform cannot fork (Windows); or this is inside of a Trio run, or not in the main thread, or
            there are other threads, which a fork would leave out.
        ValueError: `workers` is less than 1, or `grace` less than 0 or infinite.
        WorkerFailed: a worker failed; the first one if there were several.
    """
    if not hasattr(os, "fork"):
        raise RuntimeError(
            "this platform cannot fork, so there are no workers: run main by trio.run in one process"
        )
    count = _processors() if workers is None else workers
    if count < 1:
        raise ValueError(f"workers is at least 1, not {workers!r}")
    if not 0 <= grace < math.inf:
        raise ValueError(f"grace is at least 0 and finite, not {grace!r}")
    if sys.platform == "win32":
        raise RuntimeError(
            "this platform cannot fork, so there are no workers: run main by trio.run in one process"
        )
    _check_process()
    team = _Team(grace)
    try:
        for index in range(count):
            team.fork(main, index)
    except OSError:
        team.close_lifeline()
        raise
    finally:
        trio.run(team.supervise)
    if team.failure is not None:
        raise team.failure


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_process() -> None:
    """Refuse to fork where it would leave something half done in the child."""
    if trio.lowlevel.in_trio_run():
        raise RuntimeError("run_workers runs Trio itself: call it outside of trio.run")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("run_workers receives signals: call it in the main thread")
    if threading.active_count() > 1:
        raise RuntimeError("run_workers forks, which threads do not survive: call it before any is started")


class _Team:
    """The workers as their parent sees them. Signals are blocked from its making until it is supervised.

    Args:
        grace: seconds until what was told to stop is killed.

    Attributes:
        failure: of the first worker that failed, or None.
    """

    def __init__(self, grace: float) -> None:
        self.failure: WorkerFailed | None = None
        self._grace = grace
        self._workers: dict[int, int] = {}  # process -> index
        self._kill_at = math.inf
        self._killed = False
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        self._reading, self._writing = os.pipe()
        self._lifeline_closed = False

    def fork(self, main: Callable[[int], Awaitable[object]], index: int) -> None:
        """Start a worker."""
        _flush()  # else the child would write what is buffered once more
        process = os.fork()
        if process == 0:
            os.close(self._writing)
            _be_worker(main, index, self._reading, self._grace, self._mask)
        self._workers[process] = index

    def close_lifeline(self) -> None:
        """Order all to stop. Idempotent."""
        if not self._lifeline_closed:
            self._lifeline_closed = True
            os.close(self._writing)

    async def supervise(self) -> None:
        """Wait for the ends of all workers, and do what signals say."""
        os.close(self._reading)
        if self._lifeline_closed:
            self._stop()
        interrupted = False
        with trio.open_signal_receiver(*_STOPPING, signal.SIGCHLD) as signals:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            self._reap()  # those that ended before anybody listened
            while self._workers:
                with trio.CancelScope(deadline=self._kill_at) as scope:
                    number = await anext(signals)
                    if number in _STOPPING:
                        if interrupted:
                            self._kill()
                        interrupted = True
                        self._stop()
                        _logger.info("stopping the workers: received %s", signal.Signals(number).name)
                if scope.cancelled_caught:
                    self._kill()
                self._reap()
        self.close_lifeline()

    def _stop(self) -> None:
        self.close_lifeline()
        if not self._killed:
            self._kill_at = min(self._kill_at, trio.current_time() + self._grace)

    def _kill(self) -> None:
        self._killed = True
        self._kill_at = math.inf
        for process, index in self._workers.items():
            _logger.warning("worker %d has not stopped yet, and is killed", index)
            os.kill(process, signal.SIGKILL)

    def _reap(self) -> None:
        for process, index in [*self._workers.items()]:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                del self._workers[process]
                self._judge(index, os.waitstatus_to_exitcode(status))

    def _judge(self, index: int, exit_code: int) -> None:
        """See how a worker has ended, and stop the others if it has failed."""
        if exit_code == 0 or (self._killed and exit_code == -signal.SIGKILL):
            return
        failure = WorkerFailed(index, exit_code)
        if self.failure is None:
            self.failure = failure
            self._stop()
        else:
            _logger.error("%s", failure)


def _be_worker(
    main: Callable[[int], Awaitable[object]],
    index: int,
    lifeline: int,
    grace: float,
    mask: Iterable[int],
) -> NoReturn:
    """Be the child's process from its fork to its end: what is above it on the stack belongs to the parent."""
    code = 1
    try:
        for number in _STOPPING:  # not SIG_IGN, which programs that a worker starts would inherit
            signal.signal(number, _take_no_notice)
        trio.run(_run, main, index, lifeline, grace, mask)
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        if isinstance(exc.code, str):
            log_failure(f"worker {index} failed", exc)
    except BaseException as exc:  # noqa: BLE001 - this process ends here, whatever it is
        log_failure(f"worker {index} failed", exc)
    finally:
        _flush()
        os._exit(code)


async def _run(
    main: Callable[[int], Awaitable[object]],
    index: int,
    lifeline: int,
    grace: float,
    mask: Iterable[int],
) -> None:
    scope = trio.CancelScope()
    token = trio.lowlevel.current_trio_token()

    def stop(*_: object) -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(scope.cancel)

    signal.signal(signal.SIGTERM, stop)
    threading.Thread(
        target=_watch, args=(lifeline, stop, grace), name="trio_ws lifeline", daemon=True
    ).start()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    with scope:
        await main(index)


def _watch(lifeline: int, stop: Callable[[], None], grace: float) -> None:
    """Wait for the order to stop, and end this process if it has not come to its end long after."""
    os.read(lifeline, 1)  # nothing is ever written: this returns when there is no writing end any more
    stop()
    time.sleep(grace + _LATE)
    os.kill(os.getpid(), signal.SIGKILL)


def _take_no_notice(*_: object) -> None:
    pass


def _flush() -> None:
    for file in (sys.stdout, sys.stderr):
        if file is not None:  # as under pythonw or in a daemon
            with suppress(OSError, ValueError):  # nobody reads it, or it was closed
                file.flush()
