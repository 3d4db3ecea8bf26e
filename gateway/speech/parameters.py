"""
What a session is asked for, as the service's query.

The SDK's own model validates (`gateway.config.speech`); this file writes it as the SDK does, to the letter: lists and
objects as JSON, booleans as `True` and `False`, absent values left out, the model's order. A test holds both equal.
"""

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from assemblyai.streaming.v3.models import RealTimeParameters

API_VERSION: Final = "2025-05-12"

_TOLD_MS: Final = 1500

_RENAMED: Final = {
    "min_end_of_turn_silence_when_confident": "min_turn_silence",
    "noise_suppression_model": "voice_focus",
    "noise_suppression_threshold": "voice_focus_threshold",
}
"""Old names that the SDK takes, and what it sends for them; the new name wins where both are given."""


def session_url(base: str, speech: Mapping[str, object]) -> str:
    """The address of a session: *base* is `ws(s)://HOST[:PORT]`, *speech* a leg's parameters by profile."""
    return f"{base}/v3/ws?{query(RealTimeParameters.model_validate(dict(speech)))}"


def shows_open_turns(speech: Mapping[str, object]) -> bool:
    """Whether a session tells of a turn before it is final: redaction and `include_partial_turns=false` switch that off."""
    return speech.get("include_partial_turns") is not False and not speech.get("redact_pii")


def turn_silence_ms(speech: Mapping[str, object]) -> int:
    """A silence after which a turn is surely final, and told: `max_turn_silence` is 640 to 2560 ms where it is not given."""
    given = speech.get("max_turn_silence")
    return max(2560, given if isinstance(given, int) else 0) + _TOLD_MS


def query(model: RealTimeParameters) -> str:
    """A model as the service's query."""
    fields: dict[str, Any] = model.model_dump(mode="json", exclude_none=True)
    for old, new in _RENAMED.items():
        if old in fields:
            value = fields.pop(old)
            fields.setdefault(new, value)
    return urlencode(
        {name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in fields.items()}
    )
