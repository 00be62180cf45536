"""Programs that measure something in their own process and print it; knows nothing of what they measure."""

from __future__ import annotations

import json
import subprocess

from .figures import Figures, read_figures
from .install import UnavailableError
from .machine import pinned
from .processes import HERE, environment_of, python_of
from .subjects import Subject

_PATIENCE = 180  # seconds: the slowest codec takes forty for a million pieces


def measure_worker(program: str, subject: Subject, arguments: list[object], *, cpu: int) -> Figures:
    """Run a worker to its end and return what it measured.

    Args:
        program: the file in this folder.
        subject: what it is to measure.
        arguments: what it is told besides the name of the subject.
        cpu: the processor that it runs on.

    Raises:
        UnavailableError: it failed; the message is its last line.
    """
    name = subject.program or subject.name
    command = [python_of(subject), "-P", str(HERE / program), name, *map(str, arguments)]
    try:
        with pinned(cpu):
            done = subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                env=environment_of(subject),
                timeout=_PATIENCE,
            )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError("it was too slow to be measured") from error
    if done.returncode:
        raise UnavailableError(done.stderr.strip() or f"it ended with status {done.returncode}")
    return read_figures(json.loads(done.stdout))
