"""An HTTP server of one's own, written on h11, that gives `/foo` and `/bar` to two WebSocket servers on its port.

`python external_http_server.py` serves plainly; with the files of a certificate and its key it serves over TLS.
"""

import ssl
import sys

import h11
import trio

from trio_ws import Request, WebSocketRequest, WebSocketServer


async def echo(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


async def shout(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message.upper())


SERVERS = {"/foo": WebSocketServer(echo, None), "/bar": WebSocketServer(shout, None)}
PAGES = {b"/": b"Try /foo or /bar.\n"}


async def serve(stream: trio.abc.Stream) -> None:
    """Answer a client's requests, up to one that asks for a WebSocket."""
    try:
        await talk_http(h11.Connection(h11.SERVER), stream)
    except (trio.BrokenResourceError, h11.RemoteProtocolError):
        pass  # it has gone, or speaks something else
    finally:
        await trio.aclose_forcefully(stream)


async def talk_http(http: h11.Connection, stream: trio.abc.Stream) -> None:
    while True:
        with trio.move_on_after(10):
            event = await next_event(http, stream)
            if not isinstance(event, h11.Request):
                return
            target = event.target.decode("ascii")
            server = SERVERS.get(target.partition("?")[0])
            if server is not None:
                break
            while not isinstance(await next_event(http, stream), h11.EndOfMessage):
                pass
            await answer(http, stream, PAGES.get(event.target))
            if http.our_state is not h11.DONE:
                return
            http.start_next_cycle()
            continue
        return  # it took too long
    # all that was read behind the head is not HTTP any more
    leftover, _ = http.trailing_data
    version = event.http_version.decode("ascii")
    request = Request(event.method.decode("ascii"), target, event.headers, version)
    await server.upgrade(stream, request, leftover)


async def next_event(http: h11.Connection, stream: trio.abc.Stream) -> object:
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(bytes(await stream.receive_some(65536)))
    return event


async def answer(http: h11.Connection, stream: trio.abc.Stream, page: bytes | None) -> None:
    status, body = (404, b"Not found.\n") if page is None else (200, page)
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    data = http.send(h11.Response(status_code=status, headers=headers))
    data += http.send(h11.Data(data=body))
    data += http.send(h11.EndOfMessage())
    await stream.send_all(data)


async def main(*certificate: str) -> None:
    listeners = await trio.open_tcp_listeners(8765, host="127.0.0.1")
    if not certificate:
        await trio.serve_listeners(serve, listeners)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    await trio.serve_listeners(serve, [trio.SSLListener(each, context) for each in listeners])


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
