"""
Where a stream is dialled, and what its carrier shows there: the mirror of `gateway.media.proof`, from the same settings.

Twilio signs the public `wss://` address, whatever address is really dialled; Telnyx and SignalWire bring a token. With
*path_tokens* the call-bound token of `/twilio/voice` and `/telnyx/voice` stands in the path as well.
"""

import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from gateway.call import Carrier
from gateway.config.values import Findings, Written
from gateway.errors import ConfigurationFault
from gateway.media.proof import twilio_signature
from gateway.media.tokens import mint

_TOKEN_SECONDS = 3600.0


class Address(NamedTuple):
    """What is dialled, and the headers shown."""

    url: str
    headers: dict[str, str]


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """What the carriers know: the first of each kind that the gateway would take."""

    public_url: str | None = None
    """`https://…` without a slash at its end."""
    twilio_auth_token: str | None = None
    telnyx_stream_token: str | None = None
    signalwire_stream_token: str | None = None
    token_secret: bytes | None = None

    def __repr__(self) -> str:
        return "Secrets(…)"

    def address(self, base: str, carrier: Carrier, call_id: str, *, path_token: bool = False) -> Address:
        """
        The address of a call's streams on the gateway at *base* (`ws://HOST:PORT`), with its proof where there is one.

        Raises:
            ConfigurationFault: A path token is wanted and there is no secret to make it under.
        """
        path = f"/media/{carrier}"
        if path_token:
            if self.token_secret is None:
                raise ConfigurationFault(["path tokens need GATEWAY_TOKEN_SECRET, as the gateway has it"])
            path += "/" + mint(self.token_secret, carrier, call_id, time.time() + _TOKEN_SECONDS)
        base = base.rstrip("/")
        return Address(base + path, self._headers(carrier, base, path))

    def _headers(self, carrier: Carrier, base: str, path: str) -> dict[str, str]:
        match carrier:
            case "twilio":
                headers = {"User-Agent": "Twilio.TmeWs/1.0"}
                if self.twilio_auth_token:
                    public = self.public_url or "https://" + urlsplit(base).netloc
                    signed = "wss" + public.removeprefix("https") + path
                    headers["X-Twilio-Signature"] = twilio_signature(self.twilio_auth_token, signed)
                return headers
            case "telnyx":
                return {"x-telnyx-streaming-auth-token": self.telnyx_stream_token} if self.telnyx_stream_token else {}
            case "signalwire":
                token = self.signalwire_stream_token
                return {"Authorization": f"Bearer {token}"} if token else {}


def from_environment(environ: Mapping[str, str]) -> Secrets:
    """
    Read the few settings that the carriers share with the gateway, from where the gateway reads them.

    Raises:
        ConfigurationFault: One of them cannot be read.
    """
    findings = Findings()
    table: Mapping[str, Any] = {}
    if name := environ.get("GATEWAY_CONFIG", "").strip():
        try:
            table = tomllib.loads(Path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            findings.faults.append("GATEWAY_CONFIG names a file that cannot be read")
    written = Written(environ, table, findings)
    public_url = written.text("public_url")
    twilio, telnyx, signalwire = (
        written.secrets(name) for name in ("twilio_auth_tokens", "telnyx_stream_tokens", "signalwire_stream_tokens")
    )
    secrets = written.entries("token_secret")
    if findings.faults:
        raise ConfigurationFault(findings.faults)
    return Secrets(
        public_url=public_url.rstrip("/") if public_url else None,
        twilio_auth_token=next(iter(twilio), None),
        telnyx_stream_token=next(iter(telnyx), None),
        signalwire_stream_token=next(iter(signalwire), None),
        token_secret=secrets[0].encode() if secrets else None,
    )
