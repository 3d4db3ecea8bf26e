"""The SQLite outbox: the contract, and what is its own: lock, mode, versions, and a file that fails."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.delivery import Batch, CallRecord, Delivery, Selection, TurnRecord
from gateway.errors import StoreFault, StoreLocked
from gateway.outbox import writer as writing
from gateway.outbox.lock import announced, held, lock_path
from gateway.outbox.sqlite import SqliteOutbox
from gateway.outbox.store import APPLICATION_ID, migrate
from tests.outbox.contract import FAILED, HOOK, OutboxContract, Time, batch, event


class TestSqliteOutbox(OutboxContract):
    """The contract, kept by SQLite."""

    def open(self, path: Path, time: Time) -> AbstractAsyncContextManager[SqliteOutbox]:
        """Open a file in `path`."""
        return SqliteOutbox(path / "gateway.db", clock=time)


@contextlib.asynccontextmanager
async def full(outbox: SqliteOutbox) -> AsyncIterator[None]:
    """Let the disk be full meanwhile: the file may not grow by a page."""

    def limit(pages: str) -> writing.Read[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        read = writing.Read(
            future,
            lambda store, _unrecorded: int(store.connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()[0]),
        )
        outbox._writer.queue.put(read)
        return read

    await limit("1").future  # SQLite takes the present size where that is more
    yield
    await limit("1073741823").future


async def trouble(outbox: SqliteOutbox, *, there: bool) -> None:
    """Wait until the outbox says that its store fails, or that it does not."""
    async with asyncio.timeout(10):
        await outbox.until(healthy=not there)


BIG = b"x" * 20_000


async def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    """While one holds the store another gets StoreLocked, by whatever path; afterwards it opens."""
    path = tmp_path / "gateway.db"
    (tmp_path / "link.db").symlink_to(path)
    async with SqliteOutbox(path):
        assert held(path)
        with pytest.raises(StoreLocked, match=str(os.getpid())):
            await SqliteOutbox(tmp_path / "link.db").__aenter__()
    assert not held(path)
    async with SqliteOutbox(tmp_path / "link.db"):
        pass


async def test_the_files_are_the_owners_alone(tmp_path: Path) -> None:
    """The store and its companions have mode 0600, whatever they had before."""
    path = tmp_path / "gateway.db"
    path.touch(0o644)
    async with SqliteOutbox(path) as outbox:
        await outbox.put(batch(event("A", 1)))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in os.scandir(tmp_path)}

    assert modes == dict.fromkeys(("gateway.db", "gateway.db-wal", "gateway.db-shm", "gateway.db.lock"), 0o600)


async def test_the_lock_file_says_where_the_admin_routes_are(tmp_path: Path) -> None:
    """What is announced can be read while the store is held, and not afterwards."""
    path = tmp_path / "gateway.db"
    async with SqliteOutbox(path) as outbox:
        assert announced(lock_path(path)) == (os.getpid(), None)
        outbox.announce("http://127.0.0.1:8081")
        assert announced(lock_path(path)) == (os.getpid(), "http://127.0.0.1:8081")
    assert announced(lock_path(path)) == (None, None)


@pytest.mark.parametrize("said", [b"", b"\xff", b"[]", b'{"pid": "1", "admin": 2}'])
def test_a_lock_file_of_any_content_is_read(tmp_path: Path, said: bytes) -> None:
    """A lock file cut short or written by another says nothing, and breaks nothing."""
    (tmp_path / "l").write_bytes(said)

    assert announced(tmp_path / "l") == (None, None)


async def test_durable_settings_hold(tmp_path: Path) -> None:
    """The connection that writes runs WAL with synchronous=FULL, on a file that carries version and owner."""
    async with SqliteOutbox(tmp_path / "gateway.db") as outbox:
        pragmas = ("journal_mode", "synchronous", "auto_vacuum", "user_version", "application_id")
        said = await outbox._look(
            lambda store, _: [store.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
        )

    assert said == ["wal", 2, 2, 1, APPLICATION_ID]


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        ("CREATE TABLE theirs (x)", "not a gateway's store"),
        (f"PRAGMA application_id = {APPLICATION_ID}; CREATE TABLE t (x); PRAGMA user_version = 99", "newer gateway"),
        (None, "not a database"),
    ],
)
async def test_a_file_that_is_no_store_of_ours_is_refused(tmp_path: Path, prepare: str | None, said: str) -> None:
    """A foreign database, a newer version's and a file of rubbish are refused at start, untouched."""
    path = tmp_path / "gateway.db"
    if prepare is None:
        path.write_bytes(b"rubbish " * 1000)
    else:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.executescript(prepare)
    before = path.read_bytes()
    with pytest.raises(StoreFault, match=said):
        await SqliteOutbox(path).__aenter__()

    assert path.read_bytes() == before
    assert not held(path)


