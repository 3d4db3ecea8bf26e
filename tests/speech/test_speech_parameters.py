"""What a session is asked for: our query against the one that the SDK builds."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from assemblyai.streaming.v3._base import _build_headers, _build_uri
from assemblyai.streaming.v3.models import RealTimeParameters, RealTimeTranscriberOptions
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import TRACKS
from gateway.config import profiles, speech
from gateway.config.values import Findings
from gateway.speech.parameters import API_VERSION, query, session_url

HOST = "wss://streaming.eu.assemblyai.com"

VALUES: dict[str, st.SearchStrategy[Any]] = {
    name: st.from_type(field.annotation).filter(lambda value: value is not None)  # type: ignore[arg-type]
    for name, field in RealTimeParameters.model_fields.items()
}
VALUES["speaker_labels_revision_interval_ms"] = st.integers(min_value=0)

PHONE: dict[str, Any] = {"sample_rate": 16000}


def alike(asked: dict[str, Any]) -> None:
    """Both builders write the same, ours also from the plain values that a profile holds."""
    model = RealTimeParameters(**asked)
    theirs = _build_uri(HOST, model)
    assert query(model) == urlsplit(theirs).query
    assert session_url(HOST, model.model_dump(mode="json", exclude_none=True)) == theirs


@pytest.mark.parametrize("name", VALUES)
def test_each_parameter_alone(name: str) -> None:
    """Every parameter of the SDK's model, whatever its value, is written as the SDK writes it."""

    @given(value=VALUES[name])
    def law(value: Any) -> None:
        alike({**PHONE, name: value})

    law()


OTHERS = {name: values for name, values in VALUES.items() if name != "sample_rate"}


@given(st.fixed_dictionaries({"sample_rate": st.integers()}, optional=OTHERS))
def test_any_combination(asked: dict[str, Any]) -> None:
    """Any of them together: order, old names beside new ones and what is left out are the SDK's."""
    alike(asked)


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("min_end_of_turn_silence_when_confident", "min_turn_silence", 0),
        ("noise_suppression_model", "voice_focus", "near-field"),
        ("noise_suppression_threshold", "voice_focus_threshold", 0.0),
    ],
)
def test_old_names(old: str, new: str, value: object) -> None:
    """An old name goes out under its new one, even where its value is nothing; the new name wins."""
    assert query(RealTimeParameters.model_validate({**PHONE, old: value})) == f"sample_rate=16000&{new}={value}"
    alike({**PHONE, old: value})
    alike({**PHONE, old: value, new: value})


def test_how_values_are_written() -> None:
    """Lists as JSON in ASCII, booleans with a capital, a space as a plus; what was not asked is not sent."""
    asked = {
        "sample_rate": 8000,
        "keyterms_prompt": ["Únïcode Co.", "O'Neil"],
        "speaker_labels": True,
        "format_turns": False,
    }
    assert query(RealTimeParameters.model_validate(asked)) == (
        "format_turns=False&keyterms_prompt=%5B%22%5Cu00dan%5Cu00efcode+Co.%22%2C+%22O%27Neil%22%5D&sample_rate=8000&speaker_labels=True"
    )


@pytest.mark.parametrize("audio", ["resampled", "mulaw"])
@pytest.mark.parametrize("track", TRACKS)
def test_profiles(track: Any, audio: str) -> None:
    """Every leg of the profile out of the box, in both kinds of audio."""
    findings = Findings()
    found = profiles.read({"default": {track: {"audio": audio}}}, lambda url, _: url, findings)
    leg = found["default"].leg(track)
    assert session_url(HOST, leg.speech) == _build_uri(HOST, RealTimeParameters.model_validate(dict(leg.speech)))
    assert not findings.faults


def test_the_contract_s_defaults() -> None:
    """What a leg asks for out of the box, to the letter."""
    asked = speech.parameters({}, "resampled", "here", Findings())
    assert session_url("ws://127.0.0.1:1", asked) == (
        "ws://127.0.0.1:1/v3/ws?max_turn_silence=1280&vad_threshold=0.3&session_heartbeat=True&sample_rate=16000"
        "&encoding=pcm_s16le&speech_model=universal-3-5-pro&inactivity_timeout=60&speaker_labels=True&voice_focus=far-field"
    )


def test_the_version() -> None:
    """The version of the API that our sessions name is the SDK's."""
    assert _build_headers(RealTimeTranscriberOptions(api_key="key"))["AssemblyAI-Version"] == API_VERSION
