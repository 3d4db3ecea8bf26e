"""How much one socket may say: over a minute, at most four times what a call needs; a stalled link's burst passes."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.stream import Flood


def test_a_call_is_never_slowed_down() -> None:
    """100 messages a second of 330 bytes, for an hour; then 10 s of them at once, as a stalled link delivers."""
    flood, now = Flood(0.0), 0.0
    for _ in range(360_000):
        now += 0.01
        assert flood.wait(330, now) == 0
    assert all(flood.wait(330, now) == 0 for _ in range(1000))


@given(st.lists(st.tuples(st.floats(0, 0.01), st.integers(1, 65_536)), min_size=1, max_size=300))
def test_a_flood_is_held_to_its_share(messages: list[tuple[float, int]]) -> None:
    """Whoever waits as told is read at no more than a minute's worth at once and four times the nominal rate after it."""
    flood, now, count, size = Flood(0.0), 0.0, 0, 0
    for gap, length in messages * 20:
        now += gap
        count, size = count + 1, size + length
        now += flood.wait(length, now)
    assert count <= 400 * (60 + now) + 1
    assert size <= 140_000 * (60 + now) + 65_536
