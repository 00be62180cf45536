"""What both sides of the opening handshake share (RFC 6455 4): its values, its failure, and the cutting of heads.

Knows no socket and no clock. HTTP is parsed by h11; what h11 leaves open stands here: limits on lines and their number,
noticed as soon as they are passed, and no folded headers. A head is collected here and given to h11 in one piece, so
that its cost is linear however small the pieces are in which it comes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import h11

from ._cookies import parse_cookies, parse_set_cookies
from ._errors import RemoteProtocolError
from ._headers import Headers, HeadersLike
from ._limits import Limits

#: RFC 6455 4.1 and the last drafts of HyBi, which called themselves 8 and differ in the name of the Origin header alone.
VERSIONS = (13, 8)

#: RFC 9110 7.2: a registered name, IPv4 or bracketed IPv6 address, and perhaps a port.
HOST = re.compile(r"(\[[0-9A-Za-z:.%_~\-]+\]|[-A-Za-z0-9._~!$&'()*+,;=%]+)(?::([0-9]{0,5}))?")

#: What says where a body ends. A second opinion on it is how requests are smuggled (RFC 9112 11.2).
FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding"})

# The end of a head, or a folded header before it.
_BLANK_OR_FOLDED = re.compile(rb"\n(?:\r?\n|[ \t])")

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^/?]*")


@dataclass(frozen=True, slots=True, init=False)
class Request:
    """The request that asks for a WebSocket.

    Attributes:
        method: such as ``GET``.
        target: what is asked for, as on the wire.
        headers: all headers; given as a mapping or as pairs, of `str` or `bytes`, they become `Headers`.
        http_version: such as ``1.1``.
        context: what the application has found out about the request, such as who the user is: empty at first, and
            seen by whoever sees the request later.

    Raises:
        ValueError: what is given as headers cannot be such.
    """

    method: str
    target: str
    headers: Headers
    http_version: str
    context: dict[str, Any] = field(compare=False, repr=False)

    def __init__(
        self,
        method: str,
        target: str,
        headers: HeadersLike,
        http_version: str = "1.1",
        context: dict[str, Any] | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "method", method)
        put(self, "target", target)
        put(self, "headers", headers if isinstance(headers, Headers) else Headers.of(headers))
        put(self, "http_version", http_version)
        put(self, "context", {} if context is None else context)

    @property
    def path(self) -> str:
        """The target up to ``?``, percent-encoded as it came, without the host that an absolute target begins with."""
        return self._resource.partition("?")[0] or "/"

    @property
    def query(self) -> str:
        """The target behind the first ``?``, percent-encoded as it came; empty where there is none."""
        return self._resource.partition("?")[2]

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that came with it, each value as it came; the first of several with one name. Parsed at each look."""
        return parse_cookies(self.headers.get_all("cookie"))

    @property
    def _resource(self) -> str:
        # RFC 9112 3.2.2: "A server MUST accept the absolute-form in requests".
        return _AUTHORITY.sub("", self.target, count=1) if _AUTHORITY.match(self.target) else self.target


