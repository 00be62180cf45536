"""Which codec is chosen: by what was built, and by the environment variable; each choice in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.protocol.codec_kit import COMPILED, needs_compiled
from trio_ws.protocol import accelerated

PYTHON_MODULES, COMPILED_MODULES = {"_codec", "_encode", "_mask"}, {"_codec_c", "_encode_c", "_mask_c"}

#: Prints which codec was chosen, and the modules that its parts come from.
SHOW = """
from trio_ws.protocol import _accel, accelerated
parts = [getattr(_accel, name) for name in _accel.__all__ if name != "accelerated"]
print(accelerated, *{part.__module__.removeprefix("trio_ws.protocol.") for part in parts})
"""


def imported(choice: str | None, *missing: str) -> subprocess.CompletedProcess[str]:
    """Import trio_ws with a value of the variable, and without the modules that are said to be missing."""
    env = {name: value for name, value in os.environ.items() if name != "TRIO_WS_ACCEL"}
    if choice is not None:
        env["TRIO_WS_ACCEL"] = choice
    hide = f"import sys; sys.modules.update(dict.fromkeys(['trio_ws.protocol.' + x for x in {missing}]))"
    return subprocess.run(
        [sys.executable, "-c", hide + SHOW], env=env, capture_output=True, text=True, check=False
    )


def chosen(choice: str | None, *missing: str) -> tuple[bool, set[str]]:
    """Return whether the compiled codec was chosen, and which modules its parts come from."""
    done = imported(choice, *missing)
    assert done.returncode == 0, done.stderr
    was_accelerated, *modules = done.stdout.split()
    return was_accelerated == "True", set(modules)


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="elsewhere there may be no compiler")
def test_the_compiled_codec_is_there() -> None:
    # else every test of it would be skipped
    assert COMPILED.is_built
    assert accelerated


@needs_compiled
@pytest.mark.parametrize("choice", [None, "auto", "1"])
def test_what_is_built_is_chosen(choice: str | None) -> None:
    assert chosen(choice) == (True, COMPILED_MODULES)


def test_one_can_do_without() -> None:
    assert chosen("0") == (False, PYTHON_MODULES)


@pytest.mark.parametrize("missing", ["_codec_c", "_encode_c", "_mask_c"])
@pytest.mark.parametrize("choice", [None, "auto", "0"])
def test_what_is_not_built_is_done_without(choice: str | None, missing: str) -> None:
    assert chosen(choice, missing) == (
        False,
        PYTHON_MODULES,
    )  # all of it: no half of one with half of the other


@pytest.mark.parametrize("missing", ["_codec_c", "_encode_c", "_mask_c"])
def test_insisting_on_what_is_not_built_says_what_to_do(missing: str) -> None:
    done = imported("1", missing)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: TRIO_WS_ACCEL=1 asks for the compiled codec, which is not here: reinstall trio_ws where there are "
        "a C compiler and Python's headers, or do without it by TRIO_WS_ACCEL=auto"
    )
    assert f"trio_ws.protocol.{missing}" in done.stderr  # and why it is not: it is chained


@pytest.mark.parametrize("choice", ["", "2", "yes", "True", "AUTO"])
def test_another_value_is_refused(choice: str) -> None:
    done = imported(choice)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ImportError: TRIO_WS_ACCEL must be auto, 0 or 1, not {choice!r}"
