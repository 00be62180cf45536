"""Connections that are cut, at any byte, over each transport: one documented error, and nothing that was not whole."""

import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio

from tests.io.api_kit import receive_all
from tests.io.transport_kit import tls_contexts
from tests.threats.ends_kit import ENDS, Held, abort, close, end_sending, hear_out, records
from tests.threats.stalling_kit import listen, loopback_contexts
from trio_ws import (
    ClientOptions,
    CloseReason,
    ConnectionClosed,
    ConnectionLost,
    HandshakeError,
    WebSocketRequest,
    WebSocketServer,
    open_websocket_url,
    serve_websocket,
)
from trio_ws.protocol import Role
from trio_ws.testing import FaultyStream, RawPeer, encode_raw_frame, handshake_response

End = Callable[[trio.SocketStream], Awaitable[None]]

FRAMES = [encode_raw_frame(1, b"one"), encode_raw_frame(9, b"ping"), encode_raw_frame(2, b"x" * 126)]
MESSAGES: list[str | bytes] = ["one", b"x" * 126]
#: Behind these bytes of the frames a message is complete.
COMPLETE = [len(FRAMES[0]), len(b"".join(FRAMES))]
ANSWER_SIZE = len(handshake_response(b""))
SIZE = ANSWER_SIZE + COMPLETE[1]

#: Only a broken test waits that long.
PATIENCE = 20


def expected(size: int) -> list[str | bytes]:
    """Return the messages that so many bytes of the server's hold."""
    return MESSAGES[: sum(size - ANSWER_SIZE >= end for end in COMPLETE)]


class Cutter:
    """A server of one conversation, with which it breaks off after a number of bytes on the wire.

    Args:
        tls: whether it speaks TLS.
        end: how it breaks off.

    Attributes:
        size: bytes on the wire from where it breaks off next; those of TLS's own handshake do not count.
        total: bytes on the wire of the whole conversation, once there was one.
        plain: for each number of bytes on the wire, how many of the server's bytes they hold.
    """

    def __init__(self, tls: bool, end: End) -> None:
        self.tls = tls
        self.end = end
        self.size = 0
        self.total = SIZE
        self.plain = list(range(SIZE + 1))

    async def meet(self, stream: trio.SocketStream) -> None:
        async with stream:
            wire = Held(stream)
            outer = trio.SSLStream(wire, loopback_contexts()[0], server_side=True) if self.tls else wire
            peer = RawPeer(outer, Role.SERVER)
            data = [handshake_response(await peer.receive_head()), *FRAMES]
            wire.hold()
            for piece in data:  # each is a record
                await peer.send(piece)
            assert wire.held is not None
            if self.tls:
                self._learn(
                    [len(record) for record in records(bytes(wire.held))], [len(piece) for piece in data]
                )
            with suppress(trio.BrokenResourceError):
                await stream.send_all(wire.held[: self.size])
                await self.end(stream)

    def _learn(self, wires: list[int], plains: list[int]) -> None:
        """A record holds nothing until it is whole, and the first are TLS's own, tickets."""
        plains = [0] * (len(wires) - len(plains)) + plains
        self.total = sum(wires)
        self.plain = []
        for index, size in enumerate(wires):
            self.plain += [sum(plains[:index])] * size
        self.plain.append(sum(plains))


async def converse(url: str, kind: str) -> list[str | bytes]:
    """Receive to the end of a connection, and have everything else tried on it then; return the messages.

    Raises:
        HandshakeError: there was none.
    """

    async def connect(host: str, port: int) -> trio.abc.Stream:
        return FaultyStream(await trio.open_tcp_stream(host, port))

    options: ClientOptions = {"connect": connect} if kind == "stream" else {}
    context = loopback_contexts()[1] if kind == "tls" else None
    async with open_websocket_url(url, context, **options) as ws:
        received, error = await receive_all(ws)
        assert type(error) is ConnectionLost
        assert error.reason == CloseReason(1006)
        for late in (ws.send_message("late"), ws.ping(), ws.get_message()):
            with pytest.raises(ConnectionClosed):
                await late
        await ws.aclose()
        assert not ws.timed_out
    return received


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", ["tcp", "stream", "tls"])
async def test_wherever_the_server_breaks_off_there_is_one_documented_error(kind: str, end: End) -> None:
    cutter = Cutter(kind == "tls", end)
    errors: set[type[Exception]] = set()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            url = f"ws{'s' * cutter.tls}://127.0.0.1:{await listen(nursery, cutter.meet)}/"
            while cutter.size <= cutter.total:
                received: list[str | bytes] = []
                try:
                    received = await converse(url, kind)
                except HandshakeError as exc:
                    errors.add(type(exc))
                    # a reset destroys also what came before it and was not read by then
                    assert end is abort or cutter.plain[cutter.size] < ANSWER_SIZE
                else:
                    assert cutter.plain[cutter.size] >= ANSWER_SIZE
                whole = expected(cutter.plain[cutter.size])
                assert received == (whole[: len(received)] if end is not end_sending else whole)
                cutter.size += 3 if cutter.tls else 1  # TLS takes its time, and a record is all or nothing
            nursery.cancel_scope.cancel()
    assert errors == {HandshakeError}


