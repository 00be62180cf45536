"""The memory that one large message takes at its peak: python peak_worker.py NAME ROLE ACTION KIND SIZE.

A connection in ROLE, server or client, receives or sends one message of SIZE bytes, binary or text of ASCII. Its peer is
a process of its own, which makes and checks frames by hand and never holds more than a block of them. Prints by how much
this process grew at most, as a multiple of SIZE, as JSON. What the application has of it counts: the message alone.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import json
import os
import socket
import sys
import traceback
from functools import partial
from pathlib import Path

import trio

from trio_ws import WebSocketConnection, wrap_client_stream, wrap_server_stream

OP_TEXT, OP_BINARY = 1, 2
MASK = b"\x12\x34\x56\x78"
LETTERS = b"0123456789abcdef"
BLOCK = LETTERS * 4096  # of the message, and as much as the peer holds of it


# --- The peer -------------------------------------------------------------------------------------------------------


def apply_mask(block: bytes, mask: bytes) -> bytes:
    """Mask a block whose size is a multiple of four: RFC 6455 5.3."""
    key = mask * (len(block) // 4)
    return (int.from_bytes(block) ^ int.from_bytes(key)).to_bytes(len(block))


def receive_exactly(sock: socket.socket, size: int) -> bytes:
    """Receive as many bytes."""
    data = sock.recv(size, socket.MSG_WAITALL)
    if len(data) < size:
        raise EOFError("the connection ended too early")
    return data


def receive_head(sock: socket.socket) -> bytes:
    """Receive the head of a request or a response."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += receive_exactly(sock, 1)
    return head


def shake_hands(sock: socket.socket, *, masked: bool) -> None:
    """Do the peer's part of the opening handshake; the peer is the client if it masks."""
    if masked:
        sock.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        receive_head(sock)
        return
    fields = dict(line.split(b": ", 1) for line in receive_head(sock).split(b"\r\n")[1:-2])
    key = {name.lower(): value for name, value in fields.items()}[b"sec-websocket-key"]
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


def send_large(sock: socket.socket, opcode: int, size: int, *, masked: bool) -> None:
    """Send a message of `size` bytes."""
    mask = MASK if masked else b""
    block = apply_mask(BLOCK, MASK) if masked else BLOCK
    sock.sendall(bytes([0x80 | opcode, 0x80 * masked | 127]) + size.to_bytes(8) + mask)
    for _ in range(size // len(block)):
        sock.sendall(block)


def receive_large(sock: socket.socket, opcode: int, size: int, *, masked: bool) -> None:
    """Receive a message, and see that it is the one that is due."""
    expected = bytes([0x80 | opcode, 0x80 * (not masked) | 127]) + size.to_bytes(8)
    if receive_exactly(sock, len(expected)) != expected:
        raise RuntimeError("another message came than was sent")
    block = BLOCK if masked else apply_mask(BLOCK, receive_exactly(sock, 4))
    for _ in range(size // len(block)):
        if receive_exactly(sock, len(block)) != block:
            raise RuntimeError("other bytes came than were sent")


def play_peer(sock: socket.socket, *, masked: bool, sends: bool, opcode: int, size: int) -> None:
    """Be the peer: answer a ready with a large message, or a large message with a done."""
    shake_hands(sock, masked=masked)
    if sends:
        receive_exactly(sock, 2 if masked else 6)
        send_large(sock, opcode, size, masked=masked)
    else:
        receive_large(sock, opcode, size, masked=masked)
        sock.sendall(bytes([0x80 | OP_BINARY, 0x80 * masked]) + (MASK if masked else b""))
    while sock.recv(65536):
        pass  # until the other side has ended


# --- The process that is measured -----------------------------------------------------------------------------------


def read_peak() -> int:
    """Return the largest resident memory there was since `forget_peak`, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def forget_peak() -> None:
    """Let the largest resident memory be the present one."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def make_message(opcode: int, size: int) -> str | bytes:
    count = size // len(LETTERS)
    return LETTERS.decode() * count if opcode == OP_TEXT else LETTERS * count


async def connect(nursery: trio.Nursery, sock: socket.socket, role: str, size: int) -> WebSocketConnection:
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    if role == "client":
        return await wrap_client_stream(nursery, stream, "localhost", "/", max_message_size=size)
    request = await wrap_server_stream(nursery, stream, max_message_size=size)
    return await request.accept()


async def measure(sock: socket.socket, role: str, *, sends: bool, opcode: int, size: int) -> int:
    """Return by how many bytes this process grew at most."""
    async with trio.open_nursery() as nursery:
        connection = await connect(nursery, sock, role, size)
        forget_peak()
        before = read_peak()
        if sends:
            message = make_message(opcode, size)
            await connection.send_message(message)
            await connection.get_message()
        else:
            await connection.send_message(b"")
            message = await connection.get_message()
        peak = read_peak()
        if message != make_message(opcode, size):
            raise RuntimeError("another message came than was sent")
        connection.terminate()
    return peak - before


def open_pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]


def start_peer(
    near: socket.socket, far: socket.socket, *, masked: bool, sends: bool, opcode: int, size: int
) -> int:
    """Have a process play the peer at the far end, and return its number."""
    process = os.fork()
    if process:
        far.close()
        return process
    near.close()
    try:
        play_peer(far, masked=masked, sends=sends, opcode=opcode, size=size)
    except Exception:  # noqa: BLE001 - this process has nobody else to tell
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main(name: str, role: str, action: str, kind: str, size: str) -> None:
    """Measure one peak once."""
    near, far = open_pair()
    opcode = OP_TEXT if kind == "text" else OP_BINARY
    sends = action == "send"
    peer = start_peer(near, far, masked=role == "server", sends=not sends, opcode=opcode, size=int(size))
    grown = trio.run(partial(measure, near, role, sends=sends, opcode=opcode, size=int(size)))
    if os.waitpid(peer, 0)[1]:
        raise RuntimeError("the peer failed")
    print(json.dumps({"multiple": grown / int(size)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
