"""Who is let in: each carrier's proof against vectors made elsewhere, and every way to come without it."""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.call import CARRIERS, Carrier
from gateway.media.proof import (
    Admitted,
    Refused,
    admit,
    admit_telnyx_webhook,
    admit_twilio_webhook,
    stream_candidates,
    twilio_signature,
    twilio_signed,
)
from gateway.media.tokens import mint

NOW = 1_800_000_000.0
SECRET = b"s" * 32
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


@dataclass(frozen=True)
class Settings:
    """The part of the settings that proofs need."""

    public_url: str | None = "https://gateway.example.com"
    twilio_auth_tokens: tuple[str, ...] = ("first-auth-token", "second-auth-token")
    telnyx_stream_tokens: tuple[str, ...] = ("telnyx-one", "telnyx-two")
    signalwire_stream_tokens: tuple[str, ...] = ("signalwire-one",)
    token_secrets: tuple[bytes, ...] = (SECRET,)
    telnyx_public_key: bytes | None = KEY.public_key().public_bytes_raw()
    allow_unsigned: bool = False


SHUT = Settings(twilio_auth_tokens=(), telnyx_stream_tokens=(), signalwire_stream_tokens=(), telnyx_public_key=None)


def sign(token: str, text: str) -> str:
    """Twilio's signature by its definition, with nothing of the gateway's."""
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


def knock(
    carrier: Carrier,
    headers: dict[str, str],
    path_token: str | None = None,
    settings: Settings = Settings(),
    query: str = "",
) -> str:
    """`in`, `in unproven`, or the reason of the refusal."""
    path = f"/media/{carrier}" + (f"/{quote(path_token)}" if path_token is not None else "")
    found = admit(carrier, settings, CIMultiDict(headers), path, query, path_token, NOW)
    if isinstance(found, Refused):
        return found.reason
    return "in" if found.proven else "in unproven"


def test_a_handshake_that_twilio_signed() -> None:
    """A published handshake of Twilio's (its token was revoked long ago) verifies with the slash, and only with it."""
    token, signature = "c0e4d9d4fff66d194f3101ccd7c3a38c", "CSS4F/5/iw8S6Zkm3aULeNJaVC8="
    host = "70cd1a93aa44.ngrok-free.app"
    for path in ("", "/"):
        assert twilio_signed([token], signature, stream_candidates(f"https://{host}", path, ""))
    assert not twilio_signed([token], signature, stream_candidates(f"https://{host}", "/media", ""))
    assert not twilio_signed([token], signature, [f"wss://{host}", f"https://{host}/", f"wss://{host}:443/"])


def test_a_form_that_twilio_s_documentation_signs() -> None:
    """The example of Twilio's documentation verifies, query and sorted form included."""
    form = {
        "Digits": "1234",
        "To": "+18005551212",
        "From": "+14158675309",
        "Caller": "+14158675309",
        "CallSid": "CA1234567890ABCDE",
    }
    settings = Settings(public_url="https://mycompany.com", twilio_auth_tokens=("12345",))
    headers = {"X-Twilio-Signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8="}
    assert admit_twilio_webhook(settings, headers, "/myapp.php", "foo=1&bar=2", form.items()) == Admitted()
    assert admit_twilio_webhook(settings, headers, "/myapp.php", "foo=1", form.items()) == Refused("bad_signature")
    assert admit_twilio_webhook(settings, headers, "/myapp.php", "foo=1&bar=2", []) == Refused("bad_signature")


BASE = "wss://gateway.example.com"


@pytest.mark.parametrize(
    ("signature", "verdict"),
    [
        (None, "no_proof"),
        ("", "no_proof"),
        ("é" * 28, "bad_signature"),
        ("\udcff" * 28, "bad_signature"),
        (sign("first-auth-token", BASE + "/media/twilio"), "in"),
        (sign("second-auth-token", BASE + "/media/twilio"), "in"),
        (sign("first-auth-token", BASE + ":443/media/twilio"), "in"),
        (sign("third-auth-token", BASE + "/media/twilio"), "bad_signature"),
        (sign("", BASE + "/media/twilio"), "bad_signature"),
        (sign("first-auth-token", BASE + "/media/telnyx"), "bad_signature"),
        (sign("first-auth-token", BASE + "/media/twilio/"), "bad_signature"),
        (sign("first-auth-token", "https://gateway.example.com/media/twilio"), "bad_signature"),
        (sign("first-auth-token", "wss://evil.example.com/media/twilio"), "bad_signature"),
    ],
)
def test_twilio_s_signature(signature: str | None, verdict: str) -> None:
    """Every configured token's signature over the public wss address, and nothing else."""
    headers = {"Host": "evil.example.com", "X-Forwarded-Host": "evil.example.com"}
    assert knock("twilio", headers | ({"x-twilio-signature": signature} if signature is not None else {})) == verdict


