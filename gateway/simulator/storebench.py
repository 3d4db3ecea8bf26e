"""
The outbox's figures, without a gateway around it: how long a put takes under load, and a stored head until its first attempt.

    python -m gateway.simulator.storebench --url http://127.0.0.1:PORT/ [--rate 2000] [--seconds 10]

Prints JSON. It is a process of its own, as the gateway is: one event loop, on uvloop, and the writer's thread.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from gateway import log
from gateway.delivery import Attempt, Batch, Event, Outcome
from gateway.outbox.sqlite import SqliteOutbox
from gateway.simulator.figures import spread
from gateway.webhooks.sender import Sender
from gateway.webhooks.worker import Deliveries

LANES: Final = 1000
HEADS_A_SECOND: Final = 100.0
_TICK_SECONDS: Final = 0.005
_BODY: Final = b'{"type":"turn.final","data":"' + b"x" * 570 + b'"}'
_KEY: Final = bytes(32)


class StoreFigures(msgspec.Struct, frozen=True, kw_only=True):
    """In milliseconds."""

    puts: int
    puts_a_second: float
    put_p50_ms: float
    put_p99_ms: float
    heads: int
    first_attempt_p50_ms: float
    first_attempt_p99_ms: float


class _Observed:
    """The first attempts' delays, in seconds."""

    def __init__(self) -> None:
        self.delays: list[float] = []

    def attempted(self, attempt: Attempt) -> None:
        if attempt.first_delay_seconds is not None:
            self.delays.append(attempt.first_delay_seconds)

    def perished(self, outcome: Outcome) -> None:
        """No perishables here."""


def _events(url: str, lanes: int) -> Iterator[Event]:
    """Events of so many calls in turn, in order within each."""
    number = 0
    while True:
        sequence, lane = divmod(number, lanes)
        yield Event(f"msg_{number}", f"CA{lane}", url, "turn.final", sequence + 1, time.time(), _BODY)
        number += 1


def _note(delays: list[float], since: float, _: object) -> None:
    delays.append(time.monotonic() - since)


async def puts(folder: Path, url: str, rate: float, seconds: float) -> tuple[list[float], float]:
    """How long each put took until it was committed, and how many a second there were."""
    loop = asyncio.get_running_loop()
    delays: list[float] = []
    async with SqliteOutbox(folder / "puts.db") as outbox:
        made = _events(url, LANES)
        began = time.monotonic()
        count = 0
        last: asyncio.Future[None] = loop.create_future()
        while (now := time.monotonic()) < began + seconds:
            while count < (now - began) * rate:
                put_at = time.monotonic()
                last = outbox.put(Batch(events=(next(made),)))
                last.add_done_callback(partial(_note, delays, put_at))
                count += 1
            await asyncio.sleep(_TICK_SECONDS)
        await last
        took = time.monotonic() - began
    return delays, count / took


async def heads(folder: Path, url: str, seconds: float) -> list[float]:
    """From an event's storing to its first attempt, where nothing of its call was before it."""
    observed = _Observed()
    async with (
        SqliteOutbox(folder / "heads.db") as outbox,
        Sender([_KEY], allowed=[ip_network("127.0.0.0/8")]) as sender,
        Deliveries(outbox, sender, observe=observed) as deliveries,
    ):
        made = _events(url, 1 << 30)
        began = time.monotonic()
        count = 0
        while (now := time.monotonic()) < began + seconds:
            while count < (now - began) * HEADS_A_SECOND:
                await outbox.put(Batch(events=(next(made),)))
                count += 1
            await asyncio.sleep(_TICK_SECONDS)
        await deliveries.drain(10)
    return observed.delays


async def measure(url: str, rate: float, seconds: float) -> StoreFigures:
    """Both, one after the other."""
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        put, a_second = await puts(Path(name), url, rate, seconds)
        first = await heads(Path(name), url, seconds)
    return StoreFigures(
        puts=len(put),
        puts_a_second=round(a_second),
        put_p50_ms=_ms(put, 0.5),
        put_p99_ms=_ms(put, 0.99),
        heads=len(first),
        first_attempt_p50_ms=_ms(first, 0.5),
        first_attempt_p99_ms=_ms(first, 0.99),
    )


def _ms(seconds: list[float], share: float) -> float:
    return round((spread(seconds, share) or 0.0) * 1000, 2)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--rate", type=float, default=2000.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    log.set_up()
    print(msgspec.json.encode(uvloop.run(measure(args.url, args.rate, args.seconds))).decode())  # noqa: T201


if __name__ == "__main__":
    main()
