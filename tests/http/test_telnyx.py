"""Telnyx's webhooks over a real socket: TeXML's forms and Call Control's JSON, signed with Ed25519."""

import base64
import json
from collections.abc import AsyncIterator
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.call import Carrier
from gateway.config import load
from gateway.http.callbacks import CarrierEventKind, HandshakeOutcome
from gateway.http.telnyx import routes
from gateway.media.proof import Admitted, admit

NOW = 1_800_000_000.0
KEY = Ed25519PrivateKey.from_private_bytes(b"t" * 32)
FORM = "application/x-www-form-urlencoded"
CALL = "v3:T02llQxIyaRkhfRKxgAP8nY511EhFLizdvdUKJiSw8d6A9BborherQ"


class Carriers:
    """A served gateway side of the webhooks, and what it was told."""

    def __init__(self, **environ: str) -> None:
        self.settings = load(
            {
                "ASSEMBLYAI_API_KEY": "key",
                "GATEWAY_WEBHOOK_URL": "https://crm.example.com",
                "GATEWAY_WEBHOOK_SECRETS": "whsec_" + base64.b64encode(b"s" * 24).decode(),
                "GATEWAY_PUBLIC_URL": "https://gateway.example.com",
                "GATEWAY_TELNYX_PUBLIC_KEY": base64.b64encode(KEY.public_key().public_bytes_raw()).decode(),
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
        self,
        path: str,
        body: bytes,
        kind: str = "application/json",
        *,
        sent_at: float = NOW,
        signed: bytes | None = None,
    ) -> tuple[int, bytes]:
        """Status and body of a webhook signed over *signed*, or over its body."""
        timestamp = str(int(sent_at))
        seal = KEY.sign(timestamp.encode() + b"|" + (body if signed is None else signed))
        headers = {
            "Content-Type": kind,
            "telnyx-signature-ed25519": base64.b64encode(seal).decode(),
            "telnyx-timestamp": timestamp,
        }
        return await self.raw(path, body, headers)

    async def raw(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.server.make_url(path), data=body, headers=headers) as answer,
        ):
            return answer.status, await answer.read()


@pytest.fixture
async def carriers() -> AsyncIterator[Carriers]:
    """The webhooks' routes on a free port."""
    served = Carriers()
    async with served.server:
        yield served


def event(kind: str, **payload: object) -> bytes:
    """A Call Control webhook."""
    data = {
        "record_type": "event",
        "event_type": kind,
        "id": "0ccc7b54",
        "payload": {"call_control_id": CALL, **payload},
    }
    return json.dumps({"data": data, "meta": {"attempt": 1}}).encode()


async def test_a_signed_voice_webhook_gets_markup(carriers: Carriers) -> None:
    """TeXML asks for mu-law, and its token lives as long as a call may, since Telnyx reconnects."""
    form = {"CallSid": CALL, "From": "+13122010094", "To": "+13122123456"}
    status, body = await carriers.post("/telnyx/voice", urlencode(form).encode(), FORM)
    assert status == 200
    response = ET.fromstring(body)
    assert [verb.tag for verb in response] == ["Start", "Pause"]
    stream = response[0][0]
    base, _, token = stream.attrib["url"].rpartition("/")
    assert base == "wss://gateway.example.com/media/telnyx"
    assert (stream.attrib["codec"], stream.attrib["track"]) == ("PCMU", "both_tracks")
    assert stream.attrib["statusCallback"] == "https://gateway.example.com/telnyx/events"
    assert {item.attrib["name"]: item.attrib["value"] for item in stream} == {
        "from": "+13122010094",
        "to": "+13122123456",
        "profile": "default",
    }
    for late, verdict in ((14400, True), (14401, False)):
        found = admit("telnyx", carriers.settings, {}, f"/media/telnyx/{token}", "", token, NOW + late)
        assert isinstance(found, Admitted) is verdict


