"""
Coded speech: audio whose every word can be counted after any path through a telephone network.

A word is a number, 0..VOCABULARY-1, spelled `w123`, and sounds as a pair of tones for `TONE_MS`: one of a low set, one
of a high set, all between 300 and 3400 Hz, so that mu-law, A-law and resampling leave them whole. All tones are
multiples of 50 Hz; a Hann window of 40 ms has its zeros exactly there, so that neighbours do not disturb each other.

`script` says what is spoken when, `pcm` and `mulaw` sound it, `Ear` hears it again from a stream of pieces of any size.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.audio import g711

TONE_MS: Final = 160
GAP_MS: Final = 140
"""Silence between the words of a turn; long enough that a word said twice is heard twice."""

SHORTEST_MS: Final = 80
"""What sounds shorter is not a word: the rest of one that was cut off."""

_LOW_HZ: Final = tuple(range(400, 1600, 50))
_HIGH_HZ: Final = tuple(range(1700, 3300, 50))
VOCABULARY: Final = len(_LOW_HZ) * len(_HIGH_HZ)

_AMPLITUDE: Final = 8000.0
_RAMP_MS: Final = 5

_WINDOW_MS: Final = 40
_HOP_MS: Final = 10
_BIN_HZ: Final = 1000 // _WINDOW_MS
_FLOOR: Final = 300.0
"""A pair fainter than this (of 32767) is silence: about 40 dB below what `pcm` makes."""
_PURITY: Final = 0.55
"""The least share of a window's power that a word's pair holds somewhere; less is noise, a click or a human voice."""
_EDGE_PURITY: Final = 0.3
"""The same for each of its windows: one half filled smears the tones."""
_TWIST: Final = 16.0
"""The greatest ratio of the two tones' powers."""
_HOLE_FRAMES: Final = 4
"""A word may have a hole of so many hops (a lost packet) and is still one word."""
_SLACK_MS: Final = 5
"""How far off an edge may be measured."""

_SPELLING: Final = re.compile(r"\bw(\d{1,4})\b", re.IGNORECASE)

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]


class Spoken(NamedTuple):
    """A word of a script, in milliseconds from its first sample."""

    word: int
    start_ms: int

    @property
    def end_ms(self) -> int:
        """When it falls silent."""
        return self.start_ms + TONE_MS


class Heard(NamedTuple):
    """A word that was heard, in milliseconds from the first sample fed."""

    word: int
    start_ms: int
    end_ms: int


def spelled(word: int) -> str:
    """The text of a word: `w123`."""
    return f"w{word}"


def read(text: str) -> list[int]:
    """The words of a text, in order; whatever is not coded speech is skipped."""
    return [int(number) for number in _SPELLING.findall(text)]


def script(
    seconds: float,
    *,
    first: int = 0,
    start_ms: int = 300,
    turn_gap_ms: int = 900,
    words_a_turn: int = 4,
    repeat: int = 0,
) -> list[Spoken]:
    """
    What is spoken in so many seconds: words counting up from *first*, in turns with a pause between them.

    *turn_gap_ms* is the silence between the last word of a turn and the first of the next. With *repeat*, every
    *repeat*-th word is said three times running, as callers say "five five five"; since the turns are cut by count,
    some of these lie across a turn's border. Only words that end in time are said.
    """
    spoken: list[Spoken] = []
    at_ms, count = start_ms, 0
    fresh = 0
    while True:
        times = 3 if repeat and fresh % repeat == repeat - 1 else 1
        for _ in range(times):
            if at_ms + TONE_MS > seconds * 1000:
                return spoken
            spoken.append(Spoken((first + fresh) % VOCABULARY, at_ms))
            count += 1
            at_ms += TONE_MS + (turn_gap_ms if count % words_a_turn == 0 else GAP_MS)
        fresh += 1


