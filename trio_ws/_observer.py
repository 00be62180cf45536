"""Who is told that connections come and go; knows nothing of what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .transport import log_failure

if TYPE_CHECKING:
    from collections.abc import Callable


class Observer:
    """Who is told that connections come and go, as the option ``observer``: override what you want to know.

    The methods are called in passing, and must not block. What they raise is logged to the logger ``trio_ws``, and
    touches nothing else. For figures ask ``statistics()`` of the connection or of the server: at the end of a connection
    it is complete.
    """

    def connection_opened(self, connection: Any) -> None:
        """Learn of a `WebSocketConnection` when it has just been opened."""

    def connection_closed(self, connection: Any) -> None:
        """Learn that a `WebSocketConnection` is over; messages that came before may still be received from it."""

    def handshake_refused(self, reason: str) -> None:
        """Learn that a client of a server gets no connection, for one of the reasons of `ServerStatistics.refusals`."""


def tell(method: Callable[..., None], *args: object) -> None:
    """Call a method of an observer, whose failure is its own."""
    try:
        method(*args)
    except Exception as exc:  # noqa: BLE001 - see above
        log_failure(f"{method.__name__} of an observer failed", exc)


def check_observer(value: object) -> None:
    """Check the option.

    Raises:
        TypeError: it is no observer.
    """
    if value is not None and not isinstance(value, Observer):
        raise TypeError(f"observer is an instance of a subclass of Observer, not {value!r}")
