"""
`python -m grafana.preview PROMETHEUS-URL FOLDER [MINUTES]`: a picture of each board, drawn from Prometheus' answers.

A preview, not Grafana: panels lie where the board puts them and show what their queries answer, drawn as SVG by this file
and photographed by a headless Chromium. Good for a README and for seeing an empty panel; not for judging Grafana's looks.
"""

import html
import json
import math
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from grafana.build import DASHBOARDS

WIDTH: Final = 1600
_COLUMN = WIDTH / 24
_ROW = 34
"""Pixels of a grid row; Grafana's 30 and its margin."""
_COLOURS: Final = (
    "#73BF69",
    "#F2CC0C",
    "#5794F2",
    "#FF9830",
    "#F2495C",
    "#B877D9",
    "#8AB8FF",
    "#FFB357",
    "#96D98D",
    "#CA95E5",
)
_BACK, _CARD, _TEXT, _DIM, _GRID = "#111217", "#181b1f", "#ccccdc", "#8e8e9c", "#2a2d33"
_STATE: Final = {"green": "#73BF69", "orange": "#FF9830", "red": "#F2495C"}


@dataclass(frozen=True)
class Line:
    """One series of an answer: its name, and a value for each step (NaN where there is none)."""

    name: str
    values: Sequence[float]

    def last(self) -> float:
        return next((value for value in reversed(self.values) if math.isfinite(value)), math.nan)


@dataclass(frozen=True)
class Span:
    """The time that is shown, in epoch seconds."""

    start: float
    end: float
    step: float

    def steps(self) -> int:
        return int((self.end - self.start) / self.step) + 1


def asked(url: str, expr: str, legend: str, span: Span) -> list[Line]:
    """What Prometheus answers to a panel's query where all values of all variables are chosen."""
    filled = re.sub(r"\$(job|instance|carrier)\b", ".+", expr).replace(
        "$__rate_interval", f"{max(60, 4 * span.step):g}s"
    )
    query = urllib.parse.urlencode({"query": filled, "start": span.start, "end": span.end, "step": span.step})
    # S310: the address is the operator's own argument.
    with urllib.request.urlopen(f"{url}/api/v1/query_range?{query}", timeout=60) as answer:  # noqa: S310
        result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    lines = []
    for series in result:
        values = [math.nan] * span.steps()
        for at, value in series["values"]:
            values[round((at - span.start) / span.step)] = float(value)
        lines.append(Line(_named(legend, series["metric"]), values))
    return lines


def _named(legend: str, labels: Mapping[str, str]) -> str:
    if legend in {"", "__auto"}:
        return ", ".join(value for name, value in labels.items() if name != "__name__")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend)


def shown(value: float, unit: str) -> str:
    """A figure with its unit, about as Grafana writes it."""
    if not math.isfinite(value):
        return "n/a"
    match unit:
        case "s" if abs(value) >= 5400:
            return f"{value / 3600:.3g} h"
        case "s" if abs(value) >= 90:
            return f"{value / 60:.3g} min"
        case "s" if 0 < abs(value) < 1:
            return f"{value * 1000:.3g} ms"
        case "s":
            return f"{value:.3g} s"
        case "percentunit":
            return f"{value * 100:.3g} %"
        case "currencyUSD":
            return f"${value:,.2f}"
        case "bytes":
            return f"{value / 2**20:.4g} MiB"
        case "reqps":
            return f"{value:.3g} req/s"
        case _:
            return f"{value:.4g}"


def _ceiling(top: float) -> float:
    """The next round number."""
    if top <= 0:
        return 1.0
    size = 10 ** math.floor(math.log10(top))
    return next(float(size * step) for step in (1, 2, 5, 10) if size * step >= top * 0.999)


def _path(values: Sequence[float], width: float, height: float, top: float) -> str:
    points, pen = [], "M"
    for n, value in enumerate(values):
        if not math.isfinite(value):
            pen = "M"
            continue
        x, y = n * width / max(1, len(values) - 1), height - max(0.0, min(value, top)) / top * height
        points.append(f"{pen}{x:.1f},{y:.1f}")
        pen = "L"
    return " ".join(points)


def _back(values: Sequence[float], width: float, height: float, top: float) -> str:
    """The same curve walked from right to left, to close a band."""
    return " ".join(reversed(_path(values, width, height, top).replace("M", "L").split()))


