"""The server's side of the opening handshake (RFC 6455 4.2): request bytes in, answer and `Protocol` out; knows no socket."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from enum import Enum
from typing import Final, Literal, cast

import h11

from ._accel import Protocol
from ._errors import LocalProtocolError
from ._handshake import (
    HOST,
    HeadError,
    HeadReader,
    Request,
    Response,
    accept_value,
    parse_head,
)
from ._handshake_answers import encode_extra_headers, encode_response, format_head, refusal
from ._handshake_rules import RULES, fields_of, persists
from ._headers import (
    Extension,
    ExtensionFactory,
    Headers,
    HeadersLike,
    Params,
    format_extensions,
    is_token,
    parse_extensions,
    parse_subprotocols,
    split_list,
)
from ._limits import Limits
from ._mask import MaskPool
from ._state import Role


class OriginPolicy(Enum):
    """A rule about origins instead of a list of them."""

    SAME_ORIGIN = "same origin"


#: A request that a page of another host has caused is refused: the default, without which any page on the web could use
#: its visitor's cookies here (CWE-1385).
SAME_ORIGIN: Final = OriginPolicy.SAME_ORIGIN

_ORIGIN = re.compile(r"([a-z][a-z0-9+.\-]*)://(\[[^\[\]]+\]|[^\[\]:/?#@\s]+)(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}

#: Answers to what cannot be read; they repeat nothing of it.
_UNREADABLE = {
    400: "The request is not valid HTTP/1.1.",
    414: "The request line is too long.",
    431: "The headers are too large or too many.",
}

#: One object for all requests where nearly all say the same: each keeps its headers as long as it lives.
_FREQUENT = {
    text: text
    for text in (
        *(
            b"host",
            b"connection",
            b"upgrade",
            b"origin",
            b"cookie",
            b"user-agent",
            b"accept-encoding",
            b"accept-language",
        ),
        *(b"sec-websocket-" + name for name in (b"key", b"version", b"extensions", b"protocol")),
        *(b"cache-control", b"pragma", b"Upgrade", b"websocket", b"13", b"no-cache"),
    )
}


class ServerHandshake:
    """One client's opening handshake, from its first byte to the `Protocol` that follows.

    `receive_data` until there is a request, or `receive_request` if somebody else has read it; `check` it, then `accept`
    it or `respond` otherwise. Before it is checked a request that does not ask for a WebSocket can be answered as plain
    HTTP.

    Args:
        limits: what the client may send, here and later.
        origins: which pages may cause a request. By default an `Origin` header must match the `Host` header, a request
            without one passing, for browsers send it always; None lets all pass; a collection names those that pass,
            such as ``https://example.com``, and None in it stands for requests without the header.
        extensions: what may be used if the client offers it.

    Raises:
        TypeError: `origins` is a string, in which each character would be an origin.
    """

    def __init__(
        self,
        *,
        limits: Limits = Limits(),
        origins: Collection[str | None] | Literal[OriginPolicy.SAME_ORIGIN] | None = SAME_ORIGIN,
        extensions: Sequence[ExtensionFactory] = (),
    ) -> None:
        if isinstance(origins, str):
            raise TypeError("origins must be a collection of strings: put the one string into a list")
        #: The client's choice of `VERSIONS`, and the subprotocols that it offers in its order of preference; once checked.
        self.version = 0
        self.proposed_subprotocols: tuple[str, ...] = ()
        self._limits = limits
        self._origins = origins
        self._extensions = extensions
        self._reader = HeadReader(limits)
        self._request: Request | None = None
        self._offers: list[tuple[str, list[tuple[str, str | None]]]] = []

    @property
    def request(self) -> Request:
        """The client's request.

        Raises:
            LocalProtocolError: it is not complete yet.
        """
        if self._request is None:
            raise LocalProtocolError("the request is not complete: go on with receive_data()")
        return self._request

    @property
    def begun(self) -> bool:
        """Whether anything has come of the request."""
        return self._request is not None or self._reader.begun

    @property
    def rest(self) -> bytes:
        """What the client sent behind its request."""
        return self._reader.rest

    def receive_data(self, data: bytes) -> Request | None:
        """Take what the client sent, nothing meaning the end; return the request as soon as its head is complete.

        Raises:
            HandshakeFailed: this is not HTTP, passes a limit, or ended too early; `response` says so to the client.
            LocalProtocolError: the request is complete: what comes behind it belongs to what follows the handshake.
        """
        if self._request is not None:
            raise LocalProtocolError("the request is complete: what follows it is not part of the handshake")
        if not data:
            raise refusal(
                400, _UNREADABLE[400], "the client closed the connection before its request was complete"
            )
        try:
            head = self._reader.feed(data)
            if head is not None:
                self._request = self._parse(head)
        except HeadError as exc:
            raise refusal(exc.status, _UNREADABLE[exc.status], str(exc)) from exc
        return self._request

    def receive_request(self, request: Request, leftover: bytes = b"") -> None:
        """Take a request that somebody else has read, and what they have read behind it.

        Raises:
            HandshakeFailed: it has a header that cannot be one; `response` says so to the client.
            LocalProtocolError: there is a request already.
        """
        if self._request is not None:
            raise LocalProtocolError("there is a request already")
        self._request = request
        try:
            # whoever has put them into `Headers` may have left the names as they came
            headers = Headers.of(request.headers)
        except ValueError as exc:
            raise refusal(400, _UNREADABLE[400], f"not valid HTTP: {exc}") from exc
        self._request = replace(request, headers=headers)
        self._reader.rest = bytes(leftover)

    def _parse(self, head: bytes) -> Request:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.max_head)
        event = cast("h11.Request", parse_head(connection, head))
        shared = _FREQUENT.get
        headers = Headers(
            # `event.headers` itself has the names in lower case, but takes five times as long to say so
            [
                (shared(name := raw.lower(), name), shared(value, value))
                for raw, value in event.headers.raw_items()
            ]
        )
        return Request(
            event.method.decode("latin-1"),
            event.target.decode("latin-1"),
            headers,
            event.http_version.decode("latin-1"),
        )

    def check(self) -> None:
        """Hold the request to the rules of RFC 6455 4.2.1, and its origin to what was configured.

        Raises:
            HandshakeFailed: it breaks one; `response` says which.
        """
        request = self.request
        fields = fields_of(request.headers)
        for rule in RULES:
            if not rule.holds(request, fields):
                raise refusal(rule.status, rule.sentence, headers=rule.headers)
        try:
            self.proposed_subprotocols = tuple(parse_subprotocols(fields.get(b"sec-websocket-protocol", ())))
        except ValueError as exc:
            sentence = "The Sec-WebSocket-Protocol header must list tokens, each once."
            raise refusal(400, sentence, f"Invalid Sec-WebSocket-Protocol header: {exc}") from exc
        offers = fields.get(b"sec-websocket-extensions")
        try:
            self._offers = parse_extensions(", ".join(offers)) if offers else []
        except ValueError as exc:
            sentence = "The Sec-WebSocket-Extensions header is malformed."
            raise refusal(400, sentence, f"Invalid Sec-WebSocket-Extensions header: {exc}") from exc
        version = int(fields[b"sec-websocket-version"][0])
        self._check_origin(fields.get(b"origin" if version == 13 else b"sec-websocket-origin", ()))
        self.version = version

    def _check_origin(self, values: Sequence[str]) -> None:
        if len(values) > 1:
            raise refusal(400, "There must be at most one Origin header.")
        origin = values[0] if values else None
        if not self._is_allowed(origin):
            raise refusal(
                403, "Requests from this origin are not allowed.", f"the origin {origin!r} is not allowed"
            )

    def _is_allowed(self, origin: str | None) -> bool:
        if self._origins is None:
            return True
        if self._origins is SAME_ORIGIN:
            return origin is None or _is_same_origin(origin, self.request.headers.get("host", ""))
        if origin is None:
            return None in self._origins
        return _canonical(origin) in {_canonical(allowed) for allowed in self._origins if allowed is not None}

    def accept(
        self, *, masks: MaskPool, subprotocol: str | None = None, extra_headers: HeadersLike = ()
    ) -> tuple[bytes, Protocol, bytes]:
        """Return the bytes of the 101, the protocol that follows, and what the client sent behind its request.

        Args:
            masks: handed on to the protocol.
            subprotocol: the one to speak; the client fails the connection unless it has offered it.
            extra_headers: headers of the answer besides those of the handshake.

        Raises:
            LocalProtocolError: the request has not passed `check`.
            ValueError: the subprotocol or a header cannot be sent.
        """
        if not self.version:
            raise LocalProtocolError("the request has not passed check()")
        if subprotocol is not None and not is_token(subprotocol):
            raise ValueError(f"{subprotocol!r} cannot be the name of a subprotocol")
        extra = encode_extra_headers(extra_headers)
        answers, extensions = self._negotiate()
        headers = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")]
        key = self.request.headers.get("sec-websocket-key", "")
        headers.append((b"Sec-WebSocket-Accept", accept_value(key).encode()))
        if subprotocol is not None:
            headers.append((b"Sec-WebSocket-Protocol", subprotocol.encode()))
        if answers:
            headers.append((b"Sec-WebSocket-Extensions", format_extensions(answers).encode()))
        head = format_head(101, b"Switching Protocols", [*headers, *extra])
        protocol = Protocol(
            Role.SERVER,
            masks=masks,
            limits=self._limits,
            subprotocol=subprotocol,
            extensions=tuple(extensions),
        )
        return head, protocol, self._reader.rest

    def _negotiate(self) -> tuple[list[tuple[str, Params]], list[Extension]]:
        """Return what is answered to the client's offers and agreed on: for each extension its first acceptable offer."""
        if not self._offers:
            return [], []
        factories = {factory.name: factory for factory in self._extensions}
        answers: list[tuple[str, Params]] = []
        extensions: list[Extension] = []
        for name, params in self._offers:
            accepted = factories[name].accept_offer(params) if name in factories else None
            if accepted is not None:
                answers.append((name, accepted[0]))
                extensions.append(accepted[1])
                del factories[name]
        return answers, extensions

    def may_persist(self, response: Response) -> bool:
        """Say whether another request may follow this one when `response` answers it."""
        wishes = (wish.lower() for wish in split_list(response.headers.get_all("connection")))
        return persists(self.request) and "close" not in wishes

    def respond(self, response: Response, *, persist: bool = False) -> bytes:
        """Return the bytes of an answer that is not 101; how its body is delimited is decided here.

        Args:
            response: what to say.
            persist: whether another request may follow; else the answer says that it ends the connection.

        Raises:
            ValueError: the status is not one of a final answer, or a header or the reason cannot be sent.
        """
        is_head = self._request is not None and self._request.method == "HEAD"
        return encode_response(response, persist=persist, is_head=is_head)


def _canonical(origin: str) -> tuple[str, str, int | None] | str:
    """Return scheme, host and port of an origin (RFC 6454 4); one that has none, such as ``null``, as it is."""
    parts = _ORIGIN.fullmatch(origin.lower())
    if parts is None:
        return origin
    scheme, host, port = parts[1], parts[2], parts[3]
    return scheme, host, int(port) if port else _DEFAULT_PORTS.get(scheme)


def _is_same_origin(origin: str, host: str) -> bool:
    """Compare host and port; the scheme is out of sight where TLS ends before this server, so the origin's counts."""
    parts = _canonical(origin)
    target = cast("re.Match[str]", HOST.fullmatch(host.lower()))
    if isinstance(parts, str) or parts[0] not in _DEFAULT_PORTS:
        return False
    scheme, name, port = parts
    return (name, port) == (target[1], int(target[2]) if target[2] else _DEFAULT_PORTS[scheme])
