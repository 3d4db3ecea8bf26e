"""Frames as a carrier sends them: what is in them, when they leave, and what goes wrong on the way."""

import itertools
from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.call import TRACKS, Track
from gateway.simulator.audio import Sound
from gateway.simulator.frames import CarrierFaults, Frame, frames

SOUND = Sound({track: bytes(range(256)) * 63 for track in TRACKS})
SIZES = st.lists(st.integers(1, 800), min_size=1, max_size=5).map(tuple)


def by_track(made: list[Frame]) -> dict[Track, list[Frame]]:
    """Each track's frames, in order of their leaving."""
    found: dict[Track, list[Frame]] = defaultdict(list)
    for frame in made:
        found[frame.span.track].append(frame)
    return found


@settings(deadline=None, max_examples=30)
@given(SIZES, st.integers(0, 200))
def test_all_audio_is_sent_once_in_order(sizes: tuple[int, ...], first_ms: int) -> None:
    """Frames of any sizes cover each track without a hole, numbered from 1, and none leaves before it was spoken."""
    made = list(frames(SOUND, sizes, CarrierFaults(), first_timestamp_ms=first_ms))
    for one in by_track(made).values():
        assert [frame.chunk for frame in one] == list(range(1, len(one) + 1))
        assert [one[0].span.start, *(frame.span.end for frame in one)] == [
            *(frame.span.start for frame in one),
            SOUND.samples,
        ]
        assert all(frame.timestamp_ms == first_ms + frame.span.start // 8 for frame in one)
        assert all(frame.due == frame.span.end / 8000 for frame in one)
    assert [frame.due for frame in made] == sorted(frame.due for frame in made)


@settings(deadline=None, max_examples=30)
@given(SIZES, st.floats(0.05, 0.9), st.integers())
def test_what_is_lost_takes_its_number_along(sizes: tuple[int, ...], share: float, seed: int) -> None:
    """What is left has the numbers, audio and timestamps that it has without loss."""
    whole = set(frames(SOUND, sizes, CarrierFaults()))
    left = list(frames(SOUND, sizes, CarrierFaults(lose=share), seed=seed))
    assert set(left) <= whole
    assert len(left) == len(set(left))


def test_what_is_skipped_has_no_number() -> None:
    """Numbers run on over the hole, timestamps jump."""
    one = by_track(list(frames(SOUND, (160,), CarrierFaults(skip=(0.5, 1.0)))))["inbound"]
    assert [frame.chunk for frame in one] == list(range(1, len(one) + 1))
    steps = [later.timestamp_ms - frame.timestamp_ms for frame, later in itertools.pairwise(one)]
    assert sorted(set(steps)) == [20, 520]


def test_repeated_frames_are_the_same() -> None:
    """They come twice, number and all."""
    made = list(frames(SOUND, (160,), CarrierFaults(repeat=1.0)))
    assert sorted(made) == sorted(list(frames(SOUND, (160,), CarrierFaults())) * 2)


def test_bursts_deliver_what_has_gathered() -> None:
    """Every frame leaves at a multiple of the burst, the next after it was spoken."""
    for frame in frames(SOUND, (160,), CarrierFaults(burst_ms=233)):
        assert abs(frame.due / 0.233 - round(frame.due / 0.233)) < 1e-9
        assert 0 <= frame.due - frame.span.end / 8000 < 0.233 + 1e-9


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers())
def test_a_shuffled_frame_overtakes_no_more_than_it_may(window: int, seed: int) -> None:
    """The same frames, none more than the window from its place, and time does not run backwards."""
    plain = list(frames(SOUND, (160,), CarrierFaults()))
    shuffled = list(frames(SOUND, (160,), CarrierFaults(shuffle=window), seed=seed))
    place = {frame.span: number for number, frame in enumerate(plain)}
    assert {frame.span for frame in shuffled} == set(place)
    assert all(abs(place[frame.span] - number) <= window for number, frame in enumerate(shuffled))
    assert [frame.due for frame in shuffled] == sorted(frame.due for frame in shuffled)
    assert all(frame.due >= frame.span.end / 8000 for frame in shuffled)


def test_timestamps_wobble_within_bounds() -> None:
    """By a couple of milliseconds, and not all alike."""
    off = {
        frame.timestamp_ms - 99 - frame.span.start // 8
        for frame in frames(SOUND, (160,), CarrierFaults(wobble_ms=2), first_timestamp_ms=99)
    }
    assert off == {-2, -1, 0, 1, 2}


def test_a_part_of_a_call_begins_anew() -> None:
    """Numbers, timestamps and time count from its beginning; its audio does not."""
    one = by_track(list(frames(SOUND, (160,), CarrierFaults(), begin=1000, until=2000)))["outbound"]
    assert (one[0].chunk, one[0].timestamp_ms, one[0].due) == (1, 0, 0.02)
    assert (one[0].span.start, one[-1].span.end) == (1000, 2000)


def test_a_mute_stream_has_no_frames() -> None:
    """None at all."""
    assert list(frames(SOUND, (160,), CarrierFaults(mute=True))) == []
