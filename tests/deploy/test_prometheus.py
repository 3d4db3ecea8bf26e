"""Rules, alerts and runbooks: valid, tested one by one, and about series that exist."""

import re
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from gateway.metrics import Metrics
from tests.tools import tool

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
CASES = sorted((PROMETHEUS / "tests").glob("*.yml"))


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


ALERTS = {rule["alert"]: rule for group in loaded(PROMETHEUS / "alerts.yml")["groups"] for rule in group["rules"]}
RECORDED = {rule["record"]: rule for group in loaded(PROMETHEUS / "rules.yml")["groups"] for rule in group["rules"]}
RULES = [pytest.param(rule["expr"], id=name) for name, rule in {**RECORDED, **ALERTS}.items()]


def run(*command: str, cwd: Path = PROMETHEUS) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_configuration_and_rules_are_valid() -> None:
    """Promtool accepts the configuration with both rule files."""
    run(tool("promtool"), "check", "config", "prometheus.yml")


def test_alertmanager_is_valid() -> None:
    """Amtool accepts Alertmanager's configuration."""
    run(tool("amtool"), "check-config", "alertmanager.yml")


@pytest.mark.parametrize("cases", CASES, ids=[path.stem for path in CASES])
def test_alerts_fire_and_end(cases: Path) -> None:
    """Promtool plays each alert's cases: quiet before, firing, over, while another process stays quiet."""
    run(tool("promtool"), "test", "rules", str(cases))


def test_every_alert_has_its_cases() -> None:
    """Each alert is expected to fire once, and to be quiet before and after, beside a process for which it never fires."""
    seen: dict[str, list[list[Any]]] = {}
    for path in CASES:
        for case in loaded(path)["tests"]:
            for expected in case["alert_rule_test"]:
                seen.setdefault(expected["alertname"], []).append(expected.get("exp_alerts", []))
            if case["name"] in ALERTS:
                assert len({re.search(r'instance="([^"]+)"', one["series"])[1] for one in case["input_series"]}) >= 2  # type: ignore[index]  # no match would be an error, rightly
    assert set(seen) == set(ALERTS)
    for name, expectations in seen.items():
        assert [len(expected) for expected in expectations][:3] == [0, 1, 0], name


@pytest.mark.parametrize("name", ALERTS)
def test_alert_says_what_to_do(name: str) -> None:
    """CamelCase, a severity, a summary, a description, and a runbook of its name that has all four parts."""
    rule = ALERTS[name]
    assert re.fullmatch(r"Gateway([A-Z][a-z]+)+", name)
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"{{{{ $externalLabels.runbooks }}}}/{name}.md"
    text = (DEPLOY / "runbooks" / f"{name}.md").read_text(encoding="utf-8")
    assert re.findall(r"^#+ (.+)$", text, re.MULTILINE) == [
        name,
        "What it means",
        "How bad it is",
        "What to look at",
        "What to do",
    ]


def test_runbooks_are_of_alerts_and_their_links_lead_somewhere() -> None:
    """No runbook without an alert, and no link to a runbook that is not there."""
    books = {path.stem: path.read_text(encoding="utf-8") for path in (DEPLOY / "runbooks").glob("*.md")}
    assert set(books) == set(ALERTS)
    for text in books.values():
        assert set(re.findall(r"\]\((\w+)\.md\)", text)) <= set(books)


@pytest.mark.parametrize("expr", RULES)
def test_rule_is_about_series_that_exist(expr: str) -> None:
    """Each expression parses by a second parser, and each series in it is exposed, recorded, or Prometheus' own."""
    promql_parser.parse(expr)
    exposed = {s.name for family in Metrics(budget_usd_per_day=1).registry.collect() for s in family.samples}
    for name in re.findall(r"\b(?:gateway|process|instance:gateway)_?[\w:]+", re.sub(r'"[^"]*"', '""', expr)):
        assert name in exposed or name in RECORDED, name


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_names_say_level_metric_operation(name: str) -> None:
    """Recording rules are named level:metric:operation, and keep job and instance."""
    assert re.fullmatch(r"instance:gateway_\w+:\w+", name)
    assert "by (job, instance" in RECORDED[name]["expr"]
