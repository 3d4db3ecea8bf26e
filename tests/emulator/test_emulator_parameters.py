"""The parameter table: what is accepted, what is refused with which words, what is silently not done."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from assemblyai.streaming.v3 import RealTimeParameters
from assemblyai.streaming.v3._base import _build_uri

from gateway.emulator.parameters import RULES, Parameters, Refusal, parse

REFUSED = [
    ("speech_model", "u3-pro", "speech_model must be one of"),
    ("sample_rate", "7999", "sample_rate must be at least 8,000 Hz"),
    ("sample_rate", "96001", "between 8000 and 96000"),
    ("sample_rate", "16 kHz", "an integer"),
    ("encoding", "pcm_alaw", "encoding must be one of"),
    ("mode", "fast", "mode must be one of"),
    ("min_turn_silence", "soon", "an integer"),
    ("max_turn_silence", "-1", "at least 0"),
    ("vad_threshold", "1.1", "between 0 and 1"),
    ("vad_threshold", "nan", "between 0 and 1"),
    ("interruption_delay", "1001", "between 0 and 1000"),
    ("continuous_partials", "perhaps", "a boolean"),
    ("end_of_turn_confidence_threshold", "-0.1", "between 0 and 1"),
    ("prompt", "x" * 1751, "at most 1750 characters"),
    ("keyterms_prompt", json.dumps(["x"] * 101), "Max 100 items"),
    ("keyterms_prompt", "Northwind", "Invalid JSON array"),
    ("keyterms_prompt", '{"a": 1}', "Invalid JSON array"),
    ("keyterms_prompt", "[1]", "Invalid JSON array"),
    ("agent_context", "x" * 1751, "at most 1750 characters"),
    ("previous_context_n_turns", "101", "between 0 and 100"),
    ("language_codes", json.dumps(["en"] * 11), "Max 10 items"),
    ("language_codes", '["Klingon"]', "unknown language code"),
    ("domain", "legal", "domain must be one of"),
    ("inactivity_timeout", "4", "between 5 and 3600"),
    ("inactivity_timeout", "3601", "between 5 and 3600"),
    ("max_speakers", "11", "between 1 and 10"),
    ("voice_focus", "everywhere", "voice_focus must be one of"),
    ("voice_focus_threshold", "0.5", "requires voice_focus"),
    ("redact_pii_sub", "stars", "redact_pii_sub must be one of"),
    ("llm_gateway", "[]", "Invalid JSON object"),
]


@pytest.mark.parametrize(("name", "value", "sentence"), REFUSED)
def test_what_is_refused(name: str, value: str, sentence: str) -> None:
    """Each rule of the table refuses with 3006 and a sentence that names the fault."""
    with pytest.raises(Refusal) as refusal:
        parse(urlencode({name: value}))
    assert refusal.value.code == 3006
    assert refusal.value.text.startswith("User Input Validation Error: ")
    assert sentence in refusal.value.text


def test_a_repeated_list_is_refused() -> None:
    """`keyterms_prompt=a&keyterms_prompt=b` is no JSON array, as on the live service."""
    with pytest.raises(Refusal, match="Invalid JSON array"):
        parse("keyterms_prompt=a&keyterms_prompt=b")


def test_the_sdks_query_is_read_whole() -> None:
    """Every parameter of the SDK's model, as its builder encodes it, is known here and comes out with its value."""
    values: dict[str, Any] = {
        "sample_rate": 8000, "encoding": "pcm_mulaw", "speech_model": "universal-3-5-pro", "mode": "min_latency",
        "min_turn_silence": 700, "max_turn_silence": 1500, "vad_threshold": 0.3, "format_turns": False,
        "keyterms_prompt": ["Ünïcode Co.", "Dr. O'Neil"], "filter_profanity": True, "prompt": "a b+c", "agent_context": "",
        "interruption_delay": 0, "turn_left_pad_ms": 1024, "language_codes": ["en", "multi"], "session_heartbeat": True,
        "acknowledge_silence": True, "language_detection": True, "domain": "medical-v1", "inactivity_timeout": 60,
        "speaker_labels": True, "speaker_labels_revision_interval_ms": 300000, "max_speakers": 2,
        "voice_focus": "far-field", "voice_focus_threshold": 0.5, "continuous_partials": True,
        "include_partial_turns": True, "redact_pii": False, "redact_pii_policies": ["person_name"],
        "redact_pii_sub": "entity_name", "end_of_turn_confidence_threshold": 0.4, "customer_support_audio_capture": False,
        "llm_gateway": {"model": "m", "messages": [{"role": "user", "content": "c"}], "max_tokens": 5},
        "webhook_url": "https://example.com", "webhook_auth_header_name": "x", "webhook_auth_header_value": "y",
    }  # fmt: skip
    query = _build_uri("ws://127.0.0.1:1", RealTimeParameters(**values)).partition("?")[2]
    parsed = parse(query)
    assert parsed.unknown == {}
    assert dict(parsed.given) == values
    assert {name for name in RealTimeParameters.model_fields if name in RULES} >= set(values)


