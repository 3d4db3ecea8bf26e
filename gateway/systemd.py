"""
What systemd is told by a service of `Type=notify`: that it is ready, that its loop turns, that it stops (sd_notify(3)).

Where systemd did not start the process nothing is told to anybody.
"""

import socket
from collections.abc import Mapping


class Notifier:
    """The socket systemd named in the environment, or none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        # "An AF_UNIX socket … the first character '@' means an abstract one" (sd_notify)
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        usec = environ.get("WATCHDOG_USEC", "")
        self.watchdog_seconds: float | None = int(usec) / 2e6 if self._address and usec.isdigit() else None
        """How often `alive` must be called: half of systemd's patience. None where nobody watches."""

    def ready(self) -> None:
        """Both ports listen."""
        self._tell("READY=1\nSTATUS=taking calls")

    def alive(self) -> None:
        """The event loop turns."""
        self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        """A line for `systemctl status`."""
        self._tell(f"STATUS={text}")

    def stopping(self) -> None:
        """The drain has begun."""
        self._tell("STOPPING=1\nSTATUS=draining")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        # A datagram to a local socket: it does not wait. Systemd gone or its queue full is no reason to harm a call.
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as line:
                line.sendto(message.encode(), self._address)
        except OSError:
            return
