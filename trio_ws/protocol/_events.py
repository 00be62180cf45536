"""What the protocol core yields: frozen values; knows nothing of how they came about.

A whole message is the `str` or `bytes` itself, for it is by far the most frequent event and needs no wrapping. A
violation by the peer is a `RemoteProtocolError`, the last event of its connection, behind the messages before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ._errors import RemoteProtocolError


@dataclass(frozen=True, slots=True)
class Ping:
    """The peer asks for a pong with the same payload (RFC 6455 5.5.2)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """The peer answers a ping, or says unasked that it lives (RFC 6455 5.5.3)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The peer's close frame; an empty one has the code 1005 (RFC 6455 7.1.5)."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of a message that was asked for in pieces; `final` marks its last."""

    data: str | bytes
    final: bool


class TextBytes(bytes):
    """A text message as it came, in UTF-8 that was checked: only the type tells it from a binary one.

    It is sent like any other buffer, as binary, unless `binary=False` says otherwise.
    """

    __slots__ = ()


Event: TypeAlias = str | bytes | Fragment | Ping | Pong | Close | RemoteProtocolError
