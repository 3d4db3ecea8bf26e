"""
Whether an endpoint fails for everyone: a pure machine, one for each endpoint.

              5 failures in a row, of 2 lanes or more
    CLOSED ────────────────────────────────────────────▶ OPEN   one lane's head probes, all others wait
       ▲                                                  │
       └──────────────── any success ◀────────────────────┘     all others go at once

A lane that kept failing while another was served fails for its own sake: it is excused, and its failures open nothing
until it was served once. So a refused event delays its own call and no other.

Where probes are refused (4xx) that may be for their own sake too: each is then another lane's, the newest untried first.
"""

from gateway.delivery import EndpointState
from gateway.webhooks.retry import LONGEST_QUICK_PAUSE, QUICK_SECONDS, step

THRESHOLD = 5
"""Failures in a row."""
LANES = 2
"""Lanes they must come from."""
PROBE_QUICK_PAUSE = LONGEST_QUICK_PAUSE / 2
"""Longest pause between probes in the first ten minutes: whoever waits behind two probes has not paused for longer than 10 s."""
PROBE_LATER_PAUSE = 900.0
"""Longest pause between probes afterwards: an endpoint that is back is found within a quarter of an hour."""
PROBES_A_LANE = 2
"""Failed probes of one lane before the next one's turn: the endpoint may be well and this lane's head refused for its own sake."""
BURIED_PAUSE = 1.0
"""After a probe that ended in a dead letter: what is over its three days is worked off at this pace."""
_REMEMBERED = 1024

Lane = tuple[str, str]


class Breaker:
    """One endpoint's."""

    def __init__(self, state: EndpointState) -> None:
        self.failing_since = state.failing_since
        self.probe_at = state.probe_at or 0.0
        """Epoch seconds of the next probe; means nothing while closed."""
        self.probes = state.probes
        self.doubtful = False
        """The last failure was a refusal: it says less of the endpoint than of the event."""
        self._failures = 0
        self._first_failure_at = 0.0
        self._blamed: set[Lane] = set()
        """Lanes that failed since the last success."""
        self._excused: set[Lane] = set()

    @property
    def open(self) -> bool:
        """Whether the endpoint fails for everyone."""
        return self.failing_since is not None

    def succeeded(self, lane: Lane) -> bool:
        """Take a success. True: it closed the breaker, all may go."""
        closed = self.open
        self._blamed.discard(lane)
        self._excused.discard(lane)
        for other in self._blamed:
            if len(self._excused) < _REMEMBERED:
                self._excused.add(other)
        self._blamed.clear()
        self._failures = 0
        self.failing_since, self.probes = None, 0
        return closed

    def failed(
        self, lane: Lane, now: float, chance: float, asked: float | None = None, *, refused: bool = False
    ) -> bool:
        """Take a failed attempt that was no probe. True: it opened the breaker."""
        if self.open or lane in self._excused:
            return False
        self.doubtful = refused
        if not self._failures:
            self._first_failure_at = now
        self._failures += 1
        if len(self._blamed) < _REMEMBERED:
            self._blamed.add(lane)
        if self._failures < THRESHOLD or len(self._blamed) < LANES:
            return False
        self.failing_since = self._first_failure_at
        self.probes = 0
        self._schedule(now, chance, asked)
        return True

    def probe_failed(
        self,
        lane: Lane,
        now: float,
        chance: float,
        asked: float | None = None,
        *,
        refused: bool = False,
        buried: bool = False,
    ) -> None:
        """Take a failed probe; `asked` is what the receiver asked for, in seconds."""
        if not self.open:
            return
        self.doubtful = refused
        if len(self._blamed) < _REMEMBERED:
            self._blamed.add(lane)
        self.probes += 1
        self._schedule(now, chance, asked)
        if buried:
            self.probe_at = min(self.probe_at, now + BURIED_PAUSE)

    def postpone(self, until: float) -> None:
        """Let the next probe wait."""
        self.probe_at = max(self.probe_at, until)

    def forget(self, lane: Lane) -> None:
        """Drop a lane that owes nothing any more."""
        self._excused.discard(lane)

    def rotate(self) -> bool:
        """Whether the next probe is another lane's turn."""
        return self.doubtful or self.probes % PROBES_A_LANE == 0

    def state(self, url: str, disabled_at: float | None) -> EndpointState:
        """Give what is to be kept over a restart."""
        return EndpointState(url, disabled_at, self.failing_since, self.probes, self.probe_at if self.open else None)

    def _schedule(self, now: float, chance: float, asked: float | None) -> None:
        since = now if self.failing_since is None else self.failing_since
        longest = PROBE_QUICK_PAUSE if now - since < QUICK_SECONDS else PROBE_LATER_PAUSE
        self.probe_at = now + max(min(step(self.probes + 1, now - since, chance), longest), asked or 0.0)