def pcm(spoken: Iterable[Spoken], seconds: float, rate: int = 8000) -> bytes:
    """PCM16LE of a script, padded with silence or cut to *seconds*."""
    audio = np.zeros(int(seconds * rate), dtype=np.float32)
    for word, start_ms in spoken:
        begin = start_ms * rate // 1000
        piece = _sound(word, rate)[: max(0, len(audio) - begin)]
        audio[begin : begin + len(piece)] += piece
    return np.clip(audio, -32768, 32767).astype("<i2").tobytes()


def mulaw(spoken: Iterable[Spoken], seconds: float) -> bytes:
    """Mu-law of a script, 8 kHz."""
    return g711.encode_mulaw(pcm(spoken, seconds, g711.RATE_HZ))


@lru_cache(maxsize=2 * VOCABULARY)
def _sound(word: int, rate: int) -> Floats:
    low, high = _pair(word)
    time = np.arange(TONE_MS * rate // 1000) / rate
    tone = np.sin(2 * np.pi * _LOW_HZ[low] * time) + np.sin(2 * np.pi * _HIGH_HZ[high] * time)
    ramp = np.minimum(1.0, np.arange(1, len(tone) + 1) / (_RAMP_MS * rate / 1000))
    return np.asarray(_AMPLITUDE * tone * ramp * ramp[::-1], dtype=np.float32)


def _pair(word: int) -> tuple[int, int]:
    """The places of a word's tones; words that follow each other differ in both."""
    if not 0 <= word < VOCABULARY:
        raise ValueError(f"no word {word}: there are {VOCABULARY}")
    step, high = divmod(word, len(_HIGH_HZ))
    return (step + high) % len(_LOW_HZ), high


def _word(low: Places, high: Places) -> Places:
    return (low - high) % len(_LOW_HZ) * len(_HIGH_HZ) + high


class _Run:
    """Frames in which the same pair sounds."""

    def __init__(self, word: int, frame: int, loudness: float, purity: float) -> None:
        self.word = word
        self.frames = [(frame, loudness)]
        self.peak = loudness
        self.purity = purity

    def add(self, frame: int, loudness: float, purity: float) -> None:
        self.frames.append((frame, loudness))
        self.peak = max(self.peak, loudness)
        self.purity = max(self.purity, purity)

    def heard(self) -> Heard | None:
        """The word, if it sounded long enough. Where loudness crosses one half, the window's middle is at the edge."""
        if self.purity < _PURITY:
            return None
        start_ms = self._edge_ms(self.frames, -1)
        end_ms = self._edge_ms(self.frames[::-1], +1)
        if end_ms - start_ms < SHORTEST_MS - _SLACK_MS:
            return None
        return Heard(self.word, max(0, round(start_ms)), round(end_ms))

    def _edge_ms(self, frames: list[tuple[int, float]], outwards: int) -> float:
        half = self.peak / 2
        inside = next(place for place, (_, loudness) in enumerate(frames) if loudness >= half)
        frame, loudness = frames[inside]
        before = frames[inside - 1][1] if inside else 0.0
        return (frame + outwards * (loudness - half) / (loudness - before)) * _HOP_MS


class Ear:
    """
    Hears coded speech in a stream of PCM16LE, fed in pieces of any even size.

    A word is reported some 60 ms after its end; its edges are within 20 ms. Costs about 0.1 ms a piece.
    """

    def __init__(self, rate: int = 8000) -> None:
        if rate % (1000 // _HOP_MS) or rate < 2 * _HIGH_HZ[-1]:
            raise ValueError(f"coded speech cannot be heard at {rate} Hz")
        self.rate = rate
        self._hop = rate * _HOP_MS // 1000
        self._window = rate * _WINDOW_MS // 1000
        self._hann = np.hanning(self._window + 1)[:-1].astype(np.float32)
        self._unheard: Floats = np.zeros(self._window // 2, dtype=np.float32)  # the first frame's middle is at 0 ms
        self._odd = b""
        self._samples = 0
        self._frame = 0
        self._run: _Run | None = None
        self._next: _Run | None = None
        self._hole = 0
        self._sounded_ms: int | None = None

    @property
    def heard_ms(self) -> int:
        """Milliseconds fed so far."""
        return self._samples * 1000 // self.rate

    @property
    def silence_ms(self) -> int:
        """Milliseconds without a word at the end of what was fed; 0 while one sounds."""
        if self._sounded_ms is None:
            return self.heard_ms
        return max(0, self.heard_ms - self._sounded_ms - _WINDOW_MS // 2)

    def feed(self, pcm16le: bytes) -> list[Heard]:
        """The words that have ended, as far as can be told after this piece."""
        if self._odd:
            pcm16le = self._odd + pcm16le
        even = len(pcm16le) & ~1
        self._odd = pcm16le[even:]
        samples = np.frombuffer(pcm16le, dtype="<i2", count=even // 2)
        self._samples += len(samples)
        return self._listen(samples.astype(np.float32))

    def flush(self) -> list[Heard]:
        """The words that were still open when the audio ended. Nothing may be fed after it."""
        # So much silence ends any word: a window past the last sample, and one frame more than a word may have holes.
        return self._listen(np.zeros(2 * self._window + self._hop * (_HOLE_FRAMES + 2), dtype=np.float32))

    def _listen(self, samples: Floats) -> list[Heard]:
        audio = np.concatenate((self._unheard, samples))
        count = (len(audio) - self._window) // self._hop + 1
        if count <= 0:
            self._unheard = audio
            return []
        self._unheard = audio[count * self._hop :]
        frames = np.lib.stride_tricks.as_strided(
            audio, (count, self._window), (self._hop * audio.itemsize, audio.itemsize), writeable=False
        )
        spectrum = np.fft.rfft(frames * self._hann, axis=1)[:, : 3500 // _BIN_HZ]
        power = spectrum.real**2 + spectrum.imag**2
        lows = power[:, _LOW_HZ[0] // _BIN_HZ : _LOW_HZ[-1] // _BIN_HZ + 1 : 50 // _BIN_HZ]
        highs = power[:, _HIGH_HZ[0] // _BIN_HZ : _HIGH_HZ[-1] // _BIN_HZ + 1 : 50 // _BIN_HZ]
        low, high = lows.argmax(axis=1), highs.argmax(axis=1)
        rows = np.arange(count)
        low_power, high_power = lows[rows, low], highs[rows, high]
        pair = low_power + high_power
        loudness = np.sqrt(pair) * (4 / self._window)
        # A tone's power lies in its own bin and, a quarter each, in the two beside it.
        purity = 1.5 * pair / np.maximum(power[:, 200 // _BIN_HZ :].sum(axis=1), 1.0)
        sounds = (
            (loudness >= _FLOOR)
            & (purity >= _EDGE_PURITY)
            & (np.maximum(low_power, high_power) <= _TWIST * np.minimum(low_power, high_power))
        )
        words = np.where(sounds, _word(low, high), -1)
        heard: list[Heard] = []
        for word, loud, pure in zip(words.tolist(), loudness.tolist(), purity.tolist(), strict=True):
            ended = self._step(word if word >= 0 else None, loud, pure)
            if ended is not None:
                heard.append(ended)
            self._frame += 1
        return heard

    def _step(self, word: int | None, loudness: float, purity: float) -> Heard | None:
        """Take one frame; the word that it shows to have ended."""
        if word is not None:
            self._sounded_ms = self._frame * _HOP_MS
        run = self._run
        if run is not None and word == run.word and loudness >= run.peak / 4:
            run.add(self._frame, loudness, purity)
            self._hole, self._next = 0, None
            return None
        if word is not None and (run is None or word != run.word):
            if self._next is not None and self._next.word == word:
                self._next.add(self._frame, loudness, purity)
            else:
                self._next = _Run(word, self._frame, loudness, purity)
        ended: Heard | None = None
        if run is not None:
            self._hole += 1
            if self._hole > _HOLE_FRAMES or (self._next is not None and len(self._next.frames) > 1):
                ended = run.heard()
                self._run = None
        if self._run is None and self._next is not None:
            self._run, self._next, self._hole = self._next, None, 0
        return ended
