"""The boards' previews: drawn in a browser from a real Prometheus' answers about a made-up afternoon."""

import os
import time
from pathlib import Path

import pytest

from grafana.build import BOARDS
from grafana.preview import Span, pictures, shown
from tests.fakes.busy_gateway import history
from tests.fakes.prometheus import backfill, running
from tests.tools import tool

COMMITTED = Path(__file__).parents[2] / "grafana" / "previews"
HOURS = 2
NOTE = "a preview drawn from Prometheus' answers about simulated figures, not Grafana"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "s", "12.3 ms"),
        (5.0, "s", "5 s"),
        (300.0, "s", "5 min"),
        (10_800.0, "s", "3 h"),
        (0.015, "percentunit", "1.5 %"),
        (1234.5, "currencyUSD", "$1,234.50"),
        (float("nan"), "short", "n/a"),
    ],
)
def test_figures_are_written_with_their_unit(value: float, unit: str, text: str) -> None:
    """A figure is written as a person reads it."""
    assert shown(value, unit) == text


@pytest.mark.slow
def test_every_board_can_be_drawn(tmp_path: Path) -> None:
    """Each board becomes a picture that is not an empty page. With WRITE_PREVIEWS=1 these are the committed ones."""
    end = time.time() // 60 * 60
    exposition = tmp_path / "history.txt"
    exposition.write_text("\n".join(history(end, HOURS * 240)) + "\n", encoding="utf-8")
    data = tmp_path / "data"
    backfill(tool("promtool"), exposition, data)
    folder = COMMITTED if os.environ.get("WRITE_PREVIEWS") else tmp_path / "pictures"
    with running(tool("prometheus"), tmp_path, "127.0.0.1:9", data) as prometheus:
        made = pictures(prometheus.url, folder, Span(end - HOURS * 3600 + 600, end, 30), NOTE, tool("chromium"))
    assert [path.stem for path in made] == sorted(board.uid for board in BOARDS)
    for path in made:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 50_000


def test_committed_previews_are_of_our_boards() -> None:
    """There is one committed picture of each board, and no other."""
    assert {path.stem for path in COMMITTED.glob("*.png")} == {board.uid for board in BOARDS}
