"""Extension and subprotocol headers are lists or a `ValueError`; formatted and parsed again they are the same lists.

Whatever is offered or answered, negotiating ends in terms that both sides understand alike, in none, or in the one
documented error.

The first bytes choose the options of both sides; the rest is the value of a header.
"""

from __future__ import annotations

from tests.fuzz.fuzz_kit import Choices
from trio_ws.protocol import (
    AgreedDeflate,
    PerMessageDeflate,
    RemoteProtocolError,
    format_extensions,
    is_token,
    parse_extensions,
    parse_subprotocols,
)

CHOICES = 10
_BITS = (None, False, 8, 9, 10, 12, 15)


def check(data: bytes) -> None:
    choices = Choices(data, CHOICES)
    client, server = _options(choices), _options(choices)
    value = choices.rest.decode("latin-1")
    _parses(value)
    _lists(value)
    _agree(client, server)


def _options(choices: Choices) -> PerMessageDeflate:
    return PerMessageDeflate(
        server_no_context_takeover=choices.one_of(None, False, True),
        client_no_context_takeover=choices.one_of(None, False, True),
        server_max_window_bits=choices.one_of(*_BITS),
        client_max_window_bits=choices.one_of(*_BITS),
        shared=choices.one_of(True, False),
    )


def _parses(value: str) -> None:
    try:
        extensions = parse_extensions(value)
    except ValueError:
        return
    assert extensions
    formatted = format_extensions(extensions)
    assert parse_extensions(formatted) == extensions
    for name, params in extensions:
        assert is_token(name)
        assert all(is_token(key) and (given is None or is_token(given)) for key, given in params)
        for options in (
            PerMessageDeflate(),
            PerMessageDeflate(server_max_window_bits=10, client_max_window_bits=10),
        ):
            accepted = options.accept_offer(params)
            if accepted is not None:
                answer, agreed = accepted
                assert parse_extensions(format_extensions([(name, answer)])) == [(name, [*answer])]
                _works(agreed)
            try:
                _works(options.accept_response(params))
            except RemoteProtocolError as error:
                assert error.code == "WS_ERR_INVALID_HANDSHAKE"


def _lists(value: str) -> None:
    try:
        names = parse_subprotocols([value])
    except ValueError:
        return
    assert names
    assert parse_subprotocols([", ".join(names)]) == names
    assert all(is_token(name) for name in names)


def _agree(client: PerMessageDeflate, server: PerMessageDeflate) -> None:
    """Let both sides negotiate: what one sends the other can read, by the terms that each believes in."""
    accepted = server.accept_offer(client.offer())
    if accepted is None:
        return
    answer, there = accepted
    try:
        here = client.accept_response(answer)
    except RemoteProtocolError:
        # the one thing that an offer cannot say: that this side insists on taking its messages over
        assert client.client_no_context_takeover is False
        assert server.client_no_context_takeover
        return
    for sender, receiver in ((here, there), (there, here)):
        _works(sender)
        assert sender.window_bits <= receiver.peer_window_bits
        assert sender.forgets or not receiver.peer_forgets
        message = b"the same again, the same again" * 20
        deflater, inflater = sender.deflater(), receiver.inflater()
        for _ in range(2):
            assert inflater.inflate(deflater.compress(message), True, len(message)) == message


def _works(agreed: AgreedDeflate) -> None:
    assert 8 <= agreed.window_bits <= 15
    assert 8 <= agreed.peer_window_bits <= 15
    agreed.deflater()
    agreed.inflater()


def seeds() -> dict[str, bytes]:
    values = {
        "deflate": "permessage-deflate; client_max_window_bits",
        "deflate_all": "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
        "server_max_window_bits=10; client_max_window_bits=8",
        "deflate_quoted": 'permessage-deflate; server_max_window_bits="10"',
        "deflate_escaped": 'permessage-deflate; server_max_window_bits="\\1\\0"',
        "deflate_fallback": "permessage-deflate; server_max_window_bits=7, permessage-deflate",
        "deflate_zero": "permessage-deflate; server_max_window_bits=08",
        "deflate_99": "permessage-deflate; server_max_window_bits=99",
        "deflate_twice": "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
        "deflate_value": "permessage-deflate; server_no_context_takeover=1",
        "deflate_unknown": "permessage-deflate; mux=1",
        "two": "a, b; c=d; e",
        "empty_elements": " , a ,, b ;c , ",
        "empty": "",
        "not_a_token": "a b",
        "open_quote": 'a; b="c',
        "quoted_comma": 'a; b="c,d"',
        "quoted_nothing": 'a; b=""',
        "no_value": "a; b=",
        "no_name": "a; =b",
        "backslashes": 'a; b="' + "\\" * 40,
        "spaces": "a" + " " * 60 + ";",
        "constructor": "constructor; __proto__=1",
        "latin_1": "\xff; \xe4=\xfc",
        "control": "a;\x00b\x7f",
        "subprotocols": "chat, superchat,v2.example.com",
        "subprotocol_twice": "chat, chat",
    }
    found = {name: bytes(CHOICES) + value.encode("latin-1") for name, value in values.items()}
    found["options_strict"] = bytes([2, 2, 3, 3, 0, 2, 2, 5, 5, 1]) + b"a"
    found["options_8"] = bytes([1, 1, 2, 2, 1, 0, 0, 2, 2, 0]) + b"a"
    found["options_refuse"] = bytes([1, 1, 1, 1, 1, 2, 2, 1, 1, 1]) + b"a"
    return found
