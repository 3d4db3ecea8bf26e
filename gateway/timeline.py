"""
One track of one stream, put back in order on the call's clock. Pure: no clock of its own, no log, no metric.

Positions are **samples at 8 kHz on the call's clock**: eight to a millisecond, one byte of G.711 each.

    next number                → its audio, at once
    number missing             → held until it comes, at most 400 ms, then its hole is a loss
    number missing, no hole    → the same, with no loss at the end; after two such waits in a row the stream's tracks are
                                 taken to share their numbers, and holes in time alone are waited for
    timestamps jump, chunk
      numbers run on           → a loss, not waited for (the carrier threw audio away)
    repeated, or later still   → dropped
    number strange, time runs  → the carrier numbers anew: let out at once
    time strange (back by a second, ahead by ten minutes), numbers run
                               → let out at once; when the next frame agrees, time goes on from where it was
    both from the past         → late, unless they alone keep coming for 400 ms: then the carrier began anew

A stream whose first frame is not numbered 0 or 1 may have been overtaken by itself: that frame is held, too.

A loss becomes silence, so that the clock downstream stays true; past 10 s of it the position jumps instead. The wall
clock never makes silence: carriers deliver in bursts with nothing lost (233 ms measured). Frames follow each other
without a seam as long as their timestamps stay within 20 ms: those are rounded, and wobble.
"""

from collections import deque
from heapq import heappop, heappush
from math import inf
from typing import Final, NamedTuple

import msgspec

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

_FURTHEST_BEFORE: Final = 10_000 * SAMPLES_PER_MS
"""A frame of seconds, or a burst after a stall, may begin so long before the one that was read first."""

_BACK: Final = 1000 * SAMPLES_PER_MS
"""No wobble sets time back so far."""

_ABSURD: Final = 600_000 * SAMPLES_PER_MS
"""No carrier runs so far ahead of the wall clock."""

_REPEATS: Final = 2 * _JITTER
"""Numbers; within the wobble no more frames fit, of a byte each, that could be taken for new ones."""

_MOST_HELD: Final = 4096
_MOST_BYTES_HELD: Final = 1 << 18
_MOST_ASIDE: Final = 256
_WAITS_IN_VAIN: Final = 2


class Audio(msgspec.Struct, frozen=True, gc=False):
    """G.711 bytes at a position. `arrived` is when their frame was read (None for silence put in)."""

    at: int
    payload: bytes
    arrived: float | None


class Gap(msgspec.Struct, frozen=True, gc=False):
    """Audio that will never come, from position `start` to `end`."""

    start: int
    end: int


class StreamClock:
    """
    Where a stream's timestamps lie on the call's clock; shared by its tracks.

    The first timestamp read is placed at `base`. Frames may overtake each other, so that an earlier timestamp can
    follow: for 400 ms it lowers the clock's zero, and `shift` (samples) is what published times move by.
    """

    __slots__ = ("_began", "_first_ms", "_settled_at", "base", "shift")

    def __init__(self, base: int = 0) -> None:
        self.base = base
        self.shift = 0
        self._first_ms: int | None = None
        self._began = 0.0
        self._settled_at = 0.0

    def place(self, timestamp_ms: int, now: float) -> int:
        """The position of a carrier's timestamp."""
        if self._first_ms is None:
            self._first_ms = timestamp_ms
            self._began = now
            self._settled_at = now + PATIENCE_SECONDS
        offset = (timestamp_ms - self._first_ms) * SAMPLES_PER_MS
        if now <= self._settled_at and -_FURTHEST_BEFORE <= offset + self.shift < 0:
            self.shift = -offset
        return self.base + offset

    def expected(self, now: float) -> int:
        """Where a frame read at `now` lies if nothing was delayed on its way: the measure of absurd timestamps, no other."""
        return self.base + round((now - self._began) * 1000 * SAMPLES_PER_MS)


