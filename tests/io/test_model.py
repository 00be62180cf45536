"""Two ends under any schedule of sends, receives, pings, cancellations, closes and faults, compared with a simple model.

The model is in `tests.io.model_kit`. Under Hypothesis Trio schedules deterministically.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.io.model_kit import (
    COMPRESSIONS,
    FAULTS,
    KINDS,
    LAST,
    SIZES,
    Call,
    Fault,
    Setting,
    run_on_a_clock_that_jumps,
)

ENDS = st.sampled_from([0, 1])
ANY_SIZE = st.sampled_from(SIZES)

SCHEDULES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["send", "send", "stream", "prepared", "broadcast"]), ENDS, ANY_SIZE),
        st.tuples(st.just("receive"), ENDS, st.integers(1, 4)),
        st.tuples(st.sampled_from(["pieces", "ping", "ping", "pong"]), ENDS, st.just(0)),
        st.tuples(st.just("cancel"), st.just(0), st.integers(0, 50)),
        st.tuples(st.just("yield"), st.just(0), st.integers(1, 5)),
        st.tuples(st.just("sleep"), st.just(0), st.sampled_from([1, 900])),
    ),
    max_size=40,
)
#: Not in every schedule, for little happens behind them.
CLOSES = st.lists(st.tuples(st.sampled_from(["close", "end sending"]), ENDS, st.just(1)), max_size=2)
WAYS = st.builds("{} by {}".format, st.sampled_from(LAST), st.sampled_from(["client", "server"]))
ANY_QUEUE = st.sampled_from([1, 2, 16])
ANY_COMPRESSION = st.sampled_from(list(COMPRESSIONS))


@st.composite
def schedules(draw: st.DrawFn) -> list[Call]:
    """Return calls, with closes somewhere among them, which get as far as they can in the end or not."""
    calls: list[Call] = draw(SCHEDULES) + draw(st.sampled_from([[], [("sleep", 0, 1)]]))
    for close in draw(st.just([]) | CLOSES):
        calls.insert(draw(st.integers(0, len(calls))), close)
    return calls


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(schedule=schedules(), last=WAYS, queue=ANY_QUEUE, compression=ANY_COMPRESSION)
def test_any_schedule(kind: str, schedule: list[Call], last: str, queue: int, compression: str) -> None:
    assert run_on_a_clock_that_jumps(schedule, last, Setting(kind, queue, compression)) is not None


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(
    schedule=schedules(),
    last=WAYS,
    compression=ANY_COMPRESSION,
    fault=st.builds(
        Fault,
        st.sampled_from(list(FAULTS)),
        st.one_of(st.integers(0, 400), st.integers(0, 5000), st.integers(0, 500_000)),
        ENDS,
        st.booleans(),
    ),
)
def test_any_schedule_on_a_connection_on_which_something_goes_wrong(
    kind: str, schedule: list[Call], last: str, compression: str, fault: Fault
) -> None:
    run_on_a_clock_that_jumps(schedule, last, Setting(kind, 2, compression, fault))
