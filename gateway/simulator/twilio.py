"""
Twilio, playing: `<Start><Stream track="both_tracks">`.

As captured: `sequenceNumber`, `chunk` and `timestamp` are strings, the numbers of `mediaFormat` are not; one sequence
for both tracks and all kinds of message; chunks count by track; frames are 160 bytes each 20 ms; the first timestamp is no 0.
"""

import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from gateway.audio import g711
from gateway.simulator.audio import Sound
from gateway.simulator.frames import CarrierFaults, frames
from gateway.simulator.streams import Say, Step, Stream, ending

FRAME: Final = (160,)
FIRST_TIMESTAMP_MS: Final = 99
_FORMAT: Final = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}


def new_call_id() -> str:
    """A fresh `callSid`."""
    return "CA" + secrets.token_hex(16)


def new_stream_id() -> str:
    """A fresh `streamSid`."""
    return "MZ" + secrets.token_hex(16)


def streams(
    sound: Sound,
    call_id: str,
    parameters: Mapping[str, str],
    faults: CarrierFaults,
    *,
    account_id: str = "AC" + "0" * 32,
    seed: int = 0,
) -> list[Stream]:
    """A call's streams: always one, since Twilio never reconnects."""
    stream_id = new_stream_id()
    return [Stream(stream_id, _steps(sound, call_id, stream_id, account_id, parameters, faults, seed))]


def _steps(
    sound: Sound,
    call_id: str,
    stream_id: str,
    account_id: str,
    parameters: Mapping[str, str],
    faults: CarrierFaults,
    seed: int,
) -> Iterator[Step]:
    yield Say(0.0, message({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
    start = {
        "accountSid": account_id,
        "streamSid": stream_id,
        "callSid": call_id,
        "tracks": list(sound.tracks),
        "mediaFormat": _FORMAT,
        "customParameters": dict(parameters),
    }
    yield Say(0.0, message({"event": "start", "sequenceNumber": "1", "start": start, "streamSid": stream_id}))
    yield from media_and_end(
        sound,
        faults,
        seed,
        tail=f',"streamSid":"{stream_id}"}}',
        last={"stop": {"accountSid": account_id, "callSid": call_id}, "streamSid": stream_id},
    )


def media_and_end(
    sound: Sound, faults: CarrierFaults, seed: int, *, tail: str, last: Mapping[str, Any]
) -> Iterator[Step]:
    """The frames and the end, as Twilio's family sends them; *tail* closes each media message, *last* is in `stop`."""
    hang_up = faults.hang_up
    until = None if hang_up is None else round(hang_up.second * g711.RATE_HZ)
    sequence, due = 1, 0.0
    for frame in frames(sound, FRAME, faults, first_timestamp_ms=FIRST_TIMESTAMP_MS, until=until, seed=seed):
        sequence += 1
        track, start, end = frame.span
        payload = b64encode(sound.tracks[track][start:end]).decode()
        due = frame.due
        yield Say(
            due,
            f'{{"event":"media","sequenceNumber":"{sequence}","media":{{"track":"{track}","chunk":"{frame.chunk}",'
            f'"timestamp":"{frame.timestamp_ms}","payload":"{payload}"}}{tail}'.encode(),
            frame.span,
        )
    due = max(due, (sound.samples if until is None else min(until, sound.samples)) / g711.RATE_HZ)
    how = "stop" if hang_up is None else hang_up.how
    if how == "stop":
        yield Say(due, message({"event": "stop", "sequenceNumber": str(sequence + 1), **last}))
    yield ending(due, how)


def message(said: Mapping[str, Any]) -> bytes:
    """A text message."""
    return msgspec.json.encode(said)
