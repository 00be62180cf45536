"""The command line as it is used: a process with real sockets, its output and its status."""

import os
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

import trio_ws
from tests.io.api_kit import echo, scripted_port, serving
from tests.io.cli_kit import COMMAND, run_cli, running
from trio_ws import WebSocketRequest, serve_websocket
from trio_ws._accel import accelerated
from trio_ws._cli import main, make_parser
from trio_ws._cli_screen import describe, harmless, reason_of
from trio_ws.testing import RawPeer

# --- arguments


@pytest.mark.parametrize("env", [{}, {"TRIO_WS_ACCEL": "0"}], ids=["as it is", "in Python"])
async def test_version(env: dict[str, str]) -> None:
    outcome = await run_cli("--version", env=env)
    codec = "compiled" if accelerated and not env else "in Python"
    python = ".".join(str(part) for part in sys.version_info[:3])
    versions = f"Python {python}, Trio {trio.__version__}, codec {codec}"
    assert outcome.out == f"trio_ws {trio_ws.__version__} ({versions})\n"
    assert outcome.status == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serve", "--port", "65536"],
        ["serve", "--port", "-1"],
        ["serve", "--port", "http"],
        ["connect"],
        ["connect", "ws://localhost", "--header", "no colon"],
        ["connect", "ws://localhost", "--wait", "-1"],
        ["connect", "ws://localhost", "--timeout", "nan"],
        ["connect", "ws://localhost", "--timeout", "soon"],
    ],
)
def test_arguments_that_the_parser_refuses(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["connect", "ftp://localhost"], "the scheme of a WebSocket URL is ws or wss"),
        (["connect", "ws://localhost:99999"], "1-65535"),
        (["connect", "ws://localhost", "--insecure"], "use a wss URL"),
        (["serve", "--unix", "s", "--port", "1"], "--unix takes the place"),
        (["serve", "--unix", "s", "--host", "h"], "--unix takes the place"),
        (["serve", "--tls", "1", "2", "3"], "--tls takes one file or two"),
    ],
)
def test_arguments_that_make_no_sense(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert_one_line(capsys.readouterr().err, words)


def assert_one_line(text: str, words: str) -> None:
    assert text.startswith("trio_ws: ")
    assert words in text
    assert text.count("\n") == 1
    assert text.endswith("\n")


# --- connect: what comes and goes


def url_of(server: trio_ws.WebSocketServer) -> str:
    return f"ws://127.0.0.1:{server.port}/"


async def test_a_message_and_its_answer() -> None:
    async with serving(echo) as server:
        outcome = await run_cli("connect", url_of(server), "--message", "hällo")
    assert (outcome.status, outcome.out, outcome.err) == (0, "hällo\n", "")


async def test_lines_become_messages_and_messages_become_lines() -> None:
    long = "x" * 200_000  # many reads
    received: list[str | bytes] = []

    async def handle(request: WebSocketRequest) -> None:
        ws = await request.accept()
        async for message in ws:
            received.append(message)
            await ws.send_message(f"{len(message)}")
            if message == "last":
                break

    async with serving(handle) as server:
        stdin = f"one\r\n\ntwo words\n{long}\nlast".encode()
        outcome = await run_cli("connect", url_of(server), "--wait", "inf", stdin=stdin)
    assert received == ["one", "", "two words", long, "last"]
    assert (outcome.status, outcome.out, outcome.err) == (0, "3\n0\n9\n200000\n4\n", "")


async def test_a_binary_message_is_shown_in_hexadecimal() -> None:
    async def handle(request: WebSocketRequest) -> None:
        ws = await request.accept()
        await ws.send_message(b"\x00\xfe\x41")
        await ws.send_message(b"")

    async with serving(handle) as server:
        outcome = await run_cli("connect", url_of(server), "--wait", "inf")
    assert outcome.out == "binary, 3 bytes: 00 fe 41\nbinary, 0 bytes\n"
    assert outcome.status == 0


async def test_nothing_is_waited_for_where_that_is_asked() -> None:
    codes: list[int] = []

    async def handle(request: WebSocketRequest) -> None:
        ws = await request.accept()
        assert await ws.get_message() == "only this"
        async for _ in ws:
            pytest.fail("no more was to come")
        assert ws.closed is not None
        codes.append(ws.closed.code)

    async with serving(handle) as server:
        outcome = await run_cli("connect", url_of(server), "--wait", "0", stdin=b"only this\n")
    assert (outcome.status, outcome.err) == (0, "")
    assert codes == [1000]


async def test_the_handshake_carries_what_the_arguments_say() -> None:
    requests: list[WebSocketRequest] = []

    async def handle(request: WebSocketRequest) -> None:
        requests.append(request)
        ws = await request.accept(subprotocol="two")
        await ws.send_message("hello")

    async with serving(handle, origins=["http://page.example"]) as server:
        url = f"ws://me:secret@127.0.0.1:{server.port}/a?b"
        offers = ["--subprotocol", "one", "--subprotocol", "two"]
        headers = ["--header", "X-One: 1", "--header", "x-two:2 : 3"]
        outcome = await run_cli(
            "connect", url, *offers, *headers, "--origin", "http://page.example", "-m", "hello"
        )
    assert outcome.status == 0
    [request] = requests
    assert request.path == "/a?b"
    assert request.proposed_subprotocols == ("one", "two")
    wanted = ("authorization", "origin", "x-one", "x-two")
    got = [request.headers.get(name) for name in wanted]
    assert got == ["Basic bWU6c2VjcmV0", "http://page.example", "1", "2 : 3"]


async def test_input_that_is_not_text_is_refused_and_what_was_before_it_is_answered() -> None:
    async def handle(request: WebSocketRequest) -> None:
        ws = await request.accept()
        await ws.send_message(await ws.get_message())

    async with serving(handle) as server:
        outcome = await run_cli("connect", url_of(server), "--wait", "inf", stdin=b"text\n\xff\nmore\n")
    assert (outcome.status, outcome.out) == (2, "text\n")
    assert_one_line(outcome.err, "only UTF-8 can be sent as text")


async def test_a_message_that_is_not_text_is_refused() -> None:
    async with serving(echo) as server:
        outcome = await run_cli("connect", url_of(server), "--message", os.fsdecode(b"\xff"))
    assert (outcome.status, outcome.out) == (2, "")
    assert_one_line(outcome.err, "")


async def test_output_goes_into_a_pipe_as_it_is() -> None:
    async with serving(echo) as server:
        outcome = await run_cli("connect", url_of(server), "--message", "\x1b[31mred")
    assert outcome.out == "\x1b[31mred\n"


async def test_the_reader_of_the_output_may_leave() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        async with serving(echo) as server:
            arguments = [*COMMAND, "connect", url_of(server), "--message", "hello"]
            done = await trio.run_process(arguments, stdout=writing, capture_stderr=True, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


# --- connect: what goes wrong


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    outcome = await run_cli("connect", f"ws://me:secret@127.0.0.1:{port}/")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == f"trio_ws: cannot connect to ws://127.0.0.1:{port}/: Connection refused\n"


async def test_rejected() -> None:
    async def handle(request: WebSocketRequest) -> None:
        await request.reject(403, body=b"not \x1b[31myou\nnor anybody else\n")

    async with serving(handle) as server:
        url = url_of(server)
        outcome = await run_cli("connect", url)
    assert outcome.status == 1
    assert outcome.err == f"trio_ws: {url} rejected the connection: 403 Forbidden (not \\x1b[31myou)\n"


async def test_rejected_without_a_word() -> None:
    async def handle(request: WebSocketRequest) -> None:
        await request.reject(499)

    async with serving(handle) as server:
        url = url_of(server)
        outcome = await run_cli("connect", url)
    assert outcome.status == 1
    assert outcome.err == f"trio_ws: {url} rejected the connection: 499\n"


async def test_not_a_websocket_server() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.receive_head()
        await peer.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    async with scripted_port(script) as port:
        outcome = await run_cli("connect", f"ws://127.0.0.1:{port}/")
    assert outcome.status == 1
    assert_one_line(outcome.err, f"cannot connect to ws://127.0.0.1:{port}/: ")


async def test_no_time_to_connect() -> None:
    async with serving(echo) as server:
        outcome = await run_cli("connect", url_of(server), "--timeout", "0")
    assert outcome.status == 1
    assert_one_line(outcome.err, "could not be opened within 0")


async def test_the_certificate_decides(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    context.load_cert_chain(tmp_path / "both.pem")
    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(serve_websocket, echo, "127.0.0.1", 0, context)
        arguments = ("connect", f"wss://localhost:{server.port}/", "--message", "hello")
        stranger = await run_cli(*arguments)
        known = await run_cli(*arguments, env={"SSL_CERT_FILE": str(tmp_path / "ca.pem")})
        ignored = await run_cli(*arguments, "--insecure")
        nursery.cancel_scope.cancel()
    assert stranger.status == 1
    assert_one_line(stranger.err, "the certificate cannot be trusted: ")
    assert (known.status, known.out) == (0, "hello\n")
    assert (ignored.status, ignored.out) == (0, "hello\n")


async def test_tls_to_a_server_without() -> None:
    async with serving(echo) as server:
        outcome = await run_cli("connect", f"wss://127.0.0.1:{server.port}/")
    assert outcome.status == 1
    assert_one_line(outcome.err, "SSL")


async def test_closed_with_an_error_code() -> None:
    async def handle(request: WebSocketRequest) -> None:
        ws = await request.accept()
        await ws.send_message("before")
        await ws.aclose(1011, "out\nof order")

    async with serving(handle) as server:
        outcome = await run_cli("connect", url_of(server), "--wait", "inf")
    assert (outcome.status, outcome.out) == (3, "before\n")
    assert outcome.err == "trio_ws: the connection was lost: 1011 INTERNAL_ERROR (out of order)\n"


async def test_the_server_breaks_the_protocol() -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        await peer.send_frame(3)
        await peer.receive_rest()

    async with scripted_port(script) as port:
        outcome = await run_cli("connect", f"ws://127.0.0.1:{port}/", "--wait", "inf")
    assert outcome.status == 3
    assert_one_line(outcome.err, "opcode")


@pytest.mark.parametrize("code", [1000, 1011])
async def test_the_end_comes_instead_of_an_answer(code: int) -> None:
    async def handle(request: WebSocketRequest) -> None:
        ws = await request.accept()
        await ws.get_message()
        await ws.aclose(code)

    async with serving(handle) as server:
        outcome = await run_cli("connect", url_of(server), "--message", "hello")
    assert (outcome.status, outcome.out) == (3, "")
    assert_one_line(outcome.err, f"the connection ended before an answer came: {code}")


# --- connect: time


@pytest.fixture
def patient_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[trio.testing.MockClock]:
    """Return a clock for `connect` in the test's own loop, with the file `stdin` as its standard input."""
    (tmp_path / "stdin").write_text("hello\n")
    with (tmp_path / "stdin").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        # What comes over a socket, or out of a thread, takes real time.
        yield trio.testing.MockClock(autojump_threshold=0.05)


async def connect(*arguments: str) -> int:
    options = make_parser().parse_args(["connect", *arguments])
    status: int = await options.run(options)
    return status


async def test_no_answer_comes(
    patient_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async def silent(request: WebSocketRequest) -> None:
        ws = await request.accept()
        async for _ in ws:
            pass

    async with serving(silent) as server:
        began = patient_clock.current_time()
        assert await connect(url_of(server), "--message", "hello", "--timeout", "7") == 3
        assert patient_clock.current_time() - began == pytest.approx(7)
    assert_one_line(capsys.readouterr().err, "no answer came within 7 seconds")


async def test_silence_after_the_end_of_input(
    patient_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async def late(request: WebSocketRequest) -> None:
        ws = await request.accept()
        for _ in range(3):
            await trio.sleep(1.5)
            await ws.send_message("late")
        async for _ in ws:
            pass

    async with serving(late) as server:
        began = patient_clock.current_time()
        assert await connect(url_of(server), "--wait", "2") == 0
        assert patient_clock.current_time() - began == pytest.approx(3 * 1.5 + 2)
    assert capsys.readouterr().out == "late\n" * 3


async def test_the_close_frame_is_not_answered(
    patient_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        await peer.receive_rest()

    async with scripted_port(script) as port:
        began = patient_clock.current_time()
        assert await connect(f"ws://127.0.0.1:{port}/", "--wait", "0") == 3
        assert patient_clock.current_time() - began == pytest.approx(10)  # the library's disconnect_timeout
    assert_one_line(capsys.readouterr().err, "did not answer the close frame")


@pytest.mark.parametrize(
    ("code", "words"),
    [(1000, "ended before all input was sent"), (1011, "the connection was lost: 1011 INTERNAL_ERROR")],
)
async def test_the_end_comes_before_all_is_sent(
    code: int,
    words: str,
    tmp_path: Path,
    patient_clock: trio.testing.MockClock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "stdin").write_text(f"{'x' * 1000}\n" * 20_000)  # more than fits between the two

    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        await trio.sleep(5)  # until the client cannot send any more
        await peer.send_close(code)
        await peer.receive_rest()

    async with scripted_port(script) as port:
        assert await connect(f"ws://127.0.0.1:{port}/") == 3
    assert patient_clock.current_time() >= 5
    assert_one_line(capsys.readouterr().err, words)


# --- connect: signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    connected, closed = trio.Event(), trio.Event()

    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        connected.set()
        await peer.expect_close(1000)
        closed.set()
        await peer.send_close(1000)

    async with scripted_port(script) as port, running("connect", f"ws://127.0.0.1:{port}/") as client:
        await connected.wait()
        assert await client.end(number) == 128 + number
        assert closed.is_set()
    assert (client.out, client.err) == (b"", b"")


async def test_the_answer_to_the_close_frame_is_waited_for(patient_clock: trio.testing.MockClock) -> None:
    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        signal.raise_signal(signal.SIGINT)
        await peer.expect_close(1000)
        await trio.sleep(3)
        await peer.send_close(1000)

    async with scripted_port(script) as port:
        began = patient_clock.current_time()
        assert await connect(f"ws://127.0.0.1:{port}/", "--wait", "inf") == 130
        assert patient_clock.current_time() - began == pytest.approx(3)


async def test_a_signal_while_connecting() -> None:
    connecting = trio.Event()

    async def script(peer: RawPeer) -> None:
        await peer.receive_head()
        connecting.set()
        await peer.expect_end()

    async with scripted_port(script) as port, running("connect", f"ws://127.0.0.1:{port}/") as client:
        await connecting.wait()
        assert await client.end(signal.SIGINT) == 130
    assert client.err == b""


async def test_a_second_interrupt_is_not_waited_for() -> None:
    connected, closing = trio.Event(), trio.Event()

    async def script(peer: RawPeer) -> None:
        await peer.handshake()
        connected.set()
        await peer.expect_close(1000)
        closing.set()
        await peer.expect_end()

    async with scripted_port(script) as port, running("connect", f"ws://127.0.0.1:{port}/") as client:
        await connected.wait()
        client.process.send_signal(signal.SIGINT)
        await closing.wait()
        assert await client.end(signal.SIGINT) == 130
    assert client.err == b""


# --- what is shown


def test_how_an_end_is_told() -> None:
    assert describe(trio_ws.CloseReason(1000)) == "1000 NORMAL_CLOSURE"
    assert describe(trio_ws.CloseReason(4000, "why")) == "4000 PRIVATE_RESERVED (why)"
    assert describe(None) == "cut"


def test_control_characters_are_spelled_out() -> None:
    assert harmless("a\tb\nc\x1b[2J\r\x7f\x9b\x00ä") == "a\tb\nc\\x1b[2J\\x0d\\x7f\\x9b\\x00ä"


def test_the_bottom_of_an_error() -> None:
    refused = ConnectionRefusedError(111, "Error connecting to somewhere: refused")
    unreachable = OSError(101, "Error connecting to elsewhere: unreachable")
    top = trio_ws.HandshakeError("the top")
    top.__cause__ = OSError("all attempts failed")
    top.__cause__.__cause__ = ExceptionGroup("attempts", [refused, unreachable, refused])
    assert reason_of(top) == "Connection refused; Network is unreachable"
    top.__cause__ = trio.TooSlowError()
    assert reason_of(top) == "the top"
    assert reason_of(FileNotFoundError(2, "?", "cert.pem")) == "cert.pem: No such file or directory"
