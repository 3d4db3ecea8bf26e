"""What is owed to customers, as data: events and what they belong to, attempts and how they ended. No I/O, no clock."""

from collections.abc import Callable
from typing import Final, Literal, Protocol, get_args

import msgspec

Clock = Callable[[], float]
"""Epoch seconds now. Within a process it must never run backwards (`gateway.outbox.clock`)."""


class Event(msgspec.Struct, frozen=True):
    """One thing a customer is promised."""

    id: str
    """The `webhook-id`: the same on every attempt, unique to the event, without dots."""
    call_id: str
    endpoint: str
    """The URL it is owed to."""
    type: str
    sequence: int
    created_at: float
    """Epoch seconds."""
    body: bytes
    """JSON exactly as sent, serialised once."""
    ends_call: bool = False
    """With its settling the call is told: its turns are deleted."""


class CallRecord(msgspec.Struct, frozen=True):
    """What must be known of a call after a crash, or when a stream opens it anew."""

    call_id: str
    open: bool
    state: bytes
    """Opaque here."""


class TurnRecord(msgspec.Struct, frozen=True):
    """One final turn, kept until its call has ended and that was delivered. Replaces the one of the same call, track and index."""

    call_id: str
    track: str
    index: int
    body: bytes
    """Opaque here."""


class SessionRecord(msgspec.Struct, frozen=True):
    """One session with the speech service, from before its connect until after its confirmed close. Replaces its key's."""

    key: str
    call_id: str
    track: str
    body: bytes
    """Opaque here."""


class Batch(msgspec.Struct, frozen=True):
    """What is stored in one transaction: all of it or nothing."""

    events: tuple[Event, ...] = ()
    calls: tuple[CallRecord, ...] = ()
    turns: tuple[TurnRecord, ...] = ()
    sessions: tuple[SessionRecord, ...] = ()
    closed_sessions: tuple[str, ...] = ()
    """Keys of sessions whose close is confirmed (or that were said to be zombies)."""

    def weight(self) -> int:
        """Bytes it holds in memory while it waits for the store, about."""
        return (
            sum(len(event.body) + 500 for event in self.events)
            + sum(len(call.state) + 200 for call in self.calls)
            + sum(len(turn.body) + 200 for turn in self.turns)
            + sum(len(session.body) + 200 for session in self.sessions)
            + 200
        )


class Interrupted(msgspec.Struct, frozen=True):
    """What a crash left open of one call."""

    call: CallRecord
    turns: list[TurnRecord]
    """In order of track, then index."""
    sessions: list[SessionRecord]


class Delivery(msgspec.Struct, frozen=True):
    """The head of a lane: the one event of a call that may be sent to its endpoint now."""

    event: Event
    lane_id: int
    position: int
    """Its place in the order of storing."""
    stored_at: float
    """Epoch seconds: the three days count from here."""
    attempts: int = 0
    """Attempts made before."""
    first_failure_at: float | None = None
    fresh: bool = False
    """It was a head from its storing on, and this is its first hand-out: its first attempt's delay is ours alone."""

    @property
    def lane(self) -> tuple[str, str]:
        """The unit of order: endpoint and call."""
        return (self.event.endpoint, self.event.call_id)


OutcomeKind = Literal[
    "accepted",  # 2xx
    "refused",  # 4xx
    "throttled",  # 429
    "gone",  # 410
    "redirected",  # 3xx, never followed
    "failed",  # 5xx, and whatever is no HTTP status we know
    "timeout",
    "unreachable",  # no name, no route, refused, cut off before its answer
    "insecure",  # TLS: certificate or handshake
    "blocked",  # the address dialled, or the URL, is not allowed
    "malformed",  # an answer that is not HTTP
]
OUTCOMES: Final[tuple[OutcomeKind, ...]] = get_args(OutcomeKind)


class Outcome(msgspec.Struct, frozen=True):
    """How one attempt ended."""

    kind: OutcomeKind
    status: int | None = None
    retry_after: float | None = None
    """Seconds the receiver asked for, counted from its answer."""
    stale: bool = False
    """A connection kept open from before died under the request: the receiver had closed it for idleness."""
    seconds: float = 0.0
    """From the attempt's start to its answer."""


class Verdict(msgspec.Struct, frozen=True):
    """What follows from an attempt."""

    action: Literal["settle", "retry", "bury", "disable"]
    pause: float = 0.0
    """Seconds until the next attempt."""
    asked: bool = False
    """The receiver asked for the pause: it is not cut short when the endpoint heals."""


class EndpointState(msgspec.Struct, frozen=True):
    """What is known of an endpoint beyond its lanes, kept over restarts."""

    url: str
    disabled_at: float | None = None
    """It answered 410; nothing is sent until it is enabled."""
    failing_since: float | None = None
    """It fails for everyone since then: one call's events probe, the others wait."""
    probes: int = 0
    """Failed probes since then."""
    probe_at: float | None = None
    """When the next probe is due."""


class DeliveryRecord(msgspec.Struct, frozen=True):
    """An event that was given up, or that is still owed, as the operator sees it. The body only where asked for."""

    id: str
    state: Literal["owed", "dead"]
    endpoint: str
    call_id: str
    type: str
    sequence: int
    created_at: float
    stored_at: float
    attempts: int
    outcome: str | None
    """Of the last attempt."""
    status: int | None
    due_at: float | None
    """Owed and a lane's head: when its next attempt is due."""
    died_at: float | None
    size: int
    """Bytes of the body."""
    body: bytes | None = None


class Selection(msgspec.Struct, frozen=True):
    """Which deliveries are meant; what is None does not select. Times are epoch seconds of the event, `until` exclusive."""

    id: str | None = None
    call_id: str | None = None
    endpoint: str | None = None
    type: str | None = None
    state: Literal["owed", "dead"] | None = None
    since: float | None = None
    until: float | None = None


class Replayed(msgspec.Struct, frozen=True):
    """What a replay did."""

    revived: int
    """Dead letters that are owed again, in their old place of their call's order."""
    hastened: int
    """Events still owed whose lane does not wait any longer."""


class Attempt(msgspec.Struct, frozen=True):
    """A fact for metrics and log: one POST of one event."""

    delivery: Delivery
    outcome: Outcome
    verdict: Verdict
    first_delay_seconds: float | None
    """From storing to the first attempt, of an event that was its lane's head from its storing on; else None."""
    delivered_seconds: float | None
    """From storing to 2xx; None where this attempt did not settle it."""

    @property
    def label(self) -> Literal["delivered", "retried", "gone", "dead_lettered"]:
        """What became of the delivery: `deliveries_total{outcome}`."""
        return _LABELS[self.verdict.action]


_LABELS: Final[dict[str, Literal["delivered", "retried", "gone", "dead_lettered"]]] = {
    "settle": "delivered",
    "retry": "retried",
    "disable": "gone",
    "bury": "dead_lettered",
}


class Observer(Protocol):
    """Whoever counts what deliveries do. Called on the event loop; must not raise or wait."""

    def attempted(self, attempt: Attempt) -> None:
        """One attempt ended. A `bury` verdict made a dead letter, `disable` disabled the endpoint."""

    def perished(self, outcome: Outcome) -> None:
        """One perishable (`turn.partial`) was sent, once."""
