"""Reading: the environment over the file, every check, every fault."""

import base64
import binascii
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from assemblyai.streaming.v3.models import SpeechModel

from gateway.config import addresses, profiles
from gateway.config.settings import DEFAULT_EVENTS, EVENT_TYPES, Settings
from gateway.config.values import PREFIX, Findings, Written, as_number, nearest, variable
from gateway.cost import DEFAULT_RATES
from gateway.errors import ConfigurationFault

STORE: Final = "sqlite:///gateway.db"
SECRET_BYTES: Final = range(24, 65)  # Standard Webhooks: 24 to 64 bytes
TOKEN_SECRET_BYTES: Final = 16


def load(environ: Mapping[str, str]) -> Settings:
    """
    The settings that *environ*, and the TOML file it names by `GATEWAY_CONFIG`, make together.

    Raises:
        ConfigurationFault: Something cannot be used. Its `faults` hold one sentence for each, all of them, no secrets.
    """
    findings = Findings()
    faults, warnings = findings.faults, findings.warnings
    table = _file(environ.get("GATEWAY_CONFIG", "").strip(), faults)
    written = Written(environ, table, findings)
    settings = _settings(written, table)
    known = written.read | {"profiles", "rates"}
    faults += [
        f"{key} in the configuration file is not a setting{nearest(key, known)}" for key in table if key not in known
    ]
    if faults:
        raise ConfigurationFault(faults)
    variables = {variable(name) for name in written.read} | {"GATEWAY_CONFIG"}
    warnings += [
        f"{name} is not a setting{nearest(name, variables)}" for name in sorted(environ) if _stray(name, variables)
    ]
    return replace(settings, warnings=(*_doubts(settings), *warnings))


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """The part of the settings that minting a path token needs."""

    secrets: tuple[bytes, ...] = field(repr=False)
    random: bool
    max_call_seconds: float


def load_tokens(environ: Mapping[str, str]) -> TokenSettings:
    """
    The settings of the path tokens alone: a machine that mints them needs no other.

    Raises:
        ConfigurationFault: As `load` does.
    """
    findings = Findings()
    written = Written(environ, _file(environ.get("GATEWAY_CONFIG", "").strip(), findings.faults), findings)
    found, random = _token_secrets(written)
    settings = TokenSettings(found, random, _max_call_seconds(written))
    if findings.faults:
        raise ConfigurationFault(findings.faults)
    return settings


def _token_secrets(written: Written) -> tuple[tuple[bytes, ...], bool]:
    """The secrets, and whether they are made up here."""
    found = tuple(secret.encode() for secret in written.entries("token_secret"))
    return found or (secrets.token_bytes(32),), not found


def _max_call_seconds(written: Written) -> float:
    return written.number("max_call_seconds", 14400, 1, 7 * 86400)


def _file(path: str, faults: list[str]) -> dict[str, Any]:
    if not path:
        return {}
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        # A TOML error's sentence may hold a line of the file; where it stands is enough.
        why = error.strerror if isinstance(error, OSError) else _where(error)
        faults.append(f"GATEWAY_CONFIG names a file that cannot be read: {why}")
        return {}


def _where(error: ValueError) -> str:
    if isinstance(error, UnicodeError):
        return "it is not UTF-8"
    _, at, place = str(error).rpartition("(at ")
    return f"it is not TOML (at {place}" if at else "it is not TOML"


def _stray(name: str, variables: set[str]) -> bool:
    """A variable that looks like ours; Kubernetes sets some of its own for a service that is called gateway."""
    return (
        name.startswith(PREFIX) and name not in variables and not name.startswith(("GATEWAY_SERVICE_", "GATEWAY_PORT_"))
    )


