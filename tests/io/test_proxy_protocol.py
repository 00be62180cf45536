"""The PROXY protocol: both versions of its header in any pieces, all that is none, and servers that ask for it."""

import ipaddress
import logging
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from tests.io.api_kit import serving, serving_in_memory
from tests.io.transport_kit import tls_contexts
from trio_ws import (
    ConnectionTimeout,
    Endpoint,
    HandshakeError,
    WebSocketRequest,
    WebSocketServer,
    wrap_client_stream,
    wrap_server_stream,
)
from trio_ws.protocol import Role
from trio_ws.testing import FaultyStream, RawPeer, fail, handshake_request
from trio_ws.transport import PolledListener, ProxyProtocolError, open_unix_listener, read_proxy_header
from trio_ws.transport._proxy_protocol import MAX_LINE, MAX_REST, missing

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
SOURCE_4, SOURCE_6 = bytes([192, 0, 2, 1]), ipaddress.IPv6Address("2001:db8::1").packed
TCP_4 = SOURCE_4 + bytes([10, 0, 0, 1]) + b"\xde\xad" + b"\x00\x50"
TCP_6 = SOURCE_6 + ipaddress.IPv6Address("::1").packed + b"\xbe\xef" + b"\x01\xbb"
LINE = b"PROXY TCP4 192.0.2.1 10.0.0.1 57005 80\r\n"
BEHIND = b"GET / HTTP/1.1\r\n"


def version_2(rest: bytes, command: int = 0x21, family: int = 0x11, size: int | None = None) -> bytes:
    """Return a header of version 2, right or wrong."""
    size = len(rest) if size is None else size
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big") + rest


async def read(pieces: list[bytes]) -> tuple[str, int] | None:
    """Read a header that comes in pieces, and see that what is behind it stays where it is."""
    near, far = trio.testing.memory_stream_pair()
    outcome: tuple[str, int] | None = None
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            for piece in pieces:
                await near.send_all(piece)
                await trio.testing.wait_all_tasks_blocked()
            await near.send_eof()

        nursery.start_soon(send)
        found = await read_proxy_header(far)
        outcome = None if found is None else (str(found[0]), found[1])
        rest = b"".join([bytes(part) async for part in far])
        assert rest == BEHIND
    return outcome


def outcome_of(pieces: list[bytes]) -> tuple[str, int] | type[ProxyProtocolError] | None:
    async def main() -> tuple[str, int] | type[ProxyProtocolError] | None:
        found: tuple[str, int] | type[ProxyProtocolError] | None
        try:
            found = await read(pieces)
        except* ProxyProtocolError:
            found = ProxyProtocolError
        return found

    return trio.run(main)


GOOD = [
    (LINE, ("192.0.2.1", 57005)),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", ("0.0.0.0", 0)),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65535)),
    (b"PROXY TCP6 :: :: 0 0\r\n", ("::", 0)),
    (b"PROXY TCP6 2001:DB8::1 ::ffff:1.2.3.4 1 2\r\n", ("2001:db8::1", 1)),
    (
        b"PROXY TCP6 " + b" ".join([b"ffff" + b":ffff" * 7] * 2) + b" 65535 65535\r\n",
        ("ffff" + ":ffff" * 7, 65535),
    ),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN " + b" ".join([b"ffff" + b":ffff" * 7] * 2) + b" 65535 65535\r\n", None),
    (b"PROXY UNKNOWN x\r\n", None),
    (b"PROXY UNKNOWN \r\r\r\n", None),
    (version_2(TCP_4), ("192.0.2.1", 0xDEAD)),
    (version_2(TCP_6, family=0x21), ("2001:db8::1", 0xBEEF)),
    (version_2(TCP_4 + b"\x04\x00\x01x"), ("192.0.2.1", 0xDEAD)),
    (version_2(TCP_4 + bytes(MAX_REST - 12)), ("192.0.2.1", 0xDEAD)),
    # the proxy's own connection, and what is not TCP
    (version_2(b"", command=0x20, family=0), None),
    (version_2(TCP_4, command=0x20), None),
    (version_2(b"", family=0), None),
    (version_2(TCP_4, family=0x12), None),
    (version_2(bytes(216), family=0x31), None),
]

