"""Published programs that use trio-websocket, with this library in its place; what is inside them is not known here.

Both speak the Chrome DevTools Protocol: Selenium's connection to a browser and Streamlink's. They are taken as published,
and each scenario runs with trio-websocket as well: that is what is expected.
"""

import importlib
import importlib.util
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
import trio

import trio_ws
from tests.interop.chromium_peer import FLAGS
from tests.interop.interop_kit import PATIENCE
from tests.io.api_kit import serving

#: More than a message may have unless a client says otherwise, as both do.
LARGE = 3 * 2**20


# --- Those programs -------------------------------------------------------------------------------------------------


class Program:
    """Selenium's way to talk to a browser.

    Args:
        library: what `import trio_websocket` shall give it.
        monkeypatch: takes everything back.
    """

    MODULE = "selenium.webdriver.common.bidi.cdp"
    CLOSED = "CdpConnectionClosed"
    BROWSER_ERROR = "BrowserError"

    def __init__(self, library: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "trio_websocket", library)
        spec = importlib.util.find_spec(self.MODULE)
        assert spec is not None
        assert spec.loader is not None
        self.module = importlib.util.module_from_spec(spec)  # one of its own for each library
        monkeypatch.setitem(sys.modules, self.MODULE, self.module)
        spec.loader.exec_module(self.module)
        self.commands = self.find_commands()
        self.closed: type[Exception] = getattr(self.module, self.CLOSED)
        self.browser_error: type[Exception] = getattr(self.module, self.BROWSER_ERROR)

    def find_commands(self) -> ModuleType:
        """Return the package with a module for each domain of the protocol."""
        commands: ModuleType = self.module.import_devtools("")  # the latest, as there is none of that version
        return commands

    def domain(self, name: str) -> Any:
        """Return the commands and events of a domain."""
        return importlib.import_module(f"{self.commands.__name__}.{name}")

    def open(self, url: str) -> AbstractAsyncContextManager[Any]:
        """Have a connection to a browser."""
        connection: AbstractAsyncContextManager[Any] = self.module.open_cdp(url)
        return connection

    @asynccontextmanager
    async def session(self, connection: Any) -> AsyncGenerator[Any]:
        """Have a page of its own."""
        page = await self.execute(connection, self.domain("target").create_target("about:blank"))
        async with connection.open_session(page) as session:
            yield session

    async def execute(self, where: Any, command: Any) -> Any:
        """Have a command done and return what comes of it."""
        return await where.execute(command)

    @staticmethod
    def value_of(found: Any) -> object:
        """Return the value of an expression that was evaluated."""
        return found[0].value

    async def wait_for(self, session: Any, event: Any, command: Any) -> Any:
        """Have a command done and return the event that comes of it."""
        async with session.wait_for(event) as proxy:
            await self.execute(session, command)
        return proxy.value


class Streamlink(Program):
    MODULE = "streamlink.webbrowser.cdp.connection"
    CLOSED = BROWSER_ERROR = "CDPError"

    def find_commands(self) -> ModuleType:
        return importlib.import_module("streamlink.webbrowser.cdp.devtools")

    def open(self, url: str) -> AbstractAsyncContextManager[Any]:
        connection: AbstractAsyncContextManager[Any] = self.module.CDPConnection.create(url, timeout=PATIENCE)
        return connection

    @asynccontextmanager
    async def session(self, connection: Any) -> AsyncGenerator[Any]:
        yield await connection.new_target("about:blank")

    async def execute(self, where: Any, command: Any) -> Any:
        return await where.send(command)

    async def wait_for(self, session: Any, event: Any, command: Any) -> Any:
        listener = session.listen(event)
        await self.execute(session, command)
        async with listener as found:
            return found


PROGRAMS: dict[str, type[Program]] = {"selenium": Program, "streamlink": Streamlink}


@pytest.fixture(params=["trio_websocket", "trio_ws"])
def library(request: pytest.FixtureRequest) -> ModuleType:
    """What plays trio-websocket."""
    found: ModuleType = trio_ws if request.param == "trio_ws" else request.getfixturevalue("trio_websocket")
    return found


