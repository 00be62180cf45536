"""Close codes, their names, and the payload of a close frame."""

from __future__ import annotations

import pytest

from tests.protocol.codec_kit import VALID_CLOSE_CODES
from trio_ws.protocol._close import CloseCode, CloseReason, encode_close, may_be_sent, name_of

NAMES = {
    1000: "NORMAL_CLOSURE",
    1001: "GOING_AWAY",
    1002: "PROTOCOL_ERROR",
    1003: "UNSUPPORTED_DATA",
    1005: "NO_STATUS_RCVD",
    1006: "ABNORMAL_CLOSURE",
    1007: "INVALID_FRAME_PAYLOAD_DATA",
    1008: "POLICY_VIOLATION",
    1009: "MESSAGE_TOO_BIG",
    1010: "MANDATORY_EXT",
    1011: "INTERNAL_ERROR",
    1012: "SERVICE_RESTART",
    1013: "TRY_AGAIN_LATER",
    1014: "BAD_GATEWAY",
    1015: "TLS_HANDSHAKE_FAILED",
}


def test_registered_codes() -> None:
    assert {code.value: code.name for code in CloseCode} == NAMES


def test_which_codes_may_be_sent() -> None:
    assert {code for code in range(-10, 70_000) if may_be_sent(code)} == VALID_CLOSE_CODES


@pytest.mark.parametrize(
    ("code", "name"),
    [
        *NAMES.items(),
        (1004, "RFC_RESERVED"),
        (1016, "RFC_RESERVED"),
        (2999, "RFC_RESERVED"),
        (3000, "IANA_RESERVED"),
        (3999, "IANA_RESERVED"),
        (4000, "PRIVATE_RESERVED"),
        (4999, "PRIVATE_RESERVED"),
        (999, "INVALID_CODE"),
        (5000, "INVALID_CODE"),
        (0, "INVALID_CODE"),
        (-1, "INVALID_CODE"),
    ],
)
def test_every_code_has_a_name(code: int, name: str) -> None:
    assert name_of(code) == name
    assert CloseReason(code).name == name


@pytest.mark.parametrize(
    ("code", "reason", "payload"),
    [
        (None, None, ""),
        (None, "", ""),
        (1000, None, "03e8"),
        (1000, "", "03e8"),
        (CloseCode.GOING_AWAY, "bye", "03e9627965"),
        (4999, "é€", "1387c3a9e282ac"),
        (3000, "x" * 123, "0bb8" + "78" * 123),
        (3000, "é" * 61 + "x", "0bb8" + "c3a9" * 61 + "78"),
    ],
)
def test_payloads(code: int | None, reason: str | None, payload: str) -> None:
    assert encode_close(code, reason).hex() == payload


def test_every_code_that_may_be_sent_is_encoded() -> None:
    for code in VALID_CLOSE_CODES:
        assert encode_close(code, None) == code.to_bytes(2, "big")


@pytest.mark.parametrize(
    "code", [-1, 0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535, 65536, 10**9]
)
@pytest.mark.parametrize("reason", [None, "why"])
def test_codes_that_may_not_be_sent_are_refused(code: int, reason: str | None) -> None:
    with pytest.raises(
        ValueError, match=f"close code {code} cannot be sent: use 1000-1003, 1007-1014 or 3000-4999"
    ):
        encode_close(code, reason)


@pytest.mark.parametrize(
    ("reason", "size"), [("x" * 124, 124), ("é" * 62, 124), ("€" * 42, 126), ("𝄞" * 1000, 4000)]
)
def test_reasons_are_limited_in_bytes(reason: str, size: int) -> None:
    with pytest.raises(ValueError, match=f"at most 123 bytes of UTF-8, this one has {size}"):
        encode_close(1000, reason)


def test_a_reason_needs_a_code() -> None:
    with pytest.raises(ValueError, match="a close reason needs a close code"):
        encode_close(None, "why")


def test_a_reason_is_text_that_utf_8_can_encode() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode_close(1000, "\ud800")


def test_reasons_of_an_end_are_values() -> None:
    reason = CloseReason(4000, "why")
    assert reason == CloseReason(4000, "why") != CloseReason(4000)
    assert {reason: 1}[CloseReason(4000, "why")] == 1
    assert CloseReason(1006) == CloseReason(1006, None)
    assert repr(reason) == "CloseReason<code=4000, name=PRIVATE_RESERVED, reason=why>"
    assert repr(CloseReason(1006)) == "CloseReason<code=1006, name=ABNORMAL_CLOSURE, reason=None>"
    with pytest.raises(AttributeError):
        reason.code = 1000  # type: ignore[misc]  # that this is refused is what is tested