BAD = [
    b"",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PROXY",
    b"proxy TCP4 192.0.2.1 10.0.0.1 57005 80\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 57005 80",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 57005 80\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 57005 80\r",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 57005 80 \r\n",
    b"PROXY TCP4  192.0.2.1 10.0.0.1 57005 80\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 57005\r\n" + BEHIND,
    b"PROXY TCP4 192.0.2.1 10.0.0.1 057005 80\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 80\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 80 65536\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 -1 80\r\n" + BEHIND,
    b"PROXY TCP4 192.0.2.256 10.0.0.1 57005 80\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.256 57005 80\r\n",
    b"PROXY TCP4 2001:db8::1 2001:db8::2 57005 80\r\n",
    b"PROXY TCP6 192.0.2.1 10.0.0.1 57005 80\r\n",
    b"PROXY TCP6 fe80::1%lo fe80::1 57005 80\r\n",
    b"PROXY TCP5 192.0.2.1 10.0.0.1 57005 80\r\n",
    b"PROXY UDP4 192.0.2.1 10.0.0.1 57005 80\r\n",
    b"PROXY TCP4 \r\n" + BEHIND,
    b"PROXY UNKNOWNS\r\n",
    b"PROXY UNKNOWN" + b"x" * MAX_LINE,
    b"PROXY UNKNOWN " + b"x" * (MAX_LINE - 15) + b"\r\n",
    SIGNATURE,
    SIGNATURE[:-1] + b"\r" + bytes(4),
    version_2(TCP_4)[:-1],
    version_2(TCP_4[:-1]),
    version_2(TCP_6[:-1], family=0x21),
    version_2(TCP_4, command=0x11),
    version_2(TCP_4, command=0x31),
    version_2(TCP_4, command=0x22),
    version_2(TCP_4, family=0x13),
    version_2(TCP_4, family=0x41),
    version_2(TCP_4, size=MAX_REST + 1),
    version_2(TCP_4, size=0xFFFF),
]


def cut(data: bytes, places: set[int]) -> list[bytes]:
    return [data[start:end] for start, end in pairwise(sorted({0, len(data), *places})) if start < end]


@pytest.mark.parametrize(("header", "expected"), GOOD)
async def test_headers(header: bytes, expected: tuple[str, int] | None) -> None:
    assert await read([header + BEHIND]) == expected
    assert await read([header, BEHIND]) == expected


@given(st.sampled_from(GOOD), st.sets(st.integers(0, 130), max_size=8))
@example((GOOD[0][0], GOOD[0][1]), set(range(130)))
@example((GOOD[10][0], GOOD[10][1]), set(range(130)))
def test_pieces_make_no_difference(case: tuple[bytes, tuple[str, int] | None], places: set[int]) -> None:
    header, expected = case
    data = header + BEHIND
    assert outcome_of(cut(data, {place % len(data) for place in places})) == expected


@pytest.mark.parametrize("header", BAD)
async def test_what_is_no_header(header: bytes) -> None:
    for pieces in ([header], cut(header, set(range(len(header))))):
        near, far = trio.testing.memory_stream_pair()
        for piece in pieces:
            await near.send_all(piece)
        await near.send_eof()
        with pytest.raises(ProxyProtocolError):
            await read_proxy_header(far)


BEGINNINGS = [
    b"",
    b"PROXY ",
    b"PROXY TCP4 ",
    b"PROXY TCP6 ",
    b"PROXY UNKNOWN",
    SIGNATURE,
    SIGNATURE + b"\x21",
]


@given(
    st.one_of(
        st.binary(max_size=40).map(lambda rest: [b"", rest]),
        st.tuples(st.sampled_from(BEGINNINGS), st.binary(max_size=60)).map(list),
        st.tuples(
            st.sampled_from(BEGINNINGS), st.text(" :.0123456789af\r\n", max_size=110).map(str.encode)
        ).map(list),
    ),
    st.sets(st.integers(0, 150), max_size=6),
)
def test_garbage_has_one_outcome_however_it_is_cut(parts: list[bytes], places: set[int]) -> None:
    data = b"".join(parts)

    async def main(pieces: list[bytes]) -> object:
        near, far = trio.testing.memory_stream_pair()
        for piece in pieces:
            await near.send_all(piece)
        await near.send_eof()
        try:
            found = await read_proxy_header(far)
        except ProxyProtocolError:
            return "no header"
        return found, b"".join([bytes(part) async for part in far])

    whole = trio.run(main, [data])
    assert trio.run(main, cut(data, {place % (len(data) + 1) for place in places})) == whole


@given(st.sampled_from(GOOD), st.data())
def test_no_byte_is_asked_for_that_may_be_of_something_else(
    case: tuple[bytes, tuple[str, int] | None], data: st.DataObject
) -> None:
    header, _ = case
    seen = data.draw(st.integers(0, len(header)))
    wanted = missing(header[:seen])
    assert 0 <= wanted <= len(header) - seen
    assert (wanted == 0) == (seen == len(header))


