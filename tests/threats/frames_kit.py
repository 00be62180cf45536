"""What attacks on open connections share: a client's frames, and the handshake before them."""

import trio

from tests.threats.threat_kit import DEFLATE
from trio_ws.testing import RawPeer, encode_raw_frame, handshake_request

#: Masking with it changes nothing.
MASK = bytes(4)

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

#: It asks for compression, which is declined where the server does not compress.
HANDSHAKE = handshake_request("GET / HTTP/1.1", Sec_WebSocket_Extensions=DEFLATE)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return a client's frame."""
    return encode_raw_frame(opcode, payload, fin=fin, rsv=rsv, mask=MASK)


def close(code: int, reason: bytes = b"") -> bytes:
    """Return a client's close frame."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


#: A message.
HELLO = frame(TEXT, b"hello")


async def half_close(peer: RawPeer) -> None:
    """End the peer's side."""
    stream = peer.stream
    assert isinstance(stream, trio.SocketStream)
    await stream.send_eof()
