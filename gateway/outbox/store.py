"""
The SQLite file: one connection, used by one thread, and every statement. Nothing here waits for anything but the disk.

WAL with `synchronous=FULL`: what is committed survives the loss of power, not only of the process. This is the one
connection that writes and checkpoints (SQLite before 3.51.3 can corrupt a WAL when two do so at once).
"""

import os
import sqlite3
from collections.abc import Collection, Iterable
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Self

from gateway.delivery import (
    Batch,
    CallRecord,
    Delivery,
    DeliveryRecord,
    EndpointState,
    Event,
    Interrupted,
    Outcome,
    Selection,
    SessionRecord,
    TurnRecord,
)
from gateway.errors import StoreFault, StoreLocked
from gateway.outbox.port import Claim

APPLICATION_ID: Final = 0x54656C47
"""In the file's header: whose file it is."""
MIGRATIONS: Final = ("schema.sql",)
"""Scripts beside this file; the n-th leads to version n, kept in `PRAGMA user_version`. Once published, a script is never changed."""
BUSY_SECONDS: Final = 0.05
"""How long a statement waits for a lock of another process. Short: the writer tries again, and reads go on meanwhile."""
LONGEST_PAUSE: Final = 2 * 86400.0
"""No pause is longer; a due time beyond it was written under another clock."""
CHUNK: Final = 500
"""Rows that one transaction of a replay or a sweep touches: puts wait behind it."""
GRACE_SECONDS: Final = 3600.0
"""How long the turns of an ended call that owes nothing are kept, should its end never have been an event."""

_HEAD = """
  SELECT l.id, l.attempts, l.first_failure_at, n.url, l.call_id,
         e.position, e.stored_at, e.id, e.type, e.sequence, e.created_at, e.body, e.ends_call
  FROM lane l JOIN endpoint n ON n.id = l.endpoint_id JOIN event e ON e.position = {position}
  WHERE l.id = ?1
"""
_HEAD_OF = _HEAD.format(position="l.head")
_HEAD_AT = _HEAD.format(position="?2")


