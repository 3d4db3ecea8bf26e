"""
Standard Webhooks 1.0.0, symmetric scheme `v1`: HMAC-SHA256 over `id.timestamp.body`, base64, one signature a secret.

The bytes that are signed are the bytes that are sent. Secrets are `whsec_` and the base64 of 24 to 64 bytes.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable

PREFIX = "whsec_"


def parse_secret(text: str) -> bytes:
    """
    Read a secret as customers write it (`whsec_…`; the prefix and the padding may be missing) into its key.

    Raises:
        ValueError: If it is not base64, or the key has not 24 to 64 bytes. The message never holds the secret.

    """
    encoded = text.strip().removeprefix(PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        raise ValueError("a webhook secret is `whsec_` followed by base64") from None
    if not 24 <= len(key) <= 64:
        raise ValueError(f"a webhook secret holds 24 to 64 bytes, not {len(key)}")
    return key


def sign(keys: Iterable[bytes], webhook_id: str, timestamp: int, body: bytes) -> str:
    """Make the value of `webhook-signature`: every key's signature in the order given (newest first), separated by spaces."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    return " ".join("v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)


def headers(keys: Iterable[bytes], webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Make the headers of one attempt; `timestamp` is the attempt's, in epoch seconds."""
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(keys, webhook_id, timestamp, body),
        "content-type": "application/json",
    }
