"""
New sessions a minute: one bucket for the whole account, and a circuit that opens when the account itself is refused.

Who lost a session goes first, then the second leg of a call that has one, then new calls; within each, first come first served.
The state is pure (`Bucket`, `Circuit`); `Admission` is the door over them.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Final, Literal

Priority = Literal["again", "second", "new"]
_ORDER: Final[dict[Priority, int]] = {"again": 0, "second": 1, "new": 2}

PROBE_SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 12.0
"""A try that is not told by then is not waited for: a little longer than a `Begin` may take."""
CROWDED_SECONDS: Final = 3.0
_MOST_CROWDED: Final = 5.0
"""Back-off is capped at that while a call lives; what keeps the account from more is that they come one by one then."""


class Bucket:
    """
    A token bucket: a minute's worth at once if need be, then as many as a minute's worth spread evenly.

    So the first minute of a rush may see nearly twice as many; where the account minds, it says "too many", and everybody rests:
    a caller who waits some seconds loses nothing, one who waits for a whole minute does. After a rest it gives one, then the rest evenly.
    """

    def __init__(self, per_minute: int, now: float) -> None:
        self._capacity = per_minute
        self._level = float(per_minute)
        self._at = now
        self._closed_until = now
        self._crowded = 0

    def wait(self, now: float) -> float:
        """Seconds until a session may be opened; 0 if it may now."""
        return max(self._closed_until - now, (1 - self._filled(now)) / self._capacity * 60, 0.0)

    def take(self, now: float) -> None:
        """One is opened."""
        self._level, self._at = self._filled(now) - 1, max(now, self._at)

    def give_back(self, now: float) -> None:
        """One that was taken never came to the service."""
        self._level, self._at = min(self._capacity, self._filled(now) + 1), max(now, self._at)

    def crowded(self, now: float, chance: float) -> None:
        """The service said "too many sessions": everybody rests, longer each time in a row; *chance* is 0 to 1."""
        if now < self._closed_until:
            return  # several were on their way; it is said once
        pause = min(_MOST_CROWDED, CROWDED_SECONDS * 2**self._crowded) * (0.75 + 0.25 * chance)
        self._crowded = min(self._crowded + 1, 5)
        self._closed_until = now + pause
        self._level, self._at = 1.0, self._closed_until

    def began(self) -> None:
        """A session began: the account is not full."""
        self._crowded = 0

    def _filled(self, now: float) -> float:
        return min(self._capacity, self._level + max(0.0, now - self._at) * self._capacity / 60)


class Circuit:
    """Open while the service refuses the account; one probe at a time looks whether it still does."""

    def __init__(self) -> None:
        self.why: str | None = None
        """Why it is open; None while it is closed."""
        self._probe_at = 0.0
        self._trying = 0
        self._tried_at = 0.0

    def wait(self, now: float) -> float:
        """Seconds until one may try; 0 if it may now."""
        if self.why is None:
            return 0.0
        wait = max(0.0, self._probe_at - now)
        # Those that were on their way when it opened are probes too.
        return max(wait, self._tried_at + PATIENCE_SECONDS - now) if self._trying else wait

    def took(self, now: float) -> None:
        """One tries."""
        self._trying += 1
        self._tried_at = now

    def told(self, now: float) -> None:
        """A try is over."""
        self._trying = max(0, self._trying - 1)
        self._probe_at = now + PROBE_SECONDS

    def forgone(self) -> None:
        """Who might have tried did not."""
        self._trying = max(0, self._trying - 1)

    def refused(self, why: str, now: float) -> None:
        """The account was refused."""
        self.why = why
        self._probe_at = now + PROBE_SECONDS

    def began(self) -> None:
        """A session began: the account is good."""
        self.why = None


class Admission:
    """
    Whose turn it is to open a session.

    What became of each that was let in is told once: `began`, `crowded`, `refused` or `ended`. One that began and was lost
    for the account's sake later tells that too, with `begun`.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float], chance: Callable[[], float]) -> None:
        self._clock = clock
        self._chance = chance
        self._bucket = Bucket(per_minute, clock())
        self._circuit = Circuit()
        self._line: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def circuit(self) -> str | None:
        """Why nobody is let in but a probe, if so."""
        return self._circuit.why

    def waiting(self) -> int:
        """How many wait."""
        return sum(not place.done() for _, _, place in self._line)

    async def enter(self, priority: Priority) -> None:
        """Wait until a session may be opened."""
        place = (_ORDER[priority], next(self._numbers), asyncio.get_running_loop().create_future())
        heapq.heappush(self._line, place)
        self._admit()
        try:
            await place[2]
        except asyncio.CancelledError:
            if place in self._line:
                self._line.remove(place)
                heapq.heapify(self._line)
            elif not place[2].cancelled():  # let in, and gone in the same moment
                self._bucket.give_back(self._clock())
                self._circuit.forgone()
            self._admit()
            raise

    def began(self) -> None:
        """It began."""
        self._circuit.told(self._clock())
        self._circuit.began()
        self._bucket.began()
        self._admit()

    def crowded(self, *, begun: bool = False) -> None:
        """The account opens too many."""
        now = self._clock()
        if not begun:
            self._circuit.told(now)
        self._bucket.crowded(now, self._chance())
        self._admit()

    def refused(self, why: str, *, begun: bool = False) -> None:
        """The account is refused: key, funds."""
        now = self._clock()
        if not begun:
            self._circuit.told(now)
        self._circuit.refused(why, now)
        self._admit()

    def ended(self, *, reached: bool) -> None:
        """It never began, for a reason of its own; what did not reach the service does not count against the account."""
        now = self._clock()
        self._circuit.told(now)
        if not reached:
            self._bucket.give_back(now)
        self._admit()

    def _admit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._line:
            if self._line[0][2].done():  # cancelled, and not gone yet
                heapq.heappop(self._line)
                continue
            now = self._clock()
            wait = max(self._circuit.wait(now), self._bucket.wait(now))
            if wait > 0:
                self._timer = asyncio.get_running_loop().call_later(wait + 0.001, self._admit)
                return
            self._bucket.take(now)
            self._circuit.took(now)
            heapq.heappop(self._line)[2].set_result(None)
