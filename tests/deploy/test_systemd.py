"""The systemd unit: understood by systemd, hardened, and patient with calls."""

import re
import subprocess
from pathlib import Path

from tests.tools import tool

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "gateway.service"


def service() -> dict[str, list[str]]:
    """The [Service] section, each key with its values in order."""
    found: dict[str, list[str]] = {}
    section = UNIT.read_text(encoding="utf-8").partition("[Service]")[2].partition("[Install]")[0]
    for key, value in re.findall(r"^(\w+)=(.*)$", section, re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say (with a program that exists here in place of the gateway's)."""
    text = UNIT.read_text(encoding="utf-8")
    assert "ExecStart=/opt/gateway/.venv/bin/gateway serve" in text
    unit = tmp_path / "gateway.service"
    unit.write_text(text.replace("/opt/gateway/.venv/bin/gateway", "/bin/true"), encoding="utf-8")
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", unit], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_is_hardened() -> None:
    """Systemd rates its exposure below 2 of 10."""
    done = subprocess.run(
        [tool("systemd-analyze"), "security", "--offline=yes", "--no-pager", UNIT],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) < 2


def test_the_unit_waits_for_calls() -> None:
    """Stopping takes longer than the drain; only the main process gets the signal; a wrong configuration is not retried."""
    keys = service()
    environment = dict(pair.split("=", 1) for line in keys["Environment"] for pair in line.split())
    assert float(keys["TimeoutStopSec"][0]) > float(environment["GATEWAY_DRAIN_SECONDS"])
    assert keys["Type"] == ["notify"]
    assert keys["WatchdogSec"]
    assert keys["KillMode"] == ["mixed"]
    assert keys["RestartPreventExitStatus"] == ["2"]


def test_the_store_is_in_the_units_own_directory() -> None:
    """The one directory that the unit may write holds the store."""
    keys = service()
    environment = dict(pair.split("=", 1) for line in keys["Environment"] for pair in line.split())
    assert environment["GATEWAY_STORE"] == f"sqlite:////var/lib/{keys['StateDirectory'][0]}/gateway.db"


def test_no_key_is_set_twice_by_mistake() -> None:
    """Every key stands once, but those that add up by design."""
    adds_up = {"Environment", "SystemCallFilter"}
    assert [key for key, values in service().items() if len(values) > 1 and key not in adds_up] == []
