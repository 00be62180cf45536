"""What the two sides of permessage-deflate agree on (RFC 7692 7.1): tables of offers, answers and options."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.handshake_kit import KEY, MASKS, a_request, an_answer, run
from trio_ws.protocol import (
    AgreedDeflate,
    ClientHandshake,
    PerMessageDeflate,
    RemoteProtocolError,
    ServerHandshake,
    format_extensions,
    parse_extensions,
)
from trio_ws.protocol._compressors import ENGINES, EngineName

SNCT, CNCT = "server_no_context_takeover", "client_no_context_takeover"
SMWB, CMWB = "server_max_window_bits", "client_max_window_bits"


def options(**given: Any) -> PerMessageDeflate:
    return PerMessageDeflate(**given)


def params(text: str) -> list[tuple[str, str | None]]:
    """Return the parameters that stand behind the name in a header."""
    [(_, found)] = parse_extensions(f"x; {text}" if text else "x")
    return found


def text_of(found: Sequence[tuple[str, str | None]]) -> str:
    return format_extensions([("x", found)]).removeprefix("x").removeprefix("; ")


# Offers


@pytest.mark.parametrize(
    ("client", "offer"),
    [
        ({}, CMWB),
        ({SNCT: True}, f"{SNCT}; {CMWB}"),
        ({CNCT: True}, f"{CNCT}; {CMWB}"),
        ({SNCT: False, CNCT: False}, CMWB),
        ({SMWB: 10}, f"{SMWB}=10; {CMWB}"),
        ({SMWB: False}, CMWB),
        ({CMWB: 8}, f"{CMWB}=8"),
        ({CMWB: False}, ""),
        ({SNCT: True, CNCT: True, SMWB: 9, CMWB: 15}, f"{SNCT}; {CNCT}; {SMWB}=9; {CMWB}=15"),
    ],
)
def test_a_client_offers_what_its_options_say(client: dict[str, Any], offer: str) -> None:
    assert text_of(options(**client).offer()) == offer


# Answers to offers. What follows an answer: whether each side forgets, and the windows, the server's first.


@pytest.mark.parametrize(
    ("server", "offer", "answer", "terms"),
    [
        ({}, "", "", (False, False, 12, 15)),
        ({}, CMWB, f"{CMWB}=12", (False, False, 12, 12)),
        ({}, f"{CMWB}=15", f"{CMWB}=12", (False, False, 12, 12)),
        ({}, f"{CMWB}=10", f"{CMWB}=10", (False, False, 12, 10)),
        ({}, SNCT, SNCT, (True, False, 15, 15)),
        ({}, CNCT, CNCT, (False, True, 12, 15)),
        ({}, f"{SMWB}=15", f"{SMWB}=12", (False, False, 12, 15)),
        ({}, f"{SMWB}=8", f"{SMWB}=8", (False, False, 8, 15)),
        ({}, f"{SNCT}; {SMWB}=14", f"{SNCT}; {SMWB}=14", (True, False, 14, 15)),
        ({"shared": False}, SNCT, SNCT, (True, False, 12, 15)),
        ({SNCT: True}, "", SNCT, (True, False, 15, 15)),
        ({SNCT: False}, "", "", (False, False, 12, 15)),
        ({CNCT: True}, "", CNCT, (False, True, 12, 15)),
        ({CNCT: False}, CNCT, "", (False, False, 12, 15)),
        ({SMWB: 11}, "", f"{SMWB}=11", (False, False, 11, 15)),
        ({SMWB: 11}, f"{SMWB}=11", f"{SMWB}=11", (False, False, 11, 15)),
        ({SMWB: 11}, f"{SMWB}=12", f"{SMWB}=11", (False, False, 11, 15)),
        ({SMWB: 15}, "", f"{SMWB}=15", (False, False, 15, 15)),
        ({SMWB: False}, "", "", (False, False, 12, 15)),
        ({CMWB: 11}, CMWB, f"{CMWB}=11", (False, False, 12, 11)),
        ({CMWB: 11}, f"{CMWB}=10", f"{CMWB}=10", (False, False, 12, 10)),
        ({CMWB: 11}, f"{CMWB}=12", f"{CMWB}=11", (False, False, 12, 11)),
        ({CMWB: False}, CMWB, "", (False, False, 12, 15)),
        ({CMWB: False}, f"{CMWB}=9", "", (False, False, 12, 15)),
        (
            {SNCT: True, CNCT: True, SMWB: 9, CMWB: 8},
            f"{CMWB}; {SMWB}=10",
            f"{SNCT}; {CNCT}; {SMWB}=9; {CMWB}=8",
            (True, True, 9, 8),
        ),
    ],
)
def test_a_server_answers_an_offer(
    server: dict[str, Any], offer: str, answer: str, terms: tuple[bool, bool, int, int]
) -> None:
    accepted = options(**server).accept_offer(params(offer))
    assert accepted is not None
    found, agreed = accepted
    assert text_of(found) == text_of(agreed.params) == answer
    assert (agreed.forgets, agreed.peer_forgets, agreed.window_bits, agreed.peer_window_bits) == terms
    # and a client that had made this offer finds nothing wrong with the answer
    wants = dict(params(offer))
    client = options(
        **{SNCT: SNCT in wants or None, CNCT: True if CNCT in wants else None},
        **{SMWB: int(wants[SMWB] or 0) if SMWB in wants else None},
        **{CMWB: int(wants[CMWB] or 0) or None if CMWB in wants else False},
    )
    assert {*client.offer()} == {*params(offer)}
    theirs = client.accept_response(found)
    assert theirs.peer_forgets is agreed.forgets
    assert theirs.peer_window_bits >= agreed.window_bits
    assert theirs.window_bits <= agreed.peer_window_bits
    assert theirs.forgets or not agreed.peer_forgets


MALFORMED = [
    "foo",
    f"{SNCT}; foo",
    f"{SNCT}; {SNCT}",
    f"{CMWB}; {CMWB}=10",
    f"{SNCT}=1",
    f"{CNCT}=true",
    SMWB,
    *(
        f"{name}={value}"
        for name in (SMWB, CMWB)
        for value in ("7", "16", "99", "08", "1e1", "010", "12a", "-9")
    ),
]


@pytest.mark.parametrize("offer", MALFORMED)
def test_a_malformed_offer_is_declined(offer: str) -> None:
    assert options().accept_offer(params(offer)) is None


@pytest.mark.parametrize(
    ("server", "offer"),
    [
        ({SNCT: False}, SNCT),
        ({SMWB: 11}, f"{SMWB}=10"),
        ({SMWB: False}, f"{SMWB}=15"),
        ({CMWB: 15}, ""),
        ({CMWB: 9}, f"{SNCT}; {SMWB}=15"),
    ],
)
def test_an_offer_that_does_not_suit_is_declined(server: dict[str, Any], offer: str) -> None:
    assert options(**server).accept_offer(params(offer)) is None


# A server among several offers


def answered(server: PerMessageDeflate | None, *headers: str) -> tuple[str | None, tuple[object, ...]]:
    """Return the header with which a request is answered, and the extensions of the connection."""
    handshake = ServerHandshake(extensions=() if server is None else (server,))
    request = a_request(Sec_WebSocket_Extensions=headers or None)
    assert handshake.receive_data(request) is not None
    handshake.check()
    head, protocol, _ = handshake.accept(masks=MASKS)
    assert head.startswith(b"HTTP/1.1 101 ")
    lines = [line for line in head.decode().split("\r\n") if line.startswith("Sec-WebSocket-Extensions: ")]
    assert len(lines) <= 1
    return (lines[0].partition(": ")[2] if lines else None), protocol.extensions


@pytest.mark.parametrize(
    ("server", "headers", "answer"),
    [
        (
            {SMWB: 11},
            [f"permessage-deflate; {SMWB}=10, permessage-deflate"],
            f"permessage-deflate; {SMWB}=11",
        ),
        ({}, ["permessage-deflate; foo, permessage-deflate"], "permessage-deflate"),
        ({}, ["permessage-deflate; foo", f"permessage-deflate; {CMWB}"], f"permessage-deflate; {CMWB}=12"),
        ({}, [f"permessage-deflate; {SNCT}, permessage-deflate"], f"permessage-deflate; {SNCT}"),
        ({}, ["x-webkit-deflate-frame, permessage-bzip2, permessage-deflate"], "permessage-deflate"),
        ({}, [f'permessage-deflate; {CMWB}="10"'], f"permessage-deflate; {CMWB}=10"),
        ({}, ["permessage-deflate; foo, permessage-deflate; bar"], None),
        ({SNCT: False}, [f"permessage-deflate; {SNCT}"], None),
        ({}, ["x-webkit-deflate-frame"], None),
        ({}, ["Permessage-Deflate"], None),
        ({}, [], None),
        (None, [f"permessage-deflate; {CMWB}"], None),
    ],
)
def test_a_server_takes_the_first_offer_that_suits_or_does_without(
    server: dict[str, Any] | None, headers: list[str], answer: str | None
) -> None:
    found, extensions = answered(None if server is None else options(**server), *headers)
    assert found == answer
    assert len(extensions) == (answer is not None)


# A client and what it is answered


@pytest.mark.parametrize(
    ("client", "answer", "terms"),
    [
        ({}, "", (False, False, 12, 15)),
        ({}, f"{CMWB}=15", (False, False, 12, 15)),
        ({}, f"{CMWB}=8", (False, False, 8, 15)),
        ({}, f"{SMWB}=9", (False, False, 12, 9)),
        ({}, SNCT, (False, True, 12, 15)),
        ({}, CNCT, (True, False, 15, 15)),
        ({}, f"{CNCT}; {CMWB}=10", (True, False, 10, 15)),
        ({SNCT: True}, SNCT, (False, True, 12, 15)),
        ({SNCT: False}, SNCT, (False, True, 12, 15)),
        ({CNCT: True}, "", (True, False, 15, 15)),
        ({SMWB: 10}, f"{SMWB}=10", (False, False, 12, 10)),
        ({SMWB: 10}, f"{SMWB}=9", (False, False, 12, 9)),
        ({CMWB: 11}, "", (False, False, 11, 15)),
        ({CMWB: 11}, f"{CMWB}=11", (False, False, 11, 15)),
        ({CMWB: 11}, f"{CMWB}=9", (False, False, 9, 15)),
        ({CMWB: 15}, "", (False, False, 15, 15)),
        ({CMWB: False}, "", (False, False, 12, 15)),
    ],
)
def test_a_client_takes_an_answer(
    client: dict[str, Any], answer: str, terms: tuple[bool, bool, int, int]
) -> None:
    agreed = options(**client).accept_response(params(answer))
    assert (agreed.forgets, agreed.peer_forgets, agreed.window_bits, agreed.peer_window_bits) == terms
    assert agreed.name == "permessage-deflate"


@pytest.mark.parametrize(
    ("client", "answer", "detail"),
    [
        *(({}, answer, "permessage-deflate: ") for answer in MALFORMED),
        ({}, CMWB, "has no value"),
        ({SNCT: True}, "", "not granted"),
        ({CNCT: False}, CNCT, "not permitted"),
        ({SMWB: 10}, "", "more than the 10"),
        ({SMWB: 10}, f"{SMWB}=11", "more than the 10"),
        ({CMWB: False}, f"{CMWB}=15", "not offered"),
        ({CMWB: 10}, f"{CMWB}=11", "more than the 10"),
    ],
)
def test_a_client_refuses_an_answer_that_it_has_not_asked_for(
    client: dict[str, Any], answer: str, detail: str
) -> None:
    with pytest.raises(RemoteProtocolError, match=detail) as caught:
        options(**client).accept_response(params(answer))
    assert caught.value.code == "WS_ERR_INVALID_HANDSHAKE"
    # which fails the handshake
    handshake = ClientHandshake(host="x", target="/", key=KEY, extensions=(options(**client),))
    header = f"permessage-deflate; {answer}" if answer else "permessage-deflate"
    outcome = run(handshake, [an_answer(Sec_WebSocket_Extensions=header)])
    assert outcome.failure is not None
    assert detail in str(outcome.failure)


TAKEOVERS = st.sampled_from([None, True, False])
WINDOWS = st.sampled_from([None, False, *range(8, 16)])
ANY_OPTIONS = st.builds(
    PerMessageDeflate,
    server_no_context_takeover=TAKEOVERS,
    client_no_context_takeover=TAKEOVERS,
    server_max_window_bits=WINDOWS,
    client_max_window_bits=WINDOWS,
    shared=st.booleans(),
)


@given(client=ANY_OPTIONS, server=ANY_OPTIONS)
def test_what_two_sides_agree_on_holds_for_both(client: PerMessageDeflate, server: PerMessageDeflate) -> None:
    accepted = server.accept_offer(client.offer())
    if accepted is None:
        return
    answer, at_server = accepted
    try:
        at_client = client.accept_response(answer)
    except RemoteProtocolError:
        # the one thing that a client may refuse and an offer cannot say
        assert client.client_no_context_takeover is False
        assert server.client_no_context_takeover
        return
    for near, far in [(at_client, at_server), (at_server, at_client)]:
        assert near.window_bits <= far.peer_window_bits
        assert near.forgets or not far.peer_forgets


# Options


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        *(({name: value}, ValueError) for name in (SMWB, CMWB) for value in (0, 7, 16)),
        *(({name: value}, TypeError) for name in (SMWB, CMWB) for value in (True, "10", 9.0)),
        *(({name: value}, TypeError) for name in (SNCT, CNCT) for value in (0, 1, "yes")),
        ({"shared": None}, TypeError),
        ({"level": -1}, ValueError),
        ({"level": 10}, ValueError),
        ({"level": "9"}, TypeError),
        ({"mem_level": 0}, ValueError),
        ({"mem_level": 10}, ValueError),
        ({"strategy": 5}, ValueError),
        ({"strategy": None}, TypeError),
        ({"threshold": -1}, ValueError),
        ({"threshold": None}, TypeError),
        ({"concurrency_limit": 0}, ValueError),
        ({"concurrency_limit": 1.5}, TypeError),
        ({"engine": "gzip"}, ValueError),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused(wrong: dict[str, Any], error: type[Exception]) -> None:
    [name] = wrong
    with pytest.raises(error, match=f"^{name} is "):
        options(**wrong)


def test_options_are_a_value() -> None:
    assert options(level=1) == options(level=1)
    assert len({options(), options(), options(level=1)}) == 2


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "zlib"])
def test_an_engine_that_is_not_installed_is_asked_for(
    engine: EngineName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, ENGINES[engine][0], None)
    with pytest.raises(ImportError, match=f"pip install {engine}"):
        options(engine=engine)


def test_isal_has_levels_of_its_own() -> None:
    if importlib.util.find_spec("isal") is None:
        pytest.skip("isal is not installed")
    assert options(engine="isal", level=3).level == 3
    with pytest.raises(ValueError, match="level is at least 0 and at most 3"):
        options(engine="isal", level=4)


def test_what_is_agreed_on_is_seen() -> None:
    _, [agreed] = answered(options(), f"permessage-deflate; {CMWB}")
    assert isinstance(agreed, AgreedDeflate)
    assert agreed.name == "permessage-deflate"
    assert agreed.params == ((CMWB, "12"),)
