"""Servers that look at requests first: slow ones, and ones with pages; seen from outside on a real port."""

from collections.abc import Generator

import pytest
import trio

from tests.io.transport_kit import reset
from tests.threats.answers_kit import GET, MARK, SMUGGLED, handshake_with, orderly_rest
from tests.threats.frame_kit import HELLO
from tests.threats.threat_kit import MEBI, Victim, victim_of
from trio_ws.testing import handshake_request


@pytest.fixture(scope="module")
def slow_victim() -> Generator[Victim]:
    """One that thinks about each request for a second."""
    with victim_of(hook="slow") as victim:
        yield victim


@pytest.fixture(scope="module")
def page_victim() -> Generator[Victim]:
    """One that has pages too."""
    with victim_of(hook="page") as victim:
        yield victim


@pytest.mark.parametrize("fields", [{}, {"Upgrade": None}], ids=["accepted", "refused"])
async def test_what_comes_before_the_answer_is_not_kept(
    slow_victim: Victim, fields: dict[str, str | None]
) -> None:
    """While the server thinks, the kernel's buffers fill up, and the client waits."""
    async with slow_victim.dialled() as peer:
        with slow_victim.bounded(8 * MEBI), trio.move_on_after(0.8):
            await peer.send(handshake_with(fields))
            while True:
                await peer.send(HELLO * 10000)
    await slow_victim.serves()
    await slow_victim.idle()


async def test_clients_that_leave_before_the_answer_harm_nobody(slow_victim: Victim) -> None:
    for number in range(40):
        async with slow_victim.dialled() as peer:
            await peer.send(handshake_request() + HELLO)
            if number % 2:
                reset(peer.stream)
    await slow_victim.serves()
    await slow_victim.idle()
    assert slow_victim.log() == ""


async def test_a_client_gets_at_most_a_hundred_pages_on_one_connection(page_victim: Victim) -> None:
    """One behind the other, and a flood of them that nobody reads is not kept."""
    async with page_victim.dialled() as peer:
        with trio.fail_after(10):
            await peer.send(SMUGGLED * 150)
            answers = await orderly_rest(peer)
    assert answers.count(b"HTTP/1.1 200 ") == answers.count(b"HTTP/1.1 ") == 100
    assert answers.count(b"Connection: close") == 1
    async with page_victim.dialled() as peer:
        with page_victim.bounded(8 * MEBI), trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            while True:
                await peer.send(SMUGGLED * 100)
    await page_victim.serves()
    await page_victim.idle()


async def test_a_websocket_behind_pages_is_served_and_a_body_ends_the_connection(page_victim: Victim) -> None:
    async with page_victim.dialled() as peer:
        with trio.fail_after(5):
            await peer.send(SMUGGLED + handshake_request() + HELLO)
            assert (await peer.receive_head()).startswith(b"HTTP/1.1 200 ")
            await peer.receive_exactly(len(MARK) + 1)
            assert (await peer.receive_head()).startswith(b"HTTP/1.1 101 ")
            await peer.expect(1, b"hello")
    for line in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
        async with page_victim.dialled() as peer:
            await peer.send(GET + line + b"\r\n\r\n" + SMUGGLED)
            with trio.fail_after(5):
                answers = await orderly_rest(peer)
        assert answers.count(b"HTTP/1.1 ") == 1
        assert b"\r\nConnection: close\r\n" in answers
        assert MARK.encode() not in answers
