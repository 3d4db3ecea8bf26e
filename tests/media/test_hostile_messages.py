"""Whatever a socket says, a carrier's machine answers with a message or a protocol fault, never another exception."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ProtocolFault
from gateway.media.messages import Media, Message, Started
from gateway.media.signalwire import SignalWireStream
from gateway.media.telnyx import TelnyxStream
from gateway.media.twilio import TwilioStream
from gateway.media.wire import CarrierStream

MACHINES = [TwilioStream, TelnyxStream, SignalWireStream]

START: dict[str, Any] = {
    "event": "start",
    "sequenceNumber": "1",
    "stream_id": "S",
    "streamSid": "S",
    "start": {
        "callSid": "C",
        "call_control_id": "C",
        "accountSid": "A",
        "user_id": "A",
        "streamSid": "S",
        "tracks": ["inbound", "outbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
        "customParameters": {"profile": "p"},
        "custom_parameters": [{"name": "profile", "value": "p"}],
    },
}
MEDIA: dict[str, Any] = {
    "event": "media",
    "media": {"track": "inbound", "chunk": "1", "timestamp": "20", "payload": "/w=="},
}
STOP: dict[str, Any] = {"event": "stop", "stop": {"callSid": "C", "call_control_id": "C"}}
OTHERS: list[dict[str, Any]] = [{"event": event} for event in ("connected", "dtmf", "mark", "clear", "error", "later")]

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["inbound", "1", "/w==", "PCMU"]),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=10), children, max_size=4),
    max_leaves=10,
)


def hear(machine: CarrierStream, data: bytes | str) -> Message | None:
    """The message, or None where the socket must be closed; the fault carries a close code and a short label."""
    closed: ProtocolFault | None = None
    try:
        message = machine.receive(data)
    except ProtocolFault as fault:
        closed = fault
    if closed is not None:
        assert closed.code in {1003, 1007, 1008}
        assert closed.reason in {"malformed", "unsupported_format", "second_call"}
        assert str(closed).isprintable()
        return None
    msgspec.json.encode(message)  # what comes out can be said on: no lone surrogate got through
    if isinstance(message, Started):
        assert all(0 < len(name) <= 256 for name in (message.call_id, message.stream_id))
    if isinstance(message, Media):
        assert 0 <= message.chunk <= 2**53
        assert 0 <= message.timestamp_ms <= 2**53
    return message


@pytest.mark.parametrize("machine", MACHINES)
@given(data=st.lists(st.binary(max_size=200) | st.text(max_size=200), max_size=20))
def test_any_bytes(machine: type[CarrierStream], data: list[bytes | str]) -> None:
    """Bytes and texts of any content."""
    stream = machine()
    for item in data:
        hear(stream, item)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A right message with one place of it replaced by anything."""
    message = json.loads(json.dumps(draw(st.sampled_from([START, MEDIA, STOP, *OTHERS]))))
    place: Any = message
    while True:
        key = draw(st.sampled_from(sorted(place))) if isinstance(place, dict) else draw(st.integers(0, len(place) - 1))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or draw(st.booleans()):
            place[key] = draw(anything)
            return json.dumps(message)
        place = inner


@pytest.mark.parametrize("machine", MACHINES)
@given(messages=st.lists(mutated() | st.sampled_from([START, MEDIA, STOP]).map(json.dumps), max_size=30))
def test_right_messages_gone_wrong(machine: type[CarrierStream], messages: list[str]) -> None:
    """Right messages in any order, and wrong in any one place."""
    stream = machine()
    for text in messages:
        hear(stream, text)


@pytest.mark.parametrize("machine", MACHINES)
@given(data=st.data())
def test_flipped_bytes(machine: type[CarrierStream], data: st.DataObject) -> None:
    """A recorded stream with bytes flipped and cut."""
    stream = machine()
    for message in (OTHERS[0], START, MEDIA, MEDIA, STOP):
        raw = bytearray(json.dumps(message).encode())
        for _ in range(data.draw(st.integers(0, 3))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        hear(stream, bytes(raw[: data.draw(st.integers(0, len(raw)))]))


@pytest.mark.parametrize("machine", MACHINES)
@given(
    frames=st.lists(
        st.tuples(
            st.sampled_from(["inbound", "outbound"]),
            st.integers(0, 2**53),
            st.integers(0, 2**53),
            st.binary(max_size=400),
        ),
        max_size=20,
    )
)
def test_right_frames_come_out_as_sent(machine: type[CarrierStream], frames: list[tuple[str, int, int, bytes]]) -> None:
    """Track, number, time and every byte of a frame are what the carrier sent."""
    stream = machine()
    assert isinstance(hear(stream, json.dumps(START)), Started)
    for track, chunk, timestamp, payload in frames:
        body = {"track": track, "chunk": str(chunk), "timestamp": str(timestamp), "payload": payload}
        message = hear(stream, msgspec.json.encode({"event": "media", "media": body}))
        assert message == Media(track, chunk, timestamp, payload)  # type: ignore[arg-type]  # sampled from the two tracks
