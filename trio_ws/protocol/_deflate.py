"""The extension permessage-deflate (RFC 7692): its options, and what both sides agree on; knows nothing of frames."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ._compressors import Deflater, EngineName, Recipe, find_engine
from ._errors import RemoteProtocolError
from ._headers import Params
from ._inflate import Inflater

#: The extension's registered name.
NAME = "permessage-deflate"

#: What a side's own compressor remembers, and the memory level that goes with it, unless the options say otherwise: of
#: each connection it takes 38 KiB; zlib's own defaults would take 262 KiB for a tenth less bytes.
OWN_BITS, OWN_MEM_LEVEL = 12, 5

#: The same of a shared compressor, of which there are few: zlib's defaults.
SHARED_BITS, SHARED_MEM_LEVEL = 15, 8

#: Levels that are used unless the options say otherwise.
LEVELS: dict[EngineName, int] = {"zlib": 6, "zlib-ng": 6, "isal": 2}

#: The highest level of each engine.
MAX_LEVELS: dict[EngineName, int] = {"zlib": 9, "zlib-ng": 9, "isal": 3}

SERVER_TAKEOVER, CLIENT_TAKEOVER = "server_no_context_takeover", "client_no_context_takeover"
SERVER_BITS, CLIENT_BITS = "server_max_window_bits", "client_max_window_bits"

_BITS = re.compile(r"[89]|1[0-5]")  # RFC 7692 7.1.2: a decimal without leading zeros, between 8 and 15

#: The parameters of an offer or answer by name: True for one without a value, else the bits.
_Terms: TypeAlias = dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PerMessageDeflate:
    """One side's readiness to compress messages, and the terms on which it does. A value: any connections may share it.

    Of the first four each has three states: None leaves the matter to the peer, and otherwise takes what is cheap.

    Attributes:
        server_no_context_takeover: whether the server forgets each message before the next. On a server True does so, and
            False declines offers that ask for it; on a client True asks for it.
        client_no_context_takeover: the same of the client. On a server True asks for it; on a client True does so, and
            False fails the handshake if the server asks for it.
        server_max_window_bits: how far back the server refers: 2 to their power, in bytes. On a server a number, 8 to
            15, is what it uses and says, for which it declines offers of less, and False declines all offers with a limit;
            on a client a number is asked for.
        client_max_window_bits: the same of the client. On a server a number is asked for, and offers that do not permit it
            are declined; on a client a number is the most it uses, and False permits the server nothing.
        level: how hard to try, 0 to 9, of ``isal`` 0 to 3; None, the default, is 6, of ``isal`` 2.
        mem_level: memory for a compressor, 1 to 9; None, the default, is 5, and 8 for shared ones, of which there are few.
        strategy: one of zlib's strategies.
        threshold: messages of fewer bytes are sent as they are; 1024 by default, for of less little can be saved. Of a
            message in fragments the first one decides.
        concurrency_limit: large messages that are compressed at the same time, in threads; 10 by default. Connections
            with equal options share this number.
        shared: whether connections whose side takes no context over compress by the same few compressors, rather than by
            one of their own each; True by default.
        engine: ``zlib``, which Python brings along; or ``zlib-ng`` or ``isal``, which are faster and have to be installed.

    Raises:
        ImportError: the engine is not installed.
        TypeError: an option is of the wrong type.
        ValueError: an option is out of range.
    """

    server_no_context_takeover: bool | None = None
    client_no_context_takeover: bool | None = None
    server_max_window_bits: int | Literal[False] | None = None
    client_max_window_bits: int | Literal[False] | None = None
    level: int | None = None
    mem_level: int | None = None
    strategy: int = zlib.Z_DEFAULT_STRATEGY
    threshold: int = 1024
    concurrency_limit: int = 10
    shared: bool = True
    engine: EngineName = "zlib"

    def __post_init__(self) -> None:
        find_engine(self.engine)
        for name in (SERVER_TAKEOVER, CLIENT_TAKEOVER, "shared"):
            value: object = getattr(self, name)
            if not isinstance(value, bool) and (value is not None or name == "shared"):
                raise TypeError(f"{name} is True or False, not {value!r}")
        for name in (SERVER_BITS, CLIENT_BITS):
            if getattr(self, name) is not False:
                self._check(name, 8, 15)
        self._check("level", 0, MAX_LEVELS[self.engine])
        self._check("mem_level", 1, 9)
        self._check("strategy", zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED)
        self._check("threshold", 0, None)
        self._check("concurrency_limit", 1, None)

    def _check(self, name: str, least: int, most: int | None) -> None:
        value: object = getattr(self, name)
        if value is None and name not in ("strategy", "threshold", "concurrency_limit"):
            return
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} is a whole number, not {value!r}")
        if value < least or (most is not None and value > most):
            upper = "" if most is None else f" and at most {most}"
            raise ValueError(f"{name} is at least {least}{upper}, not {value}")

    @property
    def name(self) -> str:
        """The registered name of the extension."""
        return NAME

    def offer(self) -> Params:
        """Return what a client asks for."""
        terms: _Terms = {}
        if self.server_no_context_takeover:
            terms[SERVER_TAKEOVER] = True
        if self.client_no_context_takeover:
            terms[CLIENT_TAKEOVER] = True
        if self.server_max_window_bits:
            terms[SERVER_BITS] = self.server_max_window_bits
        if self.client_max_window_bits is not False:
            terms[CLIENT_BITS] = self.client_max_window_bits or True
        return _format(terms)

    def accept_response(self, params: Params) -> AgreedDeflate:
        """Return the extension on the terms that the server chose.

        Raises:
            RemoteProtocolError: they are malformed, or are not what was offered (RFC 7692 7.1).
        """
        try:
            terms = _parse(params)
            self._check_response(terms)
        except ValueError as error:
            raise RemoteProtocolError("WS_ERR_INVALID_HANDSHAKE", f"{NAME}: {error}") from None
        forgets = bool(self.client_no_context_takeover) or CLIENT_TAKEOVER in terms
        # a side may always refer back less far than was agreed on
        own = min(terms.get(CLIENT_BITS, 15), self.client_max_window_bits or self._usual_bits(forgets))
        peers = terms.get(SERVER_BITS, 15)
        return AgreedDeflate(self, tuple(params), forgets, SERVER_TAKEOVER in terms, own, peers)

    def _check_response(self, terms: _Terms) -> None:
        if terms.get(CLIENT_BITS) is True:
            raise ValueError(f"{CLIENT_BITS} has no value")
        if self.server_no_context_takeover and SERVER_TAKEOVER not in terms:
            raise ValueError(f"{SERVER_TAKEOVER} was asked for and not granted")
        if self.client_no_context_takeover is False and CLIENT_TAKEOVER in terms:
            raise ValueError(f"{CLIENT_TAKEOVER} is not permitted")
        if self.server_max_window_bits and terms.get(SERVER_BITS, 16) > self.server_max_window_bits:
            raise ValueError(
                f"{SERVER_BITS} is more than the {self.server_max_window_bits} that were asked for"
            )
        if CLIENT_BITS in terms and self.client_max_window_bits is False:
            raise ValueError(f"{CLIENT_BITS} was not offered")
        if terms.get(CLIENT_BITS, 0) > (self.client_max_window_bits or 15):
            raise ValueError(
                f"{CLIENT_BITS} is more than the {self.client_max_window_bits} that were offered"
            )

    def accept_offer(self, params: Params) -> tuple[Params, AgreedDeflate] | None:
        """Return what a server answers to a client's offer, and the extension on these terms; None declines.

        A malformed offer is declined like one that does not suit (RFC 7692 7): the client goes on without, or with its
        next offer.
        """
        try:
            offer = _parse(params)
        except ValueError:
            return None
        if not self._suits(offer):
            return None
        answer: _Terms = {}
        if self.server_no_context_takeover or SERVER_TAKEOVER in offer:
            answer[SERVER_TAKEOVER] = True
        granted = CLIENT_TAKEOVER in offer and self.client_no_context_takeover is None
        if self.client_no_context_takeover or granted:
            answer[CLIENT_TAKEOVER] = True
        forgets = SERVER_TAKEOVER in answer
        own = self.server_max_window_bits or min(offer.get(SERVER_BITS, 15), self._usual_bits(forgets))
        if self.server_max_window_bits or SERVER_BITS in offer:
            answer[SERVER_BITS] = own
        if CLIENT_BITS in offer and self.client_max_window_bits is not False:
            # as far as the client refers back, this side has to remember: what is not said is what is cheap
            most = self.client_max_window_bits or OWN_BITS
            answer[CLIENT_BITS] = most if offer[CLIENT_BITS] is True else min(offer[CLIENT_BITS], most)
        params, peers = tuple(_format(answer)), answer.get(CLIENT_BITS, 15)
        return params, AgreedDeflate(self, params, forgets, CLIENT_TAKEOVER in answer, own, peers)

    def _suits(self, offer: _Terms) -> bool:
        """Say whether an offer permits what this side's options demand."""
        if SERVER_TAKEOVER in offer and self.server_no_context_takeover is False:
            return False
        if SERVER_BITS in offer:
            wanted = self.server_max_window_bits
            if wanted is False or (wanted or 0) > offer[SERVER_BITS]:
                return False
        return not self.client_max_window_bits or CLIENT_BITS in offer

    def shares(self, forgets: bool) -> bool:
        """Say whether a side that forgets its messages, or does not, compresses by shared compressors."""
        return self.shared and forgets

    def _usual_bits(self, forgets: bool) -> int:
        return SHARED_BITS if self.shares(forgets) else OWN_BITS


