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
CROWDED_SECONDS: Final = 3.0
_MOST_CROWDED: Final = 30.0


class Bucket:
    """A minute's worth of sessions at once, filled again over a minute; it rests while the service says "too many"."""

    def __init__(self, per_minute: int, now: float) -> None:
        self._capacity = float(per_minute)
        self._level = float(per_minute)
        self._at = now
        self._closed_until = 0.0
        self._crowded = 0

    def wait(self, now: float) -> float:
        """Seconds until a session may be opened; 0 if it may now."""
        level = min(self._capacity, self._level + (now - self._at) * self._capacity / 60)
        return max(self._closed_until - now, (1 - level) / self._capacity * 60, 0.0)

    def take(self, now: float) -> None:
        """One was opened."""
        self._level = min(self._capacity, self._level + (now - self._at) * self._capacity / 60) - 1
        self._at = now

    def crowded(self, now: float, chance: float) -> None:
        """The service said "too many sessions": everybody rests, longer each time in a row; *chance* is 0 to 1."""
        if now < self._closed_until:
            return  # several were on their way; it is said once
        pause = min(_MOST_CROWDED, CROWDED_SECONDS * 2**self._crowded) * (0.75 + 0.25 * chance)
        self._crowded = min(self._crowded + 1, 5)
        self._closed_until = now + pause
        self._level, self._at = min(self._level, 1.0), now

    def began(self) -> None:
        """A session began: the account is not full."""
        self._crowded = 0


class Circuit:
    """Open while the service refuses the account; one probe at a time looks whether it still does."""

    def __init__(self) -> None:
        self.why: str | None = None
        """Why it is open; None while it is closed."""
        self._probe_at = 0.0
        self._probing = False

    def wait(self, now: float) -> float | None:
        """Seconds until one may try; None while another does."""
        if self.why is None:
            return 0.0
        return None if self._probing else max(0.0, self._probe_at - now)

    def took(self) -> None:
        """One tries."""
        self._probing = self.why is not None

    def refused(self, why: str, now: float) -> None:
        """The account was refused."""
        self.why = why
        self._probing = False
        self._probe_at = now + PROBE_SECONDS

    def let_go(self, now: float) -> None:
        """A try ended without an answer about the account."""
        if self._probing:
            self._probing = False
            self._probe_at = now + PROBE_SECONDS

    def began(self) -> None:
        """A session began: the account is good."""
        self.why = None
        self._probing = False


class Admission:
    """Whose turn it is to open a session."""

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
        """Wait until a session may be opened. What became of it must be told: `began`, `crowded`, `refused` or `ended`."""
        place = asyncio.get_running_loop().create_future()
        heapq.heappush(self._line, (_ORDER[priority], next(self._numbers), place))
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # let in, and gone in the same moment
                self.ended()
            raise

    def began(self) -> None:
        """It began."""
        self._circuit.began()
        self._bucket.began()
        self._admit()

    def crowded(self) -> None:
        """The account opens too many."""
        self._bucket.crowded(self._clock(), self._chance())
        self.ended()

    def refused(self, why: str) -> None:
        """The account is refused: key, funds."""
        self._circuit.refused(why, self._clock())
        self._admit()

    def ended(self) -> None:
        """It never began, for a reason of its own."""
        self._circuit.let_go(self._clock())
        self._admit()

    def _admit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._line:
            if self._line[0][2].done():
                heapq.heappop(self._line)
                continue
            now = self._clock()
            probe = self._circuit.wait(now)
            if probe is None:
                return
            wait = max(probe, self._bucket.wait(now))
            if wait > 0:
                self._timer = asyncio.get_running_loop().call_later(wait + 0.001, self._admit)
                return
            self._bucket.take(now)
            self._circuit.took()
            heapq.heappop(self._line)[2].set_result(None)
