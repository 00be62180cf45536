"""Seeded schedules against the model of `tests.io.model_kit`: fifty calls at once, and a wire that is cut anywhere."""

from __future__ import annotations

import pytest

from tests.io.model_kit import COMPRESSIONS, FAULTS, KINDS, Fault, Setting, run_on_a_clock_that_jumps, seeded

#: What fifty tasks do at once.
AT_ONCE = [
    *("send", "send", "stream", "prepared", "broadcast", "receive", "receive", "receive", "pieces"),
    *("ping", "pong", "cancel", "yield"),
]
#: What is under way when the wire is cut: mostly small things, so that many bytes are looked at.
TALK = ["send", "stream", "prepared", "receive", "receive", "pieces", "ping", "yield", "cancel"]

every_kind = pytest.mark.parametrize("kind", KINDS)


def fifty_calls(kind: str, seed: int) -> int:
    """Run fifty calls, the last of which get as far as they can, and return how many messages came of them."""
    schedule, last, dice = seeded(seed, AT_ONCE, 50)
    if seed % 4 == 0:
        schedule.insert(dice.randrange(50), (dice.choice(("close", "end sending")), dice.randrange(2), 0))
    setting = Setting(kind, dice.choice((1, 2, 16)), dice.choice(list(COMPRESSIONS)))
    received = run_on_a_clock_that_jumps([*schedule, ("sleep", 0, 1)], last, setting)
    assert received is not None
    return received


def something_goes_wrong(kind: str, seed: int) -> int | None:
    schedule, last, dice = seeded(seed, TALK, 12)
    schedule = [(name, end, min(value, 100) if seed % 3 else value) for name, end, value in schedule]
    schedule.append(("sleep", 0, 1))
    most = dice.choice((300, 3000, 3000, 100_000))
    fault = Fault(dice.choice(list(FAULTS)), dice.randrange(most), dice.randrange(2), dice.random() < 0.5)
    return run_on_a_clock_that_jumps(
        schedule, last, Setting(kind, dice.choice((1, 16)), dice.choice(list(COMPRESSIONS)), fault)
    )


@every_kind
def test_fifty_calls_at_once_never_mix_their_frames(kind: str) -> None:
    assert sum(fifty_calls(kind, seed) for seed in range(20)) > 20 * 5


@pytest.mark.complete
@every_kind
@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_fifty_calls_at_once_a_thousand_times(kind: str, first: int) -> None:
    for seed in range(first, first + 100):
        fifty_calls(kind, seed)


@every_kind
def test_a_wire_that_fails_at_any_byte_gives_documented_errors_only(kind: str) -> None:
    received = [something_goes_wrong(kind, seed) for seed in range(60)]
    assert None in received
    assert sum(filter(None, received)) > 60


@pytest.mark.complete
@every_kind
@pytest.mark.parametrize("first", range(0, 10_000, 500))
def test_a_wire_that_fails_at_ten_thousand_random_bytes(kind: str, first: int) -> None:
    for seed in range(first, first + 500):
        something_goes_wrong(kind, seed)
