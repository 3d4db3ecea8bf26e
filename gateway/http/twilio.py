"""Twilio's webhooks: a call came in, and what became of its stream. All are forms that Twilio signs."""

import re
import time
from collections.abc import Callable
from typing import Final

from aiohttp import web

from gateway.config import Settings
from gateway.http.callbacks import (
    ENDED_STATUSES,
    CallEvents,
    CarrierEventKind,
    Form,
    Observe,
    forbidden,
    form_of,
    is_form,
    read_body,
    split_target,
)
from gateway.http.voice import voice_answer
from gateway.media.proof import Refused, admit_twilio_webhook
from gateway.media.wire import identity_or_none

# https://www.twilio.com/docs/api/errors: of the codes 319xx these are warnings about a stream that goes on …
_WARNINGS: Final = frozenset({"31930", "31950", "31951"})
# … and these end one that had been opened; every other is a handshake that failed, which no socket of ours ever shows.
_AFTER_THE_HANDSHAKE: Final = frozenset({"31903", "31921", "31924", "31941"})
_CODE: Final = re.compile(r"\b319\d\d\b")


def routes(
    settings: Settings, calls: CallEvents, observe: Observe, clock: Callable[[], float] = time.time
) -> list[web.RouteDef]:
    """`/twilio/voice` and `/twilio/stream-status`; *clock* gives seconds of the epoch."""

    async def signed_form(request: web.Request) -> Form | web.Response:
        body = await read_body(request)
        form = form_of(body) if is_form(request, body) else None
        path, query = split_target(request)
        admission = admit_twilio_webhook(settings, request.headers, path, query, form or ())
        if isinstance(admission, Refused) and (form is not None or admission.reason != "bad_signature"):
            observe("twilio", admission.reason)
            return forbidden(admission.reason)
        if form is None:
            return web.Response(status=415, text="Twilio's webhooks are forms\n")
        return form

    async def voice(request: web.Request) -> web.Response:
        form = await signed_form(request)
        if isinstance(form, web.Response):
            return form
        if settings.public_url is None:
            return web.Response(status=503, text="GATEWAY_PUBLIC_URL is not set\n")
        answer = voice_answer("twilio", settings, dict(form), clock())
        if answer is None:
            return web.Response(status=400, text="CallSid is missing\n")
        return web.Response(body=answer, content_type="text/xml", charset="utf-8")

    async def stream_status(request: web.Request) -> web.Response:
        form = await signed_form(request)
        if isinstance(form, web.Response):
            return form
        fields = dict(form)
        kind = event_kind(fields)
        if kind == "failed" and handshake_failed(fields):
            observe("twilio", "failed")
        call_id = identity_or_none(fields.get("CallSid"))
        if kind is not None and call_id is not None:
            calls.carrier_event("twilio", call_id, identity_or_none(fields.get("StreamSid")), kind)
        return web.Response(status=204)

    return [web.post("/twilio/voice", voice), web.post("/twilio/stream-status", stream_status)]


def event_kind(fields: dict[str, str]) -> CarrierEventKind | None:
    """What a status callback says has ended, if anything: a stream's (Twilio's words or Telnyx's), or a call's."""
    match fields.get("StreamEvent", ""):
        case "stream-stopped":
            return "stopped"
        case "stream-error" | "stream-failed":
            return None if _codes(fields) & _WARNINGS else "failed"
        case "" if fields.get("CallStatus") in ENDED_STATUSES:
            return "hangup"
    return None


def handshake_failed(fields: dict[str, str]) -> bool:
    """Whether a `failed` stream was one that never opened; one that does not say counts as such."""
    return not _codes(fields) & _AFTER_THE_HANDSHAKE


def _codes(fields: dict[str, str]) -> set[str]:
    return set(_CODE.findall(fields.get("StreamError", "")[:1000])) | set(
        _CODE.findall(fields.get("ErrorCode", "")[:100])
    )
