"""
Telnyx media streams: snake_case JSON text messages, the same for Call Control and for TeXML.

"Media frame order is not guaranteed", says its reference: `chunk` puts frames in order again, elsewhere
(https://developers.telnyx.com/docs/voice/programmable-voice/media-streaming). The frames' encoding is the call leg's codec
unless the stream was asked for with another, so it is read from `start`. An `error` message speaks of what we sent.
"""

from typing import Any, ClassVar, Final

import msgspec

from gateway.media.messages import Encoding, Started
from gateway.media.wire import CarrierStream, CommonWire, described, identity, identity_or_none, refuse_format

REMEDY: Final = 'ask for the stream with stream_codec="PCMU" (TeXML: codec="PCMU"); PCMU and PCMA at 8000 Hz with one channel are taken'

ENCODINGS: Final[dict[str, Encoding]] = {
    "PCMU": "PCMU",
    "PCMA": "PCMA",
    "AUDIO/X-MULAW": "PCMU",
    "AUDIO/X-ALAW": "PCMA",
    "AUDIO/PCMU": "PCMU",
    "AUDIO/PCMA": "PCMA",
}


class MediaFormat(msgspec.Struct):
    encoding: str = ""
    sample_rate: int = 0
    channels: int = 1


class StartBody(msgspec.Struct, rename={"from_": "from", "custom_parameters_camel": "customParameters"}):
    call_control_id: Any = None
    stream_id: Any = None
    user_id: Any = None
    from_: Any = None
    to: Any = None
    tracks: Any = None
    media_format: MediaFormat | None = None
    custom_parameters: Any = None
    custom_parameters_camel: Any = None
    """The reference shows neither name: both are read."""


class StartWire(msgspec.Struct, tag_field="event", tag="start"):
    start: StartBody
    stream_id: Any = None


class StopBody(msgspec.Struct):
    call_control_id: Any = None


class StopWire(msgspec.Struct, tag_field="event", tag="stop"):
    stop: StopBody | None = None


class TelnyxStream(CarrierStream):
    """One Telnyx media stream."""

    _decoder: ClassVar = msgspec.json.Decoder(CommonWire | StartWire | StopWire, strict=False)

    def _description(self, wire: Any) -> Started | None:
        if not isinstance(wire, StartWire):
            return None
        start = wire.start
        call_id = identity(start.call_control_id)
        media = start.media_format or MediaFormat()
        encoding = ENCODINGS.get(media.encoding.upper())
        if encoding is None or (media.sample_rate, media.channels) != (8000, 1):
            raise refuse_format(f"{media.encoding or 'none'}@{media.sample_rate}x{media.channels}", REMEDY)
        return described(
            stream_id=identity(wire.stream_id or start.stream_id or call_id),
            call_id=call_id,
            account_id=start.user_id,
            tracks=start.tracks,
            encoding=encoding,
            from_=start.from_,
            to=start.to,
            parameters=start.custom_parameters or start.custom_parameters_camel,
        )

    def _call_of(self, wire: StopWire) -> str | None:
        return identity_or_none(wire.stop.call_control_id) if wire.stop else None
