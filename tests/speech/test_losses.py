"""How a session is lost, and what follows: the table row by row, and the budget of tries."""

from typing import Final

import pytest
from assemblyai.streaming.v3.models import RealTimeErrorCodes
from hypothesis import given
from hypothesis import strategies as st

from gateway.metrics import RECONNECT_CODES
from gateway.speech.losses import (
    HEALTHY_SECONDS,
    LABELS,
    LONGEST_PAUSE,
    ROWS,
    Kind,
    Loss,
    Retries,
    Verdict,
    judge,
    said,
)

KEY = "Unauthorized Connection: Invalid API key"
CROWD = "Unauthorized Connection: Too many concurrent sessions"
AGED = "Unauthorized Connection: Signature has expired"
REFUSED = "User Input Validation Error: Invalid JSON array"
IDLE = "Session terminated due to inactivity: No messages received for 60 seconds"
SLOW_DOWN = "Audio Transmission Rate Exceeded: Received 31.2 sec. audio in 1.2 sec"
SHORT = "Input Duration Error: Input Duration Violation: 20.0 ms. Expected between 50 and 1000 ms"
OVER = "Session Expired: Maximum session duration exceeded"

TABLE: Final[list[tuple[Kind, int | None, str, Verdict, str]]] = [
    # Before a session: no connection, an answer that is no upgrade, no Begin.
    ("unreachable", None, "ClientConnectorError", "rest", "connect"),
    ("unreachable", None, "ClientConnectorCertificateError", "rest", "connect"),
    ("overdue", None, "no token: TimeoutError", "rest", "connect"),
    ("no_begin", None, "no Begin in time", "now", "connect"),
    ("http", 101, "", "rest", "connect"),
    ("http", 200, "", "rest", "connect"),
    ("http", 302, "", "rest", "connect"),
    ("http", 400, "", "give_up", "connect"),
    ("http", 401, "", "circuit", "connect"),
    ("http", 402, "", "circuit", "connect"),
    ("http", 403, "", "circuit", "connect"),
    ("http", 404, "", "give_up", "connect"),
    ("http", 408, "", "rest", "connect"),
    ("http", 410, "", "give_up", "connect"),
    ("http", 422, "", "give_up", "connect"),
    ("http", 425, "", "rest", "connect"),
    ("http", 429, "", "crowded", "429"),
    ("http", 500, "", "rest", "5xx"),
    ("http", 502, "", "rest", "5xx"),
    ("http", 503, "", "rest", "5xx"),
    ("http", 504, "", "rest", "5xx"),
    # The codes of the reference, each with its text.
    ("closed", 1000, "", "now", "1000"),
    ("closed", 1000, "Session Ended", "now", "1000"),
    ("closed", 1001, "", "now", "1001"),
    ("closed", 1005, "", "now", "1011"),
    ("closed", 1006, "", "now", "1006"),
    ("error", 1008, KEY, "circuit", "1008"),
    ("error", 1008, "Unauthorized Connection: Missing Authorization header", "circuit", "1008"),
    ("error", 1008, "Unauthorized Connection: insufficient balance", "circuit", "1008"),
    ("error", 1008, "Unauthorized Connection: account disabled", "circuit", "1008"),
    ("error", 1008, AGED, "token", "1008"),
    ("error", 1008, "This token is expired", "token", "1008"),
    ("error", 1008, CROWD, "crowded", "1008"),
    ("error", 1008, "Rate limit exceeded", "crowded", "1008"),
    ("closed", 1008, "See Error message for details", "circuit", "1008"),
    ("closed", 1009, "", "rest", "1011"),
    ("closed", 1011, "", "now", "1011"),
    ("error", 1011, "Internal error while establishing", "now", "1011"),
    ("closed", 1012, "", "now", "1012"),
    ("closed", 1013, "", "rest", "1013"),
    ("error", 3005, "Session Cancelled: An error occurred", "now", "3005"),
    ("error", 3006, REFUSED, "give_up", "3006"),
    ("error", 3006, "Invalid Message Type: KeepAlife", "give_up", "3006"),
    ("closed", 3006, "See Error message for details", "give_up", "3006"),
    ("error", 3006, IDLE, "now", "3006"),
    ("error", 3007, SHORT, "rest", "3007"),
    ("error", 3007, SLOW_DOWN, "rest", "3007"),
    ("error", 3008, OVER, "fresh", "3008"),
    ("closed", 3008, "See Error message for details", "fresh", "3008"),
    ("error", 3009, "Too many concurrent sessions", "crowded", "3009"),
    ("closed", 3009, "See Error message for details", "crowded", "3009"),
    ("error", 4001, "Not Authorized", "rest", "1011"),
    ("error", 4029, "Client sent audio too fast", "rest", "1011"),
    ("closed", 1002, "", "now", "1011"),
    ("closed", 3999, "whatever comes next", "now", "1011"),
    # A line that looks open.
    ("stalled", None, "no heartbeat", "now", "1006"),
    ("unconfirmed", None, "Terminate was not confirmed", "now", "1006"),
    ("silent_turn", None, "a turn went over into the next", "now", "1006"),
]


