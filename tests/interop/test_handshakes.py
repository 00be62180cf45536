"""Opening handshakes with other implementations come to what both sides said; nothing is known here of what follows."""

import pytest

from tests.interop.interop_kit import HEADER, Lane, Refusal, Terms
from trio_ws.protocol import Role

as_client = pytest.mark.parametrize("role", [Role.CLIENT], indirect=True, ids=["as_client"])
as_server = pytest.mark.parametrize("role", [Role.SERVER], indirect=True, ids=["as_server"])


async def test_both_sides_know_the_subprotocol_that_the_server_chose(lane: Lane) -> None:
    async with lane.talk(terms=Terms(offers=("chat.v2", "chat.v1"), choice="chat.v1")) as talk:
        await talk.ws.aclose()
        report = await talk.report()
    assert talk.ws.subprotocol == report.protocol == "chat.v1"


@as_client
async def test_a_server_may_choose_no_subprotocol(lane: Lane) -> None:
    async with lane.talk(terms=Terms(offers=("chat.v2", "chat.v1"))) as talk:
        await talk.ws.aclose()
        report = await talk.report()
    assert talk.ws.subprotocol is None
    assert not report.protocol


@as_server
async def test_our_server_sees_every_offer_in_order(lane: Lane) -> None:
    async with lane.talk(terms=Terms(offers=("chat.v2", "chat.v1"), choice="chat.v2")) as talk:
        request = talk.ws.request
        assert request is not None
        offers = ",".join(request.headers.get_all("Sec-WebSocket-Protocol")).replace(" ", "")
        await talk.ws.aclose()
    assert offers == "chat.v2,chat.v1"


async def test_both_sides_see_the_other_one_s_header(lane: Lane) -> None:
    async with lane.talk() as talk:
        await talk.ws.aclose()
        report = await talk.report()
    assert talk.ws.handshake_headers.get(HEADER) == lane.peer.kind
    assert report.header == "trio_ws"


async def test_a_refusal_arrives_with_its_header_and_body(lane: Lane) -> None:
    async with lane.meet() as meeting:
        refusal = await meeting.be_refused("who are you?")
    server = lane.peer.kind if lane.role is Role.CLIENT else "trio_ws"
    assert refusal == Refusal(401, server, "who are you?")


@as_server
async def test_we_decline_compression_and_the_peer_does_without(lane: Lane) -> None:
    text = "compressible " * 1000
    async with lane.talk() as talk:
        request = talk.ws.request
        assert request is not None
        assert "permessage-deflate" in (request.headers.get("Sec-WebSocket-Extensions") or "")
        await talk.ws.send_message(text)
        assert await talk.ws.get_message() == text
        await talk.ws.aclose()
        report = await talk.report()
    assert talk.ws.extensions == ()
    assert not report.extensions


@as_client
async def test_a_server_that_could_compress_does_not_as_we_do_not_ask(lane: Lane) -> None:
    text = "compressible " * 1000
    async with lane.talk() as talk:
        await talk.ws.send_message(text)
        assert await talk.ws.get_message() == text
        await talk.ws.aclose()
        report = await talk.report()
    assert talk.ws.extensions == ()
    assert not report.extensions
