"""
Deliveries: claim, send, settle; lanes in parallel, one request in flight within each.

    stored head ──────────┐                     ┌─ settle ──▶ the lane's next head
    claim (what is due) ──┼──▶ lane: attempt ───┼─ defer ───▶ due later
    probe (breaker open) ─┘                     └─ bury ────▶ dead letter; the lane's next head

An event that becomes its lane's head by being stored is handed over as it is committed and is not read again; all else is
claimed from the store when it is due. Beside the lanes go perishables: the latest of each leg, sent once, while the call
has nothing else in flight.
"""

import asyncio
import math
import random
import uuid
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self

import msgspec
import structlog
from yarl import URL

from gateway.delivery import (
    Attempt,
    Clock,
    Delivery,
    EndpointState,
    Observer,
    Outcome,
    Replayed,
    Selection,
    Verdict,
)
from gateway.errors import StoreFault
from gateway.outbox.clock import steady_clock
from gateway.outbox.port import Outbox
from gateway.webhooks.breaker import Breaker
from gateway.webhooks.retry import asked_pause, judge

_log = structlog.get_logger()

IN_FLIGHT: Final = 400
"""Requests at once."""
IN_FLIGHT_A_HOST: Final = 100
TURN_OF_A_LANE: Final = 16
"""Deliveries in a row before a lane lets others go first, where others wait."""
PERISHABLE_SECONDS: Final = 3.0
"""An attempt's time for a perishable: its call's next event waits behind it."""
PERISHABLE_CALLS: Final = 4096
"""Calls with a perishable waiting; beyond them the oldest is dropped."""
UNREADABLE_SECONDS: Final = 1.0
"""Before a store that cannot be read is asked again."""

Lane = tuple[str, str]


class Sending(Protocol):
    """What makes attempts: `gateway.webhooks.sender.Sender`."""

    async def send(self, endpoint: str, webhook_id: str, body: bytes, *, seconds: float | None = None) -> Outcome:
        """Make one attempt; every ending is an outcome."""


class _Perishable(msgspec.Struct, frozen=True):
    turn_key: str
    body: bytes


class _Endpoint:
    """An endpoint, and when to look at its lanes."""

    def __init__(self, state: EndpointState) -> None:
        self.url = state.url
        self.host = _host(state.url)
        self.breaker = Breaker(state)
        self.disabled_at = state.disabled_at
        self.next_due = 0.0
        """Epoch seconds at which a lane that nobody works on may be due in the store."""
        self.probing = False
        self.probed = -1
        """Position of the head probed last."""

    def state(self) -> EndpointState:
        """Give what is kept over a restart."""
        return self.breaker.state(self.url, self.disabled_at)

    @property
    def serving(self) -> bool:
        """Whether any lane may go."""
        return self.disabled_at is None and not self.breaker.open


class _Work:
    """One lane being worked on."""

    def __init__(self, task: asyncio.Task[None] | None = None) -> None:
        self.task = task
        self.fresh: Delivery | None = None
        """A head that was stored as the lane came to its end."""


