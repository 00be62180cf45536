"""What a server takes on: how many connections, of whom, and how much of each peer in a time; knows nothing of frames.

A connection has a *place* from when it was accepted to the end of its task. Places are counted in all, and by peer. When
all are taken, a newcomer gets that of the client which has let the server wait longest for its request, if it has done so
for `STALLED` seconds, and else none. So handshakes that lead nowhere, however many, keep nobody out for longer than that,
and a crowd that comes all at once is served in the order in which it came.

A peer is an IPv4 address or the /64 network of an IPv6 address. A site has at least such a network (RFC 6177), in which a
host can take as many of the 2**64 addresses as it likes (RFC 8981), so that a limit by address would be none; Zebra and
GitLab count the same. Who comes through a Unix socket or a stream in memory is nobody's peer and has no limit of its own:
there is no address to tell one from another, and the permissions of the socket's file say who may come.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import cycle

import trio

from ._endpoint import Endpoint
from .protocol import Response, ServerHandshake

#: Seconds after which a client that has not sent its request may lose its place: several round trips of a slow line, and
#: all that TLS needs. Below this a crowd of honest clients would push each other out, and nobody would get in.
STALLED = 1.0

#: Peers without a connection whose rates are remembered. Beyond this the one that went first is forgotten, and begins
#: again like one that was never there: memory has to end somewhere.
MAX_ABSENT = 16384

#: Seconds after which who found no place may come again. Not all are told the same, for all who were turned away in one
#: moment would be back in one.
RETRY_AFTER = range(5, 15)
_responses = [
    Response(503, {"Retry-After": f"{seconds}"}, "There are as many connections as there may be.\n")
    for seconds in RETRY_AFTER
]
_answers = cycle([(response, ServerHandshake().respond(response)) for response in _responses])

#: What a violation is called where it is counted.
_RATES = {"WS_ERR_BYTE_RATE": "byte_rate", "WS_ERR_MESSAGE_RATE": "message_rate"}


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How much may come in a time: ``burst`` at once, and ``rate`` a second in the long run (a token bucket).

    Attributes:
        rate: units a second; more than 0.
        burst: units that may come at once after a pause; at least 1.

    Raises:
        TypeError: one is not a number.
        ValueError: one is out of range, or not finite.
    """

    rate: float
    burst: float

    def __post_init__(self) -> None:
        for name, value in (("rate", self.rate), ("burst", self.burst)):
            if isinstance(value, bool) or not isinstance(value, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]  # who does not check types learns it here
                raise TypeError(f"{name} is a number, not {value!r}")
        if not (0 < self.rate < math.inf and 1 <= self.burst < math.inf):
            raise ValueError(f"rate is more than 0, burst at least 1, and both are finite, unlike in {self}")


class Bucket:
    """The tokens of one peer for one kind of unit; full at first, and filled up by the clock when it is looked at.

    Args:
        limit: how fast it fills, and how much it holds.
    """

    __slots__ = ("_limit", "_since", "_tokens")

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._tokens = float(limit.burst)
        self._since = trio.current_time()  # when there were so many

    def take(self, count: int) -> int:
        """Take whole tokens, `count` at most, and return how many there were."""
        self._fill()
        taken = min(count, int(self._tokens))
        self._tokens -= taken
        return taken

    def is_full(self) -> bool:
        """Say whether it is as if it had never been used."""
        self._fill()
        return self._tokens >= self._limit.burst

    def _fill(self) -> None:
        now = trio.current_time()
        self._tokens = min(self._limit.burst, self._tokens + (now - self._since) * self._limit.rate)
        self._since = now


class Refused(Exception):  # noqa: N818 - it is no error of anybody's
    """There is no place.

    Attributes:
        reason: the option that says so.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def unavailable() -> tuple[Response, bytes]:
    """Return what who finds no place is told, also as bytes for who has not been asked yet what it wants.

    Also where it is the peer that has too many: 429 would be for too many requests in a time (RFC 6585 4), and 503 is
    what nginx says by default for either (`limit_conn_status`).
    """
    return next(_answers)


class Peer:
    """One peer: how many places it has, and what it may still send; the `Meter` of all its connections.

    Args:
        messages: its tokens for messages, None for no limit.
        data: the same for bytes.
        count: called with the rate that one of its connections fails for.

    Attributes:
        places: how many it has.
    """

    __slots__ = ("_bytes", "_count", "_messages", "places")

    def __init__(self, messages: Bucket | None, data: Bucket | None, count: Callable[[str], None]) -> None:
        self._messages = messages
        self._bytes = data
        self._count = count
        self.places = 0

    def take_bytes(self, count: int) -> int:
        """Return how many of the bytes that came are within the rate."""
        return count if self._bytes is None else self._bytes.take(count)

    def take_messages(self, count: int) -> int:
        """Return how many of the messages that came are within the rate."""
        return count if self._messages is None else self._messages.take(count)

    def exceeded(self, code: str) -> None:
        """Count a connection that fails."""
        self._count(_RATES[code])

    def is_fresh(self) -> bool:
        """Say whether forgetting it changes nothing."""
        return all(bucket is None or bucket.is_full() for bucket in (self._messages, self._bytes))


class Place:
    """What one connection has of the server; made by `Admission.admit`.

    Args:
        admission: where it counts.
        evict: called when it is taken away.
        peer: whose it is.
        is_proxied: whether that is known only when a proxy has told it.

    Attributes:
        is_lost: whether it was taken away.
        since: since when its client's request is awaited.
    """

    __slots__ = ("_admission", "_evict", "_peer", "is_lost", "is_proxied", "since")

    def __init__(
        self, admission: Admission, evict: Callable[[], None], peer: Hashable | None, is_proxied: bool
    ) -> None:
        self._admission: Admission | None = admission
        self._evict = evict
        self._peer = peer
        self.is_proxied = is_proxied
        self.is_lost = False
        self.since = 0.0

    @property
    def meter(self) -> Peer | None:
        """What bounds its connection in time, if anything does."""
        return None if self._admission is None else self._admission.meter_of(self._peer)

    def wait(self) -> None:
        """Take note that the client's request is awaited from now on."""
        if self._admission is not None:
            self.since = trio.current_time()
            self._admission.waiting[self] = None

    def answered(self) -> None:
        """Take note that the client has sent its request: it keeps its place."""
        if self._admission is not None:
            self._admission.waiting.pop(self, None)

    def belongs_to(self, peer: Hashable | None) -> None:
        """Take note whose it is, as a proxy tells with each request.

        Raises:
            Refused: the peer has all that it may have. The place is nobody's then.
        """
        if self._admission is not None and peer != self._peer:
            self._admission.give_up(self._peer)
            self._peer = None
            self._admission.take_up(peer)
            self._peer = peer

    def evict(self) -> None:
        """Take it away from a client that has not said what it wants."""
        self.leave()
        self.is_lost = True
        self._evict()

    def leave(self) -> None:
        """Give it back. Idempotent."""
        if self._admission is not None:
            admission, self._admission = self._admission, None
            admission.waiting.pop(self, None)
            admission.taken -= 1
            admission.give_up(self._peer)


