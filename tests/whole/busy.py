"""A real gateway on a bad day, for whoever scrapes it: calls over each carrier, and every trouble that shows on a board."""

import asyncio
import itertools
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from gateway.call import Call, Party
from gateway.delivery import Batch, CallRecord, SessionRecord
from gateway.emulator.faults import Cut, Failure, Faults
from gateway.events import rfc3339
from gateway.livecall import Kept
from gateway.outbox.sqlite import SqliteOutbox
from gateway.speech.ledger import StoredSession
from tests.fakes.endpoint import Answer
from tests.whole.rig import Caller, Rig, TelnyxCaller, coded, rig, speak

_FAULTS = Faults(
    begin_delay_seconds=0.2,
    extras=True,
    malformed=("unknown_type",),
    at={
        2: Cut(3.0),
        3: {"never_acknowledge_terminate": True},
        5: Failure(3005, "Session Cancelled: An error occurred", 2.0),
        7: Failure(3006, "User Input Validation Error: as asked"),
        9: Failure(3008, "Session Expired: Maximum session duration exceeded", 4.0),
    },
)


async def _interrupted(folder: Path) -> None:
    """Leave a call and a session in the store, as a process that was killed does."""
    now = time.time()
    party = Party("inbound", "inbound")
    call = Call("CA" + "9" * 32, "twilio", "MZ0", None, None, None, rfc3339(now - 60), {}, "default")
    kept = Kept(call, 0, now - 60, (party,), {"inbound": 0}, now - 60, 0.0, 0.0)
    session = StoredSession("inbound-1-0", "inbound", 1, "universal-3-5-pro", "s", now - 60, 0.67, 60.0)
    async with SqliteOutbox(folder / "gateway.db") as outbox:
        await outbox.put(
            Batch(
                calls=(CallRecord(call.id, open=True, state=msgspec.json.encode(kept)),),
                sessions=(SessionRecord(session.key, call.id, "inbound", msgspec.json.encode(session)),),
            )
        )


async def _calls(house: Rig) -> None:
    """Calls, four at a time, for ever; the odd one loses frames, its socket, or its right to be heard."""
    numbers = itertools.count()

    async def line() -> None:
        for number in numbers:
            seconds = 5.0
            tracks = {
                "inbound": speak(coded(seconds, first=number % 200), seconds),
                "outbound": speak(coded(seconds, first=number % 200 + 40), seconds),
            }
            if number % 4 == 1:
                await TelnyxCaller(house, f"CA-v3-{number:028x}", tracks, overtake=8).whole()
                continue
            one = Caller(
                house, f"CA{number:032x}", tracks, lose=frozenset(range(60, 75)) if number % 3 else frozenset()
            )
            await one.connect()
            await one.send({"event": "mark", "mark": {"name": "x"}})
            await one.send({"event": "media", "media": {"track": 7}})
            await one.play(3000 if number % 5 == 2 else None)
            if number % 5 == 2:
                one.vanish()
            else:
                await one.stop()

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(line())
        group.create_task(_strangers(house))


async def _strangers(house: Rig) -> None:
    while True:
        async with house.http.get(house.carriers.replace("ws", "http", 1) + "/media/twilio") as answer:
            assert answer.status == 403
        await asyncio.sleep(1)


@contextmanager
def serving() -> Iterator[str]:
    """`host:port` of its admin port, while entered."""
    started: list[str] = []
    ready, over = threading.Event(), threading.Event()

    async def day(folder: Path) -> None:
        await _interrupted(folder)
        async with rig(folder, _FAULTS, terminate_seconds=1, reconnect_seconds=8, budget_usd_per_day=40) as house:
            answered = itertools.count()
            house.endpoint.order = lambda _received: Answer(503 if next(answered) % 7 == 3 else 204)
            started.append(house.admin.removeprefix("http://"))
            ready.set()
            calls = asyncio.ensure_future(_calls(house))  # noqa: TID251  cancelled below
            await asyncio.to_thread(over.wait)
            calls.cancel()
            await asyncio.wait([calls])

    with tempfile.TemporaryDirectory() as folder:
        thread = threading.Thread(target=lambda: asyncio.run(day(Path(folder))), name="busy gateway")
        thread.start()
        try:
            assert ready.wait(30)
            yield started[0]
        finally:
            over.set()
            thread.join(60)
