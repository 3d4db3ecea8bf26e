"""When an event is tried again."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery import OUTCOMES, Outcome, OutcomeKind, Verdict
from gateway.webhooks.retry import (
    ASKED_AT_MOST,
    GIVE_UP_SECONDS,
    LONGEST_QUICK_PAUSE,
    QUICK_SECONDS,
    judge,
    parse_retry_after,
    step,
)

NOW = 1_700_000_000.0
FAILED = Outcome("failed", 500)
chances = st.floats(0, 1, exclude_max=True)


def verdict(
    outcome: Outcome, *, attempts: int = 1, failing: float | None = None, age: float = 0.0, chance: float = 0.5
) -> Verdict:
    """Judge an attempt of an event of so many seconds, that fails for so many."""
    first = None if failing is None else NOW - failing
    return judge(
        attempts=attempts, first_failure_at=first, stored_at=NOW - age, outcome=outcome, now=NOW, chance=chance
    )


@pytest.mark.parametrize(
    ("kind", "action"),
    [(kind, {"accepted": "settle", "gone": "disable"}.get(kind, "retry")) for kind in OUTCOMES],
)
def test_what_follows_from_each_outcome(kind: OutcomeKind, action: str) -> None:
    """2xx settles, 410 disables the endpoint, and everything else is tried again."""
    assert verdict(Outcome(kind)).action == action


@pytest.mark.parametrize(
    ("attempts", "failing", "nominal"),
    [
        (1, None, 0.75),
        (2, 1, 1.5),
        (3, 3, 3),
        (4, 6, 6),
        (5, 12, 10 / 1.2),
        (70, 599, 10 / 1.2),
        (71, 600, 30),
        (72, 630, 120),
        (73, 750, 300),
        (74, 1050, 900),
        (75, 1950, 1800),
        (76, 3750, 3600),
        (77, 7350, 7200),
        (78, 14550, 14400),
        (79, 28950, 28800),
        (80, 57750, 43200),
        (81, 100950, 86400),
    ],
)
def test_the_table_of_pauses(attempts: int, failing: float | None, nominal: float) -> None:
    """Pauses grow quickly to ten seconds, and after ten minutes along the later steps, a fifth more or less."""
    pauses = [
        verdict(FAILED, attempts=attempts, failing=failing, chance=chance).pause for chance in (0.0, 0.5, 0.999999)
    ]

    assert pauses == pytest.approx([nominal * 0.8, nominal, nominal * 1.2], rel=1e-4)


@given(attempts=st.integers(1, 10_000), failing=st.floats(0, QUICK_SECONDS - 0.001), chance=chances)
def test_no_pause_exceeds_ten_seconds_in_the_first_ten_minutes(attempts: int, failing: float, chance: float) -> None:
    """Jitter included, whatever the count, unless the receiver asks for more."""
    assert 0 < verdict(FAILED, attempts=attempts, failing=failing, chance=chance).pause <= LONGEST_QUICK_PAUSE


@pytest.mark.parametrize(
    ("outcome", "pause", "asked"),
    [
        (Outcome("failed", 503, retry_after=30), 30, True),
        (Outcome("throttled", 429), 60, True),
        (Outcome("throttled", 429, retry_after=5), 5, True),
        (Outcome("redirected", 302, retry_after=7200), ASKED_AT_MOST, True),
        (Outcome("failed", 503, retry_after=0), 0.75, False),
        (Outcome("failed", 503, retry_after=-5), 0.75, False),
    ],
)
def test_a_receiver_may_ask_for_more(outcome: Outcome, pause: float, asked: bool) -> None:
    """`Retry-After` is kept up to an hour, a 429 without it means a minute, and nobody can ask for less than our pause."""
    assert verdict(outcome) == Verdict("retry", pause=pause, asked=asked)


def test_the_last_attempt_is_made_when_the_three_days_are_over() -> None:
    """A pause is cut at the end of the three days; an attempt that fails then is the last."""
    assert verdict(FAILED, failing=200_000, age=GIVE_UP_SECONDS - 100).pause == 100
    assert verdict(FAILED, failing=200_000, age=GIVE_UP_SECONDS) == Verdict("bury")
    assert verdict(Outcome("accepted", 204), age=GIVE_UP_SECONDS * 2).action == "settle"
    assert verdict(Outcome("gone", 410), age=GIVE_UP_SECONDS * 2).action == "disable"


def test_an_event_as_old_gets_one_attempt() -> None:
    """An event whose first attempt comes after its three days is buried by that, not before."""
    assert verdict(FAILED, attempts=1, age=GIVE_UP_SECONDS + 1) == Verdict("bury")


def test_a_connection_gone_stale_is_replaced_at_once() -> None:
    """The first attempt on a connection the receiver had closed is repeated without a pause, once."""
    stale = Outcome("unreachable", stale=True)
    assert verdict(stale) == Verdict("retry")
    assert verdict(stale, attempts=2, failing=0).pause > 0


@given(failing=st.floats(0, GIVE_UP_SECONDS * 2), failures=st.integers(0, 99), chance=chances)
def test_every_failure_has_a_step(failing: float, failures: int, chance: float) -> None:
    """However long something fails, its next pause is positive and at most a day and a fifth."""
    assert 0 < step(failures, failing, chance) <= 86400 * 1.2


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 0 ", 0),
        ("9" * 400, 999_999_999),
        (format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True), 90),
        (format_datetime(datetime.fromtimestamp(NOW + 90, UTC)).replace("+0000", "-0000"), 90),
        (format_datetime(datetime.fromtimestamp(NOW - 90, UTC), usegmt=True), 0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("", None),
        ("Mon, 99 Foo 2020 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    """Both forms of RFC 9110 are read; what is neither is no wish."""
    assert parse_retry_after(value, NOW) == seconds


@given(st.text(max_size=60))
def test_no_retry_after_breaks_us(value: str) -> None:
    """Whatever stands in the header, it is a time or it is nothing."""
    seconds = parse_retry_after(value, NOW)

    assert seconds is None or seconds >= 0
