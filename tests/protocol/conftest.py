"""The tests of the codec run for every codec there is, and for both sides of a connection."""

from __future__ import annotations

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
def codec_of_protocol(request: pytest.FixtureRequest, codec: Codec) -> Iterator[Codec]:
    """Have every `Protocol` that the module's tests make use one codec, and be compiled if that is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request.module, "Protocol", codec.protocol)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]  # pytest does not say its type
        yield codec
