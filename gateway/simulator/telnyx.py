"""
Telnyx, playing: snake_case, numbers as strings, `stream_id` on the outside alone, PCMU or PCMA as the call leg has it.

"Media frame order is not guaranteed", frames are as long as the leg's packets are, and a socket that is lost is replaced:
the same call, a new stream, whose chunks and timestamps begin anew.
"""

import secrets
import uuid
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Final

from gateway.audio import g711
from gateway.media.messages import Encoding
from gateway.simulator.audio import Sound, alaw
from gateway.simulator.frames import CarrierFaults, frames
from gateway.simulator.streams import Say, Step, Stream, ending
from gateway.simulator.twilio import message

ODD_SIZES: Final = (160, 792, 240, 80, 1)
"""In samples. 792 is what the documentation's own sample holds: 99 ms."""
_FROM, _TO = "+13122010094", "+13122123456"


def new_call_id() -> str:
    """A fresh `call_control_id`."""
    return "v3:" + secrets.token_urlsafe(40)


def streams(
    sound: Sound,
    call_id: str,
    parameters: Mapping[str, str],
    faults: CarrierFaults,
    *,
    token: str | None = None,
    encoding: Encoding = "PCMU",
    sizes: tuple[int, ...] = ODD_SIZES,
    seed: int = 0,
) -> list[Stream]:
    """A call's streams, in succession: one, or two where the faults say that the socket is lost in mid-call."""
    payloads = {track: alaw(audio) if encoding == "PCMA" else audio for track, audio in sound.tracks.items()}
    sounding = Sound(payloads, sound.words)
    whole = sound.samples if faults.hang_up is None else round(faults.hang_up.second * g711.RATE_HZ)
    how = "stop" if faults.hang_up is None else faults.hang_up.how
    if faults.reconnect is None:
        parts = [(0, whole, how, 0.0)]
    else:
        second, away = faults.reconnect
        lost = min(round(second * g711.RATE_HZ), whole)
        back = min(lost + round(away * g711.RATE_HZ), whole)
        parts = [(0, lost, "abort", 0.0), (back, whole, how, away)]
    made = []
    for place, (begin, until, end, after) in enumerate(parts):
        stream_id = str(uuid.uuid4()).upper()
        steps = _steps(
            sounding, (begin, until), end, call_id, stream_id, parameters, faults, token, encoding, sizes, seed + place
        )
        made.append(Stream(stream_id, steps, after))
    return made


def _steps(
    sound: Sound,
    part: tuple[int, int],
    how: str,
    call_id: str,
    stream_id: str,
    parameters: Mapping[str, str],
    faults: CarrierFaults,
    token: str | None,
    encoding: Encoding,
    sizes: tuple[int, ...],
    seed: int,
) -> Iterator[Step]:
    connected: dict[str, object] = {"event": "connected", "version": "1.0.0"}
    if token is not None:
        connected["connected"] = {"x-telnyx-streaming-auth-token": token}
    yield Say(0.0, message(connected))
    user_id = str(uuid.UUID(int=1))
    start: dict[str, object] = {
        "user_id": user_id,
        "call_control_id": call_id,
        "call_session_id": str(uuid.uuid5(uuid.NAMESPACE_OID, call_id)),
        "from": _FROM,
        "to": _TO,
        "client_state": None,
        "media_format": {"encoding": encoding, "sample_rate": 8000, "channels": 1},
    }
    if parameters:
        start["custom_parameters"] = dict(parameters)
    yield Say(0.0, message({"event": "start", "sequence_number": "1", "start": start, "stream_id": stream_id}))
    begin, until = part
    sequence, due = 1, 0.0
    for frame in frames(sound, sizes, faults, begin=begin, until=until, seed=seed):
        sequence += 1
        track, first, end = frame.span
        payload = b64encode(sound.tracks[track][first:end]).decode()
        due = frame.due
        yield Say(
            due,
            f'{{"event":"media","sequence_number":"{sequence}","media":{{"track":"{track}","chunk":"{frame.chunk}",'
            f'"timestamp":"{frame.timestamp_ms}","payload":"{payload}"}},"stream_id":"{stream_id}"}}'.encode(),
            frame.span,
        )
    due = max(due, (min(until, sound.samples) - begin) / g711.RATE_HZ)
    if how == "stop":
        stop = {"user_id": user_id, "call_control_id": call_id}
        said = {"event": "stop", "sequence_number": str(sequence + 1), "stop": stop, "stream_id": stream_id}
        yield Say(due, message(said))
    yield ending(due, how)
