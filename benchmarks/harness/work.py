"""What is asked of the servers, and in which figures the answer is given, as tables; knows nothing of who is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """How a figure is named in a measurement and shown to people."""

    key: str
    unit: str
    decimals: int = 0


MESSAGES = Metric("messages_s", "messages/s")
CONNECTIONS = Metric("connections_s", "connections/s")
MEMORY = Metric("kib", "KiB", 1)
COST = Metric("server_us", "µs", 1)
DELIVERIES = Metric("deliveries_s", "deliveries/s")
WIRE = Metric("wire_bytes", "B")


@dataclass(frozen=True, slots=True)
class Work:
    """One line of the comparison.

    Attributes:
        name: for the command line.
        title: for people.
        connections: how many; of "churn" at the same time, of "hold" how many more after a tenth of them.
        size: payload bytes of a message.
        depth: messages that a connection has in flight.
        tls: whether the connections are encrypted.
        task: what the load generator is told to do.
        stalled: whether there is one more connection, which reads nothing; of "broadcast".
        deflate: whether messages are JSON and compressed, and then whether the client asks for "takeover" of contexts, as
            by default, or for a "fresh" one for each message.
    """

    name: str
    title: str
    connections: int
    size: int = 64
    depth: int = 1
    tls: bool = False
    task: Literal["echo", "churn", "hold", "broadcast"] = "echo"
    stalled: bool = False
    deflate: Literal["", "takeover", "fresh"] = ""

    @property
    def metric(self) -> Metric:
        """The figure that is compared."""
        return {"echo": MESSAGES, "churn": CONNECTIONS, "hold": MEMORY, "broadcast": DELIVERIES}[self.task]

    @property
    def most(self) -> int:
        """How many connections are open at the same time."""
        return self.connections * 11 // 10 if self.task == "hold" else self.connections + self.stalled

    @property
    def server(self) -> str:
        """What kind of server it is asked of."""
        return "broadcast" if self.task == "broadcast" else "echo"


WORK = {
    work.name: work
    for work in (
        Work("ping-pong", "1 client, 64 B", 1),
        Work("10-clients", "10 clients, 64 B", 10),
        Work("100-clients", "100 clients, 64 B", 100),
        Work("1000-clients", "1000 clients, 64 B", 1000),
        Work("pipelined", "1 client, 64 B, 64 in flight", 1, depth=64),
        Work("100-pipelined", "100 clients, 64 B, 16 in flight", 100, depth=16),
        Work("16-kib", "10 clients, 16 KiB, 4 in flight", 10, 16384, 4),
        Work("1-mib", "1 client, 1 MiB, 2 in flight", 1, 2**20, 2),
        Work("tls-100-clients", "TLS: 100 clients, 64 B", 100, tls=True),
        Work("tls-16-kib", "TLS: 10 clients, 16 KiB, 4 in flight", 10, 16384, 4, tls=True),
        Work("handshakes", "open, one echo, close; 32 at a time", 32, task="churn"),
        Work("5000-clients", "5000 clients, 64 B", 5000),
        *(
            Work(f"memory-{count}", f"memory of each of {count} idle", count, task="hold")
            for count in (100, 500, 1000, 2000, 5000)
        ),
    )
}

#: The works that differ in nothing but the number of connections show how the cost of a message grows with it.
GROWTH = [
    work for work in WORK.values() if (work.size, work.depth, work.tls, work.task) == (64, 1, False, "echo")
]
#: The works that show how the memory of a connection grows with their number.
IDLE = [work for work in WORK.values() if work.task == "hold"]
#: The work whose memory is drawn.
USUAL = WORK["memory-1000"]
#: The work whose latencies are shown.
TYPICAL = WORK["100-clients"]
#: Of ``--quick``: works of more connections take seconds merely to open them.
QUICK_CONNECTIONS = 100
