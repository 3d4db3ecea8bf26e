"""
What the service says, and what may follow what in a session. Pure.

    CONNECTING ──Begin──▶ OPEN ──Terminate──▶ TERMINATING ──Termination──▶ TERMINATED
        │                  │                       │
        └──────────────────┴──── lost ─────────────┴──▶ LOST

Messages are tolerant: an unknown one or an unknown field is nothing; a known one with a wrong field loses that field, and a
turn's wrong word loses what is wrong with it, never the turn. Only what cannot be placed at all is malformed. What no session
can reach (a word after six hours, a negative price) is wrong, and so is NaN, which Python services write as JSON.
"""

import enum
import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from gateway.errors import StateFault

TERMINATE: Final = b'{"type":"Terminate"}'

Ms = Annotated[float, msgspec.Meta(ge=-60_000, le=21_600_000)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]
Order = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
Code = Annotated[int, msgspec.Meta(ge=0, le=99_999)]


class Word(msgspec.Struct, frozen=True, gc=False):
    """One word of a turn; milliseconds on the session's audio clock. The end is often too late, by up to 1.3 s."""

    start: Ms
    end: Ms
    text: str
    confidence: float | None = None
    speaker: str | None = None


class Begin(msgspec.Struct, frozen=True, tag_field="type", tag="Begin"):
    """The session is open. `expires_at` in seconds of the epoch."""

    id: str = ""
    expires_at: float | None = None
    configuration: dict[str, Any] | None = None


class Turn(msgspec.Struct, frozen=True, tag_field="type", tag="Turn"):
    """A turn so far, whole: it replaces what was said of the same `turn_order`. `end_of_turn` makes it final."""

    turn_order: Order
    end_of_turn: bool = False
    turn_is_formatted: bool = True
    transcript: str = ""
    words: tuple[Word, ...] = ()
    speaker_label: str | None = None
    language_code: str | None = None


class SpeechStarted(msgspec.Struct, frozen=True, tag_field="type", tag="SpeechStarted"):
    """A turn begins; `timestamp` in milliseconds."""

    timestamp: Ms | None = None


class Revision(msgspec.Struct, frozen=True):
    """A turn whose speakers the service hears otherwise now."""

    turn_order: Order
    speaker_label: str | None = None
    words: tuple[Word, ...] = ()


class SpeakerRevision(msgspec.Struct, frozen=True, tag_field="type", tag="SpeakerRevision"):
    """Only the turns that changed."""

    revisions: tuple[Revision, ...] = ()


class Heartbeat(msgspec.Struct, frozen=True, tag_field="type", tag="Heartbeat"):
    """Every 5 s: how much of our audio has arrived there."""

    total_audio_received_ms: Ms | None = None
    realtime_factor: float | None = None


class Silence(msgspec.Struct, frozen=True, tag_field="type", tag="Silence"):
    """Nobody speaks."""


class Warning(msgspec.Struct, frozen=True, tag_field="type", tag="Warning"):  # noqa: A001  the service's name
    """Something it dislikes and bears."""

    warning_code: Code | None = None
    warning: str = ""


class LLMGatewayResponse(msgspec.Struct, frozen=True, tag_field="type", tag="LLMGatewayResponse"):
    """What a language model made of a turn, where a profile asked for it."""

    turn_order: Order | None = None


class Error(msgspec.Struct, frozen=True, tag_field="type", tag="Error"):
    """Why the session is being closed: the close frame that follows only says to look here."""

    error_code: Code | None = None
    error: str = ""


class Termination(msgspec.Struct, frozen=True, tag_field="type", tag="Termination"):
    """The session is closed and told. `session_duration_seconds` is what is billed."""

    audio_duration_seconds: Seconds | None = None
    session_duration_seconds: Seconds | None = None


class Unknown(msgspec.Struct, frozen=True):
    """A kind that is not known here: counted, never fatal."""

    kind: str


class Malformed(msgspec.Struct, frozen=True):
    """What cannot be used at all."""

    why: str


Known = (
    Begin
    | Turn
    | SpeechStarted
    | SpeakerRevision
    | Heartbeat
    | Silence
    | Warning
    | LLMGatewayResponse
    | Error
    | Termination
)
Message = Known | Unknown | Malformed

_KINDS: Final[Mapping[str, type[msgspec.Struct]]] = {
    kind.__name__: kind
    for kind in (
        Begin,
        Turn,
        SpeechStarted,
        SpeakerRevision,
        Heartbeat,
        Silence,
        Warning,
        LLMGatewayResponse,
        Error,
        Termination,
    )
}
_decoder: Final = msgspec.json.Decoder(Known)


