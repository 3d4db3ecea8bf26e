"""
Make the bundled call anew: `python -m gateway.simulator.synthesise`. Needs flite (Debian: `apt-get install flite`), nobody else does.

A customer (flite's voice `slt`, inbound) asks a contact centre (voice `rms`, outbound) about an order. The sentences and
their speeds are those, of some hundred tried, that PocketSphinx's stock model hears rightly through a telephone line.
"""

import subprocess
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import soxr

from gateway.audio import g711
from gateway.call import TRACKS, Track
from gateway.simulator import bundled, wav

VOICES: Final[dict[Track, str]] = {"inbound": "slt", "outbound": "rms"}

_LOUDNESS: Final = 2500.0
"""RMS of each sentence, of 32767: about -22 dBFS, as telephone speech is levelled."""
_TILT: Final = 0.8
"""Pre-emphasis: a handset's microphone path rises towards 3 kHz, which these voices were not recorded through."""
_LEAD_MS: Final = 400
_TAIL_MS: Final = 1200


class Line(NamedTuple):
    """One turn: `pause_ms` after the one before it. `stretch` slows the voice down."""

    track: Track
    text: str
    stretch: float = 1.0
    pause_ms: int = 500


SCRIPT: Final = (
    Line("outbound", "Good morning and welcome to customer service. How can I help you today?", 1.1),
    Line("inbound", "I ordered a new computer last week, and I would like to know when it will be delivered."),
    Line("outbound", "Of course. Can you give me the order number please?"),
    Line("inbound", "Three hundred and twenty seven.", 1.1, 700),
    Line("outbound", "Let me see what I can find. Your order will be delivered on Friday afternoon.", 1.1),
    Line("inbound", "Friday is not good for me. Can you deliver it on Saturday?", 1.1),
    Line("outbound", "Yes, we can deliver it on Saturday. The driver will call you in the morning.", 1.0, 700),
    Line("inbound", "That would be wonderful. Thank you very much."),
    Line("outbound", "You are very welcome. Have a nice weekend.", 1.2),
)


def main() -> None:
    """Write the call and what is said in it, and when."""
    spoken: list[bundled.Sentence] = []
    at_ms = _LEAD_MS
    pieces: list[tuple[Track, int, bytes]] = []
    for line in SCRIPT:
        at_ms += line.pause_ms
        audio = speak(VOICES[line.track], line.text, line.stretch)
        pieces.append((line.track, at_ms, audio))
        end_ms = at_ms + len(audio) // 8
        spoken.append(bundled.Sentence(line.track, at_ms, end_ms, line.text))
        at_ms = end_ms
    tracks = {track: bytearray(g711.SILENCE["PCMU"] * (8 * (at_ms + _TAIL_MS))) for track in TRACKS}
    for track, start_ms, audio in pieces:
        tracks[track][8 * start_ms : 8 * start_ms + len(audio)] = audio
    wav.write_mulaw(bundled.AUDIO, [bytes(tracks[track]) for track in TRACKS])
    bundled.TEXT.write_bytes(b"".join(msgspec.json.encode(sentence) + b"\n" for sentence in spoken))


def speak(voice: str, text: str, stretch: float) -> bytes:
    """Mu-law of a sentence, without the silence around it."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "sentence.wav"
        told = ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch}", "-t", text, "-o", str(made)]
        subprocess.run(told, check=True)  # noqa: S603  our own words
        sound = wav.read(made)
    narrow = soxr.resample(sound.samples[:, 0].astype(np.float32), sound.rate_hz, g711.RATE_HZ, "VHQ")
    risen = np.concatenate((narrow[:1], narrow[1:] - _TILT * narrow[:-1]))
    levelled = risen * (_LOUDNESS / np.sqrt(np.mean(risen**2)))
    heard = np.flatnonzero(np.abs(levelled) > _LOUDNESS / 50)
    cut = levelled[heard[0] : heard[-1] + 1]
    return g711.encode_mulaw(np.clip(cut, -32000, 32000).astype("<i2").tobytes())


if __name__ == "__main__":
    main()
