"""What every frame means, and what breaks the rules: RFC 6455 5, case by case, from clients and from servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.protocol.codec_kit import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    VALID_CLOSE_CODES,
    Codec,
    Peer,
    Seen,
    Violation,
    byte_by_byte,
    check,
    feed,
    xor,
)
from trio_ws.protocol._errors import ERRORS, REASONS
from trio_ws.protocol._events import Close, Event, Ping, Pong
from trio_ws.protocol._limits import Limits

RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10
#: So that no limit hides what the length itself may be.
HUGE = Limits(max_message_size=2**62)
TIGHT = Limits(max_message_size=10, max_fragments=2)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
def test_messages_of_every_length_class(codec: Codec, peer: Peer, size: int) -> None:
    text = ("0123456789" * 6554)[:size]
    # byte by byte is worth its time once per way to write a length, and the largest take no other path
    run = check if size <= 127 else check_whole
    run(codec, peer, peer.frame(TEXT, text), text)
    run(codec, peer, peer.frame(BINARY, text), text.encode())


def check_whole(codec: Codec, peer: Peer, data: bytes, *expected: Seen) -> None:
    assert feed(codec.decoder(peer), [data]) == list(expected)
    head = 14
    pieces = [*byte_by_byte(data[:head]), data[head:-2], data[-2:-1], data[-1:]]
    assert feed(codec.decoder(peer), pieces) == list(expected)


def test_a_message_has_its_kind_even_when_empty(codec: Codec, peer: Peer) -> None:
    assert [type(event) for event in feed(codec.decoder(peer), [peer.frame(TEXT)])] == [str]
    assert [type(event) for event in feed(codec.decoder(peer), [peer.frame(BINARY)])] == [bytes]
    chopped = peer.frame(BINARY, fin=False) + peer.frame(CONTINUATION, b"a")
    assert [type(event) for event in feed(codec.decoder(peer), [chopped])] == [bytes]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_input_is_any_bytes_and_is_copied(
    codec: Codec, peer: Peer, kind: Callable[[bytes | bytearray], bytes | bytearray | memoryview]
) -> None:
    data = peer.frame(BINARY, b"first") + peer.frame(PING, b"second") + peer.frame(TEXT, "third")
    for cut in range(len(data) + 1):
        decoder = codec.decoder(peer)
        events: list[Event] = []
        for piece in (data[:cut], data[cut:]):
            buffer = bytearray(piece)
            events += decoder.decode(kind(buffer))
            buffer[:] = bytes(len(buffer))  # a transport reads into the same memory again
        assert events == [b"first", Ping(b"second"), "third"]


@pytest.mark.parametrize("payload", [b"", b"hi", b"\xff\x00" * 62, b"x" * 125])
def test_pings_and_pongs(codec: Codec, peer: Peer, payload: bytes) -> None:
    check(codec, peer, peer.frame(PING, payload), Ping(payload))
    check(codec, peer, peer.frame(PONG, payload), Pong(payload))


def test_an_empty_close_frame_has_the_code_1005(codec: Codec, peer: Peer) -> None:
    check(codec, peer, peer.frame(CLOSE), Close(1005, ""))


@pytest.mark.parametrize("reason", ["", "x", "é€𝄞", "x" * 123])
@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_close_codes_that_may_be_sent(codec: Codec, peer: Peer, code: int, reason: str) -> None:
    check(codec, peer, peer.close(code, reason), Close(code, reason))


@pytest.mark.parametrize("code", [*sorted(set(range(995, 1020)) - VALID_CLOSE_CODES), 0, 2999, 5000, 65535])
def test_close_codes_that_may_not_be_sent(codec: Codec, peer: Peer, code: int) -> None:
    check(codec, peer, peer.close(code, "why"), Violation("WS_ERR_INVALID_CLOSE_CODE", 1002))


def test_all_close_codes(codec: Codec, peer: Peer) -> None:
    accepted = [
        code for code in range(65536) if feed(codec.decoder(peer), [peer.close(code)]) == [Close(code, "")]
    ]
    assert accepted == sorted(VALID_CLOSE_CODES)


@pytest.mark.parametrize("reason", [b"\xff", b"ok\xc3", b"\xed\xa0\x80", b"\xc0\xaf"])
def test_a_close_reason_is_utf_8(codec: Codec, peer: Peer, reason: bytes) -> None:
    check(codec, peer, peer.close(1000, reason), Violation("WS_ERR_INVALID_UTF8", 1007))


@pytest.mark.parametrize("inside", [False, True], ids=["between messages", "inside a message"])
@pytest.mark.parametrize("code", [1000, None])
def test_nothing_is_looked_at_after_a_close_frame(
    codec: Codec, peer: Peer, code: int | None, inside: bool
) -> None:
    # RFC 6455 7.1.5 allows a close frame inside a fragmented message, which then never ends.
    before = peer.frame(TEXT, "half", fin=False) if inside else b""
    close = peer.frame(CLOSE) if code is None else peer.close(code)
    check(codec, peer, before + close, Close(code or 1005, ""))
    decoder = codec.decoder(peer)
    junk = b"\xff\xff\xff\xff" + peer.frame(TEXT, "late") + peer.close(1001)
    assert feed(decoder, [before + close + junk, junk, *byte_by_byte(junk)]) == [Close(code or 1005, "")]
    assert not decoder.more
    assert not decoder.partial


def test_control_frames_between_and_inside_the_frames_of_a_message(codec: Codec, peer: Peer) -> None:
    data = (
        peer.frame(PING, b"1")
        + peer.frame(TEXT, "a" * 100, fin=False)
        + peer.frame(PING, b"2")
        + peer.frame(PONG, b"3")
        + peer.frame(CONTINUATION, fin=False)
        + peer.frame(PING)
        + peer.frame(CONTINUATION, "b" * 200)
        + peer.frame(PONG, b"4")
        + peer.frame(BINARY, b"c")
    )
    message = "a" * 100 + "b" * 200
    check(codec, peer, data, Ping(b"1"), Ping(b"2"), Pong(b"3"), Ping(b""), message, Pong(b"4"), b"c")
    # every cut through every frame, those of the control frames among them
    for place in range(len(data)):
        events = feed(codec.decoder(peer), [data[:place], data[place:]])
        assert events == [Ping(b"1"), Ping(b"2"), Pong(b"3"), Ping(b""), message, Pong(b"4"), b"c"]


def test_each_frame_has_its_own_mask(codec: Codec) -> None:
    peer = Peer(masked=True)
    data = b"".join(
        peer.frame(TEXT if not i else CONTINUATION, "héllo", fin=i == 4, mask=bytes([i, 7 * i, 255 - i, 128]))
        for i in range(5)
    )
    check(codec, peer, data, "héllo" * 5)
    check(codec, peer, peer.frame(BINARY, b"plain", mask=bytes(4)), b"plain")


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 5, 6, 7, 9, 13])
def test_the_mask_goes_on_where_a_piece_was_cut(codec: Codec, chunk: int) -> None:
    peer = Peer(masked=True)
    payload = bytes(range(256))
    data = peer.frame(BINARY, payload)
    pieces = [data[i : i + chunk] for i in range(0, len(data), chunk)]
    assert feed(codec.decoder(peer), pieces) == [payload]


def test_a_200_kib_message_in_any_pieces(codec: Codec, peer: Peer) -> None:
    payload = bytes(range(251)) * 816
    data = peer.frame(BINARY, payload)
    for size in (1000, 4096, 65536, len(data)):
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        assert feed(codec.decoder(peer), pieces) == [payload]


# What breaks the rules. Each case ends in the byte that does.


@dataclass(frozen=True)
class Case:
    """Frames whose last byte breaks the protocol, after the events they mean."""

    code: str
    close_code: int
    data: Callable[[Peer], bytes]
    limits: Limits = Limits()
    before: tuple[Seen, ...] = ()


def started(peer: Peer, text: str = "a") -> bytes:
    return peer.frame(TEXT, text, fin=False)


def start(
    opcode: int,
    size: int = 0,
    *,
    fin: bool = True,
    rsv: int = 0,
    width: int | None = None,
    behind: Callable[[Peer], bytes] = lambda _: b"",
) -> Callable[[Peer], bytes]:
    """Return what makes a header up to its length, behind other frames."""

    def make(peer: Peer) -> bytes:
        return behind(peer) + peer.start(opcode, size, fin=fin, rsv=rsv, width=width)

    return make


def first_two(data: Callable[[Peer], bytes]) -> Callable[[Peer], bytes]:
    return lambda peer: data(peer)[:2]


def close(code: int, reason: bytes = b"") -> Callable[[Peer], bytes]:
    return lambda peer: peer.close(code, reason)


def rsv_cases() -> Iterator[tuple[str, Case]]:
    for rsv, code in [
        (RSV1, "WS_ERR_UNEXPECTED_RSV_1"),
        (RSV2, "WS_ERR_UNEXPECTED_RSV_2_3"),
        (RSV3, "WS_ERR_UNEXPECTED_RSV_2_3"),
        (RSV2 | RSV3, "WS_ERR_UNEXPECTED_RSV_2_3"),
    ]:
        for opcode in (TEXT, BINARY, CLOSE, PING, PONG):
            yield f"RSV {rsv:#x} on opcode {opcode}", Case(code, 1002, start(opcode, rsv=rsv))
        for opcode in (CONTINUATION, PING):
            case = Case(code, 1002, start(opcode, rsv=rsv, behind=started))
            yield f"RSV {rsv:#x} on opcode {opcode} inside a message", case


def opcode_cases() -> Iterator[tuple[str, Case]]:
    code = "WS_ERR_INVALID_OPCODE"
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield f"opcode {opcode}", Case(code, 1002, start(opcode))
        yield f"opcode {opcode} inside a message", Case(code, 1002, start(opcode, behind=started))
    for fin in (False, True):
        how = "final" if fin else "not final"
        yield f"continuation of nothing, {how}", Case(code, 1002, start(CONTINUATION, fin=fin))
        yield (
            f"continuation of a complete message, {how}",
            Case(code, 1002, start(CONTINUATION, fin=fin, behind=complete), before=("a",)),
        )
        for opcode in (TEXT, BINARY):
            case = Case(code, 1002, start(opcode, fin=fin, behind=started))
            yield f"opcode {opcode} inside a message, {how}", case


def complete(peer: Peer) -> bytes:
    return started(peer) + peer.frame(CONTINUATION)


def control_cases() -> Iterator[tuple[str, Case]]:
    length = "WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH"
    for opcode in (CLOSE, PING, PONG):
        case = Case("WS_ERR_EXPECTED_FIN", 1002, start(opcode, fin=False))
        yield f"opcode {opcode} without FIN", case
        for size in (126, 65536):
            yield f"opcode {opcode} with {size} bytes", Case(length, 1002, first_two(start(opcode, size)))
    yield "close frame of one byte", Case(length, 1002, start(CLOSE, 1))
    for code in (999, 1004, 1005, 1006, 1015, 1016, 2999, 5000):
        yield f"close code {code}", Case("WS_ERR_INVALID_CLOSE_CODE", 1002, close(code))
    yield "close reason", Case("WS_ERR_INVALID_UTF8", 1007, close(1000, b"\xff"))


def length_cases() -> Iterator[tuple[str, Case]]:
    for width, size in [(2, 0), (2, 5), (2, 125), (8, 0), (8, 5), (8, 125), (8, 126), (8, 65535)]:
        for opcode in (TEXT, BINARY):
            case = Case("WS_ERR_NON_MINIMAL_LENGTH", 1002, start(opcode, size, width=width))
            yield f"length {size} in {width} bytes, opcode {opcode}", case
    code = "WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH"
    for size in (2**53, 2**53 + 5, 2**62, 2**63 - 1, 2**63, 2**63 + 5, 2**64 - 5, 2**64 - 1):
        yield f"length {size:#x}", Case(code, 1009, start(BINARY, size), limits=HUGE)
        case = Case(code, 1009, start(CONTINUATION, size, behind=started))
        yield f"length {size:#x} of a continuation", case
    for size in (2**20 + 1, 2**30, 2**32 + 5, 2**53 - 1):
        case = Case("WS_ERR_UNSUPPORTED_MESSAGE_LENGTH", 1009, start(TEXT, size))
        yield f"length {size:#x} over the limit", case


def other_cases() -> Iterator[tuple[str, Case]]:
    for opcode in (TEXT, BINARY, CLOSE, PING, PONG):
        # which of the two codes it is depends on the peer: see `test_violations`
        case = Case("WS_ERR_EXPECTED_MASK", 1002, wrongly_masked(start(opcode)))
        yield f"opcode {opcode} masked by a server, or not by a client", case
    yield (
        "one fragment too many",
        Case(
            "WS_ERR_TOO_MANY_BUFFERED_PARTS",
            1008,
            lambda peer: too_many(peer) + peer.header(CONTINUATION),
            limits=TIGHT,
        ),
    )
    yield "text", Case("WS_ERR_INVALID_UTF8", 1007, lambda peer: peer.frame(TEXT, b"ab\xff"))


def wrongly_masked(data: Callable[[Peer], bytes]) -> Callable[[Peer], bytes]:
    return lambda peer: data(Peer(masked=not peer.masked))


def too_many(peer: Peer) -> bytes:
    """Return as many fragments as `TIGHT` allows."""
    return started(peer, "") + peer.frame(CONTINUATION, fin=False)


VIOLATIONS = dict([*rsv_cases(), *opcode_cases(), *control_cases(), *length_cases(), *other_cases()])


@pytest.mark.parametrize("case", VIOLATIONS.values(), ids=list(VIOLATIONS))
def test_violations(codec: Codec, peer: Peer, case: Case) -> None:
    code = case.code
    if code == "WS_ERR_EXPECTED_MASK" and not peer.masked:
        code = "WS_ERR_UNEXPECTED_MASK"
    violation = Violation(code, case.close_code)
    check(codec, peer, case.data(peer), *case.before, violation, limits=case.limits)
    # behind messages, in order
    before = peer.frame(TEXT, "message") + peer.frame(PING)
    data = before + case.data(peer)
    check(codec, peer, data, "message", Ping(b""), *case.before, violation, limits=case.limits)


def test_the_longest_frame_that_may_be_announced(codec: Codec, peer: Peer) -> None:
    decoder = codec.decoder(peer, HUGE)
    assert feed(decoder, [peer.header(BINARY, 2**53 - 1) + b"the first of many"]) == []
    assert decoder.partial == 17


def test_every_error_code_has_its_case() -> None:
    covered = {case.code for case in VIOLATIONS.values()} | {"WS_ERR_UNEXPECTED_MASK"}
    elsewhere = {"WS_ERR_INVALID_HANDSHAKE", "WS_ERR_INVALID_COMPRESSED_DATA", *REASONS}
    assert covered == ERRORS.keys() - elsewhere


#: What is checked, in order; each row breaks the rule it stands for and a later one.
ORDER: list[tuple[str, Callable[[Peer], bytes]]] = [
    ("WS_ERR_UNEXPECTED_RSV_2_3", start(TEXT, rsv=RSV2 | RSV1)),
    ("WS_ERR_UNEXPECTED_RSV_2_3", start(TEXT, rsv=RSV3 | RSV1)),
    ("WS_ERR_UNEXPECTED_RSV_1", start(3, rsv=RSV1)),
    ("WS_ERR_UNEXPECTED_RSV_1", start(CONTINUATION, rsv=RSV1)),
    ("WS_ERR_INVALID_OPCODE", start(11, fin=False)),
    ("WS_ERR_EXPECTED_FIN", first_two(start(PING, 126, fin=False))),
    ("WS_ERR_EXPECTED_FIN", start(CLOSE, 1, fin=False)),
    ("WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH", first_two(wrongly_masked(start(PING, 126)))),
    ("WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH", wrongly_masked(start(CLOSE, 1))),
    ("WS_ERR_INVALID_OPCODE", wrongly_masked(start(3))),
    ("WS_ERR_INVALID_OPCODE", wrongly_masked(start(CONTINUATION))),
    ("MASK", first_two(wrongly_masked(start(TEXT, 11, width=2)))),
    ("MASK", wrongly_masked(start(TEXT, 11))),
    ("WS_ERR_NON_MINIMAL_LENGTH", start(TEXT, 11, width=2)),
    ("WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH", start(TEXT, 2**53)),
    ("WS_ERR_UNSUPPORTED_MESSAGE_LENGTH", start(CONTINUATION, 11, behind=too_many)),
    ("WS_ERR_TOO_MANY_BUFFERED_PARTS", lambda peer: too_many(peer) + peer.header(CONTINUATION, 1)),
]


@pytest.mark.parametrize(("code", "data"), ORDER, ids=[f"{i} {code}" for i, (code, _) in enumerate(ORDER)])
def test_the_first_rule_in_order_names_the_violation(
    codec: Codec, peer: Peer, code: str, data: Callable[[Peer], bytes]
) -> None:
    if code == "MASK":
        code = "WS_ERR_EXPECTED_MASK" if peer.masked else "WS_ERR_UNEXPECTED_MASK"
    # what would be wrong about the payload never matters: it is refused before
    payload = xor(b"\xff", b"\x37") if peer.masked else b"\xff"
    expected = Violation(code, ERRORS[code][0])
    check(codec, peer, data(peer), expected, limits=TIGHT)
    assert feed(codec.decoder(peer, TIGHT), [data(peer) + payload]) == feed(
        codec.decoder(peer, TIGHT), [data(peer)]
    )


def test_after_a_violation_there_is_nothing(codec: Codec, peer: Peer) -> None:
    decoder = codec.decoder(peer)
    data = started(peer, "some") + b"\xff"
    events = feed(decoder, [data + b"\xff"])
    assert len(events) == 1
    assert decoder.partial == 0
    assert not decoder.more
    for piece in (b"", b"\x00", peer.frame(CONTINUATION, "rest"), peer.frame(PING), peer.frame(CLOSE)):
        assert decoder.decode(piece) == []
    assert decoder.next_in_pieces() == []


def test_violations_say_what_was_wrong(codec: Codec, peer: Peer) -> None:
    def text_of(data: bytes) -> str:
        (violation,) = feed(codec.decoder(peer, Limits(max_message_size=10, max_fragments=1)), [data])
        assert isinstance(violation, Violation)
        assert violation.text is not None
        return violation.text

    assert text_of(peer.start(3)) == "invalid opcode (3)"
    assert text_of(peer.start(15)) == "invalid opcode (15)"
    assert text_of(peer.start(CONTINUATION)) == "invalid opcode (nothing to continue)"
    assert (
        text_of(started(peer) + peer.start(BINARY))
        == "invalid opcode (a new message inside a fragmented one)"
    )
    assert text_of(peer.start(CLOSE, 1)) == "invalid payload length of a control frame (1)"
    assert text_of(peer.close(1006)) == "invalid status code in a close frame (1006)"
    assert text_of(peer.start(TEXT, 4, width=8)) == "payload length not in its shortest form (4 in 8 bytes)"
    assert text_of(peer.start(TEXT, 11)) == "message larger than max_message_size (11 bytes, 10 are allowed)"
    assert text_of(started(peer) + peer.header(CONTINUATION)) == "too many fragments in one message (over 1)"
    assert text_of(peer.start(TEXT, rsv=RSV1)) == "RSV1 must be clear"
    invalid = "invalid UTF-8 sequence (byte 0x80: invalid start byte)"
    assert text_of(peer.frame(TEXT, b"ok\x80")) == invalid
    assert text_of(peer.frame(TEXT, b"ok\x80", fin=False)) == invalid
    truncated = "invalid UTF-8 sequence (byte 0xe2: unexpected end of data)"
    assert text_of(peer.frame(TEXT, b"ok\xe2")) == truncated
    assert text_of(peer.close(1000, b"\xe2")) == truncated
