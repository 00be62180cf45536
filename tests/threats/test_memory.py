"""Resident memory under each attack that could take it: never more than the formula says for so many connections, and
given back when they have gone.

Each test writes what it measured into the report of `--junitxml` (properties `connections`, `grown`, `each`, `bound`, the last three in MiB).
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

import pytest
import trio

from tests.threats.frame_kit import BINARY, CONTINUATION, PING, PONG, RSV1, TEXT, frame
from tests.threats.memory_kit import WorstCase
from tests.threats.test_compression import deflated
from tests.threats.threat_kit import DEFLATE, KIBI, MEBI, SLACK, Victim, victim_of
from trio_ws.testing import RawPeer, handshake_request

Attack: TypeAlias = Callable[[RawPeer], Awaitable[None]]
Record: TypeAlias = Callable[[str, object], None]

#: An emoji, and letters: of 1 MiB of UTF-8 it makes 4 MiB of text.
WIDE_TEXT = "😀".encode() + b"a" * (MEBI - 4)


async def quiet(victim: Victim) -> None:
    """Wait until it has nothing more to do, five seconds at most: an attack that does not end is measured all the same."""
    with trio.move_on_after(5):
        calm = 0
        while calm < 3:
            before = victim.cpu
            await trio.sleep(0.1)
            calm = calm + 1 if victim.cpu - before < 0.02 else 0


class Siege:
    """So many attackers at once, and what the victim takes meanwhile.

    Args:
        victim: who is attacked.
        record: pytest's `record_property`.
    """

    def __init__(self, victim: Victim, record: Record) -> None:
        self.victim = victim
        self._record = record

    async def lay(
        self,
        attack: Attack,
        number: int,
        worst: WorstCase,
        *,
        extensions: str | None = None,
        handshake: bool = True,
        seconds: float = 0,
        notices: bool = True,
    ) -> None:
        """Attack, look at the peak when all is quiet, and fail if it is over the bound, or if anything of it stays.

        Args:
            attack: what each attacker does behind its handshake; what blocks, blocks.
            number: of attackers.
            worst: what each of their connections may take; before its handshake it may take no more than that needs.
            extensions: what they offer.
            handshake: whether they begin with one.
            seconds: how long to go on at least.
            notices: whether the victim reads, and so knows soon that they have gone.
        """
        victim = self.victim
        before = victim.memory
        victim.forget_peak()
        begun = trio.Semaphore(0)

        async def one() -> None:
            way = victim.attacked(extensions) if handshake else victim.dialled()
            async with way as peer:
                begun.release()
                with suppress(trio.BrokenResourceError, AssertionError):  # it may well be cut off
                    await attack(peer)
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            for _ in range(number):
                nursery.start_soon(one)
            for _ in range(number):
                await begun.acquire()
            await trio.sleep(seconds)
            await quiet(victim)
            grown = victim.peak - before
            nursery.cancel_scope.cancel()
        each = worst.alive if handshake else worst.overhead
        bound = number * each + SLACK
        self._record("connections", number)
        self._record("grown", f"{grown / MEBI:.1f}")
        self._record("each", f"{each / MEBI:.2f}")
        self._record("bound", f"{bound / MEBI:.1f}")
        assert grown < bound, f"grew by {grown / MEBI:.1f} MiB, {bound / MEBI:.1f} are the bound"
        if notices:
            await victim.shrunk(before + SLACK)


def without_end(data: bytes) -> Attack:
    """Return an attack that sends the same for ever, and reads nothing."""

    async def attack(peer: RawPeer) -> None:
        while True:
            await peer.send(data)

    return attack


def once(data: bytes) -> Attack:
    """Return an attack that sends something, and then reads nothing."""

    async def attack(peer: RawPeer) -> None:
        await peer.send(data)

    return attack


@pytest.fixture(params=["plain", "deflate"])
def compression(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "deflate")


#: Attackers at once.
NUMBER = 10


#: What an attacker does, the largest message of it, and whether that is text.
ATTACKS = [
    pytest.param(once(frame(BINARY, bytes(MEBI - 1), size=MEBI)), MEBI, False, id="half a frame of 1 MiB"),
    pytest.param(once(frame(TEXT, WIDE_TEXT[:-1], size=MEBI)), MEBI, True, id="half a text"),
    pytest.param(once(frame(BINARY, b"", size=MEBI)), 0, False, id="1 MiB announced"),
    pytest.param(
        once(frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"a", fin=False) * 100_000),
        100_001,
        True,
        id="100000 fragments of one byte",
    ),
    pytest.param(
        once(frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 100_000),
        0,
        True,
        id="100000 empty fragments",
    ),
    pytest.param(
        once(frame(BINARY, b"", fin=False) + frame(CONTINUATION, bytes(64 * KIBI), fin=False) * 40),
        MEBI,
        False,
        id="fragments of 64 KiB without end",
    ),
    pytest.param(without_end(frame(PING, b"p" * 125) * 100), 0, False, id="pings, nothing read"),
    pytest.param(once(frame(PONG, b"p" * 125) * 20_000), 0, False, id="20000 pongs nobody asked for"),
    pytest.param(
        without_end(frame(BINARY, bytes(64 * KIBI))), 64 * KIBI, False, id="echoes of 64 KiB unread"
    ),
    pytest.param(without_end(frame(BINARY, bytes(MEBI))), MEBI, False, id="echoes of 1 MiB unread"),
    pytest.param(without_end(frame(TEXT, WIDE_TEXT)), MEBI, True, id="echoes of wide texts unread"),
    pytest.param(without_end(frame(BINARY, b"a") * 1000), 1, False, id="echoes of one byte unread"),
    pytest.param(without_end(frame(TEXT, "ā".encode()) * 1000), 2, True, id="echoes of one letter unread"),
]

#: Those in which the server sends what it has compressed.
UNREAD = [each for each in ATTACKS if "unread" in str(each.id)]


@pytest.mark.parametrize(("attack", "largest", "text"), ATTACKS)
async def test_what_one_connection_takes_is_bounded(
    attack: Attack, largest: int, text: bool, record_property: Record
) -> None:
    with victim_of() as victim:
        worst = WorstCase(max_message_size=largest, text=text)
        await Siege(victim, record_property).lay(attack, NUMBER, worst)
        await victim.idle()
        await victim.serves()


@pytest.mark.parametrize(("attack", "largest", "text"), UNREAD)
async def test_what_one_connection_takes_is_bounded_where_it_compresses(
    attack: Attack, largest: int, text: bool, record_property: Record
) -> None:
    with victim_of(compression=True) as victim:
        worst = WorstCase(max_message_size=largest, text=text, compression=True)
        await Siege(victim, record_property).lay(attack, NUMBER, worst, extensions=DEFLATE)
        await victim.idle()
        await victim.serves()


@pytest.mark.parametrize(
    ("data", "largest", "text"),
    [
        pytest.param(frame(BINARY, bytes(64 * KIBI)), 64 * KIBI, False, id="64 KiB"),
        pytest.param(frame(TEXT, WIDE_TEXT), MEBI, True, id="wide texts"),
        pytest.param(frame(TEXT, "ā".encode()) * 1000, 2, True, id="one letter"),
        pytest.param(frame(BINARY, b"") * 1000, 0, False, id="nothing"),
    ],
)
async def test_a_queue_that_nobody_empties_is_bounded(
    data: bytes, largest: int, text: bool, record_property: Record
) -> None:
    with victim_of(handler="deaf") as victim:
        worst = WorstCase(max_message_size=largest, text=text, messages_held=0, sent=0)
        await Siege(victim, record_property).lay(without_end(data), NUMBER, worst, notices=False)


@pytest.mark.parametrize(("handler", "opcode"), [("echo", TEXT), ("deaf", TEXT), ("echo", BINARY)])
async def test_what_waits_to_be_inflated_is_bounded(
    handler: str, opcode: int, record_property: Record
) -> None:
    data = frame(opcode, deflated(WIDE_TEXT), rsv=RSV1) * 20
    held = 1 if handler == "echo" else 0
    with victim_of(compression=True, handler=handler) as victim:
        worst = WorstCase(text=opcode == TEXT, compression=True, messages_held=held)
        await Siege(victim, record_property).lay(
            without_end(data), NUMBER, worst, extensions=DEFLATE, notices=handler == "echo"
        )


async def test_a_hundred_slow_readers_are_bounded(compression: bool, record_property: Record) -> None:
    """Each reads a kilobyte a second, and sends messages of 64 KiB as fast as it may."""

    async def attack(peer: RawPeer) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(without_end(frame(BINARY, bytes(64 * KIBI))), peer)
            while True:
                await peer.stream.receive_some(256)
                await trio.sleep(0.25)

    with victim_of(compression=compression) as victim:
        worst = WorstCase(max_message_size=64 * KIBI, text=False, compression=compression)
        await Siege(victim, record_property).lay(
            attack, 100, worst, extensions=DEFLATE if compression else None, seconds=1
        )
        await victim.serves()


async def test_pings_that_are_never_answered_are_bounded(record_property: Record) -> None:
    """The client is heard, so that it lives, and answers no ping."""

    async def attack(peer: RawPeer) -> None:
        while True:
            await peer.send(frame(PONG, b"another"))
            await trio.sleep(0.03)

    with victim_of(ping_interval=0.01, ping_timeout=60) as victim:
        await Siege(victim, record_property).lay(attack, NUMBER, WorstCase(max_message_size=0), seconds=1)


async def test_connections_that_say_nothing_are_bounded(record_property: Record) -> None:
    async def attack(_: RawPeer) -> None:
        await trio.lowlevel.checkpoint()

    with victim_of() as victim:
        await Siege(victim, record_property).lay(attack, 400, WorstCase(), handshake=False)
        await victim.serves()


def long_head(size: int) -> bytes:
    """Return a head of so many bytes in as many fields as there may be."""
    head = handshake_request(Padding=["x" * (size // 90)] * 80)
    return head[:-4] + b"x" * (size - len(head)) + head[-4:]


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "all but the end"])
async def test_the_longest_heads_are_bounded(whole: bool, record_property: Record) -> None:
    head = long_head(31 * KIBI)

    async def attack(peer: RawPeer) -> None:
        await peer.send(head if whole else head[:-1])
        if whole:
            assert (await peer.receive_head()).startswith(b"HTTP/1.1 101 ")

    with victim_of() as victim:
        await Siege(victim, record_property).lay(attack, 200, WorstCase(), handshake=False)
