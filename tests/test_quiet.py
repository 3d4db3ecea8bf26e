"""Where nobody speaks."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import quiet
from gateway.audio import g711

FRAME: Final = 160
"""Samples of 20 ms."""

encodings = st.sampled_from(("PCMU", "PCMA"))


def tone(loudness: int, encoding: g711.Encoding, samples: int = FRAME) -> bytes:
    """A sine of 400 Hz, so loud (root mean square)."""
    peak = loudness * math.sqrt(2)
    pcm = b"".join(
        round(peak * math.sin(2 * math.pi * n / 20)).to_bytes(2, "little", signed=True) for n in range(samples)
    )
    return g711.encode_mulaw(pcm) if encoding == "PCMU" else g711.encode_alaw(pcm)


def line(loudness: Sequence[int], encoding: g711.Encoding) -> bytes:
    """Frames of 20 ms, each so loud."""
    return b"".join(tone(level, encoding) for level in loudness)


def stretches(voice: Sequence[bool], shortest: int) -> list[tuple[int, int]]:
    """Runs of frames without a voice, at least so many, in milliseconds."""
    found, at = [], 0
    for spoken, frames in groupby(voice):
        count = len(list(frames))
        if not spoken and count >= shortest:
            found.append((at * 20, (at + count) * 20))
        at += count
    return found


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 12), encodings)
def test_pauses_are_found_to_the_frame(voice: list[bool], shortest: int, encoding: g711.Encoding) -> None:
    """Every stretch without a voice that is long enough, whole, and no other; and how much voice there is."""
    payload = line([3000 if spoken else 40 for spoken in voice], encoding)
    assert stretches(voice, shortest) == quiet.runs(payload, encoding, shortest * 20)
    assert voice.count(True) * 20 == quiet.voiced_ms(payload, encoding)


@pytest.mark.parametrize("encoding", ["PCMU", "PCMA"])
def test_silence_is_one_pause(encoding: g711.Encoding) -> None:
    """A line on which nothing sounds, whatever its encoding calls that."""
    payload = g711.SILENCE[encoding] * FRAME * 10
    assert quiet.runs(payload, encoding, 200) == [(0, 200)]
    assert quiet.runs(payload, encoding, 220) == []
    assert quiet.voiced_ms(payload, encoding) == 0


def test_pause_is_quiet_beside_the_voice() -> None:
    """On a noisy line the noise is a pause where somebody speaks over it; where nobody does it is not known to be one."""
    noise, voice = [400] * 10, [6000] * 10
    assert quiet.runs(line(voice + noise + voice, "PCMU"), "PCMU", 160) == [(200, 400)]
    assert quiet.runs(line(noise, "PCMU"), "PCMU", 160) == []
    assert quiet.voiced_ms(line(noise, "PCMU"), "PCMU") == 200


def test_quiet_speech_is_no_pause() -> None:
    """Somebody far from the microphone is heard beside nobody."""
    assert quiet.runs(line([600] * 20, "PCMU"), "PCMU", 160) == []


@pytest.mark.parametrize("samples", [0, 1, FRAME - 1])
def test_less_than_a_frame_is_nothing(samples: int) -> None:
    """There is no pause in it, and no voice; behind whole frames it is left out."""
    payload = tone(3000, "PCMU", samples)
    assert quiet.loudness(payload, "PCMU") == []
    assert quiet.runs(payload, "PCMU", 20) == []
    assert quiet.runs(line([0], "PCMU") + payload, "PCMU", 20) == [(0, 20)]


def test_loudness_is_of_the_voice() -> None:
    """Root mean square, of 32767, to what eight bits can say."""
    assert [round(level, -2) for level in quiet.loudness(line([0, 1000, 4000], "PCMU"), "PCMU")] == [0, 1000, 4000]
