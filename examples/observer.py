"""An echo server that logs who comes and goes, and with what."""

import logging

import trio

from trio_ws import Observer, WebSocketConnection, WebSocketRequest, serve_websocket

logger = logging.getLogger("echo")


class Log(Observer):
    """Writes one line for each event."""

    def connection_opened(self, connection: WebSocketConnection) -> None:
        logger.info("%s has come from %s", connection, connection.remote)

    def connection_closed(self, connection: WebSocketConnection) -> None:
        statistics = connection.statistics()
        logger.info(
            "%s has gone with %s, after %.1f s and %d messages",
            connection,
            connection.close_code,
            statistics.seconds,
            statistics.messages_received,
        )

    def handshake_refused(self, reason: str) -> None:
        logger.info("refused: %s", reason)


async def echo(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


async def main() -> None:
    logging.basicConfig(level=logging.INFO)
    await serve_websocket(echo, "127.0.0.1", 8765, None, observer=Log())


if __name__ == "__main__":
    trio.run(main)
