"""Codecs to be measured, one for each process: python codec_worker.py NAME CASE SIZE COUNT READ SECONDS.

The cases are ``decode`` and ``decode-text``, of what a client sent and therefore masked, ``encode``, as a server does,
and ``encode-masked``, as a client does. A pass has COUNT messages of SIZE bytes, which are decoded in reads of READ
bytes. Nothing but bytes in memory is involved, and what comes out is compared with what it should be. Prints messages
per second, and nanoseconds per message and per byte of payload, as JSON; the first fifth of the time does not count.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

Message = str | bytes
#: Decodes the reads of a connection, of which the number of messages is known.
Decode = Callable[[Sequence[bytes], int], Sequence[object]]
#: Encodes binary messages, one after another.
Encode = Callable[[Sequence[bytes]], Sequence[bytes]]

MASK = b"\x12\x34\x56\x78"
OP_TEXT, OP_BINARY = 1, 2


def apply_mask(data: bytes, mask: bytes) -> bytes:
    """Mask or unmask: RFC 6455 5.3."""
    key = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data) ^ int.from_bytes(key)).to_bytes(len(data))


def make_frame(payload: bytes, opcode: int, mask: bytes = b"") -> bytes:
    """Return a whole message as one frame: RFC 6455 5.2."""
    size = len(payload)
    bit = 0x80 if mask else 0
    if size < 126:
        head = bytes([0x80 | opcode, bit | size])
    elif size < 65536:
        head = bytes([0x80 | opcode, bit | 126]) + size.to_bytes(2)
    else:
        head = bytes([0x80 | opcode, bit | 127]) + size.to_bytes(8)
    return head + mask + (apply_mask(payload, mask) if mask else payload)


# --- Decoders -------------------------------------------------------------------------------------------------------


def decode_trio_ws() -> Decode:
    from trio_ws.protocol import MaskPool, Protocol, Role

    protocol = Protocol(Role.SERVER, masks=MaskPool(os.urandom))

    def decode(reads: Sequence[bytes], count: int) -> Sequence[object]:
        messages: list[object] = []
        for read in reads:
            messages += protocol.receive_data(read)
            while protocol.more:
                messages += protocol.receive_data(b"")
        return messages

    return decode


def decode_wsproto() -> Decode:
    from wsproto.connection import Connection, ConnectionType
    from wsproto.events import Message as MessageEvent

    connection = Connection(ConnectionType.SERVER)

    def decode(reads: Sequence[bytes], count: int) -> Sequence[object]:
        messages: list[object] = []
        parts: list[Any] = []  # wsproto leaves it to its user to put a message together
        for read in reads:
            connection.receive_data(read)
            for event in connection.events():
                if isinstance(event, MessageEvent):
                    parts.append(event.data)
                    if event.message_finished:
                        messages.append(type(parts[0])().join(parts) if len(parts) > 1 else parts[0])
                        parts = []
        return [bytes(message) if isinstance(message, bytearray) else message for message in messages]

    return decode


def decode_websockets() -> Decode:
    from websockets.frames import Frame, Opcode
    from websockets.protocol import State
    from websockets.server import ServerProtocol

    protocol = ServerProtocol(state=State.OPEN)

    def decode(reads: Sequence[bytes], count: int) -> Sequence[object]:
        messages: list[object] = []
        for read in reads:
            protocol.receive_data(read)
            for frame in protocol.events_received():
                assert isinstance(frame, Frame)
                data = bytes(frame.data)
                messages.append(data.decode() if frame.opcode is Opcode.TEXT else data)
        return messages

    return decode


def decode_aiohttp() -> Decode:
    from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
    from aiohttp.base_protocol import BaseProtocol

    loop = asyncio.new_event_loop()
    queue = WebSocketDataQueue(BaseProtocol(loop), 2**30, loop=loop)
    reader = WebSocketReader(queue, 2**22, compress=False, decode_text=True)

    def decode(reads: Sequence[bytes], count: int) -> Sequence[object]:
        for read in reads:
            reader.feed_data(read)
        return [step(queue.read()).data for _ in range(count)]

    return decode


def step(coroutine: Any) -> Any:
    """Run a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("it waits")


# --- Encoders -------------------------------------------------------------------------------------------------------


def encode_trio_ws(masked: bool) -> Encode:
    from trio_ws.protocol import MaskPool, Protocol, Role

    protocol = Protocol(Role.CLIENT if masked else Role.SERVER, masks=MaskPool(os.urandom))

    def encode(messages: Sequence[bytes]) -> Sequence[bytes]:
        return [chunk for message in messages for chunk in protocol.send_message(message)]

    return encode


