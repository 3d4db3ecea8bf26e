"""Each carrier's messages, read by the gateway's own machines and by their letter."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.audio import g711
from gateway.call import TRACKS
from gateway.media.messages import Connected, Media, Message, Started, Stopped
from gateway.media.signalwire import SignalWireStream
from gateway.media.telnyx import TelnyxStream
from gateway.media.twilio import TwilioStream
from gateway.media.wire import CarrierStream
from gateway.simulator import audio, signalwire, telnyx, twilio
from gateway.simulator.frames import CarrierFaults, HangUp
from gateway.simulator.streams import Leave, Say, Step, Stream

SOUND = audio.coded(2.0)
PARAMETERS = {"profile": "sales", "inbound_party": "customer"}


def said(stream: Stream) -> tuple[list[dict[str, Any]], Leave]:
    """A stream's messages, decoded, and its end."""
    *steps, end = list(stream.steps)
    assert isinstance(end, Leave)
    return [json.loads(step.text) for step in steps if isinstance(step, Say)], end


def received(machine: CarrierStream, steps: Sequence[Step]) -> list[Message]:
    """What the gateway makes of them."""
    return [machine.receive(step.text) for step in steps if isinstance(step, Say)]


def tracks_of(messages: Sequence[Message]) -> dict[str, bytes]:
    """The audio, in order of the chunks' numbers."""
    found: dict[str, list[Media]] = defaultdict(list)
    for message in messages:
        if isinstance(message, Media):
            found[message.track].append(message)
    return {
        track: b"".join(media.payload for media in sorted(one, key=lambda media: media.chunk))
        for track, one in found.items()
    }


def test_twilio_is_understood() -> None:
    """Greeting, start with everything in it, all audio, and the stop."""
    call_id = twilio.new_call_id()
    (stream,) = twilio.streams(SOUND, call_id, PARAMETERS, CarrierFaults())
    messages = received(TwilioStream(), list(stream.steps))
    assert isinstance(messages[0], Connected)
    started = messages[1]
    assert isinstance(started, Started)
    assert (started.call_id, started.stream_id, started.tracks) == (call_id, stream.stream_id, TRACKS)
    assert (started.profile, started.parties, started.attributes) == ("sales", {"inbound": "customer"}, PARAMETERS)
    assert tracks_of(messages) == dict(SOUND.tracks)
    assert messages[-1] == Stopped(call_id)
    assert sum(isinstance(message, Media) for message in messages) == len(messages) - 3


