"""The codec, against the recommendation's own arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.audio import g711

EVERY_BYTE = bytes(range(256))


def samples(pcm: bytes) -> NDArray[np.int32]:
    return np.frombuffer(pcm, "<i2").astype(np.int32)


def mulaw_by_definition(byte: int) -> int:
    """ITU-T G.711 table 2: sign, three bits of segment, four of step, all inverted; 14 bits, left-justified in 16."""
    inverted = ~byte & 0xFF
    magnitude = (((inverted & 0x0F) * 2 + 33) << (inverted >> 4 & 7)) - 33
    return 4 * (-magnitude if inverted & 0x80 else magnitude)


def alaw_by_definition(byte: int) -> int:
    """ITU-T G.711 table 1: even bits inverted, sign 1 is positive; 13 bits, left-justified in 16."""
    even = byte ^ 0x55
    segment, step = even >> 4 & 7, even & 0x0F
    magnitude = 2 * step + 1 if segment == 0 else (2 * step + 33) << (segment - 1)
    return 8 * (magnitude if even & 0x80 else -magnitude)


def test_every_mulaw_byte() -> None:
    """All 256 bytes decode to the recommendation's values, two little-endian bytes a sample."""
    assert samples(g711.decode(EVERY_BYTE, "PCMU")).tolist() == [mulaw_by_definition(byte) for byte in EVERY_BYTE]


def test_every_alaw_byte() -> None:
    """The same for A-law."""
    assert samples(g711.decode(EVERY_BYTE, "PCMA")).tolist() == [alaw_by_definition(byte) for byte in EVERY_BYTE]


def test_encoding_gives_back_what_was_decoded() -> None:
    """A byte that was decoded is encoded as itself; mu-law's second zero becomes its first."""
    assert g711.encode_mulaw(g711.decode(EVERY_BYTE, "PCMU")) == EVERY_BYTE.replace(b"\x7f", b"\xff")
    assert g711.encode_alaw(g711.decode(EVERY_BYTE, "PCMA")) == EVERY_BYTE


@given(st.binary(max_size=400).map(lambda data: data[: len(data) // 2 * 2]))
def test_encoding_is_off_by_a_step_at_most(pcm: bytes) -> None:
    """Any PCM comes back within half a step of its segment: a thirty-second part of its size, a few units near zero."""
    true = np.clip(samples(pcm), -32124, 32124)
    for back in g711.decode(g711.encode_mulaw(pcm), "PCMU"), g711.decode(g711.encode_alaw(pcm), "PCMA"):
        assert (abs(samples(back) - true) <= 12 + abs(true) / 30).all()


@pytest.mark.parametrize("encoding", ["PCMU", "PCMA"])
def test_silence_is_silent(encoding: g711.Encoding) -> None:
    """The byte that stands for silence decodes to the smallest value there is; zero would be a full-scale click."""
    assert g711.rms(g711.SILENCE[encoding] * 160, encoding) <= 8
    assert g711.rms(b"\0" * 160, encoding) > 5000
    assert len(g711.SILENCE[encoding]) == 1


def test_nothing_of_nothing() -> None:
    """No bytes are no samples, and not loud."""
    assert (
        g711.decode(b"", "PCMU") == g711.decode(b"", "PCMA") == g711.encode_mulaw(b"") == g711.encode_alaw(b"") == b""
    )
    assert g711.rms(b"", "PCMU") == 0


def test_loudness() -> None:
    """A square wave is as loud as it is high."""
    assert g711.rms(g711.encode_mulaw(np.array([8031, -8031] * 80, "<i2").tobytes()), "PCMU") == pytest.approx(
        8031, rel=0.03
    )