@pytest.mark.parametrize("port", ["", ":8443", ":443"])
def test_ports(port: str) -> None:
    """A configured port may be signed or left out; a port that is not configured is not signed."""
    settings = Settings(public_url=f"https://gateway.example.com{port}")
    for signed, verdict in ((port, "in"), ("", "in"), (":9999", "bad_signature")):
        headers = {"X-Twilio-Signature": sign("first-auth-token", f"{BASE}{signed}/media/twilio")}
        assert knock("twilio", headers, settings=settings) == verdict


def test_a_public_path_and_ipv6() -> None:
    """A base with a path keeps it; brackets of an IPv6 address survive."""
    assert stream_candidates("https://h.example/base", "/media/twilio", "")[0] == "wss://h.example/base/media/twilio"
    assert stream_candidates("https://[2001:db8::1]:8443", "/m", "") == [
        "wss://[2001:db8::1]:8443/m",
        "wss://[2001:db8::1]/m",
    ]


@pytest.mark.parametrize("text", [BASE + "/media/twilio?b=2&a=1", BASE + "/media/twilio" + "a1b2"])
def test_a_query_is_signed_either_way(text: str) -> None:
    """As part of the address, or as fields behind it: both have been seen."""
    assert knock("twilio", {"X-Twilio-Signature": sign("first-auth-token", text)}, query="b=2&a=1") == "in"
    assert knock("twilio", {"X-Twilio-Signature": sign("first-auth-token", text)}, query="b=2&a=3") == "bad_signature"


def test_twilio_wants_signature_and_path_token() -> None:
    """A path token that came must be valid, and does not stand for the signature; its call is handed on."""
    good = mint(SECRET, "twilio", "CA1", NOW + 60)
    signed = {
        token: {"X-Twilio-Signature": sign("first-auth-token", f"{BASE}/media/twilio/{token}")}
        for token in (good, "nonsense")
    }
    assert knock("twilio", signed["nonsense"], "nonsense") == "bad_token"
    assert knock("twilio", signed[good], good) == "in"
    assert knock("twilio", {}, good) == "no_proof"
    late = mint(SECRET, "twilio", "CA1", NOW - 1)
    assert (
        knock("twilio", {"X-Twilio-Signature": sign("first-auth-token", f"{BASE}/media/twilio/{late}")}, late)
        == "expired_token"
    )
    found = admit("twilio", Settings(), signed[good], f"/media/twilio/{good}", "", good, NOW)
    assert isinstance(found, Admitted)
    assert found.token is not None
    assert (found.token.allows("CA1"), found.token.allows("CA2")) == (True, False)


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({}, "no_proof"),
        ({"x-telnyx-streaming-auth-token": ""}, "no_proof"),
        ({"x-telnyx-streaming-auth-token": "nope"}, "bad_token"),
        ({"x-telnyx-streaming-auth-token": "telnyx-on"}, "bad_token"),
        ({"x-telnyx-streaming-auth-token": "telnyx-one"}, "in"),
        ({"X-Telnyx-Streaming-Auth-Token": "telnyx-two"}, "in"),
        ({"x-telnyx-streaming-auth-token": "Bearer telnyx-one"}, "in"),
        ({"Authorization": "Bearer telnyx-one"}, "in"),
        ({"Authorization": "telnyx-one"}, "in"),
        ({"Authorization": "Bearer "}, "bad_token"),
        ({"Authorization": "Bearer \udcff"}, "bad_token"),
        ({"X-Twilio-Signature": sign("first-auth-token", BASE + "/media/telnyx")}, "no_proof"),
    ],
)
def test_telnyx_stream_tokens(headers: dict[str, str], verdict: str) -> None:
    """Raw or as bearer, in Telnyx's own header or in Authorization: one of the configured tokens, whole."""
    assert knock("telnyx", headers) == verdict