class _Frame(NamedTuple):
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
        self._skew = 0
        """Between this track's timestamps and the clock's, once they were strange."""
        self._next: int | None = None
        self._calm = False
        """Nothing held, nothing set aside: the next number goes straight through."""
        self._held: dict[int, _Frame] = {}
        """By number, in order of arrival."""
        self._numbers: list[int] = []
        """A heap of the numbers held."""
        self._bytes_held = 0
        self._waits_in_vain = 0
        self._aside: dict[int, _Frame] = {}
        """Frames from the past, in order of arrival: dropped as soon as the stream goes on without them."""
        self._astray: int | None = None
        """Where the next frame lies if the last one's strange timestamp was right."""
        self._first = 0
        self._passed_over: deque[tuple[int, int]] = deque(maxlen=64)
        """Ranges of numbers no longer waited for: what comes of them is late; any other number let out is repeated."""

    def push(self, chunk: int, timestamp_ms: int, payload: bytes, now: float) -> list[Audio | Gap]:
        """Take one frame: the `chunk`-th of its track, `timestamp_ms` by the carrier, read at `now` (seconds)."""
        end = self.end
        if self._calm and chunk == self._next and end is not None:
            # Nearly every frame. This is `_let_out` without its cases, for the sake of speed.
            hole = self._clock.place(timestamp_ms, now) + self._skew - end
            if -_BACK < hole < _FILLED_FROM and payload:
                self._next = chunk + 1
                self._astray = None
                self.end = end + len(payload)
                return [Audio(end, payload, now)]
        out: list[Audio | Gap] = []
        # First the frame, then the patience: one that comes at the very last moment, or to a loop that was late itself, is in time.
        self._take(chunk, _Frame(timestamp_ms, payload, now), out)
        self._give_up_overdue(now, out)
        return out

    def expire(self, now: float) -> list[Audio | Gap]:
        """Give up what has been waited for long enough at `now`."""
        out: list[Audio | Gap] = []
        self._give_up_overdue(now, out)
        return out

    def finish(self) -> list[Audio | Gap]:
        """The stream is over: what is held comes out, and its holes are losses."""
        out: list[Audio | Gap] = []
        self._give_up_all(out)
        self._drop_aside()
        self._set_due()
        return out

    def _take(self, chunk: int, frame: _Frame, out: list[Audio | Gap]) -> None:
        if chunk in self._held:
            self.repeated += 1
            return
        if self._next is None or self.end is None:
            # "Do not assume the first media frame has chunk 1": what came before it may still come.
            self._clock.place(frame.timestamp_ms, frame.arrived)
            self._hold(chunk, frame)
            if chunk <= 1:
                self._give_up(out)
            return
        hole = self._place(frame) - self.end
        missing = chunk - self._next
        if missing < 0:
            if hole < _JITTER and (hole < -_JITTER or missing >= -_REPEATS):
                if hole <= -_BACK and not self._was_passed_over(chunk):
                    self._set_aside(chunk, frame, out)
                else:
                    self._drop(chunk)
                return
            self._give_up_all(out)
            self._begin_numbers(chunk)
        elif missing == 0 and self._held:
            self._waits_in_vain = 0
        elif hole < -_JITTER and _too_many(missing, hole):
            self._set_aside(chunk, frame, out)
            return
        self._drop_aside()
        self._hold(chunk, frame)
        self._drain(out)

    def _place(self, frame: _Frame) -> int:
        return self._clock.place(frame.timestamp_ms, frame.arrived) + self._skew

    def _hold(self, chunk: int, frame: _Frame) -> None:
        self._held[chunk] = frame
        self._bytes_held += len(frame.payload)
        heappush(self._numbers, chunk)

    def _set_aside(self, chunk: int, frame: _Frame, out: list[Audio | Gap]) -> None:
        if chunk in self._aside or len(self._aside) >= _MOST_ASIDE:
            self._drop(chunk)
        else:
            self._aside[chunk] = frame
        if frame.arrived >= next(iter(self._aside.values())).arrived + PATIENCE_SECONDS:
            self._begin_anew(out)

    def _drop_aside(self) -> None:
        for chunk in self._aside:
            self._drop(chunk)
        self._aside.clear()

    def _drop(self, chunk: int) -> None:
        assert self._next is not None
        if self._was_passed_over(chunk):
            self._waits_in_vain = 0  # so it was worth waiting for
            self.late += 1
        elif self._first <= chunk < self._next:
            self.repeated += 1
        else:
            self.late += 1

    def _was_passed_over(self, chunk: int) -> bool:
        return any(low <= chunk < high for low, high in self._passed_over)

    def _drain(self, out: list[Audio | Gap]) -> None:
        """Let out what is held as far as nothing need be waited for."""
        while self._held:
            assert self._next is not None
            assert self.end is not None
            chunk = self._numbers[0]
            hole = self._place(self._held[chunk]) - self.end
            missing = chunk - self._next
            if missing and not _too_many(missing, hole) and not (self._numbers_are_shared and hole <= _JITTER):
                break
            self._let_out_first_held(out)

    @property
    def _numbers_are_shared(self) -> bool:
        return self._waits_in_vain >= _WAITS_IN_VAIN

    def _give_up_overdue(self, now: float, out: list[Audio | Gap]) -> None:
        while (until := self._held_until()) is not None and now >= until:
            self._give_up(out)
        self._set_due()

    def _held_until(self) -> float | None:
        if not self._held:
            return None
        if len(self._held) > _MOST_HELD or self._bytes_held > _MOST_BYTES_HELD:
            return -inf
        return next(iter(self._held.values())).arrived + PATIENCE_SECONDS

    def _set_due(self) -> None:
        self.due = self._held_until()
        self._calm = not self._held and not self._aside

    def _give_up(self, out: list[Audio | Gap]) -> None:
        """Stop waiting for whatever is missing before the first frame held."""
        if self._next is None:
            self._begin_numbers(self._numbers[0])
            self._let_out_first_held(out)
        else:
            lost = self.lost
            self._let_out_first_held(out)
            self._waits_in_vain += self.lost == lost
        self._drain(out)

    def _give_up_all(self, out: list[Audio | Gap]) -> None:
        while self._held:
            self._give_up(out)

    def _begin_anew(self, out: list[Audio | Gap]) -> None:
        """What was set aside is the stream now."""
        self._give_up_all(out)
        assert self.end is not None
        frames, self._aside = self._aside, {}
        first = min(frames)
        self._begin_numbers(first)
        self._skew += self.end - self._place(frames[first])
        for chunk, frame in frames.items():
            self._take(chunk, frame, out)

    def _begin_numbers(self, chunk: int) -> None:
        self._first = self._next = chunk
        self._passed_over.clear()

    def _let_out_first_held(self, out: list[Audio | Gap]) -> None:
        chunk = heappop(self._numbers)
        frame = self._held.pop(chunk)
        self._bytes_held -= len(frame.payload)
        self._let_out(chunk, frame, out)

    def _let_out(self, chunk: int, frame: _Frame, out: list[Audio | Gap]) -> None:
        assert self._next is not None
        at = self._place(frame)
        expected = self._clock.expected(frame.arrived)
        if self.end is None:
            if abs(at - expected) > _ABSURD:
                self._skew += expected - at
                at = expected
            self.end = at
        hole = at - self.end
        if hole <= -_BACK or hole > max(expected - self.end, 0) + _ABSURD:
            if self._astray is not None and abs(at - self._astray) < _BACK:
                self._skew -= hole
                self._astray = None
            else:
                self._astray = at + len(frame.payload)
            hole = 0
        else:
            self._astray = None
        missing = chunk - self._next
        if missing:
            self._passed_over.append((self._next, chunk))
        if hole >= _FILLED_FROM or (missing and hole > _JITTER):
            by_size = max(1, round(hole / (len(frame.payload) or _FILLED_FROM)))
            self.lost += missing if 0 < missing <= hole and not self._numbers_are_shared else by_size
            if hole >= SAID_FROM:
                out.append(Gap(self.end, at))
            out.append(Audio(self.end, self._silence * min(hole, FILLED_UP_TO), None))
            self.end = at
        self._next = chunk + 1
        if frame.payload:
            out.append(Audio(self.end, frame.payload, frame.arrived))
            self.end += len(frame.payload)


def _too_many(missing: int, hole: int) -> bool:
    """Whether so many frames cannot have filled a hole, with a byte each: the carrier's numbers begin anew."""
    return missing > max(hole, 0) + _JITTER
