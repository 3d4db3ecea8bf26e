"""How fast waiting audio may go to the service, and what the service cannot have heard yet. Pure; milliseconds of audio, seconds of clock."""

from collections import deque
from typing import Final

RATE: Final = 1.2
BURST_MS: Final = 1000.0
WINDOW_SECONDS: Final = 5.0
"""Contract §4: "at no more than 1.2 × real time averaged over 5 s (up to 1 s of it at once)"."""

_WINDOW_MS: Final = RATE * WINDOW_SECONDS * 1000
_TOGETHER_SECONDS: Final = 0.05


class Pace:
    """A bucket of one second that fills at 1.2 × real time, and at most 6 s of audio in any 5 s."""

    def __init__(self, now: float) -> None:
        self._level = BURST_MS
        self._at = now
        self._sent: deque[tuple[float, float, float]] = deque()
        """What went lately: from when, until when, how much."""
        self._in_window = 0.0

    def wait(self, ms: float, now: float) -> float:
        """Seconds until so much more audio may go; 0 if it may go now."""
        level = min(BURST_MS, self._level + (now - self._at) * 1000 * RATE)
        wait = max(0.0, (ms - level) / (1000 * RATE))
        while self._sent and self._sent[0][1] <= now - WINDOW_SECONDS:
            self._in_window -= self._sent.popleft()[2]
        over = self._in_window + ms - _WINDOW_MS
        for _, at, size in self._sent:
            if over <= 0:
                break
            over -= size
            wait = max(wait, at + WINDOW_SECONDS - now)
        return wait

    def sent(self, ms: float, now: float) -> None:
        """So much went."""
        self._level = min(BURST_MS, self._level + (now - self._at) * 1000 * RATE) - ms
        self._at = now
        self._in_window += ms
        since = now
        if self._sent and now - self._sent[-1][0] < _TOGETHER_SECONDS:
            # One entry for what goes together keeps the window short; its end is the safe time for all of it.
            since, _, together = self._sent.pop()
            ms += together
        self._sent.append((since, now, ms))


class Backlog:
    """How much of what was sent the service cannot have heard, if it hears at 1.0 × real time from `Begin` on."""

    def __init__(self, now: float) -> None:
        self._unheard = 0.0
        self._at = now

    def sent(self, ms: float, now: float) -> None:
        """So much went."""
        unheard = self._unheard - (now - self._at) * 1000
        self._unheard = unheard + ms if unheard > 0 else ms
        self._at = now

    def ms(self, now: float) -> float:
        """Milliseconds of audio."""
        return max(0.0, self._unheard - (now - self._at) * 1000)