def test_telnyx_path_tokens() -> None:
    """In the path a stream token or a call-bound one; made-up ones are refused whatever the header says."""
    assert knock("telnyx", {}, "telnyx-two") == "in"
    assert knock("telnyx", {}, mint(SECRET, "telnyx", "v3:1", NOW + 60)) == "in"
    assert knock("telnyx", {}, mint(SECRET, "twilio", "v3:1", NOW + 60)) == "bad_token"
    assert knock("telnyx", {}, mint(SECRET, "telnyx", "v3:1", NOW - 1)) == "expired_token"
    for token in ("nonsense", "", "é"):
        assert knock("telnyx", {"x-telnyx-streaming-auth-token": "telnyx-one"}, token) == "bad_token"


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({}, "no_proof"),
        ({"Authorization": "Bearer signalwire-one"}, "in"),
        ({"Authorization": "bearer  signalwire-one"}, "in"),
        ({"Authorization": "signalwire-one"}, "bad_token"),
        ({"Authorization": "Bearer telnyx-one"}, "bad_token"),
        ({"x-telnyx-streaming-auth-token": "signalwire-one"}, "no_proof"),
    ],
)
def test_signalwire_bearer_tokens(headers: dict[str, str], verdict: str) -> None:
    """SignalWire sends `Authorization: Bearer`; its stream tokens do not go into the path."""
    assert knock("signalwire", headers) == verdict
    assert knock("signalwire", {}, "signalwire-one") == "bad_token"
    assert knock("signalwire", {}, mint(SECRET, "signalwire", "uuid", NOW + 60)) == "in"


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_route_without_proof_is_shut(carrier: Carrier) -> None:
    """With nothing configured every handshake is refused, an empty secret's proof included."""
    for headers in ({}, {"X-Twilio-Signature": sign("", f"{BASE}/media/{carrier}")}, {"Authorization": "Bearer "}):
        assert knock(carrier, headers, settings=SHUT) == "not_configured"
    assert knock("twilio", {"X-Twilio-Signature": "x"}, settings=Settings(public_url=None)) == "not_configured"


@pytest.mark.parametrize("carrier", CARRIERS)
def test_unsigned_may_be_allowed(carrier: Carrier) -> None:
    """Then who shows nothing is let in, unproven; who shows something wrong is still refused."""
    for settings in (Settings(allow_unsigned=True), Settings((None), (), (), (), allow_unsigned=True)):
        assert knock(carrier, {}, settings=settings) == "in unproven"
        assert knock(carrier, {}, "nonsense", settings=settings) == "bad_token"
    wrong = {"X-Twilio-Signature": "x", "Authorization": "Bearer x"}
    assert knock(carrier, wrong, settings=Settings(allow_unsigned=True)).startswith("bad_")


def telnyx_headers(body: bytes, sent_at: str, key: Ed25519PrivateKey = KEY) -> dict[str, str]:
    """What Telnyx's webhooks carry."""
    seal = base64.b64encode(key.sign(f"{sent_at}|".encode() + body)).decode()
    return {"telnyx-signature-ed25519": seal, "telnyx-timestamp": sent_at}