async def test_a_directory_that_is_missing_is_said(tmp_path: Path) -> None:
    """A path that cannot be opened is a StoreFault with the path in it."""
    with pytest.raises(StoreFault, match=r"missing/gateway.db"):
        await SqliteOutbox(tmp_path / "missing" / "gateway.db").__aenter__()


async def test_nothing_is_created_where_that_was_not_asked_for(tmp_path: Path) -> None:
    """An outbox opened with `create=False` refuses a path without a file."""
    with pytest.raises(StoreFault):
        await SqliteOutbox(tmp_path / "gateway.db", create=False).__aenter__()

    assert not (tmp_path / "gateway.db").exists()


def test_migrations_go_on_from_the_files_version(tmp_path: Path) -> None:
    """Each script runs once, in order; one that fails leaves the version before it, whole."""
    with contextlib.closing(sqlite3.connect(tmp_path / "m.db", isolation_level=None)) as connection:
        scripts = [
            "CREATE TABLE a (x); -- why; not\nINSERT INTO a VALUES (1);",
            "ALTER TABLE a ADD COLUMN y;\nUPDATE a SET y = x + 1;",
        ]
        migrate(connection, scripts[:1])
        migrate(connection, scripts)
        migrate(connection, scripts)
        assert connection.execute("SELECT x, y FROM a").fetchall() == [(1, 2)]
        with pytest.raises(sqlite3.OperationalError):
            migrate(connection, [*scripts, "DELETE FROM a;\nSELECT nonsense;"])
        assert connection.execute(
            "SELECT count(*), (SELECT user_version FROM pragma_user_version) FROM a"
        ).fetchone() == (1, 2)


async def test_a_full_disk_loses_nothing_and_stops_no_delivery(tmp_path: Path) -> None:
    """While the disk is full puts wait in memory, what is stored is delivered on, and all is stored in order afterwards."""
    async with SqliteOutbox(tmp_path / "gateway.db", room_events=3) as outbox:
        heads: list[Delivery] = []
        outbox.listen(heads.extend)
        await outbox.put(batch(event("A", 1), event("A", 2), event("B", 1)))
        async with full(outbox):
            late = [
                outbox.put(
                    Batch(
                        events=(event("A", n),),
                        turns=(TurnRecord("A", "inbound", n, BIG),),
                        calls=(CallRecord("A", open=True, state=b"%d" % n),),
                    )
                )
                for n in (3, 4, 5)
            ]
            await trouble(outbox, there=True)
            assert "full" in str(outbox.trouble)
            assert (outbox.depth(), outbox.waiting()) == (6, 3)
            full_up = asyncio.gather(outbox.room())
            assert await outbox.call("A") == CallRecord("A", open=True, state=b"5")
            assert [turn.index for turn in await outbox.turns("A")] == [3, 4, 5]

            second = await outbox.settle(heads[0])
            assert second is not None
            assert second.event == event("A", 2)
            assert await outbox.settle(second) is None
            assert (
                await outbox.defer(heads[1], FAILED, heads[1].stored_at + 50, asked=False, failed_at=heads[1].stored_at)
                is None
            )
            claim = await outbox.claim(HOOK, heads[1].stored_at + 60, 9, ())
            assert [d.event.call_id for d in claim.deliveries] == ["B"]
            assert not any(put.done() for put in late)
            assert not full_up.done()
        await asyncio.gather(*late)
        await full_up
        await trouble(outbox, there=False)

        assert len(heads) == 3
        assert heads[-1].event == event("A", 3)
        lane = [heads[-1]]
        while (following := await outbox.settle(lane[-1])) is not None:
            lane.append(following)
        assert [delivery.event.sequence for delivery in lane] == [3, 4, 5]
        assert (outbox.depth(), outbox.waiting()) == (1, 0)


