"""
The parameters of a session: the table of the service, what it refuses, and what it silently does without.

Values come as a query string (form-encoded; lists and objects as JSON; booleans in any case) and later, for those that
may change, as JSON in `UpdateConfiguration`. Unknown names are ignored, as the live service does, but remembered.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

MODELS: Final = (
    "universal-streaming-english", "universal-streaming-multilingual", "whisper-rt", "u3-rt-pro", "u3-rt-pro-beta-1",
    "u3-rt-agent", "universal-3-5-pro", "universal-3-6-pro", "universal-3-6", "universal-3-7-preview",
    "_universal-3-5-notetaker",
)  # fmt: skip
DEFAULT_MODEL: Final = "universal-3-6-pro"
ENCODINGS: Final = {"pcm_s16le": 2, "pcm_mulaw": 1, "opus": 0, "ogg_opus": 0, "aac": 0}
"""Bytes a sample; 0 where a byte count says nothing about time."""

Kind = Literal["text", "integer", "number", "flag", "list", "object"]


class Refusal(Exception):
    """The service's answer to what it does not take: an `Error` message and a close with `code`. `ending`: the ledger's name."""

    def __init__(self, code: int, text: str, ending: str | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.ending = ending or f"error:{code}"


def invalid(detail: str) -> Refusal:
    """A refused value."""
    return Refusal(3006, f"User Input Validation Error: {detail}")


@dataclass(frozen=True)
class Rule:
    """What one parameter may be. `low` and `high` bound a number, `longest` a text or the items of a list."""

    kind: Kind
    updatable: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    longest: int | None = None
    only: Literal["any", "u3", "us"] = "any"
    """The models on which it has an effect."""


RULES: Final[Mapping[str, Rule]] = {
    "speech_model": Rule("text", choices=MODELS),
    "sample_rate": Rule("integer", low=8000, high=96000),
    "encoding": Rule("text", choices=tuple(ENCODINGS)),
    "mode": Rule("text", updatable=True, choices=("min_latency", "balanced", "max_accuracy"), only="u3"),
    "min_turn_silence": Rule("integer", updatable=True),  # clamped, not refused
    "max_turn_silence": Rule("integer", updatable=True, low=0),
    "vad_threshold": Rule("number", updatable=True, low=0, high=1),
    "interruption_delay": Rule("integer", updatable=True, low=0, high=1000, only="u3"),
    "continuous_partials": Rule("flag", updatable=True, only="u3"),
    "include_partial_turns": Rule("flag"),
    "end_of_turn_confidence_threshold": Rule("number", updatable=True, low=0, high=1, only="us"),
    "format_turns": Rule("flag", updatable=True, only="us"),
    "prompt": Rule("text", updatable=True, longest=1750, only="u3"),
    "keyterms_prompt": Rule("list", updatable=True, longest=100),
    "agent_context": Rule("text", updatable=True, longest=1750, only="u3"),
    "previous_context_n_turns": Rule("integer", low=0, high=100, only="u3"),
    "language_codes": Rule("list", updatable=True, longest=10, only="u3"),
    "language_code": Rule("text"),
    "language_detection": Rule("flag"),
    "domain": Rule("text", choices=("medical-v1",), only="u3"),
    "inactivity_timeout": Rule("integer", low=5, high=3600),
    "speaker_labels": Rule("flag"),
    "max_speakers": Rule("integer", low=1, high=10),
    "speaker_labels_revision_interval_ms": Rule("integer", low=0),
    "voice_focus": Rule("text", choices=("near-field", "far-field"), only="u3"),
    "voice_focus_threshold": Rule("number", low=0, high=1, only="u3"),
    "redact_pii": Rule("flag"),
    "redact_pii_policies": Rule("list"),
    "redact_pii_sub": Rule("text", choices=("hash", "entity_name")),
    "filter_profanity": Rule("flag", updatable=True),
    "session_heartbeat": Rule("flag", updatable=True),
    "acknowledge_silence": Rule("flag", updatable=True, only="u3"),
    "turn_left_pad_ms": Rule("integer", updatable=True, low=0),
    "llm_gateway": Rule("object"),
    "webhook_url": Rule("text"),
    "webhook_auth_header_name": Rule("text"),
    "webhook_auth_header_value": Rule("text"),
    "customer_support_audio_capture": Rule("flag"),
    "token": Rule("text"),
}

ALIASES: Final = {
    "min_end_of_turn_silence_when_confident": "min_turn_silence",
    "noise_suppression_model": "voice_focus",
    "noise_suppression_threshold": "voice_focus_threshold",
    "_customer_support_audio_capture": "customer_support_audio_capture",
}

_SECRET: Final = frozenset({"token", "webhook_auth_header_value"})
_SILENCE_BY_MODE: Final = {"min_latency": (128, 640), "balanced": (128, 1280), "max_accuracy": (512, 2560)}
_LANGUAGE: Final = re.compile(r"multi|[a-z]{2,3}([-_][A-Za-z]{2,4})?")


@dataclass(frozen=True)
class Parameters:
    """A session's parameters, checked. Attributes are what the service goes by, defaults included."""

    given: Mapping[str, Any] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Names the service does not know, ignored."""

    @property
    def model(self) -> str:
        return str(self.given.get("speech_model", DEFAULT_MODEL))

    @property
    def is_u3(self) -> bool:
        """Whether this is one of the U3 family, which re-transcribes each turn as it grows."""
        return not self.model.startswith(("universal-streaming", "whisper"))

    @property
    def sample_rate(self) -> int:
        return int(self.given.get("sample_rate", 16000))

    @property
    def encoding(self) -> str:
        return str(self.given.get("encoding", "pcm_s16le"))

    @property
    def bytes_a_second(self) -> int:
        """0 where bytes say nothing about time."""
        return self.sample_rate * ENCODINGS[self.encoding]

    @property
    def speaker_labels(self) -> bool:
        return self.flag("speaker_labels") and self.model != "whisper-rt"

    @property
    def inactivity_timeout(self) -> int | None:
        value = self.given.get("inactivity_timeout")
        return None if value is None else int(value)

    @property
    def turn_silence_ms(self) -> tuple[int, int]:
        """The silence that may end a turn, and the silence that ends it. Labels replace the mode's preset."""
        if not self.is_u3:
            low, high = 400, 1280
        elif self.speaker_labels:
            low, high = 640, 768
        else:
            low, high = _SILENCE_BY_MODE[self.given.get("mode", "balanced")]
        low = min(10000, max(50, int(self.given.get("min_turn_silence", low))))
        return low, int(self.given.get("max_turn_silence", high))

    @property
    def first_partial_ms(self) -> int:
        """From a turn's first word to its first partial: 256 ms and `interruption_delay`."""
        preset = 0 if self.given.get("mode") == "min_latency" and not self.speaker_labels else 500
        return 256 + int(self.given.get("interruption_delay", preset))

    @property
    def partial_every_ms(self) -> int:
        return 3000 if self.speaker_labels or not self.flag("continuous_partials", default=True) else 1000

    @property
    def partials(self) -> bool:
        return self.flag("include_partial_turns", default=True) and not self.flag("redact_pii")

    @property
    def configuration(self) -> dict[str, Any]:
        """What `Begin` echoes."""
        return {
            "model": self.model,
            "mode": self.given.get("mode", "balanced") if self.is_u3 else None,
            "api_version": "2025-05-12",
            "speaker_labels": self.speaker_labels,
            "redact_pii": self.flag("redact_pii"),
            "filter_profanity": self.flag("filter_profanity"),
            "domain": self.given.get("domain"),
            "voice_focus": self.given.get("voice_focus"),
        }

    @property
    def ineffective(self) -> list[str]:
        """What was asked for and is silently not done."""
        without = {name for name in self.given if RULES[name].only == ("us" if self.is_u3 else "u3")}
        if self.speaker_labels and "mode" in self.given:
            without.add("mode")
        if not self.speaker_labels:
            without |= {"max_speakers", "speaker_labels_revision_interval_ms"} & self.given.keys()
        if any(len(str(term)) > 50 for term in self.given.get("keyterms_prompt", ())):
            without.add("keyterms_prompt")
        return sorted(without)

    @property
    def shown(self) -> dict[str, Any]:
        """For the ledger: as given, secrets left out."""
        return {name: "(set)" if name in _SECRET else value for name, value in self.given.items()} | dict(self.unknown)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Whether a boolean parameter is on."""
        return bool(self.given.get(name, default))

    def updated(self, changes: Mapping[str, Any]) -> "Parameters":
        """
        These, with what `UpdateConfiguration` changes.

        Raises:
            Refusal: If a value is not allowed, or may not change during a session.
        """
        given, unknown = dict(self.given), dict(self.unknown)
        for key, value in changes.items():
            name = ALIASES.get(key, key)
            if name == "type" or value is None:
                continue
            rule = RULES.get(name)
            if rule is None:
                unknown[key] = str(value)
                continue
            if not rule.updatable:
                raise invalid(f"{name} cannot be updated during a session")
            given[name] = checked(name, value)
        updated = replace(self, given=given, unknown=unknown)
        check_together(updated)
        return updated


def parse(query: str) -> Parameters:
    """
    The parameters of a query string.

    Raises:
        Refusal: With code 3006 and the service's sentence.
    """
    texts: dict[str, list[str]] = {}
    for key, text in parse_qsl(query, keep_blank_values=True):
        texts.setdefault(key, []).append(text)
    given: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    for key, values in texts.items():
        name = ALIASES.get(key, key)
        rule = RULES.get(name)
        if rule is None:
            unknown[key] = ",".join(values)
            continue
        given[name] = checked(name, from_text(name, rule.kind, values))
    parameters = Parameters(given, unknown)
    check_together(parameters)
    return parameters


def from_text(name: str, kind: Kind, values: list[str]) -> Any:
    """The JSON value that a query's text stands for; what it does not stand for is left as text, to be refused."""
    text = values[-1]
    if kind in ("list", "object"):
        if name == "redact_pii_policies" and len(values) == 1 and not text.startswith("["):
            return [policy.strip() for policy in text.split(",")]
        if len(values) > 1:
            raise invalid(f"{name}: Invalid JSON array")
        try:
            return json.loads(text)
        except ValueError:
            raise invalid(f"{name}: Invalid JSON {'array' if kind == 'list' else 'object'}") from None
    if kind == "flag":
        return {"true": True, "false": False, "1": True, "0": False}.get(text.lower(), text)
    if kind == "text":
        return text
    try:
        return int(text) if kind == "integer" else float(text)
    except ValueError:
        return text


