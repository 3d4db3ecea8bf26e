"""Twilio's webhooks over a real socket: signed ones get markup, the others 403."""

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote_plus
from xml.etree import ElementTree as ET

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.call import Carrier
from gateway.config import load
from gateway.http.callbacks import BODY_LIMIT, CarrierEventKind, HandshakeOutcome
from gateway.http.twilio import routes
from gateway.media.proof import Admitted, admit

NOW = 1_800_000_000.0
AUTH = "auth-token-of-twilio"
PUBLIC = "https://gateway.example.com"
FORM = "application/x-www-form-urlencoded"
CALL = "CA" + "1" * 32

TOML = """
[profiles.sales]
numbers = ["+15559870000"]
twiml = "<Say>a &amp; b</Say><Dial callerId='+1'>+15550001111</Dial>"
"""


class Carriers:
    """A served gateway side of the webhooks, and what it was told."""

    def __init__(self, tmp_path: Path, **environ: str) -> None:
        file = tmp_path / "gateway.toml"
        file.write_text(TOML)
        self.settings = load(
            {
                "GATEWAY_CONFIG": str(file),
                "ASSEMBLYAI_API_KEY": "key",
                "GATEWAY_WEBHOOK_URL": "https://crm.example.com",
                "GATEWAY_WEBHOOK_SECRETS": "whsec_" + base64.b64encode(b"s" * 24).decode(),
                "GATEWAY_PUBLIC_URL": PUBLIC,
                "GATEWAY_TWILIO_AUTH_TOKENS": f"another-token,{AUTH}",
                "GATEWAY_TOKEN_SECRET": "token-secret-of-the-test",
                **environ,
            }
        )
        self.events: list[tuple[Carrier, str, str | None, CarrierEventKind]] = []
        self.outcomes: list[tuple[Carrier, HandshakeOutcome]] = []
        app = web.Application()
        app.add_routes(routes(self.settings, self, lambda *outcome: self.outcomes.append(outcome), lambda: NOW))
        self.server = TestServer(app)

    def carrier_event(self, carrier: Carrier, call_id: str, stream_id: str | None, kind: CarrierEventKind) -> None:
        self.events.append((carrier, call_id, stream_id, kind))

    async def post(
        self, path: str, form: dict[str, str], *, token: str | None = AUTH, public: str = PUBLIC
    ) -> tuple[int, bytes, str]:
        """Status, body and content type of a form, signed by definition."""
        body = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in form.items())
        text = public + path + "".join(name + value for name, value in sorted(form.items()))
        headers = {"Content-Type": FORM}
        if token is not None:
            headers["X-Twilio-Signature"] = base64.b64encode(
                hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()
            ).decode()
        return await self.raw(path, body.encode(), headers)

    async def raw(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.server.make_url(path), data=body, headers=headers) as answer,
        ):
            return answer.status, await answer.read(), answer.headers.get("Content-Type", "")


@pytest.fixture
async def carriers(tmp_path: Path) -> AsyncIterator[Carriers]:
    """The webhooks' routes on a free port."""
    served = Carriers(tmp_path)
    async with served.server:
        yield served


async def test_a_signed_voice_webhook_gets_its_profile_s_markup(carriers: Carriers) -> None:
    """The dialled number's profile decides what follows; the stream names us, the parties and a token good for its call."""
    form = {
        "CallSid": CALL,
        "From": '+1312 "Ann" <&>',
        "To": "+15559870000",
        "Direction": "inbound",
        "AccountSid": "AC1",
    }
    status, body, kind = await carriers.post("/twilio/voice", form)
    assert (status, kind) == (200, "text/xml; charset=utf-8")
    response = ET.fromstring(body)
    assert [verb.tag for verb in response] == ["Start", "Say", "Dial"]
    assert (response[1].text, response[2].attrib, response[2].text) == ("a & b", {"callerId": "+1"}, "+15550001111")
    stream = response[0][0]
    base, _, token = stream.attrib["url"].rpartition("/")
    assert (stream.tag, base) == ("Stream", "wss://gateway.example.com/media/twilio")
    assert stream.attrib["track"] == "both_tracks"
    assert stream.attrib["statusCallback"] == f"{PUBLIC}/twilio/stream-status"
    assert stream.attrib["name"]
    assert "codec" not in stream.attrib
    assert {item.attrib["name"]: item.attrib["value"] for item in stream} == {
        "from": form["From"],
        "to": "+15559870000",
        "direction": "inbound",
        "profile": "sales",
    }
    text = f"wss://gateway.example.com/media/twilio/{token}"
    signature = base64.b64encode(hmac.new(AUTH.encode(), text.encode(), hashlib.sha1).digest()).decode()
    for late, verdict in ((60, True), (61, False)):
        found = admit(
            "twilio",
            carriers.settings,
            {"X-Twilio-Signature": signature},
            f"/media/twilio/{token}",
            "",
            token,
            NOW + late,
        )
        assert isinstance(found, Admitted) is verdict
        if isinstance(found, Admitted):
            assert found.token is not None
            assert found.token.allows(CALL)
    assert carriers.outcomes == []


async def test_without_a_profile_the_call_is_held(carriers: Carriers) -> None:
    """A call with nothing after <Start> would be hung up, so a pause follows; missing parties are no parameters."""
    status, body, _ = await carriers.post("/twilio/voice", {"CallSid": CALL, "From": ""})
    response = ET.fromstring(body)
    assert status == 200
    assert [(verb.tag, verb.attrib) for verb in response][1:] == [("Pause", {"length": "14400"})]
    assert [item.attrib["name"] for item in response[0][0]] == ["profile"]


