"""One session as its leg hears it: where its audio lies on the call's clock, what it said, what it cost."""

import time
from typing import Final, Protocol

import structlog

from gateway import events
from gateway.call import Party, Turn
from gateway.cost import DEFAULT_MODEL
from gateway.events import SessionReason, ZombieReason
from gateway.metrics import Metrics
from gateway.placement import Placement
from gateway.speech import protocol
from gateway.speech.ledger import StoredSession
from gateway.speech.losses import Loss
from gateway.speech.protocol import State
from gateway.speech.service import Service
from gateway.speech.session import Session
from gateway.timeline import SAMPLES_PER_MS
from gateway.transcript import Fact, Hearing, LegTranscript, Partial, Revised, Said

_log = structlog.get_logger()

_LATE_END_MS: Final = 2000
"""A word's end may be told up to 1.3 s too late."""
_LONGEST_SESSION_SECONDS: Final = 10_800.0
"""The service ends every session then, whatever it was asked."""


class Conversation(Protocol):
    """The call a leg belongs to: where its facts go."""

    id: str

    @property
    def shift_ms(self) -> int:
        """What published times move by."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether what is said can be kept: else no audio goes, and waits where the oldest gives way."""
        ...

    def emit(
        self,
        kind: type[events.Data],
        fields: dict[str, object],
        *,
        turns: tuple[tuple[Party, Turn], ...] = (),
        sessions: tuple[StoredSession, ...] = (),
        closed_sessions: tuple[str, ...] = (),
    ) -> object:
        """Promise an event to the customer; stored with it, the turns and sessions it speaks of."""

    def partial(self, party: Party, turn: Turn) -> None:
        """Show a turn as heard so far."""

    def final(self, party: Party, turn: Turn) -> None:
        """A turn is final."""

    def billed(self, seconds: float, usd: float) -> None:
        """A session's account is closed."""

    def drop_session(self, key: str) -> None:
        """A session ended before it began: nothing is said of it."""

    async def keep_session(self, stored: StoredSession) -> None:
        """Make a session survive a crash, before it is dialled."""


