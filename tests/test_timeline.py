"""Frames put back in order on the call's clock."""

import random
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.timeline import FILLED_UP_TO, Audio, Gap, StreamClock, Timeline

SILENCE: Final = b"\xff"
SPEECH: Final = random.Random(1).randbytes(1 << 18).replace(SILENCE, b"\0")
JITTER: Final = 64

sizes_of_any_kind = st.lists(
    st.one_of(st.just(160), st.integers(1, 200), st.integers(1, 8000)), min_size=1, max_size=30
)
sizes_of_whole_ms = st.lists(st.integers(9, 300).map(lambda ms: 8 * ms), min_size=3, max_size=30)


class Frame(NamedTuple):
    chunk: int
    timestamp_ms: int
    payload: bytes
    at: int
    """Samples from the first frame's beginning."""

    @property
    def spoken(self) -> float:
        """When its last sample was."""
        return 1000 + (self.at + len(self.payload)) / 8000


def frames(sizes: Iterable[int], first_chunk: int = 1, first_ms: int = 0) -> list[Frame]:
    """Frames without a hole; timestamps are whole milliseconds, rounded down."""
    at, made = 0, []
    for n, size in enumerate(sizes):
        made.append(Frame(first_chunk + n, first_ms + at // 8, SPEECH[at : at + size], at))
        at += size
    return made


class Played:
    """A timeline with what came out of it. Its `expire` is called when due, as the shell does."""

    def __init__(self, clock: StreamClock | None = None) -> None:
        self.clock = clock or StreamClock()
        self.timeline = Timeline(self.clock, SILENCE)
        self.out: list[Audio | Gap] = []

    def push(self, frame: Frame, now: float | None = None) -> list[Audio | Gap]:
        now = frame.spoken if now is None else now
        self.expire_before(now)
        out = self.timeline.push(frame.chunk, frame.timestamp_ms, frame.payload, now)
        self.out += out
        return out

    def expire_before(self, now: float) -> None:
        while self.timeline.due is not None and self.timeline.due < now:
            self.out += self.timeline.expire(self.timeline.due)

    def play(self, arrivals: Iterable[tuple[float, Frame]]) -> "Played":
        for now, frame in arrivals:
            self.push(frame, now)
        return self.finish()

    def finish(self) -> "Played":
        self.out += self.timeline.finish()
        assert self.timeline.due is None
        return self

    @property
    def gaps(self) -> list[Gap]:
        return [item for item in self.out if isinstance(item, Gap)]

    @property
    def audio(self) -> list[Audio]:
        return [item for item in self.out if isinstance(item, Audio)]

    @property
    def spoken(self) -> bytes:
        return b"".join(item.payload for item in self.audio if item.arrived is not None)

    @property
    def whole(self) -> bytes:
        """Everything from the first position on, silence included; no hole, nothing twice."""
        for before, after in pairwise(self.audio):
            assert before.at + len(before.payload) == after.at
        assert self.audio[-1].at + len(self.audio[-1].payload) == self.timeline.end
        return b"".join(item.payload for item in self.audio)

    @property
    def counted(self) -> tuple[int, int, int]:
        return self.timeline.lost, self.timeline.late, self.timeline.repeated


def speech(stream: Sequence[Frame]) -> bytes:
    return b"".join(frame.payload for frame in stream)


def wobbled(stream: Sequence[Frame], wobbles: Sequence[int]) -> list[Frame]:
    return [f._replace(timestamp_ms=f.timestamp_ms + wobbles[n % len(wobbles)]) for n, f in enumerate(stream)]


class TestInOrder:
    """Nothing out of order: nothing is held, moved or made up."""

    @given(
        sizes=sizes_of_any_kind,
        pauses=st.lists(st.sampled_from([0.0, 0.0, 0.02, 0.233, 5.0]), min_size=1),
        first=st.sampled_from([0, 1]),
        wobbles=st.lists(st.integers(-2, 2), min_size=1),
    )
    def test_each_push_lets_its_frame_out(
        self, sizes: list[int], pauses: list[float], first: int, wobbles: list[int]
    ) -> None:
        """However they are cut and in whatever bursts they are delivered, frames in order come out one by one, at once."""
        stream = wobbled(frames(sizes, first, first_ms=99), wobbles)
        played = Played()
        now = 50.0
        for n, frame in enumerate(stream):
            now += pauses[n % len(pauses)]
            assert played.push(frame, now) == [Audio(frame.at, frame.payload, now)]
            assert played.timeline.due is None
        assert played.finish().counted == (0, 0, 0)

    def test_a_burst_is_no_silence(self) -> None:
        """Delivery stands still for 233 ms and then catches up: no sample is added, and no gap said."""
        stream = frames([160] * 100)
        played = Played().play((max(f.spoken, 1000.733) if f.spoken > 1000.5 else f.spoken, f) for f in stream)
        assert (played.whole, played.gaps) == (speech(stream), [])

    @pytest.mark.parametrize("size", [160, 264, 245, 81, 792])
    def test_an_hour_does_not_drift(self, size: int) -> None:
        """Over an hour of timestamps that wobble by 2 ms and are rounded, no silence gets in and nothing moves by 8 ms."""
        rng = random.Random(size)
        timeline = Timeline(StreamClock(), SILENCE)
        payload = bytes(size)
        first_wobble = rng.randint(-2, 2)
        for n in range(3600 * 8000 // size):
            wobble = rng.randint(-2, 2) if n else first_wobble
            true = n * size
            out = timeline.push(n + 1, true // 8 + wobble, payload, true / 8000)
            [audio] = out
            assert isinstance(audio, Audio)
            assert abs(audio.at - (true - 8 * first_wobble)) <= JITTER
        assert timeline.lost == 0

    def test_empty_frames_are_frames(self) -> None:
        """A frame without audio lets nothing out, keeps the numbering, and delays nobody."""
        played = Played()
        for n, frame in enumerate(frames([160, 0, 0, 160, 0, 160])):
            assert len(played.push(frame)) == (n in {0, 3, 5})
        assert played.finish().counted == (0, 0, 0)
        assert played.whole == SPEECH[:480]

    def test_an_empty_frame_first(self) -> None:
        """The first frame sets the clock even if it carries nothing."""
        played = Played()
        played.push(Frame(1, 40, b"", 0))
        played.push(Frame(2, 240, b"x" * 160, 1600))
        assert played.out == [Gap(0, 1600), Audio(0, SILENCE * 1600, None), Audio(1600, b"x" * 160, 1000.22)]
        assert played.timeline.lost == 10


class TestOrder:
    """Frames that overtake each other."""

    @given(
        sizes=sizes_of_any_kind,
        delays=st.lists(st.floats(0, 0.4), min_size=1, max_size=30),
        first=st.integers(1, 1 << 53),
        wobbles=st.lists(st.integers(-2, 2), min_size=1),
    )
    def test_any_shuffle_within_the_window_comes_out_sorted(
        self, sizes: list[int], delays: list[float], first: int, wobbles: list[int]
    ) -> None:
        """Each frame late by 400 ms at most, whatever its size and whatever number came first: nothing is lost or said lost."""
        stream = wobbled(frames(sizes, first, first_ms=500), wobbles)
        arrivals = sorted((f.spoken + delays[n % len(delays)], f) for n, f in enumerate(stream))
        played = Played().play(arrivals)
        assert played.whole == speech(stream)
        assert (played.gaps, played.counted) == ([], (0, 0, 0))

    @given(
        sizes=sizes_of_any_kind,
        delays=st.lists(st.floats(0, 0.4), min_size=1, max_size=30),
        first=st.integers(1, 5),
    )
    def test_zero_is_the_first_timestamp(self, sizes: list[int], delays: list[float], first: int) -> None:
        """Whichever frame was read first, the earliest lies at 0 once the clock's shift is added."""
        stream = frames(sizes, first, first_ms=500)
        played = Played().play(sorted((f.spoken + delays[n % len(delays)], f) for n, f in enumerate(stream)))
        assert played.audio[0].at + played.clock.shift == 0

    @given(sizes=sizes_of_whole_ms, delays=st.lists(st.floats(0, 0.4), min_size=1, max_size=30))
    def test_nobody_waits_longer_than_for_the_missing_frame(self, sizes: list[int], delays: list[float]) -> None:
        """A frame is let out as soon as all before it are there."""
        stream = frames(sizes)
        played = Played()
        there: set[int] = set()
        for now, frame in sorted((f.spoken + delays[n % len(delays)], f) for n, f in enumerate(stream)):
            played.push(frame, now)
            there.add(frame.chunk)
            in_order = next(n for n in range(1, len(stream) + 2) if n not in there) - 1
            assert played.spoken == speech(stream[:in_order])

    @given(
        sizes=st.lists(st.integers(1, 1600), min_size=2, max_size=30),
        copies=st.lists(st.tuples(st.integers(0, 28), st.integers(0, 28)), min_size=1, max_size=30),
    )
    def test_repeated_frames_are_dropped(self, sizes: list[int], copies: list[tuple[int, int]]) -> None:
        """A frame that comes again, however soon or late and however small it is, is counted and changes nothing."""
        stream = frames(sizes)
        played = Played()
        repeated = 0
        for n, frame in enumerate(stream):
            played.push(frame)
            for after, which in copies:
                if after == n and which <= n < len(stream) - 1:
                    assert played.push(stream[which], frame.spoken) == []
                    repeated += 1
        assert played.finish().whole == speech(stream)
        assert played.counted == (0, 0, repeated)

    def test_what_is_held_can_be_repeated_too(self) -> None:
        """The copy of a frame that still waits for an earlier one is dropped, before and after the first frame was let out."""
        one, two, three, four = frames([160] * 4)
        played = Played()
        for frame in (three, three, four, four, one, four, two):
            played.push(frame, 1000.1)
        assert played.whole == speech([one, two, three, four])
        assert played.counted == (0, 0, 3)

    @pytest.mark.parametrize("first", [1, 7])
    def test_at_the_very_last_moment(self, first: int) -> None:
        """A frame read exactly 400 ms after one that overtook it is in time."""
        stream = frames([160] * 5, first)
        played = Played().play([(1000.0, stream[1]), (1000.4, stream[0]), *((1000.5, f) for f in stream[2:])])
        assert (played.whole, played.counted) == (speech(stream), (0, 0, 0))

    def test_a_shell_that_was_late_itself(self) -> None:
        """Where `expire` was not called in time, the missing frame is still put in its place: it is there, and nothing is lost."""
        one, two, three = frames([160] * 3)
        timeline = Timeline(StreamClock(), SILENCE)
        timeline.push(one.chunk, 0, one.payload, 1.0)
        timeline.push(three.chunk, 40, three.payload, 1.0)
        assert timeline.due == 1.4
        assert timeline.push(two.chunk, 20, two.payload, 3.0) == [
            Audio(160, two.payload, 3.0),
            Audio(320, three.payload, 1.0),
        ]

    def test_numbering_that_begins_elsewhere_costs_one_wait(self) -> None:
        """The first frame is number 7: 400 ms later it and what followed come out, and from then on each at once."""
        stream = frames([160] * 100, first_chunk=7)
        played = Played()
        for frame in stream:
            assert bool(played.push(frame)) == (frame.chunk >= 27)
        assert (played.finish().whole, played.counted) == (speech(stream), (0, 0, 0))

    def test_what_lies_before_the_first_frame_is_late(self) -> None:
        """A number below the first one let out, after the wait for it, is dropped as late."""
        stream = frames([160] * 40, first_chunk=6)
        played = Played().play([*((f.spoken, f) for f in stream[1:]), (1001.0, stream[0])])
        assert (played.whole, played.counted) == (speech(stream[1:]), (0, 1, 0))

    def test_a_flood_of_held_frames_is_bounded(self) -> None:
        """With one number missing, not more than some thousand frames and some seconds of audio wait for it."""
        for size, many in (1, 5000), (65536, 50):
            played = Played()
            played.push(Frame(1, 0, b"x", 0), 1.0)
            out = 1
            for n in range(3, many):
                out += len(played.push(Frame(n, n * size // 8, bytes(size), 0), 1.0)) > 0
                assert len(played.timeline._held) <= 4096
                assert played.timeline._bytes_held <= 1 << 18
            assert out > 1


class TestLoss:
    """What never came, and what came too late."""

    @given(
        sizes=sizes_of_whole_ms,
        gone=st.sets(st.integers(1, 28)),
        tardy=st.sets(st.integers(1, 28)),
        delay=st.floats(0.41, 5),
    )
    def test_a_missing_number_becomes_silence(
        self, sizes: list[int], gone: set[int], tardy: set[int], delay: float
    ) -> None:
        """
        Frames that never come, or come after 400 ms, leave silence of their exact length, said from 100 ms up.

        The output is as long as the time it covers, to the sample.
        """
        stream = frames(sizes + [160] * 300)
        missing = {n for n in gone | tardy if n < len(sizes)}
        late = missing & tardy
        arrivals = [(f.spoken, f) for n, f in enumerate(stream) if n not in missing]
        for n in late:
            seen_missing = next(f for f in stream[n:] if f.chunk - 1 not in missing).spoken
            arrivals.append((seen_missing + delay, stream[n]))
        played = Played().play(sorted(arrivals))

        expected = b"".join(SILENCE * len(f.payload) if n in missing else f.payload for n, f in enumerate(stream))
        assert played.whole == expected
        holes: list[Gap] = []
        for n in sorted(missing):
            start, end = stream[n].at, stream[n].at + sizes[n]
            if holes and holes[-1].end == start:
                holes[-1] = Gap(holes[-1].start, end)
            else:
                holes.append(Gap(start, end))
        assert played.gaps == [hole for hole in holes if hole.end - hole.start >= 800]
        assert played.counted == (len(missing), len(late), 0)

    @given(st.integers(1, 12), st.integers(1, 30))
    def test_the_wait_is_400_ms(self, lost: int, after: int) -> None:
        """The hole is given up 400 ms after the first frame behind it was read, by `expire` or by the next push."""
        stream = frames([160] * (1 + lost + after))
        played = Played()
        played.push(stream[0])
        for frame in stream[1 + lost :]:
            played.push(frame)
        first_behind = stream[1 + lost]
        if played.timeline.due is None:
            assert after > 20
            return
        assert played.timeline.due == pytest.approx(first_behind.spoken + 0.4)
        assert played.timeline.expire(played.timeline.due - 0.001) == []
        out = played.timeline.expire(played.timeline.due)
        assert out[-1] == Audio(stream[-1].at, stream[-1].payload, stream[-1].spoken)
        assert played.timeline.due is None

    def test_each_hole_has_its_own_wait(self) -> None:
        """Two holes are given up one after the other, each 400 ms after it was seen."""
        stream = frames([160] * 20)
        played = Played()
        for n in (0, 2, 3):
            played.push(stream[n])
        played.push(stream[5], 1000.3)
        due = stream[2].spoken + 0.4
        assert played.timeline.due == due
        assert [a.at for a in played.timeline.expire(due) if isinstance(a, Audio)] == [160, 320, 480]
        assert played.timeline.due == pytest.approx(1000.7)
        assert [a.at for a in played.timeline.expire(1000.7) if isinstance(a, Audio)] == [640, 800]
        assert played.timeline.lost == 2

    @given(
        sizes=sizes_of_whole_ms,
        jumps=st.dictionaries(st.integers(1, 28), st.integers(20, 10_000), min_size=1, max_size=5),
    )
    def test_a_jump_in_time_is_not_waited_for(self, sizes: list[int], jumps: dict[int, int]) -> None:
        """Timestamps jump with chunk numbers running on: silence and frame come out at once, said from 100 ms up."""
        stream = frames(sizes)
        skips = list(accumulate(jumps.get(n, 0) for n in range(len(stream))))
        played = Played()
        for n, frame in enumerate(stream):
            jumped = frame._replace(timestamp_ms=frame.timestamp_ms + skips[n])
            out = played.push(jumped, frame.spoken + skips[n] / 1000)
            at = frame.at + skips[n] * 8
            hole = jumps.get(n, 0) * 8
            assert out[-1] == Audio(at, frame.payload, frame.spoken + skips[n] / 1000)
            assert out[:-1] == [
                *([Gap(at - hole, at)] if hole >= 800 else []),
                *([Audio(at - hole, SILENCE * hole, None)] if hole else []),
            ]
        assert played.timeline.end == len(played.whole)

    def test_ten_seconds_are_filled_of_a_longer_gap(self) -> None:
        """Of a 15 s hole all is said and 10 s are silence; then the position jumps."""
        played = Played()
        played.push(Frame(1, 0, b"a" * 160, 0), 1.0)
        out = played.push(Frame(2, 15_020, b"b" * 160, 0), 16.0)
        assert out == [Gap(160, 120_160), Audio(160, SILENCE * FILLED_UP_TO, None), Audio(120_160, b"b" * 160, 16.0)]

    def test_less_than_a_frame_is_made_good_when_it_has_added_up(self) -> None:
        """Timestamps that run 3 ms a frame ahead of the audio: silence comes in 21 ms at a time, and nothing is said."""
        played = Played()
        for n in range(15):
            played.push(Frame(1 + n, 23 * n, b"x" * 160, 0), 0.023 * n)
        assert [(a.at, len(a.payload)) for a in played.audio if a.arrived is None] == [(1120, 168), (2408, 168)]
        assert (played.gaps, played.timeline.lost) == ([], 2)

    def test_what_is_held_at_the_end_comes_out(self) -> None:
        """The last words are not lost with the stream: what still waited is let out, with its holes."""
        stream = frames([160] * 10)
        played = Played()
        for n in (0, 2, 5, 9):
            played.push(stream[n])
        played.finish()
        assert played.whole == b"".join(f.payload if n in {0, 2, 5, 9} else SILENCE * 160 for n, f in enumerate(stream))
        assert played.timeline.lost == 6

    def test_a_stream_shorter_than_the_wait(self) -> None:
        """Frames that began with number 3 and ended within 400 ms are all heard; a stream without any ends quietly."""
        stream = frames([160] * 5, first_chunk=3)
        assert Played().play((f.spoken, f) for f in stream).whole == speech(stream)
        assert Played().finish().out == []


class TestSharedNumbers:
    """A carrier may count the frames of both tracks together: whether Telnyx does is not documented."""

    def test_one_count_for_both_tracks(self) -> None:
        """Every second number is missing and no time: no loss, no gap, and after the beginning no wait."""
        clock = StreamClock()
        inbound, outbound = Played(clock), Played(clock)
        stream = frames([160] * 100)
        for n, frame in enumerate(stream):
            for k, track in enumerate((inbound, outbound)):
                out = track.push(frame._replace(chunk=1 + 2 * n + k))
                assert bool(out) == (n == k == 0 or n > 22) or n in {20, 21, 22}
        for track in inbound, outbound:
            assert (track.finish().whole, track.counted) == (speech(stream), (0, 0, 0))

    @given(
        skips=st.lists(st.integers(1, 4), min_size=60, max_size=60).filter(lambda skips: any(n > 1 for n in skips)),
        delays=st.lists(st.floats(0, 0.4), min_size=1, max_size=10),
        lost=st.integers(45, 58),
    )
    def test_order_and_loss_are_still_seen(self, skips: list[int], delays: list[float], lost: int) -> None:
        """With shared numbers, too, frames are put in order by their holes in time, and a lost one becomes silence."""
        stream = [f._replace(chunk=number) for f, number in zip(frames([160] * 60), accumulate(skips), strict=True)]
        arrivals = sorted((f.spoken + delays[n % len(delays)], f) for n, f in enumerate(stream) if n != lost)
        played = Played().play(arrivals)
        assert played.whole == b"".join(SILENCE * 160 if n == lost else f.payload for n, f in enumerate(stream))
        assert played.gaps == []

    def test_small_losses_do_not_make_numbers_shared_for_ever(self) -> None:
        """Two lost frames of 1 ms look like shared numbers; the first late frame shows that they are not."""
        stream = frames([8] * 400)
        order = [n for n in range(400) if n not in {10, 20}]
        order.remove(300)
        order.insert(order.index(301) + 1, 300)  # let pass, dropped as late; numbers count again
        order.remove(350)
        order.insert(order.index(360) + 1, 350)  # waited for
        played = Played().play((1000 + n / 200, stream[which]) for n, which in enumerate(order))
        assert played.timeline.late == 1
        assert played.spoken == speech([f for n, f in enumerate(stream) if n not in {10, 20, 300}])


class TestStrangeNumbers:
    """Counters that cannot be."""

    @given(before=st.integers(200, 400), first=st.integers(0, 60), hole_ms=st.sampled_from([0, 60]))
    def test_numbers_that_begin_again_while_time_goes_on(self, before: int, first: int, hole_ms: int) -> None:
        """A lower number at the next place in time is the next frame, at once."""
        stream = frames([160] * (before + 50))
        played = Played()
        for n, frame in enumerate(stream):
            again = n >= before
            moved = frame._replace(
                chunk=first + n - before if again else frame.chunk, timestamp_ms=frame.timestamp_ms + hole_ms * again
            )
            assert len(played.push(moved)) == 1 + (hole_ms > 0 and n == before)
        assert played.finish().spoken == speech(stream)
        assert played.timeline.end == len(played.whole) == len(speech(stream)) + 8 * hole_ms

    def test_what_was_held_goes_first(self) -> None:
        """Numbers begin again while a missing frame is waited for: the wait ends, and order stays."""
        stream = frames([160] * 300)
        renumbered = [f._replace(chunk=f.chunk - 290) if f.chunk > 290 else f for f in stream if f.chunk != 289]
        played = Played().play((f.spoken, f) for f in renumbered)
        assert played.whole == b"".join(SILENCE * 160 if f.chunk == 289 else f.payload for f in stream)

    @given(st.integers(1000, 1 << 53), st.integers(2, 40))
    def test_one_absurd_number(self, absurd: int, where: int) -> None:
        """A number that leaves no room for the frames it skips is no loss: its frame and the next ones come out at once."""
        stream = frames([160] * 50)
        stream[where] = stream[where]._replace(chunk=absurd)
        played = Played()
        for frame in stream:
            assert len(played.push(frame)) == 1
        assert (played.whole, played.counted) == (speech(stream), (0, 0, 0))

    def test_a_frame_of_the_old_numbering(self) -> None:
        """Numbers jump by thousands in mid-stream; a frame from before, even numbered higher than now, is dropped."""
        stream = frames([160] * 400)
        played = Played()
        for frame in stream[:300]:
            played.push(frame)
        for frame in stream[300:]:
            played.push(frame._replace(chunk=frame.chunk - 300))
            if frame.chunk == 350:
                assert played.push(stream[299], frame.spoken) == []
        assert (played.finish().whole, played.counted) == (speech(stream), (0, 1, 0))


class TestStrangeTimes:
    """Timestamps that cannot be."""

    @given(st.one_of(st.integers(0, 3000), st.integers(700_000, 1 << 53)), st.integers(220, 240))
    def test_one_absurd_timestamp(self, absurd: int, where: int) -> None:
        """A single timestamp seconds back or ten minutes ahead moves nothing, neither its own frame nor the others."""
        stream = frames([160] * 250)
        stream[where] = stream[where]._replace(timestamp_ms=absurd)
        played = Played()
        for frame, true in zip(stream, frames([160] * 250), strict=True):
            assert played.push(frame, true.spoken) == [Audio(true.at, true.payload, true.spoken)]
        assert played.finish().counted == (0, 0, 0)

    @given(st.one_of(st.just(-5000), st.integers(700_000, 1 << 52)))
    def test_time_alone_begins_anew(self, leap: int) -> None:
        """Timestamps go on from elsewhere: no silence, and the next loss is measured on the new time."""
        played = Played()
        stream = frames([160] * 20, first_ms=6000)
        for n, frame in enumerate(stream):
            now = frame.spoken
            played.push(
                frame._replace(timestamp_ms=frame.timestamp_ms + (leap if n >= 10 else 0) + (200 if n >= 15 else 0)),
                now,
            )
        assert played.gaps == [Gap(2400, 4000)]
        assert played.spoken == speech(stream)

    def test_an_absurd_first_timestamp(self) -> None:
        """The first frame of a stream bears an absurd timestamp: its track goes on, and the other begins where it was read."""
        clock = StreamClock(base=8000)
        inbound, outbound = Played(clock), Played(clock)
        stream = frames([160] * 50)
        for n, frame in enumerate(stream):
            inbound.push(frame if n else frame._replace(timestamp_ms=1 << 53))
        for frame in frames([160] * 5, first_ms=1000):
            outbound.push(frame, frame.spoken + 1)
        assert inbound.finish().whole == speech(stream)
        assert inbound.audio[0].at == 8000
        assert outbound.audio[0].at == 16000
        assert outbound.finish().whole == SPEECH[:800]

    def test_a_stalled_hour_is_no_absurdity(self) -> None:
        """An hour without a frame and then a timestamp an hour later is a gap of an hour."""
        played = Played()
        played.push(Frame(1, 0, b"a" * 160, 0), 1.0)
        played.push(Frame(2, 3_600_020, b"b" * 160, 0), 3601.0)
        assert played.gaps == [Gap(160, 28_800_160)]


class TestAnew:
    """Numbers and times both from the past."""

    def test_the_carrier_begins_anew(self) -> None:
        """Both begin again: when that has gone on for 400 ms, it is the stream; nothing is lost, and time goes on."""
        before, after = frames([160] * 200), frames([160] * 100)
        played = Played()
        for frame in before:
            played.push(frame)
        for frame in after:
            out = played.push(frame, frame.spoken + 4)
            assert bool(out) == (frame.chunk > 20)
        assert (played.finish().whole, played.counted) == (speech(before) + speech(after), (0, 0, 0))

    def test_anew_with_a_frame_held_and_one_missing(self) -> None:
        """What was waited for when the carrier began anew is given up; the new stream may have its own hole and shuffle."""
        before = [f for f in frames([160] * 200) if f.chunk != 199]
        after = frames([160] * 60)
        after[3], after[4] = after[4], after[3]
        del after[10]
        played = Played().play([*((f.spoken, f) for f in before), *((1004 + n / 50, f) for n, f in enumerate(after))])
        old = b"".join(SILENCE * 160 if f.chunk == 199 else f.payload for f in frames([160] * 200))
        new = b"".join(SILENCE * 160 if f.chunk == 11 else f.payload for f in frames([160] * 60))
        assert played.whole == old + new

    @given(st.lists(st.integers(1, 150), min_size=1, max_size=400), st.integers(0, 1))
    def test_late_frames_do_not_begin_anything(self, chunks: list[int], copies: int) -> None:
        """However many frames from seconds ago come at once, the stream goes on as if they had not."""
        stream = frames([160] * 300)
        played = Played()
        for frame in stream:
            played.push(frame)
            if frame.chunk == 250:
                for chunk in chunks * (1 + copies):
                    assert played.push(stream[chunk - 1], frame.spoken) == []
        assert played.finish().whole == speech(stream)
        assert played.counted == (0, 0, len(chunks) * (1 + copies)) or len(chunks) > 100

    def test_late_frames_at_the_end_stay_unheard(self) -> None:
        """The stream ends with copies from seconds ago: they are dropped, not said again."""
        stream = frames([160] * 200)
        played = Played().play([*((f.spoken, f) for f in stream), *((1004.1 + n / 50, stream[n]) for n in range(10))])
        assert (played.whole, played.counted) == (speech(stream), (0, 0, 10))

    def test_numbers_far_ahead_and_times_far_back(self) -> None:
        """A higher numbering with earlier times is no loss either: it is the stream once it has gone on for 400 ms."""
        before, after = frames([160] * 200), frames([160] * 60, first_chunk=90_000)
        played = Played().play([*((f.spoken, f) for f in before), *((f.spoken + 4, f) for f in after)])
        assert (played.whole, played.counted) == (speech(before) + speech(after), (0, 0, 0))


class TestClock:
    """Both tracks of a stream on the call's clock."""

    def test_tracks_lie_by_their_timestamps(self) -> None:
        """The outbound track that begins at 99 ms where inbound began at 60 lies 39 ms later."""
        clock = StreamClock()
        assert clock.place(60, 1.0) == 0
        assert clock.place(99, 1.0) == 39 * 8
        assert clock.shift == 0

    def test_a_later_stream_begins_at_its_base(self) -> None:
        """Its first timestamp lies where the call's clock stood when it was read."""
        assert StreamClock(base=80_000).place(155, 70.0) == 80_000

    def test_an_earlier_timestamp_within_the_window_shifts_zero(self) -> None:
        """What was first is known 400 ms after the first frame; later, or 10 s further back, nothing shifts."""
        clock = StreamClock()
        clock.place(1000, 5.0)
        assert clock.place(960, 5.1) == -320
        assert clock.shift == 320
        clock.place(980, 5.2)
        assert clock.shift == 320
        assert clock.place(-9100, 5.3) == -80_800
        clock.place(940, 5.5)
        assert clock.shift == 320


@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 40), st.integers(0, 1 << 53)),
            st.one_of(st.integers(0, 3000), st.integers(0, 1 << 53)),
            st.integers(0, 700),
            st.sampled_from([0.0, 0.02, 0.5]),
        ),
        max_size=120,
    )
)
def test_anything_at_all(messages: list[tuple[int, int, int, float]]) -> None:
    """
    Whatever the counters say, positions never go back, and each frame is heard once or counted as dropped.

    Nothing waits longer than 400 ms.
    """
    played = Played()
    now = 10.0
    for chunk, timestamp_ms, size, pause in messages:
        now += pause
        played.push(Frame(chunk, timestamp_ms, bytes([1 + size % 250]) * (1 + size), 0), now)
        due = played.timeline.due
        assert due is None or now < due <= now + 0.4
    played.finish()
    head: int | None = None
    for item in played.audio:
        assert head is None or item.at >= head
        head = item.at + len(item.payload)
    assert head == played.timeline.end
    heard = sum(a.arrived is not None for a in played.audio)
    assert heard + played.timeline.late + played.timeline.repeated == len(messages)