async def test_a_lane_goes_on_while_nothing_can_be_recorded(tmp_path: Path) -> None:
    """With the file locked by another process, heads are handed on, deferred and claimed again; all of it is recorded afterwards."""
    path = tmp_path / "gateway.db"
    async with SqliteOutbox(path) as outbox:
        heads: list[Delivery] = []
        outbox.listen(heads.extend)
        await outbox.put(batch(event("A", 1), event("A", 2), event("A", 3), event("B", 1)))
        now = heads[0].stored_at
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as thief:
            thief.execute("BEGIN IMMEDIATE")
            waiting = outbox.put(batch(event("C", 1)))
            await trouble(outbox, there=True)
            assert "locked" in str(outbox.trouble)
            second = await outbox.settle(heads[0])
            assert second is not None
            assert await outbox.defer(second, FAILED, now + 5, asked=False, failed_at=now) is None
            assert (await outbox.claim(HOOK, now + 1, 9, [(HOOK, "B")])).next_due == now + 5
            busy = await outbox.claim(HOOK, now + 6, 9, [(HOOK, "A"), (HOOK, "B")])
            assert busy.deliveries == []
            (again,) = (await outbox.claim(HOOK, now + 6, 9, [(HOOK, "B")])).deliveries
            assert (again.event, again.attempts, again.first_failure_at) == (event("A", 2), 1, now)
            third = await outbox.bury(again, FAILED)
            assert third is not None
            assert third.event == event("A", 3)
            assert not waiting.done()
            thief.execute("ROLLBACK")
        await waiting
        assert await outbox.settle(third) is None
        assert await outbox.settle(heads[1]) is None
        assert [d.event.call_id for d in (await outbox.claim(HOOK, now + 99, 9, ())).deliveries] == ["C"]
        assert [record.id for record in await outbox.find(Selection(state="dead"), 9, bodies=False)] == ["msg_A-2"]
        assert (outbox.depth(), outbox.dead_letters()) == (1, 1)


async def test_an_idle_store_that_fails_is_noticed(tmp_path: Path) -> None:
    """A store is felt for when nothing is to be written, so that readiness tells the truth; so is the loss of its file."""
    path = tmp_path / "gateway.db"
    async with SqliteOutbox(path, pulse_seconds=0.01) as outbox:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as thief:
            thief.execute("BEGIN IMMEDIATE")
            await trouble(outbox, there=True)
            thief.execute("ROLLBACK")
        await trouble(outbox, there=False)
        path.rename(tmp_path / "away.db")
        await trouble(outbox, there=True)
        assert "gone" in str(outbox.trouble)
        (tmp_path / "away.db").rename(path)
        await trouble(outbox, there=False)


async def test_a_store_locked_at_start_is_said(tmp_path: Path) -> None:
    """A file on which another process holds SQLite's lock cannot be opened: StoreLocked."""
    path = tmp_path / "gateway.db"
    async with SqliteOutbox(path):
        pass
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as thief:
        thief.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreLocked):
            await SqliteOutbox(path).__aenter__()
        thief.execute("ROLLBACK")


async def test_what_cannot_be_stored_at_the_end_is_given_up_in_time(tmp_path: Path) -> None:
    """Closing waits for a failing store as long as it was told, no longer; the puts are cancelled."""
    path = tmp_path / "gateway.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as thief:
        async with SqliteOutbox(path, close_seconds=0.05) as outbox:
            thief.execute("BEGIN IMMEDIATE")
            put = outbox.put(batch(event("A", 1)))
        thief.execute("ROLLBACK")

    assert put.cancelled()


async def child(path: Path, *arguments: str) -> asyncio.subprocess.Process:
    """Start `tests/outbox/child.py`."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.outbox.child",
        str(path),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )


async def test_what_was_committed_survives_kill_9(tmp_path: Path) -> None:
    """A process killed while it puts has lost nothing that it was told is stored, and each call's order holds."""
    path = tmp_path / "gateway.db"
    process = await child(path, "put")
    assert process.stdout is not None
    told: dict[str, int] = {}
    async with asyncio.timeout(30):
        while sum(told.values()) < 500:
            call_id, sequence = json.loads(await process.stdout.readline())
            told[call_id] = sequence
        process.send_signal(signal.SIGKILL)
        async for line in process.stdout:
            with contextlib.suppress(json.JSONDecodeError):
                call_id, sequence = json.loads(line)
                told[call_id] = sequence
        await process.wait()

    async with SqliteOutbox(path) as outbox:
        stored: dict[str, list[int]] = {}
        for record in await outbox.find(Selection(), 1_000_000, bodies=False):
            stored.setdefault(record.call_id, []).append(record.sequence)
        for call_id, last in told.items():
            assert stored[call_id] == list(range(1, len(stored[call_id]) + 1))
            assert len(stored[call_id]) >= last


