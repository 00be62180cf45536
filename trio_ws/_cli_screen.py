"""What the command line shows, and the statuses it exits with; knows nothing of opening connections.

What a peer sends is data: on its way to a terminal it loses the power to move the cursor, or to rename the window.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from . import CloseReason

# All that a terminal could take for a command: the C0 controls but tab and newline, DEL, and the C1 controls.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Status(IntEnum):
    """What the process exits with, unless a signal ends it."""

    OK = 0
    NO_CONNECTION = 1  # or, for a server, nowhere to listen
    USAGE = 2  # argparse's own
    FAILED = 3  # there was a connection, and it did not end well


def harmless(text: str) -> str:
    """Return `text` with its control characters spelled out."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def show(text: str) -> None:
    """Write a line to standard output; into a file or pipe it goes as it is.

    Raises:
        BrokenPipeError: nobody reads it.
    """
    # The stream is looked up at each call: a prompt puts another in its place while it is there.
    sys.stdout.write((harmless(text) if sys.stdout.isatty() else text) + "\n")
    sys.stdout.flush()


def remark(text: str) -> None:
    """Write a line that is about a connection, and not what came over it, to standard error."""
    sys.stderr.write(harmless(text.replace("\n", " ")) + "\n")
    sys.stderr.flush()


def complain(text: str) -> None:
    """Say in one line what went wrong."""
    remark(f"trio_ws: {text}")


def presentable(message: str | bytes) -> str:
    """Return a message as text; a binary one as its length and its bytes in hexadecimal."""
    if isinstance(message, str):
        return message
    return f"binary, {len(message)} bytes" + (f": {message.hex(' ')}" if message else "")


def describe(reason: CloseReason | None) -> str:
    """Return why a connection ended; None is for one that was cut while it was open."""
    if reason is None:
        return "cut"
    return f"{reason.code} {reason.name}" + (f" ({reason.reason})" if reason.reason else "")


def reason_of(exc: BaseException) -> str:
    """Return what lies at the bottom of an error: what the system or the peer said, not what each layer made of it."""
    return "; ".join(dict.fromkeys(_sayings(exc)))


def _sayings(exc: BaseException) -> list[str]:
    found = [saying for cause in _causes(exc) for saying in _sayings(cause)]
    return found or [saying for saying in [_saying(exc)] if saying]


def _causes(exc: BaseException) -> Sequence[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", exc).exceptions
    return [] if exc.__cause__ is None else [exc.__cause__]


def _saying(exc: BaseException) -> str:
    match exc:
        case ssl.SSLCertVerificationError():
            return f"the certificate cannot be trusted: {exc.verify_message}"
        case ssl.SSLError() | socket.gaierror():  # their numbers are not the system's
            return exc.strerror or str(exc)
        case OSError(errno=int(number)):
            return f"{exc.filename}: {os.strerror(number)}" if exc.filename else os.strerror(number)
        case _:
            return str(exc)
