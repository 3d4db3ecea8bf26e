"""
The ledger: every session that was ever admitted to the upgrade, what came, how it ended, and what it costs.

A session is *abandoned* when its client left it, or fell silent, without `Terminate`: the service cannot know that
nobody wants it any more, and bills on. What the service itself ended (an `Error`, a fault that was asked for) is nobody's neglect.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.emulator.messages import Message
from gateway.emulator.parameters import Parameters

LIVE: Final = "open"
NEGLECT: Final = frozenset({"client_close_without_terminate", "abort", "inactivity"})
_NEGLECT_BEFORE_EXPIRY_SECONDS: Final = 10.0
_WINDOW_SECONDS: Final = 5.0
_FULL_SESSION_SECONDS: Final = 10800.0
_MOST_VIOLATIONS: Final = 100


@dataclass
class Session:
    """One session's line. Times ending in `_at` are Unix seconds."""

    id: str
    number: int
    opened_at: float
    authorization: str
    """`key`, `token` or `none`: what came, never its value."""
    parameters: Parameters = field(default_factory=Parameters)
    begun_at: float | None = None
    expires_at: float | None = None
    terminated_at: float | None = None
    """When the client's `Terminate` came."""
    termination_sent_at: float | None = None
    last_client_message_at: float | None = None
    closed_at: float | None = None
    ended: str = LIVE
    """`client_terminate`, `client_close_without_terminate`, `abort`, `inactivity`, `max_duration`, `error:CODE`, `fault:NAME`."""
    frames: int = 0
    bytes: int = 0
    audio_ms: float = 0.0
    short_frames: int = 0
    long_frames: int = 0
    too_fast: bool = False
    ahead_ms: float = 0.0
    """The most that the audio was ever ahead of the wall clock since `Begin`."""
    most_ms_in_5_seconds: float = 0.0
    """The most audio that came within any five seconds."""
    keepalives: int = 0
    updates: list[Message] = field(default_factory=list)
    heard: list[tuple[str, int, int]] = field(default_factory=list)
    """Words of the finals, before any fault: text, start, end in milliseconds of the session's audio."""
    turns: int = 0
    violations: Counter[str] = field(default_factory=Counter)
    """Rules broken which the live service lets pass, or may: what, and how often."""
    _recent: deque[tuple[float, float]] = field(default_factory=deque, repr=False)
    _recent_ms: float = 0.0

    def came(self, now: float, size: int, duration_ms: float) -> None:
        """Count a frame of audio."""
        self.frames += 1
        self.bytes += size
        self.audio_ms += duration_ms
        if self.begun_at is not None:
            self.ahead_ms = max(self.ahead_ms, self.audio_ms - (now - self.begun_at) * 1000)
        self._recent.append((now, duration_ms))
        self._recent_ms += duration_ms
        while self._recent[0][0] <= now - _WINDOW_SECONDS:
            self._recent_ms -= self._recent.popleft()[1]
        self.most_ms_in_5_seconds = max(self.most_ms_in_5_seconds, self._recent_ms)

    def violate(self, what: str) -> None:
        """Count a broken rule."""
        if what in self.violations or len(self.violations) < _MOST_VIOLATIONS:
            self.violations[what] += 1

    def end(self, how: str, now: float) -> None:
        """The session is over; only the first word counts."""
        if self.ended == LIVE:
            self.ended = how
            self.closed_at = now

    @property
    def abandoned(self) -> bool:
        """Whether the client left it to the service to find out that the session is over."""
        if self.terminated_at is not None:
            return False
        if self.ended == "max_duration":
            last = self.last_client_message_at or self.opened_at
            return (self.closed_at or last) - last > _NEGLECT_BEFORE_EXPIRY_SECONDS
        return self.ended in NEGLECT

    def seconds(self, now: float) -> float:
        """From opening to close, or so far."""
        return max(0.0, (self.closed_at or now) - self.opened_at)

    def worst_seconds(self, now: float) -> float:
        """The same where the service goes on billing what was not ended by `Terminate` or by itself."""
        lost = self.ended in {"client_close_without_terminate", "abort"} or self.ended.startswith("fault:")
        if not lost or self.terminated_at is not None or self.begun_at is None:
            return self.seconds(now)
        cap = (self.expires_at or self.opened_at + _FULL_SESSION_SECONDS) - self.opened_at
        idle = self.parameters.inactivity_timeout
        if idle is None:
            return max(cap, self.seconds(now))
        last = self.last_client_message_at or self.begun_at
        return max(min(cap, last + idle - self.opened_at), self.seconds(now))

    def as_json(self, now: float) -> dict[str, Any]:
        """The line as `GET /ledger` shows it."""
        public = (
            "id", "number", "authorization", "opened_at", "begun_at", "expires_at", "terminated_at", "termination_sent_at",
            "last_client_message_at", "closed_at", "ended", "frames", "bytes", "short_frames", "long_frames", "too_fast",
            "keepalives", "updates", "turns", "violations",
        )  # fmt: skip
        return {name: getattr(self, name) for name in public} | {
            "params": self.parameters.shown,
            "unknown_params": dict(self.parameters.unknown),
            "ineffective_params": self.parameters.ineffective,
            "audio_ms": round(self.audio_ms),
            "ahead_ms": round(self.ahead_ms),
            "most_ms_in_5_seconds": round(self.most_ms_in_5_seconds),
            "words": [{"text": text, "start_ms": start, "end_ms": end} for text, start, end in self.heard],
            "abandoned": self.abandoned,
            "billed_seconds": round(self.worst_seconds(now), 3),
            "billed_seconds_optimistic": round(self.seconds(now), 3),
        }


@dataclass(frozen=True)
class Totals:
    """The ledger in a line."""

    opened: int
    open: int
    terminated: int
    abandoned: int
    audio_seconds: float
    billed_seconds: float
    """The worst case: see `Session.worst_seconds`."""
    billed_seconds_optimistic: float
    refused_handshakes: int

    def __str__(self) -> str:
        return (
            f"sessions opened {self.opened}, terminated {self.terminated}, still open {self.open}, abandoned {self.abandoned}; "
            f"audio {self.audio_seconds:.1f} s, billed {self.billed_seconds_optimistic:.1f} s (at worst {self.billed_seconds:.1f} s)"
        )


class Ledger:
    """All sessions, in order of their numbers. `clock` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.sessions: list[Session] = []
        self.refused_handshakes = 0

    def open(self, session_id: str, authorization: str) -> Session:
        """A new line."""
        session = Session(session_id, len(self.sessions), self._clock(), authorization)
        self.sessions.append(session)
        return session

    @property
    def totals(self) -> Totals:
        """The sums over all sessions, now."""
        now = self._clock()
        return Totals(
            opened=len(self.sessions),
            open=sum(session.ended == LIVE for session in self.sessions),
            terminated=sum(session.ended == "client_terminate" for session in self.sessions),
            abandoned=sum(session.abandoned for session in self.sessions),
            audio_seconds=round(sum(session.audio_ms for session in self.sessions) / 1000, 3),
            billed_seconds=round(sum(session.worst_seconds(now) for session in self.sessions), 3),
            billed_seconds_optimistic=round(sum(session.seconds(now) for session in self.sessions), 3),
            refused_handshakes=self.refused_handshakes,
        )

    def as_json(self) -> dict[str, Any]:
        """What `GET /ledger` answers."""
        now = self._clock()
        totals = self.totals
        return {
            "totals": dict(vars(totals)),
            "sessions": [session.as_json(now) for session in self.sessions],
        }
