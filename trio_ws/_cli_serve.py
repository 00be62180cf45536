"""``python -m trio_ws serve``: an echo server, and a page to talk to it; knows nothing of clients.

The page is answered on the same port, to whatever does not ask for an upgrade.
"""

from __future__ import annotations

import base64
import hashlib
import re
import signal
import ssl
from functools import cache, partial
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING

import trio

from . import Endpoint, Headers, Response, WebSocketServer
from ._cli_screen import Status, complain, describe, reason_of, remark, show
from .transport import PolledListener, open_tcp_listeners, open_unix_listener

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from . import Request, WebSocketRequest

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8765


async def serve(options: argparse.Namespace) -> Status:
    """Serve until SIGINT or SIGTERM, then tell the clients 1001; a second signal is not waited for.

    Args:
        options: `host`, `port`, `unix`, `tls` and `verbose`, as the parser makes them.

    Cancellation: as for `WebSocketServer.run`.
    """
    if options.unix and (options.host or options.port is not None):
        complain("--unix takes the place of --host and --port")
        return Status.USAGE
    if options.tls and len(options.tls) > 2:
        complain("--tls takes one file or two, the certificate and its key")
        return Status.USAGE
    try:
        listeners = await _listen(options)
    except (OSError, RuntimeError) as exc:  # the latter where there are no Unix sockets
        complain(f"cannot listen: {reason_of(exc)}")
        return Status.NO_CONNECTION
    server = WebSocketServer(
        partial(_echo, verbose=options.verbose),
        listeners,
        process_request=partial(_answer, verbose=options.verbose),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            show(f"listening on {' and '.join(browsable(where) for where in server.listeners)}")
            await anext(aiter(signals))
        await server.aclose()
    return Status.OK


async def _listen(options: argparse.Namespace) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
    context = None
    if options.tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*options.tls)
    listeners: Sequence[trio.abc.Listener[trio.SocketStream]]
    if options.unix:
        listeners = [await open_unix_listener(options.unix)]
    else:
        port = DEFAULT_PORT if options.port is None else options.port
        listeners = await open_tcp_listeners(port, host=options.host or DEFAULT_HOST)
    if context is None:
        return listeners
    return [trio.SSLListener(PolledListener(listener), context) for listener in listeners]


def browsable(where: Endpoint | str) -> str:
    """Return what to open in a browser; for a Unix socket its path."""
    if isinstance(where, str):
        return where
    # "All interfaces" is an address to listen on, not one to go to.
    host = "localhost" if where.address.is_unspecified else str(where.address)
    return f"http{'s' * where.is_ssl}://{f'[{host}]' if ':' in host else host}:{where.port}/"


async def _echo(request: WebSocketRequest, *, verbose: bool) -> None:
    # A browser fails the connection if none of the subprotocols that a page asks for is taken.
    ws = await request.accept(subprotocol=next(iter(request.proposed_subprotocols), None))
    if verbose:
        remote = ws.remote
        address = f" from {remote.address} port {remote.port}" if isinstance(remote, Endpoint) else ""
        remark(f"{ws} opened {ws.path}{address}")
    try:
        async for message in ws:
            await ws.send_message(message)
    finally:
        if verbose:
            remark(f"{ws} closed: {describe(ws.closed)}")


async def _answer(request: Request, *, verbose: bool) -> Response | None:
    """Answer a plain browser; what asks for an upgrade is left to the handshake."""
    if request.headers.get("upgrade") is not None:
        return None
    if request.method not in ("GET", "HEAD"):
        response = _plain(HTTPStatus.METHOD_NOT_ALLOWED, (b"allow", b"GET, HEAD"))
    elif request.path == "/":
        response = _page()
    elif request.path == "/favicon.ico":  # browsers ask for one, whatever the page says
        response = Response(HTTPStatus.NO_CONTENT, Headers())
    else:
        response = _plain(HTTPStatus.NOT_FOUND)
    if verbose:
        remark(f"{request.method} {request.path}: {response.status}")
    return response


def _plain(status: HTTPStatus, *headers: tuple[bytes, bytes]) -> Response:
    content_type = (b"content-type", b"text/plain; charset=utf-8")
    return Response(status, Headers([content_type, *headers]), f"{status.phrase}\n".encode())


@cache
def _page() -> Response:
    """Return the page, with a policy under which nothing else can load or run in it."""
    page = (files("trio_ws") / "_page.html").read_bytes()
    policy = [
        b"default-src 'none'",
        b"style-src " + _hash_of(b"style", page),
        b"script-src " + _hash_of(b"script", page),
        b"connect-src 'self'",
        b"base-uri 'none'",
        b"form-action 'none'",
        b"frame-ancestors 'none'",
    ]
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", b"; ".join(policy)),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-store"),
    ]
    return Response(HTTPStatus.OK, Headers(headers), page)


def _hash_of(element: bytes, page: bytes) -> bytes:
    """Return the source expression that admits the text of the one such element (CSP 3, 8.3)."""
    text = re.findall(b"<%b>(.*?)</%b>" % (element, element), page, re.DOTALL)[0]
    return b"'sha256-%b'" % base64.b64encode(hashlib.sha256(text).digest())
