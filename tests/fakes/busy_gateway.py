"""A gateway's `/metrics` without the gateway: the real `Metrics`, moved as a busy day with troubles would move them."""

import asyncio
import math
import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from aiohttp import web

from gateway.call import TRACKS
from gateway.cost import Rates
from gateway.metrics import GAP_REASONS, ZOMBIE_REASONS, Metrics

MODEL = "universal-3-5-pro"
PARAMS = {"speech_model": MODEL, "speaker_labels": True, "voice_focus": "far-field"}


class BusyDay:
    """Calls come and go, some in trouble; `step` lets time pass. It is its own truth."""

    def __init__(self, seed: int = 1) -> None:
        self.metrics = Metrics(budget_usd_per_day=40)
        self.metrics.attach(self)
        self.chance = random.Random(seed)
        self.now = 0.0
        self.calls: dict[str, float] = {}
        """Call id → when it began."""
        self.zombies: list[float] = []
        self.owed = 0.0
        self.owed_age = 0.0
        self.spent = 0.0
        self.dead = 0
        self.numbers = iter(range(10**9))

    def step(self, seconds: float = 15.0) -> None:
        """Let so many seconds pass: now and then a call begins, and each call does what calls do."""
        chance, metrics = self.chance, self.metrics
        self.now += seconds
        trouble = math.sin(self.now / 1200) > 0.9
        wanted = 14 + 8 * math.sin(self.now / 2400)
        while len(self.calls) < wanted:
            self.calls[f"CA{next(self.numbers):032x}"] = self.now
            metrics.handshakes_total.labels(self.carrier(), "accepted").inc()
            for _ in TRACKS:
                metrics.session_connect_seconds.observe(chance.lognormvariate(-1.2, 0.4))
        for call_id, began in list(self.calls.items()):
            self.talk(call_id, seconds, trouble=trouble)
            if chance.random() < seconds / 360 and self.now > began:
                self.end(call_id)
        self.zombies = [since for since in self.zombies if self.now - since < 400]
        failing = trouble and chance.random() < 0.8
        for call_id in [*self.calls][:12]:
            if failing:
                outcome, answer = "retried", chance.choice(["failed", "timeout", "unreachable"])
                self.owed += 1
            else:
                outcome, answer = "delivered", "accepted"
                metrics.delivery_first_attempt_seconds.observe(chance.lognormvariate(-5, 0.6))
                metrics.delivery_seconds.observe(chance.lognormvariate(-2, 0.8) + self.owed_age, call_id)
            metrics.deliveries_total.labels(outcome).inc()
            metrics.delivery_answers_total.labels(answer).inc()
            metrics.store_commit_seconds.observe(chance.lognormvariate(-5.8, 0.5))
        self.owed_age = self.owed_age + seconds if failing else 0.0
        self.owed = self.owed if failing else 0.0
        for _ in range(20):
            metrics.event_loop_lag_seconds.observe(chance.lognormvariate(-6.2, 0.9))
        if chance.random() < 0.05:
            self.misfortune()
        metrics.flush()

    def talk(self, call_id: str, seconds: float, *, trouble: bool) -> None:
        chance, metrics, carrier = self.chance, self.metrics, self.carrier()
        for track in TRACKS:
            metrics.frames_total.labels(carrier, track).inc(50 * seconds)
            metrics.audio_sent_seconds_total.labels(track).inc(seconds)
            delay = 2.0 if trouble and chance.random() < 0.2 else 0.0
            metrics.audio_delay_seconds.observe_many(chance.lognormvariate(-2.6, 0.3) + delay for _ in range(20))
            if chance.random() < seconds / 8:
                metrics.turns_total.labels(track).inc()
                metrics.turn_delay_seconds.observe(chance.lognormvariate(0.2, 0.4) + delay, call_id)
            if chance.random() < 0.02:
                metrics.turns_revised_total.labels(track).inc()
            if chance.random() < (0.2 if trouble else 0.005):
                metrics.frames_lost_total.labels(carrier).inc(chance.randint(1, 30))
                metrics.session_reconnects_total.labels(chance.choice(["1006", "1011", "3005"])).inc()
                metrics.service_errors_total.labels("1006").inc()
                metrics.audio_gap_seconds_total.labels(chance.choice(GAP_REASONS)).inc(chance.random() * 3)
                metrics.sessions_ended_total.labels("lost").inc()

    def end(self, call_id: str) -> None:
        began, metrics = self.calls.pop(call_id), self.metrics
        seconds = self.now - began
        metrics.calls_total.labels(
            self.carrier(), self.chance.choices(["stopped", "socket_lost", "media_timeout"], [20, 1, 1])[0]
        ).inc()
        for _ in TRACKS:
            cost = Rates().cost_by_item(seconds, PARAMS)
            self.spent += sum(cost.values())
            metrics.session_ended(
                model=MODEL,
                reason="terminated",
                duration_seconds=seconds,
                billed_seconds=seconds,
                spoken_seconds=seconds * self.chance.uniform(0.2, 0.7),
                cost_usd_by_item=cost,
                call_id=call_id,
            )

    def misfortune(self) -> None:
        """What should not happen, once each."""
        metrics, reason = self.metrics, self.chance.choice(ZOMBIE_REASONS)
        self.zombies.append(self.now)
        metrics.zombies_total.labels(reason).inc()
        metrics.zombie_leak_seconds_total.labels(reason).inc(60)
        metrics.zombie_leak_usd_total.labels(reason).inc(0.011)
        metrics.calls_total.labels("twilio", "gateway_lost").inc()
        metrics.handshakes_total.labels("telnyx", "bad_token").inc()
        metrics.legs_refused_total.labels("quota").inc()
        metrics.malformed_total.labels("telnyx").inc()
        metrics.ignored_total.labels("twilio", "mark").inc()
        metrics.deliveries_total.labels("dead_lettered").inc()
        self.dead += 1

    def carrier(self) -> str:
        return self.chance.choices(["twilio", "telnyx", "signalwire"], [6, 3, 1])[0]

    def calls_active(self) -> int:
        return len(self.calls)

    def legs_active(self) -> int:
        return 2 * len(self.calls)

    def sessions_open(self) -> Mapping[str, int]:
        return {track: len(self.calls) for track in TRACKS}

    def zombie_sessions(self) -> int:
        return len(self.zombies)

    def oldest_session_seconds(self) -> float:
        return max((self.now - began for began in self.calls.values()), default=0.0)

    def outbox_events(self) -> int:
        return round(self.owed)

    def outbox_oldest_seconds(self) -> float:
        return self.owed_age

    def dead_letters(self) -> int:
        return self.dead

    def endpoints_disabled(self) -> int:
        return 0

    def draining(self) -> bool:
        return False

    def circuit_open(self) -> bool:
        return False

    def store_healthy(self) -> bool:
        return True

    def admission_waiting(self) -> int:
        return self.chance.choice([0, 0, 0, 2])

    def spend_today_usd(self) -> float:
        return self.spent


