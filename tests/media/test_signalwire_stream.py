"""SignalWire's messages: Twilio's with differences."""

import json

import pytest

from gateway.errors import ProtocolFault
from gateway.media.messages import Connected, Ignored, Media, Started, Stopped
from gateway.media.signalwire import SignalWireStream

CALL = "6a5d4c1e-0d8a-4b1c-9c7e-0e5b5b1f2a3b"


def start(encoding: str = "audio/x-mulaw", rate: int = 8000, stream: str | None = "stream-uuid") -> str:
    """A `start` of a one-way stream: no top-level id, no parameters."""
    body = {
        "callSid": CALL,
        "accountSid": "project",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": encoding, "sampleRate": rate},
    }
    return json.dumps(
        {"event": "start", "sequenceNumber": "1", "start": body | ({"streamSid": stream} if stream else {})}
    )


def test_a_whole_stream() -> None:
    """Messages without a top-level id, and a `stop` without body, are enough."""
    stream = SignalWireStream()
    assert stream.receive('{"event":"connected","protocol":"Call","version":"0.2.0"}') == Connected()
    message = stream.receive(start())
    assert isinstance(message, Started)
    assert (message.call_id, message.stream_id, message.tracks) == (CALL, "stream-uuid", ("inbound",))
    media = {
        "event": "media",
        "sequenceNumber": "2",
        "media": {"track": "inbound", "chunk": "1", "timestamp": "20", "payload": "/w=="},
    }
    assert stream.receive(json.dumps(media)) == Media("inbound", 1, 20, b"\xff")
    assert stream.receive('{"event":"dtmf","sequenceNumber":"3","dtmf":{"digit":"5","duration":2000}}') == Ignored(
        "dtmf"
    )
    assert stream.receive('{"event":"stop","sequenceNumber":"999"}') == Stopped(None)


def test_a_start_without_any_stream_id() -> None:
    """For want of a stream's id the call's stands in."""
    message = SignalWireStream().receive(start(stream=None))
    assert isinstance(message, Started)
    assert message.stream_id == CALL


def test_linear_audio_is_refused_with_the_remedy() -> None:
    """L16 closes the socket, and the reason says which attribute mends it."""
    with pytest.raises(ProtocolFault, match="PCMU@8000h") as caught:
        SignalWireStream().receive(start("audio/x-L16", 16000))
    assert caught.value.code == 1003