def test_what_is_too_long_is_not_waited_for() -> None:
    for header in (version_2(b"", size=MAX_REST + 1), b"PROXY UNKNOWN " + b"x" * (MAX_LINE - 15)):
        with pytest.raises(ProxyProtocolError):
            missing(header)


# On servers


async def tell(request: WebSocketRequest) -> None:
    """Tell the client who it is taken for."""
    ws = await request.accept()
    assert ws.remote == request.remote
    await ws.send_message(f"{request.remote} {request.client == request.remote}")


def endpoint(address: str, port: int, *, is_ssl: bool = False) -> Endpoint:
    return Endpoint(ipaddress.ip_address(address), port, is_ssl)


CLIENT = endpoint("192.0.2.1", 57005)


async def told(stream: trio.abc.Stream, *, forwarded: str = "198.51.100.1") -> str:
    """Return what a server says on a connection on which the header was sent."""
    async with trio.open_nursery() as nursery:
        headers = {"X-Forwarded-For": forwarded}
        ws = await wrap_client_stream(nursery, stream, "localhost", "/", extra_headers=headers)
        message = await ws.get_message()
        assert isinstance(message, str)
        await ws.aclose()
        return message


Connect = Callable[[], Awaitable[trio.abc.Stream]]


@asynccontextmanager
async def connecting(**options: object) -> AsyncGenerator[Connect]:
    """A server on the loopback, and what connects to it."""
    async with serving(tell, **options) as server:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # whatever is to be tried

        async def connect() -> trio.abc.Stream:
            return await trio.open_tcp_stream("127.0.0.1", server.port)

        yield connect


@pytest.mark.parametrize("header", [LINE, version_2(TCP_4)])
async def test_over_tcp(header: bytes) -> None:
    async with connecting(proxy_protocol=True) as connect:
        stream = await connect()
        await stream.send_all(header)
        assert await told(stream) == f"{CLIENT} True"


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", version_2(b"", command=0x20, family=0)])
async def test_what_a_proxy_says_of_itself(header: bytes) -> None:
    async with connecting(proxy_protocol=True) as connect:
        stream = await connect()
        assert isinstance(stream, trio.SocketStream)
        port = stream.socket.getsockname()[1]
        await stream.send_all(header)
        assert await told(stream) == f"{endpoint('127.0.0.1', port)} True"


@pytest.mark.parametrize("header", [LINE, version_2(TCP_4)])
async def test_header_and_request_in_one_piece_and_byte_by_byte(header: bytes) -> None:
    data = header + handshake_request()
    async with connecting(proxy_protocol=True) as connect:
        for pieces in ([data], cut(data, set(range(len(data))))):
            stream = await connect()
            assert isinstance(stream, trio.SocketStream)
            stream.setsockopt(6, 1, 1)
            for piece in pieces:
                await stream.send_all(piece)
                await trio.lowlevel.checkpoint()
            peer = RawPeer(stream, Role.CLIENT)
            assert (await peer.receive_head()).startswith(b"HTTP/1.1 101 ")
            frame = await peer.receive_frame()
            assert frame is not None
            assert frame.payload.decode() == f"{CLIENT} True"
            await peer.aclose()


@pytest.mark.parametrize("header", [LINE, version_2(TCP_4)])
@pytest.mark.parametrize("is_polled", [False, True])
async def test_before_tls(header: bytes, is_polled: bool) -> None:
    server_context, client_context = tls_contexts()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        server: WebSocketServer = await nursery.start(
            WebSocketServer(
                tell,
                [
                    trio.SSLListener(PolledListener(listener) if is_polled else listener, server_context)
                    for listener in listeners
                ],
                proxy_protocol=True,
            ).run
        )
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        await stream.send_all(header)
        tls = trio.SSLStream(stream, client_context, server_hostname="localhost")
        assert await told(tls) == f"{endpoint('192.0.2.1', 57005, is_ssl=True)} True"
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        with pytest.raises(trio.BrokenResourceError):
            await trio.SSLStream(stream, client_context, server_hostname="localhost").do_handshake()
        await stream.aclose()
        await server.aclose(drain=1)


async def test_in_memory() -> None:
    for pieces in ([LINE + handshake_request()], cut(LINE + handshake_request(), {3, 20, 45, 80})):
        near, far = trio.testing.memory_stream_pair()
        for piece in pieces:
            await near.send_all(piece)
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, far, proxy_protocol=True)
            assert request.remote == request.client == CLIENT
            assert "Memory" in str(request.local)
            await near.send_eof()
            await request.reject(403)


