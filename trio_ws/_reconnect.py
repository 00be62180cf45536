"""Reconnecting: fresh connections for a client that must stay up, and when to try again; knows not how one is opened.

This is an async context manager whose value is iterated over, and no async generator. Connections need a nursery, and a
generator that is left in the middle of a loop would leave its nursery open until it is collected, in another task and
at another time: Trio cannot permit that. Here the block owns the nursery, however the loop in it is left.
"""

from __future__ import annotations

import logging
import math
import random
import re
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NoReturn, Self, Unpack, cast

import trio

from ._client import connect_websocket_url, open_websocket_url
from ._client import ssl_context as make_context
from ._errors import ConnectionClosed, ConnectionEnded, ConnectionRejected, ConnectionTimeout, HandshakeError
from ._options import ClientOptions
from ._url import parse_url
from .protocol import CloseCode, CloseReason, HandshakeFailed, Headers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ._connection import WebSocketConnection

_logger = logging.getLogger("trio_ws")

#: Statuses below 500 of a server that may answer differently soon: slow, too early, too often (RFC 9110, 8470, 6585).
_PASSING_STATUSES = frozenset({408, 425, 429})
#: Those from 500 on that will not change: what is asked for, or this version of HTTP, is not known there (RFC 9110).
_LASTING_STATUSES = frozenset({501, 505})

#: Close codes that say that what one side does is not acceptable to the other: it would be the same the next time. The
#: last two are "unauthorized" and "forbidden" in the IANA registry, as 401 and 403 in HTTP.
_LASTING_CODES = frozenset(
    {
        CloseCode.PROTOCOL_ERROR,
        CloseCode.UNSUPPORTED_DATA,
        CloseCode.INVALID_FRAME_PAYLOAD_DATA,
        CloseCode.POLICY_VIOLATION,
        CloseCode.MESSAGE_TOO_BIG,
        CloseCode.MANDATORY_EXT,
        3000,
        3003,
    }
)

