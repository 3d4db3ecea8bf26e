"""What systemd hears."""

import socket
from pathlib import Path

import pytest

from gateway.systemd import Notifier


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_systemd_hears_each_word(tmp_path: Path, abstract: bool) -> None:
    """Ready, alive, status and stopping arrive as sd_notify's lines on the socket systemd named."""
    name = f"\0{tmp_path}" if abstract else str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name)
        systemd.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": name.replace("\0", "@"), "WATCHDOG_USEC": "30000000"})
        notifier.ready()
        notifier.alive()
        notifier.status("3 calls")
        notifier.stopping()
        heard = [systemd.recv(100).decode() for _ in range(4)]
    assert heard == ["READY=1\nSTATUS=taking calls", "WATCHDOG=1", "STATUS=3 calls", "STOPPING=1\nSTATUS=draining"]
    assert notifier.watchdog_seconds == 15


def test_without_systemd_nothing_happens() -> None:
    """A process that systemd did not start tells nobody, and is watched by nobody."""
    notifier = Notifier({"WATCHDOG_USEC": "30000000"})
    notifier.ready()
    assert notifier.watchdog_seconds is None


def test_systemd_gone_harms_nobody(tmp_path: Path) -> None:
    """A socket that is not there any more is no error."""
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).alive()