def begun(kind: Kind, code: int | None) -> bool:
    return kind in {"stalled", "unconfirmed", "silent_turn"} or code in {1000, 3008}


@pytest.mark.parametrize(("kind", "code", "text", "verdict", "label"), TABLE)
def test_each_way_a_session_is_lost(kind: Kind, code: int | None, text: str, verdict: Verdict, label: str) -> None:
    """What follows from it, and under which label it is counted."""
    loss = Loss(kind, code, text, begun(kind, code))
    assert (judge(loss), loss.label) == (verdict, label)


def test_every_row_is_used() -> None:
    """Each row of the table is the first that fits some loss above."""
    losses = [Loss(kind, code, text, begun(kind, code)) for kind, code, text, _, _ in TABLE]
    first = {next(name for name, fits, _ in ROWS if fits(loss)) for loss in losses}
    assert first == {name for name, _, _ in ROWS}


def test_every_code_of_the_sdk_is_judged() -> None:
    """None of the codes that the SDK knows is left to chance: the old service's rest, the new one's are in the table."""
    here = {code for _, code, _, _, _ in TABLE}
    for code in RealTimeErrorCodes:
        assert code in here or judge(Loss("error", code, RealTimeErrorCodes[code], begun=True)) == "rest"


@given(
    st.builds(
        Loss,
        st.sampled_from(sorted({row[0] for row in TABLE})),
        st.none() | st.integers(),
        st.text(),
        st.booleans(),
    )
)
def test_any_loss_has_one_verdict_and_a_known_label(loss: Loss) -> None:
    """Whatever comes, something follows, and the metric's labels stay those that are declared."""
    assert judge(loss) in {"now", "fresh", "rest", "crowded", "circuit", "token", "give_up"}
    assert loss.label in RECONNECT_CODES
    assert len(str(loss)) < 300 + 2 * len(str(loss.code))


def test_the_labels_are_those_of_the_metric() -> None:
    """Both lists are one."""
    assert set(RECONNECT_CODES) == LABELS


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (KEY, "circuit"), (CROWD, "crowded"), (AGED, "token"), (REFUSED, "give_up"), (IDLE, "now"), (SLOW_DOWN, "rest"),
        (SHORT, "rest"), (OVER, "fresh"), ("Session Cancelled: An error occurred", "now"), ("", "now"), ("Oops", "now"),
    ],
)  # fmt: skip
def test_an_error_without_a_code_is_judged_by_its_text(text: str, verdict: Verdict) -> None:
    """A message whose code is missing or broken means what its text says."""
    assert judge(said(None, text, begun=True)) == verdict


