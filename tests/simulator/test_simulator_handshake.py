"""What carriers show at the door, held against the gateway's own doorkeeper."""

import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.call import CARRIERS, Carrier
from gateway.config import Settings, load
from gateway.errors import ConfigurationFault
from gateway.media.proof import Admitted, Refused, admit
from gateway.simulator import handshake
from gateway.simulator.handshake import Address, Secrets

ENVIRONMENT = {
    "ASSEMBLYAI_API_KEY": "key",
    "GATEWAY_PUBLIC_URL": "https://voice.example.com/",
    "GATEWAY_TWILIO_AUTH_TOKENS": "first-token,second-token",
    "GATEWAY_TELNYX_STREAM_TOKENS": "telnyx-token",
    "GATEWAY_SIGNALWIRE_STREAM_TOKENS": "signalwire-token",
    "GATEWAY_TOKEN_SECRET": "a-secret-of-some-length, an-older-one-of-some-length",
    "GATEWAY_WEBHOOK_URL": "https://crm.example.com/",
    "GATEWAY_WEBHOOK_SECRETS": "whsec_ZGVtb25zdHJhdGlvbi1vZi1uby1zZWNyZXQtMDEyMw==",
}


def settings() -> Settings:
    """A gateway that wants proof of everybody."""
    return load(ENVIRONMENT)


def judged(carrier: Carrier, address: Address) -> object:
    """What the gateway says of a handshake."""
    path = urlsplit(address.url).path
    token = path.removeprefix(f"/media/{carrier}").removeprefix("/") or None
    headers = {**address.headers, "Authorization": address.headers.get("Authorization", "")}
    return admit(carrier, settings(), headers, path, "", token, time.time())


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("path_token", [False, True])
def test_every_carrier_is_admitted(carrier: Carrier, path_token: bool) -> None:
    """With the secrets of the gateway's own environment, dialled at another address than the public one."""
    secrets = handshake.from_environment(ENVIRONMENT)
    address = secrets.address("ws://127.0.0.1:8080/", carrier, "CA1", path_token=path_token)
    admitted = judged(carrier, address)
    assert isinstance(admitted, Admitted)
    assert admitted.proven
    assert (admitted.token is not None and admitted.token.allows("CA1")) == path_token


@pytest.mark.parametrize("carrier", CARRIERS)
def test_without_secrets_nothing_is_shown(carrier: Carrier) -> None:
    """An address alone, which is refused."""
    address = Secrets().address("ws://127.0.0.1:8080", carrier, "CA1")
    assert address.url == f"ws://127.0.0.1:8080/media/{carrier}"
    assert isinstance(judged(carrier, address), Refused)


def test_the_address_itself_is_signed_where_no_public_one_is_known() -> None:
    """As Twilio would, had it dialled it."""
    secrets = Secrets(twilio_auth_token="first-token")
    shown = secrets.address("wss://voice.example.com", "twilio", "CA1")
    assert isinstance(judged("twilio", shown), Admitted)


def test_a_path_token_needs_a_secret() -> None:
    """Without one it is said what to set."""
    with pytest.raises(ConfigurationFault, match="GATEWAY_TOKEN_SECRET"):
        Secrets().address("ws://127.0.0.1", "twilio", "CA1", path_token=True)


def test_secrets_are_read_from_the_file_as_well(tmp_path: Path) -> None:
    """Where GATEWAY_CONFIG names one; a file that cannot be read is a fault."""
    path = tmp_path / "gateway.toml"
    path.write_text('twilio_auth_tokens = ["from-the-file"]\n')
    assert handshake.from_environment({"GATEWAY_CONFIG": str(path)}).twilio_auth_token == "from-the-file"
    with pytest.raises(ConfigurationFault, match="cannot be read"):
        handshake.from_environment({"GATEWAY_CONFIG": str(tmp_path / "nothing")})


def test_secrets_are_not_shown() -> None:
    """Not in a repr, which ends up in logs."""
    assert "token" not in repr(handshake.from_environment(ENVIRONMENT))
