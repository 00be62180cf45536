"""The peer that is Chromium, as client only; interop_kit.py says what it is told and what it reports.

It knows nothing of trio_ws. What the browser is told goes to its DevTools through pipes: no WebSocket is involved but those
under test. chromium_peer.js is what plays the scripts.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

SCRIPT = Path(__file__).with_suffix(".js")
FLAGS = [
    "--headless",
    "--no-sandbox",  # it refuses to run as root with one
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers often have hardly any
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]
# Chromium takes commands from descriptor 3 and answers through 4, wherever these were before.
LAUNCHER = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'


class Lines:
    """What comes through a descriptor, cut at a separator."""

    def __init__(self, number: int, separator: bytes) -> None:
        self.number = number
        self._separator = separator
        self._rest = b""

    def read(self) -> Iterator[bytes]:
        """Wait for something and give out what is complete of it.

        Raises:
            EOFError: there will be nothing more.
        """
        data = os.read(self.number, 65536)
        if not data:
            raise EOFError
        *lines, self._rest = (self._rest + data).split(self._separator)
        yield from lines


class Browser:
    """A page of a browser, over the Chrome DevTools Protocol."""

    def __init__(self, command: int, answers: Lines) -> None:
        self._command = command
        self._answers = answers
        self._calls = 0
        self._session: dict[str, str] = {}

    def post(self, method: str, **params: object) -> int:
        """Call a method of the protocol; return the number of the call."""
        self._calls += 1
        call = {"id": self._calls, "method": method, "params": params, **self._session}
        data = json.dumps(call).encode() + b"\0"
        while data:
            data = data[os.write(self._command, data) :]
        return self._calls

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = self.post(method, **params)
        result: dict[str, Any] | None = None
        while result is None:
            for line in self._answers.read():
                answer = json.loads(line)
                if answer.get("id") == number:
                    result = answer["result"]
        return result

    def open(self) -> None:
        """Open a page that plays scripts."""
        target = self.call("Target.createTarget", url="about:blank")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        self.call("Runtime.enable")
        self.call("Runtime.addBinding", name="say")
        self.call("Runtime.evaluate", expression=SCRIPT.read_text())

    def dial(self, script: bytes) -> None:
        """Have the page connect."""
        self.post("Runtime.evaluate", expression=f"dial({script.decode()})")

    def relay_reports(self) -> None:
        """Hand on what the page has to say, and complaints about it."""
        for line in self._answers.read():
            message = json.loads(line)
            if message.get("method") == "Runtime.bindingCalled":
                say(message["params"]["payload"])
            elif message.get("method") == "Runtime.exceptionThrown":
                sys.stderr.write(f"{message['params']}\n")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def serve(browser: Browser, answers: Lines, scripts: Lines) -> None:
    """Relay between the tests and the page until one of them ends."""
    with DefaultSelector() as selector:
        selector.register(answers.number, EVENT_READ)
        selector.register(scripts.number, EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == answers.number:
                    browser.relay_reports()
                else:
                    for script in scripts.read():
                        browser.dial(script)


def main(program: str) -> None:
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    answers, scripts = Lines(ours_in, b"\0"), Lines(sys.stdin.fileno(), b"\n")
    with tempfile.TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True) as folder:
        ends = [str(theirs_in), str(theirs_out)]
        with subprocess.Popen(
            ["bash", "-c", LAUNCHER, "bash", *ends, program, *FLAGS, f"--user-data-dir={folder}"],
            pass_fds=[theirs_in, theirs_out],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "HOME": folder},
        ) as process:
            os.close(theirs_in)
            os.close(theirs_out)
            browser = Browser(ours_out, answers)
            browser.open()
            say(json.dumps({"ports": {}}))
            try:
                serve(browser, answers, scripts)
            except EOFError:
                os.close(ours_out)  # which ends the browser
                process.wait()


if __name__ == "__main__":
    main(sys.argv[1])
