"""What the service says: read as the SDK reads it, and where the SDK would give up, less what is wrong."""

import copy
import datetime as dt
import json
import math
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pytest
from assemblyai.streaming.v3._base import _BaseStreamingClient
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.emulator import messages
from gateway.emulator.faults import Failure, Faults
from gateway.emulator.messages import MALFORMED, Word
from gateway.emulator.server import Emulator
from gateway.emulator.session import as_text
from gateway.errors import StateFault
from gateway.speech import protocol
from gateway.speech.protocol import State, Step, follow, read
from tests.emulator.wire import dial

WORDS: Final = (Word("Harbor", 160, 428), Word("Point", 428, 812, 0.97), Word("please", 900, 1300))

SAID: Final[dict[str, messages.Message]] = {
    "Begin": messages.begin("12c77068", 1_789_000_000, {"model": "universal-3-5-pro", "voice_focus": None}),
    "Turn": messages.turn(
        3, WORDS, final=True, speaker="B", word_speaker="A", extra={"language_code": "en", "language_confidence": 0.9}
    ),
    "SpeechStarted": messages.speech_started(480),
    "SpeakerRevision": messages.speaker_revision([messages.revision(1, WORDS, "B"), messages.revision(3, (), "A")]),
    "Heartbeat": messages.heartbeat(9888, 10096, 0.9983, 0.999999),
    "Silence": messages.silence(12000, 13024),
    "Warning": messages.warning(1001, "text"),
    "LLMGatewayResponse": messages.llm_gateway_response(2, "Harbor Point"),
    "Error": messages.error(3008, "Session Expired: Maximum session duration exceeded"),
    "Termination": messages.termination(69.2, 72.9),
}
"""One of each kind that the service has."""


def plain(value: Any) -> Any:
    """What the SDK made of a value, in plain types."""
    if isinstance(value, dt.datetime):
        return value.timestamp()
    if isinstance(value, list):
        return [plain(part) for part in value]
    if hasattr(value, "model_dump"):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    return value


def same(ours: Any, theirs: Any, where: str) -> None:
    """Every field that we know the SDK knows too, and both have one value for it."""
    if isinstance(ours, msgspec.Struct):
        for field in ours.__struct_fields__:
            same(getattr(ours, field), theirs[field], f"{where}.{field}")
    elif isinstance(ours, tuple):
        assert len(ours) == len(theirs), where
        for part, other in zip(ours, theirs, strict=True):
            same(part, other, where)
    elif isinstance(ours, dict):  # the SDK keeps three of its keys
        assert theirs.items() <= {"mode": None, "api_version": None, **ours}.items(), where
    else:
        assert ours == theirs, where


def agrees(raw: str) -> str:
    """Read a message with both; its kind."""
    theirs = _BaseStreamingClient._parse_message(json.loads(raw))
    ours = read(raw.encode())
    assert not isinstance(ours, protocol.Unknown | protocol.Malformed)
    assert theirs is not None
    assert type(ours).__name__ == theirs.type
    same(ours, plain(theirs), theirs.type)
    return str(theirs.type)


@pytest.mark.parametrize("kind", SAID)
def test_each_kind_as_the_sdk_reads_it(kind: str) -> None:
    """All ten events, as bytes and as text, hold the values that the SDK finds in them."""
    raw = as_text(SAID[kind])
    assert agrees(raw) == kind
    assert read(raw) == read(raw.encode())


def test_no_kind_is_missing() -> None:
    """The ten are all that the SDK knows, and all that we know."""
    known = {kind.__name__ for kind in protocol._KINDS.values()}
    assert set(SAID) == known == {event.name for event in _events()}


def _events() -> Iterator[Any]:
    from assemblyai.streaming.v3.models import RealTimeEvents  # noqa: PLC0415

    yield from RealTimeEvents


async def test_whole_sessions_as_the_sdk_reads_them() -> None:
    """Whatever the emulator says in two sessions, one terminated and one refused, is read alike; all ten kinds occur."""
    faults = Faults(
        begin_delay_seconds=0, speed=None, heartbeat_seconds=0.01, extras=True, at={1: Failure(3005, "it broke", 1.0)}
    )
    query = "session_heartbeat=true&acknowledge_silence=true&speaker_labels=true"
    kinds: set[str] = set()
    async with Emulator(faults=faults) as emulator:
        for _ in range(2):
            async with dial(emulator, query) as client:
                await client.until("Begin")
                await client.until("Heartbeat")
                await client.speak(5)
                await client.play(bytes(32000 * 2))
                await client.terminate() if not kinds else await client.rest()
                kinds |= {agrees(as_text(message)) for message in client.messages}
    assert kinds == set(SAID)


def test_an_error_without_a_type() -> None:
    """The old form, which the SDK reads as well."""
    raw = '{"error":"Session Expired"}'
    assert plain(_BaseStreamingClient._parse_message(json.loads(raw)))["error"] == "Session Expired"
    assert read(raw) == protocol.Error(None, "Session Expired")


# Salvage

TURN: Final = SAID["Turn"]

