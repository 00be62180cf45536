"""The names that trio-websocket's users import, and the values and exceptions among them."""

import copy
import ipaddress
import pickle

import pytest
import trio

import trio_ws
from trio_ws import (
    CloseReason,
    ConnectionClosed,
    ConnectionEnded,
    ConnectionLost,
    ConnectionRejected,
    ConnectionTimeout,
    DisconnectionTimeout,
    Endpoint,
    HandshakeError,
    Headers,
)

NAMES = [
    "CloseReason",
    "ConnectionClosed",
    "ConnectionRejected",
    "ConnectionTimeout",
    "DisconnectionTimeout",
    "Endpoint",
    "HandshakeError",
    "WebSocketConnection",
    "WebSocketRequest",
    "WebSocketServer",
    "connect_websocket",
    "connect_websocket_url",
    "open_websocket",
    "open_websocket_url",
    "serve_websocket",
    "wrap_client_stream",
    "wrap_server_stream",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there(name: str) -> None:
    assert name in trio_ws.__all__
    assert getattr(trio_ws, name).__name__ == name


def test_tree_of_exceptions() -> None:
    for kind in (ConnectionTimeout, DisconnectionTimeout, ConnectionRejected):
        assert issubclass(kind, HandshakeError)
    assert HandshakeError.__bases__ == ConnectionClosed.__bases__ == (Exception,)
    assert issubclass(ConnectionEnded, ConnectionClosed)
    assert issubclass(ConnectionEnded, trio.EndOfChannel)
    assert issubclass(ConnectionLost, ConnectionClosed)
    assert issubclass(ConnectionLost, trio.BrokenResourceError)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (1000, "NORMAL_CLOSURE"),
        (1001, "GOING_AWAY"),
        (1005, "NO_STATUS_RCVD"),
        (1006, "ABNORMAL_CLOSURE"),
        (1011, "INTERNAL_ERROR"),
        (1004, "RFC_RESERVED"),
        (2999, "RFC_RESERVED"),
        (3000, "IANA_RESERVED"),
        (3999, "IANA_RESERVED"),
        (4000, "PRIVATE_RESERVED"),
        (4999, "PRIVATE_RESERVED"),
        (999, "INVALID_CODE"),
        (5000, "INVALID_CODE"),
    ],
)
def test_close_reason_names_its_code(code: int, name: str) -> None:
    assert CloseReason(code).name == name


def test_close_reason() -> None:
    reason = CloseReason(1000, "done")
    assert (reason.code, reason.reason) == (1000, "done")
    assert CloseReason(code=1000, reason=None).reason is None
    assert repr(CloseReason(1000, None)) == "CloseReason<code=1000, name=NORMAL_CLOSURE, reason=None>"
    assert reason == CloseReason(1000, "done")
    assert len({reason, CloseReason(1000, "done"), CloseReason(1001, "done")}) == 2


@pytest.mark.parametrize(
    ("address", "port", "is_ssl", "url"),
    [
        ("192.0.2.1", 80, False, "ws://192.0.2.1"),
        ("192.0.2.1", 443, False, "ws://192.0.2.1:443"),
        ("192.0.2.1", 443, True, "wss://192.0.2.1"),
        ("192.0.2.1", 80, True, "wss://192.0.2.1:80"),
        ("2001:db8::1", 80, False, "ws://[2001:db8::1]"),
        ("2001:db8::1", 8443, True, "wss://[2001:db8::1]:8443"),
    ],
)
def test_endpoint(address: str, port: int, is_ssl: bool, url: str) -> None:
    endpoint = Endpoint(ipaddress.ip_address(address), port, is_ssl)
    assert endpoint.url == url
    assert (str(endpoint.address), endpoint.port, endpoint.is_ssl) == (address, port, is_ssl)
    assert endpoint == Endpoint(address=ipaddress.ip_address(address), port=port, is_ssl=is_ssl)


EXCEPTIONS = [
    HandshakeError("why"),
    ConnectionTimeout("late"),
    DisconnectionTimeout("late"),
    ConnectionRejected(404, Headers([(b"name", b"value")]), b"body"),
    ConnectionRejected(404, Headers(), None),
    ConnectionClosed(None),
    ConnectionClosed(CloseReason(1000, "done")),
    ConnectionEnded(CloseReason(1000, "done"), CloseReason(1000, "done"), CloseReason(1000)),
    ConnectionLost(CloseReason(1006), None, CloseReason(1002)),
]


@pytest.mark.parametrize("error", EXCEPTIONS, ids=repr)
def test_exceptions_can_be_copied_and_pickled(error: Exception) -> None:
    for other in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is type(error)
        assert vars(other) == vars(error)
        assert repr(other) == repr(error)
        assert str(other) == str(error)


@pytest.mark.parametrize(
    "value", [CloseReason(3000, "r"), Endpoint(ipaddress.ip_address("::1"), 80, True)], ids=repr
)
def test_values_can_be_copied_and_pickled(value: object) -> None:
    assert copy.copy(value) == copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value


def test_rejected_says_the_status() -> None:
    error = ConnectionRejected(status_code=403, headers=Headers([(b"a", b"b")]), body=b"no")
    assert (error.status_code, error.headers, error.body) == (403, [(b"a", b"b")], b"no")
    assert str(error) == "the server answered the handshake with status 403"


def test_closed_tells_the_whole_story() -> None:
    error = ConnectionLost(CloseReason(1011, "oops"), CloseReason(1011, "oops"), CloseReason(1011))
    assert (error.reason, error.received, error.sent) == (
        CloseReason(1011, "oops"),
        CloseReason(1011, "oops"),
        CloseReason(1011),
    )
    assert repr(error) == "ConnectionLost<CloseReason<code=1011, name=INTERNAL_ERROR, reason=oops>>"
    assert "received 1011 INTERNAL_ERROR 'oops', sent 1011 INTERNAL_ERROR" in str(error)
    error = ConnectionLost(CloseReason(1006))
    assert "received" not in str(error)
    assert "without close frames" in str(error)
    error.__cause__ = OSError("the wire is cut")
    assert str(error).endswith("; the wire is cut")


def test_a_subclass_that_sets_nothing_but_its_reason() -> None:
    class Gone(ConnectionClosed):
        def __init__(self, reason: str) -> None:  # does not call super().__init__, as real users do not
            self.reason = reason  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]  # as they do

    error = Gone("away")
    assert repr(error) == "Gone<'away'>"
    assert "without close frames" in str(error)
    with pytest.raises(ConnectionClosed):
        raise error
