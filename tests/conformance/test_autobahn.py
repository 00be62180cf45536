"""The Autobahn testsuite's judgement of the server and the client, held exactly to autobahn_cfg/expected.toml.

Everything runs as it would in the field: `wstest` and the echo peers of echo.py are processes of their own that meet
over TCP, and this module only starts them and reads the reports. It knows nothing of WebSocket.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import pytest
import trio

CHECKOUT = Path(__file__).parents[2]
CONFIG = CHECKOUT / "autobahn_cfg"
ECHO = Path(__file__).with_name("echo.py")
# Where the numbers of the last run are kept for documentation to quote.
COUNTS = CHECKOUT / "build" / "autobahn"

AGENT = "trio_ws"
NO_PYTHON = 69  # the installer's exit status where no Python 2.7 can be had
INSTALL_TIMEOUT = 600  # seconds; it takes twenty where the network is good
# Seconds for all cases of one side, which takes 25 on two free cores; a case that hangs is ended by the suite itself after 100.
RUN_TIMEOUT = 480
# The same for all cases about compression, a thousand messages each.
COMPLETE_TIMEOUT = 3600
COMPRESSION = ["12.*", "13.*"]
COMPRESSION_COUNT = 216
LOG_TAIL = 2000  # characters of the processes' output that a failure shows

Side: TypeAlias = Literal["server", "client"]
SIDES: tuple[Side, ...] = ("server", "client")


class Outcome(NamedTuple):
    """The two judgements of one case."""

    behavior: str
    behavior_close: str


OK = Outcome("OK", "OK")
Outcomes: TypeAlias = Mapping[str, Outcome]


class Run(NamedTuple):
    """What one side's run left behind."""

    folder: Path  # of the reports of the single cases
    outcomes: Outcomes  # empty if the suite did not get as far as its report
    ending: str  # of the process that leads through the cases
    output: str  # the last that the processes printed


def by_number(case: str) -> list[int]:
    return [int(part) for part in case.split(".")]


def parse_outcomes(cases: Mapping[str, Mapping[str, str]]) -> Outcomes:
    return {name: Outcome(case["behavior"], case["behaviorClose"]) for name, case in cases.items()}


def find_deviations(found: Outcomes, *, expected: Outcomes, count: int) -> list[str]:
    """Describe every difference between a report and what is expected of it, be it for the worse or the better."""
    deviations = [f"{count} cases expected, {len(found)} reported"] if len(found) != count else []
    for case in sorted(found.keys() | expected.keys(), key=by_number):
        should, is_now = expected.get(case, OK), found.get(case)
        if is_now is None:
            deviations.append(f"{case}: expected {'/'.join(should)}, not reported")
        elif is_now != should:
            deviations.append(f"{case}: expected {'/'.join(should)}, found {'/'.join(is_now)}")
        elif case in expected and should == OK:
            deviations.append(f"{case}: OK needs no entry")
    return deviations


def explain(run: Run, expected: Outcomes) -> str:
    """Quote, for every reported case that deviates, what the suite did, expected and got."""
    lines: list[str] = []
    deviant = [case for case, outcome in run.outcomes.items() if outcome != expected.get(case, OK)]
    for case in sorted(deviant, key=by_number):
        report = json.loads((run.folder / f"{AGENT}_case_{case.replace('.', '_')}.json").read_text())
        lines += [f"{case} {report['behavior']}/{report['behaviorClose']}: {report['description']}"]
        lines += [
            f"    {key}: {report[key]}"
            for key in ("result", "resultClose", "expected", "received", "expectedClose", "remoteCloseCode")
        ]
    return "\n".join(lines)


# --- Installing and running -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wstest() -> Path:
    """The suite's program, installed on first use and kept for later runs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("TRIO_WS_WSTEST") or cache / "trio_ws-wstest")
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no Python 2.7 for the Autobahn testsuite: its installer needs bash and Debian")
    installer = subprocess.run(
        [bash, str(CONFIG / "install.sh"), str(folder)],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=INSTALL_TIMEOUT,
    )
    output = installer.stdout.decode(errors="replace")[-LOG_TAIL:]
    if installer.returncode == NO_PYTHON:
        pytest.skip(f"no Python 2.7 for the Autobahn testsuite:\n{output}")
    assert installer.returncode == 0, f"the Autobahn testsuite could not be installed:\n{output}"
    return folder / "wstest"


def find_free_port() -> int:
    """Return a port to listen on, for a program that cannot choose one itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def write_spec(name: str, folder: Path, **addresses: object) -> str:
    """Write one of the specifications in autobahn_cfg with the folder and the addresses of this run."""
    path = folder / name
    path.write_text(json.dumps(json.loads((CONFIG / name).read_text()) | {"outdir": str(folder)} | addresses))
    return str(path)


def find_commands(
    side: Side, wstest: Path, folder: Path, port: int, **selection: object
) -> tuple[list[str], list[str]]:
    """Return the program that listens at `port` and the one that leads through the cases."""
    url = f"ws://127.0.0.1:{port}"
    if side == "server":
        spec = write_spec("fuzzingclient.json", folder, servers=[{"agent": AGENT, "url": url}], **selection)
        listener = [sys.executable, str(ECHO), "server", str(port)]
        return listener, [str(wstest), "--mode=fuzzingclient", f"--spec={spec}"]
    spec = write_spec("fuzzingserver.json", folder, url=url, **selection)
    leader = [sys.executable, str(ECHO), "client", url, AGENT]
    return [str(wstest), "--mode=fuzzingserver", f"--spec={spec}", "--webport=0"], leader


