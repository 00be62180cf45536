"""The opening handshake on a stream that is connected, as a client; knows nothing of how the stream came about."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from ._connection import WebSocketConnection, masks
from ._errors import ConnectionRejected, HandshakeError
from .protocol import ClientHandshake, HandshakeFailed, HeadersLike, Response, encode_headers

if TYPE_CHECKING:
    from ._config import ClientConfig


def prepare(
    host: str, target: str, config: ClientConfig, authorization: str | None = None
) -> ClientHandshake:
    """Return the handshake to be done; what is wrong with it is told before anything is opened."""
    return ClientHandshake(
        host=host,
        target=target,
        key=os.urandom(16),
        version=config.protocol_version,
        origin=config.origin,
        subprotocols=config.subprotocols or (),
        extra_headers=_with_authorization(config.extra_headers or (), authorization),
        extensions=config.extensions,
        limits=config.limits,
    )


async def shake_hands(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    handshake: ClientHandshake,
    config: ClientConfig,
    url: str,
    target: str,
) -> WebSocketConnection:
    """Take over `stream`, do the opening handshake on it and return the connection."""
    try:
        response = await _exchange(stream, handshake)
        if response.status != 101:
            raise ConnectionRejected(response.status, response.headers, response.body or None)
        protocol, leftover = handshake.upgrade(masks=masks)
        return WebSocketConnection(
            nursery, stream, protocol, config, url=url, path=target, leftover=leftover, response=response
        )
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


async def _exchange(stream: trio.abc.Stream, handshake: ClientHandshake) -> Response:
    try:
        await stream.send_all(handshake.request_bytes())
        while True:
            data = await stream.receive_some(65536)
            if response := handshake.receive_data(bytes(data)):
                return response
    except HandshakeFailed as exc:
        raise HandshakeError(str(exc)) from exc
    except trio.BrokenResourceError as exc:
        raise HandshakeError("the connection broke before the handshake was complete") from exc


def _with_authorization(headers: HeadersLike, authorization: str | None) -> HeadersLike:
    """Add what the URL says, unless the caller says otherwise."""
    pairs = encode_headers(headers)
    if authorization is None or any(name.lower() == b"authorization" for name, _ in pairs):
        return pairs
    return [*pairs, (b"Authorization", authorization.encode())]
