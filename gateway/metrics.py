"""
Every series the gateway exposes: what it means, and what to look at when it moves.

The sentence after the series' name is its HELP text, so an operator reads in Prometheus what a developer reads here.
Counters and histograms are counted by the runners where the fact arises. Gauges are never counted up and down: they are read
from the things themselves (`Truth`) at each scrape, so they cannot drift. What happens once a frame goes through
`LocalCounter` and `LocalHistogram`, which cost a list's append; `flush()` folds them once a second.

Labels are bounded; no series carries an id. The call's id is an exemplar on three histograms, where OpenMetrics is asked for.
"""

import asyncio
import itertools
import math
import platform
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Protocol, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gateway import events
from gateway.call import CARRIERS, TRACKS
from gateway.delivery import OUTCOMES, Attempt, Outcome
from gateway.media.messages import IgnoredKind
from gateway.media.proof import RefusalReason

PREFIX: Final = "gateway"

# Known label values. Each series starts with a zero for each of them: `rate()` does not see a counter's first step, so an
# alert on a counter that is born at 1 would miss the first event.
CALL_END_REASONS: Final = get_args(events.EndReason)
GAP_REASONS: Final = get_args(events.GapReason)
ZOMBIE_REASONS: Final = get_args(events.ZombieReason)
SESSION_END_REASONS: Final = get_args(events.SessionReason)
DELIVERY_OUTCOMES: Final = ("delivered", "retried", "gone", "dead_lettered")
HANDSHAKE_OUTCOMES: Final = ("accepted", *get_args(RefusalReason), "draining", "failed")
REFUSAL_REASONS: Final = ("key", "quota", "parameters", "other")
MALFORMED_SOURCES: Final = (*CARRIERS, "assemblyai")
MODELS: Final = ("universal-3-5-pro",)
COST_ITEMS: Final = (
    "model",
    "speaker_labels",
    "voice_focus",
    "redact_pii",
    "filter_profanity",
    "medical",
    "keyterms",
    "prompt",
)
# Close codes of the service (and of TCP: 1006), HTTP refusals, and `connect` where there was no answer at all.
RECONNECT_CODES: Final = ("connect", "1000", "1001", "1006", "1008", "1011", "1012", "1013", "3005", "3006", "3007", "3008", "3009", "429", "5xx")  # fmt: skip

# Seconds. Calls: dense where handle times lie (2 to 15 min); 3 h is the service's limit for a session, beyond is zombie land.
CALL_BUCKETS: Final = (1, 5, 15, 30, 60, 120, 180, 300, 420, 600, 900, 1200, 1800, 2700, 3600, 7200, 10800, 14400)
CONNECT_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)
# A chunk holds 50 ms and more, the resampler 30 ms: the normal lies between 20 and 150 ms and is resolved there.
AUDIO_BUCKETS: Final = (0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 15, 60)
TURN_BUCKETS: Final = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60)
DELIVERY_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300, 3600, 86400)
FIRST_ATTEMPT_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 15, 60)
COMMIT_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
LAG_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

_EXEMPLAR_RUNES = 128  # OpenMetrics 1.0: an exemplar's label names and values together
_PENDING = (
    65_536  # observations a LocalHistogram keeps before it folds by itself, so that it is bounded without a sweep
)


class Truth(Protocol):
    """What the gauges are read from, on the event loop, at each scrape: cheap looks at what exists now."""

    def calls_active(self) -> int: ...
    def legs_active(self) -> int: ...
    def sessions_open(self) -> Mapping[str, int]:
        """By track."""
        ...

    def zombie_sessions(self) -> int: ...
    def oldest_session_seconds(self) -> float: ...
    def outbox_events(self) -> int: ...
    def outbox_oldest_seconds(self) -> float: ...
    def dead_letters(self) -> int: ...
    def endpoints_disabled(self) -> int: ...
    def draining(self) -> bool: ...
    def circuit_open(self) -> bool: ...
    def store_healthy(self) -> bool: ...
    def admission_waiting(self) -> int: ...
    def spend_today_usd(self) -> float: ...


