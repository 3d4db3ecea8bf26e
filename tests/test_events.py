"""What customers are promised: bodies, their schema, and the transcript that fits into one."""

import json
from datetime import UTC, datetime
from typing import Any, Final, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gateway import events
from gateway.call import CARRIERS, TRACKS, Call, Party, Track, Turn, Word

VALID: Final = Draft202012Validator(events.schema())

FIELDS: Final = {
    "call.started": {"legs"},
    "session.started": {"leg", "session"},
    "session.ended": {"leg", "session"},
    "turn.partial": {"leg", "turn"},
    "turn.final": {"leg", "turn"},
    "turn.revised": {"leg", "turns"},
    "audio.gap": {"leg", "start_ms", "end_ms", "reason"},
    "session.zombie": {"leg", "session", "reason", "age_seconds", "cost_usd"},
    "call.ended": {"reason", "duration_seconds", "legs", "transcript", "billed_seconds", "cost_usd"},
}
"""The contract's table: what each event adds to `call` and `sequence`."""

# Whatever can be said

texts = st.text(max_size=20)
maybe_texts = st.none() | texts
ms = st.integers(0, 4 * 3600 * 1000)
amounts = st.floats(0, 1e6)
parties = st.builds(Party, st.sampled_from(TRACKS), texts)
calls = st.builds(
    Call,
    texts,
    st.sampled_from(CARRIERS),
    texts,
    maybe_texts,
    maybe_texts,
    maybe_texts,
    texts,
    st.dictionaries(texts, texts, max_size=3),
    texts,
)
words = st.builds(Word, texts, ms, ms, st.none() | st.floats(0, 1), maybe_texts)
turn_fields = (texts, ms, texts, ms, ms, maybe_texts, st.none() | st.floats(0, 1), maybe_texts)
turns = st.builds(Turn, *turn_fields, st.lists(words, max_size=3).map(tuple), texts)
leg_turns = st.builds(
    events.LegTurn, *turn_fields, st.none() | st.lists(words, max_size=3).map(tuple), texts, leg=parties
)
sessions = st.builds(
    events.Session,
    id=texts,
    number=st.integers(1, 99),
    model=texts,
    opened_at=texts,
    closed_at=maybe_texts,
    duration_seconds=st.none() | amounts,
    billed_seconds=st.none() | amounts,
    billed_is_estimate=st.booleans(),
    audio_seconds=amounts,
    cost_usd=st.none() | amounts,
    reason=st.sampled_from((None, *get_args(events.SessionReason))),
)
summaries = st.builds(events.LegSummary, texts, texts, st.sampled_from(get_args(events.Outcome)), maybe_texts)
about = {"call": calls, "sequence": st.integers(1, 10**6)}
whatever = st.one_of(
    st.builds(events.CallStarted, **about, legs=st.lists(parties, max_size=2).map(tuple)),
    st.builds(events.SessionStarted, **about, leg=parties, session=sessions),
    st.builds(events.SessionEnded, **about, leg=parties, session=sessions),
    st.builds(events.TurnPartial, **about, leg=parties, turn=turns),
    st.builds(events.TurnFinal, **about, leg=parties, turn=turns),
    st.builds(events.TurnRevised, **about, leg=parties, turns=st.lists(turns, max_size=3).map(tuple)),
    st.builds(
        events.AudioGap,
        **about,
        leg=parties,
        start_ms=ms,
        end_ms=ms,
        reason=st.sampled_from(get_args(events.GapReason)),
    ),
    st.builds(
        events.SessionZombie,
        **about,
        leg=parties,
        session=sessions,
        reason=st.sampled_from(get_args(events.ZombieReason)),
        age_seconds=amounts,
        cost_usd=amounts,
    ),
    st.builds(
        events.CallEnded,
        **about,
        reason=st.sampled_from(get_args(events.EndReason)),
        duration_seconds=amounts,
        legs=st.lists(summaries, max_size=2).map(tuple),
        transcript=st.none() | st.lists(leg_turns, max_size=3).map(tuple),
        billed_seconds=amounts,
        cost_usd=amounts,
    ),
)

CALL: Final = Call(
    "CA1", "twilio", "MZ1", None, "+15550001111", None, "2026-01-01T00:00:00.000Z", {"a": "b"}, "default"
)
PARTY: Final = Party("inbound", "customer")


