"""
Whether a session that looks open still carries anything. Pure.

A half-open link keeps its socket: our bytes go nowhere. What shows it: heartbeats whose `total_audio_received_ms` does not
grow while we send; no message at all where a heartbeat is due every 5 s; our own send buffer, full and not moving. Each is
noticed within 12 s.
"""

from collections import deque
from typing import Final

UNHEARD_MS: Final = 2500.0
"""Audio sent a second before a heartbeat that it should have counted."""
QUIET_SECONDS: Final = 10.5
STUCK_SECONDS: Final = 5.0
STILL_SECONDS: Final = 4.0
"""Heartbeats come every 5 s; two that come closer together prove nothing by counting alike."""


class Liveness:
    """Told of what is sent and said, it says since when nothing gets through; the session that opened at `now`."""

    def __init__(self, now: float, *, heartbeats: bool) -> None:
        self.proven_ms = 0.0
        """Audio that has certainly arrived there; what was sent where the service does not say."""
        self._heartbeats = heartbeats
        self._heard_at = now
        self._sent_ms = 0.0
        self._counted: float | None = None
        """By the last heartbeat that had a count."""
        self._counted_at = now
        """When it came to be that."""
        self._sending_since: float | None = None
        self._still_since: float | None = None
        """A heartbeat came then that counted no more than the one before."""
        self._log: deque[tuple[float, float]] = deque([(now, 0.0)], maxlen=64)

    def sending(self, now: float) -> None:
        """A chunk is being handed to the socket."""
        if self._sending_since is None:
            self._sending_since = now

    def sent(self, ms: float, now: float) -> None:
        """It has been handed over."""
        self._sending_since = None
        self._sent_ms += ms
        if now - self._log[-1][0] >= 0.5:
            self._log.append((now, self._sent_ms))
        if not self._heartbeats:
            self.proven_ms = self._sent_ms

    def heard(self, now: float) -> None:
        """Any message came."""
        self._heard_at = now

    def heartbeat(self, received_ms: float | None, now: float) -> None:
        """The service counted our audio."""
        self._heard_at = now
        if received_ms is None:
            if self._counted is None:  # it never says
                self.proven_ms = max(self.proven_ms, self._sent_by(now - 1))
            return
        # Counted is what arrived, or what was heard so far: either grows while audio comes. One that falls began anew there.
        if received_ms != (self._counted or 0.0):
            self._counted_at, self._still_since = now, None
        elif now - self._counted_at >= STILL_SECONDS:
            self._still_since = now
        self._counted = received_ms
        self.proven_ms = max(self.proven_ms, min(received_ms, self._sent_ms))

    def quiet_seconds(self, now: float) -> float:
        """How long no message has come; 0 where none is due."""
        return now - self._heard_at if self._heartbeats else 0.0

    def stalled(self, now: float) -> str | None:
        """Why nothing gets through any more, if so."""
        if self._sending_since is not None and now - self._sending_since >= STUCK_SECONDS:
            return "our send buffer does not move"
        if not self._heartbeats:
            return None
        if now - self._heard_at >= QUIET_SECONDS:
            return "no heartbeat"
        if self._still_since is None or self._sent_by(self._still_since - 1) - self.proven_ms < UNHEARD_MS:
            return None
        return "our audio does not arrive"

    def _sent_by(self, then: float) -> float:
        return max((ms for at, ms in self._log if at <= then), default=0.0)
