"""The settings, whole and checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from gateway.call import CARRIERS, Carrier
from gateway.config.profiles import DEFAULT, Profile, number_key

EVENT_TYPES: Final = (
    "call.started",
    "session.started",
    "session.ended",
    "turn.partial",
    "turn.final",
    "turn.revised",
    "audio.gap",
    "session.zombie",
    "call.ended",
)

DEFAULT_EVENTS: Final = frozenset(EVENT_TYPES) - {"turn.partial"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the gateway was told. Its repr shows no secret."""

    host: str
    port: int
    admin_host: str
    admin_port: int
    public_url: str | None
    """`https://…` without a slash at its end."""
    api_key: str = field(repr=False)
    assemblyai_url: str
    """`wss://…` (or `ws://` to this machine) without path or slash at its end."""
    twilio_auth_tokens: tuple[str, ...] = field(repr=False)
    telnyx_stream_tokens: tuple[str, ...] = field(repr=False)
    signalwire_stream_tokens: tuple[str, ...] = field(repr=False)
    token_secrets: tuple[bytes, ...] = field(repr=False)
    """Keys of the call-bound path tokens: the first signs, all verify. Never empty."""
    token_secret_is_random: bool
    telnyx_public_key: bytes | None = field(repr=False)
    """32 bytes, Ed25519."""
    allow_unsigned: bool
    api_tokens: tuple[str, ...] = field(repr=False)
    webhook_url: str = field(repr=False)
    webhook_secrets: tuple[str, ...] = field(repr=False)
    """Each `whsec_` and base64."""
    webhook_events: frozenset[str]
    webhook_allow_cidrs: tuple[IPv4Network | IPv6Network, ...]
    store_path: str
    """Of the SQLite file, as SQLite opens it."""
    media_timeout_seconds: float
    reconnect_seconds: float
    max_call_seconds: float
    terminate_seconds: float
    sessions_per_minute: int
    replay_seconds: float
    session_tokens: bool
    keep_days: float
    budget_usd_per_day: float | None
    drain_seconds: float
    rates: Mapping[str, float]
    """US dollars an hour, only what the operator wrote; laid over the rate card of `gateway.cost`."""
    profiles: Mapping[str, Profile]
    warnings: tuple[str, ...]
    """One sentence for each thing that works but is probably not meant."""

    def profile_for(self, name: str | None, to: str | None) -> Profile:
        """The profile of a stream: by its parameter, else by the dialled number, else `default`."""
        if name is not None and name in self.profiles:
            return self.profiles[name]
        if to:
            dialled = number_key(to)
            for profile in self.profiles.values():
                if any(number_key(number) == dialled for number in profile.numbers):
                    return profile
        return self.profiles[DEFAULT]

    def proof_of(self, carrier: Carrier) -> str:
        """What a carrier must show on its media route, in words; without any proof, that it is answered 403."""
        match carrier:
            case "twilio":
                proof = (
                    f"X-Twilio-Signature, {_count(self.twilio_auth_tokens, 'auth token')}"
                    if self.twilio_auth_tokens
                    else ""
                )
            case "telnyx":
                proof = (
                    f"stream token, {_count(self.telnyx_stream_tokens, 'token')}" if self.telnyx_stream_tokens else ""
                )
                if self.telnyx_public_key and self.public_url:
                    proof += " or " * bool(proof) + "call-bound path token of /telnyx/voice"
            case "signalwire":
                proof = (
                    f"bearer token, {_count(self.signalwire_stream_tokens, 'token')}"
                    if self.signalwire_stream_tokens
                    else ""
                )
        if self.allow_unsigned:
            return f"{proof}; or NONE AT ALL" if proof else "NONE AT ALL: anybody is admitted"
        return proof or "none configured: every handshake is answered 403"

    def describe(self) -> tuple[str, ...]:
        """What is on and what is missing, a line each, for `gateway check`; never a secret."""
        voice = {
            "/twilio/voice, /twilio/stream-status": bool(self.twilio_auth_tokens and self.public_url),
            "/telnyx/voice": bool(self.telnyx_public_key and self.public_url),
            "/telnyx/events": bool(self.telnyx_public_key),
        }
        lines = [
            f"carriers' port: {self.host}:{self.port}",
            f"admin port: {self.admin_host}:{self.admin_port}",
            f"public URL: {self.public_url or 'missing (GATEWAY_PUBLIC_URL); Twilio signatures and TwiML need it'}",
            *(f"/media/{carrier}: {self.proof_of(carrier)}" for carrier in CARRIERS),
            *(f"{route}: {'signed webhooks' if on else self._webhook_gap(route)}" for route, on in voice.items()),
            f"call-bound path tokens: {self._token_words()}",
            f"speech: {self.assemblyai_url}, API key set{', a temporary token for each session' if self.session_tokens else ''}",
            f"webhooks: {_host_of(self.webhook_url)}, {_count(self.webhook_secrets, 'secret')}, {len(self.webhook_events)} of {len(EVENT_TYPES)} event types",
            f"private webhook ranges: {', '.join(map(str, self.webhook_allow_cidrs)) or 'none'}",
            f"control API, live feed, console: {_count(self.api_tokens, 'token') if self.api_tokens else 'off (GATEWAY_API_TOKENS)'}",
            f"store: sqlite, {self.store_path}, dead letters kept {self.keep_days:g} days",
            f"budget: {'none' if self.budget_usd_per_day is None else f'{self.budget_usd_per_day:g} USD a day'}",
        ]
        for profile in self.profiles.values():
            legs = "; ".join(
                f"{track}: {leg.party}, {leg.speech['speech_model']}, {leg.audio}"
                for track, leg in (("inbound", profile.inbound), ("outbound", profile.outbound))
            )
            lines.append(f"profile {profile.name} ({_count(profile.numbers, 'number')}): {legs}")
        return tuple(lines)

    def _webhook_gap(self, route: str) -> str:
        if self.allow_unsigned:
            return "UNSIGNED: anybody's webhooks are believed"
        missing = "GATEWAY_TWILIO_AUTH_TOKENS" if route.startswith("/twilio") else "GATEWAY_TELNYX_PUBLIC_KEY"
        needs_url = not self.public_url and route != "/telnyx/events"
        return f"off, answered 403 ({missing}{' and GATEWAY_PUBLIC_URL' * needs_url})"

    def _token_words(self) -> str:
        if self.token_secret_is_random:
            return "under a random secret, void after a restart (GATEWAY_TOKEN_SECRET)"
        return _count(self.token_secrets, "secret")


def _count(things: tuple[object, ...], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _host_of(url: str) -> str:
    """Scheme and host alone: the rest of a URL may be a secret."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}"
