"""
What customers are promised: every event, its body, and its JSON Schema. The contract's chapter 4, as types.

A new event is a struct here, with its name in `EVENTS`; whoever emits it makes one, and `body` writes it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from gateway.call import Call, Party, Turn, Word

GapReason = Literal["carrier_loss", "overflow", "provider_outage", "refused", "paused"]
EndReason = Literal[
    "stopped",
    "socket_lost",
    "carrier_event",
    "media_timeout",
    "max_duration",
    "ended_by_api",
    "drained",
    "gateway_lost",
]
ZombieReason = Literal["unconfirmed_terminate", "unowned", "crash"]
SessionReason = Literal["terminated", "lost", "expired", "refused", "zombie"]
Outcome = Literal["complete", "incomplete", "refused", "silent"]

WORDLESS_FROM: Final = 256 * 1024
"""Contract §4: "Past 256 KiB its turns lose their `words`"."""
NULL_FROM: Final = 4 * 1024 * 1024
"""Contract §4: "past 4 MiB `transcript` is null"."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session with the speech service. Times are RFC 3339; what is not known yet is null."""

    id: str
    """The service's."""
    number: int
    """1, 2, 3, … within the leg."""
    model: str
    opened_at: str
    closed_at: str | None = None
    duration_seconds: float | None = None
    billed_seconds: float | None = None
    billed_is_estimate: bool = True
    """False where the service itself said how long it billed."""
    audio_seconds: float = 0.0
    """Samples sent, counted by us."""
    cost_usd: float | None = None
    reason: SessionReason | None = None


class LegSummary(msgspec.Struct, frozen=True):
    """A leg as its call ends."""

    track: str
    party: str
    outcome: Outcome
    """`complete`; `incomplete`: the service was away for longer than audio could wait (see `audio.gap`); `refused`: the service refuses
    what is asked for; `silent`: the carrier never sent a frame."""
    why: str | None = None
    """Of a refusal: the service's reason."""


class LegTurn(Turn, frozen=True, kw_only=True):
    """A turn of the transcript, with whose it is."""

    leg: Party


class _Data(msgspec.Struct, frozen=True, kw_only=True):
    call: Call
    sequence: int


class CallStarted(_Data, frozen=True, kw_only=True):
    """`call.started`: a call's first stream began, or one that opens the call anew."""

    legs: tuple[Party, ...]


class SessionStarted(_Data, frozen=True, kw_only=True):
    """`session.started`: the service opened a session, and bills it."""

    leg: Party
    session: Session


class SessionEnded(_Data, frozen=True, kw_only=True):
    """`session.ended`: it is closed, or given up as a zombie."""

    leg: Party
    session: Session


class TurnPartial(_Data, frozen=True, kw_only=True):
    """`turn.partial`: a turn as heard so far; perishable. An empty text withdraws it."""

    leg: Party
    turn: Turn


class TurnFinal(_Data, frozen=True, kw_only=True):
    """`turn.final`: what was said, once."""

    leg: Party
    turn: Turn


class TurnRevised(_Data, frozen=True, kw_only=True):
    """`turn.revised`: turns whose speakers are known better now, whole."""

    leg: Party
    turns: tuple[Turn, ...]


class AudioGap(_Data, frozen=True, kw_only=True):
    """`audio.gap`: words may be missing here."""

    leg: Party
    start_ms: int
    end_ms: int
    reason: GapReason


class SessionZombie(_Data, frozen=True, kw_only=True):
    """`session.zombie`: perhaps open, perhaps billed, for nobody. `cost_usd` is the worst case."""

    leg: Party
    session: Session
    reason: ZombieReason
    age_seconds: float
    cost_usd: float


class CallEnded(_Data, frozen=True, kw_only=True):
    """`call.ended`: the last event of a call."""

    reason: EndReason
    duration_seconds: float
    legs: tuple[LegSummary, ...]
    transcript: tuple[LegTurn, ...] | None
    """Every turn of every leg in order of start; null where it would be larger than 4 MiB."""
    billed_seconds: float
    cost_usd: float


EVENTS: Final[Mapping[str, type[_Data]]] = {
    "call.started": CallStarted,
    "session.started": SessionStarted,
    "session.ended": SessionEnded,
    "turn.partial": TurnPartial,
    "turn.final": TurnFinal,
    "turn.revised": TurnRevised,
    "audio.gap": AudioGap,
    "session.zombie": SessionZombie,
    "call.ended": CallEnded,
}
NAMES: Final[Mapping[type[_Data], str]] = {struct: name for name, struct in EVENTS.items()}

Data = _Data
_encoder: Final = msgspec.json.Encoder()


def body(data: Data, at: float) -> bytes:
    """An event's JSON, as it is signed and sent; *at* in seconds of the epoch."""
    return _encoder.encode({"type": NAMES[type(data)], "timestamp": rfc3339(at), "data": data})


def rfc3339(at: float) -> str:
    """A time as every event writes it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def transcript(turns: list[tuple[Party, Turn]]) -> tuple[LegTurn, ...] | None:
    """
    A call's turns on one time line, cut to what a webhook may carry.

    A long call's words are not all encoded to learn that they are too many: everything waits meanwhile.
    """
    ordered = sorted(turns, key=lambda said: (said[1].start_ms, said[1].end_ms, said[0].track, said[1].index))
    whole: list[LegTurn] = []
    size = 1  # a bracket; each turn brings a comma or the other one
    for party, turn in ordered:
        whole.append(_leg_turn(party, turn, turn.words))
        size += len(_encoder.encode(whole[-1])) + 1
        if size > WORDLESS_FROM:
            break
    else:
        return tuple(whole)
    wordless = tuple([_leg_turn(party, turn, None) for party, turn in ordered])
    return wordless if len(_encoder.encode(wordless)) <= NULL_FROM else None


def _leg_turn(party: Party, turn: Turn, words: tuple[Word, ...] | None) -> LegTurn:
    return LegTurn(
        turn.id,
        turn.index,
        turn.text,
        turn.start_ms,
        turn.end_ms,
        turn.speaker,
        turn.confidence,
        turn.language,
        words,
        turn.session_id,
        leg=party,
    )


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of every event."""
    structs = tuple(EVENTS.values())
    refs, components = msgspec.json.schema_components(structs, ref_template="#/$defs/{name}")
    for component in components.values():
        # A field that has a default here is sent all the same.
        component["required"] = list(component["properties"])
        for field in component["properties"].values():
            field.pop("default", None)
    events = [
        {
            "title": name,
            "description": (EVENTS[name].__doc__ or "").strip(),
            "type": "object",
            "properties": {
                "type": {"const": name},
                "timestamp": {"type": "string", "format": "date-time"},
                "data": ref,
            },
            "required": ["type", "timestamp", "data"],
        }
        for name, ref in zip(EVENTS, refs, strict=True)
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Webhooks of the telephony transcription gateway",
        "oneOf": events,
        "$defs": components,
    }
