"""Profiles and speech parameters: the defaults, what may be written, and every fault with a suggestion."""

import base64
from pathlib import Path

import pytest
from assemblyai.streaming.v3.models import RealTimeParameters

from gateway.config import Settings, load
from gateway.errors import ConfigurationFault

ENOUGH = {
    "ASSEMBLYAI_API_KEY": "raw-key",
    "GATEWAY_WEBHOOK_URL": "https://crm.example.com/events",
    "GATEWAY_WEBHOOK_SECRETS": "whsec_" + base64.b64encode(b"s" * 24).decode(),
}

OUT_OF_THE_BOX = {
    "speech_model": "universal-3-5-pro",
    "sample_rate": 16000,
    "encoding": "pcm_s16le",
    "speaker_labels": True,
    "voice_focus": "far-field",
    "session_heartbeat": True,
    "inactivity_timeout": 60,
    "vad_threshold": 0.3,
    "max_turn_silence": 1280,
}

CONTRACT = """
assemblyai_url = "wss://streaming.eu.assemblyai.com"

[rates]
"universal-3-5-pro" = 0.45
speaker_labels = 0.12
voice_focus = 0.10

[profiles.sales]
numbers = ["+15559870000"]
webhook_url = "https://crm.example.com/transcripts"
twiml = "<Dial>+15550001111</Dial>"
[profiles.sales.inbound]
party = "customer"
[profiles.sales.inbound.speech]
keyterms_prompt = ["Northwind", "order number"]
[profiles.sales.outbound]
party = "agent"
audio = "mulaw"
"""


def loaded(tmp_path: Path, toml: str) -> Settings:
    """The settings of a file."""
    file = tmp_path / "gateway.toml"
    file.write_text(toml)
    return load({**ENOUGH, "GATEWAY_CONFIG": str(file)})


def faults(tmp_path: Path, toml: str) -> tuple[str, ...]:
    """The faults of a file."""
    with pytest.raises(ConfigurationFault) as caught:
        loaded(tmp_path, toml)
    return caught.value.faults


def speech(tmp_path: Path, lines: str, audio: str = "resampled") -> dict[str, object]:
    """The inbound leg's parameters under a default profile with these speech lines."""
    toml = f'[profiles.default.inbound]\naudio = "{audio}"\n[profiles.default.inbound.speech]\n{lines}'
    return dict(loaded(tmp_path, toml).profiles["default"].inbound.speech)


def test_out_of_the_box() -> None:
    """Each leg has the documented parameters, ready for the SDK's model, and its track for a party's name."""
    profile = load(ENOUGH).profile_for(None, None)
    assert profile.name == "default"
    for track, leg in (("inbound", profile.leg("inbound")), ("outbound", profile.leg("outbound"))):
        assert dict(leg.speech) == OUT_OF_THE_BOX
        assert (leg.party, leg.audio) == (track, "resampled")
        RealTimeParameters.model_validate(dict(leg.speech))


def test_the_contract_s_example(tmp_path: Path) -> None:
    """The example of the documentation loads and means what it says."""
    settings = loaded(tmp_path, CONTRACT)
    sales = settings.profiles["sales"]
    assert (sales.numbers, sales.webhook_url) == (("+15559870000",), "https://crm.example.com/transcripts")
    assert sales.twiml == "<Dial>+15550001111</Dial>"
    assert (sales.inbound.party, sales.outbound.party) == ("customer", "agent")
    assert dict(sales.inbound.speech) == {**OUT_OF_THE_BOX, "keyterms_prompt": ["Northwind", "order number"]}
    assert sales.outbound.audio == "mulaw"
    assert dict(sales.outbound.speech) == {**OUT_OF_THE_BOX, "encoding": "pcm_mulaw", "sample_rate": 8000}
    assert settings.rates["voice_focus"] == 0.10


def test_a_profile_is_chosen_by_name_then_number_then_default(tmp_path: Path) -> None:
    """The stream's parameter wins over the dialled number; an unknown name does not hide the number."""
    settings = loaded(tmp_path, CONTRACT + '[profiles.other]\nnumbers = ["+1 (555) 222-3333"]\n')
    assert settings.profile_for("sales", "+15552223333").name == "sales"
    assert settings.profile_for(None, "+15559870000").name == "sales"
    assert settings.profile_for("nobody", "+15559870000").name == "sales"
    assert settings.profile_for(None, "+15552223333").name == "other"
    assert settings.profile_for(None, "+15550000000").name == "default"
    assert settings.profile_for("", "").name == "default"


