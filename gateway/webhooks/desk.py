"""What an operator may do with deliveries: look, replay, enable. The same over HTTP and on the file."""

from datetime import UTC, datetime
from typing import Protocol

import msgspec

from gateway.delivery import DeliveryRecord, EndpointState, Replayed, Selection
from gateway.outbox.port import Outbox

LIMIT = 1000
"""Most deliveries of one look."""


class Shown(msgspec.Struct, frozen=True, omit_defaults=True):
    """A delivery as the operator reads it; times as RFC 3339."""

    id: str
    state: str
    endpoint: str
    call_id: str
    type: str
    sequence: int
    created_at: str
    stored_at: str
    attempts: int
    size: int
    outcome: str | None = None
    status: int | None = None
    due_at: str | None = None
    died_at: str | None = None
    body: str | None = None


class ShownEndpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """An endpoint that is not simply served."""

    url: str
    disabled_at: str | None = None
    failing_since: str | None = None
    probe_at: str | None = None


class Listing(msgspec.Struct, frozen=True):
    """What a look finds."""

    deliveries: list[Shown]
    more: bool
    """There are more than were asked for."""
    endpoints: list[ShownEndpoint]
    """Those disabled or failing for everyone."""
    owed: int
    dead_letters: int


class Runner(Protocol):
    """Who delivers, where somebody does: `gateway.webhooks.worker.Deliveries`."""

    async def enable(self, url: str) -> bool:
        """Send to a disabled endpoint again."""

    async def replay(self, selection: Selection) -> Replayed:
        """Owe dead letters again, and let waiting lanes go at once."""


class Desk:
    """The operator's desk over an outbox, and over who delivers from it, if anybody does."""

    def __init__(self, outbox: Outbox, deliveries: Runner | None) -> None:
        self._outbox = outbox
        self._deliveries = deliveries

    async def look(self, selection: Selection, limit: int) -> Listing:
        """List deliveries, owed and dead, in order of storing; never a body."""
        limit = max(1, min(limit, LIMIT))
        found = await self._outbox.find(selection, limit + 1, bodies=False)
        endpoints = [
            _endpoint(state) for state in await self._outbox.endpoints() if state.disabled_at or state.failing_since
        ]
        shown = [_shown(record) for record in found[:limit]]
        return Listing(shown, len(found) > limit, endpoints, self._outbox.depth(), self._outbox.dead_letters())

    async def show(self, webhook_id: str, *, body: bool) -> Shown | None:
        """Look one delivery up; with its body where asked for."""
        found = await self._outbox.find(Selection(id=webhook_id), 1, bodies=body)
        return _shown(found[0]) if found else None

    async def replay(self, selection: Selection) -> Replayed:
        """Send dead letters again, in their old place and under their old ids; let waiting events go at once."""
        return await (self._deliveries or self._outbox).replay(selection)

    async def enable(self, url: str) -> bool:
        """Send to a disabled endpoint again; False where no such endpoint is known."""
        if self._deliveries is not None:
            return await self._deliveries.enable(url)
        if all(state.url != url for state in await self._outbox.endpoints()):
            return False
        await self._outbox.keep_endpoint(EndpointState(url), release=True)
        return True


def _shown(record: DeliveryRecord) -> Shown:
    return Shown(
        id=record.id,
        state=record.state,
        endpoint=record.endpoint,
        call_id=record.call_id,
        type=record.type,
        sequence=record.sequence,
        created_at=_rfc3339(record.created_at),
        stored_at=_rfc3339(record.stored_at),
        attempts=record.attempts,
        size=record.size,
        outcome=record.outcome,
        status=record.status,
        due_at=None if record.due_at is None else _rfc3339(record.due_at),
        died_at=None if record.died_at is None else _rfc3339(record.died_at),
        body=None if record.body is None else record.body.decode(errors="replace"),
    )


def _endpoint(state: EndpointState) -> ShownEndpoint:
    times = (None if at is None else _rfc3339(at) for at in (state.disabled_at, state.failing_since, state.probe_at))
    return ShownEndpoint(state.url, *times)


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
