"""Whose turn it is: the minute's count, the rest when it was too much, the circuit, the line before the door."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.speech.admission import (
    CROWDED_SECONDS,
    PATIENCE_SECONDS,
    PROBE_SECONDS,
    Admission,
    Bucket,
    Circuit,
    Priority,
)
from tests.speech.loops import Jumping

LOOPS: Final = {"jumping": Jumping}


# The minute


@given(st.integers(1, 12), st.lists(st.tuples(st.floats(0, 40), st.booleans()), max_size=60))
def test_a_minute_s_worth_and_then_evenly(per_minute: int, tries: list[tuple[float, bool]]) -> None:
    """However they come, t seconds see at most n + n t / 60 sessions; those that never came to the service do not count."""
    bucket, now = Bucket(per_minute, 0.0), 0.0
    opened: list[float] = []
    for gap, reached in tries:
        now += gap
        while (wait := bucket.wait(now)) > 0:
            now += max(wait, 1e-6)
        bucket.take(now)
        if reached:
            opened.append(now)
        else:
            bucket.give_back(now)
    for first, began in enumerate(opened):
        for last in range(first, len(opened)):
            assert last - first + 1 <= per_minute * (1 + (opened[last] - began) / 60) + 1e-6


@pytest.mark.parametrize("per_minute", [1, 5, 100])
def test_a_minute_s_worth_at_once(per_minute: int) -> None:
    """All of them pass in the same moment, and again a minute later; the next one waits for its share of a minute."""
    bucket = Bucket(per_minute, 0.0)
    for now in (0.0, 60.0, 300.0):
        for _ in range(per_minute):
            assert bucket.wait(now) == pytest.approx(0)
            bucket.take(now)
        assert bucket.wait(now) == pytest.approx(60 / per_minute)


def test_an_outage_costs_nothing() -> None:
    """A thousand refused connections, and the service is back: every leg may open its session at once."""
    bucket = Bucket(10, 0.0)
    for number in range(1000):
        bucket.take(number * 0.01)
        bucket.give_back(number * 0.01 + 0.005)
    for _ in range(10):
        assert bucket.wait(10.0) == 0
        bucket.take(10.0)


# Too many


def test_everybody_rests_when_there_are_too_many() -> None:
    """For 3 s, and 5 s each further time in a row; said several times at once it counts once; a Begin ends the row."""
    bucket, now, pauses = Bucket(100, 0.0), 0.0, []
    for _ in range(6):
        bucket.crowded(now, chance=1.0)
        bucket.crowded(now + 0.1, chance=1.0)
        pauses.append(bucket.wait(now))
        now += pauses[-1]
        assert bucket.wait(now) == 0
        bucket.take(now)
    assert pauses == [CROWDED_SECONDS, 5, 5, 5, 5, 5]
    bucket.began()
    bucket.crowded(now, chance=0.0)
    assert bucket.wait(now) == pytest.approx(CROWDED_SECONDS * 0.75)


def test_after_a_rest_they_go_one_by_one() -> None:
    """Not all who waited at once, which would only be too many again: one, then evenly."""
    bucket = Bucket(60, 0.0)
    bucket.crowded(0.0, chance=1.0)
    now, opened = 0.0, []
    for _ in range(20):
        while (wait := bucket.wait(now)) > 0:
            now += max(wait, 1e-6)
        bucket.take(now)
        opened.append(now)
    assert opened == pytest.approx([CROWDED_SECONDS + number for number in range(20)], abs=0.001)


# The circuit


def test_the_circuit() -> None:
    """Closed it lets all through; refused, one probe after 5 s and no other beside it; a Begin closes it."""
    circuit = Circuit()
    for _ in range(3):
        assert circuit.wait(0.0) == 0
        circuit.took(0.0)
    circuit.told(1.0)
    circuit.refused("bad key", 1.0)
    assert circuit.why == "bad key"
    assert circuit.wait(1.0) == pytest.approx(PATIENCE_SECONDS - 1)  # two of the three are still out
    circuit.told(2.0)
    circuit.refused("bad key", 2.0)
    circuit.told(3.0)
    circuit.refused("bad key", 3.0)
    assert circuit.wait(3.0) == PROBE_SECONDS
    assert circuit.wait(8.0) == 0
    circuit.took(8.0)
    assert circuit.wait(8.0) == PATIENCE_SECONDS
    circuit.told(9.0)
    assert circuit.wait(9.0) == PROBE_SECONDS
    circuit.took(14.0)
    circuit.told(14.5)
    circuit.began()
    assert circuit.wait(14.5) == 0
    assert [circuit.why] == [None]


def test_a_probe_that_is_never_told_of() -> None:
    """The next one does not wait for it for ever; told late or twice, nothing breaks."""
    circuit = Circuit()
    circuit.refused("no funds", 0.0)
    circuit.took(5.0)
    assert circuit.wait(5.0 + PATIENCE_SECONDS) == 0
    circuit.took(5.0 + PATIENCE_SECONDS)
    circuit.told(20.0)
    circuit.told(20.0)
    circuit.told(20.0)
    circuit.forgone()
    assert circuit.wait(25.0) == 0


# The door


class Door:
    """An admission on the loop's own time, and who came through it when."""

    def __init__(self, per_minute: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.admission = Admission(per_minute, self.loop.time, lambda: 1.0)
        self.entered: list[tuple[str, float]] = []

    @property
    def now(self) -> float:
        return self.loop.time() - self.began

    async def enter(self, priority: Priority, name: str = "", tell: Callable[[], object] | None = None) -> None:
        await self.admission.enter(priority)
        self.entered.append((name or priority, round(self.now, 1)))
        (tell or self.admission.began)()

    async def until(self, seconds: float) -> None:
        await asyncio.sleep(seconds - self.now)


async def test_who_lost_a_session_goes_first() -> None:
    """Then second legs, then new calls; within each, who came first."""
    door = Door(1)
    async with asyncio.TaskGroup() as line:
        await door.enter("new", "first")
        came: list[tuple[Priority, str]] = [("new", "c"), ("second", "b"), ("again", "a"), ("new", "d"), ("again", "A")]
        for priority, name in came:
            line.create_task(door.enter(priority, name))
        await door.until(1)
        assert door.admission.waiting() == 5
    assert [name for name, _ in door.entered] == ["first", "a", "A", "b", "c", "d"]
    assert [at for _, at in door.entered] == pytest.approx([number * 60 for number in range(6)], abs=0.2)
    assert door.admission.waiting() == 0


async def test_sixty_calls_in_half_a_second() -> None:
    """120 legs, 100 sessions a minute: a hundred at once, the rest within 12 s, each call's second leg before new calls."""
    door = Door(100)
    async with asyncio.TaskGroup() as line:
        for _ in range(60):
            line.create_task(door.enter("new"))
            line.create_task(door.enter("second"))
            await asyncio.sleep(1 / 120)
    early = Counter(name for name, at in door.entered if at < 0.6)
    assert 100 <= early.total() <= 101
    late = [(name, at) for name, at in door.entered if at >= 0.6]
    assert [name for name, _ in late] == sorted((name for name, _ in late), reverse=True)
    assert all(at <= 12.5 for _, at in late)


async def test_too_many_slows_everybody_down_together() -> None:
    """One is told; nobody else tries for 3 s, then they come one by one."""
    door = Door(60)
    await door.enter("new", "told", door.admission.crowded)
    async with asyncio.TaskGroup() as line:
        for number in range(4):
            line.create_task(door.enter("again" if number else "new", str(number)))
    assert door.entered == [("told", 0.0), ("1", 3.0), ("2", 4.0), ("3", 5.0), ("0", 6.0)]


async def test_one_that_had_begun_may_be_told_too() -> None:
    """A session closed for the crowd's sake, or for want of funds, in the middle of its call: everybody rests."""
    door = Door(60)
    await door.enter("new", "before")
    door.admission.crowded(begun=True)
    await door.enter("new", "rested")
    door.admission.refused("no funds", begun=True)
    assert door.admission.circuit == "no funds"
    await door.enter("new", "probe")
    assert door.entered == [("before", 0.0), ("rested", 3.0), ("probe", 8.0)]
    assert door.admission.circuit is None


async def test_a_refused_account_is_probed_by_one_at_a_time() -> None:
    """Twenty legs wait; every five seconds one asks, by priority; when one begins, all go."""
    door = Door(100)
    good_at = 18.0

    def probed() -> None:
        if door.now < good_at:
            door.admission.refused("bad key")
        else:
            door.admission.began()

    await door.enter("new", "first", probed)
    async with asyncio.TaskGroup() as line:
        for number in range(20):
            line.create_task(door.enter("second" if number == 7 else "new", str(number), probed))
        await door.until(1)
        assert door.admission.circuit == "bad key"
        assert door.admission.waiting() == 20
    assert door.entered[:5] == [("first", 0.0), ("7", 5.0), ("0", 10.0), ("1", 15.0), ("2", 20.0)]
    assert {at for _, at in door.entered[4:]} == {20.0}


async def test_those_under_way_when_it_opened_are_no_second_probe() -> None:
    """Three had been let in; the first is refused. Nobody else asks while the two may still be answered."""
    door = Door(100)
    for _ in range(3):
        await door.admission.enter("new")
    door.admission.refused("bad key")
    async with asyncio.TaskGroup() as line:
        line.create_task(door.enter("new", "probe"))
        await door.until(6)
        door.admission.refused("bad key")
        await door.until(9)
        assert door.entered == []
        door.admission.ended(reached=True)
    assert door.entered == [("probe", 14.0)]


async def test_one_under_way_that_begins_closes_it() -> None:
    """An account that lets one in is good."""
    door = Door(100)
    await door.admission.enter("new")
    await door.admission.enter("new")
    door.admission.refused("bad key")
    async with asyncio.TaskGroup() as line:
        line.create_task(door.enter("new", "waited"))
        await door.until(1)
        door.admission.began()
    assert door.entered == [("waited", 1.0)]


async def test_who_gives_up_waiting_leaves_nothing() -> None:
    """A thousand legs that hung up while the circuit was open: no place kept, no timer of theirs, nobody's turn lost."""
    door = Door(2)
    await door.enter("new", "first", lambda: door.admission.refused("bad key"))
    await gone(door, lambda: asyncio.sleep(0.5))
    assert door.admission.waiting() == 0
    assert door.admission._line == []
    assert door.admission._timer is None
    await door.enter("new", "last")
    assert door.entered[-1] == ("last", PROBE_SECONDS)


async def test_who_gives_up_as_it_is_let_in() -> None:
    """Cancelled in the moment its turn came: its place in the minute is the next one's, and no probe is spent."""
    door = Door(1)
    await door.enter("new", "first")
    hung_up = door.loop.create_task(door.admission.enter("new"))
    await door.until(1)
    async with asyncio.TaskGroup() as line:
        line.create_task(door.enter("new", "next"))
        await door.until(2)
        timer = door.admission._timer
        assert timer is not None
        door.loop.call_at(timer.when(), hung_up.cancel)
        await asyncio.wait({hung_up})
    assert hung_up.cancelled()
    assert door.entered == [("first", 0.0), ("next", 60.0)]


async def test_cancelled_and_not_gone_yet() -> None:
    """Between its cancellation and its leaving a waiter is passed over."""
    door = Door(1)
    await door.admission.enter("new")
    first = door.loop.create_task(door.admission.enter("again"))
    second = door.loop.create_task(door.enter("new", "second"))
    await door.until(1)
    first.cancel()
    door.admission.ended(reached=False)
    await second
    assert first.cancelled()
    assert door.entered == [("second", 1.0)]


async def gone(door: Door, wait: Callable[[], Awaitable[None]]) -> None:
    """A thousand legs come and go."""
    async with asyncio.TaskGroup() as line:
        chance = random.Random(3)
        tasks = [line.create_task(door.admission.enter(chance.choice(("again", "second", "new")))) for _ in range(1000)]
        await wait()
        assert door.admission.waiting() == 1000
        chance.shuffle(tasks)
        for task in tasks:
            task.cancel()
            await asyncio.sleep(0)