@dataclass(frozen=True, slots=True, init=False)
class Response:
    """The answer to a `Request`.

    Attributes:
        status: such as 101 or 404.
        headers: all headers; given as a mapping or as pairs, of `str` or `bytes`, they become `Headers`.
        body: what came with it; of a received body at most `Limits.max_response_body` bytes. Given as `str` it becomes
            UTF-8, and a ``Content-Type`` that says so is added unless there is one.
        reason: the phrase behind the status; where it is empty the registered one is sent.

    Raises:
        ValueError: what is given as headers cannot be such.
    """

    status: int
    headers: Headers
    body: bytes
    reason: str

    def __init__(
        self, status: int, headers: HeadersLike = (), body: bytes | str = b"", reason: str = ""
    ) -> None:
        fields = headers if isinstance(headers, Headers) else Headers.of(headers)
        if isinstance(body, str):
            body = body.encode()
            if fields.get("content-type") is None:
                fields = Headers([*fields, (b"content-type", b"text/plain; charset=utf-8")])
        put = object.__setattr__
        put(self, "status", status)
        put(self, "headers", fields)
        put(self, "body", body)
        put(self, "reason", reason)

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that it sets, without their attributes; the last of several with one name."""
        return parse_set_cookies(self.headers.get_all("set-cookie"))


class HandshakeFailed(RemoteProtocolError):  # noqa: N818 - the errors are called by their base class
    """The opening handshake failed by the peer's fault.

    Attributes:
        response: on a server the answer to be sent; on a client what the server answered, if it got that far.
    """

    def __init__(self, detail: str, response: Response | None = None) -> None:
        super().__init__("WS_ERR_INVALID_HANDSHAKE", detail)
        self.args = (detail, response)
        self.response = response


class HeadError(Exception):
    """A head cannot be read.

    Attributes:
        status: how a server answers.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class HeadReader:
    """Cuts the head of an HTTP message out of incoming bytes, and holds no more of them than `limits` allow.

    What is wrong with a head does not depend on how its bytes were cut into pieces.
    """

    __slots__ = ("_buffer", "_limits", "_line", "_lines", "rest")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._line = 0  # where the line that is being received begins
        self._lines = 0  # complete ones
        self.rest = b""

    @property
    def begun(self) -> bool:
        """Whether there are bytes of a head that is not complete."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> bytes | None:
        """Return the head with its blank line once it is complete; what came behind it is in `rest` then.

        Raises:
            HeadError: a limit is passed or the lines are malformed.
        """
        if not self._buffer and (end := self._find_end(data)):
            self.rest = data[end:]
            return data[:end]
        unsearched = len(self._buffer)
        self._buffer += data
        if self._buffer and self._buffer[0] <= 0x20:
            raise HeadError(400, "not HTTP: neither a space nor a control character can begin a message")
        while (newline := self._buffer.find(b"\n", unsearched)) >= 0:
            unsearched = newline + 1
            self._check_size(unsearched)
            if bytes(self._buffer[self._line : unsearched]) in (b"\r\n", b"\n"):
                self.rest = bytes(self._buffer[unsearched:])
                return bytes(self._buffer[:unsearched])
            self._end_line(unsearched)
        self._check_size(len(self._buffer))
        return None

    def _find_end(self, data: bytes) -> int:
        """Return where the head ends if all of it is in `data` and nothing in it needs a closer look, else 0.

        So it is with nearly all, and going through them line by line takes five to ten times as long.
        """
        found = _BLANK_OR_FOLDED.search(data, 0, min(self._limits.max_head, self._limits.max_header_line))
        if found is None or data[0] <= 0x20 or found[0][-1:] != b"\n":
            return 0
        end = found.end()
        # the lines are the headers, the one before them and the blank one
        return end if data.count(b"\n", 0, end) - 2 <= self._limits.max_headers else 0

    def _check_size(self, end: int) -> None:
        """Refuse a line, or the lines up to here, that go up to `end`: whichever limit lies nearer was passed first."""
        line_end = self._line + self._limits.max_header_line
        if end > min(line_end, self._limits.max_head):
            if self._limits.max_head < line_end:
                raise HeadError(431, f"the head is longer than {self._limits.max_head} bytes")
            status = 431 if self._lines else 414
            raise HeadError(
                status, f"line {self._lines + 1} is longer than {self._limits.max_header_line} bytes"
            )

    def _end_line(self, end: int) -> None:
        if self._lines and self._buffer[self._line] in b" \t":
            # RFC 9112 5.2: a server must refuse folded headers or unfold them; who else reads them may do neither.
            raise HeadError(400, "a header is folded over several lines")
        if self._lines > self._limits.max_headers:
            raise HeadError(431, f"there are more than {self._limits.max_headers} headers")
        self._lines += 1
        self._line = end


def parse_head(connection: h11.Connection, head: bytes) -> object:
    """Return the event that h11 makes of a complete head.

    Raises:
        HeadError: h11 refuses it.
    """
    try:
        connection.receive_data(head)
        return connection.next_event()
    except h11.RemoteProtocolError as exc:
        # without the traceback, in which h11 has the exception itself: only the collector would free all that is there
        raise HeadError(400, f"not valid HTTP: {exc}") from exc.with_traceback(None)


def accept_value(key: str) -> str:
    """Return the `Sec-WebSocket-Accept` that proves to the sender of `key` that this is a WebSocket server."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()


def refuse_handshake_headers(headers: Iterable[tuple[bytes, bytes]], arguments: Mapping[bytes, str]) -> None:
    """Refuse headers that the handshake sets itself, or that announce a body, which it never has.

    Raises:
        ValueError: there is one; `arguments` says what to use instead.
    """
    for raw_name, _ in headers:
        name = raw_name.lower()
        if name == b"upgrade" or name in FRAMING or name.startswith(b"sec-websocket-"):
            instead = arguments.get(name, "leave it out")
            raise ValueError(f"the header {raw_name.decode()} is set by the handshake: {instead}")
