"""Recorded streams: read, timed, and played under new ids."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.call import TRACKS
from gateway.media.messages import Media, Started
from gateway.media.telnyx import TelnyxStream
from gateway.media.twilio import TwilioStream
from gateway.simulator import audio, recorded, signalwire, telnyx, twilio
from gateway.simulator.frames import CarrierFaults
from gateway.simulator.recorded import RecordingFault
from gateway.simulator.streams import Leave, Say, Stream

SOUND = audio.coded(1.0)


def record(path: Path, stream: Stream) -> Path:
    """A stream's messages, as somebody would have kept them."""
    path.write_bytes(b"".join(step.text + b"\n" for step in stream.steps if isinstance(step, Say)))
    return path


def test_a_recording_is_played_as_another_call(tmp_path: Path) -> None:
    """New ids wherever the old ones stood, the same audio, each frame at its timestamp."""
    (stream,) = twilio.streams(SOUND, "CA-old", {"profile": "sales"}, CarrierFaults())
    recording = recorded.read(record(tmp_path / "stream.ndjson", stream))
    assert (recording.carrier, recording.call_id, recording.stream_id) == ("twilio", "CA-old", stream.stream_id)
    assert recording.seconds == pytest.approx(0.98)
    (again,) = recording.streams("CA-new", "MZ-new")
    steps = list(again.steps)
    text = b"".join(step.text for step in steps if isinstance(step, Say))
    assert b"CA-old" not in text
    assert stream.stream_id.encode() not in text
    machine = TwilioStream()
    messages = [machine.receive(step.text) for step in steps if isinstance(step, Say)]
    assert isinstance(messages[1], Started)
    assert (messages[1].call_id, messages[1].stream_id) == ("CA-new", "MZ-new")
    for track in TRACKS:
        payloads = [one.payload for one in messages if isinstance(one, Media) and one.track == track]
        assert b"".join(payloads) == SOUND.tracks[track]
    due = [step.due for step in steps]
    assert due == sorted(due)
    assert {round(later - now, 6) for now, later in itertools.pairwise(due)} <= {0.0, 0.02}
    assert steps[-1] == Leave(recording.seconds, "close")


def test_frames_out_of_order_stay_so(tmp_path: Path) -> None:
    """A frame that came late is played late: its timestamp does not turn time back."""
    (stream,) = telnyx.streams(SOUND, "v3:old", {}, CarrierFaults(shuffle=5), sizes=(160,))
    recording = recorded.read(record(tmp_path / "stream.ndjson", stream))
    assert recording.carrier == "telnyx"
    (again,) = recording.streams("v3:new", "stream-new")
    steps = [step for step in again.steps if isinstance(step, Say)]
    assert [step.due for step in steps] == sorted(step.due for step in steps)
    machine = TelnyxStream()
    chunks = [one.chunk for step in steps if isinstance(one := machine.receive(step.text), Media)]
    assert chunks != sorted(chunks)


def test_signalwire_is_told_by_its_ids(tmp_path: Path) -> None:
    """Twilio's shape with ids that are not Twilio's."""
    (stream,) = signalwire.streams(SOUND, signalwire.new_call_id(), {}, CarrierFaults())
    assert recorded.read(record(tmp_path / "stream.ndjson", stream)).carrier == "signalwire"


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (["{"], "line 1"),
        ([{"event": "connected"}, {"media": {}}], "line 2"),
        ([{"event": "media", "media": {"timestamp": "soon"}}], "line 1"),
        ([{"event": "connected"}], "no `start` message"),
        ([{"event": "start", "start": {"callSid": 7}}], "no `start` message"),
        ([], "no `start` message"),
    ],
)
def test_what_is_no_recording_says_where(tmp_path: Path, lines: list[Any], fault: str) -> None:
    """The fault names the line, or what is missing."""
    path = tmp_path / "bad.ndjson"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    with pytest.raises(RecordingFault, match=fault):
        recorded.read(path)


def test_empty_lines_are_passed_over(tmp_path: Path) -> None:
    """As editors leave them."""
    path = tmp_path / "stream.ndjson"
    path.write_text('\n{"event":"start","start":{"callSid":"CA1","streamSid":"MZ1"}}\n\n')
    assert recorded.read(path).call_id == "CA1"
