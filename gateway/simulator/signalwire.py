"""
SignalWire, playing: Twilio's messages, with ids that are UUIDs, no `streamSid` on the outside, and a `stop` without a body.

`customParameters` are there only where some were defined; `connected` says version 0.2.0.
"""

import uuid
from collections.abc import Iterator, Mapping

from gateway.simulator.audio import Sound
from gateway.simulator.frames import CarrierFaults
from gateway.simulator.streams import Say, Step, Stream
from gateway.simulator.twilio import media_and_end, message


def new_call_id() -> str:
    """A fresh `callSid`."""
    return str(uuid.uuid4())


def streams(
    sound: Sound, call_id: str, parameters: Mapping[str, str], faults: CarrierFaults, *, seed: int = 0
) -> list[Stream]:
    """A call's one stream."""
    stream_id = str(uuid.uuid4())
    return [Stream(stream_id, _steps(sound, call_id, stream_id, parameters, faults, seed))]


def _steps(
    sound: Sound, call_id: str, stream_id: str, parameters: Mapping[str, str], faults: CarrierFaults, seed: int
) -> Iterator[Step]:
    yield Say(0.0, message({"event": "connected", "protocol": "Call", "version": "0.2.0"}))
    start = {
        "accountSid": str(uuid.UUID(int=0)),
        "streamSid": stream_id,
        "callSid": call_id,
        "tracks": list(sound.tracks),
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
    }
    if parameters:
        start["customParameters"] = dict(parameters)
    yield Say(0.0, message({"event": "start", "sequenceNumber": "1", "start": start}))
    yield from media_and_end(sound, faults, seed, tail="}", last={})
