"""What a carrier's media stream says, in the house's words; the same for every carrier."""

from typing import Literal

import msgspec

from gateway.call import Track

Encoding = Literal["PCMU", "PCMA"]
"""G.711 as the frames carry it: mu-law or A-law, 8 kHz, mono, one byte a sample."""


class Connected(msgspec.Struct, frozen=True):
    """The carrier's greeting. It may be missing, and its version is not constant; nothing hangs on it."""


class Started(msgspec.Struct, frozen=True):
    """The stream's own description: once on every socket, before any audio."""

    stream_id: str
    call_id: str
    """Twilio and SignalWire `callSid`, Telnyx `call_control_id`."""
    account_id: str | None
    tracks: tuple[Track, ...]
    """Empty where the carrier names none (Telnyx)."""
    encoding: Encoding
    from_: str | None
    to: str | None
    profile: str | None
    """The parameter `profile`, in whatever case its name came."""
    parties: dict[Track, str]
    """The parameters `inbound_party` and `outbound_party`: whose voice a track is."""
    attributes: dict[str, str]
    """Every custom parameter, as sent; bounded in number and length."""


class Media(msgspec.Struct, frozen=True, gc=False):
    """One frame of one track."""

    track: Track
    chunk: int
    """The frame's number: one more for each frame of the track. It may begin anywhere."""
    timestamp_ms: int
    """Milliseconds from the stream's start; it neither begins at 0 nor grows in exact steps."""
    payload: bytes
    """G.711 bytes of any number, none included."""


class Stopped(msgspec.Struct, frozen=True):
    """The carrier's last word. It may never come."""

    call_id: str | None


IgnoredKind = Literal["dtmf", "mark", "clear", "error", "unknown_event", "repeated_start", "after_stop"]


class Ignored(msgspec.Struct, frozen=True):
    """Said rightly, but nothing follows from it."""

    kind: IgnoredKind


MalformedReason = Literal["json", "shape", "payload", "counter", "track", "id", "order", "binary"]


class Malformed(msgspec.Struct, frozen=True):
    """A message that cannot be used: counted and skipped."""

    reason: MalformedReason


Message = Connected | Started | Media | Stopped | Ignored | Malformed