def _settings(written: Written, table: Mapping[str, Any]) -> Settings:
    """What was written; where it is faulty, the fault is kept and a default stands in."""
    cidrs = addresses.cidrs(written)
    public_url = addresses.public_url(written)
    twilio = written.secrets("twilio_auth_tokens")
    if twilio and written.raw("public_url")[0] is None:
        written.fault("GATEWAY_PUBLIC_URL is required with GATEWAY_TWILIO_AUTH_TOKENS: Twilio signs the public URL")
    token_secrets, token_secret_is_random = _token_secrets(written)
    telnyx_public_key = _public_key(written)
    allow_unsigned = written.flag("allow_unsigned")
    in_kubernetes = "; Kubernetes sets GATEWAY_PORT for a service called gateway: set enableServiceLinks: false"
    port_said = str(written.raw("port")[0] or "")
    return Settings(
        host=written.text("host") or "0.0.0.0",  # noqa: S104  carriers connect from anywhere
        port=written.integer("port", 8080, 0, 65535, in_kubernetes if port_said.startswith("tcp://") else ""),
        admin_host=written.text("admin_host") or "127.0.0.1",
        admin_port=written.integer("admin_port", 8081, 0, 65535),
        public_url=public_url,
        api_key=_api_key(written),
        assemblyai_url=addresses.assemblyai_url(written),
        twilio_auth_tokens=twilio,
        telnyx_stream_tokens=written.secrets("telnyx_stream_tokens"),
        signalwire_stream_tokens=written.secrets("signalwire_stream_tokens"),
        token_secrets=token_secrets,
        token_secret_is_random=token_secret_is_random,
        telnyx_public_key=telnyx_public_key,
        allow_unsigned=allow_unsigned,
        api_tokens=written.secrets("api_tokens"),
        webhook_url=addresses.webhook_url(written, cidrs),
        webhook_secrets=_webhook_secrets(written),
        webhook_events=_webhook_events(written),
        webhook_allow_cidrs=cidrs,
        store_path=_store_path(written),
        media_timeout_seconds=written.number("media_timeout_seconds", 30, 0.1, 86400),
        reconnect_seconds=written.number("reconnect_seconds", 5, 0, 3600),
        max_call_seconds=_max_call_seconds(written),
        terminate_seconds=written.number("terminate_seconds", 12, 0.1, 600),
        sessions_per_minute=written.integer("sessions_per_minute", 100, 1, 1_000_000),
        replay_seconds=written.number("replay_seconds", 60, 1, 3600),
        session_tokens=written.flag("session_tokens"),
        keep_days=written.number("keep_days", 7, 0, 3650),
        budget_usd_per_day=written.optional_number("budget_usd_per_day", 0, 1e9),
        drain_seconds=written.number("drain_seconds", 120, 0, 86400),
        rates=_rates(table.get("rates"), written.findings.faults),
        profiles=profiles.read(
            table.get("profiles"),
            lambda url, label: addresses.delivery_url(url, label, cidrs, written.findings.faults),
            written.findings,
        ),
        warnings=(),
    )


def _doubts(settings: Settings) -> tuple[str, ...]:
    """What works but is probably not meant."""
    mints = bool(settings.public_url) and bool(settings.twilio_auth_tokens or settings.telnyx_public_key)
    found = {
        "GATEWAY_ALLOW_UNSIGNED=1: whoever shows no proof is admitted as a carrier, and anybody may spend money here": settings.allow_unsigned,
        "GATEWAY_TOKEN_SECRET is not set: call-bound path tokens are void after a restart, and other instances refuse them": (
            settings.token_secret_is_random and mints
        ),
        f"GATEWAY_TOKEN_SECRET holds an entry shorter than {TOKEN_SECRET_BYTES} bytes": any(
            len(secret) < TOKEN_SECRET_BYTES for secret in settings.token_secrets
        ),
        "GATEWAY_TELNYX_PUBLIC_KEY without GATEWAY_PUBLIC_URL: /telnyx/voice cannot say where the stream goes": bool(
            settings.telnyx_public_key and not settings.public_url
        ),
        "no carrier is let in: set GATEWAY_TWILIO_AUTH_TOKENS, GATEWAY_TELNYX_STREAM_TOKENS or GATEWAY_SIGNALWIRE_STREAM_TOKENS": not (
            settings.allow_unsigned
            or settings.twilio_auth_tokens
            or settings.telnyx_stream_tokens
            or settings.telnyx_public_key
            or settings.signalwire_stream_tokens
        ),
    }
    return tuple(sentence for sentence, holds in found.items() if holds)


