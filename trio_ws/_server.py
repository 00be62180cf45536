"""Serving: one task per connection, contained in itself, and an orderly end of all; knows nothing of clients.

A connection's task runs handshake, handler and close inside a cancel scope of its own. What a peer does, and what a
handler raises, ends that connection and nothing else. When the peer is gone the handler is cancelled, after it has had
``disconnect_timeout`` seconds to take and finish what had come.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, Unpack, cast

import trio

from ._config import ServerConfig, ServerOptions
from ._endpoint import Endpoint, endpoint_of
from ._errors import ConnectionClosed, HandshakeError
from ._request import Answer, WebSocketRequest, receive_request
from ._timers import Alarm
from .protocol import State, encode_close
from .transport import PolledListener, UnixListener, accept_forever, log_failure, open_tcp_listeners

if TYPE_CHECKING:
    import ssl

    from ._connection import WebSocketConnection

Handler: TypeAlias = Callable[[WebSocketRequest], Awaitable[object]]


async def serve_websocket(
    handler: Handler,
    host: str | bytes | None,
    port: int,
    ssl_context: ssl.SSLContext | None,
    *,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[WebSocketServer] = trio.TASK_STATUS_IGNORED,
    **options: Unpack[ServerOptions],
) -> None:
    """Serve WebSocket on a TCP port, until cancelled or closed.

    Args:
        handler: called with a `WebSocketRequest` for each client, in a task of its own. When it returns, the
            connection is closed with 1000.
        host: where to listen: a name, an address, or None for all interfaces.
        port: TCP port; 0 lets the system choose, and `WebSocketServer.port` says which.
        ssl_context: for TLS; None is for none.
        handler_nursery: where the connections' tasks run; by default in the server's own nursery.
        task_status: ``await nursery.start(serve_websocket, ...)`` returns the `WebSocketServer` once it listens.
        options: see `ServerOptions`.

    Raises:
        OSError: the port cannot be listened on.
        TypeError: an option is unknown.
        ValueError: an option is out of range.

    Cancellation: as for `WebSocketServer.run`.
    """
    ServerConfig.of(options)  # what is wrong with them is told before anything is opened
    tcp = await open_tcp_listeners(port, host=host)
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]] = tcp
    if ssl_context is not None:
        listeners = [trio.SSLListener(PolledListener(listener), ssl_context) for listener in tcp]
    server = WebSocketServer(handler, listeners, handler_nursery=handler_nursery, **options)
    await server.run(task_status=task_status)


class WebSocketServer:
    """A server on listeners that exist.

    Args:
        handler: called with a `WebSocketRequest` for each client.
        listeners: `trio.abc.Listener` of any streams: TCP, TLS, Unix sockets, memory. They belong to the server.
        handler_nursery: where the connections' tasks run; by default in the server's own nursery.
        options: see `ServerOptions`.

    Raises:
        TypeError: an option is unknown.
        ValueError: there are no listeners, or an option is out of range.
    """

    def __init__(
        self,
        handler: Handler,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        *,
        handler_nursery: trio.Nursery | None = None,
        **options: Unpack[ServerOptions],
    ) -> None:
        if not listeners:
            raise ValueError("listeners must contain at least one item")
        self._handler = handler
        self._listeners = list(listeners)
        self._addresses = [_listening(listener) for listener in listeners]
        self._handler_nursery = handler_nursery
        self._config = ServerConfig.of(options)
        self._accepting = trio.CancelScope()
        self._talks: set[_Talk] = set()
        self._ended = trio.lowlevel.ParkingLot()  # unparked whenever a connection's task has ended
        self._drained_at = math.inf  # when connections are cut while the server ends

    @property
    def port(self) -> int:
        """The port that is listened on.

        Raises:
            RuntimeError: there are several listeners, or the one has no port.
        """
        if len(self._listeners) > 1:
            raise RuntimeError("Cannot get port because this server has more than 1 listeners.")
        match self._addresses[0]:
            case Endpoint(port=port):
                return port
            case path:
                raise RuntimeError(f"This socket does not have a port: {path}")

    @property
    def listeners(self) -> list[Endpoint | str]:
        """Where the server listens: endpoints for TCP, paths for Unix sockets, else the listener's `repr`."""
        return self._addresses.copy()

    @property
    def connections(self) -> set[WebSocketConnection]:
        """The connections on which messages can be sent now: a set of its own, for whoever wants to send to all."""
        talks = (talk.connection for talk in self._talks)
        return {connection for connection in talks if connection is not None and connection.closed is None}

    async def run(self, *, task_status: trio.TaskStatus[WebSocketServer] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `aclose` is called or this is cancelled.

        Args:
            task_status: reports the server itself once it accepts connections.

        Raises:
            Exception: a handler's, if ``handler_errors`` is ``"raise"``.

        Cancellation: no more connections are accepted, requests that are not answered yet get a 503, every connection
        is closed with 1001, and what has not ended ``drain`` seconds later is cut.
        """
        async with trio.open_nursery() as nursery:
            try:
                with self._accepting:
                    async with trio.open_nursery() as acceptors:
                        for listener in self._listeners:
                            acceptors.start_soon(self._accept, listener, self._handler_nursery or nursery)
                        task_status.started(self)
            finally:
                for listener in self._listeners:
                    await trio.aclose_forcefully(listener)

    async def aclose(self, drain: float = 10.0, code: int = 1001, reason: str | None = None) -> None:
        """Stop serving: accept no more, close every connection, and cut what has not ended in time.

        Handlers see the end in their next call on the connection, and have as long to finish.

        Args:
            drain: seconds until what is left is cancelled and cut.
            code: close code.
            reason: what to tell the peers.

        Raises:
            ValueError: the code or the reason cannot be sent.

        Cancellation: what is left is cut at once.
        """
        encode_close(code, reason)
        self._accepting.cancel()
        self._drained_at = min(self._drained_at, trio.current_time() + drain)
        for talk in self._talks:
            if talk.connection is None:
                talk.scope.cancel()
        try:
            with trio.move_on_after(drain):
                async with trio.open_nursery() as closers:
                    for connection in self.connections:
                        closers.start_soon(connection.aclose, code, reason)
                    await self._until_idle()
        finally:
            self._drained_at = -math.inf
            for talk in self._talks:
                talk.cut()
        await self._until_idle()

    async def _until_idle(self) -> None:
        await trio.lowlevel.checkpoint()
        while self._talks:
            await self._ended.park()

    async def _accept(self, listener: trio.abc.Listener[trio.abc.Stream], nursery: trio.Nursery) -> None:
        await accept_forever(listener, partial(self._talk, nursery), nursery)

    async def _talk(self, nursery: trio.Nursery, stream: trio.abc.Stream) -> None:
        """Be the task of one connection, from accepting it to its end."""
        talk = _Talk(self._config.disconnect_timeout)
        self._talks.add(talk)
        if self._accepting.cancel_called:
            talk.scope.cancel()  # accepted just before the server was closed
        try:
            with talk.scope:
                request = talk.request = await self._receive(stream, nursery, talk.expire)
                del stream  # what it was is the request's now, and soon the connection's
                if request is not None:
                    try:  # here and not in a method: each step of the handler would go through one more
                        await self._handler(request)
                    except BaseException as exc:  # noqa: BLE001 - what is not the connection's own is raised there
                        await self._end_failed(talk, request, exc)
                    else:
                        await _end(request, 1000, 500)
        finally:
            self._talks.discard(talk)
            if self._ended:
                self._ended.unpark_all()
            if talk.connection is not None:
                talk.connection.terminate()
            talk.expiry.stop()

    async def _receive(
        self, stream: trio.abc.Stream, nursery: trio.Nursery, on_gone: Callable[[], None]
    ) -> WebSocketRequest | None:
        """Return the client's request; None if there was none."""
        try:
            return await receive_request(nursery, stream, self._config, on_gone)
        except HandshakeError:  # the client was told already
            return None
        except Exception as exc:
            log_failure("processing a request failed", exc)
            if self._config.handler_errors == "raise":
                raise
            return None

    async def _end_failed(self, talk: _Talk, request: WebSocketRequest, exc: BaseException) -> None:
        """End the connection as befits how the handler ended, and raise what is meant for somebody outside."""
        failure, interruption = _failure(exc, request), _interruption(exc)
        if failure is not None:
            log_failure(f"the handler of {request.connection or request.path} failed", failure)
        if interruption is None:
            await _end(request, 1011, 500)
        elif not _is_over(request):
            if self._drained_at == math.inf:  # else `aclose` has said when
                self._drained_at = trio.current_time() + self._config.drain
            with trio.CancelScope(shield=True, deadline=self._drained_at) as talk.farewell:
                await _end(request, 1001, 503)
        if failure is not None and self._config.handler_errors == "raise":
            raise exc
        if interruption is not None:
            raise interruption from None


class _Talk:
    """One connection's task: its scope, the one in which it says goodbye when cancelled, and its request if there is one.

    Args:
        patience: seconds that the handler has left when the connection is over.
    """

    __slots__ = ("_patience", "expiry", "farewell", "request", "scope")

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self.scope = trio.CancelScope()
        self.expiry = Alarm(self.scope.cancel)
        self.farewell: trio.CancelScope | None = None
        self.request: WebSocketRequest | None = None

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


async def _end(request: WebSocketRequest, code: int, status: int) -> None:
    """Close the connection with `code`, or answer a request that has no answer yet with `status`."""
    if request.connection is not None:
        if request.connection.state is not State.CLOSED:
            await request.connection.aclose(code)
    elif request.answer is Answer.NONE:
        with suppress(HandshakeError):
            await request.reject(status)


def _has_gone(request: WebSocketRequest) -> bool:
    """Say whether the client has ended the conversation, or could not be answered."""
    if request.connection is None:
        return request.answer is Answer.BEGUN
    return request.connection.closed is not None


def _is_over(request: WebSocketRequest) -> bool:
    """Say whether there is nothing left to wait for; a connection that is closing still has its close frame to deliver."""
    if request.connection is None:
        return request.answer is Answer.BEGUN
    return request.connection.state is State.CLOSED


def _failure(exc: BaseException, request: WebSocketRequest) -> Exception | None:
    """Return what a handler failed with: neither its cancellation, nor what told it of the end of its connection."""
    failure: BaseException | None = exc
    if isinstance(exc, BaseExceptionGroup):
        failure = cast("BaseExceptionGroup[BaseException]", exc).subgroup(Exception)
    if not isinstance(failure, Exception) or (_has_gone(request) and _is_goodbye(failure)):
        return None
    return failure


def _interruption(exc: BaseException) -> BaseException | None:
    """Return what of an exception is meant for somebody outside: a cancellation, a `KeyboardInterrupt`."""
    if isinstance(exc, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", exc).split(Exception)[1]
    return None if isinstance(exc, Exception) else exc


def _is_goodbye(exc: Exception) -> bool:
    """Say whether a handler has only let out what told it of the end: that is how most handlers end."""
    if isinstance(exc, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", exc)
        return all(_is_goodbye(each) for each in group.exceptions)
    return isinstance(exc, ConnectionClosed | HandshakeError)


def _listening(listener: trio.abc.Listener[trio.abc.Stream]) -> Endpoint | str:
    """Say where a listener listens."""
    inner: object = listener
    is_ssl = isinstance(listener, trio.SSLListener)
    if is_ssl:
        inner = cast("trio.SSLListener[trio.abc.Stream]", listener).transport_listener
    if isinstance(inner, PolledListener):
        inner = inner.listener
    if isinstance(inner, trio.SocketListener):
        return endpoint_of(inner.socket.family, inner.socket.getsockname(), is_ssl)
    return inner.path if isinstance(inner, UnixListener) else repr(inner)
