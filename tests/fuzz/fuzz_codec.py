"""For any bytes in any pieces both codecs give the same events, errors and residue, and without deflate those of the model.

No exception leaves either of them, and what they have decoded both encode alike, to frames that mean the same. Of a
compressed message that is wrong in several ways any may be the one that is told.

The first bytes choose the peer, limits, deflate, calls between the pieces, and where to cut; the rest is what the peer sends.
"""

from __future__ import annotations

from tests.fuzz.fuzz_kit import Choices, cut, same, ways_to_cut
from tests.protocol.codec_kit import (
    BINARY,
    CLOSE,
    CODECS,
    CONTINUATION,
    PING,
    PONG,
    PYTHON,
    TEXT,
    Codec,
    Peer,
    Seen,
    Violation,
    feed,
    meaning,
    seen,
)
from tests.protocol.deflate_kit import RSV1, Deflating, inflater
from trio_ws.protocol._codec import Decoder
from trio_ws.protocol._events import Close, Event
from trio_ws.protocol._inflate import Inflater
from trio_ws.protocol._limits import Limits

#: The codecs of this machine; where nothing is compiled, Python's is held to the model alone.
BUILT = [codec for codec in CODECS if codec.is_built]
SIZES = (2**20, 0, 1, 20, 125, 126, 1000, 2**100)
COUNTS = (131072, 0, 1, 3)
CHOICES = 6
#: Beyond it the model, which looks at a text from its start for each fragment, would take longer than what it judges.
MODEL_SIZE = 1024


class Setting:
    """One way to decode."""

    def __init__(self, data: bytes) -> None:
        choices = Choices(data, CHOICES)
        masked, self.deflate, self.takeover, self.asks = choices.flags(4)
        self.peer = Peer(masked=masked)
        self.limits = Limits(max_message_size=choices.one_of(*SIZES), max_fragments=choices.one_of(*COUNTS))
        self.seed = choices.byte() + 256 * choices.byte()
        self.at_once = choices.one_of(None, None, 1, 2, 3)
        self.rest = choices.rest

    def inflater(self) -> Inflater | None:
        return inflater(takeover=self.takeover) if self.deflate else None

    def decoder(self, codec: Codec) -> Decoder:
        return codec.decoder(self.peer, self.limits, self.inflater())


def check(data: bytes) -> None:
    setting = Setting(data)
    _both_do_the_same(setting)
    events = same(
        _without_which_fault(same(_with_residue(setting, codec, pieces) for codec in BUILT), setting)
        for pieces in ways_to_cut(setting.rest, setting.seed)
    )[0]
    if not setting.deflate and len(setting.rest) <= MODEL_SIZE:
        told = meaning(setting.rest, setting.peer, setting.limits)
        codes = [event.code if isinstance(event, Violation) else event for event in events]
        assert codes == [*told.events, *([told.violation] if told.violation else [])]
    for event in events:
        _encodes(event)


def _both_do_the_same(setting: Setting) -> None:
    """Compare after each call all that can be seen, messages in pieces and calls that end at their limit included."""
    decoders = [setting.decoder(codec) for codec in BUILT]
    for number, piece in enumerate([*cut(setting.rest, setting.seed), b""]):
        if setting.asks:
            name = ("next_in_pieces", "next_whole", "decode")[(setting.seed + number) % 3]
            same(_outcome(decoder, name) for decoder in decoders)
        limit = () if setting.at_once is None else (setting.at_once,)
        same(_outcome(decoder, "decode", piece, *limit) for decoder in decoders)


def _outcome(decoder: Decoder, name: str, *arguments: bytes | int) -> str:
    result: list[Event] | bool = getattr(decoder, name)(*(arguments or ((b"",) if name == "decode" else ())))
    events = seen(result) if isinstance(result, list) else result
    return repr((events, decoder.more, decoder.partial, decoder.finished))


def _with_residue(setting: Setting, codec: Codec, pieces: list[bytes]) -> tuple[list[Seen], list[Seen]]:
    """Return the events of the pieces, and those that then come of bytes that complete or break what was left."""
    decoder = setting.decoder(codec)
    events = feed(decoder, pieces, setting.at_once)
    assert all(isinstance(event, Close | Violation) is decoder.finished for event in events[-1:])
    assert not any(isinstance(event, Close | Violation) for event in events[:-1])
    assert decoder.partial <= setting.limits.max_message_size
    for event in events:
        if isinstance(event, str | bytes):
            assert len(event) <= setting.limits.max_message_size
    probe = setting.peer.frame(PING, b"probe") + bytes(300)
    return events, feed(decoder, [probe])


def _without_which_fault(
    outcome: tuple[list[Seen], list[Seen]], setting: Setting
) -> tuple[list[Seen], list[Seen]]:
    """Leave out which of the faults that a compressed message has was found: it depends on how much is inflated at once."""
    events, residue = outcome
    return [_INFLATED_FAULT if _is_inflated_fault(event, setting) else event for event in events], residue


_INFLATED_FAULT = Violation("any of these", 0)
_INFLATED_FAULTS = {
    "WS_ERR_INVALID_COMPRESSED_DATA",
    "WS_ERR_INVALID_UTF8",
    "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH",
}


def _is_inflated_fault(event: Seen, setting: Setting) -> bool:
    return setting.deflate and isinstance(event, Violation) and event.code in _INFLATED_FAULTS