@dataclass(frozen=True)
class Snapshot:
    """The truth as it was when a scrape asked."""

    calls_active: int = 0
    legs_active: int = 0
    sessions_open: Mapping[str, int] = field(default_factory=dict)
    zombie_sessions: int = 0
    oldest_session_seconds: float = 0.0
    outbox_events: int = 0
    outbox_oldest_seconds: float = 0.0
    dead_letters: int = 0
    endpoints_disabled: int = 0
    draining: bool = False
    circuit_open: bool = False
    store_healthy: bool = True
    admission_waiting: int = 0
    spend_today_usd: float = 0.0

    @classmethod
    def of(cls, truth: Truth) -> "Snapshot":
        return cls(
            calls_active=truth.calls_active(),
            legs_active=truth.legs_active(),
            sessions_open=dict(truth.sessions_open()),
            zombie_sessions=truth.zombie_sessions(),
            oldest_session_seconds=truth.oldest_session_seconds(),
            outbox_events=truth.outbox_events(),
            outbox_oldest_seconds=truth.outbox_oldest_seconds(),
            dead_letters=truth.dead_letters(),
            endpoints_disabled=truth.endpoints_disabled(),
            draining=truth.draining(),
            circuit_open=truth.circuit_open(),
            store_healthy=truth.store_healthy(),
            admission_waiting=truth.admission_waiting(),
            spend_today_usd=truth.spend_today_usd(),
        )


class CallHistogram:
    """A histogram in seconds whose observations may name the call they come from, as an exemplar."""

    def __init__(self, name: str, help_: str, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        self._histogram = Histogram(f"{PREFIX}_{name}", help_, buckets=buckets, registry=registry)

    def observe(self, seconds: float, call_id: str | None = None) -> None:
        """Count one observation; a call id too long for an exemplar is cut (its beginning still finds the log line)."""
        if call_id:
            self._histogram.observe(seconds, {"call_id": call_id[: _EXEMPLAR_RUNES - len("call_id")]})
        else:
            self._histogram.observe(seconds)


class LocalCount:
    """One child of a `LocalCounter`: keep it, and add to it as often as you like."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        self.value += amount


class LocalCounter(Collector):
    """A counter for what happens once a frame: no lock, no label look-up, one addition on the loop's thread."""

    def __init__(self, name: str, help_: str, labels: Mapping[str, Sequence[str]], registry: CollectorRegistry) -> None:
        self.name = f"{PREFIX}_{name.removesuffix('_total')}"
        self.help = help_
        self.label_names = tuple(labels)
        self._children = {values: LocalCount() for values in itertools.product(*labels.values())}
        registry.register(self)

    def labels(self, *values: str) -> LocalCount:
        """The child of these label values, in the declared order; made when it is new."""
        if len(values) != len(self.label_names):
            raise ValueError(f"{self.name} has the labels {self.label_names}, not {len(values)} of them")
        return self._children.setdefault(values, LocalCount())

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self.name, self.help, labels=self.label_names)
        for values, child in list(self._children.items()):
            family.add_metric(values, child.value)
        yield family