@dataclass(frozen=True, slots=True)
class AgreedDeflate:
    """What both sides have agreed on, seen from one of them.

    Attributes:
        options: this side's.
        params: the server's answer.
        forgets: whether this side forgets each message before the next.
        peer_forgets: whether the peer does.
        window_bits: how far this side refers back: 2 to their power, in bytes.
        peer_window_bits: how far the peer may.
    """

    options: PerMessageDeflate
    params: Params
    forgets: bool
    peer_forgets: bool
    window_bits: int
    peer_window_bits: int

    @property
    def name(self) -> str:
        """The registered name of the extension."""
        return NAME

    def deflater(self) -> Deflater:
        """Return what to send through, which takes no memory yet."""
        options, shared = self.options, self.options.shares(self.forgets)
        mem_level = options.mem_level or (SHARED_MEM_LEVEL if shared else OWN_MEM_LEVEL)
        # No engine deflates with 8 bits. With 9 zlib refers back 2^9 - 262 = 250 bytes at most (its MAX_DIST), which are
        # within the 256 of a peer that has agreed on 8; isal does go up to 512.
        bits, engine = self.window_bits, options.engine
        if bits == 8:
            bits, engine = 9, "zlib"
        level = LEVELS[engine] if options.level is None else options.level
        recipe = Recipe(engine, level, bits, mem_level, options.strategy)
        return Deflater(recipe, takeover=not self.forgets, shared=shared, threshold=options.threshold)

    def inflater(self) -> Inflater:
        """Return what to receive through, which takes no memory yet."""
        # 9 for 8 as well: a peer may do what we do
        bits = max(self.peer_window_bits, 9)
        return Inflater(find_engine(self.options.engine), window_bits=bits, takeover=not self.peer_forgets)


def _parse(params: Params) -> _Terms:
    """Return parameters by name.

    Raises:
        ValueError: one is unknown, is there twice, or has a value that it cannot have.
    """
    terms: _Terms = {}
    for name, value in params:
        if name in terms:
            raise ValueError(f"{name} is there twice")
        if name in (SERVER_TAKEOVER, CLIENT_TAKEOVER):
            if value is not None:
                raise ValueError(f"{name} has no value, but here {value!r}")
            terms[name] = True
        elif name in (SERVER_BITS, CLIENT_BITS):
            terms[name] = _parse_bits(name, value)
        else:
            raise ValueError(f"{name} is not a parameter")
    return terms


def _parse_bits(name: str, value: str | None) -> int:
    if value is None and name == CLIENT_BITS:
        return True  # in an offer: the client supports the parameter (RFC 7692 7.1.2.2)
    if value is None or not _BITS.fullmatch(value):
        raise ValueError(f"{name} is a number from 8 to 15, not {value!r}")
    return int(value)


def _format(terms: _Terms) -> Params:
    return [(name, None if value is True else str(value)) for name, value in terms.items()]
