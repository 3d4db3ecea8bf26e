"""A span: a stretch of a leg's audio that one session after another hears, until all of it was heard or nobody will."""

import asyncio
from dataclasses import dataclass, field

from gateway.ear import Ear
from gateway.speech.session import Session


@dataclass(eq=False)
class Span:
    """A stretch of a leg's audio that one session after another hears. Positions in samples."""

    number: int
    start: int | None
    """None until its first frame."""
    until: int | None = None
    """Set as it ends: nothing of it comes after this."""
    give_up_at: float | None = None
    """Loop seconds: a session that begins later than this hears it no more."""
    cursor: int | None = None
    """What comes next for whoever hears it; all before it was sent."""
    session: Session | None = None
    """The one that hears it now, with its ear."""
    ear: Ear | None = None
    attempts: int = 0
    again: bool = False
    """An earlier session has heard some of what comes next."""
    pause: float = 0.0
    """Seconds before the next session is tried."""
    unconfirmed: int = 0
    limit: asyncio.Timeout | None = field(default=None, repr=False)
    task: "asyncio.Task[None] | None" = field(default=None, repr=False)

    @property
    def ended(self) -> bool:
        return self.until is not None

    @property
    def empty(self) -> bool:
        """Ended with nothing left to hear."""
        if self.until is None:
            return False
        return self.start is None or (self.start if self.cursor is None else self.cursor) >= self.until

    def until_or_head(self, head: int) -> int:
        """Where its audio ends now."""
        return head if self.until is None else self.until
