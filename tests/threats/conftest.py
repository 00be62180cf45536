"""The victims that most attacks share; a victim that is not as it was before fails the attack that has made it so."""

from collections.abc import AsyncGenerator, Generator

import pytest
import trio

from tests.threats.threat_kit import DEFLATE, Victim, victim_of
from trio_ws.testing import RawPeer


@pytest.fixture(scope="session", params=["plain", "deflate"])
def shared_victim(request: pytest.FixtureRequest) -> Generator[Victim]:
    """An echo server with every default, and one that compresses besides."""
    with victim_of(compression=request.param == "deflate") as victim:
        yield victim


@pytest.fixture
def victim(shared_victim: Victim) -> Generator[Victim]:
    """An echo server with every default, with and without compression, that must serve on after the attack."""
    yield shared_victim
    assert shared_victim.report()["connections"] == 0


@pytest.fixture
async def target(victim: Victim) -> AsyncGenerator[Victim]:
    """The same, and it must have nothing left of the attack: no connection, no descriptor's end, no line in its log."""
    logged = victim.log()
    yield victim
    await victim.serves()
    await victim.idle()
    assert victim.log() == logged, "a bad peer can fill the log"


@pytest.fixture
async def peer(target: Victim) -> AsyncGenerator[RawPeer]:
    """A peer of it behind the handshake, for half a minute; where the server compresses, that was agreed on."""
    async with target.attacked(DEFLATE) as peer:
        with trio.fail_after(30):
            yield peer
