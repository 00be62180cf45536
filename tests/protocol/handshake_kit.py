"""What the tests of the handshake share: a valid request and answer to change, feeding in pieces, an extension."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import strategies as st

from trio_ws.protocol._errors import RemoteProtocolError
from trio_ws.protocol._handshake import HandshakeFailed, Request, Response
from trio_ws.protocol._handshake_client import ClientHandshake
from trio_ws.protocol._handshake_server import ServerHandshake
from trio_ws.protocol._headers import Params
from trio_ws.protocol._mask import MaskPool

MASKS = MaskPool(bytes)

# The example of RFC 6455 1.3.
KEY = b"the sample nonce"
KEY_TEXT = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def head(start: str, fields: dict[str, str | Sequence[str] | None]) -> bytes:
    """Return a head: a field occurs as often as it has values, and not at all if that is None."""
    lines = [start]
    for name, values in fields.items():
        if values is not None:
            lines += [f"{name}: {value}" for value in ([values] if isinstance(values, str) else values)]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")


def a_request(start: str = "GET /chat?room=1 HTTP/1.1", **changes: str | Sequence[str] | None) -> bytes:
    """Return a valid request with `changes`, in whose names underscores stand for hyphens."""
    fields: dict[str, str | Sequence[str] | None] = {
        "Host": "server.example.com",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY_TEXT,
        "Sec-WebSocket-Version": "13",
    }
    return head(start, fields | {name.replace("_", "-"): value for name, value in changes.items()})


def an_answer(
    start: str = "HTTP/1.1 101 Switching Protocols", **changes: str | Sequence[str] | None
) -> bytes:
    """Return a valid 101 with `changes`, in whose names underscores stand for hyphens."""
    fields: dict[str, str | Sequence[str] | None] = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": ACCEPT,
    }
    return head(start, fields | {name.replace("_", "-"): value for name, value in changes.items()})


def whole(data: bytes) -> list[bytes]:
    return [data]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Cut `data` into up to six pieces."""
    inner = draw(st.sets(st.integers(0, len(data)), max_size=5))
    return [data[start:stop] for start, stop in pairwise([0, *sorted(inner), len(data)]) if start < stop]


FEEDS: list[Callable[[bytes], list[bytes]]] = [whole, byte_by_byte]


@dataclass
class Outcome:
    """What came of bytes: a value, a failure, or neither yet; and how many pieces it took."""

    value: Request | Response | None = None
    failure: HandshakeFailed | None = None
    taken: int = 0


def run(handshake: ServerHandshake | ClientHandshake, pieces: list[bytes]) -> Outcome:
    """Feed pieces until there is an outcome."""
    for taken, piece in enumerate(pieces, 1):
        try:
            value = handshake.receive_data(piece)
        except HandshakeFailed as exc:
            return Outcome(failure=exc, taken=taken)
        if value is not None:
            return Outcome(value, taken=taken)
    return Outcome(taken=len(pieces))


@dataclass
class Agreed:
    """An agreed extension."""

    name: str
    params: Params


@dataclass
class Factory:
    """An extension whose server takes offers with an even `level`, and whose client takes what it has offered."""

    name: str = "x-level"
    level: int = 2

    def offer(self) -> Params:
        return [("level", str(self.level)), ("flag", None)]

    def accept_response(self, params: Params) -> Agreed:
        if list(params) != [("level", str(self.level))]:
            raise RemoteProtocolError("WS_ERR_INVALID_HANDSHAKE", f"not offered: {params}")
        return Agreed(self.name, params)

    def accept_offer(self, params: Params) -> tuple[Params, Agreed] | None:
        level = dict(params).get("level")
        if level is None or int(level) % 2:
            return None
        answer = [("level", level)]
        return answer, Agreed(self.name, answer)
