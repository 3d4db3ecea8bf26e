"""How late the loop wakes."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.looplag import LoopLag, watch


def test_on_time_is_no_lag() -> None:
    """A tick seen when it is due has no lag, and the next is due an interval later."""
    lag = LoopLag(now=10.0, interval=0.1)
    assert list(lag.seen(10.05)) == []
    assert list(lag.seen(lag.due)) == [0.0]
    assert lag.due == pytest.approx(10.2)


def test_a_stall_counts_for_every_tick_it_swallowed() -> None:
    """A second's stall is ten late ticks, each with its own lateness."""
    lag = LoopLag(now=0.0, interval=0.125)
    assert list(lag.seen(1.0)) == [0.875 - 0.125 * n for n in range(8)]


def test_a_suspended_process_does_not_count_for_ever() -> None:
    """After a day's suspension the ticks counted are those of its last minute."""
    lag = LoopLag(now=0.0, interval=0.1)
    assert len(list(lag.seen(86_400.0))) <= 601


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=50))
def test_ticks_do_not_drift(waits: list[float]) -> None:
    """However late each wake is, the ticks stay on their grid and none is counted twice."""
    lag, now, count = LoopLag(now=0.0, interval=0.125), 0.0, 0
    for wait in waits:
        now += wait
        count += len(list(lag.seen(now)))
    assert count == int(now / 0.125)
    assert lag.due == 0.125 * (count + 1)


async def test_watch_observes_the_loop_it_runs_on() -> None:
    """The coroutine gives each tick's lag to its observer, and none is negative."""
    lags: list[float] = []
    enough = asyncio.Event()

    def observe(seconds: float) -> None:
        lags.append(seconds)
        if len(lags) == 3:
            enough.set()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        watching = group.create_task(watch(observe, interval=0.005))
        await enough.wait()
        watching.cancel()
    assert min(lags) >= 0
