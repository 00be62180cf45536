"""What an evil server or proxy does to make a client wait: each way to stall the opening, with what leads a client there.

The same stalls are met on a clock that jumps, with whole seconds, and on the real one with tenths of seconds.
"""

import itertools
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import trio
import trustme

from trio_ws import ClientOptions
from trio_ws.protocol import Role
from trio_ws.testing import FaultyStream, RawPeer, handshake_response, stall

#: Speaks on one accepted stream; a drip is of one byte in so many seconds.
Script = Callable[[trio.SocketStream, float], Awaitable[object]]

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n"


@cache
def loopback_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's context for 127.0.0.1, a name that nobody needs to look up."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    # trustme's annotations name an optional dependency, which makes them partly unknown here.
    authority.issue_cert("127.0.0.1").configure_cert(server)  # pyright: ignore[reportUnknownMemberType]
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]
    return server, client


@dataclass(frozen=True)
class Stall:
    """One way to stall.

    Attributes:
        script: what the server, or the proxy, does.
        url: where the client goes; `{}` is the port.
        options: what else leads it there; in a string, `{}` is the port.
    """

    script: Script
    url: str = "ws://127.0.0.1:{}/"
    options: ClientOptions = field(default_factory=ClientOptions)


# Pieces of scripts


def peer_of(stream: trio.abc.Stream) -> RawPeer:
    return RawPeer(stream, Role.SERVER)


def dripping(stream: trio.abc.HalfCloseableStream, pause: float, after: int = 0) -> FaultyStream:
    """Return the stream with all that is sent behind so many bytes going out one by one."""

    async def nap(_: FaultyStream) -> None:
        await trio.sleep(pause)

    return FaultyStream(stream, send=itertools.chain([after], itertools.cycle([1, nap])))


async def nothing(stream: trio.SocketStream, pause: float) -> None:
    await trio.sleep_forever()


def stops_after(answer: bytes) -> Script:
    """Return a script that answers a request with the beginning of an answer."""

    async def script(stream: trio.SocketStream, pause: float) -> None:
        peer = peer_of(stream)
        await peer.receive_head()
        await peer.send(answer)

    return script


def drips(start: bytes, endless: bytes) -> Script:
    """Return a script that answers a request so, and then with this for ever, one byte after the other."""

    async def script(stream: trio.SocketStream, pause: float) -> None:
        await peer_of(stream).receive_head()
        await stream.send_all(start)
        for byte in itertools.cycle(endless):
            await stream.send_all(bytes([byte]))
            await trio.sleep(pause)

    return script


async def answers_all_but_the_last_byte(stream: trio.SocketStream, pause: float) -> None:
    peer = peer_of(stream)
    await peer.send(handshake_response(await peer.receive_head())[:-1])


async def redirects_just_in_time(stream: trio.SocketStream, pause: float) -> None:
    peer = peer_of(stream)
    head = await peer.receive_head()
    number = int(head.split(b" ")[1].removeprefix(b"/") or b"0")
    await trio.sleep(4 * pause)
    await peer.send(b"HTTP/1.1 302 Found\r\nLocation: /%d\r\nContent-Length: 0\r\n\r\n" % (number + 1))


# TLS


async def tls_hello_drips(stream: trio.SocketStream, pause: float) -> None:
    tls = trio.SSLStream(dripping(stream, pause), loopback_contexts()[0], server_side=True)
    await tls.do_handshake()


async def tls_stops_half_way(stream: trio.SocketStream, pause: float) -> None:
    half = FaultyStream(stream, send=[300, stall])
    tls = trio.SSLStream(half, loopback_contexts()[0], server_side=True)
    await tls.do_handshake()


async def tls_record_never_ends(stream: trio.SocketStream, pause: float) -> None:
    await stream.send_all(b"\x16\x03\x03\x40\x00\x02")  # 16 KiB announced, of which one byte comes
    for _ in itertools.count():
        await trio.sleep(pause)
        await stream.send_all(b"\0")


async def tls_then_nothing(stream: trio.SocketStream, pause: float) -> None:
    tls = trio.SSLStream(stream, loopback_contexts()[0], server_side=True)
    await peer_of(tls).receive_head()
    await trio.sleep_forever()


