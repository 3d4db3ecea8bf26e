"""
The benchmark: the gateway against the floor, in one run, on this machine. `make bench`, or `python -m gateway.simulator.bench`.

For each audio path the barest server there can be (`floor.py`) and the gateway by turns, each alone with the same two-leg calls
at real pace. Player (this process), service (`sink.py`), floor and gateway are processes of their own; on Linux only.

    CPU        user and system time of the server's process, in the window, by leg-second
    delay      a frame leaves the player → its last sample has come at the service: the server's own time and what its path holds
               back, measured from outside, the same for both
    memory     resident at the window's end less resident before the first call, by leg

Absolute times are this machine's on this day. Ratios and differences are what can be compared; and since a shared machine is
a fifth faster in one minute than in the next, floor and gateway take turns (`--rounds`), and the medians count.
"""

import argparse
import asyncio
import os
import sys
import time
from bisect import bisect_left
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median
from typing import Final, Literal, NamedTuple

import aiohttp
import msgspec
import uvloop
from aiohttp import web
from rich.console import Console
from rich.table import Table

from gateway.audio.path import Audio
from gateway.simulator import audio, twilio, whole
from gateway.simulator.figures import spread
from gateway.simulator.frames import CarrierFaults
from gateway.simulator.handshake import Secrets
from gateway.simulator.player import Played, play
from gateway.simulator.process import Command, NotStarted, usage
from gateway.simulator.receiver import Receiver
from gateway.simulator.sink import Arrivals
from gateway.simulator.storebench import StoreFigures

CALLS_A_SECOND: Final = 25.0
_SETTLE_SECONDS: Final = 4.0
"""From the last call's beginning to the window's."""
_TAIL_SECONDS: Final = 1.0
_LATE_MS: Final = 60.0

# What is promised.
CPU_TIMES: Final = 1.4
SLOWER_MS: Final[dict[Audio, float]] = {"resampled": 10.0, "mulaw": 5.0}
MEMORY_MB: Final = 0.2
FIRST_ATTEMPT_MS: Final = 10.0
PUT_MS: Final = 5.0