class Deliveries:
    """The one runner of all deliveries, from `async with` on."""

    def __init__(
        self,
        outbox: Outbox,
        sender: Sending,
        *,
        observe: Observer | None = None,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
        in_flight: int = IN_FLIGHT,
        in_flight_a_host: int = IN_FLIGHT_A_HOST,
    ) -> None:
        self._outbox = outbox
        self._sender = sender
        self._observe = observe
        self._clock = clock or steady_clock()
        self._chance = chance
        self._limit = in_flight
        self._limit_a_host = in_flight_a_host
        self._endpoints: dict[str, _Endpoint] = {}
        self._working: dict[Lane, _Work] = {}
        self._hosts: Counter[str] = Counter()
        self._perishables: dict[Lane, dict[str, _Perishable]] = {}
        self._perishing: dict[Lane, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._rested = asyncio.Event()
        self._claiming = 0
        self._resting = 0
        self._stopping = False

    async def __aenter__(self) -> Self:
        early: list[Delivery] = []
        self._outbox.listen(
            early.extend
        )  # before the endpoints are read, so that nothing is stored between them unseen
        for state in await self._outbox.endpoints():
            self._endpoints[state.url] = _Endpoint(state)
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._outbox.listen(self._arrived)
        self._arrived(early)
        self._dispatcher = self._group.create_task(self._dispatch(), name="deliveries")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        self._outbox.listen(lambda _heads: None)
        self._dispatcher.cancel()
        for work in list(self._working.values()):
            if work.task is not None:
                work.task.cancel()
        for perishing in list(self._perishing.values()):
            perishing.cancel()
        await self._group.__aexit__(None, None, None)

    async def drain(self, seconds: float) -> None:
        """
        Go on until nothing is due or in flight, for at most `seconds`; then start nothing more.

        What waits for its pause stays owed, and so does what was not answered in time: it is sent again after the next start.
        """
        try:
            async with asyncio.timeout(seconds):
                await self.rest()
        except TimeoutError:
            pass
        finally:
            self._stopping = True

    async def rest(self) -> None:
        """Wait until nothing is in flight, and nothing due."""
        self._resting += 1
        try:
            while not self._idle():
                self._rested.clear()
                await self._rested.wait()
        finally:
            self._resting -= 1

    async def enable(self, url: str) -> bool:
        """Send to a disabled endpoint again, and to a failing one at once; False where no such endpoint is known."""
        endpoint = self._endpoints.get(url)
        if endpoint is None:
            return False
        endpoint.disabled_at = None
        endpoint.breaker = Breaker(EndpointState(url))
        await self._keep(endpoint, release=True)
        self.look()
        return True

    async def replay(self, selection: Selection) -> Replayed:
        """Owe dead letters again, and let waiting lanes go at once."""
        replayed = await self._outbox.replay(selection)
        self.look()
        return replayed

    def look(self) -> None:
        """Look at every lane: the store was changed by hand."""
        for endpoint in self._endpoints.values():
            endpoint.next_due = 0.0
        self._wake.set()

    def disabled(self) -> int:
        """Count the endpoints that said 410 and wait to be enabled."""
        return sum(endpoint.disabled_at is not None for endpoint in self._endpoints.values())

    # Perishables

    def perish(self, call_id: str, endpoint: str, leg_key: str, turn_key: str, body: bytes) -> None:
        """
        Send `body` once, if the call's order leaves room before the leg's next one replaces it.

        Never stored, never retried; only while the call has nothing in flight at a working endpoint.
        """
        lane = (endpoint, call_id)
        legs = self._perishables.pop(lane, None)
        if legs is None:
            legs = {}
            while len(self._perishables) >= PERISHABLE_CALLS:
                del self._perishables[next(iter(self._perishables))]
        legs[leg_key] = _Perishable(turn_key, body)
        self._perishables[lane] = legs
        self._send_perishables(lane)

    def drop_perishable(self, call_id: str, leg_key: str, turn_key: str | None = None) -> None:
        """Drop what waits of a leg (of one turn of it): its final is about to be put, and is never followed by a partial of it."""
        for lane in [lane for lane in ((url, call_id) for url in self._endpoints) if lane in self._perishables]:
            legs = self._perishables[lane]
            waiting = legs.get(leg_key)
            if waiting is not None and turn_key in {None, waiting.turn_key}:
                del legs[leg_key]
                if not legs:
                    del self._perishables[lane]

    def _send_perishables(self, lane: Lane) -> None:
        endpoint = self._endpoint(lane[0])
        if self._stopping or not endpoint.serving:
            self._perishables.pop(lane, None)
        elif (
            lane in self._perishables
            and lane not in self._working
            and lane not in self._perishing
            and self._free(endpoint) > 0
        ):
            self._hosts[endpoint.host] += 1
            task = self._group.create_task(self._perish(lane), name=f"perishables {lane[1]}")
            task.add_done_callback(lambda _task: self._perished(endpoint, lane))
            self._perishing[lane] = task

    async def _perish(self, lane: Lane) -> None:
        endpoint = self._endpoint(lane[0])
        while lane not in self._working and endpoint.serving and (legs := self._perishables.get(lane)):
            perishable = legs.pop(next(iter(legs)))
            if not legs:
                del self._perishables[lane]
            outcome = await self._sender.send(lane[0], _new_id(), perishable.body, seconds=PERISHABLE_SECONDS)
            if self._observe is not None:
                self._observe.perished(outcome)

    def _perished(self, endpoint: _Endpoint, lane: Lane) -> None:
        del self._perishing[lane]
        self._release(endpoint)
        self._send_perishables(lane)

    # What to work on

    def _arrived(self, heads: list[Delivery]) -> None:
        """Take events that became heads by being stored: at once where there is room, else they are claimed later."""
        if self._resting:
            self._wake.set()
        for head in heads:
            endpoint = self._endpoint(head.event.endpoint)
            work = self._working.get(head.lane)
            if work is not None:
                work.fresh = head
            elif endpoint.serving and self._free(endpoint) > 0 and not self._stopping:
                self._start(endpoint, head)
            else:
                endpoint.next_due = min(endpoint.next_due, head.stored_at)
                self._wake.set()

    async def _dispatch(self) -> None:
        while True:
            self._wake.clear()
            next_look = math.inf
            for endpoint in list(self._endpoints.values()):
                try:
                    next_look = min(next_look, await self._serve(endpoint))
                except StoreFault as fault:
                    _log.warning("the store cannot be read", fault=str(fault))
                    next_look = min(next_look, self._clock() + UNREADABLE_SECONDS)
            if self._idle():
                self._rested.set()
            pause = next_look - self._clock()
            if pause <= 0:
                await asyncio.sleep(0)
                continue
            try:
                async with asyncio.timeout(None if pause == math.inf else pause):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _serve(self, endpoint: _Endpoint) -> float:
        """Start what may be started at an endpoint; gives when to look again, unless woken."""
        if self._stopping or endpoint.disabled_at is not None:
            return math.inf
        now = self._clock()
        free = self._free(endpoint)
        if endpoint.breaker.open:
            if endpoint.probing or free <= 0:
                return math.inf
            if now < endpoint.breaker.probe_at:
                return endpoint.breaker.probe_at
            return await self._probe(endpoint, now)
        if now < endpoint.next_due:
            return endpoint.next_due
        if free <= 0:
            return math.inf
        # Whatever comes while the store is asked sets this anew, to a time that is not lost.
        endpoint.next_due = math.inf
        busy = [lane for lane in self._working if lane[0] == endpoint.url]
        self._claiming += 1
        try:
            claim = await self._outbox.claim(endpoint.url, now, free, busy)
        except StoreFault:
            endpoint.next_due = now
            raise
        finally:
            self._claiming -= 1
        endpoint.next_due = min(endpoint.next_due, claim.next_due)
        for delivery in claim.deliveries:
            if delivery.lane in self._working:
                continue
            if not endpoint.serving or self._free(endpoint) <= 0 or self._stopping:
                endpoint.next_due = now
                break
            self._start(endpoint, delivery)
        if self._free(endpoint) <= 0:
            return math.inf  # the next that ends wakes us
        return endpoint.next_due

    async def _probe(self, endpoint: _Endpoint, now: float) -> float:
        """Let one waiting lane probe an endpoint that fails for everyone."""
        after = endpoint.probed if endpoint.breaker.rotate() else endpoint.probed - 1
        busy = [lane for lane in self._working if lane[0] == endpoint.url]
        self._claiming += 1
        try:
            head = await self._outbox.probe(endpoint.url, now, after, busy, untried=endpoint.breaker.doubtful)
        finally:
            self._claiming -= 1
        if head is None:
            endpoint.breaker.postpone(now + UNREADABLE_SECONDS)
            return endpoint.breaker.probe_at
        if (
            endpoint.breaker.open
            and endpoint.disabled_at is None
            and not self._stopping
            and head.lane not in self._working
        ):
            endpoint.probed = head.position
            endpoint.probing = True
            self._start(endpoint, head, probe=True)
            return math.inf
        return 0.0

    def _start(self, endpoint: _Endpoint, delivery: Delivery, *, probe: bool = False) -> None:
        self._hosts[endpoint.host] += 1
        work = self._working[delivery.lane] = _Work()
        work.task = self._group.create_task(
            self._work(endpoint, delivery, work, probe=probe), name=f"lane {delivery.event.call_id}"
        )
        # A group's task may be cancelled before its first step: what it holds is let go here, not there.
        work.task.add_done_callback(lambda _task: self._ended(endpoint, delivery.lane, work, probe=probe))

    def _ended(self, endpoint: _Endpoint, lane: Lane, work: _Work, *, probe: bool) -> None:
        del self._working[lane]
        self._release(endpoint)
        if probe:
            endpoint.probing = False
        if work.fresh is not None and not self._stopping:
            self._arrived([work.fresh])
        if lane in self._perishables:
            self._send_perishables(lane)

    # One lane

    async def _work(self, endpoint: _Endpoint, delivery: Delivery, work: _Work, *, probe: bool) -> None:
        """Deliver a lane's events in order, until none is left, one has to wait, or the endpoint does."""
        head: Delivery | None = delivery
        done = 0
        while head is not None:
            try:
                head = await self._deliver(endpoint, head, probe=probe)
            except StoreFault as fault:
                _log.warning("the store cannot be read", fault=str(fault))
                endpoint.next_due = min(endpoint.next_due, self._clock() + UNREADABLE_SECONDS)
                return
            done += 1
            if head is None and work.fresh is not None:
                head, work.fresh = work.fresh, None
            if head is None:
                return
            others = endpoint.next_due <= self._clock() and done >= TURN_OF_A_LANE
            if self._stopping or others or not endpoint.serving:
                endpoint.next_due = min(endpoint.next_due, self._clock())
                return

    async def _deliver(self, endpoint: _Endpoint, delivery: Delivery, *, probe: bool) -> Delivery | None:
        """Make one attempt and store what follows; gives the lane's next head, None where none may go now."""
        event = delivery.event
        if (perishing := self._perishing.get(delivery.lane)) is not None:
            await asyncio.wait((perishing,))  # "one request in flight a call"
        begun = self._clock()
        outcome = await self._sender.send(event.endpoint, event.id, event.body)
        now = self._clock()
        verdict = judge(
            attempts=delivery.attempts + 1,
            first_failure_at=delivery.first_failure_at,
            stored_at=delivery.stored_at,
            outcome=outcome,
            now=now,
            chance=self._chance(),
        )
        self._told(
            Attempt(
                delivery,
                outcome,
                verdict,
                begun - delivery.stored_at if delivery.fresh and delivery.attempts == 0 else None,
                now - delivery.stored_at if verdict.action == "settle" else None,
            )
        )
        self._learn(endpoint, delivery, outcome, verdict, now, probe=probe)
        match verdict.action:
            case "settle":
                following = await self._outbox.settle(delivery)
            case "bury":
                following = await self._outbox.bury(delivery, outcome)
            case "disable":
                following = await self._outbox.defer(delivery, outcome, now, asked=False, failed_at=now)
            case "retry":
                due_at = now + verdict.pause
                following = await self._outbox.defer(delivery, outcome, due_at, asked=verdict.asked, failed_at=now)
                if following is None:
                    # Read after the breaker may have closed and made all due, this lane included.
                    endpoint.next_due = min(endpoint.next_due, due_at)
        if following is None and verdict.action in {"settle", "bury"}:
            endpoint.breaker.forget(delivery.lane)
        return following

    def _learn(
        self, endpoint: _Endpoint, delivery: Delivery, outcome: Outcome, verdict: Verdict, now: float, *, probe: bool
    ) -> None:
        """Take what an attempt says about its endpoint."""
        breaker = endpoint.breaker
        if verdict.action == "settle":
            if breaker.succeeded(delivery.lane):
                _log.info("endpoint works again", endpoint=endpoint.host)
                endpoint.next_due = 0.0
                self._keep(endpoint, release=True).add_done_callback(lambda _kept: self._due_now(endpoint))
            return
        if verdict.action == "disable":
            if endpoint.disabled_at is None:
                endpoint.disabled_at = now
                _log.error("endpoint disabled: it answered 410", endpoint=endpoint.host)
                self._keep(endpoint, release=False)
            return
        if verdict.action == "retry" and outcome.stale and verdict.pause == 0:
            return
        asked, refused = asked_pause(outcome), outcome.kind == "refused"
        if probe:
            breaker.probe_failed(
                delivery.lane, now, self._chance(), asked, refused=refused, buried=verdict.action == "bury"
            )
            self._keep(endpoint, release=False)
        elif breaker.failed(delivery.lane, now, self._chance(), asked, refused=refused):
            _log.warning(
                "endpoint fails for everyone", endpoint=endpoint.host, outcome=outcome.kind, status=outcome.status
            )
            self._keep(endpoint, release=False)

    def _told(self, attempt: Attempt) -> None:
        if self._observe is not None:
            self._observe.attempted(attempt)
        if attempt.verdict.action == "retry":
            report = _log.debug
        elif attempt.verdict.action == "settle":
            report = _log.info
        else:
            report = _log.error
        event = attempt.delivery.event
        report(
            "delivery",
            webhook_id=event.id,
            call_id=event.call_id,
            type=event.type,
            sequence=event.sequence,
            host=_host(event.endpoint),
            outcome=attempt.outcome.kind,
            status=attempt.outcome.status,
            became=attempt.label,
            attempts=attempt.delivery.attempts + 1,
            attempt_seconds=round(attempt.outcome.seconds, 4),
            delivered_seconds=None if attempt.delivered_seconds is None else round(attempt.delivered_seconds, 4),
            pause_seconds=round(attempt.verdict.pause, 3) if attempt.verdict.action == "retry" else None,
        )

    # Pieces

    def _endpoint(self, url: str) -> _Endpoint:
        endpoint = self._endpoints.get(url)
        if endpoint is None:
            endpoint = self._endpoints[url] = _Endpoint(EndpointState(url))
            endpoint.next_due = math.inf
        return endpoint

    def _free(self, endpoint: _Endpoint) -> int:
        in_flight = len(self._working) + len(self._perishing)
        return min(self._limit - in_flight, self._limit_a_host - self._hosts[endpoint.host])

    def _release(self, endpoint: _Endpoint) -> None:
        self._hosts[endpoint.host] -= 1
        if not self._hosts[endpoint.host]:
            del self._hosts[endpoint.host]
        self._wake.set()

    def _keep(self, endpoint: _Endpoint, *, release: bool) -> asyncio.Future[None]:
        return self._outbox.keep_endpoint(endpoint.state(), release=release)

    def _due_now(self, endpoint: _Endpoint) -> None:
        endpoint.next_due = 0.0
        self._wake.set()

    def _idle(self) -> bool:
        """Whether nothing is in flight and nothing is due now."""
        if self._working or self._perishing or self._claiming or self._outbox.waiting():
            return False
        now = self._clock()
        return not any(
            endpoint.disabled_at is None
            and (endpoint.breaker.probe_at if endpoint.breaker.open else endpoint.next_due) <= now
            for endpoint in self._endpoints.values()
        )


def _host(url: str) -> str:
    """The part of an endpoint that connections and log lines know; the rest of a URL may hold secrets."""
    try:
        parsed = URL(url)
    except ValueError:
        return "?"
    return f"{parsed.scheme}://{parsed.host}:{parsed.port}"


def _new_id() -> str:
    return f"msg_{uuid.uuid4().hex}"
