"""The import layers and the measures of the package, as tables; every module of the installed package is held to them."""

import ast
import importlib.util
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import pytest

# ---------------------------------------------------------------------------------------------------------------------
# The tables. To add a module, write its name where it belongs; a module in no table fails `test_every_module_has_a_home`.

# A chain names modules in order: each may import what stands left of an arrow before it, and whatever that may import.
# Modules between two arrows do not import each other. `__init__` is the facade.
CHOICE = ("_accel",)
PROTOCOL = (
    "_close, _errors, _limits > _events > _state, _mask > _encode > _codec > _headers, _liveness > _protocol > _accel",
    "_errors > _compressors > _inflate > _codec",
    "_headers, _inflate > _deflate > _protocol, __init__",
    "_latencies > _liveness > __init__",
    "_mask_c > _encode_c, _codec_c > _protocol_c > _accel",
    "_headers > _cookies > _handshake",
    "_accel > _handshake > _handshake_client, _handshake_server > __init__",
    "_handshake > _handshake_rules, _handshake_answers > _handshake_server > __init__",
)
TRANSPORT = (
    "_base > _accepted, _poller > _socket > _accel > _polling > _polled > _dial > _proxy > __init__",
    "_accel > _stream > _dial",
    "_ready > _poller, _socket, _polling, _polled",
    "_base_c > _poller_c > _socket_c > _accel",
    "_accel, _polled, _stream > _listen > __init__",
    "_accepted, _polled > _proxy_protocol > __init__",
)
CONNECTION = (
    "_errors, _timers, _turns, _endpoint, _sendable, _prepared, _options, _config > _contexts, _inbox, _pings > _channel > _outbox, _pieces > _ending > _link > _sending > _facts > _connection > _bytestream",
    "_inbox_c > _ending_c > _link_c > _connection",
    "_errors > _credentials > _config",
    "_timers > _heap > _contexts, _ending",
    "_interrupts > _channel, _pieces, _connection, _bytestream",
    "_endpoint > _overload > _options, _config",
    "_observer > _options, _config, _ending",
    "_link > _statistics > _facts",
)
ENDPOINTS = (
    "_url > _redirects, _proxies, _opening > _client > _reconnect",
    "_counters > _server",
    "_auth, _forwarded, _farewell > _request > _receiving, _talk > _server > _serving > _router",
)
WHOLE = ("_broadcast, _workers",)
FACADE = ("__init__",)
TESTING = ("_faults, _listener, _peer > _pair > __init__",)
COMMAND = (
    "_cli_screen > _cli_serve > _cli",
    "_cli_screen, _cli_prompt > _cli_connect > _cli > __main__",
)

# A line may import every line above it, but of a room, which is a folder, only the facade. The first two rooms see
# nothing besides themselves and the choice of what is compiled.
LINES = (
    ("", CHOICE),
    ("protocol", PROTOCOL),
    ("transport", TRANSPORT),
    ("", CONNECTION),
    ("", ENDPOINTS),
    ("", WHOLE),
    ("", FACADE),
    ("testing", TESTING),
    ("", COMMAND),
)
ROOMS = {room for room, _ in LINES if room}

# The compiled modules, and who may import them: whoever else did would choose a codec a second time.
COMPILED = {
    "protocol._mask_c": "protocol._accel",
    "protocol._encode_c": "protocol._accel",
    "protocol._codec_c": "protocol._accel",
    "protocol._protocol_c": "protocol._accel",
    "transport._base_c": "transport._accel",
    "transport._poller_c": "transport._accel",
    "transport._socket_c": "transport._accel",
    "_inbox_c": "",
    "_ending_c": "",
    "_link_c": "_connection",
}

# What is not the standard library, and the modules that may import it ("*": every module outside of `protocol`).
FOREIGN = {
    "trio": {"*"},
    "h11": {
        "protocol._handshake",
        "protocol._handshake_client",
        "protocol._handshake_server",
        "transport._proxy",
    },
    "python_socks": {"transport._proxy"},
    "idna": {"_url"},
    "prompt_toolkit": {"_cli_prompt"},
}
# Only for the type checkers, which all bring it along.
TYPING_ONLY = {"typing_extensions"}

# Time and chance are arguments of the protocol, and it does no I/O.
NOT_IN_PROTOCOL = {
    "asyncio", "datetime", "os", "random", "secrets", "select", "socket", "ssl", "threading", "time", "uuid",
}  # fmt: skip

