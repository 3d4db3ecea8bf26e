"""
One leg: a party's voice in a call, from its first frame to its last turn. The heart of the gateway.

A leg's audio comes in **spans**: stretches that are heard as one, ended by the carrier's stop or lost socket, by 20 s without a frame,
by a cut where one session relays another. A span is heard by a session; where that is lost, by the next one, from a little before the loss;
until all of it was heard, or nobody will hear it. Nothing here is told to stop: a span's end is the last thing on its belt.

    frames ──▶ AudioBuffer ──▶ span ──▶ path ──▶ session ──▶ ear ──▶ transcript ──▶ events
                   ▲                                │ lost
                   └───────── heard again ◀─────────┘
"""

import asyncio
import random
from typing import Final

import structlog

from gateway import events, quiet, resume
from gateway.audio import g711
from gateway.buffer import AudioBuffer
from gateway.call import Party, Turn
from gateway.config import LegProfile
from gateway.ear import Conversation, Ear
from gateway.events import GapReason
from gateway.feed import Feed
from gateway.metrics import Metrics
from gateway.span import Span
from gateway.speech.admission import Priority
from gateway.speech.losses import Loss, Retries, judge
from gateway.speech.parameters import shows_open_turns, turn_silence_ms
from gateway.speech.service import Order, Service
from gateway.speech.session import Session
from gateway.tasks import Nursery
from gateway.timeline import SAMPLES_PER_MS
from gateway.transcript import LegTranscript

_log = structlog.get_logger()

IDLE_SECONDS: Final = 20.0
"""Contract §4: "A leg without a frame for 20 s while its stream lives is terminated"."""

ROTATE_BEFORE_SECONDS: Final = 600.0
_ROTATE_SHARE: Final = 0.2
_CUT_BEFORE_SECONDS: Final = 3.0
_PAUSE: Final = 200 * SAMPLES_PER_MS
_LOOK_SECONDS: Final = 0.1
_HEARTBEAT_MISSED_SECONDS: Final = 6.0
_NO_ROOM_SECONDS: Final = 0.5
"""Before it is looked again whether the store has room for what a session would say."""


