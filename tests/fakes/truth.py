"""Something the gauges can be read from."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class StillTruth:
    """A gateway that stands still: each figure is what the test says."""

    calls: int = 0
    legs: int = 0
    sessions: dict[str, int] = field(default_factory=dict)
    zombies: int = 0
    oldest_session: float = 0.0
    owed: int = 0
    owed_since: float = 0.0
    dead: int = 0
    disabled: int = 0
    is_draining: bool = False
    circuit: bool = False
    healthy: bool = True
    waiting: int = 0
    spend: float = 0.0

    def calls_active(self) -> int:
        return self.calls

    def legs_active(self) -> int:
        return self.legs

    def sessions_open(self) -> Mapping[str, int]:
        return self.sessions

    def zombie_sessions(self) -> int:
        return self.zombies

    def oldest_session_seconds(self) -> float:
        return self.oldest_session

    def outbox_events(self) -> int:
        return self.owed

    def outbox_oldest_seconds(self) -> float:
        return self.owed_since

    def dead_letters(self) -> int:
        return self.dead

    def endpoints_disabled(self) -> int:
        return self.disabled

    def draining(self) -> bool:
        return self.is_draining

    def circuit_open(self) -> bool:
        return self.circuit

    def store_healthy(self) -> bool:
        return self.healthy

    def admission_waiting(self) -> int:
        return self.waiting

    def spend_today_usd(self) -> float:
        return self.spend
