"""What a type checker makes of the installed package when another project uses it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trio_ws

SAMPLE = Path(__file__).with_name("api.py")
PARENT = Path(trio_ws.__file__).parent.parent


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Return a folder with the sample alone in it, far from the checkout and its settings."""
    shutil.copy(SAMPLE, tmp_path)
    return tmp_path


# The checkers do not understand editable installs, so they are shown where such a one leads. A regular one they find.
EDITABLE = PARENT.name != "site-packages"


def test_mypy_accepts_the_sample(elsewhere: Path) -> None:
    env = os.environ | ({"MYPYPATH": str(PARENT)} if EDITABLE else {})
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(elsewhere / "cache"), "api.py"]
    result = subprocess.run(command, cwd=elsewhere, env=env, capture_output=True, text=True, check=False)
    assert result.stdout.startswith("Success: no issues found in 1 source file"), result.stdout


def test_pyright_accepts_the_sample(elsewhere: Path) -> None:
    settings: dict[str, object] = {
        "typeCheckingMode": "strict",
        "reportUnnecessaryTypeIgnoreComment": "error",
        "enableTypeIgnoreComments": False,  # those are mypy's
        "extraPaths": [str(PARENT)] if EDITABLE else [],
    }
    (elsewhere / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    result = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False)
    assert result.stdout.startswith("0 errors"), result.stdout
