"""
The writer: one thread, one connection, all writes in the order they were asked for, as many to a commit as have come.

    queue ──▶ waiting ──▶ BEGIN … COMMIT ──▶ one call into the event loop: what is done, what became a lane's head

No artificial wait makes a group: load does. Where the store fails, what waits keeps waiting, in order, and is tried again
with back-off; reads go on. What strikes out or defers is tried before what is put (it may be what frees the disk), and is
answered before it is recorded, so that deliveries of what is stored go on: at worst a receiver sees an event again.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar

import msgspec

from gateway.delivery import Batch, Clock, Delivery, EndpointState, Outcome
from gateway.errors import StateFault, StoreFault
from gateway.outbox.port import Claim
from gateway.outbox.store import Store

T = TypeVar("T")

GROUP: Final = 512
"""Most writes of one commit."""
GROUP_BYTES: Final = 8 << 20
FIRST_BACK_OFF_SECONDS: Final = 0.05
LONGEST_BACK_OFF_SECONDS: Final = 2.0
REOPEN_AFTER_SECONDS: Final = 5.0
"""A store that fails for longer with an I/O error is opened anew: its volume may have come back as another."""
CHECKPOINT_SECONDS: Final = 0.25
"""Idle for so long, the writer empties the log, so that no commit has to."""
PULSE_SECONDS: Final = 5.0

_OURS = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    ValueError,
    TypeError,
    OverflowError,
)
"""What no waiting mends: the write itself is wrong."""


class Write(Generic[T]):
    """One write: applied inside a transaction, answered when it is committed."""

    __slots__ = ("answered", "apply", "batch", "early", "future", "lane", "weight")

    def __init__(
        self,
        future: asyncio.Future[T],
        apply: Callable[[Store, float], T],
        *,
        weight: int = 200,
        early: "Callable[[Store, Unrecorded], T] | None" = None,
        lane: int | None = None,
        batch: Batch | None = None,
    ) -> None:
        self.future = future
        self.apply = apply
        self.weight = weight
        """Bytes of memory, about."""
        self.early = early
        """Answers it while it is not recorded; such a write goes before those without."""
        self.lane = lane
        """The lane it moves on."""
        self.batch = batch
        """What it puts; then its result is the deliveries that became heads, and the future's None."""
        self.answered = False


class Read(Generic[T]):
    """One read: sees every write asked for before it, as long as the store can be written."""

    __slots__ = ("future", "look")

    def __init__(self, future: asyncio.Future[T], look: "Callable[[Store, Unrecorded], T]") -> None:
        self.future = future
        self.look = look


