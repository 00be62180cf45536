"""What nobody may foretell, masks, keys and pings, and what nobody may learn by the time that it takes: secrets compared."""

import ast
import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ws
from tests.io.api_kit import client_and_peer, scripted_port
from trio_ws import HandshakeError, PreparedMessage, connect_websocket_url
from trio_ws.testing import RawPeer

# Each is run in a process of its own, for the generator is taken when the library is imported.

#: What there is to be seen of one client's connection: the key, and of each frame the mask and, of pings, the payload.
CONNECT = """
import base64, json, os, sys, re
{before}
import trio, trio.testing
from trio_ws import wrap_client_stream
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer

async def look(seen):
    near, far = trio.testing.memory_stream_pair()
    peer = RawPeer(far, Role.SERVER)
    async def serve():
        head = await peer.handshake()
        key = re.search(rb"(?i)sec-websocket-key: (.*?)\\r", head)[1]
        seen["key"] = base64.b64decode(key).hex()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        ws = await wrap_client_stream(nursery, near, "localhost", "/")
        for _ in range(100):
            await ws.send_message("x")
        with trio.move_on_after(0.01):
            await ws.ping()
        frames = [await peer.receive_frame() for _ in range(101)]
        seen["masks"] = [frame.mask.hex() for frame in frames]
        seen["ping"] = frames[-1].payload.hex()
        ws.terminate()
"""

SOURCE = (
    CONNECT.format(
        before="""
drawn = []
urandom = os.urandom
def watched(size):
    drawn.append(urandom(size))
    return drawn[-1]
os.urandom = watched
"""
    )
    + """
seen = {}
trio.run(look, seen)
seen["drawn"] = [each.hex() for each in drawn]
print(json.dumps(seen))
"""
)

FORK = (
    CONNECT.format(before="")
    + """
first = {}
trio.run(look, first)  # so that there is a store of random bytes when it forks
reader, writer = os.pipe()
child = os.fork()
seen = {}
trio.run(look, seen)
if child == 0:
    os.write(writer, json.dumps(seen).encode())
    os._exit(0)
os.waitpid(child, 0)
print(json.dumps([first, seen, json.loads(os.read(reader, 2**16))]))
"""
)


def run(script: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True, timeout=30
    )
    return json.loads(done.stdout)


def test_keys_masks_and_pings_are_the_systems_random_bytes_and_none_is_used_twice() -> None:
    seen = run(SOURCE)
    assert seen["key"] in seen["drawn"]
    pools = [draw for draw in seen["drawn"] if len(draw) > 32]
    places: set[tuple[int, int]] = set()
    for used in [*seen["masks"], seen["ping"]]:
        [place] = [
            (number, found.start())
            for number, pool in enumerate(pools)
            for found in re.finditer(f"(?={used})", pool)
            if found.start() % 8 == 0
        ] or [(-1, -1)]
        assert place not in places
        places.add(place)
    assert (-1, -1) not in places
    assert len(places) == 102


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_after_a_fork_both_processes_have_masks_and_keys_of_their_own() -> None:
    conversations = run(FORK)
    used = [{*each["masks"], each["ping"], each["key"]} for each in conversations]
    assert len(used) == 3
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not used[one] & used[other]


async def test_every_kind_of_frame_has_a_mask_of_its_own() -> None:
    async def pieces() -> AsyncIterator[str]:
        for piece in ("a", "b", "c"):
            yield piece

    async with client_and_peer(ping_interval=None) as (ws, peer):
        prepared = PreparedMessage("the same text")
        await ws.send_message(prepared)
        await ws.send_message(prepared)
        await ws.send_message("the same text")
        await ws.send_message(bytes(200_000))
        await ws.send_stream(pieces())
        await ws.pong(b"same")
        await ws.pong(b"same")
        with trio.move_on_after(0.01):
            await ws.ping(b"same")
        await ws.end_sending()
        frames = [await peer.receive_frame() for _ in range(11 + 1)]
        opcodes = [frame.opcode for frame in frames]
        assert sorted(opcodes) == sorted([1, 1, 1, 2, 1, 0, 0, 0, 10, 10, 9, 8]), opcodes
        masks = [frame.mask for frame in frames]
        assert None not in masks
        assert len({*masks}) == len(masks)
        ws.terminate()


async def test_each_try_has_a_key_of_its_own_also_behind_redirects() -> None:
    keys: list[bytes] = []

    async def redirect(peer: RawPeer) -> None:
        found = re.search(rb"(?i)sec-websocket-key: (.*?)\r", await peer.receive_head())
        assert found
        keys.append(base64.b64decode(found[1], validate=True))
        location = b"Location: /%d\r\n" % len(keys)
        await peer.send(b"HTTP/1.1 307 On\r\n" + location + b"Content-Length: 0\r\n\r\n")

    async with scripted_port(redirect) as port, trio.open_nursery() as nursery:
        for _ in range(3):
            with pytest.raises(HandshakeError):
                await connect_websocket_url(nursery, f"ws://127.0.0.1:{port}/", max_redirects=3)
    assert len(keys) == len({*keys}) == 12
    assert {len(key) for key in keys} == {16}


# The source

MODULES = sorted(Path(trio_ws.__file__).parent.rglob("*.py"))
SECRET = re.compile(
    r"pass(word|wd)|secret|credential|authorization|token$|digest|cookie_value", re.IGNORECASE
)


def names_in(node: ast.AST) -> set[str]:
    """Return the names that are read in an expression, but for what is called with them."""
    found: set[str] = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            found.add(each.id)
        elif isinstance(each, ast.Attribute):
            found.add(each.attr)
    return found


def compared_in_the_open(source: str) -> list[str]:
    """Return the comparisons by content of what is called like a secret."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops)
        and any(SECRET.search(name) for side in (node.left, *node.comparators) for name in names_in(side))
    ]


def test_no_secret_is_compared_in_a_time_that_tells_of_it() -> None:
    assert compared_in_the_open("if user == 'x' and password != given: pass") == ["password != given"]
    found = {path.name: compared_in_the_open(path.read_text("utf-8")) for path in MODULES}
    assert {name: comparisons for name, comparisons in found.items() if comparisons} == {}


def test_no_generator_that_can_be_foretold_is_used_for_more_than_delays() -> None:
    importing = {
        path.name
        for path in MODULES
        if re.search(r"^\s*(?:import|from) (?:random|uuid|numpy)\b", path.read_text("utf-8"), re.MULTILINE)
    }
    assert importing == {"_reconnect.py"}  # how long to wait
