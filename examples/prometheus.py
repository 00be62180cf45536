"""An echo server whose statistics Prometheus reads at http://127.0.0.1:9464/metrics."""

from collections.abc import Iterator

import trio
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from trio_ws import Request, Response, WebSocketRequest, WebSocketServer, serve_websocket


class Statistics(Collector):
    """What Prometheus asks for, at the moment in which it does."""

    def __init__(self, server: WebSocketServer) -> None:
        self.server = server

    def collect(self) -> Iterator[Metric]:
        now = self.server.statistics()
        yield GaugeMetricFamily("websocket_connections", "Open connections.", now.connections)
        yield GaugeMetricFamily("websocket_handshakes", "Handshakes in progress.", now.handshakes)
        yield CounterMetricFamily("websocket_accepted", "Connections accepted.", now.accepted)
        yield CounterMetricFamily("websocket_handler_failures", "Handlers that raised.", now.handler_failures)
        yield CounterMetricFamily("websocket_pauses", "Pauses of reading.", now.pauses)
        for name in ("messages", "bytes", "frames", "pings", "pongs", "wire_bytes"):
            traffic = CounterMetricFamily(f"websocket_{name}", f"Traffic in {name}.", labels=["direction"])
            traffic.add_metric(["sent"], getattr(now, f"{name}_sent"))
            traffic.add_metric(["received"], getattr(now, f"{name}_received"))
            yield traffic
        refusals = CounterMetricFamily("websocket_refusals", "Clients refused.", labels=["reason"])
        for reason, number in now.refusals.items():
            refusals.add_metric([reason], number)
        yield refusals
        closes = CounterMetricFamily("websocket_closes", "Connections that are over.", labels=["code"])
        for code, number in now.closes.items():
            closes.add_metric([str(code)], number)
        yield closes
        latency = SummaryMetricFamily("websocket_latency_seconds", "Round-trip times of pings.")
        latency.add_metric([], now.latency.count, now.latency.total)
        yield latency
        if now.latency.p99 is not None:
            yield GaugeMetricFamily("websocket_latency_p99_seconds", "Of all time.", now.latency.p99)


async def echo(request: WebSocketRequest) -> None:
    ws = await request.accept()
    async for message in ws:
        await ws.send_message(message)


async def main() -> None:
    registry = CollectorRegistry()

    async def metrics(request: Request) -> Response:
        if request.path != "/metrics":
            return Response(404)
        return Response(200, {"Content-Type": CONTENT_TYPE_LATEST}, generate_latest(registry))

    async with trio.open_nursery() as nursery:
        registry.register(Statistics(await nursery.start(serve_websocket, echo, "127.0.0.1", 8765, None)))
        # plain HTTP, on a port that is not for everybody
        await serve_websocket(echo, "127.0.0.1", 9464, None, process_request=metrics)


if __name__ == "__main__":
    trio.run(main)