class Ear:
    """The hearer of one session; the leg looks at what it heard."""

    def __init__(
        self,
        *,
        call: Conversation,
        party: Party,
        transcript: LegTranscript,
        order: tuple[int, int],
        service: Service,
        metrics: Metrics,
    ) -> None:
        self.placement = Placement()
        self.hearing: Hearing | None = None
        self.loss: Loss | None = None
        self.confirmed = False
        """It was told its end by us, and said all it had to say."""
        self.open_from: int | None = None
        """Position (samples) where the turn began that was open at its end; None where none was."""
        self.from_: int | None = None
        """Position from which it hears."""
        self.order = order
        self.track = party.track
        self._call = call
        self._party = party
        self._transcript = transcript
        self._service = service
        self._metrics = metrics
        self._reheard_ms: int | None = None
        self._opened_at = 0.0
        self._spoken_ms = 0

    def hear_again_from(self, position: int) -> None:
        """It hears from here what earlier sessions have partly heard."""
        self._reheard_ms = self._ms(position)
        if self.hearing is not None:
            self.hearing.reheard_ms = self._reheard_ms

    def cut(self, overlap: int, at: int) -> None:
        """Its audio ends at a position, and another session hears on from `overlap`, before that."""
        if self.hearing is not None and overlap < at:
            self.hearing.cut_ms = (self._ms(overlap), self._ms(at))

    @property
    def open_at(self) -> int | None:
        """Position where a turn began that is not final; None where none is open."""
        if self.hearing is None or (ms := self.hearing.open_from_ms) is None:
            return None
        return (ms - self._call.shift_ms) * SAMPLES_PER_MS

    def began(self, session: Session) -> None:
        self._opened_at = time.time()
        speech = session.speech
        self.hearing = self._transcript.hearing(
            self.order,
            session.id or session.key,
            self._place,
            languages=bool(speech.get("language_detection")),
            formatted=bool(speech.get("format_turns")),
            reheard_ms=self._reheard_ms,
        )
        known = self._service.record(session, self._opened_at)
        self._call.emit(events.SessionStarted, {"leg": self._party, "session": self._session(session)}, sessions=known)

    def heard(self, session: Session, message: protocol.Message) -> None:
        hearing = self.hearing
        if hearing is None:
            return
        match message:
            case protocol.Turn():
                self._tell(self._transcript.turn(hearing, message))
                if hearing.hole and not session.over:
                    session.lose(Loss("silent_turn", None, "a turn went over into the next", begun=True))
            case protocol.SpeechStarted():
                self._transcript.started(hearing, message)
            case protocol.SpeakerRevision():
                self._tell(self._transcript.revision(hearing, message))
            case protocol.Heartbeat():
                self._tell(self._transcript.tick(hearing))
            case _:
                pass  # Silence, Warning, LLMGatewayResponse: nothing follows for a transcript

    def over(self, session: Session) -> None:
        self.loss = session.loss
        self.confirmed = session.state is State.TERMINATED and session.terminate_by is not None
        if self.hearing is None:
            self._call.drop_session(session.key)
            return
        self.open_from = self.open_at
        self._tell(self._transcript.over(self.hearing))
        self._account(session)

    def _account(self, session: Session) -> None:
        """Say what it was and what it cost; a zombie at its worst price."""
        assert session.begun_at is not None
        assert session.closed_at is not None
        duration = session.closed_at - session.begun_at
        zombie: ZombieReason | None = (
            "unowned" if session.unowned else "unconfirmed_terminate" if session.unconfirmed else None
        )
        told = session.termination.session_duration_seconds if session.termination is not None else None
        billed = told if told is not None else duration
        if zombie is not None:
            # Perhaps nobody there noticed: then it is billed until the service's own bound ends it.
            bound = session.speech.get("inactivity_timeout")
            billed = min(
                duration + float(bound if isinstance(bound, int | float) else _LONGEST_SESSION_SECONDS),
                _LONGEST_SESSION_SECONDS,
            )
        usd = self._service.rates.cost(billed, session.speech)
        reason: SessionReason = _reason(session, zombie)
        told_session = self._session(
            session,
            closed_at=events.rfc3339(self._opened_at + duration),
            duration_seconds=round(duration, 3),
            billed_seconds=round(billed, 3),
            billed_is_estimate=told is None,
            audio_seconds=round(session.sent_ms / 1000, 3),
            cost_usd=round(usd, 6),
            reason=reason,
        )
        if zombie is not None:
            self._metrics.zombies_total.labels(zombie).inc()
            self._metrics.zombie_leak_seconds_total.labels(zombie).inc(billed - duration)
            self._metrics.zombie_leak_usd_total.labels(zombie).inc(
                usd - self._service.rates.cost(duration, session.speech)
            )
            _log.error(
                "zombie session", call_id=self._call.id, track=self._party.track, session=session.id, reason=zombie,
                age_seconds=round(duration, 3), cost_usd=round(usd, 6),
            )  # fmt: skip
            self._call.emit(
                events.SessionZombie,
                {
                    "leg": self._party,
                    "session": told_session,
                    "reason": zombie,
                    "age_seconds": round(duration, 3),
                    "cost_usd": round(usd, 6),
                },
            )
        self._call.billed(billed, usd)  # before: it is stored with the event
        self._call.emit(
            events.SessionEnded, {"leg": self._party, "session": told_session}, closed_sessions=(session.key,)
        )
        self._service.spend(usd)
        self._metrics.session_ended(
            model=told_session.model,
            reason=reason,
            duration_seconds=duration,
            billed_seconds=billed,
            spoken_seconds=self._spoken_ms / 1000,
            cost_usd_by_item=self._service.rates.cost_by_item(billed, session.speech),
            call_id=self._call.id,
        )

    def _session(self, session: Session, **known: object) -> events.Session:
        return events.Session(
            id=session.id or session.key,
            number=session.number,
            model=str(session.speech.get("speech_model") or DEFAULT_MODEL),
            opened_at=events.rfc3339(self._opened_at),
            **known,  # type: ignore[arg-type]  # the fields of an ended session, named above
        )

    def _tell(self, facts: list[Fact]) -> None:
        self._spoken_ms += sum(fact.turn.end_ms - fact.turn.start_ms for fact in facts if isinstance(fact, Said))
        self.publish(self._call, self._party, self._metrics, facts)

    @staticmethod
    def publish(call: Conversation, party: Party, metrics: Metrics, facts: list[Fact]) -> None:
        """Tell the call what a leg's transcript made of what was heard."""
        for fact in facts:
            match fact:
                case Said(turn):
                    call.final(party, turn)
                case Partial(turn):
                    call.partial(party, turn)
                case Revised(turns):
                    metrics.turns_revised_total.labels(party.track).inc(len(turns))
                    told = tuple((party, turn) for turn in turns)
                    call.emit(events.TurnRevised, {"leg": party, "turns": turns}, turns=told)

    def _place(self, session_ms: float) -> int:
        """A time of the session's audio on the call's clock; one that lies far behind what it was given is a fault of its own."""
        known_ms = self.placement.fed / SAMPLES_PER_MS + _LATE_END_MS
        return self._ms(self.placement.position_ms(min(max(session_ms, 0.0), known_ms)))

    def _ms(self, position: int) -> int:
        return round(position / SAMPLES_PER_MS) + self._call.shift_ms


def _reason(session: Session, zombie: ZombieReason | None) -> SessionReason:
    if zombie is not None:
        return "zombie"
    if session.state is State.TERMINATED:
        return "terminated"
    if session.loss is not None and session.loss.code == 3008:
        return "expired"
    if session.loss is not None and session.loss.code in {1008, 3006}:
        return "refused"
    return "lost"