@pytest.mark.parametrize("end", ENDS)
async def test_tls_that_breaks_off_in_its_own_handshake_is_a_handshake_error(end: End) -> None:
    sizes = deque(range(0, 600, 17))  # less than the server's hello with its certificate

    async def meet(stream: trio.SocketStream) -> None:
        async with stream:

            async def stop(_: FaultyStream) -> None:
                await end(stream)
                raise trio.BrokenResourceError

            wire = FaultyStream(stream, send=[sizes.popleft(), stop])
            tls = trio.SSLStream(wire, loopback_contexts()[0], server_side=True)
            with suppress(trio.BrokenResourceError):
                await tls.do_handshake()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            port = await listen(nursery, meet)
            while sizes:
                with pytest.raises(HandshakeError) as failed:
                    async with open_websocket_url(f"wss://127.0.0.1:{port}/", loopback_contexts()[1]):
                        pass
                assert type(failed.value) is HandshakeError
                assert isinstance(failed.value.__cause__, ssl.SSLError | OSError | trio.BrokenResourceError)
            nursery.cancel_scope.cancel()


# TLS records, on both sides

#: A message of its own, one in three fragments, and one that takes several records.
PARTS = [
    (1, b"one", True),
    (2, b"a" * 100, False),
    (0, b"b" * 100, False),
    (0, b"c" * 100, True),
    (2, b"x" * 40_000, True),
]
WHOLE: list[str | bytes] = ["one", b"a" * 100 + b"b" * 100 + b"c" * 100, b"x" * 40_000]


async def cut_after(count: int, half: bool, stream: trio.SocketStream, server_side: bool, end: End) -> int:
    """Play the peer up to so many records, and perhaps half of one more; return how many messages that is."""
    context = tls_contexts()[not server_side]
    wire = Held(stream)
    tls = trio.SSLStream(wire, context, server_side=server_side, server_hostname="localhost")
    peer = RawPeer(tls, Role.SERVER if server_side else Role.CLIENT)
    await peer.handshake()
    wire.hold()
    assert wire.held is not None
    whole: list[int] = []
    for opcode, payload, fin in PARTS:
        await peer.send_frame(opcode, payload, fin=fin)
        if fin:
            whole.append(len(records(bytes(wire.held))))
    sent = records(bytes(wire.held))
    assert len(sent) == 7
    await stream.send_all(b"".join(sent[:count]) + (sent[count][: len(sent[count]) // 2] if half else b""))
    await end(stream)
    return sum(count >= records_needed for records_needed in whole)


every_record = pytest.mark.parametrize("half", [False, True], ids=["between records", "within one"])


@every_record
@pytest.mark.parametrize("end", [end_sending, close])
async def test_a_client_takes_tls_without_close_notify_for_a_cut_at_every_record(
    half: bool, end: End
) -> None:
    for count in range(7 if half else 8):
        complete: list[int] = []

        async def meet(stream: trio.SocketStream, count: int = count, complete: list[int] = complete) -> None:
            async with stream:
                complete.append(await cut_after(count, half, stream, True, end))

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                port = await listen(nursery, meet)
                async with open_websocket_url(f"wss://localhost:{port}/", tls_contexts()[1]) as ws:
                    received, error = await receive_all(ws)
                nursery.cancel_scope.cancel()
        assert type(error) is ConnectionLost
        assert error.reason == CloseReason(1006)
        assert received == WHOLE[: len(received)]
        if end is end_sending:  # a reset may destroy what was not read
            assert complete == [len(received)]


@every_record
async def test_a_server_takes_tls_without_close_notify_for_a_cut_at_every_record(
    half: bool, caplog: pytest.LogCaptureFixture
) -> None:
    tell, told = trio.open_memory_channel[tuple[list[str | bytes], ConnectionClosed]](1)

    async def handler(request: WebSocketRequest) -> None:
        await tell.send(await receive_all(await request.accept()))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            server: WebSocketServer = await nursery.start(
                serve_websocket, handler, "127.0.0.1", 0, tls_contexts()[0]
            )
            for count in range(7 if half else 8):
                stream = await trio.open_tcp_stream("127.0.0.1", server.port)
                async with stream:
                    complete = await cut_after(count, half, stream, False, end_sending)
                received, error = await told.receive()
                assert type(error) is ConnectionLost
                assert error.reason == CloseReason(1006)
                assert received == WHOLE[:complete]
            nursery.cancel_scope.cancel()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_close_notify_without_a_close_frame_is_no_clean_end_either() -> None:
    async def meet(stream: trio.SocketStream) -> None:
        async with trio.SSLStream(stream, loopback_contexts()[0], server_side=True) as tls:
            peer = RawPeer(tls, Role.SERVER)
            await peer.handshake()
            await peer.send(encode_raw_frame(1, b"one") + encode_raw_frame(1, b"two", fin=False))
            plain = await tls.unwrap()  # sends close_notify
            assert plain[0] is stream
            await hear_out(stream)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            port = await listen(nursery, meet)
            async with open_websocket_url(f"wss://127.0.0.1:{port}/", loopback_contexts()[1]) as ws:
                received, error = await receive_all(ws)
            nursery.cancel_scope.cancel()
    assert received == ["one"]
    assert type(error) is ConnectionLost
    assert error.reason == CloseReason(1006)
