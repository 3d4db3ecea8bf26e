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
_LEAD_MS: Final = 300
_BREATH_MS: Final = 350
"""Between two sentences of a turn: shorter than what ends one."""
_TAIL_MS: Final = 1000


class Line(NamedTuple):
    """One turn: its sentences, synthesised one by one; *pause_ms* after the turn before. *stretch* slows the voice down."""

    track: Track
    sentences: tuple[str, ...]
    stretch: float = 1.0
    pause_ms: int = 500


SCRIPT: Final = (
    Line("outbound", ("Good morning and welcome to customer service.", "How can I help you today?")),
    Line("inbound", ("I ordered a new computer last week, and I would like to know when it will be delivered.",)),
    Line("outbound", ("Of course.", "Can you give me the order number please?")),
    Line("inbound", ("Eleven hundred and ninety.",), 1.1, 700),
    Line("outbound", ("It will be delivered on Friday afternoon.",), 1.0, 800),
    Line("inbound", ("I am at work on Friday.", "Can you deliver it on Saturday?"), 1.2),
    Line("outbound", ("Yes, we can deliver it on Saturday.", "The driver will call you in the morning."), 1.0, 700),
    Line("inbound", ("Okay, thank you very much.",)),
    Line("outbound", ("We will see you on Saturday.", "Have a nice weekend.")),
)


def main() -> None:
    """Write the call, and what is said in it and when."""
    spoken: list[bundled.Sentence] = []
    pieces: list[tuple[Track, int, bytes]] = []
    at_ms = _LEAD_MS
    for line in SCRIPT:
        at_ms += line.pause_ms
        pause = g711.SILENCE["PCMU"] * (_BREATH_MS * 8)
        audio = pause.join(speak(VOICES[line.track], sentence, line.stretch) for sentence in line.sentences)
        pieces.append((line.track, at_ms, audio))
        end_ms = at_ms + len(audio) // 8
        spoken.append(bundled.Sentence(line.track, at_ms, end_ms, " ".join(line.sentences)))
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