async def test_who_is_not_telnyx(carriers: Carriers) -> None:
    """Unsigned, stale, or signed over another body: 403, counted, and nobody is told."""
    body = event("call.hangup")
    for path in ("/telnyx/voice", "/telnyx/events"):
        assert (await carriers.raw(path, body, {"Content-Type": "application/json"}))[0] == 403
        assert (await carriers.post(path, body, sent_at=NOW - 301))[0] == 403
        assert (await carriers.post(path, body, signed=b"{}"))[0] == 403
    assert carriers.events == []
    assert [outcome for _, outcome in carriers.outcomes] == ["no_proof", "stale_timestamp", "bad_signature"] * 2


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("streaming.stopped", "stopped"),
        ("streaming_stopped", "stopped"),
        ("streaming.failed", "failed"),
        ("streaming_failed", "failed"),
        ("call.hangup", "hangup"),
        ("call_hangup", "hangup"),
        ("streaming.started", None),
        ("call.answered", None),
        ("", None),
    ],
)
async def test_call_control_events(carriers: Carriers, kind: str, told: str | None) -> None:
    """Underscores or dots, what has ended is told on; the rest is answered and passed over."""
    assert (await carriers.post("/telnyx/events", event(kind, stream_id="S1")))[0] == 204
    assert carriers.events == ([("telnyx", CALL, "S1", told)] if told else [])
    assert carriers.outcomes == ([("telnyx", "failed")] if told == "failed" else [])


async def test_duplicates_and_any_order(carriers: Carriers) -> None:
    """Each webhook is told on as it came; two of one kind are no error, and the stream may be unnamed."""
    for kind in ("call.hangup", "streaming.stopped", "streaming.stopped", "streaming.started"):
        assert (await carriers.post("/telnyx/events", event(kind)))[0] == 204
    assert carriers.events == [("telnyx", CALL, None, kind) for kind in ("hangup", "stopped", "stopped")]


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"StreamEvent": "stream-stopped", "StreamSid": "S1"}, ("telnyx", CALL, "S1", "stopped")),
        ({"StreamEvent": "stream-failed"}, ("telnyx", CALL, None, "failed")),
        ({"CallStatus": "completed"}, ("telnyx", CALL, None, "hangup")),
        ({"StreamEvent": "stream-started"}, None),
    ],
)
async def test_texml_status_callbacks(carriers: Carriers, form: dict[str, str], told: tuple[str, ...] | None) -> None:
    """TeXML's callbacks are forms at the same address."""
    assert (await carriers.post("/telnyx/events", urlencode({"CallSid": CALL, **form}).encode(), FORM))[0] == 204
    assert carriers.events == ([told] if told else [])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"data":{"event_type":5}}',
        b'{"data":{"event_type":"call.hangup"}}',
        b"\xff",
        b"[" * 50_000,
    ],
)
async def test_what_is_signed_is_answered_well(carriers: Carriers, body: bytes) -> None:
    """A signed webhook that means nothing to us is settled: it would only come again."""
    assert (await carriers.post("/telnyx/events", body))[0] == 204
    assert carriers.events == []


async def test_voice_webhooks_are_forms_that_name_a_call(carriers: Carriers) -> None:
    """JSON is 415; a form without a call is 400."""
    assert (await carriers.post("/telnyx/voice", b"{}"))[0] == 415
    assert (await carriers.post("/telnyx/voice", b"From=%2B1", FORM))[0] == 400


async def test_routes_without_a_key() -> None:
    """Without the public key both are 403; with it but no public address there is no markup to give."""
    shut = Carriers(GATEWAY_TELNYX_PUBLIC_KEY="")
    async with shut.server:
        assert (await shut.post("/telnyx/events", event("call.hangup")))[0] == 403
        assert shut.outcomes == [("telnyx", "not_configured")]
    nowhere = Carriers(GATEWAY_PUBLIC_URL="")
    async with nowhere.server:
        assert (await nowhere.post("/telnyx/voice", urlencode({"CallSid": CALL}).encode(), FORM))[0] == 503