def test_telnyx_webhooks() -> None:
    """Ed25519 over timestamp and raw body, five minutes either way."""
    body, now = b'{"data": {}}', str(int(NOW))
    good = telnyx_headers(body, now)
    verdicts = {
        "right": admit_telnyx_webhook(Settings(), good, body, NOW),
        "five minutes late": admit_telnyx_webhook(Settings(), good, body, NOW + 300),
        "later": admit_telnyx_webhook(Settings(), good, body, NOW + 301),
        "from the future": admit_telnyx_webhook(Settings(), good, body, NOW - 301),
        "another body": admit_telnyx_webhook(Settings(), good, b'{"data":{}}', NOW),
        "another time": admit_telnyx_webhook(Settings(), {**good, "telnyx-timestamp": str(int(NOW) + 1)}, body, NOW),
        "another key": admit_telnyx_webhook(
            Settings(), telnyx_headers(body, now, Ed25519PrivateKey.from_private_bytes(b"x" * 32)), body, NOW
        ),
        "no signature": admit_telnyx_webhook(Settings(), {"telnyx-timestamp": now}, body, NOW),
        "no time": admit_telnyx_webhook(Settings(), {"telnyx-signature-ed25519": "x"}, body, NOW),
        "no base64": admit_telnyx_webhook(Settings(), {**good, "telnyx-signature-ed25519": "é"}, body, NOW),
        "short": admit_telnyx_webhook(Settings(), {**good, "telnyx-signature-ed25519": "YQ=="}, body, NOW),
        "odd time": admit_telnyx_webhook(Settings(), telnyx_headers(body, "-1"), body, NOW),
        "long time": admit_telnyx_webhook(Settings(), telnyx_headers(body, "9" * 400), body, NOW),
        "unwritable time": admit_telnyx_webhook(Settings(), {**good, "telnyx-timestamp": "\udcff"}, body, NOW),
        "no key": admit_telnyx_webhook(SHUT, good, body, NOW),
    }
    refusals = {name: found.reason for name, found in verdicts.items() if isinstance(found, Refused)}
    assert refusals == {
        "later": "stale_timestamp",
        "from the future": "stale_timestamp",
        "another body": "bad_signature",
        "another time": "bad_signature",
        "another key": "bad_signature",
        "no signature": "no_proof",
        "no time": "no_proof",
        "no base64": "bad_signature",
        "short": "bad_signature",
        "odd time": "stale_timestamp",
        "long time": "stale_timestamp",
        "unwritable time": "bad_signature",
        "no key": "not_configured",
    }


def test_webhooks_without_proof() -> None:
    """Unsigned webhooks pass only where that is allowed, and then as unproven; wrong signatures never."""
    opened = Settings(allow_unsigned=True)
    assert admit_twilio_webhook(opened, {}, "/twilio/voice", "", []) == Admitted(proven=False)
    assert admit_telnyx_webhook(opened, {}, b"", NOW) == Admitted(proven=False)
    assert admit_twilio_webhook(opened, {"X-Twilio-Signature": "x"}, "/twilio/voice", "", []) == Refused(
        "bad_signature"
    )
    nothing = Settings(twilio_auth_tokens=(), telnyx_public_key=None, allow_unsigned=True)
    assert admit_twilio_webhook(nothing, {}, "/twilio/voice", "", []) == Admitted(proven=False)
    assert admit_telnyx_webhook(nothing, {}, b"", NOW) == Admitted(proven=False)
    assert admit_twilio_webhook(Settings(), {}, "/twilio/voice", "", []) == Refused("no_proof")
    assert admit_twilio_webhook(SHUT, {}, "/twilio/voice", "", []) == Refused("not_configured")


def test_form_fields_of_one_name() -> None:
    """Fields are sorted by name, then by value, each pair once, as Twilio's own library has it."""
    text = "https://gateway.example.com/twilio/voice" + "A1" + "B1" + "B2"
    headers = {"X-Twilio-Signature": sign("first-auth-token", text)}
    form = [("B", "2"), ("A", "1"), ("B", "1"), ("B", "2")]
    assert admit_twilio_webhook(Settings(), headers, "/twilio/voice", "", form) == Admitted()


@given(
    st.dictionaries(
        st.sampled_from(["X-Twilio-Signature", "Authorization", "x-telnyx-streaming-auth-token"]), st.text()
    ),
    st.none() | st.text(),
    st.text(),
)
def test_any_header_is_an_admission(headers: dict[str, str], path_token: str | None, query: str) -> None:
    """Whatever stands in headers, path and query, the answer is a value, and nobody gets in by chance."""
    for carrier in CARRIERS:
        found = admit(carrier, Settings(), CIMultiDict(headers), "/media/x", query, path_token, NOW)
        assert isinstance(found, Refused)


def test_the_signature_s_own_function() -> None:
    """The gateway's signing agrees with the definition."""
    assert twilio_signature("t", "wss://x/") == sign("t", "wss://x/")
