"""
Call-bound path tokens: proof in a URL that is good for one call of one carrier, for a while.

    token = base64url( carrier 1 byte | expiry 6 bytes | digest of the call's id 16 bytes | HMAC-SHA256 of all before, 16 bytes )

The carriers' own proofs are good for every call: Twilio's signature of an address never changes, a stream token is a
password. A path token is checked twice: at the handshake, and against the call that the stream's `start` names.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from gateway.call import Carrier

TWILIO_SECONDS: Final = 60
"""Twilio opens the stream at once and never reconnects. Telnyx does: its tokens live as long as a call may."""

TokenFault = Literal["bad_token", "expired_token"]

_CODES: Final[dict[Carrier, bytes]] = {"twilio": b"\x01", "telnyx": b"\x02", "signalwire": b"\x03"}
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]{52}")  # 39 bytes: no padding and one spelling only
_CLAIM: Final = 23
_DOMAIN: Final = b"gateway path token 1\x00"
_LATEST: Final = 2**48 - 1


class BoundToken(msgspec.Struct, frozen=True):
    """A valid path token: which call it is good for."""

    digest: bytes

    def allows(self, call_id: str) -> bool:
        """Whether the stream of this call may come with it."""
        return hmac.compare_digest(self.digest, _digest(call_id))


def mint(secret: bytes, carrier: Carrier, call_id: str, expires_at: float) -> str:
    """A token for the path of *carrier*'s media route; *expires_at* in seconds of the epoch."""
    expiry = min(max(int(expires_at), 0), _LATEST)
    claim = _CODES[carrier] + expiry.to_bytes(6, "big") + _digest(call_id)
    return urlsafe_b64encode(claim + _seal(secret, claim)).decode()


def verify(secrets: Sequence[bytes], carrier: Carrier, token: str, now: float) -> BoundToken | TokenFault:
    """What a path token is good for, or why it is good for nothing; any of *secrets* may have made it."""
    if not _SHAPE.fullmatch(token):
        return "bad_token"
    data = urlsafe_b64decode(token)
    claim, seal = data[:_CLAIM], data[_CLAIM:]
    genuine = [hmac.compare_digest(_seal(secret, claim), seal) for secret in secrets]
    if not any(genuine) or claim[:1] != _CODES[carrier]:
        return "bad_token"
    if now > int.from_bytes(claim[1:7], "big"):
        return "expired_token"
    return BoundToken(claim[7:])


def _seal(secret: bytes, claim: bytes) -> bytes:
    return hmac.digest(secret, _DOMAIN + claim, "sha256")[:16]


def _digest(call_id: str) -> bytes:
    return hashlib.sha256(call_id.encode(errors="surrogatepass")).digest()[:16]