junk: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**18, max_value=10**60)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=8)
    | st.sampled_from(["nan", "inf", "-Infinity", "1e999", "\ud800", "true", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
GONE: Final = object()


def put(message: dict[str, Any], field: str, value: object) -> None:
    """Replace a field, or take it away."""
    if value is GONE:
        message.pop(field, None)
    else:
        message[field] = value


@pytest.mark.parametrize("field", [name for name in TURN if name not in {"type", "turn_order"}])
def test_a_wrong_field_never_costs_the_turn(field: str) -> None:
    """Each field of a turn in turn is missing or anything at all: the turn is there, and every other field is as it was."""
    good = read(as_text(TURN))
    assert isinstance(good, protocol.Turn)

    @settings(max_examples=25)
    @given(value=junk | st.just(GONE))
    @example(value=GONE)
    @example(value=math.nan)
    def law(value: object) -> None:
        broken = copy.deepcopy(TURN)
        put(broken, field, value)
        turn = read(json.dumps(broken))
        assert isinstance(turn, protocol.Turn)
        for other in turn.__struct_fields__:
            if other != field:
                assert getattr(turn, other) == getattr(good, other), other
        sound(turn)

    law()


@pytest.mark.parametrize(
    "field", ["start", "end", "text", "confidence", "word_is_final", "speaker", "speaker_confidence"]
)
@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("kind", ["Turn", "SpeakerRevision"])
def test_a_wrong_word_costs_what_is_wrong_with_it(kind: str, at: int, field: str) -> None:
    """A word's field is missing or anything at all: the other words are as they were, and the word is there with its text."""

    def words(message: protocol.Message) -> tuple[protocol.Word, ...]:
        if isinstance(message, protocol.SpeakerRevision):
            assert len(message.revisions) == 2
            return message.revisions[0].words
        assert isinstance(message, protocol.Turn)
        return message.words

    good = words(read(as_text(SAID[kind])))

    @settings(max_examples=25)
    @given(value=junk | st.just(GONE))
    @example(value=GONE)
    @example(value=math.nan)
    def law(value: object) -> None:
        broken = copy.deepcopy(SAID[kind])
        holder = broken if kind == "Turn" else broken["revisions"][0]
        put(holder["words"][at], field, value)
        message = read(json.dumps(broken))
        found = words(message)
        sound(message)
        others = [word for place, word in enumerate(good) if place != at]
        if field == "text" and not isinstance(value, str):
            assert list(found) == others
            return
        assert [word for place, word in enumerate(found) if place != at] == others
        if field != "text":
            assert found[at].text == good[at].text
        if field in {"word_is_final", "speaker_confidence"}:
            assert found == good

    law()


def test_where_words_without_times_go() -> None:
    """A word without a start begins with the one before it; the first with the next that has one; without an end it has none."""
    raw: dict[str, Any] = {
        "type": "Turn",
        "turn_order": 0,
        "words": [
            {"text": "a"},
            {"text": "b", "end": "x"},
            {"text": "c", "start": 500, "end": 700},
            {"text": "d", "end": 900},
            {"text": "e", "start": None},
        ],
    }
    turn = read(json.dumps(raw))
    assert isinstance(turn, protocol.Turn)
    assert [(word.text, word.start, word.end) for word in turn.words] == [
        ("a", 500, 500), ("b", 500, 500), ("c", 500, 700), ("d", 500, 900), ("e", 500, 500),
    ]  # fmt: skip


def test_words_of_which_none_has_a_time() -> None:
    """An end alone places a word; where there is not even one, the turn keeps its text."""
    raw = '{"type":"Turn","turn_order":0,"transcript":"a b","words":[{"text":"a","end":%s},{"text":"b"}]}'
    one = read(raw % "300")
    none = read(raw % "null")
    assert isinstance(one, protocol.Turn)
    assert [(word.text, word.start, word.end) for word in one.words] == [("a", 300, 300), ("b", 300, 300)]
    assert none == protocol.Turn(0, transcript="a b")


def test_a_revision_less_its_broken_part() -> None:
    """A part that names no turn is left out; the others stand."""
    raw = json.dumps({"type": "SpeakerRevision", "revisions": [{"words": []}, 7, {"turn_order": 2, "words": 1}]})
    assert read(raw) == protocol.SpeakerRevision((protocol.Revision(2),))
    assert read('{"type":"SpeakerRevision","revisions":1}') == protocol.SpeakerRevision()


@settings(max_examples=40)
@given(data=st.data())
@pytest.mark.parametrize("kind", [kind for kind in SAID if kind != "Turn"])
def test_every_other_kind_survives_a_wrong_field(kind: str, data: st.DataObject) -> None:
    """Of the nine others none has a field that it cannot do without."""
    broken = copy.deepcopy(SAID[kind])
    field = data.draw(st.sampled_from([name for name in broken if name != "type"]))
    put(broken, field, data.draw(junk | st.just(GONE)))
    message = read(json.dumps(broken))
    assert type(message).__name__ == kind
    sound(message)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ('{"type":"Heartbeat","total_audio_received_ms":1e999}', protocol.Heartbeat()),
        ('{"type":"Heartbeat","total_audio_received_ms":"nan"}', protocol.Heartbeat()),
        ('{"type":"Heartbeat","total_audio_received_ms":NaN,"realtime_factor":1}', protocol.Heartbeat(None, 1)),
        ('{"type":"Heartbeat","total_audio_received_ms":"1500"}', protocol.Heartbeat(1500)),
        ('{"type":"Termination","session_duration_seconds":-3}', protocol.Termination()),
        ('{"type":"Termination","session_duration_seconds":72.5}', protocol.Termination(None, 72.5)),
        ('{"type":"Begin","id":5,"expires_at":"soon"}', protocol.Begin()),
        ('{"type":"Begin","id":"a","configuration":{"mode":"\\ud800"}}', protocol.Begin("a")),
        ('{"type":"Turn","turn_order":"4","end_of_turn":"true"}', protocol.Turn(4, end_of_turn=True)),
        ('{"type":"Turn","turn_order":1,"transcript":"\\ud800"}', protocol.Turn(1, transcript="?")),
        (b'{"type":"Turn","turn_order":1,"transcript":"\xff"}', protocol.Turn(1, transcript="\ufffd")),
        ('{"type":"Error","error_code":"3005","error":["no"]}', protocol.Error(3005)),
        ('{"type":"Turn","turn_order":-1}', protocol.Malformed("unusable Turn")),
        ('{"type":"Turn","turn_order":true}', protocol.Malformed("unusable Turn")),
        ('{"type":"Turn"', protocol.Malformed("not JSON")),
        ('{"type":"Turn","turn_order":"x", broken', protocol.Malformed("not JSON")),
        ('{"type":"Turn","turn_order":"x","y":' + "[" * 100_000, protocol.Malformed("not JSON")),
        ("[]", protocol.Malformed("no object")),
        ("{}", protocol.Malformed("no type")),
        ('{"type":7}', protocol.Malformed("no type")),
        ('{"type":"Sparkle\\ud800","deep":[[]]}', protocol.Unknown("Sparkle?")),
    ],
)  # fmt: skip
def test_salvage_by_example(raw: str | bytes, message: protocol.Message) -> None:
    """What is left of broken messages."""
    assert read(raw) == message


