"""WebSockets here, and an ASGI application for all else on the same port: Hypercorn gets the stream and what was read of it."""

from typing import Any, cast

import h11
import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app

from trio_ws import Request, WebSocketRequest, WebSocketServer


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The ASGI application: FastAPI, Quart, Starlette or, as here, by hand."""
    if scope["type"] == "http":
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": f"This is {scope['path']}\n".encode()})


async def echo(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


class Replayed:
    """A stream from which some bytes were read already: they come first once more."""

    def __init__(self, stream: trio.abc.Stream, read: bytes) -> None:
        self.stream = stream
        self.read = read

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if not self.read:
            return await self.stream.receive_some(max_bytes)
        await trio.lowlevel.checkpoint()
        data, self.read = self.read[:max_bytes], self.read[max_bytes or len(self.read) :]
        return data

    def __getattr__(self, name: str) -> Any:  # the rest is the stream's, be it of TLS or not
        return getattr(self.stream, name)


class Port:
    def __init__(self) -> None:
        self.server = WebSocketServer(echo, None)
        self.config = Config()
        self.context = WorkerContext(None)
        self.wrapped = wrap_app(cast("Any", application), self.config.wsgi_max_body_size, "asgi")

    async def serve(self, stream: trio.abc.Stream) -> None:
        try:
            await self.divide(stream)
        except trio.BrokenResourceError:
            pass  # it has gone
        finally:
            await trio.aclose_forcefully(stream)

    async def divide(self, stream: trio.abc.Stream) -> None:
        http, read = h11.Connection(h11.SERVER), b""
        try:
            with trio.fail_after(10):
                while (event := http.next_event()) is h11.NEED_DATA:
                    data = bytes(await stream.receive_some(65536))
                    http.receive_data(data)
                    read += data
        except (h11.RemoteProtocolError, trio.TooSlowError):
            return
        if not isinstance(event, h11.Request):
            return
        if (b"upgrade", b"websocket") in [(name, value.lower()) for name, value in event.headers]:
            method, target = event.method.decode("ascii"), event.target.decode("ascii")
            request = Request(method, target, event.headers, event.http_version.decode("ascii"))
            await self.server.upgrade(stream, request, http.trailing_data[0])
        else:
            replayed = cast("Any", Replayed(stream, read))
            await TCPServer(self.wrapped, self.config, self.context, cast("Any", {}), replayed)


async def main() -> None:
    await trio.serve_tcp(Port().serve, 8765, host="127.0.0.1")


if __name__ == "__main__":
    trio.run(main)
