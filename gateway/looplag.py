"""How late the event loop wakes: what every call on it feels."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

INTERVAL_SECONDS: Final = 0.1
_LEAST_SLEEP_SECONDS: Final = 0.001
"""uvloop counts whole milliseconds: a sleep of less is none, and would be slept again and again until the next one."""
_MOST_TICKS = 600  # of one late wake; a process stopped for longer than a minute is not a lag but a suspension


class LoopLag:
    """
    A row of ticks at a fixed interval, pure; it says how late each was seen.

    The row does not drift, and ticks that passed while the loop was blocked count as well, each with its own lateness: one
    stall of a second is ten late ticks, not one. (Else a loop that stalls half of the time would look healthy at the median.)
    """

    def __init__(self, now: float, interval: float = INTERVAL_SECONDS) -> None:
        self.interval = interval
        self.due = now + interval
        """When the next tick should be seen."""

    def seen(self, now: float) -> Iterator[float]:
        """Seconds of lateness of each tick due by *now*."""
        self.due = max(self.due, now - _MOST_TICKS * self.interval)
        while self.due <= now:
            yield now - self.due
            self.due += self.interval


async def watch(observe: Callable[[float], object], interval: float = INTERVAL_SECONDS) -> None:
    """Give *observe* the lag of every tick until cancelled."""
    loop = asyncio.get_running_loop()
    lag = LoopLag(loop.time(), interval)
    while True:
        await asyncio.sleep(max(lag.due - loop.time(), _LEAST_SLEEP_SECONDS))
        for late in lag.seen(loop.time()):
            observe(late)