def encode_wsproto(masked: bool) -> Encode:
    from wsproto.connection import Connection, ConnectionType
    from wsproto.events import BytesMessage

    connection = Connection(ConnectionType.CLIENT if masked else ConnectionType.SERVER)

    def encode(messages: Sequence[bytes]) -> Sequence[bytes]:
        return [connection.send(BytesMessage(data=message)) for message in messages]

    return encode


def encode_websockets(masked: bool) -> Encode:
    from websockets.protocol import Protocol, Side

    protocol = Protocol(Side.CLIENT if masked else Side.SERVER)

    def encode(messages: Sequence[bytes]) -> Sequence[bytes]:
        frames: list[bytes] = []
        for message in messages:
            protocol.send_binary(message)
            frames += protocol.data_to_send()
        return frames

    return encode


def encode_aiohttp(masked: bool) -> Encode:
    from aiohttp._websocket.writer import WebSocketWriter
    from aiohttp.base_protocol import BaseProtocol

    class Transport:
        """Takes what is written, as long as anybody wants it."""

        def __init__(self) -> None:
            self.written: list[bytes] = []
            self.write = self.written.append

        def is_closing(self) -> bool:
            return False

    transport = Transport()
    stream: Any = transport
    writer = WebSocketWriter(BaseProtocol(asyncio.new_event_loop()), stream, use_mask=masked)

    def encode(messages: Sequence[bytes]) -> Sequence[bytes]:
        for message in messages:
            step(writer.send_frame(message, OP_BINARY))
        frames = transport.written[:]
        transport.written.clear()
        return frames

    return encode


DECODERS: dict[str, Callable[[], Decode]] = {
    "aiohttp": decode_aiohttp,
    "trio_ws": decode_trio_ws,
    "websockets": decode_websockets,
    "wsproto": decode_wsproto,
}
ENCODERS: dict[str, Callable[[bool], Encode]] = {
    "aiohttp": encode_aiohttp,
    "trio_ws": encode_trio_ws,
    "websockets": encode_websockets,
    "wsproto": encode_wsproto,
}

# --- Measuring ------------------------------------------------------------------------------------------------------


def prepare_decoding(name: str, case: str, size: int, count: int, read: int) -> Callable[[], object]:
    """Return the pass; what it does has been checked."""
    messages: list[Message] = [os.urandom(size // 2).hex() for _ in range(count)]
    if case == "decode":
        messages = [text.encode() for text in messages if isinstance(text, str)]
    stream = b"".join(
        make_frame(message.encode(), OP_TEXT, MASK)
        if isinstance(message, str)
        else make_frame(message, OP_BINARY, MASK)
        for message in messages
    )
    reads = [stream[at : at + read] for at in range(0, len(stream), read)]
    decode = DECODERS[name]()
    for _ in range(2):  # the second time shows that the first has left nothing behind
        if list(decode(reads, count)) != messages:
            raise RuntimeError("other messages came out than went in")
    return lambda: decode(reads, count)


def prepare_encoding(name: str, case: str, size: int, count: int) -> Callable[[], object]:
    """Return the pass; what it does has been checked."""
    messages = [os.urandom(size) for _ in range(count)]
    masked = case == "encode-masked"
    encode = ENCODERS[name](masked)
    stream = b"".join(encode(messages))
    for message in messages:
        head = len(make_frame(message, OP_BINARY)) - size
        frame = make_frame(message, OP_BINARY, stream[head : head + 4] if masked else b"")
        if not stream.startswith(frame):
            raise RuntimeError("other frames came out than should")
        stream = stream[len(frame) :]
    return lambda: encode(messages)


def repeat_until(end: float, once: Callable[[], object]) -> tuple[int, float]:
    """Return how many passes were made, at least one, and when the last one ended."""
    count = 0
    while True:
        once()
        count += 1
        if (now := time.perf_counter()) >= end:
            return count, now


def main(name: str, case: str, size: str, count: str, read: str, seconds: str) -> None:
    """Measure one codec once."""
    if case.startswith("encode"):
        once = prepare_encoding(name, case, int(size), int(count))
    else:
        once = prepare_decoding(name, case, int(size), int(count), int(read))
    start = time.perf_counter()
    _, warm = repeat_until(start + float(seconds) / 5, once)
    passes, end = repeat_until(start + float(seconds), once)
    each = (end - warm) / (passes * int(count))
    print(json.dumps({"messages_s": 1 / each, "message_ns": each * 1e9, "byte_ns": each * 1e9 / int(size)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
