"""
The Helm chart, as far as it can be checked without Helm.

The templates are rendered by the Go template engine and sprig functions that Helm uses (chart_renderer/), and the result is
validated against the Kubernetes API's schemas; the values against the chart's schema. This is not `helm lint`.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from gateway.config import load
from grafana.build import CHART_FILES, chart_copies
from tests.tools import tool

HERE = Path(__file__).parent
DEPLOY = HERE.parents[1] / "deploy"
CHART = DEPLOY / "helm" / "gateway"
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

OWN_SECRET: dict[str, Any] = {"secrets": {"values": {"ASSEMBLYAI_API_KEY": "k", "GATEWAY_WEBHOOK_SECRETS": "whsec_x"}}}
EVERYTHING: dict[str, Any] = {
    "settings": {
        "GATEWAY_PUBLIC_URL": "https://voice.example.com",
        "GATEWAY_WEBHOOK_URL": "https://crm.example.com/events",
        "GATEWAY_MAX_CALL_SECONDS": 14400,
    },
    "config": '[profiles.sales]\nnumbers = ["+15559870000"]\n',
    "secrets": {"existingSecret": "gateway-keys"},
    "imagePullSecrets": [{"name": "registry"}],
    "persistence": {"storageClass": "fast", "annotations": {"a/b": "c"}},
    "service": {
        "type": "LoadBalancer",
        "port": 443,
        "annotations": {"lb/idle": "4000"},
        "loadBalancerSourceRanges": ["192.0.2.0/24"],
    },
    "serviceAccount": {"annotations": {"iam": "role"}},
    "podAnnotations": {"note": "x"},
    "podLabels": {"team": "voice"},
    "nodeSelector": {"pool": "calls"},
    "tolerations": [{"key": "calls", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "extraEnv": [{"name": "TZ", "value": "UTC"}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/private-ca"}],
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "runbookBaseUrl": "https://wiki.example.com/runbooks"},
    "dashboards": {"enabled": True},
    "networkPolicy": {
        "enabled": True,
        "adminFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "extraEgress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
    },
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any]], subprocess.CompletedProcess[str]]:
    """Renders the chart with given values, under the release `calls`."""
    go, folder = tool("go"), tmp_path_factory.mktemp("renderer")
    if not Path("/usr/share/gocode/src/github.com/Masterminds/sprig").exists() and not os.environ.get("CI"):
        pytest.skip("sprig is missing: `make test-tools` installs golang-github-masterminds-sprig-dev")
    environ = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": "/usr/share/gocode",
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "",
    }
    build = [go, "build", "-o", str(folder / "render"), str(HERE / "chart_renderer" / "main.go")]
    subprocess.run(build, env=environ, check=True, timeout=300)

    def render(values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        jsonschema.validate(values, {**SCHEMA, "required": []})
        path = folder / "values.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        command = [str(folder / "render"), str(CHART), str(path), "calls", "voice"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return render


def objects(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The rendered objects; NOTES.txt is not one."""
    assert done.returncode == 0, done.stderr
    manifests = re.sub(r"# Source: templates/NOTES.txt.*?\n---\n", "", done.stdout, flags=re.DOTALL)
    return [document for document in yaml.safe_load_all(manifests) if document]


def one(found: list[dict[str, Any]], kind: str, suffix: str = "") -> dict[str, Any]:
    (match,) = [each for each in found if each["kind"] == kind and each["metadata"]["name"] == f"calls-gateway{suffix}"]
    return match