def turn(index: int, start_ms: int, text: str = "yes", words: int = 1) -> Turn:
    word = Word("yes", start_ms, start_ms + 200, 0.9, "inbound:A")
    return Turn(
        f"inbound-{index}", index, text, start_ms, start_ms + 200, "inbound:A", 0.9, None, (word,) * words, "s1"
    )


def decoded(data: events.Data) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(events.body(data, 1_700_000_000.25))
    return body


# Bodies and their schema


@settings(deadline=None)
@given(whatever)
def test_every_body_is_as_its_schema_says(data: events.Data) -> None:
    """Each event, with all that may be null null or not: valid, and of one type only."""
    body = decoded(data)
    VALID.validate(body)
    name = events.NAMES[type(data)]
    assert (body["type"], body["timestamp"]) == (name, "2023-11-14T22:13:20.250Z")
    assert set(body["data"]) == FIELDS[name] | {"call", "sequence"}
    assert set(body) == {"type", "timestamp", "data"}


@settings(deadline=None, max_examples=50)
@given(whatever, st.data())
def test_body_that_lacks_a_field_is_not(data: events.Data, draw: st.DataObject) -> None:
    """Nothing that the contract names may be missing, at any depth."""
    body = decoded(data)
    place = body["data"]
    while True:
        inner = [
            value
            for value in place.values()
            if isinstance(value, dict) and value and value is not place.get("attributes")
        ]
        if not inner or draw.draw(st.booleans()):
            break
        place = draw.draw(st.sampled_from(inner))
    del place[draw.draw(st.sampled_from(sorted(place)))]
    assert not VALID.is_valid(body)


def test_schema_knows_the_contracts_events_and_no_other() -> None:
    """Nine, each with its name, its reason to be, and data of its own."""
    schema = events.schema()
    Draft202012Validator.check_schema(schema)
    assert [event["title"] for event in schema["oneOf"]] == list(FIELDS) == list(events.EVENTS)
    assert [event["properties"]["type"]["const"] for event in schema["oneOf"]] == list(FIELDS)
    assert all(event["description"].startswith(f"`{event['title']}`") for event in schema["oneOf"])
    assert {name: struct for struct, name in events.NAMES.items()} == events.EVENTS


def test_schema_says_what_is_always_there_and_what_may_be_null() -> None:
    """Every field of every body is required, defaults of ours are none of a reader's business; `from` is called that."""
    parts = events.schema()["$defs"]
    assert all(part["required"] == list(part["properties"]) for part in parts.values())
    assert not any("default" in field for part in parts.values() for field in part["properties"].values())
    assert "from" in parts["Call"]["properties"]
    null = {"type": "null"}
    nullable = {
        (name, field)
        for name, part in parts.items()
        for field, said in part["properties"].items()
        if null in said.get("anyOf", ()) or None in said.get("enum", ())
    }
    turn = {"speaker", "confidence", "language", "words"}
    assert nullable == {
        *(("Call", field) for field in ("account_id", "from", "to")),
        *(("Session", field) for field in ("closed_at", "duration_seconds", "billed_seconds", "cost_usd", "reason")),
        *((name, field) for name in ("Turn", "LegTurn") for field in turn),
        *(("Word", field) for field in ("confidence", "speaker")),
        ("LegSummary", "why"),
        ("CallEnded", "transcript"),
    }


def test_body_of_another_type_is_not_valid() -> None:
    """A name stands for one shape."""
    body = decoded(events.TurnFinal(call=CALL, sequence=1, leg=PARTY, turn=turn(0, 0)))
    assert not VALID.is_valid(body | {"type": "turn.revised"})
    assert not VALID.is_valid(body | {"type": "turn.unknown"})
    assert not VALID.is_valid(body | {"data": body["data"] | {"sequence": "1"}})


def test_bodies_are_written_as_the_contract_spells_them() -> None:
    """`from` without an underscore; a turn with its words; the party with its track."""
    body = decoded(events.TurnFinal(call=CALL, sequence=7, leg=PARTY, turn=turn(0, 1000)))
    assert body["data"]["call"]["from"] == "+15550001111"
    assert body["data"]["leg"] == {"track": "inbound", "party": "customer"}
    assert body["data"]["turn"]["words"] == [
        {"text": "yes", "start_ms": 1000, "end_ms": 1200, "confidence": 0.9, "speaker": "inbound:A"}
    ]


