"""What a load run came to, for people (rich) and for programs (JSON)."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.simulator.count import Count
from gateway.simulator.figures import Delay, Figures
from gateway.simulator.load import Tally

_WIDTH: Final = 20
_LATE_SECONDS: Final = 0.1
"""A player later than this says little about a gateway."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a run."""

    carrier: str
    seconds: float
    calls: int
    played: int
    refused: int
    unreachable: int
    lost: int
    leg_seconds: float
    """That were played."""
    frames: int
    late_ms: float
    """The most that the player itself was behind."""
    ended: int | None
    """Calls whose `call.ended` came; None where nobody received."""
    events: int
    repeated: int
    sessions: int
    zombies: int
    gaps_ms: int
    cost_usd: float
    words: Count | None
    worst_ms: int
    unsigned: int
    """Webhooks whose signature was wrong."""
    figures: Figures | None
    ledger: dict[str, Any] | None
    """The emulator's, where it is ours."""
    troubles: tuple[str, ...]

    @property
    def well(self) -> bool:
        """Whether everything was as promised."""
        return not self.troubles


def made(
    tally: Tally,
    carrier: str,
    seconds: float,
    *,
    received: bool,
    unsigned: int,
    figures: Figures | None,
    ledger: dict[str, Any] | None,
) -> Report:
    """The report of a run that is over."""
    troubles = list(tally.troubles)
    if unsigned:
        troubles.append(f"{unsigned} webhooks with a wrong signature")
    if ledger is not None and (ledger["abandoned"] or ledger["open"]):
        troubles.append(f"sessions abandoned: {ledger['abandoned']}, still open: {ledger['open']}")
    return Report(
        carrier=carrier,
        seconds=round(seconds, 1),
        calls=tally.started,
        played=tally.played,
        refused=tally.refused,
        unreachable=tally.unreachable,
        lost=tally.lost,
        leg_seconds=round(tally.leg_seconds, 1),
        frames=tally.watch.frames,
        late_ms=round(tally.watch.late_seconds * 1000, 1),
        ended=tally.ended if received else None,
        events=tally.events,
        repeated=tally.repeated,
        sessions=tally.sessions,
        zombies=tally.zombies,
        gaps_ms=tally.gaps_ms,
        cost_usd=round(tally.cost_usd, 6),
        words=tally.words if tally.counted else None,
        worst_ms=tally.worst_ms,
        unsigned=unsigned,
        figures=figures,
        ledger=ledger,
        troubles=tuple(troubles),
    )


def show(report: Report, console: Console) -> None:
    """Print it."""
    for name, value in _rows(report):
        console.print(Text.assemble((name.ljust(_WIDTH), "bold"), value))
    for trouble in report.troubles:
        console.print(Text(f"not as promised: {trouble}", style="red"))
    if report.late_ms > _LATE_SECONDS * 1000:
        late = f"The player was up to {report.late_ms:g} ms late: this machine is too busy for the delays to mean much."
        console.print(Text(late, style="yellow"))
    verdict = ("as promised", "bold green") if report.well else ("NOT as promised", "bold red")
    console.print(Text(*verdict))


def _rows(report: Report) -> Iterator[tuple[str, str]]:
    ends = ((report.refused, "refused"), (report.unreachable, "unreachable"), (report.lost, "cut by the gateway"))
    failed = [f"{count} {name}" for count, name in ends if count]
    yield "calls", ", ".join([f"{report.played} of {report.calls} played to their end", *failed])
    yield "played", f"{report.leg_seconds:g} leg-seconds, {report.frames} frames in {report.seconds:g} s"
    if report.ended is not None:
        yield "events", f"{report.events} of {report.ended} calls that ended; {report.repeated} came again"
        yield "gaps said", f"{report.gaps_ms / 1000:g} s"
    if report.words is not None:
        words = report.words
        yield "words", f"{words.spoken} spoken, {words.heard} heard; times within {report.worst_ms} ms"
        yield (
            "",
            f"{words.lost} lost, {words.doubled} doubled, {words.moved} out of order, {words.invented} never spoken",
        )
    if report.figures is None:
        yield "gateway's figures", "not measured: its /metrics could not be read"
    else:
        cpu, memory = report.figures.cpu_ms_per_leg_second, report.figures.memory_kb_per_leg
        yield "audio delay added", _delay(report.figures.audio_delay)
        yield "turn delay", _delay(report.figures.turn_delay)
        yield "CPU a leg-second", "unknown" if cpu is None else f"{cpu:.2f} ms"
        yield "memory a leg", "unknown" if memory is None else f"{memory:.0f} KiB"
    if report.ledger is not None:
        totals = report.ledger
        ended = f"opened {totals['opened']}, terminated {totals['terminated']}, abandoned {totals['abandoned']}"
        yield "sessions", f"{ended}; billed {totals['billed_seconds']:.1f} s"


def _delay(delay: Delay) -> str:
    if not delay.count:
        return "not measured"
    shown = (
        f"{name} {value:g} ms"
        for name, value in (("p50", delay.p50_ms), ("p95", delay.p95_ms), ("p99", delay.p99_ms))
        if value is not None
    )
    return ", ".join(shown)


def progress(tally: Tally, seconds: float, wanted: str) -> RenderableType:
    """How a run stands, for a live display."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("time", f"{seconds:.0f} s of {wanted}")
    table.add_row("calls", f"{tally.running} running, {tally.started} begun, {tally.played} played")
    table.add_row("frames", f"{tally.watch.frames}, latest {tally.watch.late_seconds * 1000:.0f} ms late")
    table.add_row("ended", f"{tally.ended} calls, {tally.events} events")
    if tally.counted:
        table.add_row("words", f"{tally.words.heard} of {tally.words.spoken} heard")
    if tally.troubles:
        return Group(table, Text(tally.troubles[-1], style="red"))
    return table


def line(tally: Tally, seconds: float) -> str:
    """The same as one line of a log."""
    words = f", words {tally.words.heard}/{tally.words.spoken}" if tally.counted else ""
    trouble = f"; {len(tally.troubles)} not as promised" if tally.troubles else ""
    return (
        f"{seconds:.0f} s: {tally.running} calls running, {tally.started} begun, {tally.played} played, {tally.ended} ended, "
        f"{tally.watch.frames} frames{words}{trouble}"
    )
