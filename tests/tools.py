"""The outside programs some tests need."""

import os
import shutil
from typing import Final

import pytest

PACKAGES: Final = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "amtool": "prometheus-alertmanager",
    "nginx": "nginx-light",
    "caddy": "caddy",
    "chromium": "chromium",
    "go": "golang-go golang-github-masterminds-sprig-dev golang-k8s-sigs-yaml-dev",
    "systemd-analyze": "systemd",
}
"""Program → the Debian packages that bring it. `make test-tools` installs them."""


def tool(name: str) -> str:
    """The program's path. Where it is missing the test is skipped with how to get it; in CI nothing is skipped."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        missing = f"{name} is missing: `make test-tools` installs it (Debian: {PACKAGES[name]})"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found
