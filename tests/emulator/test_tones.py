"""Coded speech is heard again, word for word, after everything a telephone network does to it."""

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audio import g711
from gateway.emulator.tones import (
    GAP_MS,
    SHORTEST_MS,
    TONE_MS,
    VOCABULARY,
    Ear,
    Heard,
    Spoken,
    mulaw,
    pcm,
    read,
    script,
    spelled,
)


def hear(audio: bytes, rate: int = 8000, piece: int = 960) -> list[Heard]:
    ear = Ear(rate)
    heard = [word for at in range(0, len(audio), piece) for word in ear.feed(audio[at : at + piece])]
    return heard + ear.flush()


def agree(heard: list[Heard], spoken: list[Spoken]) -> None:
    assert [word.word for word in heard] == [word.word for word in spoken]
    for mine, theirs in zip(heard, spoken, strict=True):
        assert abs(mine.start_ms - theirs.start_ms) <= 20
        assert abs(mine.end_ms - theirs.end_ms) <= 20


def test_the_whole_vocabulary_survives_mulaw() -> None:
    """Each of the words is heard as itself through mu-law at 8 kHz."""
    spoken = [Spoken(word, 100 + word * (TONE_MS + GAP_MS)) for word in range(VOCABULARY)]
    seconds = (spoken[-1].end_ms + 200) / 1000
    agree(hear(g711.decode(mulaw(spoken, seconds), "PCMU")), spoken)


def test_the_whole_vocabulary_survives_alaw_and_resampling() -> None:
    """Each of the words is heard as itself through A-law and soxr's stream to 16 kHz."""
    spoken = [Spoken(word, 100 + word * (TONE_MS + GAP_MS)) for word in range(VOCABULARY)]
    seconds = (spoken[-1].end_ms + 200) / 1000
    carried = g711.decode(g711.encode_alaw(pcm(spoken, seconds)), "PCMA")
    stream = soxr.ResampleStream(8000, 16000, 1, dtype="int16")
    samples = np.frombuffer(carried, dtype="<i2")
    pieces = [stream.resample_chunk(samples[at : at + 160]) for at in range(0, len(samples), 160)]
    pieces.append(stream.resample_chunk(samples[:0], last=True))
    agree(hear(np.concatenate(pieces).tobytes(), 16000), spoken)


def test_words_said_three_times_are_heard_three_times() -> None:
    """Repetitions are counted, inside a turn and across a turn's border."""
    spoken = script(30, repeat=3)
    words = [word.word for word in spoken]
    assert words[:8] == [0, 1, 2, 2, 2, 3, 4, 5]
    assert spoken[4].start_ms - spoken[3].end_ms == 900  # the border lies between the second and the third "2"
    agree(hear(pcm(spoken, 30)), spoken)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 4000), min_size=1, max_size=40))
def test_the_pieces_do_not_matter(sizes: list[int]) -> None:
    """Any cutting of the stream, odd bytes included, hears the same words at the same times."""
    audio = pcm(script(4), 4)
    whole, ear, heard, at = hear(audio, piece=len(audio)), Ear(), [], 0
    for size in sizes:
        heard += ear.feed(audio[at : at + size])
        at += size
    heard += ear.feed(audio[at:])
    assert heard + ear.flush() == whole


@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_fragment_is_no_word(rate: int) -> None:
    """A word cut to well under 80 ms is not heard; one of 80 ms is, with its real edges."""
    audio = pcm([Spoken(5, 200)], 1, rate)
    cut = (200 + SHORTEST_MS - 20) * rate // 1000 * 2
    assert hear(audio[:cut] + bytes(rate), rate) == []
    cut = (200 + SHORTEST_MS) * rate // 1000 * 2
    [word] = hear(audio[:cut] + bytes(rate), rate)
    assert word.word == 5
    assert abs(word.start_ms - 200) <= 10
    assert abs(word.end_ms - 200 - SHORTEST_MS) <= 10


def test_words_spliced_without_a_gap_are_told_apart() -> None:
    """Where audio was lost and two halves of words touch, both are heard."""
    one, two = pcm([Spoken(7, 0)], 0.1), pcm([Spoken(300, 0)], 0.16)
    heard = hear(bytes(1600) + one + two + bytes(1600))
    assert [word.word for word in heard] == [7, 300]


def test_a_lost_packet_inside_a_word_does_not_double_it() -> None:
    """20 ms of silence in the middle of a word leave one word."""
    audio = bytearray(pcm([Spoken(9, 100)], 0.5))
    audio[180 * 16 : 200 * 16] = bytes(20 * 16)
    assert [word.word for word in hear(bytes(audio))] == [9]


def test_noise_is_not_speech() -> None:
    """White noise and a lone tone hold no word."""
    noise = np.random.default_rng(1).normal(0, 4000, 80000).astype("<i2").tobytes()
    tone = (8000 * np.sin(np.arange(16000) * 2 * np.pi * 1000 / 8000)).astype("<i2").tobytes()
    assert hear(noise) == []
    assert hear(tone) == []


def test_a_word_drowned_in_noise_is_not_claimed() -> None:
    """Where noise is louder than the tones, the ear rather says nothing."""
    noise = np.random.default_rng(3).normal(0, 10500, 8000)
    drowned = np.frombuffer(pcm([Spoken(5, 300)], 1), dtype="<i2") + noise
    assert hear(np.clip(drowned, -32768, 32767).astype("<i2").tobytes()) == []


def test_words_are_heard_in_noise() -> None:
    """A noisy line (15 dB) costs no word."""
    spoken = script(20)
    clean = np.frombuffer(pcm(spoken, 20), dtype="<i2").astype(np.float64)
    noisy = clean + np.random.default_rng(2).normal(0, 1400, len(clean))
    agree(hear(noisy.astype("<i2").tobytes()), spoken)


def test_silence_is_measured() -> None:
    """`silence_ms` is near 0 while a word sounds and grows afterwards."""
    audio, ear = pcm([Spoken(1, 200)], 1), Ear()
    ear.feed(audio[: 190 * 16])
    assert ear.silence_ms == 190
    ear.feed(audio[190 * 16 : 340 * 16])
    assert ear.silence_ms == 0
    ear.feed(audio[340 * 16 :])
    assert abs(ear.silence_ms - 640) <= 20
    assert ear.heard_ms == 1000


def test_a_rate_too_low_is_refused() -> None:
    """An ear that could not hear the high tones, or could not hop evenly, is not made."""
    with pytest.raises(ValueError, match="6000 Hz"):
        Ear(6000)


def test_a_word_outside_the_vocabulary_is_refused() -> None:
    """There is no sound for a number too great."""
    with pytest.raises(ValueError, match="no word"):
        pcm([Spoken(VOCABULARY, 0)], 1)


def test_words_are_spelled_and_read() -> None:
    """Spelling and reading are each other's inverse; other text is skipped."""
    assert read(" ".join(spelled(word) for word in (0, 12, 767)) + " uh W3, x9") == [0, 12, 767, 3]
