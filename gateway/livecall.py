"""
One call while it lives: its legs, its streams in succession, its clock, and the order of its events.

    attach ──▶ frames ──▶ detach(stop)        ──▶ end ──▶ legs heard to their end ──▶ call.ended
                 │  └───▶ detach(socket lost) ──▶ legs closed; wait for the carrier ──▶ end
                 └─ none for 30 s ──▶ end, the socket stays; frames that resume open it anew

A stream that comes back before `call.ended` was said goes on with the call; one that comes after opens it anew.
"""

import asyncio
import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import structlog

from gateway import events
from gateway.audio import g711
from gateway.call import Call, Carrier, Party, Track, Turn
from gateway.config import Profile
from gateway.delivery import Batch, CallRecord, Event, SessionRecord, TurnRecord
from gateway.events import EndReason
from gateway.leg import Leg
from gateway.metrics import Metrics
from gateway.speech.ledger import StoredSession
from gateway.speech.service import Service
from gateway.tasks import Nursery
from gateway.timeline import SAID_FROM, SAMPLES_PER_MS, StreamClock

_log = structlog.get_logger()

CALLBACK_GRACE_SECONDS: Final = 2.0
"""A carrier's webhook may overtake the audio: so long the socket is given to say its last words itself."""
_DELIVERS_SECONDS: Final = 2.0
SILENT_SECONDS: Final = 2.0
"""A stream that says nothing for so long, beside another of its call that does, is not heard any more."""


class Store(Protocol):
    """What a call needs of the outbox."""

    @property
    def healthy(self) -> bool: ...
    @property
    def has_room(self) -> bool: ...
    def put(self, batch: Batch) -> "asyncio.Future[None]": ...


class Perishables(Protocol):
    """What a call needs of the deliveries."""

    def perish(self, call_id: str, endpoint: str, leg_key: str, turn_key: str, body: bytes) -> None: ...
    def drop_perishable(self, call_id: str, leg_key: str, turn_key: str | None = None) -> None: ...


class Source(Protocol):
    """A media stream, as its call sees it."""

    stream_id: str
    carrier: Carrier
    clock: StreamClock
    heard_at: float
    """Loop seconds of its last media frame, or of its start."""

    def close(self) -> None:
        """Close its socket normally: another has taken its place."""


class Kept(msgspec.Struct, frozen=True):
    """What the store keeps of a call, so that it can go on after a crash, or be opened anew."""

    call: Call
    sequence: int
    zero_at: float | None
    """Epoch seconds at position 0."""
    parties: tuple[Party, ...]
    next_index: dict[str, int]
    opened_at: float
    """Epoch seconds: when it began, or was opened anew."""
    billed_seconds: float
    cost_usd: float


