"""
The fault tour: `python -m gateway.simulator.chaos`, or `make chaos`.

Every fault of the service and of the carrier, in every phase of a call, on each of its legs, at real pace: each scenario has
an emulator, a receiver and a gateway of its own, and coded speech in which every word can be told. Several run at once.
At the end a table; the exit code is 1 where one scenario is not as promised.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final, Self

import structlog
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.simulator.process import Command
from gateway.simulator.scenarios import Scenario, chosen
from gateway.simulator.stage import Call, Row, Stage, finish, gateway, judge, staged

JOBS: Final = 8
SAID_SECONDS: Final = 15.0
"""From the restart after `kill -9` until each session that was left open is said to be a zombie."""
TERMINATED_SECONDS: Final = 5.0
"""From the drain's deadline until every session was told to terminate, and has."""
_STARTED_SECONDS: Final = 2.0
_KILL_AT: Final = 0.75
"""Of the call."""
_LATE_SECONDS: Final = 0.25
"""A player, or a loop, later than this says little about a gateway."""
_TABLE_WIDTH: Final = 160
_SETTLE_SECONDS: Final = 6.0
_UNSURE_SECONDS: Final = 0.3
"""What was sent so shortly before the drain's deadline may have come behind it."""

BUG: Final = "exception: "

_lines: ContextVar[list[str] | None] = ContextVar("lines", default=None)


async def perform(scenario: Scenario) -> Row:
    """Play one scenario to its end, and judge it."""
    began = time.monotonic()
    acts: dict[str, Callable[[Scenario], Awaitable[Row]]] = {"call": _call, "kill": _kill, "drain": _drain}
    try:
        row = await acts[scenario.kind](scenario)
    except Exception as error:  # noqa: BLE001  a scenario that cannot be played is a failed one; the others go on
        row = Row(scenario, troubles=[f"could not be played: {_innermost(error)!r}"])
    row.seconds = time.monotonic() - began
    return row


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _call(scenario: Scenario) -> Row:
    """Calls through a gateway in this process."""
    async with staged(scenario) as stage:
        calls = [Call.of(scenario, stage.secrets, number) for number in range(scenario.calls)]
        async with gateway(stage), asyncio.TaskGroup() as playing:
            turning = playing.create_task(_turn(stage), name="faults")
            for call in calls:
                playing.create_task(_play(stage, call), name=call.id)
            await asyncio.wait([task for task in _tasks(playing) if task is not turning])
            turning.cancel()
        await _settled(stage)
        return judge(stage, calls)


def _tasks(group: asyncio.TaskGroup) -> set["asyncio.Task[Any]"]:
    return set(group._tasks)  # noqa: SLF001


async def _play(stage: Stage, call: Call) -> None:
    await call.play(stage)
    await finish(stage, call)


async def _turn(stage: Stage) -> None:
    """Let the emulator fail otherwise from a moment on."""
    if stage.scenario.then is not None:
        seconds, faults = stage.scenario.then
        await asyncio.sleep(seconds)
        stage.emulator.faults = faults


async def _settled(stage: Stage) -> None:
    """Let the emulator see that what the gateway cut is gone."""
    with suppress(TimeoutError):  # `judge` says so
        await stage.emulator.wait(lambda: stage.emulator.ledger.totals.open == 0, timeout=_SETTLE_SECONDS)


async def _kill(scenario: Scenario) -> Row:
    """A gateway process that is killed in mid-call, and one that comes after it; the carrier does not come back."""
    clock = asyncio.get_running_loop().time
    async with staged(scenario) as stage, AsyncExitStack() as processes:
        first = await processes.enter_async_context(_serve(stage))
        stage.carriers = first.listening["carriers"].replace("http", "ws", 1)
        calls = [Call.of(scenario, stage.secrets, number) for number in range(scenario.calls)]
        async with asyncio.TaskGroup() as playing:
            for call in calls:
                playing.create_task(call.play(stage), name=call.id)
            await asyncio.sleep(scenario.seconds * _KILL_AT)
            os.kill(first.pid, signal.SIGKILL)
            await first.exited()
        began = clock()
        await processes.enter_async_context(_serve(stage))
        zombies = scenario.expected.zombies or 0

        def said() -> int:
            return sum(check.zombies for check in stage.receiver.calls.values())

        in_time = await stage.receiver.until(lambda: said() >= zombies, SAID_SECONDS)
        note = f"{said()} sessions said {clock() - began:.1f} s after the restart"
        for call in calls:
            await finish(stage, call)
            call.played.ended = "played"  # the gateway was killed: the stream could but be lost
    row = judge(stage, calls)
    row.note = note
    if not in_time:
        row.troubles.append(f"{said()} of {zombies} sessions said within {SAID_SECONDS:g} s")
    return row


