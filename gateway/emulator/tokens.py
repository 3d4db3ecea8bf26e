"""`GET /v3/token`: temporary tokens, signed by this service, and the live service's way of refusing (HTTP 422, FastAPI)."""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from typing import Any, Final

from gateway.emulator.parameters import Refusal

PREFIX: Final = "AQI"
LONGEST_SECONDS: Final = 10800
_PADDING_BYTES: Final = 900
"""Live tokens are some 2583 characters long; with them the upgrade request passes 2.5 kB, and so with ours."""

_UNAUTHORIZED: Final = "Unauthorized Connection: "


class Mint:
    """
    Issues tokens and reads them again.

    *keys* are the API keys this account has; None takes any that is not empty.
    """

    def __init__(self, keys: frozenset[str] | None = None) -> None:
        self._keys = keys
        self._secret = secrets.token_bytes(32)

    def issue(self, query: Mapping[str, str], authorization: str | None, now: float) -> tuple[int, dict[str, Any]]:
        """Status and body of `GET /v3/token`. *now* is in Unix seconds."""
        details: list[dict[str, Any]] = []
        if authorization is None:
            details.append(_missing("header", "authorization"))
        expires = _bounded(query, "expires_in_seconds", (1, 600), None, details)
        longest = _bounded(query, "max_session_duration_seconds", (60, LONGEST_SECONDS), LONGEST_SECONDS, details)
        if details or authorization is None:
            return 422, {"detail": details}
        if not self._knows(authorization.removeprefix("Bearer ")):  # this endpoint alone tolerates "Bearer"
            return 401, {"error": "Unauthorized", "code": 401, "details": "Invalid API key"}
        claims = json.dumps({"exp": now + expires, "cap": longest, "padding": secrets.token_hex(_PADDING_BYTES)})
        body = base64.urlsafe_b64encode(claims.encode()).decode().rstrip("=")
        return 200, {"token": f"{PREFIX}{body}.{self._signature(body)}", "expires_in_seconds": expires}

    def admit(self, authorization: str | None, token: str | None, now: float) -> int:
        """
        The longest session, in seconds, that these credentials allow.

        Raises:
            Refusal: With code 1008.
        """
        credential = token or authorization
        if not credential:
            raise Refusal(1008, _UNAUTHORIZED + "Missing Authorization header")
        if credential.startswith(PREFIX):
            body, _, signature = credential.removeprefix(PREFIX).partition(".")
            if not hmac.compare_digest(signature.encode(), self._signature(body).encode()):
                raise Refusal(1008, _UNAUTHORIZED + "Invalid API key")
            claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
            if claims["exp"] < now:
                raise Refusal(1008, _UNAUTHORIZED + "Signature has expired")
            return int(claims["cap"])
        # "Authorization: None" is what the SDK sends where it was given neither key nor token.
        if token or " " in credential or credential == "None" or not self._knows(credential):
            raise Refusal(1008, _UNAUTHORIZED + "Invalid API key")
        return LONGEST_SECONDS

    def _knows(self, key: str) -> bool:
        if self._keys is None:
            return bool(key.strip())
        return any(hmac.compare_digest(key.encode(), known.encode()) for known in self._keys)

    def _signature(self, body: str) -> str:
        return hmac.new(self._secret, body.encode(), hashlib.sha256).hexdigest()


def _missing(where: str, name: str) -> dict[str, Any]:
    return {"type": "missing", "loc": [where, name], "msg": "Field required", "input": None}


def _bounded(
    query: Mapping[str, str], name: str, bounds: tuple[int, int], default: int | None, details: list[dict[str, Any]]
) -> int:
    """The number, or a detail more."""
    low, high = bounds
    text = query.get(name)
    if text is None:
        if default is None:
            details.append(_missing("query", name))
        return default or 0
    where = {"loc": ["query", name], "input": text}
    try:
        value = int(text)
    except ValueError:
        message = "Input should be a valid integer, unable to parse string as an integer"
        details.append({"type": "int_parsing", **where, "msg": message})
        return 0
    if value < low:
        message = f"Input should be greater than or equal to {low}"
        details.append({"type": "greater_than_equal", **where, "msg": message, "ctx": {"ge": low}})
    elif value > high:
        message = f"Input should be less than or equal to {high}"
        details.append({"type": "less_than_equal", **where, "msg": message, "ctx": {"le": high}})
    return value
