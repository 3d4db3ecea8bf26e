"""
Every session, from before its connect until after its confirmed close. What is in here may be billed.

A zombie is read off it: a session whose `Terminate` was not confirmed in time, or that nobody owns. It stays a zombie, for the
gauge and for the worst case of its price, until the service's own bounds must have ended it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gateway.call import Track

DEFAULT_INACTIVITY_SECONDS: Final = 60.0


class StoredSession(msgspec.Struct, frozen=True):
    """What a crash must not take: enough to say the zombie and its price."""

    key: str
    track: Track
    number: int
    model: str
    session_id: str | None
    opened_at: float
    """Epoch seconds; of the connect until `Begin`."""
    usd_per_hour: float
    bound_seconds: float | None
    """The service ends it so long after our last message, whatever becomes of us."""


@dataclass(slots=True)
class Entry:
    """One session as the ledger sees it. Times are the loop's seconds."""

    key: str
    call_id: str
    track: Track
    number: int
    model: str
    speech: Mapping[str, object] = field(repr=False)
    usd_per_hour: float
    dialled_at: float
    owned: Callable[[], bool] = field(repr=False)
    """Whether somebody still hears it or ends it."""
    begun_at: float | None = None
    ending: Callable[[], bool] = field(default=lambda: False, repr=False)
    """Whether `Terminate` was said: it has its own deadline then."""

    @property
    def since(self) -> float:
        """From when it may be billed."""
        return self.begun_at if self.begun_at is not None else self.dialled_at

    @property
    def bound_seconds(self) -> float | None:
        value = self.speech.get("inactivity_timeout")
        return float(value) if isinstance(value, int | float) else None


class Ledger:
    """Sessions by key, and the zombies that are no longer ours to end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._zombies: dict[str, float] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def add(self, entry: Entry) -> None:
        """Before its connect."""
        self._entries[entry.key] = entry

    def close(self, key: str) -> None:
        """Its close is confirmed, or it was said to be a zombie."""
        self._entries.pop(key, None)

    def zombie(self, key: str, seconds: float | None) -> None:
        """It may be open, and billed, for so long still: until the service's inactivity timeout, or the 3 h of any session."""
        self._zombies[key] = self._clock() + (10_800.0 if seconds is None else seconds)

    def open(self) -> dict[str, int]:
        """Sessions that have begun and are not confirmed closed, by track."""
        counts = {"inbound": 0, "outbound": 0}
        for entry in self._entries.values():
            if entry.begun_at is not None:
                counts[entry.track] += 1
        return counts

    def of_call(self, call_id: str) -> int:
        """Sessions of a call, begun or not."""
        return sum(entry.call_id == call_id for entry in self._entries.values())

    def zombies(self) -> int:
        """Sessions now that may be open and billed for nobody."""
        now = self._clock()
        self._zombies = {key: until for key, until in self._zombies.items() if until > now}
        unowned = (e for e in self._entries.values() if e.begun_at is not None and not e.owned() and not e.ending())
        return len(self._zombies) + sum(1 for _ in unowned)

    def oldest(self) -> float:
        """Seconds since the oldest open session began."""
        begun = [entry.begun_at for entry in self._entries.values() if entry.begun_at is not None]
        return self._clock() - min(begun) if begun else 0.0

    def accruing_usd(self) -> float:
        """What the open ones have cost so far."""
        now = self._clock()
        return sum((now - e.begun_at) / 3600 * e.usd_per_hour for e in self._entries.values() if e.begun_at is not None)