async def _drain(scenario: Scenario) -> Row:
    """A gateway process that is told to stop while calls go on: at the deadline all their sessions end together."""
    clock = asyncio.get_running_loop().time
    drain_seconds = float(str(scenario.settings["drain_seconds"]))
    async with staged(scenario) as stage, _serve(stage) as process:
        stage.carriers = process.listening["carriers"].replace("http", "ws", 1)
        calls = [Call.of(scenario, stage.secrets, number) for number in range(scenario.calls)]
        async with asyncio.TaskGroup() as playing:
            for number, call in enumerate(calls):
                playing.create_task(_play_later(stage, call, number * _STARTED_SECONDS / len(calls)), name=call.id)
            await asyncio.sleep(scenario.seconds - drain_seconds - _STARTED_SECONDS)
            begun = sum(line.begun_at is not None for line in stage.emulator.sessions)
            os.kill(process.pid, signal.SIGTERM)
            deadline_unix, deadline = time.time() + drain_seconds, clock() + drain_seconds
            await process.exited()
            exited = clock() - deadline
        for call in calls:
            call.ended = stage.receiver.ended(call.id)
            call.over_at = deadline - _UNSURE_SECONDS
            call.played.ended = "played"  # cut by the gateway, as it should
        await _settled(stage)
        row = judge(stage, calls)
        ends = [line.termination_sent_at for line in stage.emulator.sessions]
        last = max((end - deadline_unix for end in ends if end is not None), default=0.0)
        row.note = f"{begun} sessions, the last one ended {last:.1f} s after the deadline, the process {exited:.1f} s"
        if begun < 2 * scenario.calls:
            row.troubles.append(f"only {begun} sessions had begun")
        if last > TERMINATED_SECONDS or None in ends:
            row.troubles.append(f"the last session ended {last:.1f} s after the deadline, {ends.count(None)} never")
        if process.exit_code != 0:
            row.troubles.append(f"exit code {process.exit_code}")
        return row