#: Seconds after which clients are to come back to a server that restarts, as the registration of 1012 has it: 5 to 30.
_RESTART = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait between attempts: a random time, so that clients that were cut off together come back one by one.

    The time is drawn evenly between 0 and a bound ("full jitter"), which grows with every attempt that failed.

    Attributes:
        initial: the bound of the first wait in seconds, 5 by default as RFC 6455 7.2.3 suggests.
        maximum: what the bound grows to, 60 seconds by default.
        factor: what it is multiplied by each time, 2 by default.
        stable_after: seconds after which a connection that was opened has been a success: what comes next begins with
            the initial bound. One that ends earlier counts as an attempt that failed. 60 by default.
        max_attempts: attempts in a row that may fail until the last error is raised; None, the default, is no limit.
        max_retry_after: seconds that a server's ``Retry-After`` is followed for at most, 300 by default.
        random: returns a number between 0 and 1; `random.random` by default.

    Raises:
        ValueError: a value is out of range.
    """

    initial: float = 5.0
    maximum: float = 60.0
    factor: float = 2.0
    stable_after: float = 60.0
    max_attempts: int | None = None
    max_retry_after: float = 300.0
    random: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if not 0 < self.initial <= self.maximum < math.inf:
            raise ValueError(f"0 < initial <= maximum must hold, not {self.initial!r} and {self.maximum!r}")
        if not self.factor >= 1:
            raise ValueError(f"factor is at least 1, not {self.factor!r}")
        if not self.stable_after >= 0:
            raise ValueError(f"stable_after is at least 0, not {self.stable_after!r}")
        if self.max_attempts is not None and self.max_attempts < 1:
            raise ValueError(f"max_attempts is at least 1, or None, not {self.max_attempts!r}")
        if not 0 <= self.max_retry_after < math.inf:
            raise ValueError(f"max_retry_after is at least 0 and finite, not {self.max_retry_after!r}")


DEFAULT_BACKOFF = Backoff()


def is_transient(exc: Exception) -> bool:
    """Say whether it makes sense to connect again after this error: what `reconnecting` goes by unless it is told otherwise.

    It does after whatever may pass by itself: names that do not resolve, refused and broken connections, timeouts, the
    statuses 408, 425, 429 and 5xx but 501 and 505, and every end of a connection but those with 1002, 1003, 1007 to
    1010, 3000 and 3003. It does not after those, after other statuses, certificates that cannot be verified, and
    answers that are no WebSocket handshake.

    Args:
        exc: a `HandshakeError`, a `ConnectionClosed` or an `OSError`; nothing else is ever asked about.
    """
    match exc:
        case ConnectionClosed():
            codes = {reason.code for reason in (exc.received, exc.sent) if reason is not None}
            return not codes & _LASTING_CODES
        case ConnectionRejected(status_code=status):
            return status in _PASSING_STATUSES or (status >= 500 and status not in _LASTING_STATUSES)
        case HandshakeError(__cause__=HandshakeFailed() as cause):
            # a server that goes away before it has answered: all other failures have an answer, or a cause
            return cause.response is None and cause.__cause__ is None
        case HandshakeError(__cause__=cause):
            passing = isinstance(exc, ConnectionTimeout) or isinstance(
                cause, OSError | trio.BrokenResourceError
            )
            return passing and not isinstance(cause, ssl.SSLCertVerificationError)
        case _:
            return isinstance(exc, OSError) and not isinstance(exc, ssl.SSLCertVerificationError)


def reconnecting(
    url: object,
    ssl_context: ssl.SSLContext | None = None,
    *,
    backoff: Backoff = DEFAULT_BACKOFF,
    is_transient: Callable[[Exception], bool] = is_transient,
    on_connect: Callable[[WebSocketConnection], Awaitable[object]] | None = None,
    **options: Unpack[ClientOptions],
) -> AbstractAsyncContextManager[Connections]:
    """Keep a client connected: the value of the ``async with`` block is iterated over, and gives connection after connection.

    .. code-block:: python

        async with reconnecting("wss://example.org/feed") as connections:
            async for ws in connections:
                try:
                    async for message in ws:
                        print(message)
                except ConnectionClosed:
                    continue

    The body of the loop runs with a fresh connection. Going on to the next one closes the one before, if it is not over,
    and waits as `backoff` says, also behind a clean end by the server. Leaving the loop is the way to stop, and the last
    connection stays open until the block is left.

    Args:
        url: as for `open_websocket_url`.
        ssl_context: as for `open_websocket_url`.
        backoff: how long to wait between attempts. The first one is made at once.
        is_transient: asked about each `HandshakeError` and `OSError` of an attempt, and about the `ConnectionClosed`
            of each connection that has ended: whether to connect again. If not, the loop raises the error.
        on_connect: called with each connection before the loop gets it, to log in or to subscribe again. If it raises
            `ConnectionClosed` the attempt has failed; all else that it raises comes out of the loop.
        options: see `ClientOptions`. An iterator among them is used up once, and its items are sent each time.

    Raises:
        TypeError: an option is unknown.
        ValueError: the URL is not one for WebSocket, has no use for the context, or an option is out of range.

    Each step of the loop raises the error that is not transient, or the last one when ``max_attempts`` have failed. An
    exception of the block comes out as it is, never in a group.

    Cancellation: at any time, also while it waits; nothing is left open, and a connection that is open is cut.
    """
    kept = cast("ClientOptions", {name: _kept(value) for name, value in options.items()})
    if kept.get("stream") is not None:
        raise ValueError(
            "stream is of no use here: it leads to the server once, and connect any number of times"
        )
    open_websocket_url(
        url, ssl_context, **kept
    )  # not entered: it checks now what every attempt will be given
    parsed = parse_url(str(url))
    # made once for all attempts: reading the system's certificates takes long
    context = ssl_context or make_context(parsed.secure)

    async def connect(nursery: trio.Nursery) -> WebSocketConnection:
        return await connect_websocket_url(nursery, url, context, **kept)

    # the path is left out of the logs, for tokens are often sent in it
    name = f"{parsed.scheme}://{parsed.authority}"
    return _block(lambda nursery: Connections(nursery, connect, name, backoff, is_transient, on_connect))


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def _block(make: Callable[[trio.Nursery], Connections]) -> AsyncGenerator[Connections]:
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            connections = make(nursery)
            try:
                yield connections
            except BaseException as exc:  # noqa: BLE001 - kept from the nursery, which would put it into a group
                error = exc
            await connections.aclose()
    except BaseExceptionGroup as group:
        # the nursery's own tasks raise nothing: this is a cancellation or a KeyboardInterrupt that found it waiting
        error = error or group.exceptions[0]
    if error is not None:
        raise error


class Connections:
    """What `reconnecting` gives: an async iterator of connections, which has no end of its own.

    One task at a time may ask for the next connection.

    Attributes:
        attempt: which attempt in a row this is, the first being 1. It begins anew after a connection that was stable.
        last_error: why the attempt or connection before failed or ended; None at first.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        connect: Callable[[trio.Nursery], Awaitable[WebSocketConnection]],
        name: str,
        backoff: Backoff,
        is_transient: Callable[[Exception], bool],
        on_connect: Callable[[WebSocketConnection], Awaitable[object]] | None,
    ) -> None:
        self.attempt = 0
        self.last_error: Exception | None = None
        self._nursery = nursery
        self._connect = connect
        self._name = name
        self._backoff = backoff
        self._is_transient = is_transient
        self._on_connect = on_connect
        self._bound = backoff.initial
        self._delay = 0.0  # the first attempt is made at once
        self._current: WebSocketConnection | None = None
        self._opened_at = math.inf
        self._busy = False
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WebSocketConnection:
        if self._closed:
            raise trio.ClosedResourceError("the block in which connections are made was left")
        if self._busy:
            raise trio.BusyResourceError("another task waits for the next connection")
        self._busy = True
        try:
            return await self._next()
        finally:
            self._busy = False

    async def aclose(self) -> None:
        """Close the current connection and make no more; done at the end of the block.

        Cancellation: the connection is cut.
        """
        self._closed = True
        if self._current is not None:
            await self._current.aclose()

    async def _next(self) -> WebSocketConnection:
        while True:
            try:
                if self._current is not None:
                    await self._end(self._current)
                await trio.sleep(self._delay)
                return await self._open()
            except (ConnectionClosed, HandshakeError, OSError) as exc:
                if not self._goes_on_after(exc):
                    raise

    async def _open(self) -> WebSocketConnection:
        self.attempt += 1
        self._opened_at = math.inf
        self._current = ws = await self._connect(self._nursery)
        self._opened_at = trio.current_time()
        if self._on_connect is not None:
            try:
                await self._on_connect(ws)
            except ConnectionClosed:
                await self._end(ws)
        if self.last_error is not None:
            self._log(logging.INFO, "connected to %s again", self._name)
        return ws

    async def _end(self, ws: WebSocketConnection) -> NoReturn:
        """Close a connection, if need be, and raise what has ended it."""
        await ws.aclose()
        self._current = None
        await ws.send_message("")
        raise AssertionError("a connection that is over cannot send")

    def _goes_on_after(self, exc: Exception) -> bool:
        """Say whether there is to be another attempt, and decide when."""
        backoff = self._backoff
        self.last_error = exc
        if trio.current_time() - self._opened_at >= backoff.stable_after:
            self.attempt = 0
            self._bound = backoff.initial
        if not self._is_transient(exc):
            return False
        if backoff.max_attempts is not None and self.attempt >= backoff.max_attempts:
            return False
        self._delay = self._draw(exc)
        level = logging.INFO if isinstance(exc, ConnectionEnded) else logging.WARNING
        message = "%s: %s; connecting again in %.1f s (attempt %d)"
        self._log(level, message, self._name, exc, self._delay, self.attempt + 1)
        return True

    def _draw(self, exc: Exception) -> float:
        """Return how long to wait after an error, and let the next wait be longer."""
        backoff, bound = self._backoff, self._bound
        chance = backoff.random()
        self._bound = min(backoff.maximum, bound * backoff.factor)
        match exc:
            case ConnectionClosed(reason=CloseReason(code=CloseCode.SERVICE_RESTART)):
                longest = min(_RESTART, backoff.maximum)
                return max(longest / 6 + chance * longest * 5 / 6, chance * bound)
            case ConnectionClosed(reason=CloseReason(code=CloseCode.TRY_AGAIN_LATER)):
                self._bound = backoff.maximum
                return (1 + chance) * backoff.maximum / 2
            case ConnectionRejected(headers=headers):
                # what is drawn comes on top: else all who were told the same time would come back at the same time
                return min(retry_after(headers), backoff.max_retry_after) + chance * bound
            case _:
                return chance * bound

    def _log(self, level: int, message: str, *values: object) -> None:
        with suppress(Exception):  # a log handler that raises is no reason to stay away
            _logger.log(level, message, *values)


def _kept(value: object) -> object:
    """Return the value of an option in a form that can be used for every attempt."""
    return [*cast("Iterator[object]", value)] if isinstance(value, Iterator) else value


def retry_after(headers: Headers) -> float:
    """Return the seconds that ``Retry-After`` asks for (RFC 9110 10.2.3); 0 if there is none, or none that makes sense."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch("[0-9]+", value):
        return float(value)
    when = _date(value)
    if when is None:
        return 0.0
    # by the server's own clock where it says what that is, for this one may be wrong
    now = _date(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (when - now).total_seconds())


def _date(value: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
