"""What the benchmarks need besides this project, fetched and built on first use; knows nothing of measuring.

Everything goes into one folder, which may be deleted at any time to begin with the latest versions again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .subjects import PROJECT, Subject

_SOURCES = Path(__file__).parent.parent / "load"
_TAIL = 400  # characters of a tool's output that say why it failed

_SAY_CODEC = """
import trio_ws
print("compiled" if trio_ws.accelerated else "not compiled")
"""

_READ_VERSIONS = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


class UnavailableError(Exception):
    """Something that a measurement needs is not to be had here; the message says what, and how to get it."""


def cache_folder() -> Path:
    """Return the folder for everything that is fetched or built."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "trio_ws-benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_tool(*command: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a tool to its end and return what it printed.

    Raises:
        UnavailableError: there is no such tool, or it failed.
    """
    try:
        done = subprocess.run(
            command,
            check=False,
            text=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, **(environment or {})},
        )
    except OSError as error:
        raise UnavailableError(f"{Path(command[0]).name}: {error.strerror}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-_TAIL:]
        raise UnavailableError(f"{Path(command[0]).name} failed: {said}")
    return done.stdout


# --- The load generator ---------------------------------------------------------------------------------------------


def build_load() -> tuple[Path, str | None]:
    """Return the load generator, and why it cannot do TLS, or None if it can.

    Raises:
        UnavailableError: there is no C compiler, or it failed.
    """
    sources = sorted(_SOURCES.glob("*.c"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(_SOURCES.iterdir())))
    program = cache_folder() / f"load-{digest.hexdigest()[:16]}"
    with_tls = program.with_name(f"{program.name}-tls")
    if with_tls.exists():
        return with_tls, None
    try:
        _compile(with_tls, sources, "-DWITH_TLS", libraries=("-lssl", "-lcrypto"))
    except UnavailableError:
        if not program.exists():
            _compile(program, sources)
        return program, "the load generator needs OpenSSL's headers for it (Debian: libssl-dev)"
    return with_tls, None


def _compile(program: Path, sources: Sequence[Path], *flags: str, libraries: Sequence[str] = ()) -> None:
    # Under another name first: what is found in its place later is complete, however many build it at the same time.
    partial = program.with_name(f"{program.name}.{os.getpid()}")
    run_tool(os.environ.get("CC", "cc"), "-O2", *flags, "-o", partial, *sources, *libraries, "-lm")
    partial.rename(program)


def make_certificate(folder: Path) -> Path:
    """Return a certificate with its key, made for one run.

    Raises:
        UnavailableError: there is no OpenSSL to make it.
    """
    key, certificate, both = folder / "key.pem", folder / "certificate.pem", folder / "both.pem"
    # The same kind of key that public authorities issue certificates for by default.
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    what = ("-subj", "/CN=127.0.0.1", "-days", "2")
    run_tool("openssl", "req", "-x509", *kind, *what, "-keyout", key, "-out", certificate)
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both


# --- The peers ------------------------------------------------------------------------------------------------------


def peers_python() -> Path:
    """Return the Python that has the peers of PyPI, of the same version as this one."""
    return cache_folder() / f"python{sys.version_info.major}.{sys.version_info.minor}" / "bin" / "python"


def node_modules() -> Path:
    """Return the folder that has the peers of npm."""
    return cache_folder() / "node" / "node_modules"


def prepare(subjects: Iterable[Subject]) -> tuple[dict[str, str], dict[str, str]]:
    """Install what is missing; return all versions, and why a subject cannot be measured by its name."""
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    for subject in subjects:
        try:
            if subject.home == "node":
                versions |= _prepare_node(subject.packages)
            elif subject.home == "peers":
                versions |= _prepare_python(subject.packages)
        except UnavailableError as error:
            missing[subject.name] = str(error)
    versions |= _versions(sys.executable, ["trio_ws", "trio"])
    codec = run_tool(sys.executable, "-P", "-c", _SAY_CODEC, environment=dict(PROJECT.environment))
    versions["trio_ws"] += f" ({codec.strip()})"
    return versions, missing


def _versions(python: str | Path, packages: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = json.loads(run_tool(python, "-c", _READ_VERSIONS, *packages))
    return found


def _prepare_python(packages: Sequence[str]) -> dict[str, str]:
    python = peers_python()
    if not python.exists():
        run_tool(sys.executable, "-m", "venv", python.parent.parent)
    if set(packages) - set(_versions(python, packages)):
        print(f"installing {', '.join(packages)}", file=sys.stderr)
        run_tool(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
    return _versions(python, packages)


def _prepare_node(packages: Sequence[str]) -> dict[str, str]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise UnavailableError("it needs Node.js and npm")
    manifests = {name: node_modules() / name / "package.json" for name in packages}
    if not all(path.exists() for path in manifests.values()):
        print(f"installing {', '.join(packages)}", file=sys.stderr)
        run_tool(npm, "install", "--no-audit", "--no-fund", f"--prefix={node_modules().parent}", *packages)
    versions = {name: str(json.loads(path.read_text())["version"]) for name, path in manifests.items()}
    return {**versions, "Node.js": run_tool(node, "--version").strip().removeprefix("v")}
