"""
The operator's routes on the admin port, which `gateway deliveries` uses while the server runs (the store has one writer).

    GET  /deliveries?state=&call_id=&endpoint=&type=&since=&until=&limit=     a listing
    GET  /deliveries/{id}[?body=1]                                            one delivery
    POST /deliveries/replay   {"id" | "call_id" | "since"/"until" | …}        what was replayed
    POST /deliveries/enable   {"endpoint": URL}

With an API token where one is configured; else for this machine alone.
"""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from gateway.delivery import Selection
from gateway.errors import StoreFault
from gateway.outbox.port import Outbox
from gateway.webhooks.desk import Desk, Runner

_Answer = Callable[[web.Request], Awaitable[Any]]


class Enable(msgspec.Struct, forbid_unknown_fields=True):
    """Which endpoint to enable."""

    endpoint: str


class Replay(msgspec.Struct, forbid_unknown_fields=True):
    """Which deliveries to replay; at least one field says something."""

    id: str | None = None
    call_id: str | None = None
    endpoint: str | None = None
    type: str | None = None
    since: float | None = None
    until: float | None = None

    def selection(self) -> Selection:
        """Give what is selected."""
        return Selection(self.id, self.call_id, self.endpoint, self.type, None, self.since, self.until)


class Look(msgspec.Struct, forbid_unknown_fields=True):
    """A query string."""

    state: str | None = None
    call_id: str | None = None
    endpoint: str | None = None
    type: str | None = None
    since: float | None = None
    until: float | None = None
    limit: int = 100

    def selection(self) -> Selection:
        """
        Give what is selected.

        Raises:
            ValueError: If `state` is no state.

        """
        state = msgspec.convert({"state": self.state}, Selection).state
        return Selection(None, self.call_id, self.endpoint, self.type, state, self.since, self.until)


def routes(outbox: Outbox, deliveries: Runner | None, api_tokens: Iterable[str]) -> list[web.RouteDef]:
    """Make the routes."""
    desk = Desk(outbox, deliveries)
    tokens = tuple(token.encode() for token in api_tokens)

    async def look(request: web.Request) -> Any:
        wanted = msgspec.convert(dict(request.query), Look, strict=False)
        return await desk.look(wanted.selection(), wanted.limit)

    async def show(request: web.Request) -> Any:
        found = await desk.show(request.match_info["id"], body=request.query.get("body") == "1")
        if found is None:
            raise web.HTTPNotFound(text="no such delivery is owed or dead\n")
        return found

    async def replay(request: web.Request) -> Any:
        wanted = msgspec.json.decode(await request.read(), type=Replay)
        selection = wanted.selection()
        if selection == Selection():
            raise web.HTTPUnprocessableEntity(text="name an id, a call, an endpoint, a type or a time range\n")
        return await desk.replay(selection)

    async def enable(request: web.Request) -> Any:
        wanted = msgspec.json.decode(await request.read(), type=Enable)
        if not await desk.enable(wanted.endpoint):
            raise web.HTTPNotFound(text="no such endpoint is known\n")
        return {"enabled": True}

    def guarded(answer: _Answer) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            _admit(request, tokens)
            try:
                said = await answer(request)
            except msgspec.MsgspecError as error:  # its message names fields, and repeats no value
                raise web.HTTPUnprocessableEntity(text=f"{error}\n") from error
            except StoreFault as fault:
                raise web.HTTPServiceUnavailable(text=f"{fault}\n") from fault
            return web.Response(
                body=msgspec.json.encode(said), content_type="application/json", headers={"cache-control": "no-store"}
            )

        return handle

    return [
        web.get("/deliveries", guarded(look)),
        web.get("/deliveries/{id}", guarded(show)),
        web.post("/deliveries/replay", guarded(replay)),
        web.post("/deliveries/enable", guarded(enable)),
    ]


def _admit(request: web.Request, tokens: Sequence[bytes]) -> None:
    """
    Let whoever may pass.

    Raises:
        web.HTTPUnauthorized: If API tokens are configured and none was shown.
        web.HTTPForbidden: If none is configured and the request does not come from this machine's own command.

    """
    if tokens:
        shown = request.headers.get("authorization", "").encode(errors="surrogateescape")
        scheme, _, token = shown.partition(b" ")
        if scheme.lower() != b"bearer" or not sum(hmac.compare_digest(token.strip(), known) for known in tokens):
            raise web.HTTPUnauthorized(text="an API token is needed\n", headers={"www-authenticate": "Bearer"})
        return
    peer = None if request.transport is None else request.transport.get_extra_info("peername")
    if not peer or not _is_loopback(str(peer[0])):
        raise web.HTTPForbidden(text="without GATEWAY_API_TOKENS these routes are for this machine alone\n")
    # A page in a browser on this machine, or a proxy, comes from here too: neither looks like our command.
    host = request.url.host or ""
    if not (host == "localhost" or _is_loopback(host)) or any(
        name in request.headers for name in ("origin", "forwarded", "x-forwarded-for", "sec-fetch-site")
    ):
        raise web.HTTPForbidden(text="without GATEWAY_API_TOKENS these routes are for `gateway deliveries` alone\n")


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