async def _play_later(stage: Stage, call: Call, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await call.play(stage)


def _serve(stage: Stage) -> Command:
    return Command("serve", environment=stage.environment, expects=("carriers", "admin"), stop_seconds=60)


async def tour(
    scenarios: Sequence[Scenario], jobs: int, done: Callable[[Row], None], began: Callable[[Scenario], None]
) -> list[Row]:
    """All scenarios, so many at once; those that want the machine for themselves come last, one by one."""
    rows: dict[str, Row] = {}
    seats = asyncio.Semaphore(jobs)

    async def one(scenario: Scenario) -> None:
        async with seats:
            lines: list[str] = []
            _lines.set(lines)
            began(scenario)
            rows[scenario.title] = row = await perform(scenario)
            row.log = lines
            # An exception that was caught and logged is a bug all the same.
            row.troubles += [line.rstrip().rpartition("\n")[2] for line in lines if line.startswith(BUG)]
            done(row)

    async with asyncio.TaskGroup() as together:
        for scenario in scenarios:
            if not scenario.alone:
                together.create_task(one(scenario), name=scenario.title)
    for scenario in scenarios:
        if scenario.alone:
            await one(scenario)
    return [rows[scenario.title] for scenario in scenarios]


# What is shown


def shown(rows: Sequence[Row]) -> Table:
    """The table."""
    table = Table(title="Fault tour", title_justify="left")
    for name in ("scenario", "phase", "legs"):
        table.add_column(name, overflow="fold")
    for name in (
        "spoken", "lost", "doubled", "moved", "off ms", "sessions", "left", "zombies", "gaps s", "billed/spoken s",
        "behind s", "back s", "late ms", "",
    ):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        count = row.count
        result = Text("PASS", style="green") if row.passed else Text("FAIL", style="bold red")
        table.add_row(
            row.scenario.name, row.scenario.phase, row.scenario.legs, str(count.spoken), str(count.lost),
            str(count.doubled + count.invented), str(count.moved), str(row.worst_ms), str(row.opened), str(row.abandoned),
            str(row.zombies), f"{row.gap_ms / 1000:.1f}", f"{row.billed_seconds:.0f}/{row.spoken_seconds:.0f}",
            f"{row.behind:.1f}", f"{row.caught_up:.1f}", f"{row.late_seconds * 1000:.0f}", result,
        )  # fmt: skip
    return table


def summary(rows: Sequence[Row]) -> list[str]:
    """What failed and why, and a line of all."""
    said = []
    for row in rows:
        if row.note:
            said.append(f"{row.scenario.title}: {row.note}")
        if row.troubles:
            starved = (
                f" (this machine was {row.late_seconds * 1000:.0f} ms late)" if row.late_seconds > _LATE_SECONDS else ""
            )
            said.append(f"FAIL {row.scenario.title}{starved}: {'; '.join(row.troubles)}")
    failed = sum(not row.passed for row in rows)
    words = sum(row.count.spoken for row in rows)
    said.append(
        f"{len(rows)} scenarios, {failed} failed; {words} words spoken, {sum(r.count.lost for r in rows)} lost, "
        f"{sum(r.count.doubled for r in rows)} doubled; {sum(r.opened for r in rows)} sessions, "
        f"{sum(r.abandoned for r in rows)} abandoned"
    )
    return said


class Progress:
    """How the tour stands: live on a terminal, a line a scenario elsewhere."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._running: dict[str, float] = {}
        self._done = 0
        self._failed = 0
        self._live = (
            Live(console=console, get_renderable=self._show, refresh_per_second=4) if console.is_terminal else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def began(self, scenario: Scenario) -> None:
        """A scenario began."""
        self._running[scenario.title] = time.monotonic()

    def done(self, row: Row) -> None:
        """A scenario is over."""
        self._running.pop(row.scenario.title, None)
        self._done += 1
        self._failed += not row.passed
        verdict = "[green]PASS[/]" if row.passed else "[bold red]FAIL[/]"
        why = "" if row.passed else " — " + "; ".join(row.troubles)
        self._console.print(
            f"{self._done:>3}/{self._total} {verdict} {row.scenario.title} ({row.seconds:.0f} s)", end=""
        )
        self._console.print(why, markup=False, highlight=False)

    def _show(self) -> Table:
        table = Table(box=None, show_header=False)
        table.add_row("", f"{self._done} of {self._total} done, {self._failed} failed")
        now = time.monotonic()
        for title, since in self._running.items():
            table.add_row(f"{now - since:4.0f} s", title)
        return table


@contextmanager
def keeping_logs() -> Iterator[None]:
    """What the gateways log is kept with their scenario, and shown nowhere else."""
    before = structlog.get_config()
    structlog.configure(processors=[_keep])
    try:
        yield
    finally:
        structlog.configure(**before)


def _keep(logger: Any, name: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    lines = _lines.get()
    if lines is not None:
        told = " ".join(f"{key}={value}" for key, value in event.items() if key not in {"event", "exc_info"})
        lines.append(f"{time.monotonic():.3f} {event.get('event')} {told}")
        if event.get("exc_info"):
            lines.append(BUG + str(structlog.processors.format_exc_info(logger, name, dict(event)).get("exception")))
    raise structlog.DropEvent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tour; 1 where a scenario failed."""
    parser = argparse.ArgumentParser(prog="python -m gateway.simulator.chaos", description=__doc__)
    parser.add_argument("--only", default="", metavar="PATTERN", help="scenarios whose title contains this")
    parser.add_argument("--short", action="store_true", help="the short form: what the tests run")
    parser.add_argument("--jobs", type=int, default=JOBS, help="so many at once (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="only list the scenarios")
    parser.add_argument("--log", action="store_true", help="show the gateway's log of those that fail")
    parser.add_argument("--seeds", metavar="FROM-TO", help="only scenarios made by chance, of these seeds")
    args = parser.parse_args(arguments)
    seeds = None
    if args.seeds:
        low, _, high = args.seeds.partition("-")
        seeds = range(int(low), int(high or low) + 1)
    scenarios = chosen(only=args.only, short=args.short, seeds=seeds)
    console = Console(width=None if sys.stdout.isatty() else 200)
    if not scenarios:
        console.print(f"no scenario is called {args.only!r}", markup=False)
        return 2
    if args.list:
        console.print("\n".join(scenario.title for scenario in scenarios), markup=False, highlight=False)
        return 0
    with keeping_logs(), Progress(console, len(scenarios)) as progress:
        rows = asyncio.run(tour(scenarios, max(1, args.jobs), progress.done, progress.began))
    console.width = max(console.width, _TABLE_WIDTH)  # a narrow terminal wraps lines: better than columns of nothing
    console.print(shown(rows))
    if args.log:
        for row in rows:
            if not row.passed:
                console.rule(row.scenario.title)
                console.print("\n".join([*row.log, *row.details]), markup=False, highlight=False)
    console.print("\n".join(summary(rows)), markup=False, highlight=False)
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
