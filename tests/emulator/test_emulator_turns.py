"""When turns begin, are said so far, end, and whose they are."""

from typing import Any

import pytest

from gateway.emulator.faults import Faults
from gateway.emulator.messages import Word
from gateway.emulator.parameters import parse
from gateway.emulator.turns import PENDING, Turns

LONG = (Word("w1", 100, 260), Word("w2", 1100, 1260))
SHORT = (Word("w3", 3000, 3160),)


def turns(query: str = "", **knobs: Any) -> Turns:
    return Turns(parse(query), Faults(**knobs))


@pytest.mark.parametrize(
    ("query", "silence_ms", "due"),
    [
        ("include_partial_turns=false", 499, "nothing"),
        ("include_partial_turns=false", 500, "final"),
        ("include_partial_turns=false&min_turn_silence=700", 699, "nothing"),
        ("include_partial_turns=false&min_turn_silence=700", 700, "final"),
        ("max_turn_silence=300", 300, "final"),
        ("max_turn_silence=1280&speaker_labels=true", 500, "final"),
    ],
)
def test_silence_ends_a_turn(query: str, silence_ms: int, due: str) -> None:
    """500 ms of silence end a turn, more where `min_turn_silence` asks, less where `max_turn_silence` does."""
    assert turns(query).look(2000, silence_ms, 100) == due


def test_no_speech_no_turn() -> None:
    """Without speech nothing is ever due."""
    assert turns().look(100_000, 100_000, None) == "nothing"


@pytest.mark.parametrize(
    ("query", "knobs", "cap_ms"),
    [("", {}, 60_000), ("speaker_labels=true", {}, 10_000), ("", {"turn_cap_seconds": 3}, 3_000)],
)
def test_the_cap_ends_a_turn_that_never_pauses(query: str, knobs: dict[str, Any], cap_ms: int) -> None:
    """A turn is ended by force after 60 s, after 10 s with speaker labels, or as the knob says."""
    subject = turns(f"redact_pii=true&{query}", **knobs)  # which switches partials off
    assert subject.look(cap_ms + 99, 0, 100) == "nothing"
    assert subject.look(cap_ms + 100, 0, 100) == "final"


@pytest.mark.parametrize(
    ("query", "every_ms"), [("", 1000), ("speaker_labels=true", 3000), ("continuous_partials=false", 3000)]
)
def test_partials_come_at_their_pace(query: str, every_ms: int) -> None:
    """The first partial comes 756 ms into the turn, the next ones each second or each three."""
    subject = turns(query)
    assert subject.look(855, 0, 100) == "nothing"
    assert subject.look(856, 0, 100) == "partial"
    [started, first] = subject.partial(856, LONG[:1])
    assert started["type"] == "SpeechStarted"
    assert (first["end_of_turn"], first["turn_is_formatted"], first["words"][0]["word_is_final"]) == (
        False,
        True,
        False,
    )
    assert "speaker_label" not in first
    assert subject.look(856 + every_ms - 1, 0, 100) == "nothing"
    assert subject.look(856 + every_ms, 0, 100) == "partial"


def test_a_partial_without_news_is_not_said() -> None:
    """The same words are not said twice, and no words are no partial."""
    subject = turns()
    assert subject.partial(800, ()) == []
    assert len(subject.partial(856, LONG)) == 2
    assert subject.partial(1856, LONG) == []


def test_a_final_is_whole() -> None:
    """A final repeats all words, says that they are final, and is numbered; `type` is the last key."""
    subject = turns("language_detection=true")
    subject.partial(856, LONG[:1])
    [final] = subject.final(LONG)
    assert final["turn_order"] == 0
    assert final["transcript"] == final["utterance"] == "w1 w2"
    assert final["end_of_turn"] is True
    assert all(word["word_is_final"] for word in final["words"])
    assert final["language_code"] == "en"
    assert list(final)[-1] == "type"
    assert subject.final(SHORT)[-1]["turn_order"] == 1
    assert subject.final(()) == []


