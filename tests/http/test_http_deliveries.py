"""The operator's routes, over HTTP."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.delivery import Batch
from gateway.http.deliveries import routes
from gateway.outbox.sqlite import SqliteOutbox
from gateway.webhooks.sender import Sender
from gateway.webhooks.worker import Deliveries
from tests.fakes.endpoint import Answer, Endpoint
from tests.outbox.contract import FAILED, event

TOKENS = ("first-token", "second-token")


class Admin:
    """An admin port with the routes, over a store."""

    def __init__(self, outbox: SqliteOutbox, base: str, session: aiohttp.ClientSession) -> None:
        self.outbox = outbox
        self.base = base
        self._session = session

    async def ask(self, method: str, path: str, **what: Any) -> tuple[int, Any]:
        """Ask; gives status and JSON, or text."""
        async with self._session.request(method, self.base + path, **what) as response:
            return response.status, await (
                response.json() if response.content_type == "application/json" else response.text()
            )


@asynccontextmanager
async def serving(path: Path, *, tokens: Iterable[str] = (), endpoint: Endpoint | None = None) -> AsyncIterator[Admin]:
    """Serve; with an endpoint, deliver too."""
    async with SqliteOutbox(path / "gateway.db") as outbox, aiohttp.ClientSession() as session:

        @asynccontextmanager
        async def delivering() -> AsyncIterator[Deliveries | None]:
            if endpoint is None:
                yield None
                return
            async with (
                Sender(endpoint.keys, allowed=(ip_network("127.0.0.0/8"),)) as sender,
                Deliveries(outbox, sender) as deliveries,
            ):
                yield deliveries

        async with delivering() as deliveries:
            app = web.Application()
            app.add_routes(routes(outbox, deliveries, tokens))
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                yield Admin(outbox, f"http://127.0.0.1:{runner.addresses[0][1]}", session)
            finally:
                await runner.cleanup()


async def fill(outbox: SqliteOutbox) -> None:
    """Two events of one call owed behind a dead letter, one of another."""
    await outbox.put(Batch(events=(event("A", 1), event("A", 2), event("A", 3), event("B", 1))))
    await outbox.bury((await outbox.claim(event("A", 1).endpoint, 1e12, 9, ())).deliveries[0], FAILED)


async def test_a_listing_tells_everything_but_what_was_said(tmp_path: Path) -> None:
    """Deliveries come in order, filtered as asked, cut at the limit, with counts; never a body."""
    async with serving(tmp_path) as admin:
        await fill(admin.outbox)
        status, said = await admin.ask("GET", "/deliveries")
        assert (status, said["owed"], said["dead_letters"], said["more"], said["endpoints"]) == (200, 3, 1, False, [])
        assert [(one["id"], one["state"]) for one in said["deliveries"]] == [
            ("msg_A-1", "dead"),
            ("msg_A-2", "owed"),
            ("msg_A-3", "owed"),
            ("msg_B-1", "owed"),
        ]
        assert "body" not in said["deliveries"][0]
        assert said["deliveries"][0]["created_at"] == "1970-01-01T00:16:41.000Z"

        _, said = await admin.ask(
            "GET", "/deliveries", params={"call_id": "A", "state": "owed", "limit": "1", "since": "1001.5"}
        )
        assert ([one["id"] for one in said["deliveries"]], said["more"]) == (["msg_A-2"], True)


async def test_one_delivery_is_shown_with_its_body_where_asked_for(tmp_path: Path) -> None:
    """Metadata by id; the body only with `body=1`; 404 for what is not there."""
    async with serving(tmp_path) as admin:
        await fill(admin.outbox)
        status, said = await admin.ask("GET", "/deliveries/msg_A-1")
        assert (status, said["outcome"], said["status"], said["size"], "body" in said) == (200, "failed", 500, 5, False)
        _, said = await admin.ask("GET", "/deliveries/msg_A-1", params={"body": "1"})
        assert said["body"] == '"A-1"'
        assert (await admin.ask("GET", "/deliveries/nothing"))[0] == 404


@pytest.mark.parametrize(
    ("selection", "revived"),
    [
        ({"id": "msg_A-1"}, 1),
        ({"call_id": "A"}, 1),
        ({"since": 0, "until": 2000}, 1),
        ({"type": "call.ended"}, 0),
        ({"endpoint": "https://x"}, 0),
    ],
)
async def test_a_replay_by_id_call_or_time(tmp_path: Path, selection: dict[str, Any], revived: int) -> None:
    """What is selected is owed again."""
    async with serving(tmp_path) as admin:
        await fill(admin.outbox)

        assert await admin.ask("POST", "/deliveries/replay", json=selection) == (
            200,
            {"revived": revived, "hastened": 0},
        )
        assert admin.outbox.dead_letters() == 1 - revived


@pytest.mark.parametrize("said", [b"", b"{}", b"[]", b'{"call": "A"}', b'{"since": "yesterday"}', b"\xff"])
async def test_a_replay_of_nothing_in_particular_is_refused(tmp_path: Path, said: bytes) -> None:
    """A request that selects nothing, or that is not understood, replays nothing: 422."""
    async with serving(tmp_path) as admin:
        await fill(admin.outbox)

        assert (await admin.ask("POST", "/deliveries/replay", data=said))[0] == 422
        assert admin.outbox.dead_letters() == 1


async def test_a_query_that_is_not_understood_is_refused(tmp_path: Path) -> None:
    """Unknown filters and states are 422, never silently everything."""
    async with serving(tmp_path) as admin:
        for query in ({"state": "gone"}, {"call": "A"}, {"limit": "many"}, {"since": "now"}):
            assert (await admin.ask("GET", "/deliveries", params=query))[0] == 422


async def test_enabling_sends_what_waited(tmp_path: Path) -> None:
    """A disabled endpoint is listed; enabled through the running server it gets what it is owed; an unknown one is 404."""
    async with Endpoint(order=lambda _: Answer(410)) as endpoint, serving(tmp_path, endpoint=endpoint) as admin:
        body = b'{"type":"turn.final","timestamp":"t","data":{"call":{"id":"A"},"sequence":1}}'
        owed = event("A", 1, endpoint=endpoint.url)
        await admin.outbox.put(Batch(events=(type(owed)(owed.id, "A", endpoint.url, owed.type, 1, 0.0, body),)))
        await endpoint.until(lambda: len(endpoint.received) == 1)
        endpoint.order = lambda _: Answer(204)
        while not (listing := (await admin.ask("GET", "/deliveries"))[1])["endpoints"]:
            pass
        assert listing["endpoints"][0]["url"] == endpoint.url

        assert await admin.ask("POST", "/deliveries/enable", json={"endpoint": endpoint.url}) == (
            200,
            {"enabled": True},
        )
        await endpoint.until(lambda: endpoint.accepted["A"] == [1])
        assert (await admin.ask("POST", "/deliveries/enable", json={"endpoint": "https://unknown"}))[0] == 404
        assert (await admin.ask("POST", "/deliveries/enable", json={}))[0] == 422


async def test_api_tokens_where_they_are_configured(tmp_path: Path) -> None:
    """With tokens each route wants one of them, from this machine too."""
    async with serving(tmp_path, tokens=TOKENS) as admin:
        for shown in (None, "Bearer wrong", "Basic first-token", "Bearer", "first-token", "Bearer \xff"):
            headers = {} if shown is None else {"authorization": shown}
            assert (await admin.ask("GET", "/deliveries", headers=headers))[0] == 401
            assert (await admin.ask("POST", "/deliveries/replay", headers=headers, json={"call_id": "A"}))[0] == 401
        for token in TOKENS:
            assert (await admin.ask("GET", "/deliveries", headers={"authorization": f"bearer {token}"}))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"host": "evil.example"},
        {"x-forwarded-for": "1.2.3.4"},
        {"sec-fetch-site": "cross-site"},
    ],
)
async def test_without_tokens_only_the_command_itself_is_let_in(tmp_path: Path, headers: dict[str, str]) -> None:
    """A browser's page or a proxy on this machine is not this machine's operator: 403."""
    async with serving(tmp_path) as admin:
        assert (await admin.ask("GET", "/deliveries"))[0] == 200
        assert (await admin.ask("GET", "/deliveries", headers=headers))[0] == 403