@contextmanager
def serving() -> Iterator[str]:
    """A busy day's `/metrics` on this machine, as `host:port`: fifteen seconds pass at each scrape."""
    day = BusyDay()
    while day.dead == 0:  # a counter that was born with its trouble shows no increase: have it happen before and after
        day.step()

    async def metrics(request: web.Request) -> web.Response:
        day.step()
        day.misfortune()
        body, content_type = await day.metrics.render(request.headers.get("Accept"))
        return web.Response(body=body, headers={"Content-Type": content_type})

    loop = asyncio.new_event_loop()
    started = threading.Event()
    stop = asyncio.Event()
    address: list[str] = []

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/metrics", metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address.append("{}:{}".format(*runner.addresses[0][:2]))
        started.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    try:
        if not started.wait(10):
            raise TimeoutError("the endpoint did not start")
        yield address[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def history(end: float, steps: int, seconds: float = 15.0) -> Iterator[str]:
    """The lines of an OpenMetrics text of a day that ends at *end*: what that many scrapes would have seen."""
    day = BusyDay()
    samples: dict[str, list[str]] = {}
    cpu = 0.0
    for n in range(steps):
        day.step(seconds)
        cpu += (
            0.012 * day.legs_active() * seconds
        )  # this process works through the day in seconds: its own figures say nothing
        made_up = {"process_start_time_seconds": end - steps * seconds, "process_cpu_seconds_total": cpu}
        at = end - (steps - 1 - n) * seconds
        for family in day.metrics.registry.collect():
            kind = "unknown" if family.type == "untyped" else family.type
            lines = samples.setdefault(f"# TYPE {family.name} {kind}", [])
            for sample in family.samples:
                labels = {**sample.labels, "job": "gateway", "instance": "gateway:8081"}
                inside = ",".join(f'{name}="{value}"' for name, value in labels.items())
                lines.append(f"{sample.name}{{{inside}}} {made_up.get(sample.name, sample.value)} {at:.3f}")
    for head, lines in samples.items():
        yield head
        yield from lines
    yield "# EOF"
