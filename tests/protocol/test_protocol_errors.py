"""Errors say by whose fault, which rule, and what answers it; events are values."""

from __future__ import annotations

import copy
import pickle

import pytest

from trio_ws.protocol._close import may_be_sent
from trio_ws.protocol._errors import ERRORS, LocalProtocolError, ProtocolError, RemoteProtocolError
from trio_ws.protocol._events import Close, Fragment, Ping, Pong

#: The codes of ws, and the close codes with which it answers: log filters and dashboards made for it go on working.
OF_WS = {
    "WS_ERR_EXPECTED_FIN": 1002,
    "WS_ERR_EXPECTED_MASK": 1002,
    "WS_ERR_INVALID_CLOSE_CODE": 1002,
    "WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH": 1002,
    "WS_ERR_INVALID_OPCODE": 1002,
    "WS_ERR_INVALID_UTF8": 1007,
    "WS_ERR_TOO_MANY_BUFFERED_PARTS": 1008,
    "WS_ERR_UNEXPECTED_MASK": 1002,
    "WS_ERR_UNEXPECTED_RSV_1": 1002,
    "WS_ERR_UNEXPECTED_RSV_2_3": 1002,
    "WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH": 1009,
    "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH": 1009,
}


@pytest.mark.parametrize(("code", "close_code"), OF_WS.items())
def test_the_codes_of_ws_are_there_with_its_close_codes(code: str, close_code: int) -> None:
    assert ERRORS[code][0] == close_code


@pytest.mark.parametrize("code", ERRORS)
def test_every_code_has_its_answer_and_its_words(code: str) -> None:
    assert code.startswith("WS_ERR_")
    error = RemoteProtocolError(code)
    assert error.code == code
    assert may_be_sent(error.close_code)
    assert error.close_code == ERRORS[code][0]
    assert str(error) == ERRORS[code][1] != ""
    assert str(RemoteProtocolError(code, "so and so")) == f"{ERRORS[code][1]} (so and so)"


def test_whose_fault_it_is() -> None:
    assert issubclass(RemoteProtocolError, ProtocolError)
    assert issubclass(LocalProtocolError, ProtocolError)
    assert not issubclass(LocalProtocolError, RemoteProtocolError)
    assert not issubclass(RemoteProtocolError, LocalProtocolError)


@pytest.mark.parametrize("detail", ["", "7"])
def test_errors_survive_copying(detail: str) -> None:
    error = RemoteProtocolError("WS_ERR_INVALID_OPCODE", detail)
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is RemoteProtocolError
        assert repr(twin) == f"RemoteProtocolError('WS_ERR_INVALID_OPCODE', '{detail}')"
        assert (twin.code, twin.close_code, str(twin)) == (error.code, 1002, str(error))


def test_events_are_values_and_of_their_kind() -> None:
    assert Ping(b"a") == Ping(b"a") != Ping(b"b")
    assert len({Ping(b"a"), Pong(b"a")}) == 2
    assert {Close(1000, "x"), Close(1000, "x"), Fragment("a", True), Fragment("a", True)} == {
        Close(1000, "x"),
        Fragment("a", True),
    }
    with pytest.raises(AttributeError):
        Ping(b"a").payload = b"b"  # type: ignore[misc]  # that this is refused is what is tested