def checked(name: str, value: Any) -> Any:
    """
    The value, if its rule allows it.

    Raises:
        Refusal: If it does not.
    """
    rule = RULES[name]
    if rule.kind == "flag":
        if not isinstance(value, bool):
            raise invalid(f"{name} must be a boolean")
    elif rule.kind in ("integer", "number"):
        _check_number(name, rule, value)
    elif rule.kind == "text":
        if not isinstance(value, str):
            raise invalid(f"{name} must be a string")
        if rule.choices and value not in rule.choices:
            raise invalid(f"{name} must be one of: {', '.join(rule.choices)}")
        if rule.longest is not None and len(value) > rule.longest:
            raise invalid(f"{name} must be at most {rule.longest} characters")
    elif rule.kind == "list":
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise invalid(f"{name}: Invalid JSON array")
        if rule.longest is not None and len(value) > rule.longest:
            raise invalid(f"{name}: Max {rule.longest} items")
        if name == "language_codes" and not all(_LANGUAGE.fullmatch(code) for code in value):
            raise invalid("language_codes: unknown language code")
    elif not isinstance(value, dict):
        raise invalid(f"{name}: Invalid JSON object")
    return value


def _check_number(name: str, rule: Rule, value: Any) -> None:
    fits = isinstance(value, int) or (rule.kind == "number" and isinstance(value, float))
    if isinstance(value, bool) or not fits:
        raise invalid(f"{name} must be {'an integer' if rule.kind == 'integer' else 'a number'}")
    if name == "sample_rate" and value < 8000:
        raise invalid("sample_rate must be at least 8,000 Hz")  # the live service's own words
    if (rule.low is not None and not value >= rule.low) or (rule.high is not None and not value <= rule.high):
        bound = f"between {rule.low:g} and {rule.high:g}" if rule.high is not None else f"at least {rule.low:g}"
        raise invalid(f"{name} must be {bound}")


def check_together(parameters: Parameters) -> None:
    """
    The rules that span several parameters.

    Raises:
        Refusal: If one is broken.
    """
    if "voice_focus_threshold" in parameters.given and "voice_focus" not in parameters.given:
        raise invalid("voice_focus_threshold requires voice_focus")
