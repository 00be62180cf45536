"""Round-trip times on a logarithmic scale: what is read off it is nearly what the times themselves say, in bounded memory."""

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ws.protocol import Latencies, PingLedger

#: Half a step: eight of them double.
OFF = 2 ** (1 / 16) + 1e-9

TIMES = st.lists(st.floats(1e-6, 1000), min_size=1, max_size=200)


def entered(times: list[float]) -> Latencies:
    latencies = Latencies()
    for seconds in times:
        latencies.add(seconds)
    return latencies


@given(times=TIMES, share=st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_off_by_half_a_step_at_most(times: list[float], share: float) -> None:
    exact = sorted(times)[math.ceil(share * len(times)) - 1]
    found = entered(times).quantile(share)
    assert found is not None
    assert exact / OFF <= found <= exact * OFF


@given(times=TIMES)
def test_the_bounds_and_the_sum_are_exact(times: list[float]) -> None:
    latencies = entered(times)
    assert (latencies.count, latencies.smallest, latencies.largest) == (len(times), min(times), max(times))
    assert latencies.total == pytest.approx(math.fsum(times))
    assert latencies.last == times[-1]


@given(one=TIMES, other=TIMES | st.just([]))
def test_adding_two_up_is_the_same_as_entering_all(one: list[float], other: list[float]) -> None:
    both, whole = Latencies(), entered(one + other)
    for part in one, other:
        both.add_all(entered(part))
    assert both.total == pytest.approx(whole.total)
    for share in (0.1, 0.5, 0.9, 0.99):
        assert both.quantile(share) == whole.quantile(share)
    assert (both.count, both.smallest, both.largest) == (whole.count, whole.smallest, whole.largest)


def test_none_have_no_quantile() -> None:
    assert Latencies().quantile(0.5) is None


def test_times_beyond_the_scale_are_kept_within_the_bounds_that_were_seen() -> None:
    for seconds in (0.0, 1e-9, 1e6):
        assert entered([seconds]).quantile(0.5) == seconds


def test_memory_is_bounded_whatever_the_times() -> None:
    latencies = entered([2.0**power for power in range(-100, 100)] * 10)
    sizes = [sys.getsizeof(getattr(latencies, name)) for name in Latencies.__slots__]
    assert sum(sizes) < 2600


def test_a_pong_enters_one_time_also_where_it_settles_several_pings() -> None:
    ledger = PingLedger()
    for now, payload in enumerate((b"a", b"b", b"c")):
        ledger.sent(payload, now)
    ledger.answered(b"unasked", 5)
    assert (ledger.latency, ledger.latencies) == (None, None)
    for now, payload in (5, b"b"), (6, b"c"), (7, b"c"):
        ledger.answered(payload, now)
    found = [(each.count, each.total, each.last) for each in (ledger.latencies,) if each is not None]
    assert (found, ledger.latency) == ([(2, 8.0, 4.0)], 4.0)
