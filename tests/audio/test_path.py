"""A session's audio path."""

from itertools import accumulate, pairwise
from random import Random
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.audio import g711
from gateway.audio.path import Audio, Chunker, Path, open_path

NOISE: Final = Random(7).randbytes(16_000)
PATHS: Final[list[tuple[Audio, int]]] = [("resampled", 16000), ("resampled", 8000), ("mulaw", 8000)]
ENCODINGS: Final[list[g711.Encoding]] = ["PCMU", "PCMA"]

every_path = pytest.mark.parametrize(("audio", "rate_hz"), PATHS)
every_encoding = pytest.mark.parametrize("encoding", ENCODINGS)
framings = st.lists(st.one_of(st.integers(0, 40), st.sampled_from([160, 480, 792, 4000])), max_size=30)


def run(path: Path, payload: bytes, sizes: list[int] | None = None) -> list[bytes]:
    """All chunks of a payload, cut as told; what is left over comes in one piece."""
    borders = [0, *accumulate(sizes or []), len(payload)]
    chunks = [c for low, high in pairwise(borders) for c in path.push(payload[low:high])]
    return chunks + path.finish()


def tone(hertz: float, seconds: float, rate_hz: int = 8000) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 8000 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate_hz)) / rate_hz)
    return result


def samples(pcm: bytes) -> NDArray[np.float64]:
    return np.frombuffer(pcm, "<i2").astype(np.float64)


class TestEveryPath:
    """Whatever a profile asks for."""

    @every_path
    @every_encoding
    @given(length=st.integers(0, 6000), sizes=framings)
    def test_framing_does_not_matter(
        self, audio: Audio, rate_hz: int, encoding: g711.Encoding, length: int, sizes: list[int]
    ) -> None:
        """The same bytes cut in any way give the same chunks, to the last bit."""
        whole = run(open_path(audio, encoding, rate_hz), NOISE[:length])
        assert run(open_path(audio, encoding, rate_hz), NOISE[:length], sizes) == whole

    @every_path
    @given(length=st.integers(0, 6000), sizes=framings)
    def test_chunks_are_legal_and_complete(self, audio: Audio, rate_hz: int, length: int, sizes: list[int]) -> None:
        """Chunks are of exactly 60 ms; the last one has 50 at least, and only what that takes is padded."""
        path = open_path(audio, "PCMU", rate_hz)
        chunks = run(path, NOISE[:length], sizes)
        per_ms = path.bytes_per_ms
        assert all(len(chunk) == 60 * per_ms for chunk in chunks[:-1])
        true = length * per_ms // 8
        rest = true % (60 * per_ms)
        assert sum(map(len, chunks)) == true + (max(50 * per_ms - rest, 0) if rest else 0)

    @every_path
    def test_legs_do_not_mix(self, audio: Audio, rate_hz: int) -> None:
        """Two paths fed in turn give what each gives alone: state belongs to the leg."""
        one, two = open_path(audio, "PCMU", rate_hz), open_path(audio, "PCMA", rate_hz)
        mixed: tuple[list[bytes], list[bytes]] = ([], [])
        for at in range(0, 8000, 160):
            mixed[0].extend(one.push(NOISE[at : at + 160]))
            mixed[1].extend(two.push(NOISE[8000 + at : 8160 + at]))
        assert mixed[0] + one.finish() == run(open_path(audio, "PCMU", rate_hz), NOISE[:8000])
        assert mixed[1] + two.finish() == run(open_path(audio, "PCMA", rate_hz), NOISE[8000:])

    @every_path
    def test_nothing_in_nothing_out(self, audio: Audio, rate_hz: int) -> None:
        """A session into which nobody spoke gets no chunk, padding included."""
        path = open_path(audio, "PCMU", rate_hz)
        assert path.push(b"") + path.finish() == []

    @every_path
    @every_encoding
    def test_silence_stays_silence(self, audio: Audio, rate_hz: int, encoding: g711.Encoding) -> None:
        """A second of silence and its padding click nowhere: no sample is larger than A-law's smallest, rounded."""
        chunks = run(open_path(audio, encoding, rate_hz), g711.SILENCE[encoding] * 8010)
        pcm = b"".join(chunks) if audio == "resampled" else g711.decode(b"".join(chunks), "PCMU")
        assert abs(samples(pcm)).max() <= 16

    def test_what_it_reads_as(self) -> None:
        """Its repr is the chain, for the log."""
        assert [repr(open_path(audio, "PCMA", rate_hz)) for audio, rate_hz in PATHS] == [
            "PCMA 8000 Hz -> PCM16 -> soxr 16000 Hz -> chunks of 60 ms",
            "PCMA 8000 Hz -> PCM16 -> chunks of 60 ms",
            "PCMA 8000 Hz -> PCMU 8000 Hz -> chunks of 60 ms",
        ]

    def test_defaults_and_impossible_rates(self) -> None:
        """Without a rate it is 16 kHz resampled and 8 kHz in mu-law; a rate nothing leads to is refused."""
        assert [open_path(audio, "PCMU").bytes_per_ms for audio in ("resampled", "mulaw")] == [32, 8]
        with pytest.raises(ValueError, match="no audio path to resampled at 44100 Hz"):
            open_path("resampled", "PCMU", 44100)
        with pytest.raises(ValueError, match="no audio path to mulaw at 16000 Hz"):
            open_path("mulaw", "PCMU", 16000)