@pytest.mark.parametrize("kind", MALFORMED)
def test_what_the_emulator_sends_to_break_us(kind: Any) -> None:
    """None of it is an exception, and none is taken for a turn."""
    raw = MALFORMED[kind]
    assert not isinstance(read(raw), protocol.Turn)


def sound(message: protocol.Message) -> None:
    """It holds nothing that could not be stored, added or sent on: no NaN, no half surrogate, no time beyond a session."""
    text = msgspec.json.encode(message).decode()
    numbers: list[float] = []
    json.loads(text, parse_float=lambda number: numbers.append(float(number)))
    assert all(math.isfinite(number) for number in numbers)


@given(st.binary() | st.text(st.characters(codec=None)))
def test_any_bytes_are_a_message(data: bytes | str) -> None:
    """Whatever comes, something is made of it, and nothing is raised."""
    sound(read(data))


@given(st.sampled_from(sorted(SAID)), st.data())
def test_any_damage_is_a_message(kind: str, data: st.DataObject) -> None:
    """A true message with bytes cut out, put in or turned over is still a message."""
    raw = bytearray(as_text(SAID[kind]).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=6))
    sound(read(bytes(raw)))


@given(junk)
def test_any_json_is_a_message(value: object) -> None:
    """So is any JSON, and any under a name that is known."""
    sound(read(json.dumps(value)))
    for kind in SAID:
        sound(read(json.dumps({"words": value, "revisions": [value], **_object(value), "type": kind})))


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {"turn_order": value}


# The table

LEGAL: Final = {
    (State.CONNECTING, Step.BEGIN): State.OPEN,
    (State.CONNECTING, Step.LOST): State.LOST,
    (State.OPEN, Step.AUDIO): State.OPEN,
    (State.OPEN, Step.TERMINATE): State.TERMINATING,
    (State.OPEN, Step.TERMINATION): State.TERMINATED,
    (State.OPEN, Step.LOST): State.LOST,
    (State.TERMINATING, Step.TERMINATION): State.TERMINATED,
    (State.TERMINATING, Step.LOST): State.LOST,
}


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize("state", State)
def test_the_state_table(state: State, step: Step) -> None:
    """Eight steps are allowed; every other raises and names the event and the state."""
    if (state, step) in LEGAL:
        assert follow(state, step) is LEGAL[state, step]
    else:
        with pytest.raises(StateFault, match=f"^{step.value} while {state.name}$"):
            follow(state, step)


def test_no_audio_before_begin_nor_after_terminate() -> None:
    """Contract §4: "No audio is sent before `Begin`"."""
    assert [state for state in State if (state, Step.AUDIO) in protocol.TABLE] == [State.OPEN]


def test_terminate_is_what_the_sdk_sends() -> None:
    """The one message we say."""
    from assemblyai.streaming.v3.models import TerminateSession  # noqa: PLC0415

    assert TerminateSession().model_dump_json().encode() == protocol.TERMINATE