class LocalHistogram(Collector):
    """
    A histogram for what happens once a chunk: observing appends to a list, `fold` counts the list into the buckets.

    What a scrape sees is replaced as a whole by `fold`, so a scrape on another thread never reads half of one.
    """

    def __init__(self, name: str, help_: str, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        self.name = f"{PREFIX}_{name}"
        self.help = help_
        self.bounds = tuple(float(bound) for bound in buckets)
        self._pending: list[float] = []
        self._folded: tuple[tuple[float, ...], float] = ((0.0,) * (len(self.bounds) + 1), 0.0)
        registry.register(self)

    def observe(self, seconds: float) -> None:
        self._pending.append(seconds)
        if len(self._pending) >= _PENDING:
            self.fold()

    def observe_many(self, seconds: Iterable[float]) -> None:
        self._pending.extend(seconds)
        if len(self._pending) >= _PENDING:
            self.fold()

    def fold(self) -> None:
        """Count what was observed since the last time. On the loop's thread only."""
        if not self._pending:
            return
        new, self._pending = self._pending, []
        new.sort()
        cumulative, total = self._folded
        at_most = [*(bisect_right(new, bound) for bound in self.bounds), len(new)]
        self._folded = tuple(was + more for was, more in zip(cumulative, at_most, strict=True)), total + math.fsum(new)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        cumulative, total = self._folded
        bounds = [*(str(bound) for bound in self.bounds), "+Inf"]
        yield HistogramMetricFamily(
            self.name, self.help, buckets=list(zip(bounds, cumulative, strict=True)), sum_value=total
        )


class Metrics(Collector):
    """All series, on a registry of their own. An attribute's name is the series' name after the prefix."""

    def __init__(self, *, budget_usd_per_day: float | None = None, drain_seconds: float = 120.0) -> None:
        # Each counter would have a second series beside it, which nothing here reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client left this one untyped
        self.registry = registry = CollectorRegistry()
        self._truth: Truth | None = None
        self._snapshot = Snapshot()
        self._budget_usd_per_day = budget_usd_per_day
        self._drain_seconds = drain_seconds
        self._drain_deadline = 0.0

        def counter(name: str, help_: str, **labels: Sequence[str]) -> Counter:
            made = Counter(f"{PREFIX}_{name}", help_, tuple(labels), registry=registry)
            for values in itertools.product(*labels.values()) if labels else ():
                made.labels(*values)
            return made

        def histogram(name: str, help_: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(f"{PREFIX}_{name}", help_, buckets=buckets, registry=registry)

        # Calls.
        self.calls_total = counter(
            "calls_total",
            "Calls that ended, by why. socket_lost or media_timeout growing: the carrier's network or a proxy's time-out; "
            "gateway_lost: this process crashed; max_duration: calls nobody hung up.",
            carrier=CARRIERS,
            reason=CALL_END_REASONS,
        )
        self.handshakes_total = counter(
            "handshakes_total",
            "Media WebSockets and signed requests that asked to be let in. no_proof or bad_signature: tokens or the public URL "
            "do not match the carrier's, or a stranger knocks; failed: the carrier could not reach us.",
            carrier=CARRIERS,
            outcome=HANDSHAKE_OUTCOMES,
        )
        self.frames_total = LocalCounter(
            "frames_total",
            "Media frames read from carriers; 50 a second for each track. Flat while calls are active: the carrier is silent.",
            {"carrier": CARRIERS, "track": TRACKS},
            registry,
        )
        self.frames_lost_total = LocalCounter(
            "frames_lost_total",
            "Frames the carrier numbered and never delivered. Growing: the network between carrier and gateway.",
            {"carrier": CARRIERS},
            registry,
        )
        self.malformed_total = counter(
            "malformed_total",
            "Messages that were not what their protocol says, counted and skipped. Growing: the peer changed its protocol; "
            "the log line names the message's kind.",
            source=MALFORMED_SOURCES,
        )
        self.ignored_total = counter(
            "ignored_total",
            "Well-formed messages from which nothing follows (marks, keypad digits, unknown events). after_stop or repeated_start growing: a proxy or a carrier that repeats itself.",
            carrier=CARRIERS,
            kind=get_args(IgnoredKind),
        )

        # Sessions, and what they cost.
        self.session_duration_seconds = CallHistogram(
            "session_duration_seconds",
            "Session age from open to closed: what the service bills. Above its calls' length: sessions outlive their legs.",
            CALL_BUCKETS,
            registry,
        )
        self.session_connect_seconds = histogram(
            "session_connect_seconds",
            "From dialling the service to its Begin. Slow: the service, DNS, or a blocked event loop.",
            CONNECT_BUCKETS,
        )
        self.sessions_ended_total = counter(
            "sessions_ended_total",
            "Sessions that ended, by how. lost: dropped by network or service; refused: key, quota or parameters; "
            "zombie: perhaps still open and billed at the service.",
            reason=SESSION_END_REASONS,
        )
        self.session_reconnects_total = counter(
            "session_reconnects_total",
            "Attempts to replace a lost session, by the code it was lost with. Many of one code: see the service's status; "
            "1008: the key; 3009 and 429: the account's session rate; 3007: our pacing.",
            code=RECONNECT_CODES,
        )
        self.service_errors_total = counter(
            "service_errors_total",
            "Error messages and abnormal closes of the speech service, by code. See session_reconnects_total for what they mean.",
            code=RECONNECT_CODES,
        )
        self.legs_refused_total = counter(
            "legs_refused_total",
            "Legs given up because the service refuses them: no transcript for that party. key and quota: page whoever owns "
            "the account; parameters: the profile.",
            reason=REFUSAL_REASONS,
        )
        self.zombies_total = counter(
            "zombies_total",
            "Sessions whose Terminate was not confirmed, or that nobody owned. Look at the session.zombie events, then at the "
            "service's own session list.",
            reason=ZOMBIE_REASONS,
        )
        self.session_billed_seconds_total = counter(
            "session_billed_seconds_total", "Seconds the service bills (its figure, else our estimate).", model=MODELS
        )
        self.session_cost_usd_total = counter(
            "session_cost_usd_total", "US dollars by the rate card, add-ons included.", model=MODELS
        )
        self.session_cost_item_usd_total = counter(
            "session_cost_item_usd_total",
            "The same US dollars by item: the base model and each add-on. An add-on that grew: a profile switched it on.",
            item=COST_ITEMS,
        )
        self.session_spoken_seconds_total = counter(
            "session_spoken_seconds_total",
            "Seconds inside turns: what was billed and heard somebody speak.",
            model=MODELS,
        )
        self.session_waste_seconds_total = counter(
            "session_waste_seconds_total",
            "Billed seconds less spoken ones. Half is normal (the other party speaks); near all: hold music, voicemail, or "
            "legs left open.",
            model=MODELS,
        )
        self.session_waste_usd_total = counter(
            "session_waste_usd_total", "The waste in US dollars by the rate card.", model=MODELS
        )
        self.zombie_leak_seconds_total = counter(
            "zombie_leak_seconds_total",
            "Estimate of seconds billed after we believed a session closed. See zombies_total.",
            reason=ZOMBIE_REASONS,
        )
        self.zombie_leak_usd_total = counter(
            "zombie_leak_usd_total", "The same estimate in US dollars.", reason=ZOMBIE_REASONS
        )

        # Audio and words.
        self.audio_sent_seconds_total = LocalCounter(
            "audio_sent_seconds_total",
            "Seconds of audio handed to the service's sockets, replays included. Below frames_total at 20 ms each: audio waits or is lost.",
            {"track": TRACKS},
            registry,
        )
        self.audio_gap_seconds_total = counter(
            "audio_gap_seconds_total",
            "Seconds of calls that nobody transcribed, by why. carrier_loss: the network before us; provider_outage and overflow: "
            "the service was away for longer than a leg keeps audio; refused: key or quota; paused: on purpose.",
            reason=GAP_REASONS,
        )
        self.audio_delay_seconds = LocalHistogram(
            "audio_delay_seconds",
            "From a frame read off the carrier's socket to its audio handed to the service's. Above 0.3 s: reconnects that catch "
            "up, a slow service socket, or a blocked event loop.",
            AUDIO_BUCKETS,
            registry,
        )
        self.turns_total = counter(
            "turns_total", "Final turns. Flat while frames flow: the service hears nothing.", track=TRACKS
        )
        self.turns_revised_total = counter(
            "turns_revised_total", "Turns whose speakers the service changed afterwards.", track=TRACKS
        )
        self.turn_delay_seconds = CallHistogram(
            "turn_delay_seconds",
            "From the end of a turn's words to its event stored. Slow: the profile's turn silence, the service, or catching up.",
            TURN_BUCKETS,
            registry,
        )

        # Webhooks and their store.
        self.deliveries_total = counter(
            "deliveries_total",
            "Attempts to deliver an event, by what became of it. retried: see delivery_answers_total; gone: the endpoint said 410 "
            "and is disabled; dead_lettered: three days were not enough.",
            outcome=DELIVERY_OUTCOMES,
        )
        self.delivery_answers_total = counter(
            "delivery_answers_total",
            "The same attempts by their answer. failed, timeout, unreachable, throttled: the endpoint; refused: it dislikes our "
            "signature or our events; insecure or blocked: its address.",
            answer=OUTCOMES,
        )
        self.delivery_first_attempt_seconds = histogram(
            "delivery_first_attempt_seconds",
            "From an event's storing to its first attempt, where nothing of its call was before it: our own part of the delay.",
            FIRST_ATTEMPT_BUCKETS,
        )
        self.delivery_seconds = CallHistogram(
            "delivery_seconds",
            "From an event's storing to its endpoint's 2xx. Slow: the endpoint; an early event of a call holds the later ones.",
            DELIVERY_BUCKETS,
            registry,
        )
        self.store_commit_seconds = histogram(
            "store_commit_seconds", "One commit of the store, with its sync to disk. Slow: the disk.", COMMIT_BUCKETS
        )

        # The process.
        self.event_loop_lag_seconds = histogram(
            "event_loop_lag_seconds",
            "How late the event loop wakes. p99 above 0.1 s: too many calls for this core, or something blocks.",
            LAG_BUCKETS,
        )
        registry.register(self)
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)

    def attach(self, truth: Truth) -> None:
        """Read the gauges from *truth* from now on; without one they are zero."""
        self._truth = truth

    def session_ended(
        self,
        *,
        model: str,
        reason: str,
        duration_seconds: float,
        billed_seconds: float,
        spoken_seconds: float,
        cost_usd_by_item: Mapping[str, float],
        call_id: str,
    ) -> None:
        """Count a session's whole account: how it ended, how long it was, what it cost and what of that was wasted."""
        cost_usd = math.fsum(cost_usd_by_item.values())
        spoken_seconds = min(max(spoken_seconds, 0.0), billed_seconds)
        waste_seconds = billed_seconds - spoken_seconds
        self.sessions_ended_total.labels(reason).inc()
        self.session_duration_seconds.observe(duration_seconds, call_id)
        self.session_billed_seconds_total.labels(model).inc(billed_seconds)
        self.session_spoken_seconds_total.labels(model).inc(spoken_seconds)
        self.session_waste_seconds_total.labels(model).inc(waste_seconds)
        self.session_cost_usd_total.labels(model).inc(cost_usd)
        self.session_waste_usd_total.labels(model).inc(
            cost_usd * waste_seconds / billed_seconds if billed_seconds else 0.0
        )
        for item, usd in cost_usd_by_item.items():
            self.session_cost_item_usd_total.labels(item).inc(usd)

    def attempted(self, attempt: Attempt) -> None:
        """Count one attempt of a delivery: what became of it, its answer, and its delays."""
        self.deliveries_total.labels(attempt.label).inc()
        self.delivery_answers_total.labels(attempt.outcome.kind).inc()
        if attempt.first_delay_seconds is not None:
            self.delivery_first_attempt_seconds.observe(attempt.first_delay_seconds)
        if attempt.delivered_seconds is not None:
            self.delivery_seconds.observe(attempt.delivered_seconds, attempt.delivery.event.call_id)

    def perished(self, outcome: Outcome) -> None:
        """Count the answer to a partial turn: it is sent once, so nothing becomes of it."""
        self.delivery_answers_total.labels(outcome.kind).inc()

    def flush(self) -> None:
        """Fold what was counted locally, and look at the truth. Called once a second, on the loop."""
        self.audio_delay_seconds.fold()
        if self._truth is not None:
            self._snapshot = Snapshot.of(self._truth)
        if not self._snapshot.draining:
            self._drain_deadline = 0.0
        elif not self._drain_deadline:
            self._drain_deadline = time.time() + self._drain_seconds

    async def render(self, accept: str | None) -> tuple[bytes, str]:
        """The exposition and its content type, in what *accept* asks for; the text is made off the loop."""
        self.flush()
        encode, content_type = choose_encoder(accept or "")
        return await asyncio.to_thread(encode, self.registry), content_type

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges, from the last look at the truth."""
        now = self._snapshot
        gauges: Sequence[tuple[str, str, float]] = (
            ("calls_active", "Calls now. Against process CPU: how full this process is.", now.calls_active),
            ("legs_active", "Parties being transcribed now; at most two a call.", now.legs_active),
            (
                "zombie_sessions",
                "Sessions now that were not confirmed closed or that nobody owns: perhaps open, perhaps billed.",
                now.zombie_sessions,
            ),
            (
                "oldest_session_seconds",
                "Age of the oldest open session. The service ends one at 3 h; older: its end was missed.",
                now.oldest_session_seconds,
            ),
            (
                "admission_waiting",
                "Sessions waiting for the account's session rate. Their audio waits.",
                now.admission_waiting,
            ),
            (
                "circuit_open",
                "1 while no session is tried because the service refuses key or account.",
                float(now.circuit_open),
            ),
            ("outbox_events", "Events owed to endpoints. Growing: see deliveries_total.", now.outbox_events),
            (
                "outbox_oldest_seconds",
                "Age of the oldest event owed. Growing: one endpoint fails, or one call's first event is stuck.",
                now.outbox_oldest_seconds,
            ),
            ("dead_letters", "Events given up and kept for replay (`gateway deliveries`).", now.dead_letters),
            ("endpoints_disabled", "Endpoints that said 410 and wait for `deliveries enable`.", now.endpoints_disabled),
            (
                "store_healthy",
                "1 while the store can be written. 0: disk full, read-only or gone.",
                float(now.store_healthy),
            ),
            ("draining", "1 from SIGTERM on: new streams are refused, calls end by themselves.", float(now.draining)),
            (
                "drain_deadline_timestamp_seconds",
                "Unix time by which a drain must be over; 0 while not draining.",
                self._drain_deadline,
            ),
            (
                "spend_today_usd",
                "US dollars by the rate card since midnight UTC, open sessions included.",
                now.spend_today_usd,
            ),
        )
        for name, help_, value in gauges:
            yield GaugeMetricFamily(f"{PREFIX}_{name}", help_, value=value)
        if self._budget_usd_per_day is not None:
            yield GaugeMetricFamily(
                f"{PREFIX}_budget_usd_per_day", "US dollars a day that were planned.", value=self._budget_usd_per_day
            )
        sessions = GaugeMetricFamily(
            f"{PREFIX}_sessions_open",
            "Sessions open at the service now. Above legs_active for minutes: a leak.",
            labels=["track"],
        )
        for track in TRACKS:
            sessions.add_metric([track], now.sessions_open.get(track, 0))
        yield sessions
        build = GaugeMetricFamily(f"{PREFIX}_build_info", "Always 1; what runs here.", labels=["version", "python"])
        build.add_metric([_version(), platform.python_version()], 1)
        yield build


def _version() -> str:
    try:
        return version("telephony-transcription-gateway")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"
