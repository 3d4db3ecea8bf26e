"""
Who may speak to us: each carrier's proof, checked against the configuration alone, never against `Host`.

Twilio signs the public `wss://` address of a stream, and address and form of a webhook, with the account's auth token
(https://www.twilio.com/docs/usage/webhooks/webhooks-security). Telnyx sends the stream's token in a header of its own, and
signs webhooks with Ed25519. SignalWire sends a bearer token. Secrets are compared in constant time, all of them each time.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping
from typing import Final, Literal, Protocol
from urllib.parse import parse_qsl, urlsplit

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.call import Carrier
from gateway.media.tokens import BoundToken, verify

RefusalReason = Literal["no_proof", "bad_signature", "bad_token", "expired_token", "stale_timestamp", "not_configured"]

TELNYX_TOLERANCE_SECONDS: Final = 300
"""How far a Telnyx webhook's timestamp may be from our clock, as its own library has it."""

_DEFAULT_PORT: Final = 443


class Proofs(Protocol):
    """The part of the settings that this file is given."""

    @property
    def public_url(self) -> str | None: ...
    @property
    def twilio_auth_tokens(self) -> tuple[str, ...]: ...
    @property
    def telnyx_stream_tokens(self) -> tuple[str, ...]: ...
    @property
    def signalwire_stream_tokens(self) -> tuple[str, ...]: ...
    @property
    def token_secrets(self) -> tuple[bytes, ...]: ...
    @property
    def telnyx_public_key(self) -> bytes | None: ...
    @property
    def allow_unsigned(self) -> bool: ...


class Admitted(msgspec.Struct, frozen=True):
    """Let in."""

    token: BoundToken | None = None
    """Where a call-bound token came: to be held against the call that `start` names."""
    proven: bool = True
    """False where nothing was shown and `allow_unsigned` let it pass."""


class Refused(msgspec.Struct, frozen=True):
    """HTTP 403, before the upgrade."""

    reason: RefusalReason


Admission = Admitted | Refused


def admit(
    carrier: Carrier,
    settings: Proofs,
    headers: Mapping[str, str],
    raw_path: str,
    query: str,
    path_token: str | None,
    now: float,
) -> Admission:
    """
    Whether a handshake on *carrier*'s media route is let in.

    *raw_path* and *query* are as they came on the wire, undecoded, the query without `?`; *path_token* is the `{token}` of the
    route, decoded, or None on the route without one; *now* is in seconds of the epoch; names in *headers* are found in any case.
    """
    match carrier:
        case "twilio":
            return _twilio(settings, headers.get("X-Twilio-Signature"), raw_path, query, path_token, now)
        case "telnyx":
            said = headers.get("x-telnyx-streaming-auth-token") or headers.get("Authorization")
            return _bearer(carrier, settings, settings.telnyx_stream_tokens, said, path_token, now)
        case "signalwire":
            said = headers.get("Authorization")
            return _bearer(carrier, settings, settings.signalwire_stream_tokens, said, path_token, now)


def _twilio(
    settings: Proofs, signature: str | None, raw_path: str, query: str, path_token: str | None, now: float
) -> Admission:
    """Signature and, where one came, token: the signature of a stream's address stays the same from call to call."""
    token: BoundToken | None = None
    if path_token is not None:
        found = verify(settings.token_secrets, "twilio", path_token, now)
        if not isinstance(found, BoundToken):
            return Refused(found)
        token = found
    if not settings.twilio_auth_tokens or settings.public_url is None:
        return Admitted(token, proven=False) if settings.allow_unsigned else Refused("not_configured")
    if not signature:
        return Admitted(token, proven=False) if settings.allow_unsigned else Refused("no_proof")
    if twilio_signed(settings.twilio_auth_tokens, signature, stream_candidates(settings.public_url, raw_path, query)):
        return Admitted(token)
    return Refused("bad_signature")


def _bearer(
    carrier: Carrier,
    settings: Proofs,
    stream_tokens: tuple[str, ...],
    said: str | None,
    path_token: str | None,
    now: float,
) -> Admission:
    """One proof is enough: the header's token, or the path's; a path token that came must be valid in any case."""
    if path_token is not None:
        if carrier == "telnyx" and _is_one_of(path_token, stream_tokens):
            return Admitted()
        found = verify(settings.token_secrets, carrier, path_token, now)
        return Admitted(found) if isinstance(found, BoundToken) else Refused(found)
    if not stream_tokens:
        return Admitted(proven=False) if settings.allow_unsigned else Refused("not_configured")
    if not said:
        return Admitted(proven=False) if settings.allow_unsigned else Refused("no_proof")
    scheme, _, rest = said.partition(" ")
    shown = rest.strip() if scheme.lower() == "bearer" else said
    if carrier == "signalwire" and scheme.lower() != "bearer":
        return Refused("bad_token")
    return Admitted() if _is_one_of(shown, stream_tokens) else Refused("bad_token")


