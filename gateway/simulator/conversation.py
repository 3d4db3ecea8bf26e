"""
A conversation on a screen, as its events arrive: who says what, and when; what is not final yet in grey below.

On a terminal a partial stands until its turn is final; elsewhere only what is final is printed, a line each.
"""

from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.simulator.receiver import Arrival

_STYLES: Final = {"inbound": "cyan", "outbound": "green"}
_PARTY_WIDTH: Final = 10


class Conversation:
    """Shows one call's events, while it is entered."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.turns = 0
        self._partials: dict[str, tuple[str, Table]] = {}
        """By track: a turn's id, and how it stands."""
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._partials.clear()
            self._refresh()
            self._live.stop()

    def take(self, arrival: Arrival) -> None:
        """Show an event, if there is something to see in it."""
        if not arrival.accepted:
            return
        data = arrival.event.data
        match arrival.event.type:
            case "turn.partial":
                self._partial(data)
            case "turn.final":
                self.turns += 1
                self._partials.pop(data["leg"]["track"], None)
                self._say(_line(data, ""))
            case "turn.revised":
                turns = data["turns"]
                speakers = ", ".join(dict.fromkeys(str(turn["speaker"]) for turn in turns))
                self._note(f"made out by now who spoke: {speakers}", "dim")
            case "audio.gap":
                gap = f"{data['leg']['party']}: audio lost from {_at(data['start_ms'])} to {_at(data['end_ms'])}"
                self._note(f"{gap} ({data['reason']})", "yellow")
            case "session.zombie":
                self._note(f"{data['leg']['party']}: a session may still be open ({data['reason']})", "red")
            case _:
                pass

    def _partial(self, data: dict[str, Any]) -> None:
        track = data["leg"]["track"]
        if data["turn"]["text"]:
            self._partials[track] = (data["turn"]["id"], _line(data, "bright_black"))
        else:
            self._partials.pop(track, None)
        self._refresh()

    def _say(self, line: Table) -> None:
        if self._live is None:
            self.console.print(line)
        else:
            self._live.console.print(line)
            self._refresh()

    def _note(self, sentence: str, style: str) -> None:
        grid = _grid()
        grid.add_row("", "", Text(sentence, style=style))
        self._say(grid)

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(Group(*(line for _, line in self._partials.values())), refresh=True)


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", width=6)
    grid.add_column(width=_PARTY_WIDTH, no_wrap=True)
    grid.add_column()
    return grid


def _line(data: dict[str, Any], style: str) -> Table:
    track, turn = data["leg"]["track"], data["turn"]
    letter = (turn["speaker"] or "").rpartition(":")[2]
    party = data["leg"]["party"] + (f" {letter}" if letter else "")
    grid = _grid()
    grid.add_row(
        Text(_at(turn["start_ms"]), style="dim"),
        Text(party, style=style or f"bold {_STYLES.get(track, 'white')}"),
        Text(turn["text"], style=style),
    )
    return grid


def _at(ms: int) -> str:
    minutes, rest = divmod(ms, 60_000)
    return f"{minutes}:{rest / 1000:04.1f}"
