"""Close codes: their names, their ranges and the payload of a close frame; knows nothing of frames or states.

RFC 6455 7.4 defines the ranges, the IANA registry "WebSocket Close Code Number" the names.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

#: Longest reason in bytes of UTF-8: a control frame carries 125 bytes (RFC 6455 5.5), two of them are the code.
MAX_REASON_SIZE = 123


class CloseCode(IntEnum):
    """The registered close codes (RFC 6455 7.4.1 and the IANA registry)."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RCVD = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_FRAME_PAYLOAD_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXT = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE_FAILED = 1015


#: Codes that only ever describe an end locally and must not stand in a close frame (RFC 6455 7.4.1).
LOCAL_ONLY = frozenset({CloseCode.NO_STATUS_RCVD, CloseCode.ABNORMAL_CLOSURE, CloseCode.TLS_HANDSHAKE_FAILED})

#: What may stand in a close frame: the registered codes, and the ranges for libraries (3xxx) and applications (4xxx).
ON_THE_WIRE = frozenset(CloseCode) - LOCAL_ONLY

_RANGE_NAMES = (
    (range(1000, 3000), "RFC_RESERVED"),
    (range(3000, 4000), "IANA_RESERVED"),
    (range(4000, 5000), "PRIVATE_RESERVED"),
)


def may_be_sent(code: int) -> bool:
    """Say whether `code` may stand in a close frame, in either direction."""
    return 3000 <= code <= 4999 or code in ON_THE_WIRE


def name_of(code: int) -> str:
    """Return the registered name of `code`, else the name of the range it lies in."""
    if code in CloseCode.__members__.values():
        return CloseCode(code).name
    return next((name for codes, name in _RANGE_NAMES if code in codes), "INVALID_CODE")


def encode_close(code: int | None, reason: str | None) -> bytes:
    """Return the payload of a close frame; `code=None` gives the empty payload, which the peer reports as 1005.

    Raises:
        TypeError: the reason is no text.
        ValueError: `code` must not be sent, the reason has no code to go with, or is over 123 bytes of UTF-8.
    """
    if not isinstance(reason, str | None):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may not check types
        raise TypeError(f"a close reason is text, not {type(reason).__name__}")
    if code is None:
        if reason:
            raise ValueError("a close reason needs a close code")
        return b""
    if not may_be_sent(code):
        raise ValueError(f"close code {code} cannot be sent: use 1000-1003, 1007-1014 or 3000-4999")
    text = (reason or "").encode()
    if len(text) > MAX_REASON_SIZE:
        raise ValueError(
            f"a close reason has at most {MAX_REASON_SIZE} bytes of UTF-8, this one has {len(text)}"
        )
    return code.to_bytes(2, "big") + text


@dataclass(frozen=True, slots=True, repr=False)
class CloseReason:
    """Why a connection ended: a close code and the text that came with it.

    Attributes:
        code: the close code; 1005 where the peer gave none, 1006 where the connection ended without a close frame.
        reason: the peer's text, or None where it gave none.
    """

    code: int
    reason: str | None = None

    @property
    def name(self) -> str:
        """The code's registered name, else the name of its range, such as ``PRIVATE_RESERVED``."""
        return name_of(self.code)

    def __repr__(self) -> str:
        return f"{type(self).__name__}<code={self.code}, name={self.name}, reason={self.reason}>"
