"""What all boards share: variables, links, alert marks, and the kinds of panels. Built on Grafana's foundation SDK."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE: Final = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG: Final = "gateway"

MATCH: Final = 'job=~"$job", instance=~"$instance"'
"""The label matchers of every query."""
MATCH_CARRIER: Final = f'{MATCH}, carrier=~"$carrier"'
"""Of series that know their carrier."""

_GREEN: Final = models.Threshold(value=None, color="green")


@dataclass(frozen=True)
class Query:
    """One PromQL expression and what its lines are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """What every panel has. `unit` is one of Grafana's unit ids."""

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    width: int = 12
    height: int = 8
    warn: float | None = None
    """From here on it is yellow, and a line on a graph."""
    alarm: float | None = None
    """From here on it is red."""
    board: str | None = None
    """The uid of the board that tells more."""

    def thresholds(self) -> boards.ThresholdsConfig:
        steps = [_GREEN]
        if self.warn is not None:
            steps.append(models.Threshold(value=self.warn, color="orange"))
        if self.alarm is not None:
            steps.append(models.Threshold(value=self.alarm, color="red"))
        return boards.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)

    def links(self) -> list[boards.DashboardLink]:
        if self.board is None:
            return []
        link = boards.DashboardLink("More").type(models.DashboardLinkType.LINK)
        return [link.url(f"/d/{self.board}?${{__url_time_range}}&${{__all_variables}}")]

    def targets(self, *, exemplars: bool = False) -> list[prometheus.Dataquery]:
        return [
            prometheus.Dataquery()
            .datasource(SOURCE)
            .expr(query.expr)
            .legend_format(query.legend or "__auto")
            .ref_id(chr(ord("A") + n))
            .exemplar(exemplars)
            .range()
            for n, query in enumerate(self.queries)
        ]


@dataclass(frozen=True)
class Number(Panel):
    """One figure, as it is now, over a small line of how it was."""

    width: int = 4
    height: int = 4

    def build(self) -> stat.Panel:
        return (
            stat.Panel()
            .title(self.title)
            .description(self.description)
            .datasource(SOURCE)
            .unit(self.unit)
            .targets(list(self.targets()))
            .links(list(self.links()))
            .thresholds(self.thresholds())
            .color_mode(common.BigValueColorMode.VALUE)
            .graph_mode(common.BigValueGraphMode.AREA)
            .text_mode(
                common.BigValueTextMode.VALUE_AND_NAME
                if any(q.legend for q in self.queries)
                else common.BigValueTextMode.AUTO
            )
            .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
            .span(self.width)
            .height(self.height)
        )


@dataclass(frozen=True)
class Graph(Panel):
    """Lines over time; `stacked` where their sum is the point, `exemplars` where a call's id hangs on the line."""

    stacked: bool = False
    exemplars: bool = False
    axis_max: float | None = None

    def build(self) -> timeseries.Panel:
        panel = (
            timeseries.Panel()
            .title(self.title)
            .description(self.description)
            .datasource(SOURCE)
            .unit(self.unit)
            .min(0)
            .targets(list(self.targets(exemplars=self.exemplars)))
            .links(list(self.links()))
            .thresholds(self.thresholds())
            .line_width(1)
            .fill_opacity(30 if self.stacked else 8)
            .show_points(common.VisibilityMode.NEVER)
            .legend(
                common_builders.VizLegendOptions()
                .display_mode(common.LegendDisplayMode.TABLE)
                .placement(common.LegendPlacement.BOTTOM)
                .show_legend(True)
                .calcs(["mean", "max", "lastNotNull"])
            )
            .tooltip(
                common_builders.VizTooltipOptions()
                .mode(common.TooltipDisplayMode.MULTI)
                .sort(common.SortOrder.DESCENDING)
            )
            .span(self.width)
            .height(self.height)
        )
        if self.stacked:
            panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
        if self.warn is not None or self.alarm is not None:
            panel.thresholds_style(
                common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
            )
        if self.axis_max is not None:
            panel.axis_soft_max(self.axis_max)
        return panel


