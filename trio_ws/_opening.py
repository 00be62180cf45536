"""The opening handshake on a stream that is connected, as a client; knows nothing of how the stream came about."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import trio

from ._connection import WebSocketConnection, announce, class_of, masks
from ._errors import HandshakeError
from .protocol import ChosenMasks, ClientHandshake, HandshakeFailed, HeadersLike, Response, encode_headers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._config import ClientConfig

    Pairs = Sequence[tuple[bytes, bytes]]


class Opening:
    """One opening handshake to be done.

    Args:
        host: the `Host` header.
        target: path and query.
        headers: what the caller gives besides.
        config: how the request is made, and what the connection will be.

    Raises:
        ValueError: a part of the request cannot be sent.
    """

    def __init__(self, host: str, target: str, headers: Pairs, config: ClientConfig) -> None:
        self._target = target
        self._headers = headers
        self._config = config
        self._make = partial(
            ClientHandshake,
            host=host,
            target=target,
            key=os.urandom(16),
            version=config.protocol_version,
            origin=config.origin,
            subprotocols=config.offers,
            extensions=config.negotiable,
            limits=config.limits,
        )
        self._handshake = self._make(extra_headers=headers)

    async def shake_hands(
        self, nursery: trio.Nursery, stream: trio.abc.Stream, url: str
    ) -> WebSocketConnection | Response:
        """Take over `stream`, and return the connection to `url`, or what the server answered if there is none.

        Raises:
            HandshakeError: the handshake failed.
            ValueError: what `prepare_request` returned cannot be sent.

        Cancellation: the stream is closed, as it is whenever no connection comes of it.
        """
        try:
            await self._prepare()
            response = await self._exchange(stream)
            if response.status == 101:
                generate = self._config.generate_mask
                pool = masks if generate is None else ChosenMasks(generate)
                protocol, leftover = self._handshake.upgrade(masks=pool)
                connection = class_of(self._config)(
                    nursery,
                    stream,
                    protocol,
                    self._config,
                    url=url,
                    path=self._target,
                    leftover=leftover,
                    response=response,
                )
                return announce(connection)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        await trio.aclose_forcefully(stream)
        return response

    async def _prepare(self) -> None:
        """Let the application have its last word on the headers."""
        hook = self._config.prepare_request
        if hook is not None and (late := await hook(self._handshake.request)) is not None:
            self._handshake = self._make(extra_headers=_replaced(self._headers, late))

    async def _exchange(self, stream: trio.abc.Stream) -> Response:
        try:
            await stream.send_all(self._handshake.request_bytes())
            while True:
                data = await stream.receive_some(65536)
                if response := self._handshake.receive_data(bytes(data)):
                    return response
        except HandshakeFailed as exc:
            raise HandshakeError(str(exc)) from exc
        except trio.BrokenResourceError as exc:
            raise HandshakeError("the connection broke before the handshake was complete") from exc


def _replaced(headers: Pairs, late: HeadersLike) -> Pairs:
    """Return `headers` with those of `late` in the place of any that have the same name."""
    pairs = encode_headers(late)
    names = {name.lower() for name, _ in pairs}
    return [*((name, value) for name, value in headers if name.lower() not in names), *pairs]