class Store:
    """The file, open. `owed`, `dead` and `oldest` are kept as of the last commit."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self.path = path
        there = path.stat()
        self._identity = (there.st_dev, there.st_ino)
        self.owed = self._one("SELECT count(*) FROM event")
        """Events."""
        self.dead = self._one("SELECT count(*) FROM dead_letter")
        self.oldest: float | None = None
        """When the oldest event owed was stored."""
        self._kept = (self.owed, self.dead)
        self._endpoint_ids: dict[str, int] = {}
        self._position = 1 + self._one(
            "SELECT max(coalesce((SELECT max(position) FROM event), 0), coalesce((SELECT max(position) FROM dead_letter), 0),"
            " coalesce((SELECT max(id) FROM lane), 0), coalesce((SELECT max(position) FROM turn), 0))"
        )
        self._look_at_oldest()

    @classmethod
    def open(cls, path: Path, now: float, *, create: bool = True) -> Self:
        """
        Open the file, make it where it is missing, and bring it to the newest version.

        Raises:
            StoreLocked: If another process holds a lock on the file.
            StoreFault: If it cannot be opened or written, is no store, or is a newer version's.

        """
        try:
            # Made before SQLite makes it, so that it is never readable to others; SQLite gives -wal and -shm the same mode.
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
            try:
                os.fchmod(file, 0o600)
            finally:
                os.close(file)
        except OSError as error:
            raise StoreFault(f"cannot open the store {path}: {error.strerror}") from error
        try:
            connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, cached_statements=256)
        except sqlite3.Error as error:
            raise StoreFault(f"cannot open the store {path}: {error}") from error
        try:
            _prepare(connection, path)
            store = cls(connection, path)
            store.begin()
            store._touch(now)
            store._execute("UPDATE lane SET due_at = ?1 WHERE due_at > ?2", (now, now + LONGEST_PAUSE))
            store._execute("UPDATE endpoint SET probe_at = ?1 WHERE probe_at > ?2", (now, now + LONGEST_PAUSE))
            store.commit()
        except sqlite3.Error as error:
            connection.close()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise StoreLocked(f"another process holds a lock on {path}") from error
            raise StoreFault(f"cannot use the store {path}: {error}") from error
        except BaseException:
            connection.close()
            raise
        return store

    def close(self) -> None:
        """Move what the log holds into the file and close."""
        try:
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error:
            pass  # the log stays beside the file and is read at the next start
        finally:
            self.connection.close()

    # Transactions

    def begin(self) -> None:
        """Begin a transaction that will write."""
        self.connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make it durable."""
        self.connection.execute("COMMIT")
        self._kept = (self.owed, self.dead)
        self._look_at_oldest()

    def rollback(self) -> None:
        """Undo what was begun, if anything was."""
        self.owed, self.dead = self._kept
        self._endpoint_ids.clear()
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def checkpoint(self) -> None:
        """Move what the log holds into the file, as far as no reader is in the way."""
        self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def pulse(self, now: float) -> None:
        """Prove that the file can be written."""
        self.begin()
        self._touch(now)
        self.commit()

    def in_place(self) -> bool:
        """Whether the file at the store's path is still the one that is open."""
        try:
            there = self.path.stat()
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == self._identity

    # Writing; each inside a transaction

    def put(self, batch: Batch, now: float) -> list[Delivery]:
        """Store a batch; gives the events that became heads of lanes."""
        execute = self.connection.execute
        for call in batch.calls:
            execute(
                "INSERT INTO call (id, open, state, changed_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET open = excluded.open, state = excluded.state, changed_at = excluded.changed_at",
                (call.call_id, call.open, call.state, now),
            )
        for turn in batch.turns:
            execute(
                "INSERT INTO turn (call_id, track, number, position, body) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET position = excluded.position, body = excluded.body",
                (turn.call_id, turn.track, turn.index, self._position, turn.body),
            )
        for session in batch.sessions:
            execute(
                "INSERT OR REPLACE INTO session (key, call_id, track, body) VALUES (?, ?, ?, ?)",
                (session.key, session.call_id, session.track, session.body),
            )
        for key in batch.closed_sessions:
            execute("DELETE FROM session WHERE key = ?", (key,))
        return [head for event in batch.events if (head := self._append(event, now)) is not None]

    def settle(self, delivery: Delivery, now: float) -> Delivery | None:
        """Strike a delivered event out; gives its lane's next head."""
        struck = self._execute(
            "DELETE FROM event WHERE position = ? AND id = ?", (delivery.position, delivery.event.id)
        )
        self.owed -= struck.rowcount
        if delivery.event.ends_call:
            # "Turns are stored until their `call.ended` is settled, then deleted": not those of the call opened anew since.
            self._execute(
                "DELETE FROM turn WHERE call_id = ? AND position <= ?", (delivery.event.call_id, delivery.position)
            )
        return self._advance(delivery.lane_id, now)

    def defer(
        self, delivery: Delivery, outcome: Outcome, due_at: float, *, asked: bool, failed_at: float
    ) -> Delivery | None:
        """Note a failed attempt; gives the lane's head where that has become another."""
        noted = self._execute(
            "UPDATE lane SET due_at = ?, asked = ?, attempts = ?, first_failure_at = ?, outcome = ?, status = ?"
            " WHERE id = ? AND head = ?",
            (
                due_at,
                asked,
                delivery.attempts + 1,
                delivery.first_failure_at or failed_at,
                outcome.kind,
                outcome.status,
                delivery.lane_id,
                delivery.position,
            ),
        )
        return None if noted.rowcount else self._head(delivery.lane_id)

    def bury(self, delivery: Delivery, outcome: Outcome, now: float) -> Delivery | None:
        """Make a dead letter; gives its lane's next head."""
        buried = self._execute(
            "INSERT INTO dead_letter SELECT position, ?1, ?2, id, type, sequence, created_at, stored_at, ends_call, body, ?3, ?4, ?5, ?6"
            " FROM event WHERE position = ?7 AND id = ?8",
            (
                delivery.event.endpoint,
                delivery.event.call_id,
                now,
                delivery.attempts + 1,
                outcome.kind,
                outcome.status,
                delivery.position,
                delivery.event.id,
            ),
        )
        self._execute("DELETE FROM event WHERE position = ? AND id = ?", (delivery.position, delivery.event.id))
        self.owed -= buried.rowcount
        self.dead += buried.rowcount
        return self._advance(delivery.lane_id, now)

    def keep_endpoint(self, state: EndpointState, now: float, *, release: bool) -> None:
        """Store an endpoint's state; `release`: its lanes that wait for their own pause are due."""
        number = self._endpoint_id(state.url)
        self._execute(
            "UPDATE endpoint SET disabled_at = ?, failing_since = ?, probes = ?, probe_at = ? WHERE id = ?",
            (state.disabled_at, state.failing_since, state.probes, state.probe_at, number),
        )
        if release:
            self._execute(
                "UPDATE lane SET due_at = ?1 WHERE endpoint_id = ?2 AND due_at > ?1 AND asked = 0", (now, number)
            )

    def revive(self, selection: Selection, after: int, now: float) -> tuple[int, int]:
        """Owe dead letters after position `after` again, some at a time; gives how many, and the last one's position."""
        where, values = _where(selection, "d", call="d.call_id", endpoint="d.endpoint")
        rows = self._execute(
            f"SELECT position, endpoint, call_id, id, type, sequence, created_at, ends_call, body FROM dead_letter d"  # noqa: S608 - the clauses are ours, the values bound
            f" WHERE {where} AND d.position > ? ORDER BY d.position LIMIT {CHUNK}",
            (*values, after),
        ).fetchall()
        for position, endpoint, call_id, *columns in rows:
            self._execute("DELETE FROM dead_letter WHERE position = ?", (position,))
            number = self._endpoint_id(endpoint)
            lane = self._execute(
                "SELECT id, head FROM lane WHERE call_id = ? AND endpoint_id = ?", (call_id, number)
            ).fetchone()
            if lane is None:
                self._execute(
                    "INSERT INTO lane (id, endpoint_id, call_id, head, due_at) VALUES (?, ?, ?, ?, ?)",
                    (position, number, call_id, position, now),
                )
            elif position < lane[1]:
                self._lead(lane[0], position, now)
            self._insert_event(position, position if lane is None else lane[0], now, columns)
            self.dead -= 1
            self.owed += 1
        return len(rows), rows[-1][0] if rows else after

    def hasten(self, selection: Selection, now: float) -> int:
        """Make the lanes due whose head is selected; gives how many waited."""
        where, values = _where(selection, "e", call="l.call_id", endpoint="n.url")
        done = self._execute(
            "UPDATE lane SET due_at = ?, asked = 0 WHERE id IN (SELECT l.id FROM lane l JOIN event e ON e.position = l.head"  # noqa: S608 - the clauses are ours, the values bound
            f" JOIN endpoint n ON n.id = l.endpoint_id WHERE {where} AND l.due_at > ?)",
            (now, *values, now),
        )
        return done.rowcount

    def sweep(self, keep_seconds: float, after: str, now: float) -> str | None:
        """
        Delete what was kept long enough, some at a time.

        Goes through the calls that have turns, in order of id, from *after* on; gives where to go on, None at the end.
        """
        before = now - keep_seconds
        dead = self._execute(
            "DELETE FROM dead_letter WHERE position IN (SELECT position FROM dead_letter WHERE died_at < ? ORDER BY died_at LIMIT ?)",
            (before, CHUNK),
        ).rowcount
        self.dead -= dead
        # A call that is over and owes nothing keeps no turn, even where its end never was an event.
        found = 0
        for _ in range(CHUNK):
            row = self._execute(
                "SELECT call_id FROM turn WHERE call_id > ? ORDER BY call_id LIMIT 1", (after,)
            ).fetchone()
            if row is None:
                break
            after = row[0]
            found += 1
            self._execute(
                "DELETE FROM turn WHERE call_id = ?1 AND NOT EXISTS (SELECT 1 FROM call WHERE id = ?1 AND (open = 1 OR changed_at > ?2))"
                " AND NOT EXISTS (SELECT 1 FROM lane WHERE call_id = ?1) AND NOT EXISTS (SELECT 1 FROM dead_letter WHERE call_id = ?1)",
                (after, now - GRACE_SECONDS),
            )
        self._execute(
            "DELETE FROM session WHERE EXISTS (SELECT 1 FROM call WHERE id = session.call_id AND open = 0 AND changed_at < ?)",
            (now - GRACE_SECONDS,),
        )
        calls = self._execute(
            "DELETE FROM call WHERE id IN (SELECT id FROM call WHERE open = 0 AND changed_at < ?"
            " AND NOT EXISTS (SELECT 1 FROM lane WHERE call_id = call.id)"
            " AND NOT EXISTS (SELECT 1 FROM dead_letter WHERE call_id = call.id) ORDER BY changed_at LIMIT ?)",
            (before, CHUNK),
        ).rowcount
        return after if CHUNK in {dead, found, calls} else None

    def shrink(self) -> None:
        """Give free pages back to the file system, some at a time; outside a transaction."""
        self.connection.execute("PRAGMA incremental_vacuum(2000)").fetchall()

    # Reading

    def after(self, delivery: Delivery) -> Delivery | None:
        """Read the event behind this one in its lane, whatever the lane's head is."""
        row = self._execute(
            "SELECT position FROM event WHERE lane_id = ? AND position > ? ORDER BY position LIMIT 1",
            (delivery.lane_id, delivery.position),
        ).fetchone()
        if row is None:
            return None
        found = self._delivery(_HEAD_AT, (delivery.lane_id, row[0]))
        return None if found is None else Delivery(found.event, found.lane_id, found.position, found.stored_at)

    def claim(
        self, endpoint: str, now: float, limit: int, busy: Collection[tuple[str, str]], hidden: Collection[int]
    ) -> Claim:
        """Read the heads that are due at an endpoint, but those of lanes `busy` (by lane) or `hidden` (by id)."""
        # Busy and hidden lanes may stand among the due ones: that many more are looked at, never the backlog.
        look = limit + len(busy) + len(hidden) + 1
        rows = self._execute(
            "SELECT l.id, l.call_id FROM lane l WHERE l.endpoint_id = (SELECT id FROM endpoint WHERE url = ?) AND l.due_at <= ?"
            " ORDER BY l.due_at LIMIT ?",
            (endpoint, now, look),
        ).fetchall()
        free = [lane for lane, call_id in rows if lane not in hidden and (endpoint, call_id) not in busy]
        heads = [head for lane in free[:limit] if (head := self._head(lane)) is not None]
        if len(free) > limit:
            return Claim(heads, now)
        later = self._execute(
            "SELECT l.due_at FROM lane l WHERE l.endpoint_id = (SELECT id FROM endpoint WHERE url = ?) AND l.due_at > ? ORDER BY l.due_at LIMIT 1",
            (endpoint, now),
        ).fetchone()
        return Claim(heads, later[0] if later else float("inf"))

    def probe(
        self,
        endpoint: str,
        now: float,
        after: int,
        busy: Collection[tuple[str, str]],
        hidden: Collection[int],
        *,
        untried: bool,
    ) -> Delivery | None:
        """
        Read one head of an endpoint, due or not: the first stored after `after`, else the first; never one asked to wait.

        `untried`: rather the newest that had no attempt yet. (The newest lanes are: it is found at once.)
        """
        lanes = (
            "SELECT l.id, l.call_id FROM lane l WHERE l.endpoint_id = (SELECT id FROM endpoint WHERE url = :url) AND "
        )
        waiting = lanes + "l.head > :low AND (l.asked = 0 OR l.due_at <= :now) ORDER BY l.head LIMIT :limit"
        newest = lanes + "l.attempts = 0 ORDER BY l.head DESC LIMIT :limit"
        looks = [(newest, -1)] * untried + [(waiting, after), (waiting, -1)]
        for look, low in looks:
            rows = self.connection.execute(
                look, {"url": endpoint, "low": low, "now": now, "limit": len(busy) + len(hidden) + 1}
            ).fetchall()
            for lane, call_id in rows:
                if lane not in hidden and (endpoint, call_id) not in busy:
                    return self._head(lane)
        return None

    def call(self, call_id: str) -> CallRecord | None:
        """Look a call up."""
        row = self._execute("SELECT open, state FROM call WHERE id = ?", (call_id,)).fetchone()
        return None if row is None else CallRecord(call_id, bool(row[0]), row[1])

    def turns(self, call_id: str) -> list[TurnRecord]:
        """Look a call's turns up, by track and index."""
        rows = self._execute(
            "SELECT track, number, body FROM turn WHERE call_id = ? ORDER BY track, number", (call_id,)
        )
        return [TurnRecord(call_id, track, number, body) for track, number, body in rows]

    def interrupted(self) -> list[Interrupted]:
        """Look up the calls that are open."""
        calls = self._execute("SELECT id, state FROM call WHERE open = 1 ORDER BY changed_at").fetchall()
        return [
            Interrupted(
                CallRecord(call_id, open=True, state=state),
                self.turns(call_id),
                [
                    SessionRecord(key, call_id, track, body)
                    for key, track, body in self._execute(
                        "SELECT key, track, body FROM session WHERE call_id = ? ORDER BY rowid", (call_id,)
                    )
                ],
            )
            for call_id, state in calls
        ]

    def endpoints(self) -> list[EndpointState]:
        """Read every endpoint."""
        rows = self._execute("SELECT url, disabled_at, failing_since, probes, probe_at FROM endpoint ORDER BY id")
        return [EndpointState(*row) for row in rows]

    # Pieces

    def _append(self, event: Event, now: float) -> Delivery | None:
        number = self._endpoint_id(event.endpoint)
        position, self._position = self._position, self._position + 1
        row = self._execute(
            "SELECT id FROM lane WHERE call_id = ? AND endpoint_id = ?", (event.call_id, number)
        ).fetchone()
        lane: int = position if row is None else row[0]
        if row is None:
            self._execute(
                "INSERT INTO lane (id, endpoint_id, call_id, head, due_at) VALUES (?, ?, ?, ?, ?)",
                (lane, number, event.call_id, position, now),
            )
        self._insert_event(
            position, lane, now, (event.id, event.type, event.sequence, event.created_at, event.ends_call, event.body)
        )
        self.owed += 1
        return Delivery(event, lane, position, now, fresh=True) if row is None else None

    def _insert_event(self, position: int, lane: int, now: float, columns: Iterable[Any]) -> None:
        self._execute(
            "INSERT INTO event (position, lane_id, stored_at, id, type, sequence, created_at, ends_call, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (position, lane, now, *columns),
        )

    def _advance(self, lane: int, now: float) -> Delivery | None:
        """Let the lane's first event be its head; a lane without one goes."""
        row = self._execute(
            "SELECT position FROM event WHERE lane_id = ? ORDER BY position LIMIT 1", (lane,)
        ).fetchone()
        if row is None:
            self._execute("DELETE FROM lane WHERE id = ?", (lane,))
            return None
        self._lead(lane, row[0], now)
        return self._head(lane)

    def _lead(self, lane: int, position: int, now: float) -> None:
        self._execute(
            "UPDATE lane SET head = ?, due_at = ?, asked = 0, attempts = 0, first_failure_at = NULL, outcome = NULL, status = NULL"
            " WHERE id = ? AND head <> ?1",
            (position, now, lane),
        )

    def _head(self, lane: int) -> Delivery | None:
        return self._delivery(_HEAD_OF, (lane,))

    def _delivery(self, statement: str, values: tuple[int, ...]) -> Delivery | None:
        row = self._execute(statement, values).fetchone()
        if row is None:
            return None
        (
            lane,
            attempts,
            first_failure_at,
            url,
            call_id,
            position,
            stored_at,
            key,
            kind,
            sequence,
            created_at,
            body,
            ends_call,
        ) = row
        event = Event(key, call_id, url, kind, sequence, created_at, body, bool(ends_call))
        return Delivery(event, lane, position, stored_at, attempts, first_failure_at)

    def _endpoint_id(self, url: str) -> int:
        known = self._endpoint_ids.get(url)
        if known is None:
            self._execute("INSERT OR IGNORE INTO endpoint (url) VALUES (?)", (url,))
            known = self._endpoint_ids[url] = self._one("SELECT id FROM endpoint WHERE url = ?", (url,))
        return known

    def _touch(self, now: float) -> None:
        self._execute(
            "INSERT INTO pulse (id, at) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET at = excluded.at", (now,)
        )

    def _look_at_oldest(self) -> None:
        row = self._execute("SELECT stored_at FROM event ORDER BY position LIMIT 1").fetchone()
        self.oldest = None if row is None else row[0]

    def _execute(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        return self.connection.execute(statement, values)

    def _one(self, statement: str, values: tuple[Any, ...] = ()) -> int:
        number: int = self._execute(statement, values).fetchone()[0]
        return number


def find(path: Path, selection: Selection, limit: int, *, bodies: bool) -> list[DeliveryRecord]:
    """
    Look deliveries up, owed and dead, in order of storing, on a connection of its own that only reads.

    Raises:
        StoreFault: If the file cannot be read.

    """
    found: list[tuple[Any, ...]] = []
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=1.0, isolation_level=None)
        try:
            if selection.state != "dead":
                where, values = _where(selection, "e", call="l.call_id", endpoint="n.url")
                found += connection.execute(
                    "SELECT e.position, e.id, 'owed', n.url, l.call_id, e.type, e.sequence, e.created_at, e.stored_at,"  # noqa: S608 - the clauses are ours, the values bound
                    " iif(l.head = e.position, l.attempts, 0), iif(l.head = e.position, l.outcome, NULL),"
                    " iif(l.head = e.position, l.status, NULL), iif(l.head = e.position, l.due_at, NULL), NULL, length(e.body),"
                    f" iif(?, e.body, NULL) FROM event e JOIN lane l ON l.id = e.lane_id JOIN endpoint n ON n.id = l.endpoint_id"
                    f" WHERE {where} ORDER BY e.position LIMIT ?",
                    (bodies, *values, limit),
                )
            if selection.state != "owed":
                where, values = _where(selection, "d", call="d.call_id", endpoint="d.endpoint")
                found += connection.execute(
                    "SELECT d.position, d.id, 'dead', d.endpoint, d.call_id, d.type, d.sequence, d.created_at, d.stored_at,"  # noqa: S608 - the clauses are ours, the values bound
                    " d.attempts, d.outcome, d.status, NULL, d.died_at, length(d.body), iif(?, d.body, NULL) FROM dead_letter d"
                    f" WHERE {where} ORDER BY d.position LIMIT ?",
                    (bodies, *values, limit),
                )
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StoreFault(f"cannot read the store {path}: {error}") from error
    found.sort(key=itemgetter(0))
    return [DeliveryRecord(*columns) for _, *columns in found[:limit]]