class TestResampled:
    """8 to 16 kHz."""

    @given(st.integers(0, 5000))
    def test_two_samples_for_one(self, length: int) -> None:
        """Of n samples in exactly 2 n come out once the tail is flushed."""
        chunks = run(open_path("resampled", "PCMU"), NOISE[:length])
        unpadded = 4 * length
        assert 0 <= sum(map(len, chunks)) - unpadded < 50 * 32
        assert b"".join(chunks)[unpadded:].strip(b"\0") == b""

    @pytest.mark.parametrize("hertz", [300, 1000, 2000, 3400])
    def test_a_tone_stays_in_its_place(self, hertz: int) -> None:
        """Sample n in is sample 2 n out: a tone in the telephone band comes out as itself, in amplitude and in phase."""
        spoken = g711.encode_mulaw(tone(hertz, 1).astype("<i2").tobytes())
        heard = samples(b"".join(run(open_path("resampled", "PCMU"), spoken, [160] * 50)))[:16000]
        true = tone(hertz, 1, 16000)
        inner = slice(1600, 14400)
        noise = heard[inner] - true[inner]
        assert 10 * np.log10((true[inner] ** 2).mean() / (noise**2).mean()) > 35, "mu-law itself leaves 38 dB"

    def test_nothing_new_above_four_kilohertz(self) -> None:
        """No mirror image of speech appears in the upper half of the new band."""
        spoken = g711.encode_mulaw(tone(1000, 1).astype("<i2").tobytes())
        heard = samples(b"".join(run(open_path("resampled", "PCMU"), spoken)))[:16000]
        spectrum = abs(np.fft.rfft(heard * np.hanning(len(heard))))
        assert 20 * np.log10(spectrum[4100:].max() / spectrum.max()) < -80

    @pytest.mark.parametrize("size", [80, 160, 240, 264, 792])
    def test_it_holds_back_30_ms_and_never_more(self, size: int) -> None:
        """A chunk comes out with the frame that brings its last sample and the 30 ms behind it."""
        path = open_path("resampled", "PCMU")
        fed = out = 0
        for _ in range(24_000 // size):
            fed += size
            out += len(path.push(bytes(size)))
            assert out == max(0, fed - 240) // 480

    def test_loud_speech_is_clipped_not_wrapped(self) -> None:
        """A square wave at full scale overshoots at its edges; it stays at the rail, on its side of zero."""
        half = g711.encode_mulaw(np.full(100, 32767, "<i2").tobytes())
        other = g711.encode_mulaw(np.full(100, -32767, "<i2").tobytes())
        heard = samples(b"".join(run(open_path("resampled", "PCMU"), (half + other) * 20)))[:8000].reshape(40, 200)
        inner = heard[1:-1, 4:-4] * np.resize([-1, 1], 38)[:, None]
        assert inner.min() > 25_000
        assert heard.max() == 32767
        assert heard.min() == -32768


class TestEightKilohertz:
    """PCM16 and mu-law without a resampler."""

    @every_encoding
    def test_pcm_is_the_decoded_payload(self, encoding: g711.Encoding) -> None:
        """Nothing but the codec happens to it, and each chunk leaves with its last byte."""
        path = open_path("resampled", encoding, 8000)
        assert path.push(NOISE[:479]) == []
        assert path.push(NOISE[479:480]) == [g711.decode(NOISE[:480], encoding)]
        assert path.finish() == []

    def test_mulaw_passes_as_it_came(self) -> None:
        """Byte for byte, each chunk with its last byte; the padding is mu-law's silence."""
        assert run(open_path("mulaw", "PCMU"), NOISE[:500], [160] * 3) == [NOISE[:480], NOISE[480:500] + b"\xff" * 380]

    def test_alaw_becomes_mulaw(self) -> None:
        """A-law goes through PCM16, and loses no more than mu-law's own rounding."""
        [chunk] = open_path("mulaw", "PCMA").push(NOISE[:480])
        true = samples(g711.decode(NOISE[:480], "PCMA"))
        assert (abs(samples(g711.decode(chunk, "PCMU")) - true) <= 12 + abs(true) / 30).all()


class TestChunker:
    """Bytes regrouped."""

    def test_a_whole_chunk_is_not_copied(self) -> None:
        """What comes as one chunk leaves as the same object."""
        chunk = bytes(480)
        [out] = Chunker(8, b"\xff").push(chunk)
        assert out is chunk

    def test_many_at_once(self) -> None:
        """A second in one piece is sixteen chunks and a rest."""
        chunks = Chunker(8, b"\xff")
        assert chunks.push(NOISE[:8000]) == [NOISE[at : at + 480] for at in range(0, 7680, 480)]
        assert chunks.finish() == [NOISE[7680:8000] + b"\xff" * 80]
        assert chunks.finish() == []

    def test_another_size(self) -> None:
        """Chunks of 100 ms where that is asked for."""
        assert [len(c) for c in Chunker(32, b"\0", chunk_ms=100).push(bytes(6400))] == [3200, 3200]
