"""Alarms ring in order and on time, and leave neither a task nor memory behind."""

import gc
import logging
import math
import time
import weakref

import pytest
import trio
import trio.testing

from trio_ws._timers import SWEEP, Alarm

pytestmark = pytest.mark.usefixtures("autojump_clock")


class Ledger:
    """Notes when each alarm rang."""

    def __init__(self) -> None:
        self.rung: list[tuple[str, float]] = []

    def alarm(self, name: str, when: float) -> Alarm:
        alarm = Alarm(lambda: self.rung.append((name, trio.current_time())))
        alarm.set(when)
        return alarm


def tasks() -> list[str]:
    """Return the names of the system tasks that serve alarms."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    names = [task.name for nursery in root.child_nurseries for task in nursery.child_tasks]
    return [name for name in names if "alarms" in name]


async def test_alarms_ring_in_the_order_of_their_times() -> None:
    ledger = Ledger()
    alarms = [ledger.alarm(str(when), when) for when in (5, 1, 4, 2, 3)]
    await trio.sleep(10)
    assert ledger.rung == [(str(when), when) for when in range(1, 6)]
    assert {alarm.when for alarm in alarms} == {math.inf}


async def test_alarms_of_the_same_time_ring_in_the_order_of_setting() -> None:
    ledger = Ledger()
    for number in range(100):
        ledger.alarm(str(number), 1)
    await trio.sleep(1.5)
    assert [name for name, _ in ledger.rung] == [str(number) for number in range(100)]


async def test_a_time_that_is_past_rings_at_once() -> None:
    ledger = Ledger()
    await trio.sleep(5)
    ledger.alarm("past", 1)
    assert ledger.rung == []  # never from within the call that sets it
    await trio.testing.wait_all_tasks_blocked()
    assert ledger.rung == [("past", 5)]


@pytest.mark.parametrize("moved", [1.0, 7.0])
async def test_setting_again_moves_an_alarm(moved: float) -> None:
    ledger = Ledger()
    alarm = ledger.alarm("moved", 4)
    await trio.sleep(0.5)
    alarm.set(moved)
    assert alarm.when == moved
    await trio.sleep(20)
    assert ledger.rung == [("moved", moved)]


async def test_setting_to_the_same_time_again_rings_once() -> None:
    ledger = Ledger()
    alarm = ledger.alarm("same", 4)
    for _ in range(10):
        alarm.set(4)
    await trio.sleep(20)
    assert ledger.rung == [("same", 4)]


async def test_a_moved_alarm_that_is_moved_back() -> None:
    ledger = Ledger()
    alarm = ledger.alarm("back", 4)
    alarm.set(9)
    alarm.set(4)
    await trio.sleep(20)
    assert ledger.rung == [("back", 4)]


async def test_infinity_never_rings_and_wakes_nobody() -> None:
    ledger = Ledger()
    ledger.alarm("never", math.inf)
    assert tasks() == []
    alarm = ledger.alarm("not any more", 1)
    alarm.set(math.inf)
    await trio.sleep(100)
    assert ledger.rung == []


async def test_a_stopped_alarm_never_rings() -> None:
    ledger = Ledger()
    alarm = ledger.alarm("stopped", 1)
    alarm.stop()
    alarm.stop()
    await trio.sleep(2)
    alarm.set(trio.current_time() + 1)  # what it was to call is forgotten
    await trio.sleep(5)
    assert ledger.rung == []


async def test_an_alarm_may_set_itself_and_others() -> None:
    rung: list[float] = []

    def ring() -> None:
        rung.append(trio.current_time())
        if len(rung) < 4:
            alarm.set(trio.current_time() + 2)
        other.set(rung[-1] + 0.5)

    others: list[float] = []
    other = Alarm(lambda: others.append(trio.current_time()))
    alarm = Alarm(ring)
    alarm.set(1)
    await trio.sleep(20)
    assert rung == [1, 3, 5, 7]
    assert others == [1.5, 3.5, 5.5, 7.5]


async def test_an_alarm_may_stop_another_that_is_due_too() -> None:
    rung: list[str] = []
    second = Alarm(lambda: rung.append("second"))
    for alarm in (Alarm(second.stop), second):
        alarm.set(1)
    await trio.sleep(5)
    assert rung == []


async def test_an_exception_is_logged_and_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger()

    def fail() -> None:
        raise ValueError("broken")

    Alarm(fail).set(1)
    ledger.alarm("same time", 1)
    ledger.alarm("later", 2)
    with caplog.at_level(logging.ERROR, logger="trio_ws"):
        await trio.sleep(5)
    assert ledger.rung == [("same time", 1), ("later", 2)]
    [record] = caplog.records
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "broken"


async def test_a_log_handler_that_fails_does_no_harm() -> None:
    ledger = Ledger()

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("the disk is full")

    def fail() -> None:
        raise ValueError("broken")

    handler = Broken()
    logging.getLogger("trio_ws").addHandler(handler)
    try:
        Alarm(fail).set(1)
        ledger.alarm("later", 2)
        await trio.sleep(5)
    finally:
        logging.getLogger("trio_ws").removeHandler(handler)
    assert ledger.rung == [("later", 2)]


async def test_the_task_ends_with_the_last_alarm_and_starts_again() -> None:
    ledger = Ledger()
    for start in (0, 100, 200):
        ledger.alarm("a", start + 1)
        ledger.alarm("b", start + 2)
        assert len(tasks()) == 1
        await trio.sleep(10)
        assert tasks() == []
        await trio.sleep(90)
    assert [when for _, when in ledger.rung] == [1, 2, 101, 102, 201, 202]


async def test_an_earlier_alarm_wakes_the_task_in_time() -> None:
    ledger = Ledger()
    ledger.alarm("late", 1000)
    await trio.sleep(1)
    ledger.alarm("early", 2)
    await trio.sleep(2)
    assert ledger.rung == [("early", 2)]
    await trio.sleep(1000)
    assert tasks() == []


async def test_an_alarm_set_in_the_moment_the_task_ends() -> None:
    ledger = Ledger()

    def set_the_next() -> None:
        ledger.alarm("next", trio.current_time() + 1)

    alarm = Alarm(set_the_next)
    alarm.set(1)
    await trio.sleep(1)
    await trio.testing.wait_all_tasks_blocked()
    await trio.sleep(5)
    assert ledger.rung == [("next", 2)]
    assert tasks() == []


async def test_alarms_that_move_all_the_time_are_swept_out() -> None:
    ledger = Ledger()
    moving = [ledger.alarm(str(number), 1000 + number) for number in range(3)]
    watched: list[weakref.ref[Payload]] = []

    def come_and_go() -> None:
        payload = Payload()
        watched.append(weakref.ref(payload))
        gone = Alarm(payload.ring)
        gone.set(2000)
        gone.stop()

    for round_ in range(1000):
        come_and_go()
        for alarm in moving:
            alarm.set(5000 + round_)
    gc.collect()
    assert sum(ref() is not None for ref in watched) == 0
    alive = sum(isinstance(found, Alarm) for found in gc.get_objects())
    assert alive <= 2 * SWEEP + len(moving)
    await trio.sleep(10000)
    assert len(ledger.rung) == 3


class Payload:
    """What an alarm holds on to while it is set."""

    def ring(self) -> None:
        """Do nothing."""


async def test_many_alarms_cost_little() -> None:
    """Setting an alarm must not look at all the others: with 20000 connections it would take minutes."""
    ledger = Ledger()
    begun = time.perf_counter()
    alarms = [ledger.alarm(str(number), 1 + number % 50) for number in range(20_000)]
    for alarm in alarms:
        alarm.set(alarm.when + 100)
    assert time.perf_counter() - begun < 5
    await trio.sleep(1000)
    assert len(ledger.rung) == 20_000
    assert [when for _, when in ledger.rung] == sorted(when for _, when in ledger.rung)


def test_each_run_has_its_own_clockwork() -> None:
    rung: list[int] = []

    async def main(number: int) -> None:
        Alarm(lambda: rung.append(number)).set(trio.current_time() + 1)
        await trio.sleep(2)

    for number in range(2):
        trio.run(main, number, clock=trio.testing.MockClock(autojump_threshold=0))
    assert rung == [0, 1]


def test_alarms_that_are_set_when_the_run_ends() -> None:
    async def main() -> None:
        Alarm(lambda: None).set(trio.current_time() + 1000)
        await trio.lowlevel.checkpoint()

    trio.run(main)
