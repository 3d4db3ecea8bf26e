"""
Figures of a gateway, read from its `/metrics` before, during and after a run. Pure, but for `scrape`.

Quantiles are interpolated within the buckets of its histograms, so they are as fine as those are.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families

AUDIO_DELAY: Final = "gateway_audio_delay_seconds"
TURN_DELAY: Final = "gateway_turn_delay_seconds"
CPU: Final = "process_cpu_seconds_total"
MEMORY: Final = "process_resident_memory_bytes"
LEGS: Final = "gateway_legs_active"

_SCRAPE_SECONDS: Final = 5.0
_EVERY_SECONDS: Final = 2.0

Buckets = Mapping[float, float]
"""Upper bound → how many observations were not above it."""


@dataclass(frozen=True)
class Scrape:
    """What one look at `/metrics` showed, as far as it is of use here."""

    values: Mapping[str, float] = field(default_factory=dict)
    """Sums over all labels, by name."""
    buckets: Mapping[str, Buckets] = field(default_factory=dict)


def parse(text: str) -> Scrape:
    """
    Read Prometheus text.

    Raises:
        ValueError: It is none.
    """
    values: dict[str, float] = {}
    buckets: dict[str, dict[float, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.endswith("_bucket") and "le" in sample.labels:
                of = buckets.setdefault(family.name, {})
                bound = float(sample.labels["le"])
                of[bound] = of.get(bound, 0.0) + sample.value
            else:
                values[sample.name] = values.get(sample.name, 0.0) + sample.value
    return Scrape(values, buckets)


def between(before: Buckets, after: Buckets) -> dict[float, float]:
    """The observations made from one look to the other."""
    return {bound: count - before.get(bound, 0.0) for bound, count in after.items()}


def quantile(buckets: Buckets, share: float) -> float | None:
    """The value that *share* of the observations do not exceed; None of none, infinite beyond the last finite bound."""
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    wanted = share * total
    low, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted:
            if math.isinf(bound) or buckets[bound] == below:
                return bound
            return low + (bound - low) * (wanted - below) / (buckets[bound] - below)
        low, below = bound, buckets[bound]
    return math.inf


class Delay(msgspec.Struct, frozen=True):
    """A delay's quantiles in milliseconds, and of how many observations."""

    count: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a run cost the gateway."""

    audio_delay: Delay
    turn_delay: Delay
    leg_seconds: float
    """As the gateway's own gauge of legs showed, summed over the time of the run."""
    cpu_ms_per_leg_second: float | None
    memory_kb_per_leg: float | None
    """Of the resident memory, what the run added at its fullest, by leg."""


class Looks:
    """Successive looks at one gateway during a run."""

    def __init__(self) -> None:
        self._first: tuple[float, Scrape] | None = None
        self._last: tuple[float, Scrape] | None = None
        self._leg_seconds = 0.0
        self._most_legs = 0.0
        self._memory_then = 0.0

    def take(self, at: float, scrape: Scrape) -> None:
        """Take a look made at a time, in seconds of any clock."""
        legs = scrape.values.get(LEGS, 0.0)
        if self._first is None:
            self._first = (at, scrape)
        if self._last is not None:
            before, last = self._last
            self._leg_seconds += (at - before) * (legs + last.values.get(LEGS, 0.0)) / 2
        if legs >= self._most_legs:
            self._most_legs = legs
            self._memory_then = max(self._memory_then, scrape.values.get(MEMORY, 0.0))
        self._last = (at, scrape)

    def figures(self) -> Figures | None:
        """What they show together; None of fewer than two."""
        if self._first is None or self._last is None or self._first[0] == self._last[0]:
            return None
        first, last = self._first[1], self._last[1]
        cpu = last.values.get(CPU, 0.0) - first.values.get(CPU, 0.0)
        memory = self._memory_then - first.values.get(MEMORY, 0.0)
        return Figures(
            audio_delay=_delay(first, last, AUDIO_DELAY),
            turn_delay=_delay(first, last, TURN_DELAY),
            leg_seconds=round(self._leg_seconds, 1),
            cpu_ms_per_leg_second=1000 * cpu / self._leg_seconds if self._leg_seconds else None,
            memory_kb_per_leg=memory / 1024 / self._most_legs if self._most_legs and MEMORY in last.values else None,
        )


def _delay(first: Scrape, last: Scrape, name: str) -> Delay:
    seen = between(first.buckets.get(name, {}), last.buckets.get(name, {}))
    p50, p95, p99 = (_ms(quantile(seen, share)) for share in (0.5, 0.95, 0.99))
    return Delay(int(max(seen.values(), default=0)), p50, p95, p99)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


async def scrape(http: aiohttp.ClientSession, admin: str) -> Scrape | None:
    """Look at the gateway whose admin port is at *admin* (`http://HOST:PORT`); None where there is nothing to see."""
    try:
        timeout = aiohttp.ClientTimeout(total=_SCRAPE_SECONDS)
        async with http.get(f"{admin.rstrip('/')}/metrics", timeout=timeout) as answer:
            return parse(await answer.text()) if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None


async def look(looks: Looks, http: aiohttp.ClientSession, admin: str) -> None:
    """Take a look now."""
    found = await scrape(http, admin)
    if found is not None:
        looks.take(asyncio.get_running_loop().time(), found)


async def watch(looks: Looks, http: aiohttp.ClientSession, admin: str) -> None:
    """Take a look every other second, until cancelled."""
    while True:
        await asyncio.sleep(_EVERY_SECONDS)
        await look(looks, http, admin)


def spread(values: Sequence[float], share: float) -> float | None:
    """The value that *share* of *values* do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
