"""What a peer may send, for Hypothesis: frames that are mostly right, so that the wrong ones come in every situation.

Which bytes they are is all that is chosen here; what they mean is for the tests to say.
"""

from __future__ import annotations

import struct

from hypothesis import strategies as st

from tests.protocol.codec_kit import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    VALID_CLOSE_CODES,
    Peer,
)
from trio_ws.protocol._limits import Limits

MASKS = st.binary(min_size=4, max_size=4)

#: What a fault changes of a frame: opcode, RSV bits, announced size.
FAULTY_OPCODES = {"unknown": 3, "unknown control": 11, "text": TEXT, "continuation": CONTINUATION}
FAULTY_RSV = {"RSV1": 0x40, "RSV2": 0x20, "RSV3": 0x10, "all RSV": 0x70}
FAULTY_SIZES = {
    "2^53 - 1": 2**53 - 1,
    "2^53": 2**53,
    "2^64 - 1": 2**64 - 1,
    "70000": 70_000,
    "1": 1,
    "126": 126,
}
FAULTY_WIDTHS = {"in 2 bytes": 2, "in 8 bytes": 8}
FAULTS = [*FAULTY_OPCODES, *FAULTY_RSV, *FAULTY_SIZES, *FAULTY_WIDTHS, "FIN", "MASK"]


@st.composite
def streams(draw: st.DrawFn, peer: Peer) -> bytes:
    """Return frames that are mostly right, so that the wrong ones come in every situation."""
    data = b""
    inside = False
    for _ in range(draw(st.integers(1, 12))):
        fault = draw(st.sampled_from(["none"] * 120 + FAULTS))
        kinds = [CONTINUATION] * 3 if inside else [TEXT, TEXT, BINARY]
        opcode = draw(st.sampled_from([*kinds * 3, PING, PING, PONG, CLOSE]))
        opcode = FAULTY_OPCODES.get(fault, opcode)
        fin = (opcode >= CLOSE or draw(st.booleans())) ^ (fault == "FIN")
        payload = draw(payloads(opcode))
        sender = Peer(masked=peer.masked ^ (fault == "MASK"))
        size = FAULTY_SIZES.get(fault, len(payload))
        shortest = 0 if size < 126 else 2 if size < 65536 else 8
        width = max(shortest, FAULTY_WIDTHS.get(fault, 0))
        data += sender.start(opcode, size, fin=fin, rsv=FAULTY_RSV.get(fault, 0), width=width)
        frame = sender.frame(opcode, payload, fin=fin, mask=draw(MASKS))
        data += frame[len(sender.start(opcode, len(payload))) :]
        inside = inside if opcode >= CLOSE else not fin
    return data[: len(data) - draw(st.sampled_from([0, 0, 0, 1, 2, 5]))]


CHARACTERS = ["a", "é", "€", "𝄞"]
BYTES = [b"a", b"\xc3", b"\xa9", b"\xe2", b"\x82", b"\xac", b"\xed", b"\xa0", b"\xf4", b"\x90", b"\xff"]


@st.composite
def close_payloads(draw: st.DrawFn) -> bytes:
    code = draw(st.sampled_from(sorted(VALID_CLOSE_CODES)) | st.integers(990, 1020) | st.integers(0, 65535))
    return struct.pack("!H", code) + draw(st.text(max_size=8).map(str.encode) | st.binary(max_size=12))


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    text = "".join(draw(st.lists(st.sampled_from(CHARACTERS), max_size=12))).encode()
    return text[: draw(st.integers(0, 200))]  # which cuts one in ten


def payloads(opcode: int) -> st.SearchStrategy[bytes]:
    """Return payloads: of text mostly UTF-8, cut anywhere; of close frames mostly with a code."""
    if opcode == CLOSE:
        return close_payloads() | st.just(b"") | st.binary(min_size=2, max_size=12)
    if opcode in (TEXT, CONTINUATION):
        return texts() | texts() | st.lists(st.sampled_from(BYTES), max_size=8).map(b"".join)
    longer = [b"x" * 125, b"x" * 125, b"x" * 126, b"x" * 200]
    return st.binary(max_size=12) | st.sampled_from(longer[: 2 if opcode >= CLOSE else 4])


LIMITS = st.builds(
    Limits,
    max_message_size=st.sampled_from([*[2**62] * 8, 60, 20, 0]),
    max_fragments=st.sampled_from([*[131072] * 8, 3, 1, 0]),
)
