"""The client's side of the opening handshake (RFC 6455 4.1): request out, answer in, then a `Protocol`; knows no socket."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

import h11

from ._accel import Protocol
from ._errors import LocalProtocolError, RemoteProtocolError
from ._handshake import (
    HOST,
    VERSIONS,
    HandshakeFailed,
    HeadError,
    HeadReader,
    Request,
    Response,
    accept_value,
    parse_head,
    refuse_handshake_headers,
)
from ._headers import (
    Extension,
    ExtensionFactory,
    Headers,
    HeadersLike,
    check_subprotocols,
    encode_headers,
    format_extensions,
    parse_extensions,
    split_list,
)
from ._limits import Limits
from ._mask import MaskPool
from ._state import Role

#: Answers such as 102 or 103 that a server may send before the one that counts; nobody has a use for more.
MAX_INFORMATIONAL = 8

_TARGET = re.compile(r"[!-\"$-~]+")  # visible ASCII without "#": a fragment is never sent (RFC 6455 3)

#: What the handshake sets itself, and the argument that sets it.
_ARGUMENTS = {
    b"sec-websocket-protocol": "use subprotocols",
    b"sec-websocket-extensions": "use extensions",
    b"sec-websocket-version": "use version",
    b"sec-websocket-origin": "use origin",
}


class ClientHandshake:
    """One opening handshake, from its first byte to the `Protocol` that follows.

    Args:
        host: the `Host` header: host, and port unless it is the default of the scheme.
        target: path and query, percent-encoded, beginning with ``/``.
        key: 16 random bytes, fresh for each handshake.
        version: 13, or 8 for servers from before RFC 6455.
        origin: the `Origin` header; None sends none, as is right for whatever is not a browser.
        subprotocols: what to offer, best first.
        extra_headers: further headers; `Host` among them takes the place of `host`.
        extensions: what to offer, best first.
        limits: what the server may send, here and later.

    Raises:
        ValueError: a part of the request cannot be sent, or a header is the handshake's own.
        TypeError: `subprotocols` is a string, in which each character would be one.
    """

    def __init__(
        self,
        *,
        host: str,
        target: str,
        key: bytes,
        version: int = 13,
        origin: str | None = None,
        subprotocols: Iterable[str] = (),
        extra_headers: HeadersLike = (),
        extensions: Sequence[ExtensionFactory] = (),
        limits: Limits = Limits(),
    ) -> None:
        if isinstance(subprotocols, str):
            raise TypeError("subprotocols must be a list of strings: put the one string into a list")
        if version not in VERSIONS:
            raise ValueError(f"version must be 13 or 8, not {version}")
        if len(key) != 16:
            raise ValueError(f"key must be 16 random bytes (RFC 6455 4.1), not {len(key)}")
        if not _TARGET.fullmatch(target):
            raise ValueError(f"{target!r} cannot be asked for: percent-encode it, and leave out the fragment")
        #: What the server chose of the offers; once it has answered with 101.
        self.subprotocol: str | None = None
        self.extensions: tuple[Extension, ...] = ()
        self._key = base64.b64encode(key).decode()
        self._subprotocols = check_subprotocols(subprotocols)
        self._offered = {factory.name: factory for factory in extensions}
        self._limits = limits
        self._reader = HeadReader(limits)
        self._informational = 0
        self._response: Response | None = None  # known up to its head
        self._body = bytearray()
        self._complete = False
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.max_head)
        headers = self._headers(host, version, origin, extra_headers)
        self._asked = target, headers
        request = self._h11.send(h11.Request(method="GET", target=target, headers=headers))
        self._request = request + self._h11.send(h11.EndOfMessage())

    def _headers(
        self, host: str, version: int, origin: str | None, extra_headers: HeadersLike
    ) -> list[tuple[bytes, bytes]]:
        extra = encode_headers(extra_headers)
        refuse_handshake_headers(extra, _ARGUMENTS)
        hosts = [value.decode("latin-1") for name, value in extra if name.lower() == b"host"] or [host]
        if len(hosts) > 1 or not HOST.fullmatch(hosts[0]):
            raise ValueError(f"there must be one valid Host, not {hosts}")
        own = {
            "Host": hosts[0],
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": self._key,
            "Sec-WebSocket-Version": str(version),
        }
        if origin is not None:
            if any(name.lower() == b"origin" for name, _ in extra):
                raise ValueError("the Origin is given twice: use origin or the header")
            own["Origin" if version == 13 else "Sec-WebSocket-Origin"] = origin
        if self._subprotocols:
            own["Sec-WebSocket-Protocol"] = ", ".join(self._subprotocols)
        if self._offered:
            offers = [(name, factory.offer()) for name, factory in self._offered.items()]
            own["Sec-WebSocket-Extensions"] = format_extensions(offers)
        return [*encode_headers(own), *((name, value) for name, value in extra if name.lower() != b"host")]

    @property
    def request(self) -> Request:
        """The request, as a server sees it."""
        target, headers = self._asked
        return Request("GET", target, Headers((name.lower(), value) for name, value in headers))

    def request_bytes(self) -> bytes:
        """Return the request."""
        return self._request

    def receive_data(self, data: bytes) -> Response | None:
        """Take what the server sent, nothing meaning the end; return its answer once that is complete.

        A 101 that is returned has passed every check. The body of any other answer is cut at
        `Limits.max_response_body`, and the answer complete as soon as that is reached.

        Raises:
            HandshakeFailed: this is not HTTP, not a handshake, passes a limit, or ended too early.
            LocalProtocolError: the answer is complete: what comes behind it belongs to what follows the handshake.
        """
        if self._complete:
            raise LocalProtocolError("the answer is complete: what follows it is not part of the handshake")
        if self._response is not None:
            return self._receive_body(self._response, data)
        if not data:
            raise HandshakeFailed("the server closed the connection before it answered")
        try:
            return self._receive_head(data)
        except HeadError as exc:
            raise HandshakeFailed(str(exc)) from exc

    def _receive_head(self, data: bytes) -> Response | None:
        while (head := self._reader.feed(data)) is not None:
            event = cast("h11.InformationalResponse | h11.Response", parse_head(self._h11, head))
            data = self._reader.rest
            reason = event.reason.decode("latin-1")
            response = Response(event.status_code, Headers(event.headers), reason=reason)
            if response.status == 101:
                self._complete = True  # whatever comes of it: no second answer can mend a wrong one
                self._check(response, event.http_version)
                self._response = response
                return response
            if response.status >= 200:
                self._response = response
                return self._receive_body(response, data) if data else self._read_body(response)
            self._informational += 1
            if self._informational > MAX_INFORMATIONAL:
                raise HandshakeFailed("the server sends informational responses without end", response)
            self._reader = HeadReader(self._limits)
        return None

    def _receive_body(self, response: Response, data: bytes) -> Response | None:
        try:
            self._h11.receive_data(data)
            return self._read_body(response)
        except h11.RemoteProtocolError as exc:
            what = (
                "not valid HTTP"
                if data
                else "the server closed the connection before its answer was complete"
            )
            raise HandshakeFailed(
                f"{what}: {exc}", replace(response, body=bytes(self._body))
            ) from exc.with_traceback(None)  # as in `parse_head`

    def _read_body(self, response: Response) -> Response | None:
        while (room := self._limits.max_response_body - len(self._body)) > 0:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                return None
            if not isinstance(event, h11.Data):
                break
            self._body += event.data[:room]
        self._complete = True
        return replace(response, body=bytes(self._body))

    def _check(self, response: Response, http_version: bytes) -> None:
        """Hold a 101 to RFC 6455 4.1, second list."""
        headers = response.headers
        connection = [item.lower() for item in split_list(headers.get_all("connection"))]
        if not b"1.1" <= http_version < b"2":
            raise HandshakeFailed(f"Unexpected HTTP version: {http_version.decode()}", response)
        if [value.lower() for value in headers.get_all("upgrade")] != ["websocket"]:
            raise HandshakeFailed("Invalid Upgrade header", response)
        if "upgrade" not in connection:
            raise HandshakeFailed("Invalid Connection header", response)
        if headers.get_all("sec-websocket-accept") != [accept_value(self._key)]:
            raise HandshakeFailed("Invalid Sec-WebSocket-Accept header", response)
        self._check_subprotocol(response)
        self._check_extensions(response)

    def _check_subprotocol(self, response: Response) -> None:
        chosen = response.headers.get_all("sec-websocket-protocol")
        if chosen and not self._subprotocols:
            raise HandshakeFailed("Server sent a subprotocol but none was requested", response)
        if len(chosen) > 1 or not {*chosen} <= {*self._subprotocols}:
            raise HandshakeFailed("Server sent an invalid subprotocol", response)
        self.subprotocol = chosen[0] if chosen else None

    def _check_extensions(self, response: Response) -> None:
        values = response.headers.get_all("sec-websocket-extensions")
        if not values:
            return
        if not self._offered:
            detail = "Server sent a Sec-WebSocket-Extensions header but no extension was requested"
            raise HandshakeFailed(detail, response)
        try:
            chosen = parse_extensions(", ".join(values))
        except ValueError as exc:
            raise HandshakeFailed(f"Invalid Sec-WebSocket-Extensions header: {exc}", response) from exc
        names = [name for name, _ in chosen]
        if not {*names} <= self._offered.keys():
            raise HandshakeFailed("Server indicated an extension that was not requested", response)
        if len({*names}) < len(names):
            raise HandshakeFailed("Server indicated an extension more than once", response)
        try:
            self.extensions = tuple(self._offered[name].accept_response(params) for name, params in chosen)
        except RemoteProtocolError as exc:
            raise HandshakeFailed(f"Invalid Sec-WebSocket-Extensions header: {exc}", response) from exc

    def upgrade(self, *, masks: MaskPool) -> tuple[Protocol, bytes]:
        """Return the protocol that follows a 101, and what the server sent behind it.

        Raises:
            LocalProtocolError: there is no 101.
        """
        if self._response is None or self._response.status != 101:
            raise LocalProtocolError("the server has not switched protocols")
        protocol = Protocol(
            Role.CLIENT,
            masks=masks,
            limits=self._limits,
            subprotocol=self.subprotocol,
            extensions=self.extensions,
        )
        return protocol, self._reader.rest
