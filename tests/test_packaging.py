"""What an sdist and a wheel hold, and that they work: installed into fresh environments, with and without a compiler.

Nothing is fetched: what building takes is installed with the tests, and the new environments see what the library needs
through the one that the tests run in.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.protocol.codec_kit import needs_compiled
from trio_ws._accel import COMPILED

CHECKOUT = Path(__file__).parent.parent
#: Says how the library was installed, and has it unmask a message.
TRY = """
import trio_ws.protocol as protocol
from trio_ws._accel import accelerated
decoder = protocol.Decoder(masked=True, limits=protocol.Limits())
frame = protocol.encode_frame(1, b"a message", b"mask")
print(accelerated, *decoder.decode(frame), protocol.__file__, sep="\\n")
"""


def run(
    *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in an environment that says nothing about Python, coverage or the codec but what is in `env`."""
    strange = ("PYTHON", "COVERAGE", "TRIO_WS", "CC", "CFLAGS")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    return subprocess.run(
        command, cwd=cwd, env={**clean, **(env or {})}, capture_output=True, text=True, check=False
    )


def must_run(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command that must succeed, and return what it wrote."""
    done = run(*command, cwd=cwd, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(*arguments: str | Path, env: Mapping[str, str] | None = None) -> None:
    """Run pip, which fetches nothing."""
    must_run(
        sys.executable, "-m", "pip", *arguments, "--no-index", "--no-deps", "--no-build-isolation", env=env
    )


class Environment:
    """A fresh virtual environment into which trio_ws is installed; its dependencies are those of the tests."""

    def __init__(self, path: Path, package: Path, env: Mapping[str, str] | None = None) -> None:
        venv.create(path, symlinks=True)
        self.path = path
        self.bin = path / "bin"
        # a path file adds its folders behind the environment's own, so that only what is not installed here is found there
        where = {"base": str(path), "platbase": str(path)}
        folder = Path(sysconfig.get_path("purelib", vars=where))
        packages = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
        (folder / "dependencies.pth").write_text("\n".join(packages))
        pip("--python", self.bin / "python", "install", "--ignore-installed", package, env=env)

    def python(self, code: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return run(self.bin / "python", "-c", code, cwd=self.path, env=env)


def accel(choice: str) -> dict[str, str]:
    return {"TRIO_WS_ACCEL": choice}


def files_of(package: Path, *suffixes: str) -> set[str]:
    """Return the files of the library's source that have one of `suffixes`, as in an archive."""
    return {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.suffix in suffixes and path.is_file()
    }


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an sdist of the checkout, which lies in a tree where much has been built before."""
    folder = tmp_path_factory.mktemp("sdist")
    tree = folder / "tree"
    shutil.copytree(
        CHECKOUT, tree, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "*.so", "*.pyc")
    )
    for stale in ("trio_ws/protocol/_codec_c.stale.so", "trio_ws/protocol/_codec_c.c", "build/stale.c"):
        (tree / stale).parent.mkdir(exist_ok=True)
        (tree / stale).touch()
    build = "import sys, setuptools.build_meta as backend; print(backend.build_sdist(sys.argv[1]))"
    name = must_run(sys.executable, "-c", build, folder, cwd=tree).splitlines()[-1]
    return folder / name


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """Return a wheel that was built from the sdist where there is a compiler."""
    pip("wheel", "--wheel-dir", sdist.parent, sdist)
    (built,) = sdist.parent.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def compiled(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment with the wheel."""
    return Environment(tmp_path_factory.mktemp("compiled"), wheel)


@pytest.fixture(scope="module")
def plain(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment into which the sdist was installed where no compiler works."""
    return Environment(tmp_path_factory.mktemp("plain"), sdist, {"CC": "false"})


def test_an_sdist_has_all_sources_and_nothing_built(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    sources = files_of(CHECKOUT / "trio_ws", ".py", ".pyx", ".pxd")
    assert {name for name in names if name.startswith("trio_ws/")} == {
        *sources,
        "trio_ws/py.typed",
        "trio_ws/_page.html",
    }
    assert {
        f"trio_ws/protocol/{name}" for name in ("_codec_c.pxd", "_encode_c.pxd", "_mask_c.pxd", "_mask_c.pyx")
    } <= sources
    outside = {name for name in names if not name.startswith(("trio_ws/", "trio_ws.egg-info/"))}
    assert outside == {
        "LICENSE",
        "MANIFEST.in",
        "PKG-INFO",
        "README.md",
        "pyproject.toml",
        "setup.cfg",
        "setup.py",
    }


@needs_compiled
def test_a_wheel_has_the_modules_and_what_they_read(wheel: Path) -> None:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if ".dist-info/" not in name} == {
        *files_of(CHECKOUT / "trio_ws", ".py"),
        "trio_ws/py.typed",
        "trio_ws/_page.html",
        *[f"trio_ws/{name}{suffix}" for name in COMPILED],
    }


@needs_compiled
def test_a_wheel_works_and_is_compiled(compiled: Environment) -> None:
    for env in ({}, accel("auto"), accel("1")):
        done = compiled.python(TRY, env)
        accelerated, message, where = done.stdout.splitlines()
        assert (accelerated, message) == ("True", "a message"), done.stderr
        assert Path(where).is_relative_to(compiled.path)
    assert "codec compiled" in must_run(compiled.bin / "trio_ws", "--version")


@needs_compiled
def test_a_wheel_works_in_python_where_that_is_asked_for(compiled: Environment) -> None:
    done = compiled.python(TRY, accel("0"))
    assert done.stdout.splitlines()[:2] == ["False", "a message"], done.stderr
    assert "codec in Python" in must_run(compiled.bin / "trio_ws", "--version", env=accel("0"))


def test_without_a_compiler_the_library_is_installed_in_python(plain: Environment) -> None:
    assert list(plain.path.rglob("trio_ws/**/*_c.*")) == []
    for env in ({}, accel("auto"), accel("0")):
        done = plain.python(TRY, env)
        accelerated, message, where = done.stdout.splitlines()
        assert (accelerated, message) == ("False", "a message"), done.stderr
        assert Path(where).is_relative_to(plain.path)
    assert "codec in Python" in must_run(plain.bin / "trio_ws", "--version")


def test_without_a_compiler_insisting_on_one_says_what_to_do(plain: Environment) -> None:
    done = plain.python("import trio_ws", accel("1"))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: TRIO_WS_ACCEL=1")
    assert "reinstall trio_ws where there are a C compiler and Python's headers" in last
