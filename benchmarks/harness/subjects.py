"""What is measured, as a table: the library in question, its floor, and its peers; knows nothing of what is asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Subject:
    """One column of a comparison.

    Attributes:
        name: for the command line.
        title: for people.
        home: which Python, or Node.js, runs it: that of this project, or one that was made for the peers.
        packages: what has to be installed for it, by the names of PyPI or npm.
        program: its name in the programs that are measured, if that is not its own.
        environment: variables for its process, besides those of this one.
        reads: whether it reads what it receives; the floor does not.
    """

    name: str
    title: str
    home: Literal["project", "peers", "node"] = "peers"
    packages: tuple[str, ...] = ()
    program: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    reads: bool = True


# Whatever this process was told, each of the two has the codec that its title says.
PROJECT = Subject("trio_ws", "trio_ws", "project", environment=(("TRIO_WS_ACCEL", "auto"),))
PURE = Subject(
    "trio_ws_pure",
    "trio_ws (pure)",
    "project",
    program="trio_ws",
    environment=(("TRIO_WS_ACCEL", "0"),),
)

SERVERS = (
    PROJECT,
    PURE,
    Subject("floor", "Trio stream", "project", reads=False),
    Subject("websockets_trio", "websockets.trio", packages=("websockets", "trio")),
    Subject("trio_websocket", "trio-websocket", packages=("trio-websocket",)),
    Subject("ws", "ws", "node", ("ws", "bufferutil", "utf-8-validate")),
    Subject("aiohttp", "aiohttp + uvloop", packages=("aiohttp", "uvloop")),
    Subject("picows", "picows + uvloop", packages=("picows", "uvloop")),
    Subject("websockets", "websockets, asyncio", packages=("websockets",)),
)

#: Those that compress.
DEFLATING = tuple(
    subject
    for subject in SERVERS
    if subject.name in (PROJECT.name, PURE.name, "websockets_trio", "ws", "aiohttp")
)

#: Those that send one message to many clients.
BROADCASTING = tuple(
    subject
    for subject in SERVERS
    if subject.name in (PROJECT.name, PURE.name, "websockets_trio", "ws", "websockets")
)

CLIENTS = (
    PROJECT,
    PURE,
    Subject("websockets_trio", "websockets.trio", packages=("websockets", "trio")),
    Subject("trio_websocket", "trio-websocket", packages=("trio-websocket",)),
    Subject("websockets", "websockets, asyncio", packages=("websockets",)),
    Subject("websockets_sync", "websockets, threads", packages=("websockets",)),
    Subject("aiohttp", "aiohttp + uvloop", packages=("aiohttp", "uvloop")),
)

CODECS = (
    PROJECT,
    PURE,
    Subject("wsproto", "wsproto", packages=("wsproto",)),
    Subject("websockets", "websockets", packages=("websockets",)),
    Subject("aiohttp", "aiohttp", packages=("aiohttp",)),
)