MODULE_LINES = 400
FUNCTION_CODE_LINES_P90 = 22

# ---------------------------------------------------------------------------------------------------------------------

_spec = importlib.util.find_spec("trio_ws")
assert _spec is not None
assert _spec.origin is not None
PACKAGE = Path(_spec.origin).parent


def _name(path: Path) -> str:
    """Return the name in the tables: `protocol._codec`, `protocol` for its facade, `__init__` for the package's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


SOURCES = {_name(path): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = sorted(SOURCES)

# What Cython reads besides is in the source tree alone: nobody who has installed the package needs it.
CHECKOUT = Path(__file__).parent.parent
TREE = CHECKOUT / "trio_ws"
CYTHON = {
    path.relative_to(TREE).as_posix(): path.read_text("utf-8")
    for path in sorted([*TREE.rglob("*.pyx"), *TREE.rglob("*.pxd")])
}


def _chained(chains: tuple[str, ...]) -> dict[str, set[str]]:
    """Return, for each module of one line, the modules of that line which it may import."""
    allowed: dict[str, set[str]] = {}
    for chain in chains:
        above: set[str] = set()
        for step in chain.split(" > "):
            names = {name.strip() for name in step.split(",")}
            for name in names:
                allowed.setdefault(name, set()).update(above)
            above |= names.union(*(allowed[name] for name in names))
    return allowed


def _table() -> dict[str, set[str]]:
    """Return, for each module in the tables, all modules of the package which it may import."""
    table: dict[str, set[str]] = {}
    above: set[str] = set()
    for room, chains in LINES:
        full = {
            name: f"{room}.{name}".removeprefix(".").removesuffix(".__init__") for name in _chained(chains)
        }
        seen = {*CHOICE} if room in {"protocol", "transport"} else above
        table |= {full[name]: {full[x] for x in inside} | seen for name, inside in _chained(chains).items()}
        above = above | ({room} if room else set(full.values()))
    return table


TABLE = _table()


@dataclass(frozen=True)
class Import:
    """One imported thing: the module it comes from, absolute, and the line."""

    module: str
    line: int
    typing_only: bool


def _absolute(node: ast.ImportFrom, module: str) -> str:
    """Return the absolute name of the module that `node` imports from, given the table name of its own module."""
    if node.level == 0:
        assert node.module is not None
        return node.module
    here = ["trio_ws", *module.split(".")]
    is_package = module in ROOMS
    base = here[: len(here) - node.level + is_package]
    return ".".join([*base, *(node.module or "").split(".")]).rstrip(".")


def _imports(module: str, source: str) -> Iterator[Import]:
    """Yield every import of `source`, wherever it stands; a submodule imported by name counts as itself."""
    tree = ast.parse(source)
    guarded = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, node in guarded)
        elif isinstance(node, ast.ImportFrom):
            origin = _absolute(node, module)
            for alias in node.names:
                full = f"{origin}.{alias.name}"
                is_module = full.removeprefix("trio_ws.") in TABLE
                yield Import(full if is_module else origin, node.lineno, node in guarded)


def _import_faults(module: str, source: str) -> list[str]:
    """Return what the imports of a module break, one sentence each."""
    faults: list[str] = []
    for item in _imports(module, source):
        top, _, rest = item.module.partition(".")
        if top == "trio_ws":
            target = rest or "__init__"
            if target not in TABLE.get(module, set()) or COMPILED.get(target, module) != module:
                faults.append(f"{module}:{item.line} may not import {target}")
        elif module.startswith("protocol") and top in NOT_IN_PROTOCOL | {"trio"}:
            faults.append(
                f"{module}:{item.line} imports {top}, but the protocol neither waits nor knows the time"
            )
        elif top not in sys.stdlib_module_names:
            users = FOREIGN.get(top, set())
            if not (module in users or "*" in users or (item.typing_only and top in TYPING_ONLY)):
                faults.append(f"{module}:{item.line} may not import {top}")
    return faults


def _private_uses(source: str) -> list[str]:
    """Return where private names of trio or h11 are used, as dotted names."""
    tree = ast.parse(source)
    foreign = {"trio", "h11"}
    used: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used += [alias.name for alias in node.names if alias.name.split(".")[0] in foreign]
        elif (
            isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in {"trio", "h11"}
        ):
            used += [f"{node.module}.{alias.name}" for alias in node.names]
            foreign |= {alias.asname or alias.name for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (dotted := ast.unparse(node)).split(".")[0] in foreign:
            used.append(dotted)
    return [name for name in used if any(part.startswith("_") for part in name.split(".")[1:])]


def _docstring_lines(tree: ast.Module) -> set[int]:
    """Return the numbers of the lines that docstrings take."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and ast.get_docstring(node, clean=False) is not None
        ):
            lines.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