def test_schema_is_a_schema_and_the_defaults_obey_it() -> None:
    """The values' schema is valid, the default values obey it, and each default has its place in it."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(DEFAULTS, SCHEMA)
    assert set(DEFAULTS) == set(SCHEMA["properties"]) - {"global"}


@pytest.mark.parametrize(
    "values",
    [
        {"replica": 1},
        {"replicas": 2},
        {"drain": {"second": 60}},
        {"settings": {"GATEWAY_PUBLIK_URL": "https://voice.example.com"}},
        {"settings": {"GATEWAY_TWILIO_AUTH_TOKENS": "a secret in the clear"}},
        {"secrets": {"values": {"ASSEMBLYAI_KEY": "k"}}},
        {"service": {"type": "Loadbalancer"}},
        {"persistence": {"size": "10 gigabytes"}},
        {"prometheusRule": {"enabled": "yes"}},
        {"networkPolicy": {"from": []}},
    ],
    ids=json.dumps,
)
def test_typos_are_refused(values: dict[str, Any]) -> None:
    """A misspelt name, a wrong type, a secret among the settings, or a second replica is refused."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, SCHEMA)


def closed(schema: dict[str, Any]) -> bool:
    """Whether no object with known properties lets others in."""
    if "properties" in schema and schema.get("additionalProperties") is not False:
        return False
    return all(closed(part) for part in schema.get("properties", {}).values())


def test_schema_lets_no_unknown_name_in() -> None:
    """Every object with named properties refuses others, at every depth."""
    assert closed(SCHEMA)


def test_settings_of_the_schema_are_settings_of_the_gateway() -> None:
    """Each setting the chart knows is one the gateway reads: a wrong value of it is a fault that names it."""
    needed = {
        "ASSEMBLYAI_API_KEY": "k",
        "GATEWAY_WEBHOOK_URL": "https://crm.example.com/",
        "GATEWAY_WEBHOOK_SECRETS": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        "GATEWAY_PUBLIC_URL": "https://voice.example.com",
    }
    load(needed)
    for name in SCHEMA["properties"]["settings"]["properties"]:
        with pytest.raises(Exception, match=name):
            load({**needed, name: "\x00 no value for anything"})


def test_charts_copies_are_the_originals() -> None:
    """Rules, alerts and boards in the chart are what stands in their own places (`make dashboards` copies them)."""
    held = {path.relative_to(CHART_FILES).as_posix(): path for path in CHART_FILES.rglob("*.*") if path.is_file()}
    assert {name: path.read_text(encoding="utf-8") for name, path in held.items()} == dict(chart_copies())


@pytest.mark.slow
@pytest.mark.parametrize("values", [OWN_SECRET, EVERYTHING], ids=["smallest", "everything"])
@pytest.mark.parametrize("version", ["1.30", "1.33", "1.37"])
def test_manifests_are_valid(
    rendered: Callable[[dict[str, Any]], subprocess.CompletedProcess[str]], values: dict[str, Any], version: str
) -> None:
    """Everything rendered obeys the strict schema of its kind; custom resources at least have a name and a spec."""
    for manifest in objects(rendered(values)):
        if manifest["apiVersion"].startswith("monitoring.coreos.com/"):
            assert manifest["spec"]
            assert manifest["metadata"]["name"]
        else:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.slow
