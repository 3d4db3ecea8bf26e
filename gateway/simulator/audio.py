"""
What is spoken in a call: two tracks of mu-law, and where it is coded speech also which words, and when.

    coded      numbered words as pairs of tones: any word that gets lost, doubled or moved shows (`gateway.emulator.tones`)
    from_wav   a stereo recording: left is inbound, right is outbound; mono is a call with one track
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import soxr

from gateway.audio import g711
from gateway.call import TRACKS, Track
from gateway.emulator import tones
from gateway.simulator import wav

SAMPLES_PER_MS: Final = g711.RATE_HZ // 1000
_REPEAT: Final = 7
"""Every seventh word of coded speech is said three times running, as callers say "five five five"."""
_APART: Final = 131
"""How far the words of two calls lie apart in the vocabulary: a call that hears another's shows it."""
_OTHER_PARTY_MS: Final = 370


class Span(NamedTuple):
    """A piece of a track, in samples (bytes) from its beginning."""

    track: Track
    start: int
    end: int


@dataclass(frozen=True)
class Sound:
    """A call's audio; all tracks are of one length."""

    tracks: Mapping[Track, bytes]
    """Mu-law at 8 kHz."""
    words: Mapping[Track, Sequence[tones.Spoken]] = field(default_factory=dict)
    """Coded speech only."""

    @property
    def samples(self) -> int:
        """The length of each track."""
        return max(map(len, self.tracks.values()), default=0)

    @property
    def seconds(self) -> float:
        """The same in seconds."""
        return self.samples / g711.RATE_HZ

    def middle_of_word(self, after_seconds: float) -> float:
        """The middle of the first coded word that is not over by then, in seconds; where there is none, the argument."""
        ends = [spoken for words in self.words.values() for spoken in words if spoken.end_ms > after_seconds * 1000]
        if not ends:
            return after_seconds
        first = min(ends, key=lambda spoken: spoken.start_ms)
        return max(after_seconds, (first.start_ms + first.end_ms) / 2000)

    def cut(self, track: Track, sent: Iterable[Span]) -> list[int]:
        """Places, in `words`, of words of a track that were not sent whole."""
        mask = np.zeros(self.samples, bool)
        for span in sent:
            if span.track == track:
                mask[span.start : span.end] = True
        return [
            place
            for place, spoken in enumerate(self.words.get(track, ()))
            if not mask[spoken.start_ms * SAMPLES_PER_MS : spoken.end_ms * SAMPLES_PER_MS].all()
        ]


def coded(seconds: float, number: int = 0) -> Sound:
    """Coded speech for the *number*-th call of a run: both parties speak all the time, each in words of its own."""
    first = {track: number * _APART + place * (tones.VOCABULARY // 2) for place, track in enumerate(TRACKS)}
    words = {
        track: tones.script(seconds, first=first[track], start_ms=300 + place * _OTHER_PARTY_MS, repeat=_REPEAT)
        for place, track in enumerate(TRACKS)
    }
    return Sound({track: tones.mulaw(words[track], seconds) for track in TRACKS}, words)


def from_wav(path: Path) -> Sound:
    """
    The audio of a file, resampled to 8 kHz where it has another rate.

    Raises:
        WavFault: It cannot be played.
        OSError: It cannot be read.
    """
    rate_hz, samples = wav.read(path)
    _, channels = samples.shape
    if channels > len(TRACKS):
        raise wav.WavFault(f"{path}: {channels} channels; one or two are taken: left inbound, right outbound")
    if rate_hz != g711.RATE_HZ:
        narrow = soxr.resample(samples.astype(np.float32), rate_hz, g711.RATE_HZ, "HQ")
        samples = np.clip(np.rint(narrow), -32768, 32767).astype(np.int16)
    if not len(samples):
        raise wav.WavFault(f"{path}: no audio in it")
    columns = zip(TRACKS, samples.T, strict=False)
    return Sound({track: g711.encode_mulaw(column.astype("<i2").tobytes()) for track, column in columns})


def alaw(mulaw: bytes) -> bytes:
    """A-law of mu-law bytes."""
    return g711.encode_alaw(g711.decode(mulaw, "PCMU"))


def pieces(samples: int, sizes: Sequence[int], begin: int = 0) -> Iterator[tuple[int, int]]:
    """Start and end of frames of these sizes (samples, round and round) from *begin*; the last one may be shorter."""
    at, turn = begin, 0
    while at < samples:
        end = min(samples, at + sizes[turn % len(sizes)])
        yield at, end
        at, turn = end, turn + 1