def _encodes(event: Seen) -> None:
    """Encode what was decoded, and decode it again."""
    if not isinstance(event, str | bytes):
        return
    opcode, payload = (TEXT, event.encode()) if isinstance(event, str) else (BINARY, event)
    for mask in (None, b"\x00\x80\x01\xff"):
        frame = same(codec.encode_frame(opcode, payload, mask) for codec in BUILT)
        limits = Limits(max_message_size=len(payload), max_fragments=0)
        assert feed(PYTHON.decoder(Peer(masked=mask is not None), limits), [frame]) == [event]


def seeds() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for who, peer in (("client", Peer(masked=True)), ("server", Peer(masked=False))):
        for name, frames in _frames(peer).items():
            found[f"{who}_{name}"] = bytes([peer.masked, 0, 0, 77, 3, 0]) + frames
        for name, frames in _compressed_frames(peer).items():
            found[f"{who}_{name}"] = bytes([peer.masked + 6, 0, 0, 5, 1, 0]) + frames
        text = peer.frame(TEXT, "in ", fin=False) + peer.frame(CONTINUATION, "pieces \u20ac")
        found[f"{who}_in_pieces"] = bytes([peer.masked + 8, 0, 0, 1, 0, 2]) + text * 2
        found[f"{who}_at_a_limit"] = (
            bytes([peer.masked, 3, 2, 1, 0, 0]) + text + peer.frame(BINARY, bytes(21))
        )
        tenths = [peer.frame(CONTINUATION, b"ten bytes.", fin=False)] * 3
        found[f"{who}_beyond_a_limit"] = bytes([peer.masked, 3, 0, 1, 0, 0]) + peer.frame(TEXT, fin=False)
        found[f"{who}_beyond_a_limit"] += b"".join(tenths)
        found[f"{who}_no_fragments"] = bytes([peer.masked, 0, 1, 0, 0, 0]) + text
    return found


def _frames(peer: Peer) -> dict[str, bytes]:
    text, again = peer.frame(TEXT, "h\u00e9llo", fin=False), peer.frame(CONTINUATION, " w\u00f6rld")
    return {
        "messages": peer.frame(TEXT, "text") + peer.frame(BINARY, b"\x00\xff") + peer.frame(TEXT),
        "fragments": text + peer.frame(PING, b"between") + peer.frame(CONTINUATION, fin=False) + again,
        "two_byte_length": peer.frame(BINARY, bytes(range(126))),
        "eight_byte_length": peer.start(BINARY, 65536) + b"mask" * peer.masked + b"the beginning",
        "control": peer.frame(PING) + peer.frame(PONG, bytes(125)) + peer.close(1000, "bye"),
        "close_empty": peer.frame(CLOSE) + peer.frame(PING),
        "close_code": peer.close(1005),
        "close_reason": peer.close(3000, b"\xff"),
        "close_short": peer.frame(CLOSE, b"\x03"),
        "cut_character": peer.frame(TEXT, b"\xe2\x82", fin=False) + peer.frame(CONTINUATION, b"\xac"),
        "surrogate": peer.frame(TEXT, b"\xed\xa0", fin=False),
        "nothing_to_continue": again,
        "message_in_message": text + text,
        "not_minimal": peer.start(BINARY, 5, width=2) + b"mask" * peer.masked + b"short",
        "not_minimal_8": peer.start(BINARY, 126, width=8),
        "longest": peer.start(BINARY, 2**53 - 1) + b"mask" * peer.masked,
        "too_long": peer.start(BINARY, 2**53),
        "sign_bit": peer.start(BINARY, 2**63),
        "all_ones": peer.start(BINARY, 2**64 - 1),
        "long_ping": peer.start(PING, 126),
        "cut_ping": peer.frame(PING, fin=False),
        "opcode_3": peer.frame(3),
        "opcode_11": peer.frame(11),
        "rsv": peer.frame(TEXT, "rsv", rsv=0x20) + peer.frame(TEXT, "rsv", rsv=0x10),
        "rsv1": peer.frame(TEXT, "rsv", rsv=RSV1),
        "other_mask": Peer(masked=not peer.masked).frame(TEXT, "whose?"),
    }


def _compressed_frames(peer: Peer) -> dict[str, bytes]:
    deflating = Deflating()
    repeated = deflating.frame(peer, "again and again") + deflating.frame(peer, "again and again")
    fragments = b"".join(Deflating().frames(peer, TEXT, b"\xe2\x82", b"", b"\xac and more"))
    return {
        "deflate": repeated,
        "deflate_fragments": fragments,
        "deflate_and_not": Deflating().frame(peer, b"bytes") + peer.frame(TEXT, "text") + repeated[:9],
        "deflate_empty": peer.frame(TEXT, b"\x00", rsv=RSV1) + peer.frame(BINARY, rsv=RSV1),
        "deflate_last_block": peer.frame(TEXT, b"\x03\x00", rsv=RSV1)
        + peer.frame(TEXT, b"\x03\x00\x03\x00", rsv=RSV1),
        "deflate_bomb": peer.frame(BINARY, Deflating().payload(bytes(2**21)), rsv=RSV1),
        "deflate_none": peer.frame(BINARY, b"\xff\xff\xff", rsv=RSV1),
        "deflate_continuation": peer.frame(TEXT, b"\x00", fin=False, rsv=RSV1)
        + peer.frame(CONTINUATION, rsv=RSV1),
    }
