"""`GET /media/…`: carriers' media WebSockets. Who has no proof is answered 403 before the upgrade."""

import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog
from aiohttp import web

from gateway.call import CARRIERS, Carrier
from gateway.config import Settings
from gateway.errors import ProtocolFault
from gateway.http.callbacks import forbidden, split_target
from gateway.livecall import LiveCall
from gateway.media.messages import Started
from gateway.media.proof import Refused, admit
from gateway.media.signalwire import SignalWireStream
from gateway.media.telnyx import TelnyxStream
from gateway.media.twilio import TwilioStream
from gateway.metrics import Metrics
from gateway.stream import HANG_UP_SECONDS, MESSAGE_LIMIT, Machine, Stream
from gateway.tasks import Nursery

_log = structlog.get_logger()

MACHINES: Final[dict[Carrier, Callable[[], Machine]]] = {
    "twilio": TwilioStream,
    "telnyx": TelnyxStream,
    "signalwire": SignalWireStream,
}

NAMELESS_LIMIT: Final = 1000
"""Sockets at once that have not said which call they are of."""


class Registry(Protocol):
    """Who knows a stream's call."""

    async def join(self, stream: Stream, started: Started) -> LiveCall: ...


class Doors:
    """The carriers' routes; `draining` closes them."""

    def __init__(self, settings: Settings, calls: Registry, metrics: Metrics, nursery: Nursery) -> None:
        self.draining = False
        self._settings = settings
        self._calls = calls
        self._metrics = metrics
        self._nursery = nursery
        self._nameless = 0

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"/media/{carrier}{token}", self._door(carrier))
            for carrier in CARRIERS
            for token in ("", "/{token}")
        ]

    def _door(self, carrier: Carrier) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._serve(carrier, request)

        return handle

    async def _serve(self, carrier: Carrier, request: web.Request) -> web.StreamResponse:
        path, query = split_target(request)
        if self.draining:
            self._count(carrier, "draining")
            return web.Response(status=503, text="draining\n")
        admission = admit(
            carrier, self._settings, request.headers, path, query, request.match_info.get("token"), time.time()
        )
        if isinstance(admission, Refused):
            self._count(carrier, admission.reason)
            _log.warning("handshake refused", carrier=carrier, reason=admission.reason, peer=request.remote)
            return forbidden(admission.reason)
        if self._nameless >= NAMELESS_LIMIT:
            return web.Response(status=503, text="too many sockets without a start\n")
        ws = web.WebSocketResponse(
            timeout=HANG_UP_SECONDS, compress=False, max_msg_size=MESSAGE_LIMIT, decode_text=False
        )
        await ws.prepare(request)
        self._count(carrier, "accepted")
        nameless = True

        async def join(stream: Stream, started: Started) -> LiveCall:
            nonlocal nameless
            if admission.token is not None and not admission.token.allows(started.call_id):
                raise ProtocolFault("the path token is of another call", reason="wrong_call")
            self._nameless -= nameless
            nameless = False
            return await self._calls.join(stream, started)

        self._nameless += 1
        try:
            stream = Stream(carrier, MACHINES[carrier](), join=join, metrics=self._metrics, nursery=self._nursery)
            await stream.run(ws)
        finally:
            self._nameless -= nameless
        return ws

    def _count(self, carrier: Carrier, outcome: str) -> None:
        self._metrics.handshakes_total.labels(carrier, outcome).inc()
