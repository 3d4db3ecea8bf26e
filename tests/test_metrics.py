"""The series: what a scrape shows."""

import asyncio
import itertools
import math
import os
import shutil
import timeit
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gateway.delivery import Attempt, Delivery, Event, Outcome, OutcomeKind, Verdict
from gateway.metrics import AUDIO_BUCKETS, CALL_END_REASONS, GAP_REASONS, LocalHistogram, Metrics
from tests.fakes.truth import StillTruth

OPENMETRICS = "application/openmetrics-text;version=1.0.0"

# Every series that others rely on, with its labels.
PROMISED = {
    "calls_active": (),
    "legs_active": (),
    "calls_total": ("carrier", "reason"),
    "sessions_open": ("track",),
    "session_duration_seconds": (),
    "session_billed_seconds_total": ("model",),
    "session_cost_usd_total": ("model",),
    "sessions_ended_total": ("reason",),
    "session_connect_seconds": (),
    "session_reconnects_total": ("code",),
    "zombie_sessions": (),
    "zombies_total": ("reason",),
    "frames_total": ("carrier", "track"),
    "frames_lost_total": ("carrier",),
    "audio_gap_seconds_total": ("reason",),
    "audio_delay_seconds": (),
    "turns_total": ("track",),
    "turn_delay_seconds": (),
    "handshakes_total": ("carrier", "outcome"),
    "deliveries_total": ("outcome",),
    "delivery_seconds": (),
    "outbox_events": (),
    "outbox_oldest_seconds": (),
    "dead_letters": (),
    "event_loop_lag_seconds": (),
}


