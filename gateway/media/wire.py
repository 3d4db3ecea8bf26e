"""
What the carriers' wires have in common: JSON objects told apart by `event`, and the order they may come in.

    NEW ──start──▶ STARTED ──stop──▶ STOPPED        connected, dtmf, mark, error: in any state, and change none
     │ media, stop: Malformed("order")   │ start, media, stop: Ignored("after_stop")

One typed decode a message does JSON, tag, counters (which come as strings) and base64 at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from gateway.call import TRACKS, Track
from gateway.errors import ProtocolFault
from gateway.media.messages import (
    Connected,
    Encoding,
    Ignored,
    IgnoredKind,
    Malformed,
    MalformedReason,
    Media,
    Message,
    Started,
    Stopped,
)

MALFORMED_LIMIT: Final = 50
"""So many malformed messages in a row, with no frame of audio between them, are not a carrier: the socket is closed."""

ID_LIMIT: Final = 256
PARAMETERS_LIMIT: Final = 100  # Twilio's REST form offers 99
PARAMETER_NAME_LIMIT: Final = 256
PARAMETER_VALUE_LIMIT: Final = 4096

Counter = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""A number that may come as a string; beyond 2^53 it is no count of anything."""

_TRACKS: Final[dict[str, Track]] = {
    "inbound": "inbound",
    "outbound": "outbound",
    "inbound_track": "inbound",  # as the stream is asked for; some carriers' messages say it so too
    "outbound_track": "outbound",
}


class Body(msgspec.Struct, gc=False):
    track: str
    chunk: Counter
    timestamp: Counter
    payload: bytes


class MediaWire(msgspec.Struct, gc=False, tag_field="event", tag="media"):
    media: Body


class ConnectedWire(msgspec.Struct, gc=False, tag_field="event", tag="connected"):
    pass


class DtmfWire(msgspec.Struct, gc=False, tag_field="event", tag="dtmf"):
    pass


class MarkWire(msgspec.Struct, gc=False, tag_field="event", tag="mark"):
    pass


class ClearWire(msgspec.Struct, gc=False, tag_field="event", tag="clear"):
    pass


class ErrorWire(msgspec.Struct, gc=False, tag_field="event", tag="error"):
    pass


CommonWire = MediaWire | ConnectedWire | DtmfWire | MarkWire | ClearWire | ErrorWire

_IGNORED: Final[dict[type, IgnoredKind]] = {
    DtmfWire: "dtmf",
    MarkWire: "mark",
    ClearWire: "clear",
    ErrorWire: "error",  # it speaks of what we sent, and we send nothing: never the end of a call
}


class _Envelope(msgspec.Struct):
    event: str


_envelope: Final = msgspec.json.Decoder(_Envelope)

# RecursionError: brackets nested some thousand deep; UnicodeError: a string that is no UTF-8.
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


class CarrierStream(ABC):
    """One media stream's machine: `receive` each text message of its socket, in order."""

    _decoder: ClassVar[msgspec.json.Decoder[Any]]

    def __init__(self) -> None:
        self.started: Started | None = None
        """What the stream said of itself, once it has."""
        self._state: Literal["NEW", "STARTED", "STOPPED"] = "NEW"
        self._malformed_in_a_row = 0

    def receive(self, data: bytes | str) -> Message:
        """
        One text message's meaning.

        Raises:
            ProtocolFault: The socket must be closed with its `code`: 1007 after `MALFORMED_LIMIT` malformed messages,
                1003 where the audio's format is not one we take, 1008 where a second call starts on the socket.
        """
        try:
            wire = self._decoder.decode(data)
        except _UNREADABLE as error:
            return self._unreadable(data, error)
        if type(wire) is MediaWire:
            body = wire.media
            track = _TRACKS.get(body.track)
            if track is None:
                return self.malformed("track")
            if self._state != "STARTED":
                return Ignored("after_stop") if self._state == "STOPPED" else self.malformed("order")
            self._malformed_in_a_row = 0
            return Media(track, body.chunk, body.timestamp, body.payload)
        if type(wire) is ConnectedWire:
            return Connected()
        kind = _IGNORED.get(type(wire))
        if kind is not None:
            return Ignored(kind)
        if self._state == "STOPPED":
            return Ignored("after_stop")
        return self._turning_point(wire)

    def malformed(self, reason: MalformedReason) -> Malformed:
        """
        Count a message that cannot be used; the socket's shell says "binary" for frames that are no text.

        Raises:
            ProtocolFault: It was one too many.
        """
        self._malformed_in_a_row += 1
        if self._malformed_in_a_row >= MALFORMED_LIMIT:
            message = f"{self._malformed_in_a_row} malformed messages in a row, the last one's fault: {reason}"
            raise ProtocolFault(message, reason="malformed", code=1007)
        return Malformed(reason)

    @abstractmethod
    def _description(self, wire: Any) -> Started | None:
        """What a `start` message says; None where *wire* is a `stop`. Raises `Unusable` for ids that cannot be used."""

    @abstractmethod
    def _call_of(self, wire: Any) -> str | None:
        """The call that a `stop` message names."""

    def _turning_point(self, wire: Any) -> Message:
        try:
            description = self._description(wire)
        except Unusable:
            return self.malformed("id")
        if description is None:
            if self._state == "NEW":
                return self.malformed("order")
            self._state = "STOPPED"
            return Stopped(self._call_of(wire))
        if self.started is not None:
            if description.call_id == self.started.call_id:
                return Ignored("repeated_start")
            raise ProtocolFault("a second call started on one socket", reason="second_call")
        self.started = description
        self._state = "STARTED"
        return description

    def _unreadable(self, data: bytes | str, error: Exception) -> Message:
        if not isinstance(error, msgspec.ValidationError):
            return self.malformed("json")
        try:
            event = _envelope.decode(data).event
        except _UNREADABLE:
            return self.malformed("shape")
        if event not in _KNOWN:
            return Ignored("unknown_event")
        return self.malformed(_fault_of(str(error)))