async def test_a_file_that_may_not_grow_heals(tmp_path: Path) -> None:
    """Under a limit on file sizes (an I/O error to SQLite) events wait in memory; when it is lifted all are stored, in order."""
    process = await child(tmp_path / "gateway.db", "limit")
    async with asyncio.timeout(30):
        output, _ = await process.communicate()

    assert process.returncode == 0
    said = json.loads(output.splitlines()[-1])  # the log's lines stand before it
    assert said["trouble"]
    assert said["stored"] == list(range(1, said["put"] + 1))
    assert said["healthy"] is True


Step = st.one_of(
    st.tuples(st.just("put"), st.sampled_from("ABC"), st.integers(1, 3)),
    st.tuples(
        st.sampled_from(["settle", "defer", "bury", "lock", "unlock", "replay"]), st.sampled_from("ABC"), st.just(0)
    ),
)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(Step, max_size=30))
def test_any_interleaving_keeps_each_calls_order(
    steps: list[tuple[str, str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever is put, settled, deferred, buried or replayed, store failing or not: calls' events come out in their order, each once."""
    asyncio.run(_interleave(steps, tmp_path_factory.mktemp("outbox") / "gateway.db"))


async def _interleave(steps: list[tuple[str, str, int]], path: Path) -> None:
    time = Time()
    put = dict.fromkeys("ABC", 0)
    settled: dict[str, list[int]] = {call_id: [] for call_id in "ABC"}
    buried: dict[str, set[int]] = {call_id: set() for call_id in "ABC"}
    replayed: dict[str, set[int]] = {call_id: set() for call_id in "ABC"}
    holding: dict[str, Delivery] = {}
    async with SqliteOutbox(path, clock=time) as outbox:

        def arrived(heads: list[Delivery]) -> None:
            for head in heads:
                assert head.event.call_id not in holding
                holding[head.event.call_id] = head

        outbox.listen(arrived)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as thief:
            waiting: list[asyncio.Future[None]] = []

            async def work(call_id: str, verb: str) -> None:
                head = holding.pop(call_id, None)
                if head is None:
                    claim = await outbox.claim(HOOK, time.now, 9, [(HOOK, name) for name in holding])
                    for delivery in claim.deliveries:
                        # One that was handed over while the claim was under way is in both, and is taken once.
                        held = holding.setdefault(delivery.event.call_id, delivery)
                        assert held.position == delivery.position
                    head = holding.pop(call_id, None)
                    if head is None:
                        return
                match verb:
                    case "settle":
                        settled[call_id].append(head.event.sequence)
                        following = await outbox.settle(head)
                    case "bury":
                        buried[call_id].add(head.event.sequence)
                        following = await outbox.bury(head, FAILED)
                    case _:
                        following = await outbox.defer(head, FAILED, time.now + 1, asked=False, failed_at=time.now)
                        time.now += 1
                if following is not None:
                    assert call_id not in holding
                    holding[call_id] = following

            for verb, call_id, count in steps:
                match verb:
                    case "put":
                        for _ in range(count):
                            put[call_id] += 1
                            waiting.append(outbox.put(batch(event(call_id, put[call_id]))))
                        if not thief.in_transaction:
                            await waiting[-1]
                    case "lock":
                        if not thief.in_transaction:
                            thief.execute("BEGIN IMMEDIATE")
                    case "unlock":
                        if thief.in_transaction:
                            thief.execute("ROLLBACK")
                    case "replay":
                        if not thief.in_transaction:
                            await outbox.replay(Selection(state="dead"))
                            for name, dead in buried.items():
                                replayed[name] |= dead
                                dead.clear()
                    case _:
                        await work(call_id, verb)
            if thief.in_transaction:
                thief.execute("ROLLBACK")
            await asyncio.gather(*waiting)
            await outbox.until(healthy=True)  # what was answered before it was recorded is recorded
            for _ in range(sum(put.values()) * 2 + 3):
                for call_id in "ABC":
                    await work(call_id, "settle")
            assert outbox.depth() == 0
    for call_id in "ABC":
        assert sorted(settled[call_id]) == sorted(set(range(1, put[call_id] + 1)) - buried[call_id])
        on_time = [sequence for sequence in settled[call_id] if sequence not in replayed[call_id]]
        assert on_time == sorted(on_time)
