"""Call-bound path tokens: good for one call of one carrier, for a while."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import CARRIERS, Carrier
from gateway.media.tokens import BoundToken, mint, verify

NEW, OLD = b"new secret", b"old secret"
NOW = 1_800_000_000.0


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_token_is_good_for_its_call(carrier: Carrier) -> None:
    """It verifies until its expiry, for the call it was made for and no other, and fits into a path."""
    token = mint(NEW, carrier, "CA1", NOW + 60)
    assert re.fullmatch(r"[A-Za-z0-9_-]{52}", token)
    for when in (NOW, NOW + 60):
        bound = verify([NEW], carrier, token, when)
        assert isinstance(bound, BoundToken)
        assert bound.allows("CA1")
        assert not bound.allows("CA2")
        assert not bound.allows("")


def test_a_token_expires() -> None:
    """After its expiry it says so."""
    assert verify([NEW], "twilio", mint(NEW, "twilio", "CA1", NOW + 60), NOW + 61) == "expired_token"


def test_a_token_is_good_for_one_carrier() -> None:
    """Telnyx's token opens no other route."""
    token = mint(NEW, "telnyx", "CA1", NOW + 60)
    assert verify([NEW], "twilio", token, NOW) == "bad_token"
    assert verify([NEW], "signalwire", token, NOW) == "bad_token"


def test_secrets_rotate() -> None:
    """Every configured secret verifies; one that is gone does not."""
    token = mint(OLD, "twilio", "CA1", NOW + 60)
    assert isinstance(verify([NEW, OLD], "twilio", token, NOW), BoundToken)
    assert verify([NEW], "twilio", token, NOW) == "bad_token"
    assert verify([], "twilio", token, NOW) == "bad_token"


@given(st.text(max_size=60))
def test_any_text_is_a_bad_token(text: str) -> None:
    """A made-up token of any content is refused, never an exception."""
    assert verify([NEW], "twilio", text, NOW) == "bad_token"


@given(st.integers(0, 51), st.sampled_from("AQgw_-9z"))
def test_every_letter_counts(place: int, letter: str) -> None:
    """No changed letter leaves a token valid."""
    token = mint(NEW, "twilio", "CA1", NOW + 60)
    changed = token[:place] + letter + token[place + 1 :]
    if changed != token:
        assert verify([NEW], "twilio", changed, NOW) == "bad_token"


@pytest.mark.parametrize("expires_at", [-5.0, 1e30])
def test_absurd_expiries_stay_in_range(expires_at: float) -> None:
    """An expiry before or beyond all time is the first or the last second."""
    token = mint(NEW, "twilio", "CA1", expires_at)
    assert verify([NEW], "twilio", token, 1.0) == "expired_token" or expires_at > 0
