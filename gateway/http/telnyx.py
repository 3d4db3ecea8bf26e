"""Telnyx's webhooks: TeXML's forms and Call Control's JSON, signed alike with Ed25519."""

import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from gateway.config import Settings
from gateway.http.callbacks import CallEvents, CarrierEventKind, Observe, forbidden, form_of, is_form, read_body
from gateway.http.twilio import event_kind
from gateway.http.voice import voice_answer
from gateway.media.proof import Refused, admit_telnyx_webhook
from gateway.media.wire import identity_or_none

KINDS: Final[dict[str, CarrierEventKind]] = {
    "streaming.stopped": "stopped",
    "streaming.failed": "failed",
    "call.hangup": "hangup",
}


class _Payload(msgspec.Struct):
    call_control_id: Any = None
    stream_id: Any = None


class _Data(msgspec.Struct):
    event_type: str = ""
    payload: _Payload | None = None


class _Event(msgspec.Struct):
    data: _Data


_event: Final = msgspec.json.Decoder(_Event)


def routes(
    settings: Settings, calls: CallEvents, observe: Observe, clock: Callable[[], float] = time.time
) -> list[web.RouteDef]:
    """`/telnyx/voice` and `/telnyx/events`; *clock* gives seconds of the epoch."""

    async def signed_body(request: web.Request) -> bytes | web.Response:
        body = await read_body(request)
        admission = admit_telnyx_webhook(settings, request.headers, body, clock())
        if isinstance(admission, Refused):
            observe("telnyx", admission.reason)
            return forbidden(admission.reason)
        return body

    async def voice(request: web.Request) -> web.Response:
        body = await signed_body(request)
        if isinstance(body, web.Response):
            return body
        if not is_form(request, body):
            return web.Response(status=415, text="TeXML's webhooks are forms\n")
        if settings.public_url is None:
            return web.Response(status=503, text="GATEWAY_PUBLIC_URL is not set\n")
        answer = voice_answer("telnyx", settings, dict(form_of(body)), clock())
        if answer is None:
            return web.Response(status=400, text="CallSid is missing\n")
        return web.Response(body=answer, content_type="text/xml", charset="utf-8")

    async def events(request: web.Request) -> web.Response:
        body = await signed_body(request)
        if isinstance(body, web.Response):
            return body
        call_id, stream_id, kind = _of_form(body) if is_form(request, body) else _of_json(body)
        if kind == "failed":
            observe("telnyx", "failed")
        if kind is not None and call_id is not None:
            calls.carrier_event("telnyx", call_id, stream_id, kind)
        # What is signed is Telnyx's, and what it means to say beyond this is not ours: 2xx, or it would come again.
        return web.Response(status=204)

    return [web.post("/telnyx/voice", voice), web.post("/telnyx/events", events)]


Said = tuple[str | None, str | None, CarrierEventKind | None]
"""Call, stream, and what has ended."""


def _of_json(body: bytes) -> Said:
    try:
        data = _event.decode(body).data
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None, None, None
    payload = data.payload or _Payload()
    # Both `streaming.stopped` and `streaming_stopped` have been seen.
    kind = KINDS.get(data.event_type.replace("_", "."))
    return identity_or_none(payload.call_control_id), identity_or_none(payload.stream_id), kind


def _of_form(body: bytes) -> Said:
    fields = dict(form_of(body))
    return identity_or_none(fields.get("CallSid")), identity_or_none(fields.get("StreamSid")), event_kind(fields)
