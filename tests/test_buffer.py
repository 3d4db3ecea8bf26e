"""Audio between its carrier and its session."""

import asyncio
from itertools import count, islice
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.buffer import AudioBuffer

CAPACITY: Final = 100


class Recollection(RuleBasedStateMachine):
    """The buffer against a plain list of everything that was ever pushed."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = AudioBuffer(CAPACITY)
        self.held: list[tuple[int, int]] = []
        """(position, byte)"""
        self.floor = self.head = 0
        self.untold: list[tuple[int, float]] = []
        self.time = count()
        self.bytes = count()

    @rule(
        jump=st.sampled_from([0, 0, 0, 1, 7, 500, -3]),
        size=st.one_of(st.integers(0, 30), st.just(250)),
        silence=st.booleans(),
    )
    def push(self, jump: int, size: int, silence: bool) -> None:
        payload = bytes(n % 251 for n in islice(self.bytes, size))
        arrived = None if silence else float(next(self.time))
        self.buffer.push(self.head + jump, payload, arrived)
        if not payload:
            return
        start = self.head + (jump if jump > 0 or self.buffer.empty else 0)
        if not self.held and self.floor == self.head == 0:
            start = self.head + jump
            self.floor = start
        self.head = start + size
        self.held += [(start + n, byte) for n, byte in enumerate(payload)]
        if arrived is not None:
            self.untold.append((self.head, arrived))
        if len(self.held) > CAPACITY:
            self.held = self.held[-CAPACITY:]
            self.floor = self.held[0][0]
            self.untold = [(at, when) for at, when in self.untold if at > self.floor]

    @rule(ahead=st.integers(-30, 300))
    def forget(self, ahead: int) -> None:
        self.buffer.forget(self.floor + ahead)
        self.floor = max(self.floor, min(self.floor + ahead, self.head))
        self.held = [(at, byte) for at, byte in self.held if at >= self.floor]

    @rule(ahead=st.integers(-30, 700), size=st.integers(0, 300))
    def read(self, ahead: int, size: int) -> None:
        at, payload = self.buffer.read(self.floor + ahead, size)
        behind = [(where, byte) for where, byte in self.held if where >= self.floor + ahead]
        if not behind:
            assert (at, payload) == (self.floor + max(ahead, 0), b"")
            return
        run = [byte for n, (where, byte) in enumerate(behind) if where == behind[0][0] + n]
        assert (at, payload) == (behind[0][0], bytes(run[:size]))

    @precondition(lambda self: self.untold)
    @rule(ahead=st.integers(0, 300))
    def arrivals(self, ahead: int) -> None:
        until = self.floor + ahead
        assert self.buffer.arrivals(until) == [when for at, when in self.untold if at <= until]
        self.untold = [(at, when) for at, when in self.untold if at > until]

    @invariant()
    def bounded(self) -> None:
        assert len(self.buffer) == len(self.held) <= CAPACITY
        assert (self.buffer.floor, self.buffer.head) == (self.floor, self.head)
        assert self.buffer.empty == (self.head == self.floor == 0)


TestRecollection = Recollection.TestCase
TestRecollection.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_oldest_gives_way() -> None:
    """Beyond its capacity the buffer forgets from below, and a reader who was there is taken to the new floor."""
    buffer = AudioBuffer(480)
    for n in range(4):
        buffer.push(160 * n, bytes([n]) * 160, float(n))
    assert buffer.floor == 160
    assert buffer.read(0, 200) == (160, b"\1" * 160 + b"\2" * 40)
    assert buffer.arrivals(buffer.head) == [1.0, 2.0, 3.0], "what nobody will hear is not told"


def test_a_hole_costs_no_capacity() -> None:
    """What was said before a jump of an hour is still there after it: only audio counts."""
    buffer = AudioBuffer(480)
    buffer.push(0, b"a" * 160, 1.0)
    buffer.push(28_800_000, b"b" * 160, 3601.0)
    assert (buffer.floor, len(buffer)) == (0, 320)
    assert buffer.read(0, 480) == (0, b"a" * 160)
    assert buffer.read(160, 480) == (28_800_000, b"b" * 160)


def test_more_than_it_holds_at_once() -> None:
    """Of a push larger than the capacity the newest part stays; a buffer without capacity holds nothing."""
    buffer = AudioBuffer(100)
    buffer.push(0, b"a" * 50 + b"b" * 100, 1.0)
    assert buffer.read(0, 1000) == (50, b"b" * 100)
    nothing = AudioBuffer(0)
    nothing.push(0, b"a" * 50, 1.0)
    assert (nothing.floor, nothing.head, nothing.read(0, 100)) == (50, 50, (50, b""))


def test_positions_may_begin_below_zero() -> None:
    """The first push sets floor and head, wherever it lies."""
    buffer = AudioBuffer(1000)
    buffer.push(-3200, b"a" * 160, 1.0)
    assert (buffer.floor, buffer.head) == (-3200, -3040)
    assert buffer.read(-3200, 160) == (-3200, b"a" * 160)


def test_a_stretch_reads_whole_wherever_it_lies() -> None:
    """Seconds of speech in frames of 20 ms: what is kept in pieces is read in one, up to a hole and beyond it."""
    buffer = AudioBuffer(200_000)
    said = bytes(n * 7 % 251 for n in range(64_000))
    for at in range(0, 32_000, 160):
        buffer.push(at, said[at : at + 160], None)
    buffer.push(32_000, said[32_000:48_000], None)
    buffer.push(50_000, said[50_000:], None)
    buffer.forget(9_000)
    assert buffer.read(0, 100_000) == (9_000, said[9_000:48_000])
    for at in range(9_000, 48_000, 977):
        assert buffer.read(at, 12_345) == (at, said[at : min(at + 12_345, 48_000)])
    assert buffer.read(48_000, 100_000) == (50_000, said[50_000:])
    assert buffer.read(50_000, 3) == (50_000, said[50_000:50_003])


def test_an_hour_of_listening_stays_small() -> None:
    """A leg that forgets what was heard keeps a few kilobytes, and arrivals nobody asks for do not pile up."""
    buffer = AudioBuffer(480_000)
    for n in range(50 * 3600):
        buffer.push(160 * n, bytes(160), float(n))
        buffer.forget(buffer.head - 480)
    assert len(buffer) == 480
    assert sum(len(run.data) for run in buffer._runs) < 8192
    assert len(buffer.arrivals(buffer.head)) <= 4096


async def test_a_reader_waits_until_there_is_enough() -> None:
    """`more` returns when the head has reached the position asked for, not before; at once where it is there already."""
    buffer = AudioBuffer(1000)
    buffer.push(0, bytes(160), 1.0)
    await buffer.more(160)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        reading = group.create_task(buffer.more(480))
        await asyncio.sleep(0)
        buffer.push(160, bytes(160), 1.0)
        await asyncio.sleep(0)
        assert not reading.done()
        buffer.push(320, bytes(160), 1.0)
        await reading
    buffer.push(480, bytes(160), 1.0)


async def test_the_first_push_wakes() -> None:
    """Whoever waits before there is anything cannot know the positions: the first push lets them look."""
    buffer = AudioBuffer(10_000)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        reading = group.create_task(buffer.more(1))
        await asyncio.sleep(0)
        buffer.push(-3200, bytes(160), 1.0)
        await reading


async def test_wake_lets_the_reader_look_again() -> None:
    """There will be no more: the reader returns without it; twice does no harm, and nobody waiting neither."""
    buffer = AudioBuffer(1000)
    buffer.wake()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        reading = group.create_task(buffer.more(480))
        await asyncio.sleep(0)
        buffer.wake()
        buffer.wake()
        await reading


async def test_a_reader_that_is_cancelled_leaves_no_trace() -> None:
    """Its place is free: pushes go on, and another reader may wait."""
    buffer = AudioBuffer(1000)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await buffer.more(160)
    buffer.push(0, bytes(100), 1.0)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        reading = group.create_task(buffer.more(160))
        await asyncio.sleep(0)
        buffer.push(100, bytes(60), 1.0)
        await reading
