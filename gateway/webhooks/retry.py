"""
When an event is tried again: a pure function of what happened.

    2xx                         settled
    410                         the endpoint is disabled; the event waits
    anything else               tried again, for three days from its storing; then a dead letter
      first ten minutes           about 0.75, 1.5, 3, 6, then 8.3 s: no pause exceeds 10 s, jitter included
      later                       30 s, 2, 5, 15, 30 min, 1, 2, 4, 8, 12, 24, 24 h
      the receiver asked          `Retry-After`, at most 1 h; 60 s after a 429 without one
"""

from bisect import bisect_right
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import accumulate

from gateway.delivery import Outcome, Verdict

GIVE_UP_SECONDS = 3 * 86400.0
"""From an event's storing to its dead letter. It has had an attempt by then: only a failed attempt can bury it."""
QUICK_SECONDS = 600.0
"""The contract's first ten minutes of a failure."""
LONGEST_QUICK_PAUSE = 10.0
ASKED_AT_MOST = 3600.0
THROTTLED_PAUSE = 60.0

_JITTER = 0.2
_QUICK = (0.75, 1.5, 3.0, 6.0, LONGEST_QUICK_PAUSE / (1 + _JITTER))
_LATER = (30.0, 120.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 43200.0, 86400.0, 86400.0)
_LATER_STARTS = tuple(accumulate(_LATER[:-1], initial=QUICK_SECONDS))
"""Seconds from the first failure at which each later step begins, so that a step follows from the time alone."""


def step(failures: int, failing_seconds: float, chance: float) -> float:
    """
    Give the pause after the `failures`th failure in a row, `failing_seconds` after the first; `chance` in [0, 1) is the jitter's.

    Jitter is a fifth either way: calls that failed together must not come back together.
    """
    if failing_seconds < QUICK_SECONDS:
        nominal = _QUICK[min(max(failures, 1), len(_QUICK)) - 1]
    else:
        nominal = _LATER[bisect_right(_LATER_STARTS, failing_seconds) - 1]
    return nominal * (1 - _JITTER + 2 * _JITTER * chance)


def asked_pause(outcome: Outcome) -> float | None:
    """Give what the receiver asked for, in seconds; None where it asked for nothing."""
    if outcome.retry_after is not None:
        return min(max(outcome.retry_after, 0.0), ASKED_AT_MOST)
    return THROTTLED_PAUSE if outcome.kind == "throttled" else None


def judge(
    *, attempts: int, first_failure_at: float | None, stored_at: float, outcome: Outcome, now: float, chance: float
) -> Verdict:
    """Say what follows from an attempt: the `attempts`th of its event. Times are epoch seconds; `chance` is in [0, 1)."""
    match outcome.kind:
        case "accepted":
            return Verdict("settle")
        case "gone":
            return Verdict("disable")
        case _:
            pass
    remaining = stored_at + GIVE_UP_SECONDS - now
    if remaining <= 0:
        return Verdict("bury")
    if outcome.stale and attempts == 1:
        # The receiver closed an idle connection as we used it again: that says nothing about the receiver.
        return Verdict("retry")
    failing = now - first_failure_at if first_failure_at is not None else 0.0
    own = step(attempts, failing, chance)
    asked = asked_pause(outcome)
    if asked is not None and asked >= own:
        return Verdict("retry", pause=asked, asked=True)
    # The last pause is cut, so that the last attempt is made when the three days are over.
    return Verdict("retry", pause=min(own, remaining))


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Read `Retry-After` (RFC 9110 10.2.3: seconds, or an HTTP date) into seconds from now; None where it is unreadable."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:  # "-0000": UTC, without a word about where
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.fromtimestamp(now, UTC)).total_seconds())