def _where(selection: Selection, table: str, *, call: str, endpoint: str) -> tuple[str, tuple[Any, ...]]:
    """Make a WHERE clause of what selects, and its values."""
    clauses: list[tuple[str, Any]] = [
        (f"{table}.id = ?", selection.id),
        (f"{call} = ?", selection.call_id),
        (f"{endpoint} = ?", selection.endpoint),
        (f"{table}.type = ?", selection.type),
        (f"{table}.created_at >= ?", selection.since),
        (f"{table}.created_at < ?", selection.until),
    ]
    chosen = [(clause, value) for clause, value in clauses if value is not None]
    return " AND ".join([clause for clause, _ in chosen] or ["1"]), tuple(value for _, value in chosen)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreFault(f"{path} is a database, but not a gateway's store")
    if version > len(MIGRATIONS):
        raise StoreFault(
            f"the store {path} is of version {version}, made by a newer gateway; this one knows {len(MIGRATIONS)}"
        )
    if not tables:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only before the first table
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "temp_store = MEMORY",
        "wal_autocheckpoint = 1000",  # smaller steps: a checkpoint of 4000 pages held commits up for 5 ms
        "journal_size_limit = 67108864",
        "secure_delete = FAST",  # deleted transcripts are overwritten where that costs no further write
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    scripts = [Path(__file__).with_name(name).read_text(encoding="utf-8") for name in MIGRATIONS]
    migrate(connection, scripts)


def migrate(connection: sqlite3.Connection, scripts: Iterable[str]) -> None:
    """Bring the schema to its newest version: each script whole or not at all."""
    done: int = connection.execute("PRAGMA user_version").fetchone()[0]
    for version, script in enumerate(scripts, start=1):
        if version <= done:
            continue
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _statements(script: str) -> Iterable[str]:
    """Cut a script into statements; `executescript` would commit between them."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
