"""
A customer's webhook receiver: verifies each signature, keeps each call's events, and fails where it is told to.

`receiver.calls` holds a `CallCheck` for each call; what was seen as a whole is counted in `receiver.counts`.
"""

import asyncio
import base64
import hmac
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Final, Self

import msgspec
from aiohttp import web

from gateway.simulator.check import CallCheck
from gateway.webhooks import signing

TOLERANCE_SECONDS: Final = 300
"""How old a signature may be, as Standard Webhooks has it."""

_LARGEST: Final = 8 << 20
_KEPT_CALLS: Final = 10_000


class Event(msgspec.Struct, frozen=True):
    """One delivery that arrived."""

    type: str
    timestamp: str
    data: dict[str, Any]


class Arrival(msgspec.Struct, frozen=True):
    """An event, when it came, and whether it was accepted."""

    at: float
    """Unix seconds."""
    webhook_id: str
    event: Event
    accepted: bool


class Failing(msgspec.Struct, frozen=True, kw_only=True):
    """How the receiver fails. Out of the box it does not."""

    status: int = 500
    seconds: float = 0.0
    """For so long, from the first event on, everything is answered with *status*. 410 is no answer to be sorry for."""
    slow_seconds: float = 0.0
    """Each answer takes so long."""


_decoder: Final = msgspec.json.Decoder(Event)


class Receiver:
    """The receiver on a port of its own, while it is entered. *port* 0 takes a free one."""

    def __init__(
        self,
        secret: str | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        failing: Failing | None = None,
        watch: Callable[[Arrival], None] | None = None,
    ) -> None:
        self.secret = secret or signing.PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
        """As the gateway's `GATEWAY_WEBHOOK_SECRETS` has it."""
        self.host = host
        self.port = port
        self.failing = failing or Failing()
        self.calls: OrderedDict[str, CallCheck] = OrderedDict()
        self.counts: Counter[str] = Counter()
        """`accepted`, `refused` (as told), `unsigned` (the signature is wrong), `malformed`."""
        self._key = signing.parse_secret(self.secret)
        self._watch = watch
        self._fails_until: float | None = None
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where events are sent."""
        return f"http://{self.host}:{self.port}/events"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_post("/{path:.*}", self._receive)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port).start()
        _, self.port, *_ = self._runner.addresses[0]
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until *condition* holds, looked at after each event; False where it does not in time."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def ended(self, call_id: str) -> bool:
        """Whether a call's `call.ended` was accepted."""
        check = self.calls.get(call_id)
        return check is not None and check.ended is not None

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        webhook_id = request.headers.get("webhook-id", "")
        if not self._signed(request, webhook_id, body):
            self.counts["unsigned"] += 1
            return web.Response(status=401)
        try:
            event = _decoder.decode(body)
            call_id: str = event.data["call"]["id"]
        except (msgspec.MsgspecError, KeyError, TypeError):
            self.counts["malformed"] += 1
            return web.Response(status=400)
        if self.failing.slow_seconds:
            await asyncio.sleep(self.failing.slow_seconds)
        accepted = not self._fails()
        self.counts["accepted" if accepted else "refused"] += 1
        if accepted:
            self._keep(webhook_id, call_id, event)
        if self._watch is not None:
            self._watch(Arrival(time.time(), webhook_id, event, accepted))
        self._changed.set()
        self._changed = asyncio.Event()
        return web.Response(status=204 if accepted else self.failing.status)

    def _keep(self, webhook_id: str, call_id: str, event: Event) -> None:
        check = self.calls.get(call_id)
        if check is None:
            check = self.calls[call_id] = CallCheck()
            if len(self.calls) > _KEPT_CALLS:
                self.calls.popitem(last=False)
        try:
            check.take(webhook_id, event.type, event.data)
        except (KeyError, TypeError, ValueError) as error:
            check.faults.append(f"{event.type} cannot be read: {error!r}")

    def _fails(self) -> bool:
        if not self.failing.seconds:
            return False
        if self._fails_until is None:
            self._fails_until = time.monotonic() + self.failing.seconds
        return time.monotonic() < self._fails_until

    def _signed(self, request: web.Request, webhook_id: str, body: bytes) -> bool:
        timestamp, shown = request.headers.get("webhook-timestamp", ""), request.headers.get("webhook-signature", "")
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16):
            return False
        if abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
            return False
        right = signing.sign([self._key], webhook_id, int(timestamp), body).encode()
        return any(hmac.compare_digest(right, one.encode(errors="surrogatepass")) for one in shown.split(" "))
