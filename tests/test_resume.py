"""Where hearing goes on: never too late to miss a word, never further back than is due."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway import resume
from gateway.audio import g711
from gateway.buffer import AudioBuffer
from gateway.emulator import tones
from gateway.resume import SECOND

MS = 8


def held(script: list[tones.Spoken], seconds: float) -> AudioBuffer:
    buffer = AudioBuffer(60 * SECOND)
    buffer.push(0, tones.mulaw(script, seconds), None)
    return buffer


def again(buffer: AudioBuffer, **known: int | None) -> int:
    given_ = {"began": 0, "open_from": None, "sure": 0, "last_word": None} | known
    return resume.after_loss(read=buffer.read, encoding="PCMU", **given_)  # type: ignore[arg-type]


SCRIPT = tones.script(20, turn_gap_ms=900)
BUFFER = held(SCRIPT, 20)


@given(place=st.integers(0, len(SCRIPT) - 1), began_ms=st.integers(0, 19_000))
def test_an_open_turn_is_heard_whole(place: int, began_ms: int) -> None:
    """Hearing goes on before the open turn's first word, by 0.3 to 1 s, and never before the lost session began."""
    first = SCRIPT[place].start_ms * MS
    began = min(began_ms * MS, first)
    at = again(BUFFER, began=began, open_from=first, sure=first + SECOND)
    assert max(began, first - SECOND) <= at <= first
    assert at <= max(began, first - 300 * MS)


@given(sure_ms=st.integers(0, 20_000), began_ms=st.integers(0, 19_000))
def test_without_a_turn_five_seconds_at_most(sure_ms: int, began_ms: int) -> None:
    """Where no turn is open, hearing goes on from 5 s before the loss, or up to a second later at a pause; never further back."""
    sure, began = max(sure_ms, began_ms) * MS, began_ms * MS
    at = again(BUFFER, began=began, sure=sure)
    assert max(began, sure - 5 * SECOND) <= at <= max(began, sure - 4 * SECOND)


@given(place=st.integers(1, len(SCRIPT) - 2), after_ms=st.integers(0, 4000))
def test_no_word_behind_the_last_final_one_is_skipped(place: int, after_ms: int) -> None:
    """Hearing goes on before the last final word, so whatever follows it is heard, however close."""
    last = SCRIPT[place].start_ms * MS
    at = again(BUFFER, sure=last + after_ms * MS, last_word=last)
    assert at <= last


def test_begins_in_a_pause() -> None:
    """The place is the beginning of a pause where there is one: nothing is cut in two."""
    first = next(later for earlier, later in itertools.pairwise(SCRIPT) if later.start_ms - earlier.end_ms > 500)
    at = again(BUFFER, open_from=first.start_ms * MS, sure=first.start_ms * MS)
    _, payload = BUFFER.read(at, 100 * MS)
    assert resume.is_pause(payload, "PCMU")


def test_noise_without_a_pause() -> None:
    """Where nothing is quiet the place is the earliest allowed."""
    loud = AudioBuffer(60 * SECOND)
    loud.push(0, g711.encode_mulaw(b"\x00\x40\x00\xc0" * 40_000), None)
    assert again(loud, open_from=5 * SECOND, sure=5 * SECOND) == 4 * SECOND
    assert resume.before_cut(8 * SECOND, 0, loud.read, "PCMU") == 8 * SECOND - resume.OVERLAP


@given(cut_ms=st.integers(2000, 19_000), began_ms=st.integers(0, 2000))
def test_a_cut_is_overlapped(cut_ms: int, began_ms: int) -> None:
    """A cut through whatever is being said is heard from 0.75 to 1.5 s before it by both."""
    cut = cut_ms * MS
    at = resume.before_cut(cut, began_ms * MS, BUFFER.read, "PCMU")
    assert max(began_ms * MS, cut - resume.OVERLAP) <= at <= max(began_ms * MS, cut - resume.OVERLAP // 2)


def test_audio_that_has_given_way() -> None:
    """Where the audio is gone no pause is looked for in what is left: the place is as due, and the loss is said by who reads."""
    short = AudioBuffer(2 * SECOND)
    short.push(0, tones.mulaw(SCRIPT, 20), None)
    assert again(short, sure=12 * SECOND) == 7 * SECOND


def test_voice() -> None:
    """60 ms of a voice are a voice; a click is none."""
    _, word = BUFFER.read(SCRIPT[0].start_ms * MS, 160 * MS)
    assert resume.has_voice(word, "PCMU")
    assert not resume.is_pause(word, "PCMU")
    assert not resume.has_voice(word[: 40 * MS], "PCMU")


@given(voice_ms=st.integers(0, 15_000), silence_ms=st.integers(4200, 20_000), last_word=st.booleans())
def test_a_turn_that_nobody_sees(voice_ms: int, silence_ms: int, last_word: bool) -> None:
    """Without partials the whole of what is being said is heard again, and not the long silence before it."""
    talk = tones.mulaw(tones.script(16, start_ms=0, turn_gap_ms=300), 16)[: voice_ms * MS]
    buffer = AudioBuffer(60 * SECOND)
    for piece in (tones.mulaw(SCRIPT, 10), b"\xff" * (silence_ms * MS), talk):
        buffer.push(buffer.head, piece, None)
    began = (10_000 + silence_ms) * MS
    last = SCRIPT[3].start_ms * MS if last_word else None
    at = again(buffer, sure=buffer.head, last_word=last, turn_silence=4000 * MS)
    assert min(began, buffer.head - 5 * SECOND) - 2 * SECOND <= at <= began
    assert at >= resume.needed(buffer.head, last, turns_shown=False)


def test_talk_without_a_silence_is_heard_from_the_last_final_word() -> None:
    """Or from where the session began, or as far back as a turn can reach, or from where audio is held."""
    talk = AudioBuffer(60 * SECOND)
    for _ in range(4):
        talk.push(talk.head, tones.mulaw(SCRIPT, 20), None)
    unseen = {"sure": talk.head, "turn_silence": 4000 * MS}
    assert again(talk, last_word=50 * SECOND, **unseen) == 50 * SECOND - 200 * MS
    assert again(talk, began=60 * SECOND, **unseen) == 60 * SECOND
    assert talk.floor <= again(talk, **unseen) <= talk.floor + SECOND
    wide = AudioBuffer(100 * SECOND)
    for _ in range(4):
        wide.push(wide.head, tones.mulaw(SCRIPT, 20), None)
    assert again(wide, **unseen) == wide.head - resume.LONGEST_TURN
