"""
What a session costs: the rate card, pure.

AssemblyAI bills a streaming session by its wall time, open to closed, idle time included: the base model's price and that of
each add-on, for every second. The default prices are those of October 2026, in US dollars an hour; `[rates]` overrides them.
"""

from collections.abc import Mapping
from typing import Final

DEFAULT_MODEL: Final = "universal-3-5-pro"

DEFAULT_RATES: Final[Mapping[str, float]] = {
    "universal-3-5-pro": 0.45,
    "universal-3-6-pro": 0.45,
    "universal-3-6": 0.45,  # no price of its own was published
    "u3-rt-pro": 0.45,
    "universal-streaming-english": 0.15,
    "universal-streaming-multilingual": 0.15,
    "whisper-rt": 0.15,
    "speaker_labels": 0.12,
    "voice_focus": 0.10,
    "redact_pii": 0.12,
    "filter_profanity": 0.01,
    "medical": 0.15,
    "keyterms": 0.04,
    "prompt": 0.05,
}

_US_MODELS: Final = frozenset({"universal-streaming-english", "universal-streaming-multilingual"})


class Rates:
    """A rate card: the default prices with the operator's laid over them."""

    def __init__(self, rates: Mapping[str, float] | None = None) -> None:
        self._rates = {**DEFAULT_RATES, **(rates or {})}

    def items(self, params: Mapping[str, object]) -> dict[str, float]:
        """
        US dollars an hour of a session with these connection parameters, by item: `model` and each add-on that is on.

        A model that the card does not know costs as the default model: an estimate that is wrong beats one that is zero.
        """
        model = str(params.get("speech_model") or DEFAULT_MODEL)
        found = {"model": self._rates.get(model, self._rates[DEFAULT_MODEL])}
        found.update({addon: self._rates[addon] for addon, on in _addons(model, params) if on})
        return found

    def usd_per_hour(self, params: Mapping[str, object]) -> float:
        """US dollars an hour of a session with these connection parameters."""
        return sum(self.items(params).values())

    def cost(self, seconds: float, params: Mapping[str, object]) -> float:
        """US dollars of a session that was open for *seconds*."""
        return max(seconds, 0.0) / 3600 * self.usd_per_hour(params)

    def cost_by_item(self, seconds: float, params: Mapping[str, object]) -> dict[str, float]:
        """The same by item."""
        hours = max(seconds, 0.0) / 3600
        return {item: hours * rate for item, rate in self.items(params).items()}


def _addons(model: str, params: Mapping[str, object]) -> tuple[tuple[str, bool], ...]:
    """Each paid add-on, and whether these parameters switch it on."""
    return (
        ("speaker_labels", bool(params.get("speaker_labels"))),
        ("voice_focus", bool(params.get("voice_focus"))),
        ("redact_pii", bool(params.get("redact_pii"))),
        ("filter_profanity", bool(params.get("filter_profanity"))),
        ("medical", bool(params.get("domain"))),
        # Key terms are part of the price of the Universal-3 models and an add-on of the older ones.
        ("keyterms", bool(params.get("keyterms_prompt")) and model in _US_MODELS),
        ("prompt", bool(params.get("prompt"))),
    )
