"""A customer's webhook receiver: verifies everything with an independent library, remembers it, and fails to order."""

import asyncio
import base64
import json
import secrets
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from standardwebhooks.webhooks import Webhook


def new_secret() -> str:
    """Make a secret as customers write it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def key_of(secret: str) -> bytes:
    """Read a secret without the code under test."""
    return base64.b64decode(secret.removeprefix("whsec_"))


@dataclass
class Received:
    """One request that arrived."""

    id: str
    headers: dict[str, str]
    body: bytes
    call_id: str
    sequence: int
    type: str
    together: int
    """Requests of the same call being answered at that moment, this one included."""


@dataclass(frozen=True)
class Answer:
    """What to answer."""

    status: int = 204
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    cut: bool = False
    """Cut the connection instead."""
    hold: asyncio.Event | None = None
    """Answer only once this is set."""
    drip: int = 0
    """Go on sending a body of so many bytes, or until the sender goes away."""


Order = Callable[[Received], Answer]


class Endpoint:
    """The receiver, on a free port of 127.0.0.1. Its `order` decides each answer; every signature must verify."""

    def __init__(self, *, secrets: int = 1, order: Order | None = None) -> None:
        self.secrets = [new_secret() for _ in range(secrets)]
        self.order: Order = order or (lambda _received: Answer())
        self.received: list[Received] = []
        self.accepted: dict[str, list[int]] = defaultdict(list)
        """Sequences answered 2xx, by call."""
        self.faults: list[str] = []
        self.dripped = 0
        """Bytes of the last long answer that were taken off us."""
        self._open: dict[str, int] = defaultdict(int)
        self._changed = asyncio.Condition()

    @property
    def keys(self) -> list[bytes]:
        """The secrets' keys."""
        return [key_of(secret) for secret in self.secrets]

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=16 << 20)
        app.router.add_route("*", "/{path:.*}", self._receive)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port: int = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        if kind is None:
            assert self.faults == []

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until `condition()` holds, looked at after every request and every answer."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)

    def of(self, call_id: str) -> list[Received]:
        """Give what arrived for one call."""
        return [received for received in self.received if received.call_id == call_id]

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        said: dict[str, Any] = json.loads(body)
        data = said["data"]
        received = Received(
            request.headers["webhook-id"],
            {name.lower(): value for name, value in request.headers.items()},
            body,
            data["call"]["id"],
            data["sequence"],
            said["type"],
            self._open[data["call"]["id"]] + 1,
        )
        self._check(received)
        answer = self.order(received)
        self._open[received.call_id] += 1
        try:
            await self._note(received, None)
            if answer.hold is not None:
                await answer.hold.wait()
            if answer.cut:
                assert request.transport is not None
                request.transport.abort()
                return web.Response(status=500)
            await self._note(received, answer.status)
            if answer.drip:
                return await self._drip(request, answer)
            return web.Response(status=answer.status, headers=list(answer.headers), body=answer.body)
        finally:
            self._open[received.call_id] -= 1

    async def _drip(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status)
        await response.prepare(request)
        self.dripped = 0
        try:
            while self.dripped < answer.drip:
                await response.write(b"x" * 65536)
                self.dripped += 65536
        except ConnectionError:
            pass  # the sender has had enough
        return response

    async def _note(self, received: Received, status: int | None) -> None:
        async with self._changed:
            if status is None:
                self.received.append(received)
            elif (
                200 <= status < 300
                and received.sequence not in self.accepted[received.call_id]
                and received.type != "turn.partial"
            ):
                self.accepted[received.call_id].append(received.sequence)
            self._changed.notify_all()

    def _check(self, received: Received) -> None:
        signatures = received.headers["webhook-signature"].split(" ")
        if len(signatures) != len(self.secrets):
            self.faults.append(f"{len(signatures)} signatures for {len(self.secrets)} secrets")
        for secret, signature in zip(self.secrets, signatures, strict=False):
            # One at a time: each secret's own signature must verify, and stand in its place.
            Webhook(secret).verify(received.body, received.headers | {"webhook-signature": signature})
        if "." in received.id:
            self.faults.append(f"a dot in {received.id}")
        if received.headers["content-type"] != "application/json":
            self.faults.append(f"content type {received.headers['content-type']}")
        if received.together > 1:
            self.faults.append(f"{received.together} requests in flight for call {received.call_id}")
