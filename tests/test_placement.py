"""Where a session's audio lies on the call's clock."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.placement import Placement
from gateway.timeline import SAMPLES_PER_MS

pieces = st.lists(st.tuples(st.one_of(st.just(0), st.integers(1, 5000)), st.integers(0, 600)), min_size=1, max_size=30)
"""(samples skipped, samples fed)"""


def fed(pieces: list[tuple[int, int]], start: int = 0) -> tuple[Placement, list[int]]:
    """A placement, and the position of each sample that it was fed."""
    placement, positions = Placement(), list[int]()
    at = start
    for skipped, samples in pieces:
        at += skipped
        placement.feed(at, samples)
        positions += range(at, at + samples)
        at += samples
    return placement, positions


@given(pieces, st.integers(0, 10**9))
def test_each_sample_lies_where_it_was_taken_from(pieces: list[tuple[int, int]], start: int) -> None:
    """However the audio was cut into pieces, and wherever positions jump."""
    placement, positions = fed(pieces, start)
    assert len(positions) == placement.fed
    assert positions == [placement.position(n) for n in range(placement.fed)]


@given(pieces, st.floats(0, 10_000))
def test_what_lies_behind_the_last_sample_runs_on(pieces: list[tuple[int, int]], beyond: float) -> None:
    """The service's times may lie beyond the audio it was sent: as if it had gone on."""
    placement, _ = fed([*pieces, (7, 100)])
    assert placement.position(placement.fed - 1) + 1 + round(beyond) == placement.position(
        placement.fed + round(beyond)
    )


def test_what_lies_before_the_first_sample_runs_back() -> None:
    """A time before the session's beginning is a time before its first sample."""
    placement, _ = fed([(8000, 160)])
    assert placement.position(-80) == 7920


def test_times_are_placed_to_the_sample() -> None:
    """Milliseconds of the session, with fractions, across a jump."""
    placement, _ = fed([(1000 * SAMPLES_PER_MS, 500 * SAMPLES_PER_MS), (2000 * SAMPLES_PER_MS, 500 * SAMPLES_PER_MS)])
    assert [placement.position_ms(ms) for ms in (0, 499.875, 500, 600.5)] == [8000, 11_999, 28_000, 28_804]


def test_nothing_fed_lies_at_the_beginning() -> None:
    """A session that was sent nothing says times all the same."""
    assert Placement().position_ms(250) == 0


def test_audio_without_a_jump_needs_one_anchor() -> None:
    """Three hours of frames cost no more memory than one."""
    placement = Placement()
    for frame in range(1000):
        placement.feed(4000 + 160 * frame, 160)
    placement.feed(4000 + 160 * 1000, 0)
    assert len(placement._fed_at) == len(placement._positions) == 1
