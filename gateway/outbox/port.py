"""What deliveries need of a store; one contract suite (`tests/outbox/contract.py`) holds whoever offers it."""

import asyncio
from collections.abc import Callable, Collection
from typing import Protocol

import msgspec

from gateway.delivery import (
    Batch,
    CallRecord,
    Delivery,
    DeliveryRecord,
    EndpointState,
    Interrupted,
    Outcome,
    Replayed,
    Selection,
    TurnRecord,
)


class Claim(msgspec.Struct, frozen=True):
    """What is due at an endpoint."""

    deliveries: list[Delivery]
    next_due: float
    """Epoch seconds at which the next lane is due; in the past where more is due than was asked for; inf where nothing waits."""


class Outbox(Protocol):
    """
    Events in lanes: put, claim, settle. Nothing gives way here: what cannot be stored waits.

    A lane handed out (by `listen`, `claim`, `probe`, or as the next of `settle`) is its taker's until it was settled to
    its end, deferred or buried to its end; the taker sees to it that no lane is worked on twice at once.
    """

    def put(self, batch: Batch) -> asyncio.Future[None]:
        """Store a batch; the future is done when it is committed. Order of puts is order of commits."""

    async def call(self, call_id: str) -> CallRecord | None:
        """Look a call up, as the last put left it."""

    async def turns(self, call_id: str) -> list[TurnRecord]:
        """Look a call's turns up, as the last put left them."""

    async def interrupted(self) -> list[Interrupted]:
        """Look up the calls that are open."""

    def listen(self, arrived: Callable[[list[Delivery]], None]) -> None:
        """Hear of each commit of puts, on the event loop, at once: the events that became heads of lanes by it."""

    async def claim(self, endpoint: str, now: float, limit: int, busy: Collection[tuple[str, str]]) -> Claim:
        """Read the heads that are due, longest due first, but those of lanes in `busy`."""

    async def probe(
        self, endpoint: str, now: float, after: int, busy: Collection[tuple[str, str]], *, untried: bool = False
    ) -> Delivery | None:
        """
        Read one waiting head, due or not: the first in order of storing after position `after`, round and round.

        `untried`: rather the newest that had no attempt yet, where there is one.

        Never one whose receiver asked for a pause that is not over, nor one of a lane in `busy`.
        """

    async def settle(self, delivery: Delivery) -> Delivery | None:
        """Strike a delivered event out; gives its lane's next head."""

    async def defer(
        self, delivery: Delivery, outcome: Outcome, due_at: float, *, asked: bool, failed_at: float
    ) -> Delivery | None:
        """Note a failed attempt. Gives the lane's head where that has become another (a replay), else None."""

    async def bury(self, delivery: Delivery, outcome: Outcome) -> Delivery | None:
        """Make a dead letter; gives its lane's next head."""

    async def endpoints(self) -> list[EndpointState]:
        """Read every endpoint known."""

    def keep_endpoint(self, state: EndpointState, *, release: bool) -> asyncio.Future[None]:
        """Store an endpoint's state. `release`: every lane of it that waits for its own pause is due now."""

    async def find(self, selection: Selection, limit: int, *, bodies: bool) -> list[DeliveryRecord]:
        """Look deliveries up, owed and dead, in order of storing."""

    async def replay(self, selection: Selection) -> Replayed:
        """Owe dead letters again, each in its old place, under its old id; make waiting lanes due."""

    def depth(self) -> int:
        """Count the events owed, those waiting in memory for the store included."""

    def waiting(self) -> int:
        """Count the events in memory that are not committed."""

    def oldest(self, now: float) -> float:
        """Give the age in seconds of the oldest event owed; 0 where nothing is."""

    def dead_letters(self) -> int:
        """Count the dead letters."""