def _axes(width: float, height: float, top: float, unit: str, span: Span) -> str:
    parts = []
    for share in (0, 0.5, 1):
        y = height * (1 - share)
        parts.append(f'<line x1="0" x2="{width}" y1="{y}" y2="{y}" stroke="{_GRID}"/>')
        if math.isfinite(top):  # a heatmap writes its own
            parts.append(f'<text x="-6" y="{y + 4}" text-anchor="end" class="dim">{shown(top * share, unit)}</text>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        at = time.strftime("%H:%M", time.gmtime(span.start + share * (span.end - span.start)))
        parts.append(f'<text x="{width * share}" y="{height + 16}" text-anchor="middle" class="dim">{at}</text>')
    return "".join(parts)


def _graph(panel: Mapping[str, Any], lines: Sequence[Line], width: float, height: float, span: Span) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    unit = defaults["unit"]
    stacked = defaults["custom"].get("stacking", {}).get("mode") == "normal"
    lines = sorted(lines, key=lambda line: -sum(v for v in line.values if math.isfinite(v)))[: len(_COLOURS)]
    curves: list[Sequence[float]] = []
    below = [0.0] * span.steps()
    for line in lines:
        if stacked:
            below = [
                base + (value if math.isfinite(value) else 0.0) for base, value in zip(below, line.values, strict=True)
            ]
            curves.append(below)
        else:
            curves.append(line.values)
    top = max((v for curve in curves for v in curve if math.isfinite(v)), default=0.0)
    marks = [step["value"] for step in defaults["thresholds"]["steps"] if step["value"] is not None]
    top = _ceiling(max(top, *(mark for mark in marks if mark <= 3 * top)) if any(m <= 3 * top for m in marks) else top)
    rows = min(len(lines), 4)
    plot_w, plot_h = width - 84, height - 66 - 15 * rows
    drawn = []
    for n, curve in reversed(list(enumerate(curves))):
        path = _path(curve, plot_w, plot_h, top)
        if stacked and n:  # the band between this curve and the one below
            drawn.append(
                f'<path d="{path} {_back(curves[n - 1], plot_w, plot_h, top)} Z" fill="{_COLOURS[n]}" fill-opacity=".35"/>'
            )
        elif stacked and path:
            drawn.append(f'<path d="{path} L{plot_w},{plot_h} L0,{plot_h} Z" fill="{_COLOURS[n]}" fill-opacity=".35"/>')
        drawn.append(f'<path d="{path}" fill="none" stroke="{_COLOURS[n]}" stroke-width="1.3"/>')
    for mark in marks:
        if mark <= top:
            y = plot_h - mark / top * plot_h
            drawn.append(
                f'<line x1="0" x2="{plot_w}" y1="{y}" y2="{y}" stroke="{_STATE["red"]}" stroke-dasharray="6 4"/>'
            )
    legend = "".join(
        f'<g transform="translate(0,{15 * n})"><rect width="12" height="3" y="-5" fill="{_COLOURS[n]}"/>'
        f'<text x="18">{html.escape(line.name)}</text><text x="{plot_w}" text-anchor="end">{shown(line.last(), unit)}</text></g>'
        for n, line in enumerate(lines[:rows])
    )
    return (
        f'<g transform="translate(70,30)">{_axes(plot_w, plot_h, top, unit, span)}{"".join(drawn)}</g>'
        f'<g transform="translate(70,{plot_h + 66})">{legend}</g>'
    )


def _stat(panel: Mapping[str, Any], lines: Sequence[Line], width: float, height: float, _: Span) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    value = lines[0].last() if lines else math.nan
    colour = "green"
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            colour = step["color"]
    top = max([v for line in lines[:1] for v in line.values if math.isfinite(v)], default=0) or 1.0
    spark = _path(lines[0].values, width, height * 0.35, top) if lines else ""
    name = lines[0].name if lines and lines[0].name and panel["options"]["textMode"] == "value_and_name" else ""
    return (
        f'<g transform="translate(0,{height * 0.62})"><path d="{spark}" fill="none" stroke="{_STATE[colour]}" stroke-opacity=".5"/></g>'
        f'<text x="{width / 2}" y="{height * 0.62}" text-anchor="middle" style="font-size:30px;fill:{_STATE[colour]}">'
        f"{shown(value, defaults['unit'])}</text>"
        f'<text x="{width / 2}" y="{height * 0.84}" text-anchor="middle" class="dim">{html.escape(name)}</text>'
    )


def _heatmap(panel: Mapping[str, Any], lines: Sequence[Line], width: float, height: float, span: Span) -> str:
    unit = panel["options"]["yAxis"]["unit"]
    rows = sorted(lines, key=lambda line: float(line.name))
    below = [0.0] * span.steps()
    cells: list[list[float]] = []
    for row in rows:  # buckets are cumulative
        cells.append([max(0.0, v - b) if math.isfinite(v) else 0.0 for v, b in zip(row.values, below, strict=True)])
        below = [v if math.isfinite(v) else b for v, b in zip(row.values, below, strict=True)]
    most = max((v for row in cells for v in row), default=0.0) or 1.0
    plot_w, plot_h = width - 84, height - 66
    w, h = plot_w / span.steps(), plot_h / max(1, len(rows))
    drawn = []
    for n, (row, counts) in enumerate(zip(rows, cells, strict=True)):
        y = plot_h - (n + 1) * h
        if n % max(1, len(rows) // 6) == 0:
            label = "∞" if math.isinf(float(row.name)) else shown(float(row.name), unit)
            drawn.append(f'<text x="-6" y="{y + 4}" text-anchor="end" class="dim">{label}</text>')
        for column, count in enumerate(counts):
            if count > 0:
                strength = 0.12 + 0.88 * math.sqrt(count / most)
                drawn.append(
                    f'<rect x="{column * w:.1f}" y="{y:.1f}" width="{w + 0.3:.1f}" height="{h - 0.5:.1f}" fill="#FF9830" fill-opacity="{strength:.2f}"/>'
                )
    return f'<g transform="translate(70,30)">{_axes(plot_w, plot_h, math.nan, unit, span)}{"".join(drawn)}</g>'


_KINDS: Final = {"stat": _stat, "timeseries": _graph, "heatmap": _heatmap}


def drawn(board: Mapping[str, Any], url: str, span: Span, note: str) -> tuple[str, int]:
    """The board as a page, and the page's height in pixels."""
    parts, bottom = [], 0.0
    for panel in board["panels"]:
        place = panel["gridPos"]
        x, y = place["x"] * _COLUMN, 56 + place["y"] * _ROW
        w, h = place["w"] * _COLUMN - 8, place["h"] * _ROW - 8
        bottom = max(bottom, y + h)
        title = html.escape(panel["title"])
        if panel["type"] == "row":
            parts.append(f'<text x="{x + 8}" y="{y + 18}" style="font-size:15px;font-weight:600">{title}</text>')
            continue
        lines = [
            line for target in panel["targets"] for line in asked(url, target["expr"], target["legendFormat"], span)
        ]
        inner = _KINDS[panel["type"]](panel, lines, w, h, span)
        parts.append(
            f'<g transform="translate({x + 4},{y})"><rect width="{w}" height="{h}" rx="3" fill="{_CARD}" stroke="{_GRID}"/>'
            f'<text x="10" y="19" style="font-weight:600">{title}</text>{inner}</g>'
        )
    tall = int(bottom) + 12
    style = f"text{{font:12px Inter,Roboto,'DejaVu Sans',sans-serif;fill:{_TEXT}}} .dim{{fill:{_DIM};font-size:11px}} body{{margin:0;background:{_BACK}}}"
    head = f'<text x="12" y="34" style="font-size:20px;font-weight:600">{html.escape(board["title"])}</text>'
    head += f'<text x="{WIDTH - 12}" y="34" text-anchor="end" class="dim">{html.escape(note)}</text>'
    page = f'<!doctype html><meta charset="utf-8"><style>{style}</style><svg width="{WIDTH}" height="{tall}">{head}{"".join(parts)}</svg>'
    return page, tall


def pictures(url: str, folder: Path, span: Span, note: str, chromium: str = "chromium") -> list[Path]:
    """Draw every board from Prometheus at *url* into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        page, tall = drawn(json.loads(path.read_text(encoding="utf-8")), url, span, note)
        picture = folder / f"{path.stem}.png"
        with tempfile.TemporaryDirectory() as temporary:
            source = Path(temporary) / "board.html"
            source.write_text(page, encoding="utf-8")
            command = [
                chromium,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={temporary}/profile",
            ]
            command += [f"--window-size={WIDTH},{tall}", f"--screenshot={picture}", source.as_uri()]
            subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603  # our own words
        made.append(picture)
    return made


def main() -> None:
    url, folder, *rest = sys.argv[1:]
    minutes = float(rest[0]) if rest else 180.0
    end = time.time()
    step = max(1.0, minutes * 60 / 240)
    pictures(
        url, Path(folder), Span(end - minutes * 60, end, step), "a preview drawn from Prometheus' answers, not Grafana"
    )


if __name__ == "__main__":
    main()