def test_twilio_to_the_letter() -> None:
    """Counters are strings, the format's numbers are not; one sequence for all; 160 bytes each 20 ms from 99 ms on."""
    (stream,) = twilio.streams(SOUND, "CA1", {}, CarrierFaults())
    messages, end = said(stream)
    assert messages[0] == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    assert messages[1]["start"]["mediaFormat"] == {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
    assert messages[1]["start"]["customParameters"] == {}
    assert [one["sequenceNumber"] for one in messages[1:]] == [str(n) for n in range(1, len(messages))]
    media = [one["media"] for one in messages if one["event"] == "media"]
    assert media[0] == {"track": "inbound", "chunk": "1", "timestamp": "99", "payload": media[0]["payload"]}
    assert {len(one["payload"]) for one in media} == {216}
    assert {one["streamSid"] for one in messages[1:]} == {stream.stream_id}
    assert messages[-1]["stop"] == {"accountSid": "AC" + "0" * 32, "callSid": "CA1"}
    assert (end.how, end.due) == ("close", 2.0)


def test_signalwire_is_understood_without_its_ids_outside() -> None:
    """UUIDs, no `streamSid` outside `start`, a bare `stop`, parameters only where there are some."""
    call_id = signalwire.new_call_id()
    (stream,) = signalwire.streams(SOUND, call_id, {}, CarrierFaults())
    steps = list(stream.steps)
    messages = received(SignalWireStream(), steps)
    assert isinstance(messages[1], Started)
    assert (messages[1].call_id, messages[1].stream_id) == (call_id, stream.stream_id)
    assert tracks_of(messages) == dict(SOUND.tracks)
    letters = [json.loads(step.text) for step in steps if isinstance(step, Say)]
    assert not any("streamSid" in one for one in letters)
    assert "customParameters" not in letters[1]["start"]
    assert letters[-1] == {"event": "stop", "sequenceNumber": str(len(letters) - 1)}


@pytest.mark.parametrize("encoding", ["PCMU", "PCMA"])
def test_telnyx_is_understood(encoding: g711.Encoding) -> None:
    """Odd sizes, shuffled, in either law: by their numbers the frames are all of the audio."""
    call_id = telnyx.new_call_id()
    faults = CarrierFaults(shuffle=6)
    (stream,) = telnyx.streams(SOUND, call_id, PARAMETERS, faults, token="secret", encoding=encoding)
    messages = received(TelnyxStream(), list(stream.steps))
    started = messages[1]
    assert isinstance(started, Started)
    assert (started.call_id, started.stream_id, started.encoding) == (call_id, stream.stream_id, encoding)
    assert (started.from_, started.attributes) == ("+13122010094", PARAMETERS)
    wanted = {track: audio.alaw(one) if encoding == "PCMA" else one for track, one in SOUND.tracks.items()}
    assert tracks_of(messages) == wanted
    order = [message.chunk for message in messages if isinstance(message, Media) and message.track == "inbound"]
    assert order != sorted(order)
    assert messages[-1] == Stopped(call_id)


def test_telnyx_to_the_letter() -> None:
    """snake_case, `stream_id` outside alone, the token in the greeting, no tracks in `start`."""
    (stream,) = telnyx.streams(SOUND, "v3:1", {}, CarrierFaults(), token="secret")
    messages, _ = said(stream)
    assert messages[0]["connected"] == {"x-telnyx-streaming-auth-token": "secret"}
    assert not {"tracks", "stream_id", "custom_parameters"} & set(messages[1]["start"])
    assert {one["stream_id"] for one in messages[1:]} == {stream.stream_id}
    assert {len(one["media"]["payload"]) for one in messages if one["event"] == "media"} >= {216, 1056, 320, 108, 4}


def test_telnyx_comes_back() -> None:
    """A reset in mid-call, then, after a pause, the same call on a new stream with the rest, numbered anew."""
    faults = CarrierFaults(reconnect=(0.8, 0.3))
    lost, back = telnyx.streams(SOUND, "v3:1", {}, faults, sizes=(160,))
    assert lost.stream_id != back.stream_id
    assert back.after == 0.3
    before, after = list(lost.steps), list(back.steps)
    assert isinstance(before[-1], Leave)
    assert (before[-1].how, before[-1].due) == ("abort", 0.8)
    first, second = received(TelnyxStream(), before), received(TelnyxStream(), after)
    assert [one.call_id for one in (first[1], second[1]) if isinstance(one, Started)] == ["v3:1", "v3:1"]
    media = next(one for one in second if isinstance(one, Media))
    assert (media.chunk, media.timestamp_ms) == (1, 0)
    assert tracks_of(first)["inbound"] == SOUND.tracks["inbound"][: 800 * 8]
    assert tracks_of(second)["inbound"] == SOUND.tracks["inbound"][1100 * 8 :]
    assert isinstance(second[-1], Stopped)
    assert not any(isinstance(one, Stopped) for one in first)


@pytest.mark.parametrize("how", ["stop", "abort", "silence"])
def test_hanging_up(how: Any) -> None:
    """The stream ends at its moment, with a stop only where the carrier says one."""
    hang_up = CarrierFaults(hang_up=HangUp(0.93, how))
    streams = [
        *twilio.streams(SOUND, "CA1", {}, hang_up),
        *signalwire.streams(SOUND, "1", {}, hang_up),
        *telnyx.streams(SOUND, "v3:1", {}, hang_up),
    ]
    for stream in streams:
        messages, end = said(stream)
        assert (messages[-1]["event"] == "stop") == (how == "stop")
        assert (end.how, end.due) == ({"stop": "close"}.get(how, how), 0.93)


def test_a_mute_stream_lasts_as_long_as_its_call() -> None:
    """It starts, and stops when it is over."""
    (stream,) = twilio.streams(SOUND, "CA1", {}, CarrierFaults(mute=True))
    messages, end = said(stream)
    assert [one["event"] for one in messages] == ["connected", "start", "stop"]
    assert end.due == 2.0
