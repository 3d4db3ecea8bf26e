"""
The roof: everything opened in the order in which words flow back to front, closed in the order in which they flow.

    outbox ◀ sender ◀ deliveries ◀ speech ◀ calls ◀ admin port ◀ carriers' port

SIGTERM: not ready, no new streams; calls go on to their ends; at the deadline what remains is ended as if hung up; deliveries
in hand are settled; exit 0. A second SIGTERM shortens the wait, never the termination of sessions.
"""

import asyncio
import gc
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from aiohttp import web

from gateway import looplag, systemd
from gateway.calls import Calls
from gateway.config import Settings
from gateway.cost import Rates
from gateway.http import deliveries as deliveries_http
from gateway.http import health, telnyx, twilio
from gateway.http.health import Readiness
from gateway.http.media import Doors
from gateway.livecall import House
from gateway.metrics import Metrics
from gateway.outbox.sqlite import SqliteOutbox
from gateway.speech import service as speech
from gateway.speech.service import Service
from gateway.tasks import Nursery
from gateway.webhooks.sender import Sender
from gateway.webhooks.signing import parse_secret
from gateway.webhooks.worker import Deliveries

_log = structlog.get_logger()

SWEEP_SECONDS: Final = 1.0
TAIL_SECONDS: Final = 8.0
"""At the drain's deadline a tail that was lost is tried for so long."""
SETTLE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05
_LONGEST_TOKEN_SECONDS: Final = 10_800


@dataclass(frozen=True)
class Truth:
    """What the gauges are read from: the things themselves."""

    calls: Calls
    service: Service
    outbox: SqliteOutbox
    deliveries: Deliveries
    doors: Doors

    def calls_active(self) -> int:
        return self.calls.active()

    def legs_active(self) -> int:
        return self.calls.legs()

    def sessions_open(self) -> Mapping[str, int]:
        return self.service.ledger.open()

    def zombie_sessions(self) -> int:
        return self.service.ledger.zombies()

    def oldest_session_seconds(self) -> float:
        return self.service.ledger.oldest()

    def outbox_events(self) -> int:
        return self.outbox.depth()

    def outbox_oldest_seconds(self) -> float:
        return self.outbox.oldest(time.time())

    def dead_letters(self) -> int:
        return self.outbox.dead_letters()

    def endpoints_disabled(self) -> int:
        return self.deliveries.disabled()

    def draining(self) -> bool:
        return self.doors.draining

    def circuit_open(self) -> bool:
        return self.service.admission.circuit is not None

    def store_healthy(self) -> bool:
        return self.outbox.healthy

    def admission_waiting(self) -> int:
        return self.service.admission.waiting()

    def spend_today_usd(self) -> float:
        return self.service.spent_today()

    def readiness(self) -> Readiness:
        return Readiness(
            ready=self.outbox.healthy and not self.doors.draining,
            draining=self.doors.draining,
            store=self.outbox.trouble,
            speech=self.service.admission.circuit,
        )


class Stop(Protocol):
    """When to stop."""

    again: bool
    """Asked a second time: do not wait for calls to end by themselves."""

    async def first(self) -> None:
        """Wait until asked."""