async def tls_then_drips(stream: trio.SocketStream, pause: float) -> None:
    tls = trio.SSLStream(stream, loopback_contexts()[0], server_side=True)
    await peer_of(tls).receive_head()
    for byte in itertools.cycle(SWITCHING):
        await tls.send_all(bytes([byte]))
        await trio.sleep(pause)


# Proxies


def after(start: bytes, script: Script) -> Script:
    """Return a script of a proxy that opens the tunnel, behind which the server does this."""

    async def both(stream: trio.SocketStream, pause: float) -> None:
        await peer_of(stream).receive_head()
        await stream.send_all(start)
        await script(stream, pause)

    return both


def socks(*steps: tuple[int, bytes], endless: bytes = b"") -> Script:
    """Return a script of a SOCKS proxy: after so many bytes of the client's it sends these, in the end drop by drop."""

    async def script(stream: trio.SocketStream, pause: float) -> None:
        peer = peer_of(stream)
        for size, answer in steps:
            await peer.receive_exactly(size)
            await peer.send(answer)
        for byte in endless:
            await peer.send(bytes([byte]))
            await trio.sleep(pause)

    return script


def by_proxy(scheme: str, script: Script, user: str = "", url: str = "ws://server.example/") -> Stall:
    return Stall(script, url, {"proxy": f"{scheme}://{user}127.0.0.1:{{}}"})


def over_tls(script: Script) -> Stall:
    return Stall(script, "wss://127.0.0.1:{}/")


#: A user of 3 and a password of 6 letters: the client's second message has 3 + 3 + 6 bytes.
USER = "ann:secret@"

