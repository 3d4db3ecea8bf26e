"""Signatures, checked by an independent library."""

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway.webhooks.signing import headers, parse_secret, sign
from tests.fakes.endpoint import new_secret

NOW = 1_700_000_000


@given(body=st.dictionaries(st.text(), st.text()), count=st.integers(1, 3))
def test_every_secret_signs(body: dict[str, str], count: int) -> None:
    """Each secret's signature verifies by itself and within the list, which is in the secrets' order."""
    said = json.dumps(body).encode()
    secrets = [new_secret() for _ in range(count)]
    made = headers([parse_secret(secret) for secret in secrets], "msg_1", int(time.time()), said)
    for secret, signature in zip(secrets, made["webhook-signature"].split(" "), strict=True):
        assert Webhook(secret).verify(said, made) == body
        assert Webhook(secret).verify(said, made | {"webhook-signature": signature}) == body
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(said + b" ", made)


def test_the_published_example() -> None:
    """The signature of the specification's own example comes out."""
    key = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

    assert (
        sign([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


@pytest.mark.parametrize("secret", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", " MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"])
def test_a_secret_is_read_with_or_without_its_prefix(secret: str) -> None:
    """Prefix and surrounding space do not change the key."""
    assert len(parse_secret(secret)) == 24


def test_padding_may_be_missing() -> None:
    """A key whose base64 was stripped of its padding is the same key."""
    assert parse_secret("whsec_" + base64.b64encode(b"k" * 25).decode().rstrip("=")) == b"k" * 25


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_%%%",
        "whsec_" + base64.b64encode(b"short").decode(),
        "whsec_" + base64.b64encode(b"k" * 65).decode(),
    ],
)
def test_a_secret_that_is_none_is_refused(secret: str) -> None:
    """What is not base64 of 24 to 64 bytes is a ValueError that does not repeat it."""
    with pytest.raises(ValueError, match="webhook secret") as caught:
        parse_secret(secret)

    assert secret.removeprefix("whsec_") not in str(caught.value) or not secret.removeprefix("whsec_")