class Leg:
    """One party's voice. Its methods are called at once, from the stream and the call; what takes time are its spans' tasks."""

    def __init__(
        self,
        *,
        call: Conversation,
        party: Party,
        profile: LegProfile,
        encoding: g711.Encoding,
        next_index: int,
        service: Service,
        metrics: Metrics,
        nursery: Nursery,
        replay_seconds: float,
    ) -> None:
        self.party = party
        self.transcript = LegTranscript(party.track, next_index, self._voiced)
        self.refused: str | None = None
        """Why the service will not hear this leg, if so."""
        self._call = call
        self._profile = profile
        self._encoding = encoding
        self._service = service
        self._metrics = metrics
        self._nursery = nursery
        self._replay_seconds = replay_seconds
        self._loop = asyncio.get_running_loop()
        self._buffer = AudioBuffer(int(replay_seconds * resume.SECOND))
        self._retries = Retries(random.random)
        self._spans: list[Span] = []
        self._relays: list[Span] = []
        """Spans that a session was opened for, and that have not begun."""
        self._dialled: list[tuple[Span, Session]] = []
        """Sessions that are not over, and for which span each was opened."""
        self._next_span = 0
        self._sessions = 0
        self._frame_at = self._loop.time()
        self._audio = 0
        """Samples taken since the call began, silence put in for losses included."""
        self._heard = False
        self._missed = False
        self._hurried: float | None = None

    @property
    def outcome(self) -> events.Outcome:
        """How well it was heard since the call began, or was opened anew."""
        if self.refused is not None:
            return "refused"
        if not self._heard:
            return "silent"
        return "incomplete" if self._missed else "complete"

    @property
    def head(self) -> int:
        """Position behind the newest audio."""
        return self._buffer.head

    def open(self) -> None:
        """Its track was named: a session is opened without waiting for audio."""
        self._frame_at = self._loop.time()
        if not self._spans or self._spans[-1].ended:
            self._begin_span(None)

    def push(self, at: int, payload: bytes, arrived: float | None, encoding: g711.Encoding) -> None:
        """Take audio at a position; `arrived` (loop seconds) of a frame, None of silence put in for a loss."""
        if encoding != self._encoding:
            pcm = g711.decode(payload, encoding)
            payload = g711.encode_mulaw(pcm) if self._encoding == "PCMU" else g711.encode_alaw(pcm)
        if arrived is not None:
            self._frame_at = arrived
        span = self._spans[-1] if self._spans else None
        if span is None or span.until is not None:
            span = self._begin_span(None)
        self._heard = True
        self._audio += len(payload)
        self._buffer.push(at, payload, arrived)
        if span.start is None:
            span.start = self._buffer.head - len(payload)

    def gap(self, start: int, end: int, reason: GapReason) -> None:
        """Words may be missing between two positions."""
        if end <= start:
            return
        shift = self._call.shift_ms
        start_ms, end_ms = round(start / SAMPLES_PER_MS) + shift, round(end / SAMPLES_PER_MS) + shift
        if reason in {"provider_outage", "overflow"}:
            self._missed = True
        self._metrics.audio_gap_seconds_total.labels(reason).inc((end_ms - start_ms) / 1000)
        self._call.emit(events.AudioGap, {"leg": self.party, "start_ms": start_ms, "end_ms": end_ms, "reason": reason})

    def close(self) -> None:
        """No audio follows for now: what is there is heard to its end, and the session is terminated."""
        if self._spans and not self._spans[-1].ended:
            span = self._spans[-1]
            self._end_span(span, self._buffer.head if span.start is not None else 0)

    def hurry(self, seconds: float) -> None:
        """The process stops: a lost session is tried again for so long, and no longer."""
        self._hurried = self._loop.time() + seconds
        for span in self._spans:
            if span.ended:
                self._bound(span)

    def remember(self, turns: list[Turn]) -> None:
        """Turns that were final before a crash."""
        self._heard = bool(turns)
        self.transcript.remember(turns)

    def lost_until(self, position: int) -> None:
        """After a crash: what was spoken since the last final word was heard by nobody."""
        self.gap(self._unheard_from(0), position, "provider_outage")

    async def heard(self) -> None:
        """Wait until everything that has ended was heard, or given up, and no session is left of it: not even a late Begin."""
        while tasks := [span.task for span in self._spans if span.ended and span.task is not None]:
            await asyncio.wait(tasks)
        while left := self._left():
            await left[0].ended()

    def _left(self) -> list[Session]:
        """Sessions that nobody listens to any more: given up while they were dialled, or opened to relay what then ended."""
        self._dialled = [(span, session) for span, session in self._dialled if not session.over]
        living = [span for span in self._spans if not span.ended]
        relays = self._relays if living else []
        return [session for span, session in self._dialled if span not in living and span not in relays]

    def ended(self, reason: str) -> None:
        """Its call has ended; if it is opened anew, this begins anew."""
        _log.info(
            "leg ended", call_id=self._call.id, track=self.party.track, reason=reason, outcome=self.outcome,
            sessions=self._sessions, turns=len(self.transcript.turns), audio_seconds=round(self._audio / resume.SECOND, 1),
            refused=self.refused,
        )  # fmt: skip
        self._audio = 0
        self.transcript.forget()
        self._heard = self._missed = False

    def sweep(self, now: float) -> None:
        """Once a second: 20 s without a frame; audio that nobody will hear again."""
        if self._spans and not self._spans[-1].ended and now - self._frame_at >= IDLE_SECONDS:
            self.close()
        needed = [position for span in self._spans if (position := self._needed(span)) is not None]
        if needed:
            self._buffer.forget(min(needed))
        elif not self._spans:
            self._buffer.forget(self._buffer.head)

    # Spans

    def _begin_span(self, start: int | None) -> Span:
        span = self._new_span(start)
        self._spans.append(span)
        span.task = self._nursery.start(self._hear(span), name=f"{self.party.track} {span.number} of {self._call.id}")
        return span

    def _new_span(self, start: int | None) -> Span:
        span = Span(self._next_span, start, cursor=start)
        self._next_span += 1
        self.transcript.span(span.number)
        return span

    def _end_span(self, span: Span, until: int) -> None:
        span.until = until
        self._bound(span)
        self._buffer.wake()

    def _bound(self, span: Span) -> None:
        """How long sessions are tried for a span that has ended; one with nothing to hear needs none at all."""
        now = self._loop.time()
        if span.give_up_at is None:
            # "after the carrier's `stop` a lost tail is tried for GATEWAY_REPLAY_SECONDS, then its gap is said"
            span.give_up_at = now + self._replay_seconds
        if self._hurried is not None:
            span.give_up_at = min(span.give_up_at, self._hurried)
        if span.limit is not None and not span.limit.expired():
            span.limit.reschedule(now if span.empty else span.give_up_at)

    async def _hear(self, span: Span) -> None:
        """Hear a span: by one session, or by as many as it takes."""
        try:
            while self.refused is None and (ear := await self._session_for(span)) is not None:
                session = span.session
                assert session is not None
                try:
                    sent = await self._speak(span, session, ear)
                    await session.ended()
                finally:
                    session.terminate()
                if ear.confirmed and sent:
                    span.cursor = span.until
                    self.transcript.disown(span.number)
                    break
                if not self._hear_again(span, session, ear, all_sent=sent):
                    break
            while not span.ended:  # refused: its audio goes by, and one gap will say so
                await self._buffer.more(self._buffer.head + resume.SECOND)
        finally:
            self._give_up_rest(span)
            self._spans.remove(span)

    async def _session_for(self, span: Span) -> Ear | None:
        """An open session that hears the span from its cursor on; None where nobody will."""
        if span.session is not None and not span.session.over:  # opened before the span began, by a relay
            return span.ear
        session: Session | None = None
        try:
            async with asyncio.timeout(None) as span.limit:
                if span.ended:
                    self._bound(span)
                while not span.empty:
                    await asyncio.sleep(span.pause)
                    span.pause = 0.0
                    if not self._call.has_room:
                        span.pause = _NO_ROOM_SECONDS
                        continue
                    await self._service.admission.enter(self._priority(span))
                    session, ear = self._dial(span)
                    if await session.opened():
                        span.session, span.ear, session = session, ear, None
                        return ear
                    if not self._goes_on(span, session):
                        return None
                    session = None
        except TimeoutError:
            pass
        finally:
            span.limit = None
            if session is not None:
                session.terminate()  # as soon as it begins, if it still does
        return None

    def _priority(self, span: Span) -> Priority:
        if span.attempts:
            return "again"
        return "second" if self._service.ledger.of_call(self._call.id) else "new"

    def _dial(self, span: Span) -> tuple[Session, Ear]:
        self._sessions += 1
        ear = Ear(
            call=self._call,
            party=self.party,
            transcript=self.transcript,
            order=(span.number, span.attempts),
            service=self._service,
            metrics=self._metrics,
        )
        if span.again and span.cursor is not None:
            ear.hear_again_from(span.cursor)
        span.attempts += 1
        order = Order(
            call_id=self._call.id,
            track=self.party.track,
            number=self._sessions,
            speech=self._profile.speech,
            hearer=ear,
            owned=lambda: span in self._spans or span in self._relays,
            keep=self._call.keep_session,
        )
        session = self._service.dial(order)
        self._dialled = [(of, dialled) for of, dialled in self._dialled if not dialled.over]
        self._dialled.append((span, session))
        return session, ear

    def _goes_on(self, span: Span, session: Session) -> bool:
        """Note a session that was lost or never began; False: the leg is given up."""
        loss = session.loss or Loss("closed", 1006)
        verdict = judge(loss)
        if session.begun_at is not None and session.closed_at is not None:
            self._retries.healthy(session.closed_at - session.begun_at)
        pause = self._retries.pause(verdict)
        said = {"call_id": self._call.id, "track": self.party.track, "loss": str(loss), "verdict": verdict}
        if pause is None:
            self.refused = str(loss)
            _log.error("leg refused by the speech service", **said)
            self._metrics.legs_refused_total.labels("parameters" if loss.code == 3006 else "other").inc()
            return False
        span.pause = pause
        _log.warning("session lost", pause_seconds=round(pause, 3), **said)
        self._metrics.session_reconnects_total.labels(self._service.code_of(loss)).inc()
        return True

    def _hear_again(self, span: Span, session: Session, ear: Ear, *, all_sent: bool) -> bool:
        """Whether another session is to hear what this one did not; the span's cursor says from where."""
        span.session = span.ear = None
        again_from = self._resume_from(span, session, ear)
        if all_sent and ear.open_from is None and not self._voice_unheard(span, again_from):
            # "After `Terminate` only an open turn earns a new session"; so does a voice that no turn was made of.
            span.cursor = span.until
            return False
        span.cursor, span.again = again_from, True
        if session.unconfirmed:
            span.unconfirmed += 1
            if span.unconfirmed > 1:
                return False
        return self._goes_on(span, session)

    def _resume_from(self, span: Span, session: Session, ear: Ear) -> int | None:
        """Where hearing must go on after a loss: never before where the lost session itself began."""
        if ear.from_ is None:
            return span.cursor
        lost_at = session.closed_at or self._loop.time()
        stalled = session.loss is not None and session.loss.kind in {"stalled", "unconfirmed"}
        # A reset that ends a hole in the network comes late: what was sent into the hole reached nobody.
        stalled = stalled or session.live.quiet_seconds(lost_at) > _HEARTBEAT_MISSED_SECONDS
        sure_ms = session.live.proven_ms if stalled else session.sent_ms - self._doubtful_ms(session)
        return resume.after_loss(
            began=ear.from_,
            open_from=ear.open_from,
            sure=ear.placement.position_ms(max(0.0, sure_ms)),
            last_word=self._last_word,
            read=self._buffer.read,
            encoding=self._encoding,
            turn_silence=None if shows_open_turns(session.speech) else turn_silence_ms(session.speech) * SAMPLES_PER_MS,
        )

    @property
    def _last_word(self) -> int | None:
        """Where the last final word begins."""
        last_ms = self.transcript.heard_to_ms
        return None if last_ms is None else self._position(last_ms)

    def _doubtful_ms(self, session: Session) -> float:
        """What was sent faster than it could be heard: 5 s before a loss cover two of it, more was perhaps not heard at all."""
        unheard = session.backlog.ms(session.closed_at or self._loop.time())
        return unheard if unheard > 2000 else 0.0

    def _voice_unheard(self, span: Span, since: int | None) -> bool:
        """Whether somebody spoke after the last final word, and no turn was made of it."""
        if since is None or span.until is None:
            return False
        heard_ms = self.transcript.heard_end_ms
        since = since if heard_ms is None else max(since, self._position(heard_ms))
        _, payload = self._buffer.read(since, max(0, span.until - since))
        return resume.has_voice(payload, self._encoding)

    def _give_up_rest(self, span: Span) -> None:
        """Say what of an ended span nobody heard; what was heard of its open turn is its final form."""
        Ear.publish(self._call, self.party, self._metrics, self.transcript.adopt(span.number))
        if span.until is None:  # only where its task was cancelled
            span.until = self._buffer.head
        if not span.empty and span.start is not None:
            # Before the words of later stretches are let out: they say nothing of what was heard of this one.
            since = self._unheard_from(max(span.start, span.cursor or span.start))
            self.gap(since, span.until, "refused" if self.refused else "provider_outage")
        Ear.publish(self._call, self.party, self._metrics, self.transcript.span_over(span.number))

    def _voiced(self, from_ms: int, to_ms: int) -> int | None:
        """How much voice lies between two published times; None where the audio is gone."""
        low, high = self._position(from_ms), self._position(to_ms)
        at, payload = self._buffer.read(low, max(0, high - low))
        return quiet.voiced_ms(payload, self._encoding) if at == low and len(payload) == high - low else None

    def _unheard_from(self, position: int) -> int:
        """Words that are final were heard, though their audio was to be heard again."""
        heard_ms = self.transcript.heard_to_ms
        return position if heard_ms is None else max(position, self._position(heard_ms))

    def _position(self, ms: int) -> int:
        """Of a published time."""
        return (ms - self._call.shift_ms) * SAMPLES_PER_MS

    def _needed(self, span: Span) -> int | None:
        """The lowest position that somebody may still have to hear; None where nothing is known to be."""
        if span.ear is None or span.session is None or span.session.begun_at is None or span.ear.from_ is None:
            return span.cursor if span.cursor is not None else span.start
        # Of a session that was lost a moment ago the open turn is no longer open, and will be heard again.
        open_from = span.ear.open_from if span.session.over else span.ear.open_at
        sure_ms = min(span.session.live.proven_ms, span.session.sent_ms - self._doubtful_ms(span.session))
        proven = resume.needed(
            span.ear.placement.position_ms(max(0.0, sure_ms)),
            self._last_word,
            turns_shown=shows_open_turns(span.session.speech),
        )
        cursor = span.cursor if span.cursor is not None else proven
        return min(proven, cursor, proven if open_from is None else open_from - resume.BEFORE_A_TURN)

    # One session

    async def _speak(self, span: Span, session: Session, ear: Ear) -> bool:
        """Feed a session until its span ends, then say Terminate; False where it was lost before all was sent."""
        relay = self._nursery.start(self._relay(span, session, ear), name=f"relay {session.key}")
        try:
            return await Feed(
                call=self._call,
                span=span,
                session=session,
                ear=ear,
                buffer=self._buffer,
                audio=self._profile.audio,
                encoding=self._encoding,
                metrics=self._metrics,
                skipped=self._skipped,
            ).run()
        finally:
            relay.cancel()
            session.terminate()

    def _skipped(self, span: Span, floor: int, *, first: bool) -> None:
        """What gave way in the buffer before it was heard is said: nobody was there to hear it, or who was could not keep up."""
        assert span.cursor is not None
        if first:
            self.gap(self._unheard_from(span.cursor), floor, "provider_outage")
        else:
            self.gap(span.cursor, floor, "overflow")

    async def _relay(self, span: Span, session: Session, ear: Ear) -> None:
        """Before a session's time is over, open the next one, and cut over to it where nobody speaks."""
        lifetime = session.lifetime_seconds
        window = min(ROTATE_BEFORE_SECONDS, lifetime * _ROTATE_SHARE)
        assert session.begun_at is not None
        expires = session.begun_at + lifetime
        await asyncio.sleep(expires - window - self._loop.time())
        if span.ended:
            return
        successor = self._new_span(None)
        self._relays.append(successor)
        relayed = False
        try:
            if await self._session_for(successor) is None or session.over or span.ended:
                return
            cut = await self._pause_in_speech(ear, expires, window)
            if session.over or span.ended or span.cursor is None:
                return
            at = overlap = self._buffer.head if cut is None else cut
            if cut is None:
                overlap = resume.before_cut(
                    at,
                    max(at if ear.from_ is None else ear.from_, self._buffer.floor),
                    self._buffer.read,
                    self._encoding,
                )
            relayed = True
            ear.cut(overlap, at)
            self._end_span(span, at)
            successor.start = successor.cursor = overlap
            successor.again = overlap < at
            if successor.again and successor.ear is not None:
                successor.ear.hear_again_from(overlap)
            self._spans.append(successor)
            successor.task = self._nursery.start(
                self._hear(successor), name=f"{self.party.track} {successor.number} of {self._call.id}"
            )
        finally:
            self._relays.remove(successor)
            if not relayed:
                if successor.session is not None:
                    successor.session.terminate()
                Ear.publish(self._call, self.party, self._metrics, self.transcript.span_over(successor.number))

    async def _pause_in_speech(self, ear: Ear, expires: float, window: float) -> int | None:
        """Wait for a position where nobody speaks; None where there was none in time."""
        last = expires - min(_CUT_BEFORE_SECONDS, window / 2)
        while (now := self._loop.time()) < last:
            head = self._buffer.head
            _, payload = self._buffer.read(head - _PAUSE, _PAUSE)
            silent = resume.is_pause(payload, self._encoding)
            # In the first half of the time only a pause between turns will do.
            if silent and (ear.open_at is None or now > expires - window / 2):
                return head
            await asyncio.sleep(_LOOK_SECONDS)
        return None
