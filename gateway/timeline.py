"""
One track of one stream, put back in order on the call's clock. Pure: no clock of its own, no log, no metric.

Positions are **samples at 8 kHz on the call's clock**: eight to a millisecond, one byte of G.711 each.

    frame in place            → its audio, at once
    chunk number missing      → held until it comes, at most 400 ms, then the hole is a loss
    timestamps jump, chunk
      numbers run on          → a loss, not waited for (the carrier threw audio away)
    number missing, no hole
      in time                 → no loss: numbers may be shared by a stream's tracks
    repeated, or later still  → dropped
    backwards by a second     → the carrier began anew: time goes on from where it was

A loss becomes silence, so that the clock downstream stays true; past 10 s of it the position jumps instead. The wall
clock never makes silence: carriers deliver in bursts with nothing lost (233 ms measured).
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

SAMPLES_PER_MS: Final = 8

PATIENCE_SECONDS: Final = 0.4
"""Contract §4: "A missing chunk number is waited for at most 400 ms"."""

SAID_FROM: Final = 100 * SAMPLES_PER_MS
"""Contract §4: "A gap is said from 100 ms up"."""

FILLED_UP_TO: Final = 10_000 * SAMPLES_PER_MS
"""Contract §4: "and up to 10 s filled with silence"."""

_JITTER: Final = 8 * SAMPLES_PER_MS
"""Timestamps wobble by a couple of milliseconds; a hole that small is none."""

_FILLED_FROM: Final = 20 * SAMPLES_PER_MS
"""Less than a frame is the carrier's rounding; it is made good when it has added up."""

_ANEW: Final = -1000 * SAMPLES_PER_MS
_ABSURD_SECONDS: Final = 600.0
_MOST_HELD: Final = 64


class Audio(NamedTuple):
    """G.711 bytes at a position. `arrived` is when their frame was read (None for silence put in)."""

    at: int
    payload: bytes
    arrived: float | None


class Gap(NamedTuple):
    """Audio that will never come, from position `start` to `end`."""

    start: int
    end: int


class StreamClock:
    """
    Where a stream's timestamps lie on the call's clock; shared by its tracks.

    The first timestamp read is placed at `base`. Frames may overtake each other, so that an earlier timestamp can
    follow: until `settles_at` it lowers the origin, and `shift` (samples) is what published times move by.
    """

    def __init__(self, base: int = 0) -> None:
        self.base = base
        self.shift = 0
        self._origin_ms: int | None = None
        self._settles_at = 0.0

    def place(self, timestamp_ms: int, now: float) -> int:
        """The position of a carrier's timestamp."""
        if self._origin_ms is None:
            self._origin_ms = timestamp_ms
            self._settles_at = now + PATIENCE_SECONDS
        offset = (timestamp_ms - self._origin_ms) * SAMPLES_PER_MS
        if -PATIENCE_SECONDS * 1000 * SAMPLES_PER_MS <= offset + self.shift < 0 and now <= self._settles_at:
            self.shift = -offset
        return self.base + offset


class _Held(NamedTuple):
    timestamp_ms: int
    payload: bytes
    arrived: float


