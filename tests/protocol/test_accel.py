"""Which codec is chosen: by what was built, and by the environment variable; each choice in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.protocol.codec_kit import COMPILED, needs_compiled
from trio_ws._accel import accelerated

#: What is chosen: what stands beside it, under the same name with "_c" behind it, is the same compiled.
PARTS = {
    "protocol._mask.apply_mask",
    "protocol._codec.Decoder",
    "protocol._encode.encode_frame",
    "protocol._encode.encode_payload",
    "protocol._protocol.Protocol",
    "transport._base.Transport",
    "transport._poller.Poller",
    "transport._socket.SocketTransport",
    "_link.Link",
    "_inbox.Inbox",
}
COMPILED_PARTS = {"_c.".join(part.rsplit(".", 1)) for part in PARTS}

#: Prints whether the compiled modules were chosen, and what is used of them, or of those in Python.
SHOW = """
import trio, trio_ws
from trio_ws import _connection
from trio_ws._accel import accelerated
from trio_ws.protocol import _accel as protocol
from trio_ws.transport import _accel as transport
from trio_ws.testing import open_connection_pair

async def inbox():
    async with open_connection_pair() as pair:
        return type(pair.client._link.inbox)

parts = [getattr(room, name) for room in (protocol, transport) for name in room.__all__]
parts += [_connection.Link, trio.run(inbox)]
print(accelerated, *{f"{part.__module__.removeprefix('trio_ws.')}.{part.__name__}" for part in parts})
"""


def imported(choice: str | None, *missing: str) -> subprocess.CompletedProcess[str]:
    """Import trio_ws with a value of the variable, and without the modules that are said to be missing."""
    env = {name: value for name, value in os.environ.items() if name != "TRIO_WS_ACCEL"}
    if choice is not None:
        env["TRIO_WS_ACCEL"] = choice
    hide = f"""
import pathlib
exists = pathlib.Path.exists
pathlib.Path.exists = lambda path, **options: path.name.partition(".")[0] not in {missing} and exists(path, **options)
"""
    return subprocess.run(
        [sys.executable, "-c", hide + SHOW], env=env, capture_output=True, text=True, check=False
    )


def chosen(choice: str | None, *missing: str) -> tuple[bool, set[str]]:
    """Return whether the compiled modules were chosen, and what is used."""
    done = imported(choice, *missing)
    assert done.returncode == 0, done.stderr
    was_accelerated, *parts = done.stdout.split()
    return was_accelerated == "True", set(parts)


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="elsewhere there may be no compiler")
def test_the_compiled_codec_is_there() -> None:
    # else every test of it would be skipped
    assert COMPILED.is_built
    assert accelerated


@needs_compiled
@pytest.mark.parametrize("choice", [None, "auto", "1"])
def test_what_is_built_is_chosen(choice: str | None) -> None:
    assert chosen(choice) == (True, COMPILED_PARTS)


def test_one_can_do_without() -> None:
    assert chosen("0") == (False, PARTS)


@pytest.mark.parametrize("missing", ["_codec_c", "_encode_c", "_mask_c", "_link_c", "_base_c"])
@pytest.mark.parametrize("choice", [None, "auto", "0"])
def test_what_is_not_built_is_done_without(choice: str | None, missing: str) -> None:
    assert chosen(choice, missing) == (
        False,
        PARTS,
    )  # all of it: no half of one with half of the other


@pytest.mark.parametrize("missing", ["_codec_c", "_encode_c", "_mask_c", "_link_c", "_base_c"])
def test_insisting_on_what_is_not_built_says_what_to_do(missing: str) -> None:
    done = imported("1", missing)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith("ImportError: TRIO_WS_ACCEL=1 asks for the compiled modules, and ")
    assert (
        f"{missing} are not here: reinstall trio_ws where there are a C compiler and Python's headers" in said
    )


@pytest.mark.parametrize("choice", ["", "2", "yes", "True", "AUTO"])
def test_another_value_is_refused(choice: str) -> None:
    done = imported(choice)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ImportError: TRIO_WS_ACCEL must be auto, 0 or 1, not {choice!r}"
