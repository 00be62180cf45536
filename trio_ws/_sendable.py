"""What an application may send, checked before anything waits for it; knows nothing of connections."""

from __future__ import annotations


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


def control_payload(payload: bytes | str) -> bytes:
    """Return the payload of a ping or pong.

    Raises:
        ValueError: it is too long.
    """
    data = payload.encode() if isinstance(payload, str) else bytes(payload)
    if len(data) > 125:
        raise ValueError(f"the payload of a control frame has at most 125 bytes, this one has {len(data)}")
    return data
