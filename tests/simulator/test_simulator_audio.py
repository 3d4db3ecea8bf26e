"""Sounds: coded speech, WAV files of every kind that is taken, and which words were sent whole."""

import struct
import wave
from pathlib import Path

import numpy as np
import pytest

from gateway.audio import g711
from gateway.call import TRACKS
from gateway.emulator import tones
from gateway.emulator.tones import Ear
from gateway.simulator import audio, wav
from gateway.simulator.audio import Span


def heard(mulaw: bytes) -> list[int]:
    """The coded words of a track."""
    ear = Ear()
    return [word.word for word in [*ear.feed(g711.decode(mulaw, "PCMU")), *ear.flush()]]


def pcm_file(path: Path, channels: list[bytes], rate: int = 8000) -> Path:
    """A file of PCM, by the standard library."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.stack([np.frombuffer(one, "<i2") for one in channels], axis=1).tobytes())
    return path


def header(tag: int, bits: int, channels: int = 1, rate: int = 8000, extra: bytes = b"") -> bytes:
    """A `fmt ` chunk."""
    body = struct.pack("<HHIIHH", tag, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits) + extra
    return b"fmt " + struct.pack("<I", len(body)) + body


def file_of(*chunks: bytes) -> bytes:
    """A RIFF file."""
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_coded_speech_is_what_it_says() -> None:
    """Both tracks hold their words, of one length, and no word of one is on the other."""
    sound = audio.coded(6.0, number=3)
    assert sound.seconds == 6.0
    for track in TRACKS:
        assert heard(sound.tracks[track]) == [spoken.word for spoken in sound.words[track]]
    inbound, outbound = ({spoken.word for spoken in sound.words[track]} for track in TRACKS)
    assert not inbound & outbound


def test_calls_begin_with_words_of_their_own() -> None:
    """No two legs of 300 calls begin with the same word: a leg can be told by its first."""
    first = [sound.words[track][0].word for sound in (audio.coded(1.0, n) for n in range(300)) for track in TRACKS]
    assert len(set(first)) == 600


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_stereo_file_is_two_tracks(tmp_path: Path, rate: int) -> None:
    """Left is inbound, right is outbound, at any rate: every word is there."""
    sound = audio.coded(4.0)
    path = pcm_file(tmp_path / "call.wav", [tones.pcm(sound.words[track], 4.0, rate) for track in TRACKS], rate)
    read = audio.from_wav(path)
    assert list(read.tracks) == list(TRACKS)
    assert read.seconds == pytest.approx(4.0, abs=0.001)
    for track in TRACKS:
        assert heard(read.tracks[track]) == [spoken.word for spoken in sound.words[track]]


def test_a_mono_file_is_one_track(tmp_path: Path) -> None:
    """A recording of one party is its inbound track."""
    sound = audio.coded(2.0)
    path = pcm_file(tmp_path / "one.wav", [g711.decode(sound.tracks["inbound"], "PCMU")])
    assert dict(audio.from_wav(path).tracks) == {"inbound": sound.tracks["inbound"]}


def test_a_mulaw_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Byte for byte."""
    sound = audio.coded(2.0)
    wav.write_mulaw(tmp_path / "call.wav", [sound.tracks[track] for track in TRACKS])
    assert dict(audio.from_wav(tmp_path / "call.wav").tracks) == dict(sound.tracks)


def test_alaw_extensible_and_odd_chunks_are_read(tmp_path: Path) -> None:
    """A-law, "extensible" PCM, and chunks of odd length before the audio."""
    samples = np.arange(-800, 800, 10, dtype="<i2").tobytes()
    listed = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    alaw = g711.encode_alaw(samples)
    (tmp_path / "a.wav").write_bytes(file_of(listed, header(6, 8), b"data" + struct.pack("<I", len(alaw)) + alaw))
    assert wav.read(tmp_path / "a.wav").samples[:, 0].tobytes() == g711.decode(alaw, "PCMA")
    extra = struct.pack("<HHI", 22, 16, 4) + struct.pack("<H", 1) + b"\0" * 14
    (tmp_path / "x.wav").write_bytes(
        file_of(header(0xFFFE, 16, extra=extra), b"data" + struct.pack("<I", 0xFFFFFFFF) + samples)
    )
    assert wav.read(tmp_path / "x.wav").samples[:, 0].tobytes() == samples


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "not a WAV file"),
        (b"RIFF\0\0\0\0AVI ", "not a WAV file"),
        (file_of(), "no audio"),
        (file_of(header(1, 16)), "no audio"),
        (file_of(header(1, 24), b"data" + struct.pack("<I", 3) + b"abc"), "format 1 of 24 bits"),
        (file_of(header(3, 32), b"data" + struct.pack("<I", 4) + b"abcd"), "PCM of 16 bits, mu-law or A-law are taken"),
        (file_of(header(1, 16, channels=0), b"data" + struct.pack("<I", 2) + b"ab"), "0 channels"),
        (file_of(header(1, 16, channels=3), b"data" + struct.pack("<I", 6) + b"abcdef"), "one or two are taken"),
        (file_of(header(1, 16), b"data" + struct.pack("<I", 0)), "no audio"),
    ],
)
def test_what_cannot_be_played_says_why(tmp_path: Path, data: bytes, fault: str) -> None:
    """The fault names the file and the reason."""
    path = tmp_path / "bad.wav"
    path.write_bytes(data)
    with pytest.raises(wav.WavFault, match=fault):
        audio.from_wav(path)


def test_words_not_sent_whole_are_known() -> None:
    """A word of which a single sample is missing is cut; one that was sent in two pieces is not."""
    sound = audio.coded(3.0)
    first, second, *rest = sound.words["inbound"]
    begin, end = second.start_ms * 8, second.end_ms * 8
    sent = [Span("inbound", 0, begin + 5), Span("inbound", begin + 5, sound.samples), Span("outbound", 0, 10)]
    assert sound.cut("inbound", sent) == []
    assert sound.cut("inbound", [Span("inbound", 0, end - 1)]) == list(range(1, 2 + len(rest)))
    assert sound.cut("inbound", []) == list(range(2 + len(rest)))
    assert first.end_ms < second.start_ms


def test_the_middle_of_a_word() -> None:
    """The first word that is not over by then, of either party; without words, the moment itself."""
    sound = audio.coded(5.0)
    at = sound.middle_of_word(2.0)
    assert any(spoken.start_ms < at * 1000 < spoken.end_ms for words in sound.words.values() for spoken in words)
    assert 2.0 <= at < 3.2
    assert audio.Sound({"inbound": b"\xff" * 8000}).middle_of_word(0.5) == 0.5
