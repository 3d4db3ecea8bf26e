"""The outbox over SQLite, as the event loop sees it: what is put is never refused; what the store cannot take yet, memory holds."""

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog

from gateway.delivery import (
    Batch,
    CallRecord,
    Clock,
    Delivery,
    DeliveryRecord,
    EndpointState,
    Interrupted,
    Outcome,
    Replayed,
    Selection,
    TurnRecord,
)
from gateway.errors import StateFault, StoreFault
from gateway.outbox import store as storage
from gateway.outbox import writer as writing
from gateway.outbox.clock import steady_clock
from gateway.outbox.lock import StoreLock
from gateway.outbox.port import Claim

T = TypeVar("T")
_log = structlog.get_logger()

SWEEP_SECONDS = 3600.0


class SqliteOutbox:
    """
    An outbox in one SQLite file, held by one process.

    `async with SqliteOutbox(path)` opens it; what is handed out is ready.

    Raises (on entering):
        StoreLocked: If another process holds it.
        StoreFault: If it cannot be used.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        keep_days: float | None = 7.0,
        room_events: int = 50_000,
        room_bytes: int = 256 << 20,
        close_seconds: float = 5.0,
        pulse_seconds: float = writing.PULSE_SECONDS,
        clock: Clock | None = None,
        create: bool = True,
        committed: Callable[[float], object] | None = None,
    ) -> None:
        """`committed` is told the seconds of each commit, its sync to disk included."""
        self._path = Path(path)
        self._keep_seconds = None if keep_days is None else keep_days * 86400
        """None: nothing is deleted for its age."""
        self._room_events = room_events
        self._room_bytes = room_bytes
        self._close_seconds = close_seconds
        self._clock = clock or steady_clock()
        self._create = create
        self._pulse_seconds = pulse_seconds
        self._observe_commit = committed or (lambda _seconds: None)
        self._lock = StoreLock(self._path)
        self.trouble: str | None = None
        """Why the store does not take writes now."""
        self._well, self._ill = asyncio.Event(), asyncio.Event()
        self._well.set()
        self._arrived: Callable[[list[Delivery]], None] = lambda _heads: None
        self._waiting: deque[Batch] = deque()
        """What is put and not committed, in order."""
        self._waiting_events = 0
        self._waiting_bytes = 0
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._owed = 0
        self._dead = 0
        self._oldest: float | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._lock.__enter__)
        try:
            self._loop = loop
            self._writer = writing.Writer(
                self._path,
                self._clock,
                loop,
                report=self._committed,
                refused=self._refused,
                troubled=self._troubled,
                create=self._create,
                pulse_seconds=self._pulse_seconds,
            )
            opened: asyncio.Future[writing.Report] = loop.create_future()
            self._thread = threading.Thread(target=self._writer.run, args=(opened,), name="outbox-writer")
            self._thread.start()
            try:
                self._count(await opened)
            except BaseException:
                self._writer.queue.put(writing.Close(0.0))
                await asyncio.to_thread(self._thread.join)
                raise
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._sweeper = self._group.create_task(self._sweep(), name="outbox sweep")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sweeper.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            self._writer.queue.put(writing.Close(self._close_seconds))
            await asyncio.to_thread(self._thread.join)
            self._lock.__exit__(None, None, None)
            await asyncio.sleep(0)  # what the thread said last is heard
            if self._waiting_events:
                _log.error(
                    "outbox closed with events that could not be stored",
                    events=self._waiting_events,
                    trouble=self.trouble,
                )

    @property
    def healthy(self) -> bool:
        """Whether the store takes writes."""
        return self.trouble is None

    async def until(self, *, healthy: bool) -> None:
        """Wait until the store takes writes, or until it does not."""
        await (self._well if healthy else self._ill).wait()

    def announce(self, admin_url: str) -> None:
        """Say beside the store where this process's admin routes are."""
        self._lock.announce(admin_url)

    # Putting

    def put(self, batch: Batch) -> asyncio.Future[None]:
        """
        Store a batch, whole or not at all, after all that were put before it. Never blocks, and no trouble of the store raises.

        The future is done when it is committed, be that an hour later; it holds a StateFault for a batch that no store
        could take (two events of one id), and is cancelled when the outbox is closed before the store took it.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        weight = batch.weight()
        self._waiting.append(batch)
        self._waiting_events += len(batch.events)
        self._waiting_bytes += weight
        if self._waiting_events >= self._room_events or self._waiting_bytes >= self._room_bytes:
            self._has_room.clear()
        self._writer.queue.put(
            writing.Write[Any](done, lambda store, now: store.put(batch, now), weight=weight, batch=batch)
        )
        return done

    @property
    def has_room(self) -> bool:
        """Whether memory is not full of what the store does not take."""
        return self._has_room.is_set()

    async def room(self) -> None:
        """Return at once, unless memory is full of what the store does not take: then wait until it is not."""
        await self._has_room.wait()

    # Looking up

    async def interrupted(self) -> list[Interrupted]:
        """Look up the calls that are open: at start, what a crash left."""
        return await self._look(lambda store, _unrecorded: store.interrupted())

    async def call(self, call_id: str) -> CallRecord | None:
        """Look a call up, as the last put left it."""
        stored = await self._look(lambda store, _unrecorded: store.call(call_id))
        waiting = [call for batch in self._waiting for call in batch.calls if call.call_id == call_id]
        return waiting[-1] if waiting else stored

    async def turns(self, call_id: str) -> list[TurnRecord]:
        """Look a call's turns up, as the last put left them, by track and index."""
        stored = await self._look(lambda store, _unrecorded: store.turns(call_id))
        turns = {(turn.track, turn.index): turn for turn in stored}
        turns |= {
            (turn.track, turn.index): turn for batch in self._waiting for turn in batch.turns if turn.call_id == call_id
        }
        return [turns[key] for key in sorted(turns)]

    async def find(self, selection: Selection, limit: int, *, bodies: bool) -> list[DeliveryRecord]:
        """Look deliveries up, owed and dead, in order of storing; what is not committed yet is not seen."""
        return await asyncio.to_thread(storage.find, self._path, selection, limit, bodies=bodies)

    async def endpoints(self) -> list[EndpointState]:
        """Read every endpoint known."""
        return await self._look(lambda store, _unrecorded: store.endpoints())

    # Delivering

    def listen(self, arrived: Callable[[list[Delivery]], None]) -> None:
        """Hear of each commit of puts, on the event loop, at once: the events that became heads of lanes by it."""
        self._arrived = arrived

    async def claim(self, endpoint: str, now: float, limit: int, busy: Collection[tuple[str, str]]) -> Claim:
        """Read the heads that are due, longest due first, but those of lanes in `busy`."""
        lanes = frozenset(busy)
        return await self._look(lambda store, unrecorded: unrecorded.claim(store, endpoint, now, limit, lanes))

    async def probe(
        self, endpoint: str, now: float, after: int, busy: Collection[tuple[str, str]], *, untried: bool = False
    ) -> Delivery | None:
        """Read one waiting head, due or not: the first in order of storing after position `after`, round and round."""
        lanes = frozenset(busy)
        return await self._look(
            lambda store, unrecorded: unrecorded.probe(store, endpoint, now, after, lanes, untried=untried)
        )

    async def settle(self, delivery: Delivery) -> Delivery | None:
        """Strike a delivered event out; gives its lane's next head."""
        future = self._future()
        self._writer.queue.put(writing.settle(future, delivery))
        return await future

    async def defer(
        self, delivery: Delivery, outcome: Outcome, due_at: float, *, asked: bool, failed_at: float
    ) -> Delivery | None:
        """Note a failed attempt. Gives the lane's head where that has become another (a replay), else None."""
        future = self._future()
        self._writer.queue.put(writing.defer(future, delivery, outcome, due_at, asked=asked, failed_at=failed_at))
        return await future

    async def bury(self, delivery: Delivery, outcome: Outcome) -> Delivery | None:
        """Make a dead letter; gives its lane's next head."""
        future = self._future()
        self._writer.queue.put(writing.bury(future, delivery, outcome))
        return await future

    def keep_endpoint(self, state: EndpointState, *, release: bool) -> asyncio.Future[None]:
        """Store an endpoint's state. `release`: every lane of it that waits for its own pause is due now."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._writer.queue.put(writing.keep_endpoint(future, state, release=release))
        return future

    async def replay(self, selection: Selection) -> Replayed:
        """Owe dead letters again, each in its old place, under its old id; make waiting lanes due."""
        revived, after = 0, -1
        while selection.state != "owed":
            some, after = await self._write(lambda store, now, after=after: store.revive(selection, after, now))
            revived += some
            if some < storage.CHUNK:
                break
        hastened = 0
        if selection.state != "dead":
            hastened = await self._write(lambda store, now: store.hasten(selection, now))
        return Replayed(revived, hastened)

    async def sweep(self) -> None:
        """Delete what was kept long enough; also done at start and every hour."""
        keep = self._keep_seconds
        after: str | None = ""
        while after is not None and keep is not None:
            after = await self._write(lambda store, now, after=after: store.sweep(keep, after, now))
        try:
            await self._look(lambda store, _unrecorded: store.shrink())
        except StoreFault as fault:
            _log.debug("the store's free pages are kept until the next sweep", fault=str(fault))

    # Counting

    def depth(self) -> int:
        """Count the events owed, those waiting in memory for the store included."""
        return self._owed + self._waiting_events

    def oldest(self, now: float | None = None) -> float:
        """Give the age in seconds of the oldest event owed; 0 where nothing is."""
        since = self._oldest if self._oldest is not None else math.inf
        if self._waiting_events:
            since = min(since, next(event.created_at for batch in self._waiting for event in batch.events))
        return max(0.0, (self._clock() if now is None else now) - since) if since < math.inf else 0.0

    def dead_letters(self) -> int:
        """Count the dead letters."""
        return self._dead

    def waiting(self) -> int:
        """Count the events in memory that are not committed."""
        return self._waiting_events

    # From the writer's thread, by call_soon_threadsafe

    def _committed(self, report: writing.Report) -> None:
        self._count(report)
        if report.seconds is not None:
            self._observe_commit(report.seconds)
        put = False
        for write, result in report.done:
            if write.batch is not None:
                put = True
                self._leave(write)
            if not write.future.done():
                write.future.set_result(result if write.batch is None else None)
        if put or report.heads:
            self._arrived(report.heads)

    def _refused(self, write: writing.Write[Any], fault: StateFault) -> None:
        if write.batch is not None:
            self._leave(write)
            _log.error("a batch was not stored", fault=str(fault), events=[event.id for event in write.batch.events])
        if not write.future.done():
            write.future.set_exception(fault)

    def _leave(self, write: writing.Write[Any]) -> None:
        batch = self._waiting.popleft()  # they leave in the order they came
        self._waiting_events -= len(batch.events)
        self._waiting_bytes -= write.weight
        if self._waiting_events < self._room_events and self._waiting_bytes < self._room_bytes:
            self._has_room.set()

    def _count(self, report: writing.Report) -> None:
        self._owed, self._dead, self._oldest = report.owed, report.dead, report.oldest

    def _troubled(self, trouble: str | None, waiting: int) -> None:
        if (trouble is None) == (self.trouble is None):
            self.trouble = trouble
            return
        self.trouble = trouble
        was, now = (self._ill, self._well) if trouble is None else (self._well, self._ill)
        was.clear()
        now.set()
        if trouble is None:
            _log.info("the store takes writes again")
        else:
            _log.error("the store fails; events wait in memory", trouble=trouble, waiting=waiting)

    # Pieces

    async def _sweep(self) -> None:
        while True:
            await self.sweep()
            await asyncio.sleep(SWEEP_SECONDS)

    def _future(self) -> asyncio.Future[Delivery | None]:
        return self._loop.create_future()

    async def _look(self, look: Callable[[storage.Store, writing.Unrecorded], T]) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        self._writer.queue.put(writing.Read(future, look))
        return await future

    async def _write(self, apply: Callable[..., Any]) -> Any:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._writer.queue.put(writing.Write(future, apply))
        return await future
