"""Connections end with other implementations as they should, whoever ends them; what was said before is not known here."""

import pytest

from tests.interop.interop_kit import RECEIVE, TERMINATE, Lane, close, send
from trio_ws import CloseReason, ConnectionClosed, ConnectionEnded, ConnectionLost

PEACEFUL = [(1000, ""), (1000, "größer ✓ 𝄞"), (1001, "bye"), (None, "")]
ENDINGS = [*PEACEFUL, (3000, "größer ✓ 𝄞"), (4999, ""), (4999, "9" * 123)]

each_ending = pytest.mark.parametrize(("code", "reason"), ENDINGS)


@each_ending
async def test_the_peer_is_told_how_we_close(lane: Lane, code: int | None, reason: str) -> None:
    async with lane.talk() as talk:
        await talk.ws.aclose(code, reason)
        report = await talk.report()
    assert report.end == (code or 1005, reason), report
    # RFC 6455 5.5.1: it answers with the code it got; aiohttp answers with 1000, whatever that was
    answer = CloseReason(1000) if lane.peer.kind == "aiohttp" else CloseReason(code or 1005, reason or None)
    assert talk.ws.closed == answer


@each_ending
async def test_we_are_told_how_the_peer_closes(lane: Lane, code: int | None, reason: str) -> None:
    if code is None and lane.peer.kind == "aiohttp":
        pytest.skip("aiohttp closes with a code always")
    kind = ConnectionEnded if (code, reason) in PEACEFUL else ConnectionLost
    async with lane.talk(send("the last"), close(code, reason)) as talk:
        assert await talk.ws.get_message() == "the last"
        with pytest.raises(kind) as closed:
            await talk.ws.get_message()
        report = await talk.report()
    assert closed.value.reason == closed.value.received == CloseReason(code or 1005, reason or None)
    assert report.code == (code or 1005), report


async def test_a_peer_that_is_gone_without_a_word_is_1006(lane: Lane) -> None:
    async with lane.talk(RECEIVE, TERMINATE) as talk:
        await talk.ws.send_message("go")
        with pytest.raises(ConnectionLost) as lost:
            await talk.ws.get_message()
    assert (lost.value.reason, lost.value.received, lost.value.sent) == (CloseReason(1006), None, None)


async def test_the_peer_finds_that_we_are_gone_without_a_word(lane: Lane) -> None:
    async with lane.talk() as talk:
        talk.ws.terminate()
        with pytest.raises(ConnectionClosed) as closed:
            await talk.ws.send_message("too late")
        report = await talk.report()
    assert closed.value.reason == CloseReason(1006)
    assert report.end == (1006, ""), report