@pytest.fixture(params=PROGRAMS)
def program(
    request: pytest.FixtureRequest, library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Generator[Program]:
    """A program on a library."""
    kind = PROGRAMS[request.param]
    if importlib.util.find_spec(kind.MODULE.partition(".")[0]) is None:
        pytest.skip(f"{request.param} is not installed")
    logger_class = logging.getLoggerClass()  # Streamlink brings its own
    yield kind(library, monkeypatch)
    logging.setLoggerClass(logger_class)


# --- A browser that is none -----------------------------------------------------------------------------------------


class Browser:
    """The few commands that the scenarios need, on a server; it notes how its connections ended."""

    def __init__(self) -> None:
        self.ends: list[int] = []

    async def handle(self, request: trio_ws.WebSocketRequest) -> None:
        """Serve one connection."""
        if request.path != "/devtools/browser":
            await request.reject(404)
            return
        ws = await request.accept()
        async for message in ws:
            call = json.loads(message)
            session = {"sessionId": call["sessionId"]} if "sessionId" in call else {}
            if call["method"] == "Browser.close":
                await ws.aclose(1001, "closed by command")
                return
            await ws.send_message(json.dumps({"id": call["id"], **self.answer(call), **session}))
            if call["method"] == "Page.enable":
                event = {"method": "Page.loadEventFired", "params": {"timestamp": 1.5}}
                await ws.send_message(json.dumps(event | session))
        assert ws.closed is not None
        self.ends.append(ws.closed.code)

    @staticmethod
    def answer(call: dict[str, Any]) -> dict[str, Any]:
        """Return the result of a command, or an error."""
        match call["method"]:
            case "Target.createTarget":
                return {"result": {"targetId": "page"}}
            case "Target.attachToTarget":
                return {"result": {"sessionId": "session"}}
            case "Page.enable":
                return {"result": {}}
            case "Runtime.evaluate":
                return {"result": {"result": {"type": "string", "value": "x" * LARGE}}}
            case _:
                return {"error": {"code": -32601, "message": "no such method"}}


@asynccontextmanager
async def browsing() -> AsyncGenerator[tuple[Browser, str]]:
    """Have such a browser, and its URL."""
    browser = Browser()
    async with serving(browser.handle, PATIENCE) as server:
        yield browser, f"ws://127.0.0.1:{server.port}/devtools/browser"


def innermost(error: BaseException) -> BaseException:
    """Return the one exception in a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        (error,) = cast("BaseExceptionGroup[BaseException]", error).exceptions
    return error


# --- The scenarios --------------------------------------------------------------------------------------------------


async def test_commands_and_events(program: Program) -> None:
    page, runtime = program.domain("page"), program.domain("runtime")
    async with browsing() as (browser, url):
        async with program.open(url) as connection, program.session(connection) as session:
            loaded = await program.wait_for(session, page.LoadEventFired, page.enable())
            assert float(loaded.timestamp) == 1.5
            found = await program.execute(session, runtime.evaluate("'x'.repeat(...)"))
            assert program.value_of(found) == "x" * LARGE
            with pytest.raises(program.browser_error, match="no such method"):
                await program.execute(session, page.disable())
        while not browser.ends:
            await trio.lowlevel.checkpoint()
        assert browser.ends == [1000]


async def test_many_commands_at_once(program: Program) -> None:
    page = program.domain("page")
    done: list[bool] = []
    async with (
        browsing() as (_, url),
        program.open(url) as connection,
        program.session(connection) as session,
    ):

        async def enable() -> None:
            await program.execute(session, page.enable())
            done.append(True)

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(enable)
    assert len(done) == 100


async def test_the_browser_goes(program: Program) -> None:
    browser_commands = program.domain("browser")
    async with browsing() as (_, url), program.open(url) as connection:
        websocket = connection.websocket if isinstance(program, Streamlink) else connection.ws
        async with trio.open_nursery() as nursery:
            nursery.start_soon(program.execute, connection, browser_commands.close())  # nothing answers it
            while websocket.closed is None:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        with pytest.raises(program.closed) as caught:
            await program.execute(connection, browser_commands.get_version())
        reason = caught.value.args[0] if isinstance(program, Streamlink) else vars(caught.value)["reason"]
        assert (reason.code, reason.name, reason.reason) == (1001, "GOING_AWAY", "closed by command")
        assert "code=1001, name=GOING_AWAY, reason=closed by command" in repr(caught.value)


async def test_no_browser(program: Program, library: ModuleType) -> None:
    async with browsing() as (_, url):
        with pytest.raises(BaseExceptionGroup) as caught:
            async with program.open(url + "/not/there"):
                pass
        error = innermost(caught.value)
        assert isinstance(error, library.ConnectionRejected)
        assert vars(error)["status_code"] == 404
    with pytest.raises(BaseExceptionGroup) as caught:
        async with program.open(url):
            pass
    assert isinstance(innermost(caught.value), OSError)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The URL at which a Chromium takes commands."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("there is no chromium")
    folder = tmp_path_factory.mktemp("chromium")
    flags = [flag for flag in FLAGS if flag != "--remote-debugging-pipe"]
    with subprocess.Popen(
        [executable, *flags, "--remote-debugging-port=0", f"--user-data-dir={folder}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"HOME": str(folder), "PATH": str(Path(executable).parent) + ":/usr/bin:/bin"},
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            said: list[str] = []
            for line in process.stderr:
                said.append(line)
                if line.startswith("DevTools listening on "):
                    yield line.split()[-1]
                    break
            else:
                pytest.fail(f"chromium does not listen:\n{''.join(said)}")
        finally:
            process.kill()


async def test_chromium(program: Program, chromium: str) -> None:
    runtime = program.domain("runtime")
    with trio.fail_after(PATIENCE):
        async with program.open(chromium) as connection, program.session(connection) as session:
            found = await program.execute(session, runtime.evaluate(f"'hello'.repeat({LARGE // 5})"))
            assert program.value_of(found) == "hello" * (LARGE // 5)


async def test_events_of_chromium(program: Program, chromium: str) -> None:
    page, runtime = program.domain("page"), program.domain("runtime")
    with trio.fail_after(PATIENCE):
        async with program.open(chromium) as connection, program.session(connection) as session:
            await program.execute(session, page.enable())
            there = page.navigate("data:text/html,<title>there</title>")
            await program.wait_for(session, page.LoadEventFired, there)
            found = await program.execute(session, runtime.evaluate("document.title"))
            assert program.value_of(found) == "there"
