"""The tests of the codec run for every codec there is, and for both sides of a connection."""

import pytest
from hypothesis import settings

from tests.protocol.codec_kit import CODECS, Codec, Peer

# How long one example takes says something about the machine, not about the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session", params=CODECS, ids=str)
def codec(request: pytest.FixtureRequest) -> Codec:
    """Return a codec: the module that holds the decoder and the encoders."""
    made: Codec = request.param
    return made


@pytest.fixture(scope="session", params=[True, False], ids=["from client", "from server"])
def peer(request: pytest.FixtureRequest) -> Peer:
    """Return who sends the frames: a client, which masks, or a server."""
    return Peer(masked=request.param)