@dataclass(frozen=True)
class Heatmap(Panel):
    """A histogram's buckets over time; the one query must be summed by `le`."""

    def build(self) -> heatmap.Panel:
        (target,) = self.targets(exemplars=True)
        return (
            heatmap.Panel()
            .title(self.title)
            .description(self.description)
            .datasource(SOURCE)
            .unit("short")
            .with_target(target.format(PromQueryFormat.HEATMAP).legend_format("{{le}}"))
            .links(list(self.links()))
            .calculate(False)
            .y_axis(heatmap.YAxisConfig().unit(self.unit))
            .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
            .filter_values(heatmap.FilterValueRange().le(1e-9))
            .span(self.width)
            .height(self.height)
        )


@dataclass(frozen=True)
class Row:
    """A row's title and its panels."""

    title: str
    panels: Sequence[Number | Graph | Heatmap]


@dataclass(frozen=True)
class Board:
    """One dashboard. The uid is its address: it never changes."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    by_carrier: bool = True
    """Whether anything on it knows its carrier."""
    since: str = "now-3h"
    tags: Sequence[str] = field(default=(TAG,))

    def build(self) -> models.Dashboard:
        board = (
            boards.Dashboard(self.title)
            .uid(self.uid)
            .description(self.description)
            .tags(list(self.tags))
            .readonly()
            .time(self.since, "now")
            .timezone("browser")
            .refresh("30s")
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .annotation(_alerts())
            .link(
                boards.DashboardLink("Gateway boards")
                .type(models.DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .as_dropdown(True)
                .include_vars(True)
                .keep_time(True)
            )
            .variables(list(_variables(carrier=self.by_carrier)))
        )
        number = 0
        for row in self.rows:
            number += 1
            board.with_row(boards.Row(row.title).id(number))
            for panel in row.panels:
                number += 1
                board.with_panel(panel.build().id(number))
        return board.build()


def _alerts() -> boards.AnnotationQuery:
    """Every graph shows when one of our alerts fired."""
    return (
        boards.AnnotationQuery()
        .name("Alerts")
        .datasource(SOURCE)
        .enable(True)
        .icon_color("red")
        .expr('ALERTS{alertname=~"Gateway.+", alertstate="firing"}')
    )


def _variables(*, carrier: bool) -> list[boards.DatasourceVariable | boards.QueryVariable]:
    source = boards.DatasourceVariable("datasource").label("Data source").type("prometheus")
    variables: list[boards.DatasourceVariable | boards.QueryVariable] = [
        source,
        _label("job", "Job", "label_values(gateway_build_info, job)"),
        _label("instance", "Instance", 'label_values(gateway_build_info{job=~"$job"}, instance)'),
    ]
    if carrier:
        variables.append(_label("carrier", "Carrier", f"label_values(gateway_calls_total{{{MATCH}}}, carrier)"))
    return variables


def _label(name: str, label: str, query: str) -> boards.QueryVariable:
    return (
        boards.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def rate(series: str, *, by: str = "", match: str = MATCH) -> str:
    """A counter's growth a second, summed."""
    return f"sum{f' by ({by})' if by else ''} (rate({_selected(series, match)}[$__rate_interval]))"


def increase(series: str, *, by: str = "", match: str = MATCH) -> str:
    """A counter's growth over each step of the graph, summed."""
    return f"sum{f' by ({by})' if by else ''} (increase({_selected(series, match)}[$__rate_interval]))"


def total(gauge: str, *, by: str = "", match: str = MATCH, of: str = "sum") -> str:
    """A gauge over all chosen processes: their sum, or another aggregate."""
    return f"{of}{f' by ({by})' if by else ''} ({_selected(gauge, match)})"


def quantile(q: float, histogram: str) -> str:
    """A quantile over all chosen processes, in the histogram's unit."""
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', by='le')})"


def quantiles(histogram: str, *qs: float) -> list[Query]:
    """Several of them, named p50, p95, …"""
    return [Query(quantile(q, histogram), f"p{100 * q:g}") for q in qs]


def buckets(histogram: str) -> list[Query]:
    """A histogram's buckets, for a heatmap."""
    return [Query(increase(f"{histogram}_bucket", by="le"), "{{le}}")]


def _selected(series: str, match: str) -> str:
    """`name` or `name{own="matcher"}`, with *match* added."""
    name, _, own = series.partition("{")
    return f"{name}{{{match}{', ' + own.rstrip('}') if own else ''}}}"