@pytest.mark.skipif(sys.platform == "win32", reason="Python has no Unix sockets there")
@pytest.mark.parametrize(
    ("trusted", "expected"),
    [
        ((), f"{CLIENT} True"),
        (("unix",), f"{CLIENT} True"),
        (("unix", "192.0.2.0/24"), f"{CLIENT} False"),
        (("10.0.0.0/8",), None),
    ],
)
async def test_over_unix_sockets(tmp_path: Path, trusted: tuple[str, ...], expected: str | None) -> None:
    listener = await open_unix_listener(tmp_path / "socket")
    server = WebSocketServer(tell, [listener], proxy_protocol=True, trusted_proxies=trusted)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        stream = await trio.open_unix_socket(str(tmp_path / "socket"))
        if expected is None:
            assert await told(stream) == " True"
        else:
            await stream.send_all(LINE)
            assert await told(stream) == expected
        await server.aclose(drain=1)


async def test_only_trusted_proxies_send_it() -> None:
    async with connecting(proxy_protocol=True, trusted_proxies=["10.0.0.0/8"]) as connect:
        assert (await told(await connect())).startswith("Endpoint(address=IPv4Address('127.0.0.1')")
        stream = await connect()
        await stream.send_all(LINE + handshake_request())
        assert (await RawPeer(stream, Role.CLIENT).receive_head()).startswith(b"HTTP/1.1 400 ")
        await stream.aclose()


@pytest.mark.parametrize(
    ("trusted", "is_believed"), [(["127.0.0.1"], False), (["127.0.0.1", "192.0.2.1"], True)]
)
async def test_headers_count_if_the_one_who_is_named_is_trusted(
    trusted: list[str], is_believed: bool
) -> None:
    async with connecting(proxy_protocol=True, trusted_proxies=trusted) as connect:
        stream = await connect()
        await stream.send_all(LINE)
        assert await told(stream) == f"{CLIENT} {not is_believed}"


@pytest.mark.parametrize("header", [handshake_request(), *(each for each in BAD if each)])
async def test_without_a_header_the_connection_is_cut(
    header: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving_in_memory(tell, proxy_protocol=True) as (server, listener):
        stream = listener.connect()
        await stream.send_all(header)
        await trio.testing.wait_all_tasks_blocked()
        if isinstance(stream, trio.StapledStream):
            await stream.send_eof()
        assert await stream.receive_some() == b""
        await stream.aclose()
        assert server.connections == set()
    assert caplog.records == []


async def test_a_proxy_that_says_nothing(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    for begin in (b"", LINE[:12], LINE[:-1], SIGNATURE, version_2(TCP_4)[:-1]):
        near, far = trio.testing.memory_stream_pair()
        await near.send_all(begin)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            with pytest.raises(ConnectionTimeout, match="no header of the PROXY protocol came within 3"):
                await wrap_server_stream(nursery, far, proxy_protocol=True, connect_timeout=3)
        assert trio.current_time() == began + 3
        assert await near.receive_some() == b""


async def test_header_and_request_share_their_time(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    near, far = trio.testing.memory_stream_pair()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            await trio.sleep(2)
            await near.send_all(LINE)

        nursery.start_soon(send)
        with pytest.raises(ConnectionTimeout):
            await wrap_server_stream(nursery, far, proxy_protocol=True, connect_timeout=3)
    assert trio.current_time() == began + 3


async def test_a_proxy_that_leaves() -> None:
    near, far = trio.testing.memory_stream_pair()
    await near.send_all(LINE[:20])
    await trio.aclose_forcefully(near)
    async with trio.open_nursery() as nursery:
        with pytest.raises(HandshakeError, match="no header of the PROXY protocol"):
            await wrap_server_stream(nursery, far, proxy_protocol=True)
    with pytest.raises(trio.ClosedResourceError):
        await far.send_all(b"x")


async def test_a_connection_that_breaks() -> None:
    stream = FaultyStream(trio.testing.memory_stream_pair()[0], receive=[fail])
    async with trio.open_nursery() as nursery:
        with pytest.raises(HandshakeError, match="no header of the PROXY protocol"):
            await wrap_server_stream(nursery, stream, proxy_protocol=True)


async def test_cancelled_while_the_header_comes() -> None:
    near, far = trio.testing.memory_stream_pair()
    await near.send_all(LINE[:20])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(wrap_server_stream, nursery, far, proxy_protocol=True))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (await near.receive_some()).startswith(b"HTTP/1.1 503 ")
    assert await near.receive_some() == b""