def test_kustomize_takes_them(
    rendered: Callable[[dict[str, Any]], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """`kubectl kustomize`, where it is present, reads the manifests as one set without two of a name."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not here, and no Debian package brings it")
    found = objects(rendered(EVERYTHING))
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(found), encoding="utf-8")
    (tmp_path / "kustomization.yaml").write_text("resources: [all.yaml]\n", encoding="utf-8")
    done = subprocess.run([kubectl, "kustomize", tmp_path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(yaml.safe_load_all(done.stdout))) == len(found)


@pytest.mark.slow
def test_one_pod_with_its_store_and_hours_of_grace(
    rendered: Callable[[dict[str, Any]], subprocess.CompletedProcess[str]],
) -> None:
    """A StatefulSet of one with its volume, whose grace holds the wait before the stop, the drain and a minute more."""
    stateful = one(objects(rendered({**OWN_SECRET, "drain": {"seconds": 10_000, "preStopSeconds": 20}})), "StatefulSet")
    pod = stateful["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert stateful["spec"]["replicas"] == 1
    assert stateful["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "data"
    assert pod["terminationGracePeriodSeconds"] == 10_080
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] == 20
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment["GATEWAY_DRAIN_SECONDS"] == "10000"
    assert environment["GATEWAY_STORE"].startswith("sqlite:////data/")
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"]


@pytest.mark.slow
def test_a_second_replica_is_refused_by_the_template_too(
    rendered: Callable[[dict[str, Any]], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Where somebody skips the schema, the template itself refuses two pods on one store."""
    command = [word for word in rendered(OWN_SECRET).args if isinstance(word, str)]
    values = tmp_path / "two.yaml"
    values.write_text(yaml.safe_dump({**OWN_SECRET, "replicas": 2}), encoding="utf-8")
    done = subprocess.run(
        [*command[:2], str(values), *command[3:]], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "replicas must be 1" in done.stderr


@pytest.mark.slow
def test_secrets_are_needed_or_existing(
    rendered: Callable[[dict[str, Any]], subprocess.CompletedProcess[str]],
) -> None:
    """Without a key the chart says which is missing; with an existing Secret it makes none and reads that."""
    missing = rendered({})
    assert missing.returncode != 0
    assert "ASSEMBLYAI_API_KEY" in missing.stderr
    found = objects(rendered(EVERYTHING))
    assert [each for each in found if each["kind"] == "Secret"] == []
    (container,) = one(found, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "gateway-keys"}}]


@pytest.mark.slow
def test_monitoring_is_the_same_as_elsewhere(
    rendered: Callable[[dict[str, Any]], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """The PrometheusRule holds our very rules, with runbooks at the given place, valid for promtool; the boards are ours."""
    found = objects(rendered(EVERYTHING))
    groups = one(found, "PrometheusRule")["spec"]["groups"]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
    done = subprocess.run(
        [tool("promtool"), "check", "rules", tmp_path / "rules.yml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert all(
        rule["annotations"]["runbook_url"] == f"https://wiki.example.com/runbooks/{rule['alert']}.md" for rule in alerts
    )
    originals = [
        rule
        for name in ("rules.yml", "alerts.yml")
        for group in yaml.safe_load((DEPLOY / "prometheus" / name).read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]
    assert [rule["expr"] for group in groups for rule in group["rules"]] == [rule["expr"] for rule in originals]
    boards = one(found, "ConfigMap", "-dashboards")["data"]
    assert {name: json.loads(text)["uid"] for name, text in boards.items()} == {
        f"gateway-{name}.json": f"gateway-{name}" for name in ("calls", "process", "transcription", "webhooks")
    }
    monitor = one(found, "ServiceMonitor")["spec"]
    admin = one(found, "Service", "-admin")
    assert monitor["selector"]["matchLabels"].items() <= admin["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == admin["spec"]["ports"][0]["name"]


@pytest.mark.slow
def test_notes_say_what_an_upgrade_does(
    rendered: Callable[[dict[str, Any]], subprocess.CompletedProcess[str]],
) -> None:
    """The notes name the first call's address and what an upgrade does to running calls; they warn where the URL is missing."""
    full, bare = rendered(EVERYTHING).stdout, rendered(OWN_SECRET).stdout
    assert "https://voice.example.com/twilio/voice" in full
    assert "What an upgrade does to running calls" in full
    assert "WARNING: settings.GATEWAY_PUBLIC_URL is not set" in bare


@pytest.mark.slow
def test_rendered_manifests_are_tidy(
    rendered: Callable[[dict[str, Any]], subprocess.CompletedProcess[str]],
) -> None:
    """Labels are the recommended ones everywhere, selectors find the pod, and nothing is rendered twice."""
    found = objects(rendered(EVERYTHING))
    names = [(each["kind"], each["metadata"]["name"]) for each in found]
    assert len(set(names)) == len(names)
    labels = one(found, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    for each in found:
        assert {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/version"} <= each[
            "metadata"
        ]["labels"].keys()
        if each["kind"] == "Service":
            assert each["spec"]["selector"].items() <= labels.items()
