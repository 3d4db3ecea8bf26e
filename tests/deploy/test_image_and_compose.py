"""The image's recipe and the compose stack: linted, and agreeing with each other and with the settings the gateway knows."""

import argparse
import json
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

from gateway.cli import emulator
from gateway.config import load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
DEMO = dict(
    line.split("=", 1)
    for line in (DEPLOY / "demo.env").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)


def test_dockerfile_is_clean() -> None:
    """Hadolint, with no rule switched off, has nothing to say."""
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_image_runs_as_nobody_and_takes_signals() -> None:
    """Not root, exec form throughout, no shell or curl between Docker and the process, and two stages."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert len(re.findall(r"^FROM ", text, re.MULTILINE)) == 2
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    for instruction in ("ENTRYPOINT", "CMD"):
        assert re.search(rf"^{instruction} \[", text, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK .* CMD \[", text, re.MULTILINE)
    assert "curl" not in text


def test_image_is_sent_only_what_it_needs() -> None:
    """What the recipe copies is let through .dockerignore, which keeps everything else (tests, store, .env) out."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    copied = {name for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for name in line.split()[:-1]}
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)


def test_compose_follows_its_specification() -> None:
    """A strict parser of the compose specification takes it, and would not take a misspelt key."""
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    merged = json.dumps(yaml.safe_load(text))  # `<<` is YAML's, resolved before
    spec = compose_spec.PyCompose.from_json(merged)
    assert set(spec.service_names()) == set(COMPOSE["services"])
    with pytest.raises(ValueError, match=r"stop_grace_periot|unknown"):
        compose_spec.PyCompose.from_json(merged.replace("stop_grace_period", "stop_grace_periot"))


def test_compose_mounts_what_is_there() -> None:
    """Each file or folder mounted from here exists, and each is mounted read-only."""
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source, _, rest = volume.partition(":")
            if source.startswith("."):
                assert (DEPLOY / source).exists(), source
                assert rest.endswith(":ro")
            else:
                assert source in COMPOSE["volumes"]


def test_compose_publishes_only_the_carriers_port() -> None:
    """Everything but the carriers' port listens on this machine alone."""
    ports = {port for service in COMPOSE["services"].values() for port in service.get("ports", [])}
    assert {port for port in ports if not port.startswith("127.0.0.1:")} == {"8080:8080"}


def test_compose_stops_no_sooner_than_the_drain_ends() -> None:
    """Docker's patience is longer than the drain it waits for."""
    gateway = COMPOSE["services"]["gateway"]
    hours, minutes = re.fullmatch(r"(\d+)h(\d+)m", gateway["stop_grace_period"]).groups()  # type: ignore[union-attr]  # no match would be an error, rightly
    assert int(hours) * 3600 + int(minutes) * 60 > int(gateway["environment"]["GATEWAY_DRAIN_SECONDS"])


def test_images_are_pinned() -> None:
    """No image is whatever is newest today."""
    for service in COMPOSE["services"].values():
        if "/" in service.get("image", ""):
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])


def test_monitoring_finds_its_parts() -> None:
    """Prometheus scrapes the gateway's admin port and finds Alertmanager; Grafana finds Prometheus and its folder."""
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (scrape,) = prometheus["scrape_configs"]
    assert (scrape["job_name"], scrape["static_configs"][0]["targets"]) == ("gateway", ["gateway:8081"])
    assert prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] == ["alertmanager:9093"]
    (source,) = yaml.safe_load((ROOT / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert {"gateway", "alertmanager", "prometheus", "grafana"} <= set(COMPOSE["services"])
    assert "../grafana/dashboards:/etc/grafana/dashboards:ro" in COMPOSE["services"]["grafana"]["volumes"]


def settings_of(environ: dict[str, str]) -> dict[str, str]:
    """The gateway's environment as compose makes it of the variables in *environ*."""

    def value(match: re.Match[str]) -> str:
        name, operator, rest = match.groups()
        if operator == ":?":
            assert environ.get(name), f"{name} must be set"
        return environ.get(name) or (rest if operator == ":-" else "")

    wanted: dict[str, Any] = COMPOSE["services"]["gateway"]["environment"]
    return {name: re.sub(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}", value, str(template)) for name, template in wanted.items()}


def test_demo_settings_are_valid() -> None:
    """What compose makes of demo.env is a configuration the gateway accepts, and points it at the emulator."""
    settings = load(settings_of(DEMO))
    assert settings.assemblyai_url == "ws://127.0.0.1:8765"
    assert settings.budget_usd_per_day == 20
    assert COMPOSE["services"]["emulator"]["command"][-1] == "8765"
    assert settings.webhook_url.startswith("http://127.0.0.1:9000/")


def test_demo_emulator_is_called_rightly() -> None:
    """The emulator's command line in the stack is one that it understands."""
    commands = argparse.ArgumentParser()
    emulator.add_parser(commands.add_subparsers())
    assert commands.parse_args(COMPOSE["services"]["emulator"]["command"]).port == 8765


def test_demo_endpoint_prints_turns_and_fails_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """The demonstration's endpoint prints each turn it takes, and answers 503 to every tenth request."""
    spec = spec_from_file_location("demo_endpoint", DEPLOY / "demo" / "endpoint.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    turn = {
        "type": "turn.final",
        "data": {"call": {"id": "CA1"}, "leg": {"party": "agent"}, "turn": {"text": "Good morning."}},
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), module.Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        statuses = []
        for _ in range(10):
            request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}/", json.dumps(turn).encode())
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    statuses.append(answer.status)
            except urllib.error.HTTPError as error:
                error.close()
                statuses.append(error.code)
        server.shutdown()
        thread.join()
    assert statuses == [204] * 9 + [503]
    assert capsys.readouterr().out == "CA1  agent: Good morning.\n" * 9
