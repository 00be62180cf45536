"""The tests of the codec run for every codec there is, and for both sides of a connection."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.protocol.codec_kit import CODECS, COMPILED, Codec, Peer, needs_compiled

# How long one example takes says something about the machine, not about the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(
    scope="session",
    params=[pytest.param(codec, marks=[needs_compiled] if codec is COMPILED else []) for codec in CODECS],
    ids=str,
)
def codec(request: pytest.FixtureRequest) -> Codec:
    """Return a codec: the modules that hold the decoder, the encoders and the masking."""
    made: Codec = request.param
    return made


@pytest.fixture(scope="session", params=[True, False], ids=["from client", "from server"])
def peer(request: pytest.FixtureRequest) -> Peer:
    """Return who sends the frames: a client, which masks, or a server."""
    return Peer(masked=request.param)


@pytest.fixture(scope="module")
def codec_of_protocol(codec: Codec) -> Iterator[Codec]:
    """Have every `Protocol` of the module's tests use one codec, whichever was chosen when it was imported."""
    chooser = importlib.import_module("trio_ws.protocol._accel")
    user = importlib.import_module("trio_ws.protocol._protocol")
    chosen = [name for name in chooser.__all__ if hasattr(user, name)]
    assert {"Decoder", "encode_frame"} <= {*chosen}
    with pytest.MonkeyPatch.context() as patch:
        for name in chosen:
            patch.setattr(user, name, codec.find(name))
        yield codec
