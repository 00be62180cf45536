"""What the package shows to the outside: its names, their documentation, and what is installed with it."""

import __future__

import contextlib
import importlib
import importlib.metadata
import inspect
import os
import re
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import trio_ws
import trio_ws.protocol
import trio_ws.testing

PUBLIC_MODULES = [trio_ws, trio_ws.protocol, trio_ws.testing]
PACKAGE = Path(trio_ws.__file__).parent


def _is_exported(value: object) -> bool:
    """Return whether a module's attribute is something it offers, and neither a submodule nor a language feature."""
    is_submodule = isinstance(value, ModuleType) and value.__name__.startswith("trio_ws.")
    return not is_submodule and not isinstance(value, type(__future__.annotations))


def _documented(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield every public class, function, method and property of a module as (dotted name, the object)."""
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value):
            yield f"{module.__name__}.{name}", value
            ours = [base for base in value.__mro__ if base.__module__.startswith("trio_ws.")]
            for member, raw in {key: raw for base in ours for key, raw in vars(base).items()}.items():
                if not member.startswith("_") and (inspect.isroutine(raw) or isinstance(raw, property)):
                    yield f"{module.__name__}.{name}.{member}", raw
        elif inspect.isroutine(value):
            yield f"{module.__name__}.{name}", value


DOCUMENTED = {name: value for module in PUBLIC_MODULES for name, value in _documented(module)}


def _is_awaited(value: Any) -> bool:
    """Return whether the caller waits in it: a coroutine function, an async iterator or an async context manager."""
    function = inspect.unwrap(getattr(value, "__func__", value))
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return True
    returned = str(getattr(function, "__annotations__", {}).get("return", ""))
    return re.search(r"Awaitable|Coroutine|AsyncContextManager|AsyncIterator", returned) is not None


AWAITED = sorted(name for name, value in DOCUMENTED.items() if _is_awaited(value))


@pytest.mark.parametrize("module", PUBLIC_MODULES, ids=lambda module: module.__name__)
def test_all_is_what_the_module_offers(module: ModuleType) -> None:
    offered = {
        name for name in dir(module) if not name.startswith("_") and _is_exported(getattr(module, name))
    }
    assert {name for name in module.__all__ if not name.startswith("__")} == offered
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("module", PUBLIC_MODULES, ids=lambda module: module.__name__)
def test_all_is_sorted(module: ModuleType) -> None:
    # Constants, classes, functions, each by name: the order that the linter keeps.
    in_order = sorted(module.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert list(module.__all__) == in_order


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_everything_public_is_documented(name: str) -> None:
    value = DOCUMENTED[name]
    doc = inspect.getdoc(value) or ""
    written_by_dataclass = inspect.isclass(value) and doc.startswith(f"{value.__name__}(")
    inherited = inspect.isclass(value) and not value.__dict__.get("__doc__")
    assert doc
    assert not written_by_dataclass
    assert not inherited


@pytest.mark.parametrize("name", AWAITED)
def test_everything_awaited_says_what_cancellation_does(name: str) -> None:
    assert "Cancellation:" in (inspect.getdoc(DOCUMENTED[name]) or "")


def test_awaited_is_recognised() -> None:
    class Sample:
        async def coroutine(self) -> None: ...

        @contextlib.asynccontextmanager
        async def manager(self) -> AsyncGenerator[None]:
            yield None

        def plain_manager(self) -> contextlib.AbstractAsyncContextManager[None]:
            return contextlib.nullcontext()

        def plain(self) -> None: ...

    members = [
        name for name, value in vars(Sample).items() if not name.startswith("_") and _is_awaited(value)
    ]
    assert members == ["coroutine", "manager", "plain_manager"]


def test_version_is_that_of_the_distribution() -> None:
    assert trio_ws.__version__ == importlib.metadata.version("trio_ws")


def test_runtime_dependencies_are_trio_h11_and_what_trio_brings() -> None:
    requirements = importlib.metadata.requires("trio_ws") or []
    names = {re.split(r"[^\w.-]", line)[0] for line in requirements if "extra ==" not in line}
    assert names == {"trio", "h11", "idna"}


def test_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="elsewhere an editable install may be tested")
def test_the_installed_package_is_tested() -> None:
    assert PACKAGE.parent.name == "site-packages"
