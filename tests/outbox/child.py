"""A process with an outbox, for tests that kill it or take its disk away."""

import asyncio
import json
import resource
import sys
from pathlib import Path

from gateway.delivery import Batch, Selection, TurnRecord
from gateway.outbox.sqlite import SqliteOutbox
from tests.outbox.contract import event


async def put(path: Path) -> None:
    """Put without an end, and print what is committed."""
    async with SqliteOutbox(path) as outbox:
        sequence = 0
        while True:
            sequence += 1
            told = [(call_id, outbox.put(Batch(events=(event(call_id, sequence),)))) for call_id in "ABCDE"]
            for call_id, stored in told:
                await stored
                print(json.dumps([call_id, sequence]), flush=True)


async def limit(path: Path) -> None:
    """Let no file grow beyond a size until puts fail, lift that, and print what was stored."""
    async with SqliteOutbox(path) as outbox, asyncio.TaskGroup() as group:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
        count = 0
        while outbox.healthy and count < 100:
            count += 1
            put = outbox.put(
                Batch(events=(event("A", count),), turns=(TurnRecord("A", "inbound", count, b"x" * 20_000),))
            )
            failing = group.create_task(outbox.until(healthy=False))
            await asyncio.wait((put, failing), return_when=asyncio.FIRST_COMPLETED)
            failing.cancel()
        trouble = outbox.trouble
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        count += 1
        await outbox.put(Batch(events=(event("A", count),)))
        await outbox.until(healthy=True)
        found = await outbox.find(Selection(), 1000, bodies=False)
        stored = [record.sequence for record in found]
        print(json.dumps({"trouble": trouble, "put": count, "stored": stored, "healthy": outbox.healthy}))


asyncio.run({"put": put, "limit": limit}[sys.argv[2]](Path(sys.argv[1])))
