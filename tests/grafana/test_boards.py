"""The boards' JSON: as generated, and as a good board is. The rules are those of Grafana's dashboard-linter, re-stated."""

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from gateway.metrics import Metrics
from grafana.build import BOARDS, DASHBOARDS, files

BOARD_FILES = sorted(DASHBOARDS.glob("*.json"))
LOADED = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in BOARD_FILES}
PANELS = [
    pytest.param(panel, id=f"{uid}: {panel['title']}")
    for uid, board in LOADED.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
NOT_OURS = re.compile(r"process_|python_gc_|ALERTS$")
UNITS = {"short", "s", "percentunit", "bytes", "reqps", "currencyUSD"}


def expressions(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def parsed(expr: str) -> Any:
    """The syntax tree, with Grafana's variables filled in as Grafana would."""
    return promql_parser.parse(expr.replace("$__rate_interval", "5m"))


def selectors(node: Any, call: str = "", *, aggregated: bool = False) -> Iterator[tuple[Any, str, bool]]:
    """Every selector below *node*, the name of the function right above it, and whether an aggregation is above it."""
    match node:
        case promql_parser.VectorSelector():
            yield node, call, aggregated
        case promql_parser.MatrixSelector():
            yield node.vector_selector, call, aggregated
        case promql_parser.Call():
            for argument in node.args:
                yield from selectors(argument, node.func.name, aggregated=aggregated)
        case promql_parser.AggregateExpr():
            yield from selectors(node.expr, aggregated=True)
        case promql_parser.BinaryExpr():
            yield from selectors(node.lhs, aggregated=aggregated)
            yield from selectors(node.rhs, aggregated=aggregated)
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            yield from selectors(node.expr, aggregated=aggregated)
        case promql_parser.NumberLiteral():
            pass
        case _:
            pytest.fail(f"the walk does not know {type(node)}")


def exposed() -> dict[str, str]:
    """Each sample's name → its family's type, of a fresh registry."""
    metrics = Metrics(budget_usd_per_day=1)
    return {sample.name: family.type for family in metrics.registry.collect() for sample in family.samples}


def test_committed_is_generated() -> None:
    """What is committed is exactly what the generator writes (`make dashboards`), and nothing else lies there."""
    assert {path.name: path.read_text(encoding="utf-8") for path in BOARD_FILES} == dict(files())


def test_uids_and_titles_are_the_boards_own() -> None:
    """Each board has a uid and a title of its own, and its file is named by the uid."""
    assert len({board.uid for board in BOARDS}) == len({board.title for board in BOARDS}) == len(BOARDS) == 4
    assert all(board["uid"] == stem for stem, board in LOADED.items())


@pytest.mark.parametrize("board", LOADED.values(), ids=LOADED)
def test_board_is_a_good_board(board: dict[str, Any]) -> None:
    """Not editable, refreshing, linked to the others with variables and time, marked with alerts, described."""
    assert board["editable"] is False
    assert board["refresh"]
    assert board["description"]
    (link,) = board["links"]
    assert link["tags"] == ["gateway"] == board["tags"]
    assert link["includeVars"]
    assert link["keepTime"]
    (alerts,) = board["annotations"]["list"]
    assert alerts["enable"]
    parsed(alerts["expr"])


@pytest.mark.parametrize("board", LOADED.values(), ids=LOADED)
def test_variables_are_templated(board: dict[str, Any]) -> None:
    """Data source, job and instance are variables; all their values can be chosen, and are looked up anew as time moves."""
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert list(variables)[:3] == ["datasource", "job", "instance"]
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    for name in set(variables) - {"datasource"}:
        variable = variables[name]
        assert variable["datasource"]["uid"] == "${datasource}"
        assert (variable["includeAll"], variable["multi"], variable["allValue"], variable["refresh"]) == (
            True,
            True,
            ".+",
            2,
        )
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
        assert found
        assert found[2] == name
        parsed(found[1])
    used = set(re.findall(r"\$(\w+)", json.dumps([panel.get("targets") for panel in board["panels"]])))
    assert used - {"__rate_interval"} == set(variables) - {"datasource"} | ({"datasource"} & used)


@pytest.mark.parametrize("board", LOADED.values(), ids=LOADED)
def test_panels_fill_the_grid(board: dict[str, Any]) -> None:
    """Panels have ids of their own, lie within 24 columns, and none covers another."""
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    covered: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & covered, panel["title"]
        covered |= cells


@pytest.mark.parametrize("panel", PANELS)
def test_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    """Each panel has a title, a description of a sentence, a known unit, the templated data source, and something to ask."""
    assert panel["title"]
    assert len(panel["description"]) > 10
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]
    assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)


@pytest.mark.parametrize("panel", PANELS)
def test_queries_are_good_queries(panel: dict[str, Any]) -> None:
    """Each expression parses, matches job and instance, takes the rate of counters over `$__rate_interval`, and sums."""
    types = exposed()
    for expr in expressions(panel):
        assert set(re.findall(r"\[([^\]]+)\]", expr)) <= {"$__rate_interval"}
        for selector, call, aggregated in selectors(parsed(expr)):
            assert {"job", "instance"} <= {matcher.name for matcher in selector.matchers.matchers}, expr
            assert aggregated, expr
            name = selector.name
            if NOT_OURS.match(name):
                continue
            assert name in types, f"{name} is not a series of ours"
            counts = types[name] in {"counter", "histogram"}
            assert counts == (call in {"rate", "increase"}), expr


@pytest.mark.parametrize("panel", PANELS)
def test_links_lead_to_boards(panel: dict[str, Any]) -> None:
    """A panel's link leads to a board that exists, and takes time and variables along."""
    for link in panel.get("links", []):
        found = re.fullmatch(r"/d/([\w-]+)\?\$\{__url_time_range\}&\$\{__all_variables\}", link["url"])
        assert found
        assert found[1] in LOADED


def test_every_series_is_on_a_board() -> None:
    """What is measured is shown: each series of ours is asked for by some panel."""
    asked = {
        selector.name.removesuffix("_bucket")
        for panel in (parameter.values[0] for parameter in PANELS)
        for expr in expressions(panel)  # type: ignore[arg-type]  # a pytest parameter's value has no type
        for selector, _, _ in selectors(parsed(expr))
    }
    shown_by_other_means = {"gateway_drain_deadline_timestamp_seconds"}  # only the alert looks at it
    ours = {name for name, _ in exposed().items() if name.startswith("gateway_")}
    ours = {re.sub(r"_(bucket|count|sum)$", "", name) for name in ours}
    assert ours - asked == shown_by_other_means


def test_provisioning_names_what_is_there() -> None:
    """Grafana is told of one Prometheus data source and of the boards' folder, which the interface cannot overwrite."""
    root = DASHBOARDS.parent / "provisioning"
    (source,) = yaml.safe_load((root / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))["datasources"]
    assert (source["type"], source["uid"]) == ("prometheus", "prometheus")
    (provider,) = yaml.safe_load((root / "dashboards" / "gateway.yml").read_text(encoding="utf-8"))["providers"]
    assert provider["allowUiUpdates"] is False
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
