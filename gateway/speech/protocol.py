"""
What the service says, and what may follow what in a session. Pure.

    CONNECTING ──Begin──▶ OPEN ──Terminate──▶ TERMINATING ──Termination──▶ TERMINATED
        │                  │                       │
        └──────────────────┴──── lost ─────────────┴──▶ LOST

Messages are tolerant: an unknown one or an unknown field is nothing; a known one with a wrong field loses that field, and a
turn's wrong word loses that word, never the turn. Only what cannot be placed at all is malformed.
"""

import enum
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.errors import StateFault

TERMINATE: Final = b'{"type":"Terminate"}'


class Word(msgspec.Struct, frozen=True, gc=False):
    """One word of a turn; milliseconds on the session's audio clock. The end is often too late, by up to 1.3 s."""

    start: float
    end: float
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

    turn_order: int
    end_of_turn: bool = False
    turn_is_formatted: bool = True
    transcript: str = ""
    words: tuple[Word, ...] = ()
    speaker_label: str | None = None
    language_code: str | None = None


class SpeechStarted(msgspec.Struct, frozen=True, tag_field="type", tag="SpeechStarted"):
    """A turn begins; `timestamp` in milliseconds."""

    timestamp: float | None = None


class Revision(msgspec.Struct, frozen=True):
    """A turn whose speakers the service hears otherwise now."""

    turn_order: int
    speaker_label: str | None = None
    words: tuple[Word, ...] = ()


class SpeakerRevision(msgspec.Struct, frozen=True, tag_field="type", tag="SpeakerRevision"):
    """Only the turns that changed."""

    revisions: tuple[Revision, ...] = ()


class Heartbeat(msgspec.Struct, frozen=True, tag_field="type", tag="Heartbeat"):
    """Every 5 s: how much of our audio has arrived there."""

    total_audio_received_ms: float | None = None
    realtime_factor: float | None = None


class Silence(msgspec.Struct, frozen=True, tag_field="type", tag="Silence"):
    """Nobody speaks."""


class Warning(msgspec.Struct, frozen=True, tag_field="type", tag="Warning"):  # noqa: A001  the service's name
    """Something it dislikes and bears."""

    warning_code: int | None = None
    warning: str = ""


class LLMGatewayResponse(msgspec.Struct, frozen=True, tag_field="type", tag="LLMGatewayResponse"):
    """What a language model made of a turn, where a profile asked for it."""

    turn_order: int | None = None


class Error(msgspec.Struct, frozen=True, tag_field="type", tag="Error"):
    """Why the session is being closed: the close frame that follows only says to look here."""

    error_code: int | None = None
    error: str = ""


class Termination(msgspec.Struct, frozen=True, tag_field="type", tag="Termination"):
    """The session is closed and told. `session_duration_seconds` is what is billed."""

    audio_duration_seconds: float | None = None
    session_duration_seconds: float | None = None


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
_decoder: Final = msgspec.json.Decoder(Known, strict=False)


def read(data: bytes | str) -> Message:
    """One text message, whatever it holds."""
    try:
        known: Known = _decoder.decode(data)
    except msgspec.ValidationError:
        return _salvaged(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Malformed("not JSON")
    return known


def _salvaged(data: bytes | str) -> Message:
    """A message with something wrong in it, less what is wrong."""
    whole = msgspec.json.decode(data)
    if not isinstance(whole, dict):
        return Malformed("no object")
    kind = whole.get("type")
    struct = _KINDS.get(kind) if isinstance(kind, str) else None
    if struct is None:
        return Unknown(kind[:40]) if isinstance(kind, str) else Malformed("no type")
    message: Known | None = _convert(whole, struct)
    return Malformed(f"unusable {kind}") if message is None else message


def _convert(whole: Mapping[str, Any], struct: type[Any]) -> Any:
    """A struct of those fields that fit; None where a needed one does not."""
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        value = whole.get(field.name)
        if value is None:
            continue
        if field.name in _LISTS and isinstance(value, list):
            parts = (_convert(part, _LISTS[field.name]) for part in value if isinstance(part, dict))
            fields[field.name] = tuple(part for part in parts if part is not None)
            continue
        try:
            fields[field.name] = msgspec.convert(value, field.type, strict=False)
        except msgspec.ValidationError:
            continue
    try:
        return struct(**fields)
    except TypeError:  # a field without default is missing
        return None


_LISTS: Final[Mapping[str, type[msgspec.Struct]]] = {"words": Word, "revisions": Revision}


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
