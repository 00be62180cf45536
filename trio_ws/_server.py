"""A server: one task per connection, contained in itself, and an orderly end of all; knows nothing of clients.

A connection's task runs handshake, handler and close inside a cancel scope of its own. What a peer does, and what a
handler raises, ends that connection and nothing else. When the peer is gone the handler is cancelled, after it has had
``disconnect_timeout`` seconds to take and finish what had come.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, Unpack, cast

import trio
from trio.lowlevel import enable_ki_protection

from ._config import ServerConfig
from ._counters import Counters
from ._endpoint import Endpoint, endpoint_of
from ._errors import HandshakeError
from ._farewell import dismiss
from ._forwarded import direct_client
from ._observer import check_observer
from ._overload import Admission, Refused, peer_of, unavailable
from ._receiving import receive_request, refusal_of, take_over
from ._request import WebSocketRequest
from ._talk import Talk, end, failure_of, interruption_of, is_failure, is_over
from .protocol import State, encode_close
from .transport import PolledListener, UnixListener, accept_forever, log_failure

if TYPE_CHECKING:
    from ._connection import WebSocketConnection
    from ._options import ServerOptions
    from ._receiving import Given
    from ._statistics import ServerStatistics
    from .protocol import Request

#: Clients that are turned away at a time with a second to read why; others at most with what takes no waiting, so that a
#: flood of them costs less than one that is let in.
DISMISSED_TOGETHER = 64

Handler: TypeAlias = Callable[[WebSocketRequest], Awaitable[object]]


class WebSocketServer:
    """A server on listeners that exist, or on whatever its `upgrade` is given.

    Args:
        handler: called with a `WebSocketRequest` for each client.
        listeners: `trio.abc.Listener` of any streams: TCP, TLS, Unix sockets, memory. They belong to the server. None is
            for a server whose connections all come through `upgrade`.
        handler_nursery: where the tasks of accepted connections run; by default in the server's own nursery.
        options: see `ServerOptions`.

    Raises:
        TypeError: an option is unknown.
        ValueError: the listeners are none at all, or an option is out of range.
    """

    def __init__(
        self,
        handler: Handler,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]] | None,
        *,
        handler_nursery: trio.Nursery | None = None,
        **options: Unpack[ServerOptions],
    ) -> None:
        if listeners is not None and not listeners:
            raise ValueError("listeners must contain at least one item")
        self._handler = handler
        self._listeners = list(listeners or ())
        self._addresses = [_listening(listener) for listener in self._listeners]
        self._handler_nursery = handler_nursery
        check_observer(options.get("observer"))
        self._counters = Counters(options.get("observer"))
        self._config = ServerConfig.of({**options, "observer": self._counters})
        self._accepting = trio.CancelScope()
        self._round = trio.CancelScope()  # of accepting, up to the next pause
        self._resumed = trio.Event()
        self._resumed.set()
        self._running = False
        self._talks: set[Talk] = set()
        self._admission = self._admission_of(self._config)
        self._dismissed = 0  # clients that are being turned away
        # unparked whenever a connection's task has ended, and when the server has
        self._ended = trio.lowlevel.ParkingLot()
        self._drained_at = math.inf  # when connections are cut while the server ends

    @property
    def port(self) -> int:
        """The port that is listened on.

        Raises:
            RuntimeError: there are several listeners or none, or the one has no port.
        """
        if not self._listeners:
            raise RuntimeError("this server has no listeners, so it has no port")
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

    def statistics(self) -> ServerStatistics:
        """Return what the server has done, and what went over its connections: they are summed up now, if they are open."""
        connections = [talk.connection for talk in self._talks]
        alive = [each for each in connections if each is not None and each.state is not State.CLOSED]
        return self._counters.statistics(alive, connections.count(None))

    @enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[WebSocketServer] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `aclose` is called or this is cancelled.

        Args:
            task_status: reports the server itself once it accepts connections.

        Raises:
            Exception: a handler's, if ``handler_errors`` is ``"raise"``.
            RuntimeError: there are no listeners; `upgrade` needs nobody to run.

        Cancellation: no more connections are accepted, requests that are not answered yet get a 503, every connection
        is closed with 1001, and what has not ended ``drain`` seconds later is cut.
        """
        if not self._listeners:
            raise RuntimeError("this server has no listeners: there is nothing to run")
        self._running = True
        async with trio.open_nursery() as nursery:
            try:
                with self._accepting:
                    task_status.started(self)
                    await self._accept_all(self._handler_nursery or nursery)
            finally:
                self._accepting.cancel()
                try:
                    with trio.CancelScope(shield=True):  # a cancellation would end it after the first of them
                        for listener in self._listeners:
                            await trio.aclose_forcefully(listener)
                finally:
                    self._running = False
                    self._ended.unpark_all()

    def pause(self) -> None:
        """Accept no connections until `resume` is called; those that there are go on. Idempotent.

        As many clients as the backlog of the listeners holds wait meanwhile, others are refused by the kernel.
        """
        if self._resumed.is_set():
            self._resumed = trio.Event()
            self._round.cancel()

    def resume(self) -> None:
        """Accept connections again. Idempotent."""
        self._resumed.set()

    async def wait_closed(self) -> None:
        """Wait until the server has stopped and its last connection has ended.

        Cancellation: does nothing else.
        """
        await trio.lowlevel.checkpoint()
        while self._talks or self._running or not self._accepting.cancel_called:
            await self._ended.park()

    async def upgrade(self, stream: trio.abc.Stream, request: Request, leftover: bytes = b"") -> None:
        """Serve a client whose request an HTTP server has read, until its connection is over.

        The calling task becomes the connection's: it runs the handler, and all is as for connections that the server
        has accepted itself. A request that is not valid is answered; so is one that comes when the server was closed.

        Args:
            stream: where the request came from, with nothing answered yet; it belongs to the server from now on.
            request: as the HTTP server has read it.
            leftover: what the HTTP server has read behind the request's head.

        Raises:
            Exception: a handler's, if ``handler_errors`` is ``"raise"``.
            RuntimeError: this stream was given before; it is left as it was.

        Cancellation: a request that is not answered yet gets a 503, a connection is closed with 1001, and cut if it has
        not ended ``drain`` seconds later.
        """
        take_over(stream)
        error: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                try:
                    await self._talk(nursery, stream, (request, leftover))
                except BaseException as exc:  # noqa: BLE001 - kept from the nursery, which would put it into a group
                    error = exc
        except (
            BaseExceptionGroup
        ) as group:  # what found the nursery waiting for the last of the transport's tasks
            error = error or group.exceptions[0]
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback leads here

    @enable_ki_protection
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
        self._ended.unpark_all()
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

    def _admission_of(self, config: ServerConfig) -> Admission | None:
        """Return what keeps the server from too much, if anything is limited."""
        if not config.is_limited:
            return None
        return Admission(
            config.max_connections,
            config.max_connections_per_peer,
            config.message_rate,
            config.byte_rate,
            self._counters.close_for_rate,
        )

    async def _until_idle(self) -> None:
        await trio.lowlevel.checkpoint()
        while self._talks:
            await self._ended.park()

    @enable_ki_protection
    async def _accept_all(self, nursery: trio.Nursery) -> None:
        """Accept until all listeners are closed, but while the server is paused."""
        while True:
            while not self._resumed.is_set():
                await self._resumed.wait()
            with trio.CancelScope() as self._round:
                async with trio.open_nursery() as acceptors:
                    for listener in self._listeners:
                        acceptors.start_soon(accept_forever, listener, partial(self._talk, nursery), nursery)
            if not self._round.cancelled_caught:
                return

    async def _talk(self, nursery: trio.Nursery, stream: trio.abc.Stream, given: Given | None = None) -> None:
        """Be the task of one connection, from accepting it to its end."""
        talk = Talk(self._config.disconnect_timeout)
        self._talks.add(talk)
        if self._accepting.cancel_called:
            talk.scope.cancel()  # accepted just before the server was closed
        try:
            with talk.scope:
                if self._admission is not None and not await self._admit(talk, stream, given is not None):
                    return
                request = talk.request = await self._receive(stream, nursery, talk, given)
                del stream  # what it was is the request's now, and soon the connection's
                if request is not None:
                    try:  # here and not in a method: each step of the handler would go through one more
                        await self._handler(request)
                    except BaseException as exc:  # noqa: BLE001 - what is not the connection's own is raised there
                        await self._end_failed(talk, request, exc)
                    else:
                        await end(request, 1000, 500, "unanswered")
        finally:
            self._forget(talk)

    @enable_ki_protection
    def _forget(self, talk: Talk) -> None:
        """Let go of a connection whose task ends, wholly: who closes the server waits until nothing is left."""
        self._talks.discard(talk)
        if self._ended:
            self._ended.unpark_all()
        if talk.connection is not None:
            talk.connection.terminate()
        elif talk.request is not None:
            self._counters.refuse(talk.request.refusal)
        talk.expiry.stop()
        if talk.place is not None:
            talk.place.leave()

    async def _admit(self, talk: Talk, stream: trio.abc.Stream, is_read: bool) -> bool:
        """Give a connection its place, or turn it away; return whether it has one."""
        assert self._admission is not None
        client = direct_client(stream, self._config) if self._admission.by_peer else ""
        try:
            talk.place = self._admission.admit(peer_of(client or ""), talk.scope.cancel, client is None)
        except Refused as exc:
            reason = exc.reason
        else:
            return True
        self._dismissed += 1
        try:
            may_wait = self._dismissed <= DISMISSED_TOGETHER
            await dismiss(stream, unavailable()[1], is_read=is_read, may_wait=may_wait)
        finally:
            self._dismissed -= 1
            self._counters.refuse(reason)
        return False

    async def _receive(
        self,
        stream: trio.abc.Stream,
        nursery: trio.Nursery,
        talk: Talk,
        given: Given | None,
    ) -> WebSocketRequest | None:
        """Return the client's request; None if there was none."""
        try:
            return await receive_request(nursery, stream, self._config, talk.expire, given, talk.place)
        except BaseException as exc:
            gave_way = talk.place is not None and talk.place.is_lost
            self._counters.refuse("max_connections" if gave_way else refusal_of(exc))
            if isinstance(exc, HandshakeError):  # the client was told already
                return None
            if not is_failure(exc):
                raise
            log_failure("processing a request failed", exc)
            if self._config.handler_errors == "raise":
                raise
            return None

    @enable_ki_protection
    async def _end_failed(self, talk: Talk, request: WebSocketRequest, exc: BaseException) -> None:
        """End the connection as befits how the handler ended, and raise what is meant for somebody outside."""
        failure, interruption = failure_of(exc, request), interruption_of(exc)
        if failure is not None:
            self._counters.handler_failures += 1
            log_failure(f"the handler of {request.connection or request.path} failed", failure)
        if interruption is None:
            await end(request, 1011, 500, "handler_failed")
        elif not is_over(request):
            if self._drained_at == math.inf:  # else `aclose` has said when
                self._drained_at = trio.current_time() + self._config.drain
            with trio.CancelScope(shield=True, deadline=self._drained_at) as talk.farewell:
                await end(request, 1001, 503, "shutdown")
        if failure is not None and self._config.handler_errors == "raise":
            raise exc
        if interruption is not None:
            raise interruption from None


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