@given(st.floats(0, 4e9))
def test_times_are_rfc_3339_in_utc(at: float) -> None:
    """To the millisecond, with a `Z`: any reader's parser takes them."""
    said = events.rfc3339(at)
    assert said.endswith("Z")
    assert len(said) == len("1970-01-01T00:00:00.000Z")
    assert abs(datetime.fromisoformat(said).timestamp() - at) < 0.0011
    assert datetime.fromisoformat(said).tzinfo == UTC


# The transcript

spoken = st.lists(st.tuples(st.sampled_from(TRACKS), st.integers(0, 5000)), max_size=20)


@given(spoken)
def test_transcript_is_one_time_line(said: list[tuple[Track, int]]) -> None:
    """All turns of all legs in order of start, each whole, with whose it is."""
    parties = {track: Party(track, f"the {track} one") for track in TRACKS}
    given_turns = [(parties[track], turn(index, start)) for index, (track, start) in enumerate(said)]
    transcript = events.transcript(given_turns)
    assert transcript is not None
    assert [one.start_ms for one in transcript] == sorted(start for _, start in said)
    by_index = {one.index: one for one in transcript}
    assert len(by_index) == len(said)
    for party, one in given_turns:
        assert msgspec.structs.asdict(by_index[one.index]) == msgspec.structs.asdict(one) | {"leg": party}


def test_turns_of_one_moment_have_an_order_too() -> None:
    """The shorter one first, then the inbound one, then the earlier one: the same transcript every time."""
    inbound, outbound = Party("inbound", "a"), Party("outbound", "b")
    long = msgspec.structs.replace(turn(0, 0), end_ms=900)
    transcript = events.transcript(
        [(inbound, long), (outbound, turn(0, 0)), (inbound, turn(2, 0)), (inbound, turn(1, 0))]
    )
    assert transcript is not None
    assert [(one.leg.track, one.index) for one in transcript] == [
        ("inbound", 1),
        ("inbound", 2),
        ("outbound", 0),
        ("inbound", 0),
    ]


def filled(size: int, turns: int, *, words: bool) -> list[tuple[Party, Turn]]:
    """So many turns whose transcript takes exactly so many bytes, with their words or without."""
    made = [turn(index, index * 1000, "é" * (size // turns // 2 - 500), 1) for index in range(turns - 1)]
    last = turn(turns - 1, turns * 1000, "")
    bare = [*made, last] if words else [msgspec.structs.replace(one, words=None) for one in (*made, last)]
    missing = size - len(msgspec.json.encode([msgspec.structs.asdict(one) | {"leg": PARTY} for one in bare]))
    return [(PARTY, one) for one in (*made, msgspec.structs.replace(last, text="x" * missing))]


@pytest.mark.parametrize("turns", [1, 2, 7])
def test_words_go_past_256_kib(turns: int) -> None:
    """The transcript's own bytes count, to the byte: with one too many its turns have lost their words, and only them."""
    fits = events.transcript(filled(256 * 1024, turns, words=True))
    assert fits is not None
    assert len(msgspec.json.encode(fits)) == 256 * 1024
    assert all(one.words for one in fits)
    said = filled(256 * 1024 + 1, turns, words=True)
    wordless = events.transcript(said)
    assert wordless is not None
    assert [one.words for one in wordless] == [None] * turns
    assert [one.text for one in wordless] == [one.text for _, one in said]


@pytest.mark.parametrize("turns", [1, 7])
def test_transcript_is_null_past_4_mib(turns: int) -> None:
    """Without words, to the byte."""
    fits = events.transcript(filled(4 * 1024 * 1024, turns, words=False))
    assert fits is not None
    assert len(msgspec.json.encode(fits)) == 4 * 1024 * 1024
    assert events.transcript(filled(4 * 1024 * 1024 + 1, turns, words=False)) is None


def test_call_without_a_word_has_an_empty_transcript() -> None:
    """Not a missing one."""
    assert events.transcript([]) == ()


def test_transcript_without_words_is_valid() -> None:
    """As is one that is null."""
    for transcript in (events.transcript(filled(256 * 1024 + 1, 2, words=True)), None):
        ended = events.CallEnded(
            call=CALL,
            sequence=9,
            reason="stopped",
            duration_seconds=1.5,
            legs=(events.LegSummary("inbound", "customer", "complete"),),
            transcript=transcript,
            billed_seconds=2.0,
            cost_usd=0.01,
        )
        VALID.validate(decoded(ended))
