"""
SignalWire's cXML streams: Twilio's messages with differences.

Ids are UUIDs; `streamSid` is missing at the top level of one-way streams, `customParameters` where there are none, and
`stop` has no body; the codec may be L16 (https://signalwire.com/docs/compatibility-api/cxml/voice/stream).
"""

from typing import Final

from gateway.media.messages import Encoding
from gateway.media.twilio import MediaFormat, StartWire, TwilioStream, mulaw
from gateway.media.wire import identity

REMEDY: Final = 'set codec="PCMU@8000h" on <Stream>; only mu-law at 8000 Hz with one channel is taken'


class SignalWireStream(TwilioStream):
    """One SignalWire media stream."""

    def _stream_id(self, wire: StartWire, call_id: str) -> str:
        return identity(wire.start.stream_sid or wire.stream_sid or call_id)

    def _encoding(self, media: MediaFormat) -> Encoding:
        return mulaw(media, REMEDY)
