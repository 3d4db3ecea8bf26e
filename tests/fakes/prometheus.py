"""Debian's Prometheus, started on our own configuration and rules."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

OURS = Path(__file__).parents[2] / "deploy" / "prometheus"


class Prometheus:
    """Its HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: str | list[str]) -> Any:
        """The `data` of an answer; ValueError with Prometheus' own words where it is an error."""
        query = urllib.parse.urlencode(parameters, doseq=True)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 503:  # it is still starting
                    raise urllib.error.URLError("not ready") from None
                raise ValueError(error.read().decode()) from None

    def until(self, what: str, ready: Callable[["Prometheus"], bool], seconds: float = 90) -> None:
        """Wait for a program outside, which tells nobody when it is ready: by asking again."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if ready(self):
                    return
            except urllib.error.URLError:
                pass
            time.sleep(0.2)
        raise TimeoutError(f"{what} did not come true within {seconds} s")


@contextmanager
def running(program: str, folder: Path, target: str, data: Path | None = None) -> Iterator[Prometheus]:
    """Prometheus with our configuration, but for the target, the pace, and the Alertmanager that is not there."""
    config = yaml.safe_load((OURS / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"].update(scrape_interval="1s", evaluation_interval="1s")
    config["rule_files"] = [str(OURS / name) for name in config["rule_files"]]
    config["alerting"].pop("alertmanagers")
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={data or folder / 'data'}",
        "--enable-feature=exemplar-storage",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "GOMAXPROCS": "1"})
    try:
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        prometheus.until("an answer", lambda api: bool(api.get("status/runtimeinfo")))
        yield prometheus
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def backfill(promtool: str, exposition: Path, data: Path) -> None:
    """Make Prometheus' blocks of an OpenMetrics text whose samples have their own time."""
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", str(exposition), str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise ValueError(done.stderr)