def test_every_parameter_of_the_sdk_may_be_written_but_the_forbidden(tmp_path: Path) -> None:
    """All of the model's fields pass through, except audio capture, the service's webhooks and the token."""
    lines = """
        redact_pii = true
        redact_pii_policies = ["person_name", "credit_card_number"]
        redact_pii_sub = "hash"
        language_codes = ["en", "es"]
        domain = "medical-v1"
        llm_gateway = {model = "m", messages = [{role = "user", content = "c"}], max_tokens = 5}
        prompt = "names"
        mode = "max_accuracy"
        speech_model = "universal-3-6-pro"
        max_speakers = 3
    """
    found = speech(tmp_path, lines)
    assert found["redact_pii_policies"] == ["person_name", "credit_card_number"]
    assert found["language_codes"] == ["en", "es"]
    assert (found["domain"], found["mode"], found["speech_model"]) == (
        "medical-v1",
        "max_accuracy",
        "universal-3-6-pro",
    )
    assert isinstance(found["llm_gateway"], dict)
    for name in (
        "customer_support_audio_capture",
        "_customer_support_audio_capture",
        "webhook_url",
        "webhook_auth_header_value",
        "token",
    ):
        (fault,) = faults(tmp_path, f'[profiles.x.inbound.speech]\n{name} = "v"\n')
        assert f"profiles.x.inbound.speech.{name} is not allowed" in fault


def test_unknown_names_suggest_the_nearest(tmp_path: Path) -> None:
    """A misspelt key of a profile, a leg or a speech table is a fault that names the one meant."""
    toml = """
        [profiles.x]
        number = ["+1"]
        [profiles.x.inbund]
        [profiles.x.outbound]
        pary = "agent"
        [profiles.x.outbound.speech]
        voice_focsu = "far-field"
    """
    said = faults(tmp_path, toml)
    assert [fault.rsplit(" ", 1)[-1] for fault in said] == ["numbers?", "inbound?", "party?", "voice_focus?"]


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ('speech_model = "universal-9"', "speech_model"),
        ('voice_focus = "middle"', "voice_focus"),
        ('inactivity_timeout = "soon"', "inactivity_timeout"),
        ("vad_threshold = nan", "vad_threshold"),
        ("vad_threshold = inf", "vad_threshold"),
        ('keyterms_prompt = "one"', "keyterms_prompt"),
        ("speaker_labels_revision_interval_ms = -1", "speaker_labels_revision_interval_ms"),
        ("sample_rate = 44100", "sample_rate"),
        ("sample_rate = true", "sample_rate"),
        ('encoding = "opus"', "encoding"),
        ('encoding = "pcm_mulaw"', 'audio = "mulaw"'),
        ('speech_model = ""', "speech_model"),
        ('sample_rate = ""', "sample_rate"),
    ],
)
def test_values_the_model_or_the_audio_refuse_are_faults(tmp_path: Path, lines: str, named: str) -> None:
    """What would be refused when the first call comes is refused at start."""
    (fault,) = faults(tmp_path, f"[profiles.x.inbound.speech]\n{lines}\n")
    assert fault.startswith("profiles.x.inbound.speech.")
    assert named in fault


def test_audio_and_parameters_agree(tmp_path: Path) -> None:
    """mu-law implies its encoding and rate, 8 kHz PCM may be asked for, and a contradiction is a fault."""
    assert speech(tmp_path, "sample_rate = 8000")["sample_rate"] == 8000
    assert speech(tmp_path, 'encoding = "pcm_mulaw"\nsample_rate = 8000', "mulaw")["encoding"] == "pcm_mulaw"
    for lines in ("sample_rate = 16000", 'encoding = "pcm_s16le"'):
        toml = f'[profiles.x.inbound]\naudio = "mulaw"\n[profiles.x.inbound.speech]\n{lines}\n'
        (fault,) = faults(tmp_path, toml)
        assert 'audio = "mulaw"' in fault
    (fault,) = faults(tmp_path, '[profiles.x.inbound]\naudio = "opus"\n')
    assert fault.startswith("profiles.x.inbound.audio")