def _api_key(written: Written) -> str:
    key = written.text("assemblyai_api_key")
    if key is None:
        if written.raw("assemblyai_api_key")[0] is None:
            written.fault("ASSEMBLYAI_API_KEY is required: the raw key of the AssemblyAI account")
        return ""
    if not key.isascii() or " " in key:
        written.fault("ASSEMBLYAI_API_KEY must be the raw key alone: no scheme such as Bearer, no spaces")
    return key


def _webhook_secrets(written: Written) -> tuple[str, ...]:
    found = written.secrets("webhook_secrets")
    label = written.raw("webhook_secrets")[1]
    if not found and written.raw("webhook_secrets")[0] is None:
        written.fault(
            'GATEWAY_WEBHOOK_SECRETS is required: whsec_ and 24 to 64 random bytes in base64, as "whsec_$(openssl rand -base64 32)" makes'
        )
    elif not found:
        written.fault(f"{label} holds no usable secret")
    for place, secret in enumerate(found, 1):
        try:
            usable = secret.startswith("whsec_") and len(_unbase64(secret.removeprefix("whsec_"))) in SECRET_BYTES
        except binascii.Error:
            usable = False
        if not usable:
            written.fault(f"{label}, entry {place}, must be whsec_ and 24 to 64 bytes in base64")
    return found


def _unbase64(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii"), validate=True)


def _webhook_events(written: Written) -> frozenset[str]:
    found = written.entries("webhook_events")
    label = written.raw("webhook_events")[1]
    for name in found:
        if name not in EVENT_TYPES:
            written.fault(f"{label}: {name[:64]} is no event type{nearest(name, EVENT_TYPES)}")
    return frozenset(found) or DEFAULT_EVENTS


def _public_key(written: Written) -> bytes | None:
    text = written.text("telnyx_public_key")
    if text is None:
        return None
    try:
        key = _unbase64(text)
    except (binascii.Error, UnicodeEncodeError):
        key = b""
    if len(key) != 32:
        written.fault(
            f"{written.raw('telnyx_public_key')[1]} must be the base64 of 32 bytes, as the Telnyx portal shows it"
        )
        return None
    return key


def _store_path(written: Written) -> str:
    url = written.text("store") or STORE
    label = written.raw("store")[1]
    if url.startswith("nats://"):
        written.fault(f"{label}: nats:// is not supported yet; use {STORE}")
        return ""
    path = url.removeprefix("sqlite:///")
    if path == url or not path or path.endswith("/") or path == ":memory:" or "?" in path:
        written.fault(f"{label} must be sqlite:/// and the path of a file: three slashes relative, four absolute")
        return ""
    return path


def _rates(table: object, faults: list[str]) -> Mapping[str, float]:
    if table is None:
        return MappingProxyType({})
    if not isinstance(table, dict):
        faults.append("rates must be a table, written as [rates]")
        return MappingProxyType({})
    known = {*DEFAULT_RATES, *(model.value for model in SpeechModel)}
    found: dict[str, float] = {}
    for name, value in table.items():
        rate = None if isinstance(value, str) else as_number(value)
        if name not in known:
            faults.append(f"rates.{name} is neither a speech model nor an add-on{nearest(name, known)}")
        elif rate is None or not 0 <= rate <= 1000:
            faults.append(f"rates.{name} must be US dollars an hour, from 0 to 1000")
        else:
            found[name] = rate
    return MappingProxyType(found)