Server = Literal["floor", "gateway"]
AUDIO: Final[tuple[Audio, ...]] = ("resampled", "mulaw")


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One server under load."""

    server: Server
    audio: Audio
    legs: int
    cpu_ms_per_leg_second: float
    delay_p50_ms: float
    delay_p95_ms: float
    delay_p99_ms: float
    memory_kb_per_leg: float
    frames: int
    """In the window; each came."""
    unmatched_legs: int
    """Whose audio was not found at the service."""
    player_late_ms: float
    events: int


async def measure(server: Server, path: Audio, legs: int, seconds: float, *, silent: bool) -> Measured:
    """
    Put one server under load, and measure it.

    Raises:
        NotStarted: A process would not start.
    """
    calls = legs // 2
    ramp = calls / CALLS_A_SECOND
    sounds = [audio.coded(ramp + _SETTLE_SECONDS + seconds + _TAIL_SECONDS, number) for number in range(calls)]
    shared = whole.new_secrets()
    sink = Command(*(["--silent"] if silent else []), expects=("sink",), program=("-P", "-m", "gateway.simulator.sink"))
    async with sink, _served(server, path, shared, sink.listening["sink"]) as (base, pid, receiver):
        _, before = usage(pid)
        async with asyncio.TaskGroup() as playing:
            tasks = [
                playing.create_task(_call(shared, base, sound, number / CALLS_A_SECOND))
                for number, sound in enumerate(sounds)
            ]
            await asyncio.sleep(ramp + _SETTLE_SECONDS)
            began, (cpu_then, _) = time.monotonic(), usage(pid)
            await asyncio.sleep(seconds)
            ended, (cpu_now, resident) = time.monotonic(), usage(pid)
        played = [task.result() for task in tasks]
        arrivals = await _arrivals(sink.listening["sink"])
        events = receiver.counts["accepted"] if receiver is not None else 0
    delays, unmatched = _delays(sounds, played, arrivals, began, ended)
    return Measured(
        server=server,
        audio=path,
        legs=2 * calls,
        cpu_ms_per_leg_second=1000 * (cpu_now - cpu_then) / (ended - began) / (2 * calls),
        delay_p50_ms=_ms(delays, 0.5),
        delay_p95_ms=_ms(delays, 0.95),
        delay_p99_ms=_ms(delays, 0.99),
        memory_kb_per_leg=(resident - before) / 1024 / (2 * calls),
        frames=len(delays),
        unmatched_legs=unmatched,
        player_late_ms=1000 * max(_late(one, began, ended) for one in played),
        events=events,
    )


async def _call(shared: Secrets, base: str, sound: audio.Sound, after: float) -> Played:
    await asyncio.sleep(after)
    call_id = twilio.new_call_id()
    return await play(shared.address(base, "twilio", call_id), twilio.streams(sound, call_id, {}, CarrierFaults()))


@asynccontextmanager
async def _served(
    server: Server, path: Audio, shared: Secrets, sink: str
) -> AsyncIterator[tuple[str, int, Receiver | None]]:
    """A server between here and the sink: where it listens, its process, and who receives its events."""
    if server == "floor":
        told = ["--sink", sink, *(["--mulaw"] if path == "mulaw" else [])]
        program = ("-P", "-m", "gateway.simulator.floor")
        async with Command(*told, expects=("carriers",), program=program) as floor:
            yield floor.listening["carriers"].replace("http", "ws", 1), floor.pid, None
        return
    async with Receiver() as receiver, whole.gateway(shared, sink, receiver, mulaw=path == "mulaw") as gateway:
        yield gateway.carriers, gateway.command.pid, receiver


async def _arrivals(sink: str) -> list[Arrivals]:
    async with aiohttp.ClientSession() as http, http.get(sink.replace("ws", "http", 1) + "/arrivals") as answer:
        return msgspec.msgpack.decode(await answer.read(), type=list[Arrivals])


def _delays(
    sounds: list[audio.Sound], played: list[Played], arrivals: list[Arrivals], began: float, ended: float
) -> tuple[list[float], int]:
    """Of each frame sent in the window, the seconds until its last sample had come; and of how many legs nothing is known."""
    by_word = {one.first_word: one for one in arrivals}
    delays: list[float] = []
    unmatched = 0
    for sound, one in zip(sounds, played, strict=True):
        for track, words in sound.words.items():
            came = by_word.get(words[0].word)
            if came is None:
                unmatched += 1
                continue
            samples = [count * came.samples_per_byte for count in came.counts]
            for span, sent_at in zip(one.spans, one.times, strict=True):
                if span.track == track and began <= sent_at < ended:
                    place = bisect_left(samples, span.end)
                    if place < len(samples):
                        delays.append(came.times[place] - sent_at)
    return delays, unmatched


def _late(one: Played, began: float, ended: float) -> float:
    """The most that a frame of the window left behind its time, by the pace of the stream's most punctual frame."""
    off = [(at, at - span.end / 8000) for span, at in zip(one.spans, one.times, strict=True)]
    inside = [late for at, late in off if began <= at < ended]
    return max(inside) - min(late for _, late in off) if inside else 0.0


def _ms(seconds: list[float], share: float) -> float:
    return 1000 * (spread(seconds, share) or 0.0)


async def store_figures(seconds: float) -> StoreFigures:
    """The outbox's figures, by a process of its own."""
    app = web.Application()
    app.router.add_post("/", _taken)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = "http://{}:{}/".format(*runner.addresses[0][:2])
        told = (sys.executable, "-P", "-m", "gateway.simulator.storebench", "--url", url, "--seconds", str(seconds))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*told, stdout=pipe, stderr=pipe)
        said, errors = await process.communicate()
        if process.returncode:
            raise NotStarted(f"storebench exited with {process.returncode}:\n{errors[-4000:].decode(errors='replace')}")
        return msgspec.json.decode(said, type=StoreFigures)
    finally:
        await runner.cleanup()