def test_defaults_that_a_model_lacks_are_left_out(tmp_path: Path) -> None:
    """Choosing a model drops the defaults it does not know, never what was written."""
    whisper = speech(tmp_path, 'speech_model = "whisper-rt"')
    assert {"voice_focus", "speaker_labels", "vad_threshold", "max_turn_silence"}.isdisjoint(whisper)
    english = speech(tmp_path, 'speech_model = "universal-streaming-english"')
    assert "voice_focus" not in english
    assert english["speaker_labels"] is True
    explicit = speech(tmp_path, 'speech_model = "whisper-rt"\nvoice_focus = "near-field"\nspeaker_labels = true')
    assert (explicit["voice_focus"], explicit["speaker_labels"]) == ("near-field", True)


def test_defaults_can_be_taken_away(tmp_path: Path) -> None:
    """An empty string, or voice_focus = false, leaves a default out; without speaker labels their remedies go too."""
    assert "voice_focus" not in speech(tmp_path, "voice_focus = false")
    assert "inactivity_timeout" not in speech(tmp_path, 'inactivity_timeout = ""')
    plain = speech(tmp_path, "speaker_labels = false")
    assert plain["speaker_labels"] is False
    assert {"vad_threshold", "max_turn_silence"}.isdisjoint(plain)
    assert speech(tmp_path, "speaker_labels = false\nvad_threshold = 0.4")["vad_threshold"] == 0.4


def test_what_the_service_may_refuse_is_warned_of(tmp_path: Path) -> None:
    """The service's limits move without us: beyond the known ones is a warning."""
    terms = ", ".join(f'"t{n}"' for n in range(101))
    toml = f"""
        [profiles.a.inbound.speech]
        vad_threshold = 1.5
        keyterms_prompt = [{terms}, "{"x" * 51}"]
        prompt = "{"p" * 1751}"
        [profiles.b.inbound.speech]
        speech_model = "whisper-rt"
        speaker_labels = true
        voice_focus = "near-field"
        [profiles.c.inbound.speech]
        voice_focus = false
        voice_focus_threshold = 0.5
    """
    warnings = [warning for warning in loaded(tmp_path, toml).warnings if warning.startswith("profiles.")]
    assert [warning.split(" ")[0].split(".", 1)[1] for warning in warnings] == [
        "a.inbound.speech.vad_threshold",
        "a.inbound.speech.prompt",
        "a.inbound.speech.keyterms_prompt",
        "a.inbound.speech.keyterms_prompt",
        "b.inbound.speech.voice_focus",
        "b.inbound.speech.speaker_labels",
        "c.inbound.speech.voice_focus_threshold",
    ]


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("profiles = 5", "profiles must be tables"),
        ("[profiles]\nx = 5", "profiles.x must be a table"),
        ("[profiles.x]\ninbound = 5", "profiles.x.inbound must be a table"),
        ("[profiles.x.inbound]\nspeech = 5", "profiles.x.inbound.speech must be a table"),
        ("[profiles.x]\nnumbers = '+1'", "profiles.x.numbers"),
        ("[profiles.x]\nnumbers = [1]", "profiles.x.numbers"),
        (
            "[profiles.x]\nnumbers = ['+1']\n[profiles.y]\nnumbers = ['+ 1']",
            "profiles.y.numbers names a number that profiles.x",
        ),
        ("[profiles.x]\nwebhook_url = 'http://x.example.com'", "profiles.x.webhook_url"),
        ("[profiles.x]\nwebhook_url = 5", "profiles.x.webhook_url"),
        ("[profiles.x]\ntwiml = '<Dial>'", "profiles.x.twiml is not well-formed"),
        ("[profiles.x]\ntwiml = 'no verb'", "profiles.x.twiml holds no verb"),
        ("[profiles.x]\ntwiml = 5", "profiles.x.twiml must be a string"),
        ("[profiles.x.inbound]\nparty = 5", "profiles.x.inbound.party"),
        ('[profiles."a\\u0007"]', "a profile's name"),
    ],
)
def test_broken_profiles_are_faults(tmp_path: Path, toml: str, named: str) -> None:
    """Each mistake in a profile is one sentence that says where it stands."""
    (fault,) = faults(tmp_path, toml)
    assert named in fault


def test_markup_may_have_several_verbs(tmp_path: Path) -> None:
    """What follows <Start> is a fragment of any number of verbs; blank is as not written."""
    settings = loaded(
        tmp_path, "[profiles.x]\ntwiml = ' <Say>a &amp; b</Say><Redirect>/n</Redirect> '\n[profiles.y]\ntwiml = ' '"
    )
    assert settings.profiles["x"].twiml == "<Say>a &amp; b</Say><Redirect>/n</Redirect>"
    assert settings.profiles["y"].twiml is None