def _code_lines(source: str) -> set[int]:
    """Return the numbers of the lines that hold code: not blank, no comment, no docstring."""
    nothing = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in nothing:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines - _docstring_lines(ast.parse(source))


def _function_sizes(source: str) -> list[int]:
    """Return the number of code lines of every function, its signature included."""
    code = _code_lines(source)
    return [
        len(code.intersection(range(node.lineno, (node.end_lineno or 0) + 1)))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]


def test_every_module_has_a_home() -> None:
    assert sorted(set(SOURCES) - set(TABLE)) == []


def test_the_documented_tree_is_the_package() -> None:
    page = (CHECKOUT / "docs/explanation/architecture.md").read_text("utf-8")
    tree = page.partition("```text\ntrio_ws/\n")[2].partition("```")[0]
    documented: list[str] = []
    room = ""
    for indent, name, suffix in re.findall(r"^( +)(\w+)(/|\.py|\.pyx|\.pxd)(?= |$)", tree, re.MULTILINE):
        if len(indent) == 2:
            room = f"{name}/" if suffix == "/" else ""
        documented.append(f"{room}__init__.py" if suffix == "/" else f"{room}{name}{suffix}")
    package = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")]
    assert sorted(["__init__.py", *documented]) == sorted([*package, *CYTHON])


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_from_above(module: str) -> None:
    assert _import_faults(module, SOURCES[module]) == []


@pytest.mark.parametrize("module", MODULES)
def test_nothing_private_of_trio_or_h11(module: str) -> None:
    assert _private_uses(SOURCES[module]) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("protocol._codec", "import trio"),
        ("protocol._codec", "def f():\n    from time import monotonic"),
        ("protocol._codec", "from ._protocol import Protocol"),
        ("protocol._codec", "from . import _protocol"),
        ("protocol._codec", "from . import Protocol"),
        ("protocol._codec", "from ._mask_c import apply_mask"),
        ("protocol._protocol", "from ._codec_c import Decoder"),
        ("protocol", "from . import _mask_c"),
        ("protocol._codec", "import os"),
        ("protocol._accel", "from time import monotonic"),
        ("protocol._accel", "import os"),
        ("protocol._codec", "from .. import _link"),
        ("_link", "from ._inbox_c import Inbox"),
        ("_client", "from ._link_c import Link"),
        ("transport._polling", "from ._poller_c import Poller"),
        ("protocol._protocol", "from .. import transport"),
        ("protocol._protocol", "import h11"),
        ("transport._socket", "from ._stream import StreamTransport"),
        ("transport._listen", "from ._dial import dial"),
        ("transport._base", "from ..protocol import Protocol"),
        ("transport", "import trio_ws.protocol"),
        ("_connection", "from .protocol._codec import Decoder"),
        ("_connection", "import trio_ws.transport._base"),
        ("_connection", "if TYPE_CHECKING:\n    from ._client import connect_websocket"),
        ("_client", "from ._server import serve_websocket"),
        ("_server", "from . import _client"),
        ("_router", "from ._reconnect import reconnecting"),
        ("_server", "from trio_ws import WebSocketServer"),
        ("_server", "import numpy"),
        ("_server", "from typing_extensions import Buffer"),
        ("__init__", "from ._cli import main"),
    ],
)
def test_a_forbidden_import_is_seen(module: str, source: str) -> None:
    assert len(_import_faults(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("protocol", "from ._handshake import ServerHandshake"),
        ("protocol._handshake", "import h11\nfrom ._accel import Protocol"),
        (
            "protocol._accel",
            "from .._accel import accelerated\nfrom ._codec_c import Decoder\nfrom . import _mask_c",
        ),
        ("transport._accel", "from .._accel import accelerated"),
        ("_client", "import trio\nfrom ._connection import WebSocketConnection\nfrom .transport import dial"),
        ("_server", "if TYPE_CHECKING:\n    from typing_extensions import Buffer"),
        ("_broadcast", "from ._server import WebSocketServer"),
        ("__init__", "from ._client import x\nfrom ._server import y\nfrom .protocol import Limits"),
        ("_cli_prompt", "import trio_ws\nfrom prompt_toolkit import PromptSession"),
    ],
)
def test_a_permitted_import_is_no_fault(module: str, source: str) -> None:
    assert _import_faults(module, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import trio._core",
        "from trio import _core",
        "from trio._core import x",
        "import trio\ntrio._core.x()",
        "import h11\nh11.Connection._state",
        "from trio import lowlevel as low\nlow._secret",
    ],
)
def test_a_private_use_is_seen(source: str) -> None:
    assert _private_uses(source)