_KNOWN: Final = frozenset({"connected", "start", "media", "stop", "dtmf", "mark", "clear", "error"})


def _fault_of(said: str) -> MalformedReason:
    """The label of msgspec's sentence, by the path at its end (``… - at `$.media.payload` ``)."""
    if "`$.media.payload`" in said:
        return "payload"
    if "`$.media.chunk`" in said or "`$.media.timestamp`" in said:
        return "counter"
    if "`$.media.track`" in said:
        return "track"
    return "shape"


class Unusable(ValueError):
    """An id that is missing, too long, or not printable."""


def identity(value: object) -> str:
    """
    An id as the house may store, log and send it.

    Raises:
        Unusable: It is none.
    """
    if isinstance(value, str) and 0 < len(value) <= ID_LIMIT and value.isascii() and value.isprintable():
        return value
    raise Unusable


def identity_or_none(value: object) -> str | None:
    """An id that may be missing; one that cannot be used counts as missing."""
    try:
        return identity(value)
    except Unusable:
        return None


def tracks_of(value: object) -> tuple[Track, ...]:
    """The tracks a `start` names, each once, inbound first; unknown names are passed over."""
    names = value if isinstance(value, list) else [value]
    if "both_tracks" in names:
        return TRACKS
    found = {_TRACKS.get(name) for name in names if isinstance(name, str)}
    return tuple(track for track in TRACKS if track in found)


def parameters_of(value: object) -> dict[str, str]:
    """
    Custom parameters: an object, or a list of `{"name", "value"}`; absent, null and anything else are none.

    Beyond the limits the rest is cut off: a parameter too many is no reason to lose a call.
    """
    pairs: list[tuple[object, object]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = [(item.get("name"), item.get("value")) for item in value if isinstance(item, dict)]
    found: dict[str, str] = {}
    for name, said in pairs:
        if len(found) >= PARAMETERS_LIMIT:
            break
        if isinstance(name, str) and 0 < len(name) <= PARAMETER_NAME_LIMIT:
            text = _text(said)
            if text is not None:
                found[name] = text[:PARAMETER_VALUE_LIMIT]
    return found


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return None


def number_of(value: object) -> str | None:
    """A party's number or address; None where it is missing, empty, too long or not printable."""
    return value if isinstance(value, str) and 0 < len(value) <= ID_LIMIT and value.isprintable() else None


def described(
    *,
    stream_id: str,
    call_id: str,
    account_id: object,
    tracks: object,
    encoding: Encoding,
    from_: object,
    to: object,
    parameters: object,
) -> Started:
    """A `start` in the house's words; what it does not say itself is looked for in its parameters, in any case."""
    attributes = parameters_of(parameters)
    known: Mapping[str, str] = {name.lower(): value for name, value in reversed(attributes.items())}
    parties: dict[Track, str] = {}
    for track in TRACKS:
        party = number_of(known.get(f"{track}_party"))
        if party is not None:
            parties[track] = party
    return Started(
        stream_id=stream_id,
        call_id=call_id,
        account_id=identity_or_none(account_id),
        tracks=tracks_of(tracks),
        encoding=encoding,
        from_=number_of(from_) or number_of(known.get("from")),
        to=number_of(to) or number_of(known.get("to")),
        profile=number_of(known.get("profile")),
        parties=parties,
        attributes=attributes,
    )


def refuse_format(said: str, remedy: str) -> ProtocolFault:
    """The fault of a `start` whose audio we do not take; *said* is what it named, *remedy* what to set."""
    shown = said[:64] if said.isprintable() else "unprintable"
    return ProtocolFault(f"unsupported media format {shown}: {remedy}", reason="unsupported_format", code=1003)
