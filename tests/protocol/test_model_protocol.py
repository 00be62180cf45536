"""Thousands of seeded conversations of two protocols, cut anywhere: each side hears what the model says, and no more."""

from __future__ import annotations

import pytest

from tests.protocol.codec_kit import Codec
from tests.protocol.model_kit import AGREED, Conversation, converse


def test_whatever_is_said_is_heard_once_whole_and_in_order(codec: Codec) -> None:
    assert converse(codec, range(4000)) > 4000


@pytest.mark.complete
@pytest.mark.parametrize("first", range(0, 1_000_000, 50_000))
def test_a_million_conversations(codec: Codec, first: int) -> None:
    assert converse(codec, range(first, first + 50_000)) > 50_000


def test_the_conversations_reach_every_kind_of_end(codec: Codec) -> None:
    """A model of conversations in which nothing happens would agree with anything."""
    heard: set[str] = set()
    compressed = 0
    for seed in range(1000):
        conversation = Conversation(codec, seed)
        conversation.run()
        for side in conversation.sides.values():
            heard |= {getattr(event, "code", type(event).__name__) for event in side.heard}
            compressed += bool(side.protocol.deflater and side.protocol.deflater.used)
    assert heard >= {
        *("str", "bytes", "Ping", "Pong", 1000, 1002, 1005, 1008, 1009, 1011, 4999),
        "WS_ERR_EXPECTED_FIN",
        "WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH",
        "WS_ERR_INVALID_OPCODE",
        "WS_ERR_TOO_MANY_BUFFERED_PARTS",
        "WS_ERR_UNEXPECTED_RSV_2_3",
        "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH",
    }
    assert compressed > 1000 / len(AGREED)