async def wait_listening(port: int) -> None:
    """Wait until a program listens that has no way to say so."""
    while True:
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            await trio.sleep(0.05)
        else:
            return await stream.aclose()


async def examine(
    side: Side, wstest: Path, folder: Path, runs: dict[Side, Run], seconds: float, **selection: object
) -> None:
    """Run the selected cases against one side of the library; put what came of it into `runs`."""
    port = find_free_port()
    listener, leader = find_commands(side, wstest, folder, port, **selection)
    ending = f"not finished after {seconds} s, or the other process ended first"
    # A file takes whatever the processes print: a pipe could fill up and stop them.
    with (folder / "log.txt").open("w+b") as log, trio.move_on_after(seconds):

        async def run_to_its_end(command: Sequence[str]) -> int:
            """Run a process; the end of either is the end of both."""
            process = await trio.run_process(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False
            )
            nursery.cancel_scope.cancel()
            return process.returncode

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_to_its_end, listener)
            await wait_listening(port)
            ending = f"exit status {await run_to_its_end(leader)}"

    report = folder / "index.json"
    outcomes: Outcomes = parse_outcomes(json.loads(report.read_text())[AGENT]) if report.exists() else {}
    output = (folder / "log.txt").read_text(errors="replace")[-LOG_TAIL:]
    runs[side] = Run(folder, outcomes, ending, output)


def examine_both(
    wstest: Path, factory: pytest.TempPathFactory, seconds: float, **selection: object
) -> dict[Side, Run]:
    """Make both runs at the same time: each keeps one core busy."""
    found: dict[Side, Run] = {}

    async def examine_all() -> None:
        async with trio.open_nursery() as nursery:
            for side in SIDES:
                run = partial(examine, side, wstest, factory.mktemp(side), found, seconds, **selection)
                nursery.start_soon(run)

    trio.run(examine_all)
    return found


@pytest.fixture(scope="module")
def runs(wstest: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Side, Run]:
    """Both runs of the cases that are selected in autobahn_cfg."""
    return examine_both(wstest, tmp_path_factory, RUN_TIMEOUT)


@pytest.fixture(scope="module")
def compression_runs(wstest: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Side, Run]:
    """Both runs of all cases about compression."""
    return examine_both(wstest, tmp_path_factory, COMPLETE_TIMEOUT, cases=COMPRESSION)


def save_counts(name: str, outcomes: Outcomes) -> None:
    """Keep the numbers of a run where they can be quoted from."""
    counts = Counter("/".join(outcome) for outcome in outcomes.values())
    COUNTS.mkdir(parents=True, exist_ok=True)
    (COUNTS / f"{name}.json").write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n")


# --- The tests ------------------------------------------------------------------------------------------------------


def read_expected(side: Side) -> tuple[int, Outcomes]:
    table = tomllib.loads((CONFIG / "expected.toml").read_text())
    return table["cases"], parse_outcomes(table[side])


def check(run: Run, expected: Outcomes, count: int) -> None:
    deviations = find_deviations(run.outcomes, expected=expected, count=count)
    if deviations:
        pytest.fail("\n".join([*deviations, explain(run, expected), run.ending, run.output]), pytrace=False)
    assert run.ending == "exit status 0", run.output


@pytest.mark.complete
@pytest.mark.parametrize("side", SIDES)
def test_every_case_about_compression_is_ok(side: Side, compression_runs: Mapping[Side, Run]) -> None:
    run = compression_runs[side]
    save_counts(f"{side}-compression", run.outcomes)
    check(run, {}, COMPRESSION_COUNT)


@pytest.mark.parametrize("side", SIDES)
def test_autobahn_judges_every_case_as_expected(side: Side, runs: Mapping[Side, Run]) -> None:
    run = runs[side]
    save_counts(side, run.outcomes)
    count, expected = read_expected(side)
    check(run, expected, count)


@pytest.mark.parametrize(
    ("found", "deviation"),
    [
        ({"1.1": OK, "7.1": Outcome("INFORMATIONAL", "INFORMATIONAL")}, []),
        (
            {"1.1": Outcome("FAILED", "OK"), "7.1": Outcome("INFORMATIONAL", "INFORMATIONAL")},
            ["1.1: expected OK/OK, found FAILED/OK"],
        ),
        (
            {"1.1": Outcome("OK", "UNCLEAN"), "7.1": Outcome("INFORMATIONAL", "INFORMATIONAL")},
            ["1.1: expected OK/OK, found OK/UNCLEAN"],
        ),
        ({"1.1": OK, "7.1": OK}, ["7.1: expected INFORMATIONAL/INFORMATIONAL, found OK/OK"]),
        (
            {"1.1": OK},
            ["2 cases expected, 1 reported", "7.1: expected INFORMATIONAL/INFORMATIONAL, not reported"],
        ),
        (
            {"1.1": OK, "1.2": OK, "7.1": Outcome("INFORMATIONAL", "INFORMATIONAL")},
            ["2 cases expected, 3 reported"],
        ),
        ({"1.1": OK, "1.2": OK}, ["7.1: expected INFORMATIONAL/INFORMATIONAL, not reported"]),
    ],
)
def test_every_difference_from_what_is_expected_is_a_deviation(found: Outcomes, deviation: list[str]) -> None:
    expected = {"7.1": Outcome("INFORMATIONAL", "INFORMATIONAL")}
    assert find_deviations(found, expected=expected, count=2) == deviation


def test_an_entry_that_says_ok_is_a_deviation() -> None:
    assert find_deviations({"1.1": OK}, expected={"1.1": OK}, count=1) == ["1.1: OK needs no entry"]
