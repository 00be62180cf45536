"""An echo server whose statistics OpenTelemetry exports, here to the terminal, every minute."""

from collections.abc import Iterator

import trio
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader

from trio_ws import ServerStatistics, WebSocketRequest, WebSocketServer, serve_websocket


def instrument(meter: Meter, server: WebSocketServer) -> None:
    """Have the meter ask for the server's statistics. To be called in Trio's thread; the asking comes from others."""
    token = trio.lowlevel.current_trio_token()

    def ask() -> ServerStatistics:
        return trio.from_thread.run_sync(server.statistics, trio_token=token)

    def connections(_: CallbackOptions) -> Iterator[Observation]:
        yield Observation(ask().connections)

    def messages(_: CallbackOptions) -> Iterator[Observation]:
        now = ask()
        yield Observation(now.messages_sent, {"direction": "sent"})
        yield Observation(now.messages_received, {"direction": "received"})

    def refusals(_: CallbackOptions) -> Iterator[Observation]:
        for reason, number in ask().refusals.items():
            yield Observation(number, {"reason": reason})

    meter.create_observable_up_down_counter("websocket.connections", [connections])
    meter.create_observable_counter("websocket.messages", [messages])
    meter.create_observable_counter("websocket.refusals", [refusals])


async def echo(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


async def main() -> None:
    reader = PeriodicExportingMetricReader(ConsoleMetricExporter())
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("trio_ws")
    async with trio.open_nursery() as nursery:
        instrument(meter, await nursery.start(serve_websocket, echo, "127.0.0.1", 8765, None))


if __name__ == "__main__":
    trio.run(main)