async def serve(settings: Settings, say: Callable[[str], None], stop: Stop) -> None:
    """
    Run until asked to stop, and drain. *say* prints a line on standard output.

    Raises:
        StoreLocked, StoreFault: The store cannot be used.
        OSError: A port cannot be listened on.
    """
    notifier = systemd.Notifier(os.environ)
    metrics = Metrics(budget_usd_per_day=settings.budget_usd_per_day, drain_seconds=settings.drain_seconds)
    async with AsyncExitStack() as house:
        outbox = await house.enter_async_context(
            SqliteOutbox(
                settings.store_path, keep_days=settings.keep_days, committed=metrics.store_commit_seconds.observe
            )
        )
        keys = [parse_secret(secret) for secret in settings.webhook_secrets]
        sender = await house.enter_async_context(Sender(keys, allowed=settings.webhook_allow_cidrs))
        deliveries = await house.enter_async_context(Deliveries(outbox, sender, observe=metrics))
        service = await house.enter_async_context(
            speech.opening(
                url=settings.assemblyai_url,
                api_key=settings.api_key,
                terminate_seconds=settings.terminate_seconds,
                sessions_per_minute=settings.sessions_per_minute,
                rates=Rates(settings.rates),
                metrics=metrics,
                token_cap_seconds=_token_cap(settings) if settings.session_tokens else None,
            )
        )
        nursery = await house.enter_async_context(Nursery())
        calls = Calls(settings, outbox)
        calls.house = House(
            store=outbox,
            perishables=deliveries,
            service=service,
            metrics=metrics,
            nursery=nursery,
            webhook_url=settings.webhook_url,
            webhook_events=settings.webhook_events,
            replay_seconds=settings.replay_seconds,
            reconnect_seconds=settings.reconnect_seconds,
            media_timeout_seconds=settings.media_timeout_seconds,
            max_call_seconds=settings.max_call_seconds,
            terminate_seconds=settings.terminate_seconds,
            ended=calls.ended,
        )
        calls.restore(await outbox.interrupted())
        doors = Doors(settings, calls, metrics, nursery)
        truth = Truth(calls, service, outbox, deliveries, doors)
        metrics.attach(truth)
        watch = await house.enter_async_context(Nursery())
        watching = [
            watch.start(_sweep(calls, service, metrics), name="watchdog"),
            watch.start(looplag.watch(metrics.event_loop_lag_seconds.observe), name="loop lag"),
            watch.start(_keep_alive(notifier), name="systemd watchdog"),
        ]

        def observe(carrier: str, outcome: str) -> None:
            metrics.handshakes_total.labels(carrier, outcome).inc()

        admin = await _listen(
            house,
            [
                *health.routes(metrics, truth.readiness),
                *deliveries_http.routes(outbox, deliveries, settings.api_tokens),
            ],
            settings.admin_host,
            settings.admin_port,
        )
        carriers = await _listen(
            house,
            [*doors.routes(), *twilio.routes(settings, calls, observe), *telnyx.routes(settings, calls, observe)],
            settings.host,
            settings.port,
        )
        outbox.announce(_url(admin))
        calls.listening()
        say(f"listening carriers={_url(carriers)}")
        say(f"listening admin={_url(admin)}")
        notifier.ready()
        await stop.first()
        notifier.stopping()
        doors.draining = True
        await carriers.stop()
        await _drain(calls, stop, settings, service)
        calls.close_streams()
        await deliveries.drain(SETTLE_SECONDS)
        for task in watching:
            task.cancel()
        _log.info("stopped", owed=outbox.depth())


async def _drain(calls: Calls, stop: Stop, settings: Settings, service: Service) -> None:
    """Wait for calls to end by themselves, then end them; every session is terminated either way."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings.drain_seconds
    _log.info("draining", calls=calls.active(), seconds=settings.drain_seconds)
    while calls.active() and loop.time() < deadline and not stop.again:  # noqa: ASYNC110  three things end it
        await asyncio.sleep(_POLL_SECONDS)
    if calls.active():
        _log.warning("ending calls", calls=calls.active())
        calls.end_all(TAIL_SECONDS)
    # Each session has a deadline of its own; this one is for a bug of ours, and far behind all of them.
    last = loop.time() + TAIL_SECONDS + settings.terminate_seconds + settings.replay_seconds
    while (calls.active() or any(service.ledger)) and loop.time() < last:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_SECONDS)


async def _sweep(calls: Calls, service: Service, metrics: Metrics) -> None:
    """Look once a second over the ledger and the streams; a sweep that fails is logged, the next one comes."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        for look in (service.sweep, calls.sweep, metrics.flush):
            try:
                look()
            except Exception:  # noqa: BLE001  logged, with its trace
                _log.exception("sweep failed")


async def _keep_alive(notifier: systemd.Notifier) -> None:
    while notifier.watchdog_seconds is not None:
        notifier.alive()
        await asyncio.sleep(notifier.watchdog_seconds)


async def _listen(house: AsyncExitStack, routes: list[web.RouteDef], host: str, port: int) -> web.TCPSite:
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handler_cancellation=False)
    await runner.setup()
    house.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, host, port, backlog=1024)
    await site.start()
    return site


def _url(site: web.TCPSite) -> str:
    """Where a site listens, as somebody on this machine reaches it."""
    server = site._server  # noqa: SLF001  the only way to a port that was 0
    sockets = getattr(server, "sockets", None)
    assert sockets
    host, port = sockets[0].getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _token_cap(settings: Settings) -> int:
    return max(60, min(_LONGEST_TOKEN_SECONDS, math.ceil(settings.max_call_seconds)))


class Signals:
    """SIGTERM and SIGINT: the first begins the drain, a second shortens it."""

    def __init__(self) -> None:
        self._first = asyncio.Event()
        self.again = False
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._come)

    async def first(self) -> None:
        await self._first.wait()

    def _come(self) -> None:
        self.again = self._first.is_set()
        self._first.set()


def run(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve on uvloop where it exists."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if sys.platform != "win32":
        import uvloop  # noqa: PLC0415

        factory = uvloop.new_event_loop

    async def main() -> None:
        await serve(settings, say, Signals())

    # All modules are loaded and stay: a full collection that looked through them too would stop every call for 60 ms.
    gc.collect()
    gc.freeze()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