def test_old_names_are_understood() -> None:
    """Deprecated names mean the new ones."""
    parsed = parse("min_end_of_turn_silence_when_confident=300&noise_suppression_model=far-field")
    assert dict(parsed.given) == {"min_turn_silence": 300, "voice_focus": "far-field"}


def test_unknown_names_are_ignored_but_remembered() -> None:
    """A misspelt parameter costs nothing and shows in the ledger."""
    parsed = parse("voice_focsu=far-field&sample_rate=16000")
    assert parsed.unknown == {"voice_focsu": "far-field"}
    assert parsed.shown["voice_focsu"] == "far-field"


def test_secrets_are_not_shown() -> None:
    """Tokens and header values stay out of the ledger."""
    assert parse("token=AQIsecret&webhook_auth_header_value=hush").shown == {
        "token": "(set)",
        "webhook_auth_header_value": "(set)",
    }


def test_booleans_in_any_case_and_policies_with_commas() -> None:
    """`True`, `true` and `FALSE` are booleans; policies may be comma-separated."""
    parsed = parse("speaker_labels=True&session_heartbeat=true&redact_pii=FALSE&redact_pii_policies=person_name,date")
    assert parsed.given["speaker_labels"] is True
    assert parsed.given["session_heartbeat"] is True
    assert parsed.given["redact_pii"] is False
    assert parsed.given["redact_pii_policies"] == ["person_name", "date"]


@pytest.mark.parametrize(
    ("query", "ineffective"),
    [
        ("mode=min_latency&speaker_labels=true", ["mode"]),
        ("speech_model=universal-streaming-english&voice_focus=far-field", ["voice_focus"]),
        ("speech_model=universal-3-5-pro&format_turns=true", ["format_turns"]),
        ("max_speakers=2", ["max_speakers"]),
        ("keyterms_prompt=" + json.dumps(["x" * 51]), ["keyterms_prompt"]),
        ("speech_model=universal-3-5-pro&voice_focus=far-field", []),
    ],
)
def test_what_is_silently_not_done(query: str, ineffective: list[str]) -> None:
    """What the service accepts and does not do is named for the ledger."""
    assert parse(query).ineffective == ineffective


@pytest.mark.parametrize(
    ("query", "silence"),
    [
        ("", (128, 1280)),
        ("mode=max_accuracy", (512, 2560)),
        ("mode=max_accuracy&speaker_labels=true", (640, 768)),
        ("speaker_labels=true&max_turn_silence=1280", (640, 1280)),
        ("min_turn_silence=1", (50, 1280)),
        ("speech_model=universal-streaming-english", (400, 1280)),
    ],
)
def test_silence_presets(query: str, silence: tuple[int, int]) -> None:
    """Mode and labels choose the silences that end a turn; explicit values win, clamped."""
    assert parse(query).turn_silence_ms == silence


def test_updates() -> None:
    """An update replaces what may change, lets null be, remembers what it does not know."""
    parameters = parse("keyterms_prompt=%5B%22a%22%5D").updated(
        {"keyterms_prompt": [], "vad_threshold": None, "mode": "balanced", "sparkle": 1, "type": "UpdateConfiguration"}
    )
    assert dict(parameters.given) == {"keyterms_prompt": [], "mode": "balanced"}
    assert parameters.unknown == {"sparkle": "1"}


@pytest.mark.parametrize(
    "changes",
    [
        {"agent_context": "x" * 1751},
        {"sample_rate": 8000},
        {"speaker_labels": True},
        {"session_heartbeat": "True"},
        {"min_turn_silence": 1.5},
        {"vad_threshold": True},
        {"prompt": 3},
    ],
)
def test_updates_that_kill(changes: dict[str, Any]) -> None:
    """A value that is wrong, or that may not change, is refused with 3006."""
    with pytest.raises(Refusal) as refusal:
        Parameters().updated(changes)
    assert refusal.value.code == 3006
