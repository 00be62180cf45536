"""Both sides of the opening handshake against each other: what one says, the other understands, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.handshake_kit import MASKS, Agreed, Factory, byte_by_byte, run
from trio_ws.protocol._handshake import HandshakeFailed, Request, Response
from trio_ws.protocol._handshake_client import ClientHandshake
from trio_ws.protocol._handshake_server import ServerHandshake

TOKENS = st.text("!#$%&'*+-.^_`|~0123456789abcXYZ", min_size=1, max_size=12)
TARGETS = st.text([chr(c) for c in range(0x21, 0x7F) if c != 0x23], max_size=40).map("/".__add__)
# A name of its own: what the handshake sets itself cannot be asked for.
NAMES = TOKENS.map("X-".__add__)
VALUES = st.text([chr(c) for c in [9, *range(0x20, 0x7F), *range(0x80, 0x100)]], max_size=40)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=5)
HOSTS = st.sampled_from(
    ["a", "example.com:8080", "[::1]", "[fe80::1%25eth0]:80", "127.0.0.1", "a_b.example."]
)


def as_received(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.strip(" \t").encode("latin-1")) for name, value in headers]


@given(
    host=HOSTS,
    target=TARGETS,
    key=st.binary(min_size=16, max_size=16),
    version=st.sampled_from([13, 8]),
    origin=st.none() | st.just("https://example.com"),
    subprotocols=st.lists(TOKENS, unique=True, max_size=4),
    asked=HEADERS,
    answered=HEADERS,
    levels=st.lists(st.integers(1, 8), max_size=3),
    glued=st.tuples(st.binary(max_size=20), st.binary(max_size=20)),
    choice=st.integers(0, 3),
)
def test_round_trip(
    host: str,
    target: str,
    key: bytes,
    version: int,
    origin: str | None,
    subprotocols: list[str],
    asked: list[tuple[str, str]],
    answered: list[tuple[str, str]],
    levels: list[int],
    glued: tuple[bytes, bytes],
    choice: int,
) -> None:
    factories = [Factory(f"x-{number}", level) for number, level in enumerate(levels)]
    client = ClientHandshake(
        host=host,
        target=target,
        key=key,
        version=version,
        origin=origin,
        subprotocols=subprotocols,
        extra_headers=asked,
        extensions=factories,
    )
    server = ServerHandshake(origins=["https://example.com", None], extensions=factories)

    request = server.receive_data(client.request_bytes() + glued[0])
    assert request is not None
    server.check()
    assert (request.target, request.headers.get("host")) == (target, host)
    assert [header for header in request.headers if header[0].startswith(b"x-")] == as_received(asked)
    assert server.version == version
    assert server.proposed_subprotocols == tuple(subprotocols)

    subprotocol = subprotocols[choice] if choice < len(subprotocols) else None
    answer, server_side, leftover = server.accept(
        masks=MASKS, subprotocol=subprotocol, extra_headers=answered
    )
    assert leftover == glued[0]
    response = client.receive_data(answer + glued[1])
    assert response is not None
    client_side, leftover = client.upgrade(masks=MASKS)
    assert leftover == glued[1]
    assert [header for header in response.headers if header[0].startswith(b"x-")] == as_received(answered)
    assert server_side.subprotocol == client_side.subprotocol == client.subprotocol == subprotocol
    agreed = [
        (f"x-{number}", [("level", str(level))]) for number, level in enumerate(levels) if level % 2 == 0
    ]
    for extensions in (server_side.extensions, client_side.extensions):
        assert extensions == tuple(Agreed(*extension) for extension in agreed)


@pytest.mark.parametrize("pieces", [1, 2])
def test_the_first_messages_are_glued_to_the_handshake(pieces: int) -> None:
    client = ClientHandshake(host="a", target="/", key=bytes(16))
    server = ServerHandshake()
    [request, *first] = (
        [client.request_bytes() + b"\x81\x82\x00\x00\x00\x00hi"] if pieces == 1 else [client.request_bytes()]
    )
    server.receive_data(request)
    server.check()
    answer, server_side, leftover = server.accept(masks=MASKS)
    assert server_side.receive_data(leftover or b"\x81\x82\x00\x00\x00\x00hi") == ["hi"]
    client.receive_data(answer + b"".join(server_side.send_message("hello")) + b"".join(first))
    client_side, leftover = client.upgrade(masks=MASKS)
    assert client_side.receive_data(leftover) == ["hello"]
    assert server_side.receive_data(b"".join(client_side.send_message("ho"))) == ["ho"]


@given(TARGETS, st.binary(max_size=20))
def test_a_refusal_reaches_the_client(target: str, trailing: bytes) -> None:
    client = ClientHandshake(host="a", target=target, key=bytes(16), origin="https://evil.example")
    server = ServerHandshake()
    outcome = run(server, byte_by_byte(client.request_bytes()))
    assert isinstance(outcome.value, Request)
    with pytest.raises(HandshakeFailed, match=r"the origin 'https://evil\.example' is not allowed") as caught:
        server.check()
    refusal = caught.value.response
    assert refusal is not None
    response = client.receive_data(server.respond(refusal) + trailing)
    assert response is not None
    assert (response.status, response.reason, response.body) == (403, "Forbidden", refusal.body)
    assert isinstance(response, Response)
