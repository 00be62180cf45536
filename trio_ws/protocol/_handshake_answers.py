"""The answers of a server to an opening handshake, from values to bytes; knows nothing of what decides on them."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from ._handshake import FRAMING, HandshakeFailed, Response, refuse_handshake_headers
from ._headers import Headers, HeadersLike, encode_headers

_WITHOUT_BODY = frozenset({204, 304})  # RFC 9110 8.6
_REASONS = {status.value: status.phrase for status in HTTPStatus}

#: What `accept` sets itself, and the argument that sets it.
_ARGUMENTS = {b"sec-websocket-protocol": "use subprotocol", b"sec-websocket-extensions": "use extensions"}


def encode_response(response: Response, *, persist: bool, is_head: bool) -> bytes:
    """Return the bytes of an answer that is not 101.

    Args:
        response: what to say.
        persist: whether another request may follow; else the answer says that it ends the connection.
        is_head: whether the body is only described (RFC 9110 9.3.2).

    Raises:
        ValueError: the status is not one of a final answer, or a header or the reason cannot be sent.
    """
    if not 200 <= response.status <= 599:
        raise ValueError(f"{response.status} is not the status of a final answer: use one from 200 to 599")
    headers = [
        (name.title().replace(b"Websocket", b"WebSocket"), value)
        for name, value in encode_headers(response.headers)
        if name.lower() not in FRAMING
    ]
    wishes = [] if persist else [b"close"]
    if any(name == b"Upgrade" for name, _ in headers):
        wishes.append(b"Upgrade")  # RFC 9110 7.8: who sends Upgrade must name it in Connection.
    if wishes:
        headers.append((b"Connection", b", ".join(wishes)))
    body = b"" if response.status in _WITHOUT_BODY else response.body
    if response.status not in _WITHOUT_BODY:
        headers.append((b"Content-Length", b"%d" % len(body)))
    if is_head:
        body = b""
    ((_, reason),) = encode_headers([("reason", response.reason or _REASONS.get(response.status, ""))])
    return format_head(response.status, reason, headers) + body


def encode_extra_headers(headers: HeadersLike) -> list[tuple[bytes, bytes]]:
    """Return headers of a 101 besides those of the handshake, as they go on the wire.

    Raises:
        ValueError: one cannot be sent, or is set by the handshake.
    """
    extra = encode_headers(headers)
    refuse_handshake_headers(extra, _ARGUMENTS)
    return extra


def accepted_response(head: bytes) -> Response:
    """Return the 101 that `ServerHandshake.accept` has made."""
    _, *lines = head.split(b"\r\n")[:-2]
    return Response(
        101, Headers((name.lower(), value) for name, _, value in (x.partition(b": ") for x in lines))
    )


def change_accepted(head: bytes, response: Response) -> bytes:
    """Return the 101 that `ServerHandshake.accept` has made with the headers of `response` in place of its own.

    Raises:
        ValueError: it is no 101, it has a body, it has other headers of the handshake, or one that cannot be sent.
    """
    if response.status != 101 or response.body:
        raise ValueError("only the headers of a 101 can be changed")
    before, after = accepted_response(head).headers, Headers.of(response.headers)
    if _of_handshake(before) != _of_handshake(after):
        raise ValueError("the headers of the handshake cannot be changed")
    headers = [(name.title().replace(b"Websocket", b"WebSocket"), value) for name, value in after]
    return format_head(101, b"Switching Protocols", headers)


def _of_handshake(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [
        (name, value)
        for name, value in headers
        if name == b"upgrade" or name in FRAMING or name.startswith(b"sec-websocket-")
    ]


def refusal(
    status: int, sentence: str, detail: str | None = None, headers: Iterable[tuple[bytes, bytes]] = ()
) -> HandshakeFailed:
    content_type = (b"content-type", b"text/plain; charset=utf-8")
    response = Response(status, Headers([content_type, *headers]), sentence.encode() + b"\n")
    return HandshakeFailed(detail or sentence, response)


def format_head(status: int, reason: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"HTTP/1.1 %d %s\r\n%s\r\n" % (
        status,
        reason,
        b"".join([b"%s: %s\r\n" % header for header in headers]),
    )
