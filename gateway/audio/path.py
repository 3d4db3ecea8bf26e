"""
A session's audio path: the carrier's bytes in, legal chunks out.

    resampled, 16 kHz:  G.711 → PCM16 8 kHz → soxr → PCM16 16 kHz → chunks of 60 ms
    resampled, 8 kHz:   G.711 → PCM16 8 kHz → chunks of 60 ms
    mulaw:              G.711 (A-law through PCM16) → mu-law 8 kHz → chunks of 60 ms

soxr's variable-rate stream holds back 30 ms, always. Its default stream holds back 12 to 115 ms, in bursts, for 0.4 ms
less CPU a second of audio (soxr 1.1.0, 20 ms pushes): for speech that must be heard at once, the constant one. Pushes
of 60 ms cost a quarter less than pushes of 20.
Input and output stay aligned: sample *n* in is sample 2 *n* out, once flushed.
"""

from typing import Final, Literal, Protocol

import numpy as np
import soxr

from gateway.audio import g711

CHUNK_MS: Final = 60
SHORTEST_MS: Final = 50
"""The service refuses chunks under 50 ms and over 1000 ms (error 3007)."""

Audio = Literal["resampled", "mulaw"]

RESAMPLED_HZ: Final = 16000


class Path(Protocol):
    """Stages as one; `finish` ends it."""

    @property
    def bytes_per_ms(self) -> int:
        """Of the chunks."""

    def push(self, payload: bytes) -> list[bytes]: ...

    def finish(self) -> list[bytes]: ...


class Chunker:
    """Regroup bytes into chunks of one size; the last one is padded with silence up to the shortest legal one."""

    def __init__(self, bytes_per_ms: int, silence: bytes, chunk_ms: int = CHUNK_MS) -> None:
        self._size = chunk_ms * bytes_per_ms
        self._shortest = SHORTEST_MS * bytes_per_ms
        self._silence = silence
        self._rest = bytearray()
        self._name = f"chunks of {chunk_ms} ms"

    def __repr__(self) -> str:
        return self._name

    def push(self, data: bytes) -> list[bytes]:
        if not self._rest and len(data) == self._size:
            return [data]
        self._rest += data
        whole = len(self._rest) // self._size * self._size
        chunks = [bytes(self._rest[i : i + self._size]) for i in range(0, whole, self._size)]
        del self._rest[:whole]
        return chunks

    def finish(self) -> list[bytes]:
        if not self._rest:
            return []
        last = bytes(self._rest).ljust(self._shortest, self._silence)
        self._rest.clear()
        return [last]


class Resampled:
    """
    G.711 to PCM16 at 16 kHz; state is kept from push to push, so frame borders do not click.

    soxr is given floats and rounded here: its own rounding to 16 bits adds a dither that is another one each time, so
    that the same audio would not give the same PCM.
    """

    bytes_per_ms: Final = 32

    def __init__(self, encoding: g711.Encoding) -> None:
        self._encoding = encoding
        self._resampler = soxr.ResampleStream(g711.RATE_HZ, RESAMPLED_HZ, 1, dtype="float32", vr=True)
        self._chunks = Chunker(self.bytes_per_ms, b"\0")

    def __repr__(self) -> str:
        return f"{self._encoding} 8000 Hz -> PCM16 -> soxr 16000 Hz -> {self._chunks}"

    def push(self, payload: bytes) -> list[bytes]:
        return self._chunks.push(self._resample(payload, last=False))

    def finish(self) -> list[bytes]:
        return self._chunks.push(self._resample(b"", last=True)) + self._chunks.finish()

    def _resample(self, payload: bytes, *, last: bool) -> bytes:
        pcm = np.frombuffer(g711.decode(payload, self._encoding), np.int16).astype(np.float32)
        resampled = self._resampler.resample_chunk(pcm, last)
        np.rint(resampled, out=resampled)
        np.minimum(resampled, 32767, out=resampled)  # a loud step overshoots between its samples
        np.maximum(resampled, -32768, out=resampled)
        pcm16: bytes = resampled.astype("<i2").tobytes()
        return pcm16


class Decoded:
    """G.711 to PCM16 at its own 8 kHz: nothing to resample, nothing held back."""

    bytes_per_ms: Final = 16

    def __init__(self, encoding: g711.Encoding) -> None:
        self._encoding = encoding
        self._chunks = Chunker(self.bytes_per_ms, b"\0")

    def __repr__(self) -> str:
        return f"{self._encoding} 8000 Hz -> PCM16 -> {self._chunks}"

    def push(self, payload: bytes) -> list[bytes]:
        return self._chunks.push(g711.decode(payload, self._encoding))

    def finish(self) -> list[bytes]:
        return self._chunks.finish()


class Mulaw:
    """Mu-law as it came, 8 kHz; A-law, which the service does not take, becomes mu-law."""

    bytes_per_ms: Final = 8

    def __init__(self, encoding: g711.Encoding) -> None:
        self._encoding = encoding
        self._chunks = Chunker(self.bytes_per_ms, g711.SILENCE["PCMU"])

    def __repr__(self) -> str:
        return f"{self._encoding} 8000 Hz -> PCMU 8000 Hz -> {self._chunks}"

    def push(self, payload: bytes) -> list[bytes]:
        if self._encoding == "PCMA":
            payload = g711.encode_mulaw(g711.decode(payload, "PCMA"))
        return self._chunks.push(payload)

    def finish(self) -> list[bytes]:
        return self._chunks.finish()


def open_path(audio: Audio, encoding: g711.Encoding, rate_hz: int | None = None) -> Path:
    """
    The path a leg's profile asks for, from what its carrier sends.

    `rate_hz` is the session's `sample_rate`: 16000 (the default) or 8000 where resampled, 8000 where mu-law.

    Raises:
        ValueError: No path leads to that rate.
    """
    if audio == "mulaw" and rate_hz in {None, g711.RATE_HZ}:
        return Mulaw(encoding)
    if audio == "resampled" and rate_hz in {None, RESAMPLED_HZ}:
        return Resampled(encoding)
    if audio == "resampled" and rate_hz == g711.RATE_HZ:
        return Decoded(encoding)
    raise ValueError(f"no audio path to {audio} at {rate_hz} Hz")
