"""
English, heard by PocketSphinx with the model inside its wheel: good enough to show a conversation, free, and offline.

Fed in small pieces PocketSphinx hears half the words wrong, since its cepstral mean is then a guess. So each turn is cut by energy and
decoded whole; a partial is the turn so far, decoded again. Decoding holds Python's lock for as long as it takes, so
that a thread would stop the event loop: it runs in worker processes, as many as *workers*; the others wait.
"""

import asyncio
import contextlib
import math
import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from typing import Any, Final, Self

import numpy as np
import soxr

from gateway.emulator.messages import Word
from gateway.emulator.recogniser import Recogniser
from gateway.errors import ConfigurationFault

RATE_HZ: Final = 16000
INSTALL: Final = (
    "the recogniser 'sphinx' needs PocketSphinx, an optional extra: pip install 'telephony-transcription-gateway[sphinx]' "
    "(wheels exist for Python 3.11 and 3.13); 'tones' needs nothing"
)

_FRAME_MS: Final = 20
_BEFORE_MS: Final = 300
"""Audio kept from before the speech was noticed: a word begins softer than it goes on."""
_QUIETEST: Final = 120.0
"""RMS (of 32767) under which nothing is speech, however quiet the line."""
_OVER_NOISE: Final = 3.0
_ONSET_FRAMES: Final = 3
"""So many loud frames of the last five begin speech: a click does not."""
_LONGEST_PARTIAL_MS: Final = 8_000
"""Decoding takes about a fifth of the audio's time: a longer turn is heard whole, at its end, and not on the way."""
_NOT_WORDS: Final = ("<", "[", "++")


class English:
    """Makes recognisers of English that share worker processes."""

    def __init__(self, workers: int = 2) -> None:
        if find_spec("pocketsphinx") is None:
            raise ConfigurationFault([INSTALL])
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        spawn = multiprocessing.get_context("spawn")  # a fork would take the sockets along
        self._pool = ProcessPoolExecutor(self._workers, mp_context=spawn, initializer=_load)
        # The models are loaded before the first caller speaks.
        await asyncio.gather(*(self.decode(bytes(RATE_HZ)) for _ in range(self._workers)))
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def listen(self, rate: int) -> Recogniser:
        """A recogniser for PCM16LE of *rate*."""
        return Listener(self, rate)

    async def decode(self, pcm16le: bytes) -> Sequence[Word]:
        """The words of 16 kHz audio, timed from its start."""
        if self._pool is None:
            raise ConfigurationFault(["the recogniser is not open"])
        found = await asyncio.get_running_loop().run_in_executor(self._pool, _decode, pcm16le)
        return [Word(*word) for word in found]


class Listener:
    """One session: finds speech by its energy, keeps the open turn's audio, and has it decoded."""

    def __init__(self, english: English, rate: int) -> None:
        self._english = english
        self._rate = rate
        self._upsample = soxr.ResampleStream(rate, RATE_HZ, 1, dtype="int16") if rate != RATE_HZ else None
        self._samples = 0
        self._unframed = b""
        self._frame_bytes = RATE_HZ * _FRAME_MS // 1000 * 2
        self._kept = bytearray()
        self._kept_from_ms = 0
        self._framed_ms = 0
        self._noise = 4 * _QUIETEST
        self._loud: list[bool] = []
        self._since_ms: int | None = None
        self._sounded_ms = 0

    @property
    def heard_ms(self) -> int:
        return self._samples * 1000 // self._rate

    @property
    def silence_ms(self) -> int:
        return max(0, self.heard_ms - self._sounded_ms)

    @property
    def since_ms(self) -> int | None:
        return self._since_ms

    def feed(self, pcm16le: bytes) -> None:
        pcm16le = pcm16le[: len(pcm16le) & ~1]
        self._samples += len(pcm16le) // 2
        if self._upsample is not None:
            pcm16le = self._upsample.resample_chunk(np.frombuffer(pcm16le, dtype="<i2")).tobytes()
        self._unframed += pcm16le
        whole = len(self._unframed) // self._frame_bytes * self._frame_bytes
        for at in range(0, whole, self._frame_bytes):
            self._frame(self._unframed[at : at + self._frame_bytes])
        self._unframed = self._unframed[whole:]

    def _frame(self, frame: bytes) -> None:
        loudness = math.sqrt(float(np.mean(np.frombuffer(frame, dtype="<i2").astype(np.float32) ** 2)))
        self._framed_ms += _FRAME_MS
        # The noise floor falls at once and rises slowly: about 6 dB in three seconds.
        self._noise = max(_QUIETEST / _OVER_NOISE, min(loudness, self._noise * 1.005))
        loud = loudness > max(_QUIETEST, _OVER_NOISE * self._noise)
        self._loud = [*self._loud[-4:], loud]
        self._kept += frame
        if self._since_ms is None and sum(self._loud) >= _ONSET_FRAMES:
            self._since_ms = max(self._kept_from_ms, self._framed_ms - len(self._loud) * _FRAME_MS)
        if self._since_ms is None:
            surplus = len(self._kept) - _BEFORE_MS // _FRAME_MS * self._frame_bytes
            if surplus > 0:
                del self._kept[:surplus]
                self._kept_from_ms += surplus // self._frame_bytes * _FRAME_MS
        elif loud:
            self._sounded_ms = self._framed_ms

    async def words(self) -> Sequence[Word]:
        if self._since_ms is None or self._framed_ms - self._since_ms > _LONGEST_PARTIAL_MS:
            return ()
        return await self._decode(bytes(self._kept), self._kept_from_ms)

    async def cut(self) -> Sequence[Word]:
        if self._since_ms is None:
            return ()
        audio, from_ms = bytes(self._kept), self._kept_from_ms
        self._kept.clear()
        self._kept_from_ms, self._since_ms, self._loud = self._framed_ms, None, []
        return await self._decode(audio, from_ms)

    async def flush(self) -> Sequence[Word]:
        if self._upsample is not None:
            tail = self._upsample.resample_chunk(np.zeros(0, dtype="<i2"), last=True).tobytes()
            self._kept += self._unframed + tail
        return await self.cut()

    async def _decode(self, audio: bytes, from_ms: int) -> Sequence[Word]:
        found = await self._english.decode(audio)
        return [word._replace(start_ms=word.start_ms + from_ms, end_ms=word.end_ms + from_ms) for word in found]


_decoders: list[Any] = []
"""In a worker process: its one decoder."""


def _load() -> None:
    import pocketsphinx  # noqa: PLC0415  an optional extra, and only in the worker

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    with contextlib.suppress(IndexError):
        _decoders.pop()
    _decoders.append(pocketsphinx.Decoder(samprate=float(RATE_HZ), loglevel="FATAL"))


def _decode(pcm16le: bytes) -> list[tuple[str, int, int, float]]:
    """Text, start and end in milliseconds, confidence."""
    decoder = _decoders[0]
    decoder.start_utt()
    decoder.process_raw(pcm16le, full_utt=True)
    decoder.end_utt()
    if decoder.hyp() is None:
        return []
    to_probability = decoder.get_logmath().exp
    return [
        (
            segment.word.partition("(")[0],
            segment.start_frame * 10,
            segment.end_frame * 10 + 10,
            round(min(1.0, max(0.0, to_probability(segment.prob))), 3),
        )
        for segment in decoder.seg()
        if not segment.word.startswith(_NOT_WORDS)
    ]
