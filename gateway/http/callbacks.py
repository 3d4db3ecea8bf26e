"""What carriers' webhooks have in common: their bodies, how they are refused, and whom they tell."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol
from urllib.parse import parse_qsl

from aiohttp import web

from gateway.call import Carrier
from gateway.media.proof import RefusalReason

BODY_LIMIT: Final = 64 * 1024
BODY_SECONDS: Final = 10
FIELDS_LIMIT: Final = 500

FORM_TYPE: Final = "application/x-www-form-urlencoded"

CarrierEventKind = Literal["stopped", "failed", "hangup"]
"""A stream that ended, one that the carrier could not open or keep, a call that ended."""

HandshakeOutcome = RefusalReason | Literal["failed"]
"""Labels that webhooks add to the handshakes' counter; `failed`: the carrier could not open its stream to us."""

Observe = Callable[[Carrier, HandshakeOutcome], None]

Form = Sequence[tuple[str, str]]

ENDED_STATUSES: Final = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
"""`CallStatus` of a call that is over, in the status callbacks of TwiML and TeXML."""


class CallEvents(Protocol):
    """Who is told what a carrier says beside its media stream."""

    def carrier_event(self, carrier: Carrier, call_id: str, stream_id: str | None, kind: CarrierEventKind) -> None:
        """
        Take note, at once. It may come twice, late, before the stream, or for a call nobody knows.

        *stream_id* is None where the carrier did not say which stream of the call it meant.
        """


async def read_body(request: web.Request) -> bytes:
    """
    The body, byte by byte as it came.

    Raises:
        HTTPRequestEntityTooLarge: It is longer than `BODY_LIMIT`.
        HTTPRequestTimeout: It is not here after `BODY_SECONDS`.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > BODY_LIMIT:
                    raise web.HTTPRequestEntityTooLarge(BODY_LIMIT, len(body))
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    return bytes(body)


def form_of(body: bytes) -> Form:
    """
    A form's fields in their order, empty ones too.

    Raises:
        HTTPBadRequest: It has too many.
    """
    try:
        return parse_qsl(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=FIELDS_LIMIT)
    except ValueError:
        raise web.HTTPBadRequest(text="too many form fields\n") from None


def is_form(request: web.Request, body: bytes) -> bool:
    """Whether the body says it is a form; one that is empty need not say so."""
    return not body or request.content_type == FORM_TYPE


def split_target(request: web.Request) -> tuple[str, str]:
    """The request's path and query as they came on the wire, undecoded."""
    path, _, query = request.raw_path.partition("?")
    return path, query


def forbidden(reason: RefusalReason) -> web.Response:
    """The answer to whom we do not believe. It says why only as far as the sender knows anyway."""
    return web.Response(status=403, text=f"{reason}\n")
