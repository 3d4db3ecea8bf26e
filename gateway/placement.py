"""Where a session's audio lies on the call's clock. Pure; samples at 8 kHz."""

from bisect import bisect_right

from gateway.timeline import SAMPLES_PER_MS


class Placement:
    """A session hears the buffer's bytes one after another; where positions jump, an anchor says so."""

    def __init__(self) -> None:
        self.fed = 0
        """Samples given to the session's audio path."""
        self._fed_at: list[int] = []
        self._positions: list[int] = []

    def feed(self, position: int, samples: int) -> None:
        """So many samples from *position* go next."""
        if not self._fed_at or self._positions[-1] + (self.fed - self._fed_at[-1]) != position:
            self._fed_at.append(self.fed)
            self._positions.append(position)
        self.fed += samples

    def position(self, fed: float) -> int:
        """The position of a sample of the session; before the first and behind the last, as if it ran on."""
        if not self._fed_at:
            return 0
        i = max(0, bisect_right(self._fed_at, fed) - 1)
        return self._positions[i] + round(fed) - self._fed_at[i]

    def position_ms(self, session_ms: float) -> int:
        """The position of a time of the session's audio."""
        return self.position(session_ms * SAMPLES_PER_MS)
