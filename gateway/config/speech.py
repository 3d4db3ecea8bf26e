"""
A leg's speech parameters: the house's defaults under what the operator wrote, held against the SDK's own model.

The model ignores unknown keys and so does the service, silently: both faults are ours to find.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from assemblyai.streaming.v3.models import RealTimeParameters
from pydantic import ValidationError

from gateway.config.values import Findings, nearest

Audio = Literal["resampled", "mulaw"]

DEFAULTS: Final[Mapping[str, object]] = MappingProxyType(
    {
        "speech_model": "universal-3-5-pro",
        "speaker_labels": True,
        "voice_focus": "far-field",
        "session_heartbeat": True,
        "inactivity_timeout": 60,
        # With speaker labels the service raises its voice threshold to 0.5 and cuts turns at 768 ms of silence.
        "vad_threshold": 0.3,
        "max_turn_silence": 1280,
    }
)

WIRE: Final[Mapping[Audio, Mapping[str, object]]] = MappingProxyType(
    {
        "resampled": {"encoding": "pcm_s16le", "sample_rate": 16000},
        "mulaw": {"encoding": "pcm_mulaw", "sample_rate": 8000},
    }
)
"""How each choice of `audio` travels to the service."""

FORBIDDEN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "customer_support_audio_capture": "it would have the service record the callers",
        "webhook_url": "transcripts go out by this gateway's own webhooks",
        "webhook_auth_header_name": "transcripts go out by this gateway's own webhooks",
        "webhook_auth_header_value": "transcripts go out by this gateway's own webhooks",
        "token": "session tokens are minted by the gateway (GATEWAY_SESSION_TOKENS)",
    }
)

PARAMETERS: Final = frozenset(RealTimeParameters.model_fields) - frozenset(FORBIDDEN)

_NO_VOICE_FOCUS: Final = frozenset({"universal-streaming-english", "universal-streaming-multilingual", "whisper-rt"})
_NO_SPEAKER_LABELS: Final = frozenset({"whisper-rt"})
_FOR_SPEAKER_LABELS: Final = ("vad_threshold", "max_turn_silence")

_RANGES: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {
        "inactivity_timeout": (5, 3600),
        "vad_threshold": (0, 1),
        "voice_focus_threshold": (0, 1),
        "end_of_turn_confidence_threshold": (0, 1),
        "interruption_delay": (0, 1000),
        "max_speakers": (1, 10),
        "min_turn_silence": (50, 10000),
    }
)
_LENGTHS: Final[Mapping[str, int]] = MappingProxyType(
    {"prompt": 1750, "agent_context": 1750, "keyterms_prompt": 100, "language_codes": 10}
)
"""What the service is known to take. Its limits move without us, so beyond them is a warning, not a fault."""


def parameters(written: Mapping[str, Any], audio: Audio, where: str, findings: Findings) -> Mapping[str, object]:
    """
    Every parameter of a leg's sessions, ready for the SDK's model; *where* names the table in faults.

    An empty string (or `voice_focus = false`) takes a default away and leaves the matter to the service.
    """
    faults = findings.faults
    found = len(faults)
    explicit: dict[str, Any] = {}
    dropped: set[str] = set()
    for name, value in written.items():
        if name in FORBIDDEN or name.lstrip("_") in FORBIDDEN:
            faults.append(f"{where}.{name} is not allowed: {FORBIDDEN[name.lstrip('_')]}")
        elif name not in PARAMETERS:
            faults.append(f"{where}.{name} is no parameter of the speech service{nearest(name, PARAMETERS)}")
        elif value == "" or (name == "voice_focus" and value is False):
            dropped.add(name)
        elif not _finite(value):
            faults.append(f"{where}.{name} is not a finite number")
        else:
            explicit[name] = value
    _check_wire(explicit, dropped, audio, where, faults)
    if len(faults) > found:
        return MappingProxyType({})
    merged = {**_defaults(explicit, dropped), **WIRE[audio], **explicit}
    try:
        model = RealTimeParameters(**merged)
    except ValidationError as error:
        faults.extend(
            f"{where}.{_path(fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        return MappingProxyType({})
    plain: dict[str, object] = model.model_dump(mode="json", exclude_none=True)
    _warn(plain, explicit, where, findings.warnings)
    return MappingProxyType(plain)


def _defaults(explicit: Mapping[str, object], dropped: set[str]) -> dict[str, object]:
    """The defaults that make sense beside what was written: a default that the chosen model lacks is left out."""
    defaults = {name: value for name, value in DEFAULTS.items() if name not in dropped}
    model = explicit.get("speech_model", DEFAULTS["speech_model"])
    if model in _NO_VOICE_FOCUS:
        defaults.pop("voice_focus", None)
    if model in _NO_SPEAKER_LABELS:
        defaults.pop("speaker_labels", None)
    if str(explicit.get("speaker_labels", defaults.get("speaker_labels", False))).lower() not in {
        "true",
        "1",
        "yes",
        "on",
    }:
        for name in _FOR_SPEAKER_LABELS:
            defaults.pop(name, None)
    return defaults


def _check_wire(explicit: Mapping[str, object], dropped: set[str], audio: Audio, where: str, faults: list[str]) -> None:
    """The audio we send is 16-bit PCM at 8 or 16 kHz, or mu-law at 8 kHz; what was written may not say otherwise."""
    wire = WIRE[audio]
    faults.extend(
        f"{where}.{name} cannot be empty" for name in ("encoding", "sample_rate", "speech_model") if name in dropped
    )
    encoding = explicit.get("encoding", wire["encoding"])
    if encoding != wire["encoding"]:
        other = next((name for name, choice in WIRE.items() if choice["encoding"] == encoding), None)
        hint = f'set audio = "{other}" instead' if other else "only pcm_s16le and pcm_mulaw are sent"
        faults.append(f'{where}.encoding contradicts audio = "{audio}": {hint}')
    allowed = {8000} if audio == "mulaw" else {8000, 16000}
    rate = explicit.get("sample_rate", wire["sample_rate"])
    if isinstance(rate, bool) or rate not in allowed:
        faults.append(f'{where}.sample_rate must be {" or ".join(map(str, sorted(allowed)))} with audio = "{audio}"')


def _warn(plain: Mapping[str, object], explicit: Mapping[str, object], where: str, warnings: list[str]) -> None:
    for name, (low, high) in _RANGES.items():
        value = plain.get(name)
        if isinstance(value, int | float) and not low <= value <= high:
            warnings.append(f"{where}.{name} is outside {low:g} to {high:g}: the service may refuse every session")
    for name, limit in _LENGTHS.items():
        value = plain.get(name)
        if isinstance(value, str | list) and len(value) > limit:
            warnings.append(f"{where}.{name} is longer than {limit}: the service may refuse every session")
    terms = plain.get("keyterms_prompt")
    if isinstance(terms, list) and any(len(term) > 50 for term in terms):
        warnings.append(
            f"{where}.keyterms_prompt holds terms longer than 50 characters, which the service ignores silently"
        )
    model = plain["speech_model"]
    if model in _NO_VOICE_FOCUS and "voice_focus" in explicit:
        warnings.append(f"{where}.voice_focus is not known to work with {model}")
    if model in _NO_SPEAKER_LABELS and explicit.get("speaker_labels"):
        warnings.append(f"{where}.speaker_labels is not known to work with {model}")
    if "voice_focus_threshold" in plain and "voice_focus" not in plain:
        warnings.append(f"{where}.voice_focus_threshold without voice_focus is refused by the service")


def _finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) or "sample_rate"