@given(st.integers(0, 9999), st.text(), st.booleans())
def test_an_error_with_a_code_is_taken_at_its_word(code: int, text: str, began: bool) -> None:
    """Its code is kept whatever its text says; the text is bounded."""
    assert said(code, text * 100, begun=began) == Loss("error", code, (text * 100)[:500], began)


def test_how_a_loss_reads() -> None:
    """In a log: what, which, why; what is not known is left out."""
    assert str(Loss("error", 3008, OVER)) == f"error 3008 {OVER}"
    assert str(Loss("closed", 1006)) == "closed 1006"
    assert str(Loss("no_begin", None, "no answer")) == "no_begin no answer"


# The budget

RESTS: Final = [0.25, 0.5, 1, 2, 4, 5, 5, 5]
"""The longest pauses, one after the other."""


def test_three_at_once_then_longer_and_longer() -> None:
    """The first three tries are free, then pauses double up to 5 s, jitter included."""
    most, least = Retries(lambda: 1.0), Retries(lambda: 0.0)
    assert [most.pause("now") for _ in range(11)] == [0, 0, 0, *RESTS]
    assert [least.pause("now") for _ in range(11)] == [0, 0, 0, *(pause / 2 for pause in RESTS)]


@pytest.mark.parametrize("verdict", ["rest", "crowded", "circuit"])
def test_what_rests_rests_from_the_first(verdict: Verdict) -> None:
    """These cost no tries at once, and none is given."""
    retries = Retries(lambda: 1.0)
    assert [retries.pause(verdict) for _ in range(8)] == RESTS
    assert retries.pause("now") == 0


def test_an_old_token_is_replaced_once() -> None:
    """A new one is tried at once; if that was no good either, the leg rests."""
    retries = Retries(lambda: 1.0)
    assert [retries.pause("token") for _ in range(3)] == [0, 0.25, 0.5]


def test_giving_up() -> None:
    """What is refused is not asked again."""
    assert Retries(lambda: 0.5).pause("give_up") is None


def test_a_session_that_had_lived_its_time_costs_nothing() -> None:
    """However often, if it lived at all."""
    retries = Retries(lambda: 1.0)
    for _ in range(20):
        retries.healthy(5.0)
        assert retries.pause("fresh") == 0
    assert [retries.pause("now") for _ in range(4)] == [0, 0, 0, 0.25]


def test_sessions_that_expire_as_they_begin_are_not_asked_in_a_circle() -> None:
    """Those that did not live, or never began, go the way of all others."""
    retries = Retries(lambda: 1.0)
    pauses = []
    for _ in range(6):
        retries.healthy(0.01)
        pauses.append(retries.pause("fresh"))
    assert pauses == [0, 0, 0, 0.25, 0.5, 1]


def test_health_gives_the_whole_budget_back() -> None:
    """30 s of hearing, and not a moment less."""
    retries = Retries(lambda: 1.0)
    for _ in range(9):
        retries.pause("now")
    retries.healthy(HEALTHY_SECONDS - 0.001)
    assert retries.pause("now") == LONGEST_PAUSE
    retries.healthy(HEALTHY_SECONDS)
    assert [retries.pause("now") for _ in range(4)] == [0, 0, 0, 0.25]


@given(
    st.lists(
        st.tuples(st.sampled_from(["now", "fresh", "rest", "crowded", "circuit", "token"]), st.floats(0, 100)),
        max_size=60,
    ),
    st.floats(0, 1),
)
def test_no_pause_is_longer_than_five_seconds(losses: list[tuple[Verdict, float]], chance: float) -> None:
    """In whatever order sessions are lost, while the call lives: "capped at 5 s", and never in the past."""
    retries = Retries(lambda: chance)
    for verdict, seconds in losses:
        retries.healthy(seconds)
        pause = retries.pause(verdict)
        assert pause is not None
        assert 0 <= pause <= LONGEST_PAUSE
        assert pause == 0 or pause >= 0.125
