"""Protocol errors, by whose fault they are; knows nothing of what the bytes in question were.

`ERRORS` is the one table of error codes: each has the close code that answers it and a sentence for people. The code
strings are those of the ws package for Node.js where it has one, so that logs and dashboards can be compared.
"""

from __future__ import annotations

#: code string -> (close code that answers it, what is wrong)
ERRORS: dict[str, tuple[int, str]] = {
    "WS_ERR_BYTE_RATE": (1008, "more bytes than the server takes in that time"),
    "WS_ERR_EXPECTED_FIN": (1002, "a control frame is fragmented: FIN must be set"),
    "WS_ERR_EXPECTED_MASK": (1002, "a client's frame is not masked: MASK must be set"),
    "WS_ERR_UNEXPECTED_MASK": (1002, "a server's frame is masked: MASK must be clear"),
    "WS_ERR_INVALID_CLOSE_CODE": (1002, "invalid status code in a close frame"),
    "WS_ERR_INVALID_COMPRESSED_DATA": (1007, "a compressed message cannot be inflated"),
    "WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH": (1002, "invalid payload length of a control frame"),
    "WS_ERR_INVALID_HANDSHAKE": (1002, "invalid opening handshake"),
    "WS_ERR_INVALID_OPCODE": (1002, "invalid opcode"),
    "WS_ERR_INVALID_UTF8": (1007, "invalid UTF-8 sequence"),
    "WS_ERR_MESSAGE_RATE": (1008, "more messages than the server takes in that time"),
    "WS_ERR_NON_MINIMAL_LENGTH": (1002, "payload length not in its shortest form"),
    "WS_ERR_UNEXPECTED_RSV_1": (1002, "RSV1 must be clear"),
    "WS_ERR_UNEXPECTED_RSV_2_3": (1002, "RSV2 and RSV3 must be clear"),
    "WS_ERR_TOO_MANY_BUFFERED_PARTS": (1008, "too many fragments in one message"),
    "WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH": (1009, "unsupported payload length over 2^53 - 1"),
    "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH": (1009, "message larger than max_message_size"),
}

#: What the close frame says besides its code, where the peer could not guess it from what it sent.
REASONS = {"WS_ERR_BYTE_RATE": "byte rate exceeded", "WS_ERR_MESSAGE_RATE": "message rate exceeded"}


class ProtocolError(Exception):
    """The WebSocket protocol was violated; the subclass says by whom."""


class LocalProtocolError(ProtocolError):
    """This side asked for what the protocol does not allow now, such as a message after the close frame."""


class RemoteProtocolError(ProtocolError):
    """The peer violated the protocol.

    Attributes:
        code: what was violated, one of the strings in `ERRORS`.
        close_code: the close code that answers it.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.close_code, self._meaning = ERRORS[code]
        self._detail = detail

    def __str__(self) -> str:
        return f"{self._meaning} ({self._detail})" if self._detail else self._meaning
