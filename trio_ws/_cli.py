"""The command line: what can be asked for, and with which status it ends; how it is done is known elsewhere."""

from __future__ import annotations

import argparse
import platform
import signal
from collections.abc import Sequence
from importlib.metadata import version

import trio

from ._accel import accelerated
from ._cli_connect import connect
from ._cli_serve import DEFAULT_HOST, DEFAULT_PORT, serve

_STATUSES = """\
exit status:
  0    the connection, or the server, ended in order
  1    could not connect, or could not listen
  2    the command line, or what was to be sent, makes no sense
  3    the connection broke, ended with an error code, or no answer came
  130  interrupted by Ctrl-C, as 143 is by SIGTERM; a server that they end in order exits with 0
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what `argv`, by default the process's own arguments, asks for, and return the exit status.

    Raises:
        SystemExit: argparse has said all there is to say, as for ``--help``.
    """
    options = make_parser().parse_args(argv)
    status: int = 128 + signal.SIGINT
    try:
        status = trio.run(options.run, options)
    except* KeyboardInterrupt:
        pass  # the second one: the first is waited for in order
    except* BrokenPipeError:
        status = 141  # Nobody reads on, as in `... | head -1`: what a shell says of a process that SIGPIPE has ended
    return status


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; what it returns has in `run` the async function that does what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m trio_ws",
        description="A WebSocket server and client to try things with.",
        epilog=_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_versions())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="echo messages, and serve a page to send some from"))
    _add_connect(commands.add_parser("connect", help="send lines as messages, and show what comes"))
    return parser


def _versions() -> str:
    codec = "compiled" if accelerated else "in Python"
    parts = f"Python {platform.python_version()}, Trio {version('trio')}, codec {codec}"
    return f"trio_ws {version('trio_ws')} ({parts})"


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.description = "Echo every message, and answer browsers with a page that sends and shows messages."
    parser.set_defaults(run=serve)
    parser.add_argument("--host", help=f"name or address to listen on (default: {DEFAULT_HOST})")
    parser.add_argument("--port", type=_port, help=f"0 lets the system choose (default: {DEFAULT_PORT})")
    parser.add_argument("--unix", metavar="PATH", help="listen on a Unix socket instead")
    parser.add_argument(
        "--tls",
        nargs="+",
        metavar=("CERT.pem", "KEY.pem"),
        help="speak TLS with this certificate; the key may be in the same file",
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="report requests and connections on stderr"
    )


def _add_connect(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Send each line of standard input as a text message and show the messages that come, binary ones in "
        "hexadecimal. On a terminal there is a prompt if prompt_toolkit is installed."
    )
    parser.set_defaults(run=connect)
    parser.add_argument(
        "url", metavar="URL", help="ws:// or wss://; a user and password in it are sent as Basic auth"
    )
    parser.add_argument(
        "-m", "--message", metavar="TEXT", help="send this one message, show one answer, and end"
    )
    parser.add_argument(
        "--subprotocol", action="append", metavar="NAME", help="offer a subprotocol; repeatable"
    )
    parser.add_argument(
        "--header", action="append", type=_header, metavar="'NAME: VALUE'", help="send a header; repeatable"
    )
    parser.add_argument("--origin", help="send this Origin, as a browser would for a page from there")
    parser.add_argument("--insecure", action="store_true", help="take any certificate for good")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="to connect, and for the answer to --message (default: 10)",
    )
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="of silence after the end of piped input, until the connection is closed (default: 1; inf: for ever)",
    )


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not a port: 0 to 65535")
    return port


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return seconds


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not a header: write 'Name: value'")
    return name.strip(), value.strip()
