"""Every question the boards ask, put to a real Prometheus that runs our rules and scrapes a real gateway on a bad day."""

import json
import math
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from grafana.build import DASHBOARDS
from tests.fakes.prometheus import Prometheus, running
from tests.tools import tool
from tests.whole.busy import serving

pytestmark = pytest.mark.slow

BOARDS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))}
QUERIES = [
    pytest.param(target["expr"], id=f"{uid}: {panel['title']} {target['refId']}")
    for uid, board in BOARDS.items()
    for panel in board["panels"]
    for target in panel.get("targets", [])
]
VARIABLES = [
    pytest.param(variable["query"], id=f"{uid}: {variable['name']}")
    for uid, board in BOARDS.items()
    for variable in board["templating"]["list"]
    if variable["type"] == "query"
]
SCRAPES = 25


def filled(expr: str) -> str:
    """As Grafana fills its variables in where all values are chosen."""
    return re.sub(r"\$(job|instance|carrier)\b", ".+", expr.replace("$__rate_interval", "8s"))


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    """What is scraped, as `host:port`."""
    with serving() as address:
        yield address


@pytest.fixture(scope="module")
def prometheus(target: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has scraped the target some times and evaluated every rule."""
    with running(tool("prometheus"), tmp_path_factory.mktemp("prometheus"), target) as started:

        def warm(api: Prometheus) -> bool:
            scraped = api.get("query", query='count_over_time(up{job="gateway"}[1m])')["result"]
            evaluated = all(rule["health"] == "ok" for group in api.get("rules")["groups"] for rule in group["rules"])
            return bool(scraped) and float(scraped[0]["value"][1]) >= SCRAPES and evaluated

        started.until("a dozen scrapes, all rules evaluated", warm)
        yield started


def finite(series: list[dict[str, Any]]) -> bool:
    """Whether any sample says anything."""
    return any(math.isfinite(float(value)) for one in series for _, value in one.get("values", [one.get("value")]))


@pytest.mark.parametrize("expr", QUERIES)
def test_every_panel_has_an_answer(prometheus: Prometheus, expr: str) -> None:
    """No panel's query is an error, and none stays without a figure."""
    now = time.time()
    answer = prometheus.get("query_range", query=filled(expr), start=str(now - 8), end=str(now), step="1")
    assert finite(answer["result"]), expr


@pytest.mark.parametrize("query", VARIABLES)
def test_every_variable_has_values(prometheus: Prometheus, query: str) -> None:
    """Each variable offers something to choose."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
    assert found
    assert prometheus.get(f"label/{found[2]}/values", **{"match[]": filled(found[1])})


def test_every_rule_is_well(prometheus: Prometheus) -> None:
    """Each rule was evaluated without an error, and each recording rule recorded something."""
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 25
    for rule in rules:
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), rule["name"]
        if rule["type"] == "recording":
            assert finite(prometheus.get("query", query=rule["name"])["result"]), rule["name"]


def test_alerts_see_the_trouble(prometheus: Prometheus) -> None:
    """Trouble that the gateway has makes its alerts fire or wait, with a runbook; what it has not stays quiet."""
    prometheus.until(
        "the alert without delay", lambda api: bool(api.get("query", query='ALERTS{alertstate="firing"}')["result"])
    )
    alerts = {alert["labels"]["alertname"]: alert for alert in prometheus.get("alerts")["alerts"]}
    assert alerts["GatewayCallsLost"]["state"] == "firing"
    assert alerts["GatewayZombieSessions"]["state"] == "pending"
    assert alerts["GatewayCallsLost"]["annotations"]["runbook_url"].endswith("/runbooks/GatewayCallsLost.md")
    assert not {"GatewayDown", "GatewayStoreUnwritable", "GatewayDrainStuck", "GatewaySessionTooOld"} & set(alerts)


@pytest.mark.parametrize("uid", BOARDS)
def test_alert_marks_have_an_answer(prometheus: Prometheus, uid: str) -> None:
    """The marks that alerts leave on each board find them."""
    (marks,) = BOARDS[uid]["annotations"]["list"]
    prometheus.until("a firing alert", lambda api: bool(api.get("query", query=filled(marks["expr"]))["result"]))


@pytest.mark.parametrize("histogram", ["session_duration_seconds", "turn_delay_seconds", "delivery_seconds"])
def test_exemplars_lead_to_calls(prometheus: Prometheus, histogram: str) -> None:
    """A histogram's points carry the id of a call, from our exposition to Prometheus' storage."""
    now = time.time()
    found = prometheus.get("query_exemplars", query=f"gateway_{histogram}_bucket", start=str(now - 60), end=str(now))
    ids = {exemplar["labels"]["call_id"] for series in found for exemplar in series["exemplars"]}
    assert ids
    assert all(call_id.startswith("CA") for call_id in ids)