class Admission:
    """The places of one server, and the peers that have some.

    Args:
        most: how many connections there may be; None for no limit.
        most_by_peer: how many of one peer; None for no limit.
        messages: how many messages and control frames a peer may send; None for no limit.
        data: the same for bytes.
        count: called with the rate that a connection fails for.

    Attributes:
        taken: how many places are taken.
        waiting: those whose clients' requests are awaited, the one that has waited longest first.
        by_peer: whether anything is limited by peer.
    """

    def __init__(
        self,
        most: int | None,
        most_by_peer: int | None,
        messages: RateLimit | None,
        data: RateLimit | None,
        count: Callable[[str], None],
    ) -> None:
        self._most = math.inf if most is None else most
        self._most_by_peer = math.inf if most_by_peer is None else most_by_peer
        self._messages = messages
        self._data = data
        self._count = count
        self.by_peer = any(limit is not None for limit in (most_by_peer, messages, data))
        self.taken = 0
        self.waiting: OrderedDict[Place, None] = OrderedDict()
        self._peers: dict[Hashable, Peer] = {}
        # those without a place, the one that went first first
        self._absent: OrderedDict[Hashable, None] = OrderedDict()

    def admit(self, peer: Hashable | None, evict: Callable[[], None], is_proxied: bool = False) -> Place:
        """Give a new connection a place, from which its client's request is awaited.

        Args:
            peer: whose connection it is, as `peer_of` says; None for nobody's, or as long as it is not known.
            evict: called when its place is taken away, once at most.
            is_proxied: whether a proxy will tell whose it is.

        Raises:
            Refused: there is none.
        """
        stalled = self._stalled() if self.taken >= self._most else None
        if self.taken >= self._most and stalled is None:
            raise Refused("max_connections")
        self.take_up(peer)
        if stalled is not None:
            stalled.evict()
        self.taken += 1
        place = Place(self, evict, peer, is_proxied)
        place.wait()
        return place

    def meter_of(self, peer: Hashable | None) -> Peer | None:
        """Return what bounds a peer in time."""
        return None if self._messages is self._data is None or peer is None else self._peers[peer]

    def take_up(self, peer: Hashable | None) -> None:
        """Count one more place of a peer.

        Raises:
            Refused: it has all that it may have.
        """
        if peer is None or not self.by_peer:
            return
        found = self._peers.get(peer)
        if found is None:
            found = self._peers[peer] = self._new_peer()
        if found.places >= self._most_by_peer:
            raise Refused("max_connections_per_peer")
        found.places += 1
        self._absent.pop(peer, None)

    def give_up(self, peer: Hashable | None) -> None:
        """Count one place less of a peer, and forget those who have had time enough since their last."""
        if peer is None or not self.by_peer:
            return
        self._peers[peer].places -= 1
        if not self._peers[peer].places:
            self._absent[peer] = None
        while self._absent:
            first = next(iter(self._absent))
            if len(self._absent) <= MAX_ABSENT and not self._peers[first].is_fresh():
                break
            del self._absent[first], self._peers[first]

    def _new_peer(self) -> Peer:
        messages = None if self._messages is None else Bucket(self._messages)
        return Peer(messages, None if self._data is None else Bucket(self._data), self._count)

    def _stalled(self) -> Place | None:
        """Return the place of the client that has let us wait longest, if that is too long."""
        first = next(iter(self.waiting), None)
        return None if first is None or trio.current_time() - first.since < STALLED else first


def peer_of(client: Endpoint | str) -> Hashable | None:
    """Return whom a client counts as, None where there is nothing to tell it by.

    Args:
        client: its address, or what a trusted proxy calls it in place of one (RFC 7239 6.3).
    """
    if isinstance(client, str):
        return client if client.startswith("_") else None
    address = client.address
    if isinstance(address, ipaddress.IPv6Address):
        # one of IPv4 that a socket for both versions gives as IPv6 is the same peer on either
        return address.ipv4_mapped or int(address) >> 64
    return address