def admit_twilio_webhook(
    settings: Proofs, headers: Mapping[str, str], raw_path: str, query: str, form: Iterable[tuple[str, str]]
) -> Admission:
    """Whether a form-encoded webhook is Twilio's; arguments as for `admit`, *form* decoded, in any order."""
    if not settings.twilio_auth_tokens or settings.public_url is None:
        return Admitted(proven=False) if settings.allow_unsigned else Refused("not_configured")
    signature = headers.get("X-Twilio-Signature")
    if not signature:
        return Admitted(proven=False) if settings.allow_unsigned else Refused("no_proof")
    text = "".join(name + value for name, value in sorted(set(form)))
    path = f"{raw_path}?{query}" if query else raw_path
    candidates = [base + path + text for base in _bases(settings.public_url)]
    return Admitted() if twilio_signed(settings.twilio_auth_tokens, signature, candidates) else Refused("bad_signature")


def admit_telnyx_webhook(settings: Proofs, headers: Mapping[str, str], body: bytes, now: float) -> Admission:
    """Whether a webhook is Telnyx's: Ed25519 over `{timestamp}|{body}`, the body byte by byte as it came."""
    if settings.telnyx_public_key is None:
        return Admitted(proven=False) if settings.allow_unsigned else Refused("not_configured")
    signature, timestamp = headers.get("telnyx-signature-ed25519"), headers.get("telnyx-timestamp")
    if not signature or not timestamp:
        return Admitted(proven=False) if settings.allow_unsigned else Refused("no_proof")
    try:
        seal = base64.b64decode(signature, validate=True)
        Ed25519PublicKey.from_public_bytes(settings.telnyx_public_key).verify(seal, f"{timestamp}|".encode() + body)
        # Digits only, and not too many: int() would take more than a timestamp.
        sent_at = int(timestamp) if timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16 else -1
    except (binascii.Error, ValueError, InvalidSignature):
        return Refused("bad_signature")
    return Admitted() if abs(now - sent_at) <= TELNYX_TOLERANCE_SECONDS else Refused("stale_timestamp")


def stream_candidates(public_url: str, raw_path: str, query: str) -> list[str]:
    """
    What Twilio may have signed for a stream under *public_url*.

    The scheme is wss, an empty path is signed as `/`, no slash is added to or taken from another; a port may be in it or
    not; a query, which `<Stream url>` does not support, is seen both as part of the address and as form fields behind it.
    """
    urls = ["wss" + base.removeprefix("https") + (raw_path or "/") for base in _bases(public_url)]
    if not query:
        return urls
    fields = "".join(name + value for name, value in sorted(parse_qsl(query, keep_blank_values=True)))
    return [variant for url in urls for variant in (f"{url}?{query}", url + fields)]


def twilio_signature(token: str, text: str) -> str:
    """Twilio's signature over an address with its form fields behind it, sorted: base64 of HMAC-SHA1."""
    return base64.b64encode(hmac.digest(token.encode(), text.encode(errors="surrogatepass"), "sha1")).decode()


def twilio_signed(tokens: Iterable[str], signature: str, candidates: Iterable[str]) -> bool:
    """Whether any of *tokens* signed any of *candidates*."""
    texts = list(candidates)
    return _is_one_of(signature, [twilio_signature(token, text) for token in tokens for text in texts])


def _bases(public_url: str) -> list[str]:
    """The public address as configured, and with the port left out, or named where it is the default."""
    parts = urlsplit(public_url)
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or ""
    netlocs = [parts.netloc, host]
    if parts.port in {None, _DEFAULT_PORT}:
        netlocs.append(f"{host}:{_DEFAULT_PORT}")
    return [f"{parts.scheme}://{netloc}{parts.path}" for netloc in dict.fromkeys(netlocs)]


def _is_one_of(shown: str, secrets: Iterable[str]) -> bool:
    """Constant-time in each comparison and without stopping at the first; a header may hold anything, also no UTF-8."""
    said = shown.encode(errors="surrogatepass")
    matches = [hmac.compare_digest(said, secret.encode(errors="surrogatepass")) for secret in secrets]
    return any(matches)
