"""Runs the compiled codec under AddressSanitizer and UBSan: `python tests/fuzz/sanitize.py [pytest arguments]`; needs gcc.

What is compiled has no checks of its own for what lies behind the end of a buffer. Here it is built once more, in a
folder of its own, with checks of every access, and the tests go through it, with every object of Python's allocated by
itself so that its end is known. To see that the checks are there, a kernel that reads too far is built and run first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent

#: What goes through the codec by itself; each of these tests runs it beside its twin in Python.
TESTS = (
    "tests/protocol/test_mask.py",
    "tests/protocol/test_codecs_agree.py",
    "tests/protocol/test_codec_memory.py",
)
CORPUS = ("tests/fuzz/test_corpus.py", "-k", "not fuzzing and not fuzzer and not both_decoders")

# Behind the flags of setup.py, of which these replace some: a debugger's names, and nothing reordered.
_COMPILER = """#!/bin/sh
exec gcc "$@" -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
"""

#: The end of the loop over words in the kernel, and one that is up to seven bytes too far.
_RIGHT, _WRONG = "cdef Py_ssize_t whole = size & ~7", "cdef Py_ssize_t whole = (size + 7) & ~7"
_READ_TOO_FAR = "from trio_ws.protocol._mask_c import apply_mask; apply_mask(bytes(1001), b'mask')"


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a process that imports what is compiled in `folder`."""
    return (
        os.environ | {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"} | more
    )


def build(folder: Path) -> None:
    """Compile a copy of the library in `folder`."""
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(CHECKOUT / "trio_ws", folder / "trio_ws", ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, folder)
    compiler = folder / "cc"
    compiler.write_text(_COMPILER)
    compiler.chmod(0o755)
    run_compiler(folder, "setup.py", "-q", "build_ext", "--inplace", "-j", str(len(os.sched_getaffinity(0))))


def run_compiler(folder: Path, *arguments: str) -> None:
    compiler = str(folder / "cc")
    command = [sys.executable, *arguments]
    made = environment(folder, CC=compiler, LDSHARED=f"{compiler} -shared")
    subprocess.run(command, cwd=folder, env=made, stdout=subprocess.DEVNULL, check=True)


def checked(folder: Path) -> dict[str, str]:
    """Return the environment in which what is compiled in `folder` is run, with every access checked."""
    command = ["gcc", "-print-file-name=libasan.so"]
    runtime = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return environment(
        folder,
        LD_PRELOAD=runtime,  # the interpreter itself is not built with it
        ASAN_OPTIONS="detect_leaks=0",  # nor does it free everything at its end
        UBSAN_OPTIONS="print_stacktrace=1",
        PYTHONMALLOC="malloc",
        TRIO_WS_ACCEL="1",
    )


def finds_what_is_wrong(folder: Path) -> bool:
    """Change the kernel in `folder` to one that reads too far, and say whether it is found out."""
    source = folder / "trio_ws/protocol/_mask_c.pyx"
    text = source.read_text()
    assert _RIGHT in text
    source.write_text(text.replace(_RIGHT, _WRONG))
    run_compiler(folder, "-m", "Cython.Build.Cythonize", "-i", "-f", "-q", str(source))
    command = [sys.executable, "-c", _READ_TOO_FAR]
    done = subprocess.run(
        command, cwd=folder, env=checked(folder), capture_output=True, text=True, check=False
    )
    return done.returncode != 0 and "heap-buffer-overflow" in done.stderr and "_xor" in done.stderr


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        right, wrong = Path(scratch, "right"), Path(scratch, "wrong")
        build(right)
        shutil.copytree(right, wrong)
        if not finds_what_is_wrong(wrong):
            sys.stderr.write(
                "an access behind the end of a buffer is not found: the sanitizers do not work here\n"
            )
            return 1
        sys.stderr.write("an access behind the end of a buffer is found; now the codec as it is\n")
        tests = sys.argv[1:] or [*TESTS, *CORPUS]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        return subprocess.run(command, cwd=CHECKOUT, env=checked(right), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
