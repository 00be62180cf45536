"""One connection's task on a server: what bounds it, and how it ends; knows nothing of how a client has come to it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import trio

from ._errors import ConnectionClosed, HandshakeError
from ._request import Answer
from ._timers import Alarm
from .protocol import State
from .transport import log_failure

if TYPE_CHECKING:
    from ._connection import WebSocketConnection
    from ._overload import Place
    from ._request import WebSocketRequest


class Talk:
    """One connection's task: its scope, the one in which it says goodbye when cancelled, and what there is of the others.

    Args:
        patience: seconds that the handler has left when the connection is over.
    """

    __slots__ = ("_patience", "expiry", "farewell", "place", "request", "scope")

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self.scope = trio.CancelScope()
        self.expiry = Alarm(self.scope.cancel)
        self.farewell: trio.CancelScope | None = None
        self.request: WebSocketRequest | None = None
        self.place: Place | None = None

    @property
    def connection(self) -> WebSocketConnection | None:
        """The connection once the request was accepted."""
        return None if self.request is None else self.request.connection

    def expire(self) -> None:
        """Cancel the task when its patience has come to an end."""
        self.expiry.set(trio.current_time() + self._patience)

    def cut(self) -> None:
        """Cancel the task, and leave it no time for a goodbye."""
        self.scope.cancel()
        if self.farewell is not None:
            self.farewell.cancel()


@trio.lowlevel.enable_ki_protection
async def end(request: WebSocketRequest, code: int, status: int, refusal: str) -> None:
    """Close the connection with `code`, or answer a request that has no answer yet with `status`, for this reason."""
    if request.connection is not None:
        if request.connection.state is not State.CLOSED:
            await request.connection.aclose(code)
    elif request.answer is Answer.NONE:
        try:
            await request.reject(status)
        except HandshakeError:  # the client has gone
            pass
        except Exception as exc:  # noqa: BLE001 - of `process_response`; the client was told
            log_failure("processing a response failed", exc)
        finally:
            request.refusal = refusal


def _has_gone(request: WebSocketRequest) -> bool:
    """Say whether the client has ended the conversation, or could not be answered."""
    if request.connection is None:
        return request.answer is Answer.BEGUN
    return request.connection.closed is not None


def is_over(request: WebSocketRequest) -> bool:
    """Say whether there is nothing left to wait for; a connection that is closing still has its close frame to deliver."""
    if request.connection is None:
        return request.answer is Answer.BEGUN
    return request.connection.state is State.CLOSED


def is_failure(exc: BaseException) -> bool:
    """Say whether an exception is the fault of who raised it alone, and not meant for somebody outside.

    For somebody outside are `KeyboardInterrupt`, `SystemExit` and a cancellation, but only where there is one: a
    `Cancelled` that has leaked out of its scope, as from an async generator, must not end what nobody has cancelled.
    """
    if isinstance(exc, BaseExceptionGroup):
        return all(map(is_failure, cast("BaseExceptionGroup[BaseException]", exc).exceptions))
    if isinstance(exc, trio.Cancelled):
        return trio.current_effective_deadline() > -math.inf
    return not isinstance(exc, KeyboardInterrupt | SystemExit)


def failure_of(exc: BaseException, request: WebSocketRequest) -> BaseException | None:
    """Return what a handler failed with: neither its cancellation, nor what told it of the end of its connection."""
    failure: BaseException | None = exc
    if isinstance(exc, BaseExceptionGroup):
        failure = cast("BaseExceptionGroup[BaseException]", exc).subgroup(is_failure)
    elif not is_failure(exc):
        return None
    if failure is None or (_has_gone(request) and _is_goodbye(failure)):
        return None
    return failure


def interruption_of(exc: BaseException) -> BaseException | None:
    """Return what of an exception is meant for somebody outside: a cancellation, a `KeyboardInterrupt`."""
    if isinstance(exc, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", exc).split(is_failure)[1]
    return None if is_failure(exc) else exc


def _is_goodbye(exc: BaseException) -> bool:
    """Say whether a handler has only let out what told it of the end: that is how most handlers end."""
    if isinstance(exc, BaseExceptionGroup):
        return all(map(_is_goodbye, cast("BaseExceptionGroup[BaseException]", exc).exceptions))
    return isinstance(exc, ConnectionClosed | HandshakeError)
