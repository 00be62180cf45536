"""What the options of permessage-deflate that the peer never hears of make of zlib; knows no connection."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest

from tests.protocol.deflate_kit import TAIL
from trio_ws.protocol import PerMessageDeflate

TEXT = json.dumps([{"id": number, "name": f"{number * number:x}"} for number in range(2000)]).encode()


#: Options, and what zlib calls them.
SETTINGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"level": 0}, {"level": 0}),
    ({"level": 9}, {"level": 9}),
    ({"mem_level": 1}, {"memLevel": 1}),
    ({"mem_level": 9}, {"memLevel": 9}),
    ({"strategy": zlib.Z_HUFFMAN_ONLY}, {"strategy": zlib.Z_HUFFMAN_ONLY}),
    ({"server_max_window_bits": 9}, {"wbits": -9}),
]


def sent_with(settings: dict[str, Any]) -> bytes:
    """Return what a server with these options makes of a text."""
    accepted = PerMessageDeflate(**settings).accept_offer(())
    assert accepted is not None
    return accepted[1].deflater().compress(TEXT)


@pytest.mark.parametrize(("settings", "expected"), SETTINGS, ids=str)
def test_settings_of_zlib(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    """What is sent is what zlib makes of a message with the same settings, byte by byte."""
    wanted: dict[str, Any] = {"level": 6, "wbits": -12, "memLevel": 5, **expected}
    compressor = zlib.compressobj(**wanted)
    payload = compressor.compress(TEXT) + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert sent_with(settings) == payload.removesuffix(TAIL)


def test_each_setting_makes_a_difference() -> None:
    """So that the comparison above says something."""
    assert len({sent_with(settings) for settings, _ in SETTINGS}) == len(SETTINGS)
