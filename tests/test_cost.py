"""The rate card."""

import pytest

from gateway.cost import Rates

TELEPHONE = {"speech_model": "universal-3-5-pro", "speaker_labels": True, "voice_focus": "far-field"}


@pytest.mark.parametrize(
    ("params", "usd"),
    [
        ({}, 0.45),
        (TELEPHONE, 0.67),
        ({"speech_model": "universal-3-5-pro", "keyterms_prompt": ["Northwind"]}, 0.45),
        ({"speech_model": "universal-streaming-english", "keyterms_prompt": ["Northwind"]}, 0.19),
        ({"speech_model": "universal-streaming-english", "keyterms_prompt": []}, 0.15),
        ({"redact_pii": True, "filter_profanity": True}, 0.58),
        ({"domain": "medical-v1", "prompt": "A clinic."}, 0.65),
        ({"speaker_labels": False, "voice_focus": None}, 0.45),
        ({"speech_model": "universal-9-unheard-of"}, 0.45),
    ],
)
def test_an_hour_costs_its_model_and_what_is_switched_on(params: dict[str, object], usd: float) -> None:
    """The hourly price is the model's and that of each add-on in use; an unknown model is estimated, not free."""
    assert Rates().usd_per_hour(params) == pytest.approx(usd)


def test_two_legs_cost_what_the_published_prices_say() -> None:
    """Two legs with speaker labels and voice focus cost 1.34 dollars a call hour."""
    assert 2 * Rates().cost(3600, TELEPHONE) == pytest.approx(1.34)


def test_the_operators_rates_win() -> None:
    """A rate that is configured replaces the default, for a model we never heard of too."""
    rates = Rates({"universal-3-5-pro": 0.40, "speaker_labels": 0.0, "universal-4": 1.0})
    assert rates.usd_per_hour(TELEPHONE) == pytest.approx(0.50)
    assert rates.usd_per_hour({"speech_model": "universal-4"}) == pytest.approx(1.0)


def test_items_add_up() -> None:
    """The cost by item adds up to the cost, and names only what is on."""
    items = Rates().cost_by_item(600, TELEPHONE)
    assert set(items) == {"model", "speaker_labels", "voice_focus"}
    assert sum(items.values()) == pytest.approx(Rates().cost(600, TELEPHONE))


def test_time_running_backwards_earns_nothing() -> None:
    """A negative duration costs nothing."""
    assert Rates().cost(-5, TELEPHONE) == 0