def test_client_and_server_never_meet() -> None:
    below = TABLE["_client"] | TABLE["_reconnect"], TABLE["_server"] | TABLE["_router"]
    assert not below[0] & {"_request", "_server", "_router"}
    assert not below[1] & {"_url", "_client", "_reconnect"}


# The package's own facade imports everything, so a stand-in for it lets a room be imported alone.
_IMPORT_ALONE = """
import importlib, sys, types
package = types.ModuleType("trio_ws")
package.__path__ = [sys.argv[1]]
sys.modules["trio_ws"] = package
importlib.import_module("trio_ws." + sys.argv[2])
print(*sys.modules)
"""


@pytest.mark.parametrize(
    ("room", "stranger"),
    [("protocol", "trio"), ("protocol", "trio_ws.transport"), ("transport", "trio_ws.protocol")],
)
def test_rooms_do_not_load_what_they_have_never_heard_of(room: str, stranger: str) -> None:
    command = [sys.executable, "-c", _IMPORT_ALONE, str(PACKAGE), room]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert f"trio_ws.{room}" in loaded
    assert stranger not in loaded


@pytest.mark.parametrize("module", MODULES)
def test_module_length(module: str) -> None:
    assert len(SOURCES[module].splitlines()) <= MODULE_LINES


def test_function_length() -> None:
    sizes = [size for source in SOURCES.values() for size in _function_sizes(source)]
    assert quantiles(sizes, n=10)[-1] <= FUNCTION_CODE_LINES_P90


def test_function_length_counts_code_alone() -> None:
    source = 'def f(\n    x,\n):\n    """One.\n\n    Two.\n    """\n\n    # why\n    y = """\n    z"""  # w\n    return y\n'
    assert _function_sizes(source) == [6]


@pytest.mark.parametrize("module", MODULES)
def test_module_says_what_it_is(module: str) -> None:
    docstring = ast.get_docstring(ast.parse(SOURCES[module])) or ""
    first_paragraph = " ".join(docstring.partition("\n\n")[0].split())
    assert "." in first_paragraph, "the module's docstring has no first sentence"


# Cython's files, which Python cannot parse


@pytest.mark.parametrize("file", CYTHON)
def test_cython_files_import_only_from_above(file: str) -> None:
    module = file.partition(".")[0].replace("/", ".")
    imported = re.findall(r"^(?:from|import|cimport) +(\S+)", CYTHON[file], re.MULTILINE)
    strange = [name for name in imported if not re.match(r"cython$|cpython\.|libc\.|trio_ws\.", name)]
    inside = {name.removeprefix("trio_ws.") for name in imported if name.startswith("trio_ws.")}
    assert strange == []
    # a facade has no types: of a room which it may import, one compiled module sees the others
    assert inside <= TABLE[module] | {name for name in COMPILED if name.partition(".")[0] in TABLE[module]}


@pytest.mark.parametrize("file", CYTHON)
def test_cython_files_say_what_they_are(file: str) -> None:
    text = re.sub(r"^# cython: .*\n", "", CYTHON[file])
    begin = r'"""(.+?)(\n\n|""")' if file.endswith(".pyx") else r"((# .*\n)+)"
    said = re.match(begin, text, re.DOTALL if file.endswith(".pyx") else 0)
    assert said
    assert "." in said[1], "the file has no first sentence"


@pytest.mark.parametrize("file", CYTHON)
def test_cython_file_length(file: str) -> None:
    assert len(CYTHON[file].splitlines()) <= MODULE_LINES


def test_cython_files_are_found() -> None:
    assert {name.replace(".", "/") + ".pxd" for name in COMPILED} | {"protocol/_mask_c.pyx"} == CYTHON.keys()
