"""A process that puts and delivers, for a test that kills it."""

import asyncio
import sys
from ipaddress import ip_network

from gateway.delivery import Batch, Event
from gateway.outbox.sqlite import SqliteOutbox
from gateway.webhooks.sender import Sender
from gateway.webhooks.worker import Deliveries


def body(call_id: str, sequence: int) -> bytes:
    """Make a body; not canonical JSON, so that nobody can make it anew."""
    return b'{"type":"turn.final",  "timestamp":"t","data":{"call":{"id":"%s"},"sequence":%d}}' % (
        call_id.encode(),
        sequence,
    )


async def main(path: str, url: str, key: str) -> None:
    """Put ten events of three calls and deliver until killed."""
    async with (
        SqliteOutbox(path) as outbox,
        Sender([bytes.fromhex(key)], allowed=[ip_network("127.0.0.0/8")]) as sender,
    ):
        events = [
            Event(f"msg_{call_id}_{n}", call_id, url, "turn.final", n, 0.0, body(call_id, n))
            for n in range(1, 11)
            for call_id in "ABC"
        ]
        await outbox.put(Batch(events=tuple(events)))
        async with Deliveries(outbox, sender):
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
