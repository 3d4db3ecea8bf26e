"""
A call's audio as a carrier sends it: numbered frames with the moment at which each leaves, and what goes wrong on the way.

Pure. A frame leaves when its last sample has been spoken; with `burst_ms` it waits for the next delivery of all that has
gathered. What is *lost* takes its number with it, as a packet does. What is *skipped* never had one: the carrier threw
audio away, its timestamps jump and its numbers run on.
"""

import math
import random
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import msgspec

from gateway.audio import g711
from gateway.call import Track
from gateway.simulator.audio import SAMPLES_PER_MS, Sound, Span, pieces

How = Literal["stop", "abort", "silence"]
"""A hang-up: with the carrier's last word, by a TCP reset, or by nothing at all: the socket stays and says no more."""

HOWS: Final[tuple[How, ...]] = ("stop", "abort", "silence")


class HangUp(msgspec.Struct, frozen=True):
    """The stream ends at so many seconds of audio, in the middle of whatever is being said."""

    second: float
    how: How = "stop"


class CarrierFaults(msgspec.Struct, frozen=True, kw_only=True):
    """What a carrier does to a stream. Out of the box nothing."""

    lose: float = 0.0
    """Share of the frames that never come, 0..1."""
    skip: tuple[float, float] | None = None
    """From and to, in seconds: audio thrown away before it was numbered."""
    repeat: float = 0.0
    """Share of the frames that come twice."""
    burst_ms: int = 0
    """Frames are delivered together each so often; 233 ms is seen with nothing lost."""
    shuffle: int = 0
    """How many frames a frame may overtake."""
    wobble_ms: int = 0
    """Timestamps are off by up to so much."""
    hang_up: HangUp | None = None
    mute: bool = False
    """The stream starts and ends, and never carries audio."""
    reconnect: tuple[float, float] | None = None
    """At this second of audio the socket is lost; after so many seconds the carrier comes back with a new stream."""


class Frame(NamedTuple):
    """One frame, ready to leave."""

    due: float
    """Seconds from the beginning of its stream."""
    span: Span
    chunk: int
    """Counts 1, 2, 3, … within track and stream."""
    timestamp_ms: int


def frames(
    sound: Sound,
    sizes: tuple[int, ...],
    faults: CarrierFaults,
    *,
    first_timestamp_ms: int = 0,
    begin: int = 0,
    until: int | None = None,
    seed: int = 0,
) -> Iterator[Frame]:
    """Frames of *sizes* samples of all tracks from sample *begin* to *until*, in the order of their leaving."""
    if faults.mute:
        return iter(())
    chance = random.Random(seed)
    end = sound.samples if until is None else min(until, sound.samples)
    made = sorted(
        (
            frame
            for track in sound.tracks
            for frame in _numbered(track, pieces(end, sizes, begin), faults, chance, begin, first_timestamp_ms)
        ),
        key=lambda frame: frame.due,
    )
    if faults.shuffle:
        keys = [place + chance.uniform(0, faults.shuffle) for place in range(len(made))]
        made = [made[place] for place in sorted(range(len(made)), key=keys.__getitem__)]
    return _leaving(made, faults.burst_ms / 1000)


def _numbered(
    track: Track,
    cuts: Iterator[tuple[int, int]],
    faults: CarrierFaults,
    chance: random.Random,
    begin: int,
    first_timestamp_ms: int,
) -> Iterator[Frame]:
    chunk = 0
    low, high = (math.inf, math.inf) if faults.skip is None else faults.skip
    for start, end in cuts:
        if low <= start / g711.RATE_HZ < high:
            continue
        chunk += 1
        if faults.lose and chance.random() < faults.lose:
            continue
        timestamp_ms = first_timestamp_ms + (start - begin) // SAMPLES_PER_MS
        if faults.wobble_ms:
            timestamp_ms = max(0, timestamp_ms + chance.randint(-faults.wobble_ms, faults.wobble_ms))
        frame = Frame((end - begin) / g711.RATE_HZ, Span(track, start, end), chunk, timestamp_ms)
        yield frame
        if faults.repeat and chance.random() < faults.repeat:
            yield frame


def _leaving(made: list[Frame], burst: float) -> Iterator[Frame]:
    latest = 0.0
    for frame in made:
        due = math.ceil(frame.due / burst) * burst if burst else frame.due
        latest = max(latest, due)  # what was overtaken leaves behind what overtook it
        yield frame._replace(due=latest)
