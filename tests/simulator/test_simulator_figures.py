"""Figures read from /metrics: quantiles within buckets, and what a run cost by leg."""

import math

import pytest

from gateway.simulator.figures import Looks, Scrape, between, parse, quantile, spread

TEXT = """\
# HELP gateway_audio_delay_seconds x
# TYPE gateway_audio_delay_seconds histogram
gateway_audio_delay_seconds_bucket{le="0.02"} %d
gateway_audio_delay_seconds_bucket{le="0.04"} %d
gateway_audio_delay_seconds_bucket{le="+Inf"} %d
gateway_audio_delay_seconds_sum 1.0
gateway_audio_delay_seconds_count 5
# HELP gateway_legs_active x
# TYPE gateway_legs_active gauge
gateway_legs_active %d
# HELP process_cpu_seconds_total x
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total %f
# HELP process_resident_memory_bytes x
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes %d
"""


def scrape(counts: tuple[int, int, int], legs: int, cpu: float, memory: int) -> Scrape:
    """A look at a gateway."""
    return parse(TEXT % (*counts, legs, cpu, memory))


def test_quantiles_are_interpolated() -> None:
    """Ten observations in the first bucket, ten in the second: the median is the border, p75 the middle of the second."""
    buckets = {0.02: 10.0, 0.04: 20.0, math.inf: 20.0}
    assert quantile(buckets, 0.5) == pytest.approx(0.02)
    assert quantile(buckets, 0.75) == pytest.approx(0.03)
    assert quantile(buckets, 0.25) == pytest.approx(0.01)


def test_beyond_the_last_bucket_nothing_is_known() -> None:
    """Infinite; and of no observations there is no quantile."""
    assert quantile({0.02: 0.0, math.inf: 3.0}, 0.5) == math.inf
    assert quantile({0.02: 0.0, math.inf: 0.0}, 0.5) is None
    assert quantile({}, 0.5) is None


def test_only_the_run_counts() -> None:
    """What was observed before it is taken off."""
    assert between({0.02: 5.0, math.inf: 9.0}, {0.02: 7.0, math.inf: 19.0}) == {0.02: 2.0, math.inf: 10.0}


def test_a_run_by_leg() -> None:
    """CPU by the legs' seconds, memory by the legs at their most, delays of the run alone."""
    looks = Looks()
    looks.take(0.0, scrape((100, 100, 100), 0, 1.0, 50_000_000))
    looks.take(2.0, scrape((100, 100, 100), 10, 1.5, 51_024_000))
    looks.take(12.0, scrape((110, 120, 120), 10, 2.0, 51_024_000))
    looks.take(14.0, scrape((110, 120, 120), 0, 2.2, 50_500_000))
    figures = looks.figures()
    assert figures is not None
    assert figures.leg_seconds == 120.0
    assert figures.cpu_ms_per_leg_second == pytest.approx(10.0)
    assert figures.memory_kb_per_leg == pytest.approx(100.0)
    assert (figures.audio_delay.count, figures.audio_delay.p50_ms, figures.audio_delay.p95_ms) == (20, 20.0, 38.0)
    assert (figures.turn_delay.count, figures.turn_delay.p50_ms) == (0, None)


def test_one_look_shows_nothing() -> None:
    """There is no run in it."""
    looks = Looks()
    assert looks.figures() is None
    looks.take(0.0, scrape((0, 0, 0), 0, 0, 0))
    assert looks.figures() is None


def test_a_run_without_legs_has_no_figures_by_leg() -> None:
    """No division by nothing."""
    looks = Looks()
    looks.take(0.0, Scrape())
    looks.take(1.0, Scrape())
    figures = looks.figures()
    assert figures is not None
    assert (figures.cpu_ms_per_leg_second, figures.memory_kb_per_leg) == (None, None)


def test_spread() -> None:
    """The value that a share does not exceed."""
    assert spread([3.0, 1.0, 2.0], 0.5) == 2.0
    assert spread([3.0, 1.0, 2.0], 1.0) == 3.0
    assert spread([], 0.5) is None
