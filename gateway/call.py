"""The words of the house as data: who speaks in a call, and what was said. No I/O, no clock."""

from typing import Final, Literal

import msgspec

Track = Literal["inbound", "outbound"]
"""A direction's name on the wire: `inbound` is the party on the carrier leg that runs the stream, whoever dialled."""

TRACKS: Final[tuple[Track, ...]] = ("inbound", "outbound")

Carrier = Literal["twilio", "telnyx", "signalwire"]

CARRIERS: Final[tuple[Carrier, ...]] = ("twilio", "telnyx", "signalwire")


class Party(msgspec.Struct, frozen=True):
    """Whose voice a leg is: the `leg` of every event."""

    track: Track
    party: str
    """The party's name by profile; the track's where none is given."""


class Call(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """A conversation as every event names it."""

    id: str
    """The carrier's: Twilio `callSid`, Telnyx `call_control_id`."""
    carrier: Carrier
    stream_id: str
    """The newest media stream of the call."""
    account_id: str | None
    from_: str | None
    to: str | None
    started_at: str
    """RFC 3339, UTC: when the call's first stream started."""
    attributes: dict[str, str]
    """The stream's custom parameters, as sent."""
    profile: str


class Word(msgspec.Struct, frozen=True, gc=False):
    """One word, timed in milliseconds on the call's clock."""

    text: str
    start_ms: int
    end_ms: int
    confidence: float | None
    speaker: str | None
    """`{track}:{letter}`, or None where the service gave no letter."""


class Turn(msgspec.Struct, frozen=True):
    """What a leg said between silences. `id` is `{track}-{index}`; `index` runs 0, 1, 2, … within a leg, across sessions."""

    id: str
    index: int
    text: str
    start_ms: int
    end_ms: int
    speaker: str | None
    confidence: float | None
    """The mean of its words'."""
    language: str | None
    words: tuple[Word, ...] | None
    """None only in an oversized transcript."""
    session_id: str
