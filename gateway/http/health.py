"""`/healthz`, `/readyz`, `/metrics` on the admin port."""

from collections.abc import Callable

import msgspec
from aiohttp import web

from gateway.metrics import Metrics


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of `/readyz`."""

    ready: bool
    draining: bool = False
    store: str | None = None
    """Why the store does not take writes: not ready."""
    speech: str | None = None
    """Why the speech service refuses the account: still ready, calls are taken and their audio waits."""


def routes(metrics: Metrics, readiness: Callable[[], Readiness]) -> list[web.RouteDef]:
    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        now = readiness()
        return web.Response(
            status=200 if now.ready else 503, body=msgspec.json.encode(now) + b"\n", content_type="application/json"
        )

    async def exposition(request: web.Request) -> web.Response:
        body, content_type = await metrics.render(request.headers.get("accept"))
        return web.Response(body=body, headers={"content-type": content_type})

    return [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", exposition)]
