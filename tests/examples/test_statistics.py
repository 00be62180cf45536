"""The examples of statistics: each serves, is talked to, and says what it should of it."""

import importlib.util
import logging
import re
import socket
from typing import Any

import pytest
import trio

from tests.examples.test_examples import EXAMPLES, port, serving
from trio_ws import ConnectionRejected, open_websocket_url

__all__ = ["port"]  # a fixture


async def talk(port: int) -> None:
    """Send two messages and have them back, and be refused once."""
    async with open_websocket_url(f"ws://127.0.0.1:{port}/") as ws:
        for _ in range(2):
            await ws.send_message("hello")
            assert await ws.get_message() == "hello"
    with pytest.raises(ConnectionRejected, match="403"):
        async with open_websocket_url(f"ws://127.0.0.1:{port}/", origin="https://evil.example"):
            pass


async def test_what_a_server_prints(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "print_statistics"}
    exec(
        compile(EXAMPLES["print_statistics"].replace("8765", str(port)), "print_statistics.py", "exec"), names
    )
    said = ""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(names["main"], 0.05)
            await trio.testing.wait_all_tasks_blocked()
            await talk(port)
            # both are told when the client has gone, which is a moment later
            while "1000: 1" not in said or "'origin': 1" not in said:
                await trio.sleep(0.01)
                said += capsys.readouterr().out
            nursery.cancel_scope.cancel()
    assert re.search(r"server-[0-9]+: 2 messages in [0-9.]+ s\n", said)
    assert "0 of 1 connections, 2 messages\n" in said


@pytest.mark.skipif(
    importlib.util.find_spec("prometheus_client") is None, reason="prometheus_client is not there"
)
async def test_prometheus(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - it may not be there

    with socket.create_server(("127.0.0.1", 0)) as other:
        metrics: int = other.getsockname()[1]
    monkeypatch.setitem(EXAMPLES, "prometheus", EXAMPLES["prometheus"].replace("9464", str(metrics)))

    async def scrape(path: str = "/metrics") -> tuple[str, str]:
        async with await trio.open_tcp_stream("127.0.0.1", metrics) as stream:
            await stream.send_all(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            answer = b"".join([chunk async for chunk in stream]).decode()
        return answer.partition("\r\n\r\n")[0], answer.partition("\r\n\r\n")[2]

    async def figures() -> dict[tuple[str, str], float]:
        head, body = await scrape()
        assert "200 OK" in head
        assert "text/plain; version=" in head
        samples = [sample for family in text_string_to_metric_families(body) for sample in family.samples]
        return {(sample.name, "".join(sample.labels.values())): sample.value for sample in samples}

    async with serving("prometheus", port):
        await talk(port)
        with trio.fail_after(30):
            while ("websocket_refusals_total", "origin") not in (found := await figures()):  # noqa: ASYNC110 - no event tells of it
                await trio.sleep(0.01)
        assert found["websocket_connections", ""] == 0
        assert found["websocket_accepted_total", ""] == 1
        assert found["websocket_closes_total", "1000"] == 1
        assert found["websocket_messages_total", "received"] == 2
        assert found["websocket_bytes_total", "sent"] == 10
        assert found["websocket_frames_total", "received"] == 3
        assert found["websocket_latency_seconds_count", ""] == 0
        async with open_websocket_url(f"ws://127.0.0.1:{port}/") as ws:
            await ws.ping()
            assert (await figures())["websocket_connections", ""] == 1
        assert "404" in (await scrape("/"))[0]


@pytest.mark.skipif(
    importlib.util.find_spec("opentelemetry") is None, reason="opentelemetry-sdk is not there"
)
async def test_opentelemetry(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.sdk.metrics import export  # noqa: PLC0415 - it may not be there

    reader = export.InMemoryMetricReader()
    monkeypatch.setattr(export, "PeriodicExportingMetricReader", lambda _: reader)
    async with serving("opentelemetry_metrics", port):
        await talk(port)
        found: dict[tuple[str, str], float] = {}
        with trio.fail_after(30):
            while ("websocket.refusals", "origin") not in found:
                data: Any = await trio.to_thread.run_sync(reader.get_metrics_data)
                for metric in data.resource_metrics[0].scope_metrics[0].metrics:
                    for point in metric.data.data_points:
                        found[metric.name, "".join(point.attributes.values())] = point.value
        assert found["websocket.connections", ""] == 0
        assert found["websocket.messages", "received"] == found["websocket.messages", "sent"] == 2
        assert found["websocket.refusals", "origin"] == 1


async def test_what_an_observer_logs(port: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "echo"), trio.fail_after(30):
        async with serving("observer", port):
            await talk(port)
            while len(caplog.records) < 3:  # noqa: ASYNC110 - no event tells of it
                await trio.sleep(0.01)
    came, went, refused = [record.getMessage() for record in caplog.records if record.name == "echo"]
    assert "has come from Endpoint(address=IPv4Address('127.0.0.1')" in came
    assert re.search(r"has gone with 1000, after [0-9.]+ s and 2 messages", went)
    assert refused == "refused: origin"
