"""The machine on which is measured: its processors, who runs on which, and how to describe it; knows nothing of WebSocket."""

from __future__ import annotations

import datetime
import os
import platform
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
#: Descriptors that a process may need: 5000 connections, and what it opens besides.
_DESCRIPTORS = 6000


def parse_cpu_list(text: str) -> set[int]:
    """Return the processors of a list as Linux writes it: ``0-3,8``."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def choose_cpus(available: set[int], siblings: Mapping[int, set[int]]) -> tuple[int, int]:
    """Choose a processor for what is measured and another one for the load.

    Args:
        available: the processors that this process may use.
        siblings: for each of them, which are the same core; two threads of one core slow each other down.
    """
    first, *others = sorted(available)
    apart = [cpu for cpu in others if cpu not in siblings.get(first, {first})]
    return first, (apart or others or [first])[0]


def find_cpus() -> tuple[int, int]:
    """Choose the processors of this machine: one for what is measured, one for the load."""
    available = os.sched_getaffinity(0)
    siblings = {}
    for cpu in available:
        path = _CPUS / f"cpu{cpu}/topology/thread_siblings_list"
        siblings[cpu] = parse_cpu_list(path.read_text()) if path.exists() else {cpu}
    return choose_cpus(available, siblings)


@contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Have processes that are started in this block run on one processor: they inherit it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_connections() -> int:
    """Raise the number of descriptors that processes may have as far as needed, and return how many there are now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(soft, _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def describe() -> dict[str, str]:
    """Say when and on what is measured."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_model()}, {len(os.sched_getaffinity(0))} available",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }
