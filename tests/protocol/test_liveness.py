"""Whether the peer lives: scenarios with every time written down, and the ledger of pings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ws.protocol._liveness import TRICKLE, Liveness, PingLedger, Verdict

#: When, what, and of how many bytes.
Step: TypeAlias = tuple[float, str, int]

PING_SIZE = 6


@dataclass
class Queue:
    """What is known of the bytes that are sent."""

    accepted: int
    buffered: int
    moved: float = 0.0


@dataclass
class Line:
    """A connection as the rules see it: what was heard, what waits to be sent. It polls when it is told to.

    Attributes:
        answer: seconds after which the peer answers a ping that it got; None never.
        blocked: whether the kernel takes bytes only where the script says so.
    """

    interval: float | None = 20
    timeout: float | None = 20
    answer: float | None = None
    blocked: bool = False
    log: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])

    heard: float = 0.0
    reading: bool = True
    accepted: int = 0
    buffered: int = 0
    moved: float = 0.0

    def run(self, script: list[Step], until: float) -> list[tuple[float, str]]:
        """Return what was done, and when. What the script has happen at a time of a poll happens before it."""
        liveness = Liveness(self.interval, self.timeout)
        todo = sorted(script)
        now = when = 0.0
        while min(when, todo[0][0] if todo else math.inf) <= until:
            if todo and todo[0][0] <= when:
                self.happen(*todo.pop(0))
                continue
            now = when
            verdict, when = liveness.poll(now, self.heard, self.reading, self)
            if verdict is not Verdict.NOTHING:
                assert when == now
                self.log.append((now, verdict.name.lower()))
            if verdict is Verdict.DEAD:
                break
            if verdict is Verdict.PING:
                self.happen(now, "send", PING_SIZE)
                when = liveness.pinged(now, self)
                if self.answer is not None:
                    todo = sorted([*todo, at(now + self.answer, "hear")])
            assert when > now  # else the supervisor would spin
        return self.log

    def happen(self, now: float, what: str, size: int) -> None:
        if what in ("hear", "resume"):
            self.heard = now
        if what in ("pause", "resume"):
            self.reading = what == "resume"
        if what == "send":
            self.moved = self.moved if self.buffered else now
            self.buffered += size
        if what == "accept" or not self.blocked:
            self.moved = now
            moved = min(size, self.buffered) if what == "accept" else self.buffered
            self.accepted += moved
            self.buffered -= moved


def at(when: float, what: str, size: int = 0) -> Step:
    return when, what, size


def every(seconds: float, what: str, until: float, size: int = 0) -> list[Step]:
    """Return steps at `seconds`, 2 * `seconds` and so on."""
    return [at(seconds * i, what, size) for i in range(1, int(until / seconds) + 1)]


SCENARIOS: dict[str, tuple[Line, list[Step], float, list[tuple[float, str]]]] = {
    "silence, a ping, an answer, silence": (
        Line(answer=5),
        [],
        100,
        [(20, "ping"), (45, "ping"), (70, "ping"), (95, "ping")],
    ),
    "answers in no time, as on a mock clock": (
        Line(answer=0),
        [],
        100,
        [(20, "ping"), (40, "ping"), (60, "ping"), (80, "ping"), (100, "ping")],
    ),
    "no answer": (Line(), [], 100, [(20, "ping"), (40, "dead")]),
    "another interval and timeout": (Line(interval=7, timeout=3), [], 100, [(7, "ping"), (10, "dead")]),
    "an answer at the last moment": (
        Line(),
        [at(40, "hear")],
        100,
        [(20, "ping"), (60, "ping"), (80, "dead")],
    ),
    "an answer too late": (Line(), [at(41, "hear")], 100, [(20, "ping"), (40, "dead")]),
    "anything that is heard is an answer": (
        Line(),
        every(35, "hear", 100),
        100,
        [(20, "ping"), (55, "ping"), (90, "ping")],
    ),
    "a peer that talks is not pinged": (Line(), every(19, "hear", 200), 200, []),
    "silence is counted from the last word": (
        Line(),
        [at(3, "hear"), at(15, "hear"), at(19, "hear")],
        100,
        [(39, "ping"), (59, "dead")],
    ),
    "what was heard before the ping answers nothing": (
        Line(),
        [at(19.5, "hear")],
        100,
        [(39.5, "ping"), (59.5, "dead")],
    ),
    "what we send is no sign of the peer's life": (
        Line(),
        every(1, "send", 100, 50),
        100,
        [(20, "ping"), (40, "dead")],
    ),
    # a timeout that is longer than the interval
    "timeout over interval, answers": (
        Line(interval=10, timeout=35, answer=2),
        [],
        50,
        [(10, "ping"), (22, "ping"), (34, "ping"), (46, "ping")],
    ),
    "timeout over interval, no answer": (
        Line(interval=10, timeout=35),
        [],
        100,
        [(10, "ping"), (45, "dead")],
    ),
    "timeout over interval, a late answer": (
        Line(interval=10, timeout=35),
        [at(44, "hear")],
        100,
        [(10, "ping"), (54, "ping"), (89, "dead")],
    ),
    # without one or the other
    "no interval": (Line(interval=None), [], 10**6, []),
    "no interval and no timeout": (Line(interval=None, timeout=None), [], 10**6, []),
    "no interval, blocked": (Line(interval=None, blocked=True), [at(1, "send", 100)], 10**6, []),
    "no timeout, no answer": (Line(timeout=None), [], 10**4, [(20, "ping")]),
    "no timeout, a very late answer": (
        Line(timeout=None),
        [at(505, "hear")],
        10**4,
        [(20, "ping"), (525, "ping")],
    ),
    "no timeout, answers": (Line(timeout=None, answer=1), [], 50, [(20, "ping"), (41, "ping")]),
    "no timeout, blocked": (Line(timeout=None, blocked=True), [at(1, "send", 100)], 10**4, [(20, "ping")]),
    # a slow line: the ping waits behind what was sent before it
    "a ping behind megabytes": (
        Line(blocked=True),
        [
            at(5, "send", 10**6),
            *[at(10 + 15 * i, "accept", 10**5) for i in range(10)],
            at(160, "accept", PING_SIZE),
        ],
        1000,
        # each of ten steps is progress, the last of which takes the ping
        [(20, "ping"), (180, "dead")],
    ),
    "a ping behind megabytes, answered": (
        Line(blocked=True),
        [
            at(5, "send", 10**6),
            *[at(10 + 15 * i, "accept", 10**5) for i in range(10)],
            at(160, "accept", PING_SIZE),
            at(175, "hear"),
        ],
        190,
        [(20, "ping")],
    ),
    "a ping behind megabytes that stop moving": (
        Line(blocked=True),
        [at(5, "send", 10**6), at(10, "accept", 1000), at(30, "accept", 1000), at(39, "accept", 1000)],
        1000,
        [(20, "ping"), (59, "dead")],
    ),
    "what moves behind the ping is no progress of it": (
        Line(blocked=True),
        [at(21, "accept", PING_SIZE), at(22, "send", 10**6), *every(5, "accept", 200, 100)],
        200,
        [(20, "ping"), (60, "dead")],
    ),
    "a ping that has not left is not followed by another": (
        Line(blocked=True),
        [at(1, "send", 1000), *every(30, "accept", 900, 1), *every(35, "hear", 900)],
        900,
        [(20, "ping")],
    ),
    "a ping that has not left condemns as another would": (
        Line(blocked=True),
        [at(1, "send", 1000), *every(30, "accept", 900, 1), at(35, "hear")],
        900,
        [(20, "ping"), (80, "dead")],
    ),
    "a ping that never leaves": (Line(blocked=True), [], 1000, [(20, "ping"), (40, "dead")]),
    # a peer that talks and never reads
    "a stall": (Line(blocked=True), [at(3, "send", 100), *every(5, "hear", 1000)], 1000, [(43, "dead")]),
    "a stall after progress": (
        Line(blocked=True),
        [at(3, "send", 100), at(28, "accept", 10), *every(5, "hear", 1000)],
        1000,
        [(68, "dead")],
    ),
    "no stall while bytes move": (
        Line(blocked=True),
        [at(3, "send", 10**6), *every(30, "accept", 1000, 10), *every(5, "hear", 1000)],
        1000,
        [],
    ),
    "no stall while nothing waits": (Line(blocked=True), every(5, "hear", 1000), 1000, []),
    "a stall that begins late": (
        Line(blocked=True),
        [at(481, "send", 100), *every(5, "hear", 1000)],
        1000,
        [(521, "dead")],
    ),
    "more that is sent does not put off a stall": (
        Line(blocked=True),
        [*every(7, "send", 1000, 100), *every(5, "hear", 1000)],
        1000,
        [(47, "dead")],
    ),
    # while we do not read, the peer may well have spoken
    "paused": (Line(), [at(5, "pause")], 1000, []),
    "paused and resumed": (Line(), [at(5, "pause"), at(100, "resume")], 1000, [(120, "ping"), (140, "dead")]),
    "paused while a ping is out": (
        Line(),
        [at(30, "pause"), at(100, "resume")],
        1000,
        [(20, "ping"), (120, "ping"), (140, "dead")],
    ),
    "paused and resumed between two polls": (
        Line(),
        [at(25, "pause"), at(26, "resume")],
        1000,
        [(20, "ping"), (46, "ping"), (66, "dead")],
    ),
    "paused does not put off a stall": (
        Line(timeout=5, blocked=True),
        [at(5, "pause"), at(6, "send", 100)],
        1000,
        [(31, "dead")],
    ),
    "paused does not hide a stall": (
        Line(blocked=True),
        [at(5, "pause"), at(6, "send", 100)],
        1000,
        [(46, "dead")],
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios(name: str) -> None:
    line, script, until, log = SCENARIOS[name]
    assert line.run(script, until) == log


SECONDS = st.integers(1, 60)


@given(interval=SECONDS, timeout=SECONDS, talk=st.lists(st.integers(0, 300), max_size=20))
def test_who_falls_silent_is_dead_when_both_times_have_passed(
    interval: int, timeout: int, talk: list[int]
) -> None:
    last = 0
    for moment in sorted(talk):  # what it says before it is pinged for the last time
        if moment < last + interval + timeout:
            last = moment
    log = Line(interval, timeout).run([at(moment, "hear") for moment in talk if moment <= last], 10**4)
    assert log[-2:] == [(last + interval, "ping"), (last + interval + timeout, "dead")]


@given(
    interval=SECONDS,
    timeout=SECONDS,
    delay=st.integers(0, 59),
    talk=st.lists(st.integers(0, 300), max_size=20),
    pauses=st.lists(st.tuples(st.integers(0, 300), st.sampled_from(["pause", "resume"])), max_size=6),
)
def test_who_answers_in_time_is_never_dead(
    interval: int, timeout: int, delay: int, talk: list[int], pauses: list[tuple[int, str]]
) -> None:
    line = Line(interval, timeout, answer=min(delay, timeout))
    log = line.run([*(at(moment, "hear") for moment in talk), *(at(*pause) for pause in pauses)], 400)
    assert {what for _, what in log} <= {"ping"}
    times = [when for when, _ in log]
    assert all(later - earlier >= interval for earlier, later in pairwise(times))


# Polls that come at other times than asked for


def test_a_late_poll_pings_before_it_condemns() -> None:
    liveness = Liveness(20, 20)
    assert liveness.poll(1000, 0, True, Queue(0, 0)) == (Verdict.PING, 1000)
    assert liveness.pinged(1000, Queue(6, 0)) == 1020
    assert liveness.poll(5000, 0, True, Queue(6, 0)) == (Verdict.DEAD, 5000)


def test_a_late_poll_sees_an_answer_that_came_in_time_or_not() -> None:
    liveness = Liveness(20, 20)
    for answer in (1001, 4999):
        assert liveness.poll(1000, 0, True, Queue(0, 0)) == (Verdict.PING, 1000)
        liveness.pinged(1000, Queue(6, 0))
        assert liveness.poll(5000, answer, True, Queue(6, 0)) == (
            (Verdict.PING, 5000) if answer == 1001 else (Verdict.NOTHING, 5019)
        )
        liveness = Liveness(20, 20)


def test_a_late_poll_sees_progress() -> None:
    liveness = Liveness(20, 20)
    assert liveness.poll(1, 1, True, Queue(0, 100, 1)) == (Verdict.NOTHING, 21)
    assert liveness.poll(1000, 999, True, Queue(50, 50, 999)) == (Verdict.NOTHING, 1019)
    assert liveness.poll(1019, 1018, True, Queue(50, 50, 999)) == (Verdict.NOTHING, 1038)
    assert liveness.poll(1038.5, 1038, True, Queue(50, 50, 999)) == (Verdict.NOTHING, 1039)
    assert liveness.poll(1039, 1039, True, Queue(50, 50, 999)) == (Verdict.DEAD, 1039)


def test_early_polls_do_no_harm() -> None:
    liveness = Liveness(20, 20)
    for now in range(20):
        assert liveness.poll(now, 0, True, Queue(0, 0)) == (Verdict.NOTHING, 20)
    assert liveness.poll(20, 0, True, Queue(0, 0)) == (Verdict.PING, 20)
    assert liveness.pinged(20, Queue(6, 0)) == 40
    for now in range(20, 40):
        assert liveness.poll(now, 0, True, Queue(6, 0)) == (Verdict.NOTHING, 40)
    assert liveness.poll(40, 0, True, Queue(6, 0)) == (Verdict.DEAD, 40)


def test_a_verdict_that_was_not_acted_on_is_repeated() -> None:
    liveness = Liveness(20, 20)
    assert liveness.poll(20, 0, True, Queue(0, 0)) == (Verdict.PING, 20)
    assert liveness.poll(21, 0, True, Queue(0, 0)) == (Verdict.PING, 21)
    liveness.pinged(21, Queue(6, 0))
    assert liveness.poll(41, 0, True, Queue(6, 0)) == (Verdict.DEAD, 41)
    assert liveness.poll(42, 0, True, Queue(6, 0)) == (Verdict.DEAD, 42)


def test_after_a_ping_the_next_poll_is_at_the_first_deadline() -> None:
    for interval, timeout, when in [(20, 5, 25), (5, 20, 10), (20, None, 40)]:
        liveness = Liveness(interval, timeout)
        assert liveness.poll(interval, 0, True, Queue(0, 0)) == (Verdict.PING, interval)
        assert liveness.pinged(interval, Queue(6, 0)) == when
    # bytes that have waited since the beginning stall before the ping is overdue
    liveness = Liveness(10, 30)
    assert liveness.poll(0, 0, True, Queue(0, 0)) == (Verdict.NOTHING, 10)
    assert liveness.poll(35, 5, True, Queue(0, 100)) == (Verdict.PING, 35)
    assert liveness.pinged(35, Queue(0, 106)) == 40
    assert liveness.poll(36, 5, True, Queue(0, 106)) == (Verdict.NOTHING, 40)
    assert liveness.poll(40, 5, True, Queue(0, 106)) == (Verdict.DEAD, 40)


def test_parts_of_a_message_count_by_their_number() -> None:
    liveness = Liveness(20, 20)
    assert liveness.since == math.inf
    liveness.part(100, 1, 0)
    assert liveness.since == 100  # that it begins at all is a sign of life
    liveness.part(101, TRICKLE - 1, 0)
    assert liveness.since == 100
    liveness.part(102, TRICKLE + 1, 0)
    assert liveness.since == 102
    for now in range(103, 110):
        liveness.part(now, TRICKLE // 2, 0)
    assert liveness.since == 102
    liveness.part(110, 5 * TRICKLE, 0)  # what came too slowly counts with what comes later
    assert liveness.since == 110
    liveness.whole()
    assert liveness.since == math.inf
    liveness.part(200, 1, 0)
    liveness.part(1000, TRICKLE, 999)  # no byte could come as long as nobody read
    assert liveness.since == 1000


def test_nothing_is_ever_due_without_an_interval() -> None:
    liveness = Liveness(None, 20)
    assert liveness.poll(10**9, 0, True, Queue(0, 100)) == (Verdict.NOTHING, math.inf)
    assert liveness.poll(10**9, 0, False, Queue(0, 100)) == (Verdict.NOTHING, math.inf)


# The ledger


def test_a_pong_settles_its_ping_and_those_before_it() -> None:
    ledger = PingLedger()
    for number in range(4):
        ledger.sent(bytes([number]), now=10.0 + number)
    assert len(ledger) == 4
    assert PingLedger().latency is None
    settled = ledger.answered(bytes([2]), now=15.0)
    assert list(settled.items()) == [(b"\x00", 5.0), (b"\x01", 4.0), (b"\x02", 3.0)]
    assert ledger.latency == 3.0
    assert len(ledger) == 1
    assert b"\x03" in ledger
    assert b"\x02" not in ledger


def test_pongs_that_nobody_asked_for_settle_nothing() -> None:
    ledger = PingLedger()
    assert ledger.answered(b"", now=1.0) == {}
    ledger.sent(b"a", now=1.0)
    assert ledger.answered(b"b", now=2.0) == {}
    assert b"a" in ledger
    assert ledger.answered(b"a", now=3.0) == {b"a": 2.0}
    # the same pong a second time
    assert ledger.answered(b"a", now=4.0) == {}
    assert ledger.latency == 2.0
    assert len(ledger) == 0


def test_a_ping_may_be_empty_or_sent_again() -> None:
    ledger = PingLedger()
    ledger.sent(b"", now=1.0)
    assert ledger.answered(b"", now=1.5) == {b"": 0.5}
    ledger.sent(b"", now=2.0)
    assert ledger.answered(b"", now=2.25) == {b"": 0.25}
    assert ledger.latency == 0.25


def test_a_ping_can_be_forgotten() -> None:
    ledger = PingLedger()
    ledger.sent(b"a", now=1.0)
    ledger.sent(b"b", now=2.0)
    ledger.forget(b"a")
    ledger.forget(b"never sent")
    assert b"a" not in ledger
    assert ledger.answered(b"a", now=3.0) == {}
    assert ledger.answered(b"b", now=3.0) == {b"b": 1.0}
