"""
Twilio Media Streams: camelCase JSON text messages, for `<Start><Stream>` and `<Connect><Stream>` alike.

Every number but those of `mediaFormat` is a JSON string; `customParameters` may be absent; the parties' numbers are
never in `start` (https://www.twilio.com/docs/voice/media-streams/websocket-messages).
"""

from typing import Any, ClassVar, Final

import msgspec

from gateway.media.messages import Encoding, Started
from gateway.media.wire import CarrierStream, CommonWire, described, identity, identity_or_none, refuse_format

REMEDY: Final = "only audio/x-mulaw at 8000 Hz with one channel is taken, which is all that Twilio streams"


class MediaFormat(msgspec.Struct, rename="camel"):
    encoding: str = ""
    sample_rate: int = 0
    channels: int = 1


class StartBody(msgspec.Struct, rename="camel"):
    call_sid: Any = None
    stream_sid: Any = None
    account_sid: Any = None
    tracks: Any = None
    media_format: MediaFormat | None = None
    custom_parameters: Any = None


class StartWire(msgspec.Struct, rename="camel", tag_field="event", tag="start"):
    start: StartBody
    stream_sid: Any = None


class StopBody(msgspec.Struct, rename="camel"):
    call_sid: Any = None


class StopWire(msgspec.Struct, rename="camel", tag_field="event", tag="stop"):
    stop: StopBody | None = None
    """SignalWire sends none."""


class TwilioStream(CarrierStream):
    """One Twilio media stream."""

    _decoder: ClassVar = msgspec.json.Decoder(CommonWire | StartWire | StopWire, strict=False)

    def _description(self, wire: Any) -> Started | None:
        if not isinstance(wire, StartWire):
            return None
        start = wire.start
        call_id = identity(start.call_sid)
        return described(
            stream_id=self._stream_id(wire, call_id),
            call_id=call_id,
            account_id=start.account_sid,
            tracks=start.tracks,
            encoding=self._encoding(start.media_format or MediaFormat()),
            from_=None,
            to=None,
            parameters=start.custom_parameters,
        )

    def _stream_id(self, wire: StartWire, call_id: str) -> str:  # noqa: ARG002  SignalWire's falls back on the call
        return identity(wire.start.stream_sid if wire.start.stream_sid is not None else wire.stream_sid)

    def _encoding(self, media: MediaFormat) -> Encoding:
        return mulaw(media, REMEDY)

    def _call_of(self, wire: StopWire) -> str | None:
        return identity_or_none(wire.stop.call_sid) if wire.stop else None


def mulaw(media: MediaFormat, remedy: str) -> Encoding:
    """
    The one format of this family that is taken.

    Raises:
        ProtocolFault: The stream has another.
    """
    if media.encoding.lower() in {"audio/x-mulaw", "audio/pcmu", "pcmu"} and (media.sample_rate, media.channels) == (
        8000,
        1,
    ):
        return "PCMU"
    raise refuse_format(f"{media.encoding or 'none'}@{media.sample_rate}x{media.channels}", remedy)