def read(data: bytes | str) -> Message:
    """One text message, whatever it holds."""
    try:
        known: Known = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _salvaged(data)
    return known


def _salvaged(data: bytes | str) -> Message:
    """A message with something wrong in it, less what is wrong."""
    try:
        # The standard library takes what Python writes and JSON forbids: NaN, Infinity, half a surrogate.
        whole = json.loads(data.decode(errors="replace") if isinstance(data, bytes) else data)
    except (ValueError, RecursionError):
        return Malformed("not JSON")
    if not isinstance(whole, dict):
        return Malformed("no object")
    kind = whole.get("type")
    if kind is None and isinstance(whole.get("error"), str):
        kind = "Error"  # as the service wrote errors before they had a type; the SDK reads them too
    if not isinstance(kind, str):
        return Malformed("no type")
    struct = _KINDS.get(kind)
    if struct is None:
        return Unknown(_clean(kind[:40]))
    message: Known | None = _built(struct, _fitting(struct, whole))
    return Malformed(f"unusable {kind}") if message is None else message


def _built(struct: type[Any], fields: Mapping[str, Any]) -> Any:
    """The struct; None where a field without default is missing."""
    try:
        return struct(**fields)
    except TypeError:
        return None


def _fitting(struct: type[Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    """Those fields that fit."""
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        value = whole.get(field.name)
        if field.name in {"words", "revisions"}:
            parts = [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []
            fields[field.name] = _words(parts) if field.name == "words" else _revisions(parts)
            continue
        try:
            fitting = msgspec.convert(value, field.type, strict=False)
        except (msgspec.MsgspecError, ValueError, OverflowError):
            continue
        if isinstance(fitting, str):
            fitting = _clean(fitting)
        if _sound(fitting):
            fields[field.name] = fitting
    return fields


def _sound(value: object) -> bool:
    """Whether it can be reckoned with, and stored."""
    if isinstance(value, float):
        return math.isfinite(value)
    try:
        msgspec.json.encode(value)
    except (ValueError, OverflowError):
        return False
    return True


def _words(parts: Sequence[Mapping[str, Any]]) -> tuple[Word, ...]:
    """Words whose text is known. One without a start begins with the one before it, or with the first that has one."""
    found = [fields for part in parts if "text" in (fields := _fitting(Word, part))]
    before = next((fields["start"] for fields in found if "start" in fields), None)
    words: list[Word] = []
    for fields in found:
        before = fields.setdefault("start", fields.get("end") if before is None else before)
        if before is not None:
            fields.setdefault("end", before)
            words.append(Word(**fields))
    return tuple(words)


def _revisions(parts: Sequence[Mapping[str, Any]]) -> tuple[Revision, ...]:
    built = (_built(Revision, _fitting(Revision, part)) for part in parts)
    return tuple(revision for revision in built if revision is not None)


def _clean(text: str) -> str:
    """Text that can be written as UTF-8."""
    return text.encode(errors="replace").decode()


class State(enum.Enum):
    """Where a session is."""

    CONNECTING = "dialled; no Begin yet, so nothing may be sent"
    OPEN = "Begin was read; audio goes"
    TERMINATING = "Terminate was said; last turns may come"
    TERMINATED = "Termination was read"
    LOST = "gone without a word, or refused"


class Step(enum.Enum):
    """What moves a session."""

    BEGIN = "Begin"
    AUDIO = "audio"
    TERMINATE = "Terminate"
    TERMINATION = "Termination"
    LOST = "loss"


TABLE: Final[Mapping[tuple[State, Step], State]] = {
    (State.CONNECTING, Step.BEGIN): State.OPEN,
    (State.CONNECTING, Step.LOST): State.LOST,
    (State.OPEN, Step.AUDIO): State.OPEN,
    (State.OPEN, Step.TERMINATE): State.TERMINATING,
    (State.OPEN, Step.TERMINATION): State.TERMINATED,  # nobody asked, but it is told and billed
    (State.OPEN, Step.LOST): State.LOST,
    (State.TERMINATING, Step.TERMINATION): State.TERMINATED,
    (State.TERMINATING, Step.LOST): State.LOST,
}


def follow(state: State, step: Step) -> State:
    """
    The state after *step*.

    Raises:
        StateFault: This step is not allowed there.
    """
    try:
        return TABLE[state, step]
    except KeyError:
        raise StateFault(f"{step.value} while {state.name}") from None