async def scraped(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a plain scrape, by name and labels."""
    body, _ = await metrics.render(None)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_text(body.decode())
        for sample in family.samples
    }


def families(body: bytes) -> Iterator[Metric]:
    yield from parse_openmetrics(body.decode())  # type: ignore[no-untyped-call]  # left untyped by prometheus_client


async def test_promised_series_are_there_from_the_start() -> None:
    """Each promised series has a sample with its labels before anything has happened, and the counters stand at zero."""
    samples = await scraped(Metrics())
    for name, labels in PROMISED.items():
        found = {
            key: value
            for key, value in samples.items()
            if key[0] in {f"gateway_{name}", f"gateway_{name}_count"} and {label for label, _ in key[1]} == set(labels)
        }
        assert found, name
        assert not any(found.values()), name


async def test_known_label_values_start_at_zero() -> None:
    """A reason that never occurred is a zero and not a hole, so that its first occurrence is seen as an increase."""
    samples = await scraped(Metrics())
    for carrier, reason in itertools.product(("twilio", "telnyx", "signalwire"), CALL_END_REASONS):
        assert samples["gateway_calls_total", (("carrier", carrier), ("reason", reason))] == 0
    for reason in GAP_REASONS:
        assert samples["gateway_audio_gap_seconds_total", (("reason", reason),)] == 0


async def test_every_series_says_what_it_means() -> None:
    """Each of our families has a help text of a sentence."""
    body, _ = await Metrics(budget_usd_per_day=1).render(OPENMETRICS)
    for family in families(body):
        if family.name.startswith("gateway_"):
            assert len(family.documentation) > 20, family.name


async def test_promtool_has_nothing_to_say() -> None:
    """Prometheus' own linter is content with names, types and help texts."""
    promtool = shutil.which("promtool")
    if promtool is None and not os.environ.get("CI"):
        pytest.skip("promtool is missing: `make test-tools` installs it")
    assert promtool is not None
    body, _ = await Metrics(budget_usd_per_day=1).render(None)
    linter = await asyncio.create_subprocess_exec(promtool, "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    said = await linter.communicate(body)
    assert (linter.returncode, *said) == (0, b"", b"")


async def test_gauges_are_read_from_the_truth_at_each_scrape() -> None:
    """A gauge shows what is there when the scrape asks, with nobody counting up or down."""
    metrics, truth = Metrics(), StillTruth()
    metrics.attach(truth)
    truth.calls, truth.sessions, truth.dead = 3, {"inbound": 2}, 5
    first = await scraped(metrics)
    truth.calls = 1
    second = await scraped(metrics)
    assert (first["gateway_calls_active", ()], second["gateway_calls_active", ()]) == (3, 1)
    assert first["gateway_sessions_open", (("track", "inbound"),)] == 2
    assert first["gateway_sessions_open", (("track", "outbound"),)] == 0
    assert first["gateway_dead_letters", ()] == 5
    assert first["gateway_store_healthy", ()] == 1


async def test_budget_is_shown_only_where_there_is_one() -> None:
    """Without a budget there is no budget gauge, so that no alert compares spending with nothing."""
    assert ("gateway_budget_usd_per_day", ()) not in await scraped(Metrics())
    assert (await scraped(Metrics(budget_usd_per_day=20)))["gateway_budget_usd_per_day", ()] == 20


async def test_drain_has_a_deadline() -> None:
    """While draining, the deadline is a time in the future that does not move; else it is zero."""
    metrics, truth = Metrics(drain_seconds=300), StillTruth()
    metrics.attach(truth)
    deadline = "gateway_drain_deadline_timestamp_seconds", ()
    assert (await scraped(metrics))[deadline] == 0
    truth.is_draining = True
    first, second = await scraped(metrics), await scraped(metrics)
    assert first[deadline] == second[deadline] > 300


async def test_local_counts_reach_the_scrape() -> None:
    """What is counted locally is in the next scrape, without a flush between."""
    metrics = Metrics()
    frames = metrics.frames_total.labels("twilio", "inbound")
    for _ in range(7):
        frames.inc()
    metrics.audio_delay_seconds.observe(0.02)
    metrics.audio_delay_seconds.observe_many([0.05, 99.0])
    samples = await scraped(metrics)
    assert samples["gateway_frames_total", (("carrier", "twilio"), ("track", "inbound"))] == 7
    assert samples["gateway_audio_delay_seconds_count", ()] == 3
    assert samples["gateway_audio_delay_seconds_sum", ()] == pytest.approx(99.07)
    assert samples["gateway_audio_delay_seconds_bucket", (("le", "0.02"),)] == 1
    assert samples["gateway_audio_delay_seconds_bucket", (("le", "60.0"),)] == 2


async def test_unknown_label_values_are_counted_too() -> None:
    """A label value nobody listed gets a child of its own, and a wrong number of labels is a bug that says so."""
    metrics = Metrics()
    metrics.frames_lost_total.labels("other").inc(2)
    assert (await scraped(metrics))["gateway_frames_lost_total", (("carrier", "other"),)] == 2
    with pytest.raises(ValueError, match="labels"):
        metrics.frames_lost_total.labels("twilio", "inbound")


@given(st.lists(st.lists(st.floats(0, 1e4), max_size=30), max_size=5))
def test_local_histogram_counts_as_any_histogram_does(flushes: list[list[float]]) -> None:
    """However the observations are spread over flushes, each bucket holds those not above its bound."""
    histogram = LocalHistogram("x_seconds", "A histogram for this test.", AUDIO_BUCKETS, CollectorRegistry())
    for values in flushes:
        histogram.observe_many(values)
        histogram.fold()
    (family,) = histogram.collect()
    observed = [value for values in flushes for value in values]
    for sample in family.samples:
        if sample.name.endswith("_bucket"):
            assert sample.value == sum(value <= float(sample.labels["le"]) for value in observed)
        elif sample.name.endswith("_sum"):
            assert math.isclose(sample.value, math.fsum(observed), abs_tol=1e-6)


async def test_local_histogram_is_bounded_without_a_sweep() -> None:
    """Nobody flushing costs no memory without end: the list folds itself."""
    histogram = LocalHistogram("x_seconds", "A histogram for this test.", AUDIO_BUCKETS, CollectorRegistry())
    for _ in range(3):
        histogram.observe_many([0.1] * 65_536)
        for _ in range(65_536):
            histogram.observe(0.1)
    assert len(histogram._pending) < 65_536


def test_hot_path_is_cheap() -> None:
    """A local observation costs less than a microsecond on an unhurried machine (here with room for a busy one)."""
    metrics = Metrics()
    best = min(timeit.repeat(lambda: metrics.audio_delay_seconds.observe(0.05), number=20_000, repeat=5)) / 20_000
    assert best < 5e-6


async def test_exemplars_carry_the_call_where_openmetrics_is_asked_for() -> None:
    """The call's id is an exemplar in OpenMetrics, cut to what an exemplar may hold, and nowhere in plain text."""
    metrics = Metrics()
    metrics.turn_delay_seconds.observe(0.4, "CA0123456789")
    metrics.delivery_seconds.observe(0.4, "v3:" + "x" * 300)
    metrics.session_duration_seconds.observe(0.4)
    plain, plain_type = await metrics.render("text/plain")
    rich, rich_type = await metrics.render(OPENMETRICS)
    assert plain_type.startswith("text/plain")
    assert rich_type.startswith("application/openmetrics-text")
    assert b"CA0123456789" not in plain
    exemplars = {
        sample.name: sample.exemplar.labels["call_id"]
        for family in families(rich)
        for sample in family.samples
        if sample.exemplar
    }
    assert exemplars == {
        "gateway_turn_delay_seconds_bucket": "CA0123456789",
        "gateway_delivery_seconds_bucket": ("v3:" + "x" * 300)[:121],
    }


async def test_created_series_are_off() -> None:
    """No `_created` series doubles the scrape."""
    body, _ = await Metrics().render(OPENMETRICS)
    assert b"_created" not in body


async def test_a_session_is_counted_whole() -> None:
    """One session's end moves its duration, seconds, cost by model and item, and the waste, which never is negative."""
    metrics = Metrics()
    for spoken in (900.0, 9000.0):
        metrics.session_ended(
            model="universal-3-5-pro",
            reason="terminated",
            duration_seconds=3600.5,
            billed_seconds=3600.0,
            spoken_seconds=spoken,
            cost_usd_by_item={"model": 0.45, "speaker_labels": 0.12},
            call_id="CA1",
        )
    samples = await scraped(metrics)
    model = (("model", "universal-3-5-pro"),)
    assert samples["gateway_sessions_ended_total", (("reason", "terminated"),)] == 2
    assert samples["gateway_session_duration_seconds_sum", ()] == 7201
    assert samples["gateway_session_billed_seconds_total", model] == 7200
    assert samples["gateway_session_spoken_seconds_total", model] == 4500
    assert samples["gateway_session_waste_seconds_total", model] == 2700
    assert samples["gateway_session_cost_usd_total", model] == pytest.approx(1.14)
    assert samples["gateway_session_waste_usd_total", model] == pytest.approx(0.57 * 0.75)
    assert samples["gateway_session_cost_item_usd_total", (("item", "speaker_labels"),)] == pytest.approx(0.24)


async def test_a_session_never_billed_wastes_nothing() -> None:
    """A session that was refused at once has no waste, and does not divide by zero."""
    metrics = Metrics()
    metrics.session_ended(
        model="universal-3-5-pro",
        reason="refused",
        duration_seconds=0.0,
        billed_seconds=0.0,
        spoken_seconds=0.0,
        cost_usd_by_item={"model": 0.0},
        call_id="CA1",
    )
    assert (await scraped(metrics))["gateway_session_waste_usd_total", (("model", "universal-3-5-pro"),)] == 0


@pytest.mark.parametrize(
    ("action", "kind", "outcome"),
    [
        ("settle", "accepted", "delivered"),
        ("retry", "failed", "retried"),
        ("disable", "gone", "gone"),
        ("bury", "timeout", "dead_lettered"),
    ],
)
async def test_an_attempt_is_counted_by_what_became_of_it(
    action: Literal["settle", "retry", "disable", "bury"], kind: OutcomeKind, outcome: str
) -> None:
    """An attempt moves its outcome, its answer, and the delays it knows."""
    metrics = Metrics()
    event = Event(
        id="e", call_id="CA7", endpoint="https://a", type="call.ended", sequence=1, created_at=0.0, body=b"{}"
    )
    settled = 2.5 if action == "settle" else None
    metrics.attempted(
        Attempt(
            delivery=Delivery(event=event, lane_id=1, position=1, stored_at=0.0),
            outcome=Outcome(kind),
            verdict=Verdict(action),
            first_delay_seconds=0.01,
            delivered_seconds=settled,
        )
    )
    metrics.perished(Outcome("unreachable"))
    samples = await scraped(metrics)
    assert samples["gateway_deliveries_total", (("outcome", outcome),)] == 1
    assert samples["gateway_delivery_answers_total", (("answer", kind),)] == 1
    assert samples["gateway_delivery_answers_total", (("answer", "unreachable"),)] == 1
    assert samples["gateway_delivery_first_attempt_seconds_count", ()] == 1
    assert samples["gateway_delivery_seconds_sum", ()] == (settled or 0)
    assert sum(value for (name, _), value in samples.items() if name == "gateway_deliveries_total") == 1
