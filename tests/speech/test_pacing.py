"""How fast waiting audio goes, against the contract's words; what the service cannot have heard."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.speech.pacing import RATE, WINDOW_SECONDS, Backlog, Pace

Sent = list[tuple[float, float]]

chunks = st.lists(st.sampled_from([50.0, 60.0, 100.0, 250.0, 1000.0]), min_size=1, max_size=200)
gaps = st.floats(0, 0.3) | st.sampled_from([0.0, 0.02, 0.0416, 0.05, 0.06, 0.233, 1.0, 7.0])


def play(pace: Pace, audio: Sequence[tuple[float, float]], now: float = 0.0) -> Sent:
    """Send (ready at, ms) as soon as the pace allows it; when each went."""
    sent: Sent = []
    for ready, ms in audio:
        now = max(now, ready)
        while (wait := pace.wait(ms, now)) > 0:
            now += max(wait, 1e-6)  # a clock moves on, however short the wait
        pace.sent(ms, now)
        sent.append((now, ms))
    return sent


def most_in_a_window(sent: Sent) -> float:
    """The most audio in any five seconds."""
    most, first, held = 0.0, 0, 0.0
    for at, ms in sent:
        held += ms
        while sent[first][0] <= at - WINDOW_SECONDS + 1e-6:
            held -= sent[first][1]
            first += 1
        most = max(most, held)
    return most


def most_ahead(sent: Sent) -> float:
    """The most that was ever sent beyond 1.2 times the time in which it went, over every stretch."""
    most = level = 0.0
    last = sent[0][0] if sent else 0.0
    for at, ms in sent:
        level = max(0.0, level - (at - last) * 1000 * RATE) + ms
        most, last = max(most, level), at
    return most


def obeys(sent: Sent) -> None:
    """Contract §4: "at no more than 1.2 × real time averaged over 5 s (up to 1 s of it at once)"."""
    assert most_in_a_window(sent) <= 6000 + 0.01
    assert most_ahead(sent) <= 1000 + 0.01


@given(chunks, st.data())
def test_any_schedule_obeys_the_contract(sizes: list[float], data: st.DataObject) -> None:
    """Whatever is ready when, in whatever chunks, what goes keeps to the pace."""
    ready = accumulate(data.draw(gaps) for _ in sizes)
    obeys(play(Pace(0.0), list(zip(ready, sizes, strict=True))))


@pytest.mark.parametrize("ms", [50.0, 60.0, 61.0, 100.0, 250.0, 1000.0])
def test_a_minute_of_backlog_goes_as_fast_as_it_may(ms: float) -> None:
    """60 s that wait are sent in some 50 s, in every legal size: each five seconds carry the six that fit, less a chunk."""
    sent = play(Pace(0.0), [(0.0, ms)] * int(60_000 / ms))
    obeys(sent)
    assert sent[-1][0] >= (60_000 - 1000 - ms) / 1000 / RATE - 0.1
    assert sent[-1][0] <= 60_000 / (6000 - ms) * WINDOW_SECONDS
    for start in range(0, 40, 5):
        assert sum(size for at, size in sent if start <= at < start + 5) >= 6000 - ms - 0.01


@given(st.lists(st.floats(0.02, 0.233), min_size=1, max_size=400), st.sampled_from([50.0, 60.0, 100.0]))
def test_live_audio_is_never_delayed(bursts: list[float], ms: float) -> None:
    """Frames that come late and together, up to 233 ms of them, wait for nothing: as many as have become whole go at once."""
    pace, sent, spoken = Pace(0.0), 0.0, 0.0
    for burst in bursts:
        spoken += burst
        while sent + ms <= spoken * 1000:
            assert pace.wait(ms, spoken) == 0
            pace.sent(ms, spoken)
            sent += ms


@given(st.floats(0, 60), st.lists(st.floats(0.02, 0.233), min_size=100, max_size=300))
def test_catching_up_ends(missed: float, bursts: list[float]) -> None:
    """Audio that waited and audio that comes meanwhile: a second behind no later than 5 s a second missed, and 5 s."""
    ready: list[tuple[float, float]] = [(0.0, 60.0)] * int(missed * 1000 / 60)
    ready += _live(missed * 5 + 10)
    sent = play(Pace(0.0), ready)
    obeys(sent)
    caught_up = missed * 5 + 5
    assert all(at - due < 1 for (at, _), (due, _) in zip(sent, ready, strict=True) if due > caught_up)


def _live(seconds: float) -> Iterator[tuple[float, float]]:
    for number in range(int(seconds * 1000 / 60)):
        yield number * 0.06, 60.0


def test_a_long_call_is_remembered_in_little() -> None:
    """The window's memory is bounded by its length, not by the call's."""
    pace = Pace(0.0)
    play(pace, list(_live(600)))
    assert len(pace._sent) <= WINDOW_SECONDS / 0.05
    assert pace._in_window == pytest.approx(5000, abs=60)


def test_small_chunks_do_not_pile_up() -> None:
    """50 ms chunks at 1.2 times real time come every 42 ms: they leave the window one after the other all the same."""
    pace = Pace(0.0)
    sent = play(pace, [(0.0, 50.0)] * 2000)
    assert max(b - a for (a, _), (b, _) in pairwise(sent)) < 1


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1000)), max_size=100))
def test_backlog_is_what_real_time_cannot_have_heard(steps: list[tuple[float, float]]) -> None:
    """A listener that takes a second a second and never saves up: what is left of what was sent."""
    backlog = Backlog(100.0)
    now, unheard = 100.0, 0.0
    for gap, ms in steps:
        now += gap
        unheard = max(0.0, unheard - gap * 1000)
        assert backlog.ms(now) == pytest.approx(unheard, abs=1e-3)
        backlog.sent(ms, now)
        unheard += ms
        assert backlog.ms(now) == pytest.approx(unheard, abs=1e-3)


def test_live_audio_leaves_no_backlog() -> None:
    """A chunk every 60 ms is heard as it comes; a minute replayed at 1.2 leaves ten seconds."""
    live, late = Backlog(0.0), Backlog(0.0)
    for number in range(1000):
        live.sent(60.0, number * 0.06)
        late.sent(60.0, number * 0.05)
    assert live.ms(1000 * 0.06) == pytest.approx(0, abs=1e-6)
    assert late.ms(50.0) == pytest.approx(10_000)
