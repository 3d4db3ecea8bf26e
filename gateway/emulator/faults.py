"""
The knobs: how the service behaves, and how it fails. Out of the box nothing fails.

A `Faults` is a value; the emulator's may be replaced at any time, in process or over `POST /faults`, and holds for the
sessions that begin afterwards. Knobs under `at` hold for one session only, by its number: 0 is the first that was
admitted to the upgrade since the start or the last reset.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from gateway.errors import ConfigurationFault

How = Literal["rst", "fin", "close"]
"""An end without a word: a TCP reset, a TCP FIN without a close frame, or a close frame with a code."""

Malformed = Literal[
    "not_json",
    "not_object",
    "missing_type",
    "unknown_type",
    "missing_field",
    "wrong_type",
    "bad_word",
    "binary",
    "float_durations",
]


class Cut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The connection ends when so many seconds of audio have come. `code` 1000 is a close that looks like success."""

    second: float
    how: How = "rst"
    code: int = 1000


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An `Error` message and a close with its code; `second` counts received audio, None is before `Begin`."""

    code: int
    text: str
    second: float | None = None


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every knob with its ordinary value."""

    # How the service behaves.
    begin_delay_seconds: float = 0.05
    """From the upgrade to `Begin`; 1.2 on the live service."""
    speed: float | None = 1.25
    """How many times real time backlog is heard, so that `Termination` waits for it; None: at once."""
    ahead_seconds: float = 300.0
    """More audio than this ahead of the wall clock is refused with 3007."""
    strict_frames: bool = False
    """A frame under 50 ms is refused at once instead of after a second of them."""
    end_silence_ms: int = 500
    """Silence that ends a turn, where `min_turn_silence` does not ask for more or `max_turn_silence` for less."""
    turn_cap_seconds: float | None = None
    """A longer turn is ended by force; None: 10 with speaker labels, else 60."""
    partial_every_ms: int | None = None
    """None: 1000, or 3000 with speaker labels or without continuous partials."""
    speakers: int = 1
    """Voices that turns are ascribed to in rotation, as far as `max_speakers` allows."""
    pending_below_ms: int = 1000
    """A turn shorter than this is labelled PENDING until the revision."""
    heartbeat_seconds: float = 5.0
    session_seconds: float | None = None
    """Lifetime that `expires_at` announces; the session is killed two seconds later. None: 10798, or by the token."""
    sessions_per_minute: int | None = None
    over_limit_code: Literal[1008, 3009] = 1008
    deflate: bool = False
    """Accept permessage-deflate."""

    # Before the session.
    refuse_handshakes: int = 0
    """So many handshakes, counted from when this value was set, are answered with `refuse_status`."""
    refuse_status: int = 503
    """0: the connection is reset before any answer."""
    outage_seconds: float = 0.0
    """After each cut, every handshake for so long is answered with `refuse_status`."""
    upgrade_delay_seconds: float = 0.0
    token_status: int | None = None
    """`/v3/token` answers with this status."""
    token_delay_seconds: float = 0.0
    never_begin: bool = False

    # During the session.
    failure: Failure | None = None
    cut: Cut | None = None
    stall_second: float | None = None
    """From here on nothing is read, while messages still go out."""
    black_hole_second: float | None = None
    """From here on nothing is read, answered or sent, pongs and heartbeats included: a half-open link."""
    malformed: tuple[Malformed, ...] = ()
    """Sent one after the other, between the true messages."""
    extras: bool = False
    """`Warning` after `Begin`, `LLMGatewayResponse` after each final: messages that few sessions ever see."""
    duplicate_final: bool = False
    huge_turn_words: int = 0
    """Each final is lengthened by so many filler words."""
    pad_end_ms: int = 0
    """A final's last word ends so much too late; up to 1300 on the live service."""
    early_start_ms: int = 0
    """A turn's first word starts so much too early; up to 1000 on the live service."""

    # At the session's end.
    empty_final: bool = False
    """An empty final precedes `Termination`."""
    unordered_revision: bool = False
    """`SpeakerRevision` comes before the last final, in reverse, twice, and names a turn that never was."""
    termination_delay_seconds: float = 0.0
    never_acknowledge_terminate: bool = False
    drop_after_terminate: How | None = None

    at: dict[int, Any] = {}
    """By session number: a `Cut`, a `Failure`, or a dict of the knobs that differ for this session."""

    def __post_init__(self) -> None:
        for number, special in self.at.items():
            if isinstance(special, Cut | Failure):
                continue
            if not isinstance(special, dict):
                raise TypeError(f"session {number}: not a Cut, a Failure or a dict of knobs")
            if not set(special) <= SESSION_KNOBS:
                raise ValueError(f"session {number} cannot have {', '.join(sorted(set(special) - SESSION_KNOBS))}")

    def but(self, **changes: Any) -> "Faults":
        """The same with some knobs set otherwise."""
        return msgspec.structs.replace(self, **changes)

    def of(self, number: int) -> "Faults":
        """The knobs of one session."""
        special = self.at.get(number)
        if special is None:
            return self
        if isinstance(special, Cut):
            return self.but(cut=special)
        if isinstance(special, Failure):
            return self.but(failure=special)
        return from_mapping({**as_mapping(self.but(at={})), **msgspec.to_builtins(special)})


SERVICE_KNOBS = frozenset(
    {
        "sessions_per_minute", "over_limit_code", "refuse_handshakes", "refuse_status", "outage_seconds",
        "upgrade_delay_seconds", "deflate", "token_status", "token_delay_seconds", "at",
    }
)  # fmt: skip
"""What belongs to no one session."""

SESSION_KNOBS = frozenset(Faults.__struct_fields__) - SERVICE_KNOBS


def as_mapping(faults: Faults) -> dict[str, Any]:
    """The knobs as JSON would show them."""
    mapping: dict[str, Any] = msgspec.to_builtins(faults, str_keys=True)
    return mapping


def from_mapping(knobs: Mapping[str, Any]) -> Faults:
    """
    Knobs from JSON or TOML.

    `at` is `{"0": {"cut": {"second": 3.2, "how": "rst"}}}`; as a short form, `{"0": {"second": 3.2, "how": "rst"}}` is a cut.

    Raises:
        ConfigurationFault: If a knob is unknown or its value cannot be.
    """
    try:
        knobs = dict(knobs)
        specials = knobs.pop("at", {})
        at: dict[int, Any] = {}
        for number, special in specials.items():
            short = "second" in special
            at[int(number)] = msgspec.convert(special, Cut) if short else special
            if not short:
                msgspec.convert(special, Faults, strict=True)
        return msgspec.structs.replace(msgspec.convert(knobs, Faults), at=at)
    except (msgspec.ValidationError, ValueError, TypeError, AttributeError) as error:
        raise ConfigurationFault([f"faults: {error}"]) from error


def from_file(path: Path) -> Faults:
    """
    Knobs from a `.json` or `.toml` file.

    Raises:
        ConfigurationFault: If the file cannot be read or understood.
    """
    try:
        text = path.read_text(encoding="utf-8")
        knobs = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigurationFault([f"{path}: {error}"]) from error
    if not isinstance(knobs, dict):
        raise ConfigurationFault([f"{path}: not a table of knobs"])
    return from_mapping(knobs)