def test_labels_and_their_revision() -> None:
    """A turn of a second carries a letter, a shorter one PENDING, which the revision resolves, once."""
    subject = turns("speaker_labels=true", speakers=2)
    long, short = subject.final(LONG)[-1], subject.final(SHORT)[-1]
    assert long["speaker_label"] == long["words"][0]["speaker"] == "A"
    assert short["speaker_label"] == PENDING
    assert "speaker" not in short["words"][0]
    [revision] = subject.revision(9000)
    [entry] = revision["revisions"]
    assert (entry["turn_order"], entry["speaker_label"], entry["words"][0]["speaker"]) == (1, "B", "B")
    assert "speaker_confidence" not in entry["words"][0]
    assert subject.revision(9001) == []


def test_without_labels_there_is_nothing_to_revise() -> None:
    """No parameter, no label, no revision."""
    subject = turns()
    assert "speaker_label" not in subject.final(SHORT)[-1]
    assert subject.revision(9000) == []


def test_max_speakers_is_a_hard_cap() -> None:
    """Never more letters than asked for."""
    subject = turns("speaker_labels=true&max_speakers=2", speakers=5)
    assert [subject.final(LONG)[-1]["speaker_label"] for _ in range(4)] == ["A", "B", "A", "B"]


def test_revisions_in_mid_session() -> None:
    """An interval, raised to two minutes, makes revisions due during the session."""
    subject = turns("speaker_labels=true&speaker_labels_revision_interval_ms=5")
    assert not subject.revision_due(119_999)
    assert subject.revision_due(120_000)
    subject.revision(120_000)
    assert not subject.revision_due(239_999)
    assert not turns("speaker_labels=true").revision_due(10**9)


def test_the_cheaper_models_speak_otherwise() -> None:
    """No SpeechStarted; with `format_turns` two messages end a turn, first unformatted, then formatted."""
    subject = turns("speech_model=universal-streaming-english&format_turns=true")
    [partial] = subject.partial(900, LONG[:1])
    assert (partial["turn_is_formatted"], partial["words"][0]["word_is_final"]) == (False, True)
    assert [message["turn_is_formatted"] for message in subject.final(LONG)] == [False, True]
    [plain] = turns("speech_model=universal-streaming-english").final(LONG)
    assert plain["turn_is_formatted"] is False


def test_silence_is_said_once_a_second_where_asked() -> None:
    """`Silence` covers each stretch once and needs the parameter."""
    subject = turns("acknowledge_silence=true")
    assert subject.silence(900, 900) == []
    assert subject.silence(1000, 1000) == [{"start_ms": 0, "end_ms": 1000, "type": "Silence"}]
    assert subject.silence(1900, 1900) == []
    assert subject.silence(2100, 2100)[0]["start_ms"] == 1000
    assert subject.silence(9000, 1500)[0]["start_ms"] == 7500
    assert turns().silence(9000, 9000) == []


def test_the_knobs_spoil_finals() -> None:
    """Padded ends, early starts, doubles, fillers and empty finals are made as asked; a filler is no coded word."""
    subject = turns(pad_end_ms=1300, early_start_ms=1000, duplicate_final=True, huge_turn_words=50)
    [_, final, again] = subject.final((Word("w1", 1500, 1660), Word("w2", 1800, 1960)))
    assert final == again
    assert (final["words"][0]["start"], final["words"][1]["end"]) == (500, 3260)
    assert len(final["words"]) == 52
    [empty] = subject.empty()
    assert (empty["turn_order"], empty["transcript"], empty["words"], empty["end_of_turn"]) == (1, "", [], True)


def test_an_unordered_revision() -> None:
    """The knob reverses and doubles the entries and names a turn that never was."""
    subject = turns("speaker_labels=true", unordered_revision=True)
    subject.final(SHORT)
    subject.final(SHORT)
    [revision] = subject.revision(9000)
    assert [entry["turn_order"] for entry in revision["revisions"]] == [1, 0, 999_999, 0, 1]
