"""What an application may send, checked before anything waits for it; knows nothing of connections."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: Makes decoders that keep a character which is not complete until its rest comes.
Utf8Decoder = codecs.getincrementaldecoder("utf-8")


def check_message(message: object) -> None:
    """Refuse what is no message.

    Raises:
        ValueError: it is neither text nor a contiguous buffer.
    """
    if isinstance(message, str):
        return
    try:
        with memoryview(message) as view:  # type: ignore[arg-type]  # whether it is a buffer is what is asked
            contiguous = view.c_contiguous
    except TypeError:
        contiguous = False
    if not contiguous:
        raise ValueError(f"a message is text or a contiguous buffer, not {type(message).__name__}")


def recoded(message: str | Buffer, binary: bool) -> str | Buffer:
    """Return a message that is sent as binary, or as text, whatever it is itself.

    Raises:
        UnicodeError: it is to be text and no UTF-8, or is text that UTF-8 cannot encode.
    """
    if isinstance(message, str):
        return message.encode() if binary else message
    return message if binary else str(message, "utf-8")


def control_payload(payload: bytes | str) -> bytes:
    """Return the payload of a ping or pong.

    Raises:
        TypeError: it is neither text nor a buffer.
        ValueError: it is too long.
    """
    if isinstance(payload, str):
        data = payload.encode()
    else:
        with memoryview(payload) as view:  # bytes() would take a number for a size, and a list for bytes
            data = view.tobytes()
    if len(data) > 125:
        raise ValueError(f"the payload of a control frame has at most 125 bytes, this one has {len(data)}")
    return data


def sendable_code(code: int | None) -> int | None:
    """Return the close code to send for one; those that only report an end, and may not be sent, become 1000."""
    return 1000 if code in (1005, 1006, 1015) else code
