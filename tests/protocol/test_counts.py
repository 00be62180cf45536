"""What a `Protocol` counts: one side's counts of what it sent are the other side's of what came, with either codec."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.codec_kit import Codec
from trio_ws.protocol import MaskPool, PerMessageDeflate, Protocol, Role

SIZES = [0, 1, 124, 125, 126, 127, 16_383, 16_384, 65_534, 65_535, 65_536, 65_537, 200_000]


def masks() -> MaskPool:
    return MaskPool(lambda size: b"mask" * (size // 4))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_the_size_of_a_frame_tells_that_of_its_payload(codec: Codec, size: int, masked: bool) -> None:
    for message in (bytes(size), "x" * size, "é" * (size // 2) + "x" * (size % 2)):
        chunks = codec.find("encode_message")(message, masks() if masked else None)
        assert codec.encoder.payload_size(chunks, masked) == size


def both_sides(codec: Codec, compressed: bool) -> tuple[Protocol, Protocol]:
    # with no options both sides speak the same: each side's deflater is for the other's inflater
    agreed = PerMessageDeflate().accept_offer([]) if compressed else None
    extensions = () if agreed is None else (agreed[1],)
    assert bool(extensions) == compressed
    client = codec.protocol(Role.CLIENT, masks=masks(), extensions=extensions)
    return client, codec.protocol(Role.SERVER, masks=masks(), extensions=extensions)


def counts_of(side: Protocol) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what went out and what came in: messages, bytes, frames, pings, pongs."""
    counts = side.counts()
    return counts[::2], counts[1::2]


MESSAGES: st.SearchStrategy[str | bytes] = (
    st.text(max_size=300) | st.binary(max_size=300) | st.just(bytes(70_000)) | st.just("é" * 70_000)
)


@settings(deadline=None)
@given(data=st.data(), compressed=st.booleans(), towards_server=st.booleans())
def test_what_goes_out_on_one_side_comes_in_on_the_other(
    codec: Codec, data: st.DataObject, compressed: bool, towards_server: bool
) -> None:
    client, server = both_sides(codec, compressed)
    sender, receiver = (client, server) if towards_server else (server, client)
    expected = [0, 0, 0, 0, 0]

    def deliver(chunks: tuple[bytes, ...], *counts: int) -> None:
        wire = b"".join(chunks)
        cut = len(wire) // 2
        for part in wire[:cut], wire[cut:]:
            receiver.receive_data(part)
            while receiver.more:
                receiver.receive_data(b"")
        for index, count in enumerate(counts):
            expected[index] += count

    for kind in data.draw(st.lists(st.sampled_from(["message", "pieces", "ping", "pong"]), max_size=6)):
        message = data.draw(MESSAGES)
        size = len(message.encode() if isinstance(message, str) else message)
        if kind == "message":
            deliver(sender.send_message(message), 1, size, 1)
        elif kind == "pieces":
            deliver(sender.send_fragment(message, False), 0, size, 1)
            deliver(sender.send_fragment(message, True), 1, size, 1)
        elif kind == "ping":
            deliver(sender.send_ping(b"?"), 0, 0, 1, 1)
        else:
            deliver(sender.send_pong(b"!"), 0, 0, 1, 0, 1)
    deliver(sender.send_close(1000, ""), 0, 0, 1)
    sent, received = counts_of(sender)[0], counts_of(receiver)[1]
    assert list(sent) == list(received) == expected
    receiver.send_answer()
    assert counts_of(receiver)[0] == (0, 0, 1, 0, 0)


def test_what_cannot_be_sent_does_not_count(codec: Codec) -> None:
    side = both_sides(codec, False)[0]
    with pytest.raises(ValueError, match="surrogates"):
        side.send_message("\ud800")
    with pytest.raises(ValueError, match="125"):
        side.send_ping(bytes(126))
    assert counts_of(side)[0] == (0, 0, 0, 0, 0)


def test_an_unfinished_control_frame_and_a_violation_do_not_count(codec: Codec) -> None:
    side = both_sides(codec, False)[0]
    side.receive_data(b"\x89\x04hal")
    assert counts_of(side)[1] == (0, 0, 0, 0, 0)
    side.receive_data(b"f\x83\x00")
    assert side.violation is not None
    assert counts_of(side)[1] == (0, 0, 1, 1, 0)