class KeptTurn(msgspec.Struct, frozen=True):
    """A final turn as the store keeps it."""

    leg: Party
    turn: Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What all calls share."""

    store: Store
    perishables: Perishables
    service: Service
    metrics: Metrics
    nursery: Nursery
    webhook_url: str
    webhook_events: frozenset[str]
    replay_seconds: float
    reconnect_seconds: float
    media_timeout_seconds: float
    max_call_seconds: float
    terminate_seconds: float
    ended: Callable[["LiveCall"], None]
    """Told when `call.ended` was said."""


class LiveCall:
    """A call, from its first stream to its `call.ended`, and anew if a stream comes back."""

    def __init__(self, house: House, info: Call, profile: Profile, encoding: g711.Encoding, kept: Kept | None) -> None:
        self.id = info.id
        self.info = info
        self.open = False
        """Between `call.started` and `call.ended`."""
        self.legs: dict[Track, Leg] = {}
        self.streams: list[Source] = []
        """Living ones, the oldest first."""
        self._house = house
        self._profile = profile
        self._endpoint = profile.webhook_url or house.webhook_url
        self._encoding = encoding
        self._loop = asyncio.get_running_loop()
        self._sequence = 0 if kept is None else kept.sequence
        self._next_index = {} if kept is None else dict(kept.next_index)
        self._zero: float | None = None
        if kept is not None and kept.zero_at is not None:
            self._zero = self._loop.time() - (time.time() - kept.zero_at)
        self._clock: StreamClock | None = None
        self._opened_at = time.time()
        self._opened = self._loop.time()
        self._billed_seconds = 0.0
        self._cost_usd = 0.0
        self._ending: EndReason | None = None
        self._over = False
        """Its end was of a kind that frames on the same socket do not undo."""
        self._end_at: tuple[float, EndReason] | None = None
        self._sources: dict[Track, Source] = {}
        self._parties: tuple[Party, ...] = ()
        self._ends = 0
        """How often its end has begun."""
        self._restored = False
        """A crash interrupted it, and no stream has come back yet."""

    @property
    def shift_ms(self) -> int:
        """An earlier frame that came late moves what is published: 0 is the first media timestamp."""
        return 0 if self._clock is None else round(self._clock.shift / SAMPLES_PER_MS)

    @property
    def has_room(self) -> bool:
        """The store takes events, or memory has room for them."""
        return self._house.store.has_room

    @property
    def ending(self) -> bool:
        """Its end has begun: nothing more is expected of its streams."""
        return self._ending is not None

    # Streams

    def attach(self, stream: Source, tracks: tuple[Track, ...], encoding: g711.Encoding) -> None:
        """A stream started: of a new call, of one that waits for it, or beside another."""
        if stream.carrier == "telnyx":
            for older in list(self.streams):  # the newer takes over
                self.streams.remove(older)
                older.close()
        newest = max((leg.head for leg in self.legs.values()), default=0)
        came_back = self.open and not self._restored and not self.streams and self._ending in {None, "socket_lost"}
        base = 0
        if self._zero is not None:
            # "a later stream of the same call is placed on it by arrival"
            base = max(
                [
                    round((self._loop.time() - self._zero) * 1000) * SAMPLES_PER_MS,
                    newest,
                ]
            )
        stream.clock.base = base
        self._encoding = encoding
        self.streams.append(stream)
        self.info = msgspec.structs.replace(self.info, stream_id=self.streams[0].stream_id)
        self._go_on()
        if came_back and base - newest >= SAID_FROM:
            for leg in self.legs.values():  # what was spoken between the two streams reached nobody
                leg.gap(newest, base, "carrier_loss")
        for track in tracks:
            if self._hears(stream, track):
                self._leg(track).open()

    def detach(self, stream: Source, *, stopped: bool) -> None:
        """A stream is over: the carrier said so, or its socket is gone."""
        if stream not in self.streams:
            return
        self.streams.remove(stream)
        self._release(stream)
        if self.streams:
            self.info = msgspec.structs.replace(self.info, stream_id=self.streams[0].stream_id)
        elif stopped:
            self.end("stopped")
        elif self.open and self._ending is None:
            # "(its sessions are terminated at once)"
            for leg in self.legs.values():
                leg.close()
            if (
                self._end_at is None or self._end_at[1] != "carrier_event"
            ):  # what the carrier said of the call's end holds
                self._end_at = (self._loop.time() + self._house.reconnect_seconds, "socket_lost")

    def leg_for(self, stream: Source, track: Track) -> Leg | None:
        """The leg that a frame of this stream belongs to; None where it is not to be heard."""
        going_on = self.open and self._ending is None
        if going_on and self._sources.get(track) is stream and self._clock is not None and self._zero is not None:
            return self._leg(track)  # nearly every frame
        if not going_on:
            if self._over or stream not in self.streams:
                return None
            self._go_on()
        if not self._hears(stream, track):
            return None
        if self._clock is None and stream.clock.base == 0:
            self._clock = stream.clock
        if self._zero is None:
            self._zero = self._loop.time()
        return self._leg(track)

    def carrier_says(self, stream_id: str | None, kind: str) -> None:
        """A webhook of the carrier: `stopped`, `failed` (a stream) or `hangup`. It may come late, twice, or overtake the audio."""
        now = self._loop.time()
        if not self.open or self._ending is not None:
            return
        if kind == "hangup":
            self._end_at = (now + (CALLBACK_GRACE_SECONDS if self.streams else 0.0), "carrier_event")
            return
        named = [stream for stream in self.streams if stream.stream_id == stream_id]
        if self.streams and not named:
            if stream_id is not None or any(now - stream.heard_at < _DELIVERS_SECONDS for stream in self.streams):
                return  # of an older stream
            named = list(self.streams)
        if len(named) < len(self.streams):
            for stream in named:
                self.detach(stream, stopped=True)  # another one is there
        elif self.streams or kind == "stopped":
            self._end_at = (now + (CALLBACK_GRACE_SECONDS if self.streams else 0.0), "carrier_event")

    def _hears(self, stream: Source, track: Track) -> bool:
        """Whether a track is heard from this stream: the first that has it; a duplicate stands by until that ends."""
        source = self._sources.get(track)
        if source is None or source not in self.streams:
            source = self._sources[track] = stream
        elif source is not stream and self._loop.time() - source.heard_at >= SILENT_SECONDS:
            # It has gone silent without closing, and a living duplicate delivers.
            source = self._sources[track] = stream
            leg = self.legs.get(track)
            if leg is not None and self._zero is not None:
                now = round((self._loop.time() - self._zero) * 1000) * SAMPLES_PER_MS
                if now - leg.head >= SAID_FROM:
                    leg.gap(leg.head, now, "carrier_loss")
        return source is stream

    def _release(self, stream: Source) -> None:
        for track, source in list(self._sources.items()):
            if source is stream:
                del self._sources[track]

    def _leg(self, track: Track) -> Leg:
        leg = self.legs.get(track)
        if leg is None:
            profile = self._profile.leg(track)
            party = next((party for party in self._parties if party.track == track), Party(track, profile.party))
            leg = self.legs[track] = Leg(
                call=self,
                party=party,
                profile=profile,
                encoding=self._encoding,
                next_index=self._next_index.get(track, 0),
                service=self._house.service,
                metrics=self._house.metrics,
                nursery=self._house.nursery,
                replay_seconds=self._house.replay_seconds,
            )
        return leg

    # Beginning and end

    def parties_are(self, parties: tuple[Party, ...]) -> None:
        """Whose voices its first `start` named."""
        self._parties = parties

    def adopt(self, kept: Kept, turns: list[KeptTurn]) -> None:
        """Go on where a crash interrupted: no second `call.started`, the turns that are final stay so."""
        self._parties = kept.parties
        self._billed_seconds, self._cost_usd = kept.billed_seconds, kept.cost_usd
        self.open = self._restored = True
        self._opened_at = kept.opened_at
        self._opened = self._loop.time() - (time.time() - kept.opened_at)
        for party in kept.parties:
            self._leg(party.track).remember([held.turn for held in turns if held.leg.track == party.track])

    def wait_for_carrier(self) -> None:
        """From now on: a stream within the reconnect time, or the end."""
        self._end_at = (self._loop.time() + self._house.reconnect_seconds, "gateway_lost")

    def say_lost(self) -> None:
        """Nobody heard what was spoken since the last final words: say so, up to now."""
        if self._zero is None:
            return
        now = round((self._loop.time() - self._zero) * 1000) * SAMPLES_PER_MS
        for leg in self.legs.values():
            leg.lost_until(now)

    def end(self, reason: EndReason) -> None:
        """End it: what was said is heard to its end, then `call.ended` says so."""
        self._end_at = None
        self._over = self._over or reason == "drained"  # nothing opens it anew while the process stops
        if not self.open or self._ending is not None:
            return
        if self._restored:
            self.say_lost()
            self._restored = False
        self._ending = reason
        self._ends += 1
        self._over = reason != "media_timeout"
        for leg in self.legs.values():
            leg.close()
        self._house.nursery.start(self._finish(reason, self._ends), name=f"end of {self.id}")

    def hurry(self, seconds: float) -> None:
        """The process stops: tails are tried for so long."""
        for leg in self.legs.values():
            leg.hurry(seconds)

    def sweep(self, now: float) -> None:
        """Once a second: deadlines, silence, age."""
        for leg in self.legs.values():
            leg.sweep(now)
        if not self.open or self._ending is not None:
            return
        if self._end_at is not None and now >= self._end_at[0]:
            self.end(self._end_at[1])
        elif now - self._opened >= self._house.max_call_seconds:
            self.end("max_duration")
        elif self.streams:
            silent = [s for s in self.streams if now - s.heard_at >= self._house.media_timeout_seconds]
            if len(silent) == len(self.streams):
                self.end("media_timeout")
            for stream in silent:
                self._release_silent(stream, silent)

    def _release_silent(self, stream: Source, silent: list[Source]) -> None:
        """A stream that went silent without closing makes way for a living duplicate."""
        living = [other for other in self.streams if other not in silent]
        for track, source in list(self._sources.items()):
            if source is stream and living:
                del self._sources[track]  # whoever speaks next

    def _go_on(self) -> None:
        """A stream is there (again)."""
        self._end_at = None
        if not self.open:
            self._start()
        elif self._ending is not None:
            self._ending = None
        elif self._restored:
            self.say_lost()
        self._restored = False
        self._over = False

    def _start(self) -> None:
        self.open = True
        self._ending = None
        self._opened_at, self._opened = time.time(), self._loop.time()
        self._billed_seconds = self._cost_usd = 0.0
        _log.info(
            "call started", call_id=self.id, carrier=self.info.carrier, stream_id=self.info.stream_id,
            profile=self.info.profile, from_=mask(self.info.from_), to=mask(self.info.to),
        )  # fmt: skip
        self.emit(events.CallStarted, {"legs": self._parties})

    async def _finish(self, reason: EndReason, end: int) -> None:
        for leg in list(self.legs.values()):
            await leg.heard()
        if self._ending is None or self._ends != end:
            return  # a stream came back meanwhile
        for track in self.legs:
            self._house.perishables.drop_perishable(self.id, track)  # nothing follows `call.ended`
        legs = tuple(
            events.LegSummary(party.track, party.party, leg.outcome if leg else "silent", leg.refused if leg else None)
            for party, leg in ((party, self.legs.get(party.track)) for party in self._all_parties())
        )
        turns = [(leg.party, turn) for leg in self.legs.values() for turn in leg.transcript.turns.values()]
        duration = self._loop.time() - self._opened
        self.emit(
            events.CallEnded,
            {
                "reason": reason,
                "duration_seconds": round(duration, 3),
                "legs": legs,
                "transcript": events.transcript(turns),
                "billed_seconds": round(self._billed_seconds, 3),
                "cost_usd": round(self._cost_usd, 6),
            },
            ends=True,
        )
        self.open = False
        self._ending = None
        for track, leg in self.legs.items():
            self._next_index[track] = leg.transcript.next_index
            leg.ended(reason)
        self._house.metrics.calls_total.labels(self.info.carrier, reason).inc()
        _log.info(
            "call ended", call_id=self.id, carrier=self.info.carrier, reason=reason, duration_seconds=round(duration, 3),
            turns=len(turns), legs={leg.track: leg.outcome for leg in legs}, billed_seconds=round(self._billed_seconds, 3),
            cost_usd=round(self._cost_usd, 6),
        )  # fmt: skip
        self._house.ended(self)

    def _all_parties(self) -> list[Party]:
        known = {party.track: party for party in self._parties}
        return list((known | {leg.party.track: leg.party for leg in self.legs.values()}).values())

    # Facts

    def emit(
        self,
        kind: type[events.Data],
        fields: dict[str, object],
        *,
        turns: tuple[tuple[Party, Turn], ...] = (),
        sessions: tuple[StoredSession, ...] = (),
        closed_sessions: tuple[str, ...] = (),
        ends: bool = False,
    ) -> "asyncio.Future[None]":
        """Promise an event, numbered in order, and store with it all that belongs to it."""
        now = time.time()
        name = events.NAMES[kind]
        told: tuple[Event, ...] = ()
        if name in self._house.webhook_events:
            self._sequence += 1
            data = kind(call=self.info, sequence=self._sequence, **fields)
            body = events.body(data, now)
            told = (Event(f"msg_{uuid.uuid4().hex}", self.id, self._endpoint, name, self._sequence, now, body, ends),)
        return self._house.store.put(
            Batch(
                events=told,
                calls=(CallRecord(self.id, self.open and not ends, msgspec.json.encode(self._kept())),),
                turns=tuple(
                    TurnRecord(self.id, party.track, turn.index, msgspec.json.encode(KeptTurn(party, turn)))
                    for party, turn in turns
                ),
                sessions=tuple(
                    SessionRecord(session.key, self.id, session.track, msgspec.json.encode(session))
                    for session in sessions
                ),
                closed_sessions=closed_sessions,
            )
        )

    def partial(self, party: Party, turn: Turn) -> None:
        """Show a turn as heard so far, beside the order of events."""
        if "turn.partial" not in self._house.webhook_events or not self.open:
            return
        data = events.TurnPartial(call=self.info, sequence=self._sequence, leg=party, turn=turn)
        self._house.perishables.perish(self.id, self._endpoint, party.track, turn.id, events.body(data, time.time()))

    def final(self, party: Party, turn: Turn) -> None:
        """A turn is final: its partials are dropped before it is promised."""
        self._house.perishables.drop_perishable(self.id, party.track)
        stored = self.emit(events.TurnFinal, {"leg": party, "turn": turn}, turns=((party, turn),))
        self._house.metrics.turns_total.labels(party.track).inc()
        if self._zero is not None:
            spoken_at = self._zero + (turn.end_ms - self.shift_ms) / 1000
            stored.add_done_callback(lambda done: self._stored(done, spoken_at))

    def _stored(self, done: "asyncio.Future[None]", spoken_at: float) -> None:
        if not done.cancelled() and done.exception() is None:
            delay = max(0.0, self._loop.time() - spoken_at)
            self._house.metrics.turn_delay_seconds.observe(delay, self.id)

    def billed(self, seconds: float, usd: float) -> None:
        """A session's account is closed."""
        self._billed_seconds += seconds
        self._cost_usd += usd

    def drop_session(self, key: str) -> None:
        """A session ended before it began: nothing is said of it."""
        self._house.store.put(Batch(closed_sessions=(key,)))

    async def keep_session(self, stored: StoredSession) -> None:
        """Make a session survive a crash before it is dialled; a store that is ill is not waited for."""
        if not self._house.store.healthy:
            return
        record = SessionRecord(stored.key, self.id, stored.track, msgspec.json.encode(stored))
        done = self._house.store.put(Batch(sessions=(record,)))
        await asyncio.wait({done}, timeout=1.0)

    def say_zombie(self, session: StoredSession) -> None:
        """A session that a crash left open: said at its worst price."""
        now = time.time()
        party = next((p for p in self._parties if p.track == session.track), Party(session.track, session.track))
        age = max(0.0, now - session.opened_at)
        # Its last message from us came before the crash at the latest, so the service's bound is the worst case.
        billed = min(age + (session.bound_seconds or math.inf), 10_800.0)
        usd = billed / 3600 * session.usd_per_hour
        told = events.Session(
            id=session.session_id or session.key,
            number=session.number,
            model=session.model,
            opened_at=events.rfc3339(session.opened_at),
            closed_at=events.rfc3339(now),
            duration_seconds=round(age, 3),
            billed_seconds=round(billed, 3),
            cost_usd=round(usd, 6),
            reason="zombie",
        )
        common: dict[str, object] = {"leg": party, "session": told}
        self.emit(
            events.SessionZombie,
            common | {"reason": "crash", "age_seconds": round(age, 3), "cost_usd": round(usd, 6)},
        )
        self.billed(billed, usd)  # before: it is stored with the event
        self.emit(events.SessionEnded, common, closed_sessions=(session.key,))
        metrics = self._house.metrics
        metrics.zombies_total.labels("crash").inc()
        metrics.zombie_leak_seconds_total.labels("crash").inc(billed - age if billed > age else 0.0)
        metrics.session_ended(
            model=session.model,
            reason="zombie",
            duration_seconds=age,
            billed_seconds=billed,
            spoken_seconds=0.0,
            cost_usd_by_item={"model": usd},
            call_id=self.id,
        )
        self._house.service.spend(usd)
        _log.error("zombie session", call_id=self.id, track=session.track, session=told.id, reason="crash")

    def _kept(self) -> Kept:
        zero_at = None if self._zero is None else time.time() - (self._loop.time() - self._zero)
        indexes = dict(self._next_index) | {track: leg.transcript.next_index for track, leg in self.legs.items()}
        return Kept(
            self.info,
            self._sequence,
            zero_at,
            tuple(self._all_parties()),
            indexes,
            self._opened_at,
            self._billed_seconds,
            self._cost_usd,
        )


def mask(number: str | None) -> str | None:
    """A phone number as logs may show it."""
    return None if number is None else f"…{number[-2:]}" if len(number) > 4 else "…"
