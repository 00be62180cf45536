"""Every way in which a handshake comes to nothing has a reason of its own in a server's statistics."""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.io.api_kit import raw_client
from trio_ws import Request, Response, WebSocketConnection, WebSocketRequest, WebSocketServer
from trio_ws._counters import REFUSALS
from trio_ws.testing import MemoryListener, RawPeer, handshake_request

pytestmark = pytest.mark.usefixtures("autojump_clock")

PAGE = (Path(__file__).parent.parent.parent / "docs/howto/statistics.md").read_text("utf-8")


async def accept(request: WebSocketRequest) -> None:
    await request.accept()


async def reject(request: WebSocketRequest) -> None:
    await request.reject(403)


async def return_without_an_answer(_: WebSocketRequest) -> None:
    await trio.lowlevel.checkpoint()


async def think(_: WebSocketRequest) -> None:
    await trio.sleep_forever()


async def fail(*_: object) -> None:
    raise LookupError("a bug")


async def try_to_accept(request: WebSocketRequest) -> None:
    """Accept, and take it easy if that fails: no exception of the handler tells why there is no connection."""
    try:
        await request.accept()
    except Exception:  # noqa: BLE001 - whatever it is
        await trio.sleep(1)


async def answer(_: Request) -> Response | None:
    return Response(200, body="in good health")


class Impossible(WebSocketConnection):
    """A connection that cannot be made."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise OSError("no descriptor is left")


async def ask(peer: RawPeer, start: str = "GET / HTTP/1.1", **changes: str | None) -> None:
    """Send a request, and wait for what comes of it, or for the end of patience."""
    await peer.send(handshake_request(start, **changes))
    await peer.receive_rest()


async def say_nothing(peer: RawPeer) -> None:
    await peer.receive_rest()


async def leave(_: RawPeer) -> None:
    await trio.lowlevel.checkpoint()


async def leave_within(peer: RawPeer) -> None:
    await peer.send(b"GET / HT")


async def send_nonsense(peer: RawPeer) -> None:
    await peer.send(b"nonsense\r\n\r\n")
    await peer.receive_rest()


async def send_a_huge_head(peer: RawPeer) -> None:
    await peer.send(handshake_request(Cookie="x" * 100_000))
    await peer.receive_rest()


async def ask_and_leave(peer: RawPeer) -> None:
    await peer.send(handshake_request())
    await trio.sleep(1)


async def ask_and_read_nothing(peer: RawPeer) -> None:
    await peer.send(handshake_request())
    await trio.sleep(10)


async def ask_twice(peer: RawPeer) -> None:
    """Ask as a client that keeps its connection, and is gone when it has its answers."""
    for _ in range(2):
        await peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await peer.receive_head()
        await peer.receive_exactly(len("in good health"))


async def ask_twice_and_wait(peer: RawPeer) -> None:
    await ask_twice(peer)
    await peer.receive_rest()


@dataclass
class Case:
    """What a client does, on what terms."""

    reason: str
    script: Callable[[RawPeer], Awaitable[object]]
    handler: Callable[[WebSocketRequest], Awaitable[object]] = accept
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    tls: bool = False
    lockstep: bool = False
    close: bool = False  # whether the server is closed meanwhile
    failures: int = 0  # of the handler

    def __str__(self) -> str:
        return f"{self.reason}-{getattr(self.script, '__name__', '')}-{self.handler.__name__}"


CASES = [
    Case("answered", ask, options={"process_request": answer}),
    Case("answered", ask_twice, options={"process_request": answer}),
    Case("answered", ask_twice_and_wait, options={"process_request": answer}),
    Case("bad_request", send_nonsense),
    Case("bad_request", send_a_huge_head),
    Case("bad_request", lambda peer: ask(peer, Sec_WebSocket_Key="short")),
    Case("client_gone", leave),
    Case("client_gone", leave_within),
    Case("client_gone", ask_and_leave, lockstep=True),
    Case("client_gone", ask_and_leave, try_to_accept, lockstep=True),
    Case("client_gone", ask_and_leave, reject, lockstep=True),
    Case("client_gone", leave, tls=True),
    Case("failed", ask, options={"websocket_class": Impossible}, failures=1),
    Case("failed", ask, try_to_accept, options={"websocket_class": Impossible}),
    Case("handler_failed", ask, fail, failures=1),
    Case("hook_failed", ask, options={"process_request": fail}),
    Case("hook_failed", ask, options={"process_response": fail}, failures=1),
    Case("hook_failed", ask, try_to_accept, options={"process_response": fail}),
    Case("hook_failed", send_nonsense, options={"on_handshake_error": fail}),
    Case("not_websocket", lambda peer: ask(peer, Upgrade=None)),
    Case("not_websocket", lambda peer: ask(peer, "POST / HTTP/1.1")),
    Case("not_websocket", lambda peer: ask(peer, Sec_WebSocket_Version="7")),
    Case("origin", lambda peer: ask(peer, Origin="https://evil.example")),
    Case("path", lambda peer: ask(peer, "GET /other HTTP/1.1"), options={"path": "/"}),
    Case("proxy_protocol", ask, options={"proxy_protocol": True}),
    Case("rejected", ask, reject),
    Case("shutdown", say_nothing, close=True),
    Case("shutdown", ask, think, close=True),
    Case("shutdown", ask_and_read_nothing, lockstep=True, close=True),
    Case("shutdown", ask_and_read_nothing, try_to_accept, lockstep=True, close=True),
    Case("timeout", say_nothing),
    Case("timeout", say_nothing, tls=True),
    Case("timeout", say_nothing, options={"proxy_protocol": True}),
    Case("tls_failed", ask, tls=True),
    Case("unanswered", ask, return_without_an_answer),
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_who_gets_no_connection_is_counted_once_under_its_reason(case: Case) -> None:
    memory = MemoryListener(
        trio.testing.lockstep_stream_pair if case.lockstep else trio.testing.memory_stream_pair
    )
    listener: trio.abc.Listener[Any] = memory
    if case.tls:
        listener = trio.SSLListener(memory, ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
    server = WebSocketServer(case.handler, [listener], **case.options)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        peer = raw_client(memory)
        async with trio.open_nursery() as talking:
            talking.start_soon(case.script, peer)
            if case.close:
                await trio.sleep(1)
                assert server.statistics().handshakes == 1
                talking.start_soon(server.aclose, 1)
            elif case.lockstep:
                await trio.sleep(0.5)
                assert server.statistics().handshakes == 1
        await peer.aclose()
        await trio.sleep(60)
        statistics = server.statistics()
        assert statistics.refusals == {case.reason: 1}
        assert (statistics.accepted, statistics.handshakes, statistics.closes) == (0, 0, {})
        assert statistics.handler_failures == case.failures
        nursery.cancel_scope.cancel()


def test_every_reason_is_tested_and_documented() -> None:
    for_want_of_places = {"max_connections", "max_connections_per_peer"}  # in test_overload.py
    assert {case.reason for case in CASES} | for_want_of_places == set(REFUSALS)
    rows = [line.split("|")[1:3] for line in PAGE.splitlines() if line.startswith("| `")]
    documented = {reason.strip(" `"): text.strip() for reason, text in rows}
    assert documented == REFUSALS