async def _taken(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(status=204)


async def bench(args: argparse.Namespace, console: Console) -> int:
    """Run all of it and print the table; 1 where a figure is worse than what is promised."""
    made: list[Measured] = []
    rows: list[Row] = []
    for path in args.audio:
        of: dict[Server, list[Measured]] = {"floor": [], "gateway": []}
        for number in range(args.rounds):
            for server, measured in of.items():
                turn = f"{server}, {path}, {number + 1} of {args.rounds}"
                console.print(f"{turn}: {args.legs} legs at real pace for {args.seconds:g} s …")
                one = await measure(server, path, args.legs, args.seconds, silent=args.silent)
                measured.append(one)
                if one.player_late_ms > _LATE_MS:
                    console.print(
                        f"  the player was up to {one.player_late_ms:.0f} ms late: a busy machine", style="yellow"
                    )
                if one.unmatched_legs:
                    console.print(f"  the audio of {one.unmatched_legs} legs was not found at the service", style="red")
        made += of["floor"] + of["gateway"]
        rows += _compared(path, _middle(of["floor"]), _middle(of["gateway"]))
    if args.store:
        console.print(f"the outbox alone: 2000 events a second for {args.store_seconds:g} s, then heads of lanes …")
        rows += _stored(await store_figures(args.store_seconds))
    console.print()
    _table(rows, console)
    if args.json:
        print(msgspec.json.encode(made).decode())  # noqa: T201
    return 0 if all(row.good for row in rows) else 1


def _middle(measured: list[Measured]) -> Measured:
    """The median of each figure that is compared."""
    names = ("cpu_ms_per_leg_second", "delay_p50_ms", "delay_p95_ms", "delay_p99_ms", "memory_kb_per_leg")
    return msgspec.structs.replace(
        measured[0], **{name: median([getattr(one, name) for one in measured]) for name in names}
    )


class Row(NamedTuple):
    """One line of the table."""

    figure: str
    measured: str
    wanted: str
    of: str
    good: bool


def _compared(path: Audio, floor: Measured, gateway: Measured) -> list[Row]:
    ratio = gateway.cpu_ms_per_leg_second / floor.cpu_ms_per_leg_second
    cpu = f"{gateway.cpu_ms_per_leg_second:.2f} ms against {floor.cpu_ms_per_leg_second:.2f} ms"
    slower, limit = gateway.delay_p95_ms - floor.delay_p95_ms, SLOWER_MS[path]
    quantiles = (
        f"p{share} {of_gateway:.1f} ms against {of_floor:.1f} ms"
        for share, of_gateway, of_floor in (
            (50, gateway.delay_p50_ms, floor.delay_p50_ms),
            (95, gateway.delay_p95_ms, floor.delay_p95_ms),
            (99, gateway.delay_p99_ms, floor.delay_p99_ms),
        )
    )
    memory, of_floor = gateway.memory_kb_per_leg / 1024, floor.memory_kb_per_leg / 1024
    return [
        Row(f"{path}: CPU a leg-second", f"{ratio:.2f} × the floor's", f"≤ {CPU_TIMES} ×", cpu, ratio <= CPU_TIMES),
        Row(
            f"{path}: audio delay p95",
            f"the floor's {slower:+.1f} ms",
            f"≤ +{limit:g} ms",
            ", ".join(quantiles),
            slower <= limit,
        ),
        Row(
            f"{path}: memory a leg",
            f"{memory:.2f} MB",
            f"≤ {MEMORY_MB} MB",
            f"the floor's {of_floor:.2f} MB",
            memory <= MEMORY_MB,
        ),
    ]


def _stored(store: StoreFigures) -> list[Row]:
    first, put = store.first_attempt_p99_ms, store.put_p99_ms
    return [
        Row(
            "event stored → first attempt, p99",
            f"{first:.1f} ms",
            f"≤ {FIRST_ATTEMPT_MS:g} ms",
            f"p50 {store.first_attempt_p50_ms:.1f} ms, {store.heads} heads of lanes",
            first <= FIRST_ATTEMPT_MS,
        ),
        Row(
            "event into the outbox, p99",
            f"{put:.1f} ms at {store.puts_a_second:g}/s",
            f"≤ {PUT_MS:g} ms at 2000/s",
            f"p50 {store.put_p50_ms:.1f} ms, {store.puts} events",
            put <= PUT_MS,
        ),
    ]


def _table(rows: list[Row], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("figure", "measured", "wanted", "of"):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(row.figure, f"[{'green' if row.good else 'red'}]{row.measured}[/]", row.wanted, row.of)
    console.print(table)


def main() -> int:
    """Run it; gives its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--legs", type=int, default=100, help="two a call (default: 100)")
    parser.add_argument("--seconds", type=float, default=60.0, help="the window measured, of each server (default: 60)")
    parser.add_argument("--rounds", type=int, default=2, help="floor and gateway take turns so often (default: 2)")
    parser.add_argument("--audio", nargs="+", choices=AUDIO, default=list(AUDIO), help="audio paths (default: both)")
    parser.add_argument(
        "--silent", action="store_true", help="the service hears nothing: no turns, so no events of them"
    )
    parser.add_argument("--no-store", dest="store", action="store_false", help="leave the outbox out")
    parser.add_argument("--store-seconds", type=float, default=10.0, help="for each of its two figures (default: 10)")
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON, too")
    args = parser.parse_args()
    if os.name != "posix" or not 2 <= args.legs <= 700 or args.rounds < 1:
        parser.error("Linux, 2 to 700 legs, and at least one round")
    console = Console(stderr=args.json, highlight=False, width=None if sys.stdout.isatty() else 200)
    try:
        return uvloop.run(bench(args, console))
    except NotStarted as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2


if __name__ == "__main__":
    sys.exit(main())
