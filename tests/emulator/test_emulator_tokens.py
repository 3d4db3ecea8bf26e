"""Temporary tokens: issued, refused, expired."""

from typing import Any

import pytest

from gateway.emulator.parameters import Refusal
from gateway.emulator.tokens import Mint

NOW = 1_000_000.0


def issued(mint: Mint, **query: str) -> str:
    status, body = mint.issue({"expires_in_seconds": "60", **query}, "key", NOW)
    assert status == 200
    return str(body["token"])


def test_a_token_opens_until_it_expires_and_caps_the_session() -> None:
    """The token stands for its key until its time, by header or query, with the session length it was minted for."""
    mint = Mint(frozenset({"key"}))
    token = issued(mint, max_session_duration_seconds="90")
    assert token.startswith("AQI")
    assert 2400 < len(token) < 2700
    assert mint.admit(token, None, NOW + 60) == 90
    assert mint.admit(None, token, NOW) == 90
    assert mint.admit(issued(mint), None, NOW) == 10800
    with pytest.raises(Refusal, match="Unauthorized Connection: Signature has expired"):
        mint.admit(token, None, NOW + 61)


@pytest.mark.parametrize(
    ("authorization", "token", "text"),
    [
        (None, None, "Missing Authorization header"),
        ("", None, "Missing Authorization header"),
        ("Bearer key", None, "Invalid API key"),
        ("None", None, "Invalid API key"),
        ("other", None, "Invalid API key"),
        (None, "key", "Invalid API key"),
        ("AQIforged.signature", None, "Invalid API key"),
        ("AQI", None, "Invalid API key"),
        ("AQIé.é", None, "Invalid API key"),
    ],
)
def test_what_is_not_admitted(authorization: str | None, token: str | None, text: str) -> None:
    """1008 with the live service's words."""
    with pytest.raises(Refusal) as refusal:
        Mint(frozenset({"key"})).admit(authorization, token, NOW)
    assert (refusal.value.code, refusal.value.text) == (1008, f"Unauthorized Connection: {text}")


def test_any_key_where_none_is_named() -> None:
    """Out of the box every key is good, except the SDK's "None"."""
    assert Mint().admit("whatever", None, NOW) == 10800
    with pytest.raises(Refusal):
        Mint().admit("None", None, NOW)


@pytest.mark.parametrize(
    ("query", "kind", "context"),
    [
        ({}, "missing", None),
        ({"expires_in_seconds": "soon"}, "int_parsing", None),
        ({"expires_in_seconds": "0"}, "greater_than_equal", {"ge": 1}),
        ({"expires_in_seconds": "601"}, "less_than_equal", {"le": 600}),
        ({"expires_in_seconds": "60", "max_session_duration_seconds": "59"}, "greater_than_equal", {"ge": 60}),
        ({"expires_in_seconds": "60", "max_session_duration_seconds": "10801"}, "less_than_equal", {"le": 10800}),
    ],
)
def test_bad_requests_are_answered_as_fastapi_does(query: dict[str, str], kind: str, context: Any) -> None:
    """HTTP 422 with `type`, `loc`, `msg`, `input`, `ctx`."""
    status, body = Mint().issue(query, "key", NOW)
    [detail] = body["detail"]
    assert (status, detail["type"], detail.get("ctx")) == (422, kind, context)
    assert detail["loc"][0] == "query"
    assert detail["msg"]


def test_a_missing_header_is_a_422_too() -> None:
    """As on the live service; a key that is not known is 401, and "Bearer" is tolerated here."""
    status, body = Mint().issue({"expires_in_seconds": "1"}, None, NOW)
    assert (status, body["detail"][0]["loc"]) == (422, ["header", "authorization"])
    mint = Mint(frozenset({"key"}))
    assert mint.issue({"expires_in_seconds": "1"}, "other", NOW)[0] == 401
    assert mint.issue({"expires_in_seconds": "1"}, "Bearer key", NOW)[0] == 200