class Close:
    """The end: what waits is still written, for so long."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class _Lane:
    __slots__ = ("delivery", "due_at", "idle", "writes")

    def __init__(self) -> None:
        self.writes = 0
        self.idle = False
        self.delivery: Delivery | None = None
        self.due_at = 0.0


class Unrecorded:
    """
    Lanes that have moved on although the store could not record it. Empty while the store is well.

    The store's own rows of these lanes are out of date and hidden from claims; here is what holds instead.
    """

    def __init__(self) -> None:
        self._lanes: dict[int, _Lane] = {}

    def moved(self, store: Store, delivery: Delivery) -> Delivery | None:
        """Let a lane move on behind `delivery`; gives its next head."""
        following = store.after(delivery)
        lane = self._lane(delivery.lane_id)
        lane.idle, lane.delivery = following is None, None
        return following

    def deferred(self, delivery: Delivery, due_at: float, failed_at: float) -> None:
        """Let a lane wait; it is claimed from here when it is due."""
        lane = self._lane(delivery.lane_id)
        lane.idle, lane.due_at = False, due_at
        lane.delivery = msgspec.structs.replace(
            delivery,
            attempts=delivery.attempts + 1,
            first_failure_at=delivery.first_failure_at or failed_at,
            fresh=False,
        )

    def recorded(self, lane_id: int) -> bool:
        """Take one write of a lane as recorded; whether the lane stands idle, so that a head of it is news."""
        lane = self._lanes[lane_id]
        lane.writes -= 1
        if lane.writes:
            return False
        del self._lanes[lane_id]
        return lane.idle

    def claim(self, store: Store, endpoint: str, now: float, limit: int, busy: frozenset[tuple[str, str]]) -> Claim:
        """Claim from the store, with what holds here."""
        claim = store.claim(endpoint, now, limit, busy, self._lanes)
        for lane in self._waiting(endpoint):
            assert lane.delivery is not None
            if lane.delivery.lane in busy:
                continue  # its taker has not heard yet that it may let go
            if lane.due_at > now:
                claim = Claim(claim.deliveries, min(claim.next_due, lane.due_at))
            elif len(claim.deliveries) >= limit:
                claim = Claim(claim.deliveries, now)
            else:
                claim.deliveries.append(lane.delivery)
                lane.delivery = None
        return claim

    def probe(
        self, store: Store, endpoint: str, now: float, after: int, busy: frozenset[tuple[str, str]], *, untried: bool
    ) -> Delivery | None:
        """Read one waiting head, with what holds here."""
        found = store.probe(endpoint, now, after, busy, self._lanes, untried=untried)
        if found is None:
            for lane in self._waiting(endpoint):
                if lane.delivery is not None and lane.delivery.lane not in busy:
                    found, lane.delivery = lane.delivery, None
                    break
        return found

    def _waiting(self, endpoint: str) -> list[_Lane]:
        return [
            lane
            for lane in self._lanes.values()
            if lane.delivery is not None and lane.delivery.event.endpoint == endpoint
        ]

    def _lane(self, lane_id: int) -> _Lane:
        lane = self._lanes.setdefault(lane_id, _Lane())
        lane.writes += 1
        return lane


class Report(msgspec.Struct):
    """What the writer tells the event loop, at once for a whole commit."""

    done: list[tuple[Write[Any], Any]]
    heads: list[Delivery]
    owed: int
    dead: int
    oldest: float | None
    seconds: float | None = None
    """One commit took so long, its sync to disk included; None where this tells of none."""


class Writer:
    """The thread's work. Everything but the queue is the thread's own."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        *,
        report: Callable[[Report], None],
        refused: Callable[[Write[Any], StateFault], None],
        troubled: Callable[[str | None, int], None],
        create: bool = True,
        pulse_seconds: float = PULSE_SECONDS,
    ) -> None:
        self.queue: SimpleQueue[Write[Any] | Read[Any] | Close] = SimpleQueue()
        self._path = path
        self._clock = clock
        self._loop = loop
        self._report = report
        self._refused = refused
        self._troubled = troubled
        self._create = create
        self._pulse_seconds = pulse_seconds
        self._waiting: deque[Write[Any]] = deque()
        self._unrecorded = Unrecorded()
        self._group = GROUP
        self._trouble: sqlite3.Error | None = None
        self._trouble_since = 0.0
        self._back_off = 0.0
        self._again_at = 0.0
        self._gone: str | None = None
        self._looked_at = time.monotonic()
        self._dirty = False
        self._written_at = time.monotonic()
        self._closing_at: float | None = None

    def run(self, opened: asyncio.Future[Report]) -> None:
        """Open the store, write until told to close. Runs in its thread; raises for nothing but a bug."""
        try:
            store = Store.open(self._path, self._clock(), create=self._create)
        except StoreFault as fault:
            self._tell(_fail, opened, fault)
            return
        self._store = store
        self._tell(_resolve, opened, self._summary([], []))
        try:
            while self._closing_at is None or (self._waiting and time.monotonic() < self._closing_at):
                self._step()
        except BaseException as bug:
            self._tell(self._troubled, f"the writer died of a bug: {bug!r}", len(self._waiting))
            raise
        finally:
            for write in self._waiting:
                self._tell(_cancel, write.future)
            self._store.close()

    def _step(self) -> None:
        item: Write[Any] | Read[Any] | Close | None
        try:
            item = self.queue.get(timeout=self._patience())
        except Empty:
            item = None
        while item is not None:
            match item:
                case Write():
                    self._waiting.append(item)
                    if self._trouble is not None:
                        self._answer_early((item,))
                case Read():
                    self._write()  # it sees what was written before it
                    self._read(item)
                case Close():
                    self._closing_at = time.monotonic() + item.seconds
            try:
                item = self.queue.get_nowait() if len(self._waiting) < GROUP or self._trouble is not None else None
            except Empty:
                item = None
        self._write()
        if not self._waiting:
            self._idle()
        self._look_for_file()

    def _patience(self) -> float:
        """Seconds to wait for work."""
        now = time.monotonic()
        if self._waiting or self._trouble is not None:
            return max(0.0, self._again_at - now)
        return CHECKPOINT_SECONDS if self._dirty else max(0.0, self._written_at + self._pulse_seconds - now)

    def _write(self) -> None:
        """Write what waits, unless the store is being left alone for a while."""
        while self._waiting and time.monotonic() >= self._again_at:
            group = self._take(self._waiting)
            if not self._commit(group) and not self._commit_strikes():
                return

    def _take(self, waiting: Iterable[Write[Any]]) -> list[Write[Any]]:
        group: list[Write[Any]] = []
        weight = 0
        for write in waiting:
            weight += write.weight
            if group and (len(group) >= self._group or weight > GROUP_BYTES):
                break
            group.append(write)
        return group

    def _commit_strikes(self) -> bool:
        """While puts fail: write what strikes out and defers, whose events are all stored, so that space may come free."""
        strikes = [write for write in self._waiting if write.early is not None]
        if not strikes or len(strikes) == len(self._waiting):
            return False
        return self._commit(self._take(strikes))

    def _commit(self, group: list[Write[Any]]) -> bool:
        """Write a group as one transaction; False where the store fails."""
        store = self._store
        now = self._clock()
        try:
            store.begin()
            results = [write.apply(store, now) for write in group]
            began = time.monotonic()
            store.commit()
            seconds = time.monotonic() - began
        except _OURS as error:
            self._roll_back()
            if len(group) == 1:
                self._drop(group)
                if group[0].answered and group[0].lane is not None:
                    self._unrecorded.recorded(group[0].lane)
                self._tell(self._refused, group[0], StateFault(f"a write no store could take: {error}"))
                return True
            return all(self._commit([write]) for write in group)  # in order: where the store fails, the rest waits
        except sqlite3.Error as error:
            self._roll_back()
            self._fails(error)
            return False
        self._drop(group)
        self._works()
        heads: list[Delivery] = []
        for write, result in zip(group, results, strict=True):
            if write.batch is not None:
                heads += result
            elif (
                write.answered
                and write.lane is not None
                and self._unrecorded.recorded(write.lane)
                and result is not None
            ):
                heads.append(result)
        self._dirty = True
        self._tell(self._report, self._summary(list(zip(group, results, strict=True)), heads, seconds))
        return True

    def _drop(self, group: list[Write[Any]]) -> None:
        """Take written ones from what waits; they are at its front, or it is searched (only while the store fails)."""
        for write in group:
            if self._waiting and self._waiting[0] is write:
                self._waiting.popleft()
            else:
                self._waiting.remove(write)

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # a transaction that failed hard is already undone
            self._store.rollback()

    def _answer_early(self, writes: Iterable[Write[Any]]) -> None:
        for write in writes:
            if write.early is None or write.answered:
                continue
            try:
                result = write.early(self._store, self._unrecorded)
            except sqlite3.Error:
                continue  # not even readable: its lane waits with it
            write.answered = True
            self._tell(_resolve, write.future, result)

    def _fails(self, error: sqlite3.Error) -> None:
        now = time.monotonic()
        if self._trouble is None:
            self._trouble_since = now
            self._back_off = 0.0
        self._trouble = error
        self._group = max(1, self._group // 2)  # a store that is nearly full may take some
        self._back_off = min(max(FIRST_BACK_OFF_SECONDS, self._back_off * 2), LONGEST_BACK_OFF_SECONDS)
        self._again_at = now + self._back_off
        self._say()
        self._answer_early(list(self._waiting))
        if now - self._trouble_since >= REOPEN_AFTER_SECONDS and _hopeless(error):
            self._reopen()

    def _works(self) -> None:
        self._written_at = time.monotonic()
        self._group = min(GROUP, self._group * 2)
        self._again_at = 0.0
        if self._trouble is not None and not self._waiting:
            self._trouble = None
            self._say()

    def _reopen(self) -> None:
        try:
            store = Store.open(self._path, self._clock(), create=False)
        except StoreFault:
            return
        with contextlib.suppress(sqlite3.Error):
            self._store.connection.close()
        self._store = store

    def _read(self, read: Read[Any]) -> None:
        try:
            result = read.look(self._store, self._unrecorded)
        except sqlite3.Error as error:
            self._tell(_fail, read.future, StoreFault(_sentence(error)))
        else:
            self._tell(_resolve, read.future, result)

    def _idle(self) -> None:
        """With nothing to write: empty the log, and feel the store's pulse."""
        now = time.monotonic()
        try:
            if self._dirty and now >= self._written_at + CHECKPOINT_SECONDS:
                self._dirty = False
                self._store.checkpoint()
            if now >= (self._written_at + self._pulse_seconds if self._trouble is None else self._again_at):
                self._store.pulse(self._clock())
                self._works()
        except sqlite3.Error as error:
            self._roll_back()
            self._fails(error)

    def _look_for_file(self) -> None:
        """Notice a file that was deleted under us: it goes on working, but a restart would not find it."""
        now = time.monotonic()
        if now < self._looked_at + self._pulse_seconds:
            return
        self._looked_at = now
        gone = None if self._store.in_place() else "the store's file is gone from its path"
        if gone != self._gone:
            self._gone = gone
            self._say()

    def _say(self) -> None:
        trouble = self._gone if self._trouble is None else _sentence(self._trouble)
        self._tell(self._troubled, trouble, len(self._waiting))

    def _summary(
        self, done: list[tuple[Write[Any], Any]], heads: list[Delivery], seconds: float | None = None
    ) -> Report:
        return Report(done, heads, self._store.owed, self._store.dead, self._store.oldest, seconds)

    def _tell(self, function: Callable[..., object], *values: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(function, *values)


def settle(future: asyncio.Future[Delivery | None], delivery: Delivery) -> Write[Delivery | None]:
    """Make the write that strikes a delivered event out."""
    return Write(
        future,
        lambda store, now: store.settle(delivery, now),
        early=lambda store, unrecorded: unrecorded.moved(store, delivery),
        lane=delivery.lane_id,
    )


def bury(future: asyncio.Future[Delivery | None], delivery: Delivery, outcome: Outcome) -> Write[Delivery | None]:
    """Make the write that turns an event into a dead letter."""
    return Write(
        future,
        lambda store, now: store.bury(delivery, outcome, now),
        early=lambda store, unrecorded: unrecorded.moved(store, delivery),
        lane=delivery.lane_id,
    )


def defer(
    future: asyncio.Future[Delivery | None],
    delivery: Delivery,
    outcome: Outcome,
    due_at: float,
    *,
    asked: bool,
    failed_at: float,
) -> Write[Delivery | None]:
    """Make the write that notes a failed attempt."""
    return Write(
        future,
        lambda store, _now: store.defer(delivery, outcome, due_at, asked=asked, failed_at=failed_at),
        early=lambda _store, unrecorded: unrecorded.deferred(delivery, due_at, failed_at),
        lane=delivery.lane_id,
    )


def keep_endpoint(future: asyncio.Future[None], state: EndpointState, *, release: bool) -> Write[None]:
    """Make the write that keeps an endpoint's state."""
    return Write(
        future,
        lambda store, now: store.keep_endpoint(state, now, release=release),
        early=lambda _store, _unrecorded: None,
    )


def _sentence(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", None)
    return f"{error} ({name})" if name else str(error)


def _hopeless(error: sqlite3.Error) -> bool:
    """Whether waiting alone is not known to mend it, on this connection."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
    }


def _resolve(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _cancel(future: asyncio.Future[Any]) -> None:
    future.cancel()