class Timeline:
    """Frames of one track in, audio and gaps out, in order of position."""

    def __init__(self, clock: StreamClock, silence: bytes) -> None:
        self.end: int | None = None
        """Position behind the last audio let out."""
        self.due: float | None = None
        """When `expire` must be called at the latest, while something is held."""
        self.lost = self.late = self.repeated = 0
        """Frames, since the beginning."""
        self._clock = clock
        self._silence = silence
        self._next: int | None = None
        self._held: dict[int, _Held] = {}
        self._skew = 0
        self._given_up_below = 0
        self._last_arrival = 0.0

    def push(self, chunk: int, timestamp_ms: int, payload: bytes, now: float) -> list[Audio | Gap]:
        """Take one frame: the `chunk`-th of its track, `timestamp_ms` by the carrier, read at `now` (seconds)."""
        at = self._clock.place(timestamp_ms, now) + self._skew
        if chunk == self._next and not self._held:
            out: list[Audio | Gap] = []
            self._let_out(chunk, at, payload, now, out)
            return out
        return list(self._push_out_of_order(chunk, at, _Held(timestamp_ms, payload, now)))

    def expire(self, now: float) -> list[Audio | Gap]:
        """Give up what has been waited for long enough at `now`."""
        out: list[Audio | Gap] = []
        while self._held and self.due is not None and now >= self.due:
            self._give_up(out)
        return out

    def finish(self) -> list[Audio | Gap]:
        """The stream is over: what is held comes out, and its holes are losses."""
        out: list[Audio | Gap] = []
        while self._held:
            self._give_up(out)
        return out

    def _push_out_of_order(self, chunk: int, at: int, frame: _Held) -> Iterator[Audio | Gap]:
        out: list[Audio | Gap] = []
        if self._next is None or self.end is None:
            # "Do not assume the first media frame has chunk 1": what came before it may still come.
            self._hold(chunk, frame)
            if chunk <= 1:
                self._give_up(out)
        elif chunk < self._next:
            if at >= self.end - _JITTER:
                self._let_out(chunk, at, frame.payload, frame.arrived, out)  # numbering began anew, time did not
            elif at - self.end <= _ANEW * 2 and not self._held:
                self._let_out(chunk, at, frame.payload, frame.arrived, out)  # both began anew
            elif chunk >= self._given_up_below:
                self.repeated += 1
            else:
                self.late += 1
        elif chunk in self._held:
            self.repeated += 1
        elif chunk == self._next or at <= self.end + _JITTER:
            self._let_out(chunk, at, frame.payload, frame.arrived, out)
            self._drain(out)
        else:
            self._hold(chunk, frame)
        yield from self.expire(frame.arrived)
        yield from out

    def _hold(self, chunk: int, frame: _Held) -> None:
        self._held[chunk] = frame
        self._set_due()

    def _set_due(self) -> None:
        self.due = min(f.arrived for f in self._held.values()) + PATIENCE_SECONDS if self._held else None
        if len(self._held) > _MOST_HELD:
            self.due = 0.0

    def _give_up(self, out: list[Audio | Gap]) -> None:
        """Stop waiting for whatever is missing before the first frame held."""
        chunk = min(self._held)
        frame = self._held.pop(chunk)
        self._given_up_below = chunk
        self._let_out(
            chunk, self._clock.place(frame.timestamp_ms, frame.arrived) + self._skew, frame.payload, frame.arrived, out
        )
        self._drain(out)

    def _drain(self, out: list[Audio | Gap]) -> None:
        while self._held:
            chunk = min(self._held)
            frame = self._held[chunk]
            at = self._clock.place(frame.timestamp_ms, frame.arrived) + self._skew
            if self.end is not None and chunk != self._next and at > self.end + _JITTER:
                break
            del self._held[chunk]
            self._let_out(chunk, at, frame.payload, frame.arrived, out)
        self._set_due()

    def _let_out(self, chunk: int, at: int, payload: bytes, arrived: float, out: list[Audio | Gap]) -> None:
        missing = 0 if self._next is None else max(0, chunk - self._next)
        self._next = chunk + 1
        if self.end is None:
            self.end = at
        hole = at - self.end
        if hole <= _ANEW or hole > (arrived - self._last_arrival + _ABSURD_SECONDS) * 1000 * SAMPLES_PER_MS:
            self._skew -= hole
        elif hole >= _FILLED_FROM or (missing and hole > _JITTER):
            self.lost += min(missing or hole, max(1, round(hole / max(1, len(payload)))))
            if hole >= SAID_FROM:
                out.append(Gap(self.end, at))
            out.append(Audio(self.end, self._silence * min(hole, FILLED_UP_TO), None))
            self.end = at
        self._last_arrival = arrived
        out.append(Audio(self.end, payload, arrived))
        self.end += len(payload)
