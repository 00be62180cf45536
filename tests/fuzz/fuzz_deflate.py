"""What a peer says is deflated is inflated to what zlib makes of it, in any pieces, never beyond the limit, or is a violation.

And what one side deflates, whole or in fragments, on any terms, the other inflates, and so does zlib by itself.

The first bytes choose between the two, the engine, the terms and where to cut; the rest is the payload.
"""

from __future__ import annotations

import importlib.util
import random
import zlib
from typing import NamedTuple

from tests.fuzz.fuzz_kit import Choices, cut, ways_to_cut
from tests.protocol.deflate_kit import TAIL, Deflating, inflater
from trio_ws.protocol._compressors import ENGINES, Decompressor, EngineName
from trio_ws.protocol._deflate import MAX_LEVELS, PerMessageDeflate
from trio_ws.protocol._errors import RemoteProtocolError
from trio_ws.protocol._inflate import Inflater

CHOICES = 10
ROOMS = (2**20, 0, 1, 10, 1000, 65536)
#: The engines of this machine, Python's own first.
HERE: list[EngineName] = [
    name for name, (module, _) in ENGINES.items() if importlib.util.find_spec(module.partition(".")[0])
]


def check(data: bytes) -> None:
    choices = Choices(data, CHOICES)
    if choices.flags(1)[0]:
        _round_trip(choices)
    else:
        _inflates(choices)


class Truth(NamedTuple):
    """What zlib makes of a payload, whether it finds a fault behind that, and whether it stands between two blocks then."""

    data: bytes
    is_wrong: bool
    is_whole: bool


#: A block of one byte that is not compressed, which is read as such only where a block may begin.
_BLOCK = b"\x00\x01\x00\xfe\xff!"


def truth(payload: bytes, bits: int) -> Truth:
    """Have zlib inflate a message byte by byte, which returns all that comes before a fault, up to twice the largest room."""
    made = bytearray()
    left = payload + TAIL
    while True:
        decompressor = zlib.decompressobj(-bits)
        position = 0
        while position < len(left) and not decompressor.eof:
            try:
                made += decompressor.decompress(left[position : position + 1])
            except zlib.error:
                return Truth(bytes(made), True, False)
            position += 1
            if len(made) > 2 * ROOMS[0]:
                return Truth(bytes(made), False, True)
        left = left[position:]
        # behind a last block another one may begin, but no tail belongs to a message that ends in one
        if decompressor.eof and left == TAIL:
            return Truth(bytes(made), False, True)
        if not decompressor.eof:
            return Truth(bytes(made), False, _stands_between_blocks(decompressor))


def _stands_between_blocks(decompressor: Decompressor) -> bool:
    try:
        return decompressor.decompress(_BLOCK, 2) == b"!"
    except zlib.error:
        return False


def _inflates(choices: Choices) -> None:
    engine: EngineName = choices.one_of(*HERE)
    bits = 9 + choices.byte() % 7
    room = choices.one_of(*ROOMS)
    seed = choices.byte() + 256 * choices.byte()
    expected = truth(choices.rest, bits)
    for pieces in ways_to_cut(choices.rest, seed):
        made, is_wrong = _inflated(pieces, engine, bits, room)
        assert len(made) <= room + 1
        if engine != "zlib" and not expected.is_whole:
            continue  # of what is cut off or wrong each engine returns something else, and calls something else wrong
        assert not is_wrong or expected.is_wrong, (made, expected)
        assert is_wrong or expected.data.startswith(made), (made, expected)
        if not is_wrong and len(made) <= room:
            assert made == expected.data
            assert not expected.is_wrong


def _inflated(pieces: list[bytes], engine: EngineName, bits: int, room: int) -> tuple[bytes, bool]:
    """Inflate one message as the decoder does: what has come leaves less room for the rest."""
    through = inflater(bits=bits, engine=engine)
    made = b""
    for number, piece in enumerate(pieces, 1):
        try:
            made += through.inflate(piece, number == len(pieces), room - len(made))
        except RemoteProtocolError as error:
            assert error.code == "WS_ERR_INVALID_COMPRESSED_DATA"
            return made, True
        if len(made) > room:
            break
    return made, False


