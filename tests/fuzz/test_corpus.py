"""What the targets state holds for every stored input, for inputs that Hypothesis makes, and for a few seconds of fuzzing."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.fuzz_kit import CORPUS, FOLDER, Target, target_names
from tests.protocol.codec_kit import needs_compiled

TARGETS = target_names()
#: Seconds of fuzzing for each target.
A_MOMENT = 1

every_target = pytest.mark.parametrize("name", TARGETS)
needs_atheris = pytest.mark.skipif(
    find_spec("atheris") is None,
    reason="atheris is not installed: pip install 'trio_ws[fuzz]', where it has wheels",
)


def stored() -> list[tuple[str, Path]]:
    return [(path.parent.name, path) for path in sorted(CORPUS.glob("*/*"))]


@pytest.mark.parametrize(("name", "path"), stored(), ids=lambda value: getattr(value, "name", None))
def test_what_a_target_states_holds_for_what_is_stored(name: str, path: Path) -> None:
    Target(name).check(path.read_bytes())


@every_target
def test_what_a_target_states_holds_for_any_bytes(name: str) -> None:
    target = Target(name)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=200))
    def holds(data: bytes) -> None:
        target.check(data)

    holds()


@every_target
def test_the_corpus_has_what_the_target_begins_with(name: str) -> None:
    target = Target(name)
    assert target.invariant.endswith((".", "`"))
    seeds = target.seeds()
    assert len(seeds) >= 20
    for seed, data in seeds.items():
        assert target.corpus.joinpath(seed).read_bytes() == data, (
            f"{seed}: run python tests/fuzz/make_corpus.py"
        )


def fuzz(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, FOLDER / "run.py", *arguments]
    # which branches are taken is counted by the fuzzer itself
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60
    )


@needs_atheris
@every_target
def test_a_moment_of_fuzzing_finds_nothing(name: str, tmp_path: Path) -> None:
    done = fuzz(tmp_path, name, "--seconds", str(A_MOMENT), "--rss", "512", "--timeout", "5")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "INITED" in done.stderr
    assert list(tmp_path.iterdir()) == []


@needs_atheris
@needs_compiled
def test_the_fuzzer_sees_into_the_codec_in_python_while_the_compiled_one_is_compared(tmp_path: Path) -> None:
    done = fuzz(tmp_path, "codec", "--runs", "1")
    told = dict(
        line.split(": ", 1) for line in done.stderr.splitlines() if line.startswith(("instr", "compiled"))
    )
    assert "trio_ws.protocol._codec" in told["instrumented"].split()
    assert "trio_ws.protocol._mask" in told["instrumented"].split()
    assert {f"trio_ws.protocol.{name}" for name in ("_codec_c", "_encode_c", "_mask_c")} <= {
        *told["compiled"].split()
    }