async def test_the_same_call_gets_a_stream_of_the_same_name(carriers: Carriers) -> None:
    """Markup that is run again does not make a second stream under another name."""
    names = {
        ET.fromstring((await carriers.post("/twilio/voice", {"CallSid": CALL}))[1])[0][0].attrib["name"] for _ in "ab"
    }
    assert len(names) == 1


@pytest.mark.parametrize("path", ["/twilio/voice", "/twilio/stream-status"])
async def test_who_is_not_twilio(carriers: Carriers, path: str) -> None:
    """Without a signature, with a wrong one, or with one of another address or form: 403, counted, and nobody is told."""
    form = {"CallSid": CALL, "StreamEvent": "stream-stopped"}
    assert (await carriers.post(path, form, token=None))[0] == 403
    assert (await carriers.post(path, form, token="made-up"))[0] == 403
    assert (await carriers.post(path, form, public="https://evil.example.com"))[0] == 403
    assert (await carriers.raw(path, b"", {}))[0] == 403
    assert (await carriers.raw(path, b"{}", {"Content-Type": "application/json"}))[0] == 403
    assert carriers.events == []
    assert [outcome for _, outcome in carriers.outcomes] == [
        "no_proof",
        "bad_signature",
        "bad_signature",
        "no_proof",
        "no_proof",
    ]


@pytest.mark.parametrize("path", ["/twilio/voice", "/twilio/stream-status"])
async def test_other_bodies_are_refused(carriers: Carriers, path: str) -> None:
    """Signed JSON is 415, a flood 413, a thousand fields 400; GET is not served."""
    signed = {"X-Twilio-Signature": "x"}
    assert (await carriers.raw(path, b"{}", signed | {"Content-Type": "application/json"}))[0] == 415
    assert (await carriers.raw(path, b"a" * (BODY_LIMIT + 1), signed | {"Content-Type": FORM}))[0] == 413
    assert (await carriers.raw(path, b"a=1&" * 1000, signed | {"Content-Type": FORM}))[0] == 400
    async with aiohttp.ClientSession() as session, session.get(carriers.server.make_url(path)) as answer:
        assert answer.status == 405


async def test_a_voice_webhook_without_a_call(carriers: Carriers) -> None:
    """Signed, but naming no call that could be one: 400."""
    for form in ({}, {"CallSid": ""}, {"CallSid": "x" * 300}, {"CallSid": "CÄ"}):
        assert (await carriers.post("/twilio/voice", form))[0] == 400


async def test_the_query_is_part_of_what_is_signed(carriers: Carriers) -> None:
    """A webhook configured with a query is signed with it."""
    assert (await carriers.post("/twilio/voice?a=1", {"CallSid": CALL}))[0] == 200


@pytest.mark.parametrize(
    ("form", "kind", "failed"),
    [
        ({"StreamEvent": "stream-stopped"}, "stopped", False),
        ({"StreamEvent": "stream-error", "StreamError": "31920 - WebSocket Handshake Error"}, "failed", True),
        ({"StreamEvent": "stream-error"}, "failed", True),
        ({"StreamEvent": "stream-error", "StreamError": "Error 31921: closed"}, "failed", False),
        ({"StreamEvent": "stream-error", "StreamError": "31930"}, None, False),
        ({"StreamEvent": "stream-started"}, None, False),
        ({"StreamEvent": "stream-later"}, None, False),
        ({"CallStatus": "completed"}, "hangup", False),
        ({"CallStatus": "in-progress"}, None, False),
        ({"CallStatus": "completed", "StreamEvent": "stream-started"}, None, False),
        ({}, None, False),
    ],
)
async def test_status_callbacks(carriers: Carriers, form: dict[str, str], kind: str | None, failed: bool) -> None:
    """What has ended is told on; failed handshakes are counted; warnings end nothing; each is answered at once."""
    said = {"CallSid": CALL, "StreamSid": "MZ1", "Timestamp": "2024-11-29T00:09:39.602648368Z", **form}
    assert (await carriers.post("/twilio/stream-status", said))[0] == 204
    assert carriers.events == ([("twilio", CALL, "MZ1", kind)] if kind else [])
    assert carriers.outcomes == ([("twilio", "failed")] if failed else [])


async def test_a_status_callback_without_a_call_tells_nobody(carriers: Carriers) -> None:
    """A callback that names no call, or a stream that cannot be one, is answered and told as far as it goes."""
    assert (await carriers.post("/twilio/stream-status", {"StreamEvent": "stream-stopped"}))[0] == 204
    assert carriers.events == []
    await carriers.post("/twilio/stream-status", {"StreamEvent": "stream-stopped", "CallSid": CALL, "StreamSid": "Ä"})
    assert carriers.events == [("twilio", CALL, None, "stopped")]


async def test_routes_without_any_token(tmp_path: Path) -> None:
    """Nothing configured is 403; where unsigned is allowed the markup comes, or 503 where no address is known."""
    shut = Carriers(tmp_path, GATEWAY_TWILIO_AUTH_TOKENS="")
    async with shut.server:
        assert (await shut.post("/twilio/voice", {"CallSid": CALL}))[0] == 403
        assert shut.outcomes == [("twilio", "not_configured")]
    opened = Carriers(tmp_path, GATEWAY_TWILIO_AUTH_TOKENS="", GATEWAY_ALLOW_UNSIGNED="1")
    async with opened.server:
        assert (await opened.post("/twilio/voice", {"CallSid": CALL}, token=None))[0] == 200
    nowhere = Carriers(tmp_path, GATEWAY_TWILIO_AUTH_TOKENS="", GATEWAY_ALLOW_UNSIGNED="1", GATEWAY_PUBLIC_URL="")
    async with nowhere.server:
        assert (await nowhere.post("/twilio/voice", {"CallSid": CALL}, token=None))[0] == 503