def _round_trip(choices: Choices) -> None:
    engine: EngineName = choices.one_of(*HERE)
    sender_bits = 8 + choices.byte() % 8
    forgets, shared, fragmented, client_sends = choices.flags(4)
    options = PerMessageDeflate(
        server_no_context_takeover=forgets,
        client_no_context_takeover=forgets,
        server_max_window_bits=sender_bits,
        client_max_window_bits=sender_bits,
        level=choices.byte() % (MAX_LEVELS[engine] + 1),
        mem_level=1 + choices.byte() % 9,
        strategy=0 if engine == "isal" else choices.byte() % 5,  # it knows one alone, and warns of others
        shared=shared,
        engine=engine,
    )
    accepted = options.accept_offer(options.offer())
    assert accepted is not None
    answer, server = accepted
    client = options.accept_response(answer)
    sender, receiver = (client, server) if client_sends else (server, client)
    deflater, through = sender.deflater(), receiver.inflater()
    by_itself = zlib.decompressobj(-max(sender_bits, 9))
    seed = choices.byte() + 256 * choices.byte()
    for message in (choices.rest, b"", choices.rest[::-1], choices.rest * 3):
        parts = cut(message, seed) if fragmented else [message]
        if fragmented:
            last = len(parts) - 1
            payloads = [
                deflater.compress_fragment(part, place == 0, place == last)
                for place, part in enumerate(parts)
            ]
        else:
            payloads = [deflater.compress(message)]
        assert _received(through, payloads, len(message)) == message
        if forgets:
            by_itself = zlib.decompressobj(-max(sender_bits, 9))
        assert _strictly(by_itself, b"".join(payloads) + TAIL) == message


def _strictly(decompressor: Decompressor, data: bytes) -> bytes:
    """Inflate with a window that is as small as it says: of what it returns at once zlib lets all be referred to."""
    made = b""
    while part := decompressor.decompress(data, 64):
        made += part
        data = decompressor.unconsumed_tail
    return made


def _received(through: Inflater, payloads: list[bytes], size: int) -> bytes:
    made = b""
    for number, payload in enumerate(payloads, 1):
        made += through.inflate(payload, number == len(payloads), size - len(made))
    return made


def seeds() -> dict[str, bytes]:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    with_dynamic_codes = compressor.compress(b"".join(b"%d, " % number for number in range(300)))
    with_dynamic_codes += compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]
    fixed = zlib.compressobj(6, zlib.DEFLATED, -15, 8, zlib.Z_FIXED)
    payloads = {
        "text": Deflating().payload("h\u00e9llo h\u00e9llo h\u00e9llo"),
        "empty": b"\x00",
        "nothing": b"",
        "last_block": b"\x03\x00",
        "two_last_blocks": b"\x03\x00\x03\x00",
        "last_block_and_more": b"\x03\x00" + Deflating().payload("more"),
        "stored": b"\x00\x05\x00\xfa\xffhello",
        "stored_wrong_size": b"\x00\x05\x00\xfa\xfehello",
        "stored_cut": b"\x00\x05\x00\xfa\xffhe",
        "stored_last": b"\x01\x05\x00\xfa\xffhello",
        "reserved_block": b"\x07",
        "dynamic": with_dynamic_codes,
        "dynamic_cut": with_dynamic_codes[:40],
        "dynamic_bad_tree": b"\x04\xff\xff\xff\xff\xff\xff",
        "fixed": fixed.compress(b"fixed, fixed, fixed") + fixed.flush(),
        "too_far_back": b"M.%=\x00\x00",
        "far_back": Deflating().payload(bytes(range(256)) * 3 + bytes(2000) + bytes(range(256))),
        "bomb": Deflating(level=9).payload(bytes(2**20)),
        "bomb_of_one_byte_more": Deflating(level=9).payload(bytes(2**20 + 1)),
        "zlib_header": zlib.compress(b"with a header"),
        "gzip_header": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
        "with_tail": Deflating().payload("tail") + TAIL,
    }
    found = {name: bytes([0, 0, 6, 0, 5, 1]) + bytes(4) + payload for name, payload in payloads.items()}
    for engine in range(1, 3):
        found |= {
            f"engine_{engine}_{name}": bytes([0, engine, 6, 4, 5, 1]) + bytes(4) + payloads[name]
            for name in ("text", "two_last_blocks", "bomb", "too_far_back", "dynamic")
        }
    for name in ("bomb", "text", "far_back"):
        found[f"small_window_{name}"] = bytes([0, 0, 0, 3, 9, 9]) + bytes(4) + payloads[name]
    text = b"What one side deflates, the other one inflates. " * 4
    for bits in range(8):
        found[f"round_trip_{bits + 8}"] = (
            bytes([1, bits % 3, bits, 2 * bits % 16, bits, bits, bits % 5, bits, 0]) + text
        )
    far = random.Random(0).randbytes(700)
    for bits in (0, 1, 2, 7):
        for flags in (0, 15):
            found[f"round_trip_{bits + 8}_far_{flags}"] = bytes([1, 0, bits, flags, 6, 8, 0, 5, 1, 0]) + far
    return found