STALLS: dict[str, Stall] = {
    # the handshake
    "accepted, and silent": Stall(nothing),
    "request is not even read": Stall(nothing, options={"extra_headers": {"X": "y" * 2**24}}),
    "101 that drips": Stall(drips(SWITCHING[:9], SWITCHING[9:])),
    "101 with headers for ever": Stall(drips(SWITCHING, b"X: y\r\n")),
    "101 without its last byte": Stall(answers_all_but_the_last_byte),
    "informational answers for ever": Stall(drips(b"HTTP/1.1 103 Early Hints\r\n", b"Link: </x>\r\n")),
    "refusal whose body drips": Stall(drips(b"HTTP/1.1 403 No\r\nContent-Length: 60000\r\n\r\n", b"x")),
    "refusal whose body never comes": Stall(stops_after(b"HTTP/1.1 401 No\r\nContent-Length: 5\r\n\r\n")),
    "refusal whose chunks drip": Stall(
        drips(b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n")
    ),
    "refusal whose body has no end": Stall(drips(b"HTTP/1.1 500 No\r\n\r\n", b"x")),
    "redirects, each just in time": Stall(redirects_just_in_time, options={"max_redirects": 1000}),
    "redirect whose body drips": Stall(
        drips(b"HTTP/1.1 302 No\r\nLocation: /a\r\nContent-Length: 60000\r\n\r\n", b"x"),
        options={"max_redirects": 5},
    ),
    # TLS
    "TLS without an answer": over_tls(nothing),
    "TLS hello that drips": over_tls(tls_hello_drips),
    "TLS that stops half-way": over_tls(tls_stops_half_way),
    "TLS record without end": over_tls(tls_record_never_ends),
    "TLS, then silence": over_tls(tls_then_nothing),
    "TLS, then a 101 that drips": over_tls(tls_then_drips),
    # proxies
    "HTTP proxy, silent": by_proxy("http", nothing),
    "HTTP proxy's answer drips": by_proxy("http", drips(ESTABLISHED, b"X: y\r\n")),
    "HTTP proxy's refusal drips": by_proxy(
        "http", drips(b"HTTP/1.1 407 No\r\nContent-Length: 60000\r\n\r\n", b"x")
    ),
    "HTTP proxy's informational answers for ever": by_proxy(
        "http", drips(b"HTTP/1.1 103 Early Hints\r\n", b"Link: </x>\r\n")
    ),
    "HTTPS proxy, TLS without an answer": by_proxy("https", nothing),
    "HTTPS proxy, TLS hello that drips": by_proxy("https", tls_hello_drips),
    "HTTPS proxy, TLS, then an answer that drips": by_proxy("https", tls_then_drips),
    "tunnel, then silence": by_proxy("http", stops_after(ESTABLISHED + b"\r\n")),
    "tunnel, then a 101 that drips": by_proxy(
        "http", after(ESTABLISHED + b"\r\n", drips(SWITCHING, b"X: y\r\n"))
    ),
    "tunnel, then TLS that drips": by_proxy(
        "http", after(ESTABLISHED + b"\r\n", tls_hello_drips), url="wss://127.0.0.1/"
    ),
    "SOCKS5, silent": by_proxy("socks5h", nothing),
    "SOCKS5, half a choice": by_proxy("socks5h", socks((3, b"\5"))),
    "SOCKS5, no word on the user": by_proxy("socks5h", socks((4, b"\5\2"), (12, b"")), USER),
    "SOCKS5, half a word on the user": by_proxy("socks5h", socks((4, b"\5\2"), (12, b"\1")), USER),
    "SOCKS5, no answer": by_proxy("socks5h", socks((3, b"\5\0"))),
    "SOCKS5, an answer that drips": by_proxy(
        "socks5h", socks((3, b"\5\0"), endless=b"\5\0\0\3\xff" + b"a" * 257)
    ),
    "SOCKS5, then silence": by_proxy("socks5h", socks((3, b"\5\0"), (21, b"\5\0\0\1" + bytes(6)))),
    "SOCKS4, silent": by_proxy("socks4a", nothing),
    "SOCKS4, half an answer": by_proxy("socks4a", socks((9, b"\0\x5a"))),
}


# What leads there


async def listen(nursery: trio.Nursery, meet: Callable[[trio.SocketStream], Awaitable[object]]) -> int:
    """Have every client of a port of the loopback met; return the port."""

    async def serve(task_status: trio.TaskStatus[list[trio.SocketListener]]) -> None:
        await trio.serve_tcp(meet, 0, host="127.0.0.1", task_status=task_status)

    [listener] = await nursery.start(serve)
    return int(listener.socket.getsockname()[1])


@asynccontextmanager
async def evil_server(script: Callable[[RawPeer], Awaitable[object]], tls: bool) -> AsyncGenerator[str]:
    """A server that does so behind the opening handshake; yields its URL. What it leaves open stays open to the end."""

    async def meet(stream: trio.SocketStream) -> None:
        async with stream:
            outer = trio.SSLStream(stream, loopback_contexts()[0], server_side=True) if tls else stream
            peer = RawPeer(outer, Role.SERVER)
            with suppress(trio.BrokenResourceError):
                await peer.handshake()
                await script(peer)
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        yield f"ws{'s' * tls}://127.0.0.1:{await listen(nursery, meet)}/"
        nursery.cancel_scope.cancel()


async def _serve(stall: Stall, pause: float, stream: trio.SocketStream) -> None:
    """Play the script, then hear the client to its end, which must come."""
    async with stream:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stall.script(stream, pause)
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some(65536):
                pass


@asynccontextmanager
async def stalling(name: str, pause: float) -> AsyncGenerator[tuple[str, ClientOptions]]:
    """A server or proxy that stalls so; yields the URL to open, and the options for it."""
    found = STALLS[name]

    async with trio.open_nursery() as nursery:

        async def meet(stream: trio.SocketStream) -> None:
            await _serve(found, pause, stream)

        port = await listen(nursery, meet)
        options = found.options.copy()
        if isinstance(proxy := options.get("proxy"), str):
            options["proxy"] = proxy.format(port)
            if proxy.startswith("https"):
                options["proxy_ssl_context"] = loopback_contexts()[1]
        yield found.url.format(port), options
        nursery.cancel_scope.cancel()


class SlowNames(trio.abc.HostnameResolver):
    """A name server that takes its time, and finds every name on this machine."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def getaddrinfo(self, *args: Any, **_: Any) -> list[Any]:
        await trio.sleep(self.seconds)
        return socket.getaddrinfo("127.0.0.1", args[1], type=socket.SOCK_STREAM)

    async def getnameinfo(self, *_: Any, **__: Any) -> tuple[str, str]:
        raise AssertionError("nobody asks for the names of addresses")


@asynccontextmanager
async def full_backlog() -> AsyncGenerator[int]:
    """A port whose queue is full: Linux drops what wants to connect, as a firewall does."""
    async with AsyncExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        port = sock.getsockname()[1]
        await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
        yield port
