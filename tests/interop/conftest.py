"""The peers of the interoperability tests, each started once, and the ways to meet them; how they talk is not known here."""

import gc
import importlib.util
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import trio
import trustme

from tests.interop.interop_kit import LOG_TAIL, Certificates, Lane, Peer
from trio_ws.protocol import Role

HERE = Path(__file__).parent
WS_MAJOR = 8
INSTALL_TIMEOUT = 120  # seconds; it takes one where the network is good
STOP_TIMEOUT = 5  # seconds that a peer gets to end by itself
# Times are in milliseconds: a registry that says nothing is tried twice.
NPM_OPTIONS = [
    "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=30000",
]  # fmt: skip
# npm's codes for a registry that cannot be reached.
OFFLINE = {
    "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "ENOTFOUND", "ERR_SOCKET_TIMEOUT",
    "ETIMEDOUT", "FETCH_ERROR",
}  # fmt: skip


# --- npm's ws -------------------------------------------------------------------------------------------------------


def read_version(package: Path) -> str:
    """Return the version of an installed npm package, or nothing."""
    manifest = package / "package.json"
    version: str = json.loads(manifest.read_text())["version"] if manifest.exists() else ""
    return version


def install_ws(npm: str, modules: Path) -> None:
    """Install `ws` as one of `modules`; skips the test where the registry cannot be reached."""
    modules.parent.mkdir(parents=True, exist_ok=True)
    # Somewhere else first, so that what is found in its place later is never half of it.
    with tempfile.TemporaryDirectory(dir=modules.parent) as folder:
        result = subprocess.run(
            [npm, "install", *NPM_OPTIONS, f"--prefix={folder}", f"ws@{WS_MAJOR}"],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=INSTALL_TIMEOUT,
        )
        output = result.stdout.decode(errors="replace")
        if offline := OFFLINE.intersection(re.findall(r"npm (?:error|ERR!) code (\w+)", output)):
            pytest.skip(f"ws cannot be installed as npm does not reach its registry: {', '.join(offline)}")
        assert result.returncode == 0, f"npm could not install ws:\n{output[-LOG_TAIL:]}"
        shutil.rmtree(modules, ignore_errors=True)
        os.rename(Path(folder) / "node_modules", modules)


def find_ws() -> tuple[Sequence[str], Mapping[str, str]]:
    """Return the command of the `ws` peer and what its environment needs; installs the package on first use."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("ws needs Node.js and npm")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    modules = Path(os.environ.get("TRIO_WS_NODE") or cache / "trio_ws-node") / "node_modules"
    if not read_version(modules / "ws").startswith(f"{WS_MAJOR}."):
        install_ws(npm, modules)
    return [node, str(HERE / "ws_peer.js")], {"NODE_PATH": str(modules)}


def find_websockets() -> tuple[Sequence[str], Mapping[str, str]]:
    """Return the command of the `websockets` peer and what its environment needs."""
    return [sys.executable, str(HERE / "websockets_peer.py")], {}


def find_aiohttp() -> tuple[Sequence[str], Mapping[str, str]]:
    """Return the command of the `aiohttp` peer and what its environment needs."""
    if importlib.util.find_spec("aiohttp") is None:
        pytest.skip("aiohttp is not installed")
    return [sys.executable, str(HERE / "aiohttp_peer.py")], {}


def find_chromium() -> tuple[Sequence[str], Mapping[str, str]]:
    """Return the command of the peer that is a browser and what its environment needs."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium")
    return [sys.executable, str(HERE / "chromium_peer.py"), program], {}


FINDERS = {"ws": find_ws, "websockets": find_websockets, "aiohttp": find_aiohttp, "chromium": find_chromium}
#: Those that all tests are for. A browser has no say in most of what they are about, so tests for it name it.
GENERAL = ["ws", "websockets", "aiohttp"]


# --- Peers ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority that both sides trust, and what it has certified."""
    folder = tmp_path_factory.mktemp("certificates")
    authority, pem = folder / "authority.pem", folder / "certificate.pem"
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(authority))
    certificate = ca.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
    client = ssl.create_default_context(cafile=authority)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(pem)
    return Certificates(authority, pem, client, server)


@pytest.fixture(scope="session")
def has_ipv6() -> bool:
    """Whether this machine can talk to itself over IPv6."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> Generator[subprocess.Popen[bytes]]:
    """Run a process that ends with its standard input."""
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **environment},
        ) as process,
    ):
        try:
            yield process
            assert process.stdin is not None
            process.stdin.close()
            process.wait(STOP_TIMEOUT)
        finally:
            process.kill()


@pytest.fixture(scope="session", params=GENERAL)
def peer(request: pytest.FixtureRequest, certificates: Certificates, has_ipv6: bool) -> Iterator[Peer]:
    """A peer that listens on every transport, and connects wherever it is told to."""
    kind: str = request.param
    command, environment = FINDERS[kind]()
    with tempfile.TemporaryDirectory(prefix="interop") as name:  # paths of Unix sockets have to be short
        folder = Path(name)
        config = {
            "authority": str(certificates.authority),
            "certificate": str(certificates.certificate),
            "socket": str(folder / kind),
            "ipv6": has_ipv6,
        }
        log = folder / "log.txt"
        with running([*command, json.dumps(config)], environment, log) as process:
            peer = Peer(kind, process, log, folder, certificates)
            trio.run(peer.start)
            yield peer


@pytest.fixture(params=list(Role), ids=lambda role: f"as_{role.name.lower()}")
def role(request: pytest.FixtureRequest) -> Role:
    """The library's role."""
    found: Role = request.param
    return found


@pytest.fixture(params=["tcp", "tls", "unix", "ipv6"])
def transport(request: pytest.FixtureRequest, has_ipv6: bool) -> str:
    """What both sides meet over."""
    found: str = request.param
    if found == "ipv6" and not has_ipv6:
        pytest.skip("this machine has no IPv6 loopback")
    return found


@pytest.fixture
def lane(peer: Peer, role: Role, transport: str) -> Lane:
    """Each way to meet each peer."""
    if peer.kind == "chromium":
        if role is Role.CLIENT:
            pytest.skip("a browser is never the server")
        if transport in ("tls", "unix"):
            pytest.skip("a browser trusts only whom its user does, and knows no Unix sockets")
    return Lane(peer, role, transport)


@pytest.fixture(scope="session")
def ws() -> tuple[Sequence[str], Mapping[str, str]]:
    """The command of the `ws` peer, of which the first word is Node.js, and what its environment needs."""
    return find_ws()


# --- A library to be replaced ---------------------------------------------------------------------------------------


@pytest.fixture
def trio_websocket() -> Generator[ModuleType]:
    """trio-websocket, which forgets to close the streams of connections that did not come about or that the peer closed."""
    found: ModuleType = pytest.importorskip("trio_websocket")
    gc.disable()
    yield found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    gc.enable()
