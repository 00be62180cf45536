"""The example of compression sends on its terms, and few bytes, and serves who cannot meet them; knows nothing of others."""

import json
import zlib

import trio

from tests.examples.test_examples import port, serving
from tests.protocol.deflate_kit import TAIL
from trio_ws import PerMessageDeflate, open_websocket_url
from trio_ws.protocol import Role
from trio_ws.testing import RawPeer

__all__ = ["port"]  # a fixture

RSV1 = 4

TERMS = {"server_max_window_bits": "14", "client_max_window_bits": "10"}


async def test_compression(port: int) -> None:
    url = f"ws://127.0.0.1:{port}/"
    without = PerMessageDeflate(client_max_window_bits=False)
    async with serving("compression", port):
        for compression, expected in (True, [TERMS]), (without, []), (None, []):
            async with open_websocket_url(url, compression=compression) as ws:
                assert [dict(each.params) for each in ws.extensions] == expected
                assert len(await ws.get_message()) == 200
                await ws.send_message("x")
                assert json.loads(await ws.get_message())[-1] == {"name": "x", "number": 999}


async def test_what_goes_over_the_wire(port: int) -> None:
    offer = "permessage-deflate; client_max_window_bits"
    async with serving("compression", port), await trio.open_tcp_stream("127.0.0.1", port) as stream:
        peer = RawPeer(stream, Role.CLIENT)
        await peer.handshake(Sec_WebSocket_Extensions=offer)
        secret = await peer.receive_frame()
        assert (secret.rsv, len(secret.payload)) == (0, 200)
        inflater = zlib.decompressobj(-14)
        sizes: list[int] = []
        for _ in range(2):
            await peer.send_frame(1, b"x")
            answer = await peer.receive_frame()
            assert answer.rsv == RSV1
            assert json.loads(inflater.decompress(answer.payload + TAIL))[-1] == {"name": "x", "number": 999}
            sizes.append(len(answer.payload))
        assert sizes[0] < 4000  # of 33 kilobytes
        assert sizes[1] < sizes[0]  # it refers to the one before
